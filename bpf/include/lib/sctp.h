/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What SCTP does beside the calls that all protocols share: security_sctp_bind_connect() and
 * security_sctp_sk_clone(). Packets of the further addresses of either end are judged by the gate.
 */
#include <lib/socket.h>

/* What security_sctp_bind_connect() is asked about, of linux/sctp.h, where the asker is a process and names a peer. */
enum sctp_asks {
	SCTP_CONNECTX = 110,
	SCTP_SENDMSG_CONNECT = 126, /* a send that begins an association; a stream socket's too */
};

enum sockaddr_sizes {
	SOCKADDR_IP4_LEN = 16,
	SOCKADDR_IP6_LEN = 28,
};

/*
 * Whether the running process asks to be connected. bindx is judged by listen(). Peers ask too (ASCONF), in whatever
 * process's time: what is then sent to the new address is judged by the socket's owner, at the gate.
 */
static __always_inline int sctp_connects(int optname)
{
	return optname == SCTP_CONNECTX || optname == SCTP_SENDMSG_CONNECT;
}

/* Whether an address of len bytes may be a list of several. */
static __always_inline int sctp_has_more(const struct sock_facts *facts, const struct sock_address *address, int len)
{
	return facts->protocol == PROTO_SCTP &&
	       len > (address->family == FAMILY_INET6 ? SOCKADDR_IP6_LEN : SOCKADDR_IP4_LEN);
}

/*
 * An association becomes a socket of its own (accept, peeloff), which other than TCP's has no copy of its listener's
 * storage. Without memory it has no owner: the gate goes by its flow, and the next call makes it the caller's.
 */
static __always_inline void sctp_cloned(struct sock *from, struct sock *to)
{
	struct sock_state *state = bpf_sk_storage_get(&state_by_sock, from, 0, 0), *copy;

	if (!state)
		return; /* no owner: no labelled process made it */
	copy = bpf_sk_storage_get(&state_by_sock, to, state, BPF_SK_STORAGE_GET_F_CREATE);
	if (copy)
		copy->direction = state->direction;
	else
		count_error(SITE_SOCK_STORAGE);
}
