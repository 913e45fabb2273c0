/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, at the veth: connections with requests (FLOW_HTTP). Of a client in the pod only the bytes pass that gate_skb has
 * read and let pass (struct passed), so a request that was denied ends here. It is answered with 403 in the server's
 * name, behind what the server has said, and the server gets a reset in the client's. From then on this is the other end
 * of both: what the client still sends is acknowledged and thrown away, so that it can read the answer and close as it
 * likes; to what the server still sends the answer is a reset.
 *
 * The same for a server in the pod and a client outside, where what is denied was dropped at the server's socket, and
 * is answered when its client sends it again.
 */
#include <lib/segment.h>
#include <lib/tcp_answer.h>
#include <maps/requests.h>

#define HTTP_HEAD                                                                                  \
	"HTTP/1.1 403 Forbidden\r\n"                                                               \
	"Content-Type: text/plain\r\n"                                                             \
	"Content-Length: 15\r\n"                                                                   \
	"Connection: close\r\n"                                                                    \
	"\r\n"
#define HTTP_BODY "Access denied\r\n"

_Static_assert(sizeof(HTTP_BODY) - 1 == 15, "as Content-Length says");

static const __u8 http_denied[TCP_TEXT] = HTTP_HEAD HTTP_BODY;
static const __u8 http_denied_head[TCP_TEXT] = HTTP_HEAD;

/* How long the answer is. */
static __always_inline __u32 http_answer_len(const struct passed *passed)
{
	return passed->end == HTTP_END_HEAD ? sizeof(HTTP_HEAD) - 1 : sizeof(HTTP_HEAD HTTP_BODY) - 1;
}

/*
 * A segment of a client whose connection has ended. flags: of bpf_clone_redirect(), towards the server. Returns an
 * enum tcp_next.
 */
static __always_inline int http_ended(struct __sk_buff *skb, const struct passed *passed, const struct tcp_seen *seen,
				      __u64 flags)
{
	struct tcp_say say = {.seq = passed->place, .flags = TCP_ACK, .back = 1};
	__u32 len = http_answer_len(passed), got = seen->ack - passed->place;

	if (!(seen->flags & TCP_ACK) || !tcp_takes(seen))
		return TCP_NEXT_DROP; /* it only acknowledges */
	say.ack = seen->seq + tcp_takes(seen);
	if (passed->end == HTTP_END_RESET || got > len + 1) {
		if (!tcp_reset_on(skb, seen, passed->next, flags))
			return TCP_NEXT_DROP;
		return tcp_reset_back(skb, seen);
	}
	if (got == len + 1) { /* behind the answer and its FIN */
		say.seq += got;
		return tcp_make(skb, seen, &say, 0);
	}
	if (!tcp_reset_on(skb, seen, passed->next, flags))
		return TCP_NEXT_DROP;
	say.flags = TCP_PSH | TCP_ACK | TCP_FIN;
	say.len = len;
	return tcp_make(skb, seen, &say, passed->end == HTTP_END_HEAD ? http_denied_head : http_denied);
}

/* Whether gate_skb has let all bytes of a segment pass. A function of its own for its stack. */
static __noinline int http_has_passed(struct __sk_buff *skb, const struct passed *passed)
{
	struct segment seg;

	if (!segment_read(skb, ETHER_LEN, 1, &seg))
		return 0;
	if (!seg.len)
		return 1;
	return passed && seq_past(seg.seq, passed->first) >= 0 && seq_past(seg.seq + seg.len, passed->next) <= 0;
}

/* A segment from a client in the pod to its server. Returns an enum tcp_next. */
__noinline int http_from_client(struct __sk_buff *skb, const struct flow_key *flow)
{
	struct tcp_seen seen = {};
	struct passed *passed;
	struct flow_key key;

	if (!flow)
		return TCP_NEXT_DROP;
	key = *flow;
	passed = bpf_map_lookup_elem(&passed_by_flow, &key);
	if (!passed || !passed->end)
		return http_has_passed(skb, passed) ? TCP_NEXT_PASS : TCP_NEXT_FOREIGN;
	if (!tcp_read(skb, &seen))
		return TCP_NEXT_DROP;
	if (seen.flags & TCP_RST && !seen.len)
		return TCP_NEXT_PASS; /* also what is sent in its name */
	return http_ended(skb, passed, &seen, BPF_F_INGRESS);
}

/* A segment to a client in the pod. Returns an enum tcp_next. */
__noinline int http_to_client(struct __sk_buff *skb, const struct flow_key *flow)
{
	struct tcp_seen seen = {};
	struct passed *passed;
	struct flow_key key;

	if (!flow)
		return TCP_NEXT_DROP;
	key = *flow;
	passed = bpf_map_lookup_elem(&passed_by_flow, &key);
	if (!passed || !passed->end)
		return TCP_NEXT_PASS;
	if (!tcp_read(skb, &seen) || seen.flags & TCP_RST || !(seen.flags & TCP_ACK))
		return TCP_NEXT_DROP;
	return tcp_reset_back(skb, &seen);
}

/* A segment from outside to a server in the pod. Returns an enum tcp_next. */
__noinline int http_to_server(struct __sk_buff *skb, const struct flow_key *flow)
{
	struct tcp_seen seen = {};
	struct passed *passed;
	struct flow_key key;

	if (!flow)
		return TCP_NEXT_DROP;
	key = *flow;
	passed = bpf_map_lookup_elem(&passed_by_flow, &key);
	if (!passed || !passed->end)
		return TCP_NEXT_PASS;
	if (!tcp_read(skb, &seen))
		return TCP_NEXT_DROP;
	if (seen.flags & TCP_RST)
		return TCP_NEXT_PASS;
	if (seen.flags & TCP_SYN) { /* another connection: what it may is for its socket to say */
		bpf_map_delete_elem(&passed_by_flow, &key);
		return TCP_NEXT_PASS;
	}
	return http_ended(skb, passed, &seen, 0);
}
