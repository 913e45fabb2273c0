// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* http2: the HTTP/2 parser of the kernel programs on the host. For each line of standard input, "SIZE HEX" for what a
 * client sends, in pieces of SIZE bytes, it writes one line of words:
 *
 *	r                 a request begins
 *	NAME=VALUE        a field of it, in hexadecimal; of NAME at most H2_NAME bytes
 *	.                 it is complete
 *	ok                the end of the bytes, or
 *	bad E HPACK HEAD  an error, as its numbers */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct h2_user {}; /* nothing more is kept with a connection */

#include <parse/http2.h>

#include "hex.h"
#include "http2_piece.h"

static int in_value;

static void text(const __u8 *bytes, int n)
{
	for (int i = 0; i < n; i++)
		printf("%02x", bytes[i]);
}

static void field(struct h2 *h)
{
	if (in_value)
		return;
	in_value = 1;
	putchar(' ');
	text(h->head.name, h->head.name_len < H2_NAME ? h->head.name_len : H2_NAME);
	putchar('=');
}

static void h2_request(struct h2 *h)
{
	(void)h;
	printf(" r");
}

static void h2_value(struct h2 *h, __u8 c)
{
	field(h);
	text(&c, 1);
}

static void h2_value_end(struct h2 *h)
{
	field(h);
	in_value = 0;
}

static void h2_request_end(struct h2 *h)
{
	(void)h;
	printf(" .");
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		char *hex;
		__u32 size = strtoul(line, &hex, 10), n = (strlen(++hex) - 1) / 2, at;
		struct h2 *h = calloc(1, sizeof(*h));
		__u8 *bytes = hex_bytes(hex, n);

		if (!h || !size)
			return 125;
		in_value = 0;
		h2_start(h);
		for (at = 0; at < n && !h->error; at += size)
			http2_piece(h, bytes + at, n - at < size ? n - at : size);
		if (h->error)
			printf(" bad %d %d %d\n", h->error, h->hpack.error, h->head.error);
		else
			puts(" ok");
		fflush(stdout);
		free(bytes);
		free(h);
	}
	free(line);
	return 0;
}
