// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts to be reached, and attempts that last: servers, loops of connects, a connection held open. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "victim.h"

#define LOOP_TIMEOUT_MS 1000 /* of one connect in a loop */
#define BEAT_MS 100	     /* between two bytes of hold-tcp */
#define ECHO_MS 500	     /* for one byte to come back */

/*
 * Binds to the endpoint, beside other sockets of its user that serve the port, and says on standard error which port
 * it became. 0 or an errno.
 */
static int bind_to(int fd, struct endpoint *e)
{
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)))
		return errno;
	if (bind(fd, &e->sa, e->len) || getsockname(fd, &e->sa, &e->len))
		return errno;
	/* The port lies at the same place in both families. */
	fprintf(stderr, "victim: bound to port %u\n", ntohs(e->in.sin_port));
	return 0;
}

static int bind_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);

	return fd < 0 ? errno : bind_to(fd, &e);
}

/* Sends back what comes in until the peer closes or is silent for ms. */
static void echo(int fd, long ms)
{
	char buffer[4096];
	ssize_t n;

	while (!wait_for(fd, POLLIN, ms) && (n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
		if (send(fd, buffer, n, MSG_NOSIGNAL) != n)
			return;
}

static int listen_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	long ms = number_arg(c, 2, 0);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);
	int err = fd < 0 ? errno : bind_to(fd, &e);
	int peer;

	if (err)
		return err;
	if (listen(fd, 16))
		return errno;
	if (c->argc < 3)
		return 0;
	err = wait_for(fd, POLLIN, ms);
	if (err)
		return err;
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (peer < 0)
		return errno;
	echo(peer, ms);
	return 0;
}

/* listen() without bind() takes a port that the kernel chooses, without any call that carries an address. */
static int listen_only(struct call *c)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)c;
	return fd < 0 || listen(fd, 16) ? errno : 0;
}

static int udp_server(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]), from = {.len = sizeof(from.in6)};
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);
	int err = fd < 0 ? errno : bind_to(fd, &e);
	char buffer[2048];
	ssize_t n;

	if (!err)
		err = wait_for(fd, POLLIN, number_arg(c, 2, 0));
	if (err)
		return err;
	n = recvfrom(fd, buffer, sizeof(buffer), 0, &from.sa, &from.len);
	if (n < 0 || sendto(fd, buffer, n, 0, &from.sa, from.len) < 0)
		return errno;
	return 0;
}

/* What became of many tries. */
struct tally {
	long ok, eperm, other;
	int first; /* errno of the first that is in other */
};

static void count(struct tally *t, int err)
{
	if (!err) {
		t->ok++;
	} else if (err == EPERM) {
		t->eperm++;
	} else {
		t->other++;
		t->first = t->first ? t->first : err;
	}
}

/* Fills in the line; 0 if every try went well, else an errno. */
static int summarise(struct call *c, const struct tally *t)
{
	snprintf(c->text, sizeof(c->text), "ok=%ld eperm=%ld other=%ld", t->ok, t->eperm, t->other);
	if (t->other)
		fprintf(stderr, "victim: the first of the others is %s\n", strerrorname_np(t->first));
	return t->eperm ? EPERM : t->first;
}

/* One connect; the reset at close leaves no TIME_WAIT, so that ports do not run out. */
static int connect_once(const struct endpoint *e, int type)
{
	struct linger reset = {.l_onoff = 1};
	int fd = endpoint_socket(e, type, 0);
	int err;

	if (fd < 0)
		return errno;
	err = connect_within(fd, e, LOOP_TIMEOUT_MS);
	if (!err && type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		err = errno;
	close(fd);
	return err;
}

/* N connects or MS milliseconds, whichever ends first; 0 sets no bound. */
static int loop(struct call *c, int type)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	long tries = number_arg(c, 2, 0), ms = number_arg(c, 3, 0);
	long end = now_ms() + ms;
	struct tally t = {0};

	if (!tries && !ms)
		die(0, "%s: a loop needs a bound", c->name);
	for (long i = 0; (!tries || i < tries) && (!ms || now_ms() < end); i++)
		count(&t, connect_once(&e, type));
	return summarise(c, &t);
}

static int loop_tcp(struct call *c)
{
	return loop(c, SOCK_STREAM);
}

static int loop_udp(struct call *c)
{
	return loop(c, SOCK_DGRAM);
}

/* Sends a byte and reads it back, skipping late answers to earlier ones. */
static int beat(int fd, unsigned char byte)
{
	long end = now_ms() + ECHO_MS;
	unsigned char answer;
	ssize_t n;
	int err;

	if (send(fd, &byte, 1, MSG_NOSIGNAL) < 0)
		return errno;
	do {
		long left = end - now_ms();

		err = wait_for(fd, POLLIN, left > 0 ? left : 0);
		if (err)
			return err;
		n = recv(fd, &answer, 1, 0);
		if (n < 0)
			return errno;
		if (!n)
			return EPIPE;
	} while (answer != byte);
	return 0;
}

static int hold_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	long end = now_ms() + number_arg(c, 2, 0);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);
	int err = fd < 0 ? errno : connect_within(fd, &e, LOOP_TIMEOUT_MS);
	struct tally t = {0};
	unsigned char byte = 0;

	if (err)
		return err;
	for (long next = now_ms(); now_ms() < end; next += BEAT_MS) {
		err = beat(fd, byte++);
		count(&t, err);
		if (err && err != EPERM && err != ETIMEDOUT)
			break; /* the connection is gone */
		if (next + BEAT_MS > now_ms())
			sleep_ms(next + BEAT_MS - now_ms());
	}
	return summarise(c, &t);
}

const struct attempt serve_attempts[] = {
	{"bind-tcp", 2, 2, bind_tcp, "ADDR PORT"},
	{"listen-tcp", 2, 3, listen_tcp, "ADDR PORT [MS]         with MS accepts one within them and echoes"},
	{"listen-only", 0, 1, listen_only, "[PORT]              without bind: the kernel chooses, PORT has no effect"},
	{"udp-server", 3, 3, udp_server, "ADDR PORT MS           answers one datagram"},
	{"loop-tcp", 4, 4, loop_tcp, "ADDR PORT N MS           N connects or MS milliseconds, 0 is no bound"},
	{"loop-udp", 4, 4, loop_udp, "ADDR PORT N MS"},
	{"hold-tcp", 3, 3, hold_tcp, "ADDR PORT MS             a byte every 100 ms, echoed"},
	{0},
};
