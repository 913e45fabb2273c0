// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* clienthello: the parser of TLS ClientHellos of the kernel programs on the host. For each line of standard input, the
 * bytes of a connection in hexadecimal, it writes one line: "more", "bad FLAW" or "done FLAGS NAME THEN", all in hexadecimal;
 * THEN is what comes behind the first message: "more", "over", or "bad" and the flaw. It reads the bytes once for each place where they can be split, and byte by byte, and ends badly when that makes a difference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <parse/clienthello_again.h>

#include "hex.h"

struct reader {
	struct hello h;
	struct http1_room room;
	struct hello first; /* as it was when it was whole */
	int event;
};

static int is_first(const struct reader *r)
{
	return r->first.state != HELLO_WHOLE;
}

static void begin(struct reader *r)
{
	hello_begin(&r->h);
	r->event = HELLO_MORE;
	memset(&r->first, 0, sizeof(r->first));
}

/* The next event of the chunk. */
static int next(struct reader *r)
{
	int event;

	if (!is_first(r) && r->h.state == HELLO_WHOLE && !r->h.skip)
		return hello_follow(&r->h, &r->room);
	event = hello_feed(&r->h, &r->room);
	if (event != HELLO_DONE)
		return event;
	if (is_first(r))
		r->first = r->h;
	return r->h.flags & HELLO_SECOND ? hello_follow(&r->h, &r->room) : HELLO_MORE;
}

static void feed(struct reader *r, const __u8 *bytes, size_t n)
{
	while (n && r->event == HELLO_MORE) {
		size_t some = n < HTTP1_CHUNK ? n : HTTP1_CHUNK;

		memcpy(r->room.chunk, bytes, some);
		r->room.pos = 0;
		r->room.len = some;
		do {
			r->event = next(r);
		} while (r->event == HELLO_MORE && r->room.pos != r->room.len);
		bytes += some;
		n -= some;
	}
}

static void same(const struct reader *a, const struct reader *b, size_t at)
{
	if (a->event == b->event && a->h.flaw == b->h.flaw && a->h.flags == b->h.flags && is_first(a) == is_first(b) &&
	    !strcmp((char *)a->h.name, (char *)b->h.name))
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
		if (!is_first(whole)) {
			printf("done %x ", whole->first.flags);
			for (size_t i = 0; i < whole->first.len && whole->first.flags & HELLO_NAMED; i++)
				printf("%02x", whole->first.name[i]);
			printf(" ");
		}
		if (whole->event == HELLO_MORE)
			printf("more\n");
		else if (whole->event == HELLO_BAD)
			printf("bad %x\n", whole->h.flaw);
		else
			printf("over\n");
		fflush(stdout);
		free(bytes);
	}
	free(whole);
	free(line);
	return 0;
}
