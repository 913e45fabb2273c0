/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE, for the TLS of the kernel: refused to containers whose rules ask for requests, by the options of a socket that begin
 * it. The kernel encrypts out of memory that its sender can change at any time, so that whoever reads it at the call has
 * not read what leaves; libraries that are refused it encrypt by themselves, where taps read. Elsewhere it is left alone,
 * and told.
 *
 * Where no hook refuses it, and for connections that have it when their policy comes, the gate denies what is sent: closed.
 */
#include <abi/ktls.h>
#include <lib/judge.h>
#include <maps/taps.h>

enum ktls_options {
	OPTION_LEVEL_TCP = 6,
	OPTION_TCP_ULP = 31,
	OPTION_LEVEL_TLS = 282,
	OPTION_TLS_TX = 1,
	OPTION_TLS_RX = 2,
};

/* What is told of such a call. */
struct ktls_ask {
	__u64 netns;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port; /* host byte order */
	__u16 remote_port;
	struct ktls_suite suite;
	__u32 part; /* enum ktls_part */
	__u32 step; /* enum step; STEP_NONE: nobody judges */
};

/* What an option asks for. Returns an enum ktls_part; KTLS_NONE: something else. */
static __always_inline __u32 ktls_part(int level, int option)
{
	if (level == OPTION_LEVEL_TCP && option == OPTION_TCP_ULP)
		return KTLS_ULP;
	if (level != OPTION_LEVEL_TLS)
		return KTLS_NONE;
	if (option == OPTION_TLS_TX)
		return KTLS_TX;
	return option == OPTION_TLS_RX ? KTLS_RX : KTLS_NONE;
}

/* Whether it is refused to processes with this label. */
static __always_inline int ktls_refused(const struct label *label)
{
	struct control *c = control_get();
	struct ruleset *ruleset;

	if (!c || ruleset_of(c->revision, label->container, &ruleset) != RULESET_FOUND)
		return 0; /* open: nobody is asked about requests of a container that is not known */
	return has_bits(&ruleset->http);
}

/*
 * Whether the running thread works for an object of a TLS library that a tap reads, whose socket has these ends, or has none yet
 * (GnuTLS asks before its handshake): the library asks then, not the program past it.
 */
static __always_inline int ktls_is_tapped(const struct ktls_ask *ask)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct tls_thread *thread = bpf_task_storage_get(&tls_by_task, task, 0, 0);
	struct tls_key key = {.tgid = task->tgid};
	struct tls_conn *conn;

	if (!thread)
		return 0;
	key.object = thread->object;
	conn = bpf_map_lookup_elem(&conn_by_object, &key);
	if (conn && conn->state == TLS_NEW)
		return 1;
	return conn && conn->state == TLS_TIED && conn->netns == ask->netns && conn->local_port == ask->local_port &&
	       conn->remote_port == ask->remote_port && is_address(conn->remote, ask->remote);
}

/*
 * Tells of a call by the running task. Among the flows: a library that is refused it asks again with each connection.
 * Global: its stack is its own.
 */
__noinline int ktls_tell(const struct ktls_ask *ask, const struct label *label)
{
	struct control *c = control_get();
	struct ev_ktls *event;

	if (!ask || !label || !c)
		return 0;
	event = tell_flow(struct ev_ktls);
	if (!event)
		return 0; /* counted; what was decided stands */
	tell_header(&event->header, EV_KIND_KTLS, sizeof(*event));
	tell_subject(&event->subject, label, 1);
	event->revision = c->revision;
	event->netns = ask->netns;
	__builtin_memcpy(event->local, ask->local, sizeof(event->local));
	__builtin_memcpy(event->remote, ask->remote, sizeof(event->remote));
	event->local_port = ask->local_port;
	event->remote_port = ask->remote_port;
	event->suite = ask->suite;
	event->part = ask->part;
	event->step = ask->step;
	event->verdict = ask->step ? VERDICT_DENY : VERDICT_NONE;
	event->tapped = ktls_is_tapped(ask);
	event->pad2 = 0;
	bpf_ringbuf_submit(event, tell_flow_flags());
	return 0;
}
