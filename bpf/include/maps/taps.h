/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>
#include <abi/taps.h>

/*
 * TLS connections by their object. LRU, because nobody says so when a process ends: a connection whose
 * entry is pushed out counts as one that no tap sees, which is denied (closed).
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tls_key);
	__type(value, struct tls_conn);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} conn_by_object SEC(".maps");

/* Freed with the socket. Accepted sockets get none: they are not their listener's connection. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tls_tie);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} tie_by_sock SEC(".maps");

/* Freed with the task. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tls_thread);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} tls_by_task SEC(".maps");

/*
 * The object that a goroutine of a process works for, until that has a socket. LRU, because nobody says so when
 * a goroutine ends: an object whose entry is pushed out gets no socket, which is denied (closed).
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tls_key); /* of the goroutine */
	__type(value, __u64);	     /* address of the object */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} object_by_goroutine SEC(".maps");
