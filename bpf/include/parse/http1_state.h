/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What a parser of HTTP/1 requests keeps between bytes, and what it hands on. */
#include <abi/flaw.h>
#include <abi/http1.h>
#include <parse/http1_class.h>
#include <parse/input.h>

enum http1_limits {
	HTTP1_CHUNK = 240,     /* bytes read at a time */
	HTTP1_TEXT = 256,      /* a chunk makes no more than two bytes of text more than it has */
	HTTP1_HEAD_MAX = 8192, /* also of trailers, and of the line before a chunk */
	HTTP1_METHOD_MAX = 24,
	HTTP1_DIGITS = 15, /* of a length */
	HTTP1_DULL = 8,	   /* bytes looked at at once where nothing is to be found */
	HTTP1_RUN = 16,	   /* bytes looked at one by one in one step, at most */
	HTTP1_WORD_LEN = 8,
};

enum http1_state {
	HTTP1_START = 0, /* before the first byte of a request */
	HTTP1_METHOD,
	HTTP1_TARGET, /* its first byte */
	HTTP1_SCHEME,
	HTTP1_AUTHORITY,
	HTTP1_PATH,
	HTTP1_QUERY,
	HTTP1_STAR, /* behind * */
	HTTP1_VERSION,
	HTTP1_LINE_LF,
	HTTP1_FIELD, /* the first byte of a line */
	HTTP1_NAME,
	HTTP1_BEFORE_VALUE,
	HTTP1_VALUE,
	HTTP1_VALUE_LF,
	HTTP1_HEAD_LF,
	HTTP1_CHUNK_SIZE, /* and all that follow are behind the head */
	HTTP1_CHUNK_EXTENSION,
	HTTP1_CHUNK_LF,
	HTTP1_CHUNK_DATA,
	HTTP1_CHUNK_CR,
	HTTP1_CHUNK_DATA_LF,
	HTTP1_BODY_DATA,
	HTTP1_BROKEN, /* nothing can be read any more: see flaw */
};

enum http1_event {
	HTTP1_MORE = 0, /* the chunk is used up */
	HTTP1_PART,	/* h->part is whole */
	HTTP1_HEAD,	/* the head of a request is whole */
	HTTP1_BODY,	/* h->left bytes are a body's: http1_skip() them */
	HTTP1_END,	/* of a chunked body and its trailers */
	HTTP1_BAD,	/* see h->flaw */
};

enum http1_part {
	HTTP1_PART_NONE,
	HTTP1_PART_METHOD,
	HTTP1_PART_PATH, /* canonical */
	HTTP1_PART_HOST, /* in lower case, with its port if it has one */
	HTTP1_PART_LINE, /* a header: its name in lower case, a colon, its value, which blanks may follow */
	HTTP1_PART_QUERY, /* as it is, where h->query wants it */
};

enum http1_flags {
	HTTP1_WANT_LINES = 1, /* headers are handed on */
	HTTP1_ABSOLUTE = 2,   /* the target names a host */
	HTTP1_HAS_HOST = 4,
	HTTP1_HAS_LENGTH = 8,
	HTTP1_CHUNKED = 16,
	HTTP1_TRAILER = 32, /* behind a chunked body */
	HTTP1_OLD = 64,	    /* HTTP/1.0 */
	HTTP1_GAP = 128,    /* blanks in a value, behind which nothing may follow */
};

enum http1_field {
	HTTP1_OTHER,
	HTTP1_HOST,
	HTTP1_LENGTH,
	HTTP1_ENCODING,
	HTTP1_UPGRADE,
};

/* What the parser is told of a change to WebSocket (RFC 6455, 4.1), and says. Others are a tunnel in any case. */
enum http1_upgrade {
	HTTP1_UPGRADE_NOT = 0, /* it is a tunnel */
	HTTP1_UPGRADE_MAY,     /* a request may ask for it: whoever reads looks at h->upgrade when its head is whole */
	HTTP1_UPGRADE_ASKED,
};

/* A chunk and the text read from it, for one CPU. */
struct http1_room {
	__u32 pos; /* in chunk */
	__u32 len; /* of chunk, at most HTTP1_CHUNK */
	__u32 text_len;
	__u32 event;
	__u8 chunk[HTTP1_TEXT + HTTP1_RUN]; /* a run is read to its end before its length is looked at */
	__u8 text[HTTP1_TEXT]; /* NUL-terminated; no part has a NUL in it */
};

static __always_inline int http1_bad(struct http1 *h, __u32 flaw)
{
	h->state = HTTP1_BROKEN;
	h->flaw = flaw;
	return HTTP1_BAD;
}

static __always_inline void http1_put(struct http1_room *room, __u32 c)
{
	room->text[room->text_len & (HTTP1_TEXT - 1)] = c;
	room->text_len++;
}

/* Appends a byte to the word that is compared when it is whole. Known words are shorter: none of a longer one's bytes is 0. */
static __always_inline void http1_pack(struct http1 *h, __u32 c)
{
	__u32 n = h->count;

	if (n < sizeof(h->word)) {
		h->word[(n >> 3) & 3] |= (__u64)c << (n & 7) * 8;
		h->count = n + 1;
	} else {
		h->count = sizeof(h->word) + 1;
	}
}

static __always_inline void http1_unpack(struct http1 *h)
{
	h->word[0] = h->word[1] = h->word[2] = 0;
	h->count = 0;
}

#define HTTP1_WORD(a, b, c, d, e, f, g, h)                                                         \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |   \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

static __always_inline int http1_is(const struct http1 *h, __u64 a, __u64 b, __u64 c)
{
	return h->word[0] == a && h->word[1] == b && h->word[2] == c;
}

static __always_inline int http1_is_blank(__u32 c)
{
	return c == ' ' || c == '\t';
}

/* The value of a hex digit; negative for another byte. */
static __always_inline int http1_digit(__u32 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? (int)(c - 'a' + 10) : -1;
}
