/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_core_read.h>
#include <kernel/types.h>
#include <lib/container.h>
#include <lib/control.h>
#include <lib/ids.h>
#include <maps/label.h>

/*
 * A task has no label for lack of memory, which a workload can bring about: labels count as the memory of whoever made the
 * map. Closed: lib/lost.h denies what such a task calls where rules govern its container, and the gate finds no owner for
 * its sockets.
 */
static __always_inline void label_lose(void)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&labels_lost, &zero);

	if (n)
		__sync_fetch_and_add(n, 1);
	count_error(SITE_LABEL_STORAGE);
}

/*
 * The label of the calling task; only the task itself writes to it. A thread that no fork hook saw
 * (an io_uring worker, a thread older than the agent) gets a copy of its process's first.
 */
static __always_inline struct label *label_current(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct label *label = bpf_task_storage_get(&label_by_task, task, 0, 0);

	if (label || task->group_leader == task)
		return label;
	label = bpf_task_storage_get(&label_by_task, task->group_leader, 0, 0);
	if (!label)
		return 0;
	label = bpf_task_storage_get(&label_by_task, task, label, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label) {
		label_lose();
		return 0;
	}
	/* The process may have been writing these while they were copied. */
	label->who_revision = 0;
	label->last.revision = 0;
	label->pending_call = 0;
	return label;
}

/* See label_subject(). */
static __always_inline struct label *label_found(__u64 netns_cookie)
{
	struct label *label = label_current();
	struct netns *netns;

	if (label && label->origin != ORIGIN_HOST)
		return label;
	netns = bpf_map_lookup_elem(&netns_by_cookie, &netns_cookie);
	if (!netns)
		return 0;
	if (label) {
		if (label->container != netns->container) {
			label->container = netns->container;
			label->who_revision = 0;
			label->last.revision = 0;
		}
		return label;
	}
	if (container_of_caller())
		return 0; /* it is older than its label, or has lost it: no task of the node */
	/* A task of the node that came in by setns without an exec: its path was never read. */
	label = bpf_task_storage_get(&label_by_task, bpf_get_current_task_btf(), 0,
				     BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label) {
		/* Fails open: a task of the node, of which the threat model promises nothing. */
		count_error(SITE_LABEL_STORAGE);
		return 0;
	}
	label->container = netns->container;
	label->origin = ORIGIN_HOST;
	label->flags = LABEL_TRUNCATED;
	label->tgid = bpf_get_current_pid_tgid() >> 32;
	label->exec = label->actor = control_next_id();
	return label;
}

/*
 * The label of the calling task for a call on a socket of the network namespace: its container's, or
 * Host's when a task outside every container is inside a governed namespace. NULL: ungoverned, but for lost_errno(). Its ids are
 * those of now where the rules that select it depend on them, or are computed next. A swap between here and the
 * judgement may compute them by older ids, for this one call, which came as early as the policy did.
 */
static __always_inline struct label *label_subject(__u64 netns_cookie)
{
	struct label *label = label_found(netns_cookie);
	struct control *c = control_get();

	if (label && c && (label->flags & LABEL_IDS || label->who_revision != c->revision))
		ids_refresh(label);
	return label;
}
