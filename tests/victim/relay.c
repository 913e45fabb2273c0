// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts to reach the network over somebody else, who is asked by a unix socket. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "victim.h"

static int type_of(struct call *c, int i)
{
	if (!strcmp(c->argv[i], "stream"))
		return SOCK_STREAM;
	if (!strcmp(c->argv[i], "packets"))
		return SOCK_SEQPACKET;
	if (!strcmp(c->argv[i], "datagrams"))
		return SOCK_DGRAM;
	die(0, "there is no type %s of unix socket", c->argv[i]);
}

/* A unix socket that is served at NAME, or -1. */
static int serve_unix(int type, const char *name)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un sun;
	socklen_t len = abstract(&sun, name);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sun, len) || (type != SOCK_DGRAM && listen(fd, 64)))
		return -1;
	return fd;
}

/* A proxy: a connection of its own for everybody who comes, who is told when it is there. */
static int relay_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	long end = now_ms() + number_arg(c, 3, 0);
	int listener = serve_unix(SOCK_STREAM, c->argv[2]);

	if (listener < 0)
		return errno;
	while (now_ms() < end && !wait_for(listener, POLLIN, end - now_ms())) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC), tcp = endpoint_socket(&e, SOCK_STREAM, 0);

		if (client < 0 || tcp < 0)
			return errno;
		if (!connect_within(tcp, &e, 3000))
			send(client, "ok", 2, MSG_NOSIGNAL); /* who asked may be gone */
		close(tcp);
		close(client);
	}
	return 0;
}

/* Serves and does nothing with what comes. */
static int listen_unix(struct call *c)
{
	if (serve_unix(type_of(c, 0), c->argv[1]) < 0)
		return errno;
	poll(NULL, 0, number_arg(c, 2, 0));
	return 0;
}

static int ask_once(int type, const char *name)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un sun;
	socklen_t len = abstract(&sun, name);
	int err = 0;

	if (fd < 0)
		return errno;
	if (type == SOCK_DGRAM)
		err = sendto(fd, "ask", 3, 0, (struct sockaddr *)&sun, len) < 0 ? errno : 0;
	else if (connect(fd, (struct sockaddr *)&sun, len))
		err = errno;
	close(fd);
	return err;
}

/* Asks several times; with "own", one who serves in the same process. */
static int ask_unix(struct call *c)
{
	int type = type_of(c, 0), own = c->argc > 3 && !strcmp(c->argv[3], "own"), err = 0;

	if (own && serve_unix(type, c->argv[1]) < 0)
		return errno;
	for (long times = number_arg(c, 2, 0); times > 0 && !err; times--)
		err = ask_once(type, c->argv[1]);
	return err;
}

/* Has a proxy reach the server. ECONNREFUSED: it did not. */
static int ask_relay(struct call *c)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sun;
	socklen_t len = abstract(&sun, c->argv[0]);
	char ok[2];

	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, len))
		return errno;
	return recv(fd, ok, sizeof(ok), MSG_WAITALL) == sizeof(ok) ? 0 : ECONNREFUSED;
}

const struct attempt relay_attempts[] = {
	{"relay-tcp", 4, 4, relay_tcp, "ADDR PORT @NAME MS           connects for everybody who comes to NAME"},
	{"ask-relay", 1, 1, ask_relay, "@NAME                        has it connect"},
	{"listen-unix", 3, 3, listen_unix, "stream|packets|datagrams @NAME MS"},
	{"ask-unix", 3, 4, ask_unix, "stream|packets|datagrams @NAME TIMES [own]"},
	{0},
};
