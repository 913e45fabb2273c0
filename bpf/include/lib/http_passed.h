/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What gate_skb tells gate_tc of a connection with requests (struct passed). A request that a client in the pod may not
 * make goes on as far as the veth, where gate_tc makes the answer of it: that it does not pass there rests on what gate_tc
 * has been told may pass, and not on it having been told of the denial. One that comes in is dropped, and answered when
 * its client sends it again.
 *
 * Where no gate_tc is on the way (loopback, the node's own network) it is told to the agent, which ends the connection.
 */
#include <lib/request_room.h>
#include <lib/segment.h>
#include <maps/label.h>
#include <maps/requests.h>

enum passed_limits {
	PASSED_WINDOW = 1 << 30, /* bytes that may pass again; sequence numbers are compared over less than half of all */
};

/*
 * Reads the segment of a packet and what its socket knows: how far the client has been answered, and who will answer.
 * Returns 0 when it cannot be read (closed: to be dropped).
 */
__noinline int passed_begin(struct __sk_buff *skb, struct request_room *room, int out)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;
	struct netns *netns;
	__u64 cookie, received;
	__u32 edge, sent;

	if (!room || !sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	tcp = sk ? bpf_tcp_sock(sk) : 0;
	room->edge = room->first = room->upgrade = 0;
	if (tcp) {
		edge = tcp->snd_nxt;
		sent = tcp->data_segs_out;
		received = tcp->bytes_received;
		asm volatile("" : "+r"(edge), "+r"(sent), "+r"(received)); /* all are loaded: no address of one or the other may be computed */
		room->edge = out ? tcp->rcv_nxt : edge;
		room->first = out ? !received : !sent;
	}
	cookie = room->key.netns;
	netns = bpf_map_lookup_elem(&netns_by_cookie, &cookie);
	room->gated = netns && netns->ifindex;
	room->answered = tcp && room->gated && netns->inside == skb->ifindex;
	room->socket = room->answered ? 0 : bpf_get_socket_cookie(skb);
	return segment_read(skb, 0, out, &room->segment);
}

/* A segment of a client may pass at the veth. */
static __always_inline void passed_widen(struct passed *passed, const struct segment *seg)
{
	__u32 end = seg->seq + seg->len;

	if (seq_past(end, passed->next) > 0)
		passed->next = end;
	if (seq_past(passed->first, seg->first) > 0)
		passed->first = seg->first;
	if (passed->next - passed->first > PASSED_WINDOW)
		passed->first = passed->next - PASSED_WINDOW;
}

/* What is to be told of a segment; passed: what was told before, or nothing. */
static __always_inline void passed_tell(struct passed *passed, const struct request_room *room,
					const struct requests *requests)
{
	const struct segment *seg = &room->segment;

	if (requests->refused) {
		if (passed->end)
			return; /* once: a segment that comes again gets the same answer */
		passed->place = room->edge;
		passed->next = requests->stream.next;
		passed->end = requests->end;
		passed->on = requests->on;
	} else if (seg->flags & TCP_SYN) {
		passed->first = passed->next = seg->first + 1;
		passed->end = HTTP_END_SILENT;
		passed->has_said = passed->placed = 0;
		passed->upgrade = PASSED_UPGRADE_NOT;
	} else {
		passed_widen(passed, seg);
	}
	if (room->upgrade) {
		passed->place = room->edge;
		passed->upgrade = PASSED_UPGRADE_ASKED;
	}
}

/*
 * Tells gate_tc of a segment that was read: its verdict. Returns the one that it has at its socket: what a client may not
 * send passes there where gate_tc makes the answer of it.
 */
__noinline int passed_note(struct request_room *room, struct requests *requests, int verdict)
{
	struct passed fresh = {}, *passed;
	struct flow_key key;
	int out;

	if (!room || !requests)
		return VERDICT_DENY;
	out = room->segment.out;
	if (requests->refused ? !requests->end : !(out || room->upgrade) || !verdict_passes(verdict))
		return verdict; /* nothing is answered; or gate_tc lets it pass unasked; or it comes again */
	if (!requests->refused && !room->segment.len && !(room->segment.flags & TCP_SYN))
		return verdict;
	if (requests->refused ? !room->answered : !room->gated)
		return verdict; /* the agent ends the connection; or nobody asks what may pass */
	key = room->key;
	passed = bpf_map_lookup_elem(&passed_by_flow, &key);
	if (passed) {
		passed_tell(passed, room, requests);
	} else {
		fresh.first = fresh.next = room->segment.first;
		passed_tell(&fresh, room, requests);
		if (bpf_map_update_elem(&passed_by_flow, &key, &fresh, BPF_ANY)) {
			count_error(SITE_FLOW_MAP);
			return requests->refused ? VERDICT_DENY : verdict; /* closed: gate_tc was not told that it may pass */
		}
	}
	return requests->refused && out ? VERDICT_ALLOW : verdict;
}
