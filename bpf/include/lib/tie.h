/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ in TLS libraries, the socket's side: which object of a library encrypts what a socket carries. An
 * object is tied to the socket that its thread, or in Go its goroutine, sends on first after it began its handshake,
 * which is where the ClientHello goes, by itself or through a buffer in memory. What is tied wrongly is denied:
 * the object's requests are judged by another peer, and the other socket's records have no tap.
 */
#include <bpf/bpf_core_read.h>
#include <lib/ends.h>
#include <lib/tie_status.h>

/* The ends of the connection of a socket, by which requests on it are judged. */
static __always_inline void tie_ends_of(struct tls_conn *conn, struct sock *sk,
					const struct sock_state *state)
{
	conn->family = sk->__sk_common.skc_family;
	conn->direction = state->direction;
	conn->netns = sk->__sk_common.skc_net.net->net_cookie;
	conn->socket = bpf_get_socket_cookie(sk);
	conn->local_port = sk->__sk_common.skc_num;
	conn->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	ends_read(sk, conn->local, conn->remote);
	address_canonical(conn->remote);
	conn->name_serial = 0;
	if (state->name_serial && is_address(state->peer, conn->remote)) {
		conn->name_hash = state->name_hash;
		conn->name_serial = state->name_serial;
	}
}

/* The object of tie's key, if it waits for a socket; tie gets its serial. NULL: it does not. */
static __always_inline struct tls_conn *tie_waiting(struct tls_tie *tie)
{
	struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, &tie->key);

	if (!conn || conn->state != TLS_NEW)
		return 0;
	tie->serial = conn->serial;
	return conn;
}

/*
 * The address of the goroutine that a thread runs, which Go keeps in a register, at calls of the kernel too; what
 * others have in there is no goroutine's.
 */
static __always_inline __u64 tie_goroutine(struct task_struct *task)
{
	const void *regs = (const void *)bpf_task_pt_regs(task);
	const struct pt_regs___x86 *x86 = regs;
	const struct pt_regs___a64 *arm64 = regs;

	if (bpf_core_field_exists(x86->r14))
		return x86->r14;
	if (bpf_core_field_exists(arm64->regs))
		return arm64->regs[28];
	return 0;
}

/* The object that the running goroutine works for: a goroutine can have another thread by now. */
static __always_inline struct tls_conn *tie_of_goroutine(struct tls_tie *tie, struct task_struct *task)
{
	__u64 *object;

	tie->key.object = tie_goroutine(task);
	if (!tie->key.object)
		return 0;
	object = bpf_map_lookup_elem(&object_by_goroutine, &tie->key);
	if (!object)
		return 0;
	tie->key.object = *object;
	return tie_waiting(tie);
}

/*
 * The object that the running thread used last, or that its goroutine works for, if it waits for a socket and the
 * thread is of the program that owns this one; tie gets its key. NULL: none.
 */
static __always_inline struct tls_conn *tie_candidate(struct tls_tie *tie, const struct sock_state *state,
						      const struct label *label)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct tls_thread *thread;
	struct tls_conn *conn;

	if (state->owner.exec != label->exec)
		return 0;
	tie->key.tgid = task->tgid;
	thread = bpf_task_storage_get(&tls_by_task, task, 0, 0);
	if (thread) {
		tie->key.object = thread->object;
		conn = tie_waiting(tie);
		if (conn)
			return conn;
	}
	return tie_of_goroutine(tie, task);
}

/*
 * Ties a socket that the running thread sends on; before: 1: it was tied before. No memory: what it carries is opaque
 * (closed). A write that waits for its handshake lets one send pass, the ClientHello, which is nothing that comes
 * behind another object's records: the object was forgotten, and that is the write (closed).
 */
static __always_inline int tie_make(struct sock *sk, const struct sock_state *state,
				    const struct label *label, int before)
{
	struct tls_tie tie = {}, *kept;
	struct tls_conn *conn = tie_candidate(&tie, state, label);

	if (!conn)
		return TIE_NONE;
	if (before && conn->holds) {
		conn->state = TLS_DENIED;
		return TIE_DENIED;
	}
	tie_ends_of(conn, sk, state);
	kept = bpf_sk_storage_get(&tie_by_sock, sk, &tie, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept) {
		count_error(SITE_SOCK_STORAGE);
		return TIE_NONE;
	}
	*kept = tie; /* in the place of a former object's */
	conn->state = conn->holds ? TLS_HELD : TLS_TIED;
	return TIE_GOOD;
}

/* What a send on a denied object's socket gets. The gate resets both ends with the next packet, which is a close's. */
static __always_inline int tie_errno(const struct tls_tie *tie)
{
	const struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, &tie->key);

	return conn && conn->verdict == VERDICT_RESET ? -ERR_CONNRESET : -ERR_PERM;
}

/*
 * A send on a stream, by the running thread, whose label it is. Returns 0 or a
 * negative errno. What has no tie passes: it may be no TLS; the gate looks. Its stack is its own: the hook's
 * is full.
 */
static __noinline int tie_send(struct sock *sk, const struct sock_state *state,
				    const struct label *label)
{
	struct tls_tie *tie = bpf_sk_storage_get(&tie_by_sock, sk, 0, 0);
	int status = tie ? tie_status(tie) : TIE_NONE;

	if (status == TIE_GOOD)
		return 0;
	if (status == TIE_DENIED)
		return tie_errno(tie);
	if (status == TIE_HELD)
		return -ERR_PERM;
	status = tie_make(sk, state, label, !!tie);
	if (status == TIE_DENIED)
		return -ERR_PERM;
	if (status == TIE_NONE && tie)
		tie->serial = 0; /* no object has encrypted this: closed at the gate */
	return 0;
}
