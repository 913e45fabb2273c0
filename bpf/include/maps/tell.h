/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>

/* Denials, sessions, containers: never displaced by traffic. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} alerts SEC(".maps");

/* Execs, exits, allowed calls. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flows SEC(".maps");
