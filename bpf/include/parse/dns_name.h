/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Names in DNS messages (RFC 1035, 3.1 and 4.1.4). Compression leads only backwards; labels hold
 * neither dots nor zeros, which would make two names one.
 */
#include <parse/input.h>

enum dns_limits {
	DNS_HEADER = 12,
	DNS_NAME = 256,	      /* bytes of a name as text, without the last dot, NUL-padded */
	DNS_ROW = 512,	      /* DNS_NAME and a label more, a power of two */
	DNS_TEXT = 254,	      /* with the last dot */
	DNS_LABEL = 64,
	DNS_BYTES = 8,	      /* of a label, read in one step */
	DNS_POINTERS = 10,    /* followed in one name */
	DNS_STEPS = 160,      /* labels and pointers of one name */
	DNS_BUDGET = 16384,   /* of all names of a message: a short message can make long work */
	DNS_CNAMES = 16,      /* of an answer */
	DNS_RECORDS = 6000,   /* more than 64 KiB hold */
	DNS_TTL_MAX = 86400,  /* seconds; longer is taken for this */
};

enum dns_types {
	DNS_A = 1,
	DNS_CNAME = 5,
	DNS_AAAA = 28,
	DNS_IN = 1,
};

enum dns_header_bits {
	DNS_RESPONSE = 0x8000,
	DNS_OPCODE = 0x7800,
	DNS_RCODE = 0x000f,
	DNS_REFUSED = 5,
};

enum dns_kind {
	DNS_QUERY,
	DNS_ANSWER,
};

struct dns_cname {
	__u64 owner;
	__u64 target;
	__u32 ttl;
	__u32 reached; /* 1: from the name that was asked for */
};

/* A name being walked. In the message and not on the stack, where the verifier would follow every value. */
struct dns_walk {
	__u64 hash;
	__u64 exact;
	__u32 pos;
	__u32 floor; /* pointers lead below it */
	__u32 next;  /* the byte behind the name; 0: not known yet */
	__u32 len;   /* of the text */
	__u32 pointers;
	__u32 shelf; /* where in m->name the text is written: 0, or DNS_ROW for what nobody wants */
	__u32 count; /* bytes of label */
	__u32 bad;   /* of them, 1: some cannot be in a name */
	__u32 done;
	__u32 pad;
	__u8 label[DNS_LABEL];
};

/* A message being read, and what was read. The caller sets begin, end, kind, seed and memory. */
struct dns_message {
	__u64 seed;
	__u64 memory; /* the address of what begin and end count from; 0: the input */
	__u64 hash;   /* of the name in the question, lower case */
	__u64 exact;  /* of the same as it is spelt */
	__u64 walked; /* of the name walked last */
	__u32 begin;  /* of the message, from where the input counts */
	__u32 end;
	__u32 pos;	/* the next byte to read */
	__u32 question; /* the first byte behind the question */
	__u32 budget;
	__u32 left;  /* records of the section being read */
	__u32 kind;  /* enum dns_kind */
	__u32 bad;   /* 1: malformed */
	__u32 found; /* addresses that counted */
	__u32 cnames;
	__u16 id;
	__u16 flags;
	__u16 type;
	__u16 class;
	__u16 answers;
	__u16 others; /* records that are no answers */
	__u32 pad;
	__u64 sink[6]; /* of who defines dns_address() */
	struct dns_walk walk;
	struct dns_cname cname[DNS_CNAMES];
	__u8 name[2 * DNS_ROW]; /* the first DNS_NAME bytes; the rest is scratch */
};

/* What every step is given. */
struct dns_at {
	parse_input *input;
	struct dns_message *m;
};

static __always_inline __u16 dns_be16(const __u8 *b)
{
	return b[0] << 8 | b[1];
}

static __always_inline __u32 dns_be32(const __u8 *b)
{
	return (__u32)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
}

/* Reads inside the message. */
static __always_inline int dns_load(parse_input *input, struct dns_message *m, __u32 pos, void *to,
				    __u32 len)
{
	if (pos < m->begin || pos > m->end || len > m->end - pos)
		return -1;
	return m->memory ? parse_peek(m->memory, pos, to, len) : parse_load(input, pos, to, len);
}

/* A compression pointer whose first byte is high. */
static __always_inline long dns_follow(parse_input *input, struct dns_message *m, __u8 high)
{
	struct dns_walk *walk = &m->walk;
	__u32 target;
	__u8 low;

	if (dns_load(input, m, walk->pos + 1, &low, 1))
		return 1;
	target = m->begin + ((high & 0x3f) << 8 | low);
	if (target >= walk->floor || target < m->begin + DNS_HEADER)
		return 1;
	if (++walk->pointers > DNS_POINTERS)
		return 1;
	if (!walk->next)
		walk->next = walk->pos + 2;
	walk->pos = walk->floor = target;
	return 0;
}

/*
 * Without branches, of which the verifier would follow both ways at every byte: 1 for zero, else 0;
 * and the lower case of ASCII.
 */
static __always_inline __u32 dns_is_zero(__u32 c)
{
	c -= 1;
	PARSE_OPAQUE(c);
	return c >> 31;
}

static __always_inline __u32 dns_lower(__u32 c)
{
	__u32 outside = (c - 'A') | ('Z' - c); /* negative for what is no capital */

	PARSE_OPAQUE(outside);
	return c + (((outside >> 31) ^ 1) << 5);
}

/*
 * Some bytes of a label. Without branches again: bytes behind the label's end are read too, as nothing
 * but zeros in the text, which has room for them.
 */
static long dns_bytes(__u32 index, void *data)
{
	struct dns_message *m = ((struct dns_at *)data)->m;
	struct dns_walk *walk = &m->walk;
	__u64 hash = walk->hash, exact = walk->exact;
	__u32 shelf = walk->shelf & DNS_ROW, bad = walk->bad, n = walk->count, i;

	for (i = 0; i < DNS_BYTES; i++) {
		__u32 at = index * DNS_BYTES + i, to = ((walk->len + at) & (DNS_ROW - 1)) | shelf;
		__u64 inside = (__u64)at - n, beyond;
		__u32 c, lower;

		PARSE_OPAQUE(inside); /* negative inside */
		inside >>= 63;
		beyond = inside - 1; /* all bits, or none */
		at &= DNS_LABEL - 1;
		PARSE_OPAQUE(at);
		c = walk->label[at & (DNS_LABEL - 1)]; /* bounded where 6.1 sees it */
		lower = dns_lower(c);
		bad |= (dns_is_zero(c) | dns_is_zero(c ^ '.')) & inside;
		exact = (parse_mix(exact, c) & ~beyond) | (exact & beyond);
		hash = (parse_mix(hash, lower) & ~beyond) | (hash & beyond);
		PARSE_OPAQUE(to);
		m->name[to & (2 * DNS_ROW - 1)] = lower & ~beyond;
	}
	walk->hash = hash;
	walk->exact = exact;
	walk->bad = bad;
	return (index + 1) * DNS_BYTES >= n;
}

/* One label or pointer of a name. */
static long dns_step(__u32 index, void *data)
{
	parse_input *input = ((struct dns_at *)data)->input;
	struct dns_message *m = ((struct dns_at *)data)->m;
	struct dns_walk *walk = &m->walk;
	__u32 n, to;
	__u8 len;

	if (!m->budget)
		return 1;
	m->budget--;
	if (dns_load(input, m, walk->pos, &len, 1))
		return 1;
	if ((len & 0xc0) == 0xc0)
		return dns_follow(input, m, len);
	if (len & 0xc0)
		return 1;
	if (!len) {
		if (!walk->next)
			walk->next = walk->pos + 1;
		walk->done = 1;
		return 1;
	}
	n = ((len - 1) & 63) + 1; /* as 6.1 wants it: no length of zero */
	if (walk->len + n + 1 > DNS_TEXT || dns_load(input, m, walk->pos + 1, walk->label, n))
		return 1;
	walk->count = n;
	walk->bad = 0;
	parse_loop(DNS_LABEL / DNS_BYTES, dns_bytes, data);
	if (walk->bad)
		return 1;
	to = ((walk->len + n) & (DNS_ROW - 1)) | (walk->shelf & DNS_ROW);
	PARSE_OPAQUE(to);
	m->name[to & (2 * DNS_ROW - 1)] = '.';
	walk->hash = parse_mix(walk->hash, '.');
	walk->exact = parse_mix(walk->exact, '.');
	walk->len += n + 1;
	walk->pos += n + 1;
	return 0;
}

/* Walks the name at pos into m->walked. Returns the offset of the byte behind it, 0: malformed. */
PARSE_GLOBAL int dns_name(parse_input *input, struct dns_message *m, __u32 pos, int keep)
{
	struct dns_at at = {.input = input, .m = m};
	struct dns_walk *walk;
	__u8 head[2];

	if (!m)
		return 0;
	/* Nearly every record belongs to the name in the question, by a pointer to it. */
	if (!keep && !dns_load(input, m, pos, head, sizeof(head)) && head[0] == 0xc0 &&
	    head[1] == DNS_HEADER && pos > m->begin + DNS_HEADER) {
		m->walked = m->hash;
		return pos + 2;
	}
	walk = &m->walk;
	walk->hash = m->seed;
	walk->exact = ~m->seed;
	walk->pos = walk->floor = pos;
	walk->next = walk->len = walk->pointers = walk->done = 0;
	walk->shelf = keep ? 0 : DNS_ROW;
	parse_loop(DNS_STEPS, dns_step, &at);
	if (!walk->done)
		return 0;
	m->walked = walk->hash;
	if (!keep)
		return walk->next;
	m->exact = walk->exact;
	m->hash = walk->hash;
	if (walk->len)
		m->name[(walk->len - 1) & (DNS_NAME - 1)] = 0; /* the last dot */
	return walk->next;
}
