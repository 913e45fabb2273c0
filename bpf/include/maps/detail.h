/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>
#include <abi/request.h>

/* Only user space writes it, and only while CONTROL_TELL_HEADERS is off. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct header_names);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} told_headers SEC(".maps");
