// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * GATE, where socket and packet still meet: every packet that passes a socket of a labelled process
 * is judged by its flow, and the flow is written down for gate_tc.
 *
 * cgroup_skb/egress   a packet leaves a socket
 * cgroup_skb/ingress  a packet reaches a socket (for a SYN: the listener)
 *
 * This is also the step below the socket hooks: what they did not see (raw and ping sends, accepted
 * connections, sockets of an older policy) is judged here, at its first packet.
 *
 * Minimum kernel 5.17. Fails closed for owned sockets: malformed packets, broken tables. Sockets
 * without an owner pass here; in a gated pod their packets have no flow and end at gate_tc.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <lib/dns_stream.h>
#include <lib/http_gate.h>
#include <lib/packet.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum skb_verdict {
	SKB_DROP = 0, /* the sender gets EPERM */
	SKB_PASS = 1,
	SKB_DROP_SILENTLY = 2, /* egress only: congestion, which UDP and raw sends do not report */
};

enum skb_offsets {
	LOOPBACK_IFINDEX = 1, /* in every network namespace */
};

/* What a packet's flow is judged by. */
struct passage {
	struct flow_key key;
	__u8 out;	/* 1: leaving the pod */
	__u8 direction; /* enum direction: who opened the flow */
	__u8 looped;	/* 1: kept on the socket, see is_looped() */
	__u8 state;	/* enum flow_state, as it was judged */
	__u8 icmp_type; /* of this very packet */
	__u8 others;	/* 1: another's socket may have this flow, see is_kept() */
	__u8 pad[2];
};

/* Whether the packet is an ICMP message that answers none. */
static __always_inline int is_request(const struct passage *passage)
{
	return protocol_is_icmp(passage->key.protocol) &&
	       passage->icmp_type == passage->key.icmp_type;
}

/* Writes a judged flow down. A full LRU pushes out another, which its next packet makes again. */
__noinline int flow_write(const struct passage *passage, const struct label *owner, __u64 decision)
{
	struct flow flow = {};
	struct flow_key key;

	if (!passage || !owner)
		return 0;
	key = passage->key;
	flow.decision = decision;
	flow.container = owner->container;
	flow.session = owner->session;
	flow.owner = owner->actor;
	flow.direction = passage->direction;
	flow.state = passage->state;
	if (bpf_map_update_elem(&flow_by_tuple, &key, &flow, BPF_ANY))
		count_error(SITE_FLOW_MAP); /* the packet passes by its verdict; the gate drops: closed */
	if (passage->direction != DIR_INGRESS || key.protocol != PROTO_UDP)
		return 0;
	/* Lets the server answer this peer: its sends do not tell the local address. */
	__builtin_memset(key.local, 0, sizeof(key.local));
	bpf_map_update_elem(&flow_by_tuple, &key, &flow, BPF_ANY);
	return 0;
}

/*
 * Whether a verdict is written down. Who uses the port of another's flow, or asks by another's echo id, and
 * is denied, does not take the flow away: it is denied packet by packet.
 */
static __always_inline int is_kept(const struct passage *passage, __u8 verdict)
{
	return passage->looped || verdict_passes(verdict) ||
	       (!passage->others && !(passage->out && is_request(passage)));
}

/* The same on a socket whose flow never comes to gate_tc. */
static __always_inline void loop_keep(const struct passage *passage, struct sock_state *state,
				      __u64 decision)
{
	state->looped = 0;
	state->looped_state = passage->state;
	state->looped = decision;
}

/* Keeps the decision about a flow, where its next packets look for it. */
static __always_inline void flow_keep(const struct passage *passage, struct sock_state *state,
				      __u64 decision)
{
	if (passage->looped)
		loop_keep(passage, state, decision);
	else
		flow_write(passage, &state->owner, decision);
}

/*
 * Whether the owner's connect(2) to this very peer was allowed under this revision: then the first
 * packet of the connection is not judged a second time. Only for TCP, whose sockets have one peer, and
 * only where owner and caller are one program, so that both judgements would be the same.
 */
static __always_inline int connect_allowed(const struct passage *passage,
					   const struct sock_state *state, __u64 revision)
{
	return passage->out && passage->direction == DIR_EGRESS &&
	       passage->key.protocol == PROTO_TCP && state->peer_port &&
	       state->peer_port == passage->key.remote_port &&
	       is_address(state->peer, passage->key.remote) &&
	       state->decision == decision_word(revision, state->owner.actor, VERDICT_ALLOW);
}

/* Judges a flow by the owner of its socket, in s. Returns a verdict. */
__noinline int flow_judge_in(struct dns_scratch *s, struct passage *passage,
			     struct sock_state *state, const struct control *c)
{
	__u64 decision;
	struct ask *ask;
	int final;

	if (!s || !passage || !state || !c)
		return VERDICT_DENY;
	ask = &s->ask;
	__builtin_memset(ask, 0, sizeof(*ask));
	ask->query.revision = c->revision;
	ask->query.protocol = passage->key.protocol;
	ask->query.direction = passage->direction;
	ask->query.flags = QUERY_ADDRESS | QUERY_PORT;
	ask->query.port = passage->direction == DIR_INGRESS ? passage->key.local_port :
							      passage->key.remote_port;
	if (protocol_is_icmp(ask->query.protocol)) {
		ask->query.port = 0;
		ask->query.message = ICMP_PORT + passage->icmp_type;
	}
	__builtin_memcpy(ask->query.addr, passage->key.remote, 16);
	__builtin_memcpy(ask->local, passage->key.local, 16);
	ask->local_port = passage->key.local_port;
	ask->netns = passage->key.netns;
	ask->family = is_mapped(passage->key.local) ? FAMILY_INET : FAMILY_INET6;
	ask->call = passage->out ? CALL_PACKET_OUT : CALL_PACKET_IN;
	ask->step = STEP_GATE;
	ask->flags = c->flags & ~CONTROL_TELL_CONNECT;
	recall_name(state, &ask->query);
	__builtin_memset(&s->answer, 0, sizeof(s->answer));
	final = answer_query(&ask->query, &state->owner, ask->flags, &s->who, &s->answer);
	decision = s->answer.verdict;
	/* A Drop that left_to_gate() let go on was told when the call was judged. */
	if (decision != VERDICT_ALLOW &&
	    !(decision == VERDICT_DROP && passage->out && state->hushed == c->revision))
		tell_packet(ask, &state->owner, &s->answer);
	passage->state = FLOW_JUDGED;
	if (final & KEEP_DNS && (ask->query.protocol == PROTO_UDP || ask->query.protocol == PROTO_TCP))
		passage->state = state->refused ? FLOW_REFUSED : FLOW_DNS;
	if (final & KEEP_HTTP && ask->query.protocol == PROTO_TCP)
		passage->state = FLOW_HTTP;
	/* Of a container still unknown: passes the gate, under no revision, so it is judged again. */
	if (final)
		decision |= ask->query.revision << 8;
	if (is_kept(passage, s->answer.verdict))
		flow_keep(passage, state, decision);
	return decision & 0xff;
}

/* The same, with room for it: so much does not fit on the stack below a socket. */
static __always_inline int flow_judge(struct passage *passage, struct sock_state *state,
				      const struct control *c)
{
	__u64 revision = c->revision; /* read once: a swap may come at any time */
	struct dns_scratch *s;
	int verdict;

	if (connect_allowed(passage, state, revision)) {
		passage->state = FLOW_JUDGED;
		flow_keep(passage, state, revision << 8 | VERDICT_ALLOW);
		return VERDICT_ALLOW;
	}
	s = scratch_take();
	if (!s)
		return VERDICT_DROP; /* as a loss on the way: it is sent again */
	verdict = flow_judge_in(s, passage, state, c);
	scratch_give(s);
	return verdict;
}

/* Whether requests go this way on a flow that is judged by them. */
static __always_inline int has_requests(const struct passage *passage, __u8 verdict)
{
	return passage->state == FLOW_HTTP && verdict_passes(verdict) &&
	       passage->out == (passage->direction == DIR_EGRESS);
}

/* What a verdict means here. Drop is silent: the sender sees at most a full queue. */
static __always_inline int passes(__u8 verdict, int out)
{
	if (verdict_passes(verdict))
		return SKB_PASS;
	return verdict == VERDICT_DROP && out ? SKB_DROP_SILENTLY : SKB_DROP;
}

/* Whether a flow was judged for the owner of this socket: others may come to use the same addresses and ports. */
static __always_inline int is_own(const struct flow *flow, const struct sock_state *state)
{
	return flow->owner == state->owner.actor;
}

/*
 * Who opened the flow. A TCP socket knows; of the rest a flow of its owner that passes tells, else the packet
 * does: so nobody outside can, by a packet that is denied, turn a flow that the workload may open into a
 * denied one.
 */
static __always_inline __u32 direction_of(const struct bpf_sock *sk, struct sock_state *state,
					  const struct flow *flow, const struct passage *passage)
{
	int out = passage->out;

	if (sk->protocol == PROTO_TCP) {
		if (sk->state == TCP_STATE_LISTEN)
			state->direction = DIR_INGRESS; /* accepted sockets inherit it */
		return state->direction;
	}
	if (is_request(passage))
		return out ? DIR_EGRESS : DIR_INGRESS;
	if (flow && flow->state != FLOW_PENDING && verdict_passes(flow->decision) && is_own(flow, state))
		return flow->direction;
	if (protocol_is_icmp(passage->key.protocol))
		return out ? DIR_EGRESS : DIR_INGRESS; /* answers nothing that was asked */
	return out || sk->dst_port ? DIR_EGRESS : DIR_INGRESS;
}

/*
 * Whether a flow was judged under the policy in force, for the owner of this socket, as opened in this direction.
 * What a process asks by ICMP is judged every time, by itself: an echo's id is no port, anybody may use another's.
 */
static __always_inline int is_current(const struct flow *flow, const struct sock_state *state,
				      struct passage *passage, const struct control *c)
{
	if (!flow || flow->state == FLOW_PENDING || flow->decision >> 8 != c->revision)
		return 0;
	if (flow->state == FLOW_REFUSED && !state->refused)
		return 0; /* another's connection, which is over */
	if (!is_own(flow, state)) {
		passage->others = verdict_passes(flow->decision);
		return 0;
	}
	return flow->direction == passage->direction && !(passage->out && is_request(passage));
}

/*
 * Whether the packet is one of a TCP client whose peer is in the same network namespace. It never comes
 * to gate_tc, so its decision stands on the socket and not among the flows.
 */
static __always_inline int is_looped(struct __sk_buff *skb, const struct bpf_sock *sk,
				     const struct sock_state *state)
{
	return skb->ifindex == LOOPBACK_IFINDEX && sk->protocol == PROTO_TCP &&
	       sk->state != TCP_STATE_LISTEN && state->direction == DIR_EGRESS;
}

/*
 * Whether the packet may be a client's first, which opens another connection than the socket's decision
 * is about. What cannot be told here is judged: closed.
 */
static __always_inline int may_open(struct __sk_buff *skb)
{
	void *head = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct ip4_header *ip4 = head;
	const struct ip6_header *ip6 = head;
	const __u8 *flags;

	if (head + IP6_LEN > end)
		return 1;
	if (ip4->version_ihl == IP4_PLAIN && ip4->protocol == PROTO_TCP)
		flags = head + IP4_LEN + TCP_FLAGS;
	else if (ip4->version_ihl >> 4 == 6 && ip6->next == PROTO_TCP)
		flags = head + IP6_LEN + TCP_FLAGS;
	else
		return 1;
	if ((void *)flags + 1 > end)
		return 1;
	return (*flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* The flow of a packet that packet_common_flow() does not read. Returns an enum packet_kind. */
__noinline int uncommon_flow(struct __sk_buff *skb, __u64 netns, int out, struct passage *passage)
{
	struct packet packet;

	if (!passage)
		return PACKET_MALFORMED;
	packet_parse(skb, &packet, 0);
	packet_flow_key(&packet, netns, out, &passage->key);
	passage->icmp_type = packet.icmp_type;
	return packet.kind;
}

/* Every packet of a flow to a resolver is read. Returns a verdict. */
static __always_inline int resolve(struct __sk_buff *skb, const struct passage *passage,
				   struct sock_state *state)
{
	if (passage->key.protocol == PROTO_TCP)
		return dns_tcp(skb, &passage->key, state, passage->out);
	return passage->out ? dns_out(skb, &passage->key, state) : dns_in(skb, &passage->key, state);
}

/* Whether what passes is told. */
static __always_inline int tells_allowed(void)
{
	struct control *c = control_get();

	return c && c->flags & CONTROL_TELL_CONNECT;
}

/* What a packet says, where that counts. verdict: of its flow. Returns the packet's. */
static __always_inline __u8 read_packet(struct __sk_buff *skb, const struct passage *passage,
					struct sock_state *state, __u8 verdict)
{
	if ((passage->state == FLOW_DNS || passage->state == FLOW_REFUSED) && verdict_passes(verdict))
		return resolve(skb, passage, state);
	if (has_requests(passage, verdict))
		return http_pass(skb, &passage->key, state, passage->out);
	if (passage->state == FLOW_HTTP && verdict_passes(verdict) && tells_allowed()) {
		response_see(skb, &passage->key, state, passage->out);
		h2_status_see(skb, &passage->key, state, passage->out);
	}
	return verdict;
}

static __always_inline int pass(struct __sk_buff *skb, int out)
{
	struct control *c = control_get();
	struct passage passage = {.out = out};
	struct bpf_sock *sk = skb->sk;
	struct sock_state *state;
	struct flow *flow;
	__u8 verdict;

	if (!sk || !c)
		return SKB_PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return SKB_PASS; /* the kernel's own answer for a connection that is gone */
	state = bpf_sk_storage_get(&state_by_sock, sk, 0, 0);
	if (!state)
		return SKB_PASS;
	passage.looped = is_looped(skb, sk, state);
	if (passage.looped && state->looped && state->looped >> 8 == c->revision &&
	    state->looped_state == FLOW_JUDGED && !may_open(skb))
		return passes(state->looped, out);
	if (!packet_common_flow(skb, 0, state->netns, out, &passage.key)) {
		__u8 kind = uncommon_flow(skb, state->netns, out, &passage);

		if (kind == PACKET_MALFORMED)
			return SKB_DROP; /* closed: an owned socket sends or gets what nobody can read */
		if (kind != PACKET_FLOW)
			return SKB_PASS; /* fragments are followed at gate_tc; here sockets see whole datagrams */
	}
	if (passage.looped) {
		/* What is denied here nobody answers: there is no veth. */
		passage.direction = DIR_EGRESS;
		passage.state = state->looped_state;
		if (state->looped && state->looped >> 8 == c->revision && !may_open(skb))
			verdict = state->looped;
		else
			verdict = flow_judge(&passage, state, c);
	} else {
		flow = bpf_map_lookup_elem(&flow_by_tuple, &passage.key);
		passage.direction = direction_of(sk, state, flow, &passage);
		if (is_current(flow, state, &passage, c)) {
			verdict = flow->decision;
			passage.state = flow->state;
		} else {
			verdict = flow_judge(&passage, state, c);
		}
	}
	return passes(read_packet(skb, &passage, state, verdict), out);
}

SEC("cgroup_skb/egress")
int gate_skb_egress(struct __sk_buff *skb)
{
	return pass(skb, 1);
}

SEC("cgroup_skb/ingress")
int gate_skb_ingress(struct __sk_buff *skb)
{
	return pass(skb, 0);
}
