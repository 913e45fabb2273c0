/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * HPACK (RFC 7541), the decoder of one direction of a connection, byte by byte and resumable at any of
 * them. What it decodes goes, name byte by name byte and value byte by value byte, to who includes
 * this. Whatever the RFC calls a decoding error is one, and so is what exceeds the bounds below.
 *
 * One step does one thing: it takes a byte of the block, or hands on a byte of text that is due, or ends
 * a name or a value. So each part is there once and in one loop, which is what the verifier can follow,
 * and what bounds the work.
 */
#include <parse/hpack_table.h>

/* Defined by who includes this: a byte of a name or a value, the end of a name, the end of a field. */
static void hpack_text(struct hpack *h, __u8 c);
static void hpack_named(struct hpack *h);
static void hpack_field(struct hpack *h);

/* The name, or the value, is complete. */
static __always_inline void hpack_end_text(struct hpack *h)
{
	h->ended = 0;
	if (h->part == HPACK_NAME) {
		hpack_named(h);
		h->part = HPACK_VALUE;
		if (h->whole)
			hpack_due(h);
		else
			h->state = HPACK_LENGTH;
		return;
	}
	hpack_field(h);
	if (h->keep)
		hpack_add(h);
	h->state = HPACK_FIELD;
}

/* The table's size was changed. */
static __always_inline void hpack_resize(struct hpack *h)
{
	h->state = HPACK_FIELD;
	if (h->fields || h->updates++ >= HPACK_UPDATES) {
		hpack_fail(h, HPACK_BAD_UPDATE);
	} else if (h->number > HPACK_RING) { /* more than is kept here: closed */
		hpack_fail(h, HPACK_BAD_SIZE);
	} else {
		h->limit = h->number;
		hpack_evict(h, h->number);
	}
}

/* A literal's name, or a whole field, is that of an entry; or the literal's name follows. */
static __always_inline void hpack_name(struct hpack *h)
{
	h->part = HPACK_NAME;
	h->whole = h->what == HPACK_INDEXED;
	h->source = h->number;
	if (h->number)
		hpack_due(h);
	else if (h->whole)
		hpack_fail(h, HPACK_BAD_INDEX);
	else
		h->state = HPACK_LENGTH;
}

/* A string begins. */
static __always_inline void hpack_string(struct hpack *h)
{
	h->left = h->number;
	h->code = 0;
	h->may_end = 1;
	h->ended = !h->left;
	h->state = HPACK_TEXT;
}

/* An integer has been read. */
static __always_inline void hpack_number(struct hpack *h)
{
	if (h->what == HPACK_SIZE)
		hpack_resize(h);
	else if (h->number > HPACK_HEAD)
		hpack_fail(h, h->what == HPACK_BYTES ? HPACK_TOO_LONG : HPACK_BAD_INDEX);
	else if (h->what == HPACK_BYTES)
		hpack_string(h);
	else
		hpack_name(h);
}

/* The first byte of an integer, which has its bits in mask (RFC 7541, 5.1). Returns 1: it is all of it. */
static __always_inline int hpack_prefix(struct hpack *h, __u32 c, __u32 mask)
{
	h->number = c & mask;
	h->shift = 0;
	h->state = HPACK_NUMBER;
	return h->number != mask;
}

/* Any other byte of it. */
static __always_inline int hpack_more(struct hpack *h, __u32 c)
{
	if (h->shift > HPACK_SHIFT) {
		hpack_fail(h, HPACK_BAD_INTEGER);
		return 0;
	}
	h->number += (c & 0x7f) << (h->shift & 31);
	h->shift += 7;
	return !(c & 0x80);
}

/* The first byte of a field (RFC 7541, 6), or of a change of the table's size. */
static __always_inline int hpack_first(struct hpack *h, __u32 c)
{
	__u32 mask = 0x0f; /* a literal that becomes no entry */

	h->keep = 0;
	h->name = h->value = 0;
	h->what = HPACK_NAME_OF;
	if (c & 0x80) {
		mask = 0x7f;
		h->what = HPACK_INDEXED;
	} else if (c & 0x40) {
		mask = 0x3f;
		h->keep = 1;
	} else if (c & 0x20) {
		h->what = HPACK_SIZE;
		return hpack_prefix(h, c, 0x1f);
	}
	if (h->fields++ >= HPACK_FIELDS)
		hpack_fail(h, HPACK_TOO_LONG);
	return hpack_prefix(h, c, mask);
}

/* The first byte of a string's length. */
static __always_inline int hpack_length(struct hpack *h, __u32 c)
{
	h->coded = c >> 7;
	h->what = HPACK_BYTES;
	return hpack_prefix(h, c, 0x7f);
}

/* A byte of a block that belongs to no string. */
static __always_inline void hpack_control(struct hpack *h, __u32 c)
{
	int complete;

	if (h->state == HPACK_FIELD)
		complete = hpack_first(h, c);
	else if (h->state == HPACK_LENGTH)
		complete = hpack_length(h, c);
	else
		complete = hpack_more(h, c);
	if (complete && !h->error)
		hpack_number(h);
}

enum { HPACK_NOTHING = 256 }; /* beside the bytes that text can have */

/* A byte in the Huffman code: none, one or two symbols. Returns the first. */
static __always_inline __u32 hpack_decode(struct hpack *h, __u32 c)
{
	__u32 first = hpack_cell(h->code, c >> 4);
	__u32 second = hpack_cell(first, c);

	h->code = second;
	h->may_end = !!(second & HPACK_PAD);
	h->symbol = second >> 8;
	if ((first | second) & HPACK_EOS)
		hpack_fail(h, HPACK_BAD_HUFFMAN);
	if (first & HPACK_EMIT) {
		h->second = !!(second & HPACK_EMIT);
		return first >> 8 & 0xff;
	}
	return second & HPACK_EMIT ? second >> 8 & 0xff : HPACK_NOTHING;
}

/* A byte of a string. Returns the byte of text that it makes, or HPACK_NOTHING. */
static __always_inline __u32 hpack_raw(struct hpack *h, __u32 c)
{
	h->left--;
	if (h->coded) {
		c = hpack_decode(h, c);
		if (!h->left && !h->may_end)
			hpack_fail(h, HPACK_BAD_HUFFMAN);
	}
	h->ended = !h->left && !h->second;
	return c;
}

/* The next byte of what is due. */
static __always_inline __u32 hpack_give(struct hpack *h)
{
	__u32 from = h->from;

	if (h->second) {
		h->second = 0;
		h->ended = !h->left;
		return h->symbol;
	}
	h->from++;
	h->due--;
	h->ended = !h->due;
	return h->due_static ? hpack_static_text[from & (HPACK_STATIC_TEXT - 1)] : h->ring[from & (HPACK_RING - 1)];
}

/* A byte of a name or a value. */
static __always_inline void hpack_emit(struct hpack *h, __u8 c)
{
	if (!h->budget) {
		hpack_fail(h, HPACK_TOO_LONG);
		return;
	}
	h->budget--;
	if (h->keep) {
		h->ring[(h->write + h->name + h->value) & (HPACK_RING - 1)] = c;
		h->wrote += h->wrote < HPACK_RING;
	}
	if (h->part == HPACK_NAME)
		h->name++;
	else
		h->value++;
	hpack_text(h, c);
}

/* One step. c is the next byte of the block, and is not looked at when hpack_is_due(). */
static __always_inline void hpack_step(struct hpack *h, __u8 c)
{
	__u32 text = HPACK_NOTHING;

	if (h->due || h->second)
		text = hpack_give(h);
	else if (h->ended)
		hpack_end_text(h);
	else if (h->state == HPACK_TEXT)
		text = hpack_raw(h, c);
	else
		hpack_control(h, c);
	if (text != HPACK_NOTHING && !h->error)
		hpack_emit(h, text);
}

/* The block's last byte was taken, and nothing is due. */
static __always_inline void hpack_end(struct hpack *h)
{
	if (h->state != HPACK_FIELD && !h->error)
		hpack_fail(h, HPACK_CUT);
}
