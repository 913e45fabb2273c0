/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ in TLS libraries, what is written: chunks of a program's memory are fed to the judge of requests,
 * and what it denies marks the connection. Which program's memory: the running task's, before the library
 * encrypts it. Where nothing can be read, what is written is judged as no request: only rules without
 * rules.http allow it.
 */
#include <lib/request_room.h>
#include <lib/socket.h>
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
}

/* Tells what was judged of a request. Global: its stack is its own. */
__noinline int tap_tell(struct tls_conn *conn, struct request_room *room, struct label *label)
{
	struct ask ask = {};

	if (!conn || !room || !label)
		return 0;
	ask.query = room->query;
	ask.netns = conn->netns;
	__builtin_memcpy(ask.local, conn->local, sizeof(ask.local));
	ask.local_port = conn->local_port;
	ask.family = conn->family;
	ask.type = TYPE_STREAM;
	ask.call = CALL_SENDMSG;
	ask.step = STEP_TAP;
	return tell_call(&ask, label, &room->answer);
}

/*
 * Judges the request whose head is whole, or with a flaw in the parser what is none, tells it, and denies
 * the connection where it does not pass. Returns whether it passes.
 */
static __always_inline int tap_judge(struct tls_conn *conn, struct request_room *room, struct label *label)
{
	__u64 revision = room->query.revision;
	__u8 verdict;

	tap_query(&room->query, conn, revision);
	verdict = request_judge(&conn->request, room, label);
	request_reset(&conn->request);
	if (conn->request.parser.flaw && verdict != VERDICT_ALLOW)
		room->answer.reason = REASON_MALFORMED;
	if (verdict != VERDICT_ALLOW || room->flags & CONTROL_TELL_CONNECT)
		tap_tell(conn, room, label);
	if (verdict_passes(verdict))
		return 1;
	conn->state = TLS_DENIED;
	if (verdict == VERDICT_KILL)
		bpf_send_signal(SIGNAL_KILL);
	return 0;
}

/* Where the reading of a write is. */
struct tap_feed {
	struct tls_conn *conn;
	struct request_room *room;
	struct label *label;
	const __u8 *at; /* in the program's memory */
	__u64 left;
	__u64 ended; /* all of it was read, or what it is has been judged */
};

/* Puts the next bytes into the room. Returns 0 when there are none. */
static __always_inline int tap_chunk(struct tap_feed *feed)
{
	struct http1_room *parse = &feed->room->parse;
	__u64 n = feed->left;

	if (!n)
		return 0;
	if (n > HTTP1_CHUNK)
		n = HTTP1_CHUNK;
	parse->pos = 0;
	parse->len = n;
	/* As a value that no kernel's verifier takes for zero. */
	if (bpf_probe_read_user(parse->chunk, ((n - 1) & (HTTP1_TEXT - 1)) + 1, feed->at))
		http1_bad(&feed->conn->request.parser, FLAW_UNREAD); /* closed where requests are judged */
	feed->at += n;
	feed->left -= n;
	return 1;
}

/* Passes over what is there of a body. */
static __always_inline void tap_body(struct tap_feed *feed)
{
	struct http1_room *parse = &feed->room->parse;
	struct http1 *parser = &feed->conn->request.parser;
	__u64 n = parse->len - parse->pos, more = 0;

	if (n >= parser->left) {
		n = parser->left;
	} else {
		more = parser->left - n;
		if (more > feed->left)
			more = feed->left;
	}
	parse->pos += n;
	feed->at += more;
	feed->left -= more;
	http1_skip(parser, n + more);
}

static long tap_step(__u32 index, void *data)
{
	struct tap_feed *feed = data;
	struct request_room *room = feed->room;

	if (room->parse.pos >= room->parse.len && !tap_chunk(feed)) {
		feed->ended = 1;
		return 1;
	}
	switch (request_read(&feed->conn->request, room, feed->label)) {
	case HTTP1_HEAD:
		if (tap_judge(feed->conn, room, feed->label))
			return 0;
		feed->ended = 1;
		return 1;
	case HTTP1_BODY:
		tap_body(feed);
		return 0;
	case HTTP1_BAD:
		feed->conn->request.revision = room->query.revision;
		tap_judge(feed->conn, room, feed->label);
		feed->ended = 1;
		return 1;
	}
	return 0;
}

/* Whether rules.http of the running task's container have a say; 1 where that cannot be told (closed). */
static __always_inline int tap_is_asked(const struct label *label, __u64 revision)
{
	struct ruleset *ruleset;

	if (ruleset_of(revision, label->container, &ruleset) != RULESET_FOUND)
		return 1;
	return has_bits(&ruleset->http);
}

/* Reads what is written in a room. */
static __always_inline void tap_read_in(struct tap_feed *feed)
{
	struct tls_conn *conn = feed->conn;
	struct request *r = &conn->request;
	__u64 revision = feed->room->query.revision;

	if (!tap_is_asked(feed->label, revision)) {
		/* Nobody follows where a request begins from here on. */
		http1_bad(&r->parser, FLAW_MIDWAY);
		r->revision = revision;
		return;
	}
	if (r->parser.flaw && r->revision == revision)
		return; /* judged when it was found; what is denied has no more to read */
	refresh_who(feed->label);
	feed->room->parse.pos = feed->room->parse.len = 0;
	bpf_loop(TAP_STEPS, tap_step, feed, 0);
	if (!feed->ended)
		conn->state = TLS_DENIED; /* closed */
}

/*
 * Reads len bytes that are about to be written to a connection that is tied, and judges the requests that
 * end in them.
 */
static __always_inline void tap_read(struct tls_conn *conn, const void *bytes, __u64 len)
{
	struct tap_feed feed = {.conn = conn, .at = bytes, .left = len};
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
	room->flags = c->flags;
	room->query.revision = c->revision;
	tap_read_in(&feed);
	request_room_give(room);
}
