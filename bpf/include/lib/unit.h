/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * LABEL, for units: cgroups of the node itself that a HostProcessPolicy selects. Their processes have the node's mount
 * namespace, and are governed from when they enter. Who is in a unit is for the service manager to say, so a label goes
 * with the cgroup, unless it is the unit's own processes who move: nobody sheds a label by that. A unit inside another one
 * has all the policies of the outer one, so to go in there sheds nothing. For tracepoints only, as path.h.
 */
#include <lib/binary.h>
#include <lib/container.h>
#include <lib/ids.h>
#include <lib/label.h>

/* Whether a label is a container's, which stays whatever cgroup its task enters. */
static __always_inline int label_stays(const struct label *label)
{
	return label->origin != ORIGIN_HOST && !(label->flags & LABEL_UNIT);
}

/* Whether who moves a task now, or makes it, has the same unit's label as the task. */
static __always_inline int unit_moves_itself(const struct label *label)
{
	struct label *mover = bpf_task_storage_get(&label_by_task, bpf_get_current_task_btf(), 0, 0);

	return mover && mover->flags & LABEL_UNIT && mover->container == label->container;
}

/*
 * The origin of who enters a unit: Main is the first, and whatever the service manager starts in it (before the main
 * program, after it, to reload). Who is put there by others is Exec.
 */
static __always_inline void unit_origin(struct label *label, struct task_struct *task,
					struct container *unit)
{
	int later = __sync_fetch_and_or(&unit->flags, CONTAINER_JOINED) & CONTAINER_JOINED;

	label->origin = ORIGIN_MAIN;
	if (later && BPF_CORE_READ(task, real_parent, tgid) != SERVICE_MANAGER) {
		label->origin = ORIGIN_EXEC;
		label->session = control_next_id();
	}
}

/*
 * A task that is in no container enters a cgroup: unit, whose id is id, is the one that it is in then, NULL where policies
 * select none; label is the task's, if it has one. Threads keep what they have until their process executes.
 */
static __always_inline void unit_enter(struct task_struct *task, struct cgroup *cgrp,
				       struct container *unit, __u64 id, struct label *label)
{
	if (label && label->flags & LABEL_UNIT) {
		if (unit && label->container == id)
			return;
		if (unit_moves_itself(label) && !(unit && cgroup_within(cgrp, label->container)))
			return;
		if (!unit) {
			bpf_task_storage_delete(&label_by_task, task);
			return;
		}
	}
	if (!unit || task->tgid == SERVICE_MANAGER)
		return;
	label = bpf_task_storage_get(&label_by_task, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label) {
		label_lose();
		return;
	}
	__builtin_memset(label, 0, sizeof(*label));
	label->container = id;
	label->flags = LABEL_UNIT;
	label->exec = label->actor = control_next_id();
	label->tgid = task->tgid;
	ids_read(label, task);
	unit_origin(label, task, unit);
	read_exe(label, BPF_CORE_READ(task, mm, exe_file));
	label->flags |= LABEL_SCRIPTLESS; /* it began elsewhere, and perhaps as a script: closed */
}
