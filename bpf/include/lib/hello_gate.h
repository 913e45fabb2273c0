/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, for TLS on flows that rules with serverNames allow: the name that the client asks for is read in its ClientHello,
 * and judged. What is allowed by it passes unread from then on; where rules.http are all that is left, a tap has to read it
 * (lib/tls_gate.h). The name is kept, to be judged again under another policy.
 *
 * Fails closed: a ClientHello that cannot be read asks for no name, and no rule with serverNames matches that.
 */
#include <lib/front.h>
#include <lib/request_tell.h>
#include <lib/tls_gate.h>
#include <parse/clienthello_again.h>

/* Whether rules say which names TLS clients of the socket's owner may ask for. */
static __always_inline int hello_counts(const struct request_room *room)
{
	struct ruleset *ruleset;

	return ruleset_of(room->query.revision, room->container, &ruleset) == RULESET_FOUND && ruleset->flags & RULESET_TLS;
}

/* Whether what is not known yet begins with a handshake where names count, or was judged under another policy. */
static __always_inline int hello_is_next(struct __sk_buff *skb, struct requests *requests,
					 const struct request_room *room)
{
	const struct segment *seg = &room->segment;

	if (requests->carries == CARRIES_HELLO)
		return 1;
	if (requests->carries == CARRIES_NOTHING)
		return seg->len && !(seg->flags & TCP_SYN) && tls_begins(skb, requests, seg) && hello_counts(room);
	return requests->stream.begun && requests->named && requests->named != room->query.revision;
}

/*
 * Has the bytes of a segment read for the ClientHello, or its name judged anew. Returns 0: there is no memory for it
 * (closed: the packet is to be dropped).
 */
static __always_inline int hello_enter(struct bpf_sock *sk, struct requests *requests, const struct request_room *room)
{
	struct hello_conn *hello;

	if (requests->carries == CARRIES_HELLO)
		return 1;
	hello = bpf_sk_storage_get(&hello_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!hello) {
		count_error(SITE_SOCK_STORAGE);
		return 0;
	}
	if (requests->carries == CARRIES_NOTHING) {
		__builtin_memset(hello, 0, sizeof(*hello));
		hello_begin(&hello->now);
		hello->before = hello->now;
	} else {
		hello->again = 1;
	}
	requests->carries = CARRIES_HELLO;
	return 1;
}

/* Whether the connection was allowed by its name, and what comes in its place is known to be of it. */
static __always_inline int hello_was(struct requests *requests, const struct segment *seg)
{
	struct stream *s = &requests->stream;

	if (requests->carries != CARRIES_NAMED || !s->begun || (!seg->out && s->from != s->next))
		return 0;
	stream_pass_over(s, seg);
	return 1;
}

/* What is kept of the ClientHello; NULL: the connection has none. */
static __always_inline struct hello_conn *hello_of(struct __sk_buff *skb, const struct requests *requests)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || (requests->carries != CARRIES_HELLO && requests->carries != CARRIES_NAMED))
		return 0;
	sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&hello_by_sock, sk, 0, 0) : 0;
}

/* Asks in room->query about the name, and says it in the room. Returns an enum flaw: why nothing can be read. */
__noinline int hello_ask(struct __sk_buff *skb, struct requests *requests, struct request_room *room, struct label *owner)
{
	struct hello_conn *hello;
	struct ruleset *ruleset;
	struct query *query;
	struct hello *h;
	__u32 n;

	if (!requests || !room || !owner)
		return FLAW_HELLO;
	query = &room->query;
	query->flags = QUERY_ADDRESS | QUERY_PORT | QUERY_HELLO;
	query->accept = 0;
	room->hello = 0;
	said_forget(&room->said);
	hello = hello_of(skb, requests);
	if (!hello || hello->now.state == HELLO_BROKEN)
		return FLAW_HELLO;
	h = &hello->now;
	room->hello = h->flags;
	if (!(h->flags & HELLO_NAMED))
		return FLAW_NONE;
	if (ruleset_of(query->revision, owner->container, &ruleset) == RULESET_FOUND)
		query->accept = dfa_index(query->revision, &ruleset->servers, h->name);
	n = h->len;
	room->said.len[REQUEST_ROW_HOST] = n > SAID_TEXT ? SAID_TEXT : n;
	bpf_probe_read_kernel(room->said.text[REQUEST_ROW_HOST], SAID_TEXT, h->name);
	return FLAW_NONE;
}

/* Tells the library's object, if there is a tap, which name was asked for, and whether the connection passes by it, whatever is requested. */
static __always_inline void hello_tell_tap(struct __sk_buff *skb, const struct hello *hello, int served)
{
	struct tls_tie *tie = tls_tie_of(skb);
	struct tls_conn *conn;
	struct front f = {};

	conn = tie ? bpf_map_lookup_elem(&conn_by_object, &tie->key) : 0;
	if (!conn || conn->serial != tie->serial)
		return;
	conn->served = served;
	if (!(hello->flags & HELLO_NAMED))
		return;
	front_site(&f, hello->name, hello->len);
	conn->asked = front_mark(&f);
}

/* The connection cannot be read from here on. Returns 0: it does not go on unread. */
static __always_inline int hello_give_up(struct requests *requests, __u32 flaw)
{
	requests_give_up(requests, flaw);
	return 0;
}

/* No other ClientHello comes. Returns whether the connection goes on: by its name, or by a tap that reads it. */
static __always_inline int hello_over(struct __sk_buff *skb, struct hello_conn *hello, struct requests *requests)
{
	hello->over = 1;
	if (!hello->read)
		requests->carries = CARRIES_NAMED;
	else if (tls_status(skb) == TIE_GOOD)
		requests->carries = CARRIES_TLS;
	else
		return hello_give_up(requests, FLAW_TLS);
	return 1;
}

/* Goes on behind a ClientHello that was judged and passes. Returns 1 where no more of the packet is to be read. */
__noinline int hello_passed(struct __sk_buff *skb, struct requests *requests, struct request_room *room)
{
	struct hello_conn *hello;
	int again, read;

	if (!requests || !room)
		return 0;
	hello = hello_of(skb, requests);
	if (!hello)
		return hello_give_up(requests, FLAW_HELLO);
	read = !!(room->answer.flags & ANSWER_HTTP);
	hello_tell_tap(skb, &hello->now, !read);
	again = hello->again && read && !hello->read;
	requests->named = room->query.revision;
	hello->read = read;
	hello->again = 0;
	if (again)
		return hello_give_up(requests, FLAW_MIDWAY); /* closed: so far nobody was asked to read it */
	if (hello->now.state == HELLO_BROKEN || hello->over)
		return hello_over(skb, hello, requests);
	return 0;
}

/* Reads on in the chunk. Returns an enum hello_event; DONE: it is to be judged. */
static __always_inline int hello_read(struct hello_conn *hello, struct request_room *room, const struct requests *requests)
{
	int event;

	if (hello->now.state == HELLO_WHOLE && !hello->now.skip) {
		event = hello_follow(&hello->now, &room->parse);
	} else {
		event = hello_feed(&hello->now, &room->parse);
		if (event == HELLO_DONE && hello->now.flags & HELLO_SECOND)
			event = hello_follow(&hello->now, &room->parse);
	}
	if (event == HELLO_OVER && requests->named != room->query.revision) {
		hello->over = hello->again = 1;
		return HELLO_DONE;
	}
	return event;
}

/* What is to be done behind an event of reading. */
enum reading_acts {
	READING_ON, /* read on */
	READING_ENDS, /* nothing more is to be read; room->verdict is known */
	READING_JUDGE, /* a request is whole */
	READING_GIVE_UP, /* nothing more can be read of requests, which is to be judged */
	READING_HELLO, /* a ClientHello is whole, or nothing more can be read of one: the same */
};

/* Reads on in the chunk of a connection that may carry a ClientHello. Returns an enum reading_acts. */
__noinline int reading_hello(struct __sk_buff *skb, struct requests *requests, struct request_room *room)
{
	struct hello_conn *hello;
	int event = HELLO_OVER;

	if (!requests || !room)
		return READING_HELLO;
	hello = hello_of(skb, requests);
	if (!hello || hello->again)
		return READING_HELLO;
	if (requests->carries == CARRIES_HELLO)
		event = hello_read(hello, room, requests);
	if (event == HELLO_MORE)
		return READING_ON;
	if (event != HELLO_OVER)
		return READING_HELLO;
	if (!hello_over(skb, hello, requests))
		return READING_ON;
	room->verdict = VERDICT_ALLOW;
	return READING_ENDS;
}

/* What comes in is read anew (again) from where it was kept, or kept, where a ClientHello may be read. */
__noinline int hello_keep(struct __sk_buff *skb, struct requests *requests, int again)
{
	struct hello_conn *hello;

	if (!requests)
		return 0;
	hello = hello_of(skb, requests);
	if (!hello)
		return 0;
	if (!again) {
		bpf_probe_read_kernel(&hello->before, sizeof(hello->before), &hello->now);
		return 0;
	}
	bpf_probe_read_kernel(&hello->now, sizeof(hello->now), &hello->before);
	hello->over = 0;
	requests->carries = CARRIES_HELLO;
	return 0;
}
