/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What a byte may be a part of, looked up, as every byte of a request is asked about. */
#include <linux/types.h>

enum http1_class {
	HTTP1_CLASS_NAME = 1,	/* names and methods: RFC 9110, 5.6.2 */
	HTTP1_CLASS_PATH = 2,	/* paths, where it stands for itself; but for the dot */
	HTTP1_CLASS_DOT = 4,	/* is the dot */
	HTTP1_CLASS_HOST = 8,	/* hosts: none that could be taken for something else */
	HTTP1_CLASS_VALUE = 16, /* values */
	HTTP1_CLASS_QUERY = 32, /* queries */
	HTTP1_CLASS_UPPER = 64, /* is a letter in upper case */
};

#define HTTP1_IN(c, first, last) ((c) >= (first) && (c) <= (last))
#define HTTP1_IS_UPPER(c) HTTP1_IN(c, 'A', 'Z')
#define HTTP1_IS_VISIBLE(c) HTTP1_IN(c, '!', '~')
#define HTTP1_IS_ALNUM(c) (HTTP1_IS_UPPER(c) || HTTP1_IN(c, 'a', 'z') || HTTP1_IN(c, '0', '9'))
#define HTTP1_IS_NAME(c)                                                                           \
	(HTTP1_IS_ALNUM(c) || (c) == '!' || HTTP1_IN(c, '#', '\'') || (c) == '*' || (c) == '+' ||  \
	 (c) == '-' || (c) == '.' || HTTP1_IN(c, '^', '`') || (c) == '|' || (c) == '~')
#define HTTP1_IS_PATH(c)                                                                           \
	(HTTP1_IS_VISIBLE(c) && (c) != '#' && (c) != '%' && (c) != '.' && (c) != '/' &&            \
	 (c) != ';' && (c) != '?' && (c) != '\\')
#define HTTP1_IS_HOST(c)                                                                           \
	(HTTP1_IS_VISIBLE(c) && (c) != '/' && (c) != '?' && (c) != '#' && (c) != '@' &&            \
	 (c) != '\\' && (c) != ',' && (c) != '"' && (c) != '<' && (c) != '>')
#define HTTP1_IS_VALUE(c) (((c) >= ' ' && (c) != 0x7f) || (c) == '\t')
#define HTTP1_IS_QUERY(c) ((c) > ' ' && (c) != 0x7f && (c) != '#')

#define HTTP1_CLASS(c)                                                                             \
	((HTTP1_IS_NAME(c) ? HTTP1_CLASS_NAME : 0) | (HTTP1_IS_PATH(c) ? HTTP1_CLASS_PATH : 0) |   \
	 ((c) == '.' ? HTTP1_CLASS_DOT : 0) | (HTTP1_IS_HOST(c) ? HTTP1_CLASS_HOST : 0) |          \
	 (HTTP1_IS_VALUE(c) ? HTTP1_CLASS_VALUE : 0) |                                             \
	 (HTTP1_IS_QUERY(c) ? HTTP1_CLASS_QUERY : 0) | (HTTP1_IS_UPPER(c) ? HTTP1_CLASS_UPPER : 0))
#define HTTP1_CLASSES_4(c) HTTP1_CLASS(c), HTTP1_CLASS((c) + 1), HTTP1_CLASS((c) + 2), HTTP1_CLASS((c) + 3)
#define HTTP1_CLASSES_16(c)                                                                        \
	HTTP1_CLASSES_4(c), HTTP1_CLASSES_4((c) + 4), HTTP1_CLASSES_4((c) + 8), HTTP1_CLASSES_4((c) + 12)
#define HTTP1_CLASSES_64(c)                                                                        \
	HTTP1_CLASSES_16(c), HTTP1_CLASSES_16((c) + 16), HTTP1_CLASSES_16((c) + 32), HTTP1_CLASSES_16((c) + 48)

static const __u8 http1_classes[256] = {HTTP1_CLASSES_64(0), HTTP1_CLASSES_64(64), HTTP1_CLASSES_64(128), HTTP1_CLASSES_64(192)};

/* The enum http1_class of a byte. */
static __always_inline __u32 http1_class(__u32 c)
{
	return http1_classes[c & 0xff];
}

static __always_inline int http1_is_token(__u32 c)
{
	return http1_class(c) & HTTP1_CLASS_NAME;
}

static __always_inline int http1_is_host(__u32 c)
{
	return http1_class(c) & HTTP1_CLASS_HOST;
}

static __always_inline __u32 http1_lower(__u32 c)
{
	return c | (http1_class(c) & HTTP1_CLASS_UPPER) >> 1;
}
