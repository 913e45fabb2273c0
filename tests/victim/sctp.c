// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts over SCTP, whose associations begin by more calls than connect(): by a send that names its peer, and by socket
 * options with lists of addresses. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "victim.h"

/* A first packet that is lost comes again after 3 s, and then after 6 (RFC 9260, section 16). */
#define ANSWER_MS 10000

/* linux/sctp.h, which does not go with the headers of the C library. */
enum sctp_options {
	SCTP_SOCKOPT_BINDX_ADD = 100,
	SCTP_SOCKOPT_CONNECTX = 110,
};

static const char payload[] = "sallyport";

/* Sends on a socket that is connected, or to the endpoint unless that is NULL, and waits for the echo. 0 or an errno. */
static int exchange(int fd, const struct endpoint *to, long ms)
{
	char answer[sizeof(payload)];
	int err;

	set_timeouts(fd, ms);
	if (sendto(fd, payload, sizeof(payload) - 1, MSG_NOSIGNAL, to ? &to->sa : NULL, to ? to->len : 0) < 0)
		return errno == EINPROGRESS || errno == EAGAIN ? ETIMEDOUT : errno;
	err = wait_for(fd, POLLIN, ms);
	if (err)
		return err;
	return recv(fd, answer, sizeof(answer), 0) < 0 ? errno : 0;
}

static int connect_sctp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	long ms = number_arg(c, 2, ANSWER_MS);
	int fd = endpoint_socket(&e, SOCK_STREAM, IPPROTO_SCTP);
	int err = fd < 0 ? errno : connect_within(fd, &e, ms);

	return err ? err : exchange(fd, NULL, ms);
}

/* The address in the send begins the association, on sockets for one peer and on those for many. */
static int sendto_sctp(struct call *c, int type)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, type, IPPROTO_SCTP);

	return fd < 0 ? errno : exchange(fd, &e, number_arg(c, 2, ANSWER_MS));
}

static int sendto_sctp_one(struct call *c)
{
	return sendto_sctp(c, SOCK_STREAM);
}

static int sendto_sctp_many(struct call *c)
{
	return sendto_sctp(c, SOCK_SEQPACKET);
}

/* Appends the address to a packed list, which is what these options take. */
static socklen_t pack(char *list, socklen_t at, const struct endpoint *e)
{
	memcpy(list + at, &e->sa, e->len);
	return at + e->len;
}

/* connectx: the peer is a list of addresses of one family, the first of which is called first. */
static int connectx_sctp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	struct endpoint second = endpoint_from(c->argc > 3 ? c->argv[3] : c->argv[0], c->argv[1]);
	long ms = number_arg(c, 2, ANSWER_MS);
	int fd = endpoint_socket(&e, SOCK_STREAM, IPPROTO_SCTP);
	char list[2 * sizeof(e.in6)];
	socklen_t len = pack(list, 0, &e);

	if (fd < 0)
		return errno;
	if (c->argc > 3)
		len = pack(list, len, &second);
	set_timeouts(fd, ms);
	if (setsockopt(fd, IPPROTO_SCTP, SCTP_SOCKOPT_CONNECTX, list, len) < 0)
		return errno == EINPROGRESS ? ETIMEDOUT : errno;
	return exchange(fd, NULL, ms);
}

/* Serves one peer, as listen-tcp does. */
static int serve_sctp(struct call *c, int fd)
{
	struct linger reset = {.l_onoff = 1};
	long ms = number_arg(c, 2, 0);
	char buffer[4096];
	ssize_t n;
	int err, peer;

	if (listen(fd, 16))
		return errno;
	fprintf(stderr, "victim: listening\n");
	if (c->argc < 3)
		return 0;
	err = wait_for(fd, POLLIN, ms);
	if (err)
		return err;
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	/* Where a policy has silenced the peer, an association that ends in good order keeps the port for minutes. */
	if (peer < 0 || setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		return errno;
	while (!wait_for(peer, POLLIN, ms) && (n = recv(peer, buffer, sizeof(buffer), 0)) > 0)
		if (send(peer, buffer, n, MSG_NOSIGNAL) != n)
			return errno;
	return 0;
}

static int listen_sctp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM, IPPROTO_SCTP);

	return fd < 0 || bind(fd, &e.sa, e.len) ? errno : serve_sctp(c, fd);
}

/* bindx takes a port without bind(); that listen() serves it then is what counts. */
static int bindx_sctp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM, IPPROTO_SCTP);

	if (fd < 0 || setsockopt(fd, IPPROTO_SCTP, SCTP_SOCKOPT_BINDX_ADD, &e.sa, e.len))
		return errno;
	return serve_sctp(c, fd);
}

const struct attempt sctp_attempts[] = {
	{"connect-sctp", 2, 3, connect_sctp, "ADDR PORT [MS]      MS for the association and for an answer"},
	{"sendto-sctp", 2, 3, sendto_sctp_many, "ADDR PORT [MS]"},
	{"sendto-sctp-one", 2, 3, sendto_sctp_one, "ADDR PORT [MS]"},
	{"connectx-sctp", 2, 4, connectx_sctp, "ADDR PORT [MS [ADDR]]  the last is the peer's second"},
	{"listen-sctp", 2, 3, listen_sctp, "ADDR PORT [MS]         with MS accepts one within them and echoes"},
	{"bindx-sctp", 2, 3, bindx_sctp, "ADDR PORT [MS]          the same, by an option instead of bind()"},
	{0},
};
