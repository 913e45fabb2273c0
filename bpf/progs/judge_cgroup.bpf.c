// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * JUDGE, third step of the ladder: cgroup socket programs, for kernels that load no trampolines.
 *
 * cgroup/connect4, connect6    connect(2), and MSG_FASTOPEN, which passes the same hook
 * cgroup/sendmsg4, sendmsg6    UDP sends that name their peer
 * cgroup/bind4, bind6          ports the process may serve
 * cgroup/sock_create           raw sockets and MPTCP; ties every IP socket to its owner
 * cgroup/setsockopt            keeps the kernel from encrypting what is to be read
 *
 * Minimum kernel 6.18 (measured; task storage is refused to cgroup programs on 6.1 and 6.12, where
 * this step does not load). What has no hook here is judged by gate_skb at its first packet: raw and
 * ping sends, listen, accept, sends on decisions of an older policy. Packet and vsock sockets pass
 * creation; the packets of the former end at gate_tc.
 *
 * Fails closed for labelled processes when the tables are broken; open for tasks without a label, but
 * for those that have lost theirs (lib/lost.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <lib/ktls.h>
#include <lib/lost.h>
#include <lib/socket.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum cgroup_verdict {
	CGROUP_DENY = 0,
	CGROUP_ALLOW = 1,
};

static __always_inline int enforce(int err)
{
	if (!err)
		return CGROUP_ALLOW;
	bpf_set_retval(err);
	return CGROUP_DENY;
}

/* As state_of() of the other steps: NULL means no memory, and the gate drops. */
static __always_inline struct sock_state *state_get(struct bpf_sock *sk, struct label *label,
						    __u64 netns)
{
	struct sock_state *state = bpf_sk_storage_get(&state_by_sock, sk, 0, 0);

	if (state)
		return state;
	state = bpf_sk_storage_get(&state_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count_error(SITE_SOCK_STORAGE);
		return 0;
	}
	ids_refresh(label);
	refresh_who(label); /* so that the gate finds them with the socket */
	own_socket(state, label, netns);
	return state;
}

static __always_inline void facts_read(struct sock_facts *facts, struct bpf_sock_addr *ctx)
{
	facts->netns = bpf_get_netns_cookie(ctx);
	facts->family = ctx->family;
	facts->type = ctx->type;
	facts->protocol = ctx->protocol;
	facts->local_port = ctx->sk ? ctx->sk->src_port : 0;
}

/* A connect or an addressed send to addr, network byte order. */
static __always_inline int to_peer(struct bpf_sock_addr *ctx, const __u8 *addr, __u8 call)
{
	struct control *c = control_get();
	struct sock_state *state = 0;
	struct sock_facts facts;
	struct label *label;
	struct ask ask;

	facts_read(&facts, ctx);
	label = label_subject(facts.netns);
	if (!label)
		return enforce(lost_errno());
	if (!c)
		return CGROUP_ALLOW;
	ask_init(&ask, &facts, c, STEP_CGROUP);
	ask.call = call;
	ask_peer(&ask, addr, bpf_ntohs(ctx->user_port));
	if (ctx->sk)
		state = state_get(ctx->sk, label, facts.netns);
	if (state && call == CALL_CONNECT)
		state->opened++; /* this hook is only called where the connection begins */
	return enforce(verdict_errno(judge_connect(&ask, label, state)));
}

static __always_inline int to_peer4(struct bpf_sock_addr *ctx, __u8 call)
{
	__u8 addr[16];

	address_from_ip4(addr, ctx->user_ip4);
	return to_peer(ctx, addr, call);
}

static __always_inline int to_peer6(struct bpf_sock_addr *ctx, __u8 call)
{
	__u32 addr[4];

	addr[0] = ctx->user_ip6[0];
	addr[1] = ctx->user_ip6[1];
	addr[2] = ctx->user_ip6[2];
	addr[3] = ctx->user_ip6[3];
	return to_peer(ctx, (__u8 *)addr, call);
}

SEC("cgroup/connect4")
int judge_cgroup_connect4(struct bpf_sock_addr *ctx)
{
	return to_peer4(ctx, CALL_CONNECT);
}

SEC("cgroup/connect6")
int judge_cgroup_connect6(struct bpf_sock_addr *ctx)
{
	return to_peer6(ctx, CALL_CONNECT);
}

SEC("cgroup/sendmsg4")
int judge_cgroup_sendmsg4(struct bpf_sock_addr *ctx)
{
	return to_peer4(ctx, CALL_SENDMSG);
}

SEC("cgroup/sendmsg6")
int judge_cgroup_sendmsg6(struct bpf_sock_addr *ctx)
{
	return to_peer6(ctx, CALL_SENDMSG);
}

/* The address goes into the report only. */
static __always_inline int served(struct bpf_sock_addr *ctx, int ip6)
{
	struct control *c = control_get();
	struct sock_facts facts;
	struct label *label;
	struct ask ask;

	/* A client's bind: what comes in on a port that the kernel chose is judged at the gate. */
	if (!ctx->user_port)
		return CGROUP_ALLOW;
	facts_read(&facts, ctx);
	label = label_subject(facts.netns);
	if (!label)
		return enforce(lost_errno());
	if (!c)
		return CGROUP_ALLOW;
	ask_init(&ask, &facts, c, STEP_CGROUP);
	ask.call = CALL_BIND;
	ask.local_port = bpf_ntohs(ctx->user_port);
	if (ip6) {
		__u32 *word = (__u32 *)ask.local;

		word[0] = ctx->user_ip6[0];
		word[1] = ctx->user_ip6[1];
		word[2] = ctx->user_ip6[2];
		word[3] = ctx->user_ip6[3];
	} else {
		address_from_ip4(ask.local, ctx->user_ip4);
	}
	if (ctx->sk)
		state_get(ctx->sk, label, facts.netns);
	return enforce(verdict_errno(judge_listen(&ask, label, 0)));
}

SEC("cgroup/bind4")
int judge_cgroup_bind4(struct bpf_sock_addr *ctx)
{
	return served(ctx, 0);
}

SEC("cgroup/bind6")
int judge_cgroup_bind6(struct bpf_sock_addr *ctx)
{
	return served(ctx, 1);
}

SEC("cgroup/sock_create")
int judge_cgroup_create(struct bpf_sock *ctx)
{
	struct control *c = control_get();
	struct sock_facts facts = {};
	struct label *label;
	struct ask ask;

	facts.netns = bpf_get_netns_cookie(ctx);
	facts.family = ctx->family;
	facts.type = ctx->type;
	facts.protocol = ctx->protocol;
	label = label_subject(facts.netns);
	if (!label && create_is_judged(&facts))
		return enforce(lost_errno());
	if (!label || !c)
		return CGROUP_ALLOW;
	state_get(ctx, label, facts.netns);
	if (!create_is_judged(&facts))
		return CGROUP_ALLOW;
	ask_init(&ask, &facts, c, STEP_CGROUP);
	ask.call = CALL_SOCKET;
	if (is_mptcp(&facts))
		return enforce(judge_mptcp(&ask, label));
	return enforce(verdict_errno(judge_create(&ask, label)));
}

static __always_inline void ends_of(struct ktls_ask *ask, struct bpf_sock *sk)
{
	__u32 *local = (__u32 *)ask->local, *remote = (__u32 *)ask->remote;
	__u32 from = sk->src_ip4, to = sk->dst_ip4;

	asm volatile("" : "+r"(from), "+r"(to)); /* loads of their own: no address of one or the other may be computed */
	ask->local_port = sk->src_port;
	ask->remote_port = bpf_ntohs(sk->dst_port);
	if (sk->family == FAMILY_INET) {
		address_from_ip4(ask->local, from);
		address_from_ip4(ask->remote, to);
		return;
	}
	local[0] = sk->src_ip6[0];
	local[1] = sk->src_ip6[1];
	local[2] = sk->src_ip6[2];
	local[3] = sk->src_ip6[3];
	remote[0] = sk->dst_ip6[0];
	remote[1] = sk->dst_ip6[1];
	remote[2] = sk->dst_ip6[2];
	remote[3] = sk->dst_ip6[3];
}

/* The value that is set is not looked at, nor changed. */
SEC("cgroup/setsockopt")
int judge_cgroup_option(struct bpf_sockopt *ctx)
{
	__u32 part = ktls_part(ctx->level, ctx->optname);
	struct bpf_sock *sk = ctx->sk;
	struct ktls_ask ask = {};
	struct label *label;

	if (!part || !sk || !family_is_ip(sk->family))
		return CGROUP_ALLOW;
	ask.netns = bpf_get_netns_cookie(ctx);
	label = label_subject(ask.netns);
	if (!label || !ktls_refused(label))
		return CGROUP_ALLOW;
	ask.part = part;
	ask.step = STEP_CGROUP;
	ends_of(&ask, sk);
	ktls_tell(&ask, label);
	return enforce(-ERR_PERM);
}
