/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * The head of an HTTP/2 request (RFC 9113, 8), field by field as HPACK decodes it. What is malformed there is
 * an error here, and so is what two readers could take for two things: two of a pseudo-header, :authority
 * and host that differ, a field that HTTP/2 does not have.
 */
#include <parse/hpack.h>
#include <parse/http1_state.h>

enum h2_head_limits {
	H2_NAME = 64,	    /* bytes of a name that are kept; rules name no longer ones */
	H2_KNOWN = 24,	    /* bytes of the names below */
	H2_AUTHORITY = 256, /* bytes of an authority, one more than a host name with a port can have */
	H2_METHOD = 16,	    /* bytes of a method */
};

/* What a field is. Those before H2_FIELD_HOST are pseudo-headers. */
enum h2_field {
	H2_FIELD_METHOD,
	H2_FIELD_SCHEME,
	H2_FIELD_AUTHORITY,
	H2_FIELD_PATH,
	H2_FIELD_HOST,
	H2_FIELD_TE,
	H2_FIELD_CONTENT_LENGTH,
	H2_FIELD_CONNECTION, /* it and those behind it belong to HTTP/1 (8.2.2) */
	H2_FIELD_KEEP_ALIVE,
	H2_FIELD_PROXY_CONNECTION,
	H2_FIELD_TRANSFER_ENCODING,
	H2_FIELD_UPGRADE,
	H2_FIELDS,
	H2_FIELD_OTHER = H2_FIELDS,
};

enum h2_head_error {
	H2_HEAD_OK,
	H2_HEAD_NAME,	   /* a byte that no name has, an upper-case letter, no name */
	H2_HEAD_VALUE,	   /* a byte that no value has, or a space around it */
	H2_HEAD_PSEUDO,	   /* unknown, behind other fields, missing, or in trailers */
	H2_HEAD_TWICE,	   /* what may be there once */
	H2_HEAD_FORBIDDEN, /* a field of HTTP/1's connections */
	H2_HEAD_AUTHORITY, /* host is not :authority, or neither is there, or too long */
};

struct h2_head {
	__u16 seen;    /* 1 << enum h2_field */
	__u16 name_len;
	__u16 value_len; /* of the field being read */
	__u16 authority_len;
	__u8 field;	 /* enum h2_field, when its name has been read */
	__u8 part;	 /* enum hpack_part of what comes next */
	__u8 trailers;	 /* 1: the fields behind a body, which no rule is about */
	__u8 regular;	 /* 1: a field that is no pseudo-header has been seen */
	__u8 last;	 /* byte of the value */
	__u8 error;	 /* enum h2_head_error */
	__u8 method_len;
	__u8 pad[1];
	__u8 method[H2_METHOD];
	__u8 name[H2_NAME];
	__u8 authority[H2_AUTHORITY];
};

static const __u8 h2_known[H2_FIELDS][H2_KNOWN] __attribute__((aligned(8))) = {
	[H2_FIELD_METHOD] = ":method",
	[H2_FIELD_SCHEME] = ":scheme",
	[H2_FIELD_AUTHORITY] = ":authority",
	[H2_FIELD_PATH] = ":path",
	[H2_FIELD_HOST] = "host",
	[H2_FIELD_TE] = "te",
	[H2_FIELD_CONTENT_LENGTH] = "content-length",
	[H2_FIELD_CONNECTION] = "connection",
	[H2_FIELD_KEEP_ALIVE] = "keep-alive",
	[H2_FIELD_PROXY_CONNECTION] = "proxy-connection",
	[H2_FIELD_TRANSFER_ENCODING] = "transfer-encoding",
	[H2_FIELD_UPGRADE] = "upgrade",
};

static __always_inline void h2_head_fail(struct h2_head *h, enum h2_head_error error)
{
	h->error = error;
}

/* The next field begins. */
static __always_inline void h2_field_next(struct h2_head *h)
{
	h->part = HPACK_NAME;
	h->name_len = 0;
}

static __always_inline void h2_head_begin(struct h2_head *h, int trailers)
{
	h->seen = 0;
	h->value_len = h->authority_len = 0;
	h2_field_next(h);
	h->trailers = trailers;
	h->regular = 0;
	h->method_len = 0;
}

static __always_inline void h2_name_byte(struct h2_head *h, __u8 c)
{
	/* 8.2.1: no upper case. */
	if ((!http1_is_token(c) || (c >= 'A' && c <= 'Z')) && (c != ':' || h->name_len))
		h2_head_fail(h, H2_HEAD_NAME);
	if (h->name_len < H2_NAME)
		h->name[h->name_len & (H2_NAME - 1)] = c;
	h->name_len++;
}

/* Which of the known names the field has. */
static __always_inline int h2_field_of(struct h2_head *h)
{
	const __u64 *name = (const __u64 *)h->name;
	int i;

	for (i = 0; i < H2_KNOWN; i++)
		if (i >= h->name_len)
			h->name[i] = 0;
	h->field = H2_FIELD_OTHER;
	for (i = 0; i < H2_FIELDS; i++) {
		const __u64 *known = (const __u64 *)h2_known[i];

		if (name[0] == known[0] && name[1] == known[1] && name[2] == known[2])
			h->field = i;
	}
	return h->name_len > H2_KNOWN ? H2_FIELD_OTHER : h->field;
}

/* A name is complete. */
PARSE_GLOBAL int h2_named(struct h2_head *h)
{
	int field;

	if (!h)
		return 0;
	field = h2_field_of(h);
	h->field = field;
	h->part = HPACK_VALUE;
	h->value_len = 0;
	h->last = 0;
	if (!h->name_len) {
		h2_head_fail(h, H2_HEAD_NAME);
	} else if (h->name[0] == ':') {
		if (field >= H2_FIELD_HOST || h->regular || h->trailers)
			h2_head_fail(h, H2_HEAD_PSEUDO);
	} else {
		h->regular = 1;
	}
	if (field >= H2_FIELD_CONNECTION && field < H2_FIELDS)
		h2_head_fail(h, H2_HEAD_FORBIDDEN);
	if (field < H2_FIELDS) {
		if (h->seen & 1 << field)
			h2_head_fail(h, H2_HEAD_TWICE);
		h->seen |= 1 << field;
	}
	return 0;
}

/* A byte of host: that of :authority, or the first to say it. */
static __always_inline void h2_host_byte(struct h2_head *h, __u8 c)
{
	__u32 at = h->value_len;

	if (at >= H2_AUTHORITY)
		h2_head_fail(h, H2_HEAD_AUTHORITY);
	else if (h->field == H2_FIELD_AUTHORITY || !(h->seen & 1 << H2_FIELD_AUTHORITY))
		h->authority[at & (H2_AUTHORITY - 1)] = c;
	else if (at >= h->authority_len || h->authority[at & (H2_AUTHORITY - 1)] != c)
		h2_head_fail(h, H2_HEAD_AUTHORITY);
}

static __always_inline void h2_value_byte(struct h2_head *h, __u8 c)
{
	static const char trailers[9] = "trailers";
	__u32 at = h->value_len;

	/* No control characters (8.2.1; 9110, 5.5), no space at the ends. */
	if ((c < ' ' && c != '\t') || c == 0x7f || (!at && (c == ' ' || c == '\t')))
		h2_head_fail(h, H2_HEAD_VALUE);
	switch (h->field) {
	case H2_FIELD_METHOD:
		if (at < H2_METHOD)
			h->method[at & (H2_METHOD - 1)] = c;
		h->method_len = at < H2_METHOD ? at + 1 : H2_METHOD;
		break;
	case H2_FIELD_AUTHORITY:
	case H2_FIELD_HOST:
		h2_host_byte(h, c);
		break;
	case H2_FIELD_TE: /* 8.2.2: nothing else */
		if (at >= 8 || trailers[at & 7] != c)
			h2_head_fail(h, H2_HEAD_FORBIDDEN);
		break;
	}
	h->last = c;
	h->value_len++;
}

/* A field is complete. */
static __always_inline void h2_field_end(struct h2_head *h)
{
	if (h->value_len && (h->last == ' ' || h->last == '\t'))
		h2_head_fail(h, H2_HEAD_VALUE);
	if (h->field == H2_FIELD_AUTHORITY)
		h->authority_len = h->value_len;
	if (h->field == H2_FIELD_HOST && !(h->seen & 1 << H2_FIELD_AUTHORITY))
		h->authority_len = h->value_len;
	if (h->field == H2_FIELD_HOST && h->value_len != h->authority_len)
		h2_head_fail(h, H2_HEAD_AUTHORITY);
	if (h->field == H2_FIELD_PATH && !h->value_len)
		h2_head_fail(h, H2_HEAD_PSEUDO);
}

static __always_inline int h2_is_connect(const struct h2_head *h)
{
	static const __u8 connect[8] = "CONNECT";
	int i, same = h->method_len == 7;

	for (i = 0; i < 7; i++)
		same &= h->method[i] == connect[i];
	return same;
}

/* The head is complete: is all there that a request has (8.3.1, 8.5)? */
PARSE_GLOBAL int h2_head_end(struct h2_head *h)
{
	__u32 must = 1 << H2_FIELD_METHOD | 1 << H2_FIELD_SCHEME | 1 << H2_FIELD_PATH;
	__u32 mask = must;

	if (!h || h->error || h->trailers)
		return 0;
	if (h2_is_connect(h))
		must = 1 << H2_FIELD_METHOD;
	if ((h->seen & mask) != must || !h->method_len)
		h2_head_fail(h, H2_HEAD_PSEUDO);
	else if (!h->authority_len)
		h2_head_fail(h, H2_HEAD_AUTHORITY);
	return 0;
}
