/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Unix sockets stay on the node and are not judged. But who may not reach the network can ask somebody over one who may: Main's
 * proxy, a daemon that forwards. Such a call of a governed container's process to a socket that another label's holder serves is
 * told, once for each execution and holder; nothing is refused. It looks at unix sockets only, and nothing else at their owners.
 * Not told: servers of the node, and sockets that were served before the agent was there, of which nobody knows whose they are.
 */
#include <lib/borrow.h>
#include <lib/socket.h>

/* Who was told to ask whom; the value is the revision. Full: the least recent is forgotten, and told again: harmless. */
struct relay_key {
	__u64 exec; /* of who asks */
	__u64 container; /* of who serves */
	__u64 session;
	__u64 origin;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct relay_key);
	__type(value, __u64);
} relays_told SEC(".maps");

/* listen of a stream, bind of datagrams: the socket is served by the caller's label. */
static __always_inline void local_served(struct sock *sk, const struct control *c, __u8 call)
{
	struct sock_state *state;
	struct label *label;

	if (!(c->flags & CONTROL_RELAY_TELL) || call != (sk->sk_type == TYPE_DGRAM ? CALL_BIND : CALL_LISTEN))
		return;
	label = label_current();
	if (!is_workload(label))
		return;
	state = bpf_sk_storage_get(&state_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count_error(SITE_SOCK_STORAGE); /* open: who asks it is not told */
		return;
	}
	own_socket(state, label, 0);
}

/* Global, as borrow_judge(): verified once for both hooks. */
__noinline int relay_judge(const struct label *subject, const struct label *target, __u8 step)
{
	struct control *c = control_get();
	struct relay_key key = {};
	__u64 *told, revision;

	if (!subject || !target || !c || !is_workload(subject) || !is_workload(target) || same_holder(subject, target))
		return 0;
	if (!container_governed(c, subject->container, 0))
		return 0;
	key.exec = subject->exec;
	key.container = target->container;
	key.session = target->session;
	key.origin = target->origin;
	revision = c->revision;
	told = bpf_map_lookup_elem(&relays_told, &key);
	if (told && *told == revision)
		return 0;
	bpf_map_update_elem(&relays_told, &key, &revision, BPF_ANY); /* no room: told again */
	tell_borrow(subject, target, c, CALL_LOCAL, step, VERDICT_AUDIT, VERDICT_NONE);
	return 0;
}

/* A connection to, or a datagram for, the unix socket sk. */
static __always_inline void local_asked(struct sock *sk, __u8 step)
{
	struct control *c = control_get();
	struct sock_state *state;
	struct label *subject;

	if (!sk || !c || !(c->flags & CONTROL_RELAY_TELL))
		return;
	state = bpf_sk_storage_get(&state_by_sock, sk, 0, 0);
	subject = label_current();
	if (state && subject)
		relay_judge(subject, &state->owner, step);
}
