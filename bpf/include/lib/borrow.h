/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE, between processes: nobody acts under another's label by reaching into its process (ptrace,
 * process_vm_writev, /proc/PID/mem, pidfd_getfd) or by taking over its socket (SCM_RIGHTS). Holders of
 * one label are the processes of one container, origin and session: among them all is as ever. Where no
 * rule governs either side, and for processes of the node, nothing is refused.
 */
#include <lib/judge.h>
#include <lib/lost.h>
#include <lib/socket.h>

enum trace_modes {
	TRACE_NOAUDIT = 4, /* PTRACE_MODE_NOAUDIT */
	TRACE_ATTACH = 2,  /* PTRACE_MODE_ATTACH: to write or to take over, not only to read */
};

/* A label that belongs to a workload: not the node's, nor that of a runtime that still sets it up. */
static __always_inline int is_workload(const struct label *label)
{
	return label && label->origin != ORIGIN_HOST && !(label->flags & LABEL_JOINING);
}

static __always_inline int same_holder(const struct label *a, const struct label *b)
{
	return a->container == b->container && a->origin == b->origin && a->session == b->session;
}

/* Whether rules govern a container; unknown: what is said of one that is not known. Broken tables count as yes (closed). */
static __always_inline int container_governed(const struct control *c, __u64 container, int unknown)
{
	struct ruleset *ruleset;

	switch (ruleset_of(c->revision, container, &ruleset)) {
	case RULESET_FOUND:
		return ruleset->flags & RULESET_RULES;
	case RULESET_UNKNOWN:
		return unknown;
	default:
		count_error(SITE_TABLES);
		return 1;
	}
}

/* Tells that subject reached for what is target's, what became of it, and what would have. */
static __always_inline void tell_borrow(const struct label *subject, const struct label *target,
					const struct control *c, __u8 call, __u8 step, __u8 verdict, __u8 would)
{
	struct ev_borrow *event = tell_alert(struct ev_borrow);

	if (!event)
		return; /* counted; what was decided stands */
	tell_header(&event->header, EV_KIND_BORROW, sizeof(*event));
	tell_subject(&event->subject, subject, 1);
	tell_subject(&event->target, target, 0);
	event->revision = c->revision;
	event->call = call;
	event->step = step;
	event->verdict = verdict;
	event->would = would;
	event->pad = 0;
	bpf_ringbuf_submit(event, 0);
}

/*
 * Judges that subject gets hold of what is target's. Returns 1 when it must not. Global, as
 * evaluate(): both steps and hooks share its verification.
 */
__noinline int borrow_judge(const struct label *subject, const struct label *target, __u8 call,
			    __u8 step, int quiet)
{
	struct control *c = control_get();
	int unknown, refused;

	if (!subject || !target || !c || !(c->flags & CONTROL_BORROW_TELL))
		return 0;
	unknown = c->flags & CONTROL_UNKNOWN_DENY;
	if (!is_workload(subject) || !is_workload(target) || same_holder(subject, target))
		return 0;
	if (!container_governed(c, target->container, unknown) && !container_governed(c, subject->container, unknown))
		return 0;
	refused = !!(c->flags & CONTROL_BORROW_REFUSE);
	if (!quiet)
		tell_borrow(subject, target, c, call, step, refused ? VERDICT_DENY : VERDICT_AUDIT, refused ? VERDICT_NONE : VERDICT_DENY);
	return refused;
}

/* -EPERM or 0, by a branch: clang's arithmetic for it is not what the verifier takes for an errno. */
static __always_inline int borrow_errno(int refused)
{
	if (!refused)
		return 0;
	asm volatile("");
	return -ERR_PERM;
}

/* The label of another task; its process's, where the thread has none of its own yet. */
static __always_inline struct label *label_of_other(struct task_struct *task)
{
	struct label *label = bpf_task_storage_get(&label_by_task, task, 0, 0);

	if (!label)
		label = bpf_task_storage_get(&label_by_task, task->group_leader, 0, 0);
	return label;
}

/* Whether a calling task without a label is kept from what is another's: it may have been anybody. */
static __always_inline int borrow_lost(void)
{
	struct control *c = control_get();

	return c && c->flags & CONTROL_BORROW_TELL && c->flags & CONTROL_BORROW_REFUSE && lost_errno();
}

/* file_receive, where socket storage cannot be had: any socket may be another's. Returns 1 when it must not. */
static __always_inline int receive_lost(struct file *file)
{
	return bpf_sock_from_file(file) && borrow_lost();
}

/* ptrace_access_check: the calling task reaches into child. Returns 1 when it must not. */
static __always_inline int borrow_trace(struct task_struct *child, unsigned int mode, __u8 step)
{
	struct label *subject, *target;

	if (!(mode & TRACE_ATTACH))
		return 0;
	subject = label_current();
	target = label_of_other(child);
	if (!target)
		return 0;
	if (!subject)
		return borrow_lost();
	return borrow_judge(subject, target, CALL_TRACE, step, mode & TRACE_NOAUDIT);
}

/* file_receive: the calling task gets a file from another: SCM_RIGHTS, pidfd_getfd. */
static __always_inline int borrow_receive(struct file *file, __u8 step)
{
	struct socket *sock = bpf_sock_from_file(file);
	struct sock_state *state;
	struct label *subject;
	struct sock *sk;

	if (!sock)
		return 0;
	sk = sock->sk;
	if (!sk || sk->__sk_common.skc_family == FAMILY_UNIX)
		return 0; /* a unix socket has an owner for lib/local.h alone */
	state = bpf_sk_storage_get(&state_by_sock, sk, 0, 0);
	subject = label_current();
	if (!state)
		return 0; /* the node's socket: open */
	if (!subject)
		return borrow_lost();
	return borrow_judge(subject, &state->owner, CALL_RECEIVE, step, 0);
}
