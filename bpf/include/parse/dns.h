/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * DNS queries and answers (RFC 1035, 6891), from hostile bytes. One question, nothing behind the last
 * record. Whatever is not so is malformed, whole: nothing of a message counts before all of it has
 * been read.
 *
 * An address of an answer counts when its owner is the name that was asked for, or is reached from it
 * by CNAMEs of the same answer, in whatever order they come. Names are compared by hash in lower
 * case, whose start the caller gives and keeps secret; names that a decision is about are also there
 * as text.
 */
#include <parse/dns_name.h>

/* Defined by who includes this: what is done with an address. Returns 1 to stop. */
static long dns_address(struct dns_message *m, const __u8 *address, __u32 ttl);

/* The header and the question. Returns 0 when they are malformed. */
PARSE_GLOBAL int dns_question(parse_input *input, struct dns_message *m)
{
	__u8 head[DNS_HEADER], tail[4];
	int pos, i;

	if (!m)
		return 0;
	m->bad = 1;
	m->budget = DNS_BUDGET;
	m->found = m->cnames = 0;
	for (i = 0; i < DNS_NAME / 8; i++)
		((__u64 *)m->name)[i] = 0;
	if (dns_load(input, m, m->begin, head, sizeof(head)))
		return 0;
	m->id = dns_be16(head);
	m->flags = dns_be16(head + 2);
	m->answers = dns_be16(head + 6);
	m->left = dns_be16(head + 8) + dns_be16(head + 10);
	if (m->left > DNS_RECORDS)
		return 0;
	m->others = m->left;
	if (dns_be16(head + 4) != 1 || m->flags & DNS_OPCODE)
		return 0;
	if (m->kind == DNS_ANSWER) {
		if (!(m->flags & DNS_RESPONSE))
			return 0;
	} else if (m->flags & DNS_RESPONSE || m->answers || dns_be16(head + 8)) {
		return 0;
	}
	pos = dns_name(input, m, m->begin + DNS_HEADER, 1);
	if (!pos || dns_load(input, m, pos, tail, sizeof(tail)))
		return 0;
	m->type = dns_be16(tail);
	m->class = dns_be16(tail + 2);
	m->pos = m->question = pos + 4;
	m->bad = 0;
	return 1;
}

/* What all steps over records share. */
struct dns_records {
	parse_input *input;
	struct dns_message *m;
	__u32 answers; /* 1: the records are answers */
	__u32 deliver; /* 1: the addresses among them are what is wanted */
};

/* Notes a CNAME whose owner was walked last; its target is at data. Returns 1: malformed. */
static __always_inline long dns_alias(struct dns_records *r, __u32 data, __u32 len, __u32 ttl)
{
	struct dns_message *m = r->m;
	__u64 owner = m->walked;
	struct dns_cname *cname;

	if (m->cnames >= DNS_CNAMES || dns_name(r->input, m, data, 0) != (int)(data + len))
		return 1;
	cname = &m->cname[m->cnames & (DNS_CNAMES - 1)];
	cname->owner = owner;
	cname->target = m->walked;
	cname->ttl = ttl;
	cname->reached = 0;
	m->cnames++;
	return 0;
}

/* Whether the name walked last is the one asked for or reached from it; *ttl becomes the chain's. */
static __always_inline int dns_is_reached(const struct dns_message *m, __u64 name, __u32 *ttl)
{
	int i, reached = name == m->hash;

	for (i = 0; i < DNS_CNAMES; i++) {
		const struct dns_cname *cname = &m->cname[i];

		if ((__u32)i >= m->cnames || reached)
			break;
		if (!cname->reached || cname->target != name)
			continue;
		reached = 1;
		if (cname->ttl < *ttl)
			*ttl = cname->ttl;
	}
	return reached;
}

/* One record: read and checked, and with deliver its address handed on. Returns 1 at the end. */
static long dns_record(__u32 index, void *data)
{
	struct dns_records *r = data;
	struct dns_message *m = r->m;
	__u8 head[10], address[16] = {};
	__u32 at, len, ttl;
	__u16 type;

	if (!m->left)
		return 1;
	at = dns_name(r->input, m, m->pos, 0);
	if (!at || dns_load(r->input, m, at, head, sizeof(head)))
		goto bad;
	at += sizeof(head);
	type = dns_be16(head);
	ttl = dns_be32(head + 4);
	len = dns_be16(head + 8);
	if (ttl >> 31)
		ttl = 0; /* RFC 2181 */
	if (ttl > DNS_TTL_MAX)
		ttl = DNS_TTL_MAX;
	if (at > m->end || len > m->end - at)
		goto bad;
	m->left--;
	m->pos = at + len;
	if (!r->answers || dns_be16(head + 2) != DNS_IN)
		return 0;
	if (type == DNS_CNAME) {
		if (r->deliver || !dns_alias(r, at, len, ttl))
			return 0;
		goto bad;
	}
	if (type != DNS_A && type != DNS_AAAA)
		return 0;
	if (type == DNS_A ? len != 4 : len != 16)
		goto bad;
	if (!r->deliver || !dns_is_reached(m, m->walked, &ttl))
		return 0;
	if (type == DNS_A) {
		address[10] = address[11] = 0xff; /* IPv4-mapped */
		if (dns_load(r->input, m, at, address + 12, 4))
			goto bad;
	} else if (dns_load(r->input, m, at, address, sizeof(address))) {
		goto bad;
	}
	m->found++;
	if (!dns_address(m, address, ttl))
		return 0;
bad:
	m->bad = 1;
	return 1;
}

/* Marks the CNAMEs that lead on from what was asked for: as many rounds as there are CNAMEs. */
static long dns_chain(__u32 index, void *data)
{
	struct dns_message *m = *(struct dns_message **)data;
	struct dns_cname *cname = &m->cname[index & (DNS_CNAMES - 1)];

	if ((index & (DNS_CNAMES - 1)) >= m->cnames || cname->reached)
		return 0;
	if (dns_is_reached(m, cname->owner, &cname->ttl))
		cname->reached = 1;
	return 0;
}

/* Walks the records of one section, from m->pos on. */
static __always_inline void dns_section(parse_input *input, struct dns_message *m, __u32 count,
					__u32 answers, __u32 deliver)
{
	struct dns_records r = {.input = input, .m = m, .answers = answers, .deliver = deliver};

	m->left = count;
	parse_loop(DNS_RECORDS, dns_record, &r);
	if (m->left)
		m->bad = 1;
}

/* Reads all records behind a question that was read. Returns 0 when they are malformed. */
PARSE_GLOBAL int dns_rest(parse_input *input, struct dns_message *m)
{
	if (!m || m->bad)
		return 0;
	m->pos = m->question;
	dns_section(input, m, m->answers, 1, 0);
	if (!m->bad)
		dns_section(input, m, m->others, 0, 0);
	if (m->pos != m->end)
		m->bad = 1;
	if (m->bad)
		return 0;
	parse_loop(m->cnames * DNS_CNAMES, dns_chain, &m);
	return 1;
}

/* Hands every address that counts to dns_address(), after dns_rest(). Returns 0 if that stopped it. */
PARSE_GLOBAL int dns_deliver(parse_input *input, struct dns_message *m)
{
	if (!m || m->bad)
		return 0;
	m->pos = m->question;
	dns_section(input, m, m->answers, 1, 1);
	return !m->bad;
}
