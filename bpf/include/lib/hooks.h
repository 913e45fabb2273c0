/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * The security_socket_* hooks on BTF-typed arguments: for LSM programs and for fentry, which must
 * behave alike.
 */
#include <bpf/bpf_core_read.h>
#include <lib/local.h>
#include <lib/lost.h>
#include <lib/sctp.h>
#include <lib/tie.h>

enum uapi {
	MESSAGE_FASTOPEN = 0x20000000, /* MSG_FASTOPEN: the send connects */
};

/* What the caller gets. Kill is Deny and a signal, taken before the task returns to user space. */
static __always_inline int enforce(__u8 verdict)
{
	if (verdict == VERDICT_KILL)
		bpf_send_signal(SIGNAL_KILL);
	return verdict_errno(verdict);
}

/* Newer kernels check at load that an LSM program returns no less than -4095: show the verifier. */
static __always_inline int bounded_errno(int err)
{
	if (err >= 0)
		return 0;
	if (err < -4095)
		return -ERR_PERM;
	return err;
}

static __always_inline void facts_read(struct sock_facts *facts, struct sock *sk)
{
	facts->netns = sk->__sk_common.skc_net.net->net_cookie;
	facts->family = sk->__sk_common.skc_family;
	facts->type = sk->sk_type;
	facts->protocol = sk->sk_protocol;
	facts->local_port = sk->__sk_common.skc_num;
}

/*
 * The storage of a socket, made when the socket is older than the agent. NULL: no memory; then
 * nothing is cached, and the gate, which finds no owner, drops the packets of a governed pod.
 */
static __always_inline struct sock_state *state_of(struct sock *sk, struct label *label,
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

/* connect(2), and what else begins an association of SCTP: name is then a list, whose first is called first. */
static __always_inline int hook_connect(struct sock *sk, struct sockaddr *name, int len, __u8 step)
{
	struct control *c = control_get();
	struct sock_address address;
	struct sock_state *state;
	struct sock_facts facts;
	struct label *label;
	struct ask ask;
	__u8 addr[16];

	if (!sk || !c || !family_is_ip(sk->__sk_common.skc_family))
		return 0;
	facts_read(&facts, sk);
	label = label_subject(facts.netns);
	if (!label)
		return lost_errno();
	/* AF_UNSPEC dissolves the association; there is no peer to judge. */
	if (!address_read(&address, addr, name, len) || address.family == FAMILY_UNSPEC)
		return 0;
	ask_init(&ask, &facts, c, step);
	ask.call = CALL_CONNECT;
	/* Of a list the gate judges what goes to the others. Without it no peer is named: closed but for rules for all. */
	if (!sctp_has_more(&facts, &address, len) || c->flags & CONTROL_GATE)
		ask_peer(&ask, addr, bpf_ntohs(address.port_be));
	state = state_of(sk, label, facts.netns);
	if (state && sk->__sk_common.skc_state == TCP_STATE_CLOSE)
		state->opened++; /* without a SYN, where the socket is being repaired: see requests_may_begin() */
	return enforce(judge_connect(&ask, label, state));
}

static __always_inline int hook_sendmsg(struct socket *sock, struct msghdr *msg, __u8 step)
{
	struct control *c = control_get();
	struct sock *sk = sock->sk;
	struct sock_address address;
	struct sock_facts facts;
	struct sock_state *state;
	struct label *label;
	struct ask ask;
	__u8 addr[16];
	int named, err = 0;

	if (!sk || !c || !family_is_ip(sk->__sk_common.skc_family))
		return 0;
	facts_read(&facts, sk);
	label = label_subject(facts.netns);
	if (!label)
		return lost_errno();
	state = state_of(sk, label, facts.netns);
	if (c->flags & CONTROL_TAPS && facts.type == TYPE_STREAM && state)
		err = tie_send(sk, state, label);
	if (err)
		return err;
	named = msg->msg_name && address_read(&address, addr, msg->msg_name, msg->msg_namelen);
	/* Streams ignore the name unless the send is also the connect. */
	if (facts.type == TYPE_STREAM && !(msg->msg_flags & MESSAGE_FASTOPEN))
		named = 0;
	/* An IPv4 socket takes AF_UNSPEC as AF_INET; an IPv6 one as no name. */
	if (named && address.family == FAMILY_UNSPEC && facts.family == FAMILY_INET6)
		named = 0;
	if (!named && state && state->decision == decision_word(c->revision, label->actor, VERDICT_ALLOW))
		return 0;
	ask_init(&ask, &facts, c, step);
	ask.call = CALL_SENDMSG;
	if (named) {
		ask_peer(&ask, addr, bpf_ntohs(address.port_be));
		return enforce(judge_connect(&ask, label, state));
	}
	if (!sk->__sk_common.skc_dport && facts.type != TYPE_RAW && !protocol_is_icmp(facts.protocol))
		return 0; /* not connected: the protocol refuses */
	if (facts.family == FAMILY_INET6)
		bpf_core_read(addr, sizeof(addr), &sk->__sk_common.skc_v6_daddr);
	else
		address_from_ip4(addr, sk->__sk_common.skc_daddr);
	ask_peer(&ask, addr, bpf_ntohs(sk->__sk_common.skc_dport));
	return enforce(judge_connected(&ask, label, state));
}

/* bind: name is the local address; listen and accept: NULL. */
static __always_inline int hook_listen(struct socket *sock, struct sockaddr *name, int len, __u8 call,
				       __u8 step)
{
	struct control *c = control_get();
	struct sock *sk = sock->sk;
	struct sock_address address;
	struct sock_state *state;
	struct sock_facts facts;
	struct label *label;
	struct ask ask;

	if (!sk || !c)
		return 0;
	if (sk->__sk_common.skc_family == FAMILY_UNIX)
		local_served(sk, c, call);
	if (!family_is_ip(sk->__sk_common.skc_family))
		return 0;
	facts_read(&facts, sk);
	label = label_subject(facts.netns);
	if (!label)
		return lost_errno();
	ask_init(&ask, &facts, c, step);
	ask.call = call;
	if (name && address_read(&address, ask.local, name, len))
		ask.local_port = bpf_ntohs(address.port_be);
	/* A client's bind: what comes in on a port that the kernel chose is judged at the gate. */
	if (call == CALL_BIND && !ask.local_port)
		return 0;
	state = state_of(sk, label, facts.netns);
	if (state && call == CALL_LISTEN)
		state->direction = DIR_INGRESS;
	return enforce(judge_listen(&ask, label, state));
}

/* socket(2) by a task without a label, where there is nowhere to leave what hook_create() found. */
static __always_inline int create_lost(int family, int type, int protocol, int kern)
{
	struct sock_facts facts = {};

	facts.family = family;
	facts.type = type & TYPE_MASK;
	facts.protocol = protocol;
	return kern || !create_is_judged(&facts) ? 0 : lost_errno();
}

static __always_inline int hook_create(int family, int type, int protocol, int kern, __u8 step)
{
	struct control *c = control_get();
	struct sock_facts facts = {};
	struct label *label;
	struct ask ask;

	if (kern || !c)
		return 0;
	facts.family = family;
	facts.type = type & TYPE_MASK;
	facts.protocol = protocol;
	if (!create_is_judged(&facts))
		return 0;
	facts.netns = bpf_get_current_task_btf()->nsproxy->net_ns->net_cookie;
	label = label_subject(facts.netns);
	if (!label)
		return lost_errno();
	ask_init(&ask, &facts, c, step);
	ask.call = CALL_SOCKET;
	if (is_mptcp(&facts))
		return judge_mptcp(&ask, label);
	return enforce(judge_create(&ask, label));
}

/* After creation: the socket gets its owner. */
static __always_inline void hook_created(struct socket *sock, int kern)
{
	struct sock *sk = sock->sk;
	struct label *label;
	__u64 netns;

	if (kern || !sk || !family_is_ip(sk->__sk_common.skc_family))
		return;
	netns = sk->__sk_common.skc_net.net->net_cookie;
	label = label_subject(netns);
	if (label)
		state_of(sk, label, netns);
}
