// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* The parser of DNS messages for libFuzzer: an input is a message, an answer or a query as it says itself. */
#include <parse/dns.h>

#include "fuzz.h"

static __u64 digest;

static long dns_address(struct dns_message *m, const __u8 *address, __u32 ttl)
{
	(void)m;
	for (int i = 0; i < 16; i++)
		digest = digest_add(digest, address[i]);
	digest = digest_add(digest, ttl);
	return 0;
}

/* Reads a message with room for bytes behind it. Returns what was read, 0 for nothing. */
static __u64 read_message(const __u8 *bytes, __u32 n, __u32 len)
{
	parse_input input = {.data = bytes, .len = len};
	struct dns_message m = {.seed = 0x5eed, .end = n, .kind = n > 2 && bytes[2] & 0x80 ? DNS_ANSWER : DNS_QUERY};

	digest = 1;
	if (!dns_question(&input, &m) || !dns_rest(&input, &m))
		return 0;
	if (!memchr(m.name, 0, sizeof(m.name)))
		abort();
	for (const __u8 *c = m.name; *c; c++)
		digest = digest_add(digest, *c);
	digest = digest_add(digest, m.exact);
	if (m.kind == DNS_ANSWER && !dns_deliver(&input, &m))
		abort(); /* dns_rest() has read it all */
	return digest;
}

/* Once more with bytes behind it that are not the message's, as a packet has: they must make no difference. */
int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t n)
{
	static __u8 longer[1 << 16];
	__u64 alone;

	if (n > sizeof(longer) - 64)
		return 0;
	alone = read_message(bytes, n, n);
	memcpy(longer, bytes, n);
	memset(longer + n, 0xc0, 64);
	must_agree(alone, read_message(longer, n, n + 64));
	return 0;
}
