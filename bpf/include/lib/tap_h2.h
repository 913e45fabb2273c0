/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* READ in TLS libraries, HTTP/2: the state of connections that speak it, beside struct tls_conn, which is small. */
#include <lib/control.h>
#include <lib/request_h2.h>
#include <lib/response_h2.h>
#include <maps/taps.h>

/*
 * By object, as conn_by_object; not pinned, as only the taps that were loaded together write it. LRU, because nobody
 * says so when a process ends: a connection whose entry is pushed out cannot be read any more (closed).
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct tls_key);
	__type(value, struct h2);
} h2_by_object SEC(".maps");

/* What a connection is at first; nobody writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__type(key, __u32);
	__type(value, struct h2);
} h2_blank SEC(".maps");

/* By object, of connections whose answers are told, as lib/tap_response.h reads them; not pinned, for the same reason. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct tls_key);
	__type(value, struct h2_status);
} h2_status_by_object SEC(".maps");

/* What is followed at first; nobody writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__type(key, __u32);
	__type(value, struct h2_status);
} h2_status_blank SEC(".maps");

/* Begins to follow what a server says. No room: nothing of it is told (open). */
static __always_inline void tap_h2_follow(const struct tls_key *key)
{
	struct h2_status *s;
	__u32 zero = 0;

	s = bpf_map_lookup_elem(&h2_status_blank, &zero);
	if (!s || bpf_map_update_elem(&h2_status_by_object, key, s, BPF_ANY))
		return;
	s = bpf_map_lookup_elem(&h2_status_by_object, key);
	if (s)
		h2_status_start(s);
}

/* A request on a stream was told, and passes. */
static __always_inline void tap_h2_expect(const struct tls_key *key, __u32 stream, __u64 asked_ns)
{
	struct h2_status *s = bpf_map_lookup_elem(&h2_status_by_object, key);

	if (s)
		h2_status_expect(s, stream, asked_ns);
}

/* Begins a connection, behind what of its preface was read. Where there is no room for it, it is not there. */
static __always_inline void tap_h2_begin(const struct tls_key *key)
{
	struct control *c = control_get();
	struct h2 *h2;
	__u32 zero = 0;

	h2 = bpf_map_lookup_elem(&h2_blank, &zero);
	if (!c || !h2 || bpf_map_update_elem(&h2_by_object, key, h2, BPF_ANY))
		return;
	h2 = bpf_map_lookup_elem(&h2_by_object, key);
	if (!h2)
		return;
	request_h2_begin(h2, REQUEST_H2_PREFACE);
	h2->user.request.parser.seed = c->seed;
	if (c->flags & CONTROL_TELL_CONNECT)
		tap_h2_follow(key);
}
