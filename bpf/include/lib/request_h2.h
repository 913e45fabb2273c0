/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ, the judge of requests over HTTP/2: what HPACK decodes goes into the same automata as the head of
 * HTTP/1 does, its path in the same canonical form, so that a rule means one thing in both. A field that is
 * sent in pieces (cookie) counts as there twice where a rule demands it.
 */
#include <lib/request.h>

/* Of a connection whose requests are judged. At first zeroes. */
struct h2_user {
	struct request request; /* its parser has the flaw, the part, and what makes a path canonical */
	__u64 container;	/* whose tables */
	__u32 place;		/* of the text */
	__u32 event;		/* enum http1_event */
};

#include <parse/http2.h>

enum request_h2_limits {
	REQUEST_H2_FULL = HTTP1_CHUNK, /* text is walked before there is more */
	REQUEST_H2_PREFACE = 4, /* bytes of the preface by which HTTP/2 is told from HTTP/1: "PRI " */
	/* More than a chunk can make: each of its bytes hands on an entry of the table at most. */
	REQUEST_H2_STEPS = 1 << 20,
};

/*
 * Decoded text that has not been walked, in parse.text, and in said what a report has of the head. A whole room,
 * because a DFA may look at EXE_LEN bytes of the text; used by one processor at a time, as the room that the bytes
 * come in.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REQUEST_ROOMS);
	__type(key, __u32);
	__type(value, struct request_room);
} request_texts SEC(".maps");

static __always_inline struct request_room *request_text_room(struct h2 *h)
{
	__u32 place = h->user.place;
	struct request_room *room = bpf_map_lookup_elem(&request_texts, &place);

	if (!room)
		http1_bad(&h->user.request.parser, FLAW_UNREAD); /* closed: who reads has no such place */
	return room;
}

static __always_inline struct http1_room *request_text(struct h2 *h)
{
	struct request_room *room = request_text_room(h);

	return room ? &room->parse : 0;
}

/* Walks the automaton of the part over the text so far, and empties it. */
__noinline int request_h2_walk(struct h2 *h, int whole)
{
	struct request_at at = {};
	struct http1_room *text;

	if (!h)
		return 0;
	at.room = request_text_room(h);
	if (!at.room)
		return 0;
	text = &at.room->parse;
	at.r = &h->user.request;
	at.parse = text;
	at.revision = h->user.request.revision;
	if (!whole && !text->text_len)
		return 0;
	text->text[text->text_len & (HTTP1_TEXT - 1)] = 0;
	if (ruleset_of(at.revision, h->user.container, &at.ruleset) != RULESET_FOUND)
		http1_bad(&h->user.request.parser, FLAW_MIDWAY); /* closed: a container that is gone */
	else if (!request_part(&at, whole))
		http1_bad(&h->user.request.parser, FLAW_HEADER);
	text->text_len = 0;
	return 0;
}

/* A head begins: it is judged by the tables that are in force now. */
__noinline int request_h2_head(struct h2 *h)
{
	struct request_room *text;
	struct ruleset *ruleset;
	struct request *r;

	if (!h)
		return 0;
	text = request_text_room(h);
	if (!text)
		return 0;
	said_forget(&text->said);
	r = &h->user.request;
	request_reset(r);
	if (ruleset_of(r->revision, h->user.container, &ruleset) != RULESET_FOUND)
		http1_bad(&r->parser, FLAW_MIDWAY);
	else
		request_renew(r, r->revision, ruleset, text->flags);
	return 0;
}

static void h2_request(struct h2 *h)
{
	request_h2_head(h);
}

/* Whether the field's value is the host that is judged: the parser holds a second one against the first. */
static __always_inline int request_h2_is_host(const struct h2_head *head)
{
	return head->field == H2_FIELD_AUTHORITY ||
	       (head->field == H2_FIELD_HOST && !(head->seen & 1 << H2_FIELD_AUTHORITY));
}

/* The part of a request that a field is; HTTP1_PART_NONE: no rule can ask for it. */
static __always_inline __u32 request_h2_part(const struct h2_head *head, const struct http1 *parser)
{
	if (head->field == H2_FIELD_METHOD)
		return HTTP1_PART_METHOD;
	if (head->field == H2_FIELD_PATH)
		return parser->state == HTTP1_QUERY && parser->query ? HTTP1_PART_QUERY : HTTP1_PART_PATH;
	if (request_h2_is_host(head))
		return HTTP1_PART_HOST;
	if (head->field > H2_FIELD_HOST && parser->flags & HTTP1_WANT_LINES && head->name_len <= H2_NAME)
		return HTTP1_PART_LINE;
	return HTTP1_PART_NONE;
}

/* Begins a header's line. */
static __always_inline void request_h2_name(const struct h2_head *head, struct http1_room *text)
{
	__u32 n = head->name_len;

	if (n > H2_NAME)
		return;
	__builtin_memcpy(text->text, head->name, H2_NAME);
	text->text[n & (HTTP1_TEXT - 1)] = ':';
	text->text_len = n + 1;
}

/* A byte of a path, as HTTP/1 reads its target. There is no absolute form, and nothing follows it. */
static __always_inline void request_h2_path(struct h2 *h, struct http1_room *text, __u32 c)
{
	struct http1 *parser = &h->user.request.parser;

	int first = h->head.value_len == 1;

	if (first)
		parser->state = HTTP1_TARGET;
	if (c <= ' ' || (first && c != '/' && c != '*'))
		http1_bad(parser, FLAW_SYNTAX);
	else if (http1_request_line(parser, text, c) == HTTP1_PART)
		request_h2_walk(h, 1);
}

/* What a value is read into, as parser.part; NULL: no rule can ask for it, or the request has a flaw. */
static __always_inline struct http1_room *request_h2_into(struct h2 *h)
{
	struct http1 *parser = &h->user.request.parser;
	__u32 part = request_h2_part(&h->head, parser);
	struct http1_room *text = part ? request_text(h) : 0;

	if (!text || parser->flaw)
		return 0;
	parser->part = part;
	return text;
}

/* A byte of a value. */
__noinline int request_h2_value(struct h2 *h, __u32 c)
{
	struct http1_room *text;
	struct http1 *parser;

	if (!h)
		return 0;
	parser = &h->user.request.parser;
	text = request_h2_into(h);
	if (!text)
		return 0;
	if (text->text_len >= REQUEST_H2_FULL)
		request_h2_walk(h, 0);
	switch (parser->part) {
	case HTTP1_PART_METHOD:
		if (!http1_is_token(c))
			http1_bad(parser, FLAW_SYNTAX);
		http1_put(text, c);
		break;
	case HTTP1_PART_PATH:
	case HTTP1_PART_QUERY:
		request_h2_path(h, text, c);
		break;
	case HTTP1_PART_HOST:
		if (!http1_is_host(c))
			http1_bad(parser, FLAW_HOST);
		http1_put(text, http1_lower(c));
		break;
	case HTTP1_PART_LINE:
		if (h->head.value_len == 1)
			request_h2_name(&h->head, text);
		http1_put(text, c);
		break;
	}
	return 0;
}

static void h2_value(struct h2 *h, __u8 c)
{
	request_h2_value(h, c);
}

/* The end of a value. */
__noinline int request_h2_value_end(struct h2 *h)
{
	struct http1_room *text;
	struct http1 *parser;

	if (!h)
		return 0;
	parser = &h->user.request.parser;
	text = request_h2_into(h);
	if (!text)
		return 0;
	if ((parser->part == HTTP1_PART_PATH || parser->part == HTTP1_PART_QUERY) &&
	    http1_request_line(parser, text, ' ') != HTTP1_PART)
		return 0; /* behind the query; or it has a flaw */
	if (parser->part == HTTP1_PART_LINE && !h->head.value_len)
		request_h2_name(&h->head, text);
	return request_h2_walk(h, 1);
}

static void h2_value_end(struct h2 *h)
{
	request_h2_value_end(h);
}

static void h2_request_end(struct h2 *h)
{
		if (h2_is_connect(&h->head))
		http1_bad(&h->user.request.parser, FLAW_TUNNEL);
	h->user.event = HTTP1_HEAD;
}

/* Sets a connection up for its first byte; read: bytes of the preface that somebody else has read. */
static __always_inline void request_h2_begin(struct h2 *h, __u32 read)
{
	h2_start(h);
	h->at = read;
}

/* Puts what a head has said from where it is read into the room, or (into) back there, for a head that goes on. */
static __always_inline void request_h2_said(struct request_room *room, int into)
{
	__u32 place = room->place;
	struct request_room *text = bpf_map_lookup_elem(&request_texts, &place);

	if (!text)
		return;
	if (into)
		bpf_probe_read_kernel(&text->said, __builtin_offsetof(struct said, spare), &room->said);
	else
		bpf_probe_read_kernel(&room->said, __builtin_offsetof(struct said, spare), &text->said);
}

/* Why a stream cannot be read. */
static __always_inline __u32 request_h2_flaw(const struct h2 *h)
{
	if (h->error == H2_BAD_HPACK)
		return FLAW_HPACK;
	if (h->error == H2_BAD_HEAD && h->head.error == H2_HEAD_AUTHORITY)
		return FLAW_HOST;
	if (h->error == H2_BAD_HEAD && h->head.error == H2_HEAD_FORBIDDEN)
		return FLAW_FRAMING;
	return FLAW_SYNTAX;
}

/* One step of reading a chunk. Returns 0 where it is used up, or h->user.event is of something. */
static __always_inline int request_h2_on(struct h2 *h, struct http1_room *in)
{
	__u32 pos = in->pos;

	if (h2_is_due(h)) {
		h2_step(h, 0);
	} else if (h2_is_passing(h)) {
		h->user.event = HTTP1_BODY;
	} else if (pos >= in->len) {
		return 0;
	} else {
		in->pos = pos + 1;
		h2_step(h, in->chunk[pos & (HTTP1_TEXT - 1)]);
	}
	if (h->error)
		http1_bad(&h->user.request.parser, request_h2_flaw(h));
	if (h->user.request.parser.flaw)
		h->user.event = HTTP1_BAD;
	return h->user.event == HTTP1_MORE;
}

struct request_h2_at {
	struct h2 *h;
	struct http1_room *in;
};

static long request_h2_step(__u32 index, void *data)
{
	struct request_h2_at *at = data;

	return !request_h2_on(at->h, at->in);
}

/* Begins to read in a room. Returns 0: nothing can be read any more, see the flaw. */
__noinline int request_h2_enter(struct h2 *h, struct request_room *room, struct label *owner)
{
	struct request_room *text;
	struct http1 *parser;

	if (!h || !room || !owner)
		return 0;
	h->user.place = room->place;
	text = request_text_room(h);
	parser = &h->user.request.parser;
	if (!text || parser->flaw)
		return 0;
	text->place = room->place;
	text->flags = room->flags;
	text->parse.text_len = 0; /* of whoever was here before and did not come to an end */
	if (!h->open)
		said_forget(&text->said);
	if (h->open && h->user.request.revision != room->query.revision) {
		http1_bad(parser, FLAW_MIDWAY);
		return 0;
	}
	h->user.request.revision = room->query.revision;
	h->user.container = owner->container;
	h->user.event = HTTP1_MORE;
	return 1;
}

/*
 * Reads on in the chunk of the room. Returns an enum http1_event: MORE, HEAD (to be judged, then read on),
 * BODY (request_h2_skip() bytes that nobody needs), or BAD.
 */
__noinline int request_h2_read(struct h2 *h, struct request_room *room, struct label *owner)
{
	struct request_h2_at at = {.h = h};

	if (!h || !room || !owner || !request_h2_enter(h, room, owner))
		return HTTP1_BAD;
	at.in = &room->parse;
	bpf_loop(REQUEST_H2_STEPS, request_h2_step, &at, 0);
	request_h2_walk(h, 0); /* a value may go on behind this chunk, and behind padding */
	return h->user.event;
}

/* Skips n bytes, or fewer: as many as nobody needs. Returns how many. */
static __always_inline __u32 request_h2_skip(struct h2 *h, __u32 n)
{
	return h2_pass(h, n);
}
