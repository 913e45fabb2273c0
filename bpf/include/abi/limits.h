/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/* Sizes that the compiler of policies and the kernel programs must agree on. */
enum limits {
	ABI_VERSION = 11,    /* raised when a pinned map changes its meaning */
	RULE_WORDS = 8,	     /* compile.Words */
	RULE_MAX = 512,	     /* compile.MaxRules */
	EXE_LEN = 256,	     /* longer paths are LABEL_TRUNCATED */
	SCRIPT_LEN = 256,    /* the same for scripts */
	PAGE_CELLS = 32768,  /* compile.PageCells */
	ARGS_LEN = 256,	     /* bytes of argv in an exec event */
	CGROUP_PATH_LEN = 256,
	PARENT_LEN = 64,     /* longest path of a container parent */
	CGROUP_DEPTH = 12,   /* how far above a task's cgroup a container is looked for */
	GATE_SLOTS = 4096,   /* slots of gate_slots, a power of two */
	SLOTS = 2,	     /* tables are double-buffered: slot = revision & 1 */
};
