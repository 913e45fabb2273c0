/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What is reported of requests and ClientHellos, whoever reads them. */
#include <lib/request_room.h>

/* Why something that cannot be read as a request is denied. */
static __always_inline __u8 reason_of_flaw(__u8 flaw)
{
	return flaw == FLAW_TLS || flaw == FLAW_HTTP2 ? REASON_OPAQUE : REASON_AMBIGUOUS;
}

/* Appends a text of n bytes, at most EV_TEXT, at *at. */
static __always_inline void tell_text(struct request_told *told, __u32 *at, __u32 part, const void *text)
{
	__u32 n = told->event.len[part], to = *at;

	if (!n)
		return;
	*at = to + n;
	n--;
	PARSE_OPAQUE(n); /* 6.1 wants to see its bound here */
	PARSE_OPAQUE(to);
	bpf_probe_read_kernel(told->text + (to & (REQUEST_TOLD - 1)), (n & (EV_TEXT - 1)) + 1, text);
}

/* The same, of a text that ends in a NUL. */
static __always_inline void tell_string(struct request_told *told, __u32 *at, __u32 part, const void *text)
{
	long n = bpf_probe_read_kernel_str(told->text + (*at & (REQUEST_TOLD - 1)), EV_TEXT, text);

	told->event.len[part] = n > 0 ? n - 1 : 0;
	*at += told->event.len[part];
}

/*
 * Appends behind at bytes of texts what is told only where the configuration asks for it. Returns how many bytes there are.
 * Global: its stack is its own.
 */
__noinline int tell_detail(struct request_room *room, __u32 at)
{
	struct header_names *names;
	struct request_told *told;
	__u32 place, zero = 0, i;
	struct detail *d;

	if (!room)
		return 0;
	told = &room->record;
	place = room->place;
	d = bpf_map_lookup_elem(&request_details, &place);
	names = bpf_map_lookup_elem(&told_headers, &zero);
	if (!d || !names)
		return at & (REQUEST_TOLD - 1); /* cannot be: nothing of it is told */
	told->event.headers = names->id;
	if (!(room->flags & CONTROL_TELL_QUERY))
		d->cut &= ~1U;
	for (i = 0; i < DETAILS; i++) {
		__u32 part = EV_TEXT_QUERY + i, n = d->len[i];

		if (i && (!(room->flags & CONTROL_TELL_HEADERS) || !names->name[i - 1].len))
			break;
		told->event.len[part] = n;
		tell_text(told, &at, part, i ? d->value[i - 1] : d->query);
		told->event.len[part] |= (d->there >> i & 1) * EV_TEXT_THERE | (d->cut >> i & 1) * EV_TEXT_CUT;
	}
	return at & (REQUEST_TOLD - 1);
}

/* What process it is of and what it says. Returns how many bytes of texts there are. */
static __always_inline __u32 tell_texts(struct request_room *room, const struct label *owner)
{
	struct request_told *told = &room->record;
	__u32 at = 0, i;

	tell_string(told, &at, EV_TEXT_EXE, owner->exe);
	tell_string(told, &at, EV_TEXT_SCRIPT, owner->script);
	for (i = 0; i < SAID_PARTS; i++) {
		told->event.len[EV_TEXT_SAID + i] = room->said.len[i] > SAID_TEXT ? SAID_TEXT : room->said.len[i];
		tell_text(told, &at, EV_TEXT_SAID + i, room->said.text[i]);
	}
	told->event.headers = told->event.pad = 0;
	__builtin_memset(told->event.len + EV_TEXT_QUERY, 0, DETAILS * sizeof(told->event.len[0]));
	if (room->flags & CONTROL_TELL_DETAIL && told->event.header.kind == EV_KIND_REQUEST)
		at = tell_detail(room, at);
	return at & (REQUEST_TOLD - 1);
}

/* The connection that it is on. */
static __always_inline void tell_connection(struct ev_request *event, const struct flow_key *key)
{
	event->netns = key->netns;
	__builtin_memcpy(event->local, key->local, sizeof(event->local));
	__builtin_memcpy(event->remote, key->remote, sizeof(event->remote));
	event->local_port = key->local_port;
	event->remote_port = key->remote_port;
}

/* Hands a record of size bytes on. A loss is counted; the verdict stands. */
static __always_inline void tell_out(struct ev_request *event, __u32 size)
{
	event->header.len = size;
	if (event->verdict == VERDICT_ALLOW) {
		if (bpf_ringbuf_output(&flows, event, size, tell_flow_flags()))
			count_error(SITE_FLOW_RING);
	} else if (bpf_ringbuf_output(&alerts, event, size, 0)) {
		count_error(SITE_ALERT_RING);
	}
}

/*
 * Reports the request in the room, which was judged: an alert, unless it passed. step: who read it, STEP_GATE, or
 * STEP_TAP in the process it is of.
 */
static __always_inline int tell_said(struct request_room *room, const struct label *owner, __u32 flaw, __u8 step)
{
	struct ev_request *event = &room->record.event;
	__u8 verdict = room->answer.verdict;
	int hello = !!(room->query.flags & QUERY_HELLO);

	tell_header(&event->header, hello ? EV_KIND_HELLO : EV_KIND_REQUEST, 0);
	tell_task(&event->task, owner, step == STEP_TAP);
	tell_connection(event, &room->key);
	event->rule = room->answer.rule;
	event->revision = room->query.revision;
	/* A tap's program gets an error from its own sends as well, which not every one reads: Node waits for its server. */
	event->socket = verdict_passes(verdict) || verdict == VERDICT_DROP ? 0 : room->socket;
	event->direction = room->query.direction;
	event->verdict = verdict;
	event->would = room->answer.would;
	event->reason = room->answer.reason;
	event->severity = room->answer.severity;
	event->flaw = flaw;
	event->step = step;
	event->hello = hello ? room->hello : 0;
	if (verdict_passes(verdict) && !hello && !flaw) {
		room->told++;
		room->told_ns = event->header.ktime_ns;
	}
	tell_out(event, sizeof(*event) + tell_texts(room, owner));
	return 0;
}
