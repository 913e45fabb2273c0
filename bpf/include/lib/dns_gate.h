/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, for flows to resolvers that rules.dns speaks about: every query is read and judged by the
 * name in it, every answer must be one to such a query of the same socket, and its addresses are
 * remembered before it is delivered. Fails closed: what cannot be read is dropped, unless a rule
 * without rules.dns allows the flow too, which then may carry anything, but fills nothing.
 */
#include <lib/dns_fill.h>
#include <lib/dns_refuse.h>

enum dns_gate_limits {
	DNS_WAIT_NS = 30000000000ULL, /* an answer comes within half a minute or never */
	DNS_PAUSE_NS = 10000000,      /* between reports of what came to a socket unasked for */
};

/* Asks about the query in m (read: it could be read) on a flow. */
static __always_inline void ask_name(struct dns_scratch *s, const struct flow_key *key,
				     struct label *owner, int read)
{
	struct control *c = control_get();
	struct ask *ask = &s->ask;
	struct ruleset *ruleset;
	__u64 revision;

	__builtin_memset(ask, 0, sizeof(*ask));
	__builtin_memset(&s->answer, 0, sizeof(s->answer));
	if (!c)
		return;
	revision = c->revision; /* read once: a swap may come at any time */
	ask->query.revision = revision;
	ask->query.protocol = key->protocol;
	ask->query.direction = DIR_EGRESS;
	ask->query.flags = QUERY_ADDRESS | QUERY_PORT | QUERY_NAME;
	ask->query.port = key->remote_port;
	__builtin_memcpy(ask->query.addr, key->remote, 16);
	ask->flags = c->flags;
	if (read && ruleset_of(revision, owner->container, &ruleset) == RULESET_FOUND)
		ask->query.accept = dfa_index(revision, &ruleset->queries, s->m.name);
}

__noinline int judge_name(struct dns_scratch *s, const struct flow_key *key, struct label *owner,
			  int read)
{
	if (!s || !key || !owner)
		return VERDICT_DENY;
	ask_name(s, key, owner, read);
	answer_query(&s->ask.query, owner, s->ask.flags, &s->who, &s->answer);
	if (!read && !verdict_passes(s->answer.verdict))
		s->answer.reason = REASON_MALFORMED;
	return s->answer.verdict;
}

/* Reports the message in s: an alert, unless it passed. packets: that this reports. */
__noinline int tell_dns(struct dns_scratch *s, const struct flow_key *key, struct label *owner,
			__u64 packets)
{
	struct ev_dns *event;
	__u8 verdict;

	if (!s || !key || !owner)
		return 0;
	verdict = s->answer.verdict;
	if (verdict == VERDICT_ALLOW)
		event = tell_flow(struct ev_dns);
	else
		event = tell_alert(struct ev_dns);
	if (!event)
		return 0; /* counted; the verdict stands */
	tell_header(&event->header, EV_KIND_DNS, sizeof(*event));
	tell_subject(&event->subject, owner, 0);
	event->rule = s->answer.rule;
	event->revision = s->ask.query.revision;
	event->netns = key->netns;
	event->packets = packets;
	__builtin_memcpy(event->local, key->local, sizeof(event->local));
	__builtin_memcpy(event->remote, key->remote, sizeof(event->remote));
	event->local_port = key->local_port;
	event->remote_port = key->remote_port;
	event->type = s->m.type;
	event->is_answer = s->m.kind == DNS_ANSWER;
	event->rcode = s->m.flags & DNS_RCODE;
	event->addresses = s->m.found;
	event->verdict = verdict;
	event->would = s->answer.would;
	event->reason = s->answer.reason;
	event->severity = s->answer.severity;
	__builtin_memcpy(event->name, s->m.name, sizeof(event->name)); /* its first half */
	bpf_ringbuf_submit(event, verdict == VERDICT_ALLOW ? tell_flow_flags() : 0);
	return 0;
}

/* Writes down that a socket waits for the answer to the query in m. */
__noinline int expect_answer(struct pending *pending, const struct dns_message *m,
			     const struct flow_key *key, int refused)
{
	struct pending_way *way;

	if (!pending || !m || !key)
		return 0;
	way = &pending->way[__sync_fetch_and_add(&pending->next, 1) & (PENDING_WAYS - 1)];
	__sync_lock_test_and_set(&way->deadline, 0);
	way->hash = m->hash;
	way->exact = m->exact;
	__builtin_memcpy(way->remote, key->remote, sizeof(way->remote));
	__builtin_memcpy(way->local, key->local, sizeof(way->local));
	way->id = m->id;
	way->remote_port = key->remote_port;
	way->type = m->type;
	way->refused = refused;
	__sync_lock_test_and_set(&way->deadline, bpf_ktime_get_boot_ns() + DNS_WAIT_NS);
	return 0;
}

struct find {
	struct pending *pending;
	const struct dns_message *m;
	const struct flow_key *key;
	__u64 now;
	__u32 place; /* one more than it; 0: not found */
	__u32 pad;
};

static long find_step(__u32 index, void *data)
{
	struct find *find = data;
	const struct pending_way *way = &find->pending->way[index & (PENDING_WAYS - 1)];
	const struct dns_message *m = find->m;
	const __u64 *a = (const __u64 *)way->remote, *b = (const __u64 *)find->key->remote;
	const __u64 *x = (const __u64 *)way->local, *y = (const __u64 *)find->key->local;

	if (way->deadline < find->now || way->id != m->id || way->hash != m->hash ||
	    way->exact != m->exact || way->type != m->type ||
	    way->remote_port != find->key->remote_port || a[0] != b[0] || a[1] != b[1] ||
	    x[0] != y[0] || x[1] != y[1])
		return 0;
	find->place = index + 1;
	return 1;
}

/* The place, plus one, of the query that m answers; 0: there is none. */
__noinline int find_query(struct pending *pending, const struct dns_message *m,
			  const struct flow_key *key)
{
	struct find find = {.pending = pending, .m = m, .key = key};

	if (!pending || !m || !key)
		return 0;
	find.now = bpf_ktime_get_boot_ns();
	bpf_loop(PENDING_WAYS, find_step, &find, 0);
	return find.place;
}
