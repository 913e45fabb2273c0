// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * JUDGE, first step of the ladder: BPF LSM.
 *
 * lsm/socket_connect      connect(2), io_uring too: peer and port
 * lsm/sctp_bind_connect   connectx, and sends that begin an association of SCTP
 * lsm/sctp_sk_clone       ties an accepted association to its listener's owner
 * lsm/socket_sendmsg      sends that name their peer, MSG_FASTOPEN, and sends on old decisions
 * lsm/socket_bind         ports the process may serve
 * lsm/socket_listen       the same, for a listen without bind
 * lsm/socket_accept       the same
 * lsm/socket_create       families and types that are judged as a whole
 * lsm/socket_post_create  ties the socket to its owner, for the gate
 * lsm/bprm_check_security denies nothing: the file of a script, for the label
 * lsm/socket_setsockopt   keeps the kernel from encrypting what is to be read
 * fexit/sock_common_setsockopt denies nothing: tells when the kernel was given keys of TLS
 * lsm/ptrace_access_check, file_receive  keep one label's holders out of another's
 * lsm/unix_stream_connect, unix_may_send  deny nothing: that one label's holder asks another's is told
 * lsm/ptrace_access_check, task_kill, file_send_sigiotask, task_setrlimit, bpf  keep governed
 *                         containers away from the agent and what it has put into the kernel
 *
 * Minimum kernel 5.17 with bpf in the lsm= list. Fails closed for labelled processes when the tables
 * are broken; open for tasks without a label, which nothing governs, but for those that have lost theirs
 * (lib/lost.h). Runs that are pre-empted are not skipped: the kernel does not guard LSM programs against
 * recursion.
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

SEC("lsm/socket_connect")
int BPF_PROG(judge_lsm_connect, struct socket *sock, struct sockaddr *address, int len, int ret)
{
	if (ret)
		return ret; /* another LSM has denied it */
	return bounded_errno(hook_connect(sock->sk, address, len, STEP_LSM));
}

SEC("lsm/sctp_bind_connect")
int BPF_PROG(judge_lsm_sctp, struct sock *sk, int optname, struct sockaddr *address, int len, int ret)
{
	if (ret || !sctp_connects(optname))
		return ret;
	return bounded_errno(hook_connect(sk, address, len, STEP_LSM));
}

SEC("lsm/sctp_sk_clone")
int BPF_PROG(judge_lsm_sctp_clone, void *association, struct sock *sk, struct sock *newsk)
{
	sctp_cloned(sk, newsk);
	return 0;
}

SEC("lsm/socket_sendmsg")
int BPF_PROG(judge_lsm_sendmsg, struct socket *sock, struct msghdr *msg, int size, int ret)
{
	if (ret)
		return ret;
	return bounded_errno(hook_sendmsg(sock, msg, STEP_LSM));
}

SEC("lsm/socket_bind")
int BPF_PROG(judge_lsm_bind, struct socket *sock, struct sockaddr *address, int len, int ret)
{
	if (ret)
		return ret;
	return bounded_errno(hook_listen(sock, address, len, CALL_BIND, STEP_LSM));
}

SEC("lsm/socket_listen")
int BPF_PROG(judge_lsm_listen, struct socket *sock, int backlog, int ret)
{
	if (ret)
		return ret;
	return bounded_errno(hook_listen(sock, 0, 0, CALL_LISTEN, STEP_LSM));
}

SEC("lsm/socket_accept")
int BPF_PROG(judge_lsm_accept, struct socket *sock, struct socket *newsock, int ret)
{
	if (ret)
		return ret;
	return bounded_errno(hook_listen(sock, 0, 0, CALL_ACCEPT, STEP_LSM));
}

SEC("lsm/socket_create")
int BPF_PROG(judge_lsm_create, int family, int type, int protocol, int kern, int ret)
{
	if (ret)
		return ret;
	return bounded_errno(hook_create(family, type, protocol, kern, STEP_LSM));
}

SEC("lsm/socket_post_create")
int BPF_PROG(judge_lsm_created, struct socket *sock, int family, int type, int protocol, int kern,
	     int ret)
{
	if (ret)
		return ret;
	hook_created(sock, kern);
	return 0;
}

SEC("lsm/socket_setsockopt")
int BPF_PROG(judge_lsm_option, struct socket *sock, int level, int option, int ret)
{
	if (ret)
		return ret;
	return bounded_errno(hook_option(sock, level, option, STEP_LSM));
}

SEC("fexit/sock_common_setsockopt")
int judge_lsm_ktls(unsigned long long *ctx)
{
	option_done((struct socket *)ctx[OPTION_SOCK], ctx);
	return 0;
}

SEC("lsm/ptrace_access_check")
int BPF_PROG(judge_lsm_trace, struct task_struct *child, unsigned int mode, int ret)
{
	if (ret)
		return ret;
	return borrow_errno(protect_trace(child, mode, STEP_LSM) || borrow_trace(child, mode, STEP_LSM));
}

SEC("lsm/file_receive")
int BPF_PROG(judge_lsm_receive, struct file *file, int ret)
{
	if (ret)
		return ret;
	return borrow_errno(borrow_receive(file, STEP_LSM));
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(judge_lsm_unix_connect, struct sock *sk, struct sock *other, struct sock *newsk, int ret)
{
	if (!ret)
		local_asked(other, STEP_LSM);
	return ret;
}

SEC("lsm/unix_may_send")
int BPF_PROG(judge_lsm_unix_send, struct socket *sock, struct socket *other, int ret)
{
	if (!ret)
		local_asked(other->sk, STEP_LSM);
	return ret;
}

/* What another LSM has denied does not come to these, so there is no result of it to pass on. */
SEC("lsm/task_kill")
int BPF_PROG(judge_lsm_signal, struct task_struct *target, void *info, int signal)
{
	return borrow_errno(protect_signal(target, signal, STEP_LSM));
}

SEC("lsm/file_send_sigiotask")
int BPF_PROG(judge_lsm_sigio, struct task_struct *target, void *owner, int signal)
{
	return borrow_errno(protect_sigio(target, signal, STEP_LSM));
}

SEC("lsm/task_setrlimit")
int BPF_PROG(judge_lsm_limit, struct task_struct *target, unsigned int resource)
{
	return borrow_errno(protect_task(target, CALL_LIMIT, resource, STEP_LSM));
}

SEC("lsm/bpf")
int BPF_PROG(judge_lsm_bpf, int cmd, union bpf_attr *attr)
{
	return borrow_errno(protect_bpf(cmd, attr, STEP_LSM));
}

SEC("lsm/bprm_check_security")
int BPF_PROG(judge_lsm_script, struct linux_binprm *bprm, int ret)
{
	if (ret)
		return ret; /* the execution fails */
	script_seen(bprm);
	return 0;
}
