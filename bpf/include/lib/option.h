/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* setsockopt(2) on BTF-typed arguments: for LSM programs, fmod_ret and fexit. See lib/ktls.h for what is refused, and why. */
#include <lib/ends.h>
#include <lib/ktls.h>

static __always_inline void option_ask(struct ktls_ask *ask, struct sock *sk, __u32 part, __u32 step)
{
	ask->netns = sk->__sk_common.skc_net.net->net_cookie;
	ask->local_port = sk->__sk_common.skc_num;
	ask->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	ask->part = part;
	ask->step = step;
	ends_read(sk, ask->local, ask->remote);
}

/* A call by the running task. Returns 0 or a negative errno. Others than labelled processes are not governed. */
static __always_inline int hook_option(struct socket *sock, int level, int option, __u32 step)
{
	struct sock *sk = sock->sk; /* read once: Linux 6.12 has each load looked at */
	__u32 part = ktls_part(level, option);
	struct ktls_ask ask = {};
	struct label *label;

	if (!part || !sk || !family_is_ip(sk->__sk_common.skc_family))
		return 0;
	label = label_subject(sk->__sk_common.skc_net.net->net_cookie);
	if (!label || !ktls_refused(label))
		return 0;
	option_ask(&ask, sk, part, step);
	ktls_tell(&ask, label);
	return -ERR_PERM;
}

/* sock_common_setsockopt(sock, level, option, sockptr_t value, len), which is two words of its arguments, and its result. */
enum option_words {
	OPTION_SOCK = 0,
	OPTION_LEVEL = 1,
	OPTION_NAME = 2,
	OPTION_VALUE = 3,
	OPTION_OF_KERNEL = 4, /* the lowest bit: the value lies in the kernel's memory */
	OPTION_RESULT = 6,
};

/*
 * A call that a labelled task has made, by its words: told when it has given the kernel keys. Version and cipher are as
 * its memory says now, and nothing behind them is read.
 */
static __always_inline void option_done(struct socket *sock, const unsigned long long *ctx)
{
	__u32 part = ktls_part((int)ctx[OPTION_LEVEL], (int)ctx[OPTION_NAME]);
	struct control *c = control_get();
	struct ktls_ask ask = {};
	struct sock *sk = sock->sk;
	struct label *label;
	long err;

	if (part != KTLS_TX && part != KTLS_RX)
		return;
	if (!c || !(c->flags & CONTROL_TELL_CONNECT) || !sk || !family_is_ip(sk->__sk_common.skc_family))
		return;
	label = label_current();
	if (!label)
		return;
	option_ask(&ask, sk, part, STEP_NONE);
	if (ctx[OPTION_OF_KERNEL] & 1)
		err = bpf_probe_read_kernel(&ask.suite, sizeof(ask.suite), (void *)ctx[OPTION_VALUE]);
	else
		err = bpf_probe_read_user(&ask.suite, sizeof(ask.suite), (void *)ctx[OPTION_VALUE]);
	if (err)
		ask.suite.version = ask.suite.cipher = 0;
	ktls_tell(&ask, label);
}
