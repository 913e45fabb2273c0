// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts to reach a peer through the ordinary socket calls. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "victim.h"

#define DEFAULT_TIMEOUT_MS 3000

static char payload[] = "sallyport";

static struct iovec payload_iov = {.iov_base = payload, .iov_len = sizeof(payload) - 1};

static int connect_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);

	if (fd < 0)
		return errno;
	return connect_within(fd, &e, number_arg(c, 2, DEFAULT_TIMEOUT_MS));
}

static int nonblock_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int err;
	socklen_t len = sizeof(err);

	if (fd < 0)
		return errno;
	if (!connect(fd, &e.sa, e.len))
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	err = wait_for(fd, POLLOUT, number_arg(c, 2, DEFAULT_TIMEOUT_MS));
	if (err)
		return err;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? errno : err;
}

/* Data and SYN in one call, which carries the address: no connect() happens. */
static int fastopen(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);

	if (fd < 0)
		return errno;
	set_timeouts(fd, number_arg(c, 2, DEFAULT_TIMEOUT_MS));
	if (sendto(fd, payload, sizeof(payload) - 1, MSG_FASTOPEN | MSG_NOSIGNAL, &e.sa, e.len) >= 0)
		return 0;
	return errno == EINPROGRESS ? ETIMEDOUT : errno;
}

/* With a cookie known, connect() only notes the address and the write sends the SYN. */
static int fastopen_connect(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);
	int one = 1;
	int err;

	if (fd < 0)
		return errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)))
		return errno;
	err = connect_within(fd, &e, number_arg(c, 2, DEFAULT_TIMEOUT_MS));
	if (err)
		return err;
	return write(fd, payload, sizeof(payload) - 1) < 0 ? errno : 0;
}

/* With a time limit given, an answer must come back. */
static int await_answer(struct call *c, int fd)
{
	char answer[sizeof(payload)];
	int err;

	if (c->argc < 3)
		return 0;
	err = wait_for(fd, POLLIN, number_arg(c, 2, 0));
	if (err)
		return err;
	return recv(fd, answer, sizeof(answer), 0) < 0 ? errno : 0;
}

static int connect_udp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);

	if (fd < 0 || connect(fd, &e.sa, e.len) || send(fd, payload, sizeof(payload) - 1, 0) < 0)
		return errno;
	return await_answer(c, fd);
}

static int sendto_udp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);

	if (fd < 0 || sendto(fd, payload, sizeof(payload) - 1, 0, &e.sa, e.len) < 0)
		return errno;
	return await_answer(c, fd);
}

static int sendmsg_udp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	struct msghdr m = {.msg_name = &e.sa, .msg_namelen = e.len, .msg_iov = &payload_iov, .msg_iovlen = 1};
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);

	if (fd < 0 || sendmsg(fd, &m, 0) < 0)
		return errno;
	return await_answer(c, fd);
}

/* Both messages of one call must go out; the second carries its own address as well. */
static int sendmmsg_udp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	struct msghdr m = {.msg_name = &e.sa, .msg_namelen = e.len, .msg_iov = &payload_iov, .msg_iovlen = 1};
	struct mmsghdr both[2] = {{.msg_hdr = m}, {.msg_hdr = m}};
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);
	int sent = fd < 0 ? -1 : sendmmsg(fd, both, 2, 0);

	if (sent < 0)
		return errno;
	/* The kernel keeps the error of the second message for the next call on the socket. */
	if (sent < 2)
		return sendmmsg(fd, both + 1, 1, 0) < 0 ? errno : EMSGSIZE;
	return await_answer(c, fd);
}

/* connect() with AF_UNSPEC takes a peer away and must not give one: "ok" says that there is none afterwards. */
static int connect_unspec(struct call *c)
{
	struct endpoint e = endpoint_from(c->argc > 0 ? c->argv[0] : "127.0.0.1", c->argc > 1 ? c->argv[1] : "9");
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);
	struct endpoint peer = {.len = sizeof(peer.in6)};

	e.sa.sa_family = AF_UNSPEC;
	if (fd < 0 || connect(fd, &e.sa, e.len))
		return errno;
	if (!getpeername(fd, &peer.sa, &peer.len))
		return EISCONN;
	return errno == ENOTCONN ? 0 : errno;
}

/* The kernel reads an address of family AF_UNSPEC on an AF_INET socket as IPv4. */
static int udp_unspec(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);

	e.sa.sa_family = AF_UNSPEC;
	if (fd < 0 || sendto(fd, payload, sizeof(payload) - 1, 0, &e.sa, e.len) < 0)
		return errno;
	return await_answer(c, fd);
}

/* A path that begins with @ is a name in the abstract namespace. With MS the victim stays until the peer closes, so that
 * the peer can look at it. */
static int unix_connect(struct call *c)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t len = strlen(c->argv[0]);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (len >= sizeof(sun.sun_path))
		die(0, "%s is too long for a unix socket", c->argv[0]);
	memcpy(sun.sun_path, c->argv[0], len);
	if (sun.sun_path[0] == '@')
		sun.sun_path[0] = '\0';
	else
		len++; /* with the NUL */
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, offsetof(struct sockaddr_un, sun_path) + len))
		return errno;
	return c->argc > 1 ? wait_for(fd, POLLIN, number_arg(c, 1, 0)) : 0;
}

struct word {
	const char *name;
	int value;
};

static const struct word families[] = {
	{"unspec", AF_UNSPEC}, {"unix", AF_UNIX}, {"inet", AF_INET}, {"inet6", AF_INET6}, {"packet", AF_PACKET}, {"netlink", AF_NETLINK},
	{"vsock", AF_VSOCK}, {"alg", AF_ALG}, {"key", AF_KEY}, {"can", AF_CAN}, {"tipc", AF_TIPC}, {"xdp", AF_XDP},
	{"bluetooth", AF_BLUETOOTH}, {"qipcrtr", AF_QIPCRTR}, {NULL, 0},
};

static const struct word types[] = {
	{"stream", SOCK_STREAM}, {"dgram", SOCK_DGRAM}, {"raw", SOCK_RAW}, {"seqpacket", SOCK_SEQPACKET}, {"rdm", SOCK_RDM},
	{"dccp", SOCK_DCCP}, {NULL, 0},
};

static const struct word protocols[] = {
	{"ip", IPPROTO_IP}, {"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"icmp", IPPROTO_ICMP}, {"icmpv6", IPPROTO_ICMPV6},
	{"sctp", IPPROTO_SCTP}, {"udplite", IPPROTO_UDPLITE}, {"dccp", IPPROTO_DCCP}, {"gre", IPPROTO_GRE}, {"raw", IPPROTO_RAW},
	{"mptcp", IPPROTO_MPTCP}, {NULL, 0},
};

static int word_arg(const struct call *c, int i, const struct word *words)
{
	for (; words->name; words++)
		if (!strcmp(words->name, c->argv[i]))
			return words->value;
	return number_arg(c, i, 0);
}

static int socket_only(struct call *c)
{
	int family = word_arg(c, 0, families), type = word_arg(c, 1, types);

	return socket(family, type | SOCK_CLOEXEC, c->argc > 2 ? word_arg(c, 2, protocols) : 0) < 0 ? errno : 0;
}

const struct attempt connect_attempts[] = {
	{"connect-tcp", 2, 3, connect_tcp, "ADDR PORT [MS]"},
	{"nonblock-tcp", 2, 3, nonblock_tcp, "ADDR PORT [MS]"},
	{"fastopen", 2, 3, fastopen, "ADDR PORT [MS]"},
	{"fastopen-connect", 2, 3, fastopen_connect, "ADDR PORT [MS]"},
	{"connect-udp", 2, 3, connect_udp, "ADDR PORT [MS]      with MS an answer must come within them"},
	{"sendto-udp", 2, 3, sendto_udp, "ADDR PORT [MS]"},
	{"sendmsg-udp", 2, 3, sendmsg_udp, "ADDR PORT [MS]"},
	{"sendmmsg-udp", 2, 3, sendmmsg_udp, "ADDR PORT [MS]     two messages"},
	{"udp-unspec", 2, 3, udp_unspec, "ADDR PORT [MS]"},
	{"connect-unspec", 0, 2, connect_unspec, "[ADDR PORT]"},
	{"unix-connect", 1, 2, unix_connect, "PATH|@NAME [MS]     with MS stays until the peer closes"},
	{"socket", 2, 3, socket_only, "FAMILY TYPE [PROTO]     numbers or names"},
	{0},
};
