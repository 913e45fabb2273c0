/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Walks a DFA of policy/compile/dfa over a path or a name. Cells at base: 256 classes, then rows of classes
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
	const __u8 *text; /* EXE_LEN bytes (NAME_LEN is as much), NUL-terminated */
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

/* The page that a DFA is in; NULL: there is no DFA, or broken tables. */
static __always_inline struct dfa_page *dfa_page(__u64 revision, const struct dfa_ref *ref)
{
	void *pages = table(&dfa_pages, revision);
	__u32 page = ref->page;

	return ref->classes && pages ? bpf_map_lookup_elem(pages, &page) : 0;
}

/* The row that text leads to from another (0: the start). page: of dfa_page(). */
static __always_inline __u32 dfa_row(struct dfa_page *page, const struct dfa_ref *ref, const __u8 *text,
				     __u32 row)
{
	struct dfa_walk walk = {.page = page, .text = text, .row = row, .base = ref->base};

	if (!page)
		return 0;
	bpf_loop(EXE_LEN / STEP_BYTES, dfa_step, &walk, 0);
	return walk.row;
}

/* The number of what a DFA accepts in a row; 0: nothing, or broken tables. */
static __always_inline __u32 dfa_index_at(const struct dfa_page *page, const struct dfa_ref *ref, __u32 row)
{
	return page ? page->cell[(ref->base + CLASS_CELLS + row + ref->classes) & CELL_MASK] : 0;
}

/* The number of what a DFA accepts of text; 0: nothing, or broken tables. */
static __always_inline __u32 dfa_index(__u64 revision, const struct dfa_ref *ref, const __u8 *text)
{
	struct dfa_page *page = dfa_page(revision, ref);

	return dfa_index_at(page, ref, dfa_row(page, ref, text, 0));
}

/* The rules behind such a number (0: none); NULL: broken tables. */
static __always_inline struct bits *dfa_bits(__u64 revision, __u32 index)
{
	void *accepts = table(&dfa_accepts, revision);

	return accepts ? bpf_map_lookup_elem(accepts, &index) : 0;
}

/* What a DFA accepts of text; NULL: broken tables. */
static __always_inline struct bits *dfa_accept(__u64 revision, const struct dfa_ref *ref,
					       const __u8 *text)
{
	return dfa_bits(revision, dfa_index(revision, ref, text));
}
