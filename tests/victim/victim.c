// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* victim: a program that tries to reach the network in every way the tests know of, out of every kind of process.
 *
 *	victim TRANSFORM… -- ATTEMPT
 *
 * Every TRANSFORM changes the process or makes another one that runs the rest of the line. The ATTEMPT prints exactly
 * one line on standard output, "NAME: ok" or "NAME: EPERM" (the errno's name; loop-* and hold-tcp print counts), and
 * ends with 0 or 1. However many processes lie between, the first one waits for the last and ends with its code; 125 says
 * that the line was wrong or a transform did not work, 128+N that signal N ended the process.
 *
 * It is C and static so that nothing but the calls written here happens, and so that it runs in any container. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "victim.h"

const char *own_argv0;

static const struct attempt *const attempt_tables[] = {connect_attempts, serve_attempts, raw_attempts, uring_attempts, borrow_attempts,
						    id_attempts, evade_attempts, agent_attempts, sctp_attempts, space_attempts, say_attempts,
						    relay_attempts};
static const struct transform *const transform_tables[] = {exec_transforms, process_transforms, id_transforms, space_transforms};

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: victim TRANSFORM... -- ATTEMPT\ntransforms:\n");
	for (size_t i = 0; i < ARRAY_SIZE(transform_tables); i++)
		for (const struct transform *t = transform_tables[i]; t->name; t++)
			fprintf(stderr, "  %s %s\n", t->name, t->usage);
	fprintf(stderr, "attempts:\n");
	for (size_t i = 0; i < ARRAY_SIZE(attempt_tables); i++)
		for (const struct attempt *a = attempt_tables[i]; a->name; a++)
			fprintf(stderr, "  %s %s\n", a->name, a->usage);
	finish(EXIT_VICTIM);
}

static const char *errno_name(int err)
{
	const char *name = strerrorname_np(err);

	return name ? name : "EUNKNOWN";
}

void die(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "victim: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, err ? ": %s\n" : "\n", errno_name(err));
	va_end(args);
	finish(EXIT_VICTIM);
}

/* The line is one write, so that it stays whole whatever else writes to the same pipe. */
static _Noreturn void attempt(char **line)
{
	const struct attempt *a;

	for (size_t i = 0; line[0] && i < ARRAY_SIZE(attempt_tables); i++) {
		for (a = attempt_tables[i]; a->name; a++) {
			struct call c = {.name = a->name, .argv = line + 1};
			int err;

			if (strcmp(a->name, line[0]))
				continue;
			while (c.argv[c.argc])
				c.argc++;
			if (c.argc < a->min_args || c.argc > a->max_args)
				die(0, "want %s %s", a->name, a->usage);
			err = a->run(&c);
			if (dprintf(STDOUT_FILENO, "%s: %s\n", a->name, c.text[0] ? c.text : err ? errno_name(err) : "ok") < 0)
				die(errno, "printing the result");
			finish(err ? 1 : 0);
		}
	}
	die(0, "there is no attempt %s", line[0] ? line[0] : "in the line");
}

static const struct transform *find_transform(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(transform_tables); i++)
		for (const struct transform *t = transform_tables[i]; t->name; t++)
			if (!strcmp(t->name, name))
				return t;
	die(0, "there is no transform %s", name);
}

int main(int argc, char **argv)
{
	char **line = argv + 1;

	if (argc < 2)
		usage();
	own_argv0 = argv[0];
	signal(SIGPIPE, SIG_IGN);
	/* The kernel runs a script as: interpreter, its one argument, path of the script, arguments of the script. */
	if (argc > 3 && !strcmp(argv[1], "--script"))
		line = argv + 3;
	while (*line && strcmp(*line, "--")) {
		const struct transform *t = find_transform(*line);
		char **args = ++line;

		for (int i = 0; i < t->args; i++)
			if (!*line++)
				die(0, "want %s %s", t->name, t->usage);
		t->apply(args, line);
	}
	if (!*line)
		die(0, "the line has no --");
	attempt(line + 1);
}

struct endpoint endpoint_from(const char *address, const char *port)
{
	struct endpoint e = {0};
	char *end;
	unsigned long number = strtoul(port, &end, 10);

	if (*end || end == port || number > 65535)
		die(0, "port %s is no number up to 65535", port);
	if (strchr(address, ':')) {
		e.in6.sin6_family = AF_INET6;
		e.in6.sin6_port = htons(number);
		e.len = sizeof(e.in6);
		if (inet_pton(AF_INET6, address, &e.in6.sin6_addr) != 1)
			die(0, "%s is no IPv6 address", address);
		return e;
	}
	e.in.sin_family = AF_INET;
	e.in.sin_port = htons(number);
	e.len = sizeof(e.in);
	if (inet_pton(AF_INET, address, &e.in.sin_addr) != 1)
		die(0, "%s is no IPv4 address", address);
	return e;
}

long number_arg(const struct call *c, int i, long fallback)
{
	char *end;
	long number;

	if (i >= c->argc)
		return fallback;
	errno = 0;
	number = strtol(c->argv[i], &end, 10);
	if (*end || end == c->argv[i] || errno || number < 0 || number > INT_MAX)
		die(0, "%s: %s is no number", c->name, c->argv[i]);
	return number;
}

int endpoint_socket(const struct endpoint *e, int type, int protocol)
{
	return socket(e->sa.sa_family, type | SOCK_CLOEXEC, protocol);
}

void set_timeouts(int fd, long ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)))
		die(errno, "setting time limits");
}

int wait_for(int fd, short events, long ms)
{
	struct pollfd p = {.fd = fd, .events = events};
	int n = poll(&p, 1, ms);

	return n < 0 ? errno : n ? 0 : ETIMEDOUT;
}

int connect_within(int fd, const struct endpoint *e, long ms)
{
	set_timeouts(fd, ms);
	if (!connect(fd, &e->sa, e->len))
		return 0;
	/* A blocking connect that its time limit ends says "in progress". */
	return errno == EINPROGRESS ? ETIMEDOUT : errno;
}

long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void sleep_ms(long ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}
