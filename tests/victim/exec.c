// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Transforms that keep the process and change what it runs or how it looks. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "victim.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U /* Linux 6.3 */
#endif

#define SELF "/proc/self/exe"

const char *own_path(void)
{
	static char path[PATH_MAX];
	ssize_t n = readlink(SELF, path, sizeof(path) - 1);

	if (n < 0)
		die(errno, "reading " SELF);
	path[n] = '\0';
	if (access(path, X_OK))
		die(errno, "%s", path);
	return path;
}

/* execv with argv[0] = name and the rest of the line. */
static _Noreturn void exec_rest(const char *file, const char *name, char **rest)
{
	rest[-1] = (char *)name;
	execv(file, rest - 1);
	die(errno, "exec %s", file);
}

static void exec_self(char **args, char **rest)
{
	(void)args;
	exec_rest(SELF, own_argv0, rest);
}

static void argv0(char **args, char **rest)
{
	exec_rest(SELF, args[0], rest);
}

static void *exec_thread(void *rest)
{
	exec_rest(SELF, own_argv0, rest);
}

/* execve from a thread that is not the first: the kernel gives the first one's pid to it. */
static void thread_exec(char **args, char **rest)
{
	pthread_t thread;
	int err = pthread_create(&thread, NULL, exec_thread, rest);

	(void)args;
	if (err)
		die(err, "making a thread");
	for (;;)
		pause();
}

/* Copies this program's file to an open one. */
static void copy_self(int to)
{
	int from = open(SELF, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (from < 0 || fstat(from, &st))
		die(errno, "opening " SELF);
	while (st.st_size > 0) {
		ssize_t n = sendfile(to, from, NULL, st.st_size);

		if (n <= 0)
			die(n ? errno : EIO, "copying " SELF);
		st.st_size -= n;
	}
	close(from);
}

/* The program from a file that has no name. */
static void memfd(char **args, char **rest)
{
	int fd = memfd_create("victim", MFD_CLOEXEC | MFD_EXEC);

	(void)args;
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("victim", MFD_CLOEXEC);
	if (fd < 0)
		die(errno, "memfd_create");
	copy_self(fd);
	rest[-1] = (char *)own_argv0;
	syscall(SYS_execveat, fd, "", rest - 1, environ, AT_EMPTY_PATH);
	die(errno, "exec of a memfd");
}

static int create(const char *path)
{
	int fd;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (fd < 0)
		die(errno, "making %s", path);
	return fd;
}

static void copy(char **args, char **rest)
{
	int fd = create(args[0]);

	copy_self(fd);
	close(fd); /* before the exec, or it is ETXTBSY */
	exec_rest(args[0], args[0], rest);
}

/* A copy below another root directory, called there by a path that is another file's outside. */
static void change_root(char **args, char **rest)
{
	static char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s%s", args[0], args[1]) >= (int)sizeof(path))
		die(ENAMETOOLONG, "%s", args[0]);
	fd = create(path);
	copy_self(fd);
	close(fd);
	if (chroot(args[0]) || chdir("/"))
		die(errno, "chroot %s", args[0]);
	exec_rest(args[1], args[1], rest);
}

/* A copy that has no name any more when it runs. */
static void deleted(char **args, char **rest)
{
	int fd = create(args[0]);

	copy_self(fd);
	close(fd);
	fd = open(args[0], O_PATH | O_CLOEXEC);
	if (fd < 0 || unlink(args[0]))
		die(errno, "%s", args[0]);
	rest[-1] = args[0];
	syscall(SYS_execveat, fd, "", rest - 1, environ, AT_EMPTY_PATH);
	die(errno, "exec of what is deleted");
}

static void hard_link(char **args, char **rest)
{
	unlink(args[0]);
	if (link(own_path(), args[0]))
		die(errno, "linking %s", args[0]);
	exec_rest(args[0], args[0], rest);
}

static void symbolic_link(char **args, char **rest)
{
	unlink(args[0]);
	if (symlink(own_path(), args[0]))
		die(errno, "linking %s", args[0]);
	exec_rest(args[0], args[0], rest);
}

/* A #! script whose interpreter is this program; main skips what the kernel adds to the line. */
static void script(char **args, char **rest)
{
	int fd = create(args[0]);

	if (dprintf(fd, "#!%s --script\n", own_path()) < 0)
		die(errno, "writing %s", args[0]);
	close(fd);
	exec_rest(args[0], args[0], rest);
}

/* Executes a file that is there. */
static void run(char **args, char **rest)
{
	exec_rest(args[0], args[0], rest);
}

/* The same by a descriptor, which is all that the kernel tells an interpreter: /dev/fd/N. */
static void run_fd(char **args, char **rest)
{
	int fd = open(args[0], O_RDONLY); /* stays open for the interpreter */

	if (fd < 0)
		die(errno, "opening %s", args[0]);
	rest[-1] = args[0];
	syscall(SYS_execveat, fd, "", rest - 1, environ, AT_EMPTY_PATH);
	die(errno, "exec of a descriptor");
}

/* An exec that fails. */
static void run_fails(char **args, char **rest)
{
	char *argv[] = {args[0], NULL};

	(void)rest;
	execv(args[0], argv);
}

/* Another process gets this one's working directory, and could change it. */
static void share_dir(char **args, char **rest)
{
	pid_t parent = getpid();
	long child = syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);

	(void)args, (void)rest;
	if (child < 0)
		die(errno, "clone");
	if (child)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent)
		pause();
	_exit(0);
}

static void rename_comm(char **args, char **rest)
{
	(void)rest;
	if (prctl(PR_SET_NAME, args[0]))
		die(errno, "PR_SET_NAME");
}

static void sleep_first(char **args, char **rest)
{
	struct call c = {.name = "sleep", .argc = 1, .argv = args};

	(void)rest;
	sleep_ms(number_arg(&c, 0, 0));
}

static void wait_first(char **args, char **rest)
{
	char c;

	(void)args;
	(void)rest;
	if (read(STDIN_FILENO, &c, 1) < 0)
		die(errno, "reading standard input");
}

/* Lays this program over another one, in a mount namespace of its own, and executes that. */
static void mount_over(char **args, char **rest)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount(own_path(), args[0], NULL, MS_BIND, NULL))
		die(errno, "mounting over %s", args[0]);
	exec_rest(args[0], own_argv0, rest);
}

/* The same in the mount namespace where it is. */
static void mount_inside(char **args, char **rest)
{
	if (mount(own_path(), args[0], NULL, MS_BIND, NULL))
		die(errno, "mounting over %s", args[0]);
	exec_rest(args[0], own_argv0, rest);
}

/* Makes the directories above a path. */
static void make_above(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			die(errno, "mkdir %s", path);
		*slash = '/';
	}
}

/* Executes a copy at PATH of a file system that is mounted nowhere any more. */
static void mount_nowhere(char **args, char **rest)
{
	char dir[] = "/tmp/victim-XXXXXX", path[PATH_MAX];
	int fd;

	if (!mkdtemp(dir) || mount("victim", dir, "tmpfs", 0, NULL))
		die(errno, "mounting %s", dir);
	snprintf(path, sizeof(path), "%s%s", dir, args[0]);
	make_above(path);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	if (fd < 0)
		die(errno, "%s", path);
	copy_self(fd);
	close(fd);
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || umount2(dir, MNT_DETACH) || rmdir(dir))
		die(errno, "%s", path);
	rest[-1] = (char *)own_argv0;
	syscall(SYS_execveat, fd, "", rest - 1, environ, AT_EMPTY_PATH);
	die(errno, "exec of what is mounted nowhere");
}

const struct transform exec_transforms[] = {
	{"exec-self", 0, exec_self, "          execve of /proc/self/exe"},
	{"argv0", 1, argv0, "NAME          the same with another argv[0]"},
	{"thread-exec", 0, thread_exec, "        the same from a second thread"},
	{"memfd", 0, memfd, "              exec of a copy in memory"},
	{"copy", 1, copy, "PATH           exec of a copy"},
	{"chroot", 2, change_root, "DIR PATH     exec of a copy, at PATH below DIR"},
	{"mount-over", 1, mount_over, "PATH     exec of PATH, over which it lies in a mount namespace of its own"},
	{"mount-inside", 1, mount_inside, "PATH   the same in the mount namespace where it is"},
	{"mount-nowhere", 1, mount_nowhere, "PATH  exec of a copy at PATH of a file system that is unmounted"},
	{"deleted", 1, deleted, "PATH        exec of a copy at PATH that is deleted"},
	{"hardlink", 1, hard_link, "PATH"},
	{"symlink", 1, symbolic_link, "PATH"},
	{"script", 1, script, "PATH         exec of a #! script"},
	{"run", 1, run, "PATH            exec of a file that is there"},
	{"run-fd", 1, run_fd, "PATH         the same by a descriptor"},
	{"run-fails", 1, run_fails, "PATH      an exec that fails"},
	{"share-dir", 0, share_dir, "          the working directory with another process"},
	{"rename-comm", 1, rename_comm, "NAME"},
	{"sleep", 1, sleep_first, "MS"},
	{"wait", 0, wait_first, "               for a byte on standard input, or its end"},
	{0},
};
