// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* clienthello: the parser of TLS ClientHellos of the kernel programs on the host. For each line of standard input, the
 * bytes of a connection in hexadecimal, it writes one line: "more", "bad FLAW" or "done FLAGS NAME", all in hexadecimal. It
 * reads the bytes once for each place where they can be split, and byte by byte, and ends badly when that makes a difference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <parse/clienthello.h>

#include "hex.h"

struct reader {
	struct hello h;
	struct http1_room room;
	int event;
};

static void begin(struct reader *r)
{
	hello_begin(&r->h);
	r->event = HELLO_MORE;
}

static void feed(struct reader *r, const __u8 *bytes, size_t n)
{
	while (n && r->event == HELLO_MORE) {
		size_t some = n < HTTP1_CHUNK ? n : HTTP1_CHUNK;

		memcpy(r->room.chunk, bytes, some);
		r->room.pos = 0;
		r->room.len = some;
		r->event = hello_feed(&r->h, &r->room);
		if (r->event == HELLO_MORE && r->room.pos != r->room.len)
			abort();
		bytes += some;
		n -= some;
	}
}

static void same(const struct reader *a, const struct reader *b, size_t at)
{
	if (a->event == b->event && a->h.flaw == b->h.flaw && a->h.flags == b->h.flags && !strcmp((char *)a->h.name, (char *)b->h.name))
		return;
	fprintf(stderr, "split at %zu: event %d, flaw %d; whole: event %d, flaw %d\n", at, a->event, a->h.flaw, b->event, b->h.flaw);
	abort();
}

static void read_all(const __u8 *bytes, size_t n, struct reader *whole)
{
	struct reader r;

	begin(whole);
	feed(whole, bytes, n);
	for (size_t at = 1; at < n && n <= 4096; at++) {
		begin(&r);
		feed(&r, bytes, at);
		feed(&r, bytes + at, n - at);
		same(&r, whole, at);
	}
	begin(&r);
	for (size_t i = 0; i < n; i++)
		feed(&r, bytes + i, 1);
	same(&r, whole, 0);
}

int main(void)
{
	struct reader *whole = calloc(1, sizeof(*whole));
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (!whole)
		return 125;
	while ((len = getline(&line, &room, stdin)) > 0) {
		size_t n = (len - 1) / 2;
		__u8 *bytes = hex_bytes(line, n);

		read_all(bytes, n, whole);
		if (whole->event == HELLO_MORE)
			printf("more\n");
		else if (whole->event == HELLO_BAD)
			printf("bad %x\n", whole->h.flaw);
		else {
			printf("done %x ", whole->h.flags);
			for (size_t i = 0; i < whole->h.len && whole->h.flags & HELLO_NAMED; i++)
				printf("%02x", whole->h.name[i]);
			printf("\n");
		}
		fflush(stdout);
		free(bytes);
	}
	free(whole);
	free(line);
	return 0;
}
