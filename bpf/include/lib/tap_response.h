/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ in TLS libraries, what is read: the first bytes of the answer to an HTTP/1 request that was told, see
 * lib/response.h. These probes are attached only where allowed calls are told. Everything here fails open: an answer
 * that cannot be read or kept is not told.
 */
#include <lib/response.h>
#include <lib/tap_request.h>

/* By object, as conn_by_object; not pinned, as only the taps that were loaded together write it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tls_key);
	__type(value, struct response);
} response_by_object SEC(".maps");

/* A read that the running thread is in, of an object whose response is awaited. */
struct tls_reading {
	__u64 object; /* 0: none */
	__u64 bytes;  /* where the library leaves what was read */
	__u64 got_at; /* where it leaves how much; 0: it returns that */
};

/* Freed with the task; not pinned, for the same reason. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tls_reading);
} reading_by_task SEC(".maps");

/* The response that an object's process awaits on it; NULL: none. */
static __always_inline struct response *tap_awaited(const struct tls_key *key)
{
	struct response *r = bpf_map_lookup_elem(&response_by_object, key);

	return r && r->asked_ns ? r : 0;
}

/* A read begins that may bring the response. */
static __always_inline int tap_reads(struct tls_key key, const void *bytes, const void *got)
{
	struct tls_reading *reading;

	if (!tap_awaited(&key))
		return 0;
	reading = bpf_task_storage_get(&reading_by_task, bpf_get_current_task_btf(), 0,
				       BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!reading)
		return 0;
	reading->object = key.object;
	reading->bytes = (__u64)bytes;
	reading->got_at = (__u64)got;
	return 0;
}

/* Tells the response on the connection of an object, to the running task. */
static __always_inline int tap_responded(struct response *r, const struct tls_key *key)
{
	struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, key);
	struct response_of of = {.direction = DIR_EGRESS};
	struct label *label = label_current();

	if (!conn || !label)
		return 0;
	tap_flow(&of.key, conn);
	return tell_response(r, &of, label, STEP_TAP);
}

/* The first got bytes of what was read are there. */
static __always_inline int tap_answer(const struct tls_key *key, const void *bytes, __u64 got)
{
	struct response *r = tap_awaited(key);
	__u8 line[16] = {};
	int event;
	__u64 n;

	if (!r)
		return 0;
	n = response_chunk(got);
	PARSE_OPAQUE(n);
	n = (n & 15) + 1;
	event = bpf_probe_read_user(line, n, bytes) ? STATUS_BAD : response_feed(r, line, n);
	if (event == STATUS_BAD)
		r->asked_ns = 0;
	if (event == STATUS_INTERIM)
		response_again(r, 0);
	return event == STATUS_DONE ? tap_responded(r, key) : 0;
}

/* A read ends: got is what it returned. */
static __always_inline int tap_got(struct tls_key key, __s64 got)
{
	struct tls_reading *reading;

	reading = bpf_task_storage_get(&reading_by_task, bpf_get_current_task_btf(), 0, 0);
	if (!reading || !reading->object)
		return 0; /* none is awaited, or a second probe on the same file has seen it */
	key.object = reading->object;
	reading->object = 0;
	if (got > 0 && reading->got_at && bpf_probe_read_user(&got, sizeof(got), (void *)reading->got_at))
		return 0;
	return got > 0 ? tap_answer(&key, (const void *)reading->bytes, got) : 0;
}

/* What was written of a connection told requests that pass: the response is awaited. */
__noinline int tap_expect(const struct tls_key *of, const struct request_room *room)
{
	struct response fresh = {}, *r;
	struct tls_key key;

	if (!of || !room)
		return 0;
	key = *of;
	r = bpf_map_lookup_elem(&response_by_object, &key);
	if (r) {
		response_expect(r, room, 0);
		return 0;
	}
	response_expect(&fresh, room, 0);
	bpf_map_update_elem(&response_by_object, &key, &fresh, BPF_ANY);
	return 0;
}
