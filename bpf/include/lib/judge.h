/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE, around the decision: whose call it is, what is cached, what is told, what the caller gets.
 * Shared by every step of the ladder and by the gate.
 */
#include <lib/evaluate.h>
#include <lib/tell.h>

enum errnos {
	ERR_PERM = 1,
	ERR_CONNRESET = 104,
	ERR_CONNREFUSED = 111,
	ERR_PROTONOSUPPORT = 93,
};

enum signals {
	SIGNAL_KILL = 9,
};

/* Whether and how far a judgement may be remembered. */
enum keep {
	KEEP = 1,
	KEEP_NAMED = 2, /* by the connection, not for new ones: the name expires */
	KEEP_DNS = 4,	/* for the flow, each of whose packets is read */
	KEEP_HTTP = 8,	/* the same, for requests */
};

/* A socket call (or packet) to be judged, with what a report about it says. */
struct ask {
	struct query query;
	__u64 netns;
	__u8 local[16];
	__u16 local_port;
	__u16 family;
	__u16 type;
	__u8 call; /* enum call */
	__u8 step; /* enum step */
	__u32 ifindex;
	__u32 flags; /* enum control_flags */
};

/*
 * The decision kept on a socket for its connection: 24 bits of revision, 32 of the label.actor it was
 * made for, 8 of verdict, in one word, so that no reader sees half. A wrong match needs 2^24 policy
 * changes or 2^32 execs or changes of ids during one connection. Only Allow is ever trusted from it.
 */
static __always_inline __u64 decision_word(__u64 revision, __u64 actor, __u8 verdict)
{
	return (revision & 0xffffff) << 40 | (actor & 0xffffffff) << 8 | verdict;
}

static __always_inline int verdict_passes(__u8 verdict)
{
	return verdict == VERDICT_ALLOW || verdict == VERDICT_AUDIT;
}

/* What the caller of a socket call gets: 0 or a negative errno. */
static __always_inline int verdict_errno(__u8 verdict)
{
	if (verdict_passes(verdict))
		return 0;
	if (verdict == VERDICT_RESET)
		return -ERR_CONNREFUSED;
	return -ERR_PERM;
}

static __always_inline __u16 kind_of_call(__u8 call)
{
	switch (call) {
	case CALL_BIND:
	case CALL_LISTEN:
	case CALL_ACCEPT:
		return EV_KIND_LISTEN;
	case CALL_SOCKET:
		return EV_KIND_SOCKET;
	case CALL_PACKET_OUT:
	case CALL_PACKET_IN:
		return EV_KIND_FLOW;
	default:
		return EV_KIND_CONNECT;
	}
}

/*
 * Reports a judged call: what did not simply pass as an alert, the rest as a flow. caller: the subject
 * is the task that runs, so its thread and name are known.
 */
static __always_inline int tell_judged(const struct ask *ask, const struct label *label,
				       const struct answer *answer, int caller)
{
	__u8 verdict = answer->verdict, would = answer->would;
	struct ev_call *event;

	if (ask->step == STEP_REPORT && !verdict_passes(verdict)) {
		would = verdict;
		verdict = VERDICT_AUDIT; /* this step stops nothing */
	}
	if (verdict == VERDICT_ALLOW)
		event = tell_flow(struct ev_call);
	else
		event = tell_alert(struct ev_call);
	if (!event)
		return 0; /* counted; the verdict stands */
	tell_header(&event->header, kind_of_call(ask->call), sizeof(*event));
	tell_subject(&event->subject, label, caller);
	event->rule = answer->rule;
	event->revision = ask->query.revision;
	event->netns = ask->netns;
	event->packets = 0;
	event->bytes = 0;
	__builtin_memcpy(event->local, ask->local, sizeof(event->local));
	__builtin_memcpy(event->remote, ask->query.addr, sizeof(event->remote));
	event->local_port = ask->local_port;
	event->remote_port = ask->query.port;
	if (ask->query.direction == DIR_INGRESS)
		event->remote_port = 0;
	event->family = ask->family;
	event->type = ask->type;
	event->protocol = ask->query.protocol;
	event->ifindex = ask->ifindex;
	event->call = ask->call;
	event->step = ask->step;
	event->verdict = verdict;
	event->would = would;
	event->reason = answer->reason;
	event->severity = answer->severity;
	event->has_remote = !!(ask->query.flags & QUERY_ADDRESS);
	event->pad = 0;
	bpf_ringbuf_submit(event, verdict == VERDICT_ALLOW ? tell_flow_flags() : 0);
	return 0;
}

__noinline int tell_call(const struct ask *ask, const struct label *label,
			 const struct answer *answer)
{
	if (!ask || !label || !answer)
		return 0;
	return tell_judged(ask, label, answer, 1);
}

__noinline int tell_packet(const struct ask *ask, const struct label *label,
			   const struct answer *answer)
{
	if (!ask || !label || !answer)
		return 0;
	return tell_judged(ask, label, answer, 0);
}

/*
 * The rules that select a label now: from its cache, or computed into scratch. NULL for scratch: the
 * label is the running task's own and may be written.
 */
static __always_inline struct bits *who_of(struct ruleset *ruleset, struct label *label,
					   __u64 revision, struct bits *scratch)
{
	struct bits *who = scratch ? scratch : (struct bits *)label->who;

	if (label->who_revision == revision)
		return (struct bits *)label->who;
	/* Only the task itself writes its label, so nobody sees the bits half written. */
	if (!scratch)
		label->who_revision = 0;
	select_program(ruleset, label, revision, who);
	if (ruleset->flags & RULESET_USERS)
		select_ids(ruleset, label, revision, who, ID_USER);
	if (ruleset->flags & RULESET_GROUPS)
		select_ids(ruleset, label, revision, who, ID_GROUP);
	if (!scratch) {
		label->flags &= ~LABEL_IDS;
		if (ruleset->flags & (RULESET_USERS | RULESET_GROUPS))
			label->flags |= LABEL_IDS;
		label->who_revision = revision;
	}
	return who;
}

/* Makes the rules that a task's own label keeps those of the policy in force, for who copies it. */
static __always_inline void refresh_who(struct label *label)
{
	struct control *c = control_get();
	__u64 revision = c ? c->revision : 0; /* read once: a swap may come at any time */
	struct ruleset *ruleset;

	if (c && label->who_revision != revision &&
	    ruleset_of(revision, label->container, &ruleset) == RULESET_FOUND)
		who_of(ruleset, label, revision, 0);
}

/* Whether the peer of a call can have names that matter. */
static __always_inline int has_names(struct ruleset *ruleset, const struct query *query)
{
	return ruleset->flags & RULESET_NAMES && query->flags & QUERY_ADDRESS &&
	       query->direction == DIR_EGRESS;
}

/* Leaves in the query by which name of the peer the rule in the room allowed it. */
static __always_inline void find_name(struct ruleset *ruleset, struct names_room *room,
				      struct query *query, const struct answer *answer)
{
	__u64 hash = query->name_hash, serial = query->name_serial;

	query->name_serial = 0;
	if (!(answer->flags & ANSWER_NAMED))
		return;
	room->name.hash = hash;
	room->serial = serial;
	/* One that has expired since is not found: the call is allowed, and nothing kept of it. */
	if (!names_walk(ruleset, room))
		return;
	query->name_hash = room->name.hash;
	query->name_serial = room->serial;
}

/*
 * Evaluates, first by the names of the peer where these count. Here and not in evaluate(): stacks are
 * deep below a socket.
 */
static __always_inline void judge_named(struct ruleset *ruleset, struct label *label,
					struct query *query, struct bits *scratch,
					struct answer *answer)
{
	struct names_room *room = 0;

	if (has_names(ruleset, query)) {
		room = names_room_take();
		if (!room) {
			evaluate_broken(answer); /* closed */
			return;
		}
		room->bit = RULE_MAX;
		room->revision = query->revision;
		room->key.container = room->name.container = label->container;
		__builtin_memcpy(room->key.addr, query->addr, sizeof(room->key.addr));
		room->name.hash = query->name_hash;
		room->serial = query->name_serial;
		__builtin_memset(&room->match, 0, sizeof(room->match));
		names_walk(ruleset, room);
	}
	evaluate(ruleset, who_of(ruleset, label, query->revision, scratch), query, answer, room);
	if (room) {
		find_name(ruleset, room, query, answer);
		names_room_give(room);
	}
}

/*
 * Answers a query of a labelled process. flags: enum control_flags. scratch: see who_of(). Returns 0 when the answer must not be remembered, because the container
 * is still unknown, else KEEP and what goes with it.
 */
static __always_inline int answer_query(struct query *query, struct label *label, __u32 flags,
					struct bits *scratch, struct answer *answer)
{
	struct ruleset *ruleset;

	answer->verdict = VERDICT_ALLOW;
	answer->reason = REASON_UNGOVERNED;
	switch (ruleset_of(query->revision, label->container, &ruleset)) {
	case RULESET_UNKNOWN:
		/* unknownWorkload decides whether this fails open or closed. */
		answer->reason = REASON_UNKNOWN;
		if (flags & CONTROL_UNKNOWN_DENY)
			answer->verdict = VERDICT_DENY;
		return 0;
	case RULESET_FOUND:
		/* Rules of other origins than it has by chance may be meant for it: closed where one is enforced. */
		if (label->flags & LABEL_UNLISTED && is_enforced(ruleset)) {
			answer->reason = REASON_UNKNOWN;
			answer->verdict = VERDICT_DENY;
			return 0;
		}
		if (!(flags & CONTROL_GATE))
			query->flags |= QUERY_UNREAD; /* closed: rules.dns and rules.http allow nothing */
		if (ruleset->flags & RULESET_RULES)
			judge_named(ruleset, label, query, scratch, answer);
		return KEEP | (answer->flags & ANSWER_NAMED ? KEEP_NAMED : 0) |
		       (answer->flags & ANSWER_DNS ? KEEP_DNS : 0) |
		       (answer->flags & ANSWER_HTTP ? KEEP_HTTP : 0);
	default:
		evaluate_broken(answer);
		return KEEP;
	}
}

/*
 * Judges a call of the running task, whose label it is, and tells what is to be told. Returns the verdict; *final is 0
 * when it must not be remembered, else of enum keep. The name that allowed it is left in the query.
 */
static __always_inline __u8 judge(struct ask *ask, struct label *label, int *final)
{
	struct answer answer = {};

	*final = answer_query(&ask->query, label, ask->flags, 0, &answer);
	if (answer.verdict != VERDICT_ALLOW || ask->flags & CONTROL_TELL_CONNECT)
		tell_call(ask, label, &answer);
	return answer.verdict;
}

/* Whether two addresses, each on a boundary of 8 bytes, are one. */
static __always_inline int is_address(const __u8 *addr, const __u8 *of)
{
	const __u64 *a = (const __u64 *)addr, *b = (const __u64 *)of;

	return a[0] == b[0] && a[1] == b[1];
}

/* Whether the task's last addressed call was this one, judged Allow under this revision. */
static __always_inline int judged_last(const struct label *label, const struct query *query)
{
	const struct last_call *last = &label->last;

	return last->revision == query->revision && is_address(last->addr, query->addr) &&
	       last->port == query->port && last->protocol == query->protocol &&
	       last->direction == query->direction;
}

static __always_inline void remember_last(struct label *label, const struct query *query)
{
	struct last_call *last = &label->last;

	last->revision = query->revision;
	__builtin_memcpy(last->addr, query->addr, sizeof(last->addr));
	last->port = query->port;
	last->protocol = query->protocol;
	last->direction = query->direction;
}
