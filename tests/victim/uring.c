// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Connects and sends through io_uring, by its bare system calls: inline in io_uring_enter, in a worker thread of the kernel
 * (IOSQE_ASYNC), and by the kernel's polling thread (SQPOLL). */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

#define DEFAULT_TIMEOUT_MS 3000

/* A ring that takes one request. */
struct ring {
	int fd;
	struct io_uring_params params;
	uint8_t *rings; /* both rings: every kernel of interest maps them at once */
	struct io_uring_sqe *requests;
};

/* Maps a ring of which the descriptor and the parameters are known. */
static int map_ring(struct ring *r)
{
	size_t submissions, completions;

	if (!(r->params.features & IORING_FEAT_SINGLE_MMAP) || !(r->params.features & IORING_FEAT_EXT_ARG))
		return EOPNOTSUPP;
	submissions = r->params.sq_off.array + r->params.sq_entries * sizeof(uint32_t);
	completions = r->params.cq_off.cqes + r->params.cq_entries * sizeof(struct io_uring_cqe);
	r->rings = mmap(NULL, submissions > completions ? submissions : completions, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
			IORING_OFF_SQ_RING);
	r->requests = mmap(NULL, r->params.sq_entries * sizeof(*r->requests), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
			   IORING_OFF_SQES);
	return r->rings == MAP_FAILED || r->requests == MAP_FAILED ? errno : 0;
}

static int open_ring(struct ring *r, uint32_t flags)
{
	*r = (struct ring){.params = {.flags = flags, .sq_thread_idle = 100}};
	r->fd = syscall(SYS_io_uring_setup, 1, &r->params);
	return r->fd < 0 ? errno : map_ring(r);
}

/* Puts the request in slot 0 up for the kernel and waits for its result: 0 or an errno. Once for a ring. */
static int submit(struct ring *r, long ms)
{
	struct __kernel_timespec limit = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	struct io_uring_getevents_arg arg = {.ts = (uintptr_t)&limit};
	_Atomic uint32_t *tail = (void *)(r->rings + r->params.sq_off.tail);
	_Atomic uint32_t *done = (void *)(r->rings + r->params.cq_off.tail);
	struct io_uring_cqe *results = (void *)(r->rings + r->params.cq_off.cqes);
	uint32_t *slots = (void *)(r->rings + r->params.sq_off.array);
	bool polled = r->params.flags & IORING_SETUP_SQPOLL;
	/* Waking a polling thread that is awake is harmless. */
	uint32_t flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | (polled ? IORING_ENTER_SQ_WAKEUP : 0);

	slots[0] = 0;
	atomic_store_explicit(tail, 1, memory_order_release);
	while (!atomic_load_explicit(done, memory_order_acquire))
		if (syscall(SYS_io_uring_enter, r->fd, polled ? 0 : 1, 1, flags, &arg, sizeof(arg)) < 0 && errno != EINTR)
			return errno == ETIME ? ETIMEDOUT : errno;
	return results[0].res < 0 ? -results[0].res : 0;
}

static int uring_connect_with(struct call *c, uint32_t setup_flags, uint8_t request_flags)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);
	struct ring r;
	int err = fd < 0 ? errno : open_ring(&r, setup_flags);

	if (err)
		return err;
	r.requests[0] = (struct io_uring_sqe){
		.opcode = IORING_OP_CONNECT, .flags = request_flags, .fd = fd, .addr = (uintptr_t)&e.sa, .off = e.len,
	};
	return submit(&r, number_arg(c, 2, DEFAULT_TIMEOUT_MS));
}

static int uring_connect(struct call *c)
{
	return uring_connect_with(c, 0, 0);
}

static int uring_connect_async(struct call *c)
{
	return uring_connect_with(c, 0, IOSQE_ASYNC);
}

static int uring_connect_sqpoll(struct call *c)
{
	return uring_connect_with(c, IORING_SETUP_SQPOLL, 0);
}

static char payload[] = "sallyport";

/* A datagram to an address that the request names, on a socket without a peer. */
static int uring_send_with(struct call *c, uint32_t setup_flags, uint8_t opcode)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	struct iovec iov = {.iov_base = payload, .iov_len = sizeof(payload) - 1};
	struct msghdr m = {.msg_name = &e.sa, .msg_namelen = e.len, .msg_iov = &iov, .msg_iovlen = 1};
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0);
	struct ring r;
	int err = fd < 0 ? errno : open_ring(&r, setup_flags);

	if (err)
		return err;
	r.requests[0] = (struct io_uring_sqe){.opcode = opcode, .fd = fd, .addr = (uintptr_t)&m, .len = 1};
	if (opcode == IORING_OP_SEND_ZC) {
		r.requests[0].addr = (uintptr_t)payload;
		r.requests[0].len = sizeof(payload) - 1;
		r.requests[0].addr2 = (uintptr_t)&e.sa;
		r.requests[0].addr_len = e.len;
	}
	return submit(&r, number_arg(c, 2, DEFAULT_TIMEOUT_MS));
}

static int uring_sendmsg(struct call *c)
{
	return uring_send_with(c, 0, IORING_OP_SENDMSG);
}

static int uring_sendmsg_sqpoll(struct call *c)
{
	return uring_send_with(c, IORING_SETUP_SQPOLL, IORING_OP_SENDMSG);
}

static int uring_send_zc(struct call *c)
{
	return uring_send_with(c, 0, IORING_OP_SEND_ZC);
}

/* A child asks by the ring that its parent has made; the thread that polls it is the parent's. */
static int uring_inherited(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0), status;
	struct ring r;
	int err = fd < 0 ? errno : open_ring(&r, IORING_SETUP_SQPOLL);
	struct iovec iov = {.iov_base = payload, .iov_len = sizeof(payload) - 1};
	struct msghdr m = {.msg_name = &e.sa, .msg_namelen = e.len, .msg_iov = &iov, .msg_iovlen = 1};
	pid_t child = err ? -1 : fork();

	if (err || child < 0)
		return err ? err : errno;
	if (!child) {
		/* Addresses and descriptors are the parent's, which has the same. */
		r.requests[0] = (struct io_uring_sqe){.opcode = IORING_OP_SENDMSG, .fd = fd, .addr = (uintptr_t)&m, .len = 1};
		_exit(submit(&r, number_arg(c, 2, DEFAULT_TIMEOUT_MS)));
	}
	if (waitpid(child, &status, 0) < 0)
		return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/* Where a ring of another process is found: its descriptors, in the order in which offer-ring opens them. */
enum lent {
	LENT_SOCKET = 10,
	LENT_RING = 11,
};

/* Lets the kernel poll a ring, with a connection beside it, for MS. */
static int offer_ring(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_STREAM, 0);
	int err = fd < 0 ? errno : connect_within(fd, &e, DEFAULT_TIMEOUT_MS);
	struct ring r;

	if (!err)
		err = open_ring(&r, IORING_SETUP_SQPOLL);
	if (err)
		return err;
	if (dup2(fd, LENT_SOCKET) < 0 || dup2(r.fd, LENT_RING) < 0)
		return errno;
	close(r.fd);
	close(fd);
	sleep_ms(number_arg(c, 2, 0));
	return 0;
}

/* Takes the ring of process PID and has it send there. The program is not relocated: its data lies at one place in both. */
static int take_ring(struct call *c)
{
	struct ring own, r;
	long end = now_ms() + DEFAULT_TIMEOUT_MS;
	int err = open_ring(&own, IORING_SETUP_SQPOLL); /* a ring of the same size has the same offsets */
	int pidfd = err ? -1 : syscall(SYS_pidfd_open, number_arg(c, 0, 0), 0);

	if (err || pidfd < 0)
		return err ? err : errno;
	r = own;
	do { /* it may not have got that far */
		r.fd = syscall(SYS_pidfd_getfd, pidfd, LENT_RING, 0);
	} while (r.fd < 0 && errno == EBADF && now_ms() < end);
	err = r.fd < 0 ? errno : map_ring(&r);
	if (err)
		return err;
	r.requests[0] = (struct io_uring_sqe){
		.opcode = IORING_OP_SEND, .fd = LENT_SOCKET, .addr = (uintptr_t)payload, .len = sizeof(payload) - 1,
	};
	return submit(&r, DEFAULT_TIMEOUT_MS);
}

const struct attempt uring_attempts[] = {
	{"uring-connect", 2, 3, uring_connect, "ADDR PORT [MS]"},
	{"uring-connect-async", 2, 3, uring_connect_async, "ADDR PORT [MS]"},
	{"uring-connect-sqpoll", 2, 3, uring_connect_sqpoll, "ADDR PORT [MS]"},
	{"uring-sendmsg", 2, 3, uring_sendmsg, "ADDR PORT [MS]"},
	{"uring-sendmsg-sqpoll", 2, 3, uring_sendmsg_sqpoll, "ADDR PORT [MS]"},
	{"uring-send-zc", 2, 3, uring_send_zc, "ADDR PORT [MS]         without a copy; the request names the address"},
	{"uring-inherited", 2, 3, uring_inherited, "ADDR PORT [MS]       by a ring that its parent has made"},
	{"offer-ring", 3, 3, offer_ring, "ADDR PORT MS           a ring and a connection, as descriptors 11 and 10"},
	{"take-ring", 1, 1, take_ring, "PID                     sends by what offer-ring has"},
	{0},
};
