/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* GATE, what becomes of one packet of a flow to a resolver: see lib/dns_gate.h. */
#include <lib/dns_gate.h>
#include <lib/gated.h>

/* Besides an enum reason, why an answer is not simply delivered. */
enum not_told {
	DNS_AGAIN = 256, /* to be dropped and asked for again */
	DNS_OURS = 257,	 /* our own refusal, told when it was made */
	DNS_BROKEN = 258, /* the answer to a query of ours, and cannot be read: never passed */
};

/* The storage of queries of the packet's socket. */
static __always_inline struct pending *pending_of(struct __sk_buff *skb, __u64 flags)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&query_by_sock, sk, 0, flags) : 0;
}

/* A query, read into s->m if read. Returns a verdict. Inline: stacks below it are deep. */
static __always_inline int query_out(struct __sk_buff *skb, struct dns_scratch *s,
				     const struct flow_key *key, struct sock_state *state,
				     int read)
{
	struct pending *pending;
	__u8 verdict;
	int refused;

	verdict = judge_name(s, key, &state->owner, read);
	if (verdict != VERDICT_ALLOW)
		tell_dns(s, key, &state->owner, 1);
	refused = read && (verdict == VERDICT_DENY || verdict == VERDICT_RESET) && is_gated(skb, key);
	if (!read && (verdict == VERDICT_DENY || verdict == VERDICT_RESET))
		s->refuse = DNS_REFUSE_RESET;
	if (!refused && (!verdict_passes(verdict) || !(s->answer.flags & ANSWER_FILLS)))
		return verdict;
	pending = pending_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
	if (!pending) {
		count_error(SITE_SOCK_STORAGE);
		return VERDICT_DENY; /* closed: its answer would be one to nothing */
	}
	expect_answer(pending, &s->m, key, refused);
	if (!refused)
		return verdict;
	if (key->protocol == PROTO_TCP) {
		s->refuse = verdict == VERDICT_RESET ? DNS_REFUSE_RESET : DNS_REFUSE_TELL;
		return verdict;
	}
	return refuse_later(key, &s->m) ? VERDICT_ALLOW : VERDICT_DENY;
}

/* A packet to a resolver. Returns a verdict. */
__noinline int dns_out(struct __sk_buff *skb, const struct flow_key *key, struct sock_state *state)
{
	struct dns_scratch *s;
	int read, verdict;

	if (!key || !state)
		return VERDICT_DENY;
	s = scratch_take();
	if (!s)
		return VERDICT_DROP; /* as a loss on the way: it is sent again */
	read = begin_message(skb, &s->m, DNS_QUERY, 0) && dns_question(skb, &s->m) &&
	       dns_rest(skb, &s->m);
	verdict = query_out(skb, s, key, state, read);
	scratch_give(s);
	return verdict;
}

/* Whether something may be reported now; *packets are those since the last time. */
static __always_inline int may_tell(__u64 *told_ns, __u64 *held, __u64 *packets)
{
	__u64 told = *told_ns, now = bpf_ktime_get_boot_ns();

	__sync_fetch_and_add(held, 1);
	if (now - told < DNS_PAUSE_NS || __sync_val_compare_and_swap(told_ns, told, now) != told)
		return 0;
	*packets = __sync_lock_test_and_set(held, 0);
	return 1;
}

/* What is not an answer to a query that was to be remembered. Returns a verdict. */
static __always_inline int not_asked(struct __sk_buff *skb, struct dns_scratch *s,
				     const struct flow_key *key, struct sock_state *state,
				     __u32 reason)
{
	struct pending *pending;
	__u64 packets;

	/* Of a flow that a rule without rules.dns allows too: passes, and fills nothing. */
	if (verdict_passes(judge_name(s, key, &state->owner, 0)) && reason != DNS_BROKEN)
		return VERDICT_ALLOW;
	if (reason == DNS_BROKEN)
		reason = REASON_MALFORMED;
	s->answer.verdict = VERDICT_DROP;
	s->answer.would = s->answer.flags = 0;
	s->answer.reason = reason;
	s->refuse = DNS_REFUSE_RESET;
	/* Made here for who never asked, so that a flood is told slowly to each socket. */
	pending = pending_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
	if (pending && may_tell(&pending->told_ns, &pending->held, &packets))
		tell_dns(s, key, &state->owner, packets);
	return VERDICT_DROP;
}

/* Reports an answer that was delivered, and whether some of it could not be remembered. */
__noinline int tell_answer(struct dns_scratch *s, const struct flow_key *key,
			   struct sock_state *state)
{
	struct control *c = control_get();
	struct name_count *count;
	__u64 packets = 1;

	if (!s || !key || !state || !c)
		return 0;
	__builtin_memset(&s->answer, 0, sizeof(s->answer));
	s->ask.query.revision = c->revision;
	s->answer.verdict = VERDICT_ALLOW;
	s->answer.reason = REASON_RULE;
	if (!s->m.sink[SINK_LOST]) {
		if (c->flags & CONTROL_TELL_CONNECT)
			tell_dns(s, key, &state->owner, 1);
		return 0;
	}
	s->answer.verdict = VERDICT_AUDIT; /* the answer passes, calls to its addresses will not */
	s->answer.would = VERDICT_DENY;
	s->answer.reason = REASON_NAMES_FULL;
	count = count_of(state->owner.container);
	if (!count || may_tell(&count->told_ns, &count->refused, &packets))
		tell_dns(s, key, &state->owner, packets);
	return 0;
}

/*
 * An answer whose question was read: matches it to its query, reads it, remembers it. Returns 0 when
 * it may be delivered, else the reason why not, or one of enum not_told.
 */
static __always_inline int answer_in(struct __sk_buff *skb, struct dns_scratch *s,
				     const struct flow_key *key, struct sock_state *state)
{
	struct pending *pending = pending_of(skb, 0);
	struct pending_way *way;
	__u64 deadline;
	__u32 place;

	place = pending ? find_query(pending, &s->m, key) : 0;
	if (!place)
		return REASON_UNASKED;
	/* Before it counts as the answer, so that garbage does not use the query up. */
	if (!dns_rest(skb, &s->m))
		return DNS_BROKEN;
	way = &pending->way[(place - 1) & (PENDING_WAYS - 1)];
	if (way->refused && ((s->m.flags & DNS_RCODE) != DNS_REFUSED || s->m.answers))
		return REASON_UNASKED;
	deadline = way->deadline;
	if (!deadline || __sync_val_compare_and_swap(&way->deadline, deadline, 0) != deadline)
		return REASON_UNASKED;
	if (way->refused)
		return DNS_OURS;
	s->m.sink[SINK_LOST] = 0;
	if (!(s->m.flags & DNS_RCODE) && s->m.answers &&
	    !fill(skb, &s->m, state->owner.container))
		return DNS_AGAIN;
	return 0;
}

/* An answer in s->m; begun: it could be found. Returns a verdict. */
static __always_inline int take_answer(struct __sk_buff *skb, struct dns_scratch *s,
				       const struct flow_key *key, struct sock_state *state,
				       int begun)
{
	int reason = REASON_MALFORMED;

	if (begun && dns_question(skb, &s->m))
		reason = answer_in(skb, s, key, state);
	if (!reason) {
		tell_answer(s, key, state);
		return VERDICT_ALLOW;
	}
	if (reason == DNS_OURS)
		return VERDICT_ALLOW;
	if (reason == DNS_AGAIN) {
		count_error(SITE_DNS_BUSY);
		return VERDICT_DROP; /* asked for again, as if it had been lost on the way */
	}
	return not_asked(skb, s, key, state, reason);
}

/* A packet from a resolver. Returns a verdict. */
__noinline int dns_in(struct __sk_buff *skb, const struct flow_key *key, struct sock_state *state)
{
	struct dns_scratch *s;
	int verdict;

	if (!key || !state)
		return VERDICT_DENY;
	s = scratch_take();
	if (!s)
		return VERDICT_DROP;
	verdict = take_answer(skb, s, key, state, begin_message(skb, &s->m, DNS_ANSWER, 0));
	scratch_give(s);
	return verdict;
}
