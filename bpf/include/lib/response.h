/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What is reported of the answer to an HTTP/1 request that was told and passes: its status, and how long it took. Where
 * it begins is known because clients wait for one answer before they ask again: the next byte from the server. Who asks
 * twice at once (pipelining) is told no answer, since it is not followed where one ends. Of HTTP/2: lib/response_h2.h.
 *
 * Nothing is decided by it, so everything here fails open: an answer that cannot be read or kept is not told.
 */
#include <abi/event.h>
#include <lib/request_room.h>
#include <lib/tell.h>
#include <parse/status.h>

/* How many bytes of an answer are looked at, as an index that no kernel's verifier takes for zero. */
#define response_chunk(n) ((((n) > STATUS_LINE ? STATUS_LINE : (n)) - 1) & 15)

/* Reads the first bytes of what the server says. Returns an enum status_event. */
static __always_inline int response_feed(struct response *r, const __u8 *line, __u32 n)
{
	int event = STATUS_MORE;
	__u32 i;

	for (i = 0; i < STATUS_LINE && event == STATUS_MORE; i++) {
		if (i >= n)
			break;
		event = status_byte(r, line[i]);
	}
	return event;
}

/* The requests of one piece (segment, write) were judged; one is awaited only where it was one, and none before it. */
static __always_inline void response_expect(struct response *r, const struct request_room *room, __u32 next)
{
	__u64 before = r->asked_ns;

	r->asked_ns = 0;
	r->next = next;
	r->code = r->at = 0;
	if (!before && room->told == 1)
		r->asked_ns = room->told_ns;
}

/* Goes on behind an interim response: another follows to the same request. */
static __always_inline void response_again(struct response *r, __u32 next)
{
	r->next = next;
	r->code = r->at = 0;
}

/* The connection of a response that is told. */
struct response_of {
	struct flow_key key;
	__u64 direction; /* enum direction: of the request */
};

/* When the request was told whose response has begun, once; 0: another processor tells it. */
static __always_inline __u64 response_asked(struct response *r)
{
	return __sync_lock_test_and_set(&r->asked_ns, 0);
}

/*
 * Tells a response that has begun to the request that was told at asked; 0: there is none. step: who has read it, as in
 * tell_said().
 */
static __always_inline int tell_response(__u64 asked, __u32 status, const struct response_of *of,
					 const struct label *owner, __u8 step)
{
	struct ev_response *event;

	if (!asked)
		return 0;
	event = tell_flow(struct ev_response);
	if (!event)
		return 0; /* counted */
	tell_header(&event->header, EV_KIND_RESPONSE, sizeof(*event));
	tell_subject(&event->subject, owner, step == STEP_TAP);
	event->asked_ns = asked;
	event->netns = of->key.netns;
	__builtin_memcpy(event->local, of->key.local, sizeof(event->local));
	__builtin_memcpy(event->remote, of->key.remote, sizeof(event->remote));
	event->local_port = of->key.local_port;
	event->remote_port = of->key.remote_port;
	event->status = status;
	event->direction = of->direction;
	event->step = step;
	bpf_ringbuf_submit(event, tell_flow_flags());
	return 0;
}
