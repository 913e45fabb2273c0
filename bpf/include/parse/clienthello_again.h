/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What a TLS client sends behind its ClientHello, as long as that may be a second one, because the server wants another key
 * (HelloRetryRequest; RFC 8446, 4.1.2 and 4.1.4). Servers take the name from the second, so that it must be that of the first.
 * Between the two there is nothing but ChangeCipherSpec. A record of anything else says that there will be none: data and
 * alerts are encrypted by then, and TLS 1.2 goes on with another message.
 */
#include <parse/clienthello.h>

/* A second ClientHello begins, whose first byte was read. */
static __always_inline int hello_again(struct hello *h)
{
	h->flags = HELLO_SECOND | (h->flags & HELLO_NAMED ? HELLO_NAMED_FIRST : 0);
	h->body = 0;
	h->left = h->part = h->len = 0;
	h->header = 0;
	return hello_next(h, HELLO_LENGTH, 3, 0);
}

/* One byte behind the first message: a record in which another may come, or none will. */
static __always_inline int hello_behind(struct hello *h, __u32 c)
{
	__u32 at = h->header;

	if (at == HELLO_RECORD_HEADER) {
		h->record--;
		if (h->kind == HELLO_RECORD_TYPE)
			return c == HELLO_MESSAGE_TYPE ? hello_again(h) : HELLO_OVER;
		if (!h->record)
			h->header = 0;
		return HELLO_MORE;
	}
	h->header = at + 1;
	if (at == 0) {
		h->kind = c;
		return c == HELLO_RECORD_TYPE || c == HELLO_RECORD_CHANGE ? HELLO_MORE : HELLO_OVER;
	}
	if (at == 3)
		h->high = c;
	if (at < HELLO_RECORD_HEADER - 1)
		return HELLO_MORE;
	h->record = (__u32)h->high << 8 | c;
	if (!h->record || h->record > HELLO_RECORD_MAX || ++h->seen > HELLO_RECORDS)
		return hello_bad(h, HELLO_FLAW_RECORD);
	return HELLO_MORE;
}

static long hello_behind_step(__u32 index, void *data)
{
	struct hello *h = ((struct hello_at *)data)->h;
	struct http1_room *room = ((struct hello_at *)data)->room;
	__u32 pos = room->pos;

	if (pos >= room->len)
		return 1;
	room->pos = pos + 1;
	room->event = hello_behind(h, room->chunk[pos & (HTTP1_TEXT - 1)]);
	return room->event != HELLO_MORE || h->state != HELLO_WHOLE;
}

/*
 * Reads on behind a message that is whole, as hello_feed() does. Returns HELLO_MORE, also where a second message begins, which
 * is hello_feed()'s, HELLO_BAD, or HELLO_OVER.
 */
PARSE_GLOBAL int hello_follow(struct hello *h, struct http1_room *room)
{
	struct hello_at at = {.h = h, .room = room};

	if (!h || !room || h->state != HELLO_WHOLE)
		return HELLO_BAD;
	if (h->flags & HELLO_SECOND) {
		if (h->flags & HELLO_NAMED_FIRST && !(h->flags & HELLO_NAMED))
			return hello_bad(h, HELLO_FLAW_NAME);
		return HELLO_OVER;
	}
	if (h->record && h->header < HELLO_RECORD_HEADER)
		return hello_bad(h, HELLO_FLAW_MESSAGE); /* another message in its record */
	room->event = HELLO_MORE;
	parse_loop(HTTP1_CHUNK + 1, hello_behind_step, &at);
	return room->event;
}
