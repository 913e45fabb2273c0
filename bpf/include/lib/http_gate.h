/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, for flows that only rules.http allow: every request is read at its socket, of a client when it leaves, of
 * a server when it comes in, and judged when its head is whole. What follows a request that was denied does not
 * pass, until the connection ends.
 *
 * Fails closed: what is no HTTP, may be read in two ways, came before anybody read, or lies in memory that its
 * sender can still change is judged as a request that no rule selects.
 */
#include <lib/http_begin.h>
#include <lib/http_passed.h>
#include <lib/http_reading.h>
#include <lib/response_gate.h>
#include <lib/segment.h>
#include <lib/upgrade_gate.h>

/* What is judged: the connection. Returns 0: nothing is in force. */
__noinline int reading_ask(struct request_room *room, const struct flow_key *key,
			   const struct sock_state *state, __u32 direction)
{
	struct control *c = control_get();
	struct query *query;

	if (!c || !room || !key || !state)
		return 0;
	query = &room->query;
	room->key = *key;
	__builtin_memset(query, 0, sizeof(*query));
	query->revision = c->revision; /* read once: a swap may come at any time */
	query->protocol = PROTO_TCP;
	query->direction = direction;
	query->port = direction == DIR_INGRESS ? key->local_port : key->remote_port;
	__builtin_memcpy(query->addr, key->remote, sizeof(query->addr));
	recall_name(state, query);
	room->flags = c->flags;
	room->opened = state->opened;
	room->container = state->owner.container;
	room->asked = 0;
	return 1;
}

/* Whether nothing of the connection can be read any more, and that was judged under this revision. */
static __always_inline int is_given_up(const struct requests *requests, __u64 revision)
{
	return requests->now.parser.state == HTTP1_BROKEN && requests->now.revision == revision;
}

/* How many of the next bytes may be anything. */
static __always_inline __u32 free_bytes(struct __sk_buff *skb, const struct requests *requests)
{
	const struct http1 *parser = &requests->now.parser;

	if (requests->carries == CARRIES_NAMED)
		return ~0U;
	if (requests->carries == CARRIES_HTTP2)
		return http2_free(skb, requests);
	if (!http1_in_body(parser))
		return 0;
	return parser->left > ~0U ? ~0U : parser->left;
}

/* Ends a connection one of whose requests does not pass. */
static __always_inline __u32 reading_end(struct reading *g, __u32 verdict)
{
	struct requests *requests = g->requests;

	if (verdict_passes(verdict)) {
		if (g->room->others)
			requests->heard = g->room->edge;
		if (g->room->told && g->requests->carries != CARRIES_HTTP2)
			response_await(g->skb, g->room);
		requests->asked |= g->room->others;
		return verdict;
	}
	if (verdict == VERDICT_NONE) {
		requests->end = HTTP_END_RESET;
		verdict = VERDICT_DENY; /* closed: not all was read */
	}
	requests->refused = verdict;
	return verdict;
}

/* Puts a segment in order. Returns an enum stream_order. Its stack is its own. */
__noinline int reading_order(struct __sk_buff *skb, struct requests *requests, struct request_room *room)
{
	struct segment *seg;
	int order;

	if (!requests || !room)
		return STREAM_DROP;
	seg = &room->segment;
	order = stream_order(&requests->stream, seg);
	if (!seg->again)
		return order;
	requests->now = requests->before;
	upgrade_again(requests);
	hello_keep(skb, requests, 1);
	http2_keep(skb, requests, room, 1);
	return order;
}

/* What is told only where the configuration asks for it begins anew with each packet. Its stack is its own. */
__noinline int reading_detail(struct __sk_buff *skb, struct requests *requests, struct request_room *room)
{
	if (!requests || !room || !(room->flags & CONTROL_TELL_DETAIL))
		return 0;
	detail_forget(room->place, room->flags, request_is_partial(&requests->now) || http2_is_partial(skb, requests));
	return 0;
}

/* Reads the bytes of a segment. */
static __always_inline void reading_bytes(struct reading *g)
{
	reading_detail(g->skb, g->requests, g->room);
	if (g->requests->carries != CARRIES_HTTP2)
		bpf_loop(READING_STEPS, reading_step, g, 0);
	if (g->requests->carries != CARRIES_HTTP2 || g->room->verdict != VERDICT_NONE)
		return;
	g->h2 = http2_enter(g->skb, g->requests, g->room, g->owner);
	bpf_loop(READING_STEPS, reading_step, g, 0);
	if (g->h2)
		http2_leave(g->h2, g->room);
}

/* Reads the segment of a connection that is its reader's alone. Returns a verdict. */
static __always_inline __u32 reading_run(struct reading *g)
{
	struct segment *seg = &g->room->segment;
	struct requests *requests = g->requests;
	struct request *r = &requests->now;
	int order, flaw = 0;

	if (is_given_up(requests, g->room->query.revision))
		return VERDICT_ALLOW; /* Audit */
	order = reading_order(g->skb, requests, g->room);
	if (seg->again)
		g->room->unread = 0;
	if (seg->flags & TCP_URG && !(seg->flags & (TCP_SYN | TCP_RST)))
		flaw = FLAW_URGENT;
	else if (order == STREAM_PASS)
		return VERDICT_ALLOW;
	else if (order == STREAM_DROP)
		return VERDICT_DROP;
	else if (order == STREAM_LOST)
		flaw = FLAW_MIDWAY;
	else if (seg->len > seg->free && segment_is_shared(g->skb))
		flaw = FLAW_SHARED;
	if (flaw)
		requests_give_up(requests, flaw);
	else if (upgrade_waits(requests))
		return VERDICT_DROP;
	if (!seg->out) {
		requests->before = *r;
		hello_keep(g->skb, requests, 0);
		http2_keep(g->skb, requests, g->room, 0);
	}
	g->room->at = seg->at;
	g->room->end = seg->at + seg->len;
	g->room->verdict = VERDICT_NONE;
	g->room->parse.pos = g->room->parse.len = g->room->others = g->room->told = 0;
	reading_bytes(g);
	if (!seg->out)
		http2_keep_text(g->skb, requests, g->room);
	if (order == STREAM_READ && verdict_passes(g->room->verdict))
		stream_read(&requests->stream, seg, seg->out ? 0 : bpf_ktime_get_ns());
	return reading_end(g, g->room->verdict);
}

/*
 * Takes out what the head that is being read has said in former packets, or (keep) puts it back; no memory: it is
 * missing in reports.
 */
__noinline int said_move(struct __sk_buff *skb, struct request_room *room, const struct requests *requests, int keep)
{
	struct bpf_sock *sk = skb->sk;
	struct said *said;

	if (!room || !requests || !sk)
		return 0;
	if (!keep)
		said_forget(&room->said);
	sk = bpf_sk_fullsock(sk);
	if (!sk || !(request_is_partial(&requests->now) || http2_is_partial(skb, requests)))
		return 0;
	said = bpf_sk_storage_get(&said_by_sock, sk, 0, keep ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (!said)
		return 0;
	if (keep)
		bpf_probe_read_kernel(said, sizeof(*said), &room->said);
	else
		bpf_probe_read_kernel(&room->said, sizeof(room->said), said);
	return 0;
}

/*
 * What a segment is to its connection, before its bytes are read. Returns a verdict, or VERDICT_NONE: they are to be
 * read.
 */
__noinline int reading_enter(struct __sk_buff *skb, struct requests *requests, struct request_room *room)
{
	struct bpf_sock *sk = skb->sk;
	struct segment *seg;
	int verdict;

	if (!requests || !room || !sk)
		return VERDICT_DENY;
	seg = &room->segment;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return VERDICT_DENY;
	requests_may_begin(requests, sk, room);
	if (requests->refused)
		return seg->len ? VERDICT_DENY : VERDICT_ALLOW;
	if (!seg->len && !(seg->flags & TCP_URG))
		return VERDICT_ALLOW;
	upgrade_settle(requests, room);
	if (upgrade_passes(requests, room)) {
		stream_pass_over(&requests->stream, seg);
		return VERDICT_ALLOW;
	}
	room->unread = requests->carries == CARRIES_NAMED || requests->carries == CARRIES_TLS;
	seg->free = free_bytes(skb, requests);
	if (hello_is_next(skb, requests, room)) {
		if (!hello_enter(sk, requests, room))
			return VERDICT_DROP;
	} else if (hello_was(requests, seg)) {
		return VERDICT_ALLOW;
	} else {
		verdict = tls_pass(skb, requests, seg);
		if (verdict != VERDICT_NONE)
			return verdict;
	}
	if (!seg->out && !segment_socket(skb, sk, &requests->stream, seg))
		return VERDICT_DENY;
	if (requests->carries == CARRIES_NOTHING) {
		requests->carries = CARRIES_REQUESTS;
		if (!requests_count(room))
			requests_give_up(requests, FLAW_SYNTAX); /* names are read, and this is no TLS */
	}
	return VERDICT_NONE;
}

/* Reads a segment that is in the room. Returns a verdict. */
static __always_inline __u32 reading_segment(struct reading *g)
{
	__u32 verdict = reading_enter(g->skb, g->requests, g->room);

	if (verdict != VERDICT_NONE)
		return verdict;
	said_move(g->skb, g->room, g->requests, 0);
	verdict = reading_run(g);
	said_move(g->skb, g->room, g->requests, 1);
	return verdict;
}

/* Reads a packet in its room. Returns a verdict. */
static __always_inline __u32 reading_packet(struct reading *g, int out)
{
	struct segment *seg = &g->room->segment;
	struct bpf_sock *sk = g->skb->sk;
	__u32 verdict;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk || !passed_begin(g->skb, g->room, out))
		return VERDICT_DENY;
	if (sk->state == BPF_TCP_LISTEN)
		return seg->len ? VERDICT_DROP : VERDICT_ALLOW; /* nobody can say yet where its bytes begin */
	g->requests = bpf_sk_storage_get(&requests_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!g->requests) {
		count_error(SITE_SOCK_STORAGE);
		return VERDICT_DENY;
	}
	if (!stream_enter(&g->requests->stream))
		return VERDICT_DROP;
	verdict = reading_segment(g);
	verdict = passed_note(g->room, g->requests, verdict);
	stream_leave(&g->requests->stream);
	return verdict;
}

/*
 * A packet with requests, from its client or to its server. Returns a verdict: VERDICT_DROP where it is to come
 * again.
 */
__noinline int http_pass(struct __sk_buff *skb, const struct flow_key *key, struct sock_state *state,
			 int out)
{
	struct reading g = {.skb = skb};
	int verdict = VERDICT_DENY;

	if (!key || !state)
		return VERDICT_DENY;
	g.owner = &state->owner;
	g.room = request_room_take(SITE_READ_BUSY);
	if (!g.room)
		return VERDICT_DROP;
	if (reading_ask(g.room, key, state, out ? DIR_EGRESS : DIR_INGRESS))
		verdict = reading_packet(&g, out);
	request_room_give(g.room);
	return verdict;
}
