/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * The ClientHello that begins a TLS connection (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301, 3.1), byte by byte
 * across records and segments, for the name that the client asks for and the protocols that it offers.
 * Stricter than servers: what two could read in two ways is refused, see enum hello_flaw. A server may ask
 * for a second one (RFC 8446, 4.1.4), which must ask for the same name: see parse/clienthello_again.h. Behind data that
 * is sent early nobody could find it, so that a client that sends such is refused.
 */
#include <abi/clienthello.h>
#include <parse/http1_state.h>

enum hello_state {
	HELLO_MESSAGE = 0, /* its type */
	HELLO_LENGTH,
	HELLO_VERSION,
	HELLO_SESSION, /* length of the session's id; the random before it is skipped */
	HELLO_SUITES,  /* length */
	HELLO_METHODS, /* length */
	HELLO_EXTENSIONS, /* length of all */
	HELLO_TYPE,
	HELLO_SIZE,
	HELLO_NAME_SIZE, /* the same of the extension with the name, and what is in it */
	HELLO_NAMES,
	HELLO_NAME_TYPE,
	HELLO_NAME_LENGTH,
	HELLO_NAME_TEXT,
	HELLO_ALPN_SIZE, /* the same of the one with the protocols */
	HELLO_PROTOCOLS,
	HELLO_PROTOCOL_LENGTH,
	HELLO_PROTOCOL,
	HELLO_WHOLE,
	HELLO_BROKEN,
};

enum hello_event {
	HELLO_MORE = 0, /* the chunk is used up */
	HELLO_DONE,	/* the message is whole */
	HELLO_BAD,	/* see flaw */
	HELLO_OVER,	/* no other message comes that asks for a name */
};

enum hello_flaw {
	HELLO_SOUND = 0,
	HELLO_FLAW_RECORD = 1,	/* no handshake record of TLS; too many */
	HELLO_FLAW_MESSAGE = 2, /* another message, or lengths that do not add up */
	HELLO_FLAW_NAME = 3,	/* a name twice, several names, no name of a host, another than the first time */
	HELLO_FLAW_EARLY = 4,	/* data is sent before the server has answered */
};

enum hello_bounds {
	HELLO_RECORD_TYPE = 22,
	HELLO_RECORD_CHANGE = 20, /* ChangeCipherSpec, which means nothing before a second ClientHello */
	HELLO_MESSAGE_TYPE = 1,
	HELLO_RECORD_HEADER = 5,
	HELLO_RECORD_MAX = 16384,
	HELLO_RECORDS = 64,
	HELLO_BODY_MAX = 65535,
	HELLO_RANDOM = 32,
	HELLO_SESSION_MAX = 32,
	HELLO_EXT_NAME = 0,
	HELLO_EXT_ALPN = 16,
	HELLO_EXT_EARLY = 42,
	HELLO_EXT_ENCRYPTED = 0xfe0d,
};

static __always_inline int hello_bad(struct hello *h, __u32 flaw)
{
	h->state = HELLO_BROKEN;
	h->flaw = flaw;
	return HELLO_BAD;
}

/* Goes on with a number of some bytes, behind skip bytes that nobody looks at. */
static __always_inline int hello_next(struct hello *h, __u32 state, __u32 need, __u32 skip)
{
	h->state = state;
	h->need = need;
	h->value = 0;
	h->skip = skip;
	return HELLO_MORE;
}

/* Behind an extension: the next one, or the end. */
static __always_inline int hello_extension(struct hello *h)
{
	if (h->body)
		return hello_next(h, HELLO_TYPE, 2, 0);
	h->state = HELLO_WHOLE;
	return HELLO_DONE;
}

/* Where the extensions begin whose inside is not read, or end at once. */
static __always_inline int hello_pass(struct hello *h, __u32 size)
{
	if (size > h->body)
		return hello_bad(h, HELLO_FLAW_MESSAGE);
	if (size == h->body && !size)
		return hello_extension(h);
	return hello_next(h, size == h->body ? HELLO_WHOLE : HELLO_TYPE, size == h->body ? 0 : 2, size);
}

/* One byte of a record's header: type, version, length. */
static __always_inline int hello_record(struct hello *h, __u32 c)
{
	__u32 at = h->header++;

	if (at == 0 && c != HELLO_RECORD_TYPE)
		return hello_bad(h, HELLO_FLAW_RECORD);
	if ((at == 1 && c != 3) || (at == 2 && c > 4))
		return hello_bad(h, HELLO_FLAW_RECORD);
	if (at == 3)
		h->high = c;
	if (at < HELLO_RECORD_HEADER - 1)
		return HELLO_MORE;
	h->record = (__u32)h->high << 8 | c;
	h->header = 0;
	if (!h->record || h->record > HELLO_RECORD_MAX || ++h->seen > HELLO_RECORDS)
		return hello_bad(h, HELLO_FLAW_RECORD);
	return HELLO_MORE;
}

/* A number before the extensions is whole. */
static __always_inline int hello_front(struct hello *h, __u32 value)
{
	switch (h->state) {
	case HELLO_MESSAGE:
		if (value != HELLO_MESSAGE_TYPE)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		return hello_next(h, HELLO_LENGTH, 3, 0);
	case HELLO_LENGTH:
		if (value > HELLO_BODY_MAX)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		h->body = value;
		return hello_next(h, HELLO_VERSION, 2, 0);
	case HELLO_VERSION:
		if (value >> 8 != 3)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		return hello_next(h, HELLO_SESSION, 1, HELLO_RANDOM);
	case HELLO_SESSION:
		if (value > HELLO_SESSION_MAX)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		return hello_next(h, HELLO_SUITES, 2, value);
	case HELLO_SUITES:
		if (!value || value & 1)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		return hello_next(h, HELLO_METHODS, 1, value);
	case HELLO_METHODS:
		if (!value || value > h->body)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		if (value == h->body) /* a client of before there were extensions: it asks for no name */
			return hello_next(h, HELLO_WHOLE, 0, value);
		return hello_next(h, HELLO_EXTENSIONS, 2, value);
	default: /* HELLO_EXTENSIONS */
		if (value != h->body)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		return hello_extension(h);
	}
}

/* The type of an extension is known. One that counts and is there twice is refused. */
static __always_inline int hello_type(struct hello *h, __u32 type)
{
	if (type == HELLO_EXT_NAME) {
		if (h->flags & HELLO_NAMED)
			return hello_bad(h, HELLO_FLAW_NAME);
		h->flags |= HELLO_NAMED;
		return hello_next(h, HELLO_NAME_SIZE, 2, 0);
	}
	if (type == HELLO_EXT_ALPN) {
		if (h->flags & HELLO_ALPN)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		h->flags |= HELLO_ALPN;
		return hello_next(h, HELLO_ALPN_SIZE, 2, 0);
	}
	if (type == HELLO_EXT_EARLY)
		return hello_bad(h, HELLO_FLAW_EARLY);
	if (type == HELLO_EXT_ENCRYPTED)
		h->flags |= HELLO_ENCRYPTED;
	return hello_next(h, HELLO_SIZE, 2, 0);
}

/* A number in the extension with the name is whole. There is one name, of a host, and nothing else. */
static __always_inline int hello_names(struct hello *h, __u32 value)
{
	switch (h->state) {
	case HELLO_NAME_SIZE:
		if (value > h->body)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		h->left = value;
		return hello_next(h, HELLO_NAMES, 2, 0);
	case HELLO_NAMES:
		if (value + 2 != h->left)
			return hello_bad(h, HELLO_FLAW_NAME);
		return hello_next(h, HELLO_NAME_TYPE, 1, 0);
	case HELLO_NAME_TYPE:
		if (value)
			return hello_bad(h, HELLO_FLAW_NAME);
		return hello_next(h, HELLO_NAME_LENGTH, 2, 0);
	default: /* HELLO_NAME_LENGTH */
		if (!value || value >= HELLO_NAME || value + 5 != h->left)
			return hello_bad(h, HELLO_FLAW_NAME);
		h->part = value;
		h->len = 0;
		return hello_next(h, HELLO_NAME_TEXT, 0, 0);
	}
}

/* A number in the extension with the protocols is whole. */
static __always_inline int hello_protocols(struct hello *h, __u32 value)
{
	switch (h->state) {
	case HELLO_ALPN_SIZE:
		if (value > h->body || value < 4)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		h->left = value;
		return hello_next(h, HELLO_PROTOCOLS, 2, 0);
	case HELLO_PROTOCOLS:
		if (value + 2 != h->left)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		h->left = value;
		return hello_next(h, HELLO_PROTOCOL_LENGTH, 1, 0);
	default: /* HELLO_PROTOCOL_LENGTH */
		if (!value || value + 1 > h->left)
			return hello_bad(h, HELLO_FLAW_MESSAGE);
		h->left -= value + 1;
		h->part = value;
		h->word = 0;
		return hello_next(h, HELLO_PROTOCOL, 0, 0);
	}
}

static __always_inline int hello_number(struct hello *h, __u32 value)
{
	if (h->state <= HELLO_EXTENSIONS)
		return hello_front(h, value);
	if (h->state == HELLO_TYPE)
		return hello_type(h, value);
	if (h->state == HELLO_SIZE)
		return hello_pass(h, value);
	if (h->state <= HELLO_NAME_LENGTH)
		return hello_names(h, value);
	return hello_protocols(h, value);
}

/* RFC 6066: a name of a host, so no address and no dot behind it; letters, digits, - and _, which is used. */
static __always_inline int hello_name(struct hello *h, __u32 c)
{
	c = http1_lower(c);
	if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
		return hello_bad(h, HELLO_FLAW_NAME);
	if (c == '.' && (!h->len || h->part == 1 || h->name[(h->len - 1) & (HELLO_NAME - 1)] == '.'))
		return hello_bad(h, HELLO_FLAW_NAME);
	if (h->flags & HELLO_SECOND && h->name[h->len & (HELLO_NAME - 1)] != c)
		return hello_bad(h, HELLO_FLAW_NAME);
	h->name[h->len & (HELLO_NAME - 1)] = c;
	h->len++;
	if (--h->part)
		return HELLO_MORE;
	if (h->flags & HELLO_SECOND && h->name[h->len & (HELLO_NAME - 1)])
		return hello_bad(h, HELLO_FLAW_NAME); /* the first one goes on */
	h->name[h->len & (HELLO_NAME - 1)] = 0;
	return hello_extension(h);
}

/* One byte of a protocol's name. */
static __always_inline int hello_protocol(struct hello *h, __u32 c)
{
	if (h->word >> 56)
		h->word = ~0ULL; /* longer than any that counts */
	else
		h->word = h->word << 8 | c;
	if (--h->part)
		return HELLO_MORE;
	if (h->word == ('h' << 8 | '2'))
		h->flags |= HELLO_HTTP2;
	else if (h->word == 0x687474702f312e31ULL || h->word == 0x687474702f312e30ULL)
		h->flags |= HELLO_HTTP1; /* http/1.1, http/1.0 */
	else
		h->flags |= HELLO_OTHER;
	if (h->left)
		return hello_next(h, HELLO_PROTOCOL_LENGTH, 1, 0);
	return hello_extension(h);
}

/* The message must not end where something is still to come. */
static __always_inline int hello_ends(struct hello *h, int event)
{
	if (event == HELLO_MORE && !h->body && h->state > HELLO_LENGTH)
		return hello_bad(h, HELLO_FLAW_MESSAGE);
	return event;
}

/* One byte of the message. */
static __always_inline int hello_byte(struct hello *h, __u32 c)
{
	h->record--;
	if (h->state > HELLO_LENGTH)
		h->body--;
	if (h->state == HELLO_NAME_TEXT)
		return hello_name(h, c);
	if (h->state == HELLO_PROTOCOL)
		return hello_protocol(h, c);
	h->value = h->value << 8 | c;
	if (--h->need)
		return HELLO_MORE;
	return hello_number(h, h->value);
}

/* Passes over what nobody looks at, as far as it is here. */
static __always_inline int hello_skip(struct hello *h, struct http1_room *room)
{
	__u32 n = h->skip, here = room->len - room->pos;

	if (n > here)
		n = here;
	if (n > h->record)
		n = h->record;
	if (n > h->body)
		return hello_bad(h, HELLO_FLAW_MESSAGE);
	room->pos += n;
	h->record -= n;
	h->body -= n;
	h->skip -= n;
	return h->skip || h->state != HELLO_WHOLE ? HELLO_MORE : HELLO_DONE;
}

struct hello_at {
	struct hello *h;
	struct http1_room *room;
};

static long hello_step(__u32 index, void *data)
{
	struct hello *h = ((struct hello_at *)data)->h;
	struct http1_room *room = ((struct hello_at *)data)->room;
	__u32 pos = room->pos;

	if (pos >= room->len)
		return 1;
	if (h->record && h->skip) {
		room->event = hello_ends(h, hello_skip(h, room));
		return room->event != HELLO_MORE;
	}
	room->pos = pos + 1;
	if (h->record)
		room->event = hello_ends(h, hello_byte(h, room->chunk[pos & (HTTP1_TEXT - 1)]));
	else
		room->event = hello_record(h, room->chunk[pos & (HTTP1_TEXT - 1)]);
	return room->event != HELLO_MORE;
}

/* Reads on in the chunk, from room->pos. Returns an enum hello_event; DONE and BAD stay what they are. */
PARSE_GLOBAL int hello_feed(struct hello *h, struct http1_room *room)
{
	struct hello_at at = {.h = h, .room = room};

	if (!h || !room || h->state == HELLO_BROKEN)
		return HELLO_BAD;
	room->event = HELLO_MORE;
	if (h->state == HELLO_WHOLE && !h->skip)
		return HELLO_DONE;
	parse_loop(HTTP1_CHUNK + 1, hello_step, &at);
	return room->event;
}

/* Sets a parser up for the first byte of a connection. */
static __always_inline void hello_begin(struct hello *h)
{
	__builtin_memset(h, 0, sizeof(*h));
	h->need = 1;
}
