// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * GATE, on the node's side of a governed pod's veth, where nobody inside the pod can reach it.
 *
 * tc ingress (gate_tc_from_pod)  a packet leaves the pod: its flow must have been judged, else Foreign
 * tc egress  (gate_tc_to_pod)    a packet enters: flows denied by the policy in force end here, new ones
 *                               go to the socket
 *
 * tcx where the kernel has it (6.6), else clsact. Fails closed: without a flow, malformed, tagged, or
 * of another protocol than IP and ARP, a packet from the pod is dropped and reported as Foreign.
 *
 * Without a flow there pass from the pod: ARP; neighbour discovery and group membership that no
 * router passes on; ICMP errors, from end to end of a flow that came in; the kernel's refusal of what
 * came in. An echo request that comes in is judged here, as the pod's kernel answers it: see lib/echo.h. A
 * frame made by hand with the tuple of an allowed flow is that flow's: the socket hooks deny packet sockets to
 * governed processes, except on the cgroup step.
 * Queries for names that may not be asked for are turned round here into the answer REFUSED, and HTTP requests that
 * were denied into 403: see lib/http_answer.h. Over TCP the connection is then ended at both ends: lib/dns_over.h.
 * Interfaces without an entry in gate_by_ifindex pass: they are being attached or taken down.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <lib/dns_over.h>
#include <lib/dns_refuse.h>
#include <lib/echo.h>
#include <lib/flow.h>
#include <lib/http_answer.h>
#include <lib/link.h>
#include <lib/packet.h>

char _license[] SEC("license") = "Dual BSD/GPL";

/* Nobody asks for addresses here. */
static long dns_address(struct dns_message *m, const __u8 *address, __u32 ttl)
{
	return 1;
}

enum tc_verdict {
	GATE_LONG = -3, /* of passes_at_once() only: the long way says */
	GATE_ECHO = -2, /* of to_pod() only: an echo request, which is to be judged */
	GATE_NEXT = -1, /* TC_ACT_UNSPEC, TCX_NEXT: on to the next program */
	GATE_DROP = 2,	/* TC_ACT_SHOT, TCX_DROP */
};

enum foreign_limits {
	FOREIGN_PAUSE_NS = 10000000, /* one report per gate in 10 ms; the rest is counted in the next */
};

/* Reports a packet that belongs to no judged flow; the interval keeps a flood out of the ring. */
__noinline int tell_foreign(struct __sk_buff *skb, const struct packet *packet, struct gate *gate)
{
	__u64 told, now = bpf_ktime_get_boot_ns();
	struct ev_call *event;

	if (!packet || !gate)
		return 0;
	told = gate->told_ns;
	__sync_fetch_and_add(&gate->held, 1);
	if (now - told < FOREIGN_PAUSE_NS ||
	    __sync_val_compare_and_swap(&gate->told_ns, told, now) != told)
		return 0;
	event = tell_alert(struct ev_call);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	tell_header(&event->header, EV_KIND_FOREIGN, sizeof(*event));
	event->netns = gate->netns;
	event->packets = __sync_lock_test_and_set(&gate->held, 0);
	event->bytes = skb->len;
	__builtin_memcpy(event->local, packet->src, 16);
	__builtin_memcpy(event->remote, packet->dst, 16);
	event->local_port = packet->src_port;
	event->remote_port = packet->dst_port;
	event->family = packet->ip6 ? FAMILY_INET6 : FAMILY_INET;
	event->protocol = packet->protocol;
	event->ifindex = skb->ifindex;
	event->call = CALL_PACKET_OUT;
	event->step = STEP_GATE;
	event->verdict = VERDICT_DROP;
	event->reason = packet->kind == PACKET_MALFORMED ? REASON_MALFORMED : REASON_FOREIGN;
	event->has_remote = packet->kind != PACKET_MALFORMED;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* What the kernel of the pod itself may answer to a packet that nobody judged. */
static __always_inline int is_kernel_answer(const struct packet *packet)
{
	return packet->protocol == PROTO_TCP && packet->tcp_flags & TCP_RST;
}

/* Follows a later fragment to its first one's flow, or writes the first one's flow down. */
static __always_inline int fragment(struct packet *packet, struct gate *gate, struct flow_key *key)
{
	struct flow_key *first;
	struct frag_key frag;

	packet_frag_key(packet, gate->netns, &frag);
	if (packet->kind == PACKET_FLOW) {
		bpf_map_update_elem(&flow_by_frag, &frag, key, BPF_ANY);
		return 1;
	}
	first = bpf_map_lookup_elem(&flow_by_frag, &frag);
	if (!first)
		return 0; /* before its first, or the first was refused: closed, the sender repeats */
	*key = *first;
	return 1;
}

static __always_inline int is_fragment(const struct packet *packet)
{
	return packet->kind == PACKET_FRAGMENT || packet->first;
}

static __always_inline int is_arp(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETHERTYPE_ARP);
}

static __always_inline int is_ip(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETHERTYPE_IP4) ||
	       skb->protocol == bpf_htons(ETHERTYPE_IP6);
}

static __always_inline int same_address(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

/* Whether an ICMP error is about a flow of the pod that may pass: out when the pod sends the error. */
__noinline int error_passes(struct __sk_buff *skb, struct gate *gate, const struct packet *error,
			    int out)
{
	struct flow_key key;
	struct packet packet;
	struct flow *flow;

	if (!gate || !error)
		return 0;
	packet_parse(skb, &packet, error->inner);
	if (packet.kind != PACKET_FLOW)
		return 0;
	/* To who sent that packet. The pod is no router: its errors come from who got that packet. */
	if (!same_address(error->dst, packet.src) ||
	    (out && !same_address(error->src, packet.dst)))
		return 0;
	/* The pod complains about a packet that came in; the world about one that went out. */
	packet_flow_key(&packet, gate->netns, !out, &key);
	flow = bpf_map_lookup_elem(&flow_by_tuple, &key);
	return flow && (flow->state == FLOW_PENDING || verdict_passes(flow->decision));
}

/* What becomes of a segment with requests. opened: who opened the connection. Returns an enum tcp_next. */
static __always_inline int http_segment(struct __sk_buff *skb, const struct flow_key *key, __u32 opened, __u32 direction)
{
	if (direction == DIR_EGRESS)
		return opened == DIR_EGRESS ? http_from_client(skb, key) : http_from_server(skb, key);
	return opened == DIR_EGRESS ? http_to_client(skb, key) : http_to_server(skb, key);
}

/* An enum tcp_next as a verdict. What goes back to the pod does not come by here again, where it would be the other end's. */
static __always_inline int tcp_verdict(struct __sk_buff *skb, int next, __u32 direction)
{
	if (next == TCP_NEXT_PASS)
		return GATE_NEXT;
	if (next != TCP_NEXT_BACK)
		return GATE_DROP;
	return direction == DIR_EGRESS ? bpf_redirect_peer(skb->ifindex, 0) : bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/*
 * A verdict for a common packet of a flow that may pass, of which nothing more is to be known. What this does not find,
 * the long way does: GATE_LONG.
 */
static __always_inline int passes_at_once(struct __sk_buff *skb, __u32 direction)
{
	__u32 slot = skb->ifindex & (GATE_SLOTS - 1);
	struct gate_slot *held = bpf_map_lookup_elem(&gate_slots, &slot);
	struct flow_key key;
	struct flow *flow;
	int next;

	if (!held || held->ifindex != skb->ifindex || !is_ip(skb) || skb->vlan_present ||
	    !packet_common_flow(skb, ETHER_LEN, held->netns, direction == DIR_EGRESS, &key))
		return GATE_LONG;
	flow = bpf_map_lookup_elem(&flow_by_tuple, &key);
	if (!flow || (flow->state != FLOW_JUDGED && flow->state != FLOW_HTTP) ||
	    !verdict_passes(flow->decision))
		return GATE_LONG;
	if (flow->state == FLOW_HTTP) {
		next = http_segment(skb, &key, flow->direction, direction);
		if (next == TCP_NEXT_FOREIGN)
			return GATE_LONG;
		flow_count(flow, skb, direction);
		return tcp_verdict(skb, next, direction);
	}
	flow_count(flow, skb, direction);
	return GATE_NEXT;
}

/* A packet to a resolver: passes, or is refused where gate_skb, which judged the name, says so. */
__noinline int query_from_pod(struct __sk_buff *skb, const struct flow_key *key)
{
	struct dns_scratch *s;
	int verdict = GATE_NEXT;

	if (!key)
		return GATE_DROP;
	if (key->protocol != PROTO_UDP)
		return GATE_NEXT; /* was put together and judged at the socket */
	s = scratch_take();
	if (!s)
		return GATE_DROP;
	if (begin_message(skb, &s->m, DNS_QUERY, ETHER_LEN) && dns_question(skb, &s->m) &&
	    is_refused(key, &s->m))
		verdict = turn_round(skb, &s->m) ? bpf_redirect(skb->ifindex, 0) : GATE_DROP;
	scratch_give(s);
	return verdict;
}

/* Any packet from the pod. */
__noinline int from_pod(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct gate *gate = bpf_map_lookup_elem(&gate_by_ifindex, &ifindex);
	struct packet packet;
	struct flow_key key;
	struct flow *flow;
	int next;

	if (!gate)
		return GATE_NEXT;
	/* A pod's veth carries no VLAN: with a tag the packet would go elsewhere than its flow. */
	if (is_arp(skb) && !skb->vlan_present)
		return GATE_NEXT;
	packet_parse(skb, &packet, 0);
	if (!is_ip(skb) || skb->vlan_present)
		packet.kind = PACKET_MALFORMED;
	switch (packet.kind) {
	case PACKET_LINK:
		if (link_passes(&packet, gate))
			return GATE_NEXT;
		goto foreign;
	case PACKET_ERROR:
		if (error_passes(skb, gate, &packet, 1))
			return GATE_NEXT;
		goto foreign;
	case PACKET_FRAGMENT:
	case PACKET_FLOW:
		break;
	default:
		goto foreign;
	}
	packet_flow_key(&packet, gate->netns, 1, &key);
	if (packet.kind == PACKET_FRAGMENT && !fragment(&packet, gate, &key))
		goto foreign;
	flow = bpf_map_lookup_elem(&flow_by_tuple, &key);
	if (!flow)
		goto foreign;
	if (flow->state == FLOW_PENDING) {
		if (is_kernel_answer(&packet))
			return GATE_NEXT;
		goto foreign;
	}
	if (!verdict_passes(flow->decision))
		return GATE_DROP; /* reported when it was judged */
	if (flow->state == FLOW_HTTP && flow->direction == DIR_EGRESS && is_fragment(&packet))
		goto foreign; /* requests are read in whole segments, and no TCP of a pod's kernel cuts them */
	if (packet.first)
		fragment(&packet, gate, &key);
	flow_count(flow, skb, DIR_EGRESS);
	if (flow->state == FLOW_HTTP) {
		next = http_segment(skb, &key, flow->direction, DIR_EGRESS);
		if (next != TCP_NEXT_FOREIGN)
			return tcp_verdict(skb, next, DIR_EGRESS);
		goto foreign;
	}
	if (flow->state == FLOW_REFUSED)
		return tcp_verdict(skb, over_from_client(skb, &key), DIR_EGRESS);
	return flow->state == FLOW_DNS ? query_from_pod(skb, &key) : GATE_NEXT;
foreign:
	tell_foreign(skb, &packet, gate);
	return GATE_DROP;
}

SEC("tc")
int gate_tc_from_pod(struct __sk_buff *skb)
{
	int verdict = passes_at_once(skb, DIR_EGRESS);

	return verdict == GATE_LONG ? from_pod(skb) : verdict;
}

/* Whether a packet to the pod is one that the pod's kernel may have to refuse. */
static __always_inline int may_refuse(const struct packet *packet)
{
	switch (packet->protocol) {
	case PROTO_TCP:
		return !(packet->tcp_flags & TCP_RST);
	case PROTO_UDP:
	case PROTO_UDPLITE:
		return 1;
	}
	return 0;
}

/*
 * Whether a denial is that of the policy in force. One of an older policy, or of a container that was still
 * unknown, ends no packet: only at the socket can the flow be judged again, and no packet would come there.
 */
static __always_inline int stays_denied(const struct flow *flow)
{
	struct control *c = control_get();

	return !c || flow->decision >> 8 == c->revision; /* closed: no controls */
}

/*
 * Leaves the packet to the socket, which judges its flow. Until then only the kernel's own refusal may go
 * back. flags: of the update.
 */
static __noinline int to_socket(const struct packet *packet, const struct flow_key *key, __u64 flags)
{
	struct flow pending = {.state = FLOW_PENDING, .direction = DIR_INGRESS};

	if (may_refuse(packet))
		bpf_map_update_elem(&flow_by_tuple, key, &pending, flags);
	return GATE_NEXT;
}

/* Any packet to the pod. */
__noinline int to_pod(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct gate *gate = bpf_map_lookup_elem(&gate_by_ifindex, &ifindex);
	struct packet packet;
	struct flow_key key;
	struct flow *flow;

	if (!gate || !is_ip(skb))
		return GATE_NEXT;
	packet_parse(skb, &packet, 0);
	switch (packet.kind) {
	case PACKET_FLOW:
		if (is_echo_request(&packet))
			return GATE_ECHO;
		break;
	case PACKET_LINK:
		return link_enters(&packet, gate) ? GATE_NEXT : GATE_DROP;
	case PACKET_FRAGMENT: /* useless without its first, which is judged */
		return GATE_NEXT;
	case PACKET_ERROR:
		/* About nothing the pod sent: dropped unreported, as it says nothing of the pod. */
		return error_passes(skb, gate, &packet, 0) ? GATE_NEXT : GATE_DROP;
	default:
		return GATE_DROP; /* closed */
	}
	packet_flow_key(&packet, gate->netns, 0, &key);
	flow = bpf_map_lookup_elem(&flow_by_tuple, &key);
	if (!flow)
		return to_socket(&packet, &key, BPF_NOEXIST);
	if (flow->state == FLOW_PENDING)
		return GATE_NEXT;
	if (!verdict_passes(flow->decision))
		return stays_denied(flow) ? GATE_DROP : to_socket(&packet, &key, BPF_ANY);
	flow_count(flow, skb, DIR_INGRESS);
	if (flow->state == FLOW_HTTP)
		return tcp_verdict(skb, http_segment(skb, &key, flow->direction, DIR_INGRESS), DIR_INGRESS);
	if (flow->state == FLOW_REFUSED)
		return tcp_verdict(skb, over_to_client(skb, &key), DIR_INGRESS);
	return GATE_NEXT;
}

SEC("tc")
int gate_tc_to_pod(struct __sk_buff *skb)
{
	int verdict = passes_at_once(skb, DIR_INGRESS);

	if (verdict != GATE_LONG)
		return verdict;
	verdict = to_pod(skb);
	if (verdict == GATE_ECHO)
		verdict = echo_enters(skb) ? GATE_NEXT : GATE_DROP; /* reported when judged */
	return verdict;
}
