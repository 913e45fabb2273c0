/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Feeding the HTTP/2 parser on the host, as lib/tap_h2.h and streams.bpf.c do in the kernel. Behind parse/http2.h. */
#include <stddef.h>

/* Gives the parser a piece of n bytes. */
static void http2_piece(struct h2 *h, const __u8 *bytes, size_t n)
{
	size_t at = 0, pass;

	while (!h->error && (at < n || h2_is_due(h))) {
		if (h2_is_due(h)) {
			h2_step(h, 0);
			continue;
		}
		pass = h2_pass(h, n - at);
		at += pass;
		if (!pass)
			h2_step(h, bytes[at++]);
	}
}
