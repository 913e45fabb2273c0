/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Options of sockets that are refused to containers whose rules ask for requests: with an upper layer protocol (kTLS) the
 * kernel encrypts below who reads, and in memory that it marks as another's; libraries that are refused it encrypt by
 * themselves. Where no hook refuses it, the gate denies what is sent (closed).
 */
#include <lib/socket.h>

enum options {
	OPTION_LEVEL_TCP = 6,
	OPTION_TCP_ULP = 31,
};

/* setsockopt(2) by a process with this label. Returns 0 or a negative errno. */
static __always_inline int option_errno(const struct label *label, int level, int option)
{
	struct control *c = control_get();
	struct ruleset *ruleset;

	if (level != OPTION_LEVEL_TCP || option != OPTION_TCP_ULP || !c)
		return 0;
	if (ruleset_of(c->revision, label->container, &ruleset) != RULESET_FOUND)
		return 0; /* open: nobody is asked about requests of a container that is not known */
	if (!has_bits(&ruleset->http))
		return 0;
	return -ERR_PERM;
}

/* The same for who calls. Others than labelled processes are not governed. */
static __always_inline int hook_option(struct socket *sock, int level, int option)
{
	struct sock *sk = sock->sk; /* read once: Linux 6.12 has each load looked at */
	struct label *label;

	if (!sk || !family_is_ip(sk->__sk_common.skc_family))
		return 0;
	label = label_subject(sk->__sk_common.skc_net.net->net_cookie);
	return label ? option_errno(label, level, option) : 0;
}
