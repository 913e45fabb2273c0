/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What is reported of requests and ClientHellos, whoever reads them. */
#include <lib/request_room.h>

/* Why something that cannot be read as a request is denied. */
static __always_inline __u8 reason_of_flaw(__u8 flaw)
{
	return flaw == FLAW_TLS || flaw == FLAW_HTTP2 ? REASON_OPAQUE : REASON_AMBIGUOUS;
}

/*
 * Reports the request in the room, which was judged: an alert, unless it passed. step: who read it, STEP_GATE, or
 * STEP_TAP in the process it is of.
 */
static __always_inline int tell_said(struct request_room *room, const struct label *owner, __u32 flaw, __u8 step)
{
	const struct flow_key *key = &room->key;
	struct ev_request *event;
	__u8 verdict;

	verdict = room->answer.verdict;
	if (verdict == VERDICT_ALLOW)
		event = tell_flow(struct ev_request);
	else
		event = tell_alert(struct ev_request);
	if (!event)
		return 0; /* counted; the verdict stands */
	tell_header(&event->header, room->query.flags & QUERY_HELLO ? EV_KIND_HELLO : EV_KIND_REQUEST, sizeof(*event));
	tell_subject(&event->subject, owner, step == STEP_TAP);
	event->rule = room->answer.rule;
	event->revision = room->query.revision;
	event->netns = key->netns;
	__builtin_memcpy(event->local, key->local, sizeof(event->local));
	__builtin_memcpy(event->remote, key->remote, sizeof(event->remote));
	event->local_port = key->local_port;
	event->remote_port = key->remote_port;
	/* A tap's program gets an error from its own sends. */
	event->socket = step != STEP_GATE || verdict_passes(verdict) || verdict == VERDICT_DROP ? 0 : room->socket;
	event->direction = room->query.direction;
	event->verdict = verdict;
	event->would = room->answer.would;
	event->reason = room->answer.reason;
	event->severity = room->answer.severity;
	event->flaw = flaw;
	event->step = step;
	__builtin_memset(event->pad, 0, sizeof(event->pad));
	event->pad2 = 0;
	__builtin_memcpy(event->len, room->said.len, sizeof(event->len));
	/* Behind a text there may be an older one's end; who reads stops at its length. */
	bpf_probe_read_kernel(event->text, sizeof(event->text), room->said.text);
	if (verdict_passes(verdict) && event->header.kind == EV_KIND_REQUEST && !flaw) {
		room->told++;
		room->told_ns = event->header.ktime_ns;
	}
	bpf_ringbuf_submit(event, verdict == VERDICT_ALLOW ? tell_flow_flags() : 0);
	return 0;
}
