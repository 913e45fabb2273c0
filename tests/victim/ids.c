// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Changes of the ids that a process acts under. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "victim.h"

enum { MOST_GROUPS = 64 };

static unsigned int id_from(const char *text)
{
	char *end;
	unsigned long id = strtoul(text, &end, 10);

	if (*end || end == text)
		die(0, "%s is no id", text);
	return id;
}

static void set_uids(char **args, char **line)
{
	(void)line;
	if (setresuid(id_from(args[0]), id_from(args[1]), id_from(args[2])))
		die(errno, "setresuid");
}

static void set_gids(char **args, char **line)
{
	(void)line;
	if (setresgid(id_from(args[0]), id_from(args[1]), id_from(args[2])))
		die(errno, "setresgid");
}

static void set_groups(char **args, char **line)
{
	gid_t groups[MOST_GROUPS];
	unsigned int first = id_from(args[0]), count = id_from(args[1]);

	(void)line;
	if (count > MOST_GROUPS)
		die(0, "not more than %d groups", MOST_GROUPS);
	for (unsigned int i = 0; i < count; i++)
		groups[i] = first + i;
	if (setgroups(count, groups))
		die(errno, "setgroups");
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f))
		die(errno, "writing %s", path);
}

/* A user namespace of its own, in which its user is called otherwise. */
static void unshare_user(char **args, char **line)
{
	char map[64];

	(void)line;
	snprintf(map, sizeof(map), "%u %u 1", id_from(args[0]), geteuid());
	/* A process whose ids have changed may not write to its own files in /proc. */
	if (prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER))
		die(errno, "unshare");
	write_file("/proc/self/setgroups", "deny");
	write_file("/proc/self/uid_map", map);
}

const struct transform id_transforms[] = {
	{"setresuid", 3, set_uids, "R E S    real, effective and saved user"},
	{"setresgid", 3, set_gids, "R E S    the same for groups"},
	{"setgroups", 2, set_groups, "FIRST N  N supplementary groups from FIRST on"},
	{"unshare-user", 1, unshare_user, "ID  a user namespace that calls its user ID"},
	{0},
};

/* Sends on a connected socket, changes the effective user, and sends again: by which of both what goes wrong. */
static int send_twice(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);

	if (fd < 0 || connect(fd, &e.sa, e.len) || send(fd, "x", 1, 0) != 1)
		die(errno, "the first send");
	if (setresuid(-1, id_from(c->argv[2]), -1))
		die(errno, "setresuid");
	return send(fd, "x", 1, 0) == 1 ? 0 : errno;
}

const struct attempt id_attempts[] = {
	{"send-as", 3, 3, send_twice, "ADDR PORT UID     a second send on a connection, as another effective user"},
	{0},
};
