// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* What the parts of the victim share. See victim.c for what the program is. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/types.h>

/* Exit code of a victim that could not do what its command line says. Attempts end with 0 or 1. */
#define EXIT_VICTIM 125

/* One attempt as the command line has it. */
struct call {
	const char *name;
	int argc;
	char **argv;	/* the arguments after the name */
	char text[128]; /* when set by the attempt: printed instead of the errno's name */
};

/* An attempt returns 0 or a positive errno. */
typedef int attempt_fn(struct call *c);

/* A transform returns in the process that goes on with the rest of the line, or not at all. rest is the tail of argv,
 * NULL-terminated; rest[-1] may be overwritten (it takes argv[0] of an execve). */
typedef void transform_fn(char **args, char **rest);

struct attempt {
	const char *name;
	int min_args, max_args;
	attempt_fn *run;
	const char *usage;
};

struct transform {
	const char *name;
	int args;
	transform_fn *apply;
	const char *usage;
};

/* Tables of the other files; each ends with an entry without a name. */
extern const struct attempt connect_attempts[], serve_attempts[], raw_attempts[], uring_attempts[], borrow_attempts[],
	id_attempts[], evade_attempts[], agent_attempts[], sctp_attempts[], space_attempts[], say_attempts[], relay_attempts[];
extern const struct transform exec_transforms[], process_transforms[], id_transforms[], space_transforms[];

/* The address of the unix socket @NAME in the abstract namespace, and its length. */
socklen_t abstract(struct sockaddr_un *sun, const char *name);

/* An address and port as written on the command line. The spelling decides the family: a colon makes it IPv6, so that
 * ::ffff:a.b.c.d is IPv4 on an AF_INET6 socket. */
struct endpoint {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
	socklen_t len;
};

struct endpoint endpoint_from(const char *address, const char *port);

/* Argument i as a number, or fallback when the line ends before it. */
long number_arg(const struct call *c, int i, long fallback);

/* A socket of the endpoint's family, close-on-exec; -1 with errno. */
int endpoint_socket(const struct endpoint *e, int type, int protocol);

/* Limits how long one call on the socket may block. */
void set_timeouts(int fd, long ms);

/* Waits for poll events; 0, ETIMEDOUT or another errno. */
int wait_for(int fd, short events, long ms);

/* A blocking connect within ms; 0 or an errno. */
int connect_within(int fd, const struct endpoint *e, long ms);

/* Milliseconds of the monotonic clock. */
long now_ms(void);

void sleep_ms(long ms);

/* Ends the program with a message: the command line is wrong, or a transform did not work. With err, its name follows. */
_Noreturn void die(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Ends this process with an exit code, which a process that waits on a status pipe (process.c) learns too. */
_Noreturn void finish(int code);

/* Path of this program's file; dies when it has none that can be opened by name. */
const char *own_path(void);

/* argv[0] of this process. */
extern const char *own_argv0;
