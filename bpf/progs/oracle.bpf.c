// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Only for tests and benchmarks, never attached and not part of the agent: asks the kernel's own
 * judgement, by BPF_PROG_RUN, what it says about one call of one process.
 *
 * tc (oracle_judge)  answers oracle_question into oracle_answer
 * tc (oracle_who)    computes the rules that select the process of oracle_question, as after an exec
 * tc (oracle_path)   walks the path of oracle_question through the DFA of its ruleset
 * tc (oracle_name)   puts into oracle_accept what rules.dns say of the name in oracle_text
 * tc (oracle_server) the same of serverNames
 * tc (oracle_http)   goes on with the requests of oracle_request and judges each, for oracle_question
 * tc (oracle_http2)  the same with those of oracle_h2
 * tc (oracle_gate)   the same as oracle_http, as gate_skb does with the segment of a client that is the packet
 * tc (oracle_parse)  reads the DNS message that is the packet into oracle_message
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <abi/taps.h>
#include <lib/http_gate.h>
#include <lib/request_h2.h>
#include <lib/socket.h>
#include <parse/dns.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum oracle_limits {
	ORACLE_ADDRESSES = 512,
	ORACLE_BEGIN = 54, /* where the message begins: behind Ethernet and IPv6 headers */
};

/* Who calls whom. */
struct question {
	struct label label;
	struct query query; /* revision is filled in */
	__u32 flags;	    /* enum control_flags */
	__u32 own;	    /* 1: the rules that select the process are kept in the label, as for its own calls */
};

struct question oracle_question;
struct answer oracle_answer;
struct bits oracle_scratch;

/* A message, and the addresses that count in it. */
struct message {
	struct dns_message m;
	__u32 ok;
	__u32 ttl[ORACLE_ADDRESSES];
	__u8 address[ORACLE_ADDRESSES][16];
	__u32 pad;
};

struct message oracle_message;
__u32 oracle_kind; /* enum dns_kind */
__u8 oracle_text[NAME_LEN];
__u32 oracle_accept;

/* Their names, or how they are laid out, are for user space. */
enum query_flags oracle_query_flags;
enum label_flags oracle_label_flags;
enum control_flags oracle_control_flags;
enum icmp_ports oracle_icmp_ports;
struct tls_conn oracle_tls_conn;
struct tls_tie oracle_tls_tie;

/* How much oracle_path has accepted: the walk must not be optimised away. */
__u64 oracle_accepted;

/* The ruleset of the case under the revision in force, or NULL. */
static __always_inline struct ruleset *oracle_ruleset(__u64 revision)
{
	struct ruleset *ruleset;

	ruleset_of(revision, oracle_question.label.container, &ruleset);
	return ruleset;
}

SEC("tc")
int oracle_judge(struct __sk_buff *skb)
{
	struct query query = oracle_question.query;
	struct control *c = control_get();
	struct answer answer = {};

	if (!c)
		return 0;
	query.revision = c->revision;
	if (query.flags & QUERY_ADDRESS)
		address_canonical(query.addr);
	answer_query(&query, &oracle_question.label, oracle_question.flags,
		     oracle_question.own ? 0 : &oracle_scratch, &answer);
	oracle_answer = answer;
	return 1;
}

SEC("tc")
int oracle_who(struct __sk_buff *skb)
{
	struct control *c = control_get();
	struct ruleset *ruleset;
	struct bits who;

	if (!c)
		return 0;
	ruleset = oracle_ruleset(c->revision);
	if (!ruleset)
		return 0;
	select_program(ruleset, &oracle_question.label, c->revision, &who);
	__builtin_memcpy(oracle_question.label.who, &who, sizeof(who));
	return 1;
}

SEC("tc")
int oracle_path(struct __sk_buff *skb)
{
	struct control *c = control_get();
	struct ruleset *ruleset;

	if (!c)
		return 0;
	ruleset = oracle_ruleset(c->revision);
	if (!ruleset)
		return 0;
	oracle_accepted += dfa_accept(c->revision, &ruleset->exe, oracle_question.label.exe) != 0;
	return 1;
}

/* Puts into oracle_accept what the rules say of the name in oracle_text: serverNames, else rules.dns. */
static __always_inline int oracle_names(int servers)
{
	struct control *c = control_get();
	struct ruleset *ruleset;

	if (!c)
		return 0;
	ruleset = oracle_ruleset(c->revision);
	if (!ruleset)
		return 0;
	oracle_accept = dfa_index(c->revision, servers ? &ruleset->servers : &ruleset->queries, oracle_text);
	return 1;
}

SEC("tc")
int oracle_name(struct __sk_buff *skb)
{
	return oracle_names(0);
}

SEC("tc")
int oracle_server(struct __sk_buff *skb)
{
	return oracle_names(1);
}

static long dns_address(struct dns_message *m, const __u8 *address, __u32 ttl)
{
	__u32 i = m->found - 1;

	if (i < ORACLE_ADDRESSES) {
		oracle_message.ttl[i] = ttl;
		__builtin_memcpy(oracle_message.address[i], address, 16);
	}
	return 0;
}

SEC("tc")
int oracle_parse(struct __sk_buff *skb)
{
	struct dns_message *m = &oracle_message.m;

	m->seed = 0x5eed;
	m->kind = oracle_kind;
	m->begin = ORACLE_BEGIN;
	m->end = skb->len;
	oracle_message.ok = dns_question(skb, m) && dns_rest(skb, m);
	if (oracle_message.ok && m->kind == DNS_ANSWER)
		dns_deliver(skb, m);
	return 1;
}

enum oracle_http_limits {
	ORACLE_REQUESTS = 64,
	ORACLE_HTTP_BEGIN = 14, /* behind the Ethernet header */
};

/* What was judged on one connection. */
struct judged {
	__u32 requests;
	enum flaw flaw;
	struct answer answer[ORACLE_REQUESTS];
};

struct request oracle_request;
struct request_room oracle_room;
struct judged oracle_judged;

static __always_inline void oracle_judge_request(struct request *request)
{
	__u32 at = oracle_judged.requests;

	request_judge(request, &oracle_room, &oracle_question.label);
	request_reset(request);
	if (at < ORACLE_REQUESTS)
		oracle_judged.answer[at] = oracle_room.answer;
	oracle_judged.requests = at + 1;
}

/* Loads the next bytes of the packet, when those in the room are read. Returns 0: there are none. */
static __always_inline int oracle_load(struct __sk_buff *skb)
{
	struct http1_room *parse = &oracle_room.parse;
	__u32 n = oracle_room.end - oracle_room.at;

	if (n > HTTP1_CHUNK)
		n = HTTP1_CHUNK;
	if (!n || bpf_skb_load_bytes(skb, oracle_room.at, parse->chunk, ((n - 1) & (HTTP1_TEXT - 1)) + 1))
		return 0;
	parse->pos = 0;
	parse->len = n;
	oracle_room.at += n;
	return 1;
}

/* Begins with a packet. Returns 0: nothing is in force. */
static __always_inline int oracle_begin(struct __sk_buff *skb)
{
	struct control *c = control_get();

	if (!c)
		return 0;
	oracle_room.query = oracle_question.query;
	oracle_room.query.revision = c->revision;
	address_canonical(oracle_room.query.addr);
	oracle_room.flags = oracle_question.flags;
	oracle_room.at = ORACLE_HTTP_BEGIN;
	oracle_room.end = skb->len;
	oracle_room.parse.len = oracle_room.parse.pos = 0;
	return 1;
}

/* One event. Returns 1 when there is no more. */
static long oracle_http_event(__u32 index, void *data)
{
	struct __sk_buff *skb = *(struct __sk_buff **)data;
	struct http1_room *parse = &oracle_room.parse;
	__u64 n;

	switch (request_read(&oracle_request, &oracle_room, &oracle_question.label)) {
	case HTTP1_HEAD:
		oracle_judge_request(&oracle_request);
		return 0;
	case HTTP1_BODY:
		n = http1_skip(&oracle_request.parser, parse->len - parse->pos);
		parse->pos += n;
		return !n && !oracle_load(skb);
	case HTTP1_BAD:
		oracle_judged.flaw = oracle_request.parser.flaw;
		return 1;
	}
	return !oracle_load(skb);
}

SEC("tc")
int oracle_http(struct __sk_buff *skb)
{
	if (!oracle_begin(skb))
		return 1;
	bpf_loop(READING_STEPS, oracle_http_event, &skb, 0);
	return 0;
}

struct h2 oracle_h2;

/* One event. Returns 1 when there is no more. */
static long oracle_http2_event(__u32 index, void *data)
{
	struct __sk_buff *skb = *(struct __sk_buff **)data;
	struct http1_room *parse = &oracle_room.parse;
	__u32 n;

	switch (request_h2_read(&oracle_h2, &oracle_room, &oracle_question.label)) {
	case HTTP1_HEAD:
		oracle_judge_request(&oracle_h2.user.request);
		return 0;
	case HTTP1_BODY:
		n = request_h2_skip(&oracle_h2, parse->len - parse->pos);
		parse->pos += n;
		return !n && !oracle_load(skb);
	case HTTP1_BAD:
		oracle_judged.flaw = oracle_h2.user.request.parser.flaw;
		return 1;
	}
	return !oracle_load(skb);
}

SEC("tc")
int oracle_http2(struct __sk_buff *skb)
{
	if (!oracle_begin(skb))
		return 1;
	if (!oracle_h2.hpack.limit)
		request_h2_begin(&oracle_h2, 0);
	bpf_loop(READING_STEPS, oracle_http2_event, &skb, 0);
	return 0;
}

struct requests oracle_requests;

/* Reads a packet as gate_skb does behind the look-up of its socket; the next is the same client's next segment. */
SEC("tc")
int oracle_gate(struct __sk_buff *skb)
{
	struct reading g = {.skb = skb, .requests = &oracle_requests, .owner = &oracle_question.label};
	struct control *c = control_get();
	int verdict = VERDICT_DENY;

	g.room = request_room_take(SITE_READ_BUSY);
	if (!c || !g.room)
		return verdict;
	g.room->query = oracle_question.query;
	g.room->query.revision = c->revision;
	g.room->flags = oracle_question.flags;
	if (segment_read(skb, ORACLE_HTTP_BEGIN, 1, &g.room->segment)) {
		stream_begin(&oracle_requests.stream, g.room->segment.seq);
		oracle_requests.carries = CARRIES_REQUESTS;
		verdict = reading_run(&g);
	}
	oracle_answer = g.room->answer;
	request_room_give(g.room);
	return verdict;
}
