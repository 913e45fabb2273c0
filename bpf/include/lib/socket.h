/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Socket calls turned into questions. Every step of the ladder reads its own context into struct sock_facts and calls the
 * same functions here, which answer with 0 or a negative errno.
 *
 * Families: unix and netlink sockets stay on the node and are not judged. AF_INET and AF_INET6 are judged by peer and port.
 * Every other family (packet, vsock, …) and raw sockets of protocols other than ICMP are judged once, at creation, and need
 * a rule for every peer and port.
 */
#include <bpf/bpf_endian.h>
#include <lib/judge.h>
#include <maps/flow.h>

enum families {
	FAMILY_UNSPEC = 0,
	FAMILY_UNIX = 1,
	FAMILY_INET = 2,
	FAMILY_INET6 = 10,
	FAMILY_NETLINK = 16,
	FAMILY_ALG = 38, /* the kernel's own cryptography */
};

enum sock_types {
	TYPE_STREAM = 1,
	TYPE_DGRAM = 2,
	TYPE_RAW = 3,
	TYPE_MASK = 0xf,
};

enum tcp_states {
	TCP_STATE_CLOSE = 7,
	TCP_STATE_LISTEN = 10,
};

enum protocols {
	PROTO_IP = 0,
	PROTO_ICMP = 1,
	PROTO_IGMP = 2,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ICMPV6 = 58,
	PROTO_SCTP = 132,
	PROTO_UDPLITE = 136,
	PROTO_MPTCP = 262,
};

/* What a hook knows of a socket. */
struct sock_facts {
	__u64 netns;
	__u16 family;
	__u16 type;
	__u16 protocol;
	__u16 local_port; /* host byte order; 0: not bound */
};

/* struct sockaddr_in and sockaddr_in6 in one. */
struct sock_address {
	__u16 family;
	__u16 port_be;
	__u32 ip4_or_flow;
	__u8 ip6[16];
};

static __always_inline int family_is_ip(__u16 family)
{
	return family == FAMILY_INET || family == FAMILY_INET6;
}

static __always_inline int protocol_is_icmp(__u16 protocol)
{
	return protocol == PROTO_ICMP || protocol == PROTO_ICMPV6;
}

static __always_inline void address_from_ip4(__u8 *addr, __u32 ip4)
{
	__u32 *word = (__u32 *)addr;

	word[0] = word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = ip4;
}

/* The kernel takes the unspecified address as loopback. */
static __always_inline void address_canonical(__u8 *addr)
{
	__u32 *word = (__u32 *)addr;

	if (word[0] || word[1] || word[3])
		return;
	if (word[2] == bpf_htonl(0xffff))
		word[3] = bpf_htonl(0x7f000001);
	else if (!word[2])
		word[3] = bpf_htonl(1);
}

static __always_inline void ask_init(struct ask *ask, const struct sock_facts *facts,
				     const struct control *c, __u8 step)
{
	__builtin_memset(ask, 0, sizeof(*ask));
	ask->query.revision = c->revision;
	ask->query.protocol = facts->protocol;
	ask->netns = facts->netns;
	ask->local_port = facts->local_port;
	ask->family = facts->family;
	ask->type = facts->type;
	ask->step = step;
	ask->flags = c->flags;
}

/* Puts a peer into the question. ICMP has no ports; other raw protocols are asked with port 0. */
static __always_inline void ask_peer(struct ask *ask, const __u8 *addr, __u16 port)
{
	__builtin_memcpy(ask->query.addr, addr, sizeof(ask->query.addr));
	address_canonical(ask->query.addr);
	ask->query.flags |= QUERY_ADDRESS | QUERY_PORT;
	ask->query.port = ask->type == TYPE_RAW || protocol_is_icmp(ask->query.protocol) ? 0 : port;
	if (protocol_is_icmp(ask->query.protocol))
		ask->query.message = ICMP_PORT_UNKNOWN;
}

/* Copies the address of a socket call out of kernel memory. Returns 0 when it names no IP peer. */
static __always_inline int address_read(struct sock_address *address, __u8 *addr, const void *name,
					int len)
{
	__builtin_memset(address, 0, sizeof(*address));
	if (len < 8)
		return 0; /* the protocol refuses it with EINVAL */
	if (bpf_probe_read_kernel(address, len < (int)sizeof(*address) ? 8 : sizeof(*address), name))
		return 0;
	if (address->family == FAMILY_INET6)
		__builtin_memcpy(addr, address->ip6, sizeof(address->ip6));
	else
		address_from_ip4(addr, address->ip4_or_flow);
	return 1;
}

/* Judges an addressed call, from cache where the task has just made the same one. *final: see judge(). */
static __always_inline __u8 judge_addressed(struct ask *ask, struct label *label, int *final)
{
	__u8 verdict;

	*final = KEEP;
	if (judged_last(label, &ask->query))
		return VERDICT_ALLOW;
	verdict = judge(ask, label, final);
	/* Of what the gate reads packet by packet it must judge each connection: see hold_peer(). */
	if (verdict == VERDICT_ALLOW && *final && !(*final & (KEEP_NAMED | KEEP_HTTP)) &&
	    !(*final & KEEP_DNS && ask->query.protocol == PROTO_TCP))
		remember_last(label, &ask->query);
	return verdict;
}

/*
 * A UDP server answers: the peer has sent to this very port of that owner, label.actor, and was let in under
 * this revision.
 */
static __always_inline int is_answer(const struct ask *ask, __u64 owner)
{
	struct flow_key key = {};
	struct flow *flow;

	if (ask->query.protocol != PROTO_UDP || !ask->local_port)
		return 0;
	key.netns = ask->netns;
	__builtin_memcpy(key.remote, ask->query.addr, sizeof(key.remote));
	key.local_port = ask->local_port;
	key.remote_port = ask->query.port;
	key.protocol = PROTO_UDP;
	flow = bpf_map_lookup_elem(&flow_by_tuple, &key);
	return flow && flow->decision == (ask->query.revision << 8 | VERDICT_ALLOW) &&
	       flow->owner == owner;
}

/* Whether the gate judges what is sent on a socket as its calls by this process are judged. */
static __always_inline int is_owner(const struct label *label, const struct sock_state *state)
{
	return state->owner.actor == label->actor && state->owner.container == label->container &&
	       state->owner.origin == label->origin;
}

/*
 * ICMP where rules name types of messages: the gate judges each message by the type it then has. A call
 * does not tell it (connect) or only where another thread can still write (a raw send). Where the gate
 * does not judge by the caller, the call is judged as a message of a type not known: closed.
 */
static __always_inline int icmp_left_to_gate(const struct ask *ask, const struct label *label,
					     const struct sock_state *state)
{
	struct ruleset *ruleset;

	if (!protocol_is_icmp(ask->query.protocol) || !(ask->flags & CONTROL_GATE) || !state ||
	    !is_owner(label, state))
		return 0;
	return ruleset_of(ask->query.revision, label->container, &ruleset) == RULESET_FOUND &&
	       ruleset->flags & RULESET_ICMP;
}

/*
 * Drop is silent: the call goes on, and the gate drops what it sends. That holds only for what the gate
 * judges as this call was judged, by the same process: for the rest Drop fails the call, as Deny does.
 * Returns the verdict that the caller of the call feels.
 */
static __always_inline __u8 left_to_gate(const struct ask *ask, const struct label *label,
					 struct sock_state *state, __u8 verdict)
{
	if (verdict != VERDICT_DROP || !(ask->flags & CONTROL_GATE) || !state || !is_owner(label, state))
		return verdict;
	state->hushed = ask->query.revision;
	return VERDICT_ALLOW;
}

/*
 * Keeps what a connect was judged: its peer, and the name that it is allowed by, which outlives its time,
 * not the policy. settled: the decision may be taken for that of the connection's first packet: not where every packet
 * is to be read.
 */
static __always_inline void hold_peer(struct sock_state *state, const struct query *query, int settled)
{
	state->peer_port = 0;
	state->name_serial = 0;
	state->name_hash = query->name_hash;
	__builtin_memcpy(state->peer, query->addr, sizeof(state->peer));
	state->name_serial = query->name_serial;
	if (settled)
		state->peer_port = query->port;
}

/* Lets a connection be judged by the name it was opened by. */
static __always_inline void recall_name(const struct sock_state *state, struct query *query)
{
	if (!state->name_serial || !is_address(state->peer, query->addr))
		return;
	query->name_hash = state->name_hash;
	query->name_serial = state->name_serial;
}

/* Says of a call that the gate reads what it sends as another's, who made the socket. To the step that reports nobody did. */
static __always_inline void mark_borrowed(struct ask *ask, const struct label *label,
					  const struct sock_state *state)
{
	if (state && !is_owner(label, state))
		ask->query.flags |= QUERY_BORROWED;
}

/* connect(2), and the sends that connect (MSG_FASTOPEN) or name their peer. */
static __always_inline __u8 judge_connect(struct ask *ask, struct label *label,
					  struct sock_state *state)
{
	__u8 verdict;
	int final;

	if (icmp_left_to_gate(ask, label, state))
		return VERDICT_ALLOW;
	/* The step that reports does not know the owner and takes the caller for it. */
	if (ask->call == CALL_SENDMSG && is_answer(ask, state ? state->owner.actor : label->actor)) {
		if (!state || state->owner.actor == label->actor)
			return VERDICT_ALLOW;
		/* On another's socket: who answers must be one that the peer may come to, as well. */
		ask->query.direction = DIR_INGRESS;
		ask->query.port = ask->local_port;
	}
	mark_borrowed(ask, label, state);
	verdict = judge_addressed(ask, label, &final);
	if (state && ask->call == CALL_CONNECT) {
		state->direction = DIR_EGRESS;
		hold_peer(state, &ask->query, final & (KEEP_DNS | KEEP_HTTP) ? 0 : final);
		state->decision = decision_word(ask->query.revision, label->actor, verdict);
	}
	return left_to_gate(ask, label, state, verdict);
}

/* A send on a connected socket whose peer is addr and port. */
static __always_inline __u8 judge_connected(struct ask *ask, struct label *label,
					    struct sock_state *state)
{
	__u64 allowed = decision_word(ask->query.revision, label->actor, VERDICT_ALLOW);
	__u8 verdict;
	int final;

	if ((state && state->decision == allowed) || icmp_left_to_gate(ask, label, state))
		return VERDICT_ALLOW;
	if (state && state->direction == DIR_INGRESS) {
		ask->query.direction = DIR_INGRESS;
		ask->query.port = ask->local_port;
	}
	if (state)
		recall_name(state, &ask->query);
	mark_borrowed(ask, label, state);
	verdict = judge(ask, label, &final);
	if (state && final & (KEEP_DNS | KEEP_HTTP))
		state->peer_port = 0; /* connected under a policy that asked for less: see connect_allowed() */
	if (state && final)
		state->decision = decision_word(ask->query.revision, label->actor, verdict);
	return left_to_gate(ask, label, state, verdict);
}

/*
 * bind(2), listen(2), accept(2): denied by rules that deny every peer of the port. A listener whose
 * accept was allowed is not judged, or told, again for every peer. state: may be NULL.
 */
static __always_inline __u8 judge_listen(struct ask *ask, struct label *label,
					 struct sock_state *state)
{
	__u64 allowed = decision_word(ask->query.revision, label->actor, VERDICT_ALLOW);
	__u8 verdict;
	int final;

	if (ask->call == CALL_ACCEPT && state && state->served == allowed)
		return VERDICT_ALLOW;
	ask->query.direction = DIR_INGRESS;
	ask->query.flags = QUERY_LISTEN | QUERY_PORT;
	ask->query.port = ask->local_port;
	verdict = judge(ask, label, &final);
	if (ask->call == CALL_ACCEPT && state && final)
		state->served = decision_word(ask->query.revision, label->actor, verdict);
	return verdict;
}

/* Whether any rule selects the process, in either direction. */
static __always_inline int is_governed(struct label *label, __u64 revision)
{
	struct ruleset *ruleset;
	struct bits *who;
	int i;

	if (ruleset_of(revision, label->container, &ruleset) != RULESET_FOUND)
		return 0;
	who = who_of(ruleset, label, revision, 0);
	for (i = 0; i < RULE_WORDS; i++)
		if (who->word[i] & (ruleset->allow[0].word[i] | ruleset->allow[1].word[i] |
				    ruleset->deny[0].word[i] | ruleset->deny[1].word[i]))
			return 1;
	return 0;
}

/* Whether creating a socket is judged at all: not where its calls are judged one by one. */
static __always_inline int create_is_judged(const struct sock_facts *facts)
{
	if (facts->family == FAMILY_UNIX || facts->family == FAMILY_NETLINK ||
	    facts->family == FAMILY_ALG)
		return 0;
	if (!family_is_ip(facts->family))
		return 1;
	if (facts->type == TYPE_RAW)
		return !protocol_is_icmp(facts->protocol);
	switch (facts->protocol) {
	case PROTO_IP:
	case PROTO_TCP:
	case PROTO_UDP:
	case PROTO_UDPLITE:
	case PROTO_SCTP:
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		return 0;
	}
	return 1;
}

static __always_inline int is_mptcp(const struct sock_facts *facts)
{
	return family_is_ip(facts->family) && facts->protocol == PROTO_MPTCP;
}

/*
 * MPTCP: its subflows are sockets of the kernel's own, which no hook can tie to a process, so a
 * governed process does not get it. Programs take this error as a kernel without MPTCP and use TCP.
 * Returns 0 or a negative errno.
 */
static __always_inline int judge_mptcp(struct ask *ask, struct label *label)
{
	struct answer answer = {.verdict = VERDICT_DENY, .reason = REASON_MPTCP};

	if (!is_governed(label, ask->query.revision))
		return 0;
	tell_call(ask, label, &answer);
	return -ERR_PROTONOSUPPORT;
}

/* socket(2), where create_is_judged(). */
static __always_inline __u8 judge_create(struct ask *ask, struct label *label)
{
	int final;

	return judge(ask, label, &final);
}

/* Fills the storage of a new socket: from now on the gate knows whose it is. */
static __always_inline void own_socket(struct sock_state *state, const struct label *label,
				       __u64 netns)
{
	state->netns = netns;
	state->decision = state->served = state->hushed = state->looped = state->name_serial = 0;
	state->looped_state = state->refused = 0;
	state->opened = state->pad = 0;
	state->direction = DIR_EGRESS;
	state->peer_port = 0;
	__builtin_memcpy(&state->owner, label, sizeof(state->owner));
}
