/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Echo requests to a pod, which its kernel answers: no socket is there to judge them, so the gate does,
 * as a process of the node in the pod (Host) that runs no program.
 */
#include <lib/dns_room.h>
#include <lib/flow.h>
#include <maps/label.h>

/* What the pod's kernel answers whether or not a socket is there. */
static __always_inline int is_echo_request(const struct packet *packet)
{
	return packet->protocol == PROTO_ICMP ? packet->icmp_type == ICMP4_ECHO :
						packet->protocol == PROTO_ICMPV6 &&
							packet->icmp_type == ICMP6_ECHO;
}

/* What was judged of the request's flow under the policy in force: a verdict, or 0. */
__noinline int echo_known(struct __sk_buff *skb, struct dns_scratch *s, __u64 revision)
{
	struct flow_key key;
	struct flow *flow;

	if (!s)
		return 0;
	key = s->key;
	flow = bpf_map_lookup_elem(&flow_by_tuple, &key);
	if (!flow || flow->state != FLOW_JUDGED || flow->decision >> 8 != revision)
		return 0;
	flow_count(flow, skb, DIR_INGRESS);
	return flow->decision & 0xff;
}

/* Writes down what was judged: the answer passes by it, and so do the next requests. */
__noinline int echo_write(struct dns_scratch *s, __u64 decision)
{
	struct flow flow = {.direction = DIR_INGRESS};
	struct flow_key key;

	if (!s)
		return 0;
	key = s->key;
	flow.decision = decision;
	flow.container = s->kernel.container;
	if (bpf_map_update_elem(&flow_by_tuple, &key, &flow, BPF_ANY))
		count_error(SITE_FLOW_MAP); /* closed: the answer has no flow */
	return 0;
}

/* Judges the request whose key is in s. Returns a verdict. */
__noinline int echo_judge(struct dns_scratch *s, const struct control *c)
{
	struct netns *netns;
	__u64 cookie, decision;
	struct ask *ask;
	int final;

	if (!s || !c)
		return VERDICT_DROP;
	cookie = s->key.netns;
	netns = bpf_map_lookup_elem(&netns_by_cookie, &cookie);
	if (!netns)
		return VERDICT_DROP; /* closed: the pod is going, nobody knows by which rules */
	__builtin_memset(&s->kernel, 0, sizeof(s->kernel));
	s->kernel.container = netns->container;
	s->kernel.origin = ORIGIN_HOST;
	ask = &s->ask;
	__builtin_memset(ask, 0, sizeof(*ask));
	ask->query.revision = c->revision;
	ask->query.protocol = s->key.protocol;
	ask->query.direction = DIR_INGRESS;
	ask->query.flags = QUERY_ADDRESS | QUERY_PORT;
	ask->query.message = ICMP_PORT + s->key.icmp_type;
	__builtin_memcpy(ask->query.addr, s->key.remote, 16);
	__builtin_memcpy(ask->local, s->key.local, 16);
	ask->netns = cookie;
	ask->family = is_mapped(s->key.local) ? FAMILY_INET : FAMILY_INET6;
	ask->call = CALL_PACKET_IN;
	ask->step = STEP_GATE;
	ask->flags = c->flags & ~CONTROL_TELL_CONNECT;
	__builtin_memset(&s->answer, 0, sizeof(s->answer));
	final = answer_query(&ask->query, &s->kernel, ask->flags, &s->who, &s->answer);
	decision = s->answer.verdict;
	if (decision != VERDICT_ALLOW)
		tell_packet(ask, &s->kernel, &s->answer);
	/* Of a container still unknown: passes under no revision, so it is judged again. */
	if (final)
		decision |= ask->query.revision << 8;
	echo_write(s, decision);
	return decision & 0xff;
}

/* Whether an echo request to the pod behind the gate passes. */
__noinline int echo_enters(struct __sk_buff *skb)
{
	struct control *c = control_get();
	__u32 ifindex = skb->ifindex;
	struct gate *gate = bpf_map_lookup_elem(&gate_by_ifindex, &ifindex);
	struct dns_scratch *s;
	int verdict;

	if (!gate)
		return 1; /* taken down meanwhile */
	if (!c)
		return 0;
	s = scratch_take();
	if (!s)
		return 0; /* as a loss on the way */
	packet_parse(skb, &s->packet, 0);
	packet_flow_key(&s->packet, gate->netns, 0, &s->key);
	verdict = echo_known(skb, s, c->revision);
	if (!verdict)
		verdict = echo_judge(s, c);
	scratch_give(s);
	return verdict_passes(verdict);
}
