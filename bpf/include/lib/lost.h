/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE, for tasks without a label that are in a container all the same: their labels were lost for lack of memory. What they
 * may do nobody can tell any more, and rules for other origins than theirs would not select them, so they may do nothing
 * where any rule is enforced. While no label was ever lost, nobody is looked at: a task without one is the node's, or
 * older than the hooks, which fails open until it is labelled from /proc.
 */
#include <lib/container.h>
#include <lib/judge.h>

/* Whether the calling task, which has no label, is in a container where rules are enforced. Global: verified once. */
__noinline int caller_is_bound(void)
{
	struct control *c = control_get();
	struct ruleset *ruleset;
	__u64 container;

	if (!c || bpf_get_current_pid_tgid() >> 32 == SERVICE_MANAGER)
		return 0;
	container = container_of_caller();
	if (!container)
		return 0;
	switch (ruleset_of(c->revision, container, &ruleset)) {
	case RULESET_FOUND:
		return is_enforced(ruleset);
	case RULESET_UNKNOWN:
		return !!(c->flags & CONTROL_UNKNOWN_DENY);
	default:
		count_error(SITE_TABLES);
		return 1; /* closed */
	}
}

/* What a call of a task without a label gets: 0, or -EPERM where it has lost it. Each denial is counted. */
static __always_inline int lost_errno(void)
{
	__u32 zero = 0;
	__u64 *lost = bpf_map_lookup_elem(&labels_lost, &zero);

	if (!lost || !*lost || !caller_is_bound())
		return 0;
	count_error(SITE_LABEL_STORAGE);
	asm volatile(""); /* a branch, as in borrow_errno() */
	return -ERR_PERM;
}
