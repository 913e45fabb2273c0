/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE, the decision itself: who & peer & port, first deny, then allow, then the default. The same
 * algorithm as (*compile.Tables).Judge, which tests compare it with.
 */
#include <abi/request.h>
#include <lib/dfa.h>
#include <lib/label.h>
#include <lib/names.h>
#include <lib/select.h>

enum query_flags {
	QUERY_ADDRESS = 1, /* addr holds a peer */
	QUERY_PORT = 2,	   /* protocol and port count */
	QUERY_LISTEN = 4,  /* bind, listen, accept: no peer yet, so only a Deny of every peer counts */
	QUERY_NAME = 8,	   /* a DNS query: accept says which rules.dns match the name in it */
	QUERY_UNREAD = 16, /* nobody would read a query or request in this call */
	QUERY_REQUEST = 32, /* a request: accept is the place of the rules that select it in request_selects */
	QUERY_HELLO = 128, /* the beginning of a TLS connection: accept says which serverNames match the name it asks for */
	QUERY_BORROWED = 64, /* on a socket of another's, by which the gate judges what is sent */
};

/* What is asked. */
struct query {
	__u64 revision;
	__u8 addr[16]; /* IPv4-mapped; :: and 0.0.0.0 already made loopback, as the kernel takes them */
	__u16 port;    /* host byte order: the peer's for egress, the workload's own for ingress */
	__u8 protocol; /* IPPROTO_* */
	__u8 direction;
	__u32 flags;
	__u32 accept; /* number of the rules, see dfa_bits(); 0: none */
	__u16 message; /* enum icmp_ports; 0: no ICMP message, the port counts */
	__u16 server; /* of a request: number of the rules whose serverNames match its connection, as accept; 0: none */
	__u64 name_hash; /* the name that the connection was opened by; then the one that allows the call */
	__u64 name_serial; /* 0: none */
};

enum server_numbers {
	SERVER_ANY = 0xffff, /* whatever they are: the gate lets the connection pass by its name */
};

enum {
	QUERIES_BY_TCP = 6, /* IPPROTO_TCP, and below UDP: what carries DNS that is read */
	QUERIES_BY_UDP = 17,
};

enum answer_flags {
	ANSWER_NAMED = 1, /* allowed by a name, as long as it does not expire */
	ANSWER_DNS = 2,	  /* allowed by rules with rules.dns: every packet is to be read */
	ANSWER_FILLS = 4, /* what is answered to the query is to be remembered */
	ANSWER_HTTP = 8, /* allowed only by rules with rules.http or serverNames: what is said is to be read; of QUERY_HELLO: with rules.http */
};

/* What is answered. */
struct answer {
	__u64 rule; /* reference; 0: none */
	__u8 verdict;
	__u8 would; /* for VERDICT_AUDIT: what Enforce would have done */
	__u8 reason;
	__u8 severity;
	__u32 flags; /* enum answer_flags */
};

enum pick_bits {
	PICK_NONE = RULE_MAX, /* no rule */
};

/* The first rule of each kind. */
struct pick {
	__u16 deny;
	__u16 allow;
	__u16 select; /* the first Allow rule that selects the process in this direction */
	__u16 silent; /* the first Allow rule that would match but for what is inside */
	__u8 direction;
	__u8 audit; /* 1: rules in mode Audit take part as if they enforced */
	__u8 asks;  /* enum asks */
	__u8 flags; /* enum answer_flags */
	__u32 accept; /* number of the rules that match what is asked about, see enum asks */
	__u64 revision;
};

/* Which rules have a say about what is inside, besides peer and port. */
enum asks {
	ASKS_NAME = 1,	  /* rules.dns; accept is a number of dfa_bits() */
	ASKS_REQUEST = 2, /* rules.http, serverNames; accept is a place in request_selects */
	ASKS_HELLO = 4,	  /* serverNames; as ASKS_NAME */
};

/* The rules that select a request, while it is judged: by the room that the request is read in. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REQUEST_ROOMS);
	__type(key, __u32);
	__type(value, struct bits);
} request_selects SEC(".maps");

/* The rules that match what is inside. */
static __always_inline struct bits *bits_of_inside(const struct pick *pick)
{
	__u32 place = pick->accept;

	if (pick->asks & ASKS_REQUEST)
		return bpf_map_lookup_elem(&request_selects, &place);
	return dfa_bits(pick->revision, place);
}

static __always_inline __u16 first_bit(__u64 word)
{
	return __builtin_ctzll(word);
}

/* ANDs the bitsets. pick->direction, audit, asks, revision and accept are given, the rest is found. */
__noinline int evaluate_pick(struct ruleset *ruleset, struct bits *who, struct bits *peer,
			     struct bits *port, struct pick *pick)
{
	struct bits *accepts, *governs; /* governs: the rules that say what may be inside */
	struct bits *reads; /* the rules by which more is to be read */
	struct bits *behind, *beside; /* see below */
	__u64 spoken = 0, plain = 0; /* what allows: such rules, and others */
	__u32 direction;
	int i;

	if (!ruleset || !who || !peer || !port || !pick)
		return 0;
	governs = accepts = &ruleset->dns;
	reads = &ruleset->read;
	if (pick->asks) {
		if (pick->asks & ASKS_REQUEST)
			governs = &ruleset->read;
		if (pick->asks & ASKS_HELLO) {
			governs = &ruleset->tls;
			reads = &ruleset->http;
		}
		accepts = bits_of_inside(pick);
		if (!accepts)
			return 0; /* closed: the pick is as it came, rule 0 denies */
	}
	/* Kept there and not in registers, of which there are too few: the stack is short on 6.1. */
	pick->deny = pick->allow = pick->select = pick->silent = PICK_NONE;
	direction = pick->direction & 1;
	/* Clang adds a number that counts down to -56 to the ruleset's pointer, and Linux 7.3 takes none that is before its object. */
	behind = (struct bits *)ruleset + 1;
	beside = behind + direction;
	asm volatile("" : "+r"(behind), "+r"(beside));
	for (i = RULE_WORDS - 1; i >= 0; i--) {
		__u64 denies = ((struct ruleset *)(beside - 1))->deny[0].word[i];
		__u64 allows = ((struct ruleset *)(beside - 1))->allow[0].word[i];
		__u64 subject = who->word[i];
		__u64 hit, inside;

		if (!pick->audit)
			subject &= ~((struct ruleset *)(behind - 1))->audit.word[i];
		hit = subject & peer->word[i] & port->word[i];
		if (hit & denies)
			pick->deny = i * 64 + first_bit(hit & denies);
		if (subject & allows)
			pick->select = i * 64 + first_bit(subject & allows);
		hit &= allows;
		inside = hit & governs->word[i];
		if (inside)
			pick->flags |= ANSWER_DNS; /* nobody asks for it of anything else */
		if (inside && pick->asks) {
			if (inside & accepts->word[i])
				pick->flags |= ANSWER_FILLS;
			inside &= ~accepts->word[i];
			if (inside)
				pick->silent = i * 64 + first_bit(inside);
			hit &= ~inside;
		}
		if (hit)
			pick->allow = i * 64 + first_bit(hit);
		/* Added up without a branch: each would double what the verifier walks through here. */
		spoken |= hit & reads->word[i];
		plain |= hit & ~reads->word[i];
	}
	if (spoken && !plain)
		pick->flags |= ANSWER_HTTP;
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

/* What the picked rules come to. */
struct outcome {
	__u16 bit; /* the rule, or PICK_NONE */
	__u8 verdict;
	__u8 reason;
};

static __always_inline struct outcome outcome(__u16 bit, __u8 verdict, __u8 reason)
{
	struct outcome out = {.bit = bit, .verdict = verdict, .reason = reason};

	return out;
}

/* Whether only requests are allowed, where nobody would read them: in a call behind which no gate does. */
static __always_inline int nobody_reads(const struct pick *pick, const struct query *query)
{
	return pick->flags & ANSWER_HTTP && !(query->flags & (QUERY_REQUEST | QUERY_HELLO)) &&
	       query->flags & (QUERY_UNREAD | QUERY_BORROWED);
}

static __always_inline struct outcome decide(const struct pick *pick, const struct query *query)
{
	if (pick->deny != PICK_NONE)
		return outcome(pick->deny, VERDICT_DENY, REASON_RULE);
	if (query->flags & QUERY_LISTEN)
		return outcome(PICK_NONE, VERDICT_ALLOW, REASON_UNGOVERNED);
	if (pick->allow != PICK_NONE && nobody_reads(pick, query))
		return outcome(pick->allow, VERDICT_DENY, REASON_OPAQUE);
	if (pick->allow != PICK_NONE)
		return outcome(pick->allow, VERDICT_ALLOW, REASON_RULE);
	if (pick->silent != PICK_NONE)
		return outcome(pick->silent, VERDICT_DENY,
			       query->flags & (QUERY_NAME | QUERY_REQUEST | QUERY_HELLO) ? REASON_RULE :
											   REASON_DNS_STREAM);
	if (pick->select == PICK_NONE)
		return outcome(PICK_NONE, VERDICT_ALLOW, REASON_UNGOVERNED);
	/* A rule that names peers says nothing of the pod's own loopback. */
	if (query->flags & QUERY_ADDRESS && is_loopback(query->addr))
		return outcome(PICK_NONE, VERDICT_ALLOW, REASON_LOOPBACK);
	return outcome(pick->select, VERDICT_DENY, REASON_DEFAULT);
}

/* Fails closed: the tables of the revision in force are not whole. */
static __always_inline int evaluate_broken(struct answer *answer)
{
	count_error(SITE_TABLES);
	answer->verdict = VERDICT_DENY;
	answer->reason = REASON_UNKNOWN;
	return 0;
}

static __always_inline int has_bit(const struct bits *bits, __u32 bit)
{
	return bits->word[bit / 64 & (RULE_WORDS - 1)] >> (bit & 63) & 1;
}

/* Fills the answer with what is known of the deciding rule. */
static __always_inline int evaluate_rule(struct ruleset *ruleset, const struct query *query,
					 struct answer *answer, __u16 bit)
{
	struct rule *rule = rule_of(query->revision, ruleset, bit);

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

/* The rules of the peer with those of its names, which are in the room. */
static __always_inline struct bits *with_names(struct names_room *room, const struct bits *peer)
{
	int i;

	for (i = 0; i < RULE_WORDS; i++)
		room->match.word[i] |= peer->word[i];
	return &room->match;
}

/* What of the inside a query is about, or nobody would see. Returns enum asks. */
static __always_inline __u8 asks_of(__u32 ruleset_flags, const struct query *query)
{
	if (query->flags & QUERY_REQUEST)
		return ASKS_REQUEST;
	if (query->flags & QUERY_HELLO)
		return ASKS_HELLO;
	if (ruleset_flags & RULESET_DNS &&
	    (query->flags & (QUERY_NAME | QUERY_UNREAD) || (query->protocol != QUERIES_BY_UDP && query->protocol != QUERIES_BY_TCP)))
		return ASKS_NAME;
	return 0;
}

/*
 * Judges query for a process that the rules who select. room: the rules of the peer's names, or NULL;
 * with ANSWER_NAMED it gets the rule that only a name makes match. Global, and so are all functions
 * that take pointers to what their caller's branches depend on: 6.1 does not track precisely what a
 * static function writes to its caller's stack, takes states for equal that are not, and cuts off
 * branches as dead that are not.
 */
__noinline int evaluate(struct ruleset *ruleset, struct bits *who, const struct query *query,
			struct answer *answer, struct names_room *room)
{
	struct bits *peer, *port, *plain;
	struct pick pick = {};
	struct outcome out;

	if (!ruleset || !who || !query || !answer)
		return 0;
	peer = &ruleset->any_peer;
	port = &ruleset->any_port;
	if (query->flags & QUERY_ADDRESS)
		peer = bits_of_peer(query->revision, ruleset, query->addr);
	if (query->flags & QUERY_PORT)
		port = bits_of_port(query->revision, ruleset, query->protocol,
				    query->message ? query->message : query->port);
	if (!peer || !port)
		return evaluate_broken(answer);
	plain = peer;
	if (room)
		peer = with_names(room, plain);
	pick.revision = query->revision;
	pick.accept = query->accept;
	pick.direction = query->direction;
	pick.asks = asks_of(ruleset->flags, query);
	evaluate_pick(ruleset, who, peer, port, &pick);
	out = decide(&pick, query);
	answer->verdict = out.verdict;
	answer->reason = out.reason;
	if (out.verdict == VERDICT_ALLOW && ruleset->flags & RULESET_AUDIT) {
		struct outcome audit;

		pick.audit = 1;
		evaluate_pick(ruleset, who, peer, port, &pick);
		audit = decide(&pick, query);
		if (audit.verdict == VERDICT_DENY) {
			answer->verdict = VERDICT_AUDIT;
			answer->reason = audit.reason;
			out.bit = audit.bit;
		}
	}
	answer->flags = pick.flags;
	if (out.bit == PICK_NONE)
		return 0;
	if (room && answer->verdict == VERDICT_ALLOW && !has_bit(plain, out.bit)) {
		answer->flags |= ANSWER_NAMED;
		room->bit = out.bit;
	}
	return evaluate_rule(ruleset, query, answer, out.bit);
}
