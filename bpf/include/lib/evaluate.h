/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE, the decision itself: who & peer & port, first deny, then allow, then the default. The same
 * algorithm as (*compile.Tables).Judge, which tests compare it with.
 */
#include <lib/dfa.h>
#include <lib/label.h>
#include <lib/tables.h>

enum query_flags {
	QUERY_ADDRESS = 1, /* addr holds a peer */
	QUERY_PORT = 2,	   /* protocol and port count */
	QUERY_LISTEN = 4,  /* bind, listen, accept: no peer yet, so only a Deny of every peer counts */
};

/* What is asked. */
struct query {
	__u64 revision;
	__u8 addr[16]; /* IPv4-mapped; :: and 0.0.0.0 already made loopback, as the kernel takes them */
	__u16 port;    /* host byte order: the peer's for egress, the workload's own for ingress */
	__u8 protocol; /* IPPROTO_* */
	__u8 direction;
	__u32 flags;
};

/* What is answered. */
struct answer {
	__u64 rule; /* reference; 0: none */
	__u8 verdict;
	__u8 would; /* for VERDICT_AUDIT: what Enforce would have done */
	__u8 reason;
	__u8 severity;
	__u32 pad;
};

enum pick_bits {
	PICK_NONE = RULE_MAX, /* no rule */
};

/* The first rule of each kind. */
struct pick {
	__u16 deny;
	__u16 allow;
	__u16 select; /* the first Allow rule that selects the process in this direction */
	__u8 direction;
	__u8 audit; /* 1: rules in mode Audit take part as if they enforced */
};

static __always_inline __u16 first_bit(__u64 word)
{
	return __builtin_ctzll(word);
}

/*
 * The rules that select a process, into who. A global function, as evaluate_pick(): the verifier
 * looks at it once and not at every call.
 */
__noinline int evaluate_who(struct ruleset *ruleset, struct label *label, __u64 revision,
			    struct bits *who)
{
	struct bits *exe, *script = 0;
	__u32 origin;
	int cut, i;

	if (!ruleset || !label || !who)
		return 0;
	origin = label->origin;
	if (origin >= ORIGIN_COUNT)
		origin = ORIGIN_UNKNOWN;
	cut = label->flags & LABEL_TRUNCATED;
	exe = dfa_accept(revision, ruleset, label->exe);
	if (label->script[0])
		script = dfa_accept(revision, ruleset, label->script);
	for (i = 0; i < RULE_WORDS; i++) {
		__u64 binary = ruleset->any_binary.word[i];

		/* A path that was cut is not known: closed, it matches what denies and nothing that allows. */
		if (cut) {
			binary |= ruleset->truncated.word[i];
		} else {
			if (exe)
				binary |= exe->word[i];
			if (script)
				binary |= script->word[i];
		}
		who->word[i] = ruleset->origins[origin].word[i] & binary;
	}
	return 0;
}

/* ANDs the bitsets. pick->direction and pick->audit are given, the rest is found. */
__noinline int evaluate_pick(struct ruleset *ruleset, struct bits *who, struct bits *peer,
			     struct bits *port, struct pick *pick)
{
	__u16 deny = PICK_NONE, allow = PICK_NONE, select = PICK_NONE;
	__u32 direction;
	int i;

	if (!ruleset || !who || !peer || !port || !pick)
		return 0;
	direction = pick->direction & 1;
	for (i = RULE_WORDS - 1; i >= 0; i--) {
		__u64 denies = ruleset->deny[direction].word[i];
		__u64 allows = ruleset->allow[direction].word[i];
		__u64 subject = who->word[i];
		__u64 hit;

		if (!pick->audit)
			subject &= ~ruleset->audit.word[i];
		hit = subject & peer->word[i] & port->word[i];
		if (hit & denies)
			deny = i * 64 + first_bit(hit & denies);
		if (hit & allows)
			allow = i * 64 + first_bit(hit & allows);
		if (subject & allows)
			select = i * 64 + first_bit(subject & allows);
	}
	pick->deny = deny;
	pick->allow = allow;
	pick->select = select;
	return 0;
}

/* 127.0.0.0/8 and ::1. */
static __always_inline int is_loopback(const __u8 *addr)
{
	const __u64 *half = (const __u64 *)addr;
	const __u32 *word = (const __u32 *)addr;

	if (half[0])
		return 0;
	if (word[2] == bpf_htonl(0xffff))
		return addr[12] == 127;
	return half[1] == bpf_cpu_to_be64(1);
}

/* Turns the picked rules into an answer; *bit gets the rule, or PICK_NONE. */
static __always_inline void decide(const struct pick *pick, const struct query *query,
				   struct answer *answer, __u32 *bit)
{
	*bit = PICK_NONE;
	if (pick->deny != PICK_NONE) {
		*bit = pick->deny;
		answer->verdict = VERDICT_DENY;
		answer->reason = REASON_RULE;
	} else if (query->flags & QUERY_LISTEN) {
		answer->verdict = VERDICT_ALLOW;
		answer->reason = REASON_UNGOVERNED;
	} else if (pick->allow != PICK_NONE) {
		*bit = pick->allow;
		answer->verdict = VERDICT_ALLOW;
		answer->reason = REASON_RULE;
	} else if (pick->select == PICK_NONE) {
		answer->verdict = VERDICT_ALLOW;
		answer->reason = REASON_UNGOVERNED;
	} else if (query->flags & QUERY_ADDRESS && is_loopback(query->addr)) {
		/* A rule that names peers says nothing of the pod's own loopback. */
		answer->verdict = VERDICT_ALLOW;
		answer->reason = REASON_LOOPBACK;
	} else {
		*bit = pick->select;
		answer->verdict = VERDICT_DENY;
		answer->reason = REASON_DEFAULT;
	}
}

/* Fails closed: the tables of the revision in force are not whole. */
static __always_inline int evaluate_broken(struct answer *answer)
{
	count_error(SITE_TABLES);
	answer->verdict = VERDICT_DENY;
	answer->reason = REASON_UNKNOWN;
	return 0;
}

/*
 * Judges query for a process that the rules who select. Global, and so are all functions that take
 * pointers to what their caller's branches depend on: 6.1 does not track precisely what a static
 * function writes to its caller's stack, takes states for equal that are not, and cuts off branches
 * as dead that are not.
 */
__noinline int evaluate(struct ruleset *ruleset, struct bits *who, const struct query *query,
			struct answer *answer)
{
	struct bits *peer, *port;
	struct pick pick = {};
	struct rule *rule;
	__u32 bit;

	if (!ruleset || !who || !query || !answer)
		return 0;
	peer = &ruleset->any_peer;
	port = &ruleset->any_port;
	pick.direction = query->direction;
	if (query->flags & QUERY_ADDRESS)
		peer = bits_of_peer(query->revision, ruleset, query->addr);
	if (query->flags & QUERY_PORT)
		port = bits_of_port(query->revision, ruleset, query->protocol, query->port);
	if (!peer || !port)
		return evaluate_broken(answer);
	evaluate_pick(ruleset, who, peer, port, &pick);
	decide(&pick, query, answer, &bit);
	if (answer->verdict == VERDICT_ALLOW && ruleset->flags & RULESET_AUDIT) {
		struct answer audit = {};
		__u32 audit_bit;

		pick.audit = 1;
		evaluate_pick(ruleset, who, peer, port, &pick);
		decide(&pick, query, &audit, &audit_bit);
		if (audit.verdict == VERDICT_DENY) {
			answer->verdict = VERDICT_AUDIT;
			answer->reason = audit.reason;
			bit = audit_bit;
		}
	}
	if (bit == PICK_NONE)
		return 0;
	rule = rule_of(query->revision, ruleset, bit);
	if (!rule)
		return evaluate_broken(answer);
	answer->rule = rule->ref;
	if (answer->verdict == VERDICT_ALLOW)
		return 0;
	answer->severity = rule->severity;
	if (answer->verdict == VERDICT_AUDIT)
		answer->would = rule->verdict;
	else
		answer->verdict = rule->verdict;
	return 0;
}
