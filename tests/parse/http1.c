// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* http1: the parser of HTTP/1 requests of the kernel programs on the host. For each line of standard input, the bytes of a
 * connection in hexadecimal, it writes one line: for each request
 *
 *	METHOD PATH HOST LINE,LINE… QUERY BODY;
 *
 * in hexadecimal (BODY: its length), and then what came of the connection: "more", "head", "body" or "bad FLAW". It reads the
 * bytes once for each place where they can be split, and byte by byte, and ends badly when that makes a difference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <parse/http1.h>

#include "hex.h"

enum { OUT = 1 << 18 };

struct reader {
	struct http1 h;
	struct http1_room *room;
	size_t body;
	size_t len;
	int in_request;
	char part[HTTP1_PART_QUERY + 1][3 * HTTP1_HEAD_MAX];
	char out[OUT];
};

static void add(char *to, const char *text)
{
	strcat(to, text);
}

static void take_text(struct reader *r)
{
	struct http1_room *room = r->room;
	char *to = r->part[r->h.part];
	char byte[3];

	if (strlen((char *)room->text) != room->text_len || room->text_len >= HTTP1_TEXT)
		abort();
	to += strlen(to);
	for (__u32 i = 0; i < room->text_len; i++) {
		snprintf(byte, sizeof(byte), "%02x", room->text[i]);
		memcpy(to, byte, 3);
		to += 2;
	}
}

static void end_body(struct reader *r)
{
	char text[32];

	snprintf(text, sizeof(text), " %zx;", r->body);
	add(r->out, text);
	r->in_request = 0;
}

static void end_head(struct reader *r)
{
	for (int i = HTTP1_PART_METHOD; i <= HTTP1_PART_QUERY; i++) {
		add(r->out, i == HTTP1_PART_METHOD ? "" : " ");
		add(r->out, r->part[i]);
		r->part[i][0] = 0;
	}
	r->in_request = 1;
	r->body = 0;
}

/* Reads one piece of the stream. Returns 0 when nothing more can be read. */
static int feed(struct reader *r, const __u8 *bytes, size_t n)
{
	while (n) {
		size_t some = n < HTTP1_CHUNK ? n : HTTP1_CHUNK;

		memcpy(r->room->chunk, bytes, some);
		r->room->pos = 0;
		r->room->len = some;
		for (;;) {
			int event = http1_feed(&r->h, r->room);

			if (event == HTTP1_MORE || event == HTTP1_PART)
				take_text(r);
			if (event == HTTP1_PART && r->h.part == HTTP1_PART_LINE)
				add(r->part[HTTP1_PART_LINE], ",");
			if (event == HTTP1_PART && r->h.part == HTTP1_PART_HOST && r->h.flags & HTTP1_WANT_LINES) {
				/* A line that turned out to be the host's. */
				char *comma = strrchr(r->part[HTTP1_PART_LINE], ',');
				*(comma ? comma + 1 : r->part[HTTP1_PART_LINE]) = 0;
			}
			if (event == HTTP1_PART)
				continue;
			if (event == HTTP1_MORE)
				break;
			if (event == HTTP1_BAD)
				return 0;
			if (event == HTTP1_HEAD) {
				end_head(r);
				if (r->h.state == HTTP1_START)
					end_body(r);
				continue;
			}
			if (event == HTTP1_END) {
				end_body(r);
				continue;
			}
			/* A body: as much of it as is here. */
			size_t left = r->room->len - r->room->pos;
			if (!left)
				break;
			if (left > r->h.left)
				left = r->h.left;
			http1_skip(&r->h, left);
			r->body += left;
			r->room->pos += left;
			if (r->h.state == HTTP1_START)
				end_body(r);
		}
		bytes += some;
		n -= some;
	}
	return 1;
}

/* all: also what is handed on only where somebody asks for it. */
static void begin(struct reader *r, int all)
{
	http1_begin(&r->h, 0x5eed, all ? HTTP1_WANT_LINES : 0);
	r->h.query = all;
	r->h.upgrade = HTTP1_UPGRADE_MAY;
	for (int i = 0; i <= HTTP1_PART_QUERY; i++)
		r->part[i][0] = 0;
	r->out[0] = 0;
	r->in_request = 0;
}

static void end(struct reader *r, int ok)
{
	char text[32];

	if (!ok) {
		snprintf(text, sizeof(text), r->in_request ? " bad %d" : "bad %d", r->h.flaw);
		add(r->out, text);
		return;
	}
	if (r->h.state == HTTP1_START)
		add(r->out, "more");
	else
		add(r->out, r->in_request ? " body" : "head");
}

static void split(struct reader *r, struct reader *whole, const __u8 *bytes, size_t n, size_t at)
{
	begin(r, 1);
	end(r, feed(r, bytes, at) && feed(r, bytes + at, n - at));
	if (strcmp(r->out, whole->out)) {
		fprintf(stderr, "split at %zu: %s\nwhole: %s\n", at, r->out, whole->out);
		abort();
	}
}

static void read_all(struct reader *r, struct reader *whole, const __u8 *bytes, size_t n)
{
	int ok = 1;

	begin(whole, 1);
	end(whole, feed(whole, bytes, n));
	for (size_t at = 1; at < n && n <= 2048; at++)
		split(r, whole, bytes, n, at);
	begin(r, 1);
	for (size_t i = 0; i < n && ok; i++)
		ok = feed(r, bytes + i, 1);
	end(r, ok);
	if (strcmp(r->out, whole->out)) {
		fprintf(stderr, "byte by byte: %s\nwhole: %s\n", r->out, whole->out);
		abort();
	}
	/* Without lines and queries the rest is the same: steps of several bytes miss nothing. */
	begin(r, 0);
	ok = feed(r, bytes, n);
	if (r->h.flaw != whole->h.flaw || r->h.state != whole->h.state)
		abort();
}

int main(void)
{
	struct reader *r = calloc(1, sizeof(*r)), *whole = calloc(1, sizeof(*whole));
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (!r || !whole)
		return 125;
	/* Of exactly their size, so that the sanitizers see every byte read behind them. */
	r->room = calloc(1, sizeof(*r->room));
	whole->room = calloc(1, sizeof(*whole->room));
	while ((len = getline(&line, &room, stdin)) > 0) {
		size_t n = (len - 1) / 2;
		__u8 *bytes = hex_bytes(line, n);

		read_all(r, whole, bytes, n);
		puts(whole->out);
		fflush(stdout);
		free(bytes);
	}
	free(r->room);
	free(whole->room);
	free(r);
	free(whole);
	free(line);
	return 0;
}
