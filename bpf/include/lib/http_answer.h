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

/*
 * The same on a stream of HTTP/2 (RFC 9113, 6; RFC 7541, 6.2.2): settings, which come first where the server has said
 * nothing yet; the status, which needs no table; the body; and that no later stream is answered. Streams are filled in.
 */
#define HTTP2_SETTINGS "\0\0\0\4\0\0\0\0\0"
#define HTTP2_STATUS(flags) "\0\0\5\1" flags "\0\0\0\0" "\x08\3" "403"
#define HTTP2_DATA "\0\0\17\0\1\0\0\0\0" HTTP_BODY
#define HTTP2_GOAWAY "\0\0\10\7\0\0\0\0\0" "\0\0\0\0" "\0\0\0\0"

static const __u8 http2_denied[TCP_TEXT] = HTTP2_SETTINGS HTTP2_STATUS("\4") HTTP2_DATA HTTP2_GOAWAY;
static const __u8 http2_denied_head[TCP_TEXT] = HTTP2_SETTINGS HTTP2_STATUS("\5") HTTP2_GOAWAY;

/* Where streams stand in an answer; all even, for the checksum. */
enum http2_places {
	HTTP2_STATUS_ON = 9 + 5,
	HTTP2_DATA_ON = 9 + 14 + 5,
	HTTP2_LAST = 9 + 14 + 24 + 9,
	HTTP2_HEAD_LAST = 9 + 14 + 9,
	HTTP2_LEN = HTTP2_LAST + 8,
	HTTP2_HEAD_LEN = HTTP2_HEAD_LAST + 8,
};

_Static_assert(sizeof(HTTP2_SETTINGS HTTP2_STATUS("\4") HTTP2_DATA HTTP2_GOAWAY) - 1 == HTTP2_LEN, "as the places say");
_Static_assert(sizeof(HTTP2_SETTINGS HTTP2_STATUS("\5") HTTP2_GOAWAY) - 1 == HTTP2_HEAD_LEN, "as the places say");

/* How long the answer is. */
static __always_inline __u32 http_answer_len(const struct passed *passed)
{
	switch (passed->end) {
	case HTTP_END_HEAD:
		return sizeof(HTTP_HEAD) - 1;
	case HTTP_END_STREAM:
		return HTTP2_LEN;
	case HTTP_END_STREAM_HEAD:
		return HTTP2_HEAD_LEN;
	}
	return sizeof(HTTP_HEAD HTTP_BODY) - 1;
}

/* Makes the frame the answer, but for its streams. Returns 0 when it cannot. A function of its own for its stack. */
static __noinline int http_answer_make(struct __sk_buff *skb, const struct passed *passed, const struct tcp_seen *seen,
				       const struct tcp_say *say)
{
	const __u8 *text = http_denied;

	if (!passed || !seen || !say)
		return 0;
	if (passed->end == HTTP_END_HEAD)
		text = http_denied_head;
	else if (passed->end == HTTP_END_STREAM)
		text = http2_denied;
	else if (passed->end == HTTP_END_STREAM_HEAD)
		text = http2_denied_head;
	return tcp_make(skb, seen, say, text);
}

/* Writes the stream into an answer that was made. Returns 0 when it cannot: the frame is to be dropped. */
static __noinline int http2_answer_on(struct __sk_buff *skb, const struct passed *passed, const struct tcp_seen *seen,
				      const struct tcp_say *say)
{
	__u32 begin, on;

	if (!passed || !seen || !say)
		return 0;
	begin = seen->at + TCP_LEN + tcp_options(seen, say);
	on = bpf_htonl(passed->on);
	if (passed->end == HTTP_END_STREAM_HEAD)
		return tcp_put(skb, seen->at, begin + HTTP2_STATUS_ON, on) && tcp_put(skb, seen->at, begin + HTTP2_HEAD_LAST, on);
	return tcp_put(skb, seen->at, begin + HTTP2_STATUS_ON, on) && tcp_put(skb, seen->at, begin + HTTP2_DATA_ON, on) &&
	       tcp_put(skb, seen->at, begin + HTTP2_LAST, on);
}

/*
 * Settles where the answer begins, with its first segment. What the server said while its client's request was being judged
 * has passed meanwhile, as far as gate_tc has seen: to a client in the pod at any time; to another since the denial. What a server
 * in the pod was sending at that very instant its socket may not have counted: that is told by the client when it comes again.
 */
static __always_inline void http_place(struct passed *passed, const struct tcp_seen *seen)
{
	if (passed->placed)
		return;
	if (passed->has_said && seq_past(passed->said, passed->place) > 0)
		passed->place = passed->said;
	if (seq_past(seen->ack, passed->place) > 0)
		passed->place = seen->ack;
	passed->placed = 1;
}

/*
 * A segment of a server passes to its client. Returns 0: it may not, as an answer stands in the place of its bytes. A function of
 * its own for its stack.
 */
static __noinline int http_say(struct __sk_buff *skb, struct passed *passed)
{
	struct segment seg;
	__u32 end;

	if (!passed || !segment_read(skb, ETHER_LEN, 0, &seg))
		return 0;
	if (passed->placed)
		return !seg.len || seg.flags & TCP_FIN; /* that answer comes by here itself, and has its end */
	end = seg.seq + seg.len;
	if (passed->has_said && seq_past(end, passed->said) <= 0)
		return 1;
	passed->said = end;
	passed->has_said = 1;
	return 1;
}

/*
 * A segment of a client whose connection has ended. flags: of bpf_clone_redirect(), towards the server. Returns an
 * enum tcp_next.
 */
static __always_inline int http_ended(struct __sk_buff *skb, struct passed *passed, const struct tcp_seen *seen,
				      __u64 flags)
{
	struct tcp_say say = {.flags = TCP_ACK, .back = 1};
	__s32 len = http_answer_len(passed), got;

	if (!(seen->flags & TCP_ACK) || !tcp_takes(seen))
		return TCP_NEXT_DROP; /* it only acknowledges */
	http_place(passed, seen);
	got = seq_past(seen->ack, passed->place); /* negative: something of the server is still on its way */
	say.seq = passed->place;
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
	if (!http_answer_make(skb, passed, seen, &say))
		return TCP_NEXT_DROP;
	if (passed->end >= HTTP_END_STREAM && !http2_answer_on(skb, passed, seen, &say))
		return TCP_NEXT_DROP;
	return TCP_NEXT_BACK;
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

/* "HTTP/1.1 101 ", of which the last byte may end the line. */
enum http_switching {
	SWITCHING_LEN = 13,
};

static __always_inline int http_is_switching(const __u8 *line)
{
	static const __u8 wanted[SWITCHING_LEN - 1] = {'H', 'T', 'T', 'P', '/', '1', '.', '1', ' ', '1', '0', '1'};
	int i;

	for (i = 0; i < SWITCHING_LEN - 1; i++) {
		if (line[i] != wanted[i])
			return 0;
	}
	return line[i] == ' ' || line[i] == '\r';
}

/*
 * Reads a server's answer to who asked for WebSocket, see lib/upgrade_gate.h. Fails closed: one that does not begin a segment, or
 * has no whole status in its first, changes nothing. A function of its own for its stack.
 */
static __noinline int http_hear(struct __sk_buff *skb, struct passed *passed)
{
	__u8 line[SWITCHING_LEN];
	struct segment seg;
	__s32 past;

	if (!passed || !segment_read(skb, ETHER_LEN, 0, &seg))
		return 0;
	past = seq_past(passed->place, seg.seq);
	if (past < 0 || (__u32)past >= seg.len)
		return 0; /* before the answer, or behind its first byte */
	if (!past && seg.len >= sizeof(line) && !bpf_skb_load_bytes(skb, seg.at, line, sizeof(line)) && http_is_switching(line))
		passed->upgrade = PASSED_UPGRADE_DONE;
	else
		passed->upgrade = PASSED_UPGRADE_REFUSED;
	return 0;
}

/* Resets a server that still speaks on a connection that has ended. Returns an enum tcp_next. */
static __always_inline int http_silence(struct __sk_buff *skb)
{
	struct tcp_seen seen = {};

	if (!tcp_read(skb, &seen) || seen.flags & TCP_RST || !(seen.flags & TCP_ACK))
		return TCP_NEXT_DROP;
	return tcp_reset_back(skb, &seen);
}

/* A segment to a client in the pod. Returns an enum tcp_next. */
__noinline int http_to_client(struct __sk_buff *skb, const struct flow_key *flow)
{
	struct passed *passed;
	struct flow_key key;

	if (!flow)
		return TCP_NEXT_DROP;
	key = *flow;
	passed = bpf_map_lookup_elem(&passed_by_flow, &key);
	if (!passed)
		return TCP_NEXT_PASS;
	if (!passed->end) {
		http_say(skb, passed);
		if (passed->upgrade == PASSED_UPGRADE_ASKED)
			http_hear(skb, passed);
		return TCP_NEXT_PASS;
	}
	return http_silence(skb);
}

/*
 * Makes the bytes of a segment its own, so that a client on the same node cannot change them when they were read. No memory:
 * it is dropped, and comes again.
 */
static __always_inline int http_own(struct __sk_buff *skb)
{
	return segment_is_shared(skb) && bpf_skb_pull_data(skb, skb->len) ? TCP_NEXT_DROP : TCP_NEXT_PASS;
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
		return http_own(skb);
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

/*
 * A segment of a server in the pod to its client. Behind a denial it passes until the answer to that begins; a server that has missed
 * its reset hears it then. Returns an enum tcp_next.
 */
__noinline int http_from_server(struct __sk_buff *skb, const struct flow_key *flow)
{
	struct passed *passed;
	struct flow_key key;

	if (!flow)
		return TCP_NEXT_DROP;
	key = *flow;
	passed = bpf_map_lookup_elem(&passed_by_flow, &key);
	if (!passed)
		return TCP_NEXT_PASS;
	if (!passed->end && passed->upgrade == PASSED_UPGRADE_ASKED)
		http_hear(skb, passed);
	if (!passed->end || http_say(skb, passed))
		return TCP_NEXT_PASS;
	return http_silence(skb);
}
