/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * LABEL: whether a cgroup is a container's, by what runtimes call it: a 64-digit id in its name, or a child of a configured
 * parent. For tracepoints only, as binary.h.
 */
#include <lib/binary.h>

enum name_limits {
	LEAF_LEN = 128,
	CONTAINER_ID_LEN = 64, /* hexadecimal digits */
};

struct leaf_scan {
	const char *text;
	__u32 run;
	__u32 found;
	__u32 len;
	__u32 pad;
};

static __always_inline int is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static long leaf_step(__u32 index, void *data)
{
	struct leaf_scan *scan = data;
	char c = scan->text[index & (LEAF_LEN - 1)];

	if (is_hex(c)) {
		scan->run++;
	} else {
		scan->found |= scan->run == CONTAINER_ID_LEN;
		scan->run = 0;
	}
	if (!c) {
		scan->len = index;
		return 1;
	}
	return 0;
}

/* Whether a cgroup of this name and path is a container's. */
static __always_inline int is_container(struct path_buffer *buffer, const char *name,
					const char *path)
{
	struct leaf_scan scan = {.text = buffer->text};
	char *key = &buffer->text[PATH_MIDDLE];
	long path_len;
	__u32 parent_len;

	if (bpf_probe_read_kernel_str(buffer->text, LEAF_LEN, name) < 0)
		return 0;
	bpf_loop(LEAF_LEN, leaf_step, &scan, 0);
	if (scan.found)
		return 1;
	path_len = bpf_probe_read_kernel_str(key, CGROUP_PATH_LEN, path);
	if (path_len < 2 + (long)scan.len)
		return 0;
	parent_len = path_len - 2 - scan.len;
	if (parent_len == 0 || parent_len >= PARENT_LEN)
		return 0;
	__builtin_memset(key, 0, PARENT_LEN);
	bpf_probe_read_kernel(key, parent_len & (PARENT_LEN - 1), path);
	return bpf_map_lookup_elem(&container_parent, key) != 0;
}
