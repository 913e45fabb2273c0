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

static int open_ring(struct ring *r, uint32_t flags)
{
	size_t submissions, completions;

	*r = (struct ring){.params = {.flags = flags, .sq_thread_idle = 100}};
	r->fd = syscall(SYS_io_uring_setup, 1, &r->params);
	if (r->fd < 0)
		return errno;
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

/* Puts the request in slot 0 up for the kernel and waits for its result: 0 or an errno. */
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

const struct attempt uring_attempts[] = {
	{"uring-connect", 2, 3, uring_connect, "ADDR PORT [MS]"},
	{"uring-connect-async", 2, 3, uring_connect_async, "ADDR PORT [MS]"},
	{"uring-connect-sqpoll", 2, 3, uring_connect_sqpoll, "ADDR PORT [MS]"},
	{"uring-sendmsg", 2, 3, uring_sendmsg, "ADDR PORT [MS]"},
	{"uring-sendmsg-sqpoll", 2, 3, uring_sendmsg_sqpoll, "ADDR PORT [MS]"},
	{"uring-send-zc", 2, 3, uring_send_zc, "ADDR PORT [MS]         without a copy; the request names the address"},
	{0},
};
