// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * LABEL, for what is older than the agent. Run by reading the iterators once at start, after the
 * hooks of label_task are in place.
 *
 * iter/task       gives the labels that /proc told (inferred_by_tgid) to every thread
 * iter/task_file  gives the sockets of labelled processes their owner
 *
 * Minimum kernel 5.17.
 */
#include <linux/bpf.h>
#include <bpf/bpf_tracing.h>
#include <lib/container.h>
#include <lib/socket.h>

char _license[] SEC("license") = "Dual BSD/GPL";

/* What /proc told, by thread group id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct inferred);
} inferred_by_tgid SEC(".maps");

enum ticks {
	NS_PER_TICK = 10000000, /* USER_HZ is 100 on every architecture we build for */
};

/* How many threads got a label, how many sockets an owner. */
__u64 labelled_count;
__u64 owned_count;

/*
 * Whether what /proc told replaces a label. It does where the task was taken for one of the node's,
 * because it made a call before it was scanned; and where it entered the container and has not yet
 * executed the workload, or its container was not listed, if /proc proves anything; and where it is in a unit inside of
 * the one that it was labelled for, since policies select that now. What else was born under the hooks stays.
 */
static __always_inline int knows_better(const struct label *inferred, const struct label *label,
					struct task_struct *task)
{
	if (label->flags & (LABEL_JOINING | LABEL_UNLISTED))
		return inferred->origin != ORIGIN_UNKNOWN;
	if (label->flags & LABEL_UNIT)
		return inferred->flags & LABEL_UNIT && inferred->container != label->container &&
		       cgroup_within(BPF_CORE_READ(task, cgroups, dfl_cgrp), label->container);
	return label->origin == ORIGIN_HOST;
}

SEC("iter/task")
int label_scan_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct inferred *inferred;
	struct label *label;
	__u32 tgid;

	if (!task)
		return 0;
	tgid = task->tgid;
	inferred = bpf_map_lookup_elem(&inferred_by_tgid, &tgid);
	if (!inferred)
		return 0;
	/* Another process may have the pid by now. */
	if (BPF_CORE_READ(task, group_leader, start_boottime) / NS_PER_TICK != inferred->start_ticks)
		return 0;
	label = bpf_task_storage_get(&label_by_task, task, 0, 0);
	if (label) {
		if (!knows_better(&inferred->label, label, task))
			return 0;
		__builtin_memcpy(label, &inferred->label, sizeof(*label));
	} else {
		label = bpf_task_storage_get(&label_by_task, task, &inferred->label,
					     BPF_LOCAL_STORAGE_GET_F_CREATE);
	}
	if (!label) {
		label_lose();
		return 0;
	}
	/* For what has its sockets already; the task itself reads them again at its next call. */
	ids_read(label, task);
	/* The namespace may be its container's or one of its own, which nothing tells now: closed. */
	if (BPF_CORE_READ(task, cred, user_ns, level))
		label->flags |= LABEL_MAPPED;
	labelled_count++;
	return 0;
}

SEC("iter/task_file")
int label_scan_socket(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct sock_state *state;
	struct socket *sock;
	struct label *label;
	struct sock *sk;

	if (!task || !file)
		return 0;
	label = bpf_task_storage_get(&label_by_task, task, 0, 0);
	if (!label)
		return 0;
	sock = bpf_sock_from_file(file);
	if (!sock)
		return 0;
	sk = sock->sk;
	if (!sk || !family_is_ip(sk->__sk_common.skc_family))
		return 0;
	state = bpf_sk_storage_get(&state_by_sock, sk, 0, 0);
	if (state && (state->owner.origin != ORIGIN_HOST || label->origin == ORIGIN_HOST))
		return 0; /* somebody owns it already */
	if (!state)
		state = bpf_sk_storage_get(&state_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count_error(SITE_SOCK_STORAGE); /* closed in a gated pod: no owner, no flow */
		return 0;
	}
	own_socket(state, label, BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie));
	state->owner.who_revision = 0; /* its task may have been writing them */
	if (sk->__sk_common.skc_state == TCP_STATE_LISTEN)
		state->direction = DIR_INGRESS;
	owned_count++;
	return 0;
}
