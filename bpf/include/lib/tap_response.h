/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ in TLS libraries, what is read: the first bytes of the answer to an HTTP/1 request that was told, see
 * lib/response.h, and all that comes over HTTP/2, see lib/response_h2.h. These probes are attached only where allowed calls
 * are told. Everything here fails open: an answer that cannot be read or kept is not told.
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

/* A read that the running thread is in, of an object whose responses are read. */
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

/* The same by the goroutine that is in a read, as it moves between threads. Pushed out: what it reads is not seen (open). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tls_key); /* of the goroutine */
	__type(value, struct tls_reading);
} reading_by_goroutine SEC(".maps");

/* The response that an object's process awaits on it; NULL: none. */
static __always_inline struct response *tap_awaited(const struct tls_key *key)
{
	struct response *r = bpf_map_lookup_elem(&response_by_object, key);

	return r && r->asked_ns ? r : 0;
}

/* What is followed of an object that speaks HTTP/2; NULL: it does not, or no more of it is read. */
static __always_inline struct h2_status *tap_followed(const struct tls_key *key)
{
	struct h2_status *s = bpf_map_lookup_elem(&h2_status_by_object, key);

	return s && !s->lost ? s : 0;
}

/* A read begins that may bring the response. */
static __always_inline int tap_reads(struct tls_key key, const void *bytes, const void *got)
{
	struct tls_reading *reading;

	if (!tap_awaited(&key) && !tap_followed(&key))
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

/* Tells a response on the connection of an object, to the running task. Inline: no map takes the key of a global function. */
static __always_inline int tap_responded(__u64 asked, __u32 status, const struct tls_key *key)
{
	struct tls_conn *conn = bpf_map_lookup_elem(&conn_by_object, key);
	struct response_of of = {.direction = DIR_EGRESS};
	struct label *label = label_current();

	if (!conn || !label)
		return 0;
	tap_flow(&of.key, conn);
	return tell_response(asked, status, &of, label, STEP_TAP);
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
	return event == STATUS_DONE ? tap_responded(response_asked(r), r->code, key) : 0;
}

/* What was read over HTTP/2 of an object. */
struct tap_piece {
	struct h2_status *s;
	struct tls_key key;
};

/* Loads the next bytes. Returns 0: there are none, or they cannot be read, and the connection is lost. */
static __always_inline int tap_piece_load(struct h2_status *s)
{
	struct h2_status_piece *piece = &s->piece;
	__u32 n;

	if (!piece->left)
		return 0;
	n = h2_status_chunk(piece) + 1;
	return h2_status_loaded(s, n, bpf_probe_read_user(piece->chunk, n, (void *)piece->at));
}

static long tap_piece_step(__u32 index, void *data)
{
	struct tap_piece *g = data;
	struct h2_status *s = g->s;
	__u32 status;

	if (!h2_status_skip(s)) {
		if (s->piece.pos >= s->piece.len && !tap_piece_load(s))
			return 1;
		h2_status_next(s);
	}
	if (s->lost)
		return 1;
	if (!s->whole)
		return 0;
	status = h2_status_head(s);
	if (status)
		tap_responded(h2_status_asked(s), status, &g->key);
	return 0;
}

/* got bytes were read of an object that is followed. */
static __always_inline int tap_follow(struct h2_status *s, const struct tls_key *key, const void *bytes, __u64 got)
{
	struct tap_piece g = {.s = s, .key = *key};

	h2_status_give(s, (__u64)bytes, got);
	bpf_loop(H2_STATUS_STEPS, tap_piece_step, &g, 0);
	h2_status_given(s);
	return 0;
}

/* got bytes are there of an object. */
static __always_inline int tap_have(const struct tls_key *key, const void *bytes, __u64 got)
{
	struct h2_status *s = tap_followed(key);

	return s ? tap_follow(s, key, bytes, got) : tap_answer(key, bytes, got);
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
	return got > 0 ? tap_have(&key, (const void *)reading->bytes, got) : 0;
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
