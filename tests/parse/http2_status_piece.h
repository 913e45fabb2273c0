/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Feeding the parser of a server's HTTP/2 on the host, as lib/response_h2.h does in the kernel. Behind parse/http2_status.h. */
#include <stddef.h>

/* An answer to a request on s->stream has begun. */
static void told(struct h2_status *s, __u32 status);

/* Gives the parser a piece of n bytes. */
static void http2_status_piece(struct h2_status *s, const __u8 *bytes, size_t n)
{
	size_t at = 0, pass;
	__u32 status;

	while (!s->lost && at < n) {
		pass = h2_status_pass(s, n - at);
		at += pass;
		if (!pass)
			h2_status_step(s, bytes[at++]);
		if (!s->whole)
			continue;
		status = h2_status_head(s);
		if (status && h2_status_asked(s))
			told(s, status);
	}
}
