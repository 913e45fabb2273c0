/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <bpf/bpf_helpers.h>
#include <abi/event.h>
#include <kernel/types.h>
#include <lib/control.h>
#include <maps/tell.h>
#include <abi/label.h>

static __always_inline void tell_header(struct ev_header *header, __u16 kind, __u32 len)
{
	header->ktime_ns = bpf_ktime_get_boot_ns();
	header->version = ABI_VERSION;
	header->kind = kind;
	header->len = len;
}

/* The process, from its label. With caller it is the one that calls, whose thread and name are known. */
static __always_inline void tell_task(struct ev_task *task, const struct label *label, int caller)
{
	task->container = label->container;
	task->session = label->session;
	task->exec = label->exec;
	task->tgid = label->tgid;
	task->tid = 0;
	task->uid = label->ids[ID_USER][ID_EFFECTIVE];
	task->flags = label->flags;
	task->origin = label->origin;
	task->pad = 0;
	__builtin_memset(task->comm, 0, sizeof(task->comm));
	if (caller) {
		__u64 id = bpf_get_current_pid_tgid();

		task->tgid = id >> 32;
		task->tid = id;
		task->uid = bpf_get_current_uid_gid();
		bpf_get_current_comm(task->comm, sizeof(task->comm));
	}
}

/* The same, and what it runs. */
static __always_inline void tell_subject(struct ev_subject *subject, const struct label *label,
					 int caller)
{
	tell_task(&subject->task, label, caller);
	__builtin_memcpy(subject->exe, label->exe, sizeof(subject->exe));
	__builtin_memcpy(subject->script, label->script, sizeof(subject->script));
}

/* Room in the ring of alerts, or NULL and counted: the agent reports the loss. */
#define tell_alert(type)                                                                         \
	({                                                                                       \
		type *_record = bpf_ringbuf_reserve(&alerts, sizeof(type), 0);                   \
		if (!_record)                                                                    \
			count_error(SITE_ALERT_RING);                                            \
		_record;                                                                         \
	})

/* The same for the ring of flows. */
#define tell_flow(type)                                                                          \
	({                                                                                       \
		type *_record = bpf_ringbuf_reserve(&flows, sizeof(type), 0);                    \
		if (!_record)                                                                    \
			count_error(SITE_FLOW_RING);                                             \
		_record;                                                                         \
	})

enum tell_limits {
	FLOW_BATCH = 1 << 17, /* bytes */
};

/*
 * How a record of flows is submitted: waking the reader costs more than the record, so that is done
 * when a batch waits; for the rest it looks by itself, see probes/tell.
 */
static __always_inline __u64 tell_flow_flags(void)
{
	return bpf_ringbuf_query(&flows, BPF_RB_AVAIL_DATA) < FLOW_BATCH ? BPF_RB_NO_WAKEUP :
									   BPF_RB_FORCE_WAKEUP;
}
