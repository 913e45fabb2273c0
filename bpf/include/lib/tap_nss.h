/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ in NSS. Programs call it by descriptors of NSPR, which are layers; the object is what the layer of TLS keeps
 * (sslSocket), since a layer moves in memory when another is put on top. What takes cleartext is called through a table
 * of NSS's own and takes the object itself, whatever function of NSPR the program has called.
 *
 * A program may write without having asked for a handshake: the write begins it. Before that there is no peer to judge
 * by, so the write waits (tls_thread.held) until its thread sends again behind the ClientHello. If nobody sees that,
 * nothing but the ClientHello leaves (TLS_HELD, lib/tie.h): closed.
 */
#include <lib/tap.h>

enum nss_limits {
	NSS_LAYERS = 8, /* of a descriptor; one below that is not followed: its connection gets no tap (closed) */
};

/* The beginning of PRFileDesc, which programs are built with (NSPR 4, prio.h). */
struct nss_layer {
	__u64 methods;
	__u64 secret; /* of the layer of TLS: the object */
	__u64 lower;  /* the next layer, 0: none */
};

/* A descriptor got its layer of TLS, on top: what had the address of its object before is gone. */
static __always_inline int nss_import(__u64 descriptor)
{
	struct nss_layer layer = {};

	if (bpf_probe_read_user(&layer, sizeof(layer), (void *)descriptor) || !layer.secret)
		return 0; /* it failed, or cannot be read: no tap (closed) */
	tap_end(layer.secret);
	if (label_current())
		tap_conn(layer.secret);
	return 0;
}

/* The handshake of a descriptor goes on. */
static __always_inline int nss_use(__u64 descriptor)
{
	struct nss_layer layer = {.lower = descriptor};
	struct tls_key key;
	int i;

	for (i = 0; i < NSS_LAYERS && layer.lower; i++) {
		if (bpf_probe_read_user(&layer, sizeof(layer), (void *)layer.lower))
			return 0; /* no tap (closed) */
		key = tap_key(layer.secret);
		if (bpf_map_lookup_elem(&conn_by_object, &key)) {
			tap_use(layer.secret);
			return 0;
		}
	}
	return 0;
}

/* len bytes are about to be written to an object, whose handshake may not have begun. */
static __always_inline int nss_write(__u64 object, const void *bytes, __s64 len)
{
	struct tls_conn *conn = tap_use(object);
	struct tls_thread *thread;

	if (!conn)
		return 0;
	thread = tap_thread();
	if (!thread)
		return 0;
	thread->held = 0;
	if (conn->holds)
		conn->state = TLS_DENIED; /* closed: one waits already, of another thread, or its end was not seen */
	if (conn->state != TLS_NEW || len <= 0)
		return tap_write(object, bytes, len, 0);
	thread->writing = object;
	thread->written_at = 0;
	thread->held_at = (__u64)bytes;
	thread->held = len;
	conn->holds = 1;
	return 0;
}

/* An object is about to send what it has encrypted: with a peer, the write that waits is judged. */
static __always_inline int nss_send(__u64 object)
{
	struct tls_thread *thread = bpf_task_storage_get(&tls_by_task, bpf_get_current_task_btf(), 0, 0);
	struct tls_key key = tap_key(object);
	struct tls_conn *conn;

	if (!thread || !thread->held || thread->writing != object)
		return 0;
	conn = bpf_map_lookup_elem(&conn_by_object, &key);
	if (!conn || conn->state == TLS_NEW || conn->state == TLS_DENIED)
		return 0; /* its ClientHello, or no more */
	conn->state = TLS_TIED;
	conn->holds = 0;
	conn->ahead = thread->held;
	thread->held = 0;
	tap_read(&key, conn, (const void *)thread->held_at, conn->ahead);
	return 0;
}

/* A write ends that still waits: took is what it returned. */
static __always_inline void nss_held(struct tls_thread *thread, __s64 took)
{
	struct tls_key key = tap_key(thread->writing);
	struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, &key);

	thread->held = 0;
	if (!conn)
		return;
	conn->holds = 0;
	if (took > 0)
		conn->state = TLS_DENIED; /* closed: nobody has read what was taken */
	else if (conn->state == TLS_HELD)
		conn->state = TLS_TIED; /* nothing was taken: it comes again */
}

/* A write ends: took is what it returned. */
static __always_inline int nss_wrote(__s64 took)
{
	struct tls_thread *thread = bpf_task_storage_get(&tls_by_task, bpf_get_current_task_btf(), 0, 0);

	if (thread && thread->held && thread->writing)
		nss_held(thread, took);
	return tap_wrote(took);
}
