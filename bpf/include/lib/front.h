/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ, domain fronting: who asks a server for another site than the connection was made for. The site that is asked for
 * (the Host of a request, the server name of a ClientHello) is compared with the server name of the connection where that
 * was read, else with the names that DNS has told the container for the address. Where neither is known nothing is said
 * (open: what rules allow is judged without this).
 *
 * The beginning of a name up to a dot is the name too: programs say Host: web where the resolver's search list asked for
 * web.shop.svc.cluster.local. An address is no other site.
 */
#include <lib/request_room.h>

enum front_limits {
	FRONT_TEXT = 256, /* bytes of a site that are compared; one that is longer is no name's */
	FRONT_SEVERITY = 1, /* at least: probes/event.SeverityWarning */
};

/* Walking over a site, and along a name. */
struct front {
	const __u8 *text;
	const __u8 *name;
	__u64 hash; /* of the site, in lower case */
	__u32 len;
	__u32 end;	/* of the site in text, without port and last dot */
	__u32 is_name;	/* 1: it is no address */
	__u32 same;
};

static __always_inline __u32 front_lower(__u8 c)
{
	return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* The byte of the site at a place; 0 behind its end. */
static __always_inline __u32 front_byte(const struct front *f, __u32 at)
{
	return at < f->len && at < FRONT_TEXT ? front_lower(f->text[at & (FRONT_TEXT - 1)]) : 0;
}

static long front_scan(__u32 index, void *data)
{
	struct front *f = data;
	__u32 c = front_byte(f, index), next = front_byte(f, index + 1);

	if (!c || c == ':' || c == '[' || (c == '.' && (!next || next == ':')))
		return 1; /* what begins with [ is an address of IPv6 */
	f->end = index + 1;
	if (c != '.' && (c < '0' || c > '9'))
		f->is_name = 1;
	f->hash = parse_mix(f->hash, c);
	return 0;
}

/* Finds where a site ends in text, and its hash; 0 in f->is_name: it is no name. */
static __always_inline void front_site(struct front *f, const __u8 *text, __u32 len)
{
	struct control *c = control_get();

	f->text = text;
	f->len = len;
	f->hash = c ? c->seed : 0;
	f->end = f->is_name = 0;
	bpf_loop(FRONT_TEXT, front_scan, f, 0);
}

/* A hash as it is kept with a connection; never 0. Nobody can find another site with the same: it goes by the seed. */
static __always_inline __u32 front_mark(const struct front *f)
{
	return f->is_name ? (__u32)(f->hash >> 32) | 1 : 0;
}

static long front_match(__u32 index, void *data)
{
	struct front *f = data;
	__u32 c = index < f->end ? front_byte(f, index) : 0, n = f->name[index & (NAME_LEN - 1)];

	if (c)
		return c != n;
	f->same = !n || n == '.';
	return 1;
}

/* Whether the site is a name that DNS has told. *known is set where there still is one. */
static __always_inline int front_is_told(struct front *f, __u64 container, const struct told_way *way, int *known)
{
	struct name_key key = {.container = container, .hash = way->hash};
	struct name *name = way->serial ? bpf_map_lookup_elem(&name_by_hash, &key) : 0;

	if (!name || name->serial != way->serial)
		return 0;
	*known = 1;
	f->name = name->text;
	f->same = 0;
	bpf_loop(NAME_LEN, front_match, f, 0);
	return f->same;
}

/* Whether what is said in the room asks for another site than the connection is for. */
static __always_inline int front_is_other(struct request_room *room, __u64 container)
{
	struct told_key key = {.container = container};
	struct front f = {};
	struct told *told;
	int i, known = 0;

	front_site(&f, room->said.text[REQUEST_ROW_HOST], room->said.len[REQUEST_ROW_HOST]);
	if (!f.is_name)
		return 0;
	if (room->asked)
		return front_mark(&f) != room->asked;
	__builtin_memcpy(key.addr, room->query.addr, sizeof(key.addr));
	told = bpf_map_lookup_elem(&names_by_addr, &key);
	if (!told)
		return 0;
	/* Those that have expired count too: connections live longer. */
	for (i = 0; i < NAME_WAYS; i++)
		if (front_is_told(&f, container, &told->way[i], &known))
			return 0;
	return known;
}

/*
 * Judges what passed: whether it asks for another site. Returns the verdict; the answer is in the room. What no enforced
 * rule allowed is audited, whatever the configuration says. Global: its stack is its own.
 */
__noinline int front_judge(struct request_room *room, struct label *owner)
{
	struct answer *answer;

	if (!room || !owner)
		return VERDICT_DENY;
	answer = &room->answer;
	if (!front_is_other(room, owner->container))
		return VERDICT_ALLOW;
	answer->verdict = room->flags & CONTROL_FRONT_REFUSE && answer->reason == REASON_RULE ? VERDICT_DENY : VERDICT_AUDIT;
	answer->would = VERDICT_DENY;
	answer->reason = REASON_FRONTED;
	if (answer->severity < FRONT_SEVERITY)
		answer->severity = FRONT_SEVERITY;
	return answer->verdict;
}

/* The verdict on what was said in a room, which may be that it asks for another site. */
static __always_inline __u32 front_verdict(struct request_room *room, struct label *owner, __u32 verdict)
{
	if (verdict != VERDICT_ALLOW || room->query.direction != DIR_EGRESS || !(room->flags & CONTROL_FRONT_TELL))
		return verdict;
	return front_judge(room, owner);
}
