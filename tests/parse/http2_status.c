// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* http2_status: what the kernel programs follow of a server's HTTP/2, on the host. The answers to requests on the streams 1
 * to 63 are awaited. For each line of standard input, "SIZE HEX" for what the server sends, in pieces of SIZE bytes, it writes
 * "STREAM=STATUS" for each answer that is told, and "ok", or "lost" where it cannot read on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <parse/http2_status.h>

#include "hex.h"
#include "http2_status_piece.h"

static void told(struct h2_status *s, __u32 status)
{
	printf("%u=%u ", s->stream, status);
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		char *hex;
		__u32 size = strtoul(line, &hex, 10), n = (strlen(++hex) - 1) / 2, at;
		struct h2_status *s = calloc(1, sizeof(*s));
		__u8 *bytes = hex_bytes(hex, n);

		if (!s || !size)
			return 125;
		h2_status_start(s);
		for (at = 1; at < 2 * H2_STATUS_STREAMS; at += 2)
			h2_status_expect(s, at, at);
		for (at = 0; at < n && !s->lost; at += size)
			http2_status_piece(s, bytes + at, n - at < size ? n - at : size);
		puts(s->lost ? "lost" : "ok");
		fflush(stdout);
		free(bytes);
		free(s);
	}
	free(line);
	return 0;
}
