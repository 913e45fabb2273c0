/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, the bytes of one segment: loaded a chunk at a time, read step by step by the reader of what the connection carries,
 * and judged where a request or a ClientHello is whole.
 */
#include <lib/hello_gate.h>
#include <lib/http2_gate.h>
#include <lib/http_room.h>
#include <lib/upgrade_gate.h>

enum http_reading_limits {
	READING_STEPS = 1 << 21, /* more than the longest segment makes; of HTTP/2, than one that is no attack (closed) */
};

/* One segment being read. */
struct reading {
	struct __sk_buff *skb;
	struct requests *requests;
	struct request_room *room;
	struct label *owner;
	struct h2 *h2; /* NULL: it is not HTTP/2, or that cannot be read */
};

/* Judges the request or (hello) the ClientHello that was read, or the flaw. Returns the verdict. */
static __always_inline __u32 reading_judge(struct reading *g, int hello)
{
	struct request *r = &g->requests->now;
	struct request_room *room = g->room;
	__u32 flaw = r->parser.flaw, verdict;

	if (hello)
		flaw = hello_ask(g->skb, g->requests, room, g->owner);
	else if (!flaw && g->h2)
		request_ask(&g->h2->user.request, room, g->owner);
	else
		request_ask(r, room, g->owner);
	if (g->h2)
		g->requests->on = g->h2->newest;
	verdict = room_answer(room, g->owner);
	if (flaw && verdict != VERDICT_ALLOW)
		room->answer.reason = reason_of_flaw(flaw);
	if (!flaw)
		verdict = front_verdict(room, g->owner, verdict);
	if (!verdict_passes(verdict))
		g->requests->end = http_end_of(room, g->requests, verdict, flaw);
	if (verdict != VERDICT_ALLOW || room->flags & CONTROL_TELL_CONNECT)
		tell_request(room, g->owner, flaw);
	if (g->h2 && room->told && !flaw && verdict_passes(verdict))
		h2_status_await(g->skb, room, g->h2->stream);
	said_forget(&room->said);
	detail_forget(room->place, room->flags, 0);
	if (hello)
		return verdict;
	if (!hello && !flaw && verdict_passes(verdict))
		upgrade_asked(g->requests, room);
	r->revision = room->query.revision;
	request_reset(r);
	return verdict;
}

/* Passes over what there is of a body. */
static __always_inline void reading_skip(struct reading *g)
{
	struct http1_room *parse = &g->room->parse;
	__u32 here = parse->len - parse->pos;
	__u32 n = here + (g->room->end - g->room->at);

	n = g->h2 ? request_h2_skip(g->h2, n) : http1_skip(&g->requests->now.parser, n);
	g->room->others = 1;
	if (n <= here) {
		parse->pos += n;
		return;
	}
	g->room->at += n - here;
	parse->pos = parse->len = 0;
}

/* Loads the next bytes. Returns 0: there are none, or they cannot be read. */
static __always_inline int reading_load(struct reading *g)
{
	struct http1_room *parse = &g->room->parse;
	__u32 n = g->room->end - g->room->at;

	parse->pos = parse->len = 0;
	if (!n) {
		g->room->verdict = VERDICT_ALLOW;
		return 0;
	}
	if (n > HTTP1_CHUNK)
		n = HTTP1_CHUNK;
	if (bpf_skb_load_bytes(g->skb, g->room->at, parse->chunk, ((n - 1) & (HTTP1_TEXT - 1)) + 1))
		return 0;
	parse->len = n;
	g->room->at += n;
	return 1;
}

/* Reads on for a request. Returns an enum reading_acts. */
static __always_inline int reading_request(struct reading *g)
{
	int event;

	if (upgrade_waits(g->requests))
		requests_give_up(g->requests, FLAW_TUNNEL);
	if (g->requests->now.parser.state == HTTP1_BROKEN)
		return READING_GIVE_UP;
	if (g->h2)
		event = http2_step(g->h2, g->room);
	else
		event = request_read(&g->requests->now, g->room, g->owner);
	if (event == HTTP1_BODY)
		reading_skip(g);
	if (event == HTTP1_HEAD && upgrade_may(g->requests, g->room))
		return READING_JUDGE;
	if (event == HTTP1_HEAD)
		event = http1_bad(&g->requests->now.parser, FLAW_TUNNEL);
	if (event != HTTP1_BAD)
		return READING_ON;
	if (g->h2)
		requests_give_up(g->requests, g->h2->user.request.parser.flaw);
	else if (http2_begin(g->skb, g->requests, g->room))
		return READING_ENDS; /* goes on as HTTP/2 */
	return READING_GIVE_UP;
}

/* Whether bytes are to be loaded for the next event: there are none left, and they are not behind what passes unread. */
static __always_inline int reading_wants(const struct reading *g)
{
	const struct http1_room *parse = &g->room->parse;

	if (g->h2 && h2_is_due(g->h2))
		return 0;
	return parse->pos >= parse->len && g->requests->now.parser.state != HTTP1_BROKEN && !g->room->unread;
}

/* 0 or 1, by a mask: 6.1 wants to see the bounds of what a callback returns. */
static __always_inline long step_result(long ends)
{
	PARSE_OPAQUE(ends);
	return ends & 1;
}

/* The only caller of reading_judge(), as its stack is deep. */
static long reading_step(__u32 index, void *data)
{
	struct reading *g = data;
	__u32 verdict;
	int act;

	if (reading_wants(g) && !reading_load(g))
		return 1;
	if (!requests_are_read(g->requests))
		act = reading_hello(g->skb, g->requests, g->room);
	else
		act = reading_request(g);
	if (act == READING_ON || act == READING_ENDS)
		return step_result(act);
	verdict = reading_judge(g, act == READING_HELLO);
	if (verdict_passes(verdict) && act == READING_JUDGE) {
		g->room->others = 1;
		return 0;
	}
	g->room->verdict = verdict;
	if (!verdict_passes(verdict) || act != READING_HELLO)
		return 1;
	return step_result(hello_passed(g->skb, g->requests, g->room));
}
