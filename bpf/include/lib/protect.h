/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE, for the agent itself: processes of containers that rules govern do not signal the agent, reach into
 * it or change its limits, and do not get hold of what it has put into the kernel. Processes of the
 * node, of units and of containers that nothing governs are left alone; so is whoever is not known yet (open: the
 * next agent may start in a container that nobody has told of).
 */
#include <linux/bpf.h>
#include <lib/borrow.h>
#include <maps/protect.h>

static __always_inline int is_agent(struct task_struct *task)
{
	return !!bpf_task_storage_get(&agent_by_task, task->group_leader, 0, 0);
}

/* Whether a label is one of those that the agent is protected from. */
static __always_inline int protected_from(const struct label *label, const struct control *c)
{
	return is_workload(label) && !(label->flags & LABEL_UNIT) && container_governed(c, label->container, 0);
}

/* subject may be NULL: nobody knows who it is. */
static __always_inline void tell_protected(const struct label *subject, const struct control *c,
					   __u8 call, __u32 detail, __u8 step)
{
	struct ev_tamper *event = tell_alert(struct ev_tamper);
	int refused = c->flags & CONTROL_PROTECT_REFUSE;

	if (!event)
		return; /* counted; what was decided stands */
	tell_header(&event->header, EV_KIND_TAMPER, sizeof(*event));
	if (subject)
		tell_subject(&event->subject, subject, 1);
	else
		__builtin_memset(&event->subject, 0, sizeof(event->subject));
	event->revision = c->revision;
	event->detail = detail;
	event->call = call;
	event->step = step;
	event->verdict = refused ? VERDICT_DENY : VERDICT_AUDIT;
	event->would = refused ? VERDICT_NONE : VERDICT_DENY;
	bpf_ringbuf_submit(event, 0);
}

/* Judges what a process does against the agent. Returns 1 when it must not. Global, as borrow_judge(). */
__noinline int protect_judge(const struct label *subject, __u8 call, __u32 detail, __u8 step, int quiet)
{
	struct control *c = control_get();

	if (!subject || !c || !(c->flags & CONTROL_PROTECT_TELL) || !protected_from(subject, c))
		return 0;
	if (!quiet)
		tell_protected(subject, c, call, detail, step);
	return !!(c->flags & CONTROL_PROTECT_REFUSE);
}

/* Whether a calling task without a label is kept from the agent: its container may be governed. */
static __always_inline int protect_lost(void)
{
	struct control *c = control_get();

	return c && c->flags & CONTROL_PROTECT_TELL && c->flags & CONTROL_PROTECT_REFUSE && lost_errno();
}

/* The calling task does something against the agent. Returns 1 when it must not; the agent itself may. */
static __always_inline int protect_caller(__u8 call, __u32 detail, __u8 step, int quiet)
{
	struct label *subject;

	if (is_agent(bpf_get_current_task_btf()))
		return 0;
	subject = label_current();
	return subject ? protect_judge(subject, call, detail, step, quiet) : protect_lost();
}

/* The calling task does something to another. Returns 1 when that is the agent, and it must not. */
static __always_inline int protect_task(struct task_struct *target, __u8 call, __u32 detail, __u8 step)
{
	return is_agent(target) ? protect_caller(call, detail, step, 0) : 0;
}

/* task_kill: the calling task sends a signal. Signal 0 only asks whether there is a process. */
static __always_inline int protect_signal(struct task_struct *target, int signal, __u8 step)
{
	return signal ? protect_task(target, CALL_SIGNAL, signal, step) : 0;
}

/*
 * file_send_sigiotask: a signal that somebody has asked for when something happens to a file (F_SETOWN). Whoever makes it happen
 * is another, so that nobody can be judged; the agent asks for none, and gets none.
 */
static __always_inline int protect_sigio(struct task_struct *target, int signal, __u8 step)
{
	struct control *c = control_get();

	if (!c || !(c->flags & CONTROL_PROTECT_TELL) || !is_agent(target))
		return 0;
	tell_protected(0, c, CALL_SIGNAL, signal, step);
	return !!(c->flags & CONTROL_PROTECT_REFUSE);
}

/* ptrace_access_check, to read as well: what the agent has open is reached by that. Returns 1 when it must not. */
static __always_inline int protect_trace(struct task_struct *child, unsigned int mode, __u8 step)
{
	return is_agent(child) ? protect_caller(CALL_TRACE, mode, step, mode & TRACE_NOAUDIT) : 0;
}

/*
 * Whether programs of a type can see or change what other processes do, the agent's included: those that trace, and those
 * that take the place of others. Programs for sockets, packets and cgroups cannot.
 */
static __always_inline int is_far_reaching(__u32 type)
{
	switch (type) {
	case BPF_PROG_TYPE_KPROBE:
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_PERF_EVENT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_TRACING:
	case BPF_PROG_TYPE_STRUCT_OPS:
	case BPF_PROG_TYPE_EXT:
	case BPF_PROG_TYPE_LSM:
	case BPF_PROG_TYPE_SYSCALL:
		return 1;
	default:
		return 0;
	}
}

/*
 * bpf: the calling task gets a descriptor of something that somebody else has put into the kernel, by its number or its pin, or
 * loads a program that reaches other processes. Whose it is cannot be told here for each (links have no hook of their own, paths
 * can change), so none of it is for governed containers; what they make themselves they have descriptors of.
 */
static __always_inline int protect_bpf(int cmd, union bpf_attr *attr, __u8 step)
{
	__u32 type = 0;

	switch (cmd) {
	case BPF_MAP_GET_FD_BY_ID:
	case BPF_PROG_GET_FD_BY_ID:
	case BPF_LINK_GET_FD_BY_ID:
	case BPF_OBJ_GET:
		break;
	case BPF_PROG_LOAD:
		/* attr.prog_type is first. Not readable: as if it reached far (closed). */
		if (bpf_probe_read_kernel(&type, sizeof(type), attr))
			break;
		if (is_far_reaching(type))
			break;
		return 0;
	default:
		return 0;
	}
	return protect_caller(CALL_BPF, cmd, step, 0);
}
