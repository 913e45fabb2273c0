/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ in TLS libraries, the library's side: what is written to an object, before it is encrypted, on the
 * thread that writes it. Everything here runs in the process it is about; what it says of itself holds
 * against who chooses its requests, not against who chooses its code (SECURITY.md).
 */
#include <lib/tap_response.h>

/* What a connection is at first; nobody writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__type(key, __u32);
	__type(value, struct tls_conn);
} conn_blank SEC(".maps");

/* The running thread's own record, made when missing. NULL: no memory, and no tap (closed). */
static __always_inline struct tls_thread *tap_thread(void)
{
	struct tls_thread *thread;

	thread = bpf_task_storage_get(&tls_by_task, bpf_get_current_task_btf(), 0,
				      BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!thread)
		count_error(SITE_LABEL_STORAGE);
	return thread;
}

static __always_inline struct tls_key tap_key(__u64 object)
{
	struct tls_key key = {.object = object, .tgid = bpf_get_current_pid_tgid() >> 32};

	return key;
}

/* What is known of an object that the running thread uses; made when it is new. NULL: no tap (closed). */
static __always_inline struct tls_conn *tap_conn(__u64 object)
{
	struct tls_key key = tap_key(object);
	struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, &key);
	struct control *c = control_get();
	__u32 zero = 0;

	if (conn)
		return conn;
	conn = bpf_map_lookup_elem(&conn_blank, &zero);
	if (!c || !conn || bpf_map_update_elem(&conn_by_object, &key, conn, BPF_NOEXIST))
		return 0;
	conn = bpf_map_lookup_elem(&conn_by_object, &key);
	if (!conn)
		return 0;
	conn->request.parser.seed = c->seed;
	conn->serial = control_next_id();
	return conn;
}

/* An object is used: what its thread sends next may be its handshake. */
static __always_inline struct tls_conn *tap_use(__u64 object)
{
	struct tls_thread *thread;

	if (!label_current())
		return 0; /* nothing governs it */
	thread = tap_thread();
	if (!thread)
		return 0;
	thread->object = object;
	return tap_conn(object);
}

/* An object ends: what has its address from now on is another connection. */
static __always_inline void tap_end(__u64 object)
{
	struct tls_key key = tap_key(object);

	bpf_map_delete_elem(&conn_by_object, &key);
	bpf_map_delete_elem(&h2_by_object, &key);
	bpf_map_delete_elem(&response_by_object, &key);
	bpf_map_delete_elem(&h2_status_by_object, &key);
}

/*
 * An object begins anew, as OpenSSL has it do at each handshake. One within a write has the library encrypt what was given
 * to that write, before there was a peer to judge it by.
 */
static __always_inline int tap_again(__u64 object)
{
	struct tls_key key = tap_key(object);
	struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, &key);
	int denied = conn && conn->state == TLS_DENIED; /* by tap_write, which lets one of no bytes pass */
	struct tls_thread *thread;

	tap_end(object);
	conn = tap_use(object);
	if (!conn || !denied)
		return 0;
	thread = tap_thread();
	if (!thread || thread->writing == object)
		conn->state = TLS_DENIED; /* closed */
	return 0;
}

/*
 * len bytes are about to be written to an object. What the library did not take comes again from the same
 * place of the stream with the next write, so what was judged once is passed over. written: see struct
 * tls_thread.
 */
static __always_inline int tap_write(__u64 object, const void *bytes, __s64 len, void *written)
{
	struct tls_conn *conn = tap_use(object);
	struct tls_key key = tap_key(object);
	struct tls_thread *thread;

	if (!conn)
		return 0;
	thread = tap_thread();
	if (!thread)
		return 0;
	thread->writing = object;
	thread->written_at = (__u64)written;
	if (len <= 0 || (__u64)len <= conn->ahead)
		return 0;
	if (conn->state == TLS_NEW)
		conn->state = TLS_DENIED; /* closed: before there is a peer, nobody can judge */
	if (conn->state == TLS_TIED)
		tap_read(&key, conn, bytes + conn->ahead, len - conn->ahead);
	conn->ahead = len;
	return 0;
}

/* A write ends: took is what it returned. */
static __always_inline int tap_wrote(__s64 took)
{
	struct tls_thread *thread;
	struct tls_conn *conn;
	struct tls_key key;

	thread = bpf_task_storage_get(&tls_by_task, bpf_get_current_task_btf(), 0, 0);
	if (!thread || !thread->writing)
		return 0; /* not ours, or a second probe on the same file has seen it */
	key = tap_key(thread->writing);
	thread->writing = 0;
	if (took <= 0)
		return 0; /* it comes again */
	conn = bpf_map_lookup_elem(&conn_by_object, &key);
	if (!conn)
		return 0;
	if (thread->written_at &&
	    bpf_probe_read_user(&took, sizeof(took), (void *)thread->written_at)) {
		conn->state = TLS_DENIED; /* closed: where the next write begins is not known */
		return 0;
	}
	conn->ahead -= (__u64)took < conn->ahead ? (__u64)took : conn->ahead;
	return 0;
}
