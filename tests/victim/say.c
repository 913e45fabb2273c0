// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts that say what they are told to, byte for byte: a client that keeps to no protocol. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "victim.h"

#define CONNECT_MS 1000
#define ANSWER_MS 300 /* for an answer, or the end */
#define PAUSE_MS 1    /* between two pieces, each of which is a segment */
#define AT_ONCE 32    /* requests that are sent before the first of them is answered */
#define ASK_MS 20000  /* for what answers them */
#define REQUEST_MAX 256

struct bytes {
	uint8_t *at;
	size_t len;
};

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *found = c ? strchr(digits, c) : NULL;

	if (!found)
		die(0, "%c is no hex digit", c);
	return found - digits;
}

static struct bytes bytes_from(const char *hex)
{
	struct bytes b = {.len = strlen(hex) / 2};

	b.at = malloc(b.len + 1);
	if (!b.at)
		die(errno, "memory for %zu bytes", b.len);
	for (size_t i = 0; i < b.len; i++)
		b.at[i] = hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]);
	return b;
}

/* Waits for what comes back, whatever it is. What counts is what the server has seen. */
static void hear(int fd)
{
	char answer[4096];

	if (!wait_for(fd, POLLIN, ANSWER_MS))
		(void)!recv(fd, answer, sizeof(answer), 0);
}

/* In pieces of SIZE bytes; 0: at once. */
static int say_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	struct bytes b = bytes_from(c->argv[2]);
	size_t size = number_arg(c, 3, 0), n;
	int fd = endpoint_socket(&e, SOCK_STREAM, 0), one = 1;
	int err = fd < 0 ? errno : connect_within(fd, &e, CONNECT_MS);

	if (err)
		return err;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		return errno;
	for (size_t at = 0; at < b.len; at += n) {
		n = size && size < b.len - at ? size : b.len - at;
		if (send(fd, b.at + at, n, MSG_NOSIGNAL) != (ssize_t)n)
			return errno;
		if (at + n < b.len)
			sleep_ms(PAUSE_MS);
	}
	hear(fd);
	return 0;
}

static int say_udp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	struct bytes b = bytes_from(c->argv[2]);
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);

	if (fd < 0 || sendto(fd, b.at, b.len, 0, &e.sa, e.len) < 0)
		return errno;
	hear(fd);
	return 0;
}

/* Reads until so many heads have ended, of answers without a body. */
static int hear_heads(int fd, long heads)
{
	const char *end = "\r\n\r\n";
	char answers[4096];
	size_t at = 0;

	while (heads > 0) {
		ssize_t n = wait_for(fd, POLLIN, ASK_MS) ? -1 : recv(fd, answers, sizeof(answers), 0);

		if (n <= 0)
			return n ? errno : EPIPE;
		for (ssize_t i = 0; i < n; i++) {
			at = answers[i] == end[at] ? at + 1 : answers[i] == end[0];
			heads -= at == 4;
			at %= 4;
		}
	}
	return 0;
}

/* Requests over one connection, as fast as they are answered. */
static int ask_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	char request[REQUEST_MAX], *all;
	int len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: victim\r\n\r\n", c->argv[3]);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);
	int err = fd < 0 ? errno : connect_within(fd, &e, ASK_MS);

	if (len >= REQUEST_MAX)
		die(0, "%s is too long a path", c->argv[3]);
	all = malloc(len * AT_ONCE);
	if (!all)
		die(errno, "memory for %d requests", AT_ONCE);
	for (int i = 0; i < AT_ONCE; i++)
		memcpy(all + i * len, request, len);
	for (long left = number_arg(c, 2, 0), n; !err && left > 0; left -= n) {
		n = left < AT_ONCE ? left : AT_ONCE;
		err = send(fd, all, len * n, MSG_NOSIGNAL) == len * n ? hear_heads(fd, n) : errno;
	}
	return err;
}

const struct attempt say_attempts[] = {
	{"say-tcp", 3, 4, say_tcp, "ADDR PORT HEX [SIZE]      these bytes, in pieces of SIZE"},
	{"say-udp", 3, 3, say_udp, "ADDR PORT HEX             as one datagram"},
	{"ask-tcp", 4, 4, ask_tcp, "ADDR PORT N PATH          N requests over one connection, to what answers without a body"},
	{0},
};
