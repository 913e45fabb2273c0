/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ, the judge of requests: bytes of a connection in, a verdict for each request out. Whoever has the
 * bytes (a packet, a system call's buffer, a library's) puts them into a room, a chunk at a time, and
 * feeds them; what is kept between two chunks is struct request.
 *
 * A head that began under one policy is not judged by another: its automata are those of its tables.
 */
#include <abi/event.h>
#include <abi/state.h>
#include <lib/detail.h>
#include <lib/judge.h>
#include <lib/stream.h>
#include <parse/http1.h>

enum request_told_limits {
	REQUEST_TOLD = 2048, /* bytes, more than all texts together: six of EV_TEXT, of which two have a NUL, and values */
};

/* A record that is put together, with its texts. */
struct request_told {
	struct ev_request event;
	__u8 text[REQUEST_TOLD];
	__u8 spare[EV_TEXT]; /* never written: 6.1 does not see where text ends */
};

/* What reading and judging needs, off the stack. */
struct request_room {
	__u32 place; /* of the room, and of its bits in request_selects */
	__u32 event; /* enum http1_event of the last chunk */
	__u32 flags; /* enum control_flags */
	__u32 busy;
	struct http1_room parse;
	struct query query; /* the connection, as a call: revision, peer, port, direction; set by who feeds */
	struct answer answer;
	struct bits who;
	struct said said;
	struct flow_key key;	/* at the gate: the flow */
	struct segment segment; /* that is read */
	__u64 from; /* in a tap: where in its program's memory the first byte is that is not in parse */
	__u64 left; /* bytes from there on */
	__u32 at;  /* in it, as an offset in its packet: the first byte that is not in parse */
	__u32 end;
	__u32 verdict; /* of the worst request in it; VERDICT_NONE: not all was read */
	__u32 others;  /* 1: something in it is of a request that passed */
	__u32 edge;    /* sequence number up to where the client has been answered */
	__u32 gated;   /* 1: the pod's packets pass gate_tc */
	__u32 answered; /* 1: this one does, by a veth, so that it can be answered there */
	__u32 ended;   /* in a tap: 1: all was read, or what it is has been judged */
	__u32 opened;  /* at the gate: as the socket's, see struct sock_state */
	__u32 first;   /* at the gate: 1: the server has said nothing yet on the connection */
	__u32 upgrade; /* at the gate: 1: the packet asks for WebSocket, and passes */
	__u32 unread;  /* at the gate: 1: the packet is of a connection of TLS that has begun */
	__u32 asked;   /* in a tap: as the connection's */
	__u32 told;    /* requests that pass and were told since it was 0 */
	__u64 container; /* at the gate: of the socket's owner */
	__u32 hello;   /* at the gate: enum hello_flags of a ClientHello that is judged */
	__u32 pad;
	__u64 told_ns; /* when the last of them was, CLOCK_BOOTTIME */
	__u64 socket;  /* at the gate: cookie of its socket where it cannot */
	struct request_told record;
};

/* Keeps the text of a part for reports. */
static __always_inline void request_note(struct request_room *room, __u32 part)
{
	__u32 at, n = room->parse.text_len;

	if (part >= SAID_PARTS)
		return;
	at = room->said.len[part];
	if (!n || at >= SAID_TEXT)
		return;
	if (n > SAID_TEXT - at)
		n = SAID_TEXT - at;
	room->said.len[part] = at + n;
	n--;
	PARSE_OPAQUE(n); /* 6.1 wants to see its bound here */
	PARSE_OPAQUE(at);
	bpf_probe_read_kernel(room->said.text[part] + (at & (SAID_TEXT - 1)), (n & (SAID_TEXT - 1)) + 1,
			      room->parse.text);
}

static __always_inline void said_forget(struct said *said)
{
	said->len[0] = said->len[1] = said->len[2] = 0;
}

/* Whether a head is being read. */
static __always_inline int request_is_partial(const struct request *r)
{
	return r->parser.state != HTTP1_START && r->parser.state < HTTP1_CHUNK_SIZE &&
	       !(r->parser.flags & HTTP1_TRAILER);
}

/* What the steps of reading share. */
struct request_at {
	struct request *r;
	struct request_room *room;
	struct http1_room *parse;
	struct ruleset *ruleset;
	__u64 revision;
};

/* What a DFA of a ruleset accepts of the part that a row is of; NULL: broken tables. */
static __always_inline struct bits *request_bits(__u64 revision, const struct dfa_ref *ref, __u32 row)
{
	return dfa_bits(revision, dfa_index_at(dfa_page(revision, ref), ref, row));
}

/* A header that is whole: the demands it meets. Returns 0 when a demanded one is there twice. */
static __always_inline int request_line(struct request_at *at)
{
	struct request *r = at->r;
	struct bits *found = request_bits(at->revision, &at->ruleset->lines, r->row[REQUEST_ROW_LINE]);

	r->row[REQUEST_ROW_LINE] = 0;
	if (!found)
		return 0; /* broken tables: closed */
	if (r->seen & found->word[1])
		return 0;
	r->seen |= found->word[1];
	r->met |= found->word[0];
	return 1;
}

/* Walks the automaton of the part over its text. Returns 0 when the request cannot be judged. */
static __always_inline int request_part(struct request_at *at, int whole)
{
	struct request *r = at->r;
	__u32 part = r->parser.part - HTTP1_PART_METHOD;
	struct ruleset *ruleset = at->ruleset;
	struct dfa_ref *ref;

	if (!at->parse->text_len && !whole)
		return 1;
	if (at->room->flags & CONTROL_TELL_DETAIL)
		detail_note(at->parse, at->room->place, r->parser.part, whole);
	if (part >= REQUEST_ROWS)
		return 1;
	if (part == REQUEST_ROW_METHOD)
		ref = &ruleset->methods;
	else if (part == REQUEST_ROW_PATH)
		ref = &ruleset->paths;
	else if (part == REQUEST_ROW_HOST)
		ref = &ruleset->hosts;
	else if (ruleset->lines.classes)
		ref = &ruleset->lines;
	else
		return 1; /* it is only told */
	r->row[part & (REQUEST_ROWS - 1)] =
		dfa_row(dfa_page(at->revision, ref), ref, at->parse->text, r->row[part & (REQUEST_ROWS - 1)]);
	if (part != REQUEST_ROW_LINE) {
		request_note(at->room, part);
		if (whole)
			r->row[REQUEST_ROW_LINE] = 0; /* of what was the host's line */
		return 1;
	}
	return !whole || request_line(at);
}

static long request_step(__u32 index, void *data)
{
	struct request_at *at = data;
	int event = http1_feed(&at->r->parser, at->parse);

	if ((event == HTTP1_MORE || event == HTTP1_PART) &&
	    !request_part(at, event == HTTP1_PART))
		event = http1_bad(&at->r->parser, FLAW_HEADER);
	at->room->event = event;
	return event != HTTP1_PART && event != HTTP1_END;
}

/* Between two heads: the next is of the tables in force. flags: enum control_flags. */
static __always_inline void request_renew(struct request *r, __u64 revision,
					  const struct ruleset *ruleset, __u32 flags)
{
	r->revision = revision;
	r->parser.query = !!(flags & CONTROL_TELL_QUERY);
	r->parser.flags &= ~HTTP1_WANT_LINES;
	if (ruleset->lines.classes || flags & CONTROL_TELL_HEADERS)
		r->parser.flags |= HTTP1_WANT_LINES;
}

/* Forgets a request that was judged. */
static __always_inline void request_reset(struct request *r)
{
	r->met = r->seen = 0;
	*(__u64 *)r->row = 0;
}

/*
 * Reads on in the chunk of the room. Returns an enum http1_event: MORE, HEAD (to be judged, then read on),
 * BODY, or BAD.
 */
__noinline int request_read(struct request *r, struct request_room *room, struct label *owner)
{
	struct request_at at = {.r = r, .room = room};

	if (!r || !room || !owner)
		return HTTP1_BAD;
	at.parse = &room->parse;
	at.revision = room->query.revision;
	if (ruleset_of(at.revision, owner->container, &at.ruleset) != RULESET_FOUND)
		return http1_bad(&r->parser, FLAW_MIDWAY); /* closed: a container that is gone */
	if (!request_is_partial(r))
		request_renew(r, at.revision, at.ruleset, room->flags);
	else if (r->revision != at.revision)
		return http1_bad(&r->parser, FLAW_MIDWAY);
	bpf_loop(HTTP1_CHUNK + 1, request_step, &at, 0);
	return room->event;
}

/* Takes the rules away whose demand of a header is not met. */
struct request_demands {
	struct request *r;
	struct bits *selects;
	void *demands;
	__u32 first;
	__u32 pad;
};

static long request_demand(__u32 index, void *data)
{
	struct request_demands *d = data;
	__u32 key = d->first + index;
	struct bits *rules;
	int i;

	if (d->r->met >> (index & 63) & 1)
		return 0;
	rules = bpf_map_lookup_elem(d->demands, &key);
	for (i = 0; i < RULE_WORDS; i++)
		d->selects->word[i] &= rules ? ~rules->word[i] : 0; /* broken tables: closed */
	return 0;
}

/* Puts the rules with serverNames that match the connection into selects, which allow whatever is in it. */
static __always_inline void request_serve(struct ruleset *ruleset, const struct query *query, struct bits *selects)
{
	struct bits *served = &ruleset->tls;
	int i;

	if (query->server != SERVER_ANY)
		served = dfa_bits(query->revision, query->server);
	for (i = 0; i < RULE_WORDS; i++)
		selects->word[i] = served ? served->word[i] & ruleset->tls.word[i] : 0; /* broken tables: closed */
}

/* Adds the rules whose rules.http select the request. */
static __always_inline void request_select(struct request *r, struct ruleset *ruleset,
					   __u64 revision, struct bits *selects)
{
	struct request_demands d = {.r = r, .selects = selects, .first = ruleset->first_demand};
	struct bits *method, *path, *host;
	int i;

	method = request_bits(revision, &ruleset->methods, r->row[REQUEST_ROW_METHOD]);
	path = request_bits(revision, &ruleset->paths, r->row[REQUEST_ROW_PATH]);
	host = request_bits(revision, &ruleset->hosts, r->row[REQUEST_ROW_HOST]);
	d.demands = table(&demands, revision);
	if (!method || !path || !host || !d.demands) {
		count_error(SITE_TABLES);
		return; /* closed: none */
	}
	for (i = 0; i < RULE_WORDS; i++)
		selects->word[i] |= ruleset->http.word[i] & (ruleset->any_method.word[i] | method->word[i]) &
				    (ruleset->any_path.word[i] | path->word[i]) &
				    (ruleset->any_host.word[i] | host->word[i]);
	if (ruleset->demands)
		bpf_loop(ruleset->demands & 127, request_demand, &d, 0);
}

/*
 * Asks in room->query, which says of which connection, about the request whose head was read, or with a flaw in the
 * parser about what is none. Global: its stack is its own.
 */
__noinline int request_ask(struct request *r, struct request_room *room, struct label *owner)
{
	struct query *query;
	struct bits *selects;
	struct ruleset *ruleset;
	__u32 place;
	int i;

	if (!r || !room || !owner)
		return 0;
	query = &room->query;
	query->flags = QUERY_ADDRESS | QUERY_PORT | QUERY_REQUEST;
	place = query->accept = room->place;
	selects = bpf_map_lookup_elem(&request_selects, &place);
	if (!selects)
		return 0; /* closed: evaluate_pick() does not find them either */
	for (i = 0; i < RULE_WORDS; i++)
		selects->word[i] = 0;
	if (ruleset_of(query->revision, owner->container, &ruleset) != RULESET_FOUND)
		return 0; /* closed: a container that is gone */
	request_serve(ruleset, query, selects);
	if (!r->parser.flaw)
		request_select(r, ruleset, query->revision, selects);
	return 0;
}

/* Answers what is asked in the room. Returns a verdict; the answer is in the room. Inline: the stack below it is deep. */
static __always_inline int room_answer(struct request_room *room, struct label *owner)
{
	__builtin_memset(&room->answer, 0, sizeof(room->answer));
	answer_query(&room->query, owner, room->flags, &room->who, &room->answer);
	return room->answer.verdict;
}

/* Judges a request: see request_ask(). */
static __always_inline int request_judge(struct request *r, struct request_room *room, struct label *owner)
{
	if (!r || !room || !owner)
		return VERDICT_DENY;
	request_ask(r, room, owner);
	return room_answer(room, owner);
}
