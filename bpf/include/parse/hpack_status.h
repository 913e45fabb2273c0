/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * HPACK (RFC 7541), of all that a server says its statuses alone, byte by byte and resumable at any of them. The table is
 * kept without its text: of an entry how long its name and its value are, so that it leaves when it has to, or the status
 * that it is. A table larger than the one nobody has asked to change cannot be followed.
 */
#include <abi/response.h>
#include <parse/hpack_table.h>

enum h2_status_entry {
	H2_STATUS_IS = 1U << 31, /* an entry, of the static table too: behind it the code */
	H2_STATUS_NAME = 7,   /* bytes of ":status" */
	H2_STATUS_VALUE = 3,  /* digits of a status */
	H2_STATUS_LEAST = 100,
	H2_STATUS_MOST = 599,
	H2_STATUS_FIRST = 8,  /* entry of the static table with that name, and how many there are */
	H2_STATUS_STATIC = 7,
};

static const __u8 h2_status_name[8] = ":status";
static const __u16 h2_status_static[8] = {200, 204, 206, 304, 400, 404, 500};

static __always_inline void h2_status_lose(struct h2_status *s)
{
	s->lost = 1;
}

static __always_inline __u32 h2_status_size(__u32 entry)
{
	if (entry & H2_STATUS_IS)
		return H2_STATUS_NAME + H2_STATUS_VALUE + HPACK_OVERHEAD;
	return (entry >> 12 & 0xfff) + (entry & 0xfff) + HPACK_OVERHEAD;
}

struct h2_status_eviction {
	struct h2_status *s;
	__u64 size; /* bytes that the table may have */
};

/* Drops the oldest entry while there is more than may stay. */
static long h2_status_evict_one(__u32 index, void *data)
{
	struct h2_status_eviction *eviction = data;
	struct h2_status *s = eviction->s;

	if (s->size <= eviction->size || !s->count)
		return 1;
	s->size -= h2_status_size(s->entry[(s->newest - s->count + 1) & (H2_STATUS_ENTRIES - 1)]);
	s->count--;
	return 0;
}

/* Makes the table no larger than size bytes. */
static __always_inline void h2_status_evict(struct h2_status *s, __u32 size)
{
	struct h2_status_eviction eviction = {s, size};

	if (s->size > size)
		parse_loop(H2_STATUS_ENTRIES, h2_status_evict_one, &eviction);
}

/* The field becomes an entry, unless it is larger than the table: then that is empty (RFC 7541, 4.4). */
static __always_inline void h2_status_add(struct h2_status *s)
{
	__u32 size = s->name + s->value + HPACK_OVERHEAD;
	__u32 entry = s->is_status ? H2_STATUS_IS | s->digits : (s->name & 0xfff) << 12 | (s->value & 0xfff);

	h2_status_evict(s, size > s->limit ? 0 : s->limit - size);
	if (size > s->limit)
		return;
	s->newest = (s->newest + 1) & (H2_STATUS_ENTRIES - 1);
	s->entry[s->newest & (H2_STATUS_ENTRIES - 1)] = entry;
	s->size += size;
	s->count++;
}

/* A field is complete. */
static __always_inline void h2_status_field(struct h2_status *s)
{
	s->state = HPACK_FIELD;
	if (s->is_status && (s->value != H2_STATUS_VALUE || s->digits < H2_STATUS_LEAST || s->digits > H2_STATUS_MOST)) {
		h2_status_lose(s);
		return;
	}
	if (s->is_status && !s->code)
		s->code = s->digits;
	if (s->keep)
		h2_status_add(s);
}

/* The entry of the static table, as those of the other are kept. */
static __always_inline __u32 h2_status_entry_static(__u32 index)
{
	const struct hpack_static *entry = &hpack_static[index & 63];

	if (index - H2_STATUS_FIRST < H2_STATUS_STATIC)
		return H2_STATUS_IS | h2_status_static[(index - H2_STATUS_FIRST) & 7];
	return (__u32)entry->name << 12 | entry->value;
}

/* A literal's name, or a whole field, is that of an entry. */
static __always_inline void h2_status_entry(struct h2_status *s)
{
	__u32 index = s->number, entry;

	if (index <= HPACK_STATIC) {
		entry = h2_status_entry_static(index);
	} else if (index - (HPACK_STATIC + 1) < s->count) {
		index -= HPACK_STATIC + 1;
		entry = s->entry[(s->newest - index) & (H2_STATUS_ENTRIES - 1)];
	} else {
		h2_status_lose(s);
		return;
	}
	s->is_status = entry >> 31;
	s->name = s->is_status ? H2_STATUS_NAME : entry >> 12 & 0xfff;
	s->value = s->digits = 0;
	s->part = HPACK_VALUE;
	s->state = HPACK_LENGTH;
	if (s->what != HPACK_INDEXED)
		return;
	s->value = s->is_status ? H2_STATUS_VALUE : entry & 0xfff;
	s->digits = s->is_status ? entry & 0xfff : 0;
	h2_status_field(s);
}

/* The name, or the value, is complete. */
static __always_inline void h2_status_text_end(struct h2_status *s)
{
	if (s->coded && !s->may_end)
		h2_status_lose(s);
	if (s->part == HPACK_VALUE) {
		h2_status_field(s);
		return;
	}
	s->is_status &= s->name == H2_STATUS_NAME;
	s->part = HPACK_VALUE;
	s->state = HPACK_LENGTH;
}

/* A string begins. */
static __always_inline void h2_status_string(struct h2_status *s)
{
	s->string = s->number;
	s->huffman = 0;
	s->may_end = 1;
	s->state = HPACK_TEXT;
	if (!s->string)
		h2_status_text_end(s);
}

/* An integer has been read. */
static __always_inline void h2_status_number(struct h2_status *s)
{
	if (s->what == HPACK_BYTES) {
		h2_status_string(s);
	} else if (s->what == HPACK_SIZE) {
		s->state = HPACK_FIELD;
		s->limit = s->number;
		if (s->number > HPACK_RING) /* more than is kept here: open, nothing more is told */
			h2_status_lose(s);
		h2_status_evict(s, s->number);
	} else if (s->number) {
		h2_status_entry(s);
	} else if (s->what == HPACK_INDEXED) {
		h2_status_lose(s);
	} else {
		s->is_status = 1;
		s->part = HPACK_NAME;
		s->state = HPACK_LENGTH;
	}
}

/* The first byte of an integer, which has its bits in mask (RFC 7541, 5.1). Returns 1: it is all of it. */
static __always_inline int h2_status_prefix(struct h2_status *s, __u32 c, __u32 mask)
{
	s->number = c & mask;
	s->shift = 0;
	s->state = HPACK_NUMBER;
	return s->number != mask;
}

/* Any other byte of it. */
static __always_inline int h2_status_more(struct h2_status *s, __u32 c)
{
	if (s->shift > HPACK_SHIFT) {
		h2_status_lose(s);
		return 0;
	}
	s->number += (c & 0x7f) << (s->shift & 31);
	s->shift += 7;
	return !(c & 0x80);
}

/* The first byte of a field (RFC 7541, 6), or of a change of the table's size. */
static __always_inline int h2_status_first(struct h2_status *s, __u32 c)
{
	s->keep = !(c & 0x80) && c & 0x40;
	s->name = s->value = s->digits = 0;
	s->what = HPACK_NAME_OF;
	if (c & 0x80) {
		s->what = HPACK_INDEXED;
		return h2_status_prefix(s, c, 0x7f);
	}
	if (c & 0x40)
		return h2_status_prefix(s, c, 0x3f);
	if (!(c & 0x20))
		return h2_status_prefix(s, c, 0x0f); /* a literal that becomes no entry */
	s->what = HPACK_SIZE;
	return h2_status_prefix(s, c, 0x1f);
}

/* A byte of text. */
static __always_inline void h2_status_text(struct h2_status *s, __u32 c)
{
	if (s->part == HPACK_NAME) {
		if (c != h2_status_name[s->name & 7])
			s->is_status = 0;
		s->name++;
		return;
	}
	if (s->is_status && (c < '0' || c > '9' || s->value >= H2_STATUS_VALUE))
		h2_status_lose(s);
	else if (s->is_status)
		s->digits = s->digits * 10 + (c - '0');
	s->value++;
}

/* A byte in the Huffman code: none, one or two symbols. */
static __always_inline void h2_status_decode(struct h2_status *s, __u32 c)
{
	__u32 first = hpack_cell(s->huffman, c >> 4);
	__u32 second = hpack_cell(first, c);

	s->huffman = second;
	s->may_end = !!(second & HPACK_PAD);
	if ((first | second) & HPACK_EOS)
		h2_status_lose(s);
	if (first & HPACK_EMIT)
		h2_status_text(s, first >> 8 & 0xff);
	if (second & HPACK_EMIT)
		h2_status_text(s, second >> 8 & 0xff);
}

/* A byte of a head's block. */
static __always_inline void h2_status_block(struct h2_status *s, __u32 c)
{
	int complete;

	if (s->state == HPACK_TEXT) {
		s->string--;
		if (s->coded)
			h2_status_decode(s, c);
		else
			h2_status_text(s, c);
		if (!s->string)
			h2_status_text_end(s);
		return;
	}
	if (s->state == HPACK_FIELD) {
		complete = h2_status_first(s, c);
	} else if (s->state == HPACK_LENGTH) {
		s->coded = c >> 7;
		s->what = HPACK_BYTES;
		complete = h2_status_prefix(s, c, 0x7f);
	} else {
		complete = h2_status_more(s, c);
	}
	if (complete)
		h2_status_number(s);
}
