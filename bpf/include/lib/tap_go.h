/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ in crypto/tls of Go programs. It is followed by goroutine, for a goroutine moves between threads, and where
 * records are made: there the connection is locked, so that what is read comes in the order in which it is
 * encrypted. What is made into records is not made again: a connection on which sending fails sends nothing more.
 * So all that is ahead is what the running call was given, for a second probe on the same file, which has the same
 * inode below the file systems of several containers.
 *
 * Where a connection ends is not told. Its entry goes when another begins at its address, or when it is pushed out.
 */
#include <lib/tap.h>

enum go_record {
	GO_RECORD_DATA = 23, /* type of a record with data of the application (RFC 8446, 5.1) */
};

/*
 * A goroutine begins to read from a connection. It may have begun before the request was written whose answer that brings, so what
 * is awaited is asked when it returns.
 */
static __always_inline int go_reads(const struct pt_regs *ctx)
{
	struct tls_key key = tap_key(GO_PARM1(ctx)), of = tap_key(GO_ROUTINE(ctx));
	struct tls_reading reading = {.object = key.object, .bytes = GO_PARM2(ctx)};

	if (bpf_map_lookup_elem(&conn_by_object, &key))
		bpf_map_update_elem(&reading_by_goroutine, &of, &reading, BPF_ANY); /* no memory: open */
	return 0;
}

/* It returns how many bytes there are. Its stack may have moved meanwhile, and with it bytes that lie there: they are no answer then (open). */
static __always_inline int go_got(const struct pt_regs *ctx)
{
	struct tls_key of = tap_key(GO_ROUTINE(ctx)), key = of;
	struct tls_reading reading, *held = bpf_map_lookup_elem(&reading_by_goroutine, &of);
	__s64 got = GO_RESULT1(ctx);

	if (!held)
		return 0; /* none began here, or a second probe on the same file has seen it */
	reading = *held;
	bpf_map_delete_elem(&reading_by_goroutine, &of);
	key.object = reading.object;
	return got > 0 ? tap_have(&key, (const void *)reading.bytes, got) : 0;
}

/* A client's handshake begins on an object: what had its address before is gone. */
static __always_inline int go_start(__u64 object)
{
	tap_end(object);
	if (label_current())
		tap_conn(object);
	return 0;
}

/* A call that makes records begins, perhaps once more: what the one before was given is made, or will never be. */
static __always_inline int go_call(__u64 object)
{
	struct tls_key key = tap_key(object);
	struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, &key);

	if (conn)
		conn->ahead = 0;
	return 0;
}

/* len bytes are made into records of a connection that is tied: read by the first probe that sees them. */
static __always_inline void go_read(const struct tls_key *key, struct tls_conn *conn, const void *bytes, __u64 len)
{
	if (conn->ahead) {
		if (conn->ahead != len)
			conn->state = TLS_DENIED; /* closed: not what the first has seen */
		return;
	}
	conn->ahead = len;
	if (len)
		tap_read(key, conn, bytes, len);
}

/* What goroutine sends next is of an object. No memory: the object gets no socket (closed). */
static __always_inline void go_send(__u64 goroutine, __u64 object)
{
	struct tls_key key = tap_key(goroutine);

	if (bpf_map_update_elem(&object_by_goroutine, &key, &object, BPF_ANY))
		count_error(SITE_TAP_BUSY);
}

/*
 * A goroutine makes records of a type out of len bytes. An object whose beginning was not seen has no socket either:
 * the gate finds no tap for it (closed).
 */
static __always_inline int go_record(const struct pt_regs *ctx)
{
	struct tls_key key = tap_key(GO_PARM1(ctx));
	struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, &key);
	__u8 type = GO_PARM2(ctx);

	if (!conn)
		return 0;
	if (type != GO_RECORD_DATA) {
		if (conn->state == TLS_NEW)
			go_send(GO_ROUTINE(ctx), key.object);
		return 0;
	}
	if (conn->state == TLS_NEW)
		conn->state = TLS_DENIED; /* closed: before there is a peer, nobody can judge */
	if (conn->state == TLS_TIED)
		go_read(&key, conn, (const void *)GO_PARM3(ctx), GO_PARM4(ctx));
	return 0;
}
