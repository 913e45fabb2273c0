/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <maps/control.h>

static __always_inline struct control *control_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&controls, &zero);
}

/* A new session or exec id. */
static __always_inline __u64 control_next_id(void)
{
	__u32 zero = 0;
	__u64 *id = bpf_map_lookup_elem(&last_id, &zero);

	return id ? __sync_fetch_and_add(id, 1) + 1 : 0; /* array maps are whole: id is never NULL */
}

/* Counts an error or a loss: the agent reports every site that is not zero. */
static __always_inline void count_error(__u32 site)
{
	__u64 *n = bpf_map_lookup_elem(&errors, &site);

	if (n)
		*n += 1;
}
