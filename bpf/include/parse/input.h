/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What the parsers read from, so that the same C runs in the kernel on packets and on the host on
 * bytes, where an oracle and the sanitizers look at it.
 */
#include <linux/types.h>

/* Hides from the compiler what a value is, so that it makes no comparison of it and keeps a mask. */
#define PARSE_OPAQUE(value) __asm__ volatile("" : "+r"(value))

#ifdef __bpf__
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Offsets count from skb->data: the network header for cgroup_skb, the one before it for tc. */
typedef struct __sk_buff parse_input;

#define PARSE_GLOBAL __noinline
#define parse_loop(times, step, data) bpf_loop(times, step, data, 0)

static __always_inline int parse_load(parse_input *input, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes(input, off, to, len); /* also behind what lies in one piece */
}

/* The same from memory of our own, whose address is given. */
static __always_inline int parse_peek(__u64 memory, __u32 off, void *to, __u32 len)
{
	return bpf_probe_read_kernel(to, len, (void *)(memory + off));
}

#else
#include <string.h>

typedef struct parse_input {
	const __u8 *data;
	__u32 len;
	__u32 pad;
} parse_input;

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define PARSE_GLOBAL static

static __always_inline int parse_load(parse_input *input, __u32 off, void *to, __u32 len)
{
	if (off > input->len || len > input->len - off)
		return -1;
	memcpy(to, input->data + off, len);
	return 0;
}

static __always_inline int parse_peek(__u64 memory, __u32 off, void *to, __u32 len)
{
	memcpy(to, (const __u8 *)memory + off, len);
	return 0;
}

static inline long parse_loop(__u32 times, long (*step)(__u32, void *), void *data)
{
	__u32 i;

	for (i = 0; i < times; i++)
		if (step(i, data))
			return i + 1;
	return i;
}
#endif

/* Mixes a byte into a hash; with a secret beginning nobody can make two texts collide. */
static __always_inline __u64 parse_mix(__u64 hash, __u32 c)
{
	hash = (hash ^ c) * 0x100000001b3ULL;
	return hash ^ hash >> 29;
}
