/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, a change to WebSocket (RFC 6455, 4): a request for it is judged as any other, and when its server has answered with 101
 * what both say passes unread. That answer is read by gate_tc (lib/http_answer.h), where nobody in the pod can forge it: who
 * only claims that there was one would say anything else in its place.
 *
 * Where it begins is known only of the first request of a connection, to which nothing was said before: it is the server's
 * first byte. So others are refused, as a tunnel; and so they are where no gate_tc is on the way.
 *
 * Fails closed: nothing passes before the answer, and under other rules than those that allowed the request nothing at all.
 */
#include <lib/judge.h>
#include <lib/request_room.h>
#include <lib/tls_gate.h>
#include <maps/requests.h>

/* The digest of the rules that are in force for the socket's owner; 0: they are not known. */
static __always_inline __u32 upgrade_digest(const struct request_room *room)
{
	struct ruleset *ruleset;

	return ruleset_of(room->query.revision, room->container, &ruleset) == RULESET_FOUND ? ruleset->digest : 0;
}

/* Whether the request whose head is whole may be judged: it asks for nothing, or for what can be followed. */
static __always_inline int upgrade_may(const struct requests *requests, const struct request_room *room)
{
	if (requests->now.parser.upgrade != HTTP1_UPGRADE_ASKED)
		return 1;
	return room->answered && room->first && !requests->asked && !room->others;
}

/* The request was judged, and passes. */
static __always_inline void upgrade_asked(struct requests *requests, struct request_room *room)
{
	if (requests->now.parser.upgrade != HTTP1_UPGRADE_ASKED)
		return;
	requests->carries = CARRIES_ASKED;
	requests->digest = upgrade_digest(room);
	room->upgrade = 1;
}

/* What comes in is read anew from before its request. */
static __always_inline void upgrade_again(struct requests *requests)
{
	if (requests->carries != CARRIES_ASKED)
		return;
	requests->carries = CARRIES_REQUESTS;
	requests->asked = 0; /* nothing was before */
}

/* Looks for the answer. One that does not change anything has requests behind it. */
static __always_inline void upgrade_settle(struct requests *requests, const struct request_room *room)
{
	struct passed *passed;
	struct flow_key key;

	if (requests->carries != CARRIES_ASKED)
		return;
	key = room->key;
	passed = bpf_map_lookup_elem(&passed_by_flow, &key);
	if (!passed)
		return;
	if (passed->upgrade == PASSED_UPGRADE_DONE)
		requests->carries = CARRIES_UPGRADED;
	if (passed->upgrade == PASSED_UPGRADE_REFUSED)
		requests->carries = CARRIES_REQUESTS;
}

/* Whether bytes that nobody has read are to wait for the answer; in the segment of the request there may be none. */
static __always_inline int upgrade_waits(const struct requests *requests)
{
	return requests->carries == CARRIES_ASKED;
}

/* Whether what both say passes. Under other rules it is something that nobody has read. */
static __always_inline int upgrade_passes(struct requests *requests, const struct request_room *room)
{
	__u32 digest;

	if (requests->carries != CARRIES_UPGRADED)
		return 0;
	digest = upgrade_digest(room);
	if (digest && digest == requests->digest)
		return 1;
	requests_give_up(requests, FLAW_MIDWAY);
	return 0;
}
