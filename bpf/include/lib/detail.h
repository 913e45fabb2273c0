/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What of a request is told only where the configuration asks for it: its query, and headers that are named. Nothing is
 * decided by it, and nothing of it is kept with a connection: of a head that comes in several packets or writes it is not
 * told, which is said. So it costs nothing where nobody asks.
 */
#include <abi/event.h>
#include <abi/state.h>
#include <maps/detail.h>
#include <parse/http1_state.h>

enum detail_room {
	CONTROL_TELL_DETAIL = CONTROL_TELL_QUERY | CONTROL_TELL_HEADERS,
	DETAIL_LINE = 256, /* bytes of a header that is being read: more than a name and the value that is kept of it */
};

/* Of the head that is being read. Bits: 1 the query, 2 << i a header. */
struct detail {
	__u32 there; /* bits of what the head has */
	__u32 cut;   /* bits of what is not whole */
	__u32 lost;  /* 1: it began before what is read */
	__u32 line_len;
	__u16 len[8];
	__u8 query[EV_TEXT];
	__u8 value[NAMED_HEADERS][HEADER_VALUE];
	__u8 line[DETAIL_LINE] __attribute__((aligned(8)));
	__u8 spare[DETAIL_LINE]; /* never written: 6.1 does not see where text ends */
};

/* One for each of request_rooms. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REQUEST_ROOMS);
	__type(key, __u32);
	__type(value, struct detail);
} request_details SEC(".maps");

/* What comes next in a room is a new head, or (lost) more of one. Global: what calls it has one way on. */
__noinline int detail_forget(__u32 place, __u32 flags, int lost)
{
	struct detail *d;

	if (!(flags & CONTROL_TELL_DETAIL))
		return 0;
	d = bpf_map_lookup_elem(&request_details, &place);
	if (!d)
		return 0; /* who reads has no such place: nothing is told of it */
	d->there = d->line_len = 0;
	d->lost = lost;
	d->cut = lost ? ~0U : 0;
	__builtin_memset(d->len, 0, sizeof(d->len));
	return 0;
}

/* Appends text at *len, up to 256 bytes. Returns 0 where there is no room for all of it. */
static __always_inline int detail_put(__u8 *to, __u32 at, const struct http1_room *text)
{
	__u32 n = text->text_len, all = 1;

	if (at >= HTTP1_TEXT)
		return !n;
	if (n > HTTP1_TEXT - at) {
		n = HTTP1_TEXT - at;
		all = 0;
	}
	if (!n)
		return 1;
	n--;
	PARSE_OPAQUE(n); /* 6.1 wants to see its bound here */
	PARSE_OPAQUE(at);
	bpf_probe_read_kernel(to + (at & (HTTP1_TEXT - 1)), (n & (HTTP1_TEXT - 1)) + 1, text->text);
	return all;
}

/* What is there of a text behind n more bytes. */
static __always_inline __u32 detail_len(__u32 at, __u32 n)
{
	return at + n < HTTP1_TEXT ? at + n : HTTP1_TEXT;
}

/* The value of the i-th header, behind skip bytes of its line. Of one that is there twice the first is kept. */
static __always_inline void detail_value(struct detail *d, __u32 i, __u32 skip)
{
	__u32 n = d->line_len - skip, bit;

	PARSE_OPAQUE(i);
	i &= NAMED_HEADERS - 1;
	bit = 2 << i;
	if (d->there & bit || n > HEADER_VALUE)
		d->cut |= bit;
	if (d->there & bit)
		return;
	d->there |= bit;
	if (n > HEADER_VALUE)
		n = HEADER_VALUE;
	d->len[1 + i] = n;
	if (!n)
		return;
	n--;
	PARSE_OPAQUE(n);
	PARSE_OPAQUE(skip);
	bpf_probe_read_kernel(d->value[i], (n & (HEADER_VALUE - 1)) + 1, d->line + (skip & 63));
}

/*
 * A header is whole. What a former one has left in line behind this one is no matter: no name that is longer than this
 * one's has a colon in the place of its.
 */
static __always_inline void detail_header(struct detail *d)
{
	const __u64 *line = (const __u64 *)d->line;
	struct header_names *names;
	__u32 zero = 0, found = NAMED_HEADERS, skip = 0, i, j;

	names = bpf_map_lookup_elem(&told_headers, &zero);
	if (!names)
		return;
	for (i = 0; i < NAMED_HEADERS; i++) {
		const struct header_name *name = &names->name[i];
		__u64 differs = !name->len;

		for (j = 0; j < HEADER_NAME / 8; j++)
			differs |= (line[j] & name->mask[j]) ^ name->word[j];
		if (differs)
			continue;
		found = i;
		skip = name->len;
	}
	PARSE_OPAQUE(found); /* one way for all names */
	if (found < NAMED_HEADERS && d->line_len >= skip)
		detail_value(d, found, skip);
}

/* Keeps what is told of the text of a part. Global: its stack is its own. */
__noinline int detail_note(const struct http1_room *text, __u32 place, __u32 part, __u32 whole)
{
	struct detail *d = bpf_map_lookup_elem(&request_details, &place);

	if (!text || !d || d->lost)
		return 0;
	if (part == HTTP1_PART_QUERY) {
		d->there |= 1;
		if (!detail_put(d->query, d->len[0], text))
			d->cut |= 1;
		d->len[0] = detail_len(d->len[0], text->text_len);
		return 0;
	}
	if (part == HTTP1_PART_LINE) {
		detail_put(d->line, d->line_len, text);
		d->line_len = detail_len(d->line_len, text->text_len);
		if (whole)
			detail_header(d);
	}
	if (whole)
		d->line_len = 0; /* also of what was the host's line */
	return 0;
}
