/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>
#include <abi/request.h>
#include <abi/response.h>
#include <abi/state.h>

/* Freed with the socket. Accepted sockets get none: their connection is not yet read. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct requests);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} requests_by_sock SEC(".maps");

/* What a head has said that goes on in the next packet; only sockets have it to which that happened. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct said);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} said_by_sock SEC(".maps");

/* Only connections of HTTP/2 have it. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct h2_room);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} h2_by_sock SEC(".maps");

/* Of those at their servers: as it was before the last bytes that matter. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct h2_before);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} h2_before_by_sock SEC(".maps");

/* The text that belongs to it, only while bytes that may not have been taken have overwritten some of it. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct h2_text);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} h2_text_by_sock SEC(".maps");

/* Only connections of TLS have it where rules have serverNames. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct hello_conn);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} hello_by_sock SEC(".maps");

/* Only connections have it of which a request was told that passes. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct response);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} response_by_sock SEC(".maps");

/* The same over HTTP/2, where allowed requests are told. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct h2_status);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} h2_status_by_sock SEC(".maps");

/*
 * Of connections with requests at a gated veth, by their flow. LRU: where an entry is lost no byte of a client passes
 * until gate_skb has seen it again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct passed);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} passed_by_flow SEC(".maps");
