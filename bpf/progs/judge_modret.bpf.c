// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * JUDGE, second step of the ladder: fmod_ret on security_socket_*, for kernels without bpf among
 * their LSMs. Socket storage is not for fmod_ret programs, so two share the work: fentry judges and
 * leaves the result in the caller's label, fmod_ret returns it. The trampoline runs them in this order.
 *
 * fentry/security_socket_{connect,sendmsg,bind,listen,accept,create,post_create}
 * fmod_ret/security_socket_{connect,sendmsg,bind,listen,accept,create}
 * fmod_ret/security_task_kill, security_file_send_sigiotask, security_task_setrlimit, security_bpf
 * fentry and fmod_ret/security_sctp_bind_connect, fentry/security_sctp_sk_clone
 * fmod_ret/security_socket_setsockopt, fmod_ret/security_ptrace_access_check, fentry and fmod_ret/security_file_receive
 * fexit/sock_common_setsockopt denies nothing: tells when the kernel was given keys of TLS
 * fentry/security_unix_stream_connect, security_unix_may_send deny nothing: that one label's holder asks another's is told
 * fentry/security_bprm_check denies nothing: the file of a script, for the label
 *
 * Minimum kernel 5.17. A labelled process whose call fentry did not judge is denied: closed. On a
 * fully pre-emptible kernel the fmod_ret program itself is skipped when it was pre-empted on the same
 * CPU by a task in the same hook: open, counted by the kernel as a recursion miss, shown by status.
 */
#include <linux/bpf.h>
#include <bpf/bpf_tracing.h>
#include <lib/borrow.h>
#include <lib/hooks.h>
#include <lib/local.h>
#include <lib/option.h>
#include <lib/protect.h>
#include <lib/script.h>

char _license[] SEC("license") = "Dual BSD/GPL";

/* Leaves the result of a call for the fmod_ret program. */
static __always_inline int pend(__u32 call, int err)
{
	struct label *label = label_current();

	if (label) {
		label->pending_call = call;
		label->pending_errno = err;
	}
	return 0;
}

/* What a task without a label gets of a call on a socket of the internet: there was nowhere to leave a result. */
static __always_inline int unlabelled(struct sock *sk)
{
	if (!sk || !family_is_ip(sk->__sk_common.skc_family))
		return 0;
	return lost_errno();
}

/* Takes the result. A labelled process without one was not judged: closed. sk: the socket, NULL for none. */
static __always_inline int pended(__u32 call, struct sock *sk)
{
	struct label *label = label_current();
	int err;

	if (!label)
		return unlabelled(sk);
	if (label->pending_call != call) {
		count_error(SITE_PENDING);
		return -ERR_PERM;
	}
	err = label->pending_errno;
	label->pending_call = CALL_NONE;
	return bounded_errno(err);
}

SEC("fentry/security_socket_connect")
int BPF_PROG(judge_fentry_connect, struct socket *sock, struct sockaddr *address, int len)
{
	return pend(CALL_CONNECT, hook_connect(sock->sk, address, len, STEP_MODRET));
}

SEC("fmod_ret/security_socket_connect")
int BPF_PROG(judge_modret_connect, struct socket *sock, struct sockaddr *address, int len, int ret)
{
	return ret ? ret : pended(CALL_CONNECT, sock->sk);
}

SEC("fentry/security_sctp_bind_connect")
int BPF_PROG(judge_fentry_sctp, struct sock *sk, int optname, struct sockaddr *address, int len)
{
	if (!sctp_connects(optname))
		return 0; /* leaves nothing: it may come in the time of a process that is in another hook */
	return pend(CALL_CONNECT, hook_connect(sk, address, len, STEP_MODRET));
}

SEC("fmod_ret/security_sctp_bind_connect")
int BPF_PROG(judge_modret_sctp, struct sock *sk, int optname, struct sockaddr *address, int len, int ret)
{
	return ret || !sctp_connects(optname) ? ret : pended(CALL_CONNECT, sk);
}

SEC("fentry/security_sctp_sk_clone")
int BPF_PROG(judge_fentry_sctp_clone, void *association, struct sock *sk, struct sock *newsk)
{
	sctp_cloned(sk, newsk);
	return 0;
}

SEC("fentry/security_socket_sendmsg")
int BPF_PROG(judge_fentry_sendmsg, struct socket *sock, struct msghdr *msg, int size)
{
	return pend(CALL_SENDMSG, hook_sendmsg(sock, msg, STEP_MODRET));
}

SEC("fmod_ret/security_socket_sendmsg")
int BPF_PROG(judge_modret_sendmsg, struct socket *sock, struct msghdr *msg, int size, int ret)
{
	return ret ? ret : pended(CALL_SENDMSG, sock->sk);
}

SEC("fentry/security_socket_bind")
int BPF_PROG(judge_fentry_bind, struct socket *sock, struct sockaddr *address, int len)
{
	return pend(CALL_BIND, hook_listen(sock, address, len, CALL_BIND, STEP_MODRET));
}

SEC("fmod_ret/security_socket_bind")
int BPF_PROG(judge_modret_bind, struct socket *sock, struct sockaddr *address, int len, int ret)
{
	return ret ? ret : pended(CALL_BIND, sock->sk);
}

SEC("fentry/security_socket_listen")
int BPF_PROG(judge_fentry_listen, struct socket *sock, int backlog)
{
	return pend(CALL_LISTEN, hook_listen(sock, 0, 0, CALL_LISTEN, STEP_MODRET));
}

SEC("fmod_ret/security_socket_listen")
int BPF_PROG(judge_modret_listen, struct socket *sock, int backlog, int ret)
{
	return ret ? ret : pended(CALL_LISTEN, sock->sk);
}

SEC("fentry/security_socket_accept")
int BPF_PROG(judge_fentry_accept, struct socket *sock, struct socket *newsock)
{
	return pend(CALL_ACCEPT, hook_listen(sock, 0, 0, CALL_ACCEPT, STEP_MODRET));
}

SEC("fmod_ret/security_socket_accept")
int BPF_PROG(judge_modret_accept, struct socket *sock, struct socket *newsock, int ret)
{
	return ret ? ret : pended(CALL_ACCEPT, sock->sk);
}

SEC("fentry/security_socket_create")
int BPF_PROG(judge_fentry_create, int family, int type, int protocol, int kern)
{
	return pend(CALL_SOCKET, hook_create(family, type, protocol, kern, STEP_MODRET));
}

SEC("fmod_ret/security_socket_create")
int BPF_PROG(judge_modret_create, int family, int type, int protocol, int kern, int ret)
{
	if (ret)
		return ret;
	return label_current() ? pended(CALL_SOCKET, 0) : create_lost(family, type, protocol, kern);
}

SEC("fentry/security_socket_post_create")
int BPF_PROG(judge_fentry_created, struct socket *sock, int family, int type, int protocol, int kern)
{
	hook_created(sock, kern);
	return 0;
}

SEC("fmod_ret/security_socket_setsockopt")
int BPF_PROG(judge_modret_option, struct socket *sock, int level, int option, int ret)
{
	if (ret)
		return ret;
	return bounded_errno(hook_option(sock, level, option, STEP_MODRET));
}

SEC("fexit/sock_common_setsockopt")
int judge_fexit_ktls(unsigned long long *ctx)
{
	option_done((struct socket *)ctx[OPTION_SOCK], ctx);
	return 0;
}

SEC("fmod_ret/security_ptrace_access_check")
int BPF_PROG(judge_modret_trace, struct task_struct *child, unsigned int mode, int ret)
{
	if (ret)
		return ret;
	return borrow_errno(protect_trace(child, mode, STEP_MODRET) || borrow_trace(child, mode, STEP_MODRET));
}

SEC("fentry/security_file_receive")
int BPF_PROG(judge_fentry_receive, struct file *file)
{
	return pend(CALL_RECEIVE, borrow_errno(borrow_receive(file, STEP_MODRET)));
}

SEC("fmod_ret/security_file_receive")
int BPF_PROG(judge_modret_receive, struct file *file, int ret)
{
	if (ret)
		return ret;
	return label_current() ? pended(CALL_RECEIVE, 0) : borrow_errno(receive_lost(file));
}

SEC("fentry/security_unix_stream_connect")
int BPF_PROG(judge_fentry_unix_connect, struct sock *sk, struct sock *other, struct sock *newsk)
{
	local_asked(other, STEP_MODRET);
	return 0;
}

SEC("fentry/security_unix_may_send")
int BPF_PROG(judge_fentry_unix_send, struct socket *sock, struct socket *other)
{
	local_asked(other->sk, STEP_MODRET);
	return 0;
}

SEC("fmod_ret/security_task_kill")
int BPF_PROG(judge_modret_signal, struct task_struct *target, void *info, int signal)
{
	return borrow_errno(protect_signal(target, signal, STEP_MODRET));
}

SEC("fmod_ret/security_file_send_sigiotask")
int BPF_PROG(judge_modret_sigio, struct task_struct *target, void *owner, int signal)
{
	return borrow_errno(protect_sigio(target, signal, STEP_MODRET));
}

SEC("fmod_ret/security_task_setrlimit")
int BPF_PROG(judge_modret_limit, struct task_struct *target, unsigned int resource)
{
	return borrow_errno(protect_task(target, CALL_LIMIT, resource, STEP_MODRET));
}

SEC("fmod_ret/security_bpf")
int BPF_PROG(judge_modret_bpf, int cmd, union bpf_attr *attr)
{
	return borrow_errno(protect_bpf(cmd, attr, STEP_MODRET));
}

SEC("fentry/security_bprm_check")
int BPF_PROG(judge_fentry_script, struct linux_binprm *bprm)
{
	script_seen(bprm);
	return 0;
}
