// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * JUDGE, last step of the ladder: report only. Kprobes on the same functions, for kernels that load
 * no trampolines and no task storage in cgroup programs. What would be denied is reported as Audit.
 *
 * kprobe/security_socket_{connect,sendmsg,bind,listen,accept,create}
 * kprobe/security_sctp_bind_connect  connectx, and sends that begin an association of SCTP
 * kprobe/tcp_connect  the connects of MSG_FASTOPEN and TCP_FASTOPEN_CONNECT, by the socket's own peer
 *
 * Minimum kernel 5.17. Stops nothing: open by definition, and status says so.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <kernel/registers.h>
#include <bpf/bpf_tracing.h>
#include <lib/sctp.h>

char _license[] SEC("license") = "Dual BSD/GPL";

/* Arguments of a kprobe are plain numbers, so every field is read by helper. */
static __always_inline void facts_read(struct sock_facts *facts, struct sock *sk)
{
	facts->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie);
	facts->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	facts->type = BPF_CORE_READ(sk, sk_type);
	facts->protocol = BPF_CORE_READ(sk, sk_protocol);
	facts->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
}

/* Prepares the question of a call on sk. NULL: not governed. */
static __always_inline struct label *ask_of(struct sock *sk, struct ask *ask, __u8 call)
{
	struct control *c = control_get();
	struct sock_facts facts;
	struct label *label;

	if (!sk || !c)
		return 0;
	facts_read(&facts, sk);
	if (!family_is_ip(facts.family))
		return 0;
	label = label_subject(facts.netns);
	if (!label)
		return 0;
	ask_init(ask, &facts, c, STEP_REPORT);
	ask->call = call;
	return label;
}

static __always_inline int report_connect(struct sock *sk, void *name, int len)
{
	struct sock_address address;
	struct label *label;
	struct ask ask;
	__u8 addr[16];

	label = ask_of(sk, &ask, CALL_CONNECT);
	if (!label || !address_read(&address, addr, name, len) || address.family == FAMILY_UNSPEC)
		return 0;
	ask_peer(&ask, addr, bpf_ntohs(address.port_be));
	judge_connect(&ask, label, 0);
	return 0;
}

SEC("kprobe/security_socket_connect")
int BPF_KPROBE(judge_report_connect, struct socket *sock, void *name, int len)
{
	return report_connect(BPF_CORE_READ(sock, sk), name, len);
}

SEC("kprobe/security_sctp_bind_connect")
int BPF_KPROBE(judge_report_sctp, struct sock *sk, int optname, void *list, int len)
{
	return sctp_connects(optname) ? report_connect(sk, list, len) : 0;
}

SEC("kprobe/security_socket_sendmsg")
int BPF_KPROBE(judge_report_sendmsg, struct socket *sock, struct msghdr *msg)
{
	void *name = BPF_CORE_READ(msg, msg_name);
	int len = BPF_CORE_READ(msg, msg_namelen);
	struct sock_address address;
	struct label *label;
	struct ask ask;
	__u8 addr[16];

	/* Sends on a connection are not judged again here: this step keeps nothing on sockets. */
	if (!name)
		return 0;
	label = ask_of(BPF_CORE_READ(sock, sk), &ask, CALL_SENDMSG);
	if (!label || ask.type == TYPE_STREAM || !address_read(&address, addr, name, len))
		return 0;
	ask_peer(&ask, addr, bpf_ntohs(address.port_be));
	judge_connect(&ask, label, 0);
	return 0;
}

SEC("kprobe/tcp_connect")
int BPF_KPROBE(judge_report_tcp_connect, struct sock *sk)
{
	struct label *label;
	struct ask ask;
	__u8 addr[16];

	label = ask_of(sk, &ask, CALL_CONNECT);
	if (!label)
		return 0;
	if (ask.family == FAMILY_INET6)
		BPF_CORE_READ_INTO(&addr, sk, __sk_common.skc_v6_daddr);
	else
		address_from_ip4(addr, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	ask_peer(&ask, addr, bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)));
	judge_connect(&ask, label, 0);
	return 0;
}

static __always_inline int report_listen(struct socket *sock, void *name, int len, __u8 call)
{
	struct sock_address address;
	struct label *label;
	struct ask ask;

	label = ask_of(BPF_CORE_READ(sock, sk), &ask, call);
	if (!label)
		return 0;
	if (name && address_read(&address, ask.local, name, len))
		ask.local_port = bpf_ntohs(address.port_be);
	if (call == CALL_BIND && !ask.local_port)
		return 0; /* a client's bind */
	judge_listen(&ask, label, 0);
	return 0;
}

SEC("kprobe/security_socket_bind")
int BPF_KPROBE(judge_report_bind, struct socket *sock, void *name, int len)
{
	return report_listen(sock, name, len, CALL_BIND);
}

SEC("kprobe/security_socket_listen")
int BPF_KPROBE(judge_report_listen, struct socket *sock)
{
	return report_listen(sock, 0, 0, CALL_LISTEN);
}

SEC("kprobe/security_socket_accept")
int BPF_KPROBE(judge_report_accept, struct socket *sock)
{
	return report_listen(sock, 0, 0, CALL_ACCEPT);
}

SEC("kprobe/security_socket_create")
int BPF_KPROBE(judge_report_create, int family, int type, int protocol, int kern)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct control *c = control_get();
	struct sock_facts facts = {};
	struct label *label;
	struct ask ask;

	if (kern || !c)
		return 0;
	facts.netns = BPF_CORE_READ(task, nsproxy, net_ns, net_cookie);
	facts.family = family;
	facts.type = type & TYPE_MASK;
	facts.protocol = protocol;
	if (!create_is_judged(&facts) || is_mptcp(&facts))
		return 0;
	label = label_subject(facts.netns);
	if (!label)
		return 0;
	ask_init(&ask, &facts, c, STEP_REPORT);
	ask.call = CALL_SOCKET;
	judge_create(&ask, label);
	return 0;
}
