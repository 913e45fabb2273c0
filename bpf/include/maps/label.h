/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>
#include <abi/label.h>
#include <abi/state.h>

/* Freed with the task. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct label);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} label_by_task SEC(".maps");

/* How many tasks got no label for lack of memory. From the first on, who has none is not taken for ungoverned: see lib/lost.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} labels_lost SEC(".maps");

/* Scripts of executions that are under way; freed with them, or with the task. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct script);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} script_by_task SEC(".maps");

/* Freed with the socket; accepted sockets get a copy of their listener's. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct sock_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} state_by_sock SEC(".maps");

/*
 * Containers by cgroup id: made in the kernel when the cgroup is made, confirmed by the agent.
 * Full: containers_lost counts it, and from then on containers are told by their names too, see lib/unlisted.h.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct container);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} container_by_cgroup SEC(".maps");

/* How many containers found no room in container_by_cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} containers_lost SEC(".maps");

/*
 * What the user namespaces of containers call ids, by cgroup id. Full, or not known: its processes have no
 * ids that a rule can name, see id_inside().
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct id_map);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ids_by_container SEC(".maps");

/*
 * The mount namespaces of containers, by cgroup id, as inodes. Not known (full, or older than the hooks and nobody has joined
 * since): files of any are taken for the container's, see of_container(): open.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} mntns_by_container SEC(".maps");

/* Cgroups whose children are containers whatever their name, by path, NUL-padded. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u8[PARENT_LEN]);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} container_parent SEC(".maps");

/* Network namespaces of governed pods. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct netns);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} netns_by_cookie SEC(".maps");
