/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * LABEL, for containers that container_by_cgroup has no room for, which whoever may make cgroups on the node can bring about. From
 * the first on, who enters a cgroup that is not listed gets a label of the container that it is in by its names. Nobody knows then
 * who was first, or which mount namespace is the container's, so it is denied all where a rule is enforced, and is for
 * unknownWorkload to decide where nobody has told of the container: see answer_query(). That stays when there is room again, until
 * it has ended or the next agent has read /proc. For tracepoints only, as binary.h.
 */
#include <lib/cgroup_name.h>
#include <lib/container.h>
#include <lib/control.h>
#include <lib/ids.h>
#include <lib/label.h>

/* Counts a container that found no room. */
static __always_inline void unlisted_add(void)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&containers_lost, &zero);

	if (n)
		__sync_fetch_and_add(n, 1);
	count_error(SITE_CONTAINER_MAP);
}

/* Whether there was ever no room. */
static __always_inline int unlisted_any(void)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&containers_lost, &zero);

	return n && *n;
}

enum unlisted_places {
	UNLISTED_IDS = PATH_MIDDLE + NAME_MASK + 1, /* where in the buffer the ids stand, innermost first */
	UNLISTED_MASK = 15, /* more than CGROUP_DEPTH */
};

/* A cgroup's path, written from its end; then the way back through it. */
struct unlisted_walk {
	struct path_buffer *buffer;
	struct cgroup *cgrp;
	__u32 pos;
	__u32 depth; /* cgroups below the root */
	__u32 done;
	__u32 run;   /* hexadecimal digits since something else */
	__u32 seen;  /* components that have ended */
	__u32 found; /* the outermost container is that component, from 1; 0: none */
};

static long unlisted_up(__u32 index, void *data)
{
	struct unlisted_walk *walk = data;
	__u64 *ids = (__u64 *)&walk->buffer->text[UNLISTED_IDS];
	struct cgroup *cgrp = walk->cgrp;
	struct cgroup *parent = (struct cgroup *)BPF_CORE_READ(cgrp, self.parent);
	const char *name = BPF_CORE_READ(cgrp, kn, name);
	long len;

	if (!parent) {
		walk->done = 1; /* the root, which has no name */
		return 1;
	}
	len = bpf_probe_read_kernel_str(&walk->buffer->text[PATH_MIDDLE], NAME_MASK + 1, name) - 1;
	if (len < 0 || walk->pos < len + 1)
		return 1;
	walk->pos -= len;
	bpf_probe_read_kernel(&walk->buffer->text[walk->pos & PATH_MASK], len & NAME_MASK, name);
	walk->pos--;
	walk->buffer->text[walk->pos & PATH_MASK] = '/';
	ids[walk->depth & UNLISTED_MASK] = BPF_CORE_READ(cgrp, kn, id);
	walk->depth++;
	walk->cgrp = parent;
	return 0;
}

/* One byte of the path. What came before a slash stands, NUL-padded, as a key of container_parent. */
static long unlisted_down(__u32 index, void *data)
{
	struct unlisted_walk *walk = data;
	char *key = &walk->buffer->text[PATH_MIDDLE];
	__u32 at = walk->pos + index;
	char c = at < PATH_MIDDLE ? walk->buffer->text[at & PATH_MASK] : '/';

	if (c == '/') {
		if (walk->run == CONTAINER_ID_LEN)
			walk->found = walk->seen;
		else if (at < PATH_MIDDLE && index && index < PARENT_LEN && bpf_map_lookup_elem(&container_parent, key))
			walk->found = walk->seen + 1;
		walk->seen++;
		walk->run = 0;
		if (walk->found || at >= PATH_MIDDLE)
			return 1;
	} else if (is_hex(c)) {
		walk->run++;
	} else {
		if (walk->run == CONTAINER_ID_LEN)
			walk->found = walk->seen;
		walk->run = 0;
		if (walk->found)
			return 1;
	}
	key[index & (PARENT_LEN - 1)] = c;
	return 0;
}

/*
 * Id of the outermost container whose cgroup, by its names, is cgrp or above it; 0: none, or containers never lacked room, or
 * the path is longer than PATH_MIDDLE (open: runtimes make none of that length).
 */
static __always_inline __u64 unlisted_of_cgroup(struct cgroup *cgrp)
{
	struct unlisted_walk walk = {.buffer = path_buffer_get(), .cgrp = cgrp, .pos = PATH_MIDDLE};

	if (!walk.buffer || !unlisted_any())
		return 0;
	bpf_loop(CGROUP_DEPTH + 1, unlisted_up, &walk, 0);
	if (!walk.done)
		return 0;
	__builtin_memset(&walk.buffer->text[PATH_MIDDLE], 0, PARENT_LEN);
	bpf_loop(PATH_MIDDLE + 1, unlisted_down, &walk, 0);
	if (!walk.found)
		return 0;
	return ((__u64 *)&walk.buffer->text[UNLISTED_IDS])[(walk.depth - walk.found) & UNLISTED_MASK];
}

/* Fills the label, zeros so far but for its numbers, of who enters such a container. */
static __always_inline void unlisted_label(struct label *label, struct task_struct *task, __u64 container)
{
	label->container = container;
	label->origin = ORIGIN_UNKNOWN;
	label->flags = LABEL_UNLISTED | LABEL_TRUNCATED | LABEL_SCRIPTLESS;
	label->tgid = task->tgid;
	ids_read(label, task);
}
