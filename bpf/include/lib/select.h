/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE, who: the rules that select a process, by what its label says. As who() of policy/compile. Global
 * functions: the verifier looks at them once and not at every call.
 */
#include <lib/dfa.h>
#include <lib/label.h>
#include <lib/tables.h>

/* What the patterns of a ruleset say of the file and the script of a process; NULL: nothing. */
struct path_rules {
	struct bits *exe;
	struct bits *script; /* of the same patterns */
	struct bits *interpreters;
	struct bits *scripts;
};

/* The rules whose binaries and scripts a process is one of. cut: its path is not known. */
static __always_inline __u64 path_word(const struct ruleset *ruleset, const struct path_rules *rules,
				       int cut, int i)
{
	__u64 binary = ruleset->any_binary.word[i], script = ruleset->any_script.word[i];

	/* A path that was cut is not known: closed, it matches what denies and nothing that allows. */
	if (cut)
		return (binary & script) | ruleset->truncated.word[i];
	if (rules->exe)
		binary |= rules->exe->word[i];
	if (rules->script)
		binary |= rules->script->word[i];
	if (rules->interpreters && rules->scripts)
		script |= rules->interpreters->word[i] & rules->scripts->word[i];
	else if (rules->interpreters) /* which script is not known: closed, as above */
		script |= rules->interpreters->word[i] & ruleset->truncated.word[i];
	return binary & script;
}

/* The rules that select a process by its origin and by what it executes, into who. */
__noinline int select_program(struct ruleset *ruleset, struct label *label, __u64 revision,
			      struct bits *who)
{
	struct path_rules rules = {};
	__u32 origin;
	int cut, i;

	if (!ruleset || !label || !who)
		return 0;
	origin = label->origin;
	if (origin >= ORIGIN_COUNT)
		origin = ORIGIN_UNKNOWN;
	cut = label->flags & LABEL_TRUNCATED;
	rules.exe = dfa_accept(revision, &ruleset->exe, label->exe);
	if (label->script[0]) {
		rules.script = dfa_accept(revision, &ruleset->exe, label->script);
		if (!(label->flags & LABEL_SCRIPTLESS))
			rules.scripts = dfa_accept(revision, &ruleset->scripts, label->script);
	}
	if (label->script[0] || label->flags & LABEL_SCRIPTLESS)
		rules.interpreters = dfa_accept(revision, &ruleset->interpreters, label->exe);
	for (i = 0; i < RULE_WORDS; i++)
		who->word[i] = ruleset->origins[origin].word[i] & path_word(ruleset, &rules, cut, i);
	return 0;
}

/* An id as the container calls it; ID_NONE: it has no name there, or the names are not known. */
static __always_inline __u32 id_inside(const struct label *label, __u32 kind, __u32 id)
{
	__u64 container = label->container;
	struct id_map *map;
	int i;

	if (!(label->flags & LABEL_MAPPED))
		return id;
	map = bpf_map_lookup_elem(&ids_by_container, &container);
	if (!map)
		return ID_NONE;
	for (i = 0; i < ID_EXTENTS; i++) {
		struct id_extent *extent = &map->extent[(kind & 1) * ID_EXTENTS + i];

		if (id - extent->lower < extent->count)
			return extent->first + (id - extent->lower);
	}
	return ID_NONE;
}

/* What the steps over the ids of one kind share. */
struct id_walk {
	struct ruleset *ruleset;
	struct label *label;
	struct bits *who;
	struct bits *anyone; /* ruleset.any_id of the kind */
	__u32 *ids;	     /* label.ids of the kind */
	void *table;	  /* rules_by_id of the revision; NULL: broken tables */
	__u32 kind;	  /* enum id_kinds */
	__u32 unknown;	  /* 1: one of the ids is not known */
	struct bits some; /* the rules that name one of the ids */
};

/* The rules that name an id of the walk, with those that name none. */
static __always_inline struct bits *id_rules(struct id_walk *walk, __u32 id)
{
	struct id_key key = {.kind = walk->kind & 1};
	struct bits *bits;

	key.ruleset = walk->ruleset->id;
	key.id = id_inside(walk->label, key.kind, id);
	if (key.id == ID_NONE || !walk->table) {
		walk->unknown = 1;
		return walk->anyone;
	}
	bits = bpf_map_lookup_elem(walk->table, &key);
	return bits ? bits : walk->anyone;
}

/* The index-th id: first the three that a process acts under, which all must be named, then supplementary groups. */
static long id_step(__u32 index, void *data)
{
	struct id_walk *walk = data;
	struct bits *bits;
	__u32 id;
	int i;

	if (index < ID_COUNT) {
		id = walk->ids[index];
		if (index && id == walk->ids[ID_REAL])
			return 0; /* most often they are one */
	} else {
		id = walk->label->groups[(index - ID_COUNT) & (ID_GROUPS - 1)];
	}
	bits = id_rules(walk, id);
	for (i = 0; i < RULE_WORDS; i++) {
		walk->some.word[i] |= bits->word[i];
		if (index < ID_COUNT)
			walk->who->word[i] &= bits->word[i] | walk->ruleset->any_of.word[i];
	}
	return 0;
}

/*
 * Takes the rules out of who that name other users or groups. To a rule that denies, and to one that governs,
 * one of the ids is enough; to one that allows, all that a process acts under must be named: what a process can
 * switch to gains nothing. An id that is not known is all that denies and nothing that allows: closed.
 */
__noinline int select_ids(struct ruleset *ruleset, struct label *label, __u64 revision,
			  struct bits *who, __u32 kind)
{
	struct id_walk walk = {.ruleset = ruleset, .label = label, .who = who, .kind = kind & 1};
	__u32 steps = ID_COUNT;
	int i;

	if (!ruleset || !label || !who)
		return 0;
	walk.table = table(&rules_by_id, revision);
	walk.anyone = &ruleset->any_id[ID_USER];
	walk.ids = label->ids[ID_USER];
	if (walk.kind == ID_GROUP) {
		walk.anyone = &ruleset->any_id[ID_GROUP];
		walk.ids = label->ids[ID_GROUP];
		if (label->group_count > ID_GROUPS)
			walk.unknown = 1;
		steps += label->group_count > ID_GROUPS ? ID_GROUPS : label->group_count;
	}
	bpf_loop(steps, id_step, &walk, 0);
	if (walk.unknown)
		return 0;
	for (i = 0; i < RULE_WORDS; i++)
		who->word[i] &= walk.some.word[i] | ~ruleset->any_of.word[i];
	return 0;
}
