/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>
#include <abi/state.h>

/*
 * Flows of gated pods. LRU: an entry that is pushed out is made again by the next packet that passes
 * a socket, from the label stored there, so losing one costs a judgement and opens nothing.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 262144);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flow_by_tuple SEC(".maps");

/* The ports of fragmented datagrams. LRU: a lost entry drops the rest of one datagram. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct frag_key);
	__type(value, struct flow_key);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flow_by_frag SEC(".maps");

/* Gated interfaces of the node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct gate);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gate_by_ifindex SEC(".maps");

/*
 * The gated interfaces again, by index modulo GATE_SLOTS. Only user space writes it, and always passes
 * through 0 from one interface to another, so that no slot shows one's index with another's namespace.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GATE_SLOTS);
	__type(key, __u32);
	__type(value, struct gate_slot);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gate_slots SEC(".maps");
