/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What is known of what a tied socket carries, for its sends (lib/tie.h) and its packets (lib/tls_gate.h). */
#include <bpf/bpf_helpers.h>
#include <maps/taps.h>

enum tie_status {
	TIE_NONE,   /* no tap sees what is sent now */
	TIE_GOOD,   /* all that was written so far may leave */
	TIE_HELD,   /* the same, and nothing more until the write that waits was judged */
	TIE_DENIED, /* nothing more may */
	TIE_ENDED,  /* the object is gone, and all that was sent came from it: it may leave */
};

static __always_inline int tie_status(const struct tls_tie *tie)
{
	const struct tls_conn *conn;

	if (!tie->serial)
		return TIE_NONE;
	conn = bpf_map_lookup_elem(&conn_by_object, &tie->key);
	if (!conn || conn->serial != tie->serial)
		return TIE_ENDED;
	if (conn->state == TLS_HELD)
		return TIE_HELD;
	return conn->state == TLS_DENIED ? TIE_DENIED : TIE_GOOD;
}
