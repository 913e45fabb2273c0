/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * The ids of a task, read from its credentials into its label: when it executes, whenever the rules that
 * select it are computed, before they are kept with a socket, and at each call where they ask for ids.
 */
#include <bpf/bpf_core_read.h>
#include <kernel/types.h>
#include <lib/control.h>
#include <maps/label.h>

enum id_chunks {
	CHUNK_GROUPS = 4, /* groups that are compared in one step */
	CHUNKS = ID_GROUPS / CHUNK_GROUPS,
};

/*
 * Writes an id. Returns whether it was another: 0 if not. By arithmetic, as twenty branches in a row are many ways
 * for the verifier to walk.
 */
static __always_inline __u32 id_set(__u32 *to, __u32 id)
{
	__u32 changed = *to ^ id;

	*to = id;
	return changed;
}

/* The supplementary groups. Returns whether they were others, as id_set(). */
static __always_inline __u32 groups_read(struct label *label, struct group_info *info)
{
	__u32 count = info->ngroups;
	__u32 left = count > ID_GROUPS ? ID_GROUPS : count;
	__u32 changed = id_set(&label->group_count, count);
	__u32 i, j;

	for (i = 0; i < CHUNKS; i++) {
		__u32 chunk[CHUNK_GROUPS] = {}, n = CHUNK_GROUPS;

		if (left <= i * CHUNK_GROUPS)
			break;
		if (left < (i + 1) * CHUNK_GROUPS)
			n = left & (CHUNK_GROUPS - 1);
		if (bpf_probe_read_kernel(chunk, n * sizeof(__u32), &info->gid[i * CHUNK_GROUPS]))
			changed |= id_set(&label->group_count, ID_GROUPS + 1); /* not known: closed */
		for (j = 0; j < CHUNK_GROUPS; j++)
			changed |= id_set(&label->groups[i * CHUNK_GROUPS + j], chunk[j]);
	}
	return changed;
}

/*
 * Reads the ids of a task into a label. Returns whether they were others, as id_set(). task is of the kernel's own types to
 * the verifier (an argument, or the running one): it is read directly, which costs next to nothing.
 */
static __always_inline __u32 ids_read(struct label *label, struct task_struct *task)
{
	const struct cred *cred = task->cred;
	__u32 *user = label->ids[ID_USER], *group = label->ids[ID_GROUP];
	__u32 changed = 0;

	changed |= id_set(&user[ID_REAL], cred->uid.val);
	changed |= id_set(&user[ID_SAVED], cred->suid.val);
	changed |= id_set(&user[ID_EFFECTIVE], cred->euid.val);
	changed |= id_set(&group[ID_REAL], cred->gid.val);
	changed |= id_set(&group[ID_SAVED], cred->sgid.val);
	changed |= id_set(&group[ID_EFFECTIVE], cred->egid.val);
	return groups_read(label, cred->group_info) | changed;
}

/*
 * Makes the ids of the running task's own label those of now. Others than before: what was decided is no
 * longer about it. Global, as evaluate(); only the task itself changes its credentials.
 */
__noinline int ids_refresh(struct label *label)
{
	if (!label || !ids_read(label, bpf_get_current_task_btf()))
		return 0;
	label->actor = control_next_id();
	label->last.revision = 0;
	if (label->flags & LABEL_IDS)
		label->who_revision = 0;
	return 0;
}

/* One extent of a map of a user namespace; none: of count 0. */
static __always_inline void extent_copy(struct id_extent *to, const struct uid_gid_extent *from)
{
	to->first = BPF_CORE_READ(from, first);
	to->lower = BPF_CORE_READ(from, lower_first);
	to->count = BPF_CORE_READ(from, count);
}

/* The extents of one kind. Of more than a map holds the rest has no names: closed. */
static __always_inline void extents_copy(struct id_extent *to, const struct uid_gid_map *map)
{
	__u32 count = BPF_CORE_READ(map, nr_extents), i;
	const struct uid_gid_extent *from = map->extent;

	if (count > ID_EXTENTS)
		from = BPF_CORE_READ(map, forward);
	for (i = 0; i < ID_EXTENTS; i++)
		if (i < count)
			extent_copy(&to[i], &from[i]);
}

/*
 * Notes how the user namespace of a container calls ids, when its workload begins in one. What came first
 * counts: a process can make namespaces of its own, and they rename nothing.
 */
static __always_inline void ids_map(struct label *label, struct task_struct *task)
{
	struct user_namespace *ns = task->cred->user_ns;
	__u64 container = label->container;
	struct id_map map = {};

	if (!ns->level)
		return;
	label->flags |= LABEL_MAPPED;
	extents_copy(&map.extent[0], &ns->uid_map);
	extents_copy(&map.extent[ID_EXTENTS], &ns->gid_map);
	/* There already, or no room: without an entry no id has a name, closed. */
	bpf_map_update_elem(&ids_by_container, &container, &map, BPF_NOEXIST);
}
