/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * The state of an HPACK decoder (RFC 7541), and its table.
 *
 * The table holds names and values as text and knows nothing of rules: a change of policy leaves it
 * right. Its text is a ring: entries leave in the order in which they came. A value that is longer
 * than what is free overwrites the oldest entries while it comes in; those would have to go for it anyway.
 */
#include <parse/hpack_static.h>
#include <parse/input.h>

enum hpack_limits {
	HPACK_RING = 4096,    /* bytes of text: the size of the table nobody has asked to change (RFC 9113, 6.5.2) */
	HPACK_OVERHEAD = 32,  /* of an entry (RFC 7541, 4.1) */
	HPACK_ENTRIES = 128,  /* HPACK_RING / HPACK_OVERHEAD */
	HPACK_HEAD = 8192,    /* bytes of names and values of one block: a table makes much of little */
	HPACK_FIELDS = 256,   /* of one block: empty ones cost too */
	HPACK_SHIFT = 14,     /* of the last byte of an integer: 21 bits, which is more than any bound here */
	HPACK_UPDATES = 2,    /* of the table's size, before the first field (RFC 7541, 4.2) */
};

/* What the next byte of a block is. */
enum hpack_state {
	HPACK_FIELD,  /* the first of a field */
	HPACK_NUMBER, /* more of an integer */
	HPACK_LENGTH, /* the first of a string's length */
	HPACK_TEXT,   /* of a string */
};

/* What an integer is. */
enum hpack_number {
	HPACK_INDEXED,
	HPACK_NAME_OF,	/* of the entry whose name a literal takes; 0: the name follows */
	HPACK_SIZE,
	HPACK_BYTES,	/* of a string */
};

enum hpack_part {
	HPACK_NAME,
	HPACK_VALUE,
};

enum hpack_error {
	HPACK_OK,
	HPACK_BAD_INTEGER,
	HPACK_BAD_INDEX,
	HPACK_BAD_HUFFMAN,
	HPACK_BAD_SIZE,
	HPACK_BAD_UPDATE, /* of the table's size, behind a field or once too often */
	HPACK_TOO_LONG,
	HPACK_CUT,	  /* the block ends inside of a field */
};

struct hpack_entry {
	__u16 at;    /* in the ring, where its name begins; its value follows */
	__u16 name;  /* bytes */
	__u16 value; /* bytes */
};

struct hpack {
	__u32 number;
	__u32 left;    /* bytes of the string still to come, coded as they are */
	__u16 budget;  /* bytes of text that the block may still make */
	__u16 fields;  /* of the block, so far */
	__u16 limit;   /* of the table, as the encoder has set it */
	__u16 size;    /* of the table (RFC 7541, 4.1) */
	__u16 write;   /* in the ring, behind the newest entry */
	__u16 name;    /* bytes of the field being decoded */
	__u16 value;
	__u16 from;    /* where due text lies, in the ring or the static text */
	__u16 due;     /* bytes of it */
	__u16 source;  /* the entry that it is taken from, as its number in the tables */
	__u16 wrote;   /* bytes written to the ring since who reads made it 0; HPACK_RING: or more */
	__u8 due_static; /* 1: it lies in the static text */
	__u8 whole;    /* 1: the field is an entry, and its value will be due behind its name */
	__u8 ended;    /* 1: the name, or the value, is complete */
	__u8 state;    /* enum hpack_state */
	__u8 what;     /* enum hpack_number */
	__u8 shift;
	__u8 part;     /* enum hpack_part of the text being decoded */
	__u8 coded;    /* 1: the string is in the Huffman code */
	__u8 code;     /* state of that machine */
	__u8 may_end;  /* 1: it may end here */
	__u8 second;   /* 1: the last byte of the string coded two symbols; the other is symbol */
	__u8 symbol;
	__u8 keep;     /* 1: the field becomes an entry */
	__u8 updates;
	__u8 newest;   /* entry */
	__u8 count;    /* of entries */
	__u8 error;    /* enum hpack_error */
	__u8 pad[1];
	struct hpack_entry entry[HPACK_ENTRIES];
	__u8 ring[HPACK_RING];
};

/*
 * Whether a byte of the table as it was, or of the field that was being decoded, may have been overwritten since: what was
 * written has first the place that they left.
 */
static __always_inline int hpack_is_overwritten(const struct hpack *h, const struct hpack *was)
{
	__u32 text = was->size - was->count * HPACK_OVERHEAD + was->name + was->value;

	return h->wrote + text > HPACK_RING;
}

/* Where four bits lead from a state, of which the lower byte counts. */
static __always_inline __u32 hpack_cell(__u32 state, __u32 bits)
{
	__u32 at = (state & 0xff) << 4 | (bits & 0x0f);

	PARSE_OPAQUE(at); /* or the mask, which the verifier of 6.1 wants to see, would go */
	return hpack_huffman[at & (HPACK_CELLS - 1)];
}

static __always_inline void hpack_start(struct hpack *h)
{
	h->limit = HPACK_RING;
}

/* A block begins. */
static __always_inline void hpack_begin(struct hpack *h)
{
	h->budget = HPACK_HEAD;
	h->fields = 0;
	h->updates = 0;
	h->state = HPACK_FIELD;
}

/* Whether there is a step to make before another byte of the block is taken. */
static __always_inline int hpack_is_due(const struct hpack *h)
{
	return h->due || h->second || h->ended;
}

static __always_inline void hpack_fail(struct hpack *h, enum hpack_error error)
{
	h->error = error;
}

struct hpack_eviction {
	struct hpack *h;
	__u64 size; /* bytes that the table may have */
};

/* Drops the oldest entry while there is more than may stay. */
static long hpack_evict_one(__u32 index, void *data)
{
	struct hpack_eviction *eviction = data;
	struct hpack *h = eviction->h;
	const struct hpack_entry *oldest;

	if (h->size <= eviction->size || !h->count)
		return 1;
	oldest = &h->entry[(h->newest - h->count + 1) & (HPACK_ENTRIES - 1)];
	h->size -= oldest->name + oldest->value + HPACK_OVERHEAD;
	h->count--;
	return 0;
}

/* Makes the table no larger than size bytes. */
static __always_inline void hpack_evict(struct hpack *h, __u32 size)
{
	struct hpack_eviction eviction = {h, size};

	parse_loop(HPACK_ENTRIES, hpack_evict_one, &eviction);
}

/* The field becomes an entry, unless it is larger than the table: then that is empty (RFC 7541, 4.4). */
static __always_inline void hpack_add(struct hpack *h)
{
	__u32 size = h->name + h->value + HPACK_OVERHEAD;
	struct hpack_entry *entry;

	hpack_evict(h, size > h->limit ? 0 : h->limit - size);
	if (size > h->limit)
		return;
	h->newest = (h->newest + 1) & (HPACK_ENTRIES - 1);
	entry = &h->entry[h->newest & (HPACK_ENTRIES - 1)];
	entry->at = h->write;
	entry->name = h->name;
	entry->value = h->value;
	h->write = (h->write + h->name + h->value) & (HPACK_RING - 1);
	h->size += size;
	h->count++;
}

/* The name, or the value, of entry h->source is due. Fails when there is no such entry. */
static __always_inline void hpack_due(struct hpack *h)
{
	__u32 index = h->source, name, value;

	h->due_static = index <= HPACK_STATIC;
	if (h->due_static) {
		const struct hpack_static *entry = &hpack_static[index & 63];

		h->from = entry->at;
		name = entry->name;
		value = entry->value;
	} else {
		const struct hpack_entry *entry;

		index -= HPACK_STATIC + 1;
		if (index >= h->count) {
			hpack_fail(h, HPACK_BAD_INDEX);
			return;
		}
		entry = &h->entry[(h->newest - index) & (HPACK_ENTRIES - 1)];
		h->from = entry->at;
		name = entry->name;
		value = entry->value;
	}
	if (h->part == HPACK_VALUE)
		h->from += name;
	h->due = h->part == HPACK_NAME ? name : value;
	h->ended = !h->due;
}
