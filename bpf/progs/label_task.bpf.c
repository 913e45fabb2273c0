// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * LABEL: every task of a container carries a label from birth to death.
 *
 * tp_btf/cgroup_mkdir       a container's cgroup appears: known at once, provisionally; of others, which
 *                           may be units that policies select, the agent is told
 * tp_btf/cgroup_rmdir       it goes
 * tp_btf/cgroup_attach_task a task enters it: JOINING
 * tp_btf/sched_process_fork the child gets a copy before it runs
 * tp_btf/sched_process_exec JOINING becomes Main, Exec or Probe; the binary is read
 * tp_btf/sched_process_exit sessions end, exits are told
 *
 * Minimum kernel 5.17 (bpf_loop), BTF. Nothing here denies; where a label cannot be made, the comment
 * says what that means for judging.
 */
#include <linux/bpf.h>
#include <bpf/bpf_tracing.h>
#include <lib/binary.h>
#include <lib/container.h>
#include <lib/control.h>
#include <lib/label.h>
#include <lib/probe.h>
#include <lib/tell.h>
#include <lib/unit.h>
#include <lib/unlisted.h>

char _license[] SEC("license") = "Dual BSD/GPL";

static __always_inline void fill_cgroup(struct ev_cgroup *event, __u64 id, const char *path)
{
	tell_header(&event->header, EV_KIND_CGROUP, sizeof(*event));
	event->id = id;
	event->removed = 0;
	event->unit = 0;
	__builtin_memset(event->path, 0, sizeof(event->path));
	bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
}

static __always_inline void tell_cgroup(__u64 id, const char *path, int removed)
{
	struct ev_cgroup *event = tell_alert(struct ev_cgroup);

	if (!event)
		return; /* the agent's next scan of the hierarchy finds it */
	fill_cgroup(event, id, path);
	event->removed = removed;
	bpf_ringbuf_submit(event, 0);
}

/*
 * Tells of a cgroup that is no container's. Among the flows, since users make cgroups as they like in what is delegated
 * to them; but at once, for until the agent knows it as a unit its processes are not governed: open.
 */
static __always_inline void tell_unit(__u64 id, const char *path)
{
	struct ev_cgroup *event = tell_flow(struct ev_cgroup);

	if (!event)
		return; /* the same */
	fill_cgroup(event, id, path);
	event->unit = 1;
	bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(label_cgroup_mkdir, struct cgroup *cgrp, const char *path)
{
	struct path_buffer *buffer = path_buffer_get();
	struct container *outer, entry = {};
	struct control *c = control_get();
	int is;
	__u64 id, above;

	/* Hierarchy 0 is cgroup v2; ids of v1 hierarchies mean other things. */
	if (!buffer || !c || BPF_CORE_READ(cgrp, root, hierarchy_id) != 0)
		return 0;
	is = is_container(buffer, BPF_CORE_READ(cgrp, kn, name), path);
	if (!is && !(c->flags & CONTROL_UNITS))
		return 0;
	/* A container inside a container is its outer one: nobody sheds a label by nesting. */
	outer = container_of_cgroup((struct cgroup *)BPF_CORE_READ(cgrp, self.parent), &above);
	if (outer && !(outer->flags & CONTAINER_UNIT))
		return 0;
	id = BPF_CORE_READ(cgrp, kn, id);
	if (!is) {
		tell_unit(id, path);
		return 0;
	}
	entry.creator_mntns = container_mntns(bpf_get_current_task_btf());
	/* Closed: who joins it is known by its name, and denied all where a rule is enforced. */
	if (bpf_map_update_elem(&container_by_cgroup, &id, &entry, BPF_NOEXIST))
		unlisted_add();
	tell_cgroup(id, path, 0);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(label_cgroup_rmdir, struct cgroup *cgrp, const char *path)
{
	struct path_buffer *buffer = path_buffer_get();
	__u64 id;

	if (!buffer || BPF_CORE_READ(cgrp, root, hierarchy_id) != 0)
		return 0;
	id = BPF_CORE_READ(cgrp, kn, id);
	if (bpf_map_delete_elem(&container_by_cgroup, &id) == 0 ||
	    (unlisted_any() && is_container(buffer, BPF_CORE_READ(cgrp, kn, name), path)))
		tell_cgroup(id, path, 1);
	probe_forget(id);
	bpf_map_delete_elem(&ids_by_container, &id);
	bpf_map_delete_elem(&mntns_by_container, &id);
	return 0;
}

/*
 * The blank label of a task that has entered a container's cgroup; label is the one that it has. NULL: it keeps that, or there
 * is no memory. A container that a unit's own process makes below its unit is a part of the unit: nobody sheds a label by nesting.
 */
static __always_inline struct label *label_blank(struct task_struct *task, struct cgroup *cgrp, struct label *label)
{
	if (label && label->flags & LABEL_UNIT && unit_moves_itself(label) &&
	    cgroup_within(cgrp, label->container))
		return 0;
	label = bpf_task_storage_get(&label_by_task, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label) {
		label_lose();
		return 0;
	}
	__builtin_memset(label, 0, sizeof(*label));
	label->exec = label->actor = control_next_id();
	return label;
}

/* A task has entered a cgroup. A container's label once given stays: only Host, a unit's and none become JOINING. */
static __always_inline void join(struct task_struct *task, struct cgroup *cgrp)
{
	struct container *container;
	struct label *label;
	__u64 id = 0, named;

	label = bpf_task_storage_get(&label_by_task, task, 0, 0);
	if (label && label_stays(label))
		return;
	container = container_of_cgroup(cgrp, &id);
	if (!container || container->flags & CONTAINER_UNIT) {
		named = unlisted_of_cgroup(cgrp);
		if (!named) {
			unit_enter(task, cgrp, container, id, label);
			return;
		}
		label = label_blank(task, cgrp, label);
		if (label)
			unlisted_label(label, task, named);
		return;
	}
	label = label_blank(task, cgrp, label);
	if (!label)
		return;
	label->container = id;
	label->flags = LABEL_JOINING | LABEL_TRUNCATED;
	if (!(__sync_fetch_and_or(&container->flags, CONTAINER_JOINED) & CONTAINER_JOINED))
		label->flags |= LABEL_FIRST;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(label_cgroup_attach, struct cgroup *dst, const char *path, struct task_struct *task)
{
	/* On the hybrid layout v1 hierarchies attach too: only the v2 cgroup counts. */
	if (BPF_CORE_READ(task, cgroups, dfl_cgrp) == dst)
		join(task, dst);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(label_fork, struct task_struct *parent, struct task_struct *child)
{
	struct label *label = bpf_task_storage_get(&label_by_task, parent, 0, 0);
	struct cgroup *cgrp;
	struct label *copy;
	int own = 1;

	if (!label) {
		label = bpf_task_storage_get(&label_by_task, parent->group_leader, 0, 0);
		own = 0;
	}
	if (label) {
		copy = bpf_task_storage_get(&label_by_task, child, label,
					    BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!copy) {
			label_lose();
			return 0;
		}
		/* Threads keep it: the one that ends last, or executes, may not be the first. */
		if (child->tgid != parent->tgid)
			copy->flags &= ~LABEL_SESSION;
		copy->pending_call = CALL_NONE;
		if (!own)
			copy->who_revision = copy->last.revision = 0; /* may be torn */
		if (label_stays(label))
			return 0;
	}
	cgrp = BPF_CORE_READ(child, cgroups, dfl_cgrp);
	if (cgrp != BPF_CORE_READ(parent, cgroups, dfl_cgrp))
		join(child, cgrp); /* CLONE_INTO_CGROUP */
	return 0;
}

static __always_inline void tell_exec(const struct label *label, struct task_struct *task, int kind,
				      int at_once)
{
	unsigned long begin = BPF_CORE_READ(task, mm, arg_start);
	unsigned long len = BPF_CORE_READ(task, mm, arg_end) - begin;
	struct ev_exec *event;

	if (kind == EV_KIND_EXEC)
		event = tell_flow(struct ev_exec);
	else
		event = tell_alert(struct ev_exec);
	if (!event)
		return;
	tell_header(&event->header, kind, sizeof(*event));
	tell_subject(&event->subject, label, 1);
	__builtin_memset(event->args, 0, sizeof(event->args));
	if (len > ARGS_LEN)
		len = ARGS_LEN;
	event->args_len = len;
	event->pad = 0;
	if (bpf_probe_read_user(event->args, len, (void *)begin)) {
		count_error(SITE_ARGS);
		event->args_len = 0;
	}
	bpf_ringbuf_submit(event, kind == EV_KIND_EXEC && !at_once ? tell_flow_flags() : 0);
}

/*
 * JOINING ends when the workload itself is executed: not the runtime's own re-exec, which still
 * runs in the mount namespace of whoever made the cgroup or in the node's.
 */
static __always_inline int joined(struct label *label, struct task_struct *task,
				  struct linux_binprm *bprm, struct control *c)
{
	struct container *container;
	__u32 mntns = container_mntns(task);
	__u64 id = label->container;

	container = bpf_map_lookup_elem(&container_by_cgroup, &id);
	if (mntns == c->host_mntns || (container && mntns == container->creator_mntns))
		return 0;
	if (label->flags & LABEL_FIRST) {
		label->origin = ORIGIN_MAIN;
	} else {
		label->session = control_next_id();
		/* Probes come every few seconds: their sessions are traffic, and are not told as alerts. */
		if (probe_is(label->container, task, bprm)) {
			label->origin = ORIGIN_PROBE;
		} else {
			label->origin = ORIGIN_EXEC;
			label->flags |= LABEL_SESSION;
		}
	}
	label->flags &= ~(LABEL_JOINING | LABEL_FIRST);
	ids_map(label, task);
	/* The first one's, which the runtime has made; there is one already, or no room: see of_container(). */
	bpf_map_update_elem(&mntns_by_container, &id, &mntns, BPF_NOEXIST);
	return 1;
}

/* A task outside every container executes inside a governed network namespace. */
static __always_inline struct label *label_host(struct task_struct *task)
{
	__u64 cookie = BPF_CORE_READ(task, nsproxy, net_ns, net_cookie);
	struct netns *netns = bpf_map_lookup_elem(&netns_by_cookie, &cookie);
	struct label *label;

	if (!netns || container_of_caller())
		return 0; /* a container's task is not the node's, though it has no label */
	label = bpf_task_storage_get(&label_by_task, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label) {
		count_error(SITE_LABEL_STORAGE); /* open: a task of the node, as in label_found() */
		return 0;
	}
	label->origin = ORIGIN_HOST;
	label->container = netns->container;
	return label;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(label_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct label *label = bpf_task_storage_get(&label_by_task, task, 0, 0);
	struct control *c = control_get();
	int session = 0;

	if (!c)
		return 0;
	if (!label)
		label = label_host(task);
	if (!label)
		return 0;
	if (label->flags & LABEL_JOINING) {
		if (!joined(label, task, bprm, c))
			return 0;
		session = label->origin == ORIGIN_EXEC;
	}
	label->who_revision = 0;
	label->last.revision = 0;
	label->exec = label->actor = control_next_id();
	label->tgid = bpf_get_current_pid_tgid() >> 32;
	ids_read(label, task);
	read_binary(label, task, bprm);
	if (session)
		tell_exec(label, task, EV_KIND_SESSION_START, 1);
	else if (c->flags & (CONTROL_TELL_EXEC | CONTROL_TAPS))
		tell_exec(label, task, EV_KIND_EXEC, c->flags & CONTROL_TAPS);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(label_exit, struct task_struct *task)
{
	struct label *label = bpf_task_storage_get(&label_by_task, task, 0, 0);
	struct control *c = control_get();
	struct ev_exit *event;
	int session;

	if (!label || !c || label->flags & LABEL_JOINING)
		return 0;
	if (BPF_CORE_READ(task, signal, live.counter) != 0)
		return 0; /* other threads live on */
	session = label->flags & LABEL_SESSION && label->tgid == bpf_get_current_pid_tgid() >> 32;
	if (session)
		event = tell_alert(struct ev_exit);
	else if (c->flags & CONTROL_TELL_EXEC)
		event = tell_flow(struct ev_exit);
	else
		return 0;
	if (!event)
		return 0;
	tell_header(&event->header, session ? EV_KIND_SESSION_END : EV_KIND_EXIT, sizeof(*event));
	tell_subject(&event->subject, label, 1);
	event->status = BPF_CORE_READ(task, signal, group_exit_code);
	if (!event->status)
		event->status = BPF_CORE_READ(task, exit_code);
	event->pad = 0;
	bpf_ringbuf_submit(event, session ? 0 : tell_flow_flags());
	return 0;
}
