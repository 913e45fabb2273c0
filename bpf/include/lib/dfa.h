/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Walks a DFA of policy/compile/dfa over a path. Cells at base: 256 classes, then rows of classes
 * next-row offsets and one accept index. User space wrote the offsets; the mask keeps a walk inside
 * its page whatever they say.
 */
#include <bpf/bpf_helpers.h>
#include <lib/tables.h>

enum dfa_limits {
	CELL_MASK = PAGE_CELLS - 1,
	CLASS_CELLS = 256,
	TEXT_MASK = EXE_LEN - 1,
	STEP_BYTES = 8, /* of one call of dfa_step */
};

struct dfa_walk {
	struct dfa_page *page;
	const __u8 *text; /* EXE_LEN bytes, NUL-terminated */
	__u32 base;
	__u32 row;
};

static long dfa_step(__u32 index, void *data)
{
	struct dfa_walk *walk = data;
	struct dfa_page *page = walk->page;
	const __u8 *text = walk->text;
	__u32 base = walk->base, row = walk->row;
	long ended = 0;
	int i;

	for (i = 0; i < STEP_BYTES; i++) {
		__u8 c = text[(index * STEP_BYTES + i) & TEXT_MASK];
		__u32 class;

		if (!c) {
			ended = 1;
			break;
		}
		class = page->cell[(base + c) & CELL_MASK];
		row = page->cell[(base + CLASS_CELLS + row + class) & CELL_MASK];
	}
	walk->row = row;
	return ended;
}

/* What the ruleset's DFA accepts of text, or NULL: nothing, or broken tables. */
static __always_inline struct bits *dfa_accept(__u64 revision, struct ruleset *ruleset,
					       const __u8 *text)
{
	void *pages = table(&dfa_pages, revision);
	void *accepts = table(&dfa_accepts, revision);
	struct dfa_walk walk = {.text = text};
	__u32 page = ruleset->exe.page;
	__u32 classes = ruleset->exe.classes;
	__u32 index;

	if (!classes || !pages || !accepts)
		return 0;
	walk.page = bpf_map_lookup_elem(pages, &page);
	if (!walk.page)
		return 0;
	walk.base = ruleset->exe.base;
	bpf_loop(EXE_LEN / STEP_BYTES, dfa_step, &walk, 0);
	index = walk.page->cell[(walk.base + CLASS_CELLS + walk.row + classes) & CELL_MASK];
	return index ? bpf_map_lookup_elem(accepts, &index) : 0;
}
