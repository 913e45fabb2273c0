/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * The status line of an HTTP/1 response (RFC 9112, 4), as far as its status: a byte at a time. What a server says is
 * hostile, and only reported: a line that is none is not told.
 */
#include <abi/response.h>

enum status_event {
	STATUS_MORE = 0,
	STATUS_DONE = 1,    /* response.code is its status, 200 to 599, or 101, behind which there is no other */
	STATUS_INTERIM = 2, /* the same, 100 to 199: another response follows to the same request */
	STATUS_BAD = 3,	    /* no HTTP/1 */
};

enum status_limits {
	STATUS_VERSION = 7, /* bytes before the digit of the minor version */
	STATUS_CODE = 9,    /* bytes before the status */
	STATUS_LINE = 13,   /* bytes that are read */
	STATUS_SWITCHING = 101,
	STATUS_FINAL = 200, /* the least that is no interim one */
	STATUS_LEAST = 100,
	STATUS_MOST = 599,
};

#define STATUS_NAME 0x2e312f50545448ULL /* "HTTP/1.", its first byte lowest */

/* The byte behind the status. */
static __always_inline int status_end(const struct response *r, __u8 byte)
{
	if ((byte != ' ' && byte != '\r') || r->code < STATUS_LEAST || r->code > STATUS_MOST)
		return STATUS_BAD;
	return r->code < STATUS_FINAL && r->code != STATUS_SWITCHING ? STATUS_INTERIM : STATUS_DONE;
}

/* The next byte of the line. Returns an enum status_event. */
static __always_inline int status_byte(struct response *r, __u8 byte)
{
	__u32 at = r->at++;

	if (at < STATUS_VERSION)
		return byte == (__u8)(STATUS_NAME >> (at * 8)) ? STATUS_MORE : STATUS_BAD;
	if (at == STATUS_VERSION)
		return byte == '0' || byte == '1' ? STATUS_MORE : STATUS_BAD;
	if (at < STATUS_CODE)
		return byte == ' ' ? STATUS_MORE : STATUS_BAD;
	if (at >= STATUS_LINE - 1)
		return status_end(r, byte);
	if (byte < '0' || byte > '9')
		return STATUS_BAD;
	r->code = r->code * 10 + (byte - '0');
	return STATUS_MORE;
}
