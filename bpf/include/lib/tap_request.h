/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ in TLS libraries, what is written: chunks of a program's memory are fed to the judge of requests,
 * and what it denies marks the connection. Which program's memory: the running task's, before the library
 * encrypts it. Where nothing can be read, what is written is judged as no request: only rules without
 * rules.http allow it.
 */
#include <lib/front.h>
#include <lib/request_tell.h>
#include <lib/socket.h>
#include <lib/tap_h2.h>
#include <maps/taps.h>

enum tap_limits {
	TAP_STEPS = 1 << 15, /* of reading one write; what is longer is hostile: 8 bytes a step */
};

/* The connection as a call, as it is asked about each of its requests: an answer changes the question. */
static __always_inline void tap_query(struct query *query, const struct tls_conn *conn, __u64 revision)
{
	__builtin_memset(query, 0, sizeof(*query));
	query->revision = revision;
	__builtin_memcpy(query->addr, conn->remote, sizeof(query->addr));
	query->port = conn->remote_port;
	query->protocol = PROTO_TCP;
	query->direction = DIR_EGRESS;
	query->name_hash = conn->name_hash;
	query->name_serial = conn->name_serial;
	query->server = conn->served ? SERVER_ANY : 0;
}

/* The connection as a flow, as it is told. */
static __always_inline void tap_flow(struct flow_key *key, const struct tls_conn *conn)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = conn->netns;
	__builtin_memcpy(key->local, conn->local, sizeof(key->local));
	__builtin_memcpy(key->remote, conn->remote, sizeof(key->remote));
	key->local_port = conn->local_port;
	key->remote_port = conn->remote_port;
	key->protocol = PROTO_TCP;
}

/* Reading a write. */
struct tap_feed {
	struct tls_conn *conn;
	struct h2 *h2; /* NULL: it is HTTP/1 */
	struct request_room *room;
	struct label *label;
	struct tls_key key;
};

/* The request that is being read. */
static __always_inline struct request *tap_request(const struct tap_feed *feed)
{
	return feed->h2 ? &feed->h2->user.request : &feed->conn->request;
}

/* Tells what was judged of a request. Global: its stack is its own. */
__noinline int tap_tell(struct request_room *room, struct label *label, __u32 flaw)
{
	if (!room || !label)
		return 0;
	return tell_said(room, label, flaw, STEP_TAP);
}

/*
 * Judges the request r of a connection, whose head is whole, or with a flaw in the parser what is none, tells it, and
 * denies the connection where it does not pass. Returns whether it passes.
 */
__noinline int tap_judge(struct tls_conn *conn, struct request *r, struct request_room *room, struct label *label)
{
	__u8 verdict;
	__u32 flaw;

	if (!conn || !r || !room || !label)
		return 0;
	flaw = r->parser.flaw;
	r->revision = room->query.revision;
	tap_query(&room->query, conn, room->query.revision);
	verdict = request_judge(r, room, label);
	request_reset(r);
	if (flaw && verdict != VERDICT_ALLOW)
		room->answer.reason = reason_of_flaw(flaw);
	if (conn->speaks == TLS_SPEAKS_HTTP2)
		request_h2_said(room, 0);
	room->asked = conn->asked;
	if (!flaw)
		verdict = front_verdict(room, label, verdict);
	if (verdict != VERDICT_ALLOW || room->flags & CONTROL_TELL_CONNECT) {
		tap_flow(&room->key, conn);
		room->socket = conn->socket;
		tap_tell(room, label, flaw);
	}
	said_forget(&room->said);
	detail_forget(room->place, room->flags, 0);
	if (verdict_passes(verdict))
		return 1;
	conn->verdict = verdict;
	conn->state = TLS_DENIED;
	if (verdict == VERDICT_KILL)
		bpf_send_signal(SIGNAL_KILL);
	return 0;
}

/* Puts the next bytes into the room. Returns 0 when there are none. */
static __always_inline int tap_chunk(struct tap_feed *feed)
{
	struct request_room *room = feed->room;
	struct http1_room *parse = &room->parse;
	__u64 n = room->left;

	if (!n)
		return 0;
	if (n > HTTP1_CHUNK)
		n = HTTP1_CHUNK;
	parse->pos = 0;
	parse->len = n;
	/* As a value that no kernel's verifier takes for zero. */
	if (bpf_probe_read_user(parse->chunk, ((n - 1) & (HTTP1_TEXT - 1)) + 1, (void *)room->from))
		http1_bad(&tap_request(feed)->parser, FLAW_UNREAD); /* closed where requests are judged */
	room->from += n;
	room->left -= n;
	return 1;
}

/* How many of the next n bytes are of a body; they are passed over. */
static __always_inline __u64 tap_pass(struct tap_feed *feed, __u64 n)
{
	struct http1 *parser = &tap_request(feed)->parser;

	if (feed->h2)
		return request_h2_skip(feed->h2, n > ~0U ? ~0U : n);
	return http1_in_body(parser) ? http1_skip(parser, n) : 0;
}

/* Passes over what is there of a body, in the room and behind it. */
static __always_inline void tap_body(struct tap_feed *feed)
{
	struct request_room *room = feed->room;
	struct http1_room *parse = &room->parse;
	__u64 n = tap_pass(feed, parse->len - parse->pos);

	parse->pos += n;
	if (parse->pos < parse->len || !room->left)
		return;
	n = tap_pass(feed, room->left);
	room->from += n;
	room->left -= n;
}

/* Whether what could not be read is the beginning of HTTP/2, in whose place nothing was before. */
static __always_inline int tap_begins_h2(const struct tap_feed *feed)
{
	return !feed->h2 && feed->conn->speaks == TLS_SPEAKS_NOTHING &&
	       feed->conn->request.parser.flaw == FLAW_HTTP2;
}

static long tap_step(__u32 index, void *data)
{
	struct tap_feed *feed = data;
	struct request_room *room = feed->room;
	int event;

	if (room->parse.pos >= room->parse.len && !tap_chunk(feed)) {
		room->ended = 1;
		return 1;
	}
	if (feed->h2)
		event = request_h2_read(feed->h2, room, feed->label);
	else
		event = request_read(&feed->conn->request, room, feed->label);
	if (event == HTTP1_BODY)
		tap_body(feed);
	if (event != HTTP1_HEAD && event != HTTP1_BAD)
		return 0;
	if (event == HTTP1_BAD && tap_begins_h2(feed)) {
		feed->conn->speaks = TLS_SPEAKS_HTTP2;
		return 1;
	}
	if (!feed->h2)
		feed->conn->speaks = TLS_SPEAKS_HTTP1;
	if (tap_judge(feed->conn, tap_request(feed), room, feed->label) && event == HTTP1_HEAD) {
		if (feed->h2 && room->told)
			tap_h2_expect(&feed->key, feed->h2->stream, room->told_ns);
		return 0;
	}
	room->ended = 1;
	return 1;
}

/* Whether rules.http of the running task's container have a say; 1 where that cannot be told (closed). */
static __always_inline int tap_is_asked(const struct label *label, __u64 revision)
{
	struct ruleset *ruleset;

	if (ruleset_of(revision, label->container, &ruleset) != RULESET_FOUND)
		return 1;
	return has_bits(&ruleset->http);
}

/* Whether what cannot be read on a connection was judged under this revision: what is denied has no more to read. */
static __always_inline int tap_is_given_up(const struct request *r, __u64 revision)
{
	return r->parser.flaw && r->revision == revision;
}

/* Reads what is written, of HTTP/1 as far as it is that. */
static __always_inline void tap_run(struct tap_feed *feed)
{
	detail_forget(feed->room->place, feed->room->flags, feed->h2 ? feed->h2->open : request_is_partial(&feed->conn->request));
	if (tap_is_given_up(tap_request(feed), feed->room->query.revision))
		feed->room->ended = 1;
	else
		bpf_loop(TAP_STEPS, tap_step, feed, 0);
}

/* See lib/tap_response.h. */
int tap_expect(const struct tls_key *of, const struct request_room *room);

/* Reads what is written in a room. */
static __always_inline void tap_read_in(struct tap_feed *feed, const struct tls_key *key)
{
	struct tls_conn *conn = feed->conn;
	__u64 revision = feed->room->query.revision;

	if (!tap_is_asked(feed->label, revision)) {
		/* Nobody follows where a request begins from here on. */
		conn->speaks = TLS_SPEAKS_HTTP1;
		http1_bad(&conn->request.parser, FLAW_MIDWAY);
		conn->request.revision = revision;
		return;
	}
	refresh_who(feed->label);
	feed->room->parse.pos = feed->room->parse.len = 0;
	feed->room->ended = feed->room->told = 0;
	said_forget(&feed->room->said);
	if (conn->speaks != TLS_SPEAKS_HTTP2) {
		tap_run(feed);
		if (feed->room->told)
			tap_expect(key, feed->room);
		if (conn->speaks == TLS_SPEAKS_HTTP2)
			tap_h2_begin(key);
	}
	if (conn->speaks == TLS_SPEAKS_HTTP2) {
		feed->h2 = bpf_map_lookup_elem(&h2_by_object, key);
		if (feed->h2)
			tap_run(feed);
		else
			count_error(SITE_TAP_BUSY); /* closed: there was no room, or it was pushed out */
	}
	if (!feed->room->ended)
		conn->state = TLS_DENIED; /* closed */
}

/*
 * Reads len bytes that are about to be written to a connection that is tied, and judges the requests that
 * end in them.
 */
static __always_inline void tap_read(const struct tls_key *key, struct tls_conn *conn, const void *bytes, __u64 len)
{
	struct tap_feed feed = {.conn = conn, .key = *key};
	struct control *c = control_get();
	struct request_room *room;

	if (conn->direction != DIR_EGRESS)
		return; /* answers; that nobody reads the requests is for the gate to know */
	feed.label = label_current();
	if (!c || !feed.label) {
		conn->state = TLS_DENIED; /* closed */
		count_error(SITE_TAP_BUSY);
		return;
	}
	room = request_room_take(SITE_TAP_BUSY);
	if (!room) {
		conn->state = TLS_DENIED; /* closed */
		return;
	}
	feed.room = room;
	room->from = (__u64)bytes;
	room->left = len;
	room->flags = c->flags;
	room->query.revision = c->revision;
	tap_read_in(&feed, key);
	request_room_give(room);
}
