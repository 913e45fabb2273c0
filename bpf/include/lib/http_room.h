/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What is reported of the requests of a packet, and how a connection ends one of whose requests is denied. */
#include <lib/packet.h>
#include <lib/request_room.h>
#include <maps/requests.h>

/* Why something that cannot be read as a request is denied. */
static __always_inline __u8 reason_of_flaw(__u8 flaw)
{
	return flaw == FLAW_TLS || flaw == FLAW_HTTP2 ? REASON_OPAQUE : REASON_AMBIGUOUS;
}

/* Whether the head that was read is of a HEAD, which is answered without a body. */
static __always_inline int said_head(const struct said *said)
{
	return said->len[REQUEST_ROW_METHOD] == 4 && *(const __u32 *)said->text[REQUEST_ROW_METHOD] == bpf_htonl(0x48454144);
}

/*
 * How the connection ends whose request was denied. A 403 is an answer to the oldest request that has none: so none of
 * what passed before may be unanswered. Whether an answer is whole nobody has read; that one began is taken for it, as
 * clients that do not wait are the only ones for whom that is not so, and it is their own connection.
 */
static __always_inline __u32 http_end_of(const struct request_room *room, const struct requests *requests,
					 __u32 verdict, __u32 flaw)
{
	if (verdict == VERDICT_DROP)
		return HTTP_END_SILENT;
	if (verdict == VERDICT_RESET || flaw == FLAW_TLS || flaw == FLAW_HTTP2 || flaw == FLAW_MIDWAY ||
	    flaw == FLAW_URGENT)
		return HTTP_END_RESET;
	if (room->others || (requests->asked && requests->heard == room->edge))
		return HTTP_END_RESET;
	return said_head(&room->said) ? HTTP_END_HEAD : HTTP_END_TEXT;
}

/* Reports the request in the room, which was judged: an alert, unless it passed. */
__noinline int tell_request(struct request_room *room, struct label *owner, __u32 flaw)
{
	const struct flow_key *key = &room->key;
	struct ev_request *event;
	__u8 verdict;

	if (!room || !owner)
		return 0;
	verdict = room->answer.verdict;
	if (verdict == VERDICT_ALLOW)
		event = tell_flow(struct ev_request);
	else
		event = tell_alert(struct ev_request);
	if (!event)
		return 0; /* counted; the verdict stands */
	tell_header(&event->header, EV_KIND_REQUEST, sizeof(*event));
	tell_subject(&event->subject, owner, 0);
	event->rule = room->answer.rule;
	event->revision = room->query.revision;
	event->netns = key->netns;
	__builtin_memcpy(event->local, key->local, sizeof(event->local));
	__builtin_memcpy(event->remote, key->remote, sizeof(event->remote));
	event->local_port = key->local_port;
	event->remote_port = key->remote_port;
	event->socket = verdict_passes(verdict) || verdict == VERDICT_DROP ? 0 : room->socket;
	event->direction = room->query.direction;
	event->verdict = verdict;
	event->would = room->answer.would;
	event->reason = room->answer.reason;
	event->severity = room->answer.severity;
	event->flaw = flaw;
	__builtin_memset(event->pad, 0, sizeof(event->pad));
	event->pad2 = 0;
	__builtin_memcpy(event->len, room->said.len, sizeof(event->len));
	/* Behind a text there may be an older one's end; who reads stops at its length. */
	bpf_probe_read_kernel(event->text, sizeof(event->text), room->said.text);
	bpf_ringbuf_submit(event, verdict == VERDICT_ALLOW ? tell_flow_flags() : 0);
	return 0;
}
