/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>
#include <abi/label.h>

/*
 * The commands by which an exec is a Probe. Full or too long: they are taken for Exec, which the agent
 * reports. They go with their container.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct probe_key);
	__type(value, struct probe);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} probe_by_slot SEC(".maps");
