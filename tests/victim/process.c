// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Transforms that go on in another process. Where that one is a descendant which wait() still finds, its exit code comes
 * that way; where it is reparented, over a status pipe. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

#define STATUS_ENV "VICTIM_STATUS_FD" /* an execve must not lose the pipe */
#define REUSE_TRIES 200000	      /* forks until a pid must have come round */
#define RESERVED_PIDS 300	      /* the kernel gives none up to it twice */
#define ORPHAN_MS 10000		      /* for a parent to be gone */

void finish(int code)
{
	const char *fd = getenv(STATUS_ENV);
	uint8_t byte = code;

	if (fd && write(atoi(fd), &byte, 1) != 1)
		code = EXIT_VICTIM;
	_exit(code);
}

static int exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static _Noreturn void finish_as(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die(errno, "waiting for the child");
	finish(exit_code(status));
}

static pid_t fork_or_die(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die(errno, "fork");
	return pid;
}

static void pipe_or_die(int fds[2])
{
	if (pipe(fds))
		die(errno, "pipe");
}

static void forward(int from, int to)
{
	char buffer[4096];
	ssize_t n;

	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, n) != n)
			die(errno, "passing output on");
}

/* Returns in a child that holds a new status pipe; with own_output its standard output is a pipe too. This process waits
 * until all who have the pipes are gone, passes the output on and ends with the code that was reported last. */
static void split_off(bool own_output)
{
	int status[2], output[2] = {-1, -1};
	uint8_t byte, code = EXIT_VICTIM; /* stays when the last process dies without a word */
	char text[16];
	pid_t child;

	pipe_or_die(status);
	if (own_output)
		pipe_or_die(output);
	child = fork_or_die();
	if (!child) {
		close(status[0]);
		snprintf(text, sizeof(text), "%d", status[1]);
		setenv(STATUS_ENV, text, 1);
		if (own_output) {
			dup2(output[1], STDOUT_FILENO);
			close(output[0]);
			close(output[1]);
		}
		return;
	}
	close(status[1]);
	if (own_output) {
		close(output[1]);
		forward(output[0], STDOUT_FILENO);
	}
	while (read(status[0], &byte, 1) == 1)
		code = byte;
	waitpid(child, NULL, 0);
	finish(code);
}

/* Ends this process and returns in a child that has seen it gone. */
static void orphan(void)
{
	pid_t parent = getpid();
	long end = now_ms() + ORPHAN_MS;

	if (fork_or_die())
		_exit(0); /* without a word: it is not the last */
	while (getppid() == parent) {
		if (now_ms() > end)
			die(ETIMEDOUT, "waiting for the parent's end");
		sleep_ms(1);
	}
}

static void plain_fork(char **args, char **rest)
{
	pid_t child = fork_or_die();

	(void)args, (void)rest;
	if (child)
		finish_as(child);
}

static void double_fork(char **args, char **rest)
{
	(void)args, (void)rest;
	split_off(false);
	orphan();
}

static void orphan_chain(char **args, char **rest)
{
	struct call c = {.name = "orphan-chain", .argc = 1, .argv = args};

	(void)rest;
	split_off(false);
	for (long i = number_arg(&c, 0, 0); i > 0; i--)
		orphan();
}

static void new_session(char **args, char **rest)
{
	pid_t child = fork_or_die(); /* a leader of a process group could not */

	(void)args, (void)rest;
	if (child)
		finish_as(child);
	if (setsid() < 0)
		die(errno, "setsid");
}

static void daemonise(char **args, char **rest)
{
	int null;

	(void)args, (void)rest;
	split_off(true);
	if (setsid() < 0)
		die(errno, "setsid");
	orphan();
	null = open("/dev/null", O_RDWR);
	if (null < 0 || chdir("/"))
		die(errno, "leaving the working directory");
	umask(0);
	dup2(null, STDIN_FILENO);
	dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

static void vfork_exec(char **args, char **rest)
{
	pid_t child;

	(void)args;
	rest[-1] = (char *)own_argv0;
	child = vfork();
	if (!child) {
		execv("/proc/self/exe", rest - 1);
		_exit(EXIT_VICTIM);
	}
	if (child < 0)
		die(errno, "vfork");
	finish_as(child);
}

/* A child makes a brother of itself and ends: the brother's parent is this process, its maker is gone. */
static void clone_parent(char **args, char **rest)
{
	pid_t maker = fork_or_die(), pid;
	int status, code = EXIT_VICTIM;

	(void)args, (void)rest;
	if (!maker) {
		pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
		if (pid < 0)
			die(errno, "clone with CLONE_PARENT");
		if (pid)
			_exit(0);
		return;
	}
	/* The brother exists before its maker ends, so that the last child to be waited for is never missed. */
	for (;;) {
		pid = waitpid(-1, &status, 0);
		if (pid < 0 && errno != EINTR)
			finish(code); /* ECHILD: both are gone */
		if (pid > 0 && (pid != maker || exit_code(status)))
			code = exit_code(status);
	}
}

static pid_t clone3(struct clone_args *args)
{
	args->exit_signal = SIGCHLD;
	return syscall(SYS_clone3, args, sizeof(*args));
}

static void into_cgroup(char **args, char **rest)
{
	int cgroup = open(args[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct clone_args clone = {.flags = CLONE_INTO_CGROUP, .cgroup = cgroup};
	pid_t child;

	(void)rest;
	if (cgroup < 0)
		die(errno, "opening %s", args[0]);
	child = clone3(&clone);
	if (child < 0)
		die(errno, "clone3 into %s", args[0]);
	if (child)
		finish_as(child);
}

static void unshare_pid(char **args, char **rest)
{
	if (unshare(CLONE_NEWPID))
		die(errno, "unshare of the pid namespace");
	plain_fork(args, rest);
}

/* Forks until a child has the pid. It returns 0 in that child and its pid here. The others are reaped by the kernel, so
 * that nothing waits for them; the one that is wanted starts only when it can be waited for again. */
static pid_t fork_until(pid_t wanted)
{
	char byte = 0;
	int go[2];

	pipe_or_die(go);
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < REUSE_TRIES; i++) {
		pid_t child = fork();

		if (!child) {
			if (getpid() != wanted)
				_exit(0);
			signal(SIGCHLD, SIG_DFL);
			if (read(go[0], &byte, 1) != 1)
				die(errno, "waiting for the start");
		}
		if (child > 0 && child == wanted) {
			signal(SIGCHLD, SIG_DFL);
			if (write(go[1], &byte, 1) != 1)
				die(errno, "starting the child");
		}
		if (child == wanted || !child) {
			close(go[0]);
			close(go[1]);
			return child;
		}
		if (child < 0)
			sleep_ms(1); /* EAGAIN: let those that are ending end */
	}
	die(0, "pid-reuse: gave up after %d forks", REUSE_TRIES);
}

/* The pid of a child that is gone. */
static pid_t dead_pid(void)
{
	pid_t child = fork_or_die();

	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	return child;
}

/* Goes on under a pid that another child had before: by asking for it, which needs CAP_CHECKPOINT_RESTORE, or by forking
 * until it comes round, which takes kernel.pid_max forks. */
static void pid_reuse(char **args, char **rest)
{
	pid_t dead = dead_pid(), child;
	struct clone_args clone = {.set_tid = (uintptr_t)&dead, .set_tid_size = 1};

	(void)args, (void)rest;
	child = clone3(&clone);
	if (child < 0) {
		while (dead <= RESERVED_PIDS)
			dead = dead_pid();
		child = fork_until(dead);
	}
	if (child)
		finish_as(child);
}

/* Goes on in the youngest of N children, when the others are gone. */
static void crowd(char **args, char **rest)
{
	long n = strtol(args[0], NULL, 10), i;
	pid_t *children = calloc(n + 1, sizeof(*children));
	int go[2];
	char byte;

	(void)rest;
	if (!children)
		die(errno, "memory for %ld pids", n);
	pipe_or_die(go);
	for (i = 0; i < n; i++) {
		children[i] = fork_or_die();
		if (children[i])
			continue;
		close(go[1]);
		if (read(go[0], &byte, 1) == 1)
			return;
		_exit(0); /* its end has closed the pipe */
	}
	for (i = 0; i < n - 1; i++)
		kill(children[i], SIGKILL);
	for (i = 0; i < n - 1; i++)
		waitpid(children[i], NULL, 0);
	if (write(go[1], "", 1) != 1)
		die(errno, "telling the last child to go on");
	finish_as(children[n - 1]);
}

static void fork_often(char **args, char **rest)
{
	(void)rest;
	for (long n = strtol(args[0], NULL, 10); n > 1; n--) {
		pid_t child = fork_or_die();

		if (!child)
			_exit(0);
		waitpid(child, NULL, 0);
	}
	plain_fork(NULL, NULL);
}

const struct transform process_transforms[] = {
	{"fork", 0, plain_fork, ""},
	{"vfork", 0, vfork_exec, "              with execve"},
	{"double-fork", 0, double_fork, "        reparented, after its parent is gone"},
	{"orphan-chain", 1, orphan_chain, "N      N generations, each gone before the next goes on"},
	{"setsid", 0, new_session, "             in a child"},
	{"daemon", 0, daemonise, "             double fork, setsid, / as working directory"},
	{"clone-parent", 0, clone_parent, "       CLONE_PARENT"},
	{"into-cgroup", 1, into_cgroup, "DIR     CLONE_INTO_CGROUP"},
	{"unshare-pid", 0, unshare_pid, "        first process of a pid namespace"},
	{"crowd", 1, crowd, "N             the youngest of N children, when the others are gone"},
	{"forks", 1, fork_often, "N             the last of N children, each of which has ended when the next begins"},
	{"pid-reuse", 0, pid_reuse, "          under a pid that died before"},
	{0},
};
