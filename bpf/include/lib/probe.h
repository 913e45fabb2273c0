/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Whether who joins a container is one of its exec probes or lifecycle commands, by its arguments. For
 * sched_process_exec only: the kernel has just written them, and the program has not run yet.
 */
#include <bpf/bpf_core_read.h>
#include <kernel/types.h>
#include <lib/control.h>
#include <maps/probe.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe);
} probe_scratch SEC(".maps");

/*
 * Reads the arguments of a program that begins. Those of a #! script follow those that its first line
 * puts before it: the interpreter, and an argument of it, with which no command matches (Exec: closed).
 */
static __always_inline struct probe *probe_read(struct task_struct *task, struct linux_binprm *bprm)
{
	unsigned long begin = BPF_CORE_READ(task, mm, arg_start);
	const char *interp = BPF_CORE_READ(bprm, interp);
	struct probe *got;
	__u32 zero = 0;
	__u64 len;

	got = bpf_map_lookup_elem(&probe_scratch, &zero);
	if (!got)
		return 0;
	if (interp != BPF_CORE_READ(bprm, filename)) {
		long skip = bpf_probe_read_kernel_str(got->args, PROBE_LEN, interp);

		if (skip <= 0)
			return 0;
		begin += skip;
	}
	len = BPF_CORE_READ(task, mm, arg_end) - begin;
	if (len == 0 || len > PROBE_LEN)
		return 0;
	__builtin_memset(got->args, 0, sizeof(got->args));
	got->len = len;
	/* As a value that no kernel's verifier takes for zero. */
	if (bpf_probe_read_user(got->args, ((len - 1) & (PROBE_LEN - 1)) + 1, (void *)begin)) {
		count_error(SITE_ARGS);
		return 0;
	}
	return got;
}

/* Where the comparison of two commands is. */
struct probe_compare {
	const struct probe *want;
	const struct probe *got;
	__u64 differs;
};

static long probe_step_word(__u32 index, void *data)
{
	struct probe_compare *compare = data;
	__u32 word = index & (PROBE_WORDS - 1);

	if (compare->want->args[word] == compare->got->args[word])
		return 0;
	compare->differs = 1;
	return 1;
}

/* Where the search for a command is: slots are filled from the first. */
struct probe_search {
	struct probe_key key;
	const struct probe *got;
	__u64 found;
};

static long probe_step_slot(__u32 index, void *data)
{
	struct probe_search *search = data;
	struct probe_compare compare = {.got = search->got};

	search->key.slot = index;
	compare.want = bpf_map_lookup_elem(&probe_by_slot, &search->key);
	if (!compare.want)
		return 1;
	if (compare.want->len != compare.got->len)
		return 0;
	bpf_loop(PROBE_WORDS, probe_step_word, &compare, 0);
	search->found = !compare.differs;
	return search->found;
}

/* Whether a program that begins is a probe of the container. What cannot be compared is none: closed. */
static __always_inline int probe_is(__u64 container, struct task_struct *task, struct linux_binprm *bprm)
{
	struct probe_search search = {.key.container = container};

	if (!bpf_map_lookup_elem(&probe_by_slot, &search.key))
		return 0; /* there are none */
	search.got = probe_read(task, bprm);
	if (!search.got)
		return 0;
	bpf_loop(PROBE_SLOTS, probe_step_slot, &search, 0);
	return search.found;
}

static long probe_step_forget(__u32 index, void *data)
{
	struct probe_key *key = data;

	key->slot = index;
	return bpf_map_delete_elem(&probe_by_slot, key) != 0;
}

/* Forgets the probes of a container that is gone. */
static __always_inline void probe_forget(__u64 container)
{
	struct probe_key key = {.container = container};

	bpf_loop(PROBE_SLOTS, probe_step_forget, &key, 0);
}
