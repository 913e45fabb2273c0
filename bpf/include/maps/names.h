/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>
#include <abi/names.h>

/*
 * Names by container and hash. Full, as the next map: the address is not known by the name, so that
 * rules by name do not allow it (closed), and SITE_NAMES counts it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, struct name_key);
	__type(value, struct name);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} name_by_hash SEC(".maps");

/* The names of an address, as answers told them to a container. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct told_key);
	__type(value, struct told);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} names_by_addr SEC(".maps");

/* How much of both each container has. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct name_count);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} names_of_cgrp SEC(".maps");

/*
 * Until when a query is to be refused; 0: being swept. Full: the send fails instead, and the query does
 * not leave either way.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct refusal_key);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} refusals SEC(".maps");

/*
 * What is told at the veth on connections whose flow is FLOW_REFUSED. LRU: without its entry a segment is dropped
 * there (closed), and comes again with a new one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct flow_key);
	__type(value, struct stream_refusal);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} stream_refusals SEC(".maps");

/* The queries that a socket waits for: nobody else's can push them out. Freed with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pending);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} query_by_sock SEC(".maps");

/* None free: an answer is dropped, and comes again. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DNS_ROOMS);
	__type(key, __u32);
	__type(value, struct dns_room);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_rooms SEC(".maps");

/* TCP connections with resolvers, as far as they were read, by direction. Freed with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dns_stream);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} queries_by_sock SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dns_stream);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} answers_by_sock SEC(".maps");
