// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts to act as another process: to reach into it, or to use a socket of its. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "victim.h"

#define LAST_FD 32

static char borrowed[] = "borrowed";

/* Sends on a socket that somebody else connected. */
static int send_on(int fd)
{
	return send(fd, borrowed, sizeof(borrowed) - 1, MSG_NOSIGNAL) < 0 ? errno : 0;
}

static int reach_ptrace(pid_t pid)
{
	return ptrace(PTRACE_SEIZE, pid, NULL, NULL) ? errno : 0;
}

static int reach_mem(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	return open(path, O_RDWR | O_CLOEXEC) < 0 ? errno : 0;
}

/* The program is static and not relocated: what lies here lies there. */
static int reach_vm(pid_t pid)
{
	struct iovec iov = {.iov_base = borrowed, .iov_len = 1};

	return process_vm_writev(pid, &iov, 1, &iov, 1, 0) < 0 ? errno : 0;
}

/* Takes the first socket of the process that is connected over IP, and sends on it. */
static int reach_getfd(pid_t pid)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0)
		return errno;
	for (int there = 0; there < LAST_FD; there++) {
		struct endpoint peer = {.len = sizeof(peer.in6)};
		int fd = syscall(SYS_pidfd_getfd, pidfd, there, 0);

		if (fd < 0 && errno == EBADF)
			continue;
		if (fd < 0)
			return errno;
		if (!getpeername(fd, &peer.sa, &peer.len) && (peer.sa.sa_family == AF_INET || peer.sa.sa_family == AF_INET6))
			return send_on(fd);
	}
	return ENOENT;
}

/* PID may be "parent". */
static int reach(struct call *c)
{
	static const struct {
		const char *name;
		int (*run)(pid_t pid);
	} ways[] = {{"ptrace", reach_ptrace}, {"mem", reach_mem}, {"vm", reach_vm}, {"getfd", reach_getfd}};
	pid_t pid = strcmp(c->argv[1], "parent") ? number_arg(c, 1, 0) : getppid();

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(ways[i].name, c->argv[0]))
			return ways[i].run(pid);
	die(0, "there is no way %s to reach a process", c->argv[0]);
}

socklen_t abstract(struct sockaddr_un *sun, const char *name)
{
	size_t len = strlen(name);

	if (name[0] != '@' || len >= sizeof(sun->sun_path))
		die(0, "%s is no name in the abstract namespace", name);
	*sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(sun->sun_path + 1, name + 1, len - 1);
	return offsetof(struct sockaddr_un, sun_path) + len;
}

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

/* Hands a file to who is at the other end. */
static int hand(int to, int fd)
{
	struct iovec iov = {.iov_base = borrowed, .iov_len = 1};
	union control control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(to, &m, MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* Connects, and hands the connection to everybody who comes to the unix socket NAME within MS. */
static int offer_tcp(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	long end = now_ms() + number_arg(c, 3, 0);
	int tcp = endpoint_socket(&e, SOCK_STREAM, 0);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sun;
	socklen_t len = abstract(&sun, c->argv[2]);
	int err;

	/* It is offered first: who sees the connection takes it. */
	if (tcp < 0 || listener < 0 || bind(listener, (struct sockaddr *)&sun, len) || listen(listener, 8))
		return errno;
	err = connect_within(tcp, &e, 3000);
	if (err)
		return err;
	while (now_ms() < end) {
		int fd;

		if (wait_for(listener, POLLIN, end - now_ms()))
			break;
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return errno;
		err = hand(fd, tcp);
		close(fd);
		if (err)
			return err;
	}
	return 0;
}

/* Takes a connection from the unix socket NAME and sends on it. EACCES: the file did not come. */
static int take(struct call *c)
{
	struct iovec iov = {.iov_base = borrowed, .iov_len = 1};
	union control control;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct sockaddr_un sun;
	socklen_t len = abstract(&sun, c->argv[0]);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct cmsghdr *header;

	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, len) || recvmsg(fd, &m, MSG_CMSG_CLOEXEC) < 0)
		return errno;
	header = CMSG_FIRSTHDR(&m);
	if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len < CMSG_LEN(sizeof(int)))
		return EACCES;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return send_on(fd);
}

/* Sends on a connection that it was started with. */
static int send_fd(struct call *c)
{
	return send_on(number_arg(c, 0, 0));
}

const struct attempt borrow_attempts[] = {
	{"send-fd", 1, 1, send_fd, "FD                     sends on a connection that was there when it started"},
	{"reach", 2, 2, reach, "ptrace|mem|vm|getfd PID     getfd sends on a connection of that process"},
	{"offer-tcp", 4, 4, offer_tcp, "ADDR PORT @NAME MS"},
	{"take", 1, 1, take, "@NAME                    sends on what offer-tcp hands out"},
	{0},
};
