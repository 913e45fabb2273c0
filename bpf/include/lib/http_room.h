/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What is reported of the requests of a packet, and how a connection ends one of whose requests is denied. */
#include <lib/packet.h>
#include <lib/request_tell.h>
#include <maps/requests.h>

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
	if (verdict == VERDICT_RESET || room->query.flags & QUERY_HELLO || flaw == FLAW_TLS || flaw == FLAW_HTTP2 || flaw == FLAW_MIDWAY ||
	    flaw == FLAW_URGENT)
		return HTTP_END_RESET;
	if (requests->carries == CARRIES_HTTP2) { /* whose answers have their places by streams */
		if (flaw)
			return HTTP_END_RESET;
		return said_head(&room->said) ? HTTP_END_STREAM_HEAD : HTTP_END_STREAM;
	}
	if (room->others || (requests->asked && requests->heard == room->edge))
		return HTTP_END_RESET;
	return said_head(&room->said) ? HTTP_END_HEAD : HTTP_END_TEXT;
}

/* Reports the request in the room, which was judged: an alert, unless it passed. */
__noinline int tell_request(struct request_room *room, struct label *owner, __u32 flaw)
{
	if (!room || !owner)
		return 0;
	return tell_said(room, owner, flaw, STEP_GATE);
}
