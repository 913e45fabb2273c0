// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts against an agent: its process, and what it has put into the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "victim.h"

static int signal_to(struct call *c)
{
	return kill(number_arg(c, 0, 0), number_arg(c, 1, 0)) ? errno : 0;
}

/* Lets the kernel kill the process when something can be read from a socket. EPERM: it lives on. */
static int sigio(struct call *c)
{
	pid_t pid = number_arg(c, 0, 0);
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return errno;
	if (fcntl(ends[0], F_SETOWN, pid) || fcntl(ends[0], F_SETSIG, SIGKILL) || fcntl(ends[0], F_SETFL, O_ASYNC))
		return errno;
	if (write(ends[1], "x", 1) != 1)
		return errno;
	for (int i = 0; i < 50; i++) {
		char path[32], text[256] = "", *end;
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return 0;
		n = read(fd, text, sizeof(text) - 1); /* PID (NAME) STATE */
		close(fd);
		end = n > 0 ? strrchr(text, ')') : NULL;
		if (!end || end[2] == 'Z' || end[2] == 'X')
			return 0;
		sleep_ms(10);
	}
	return EPERM;
}

static int limit(struct call *c)
{
	struct rlimit none = {0};

	return prlimit(number_arg(c, 0, 0), RLIMIT_CORE, &none, NULL) ? errno : 0;
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* A map of its own; -1 with errno. */
static int own_map(void)
{
	union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

	return bpf(BPF_MAP_CREATE, &attr);
}

/* A program of a type that does nothing; -1 with errno. */
static int own_program(uint32_t type)
{
	const struct bpf_insn nothing[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attr = {.prog_type = type, .insns = (uintptr_t)nothing, .insn_cnt = 2, .license = (uintptr_t)"GPL"};

	return bpf(BPF_PROG_LOAD, &attr);
}

/* Opens the first of all objects of a kind by its number, whosever it is. */
static int by_id(int next, int get)
{
	union bpf_attr attr = {0};

	for (;;) {
		union bpf_attr one = {0};

		if (bpf(next, &attr))
			return errno;
		one.map_id = attr.next_id; /* in one union with all other numbers */
		if (bpf(get, &one) >= 0)
			return 0;
		if (errno != ENOENT)
			return errno;
		attr.start_id = attr.next_id;
	}
}

static int pin(const char *path)
{
	union bpf_attr attr = {.pathname = (uintptr_t)path};

	return bpf(BPF_OBJ_GET, &attr) < 0 ? errno : 0;
}

/* Makes what it needs itself, so that there is something in any case. */
static int object(struct call *c)
{
	const char *what = c->argv[0];

	if (own_map() < 0 || own_program(BPF_PROG_TYPE_SOCKET_FILTER) < 0)
		return errno == EPERM ? ENOTSUP : errno; /* nobody refuses these */
	if (!strcmp(what, "map"))
		return by_id(BPF_MAP_GET_NEXT_ID, BPF_MAP_GET_FD_BY_ID);
	if (!strcmp(what, "program"))
		return by_id(BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID);
	if (!strcmp(what, "link"))
		return by_id(BPF_LINK_GET_NEXT_ID, BPF_LINK_GET_FD_BY_ID);
	if (!strcmp(what, "tracer"))
		return own_program(BPF_PROG_TYPE_TRACEPOINT) < 0 ? errno : 0;
	if (what[0] == '/')
		return pin(what);
	die(0, "there is no object %s", what);
}

const struct attempt agent_attempts[] = {
	{"signal", 2, 2, signal_to, "PID SIGNAL"},
	{"sigio", 1, 1, sigio, "PID                     kills it by a signal that a socket sends"},
	{"limit", 1, 1, limit, "PID"},
	{"bpf", 1, 1, object, "map|program|link|tracer|PIN   opens one of anybody's, or loads a program that traces"},
	{0},
};
