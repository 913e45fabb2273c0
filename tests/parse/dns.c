// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* dns: the DNS parser of the kernel programs on the host. For each line of standard input, "q HEX" for a query or "a HEX"
 * for an answer, it writes one line: "bad", or
 *
 *	ID FLAGS TYPE CLASS SAME:HEX ADDRESS/TTL…
 *
 * in hexadecimal, where SAME is 1 when the question's name is spelt in lower case and HEX its text in lower case. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <parse/dns.h>

#include "hex.h"

static long dns_address(struct dns_message *m, const __u8 *address, __u32 ttl)
{
	(void)m;
	putchar(' ');
	for (int i = 0; i < 16; i++)
		printf("%02x", address[i]);
	printf("/%x", ttl);
	return 0;
}

static void show(parse_input *input, struct dns_message *m)
{
	struct dns_message lower = *m;

	printf("%x %x %x %x ", m->id, m->flags, m->type, m->class);
	/* The text, spelt as it is, hashes as the question did when it was spelt so. */
	lower.exact = ~m->seed;
	for (const __u8 *c = m->name; *c; c++)
		lower.exact = parse_mix(lower.exact, *c);
	if (m->name[0])
		lower.exact = parse_mix(lower.exact, '.');
	printf("%d:", lower.exact == m->exact);
	for (const __u8 *c = m->name; *c; c++)
		printf("%02x", *c);
	if (m->kind == DNS_ANSWER)
		dns_deliver(input, m);
	putchar('\n');
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	while ((len = getline(&line, &room, stdin)) > 2) {
		size_t n = (len - 3) / 2;
		__u8 *bytes = hex_bytes(line + 2, n);
		parse_input input = {.data = bytes, .len = n};
		struct dns_message m = {.seed = 0x5eed, .end = n, .kind = line[0] == 'a' ? DNS_ANSWER : DNS_QUERY};

		if (dns_question(&input, &m) && dns_rest(&input, &m))
			show(&input, &m);
		else
			puts("bad");
		fflush(stdout);
		free(bytes);
	}
	free(line);
	return 0;
}
