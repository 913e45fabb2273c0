/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_core_read.h>
#include <abi/limits.h>
#include <kernel/types.h>
#include <maps/label.h>

enum unit_tasks {
	SERVICE_MANAGER = 1, /* its pid: never labelled, for all that it starts would be born with its label */
};

/*
 * The container whose cgroup is cgrp or above it, outermost first found from below. *id is its
 * cgroup's. NULL: in no container.
 */
static __always_inline struct container *container_of_cgroup(struct cgroup *cgrp, __u64 *id)
{
	struct container *container;
	int depth;

	for (depth = 0; depth < CGROUP_DEPTH; depth++) {
		if (!cgrp)
			return 0;
		*id = BPF_CORE_READ(cgrp, kn, id);
		container = bpf_map_lookup_elem(&container_by_cgroup, id);
		if (container)
			return container;
		/* A cgroup begins with its css, so the parent's css is the parent. */
		cgrp = (struct cgroup *)BPF_CORE_READ(cgrp, self.parent);
	}
	return 0;
}

/* Id of the cgroup of the container that the calling task is in; 0: in none. Global: verified once, where it is called often. */
__noinline __u64 container_of_caller(void)
{
	__u64 id = 0;

	if (!container_of_cgroup(BPF_CORE_READ(bpf_get_current_task_btf(), cgroups, dfl_cgrp), &id))
		return 0;
	return id;
}

/* Whether a cgroup is the one with this id, or below it. */
static __always_inline int cgroup_within(struct cgroup *cgrp, __u64 id)
{
	int depth;

	for (depth = 0; depth < CGROUP_DEPTH; depth++) {
		if (!cgrp)
			return 0;
		if (BPF_CORE_READ(cgrp, kn, id) == id)
			return 1;
		cgrp = (struct cgroup *)BPF_CORE_READ(cgrp, self.parent);
	}
	return 0;
}

/* The inode of a task's mount namespace; 0 for a task that is exiting. */
static __always_inline __u32 container_mntns(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
}
