/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* The two ends of the connection of a socket, for programs that see the socket itself. */
#include <bpf/bpf_core_read.h>
#include <lib/socket.h>

/* local and remote: 16 bytes each, IPv4 as mapped addresses. Ports are elsewhere: sk->__sk_common.skc_num, skc_dport. */
static __always_inline void ends_read(struct sock *sk, __u8 *local, __u8 *remote)
{
	if (sk->__sk_common.skc_family == FAMILY_INET6) {
		bpf_core_read(local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(remote, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		address_from_ip4(local, sk->__sk_common.skc_rcv_saddr);
		address_from_ip4(remote, sk->__sk_common.skc_daddr);
	}
}
