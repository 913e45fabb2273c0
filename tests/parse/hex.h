/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What the tests give the parsers: bytes in lower-case hexadecimal. */
#include <stdlib.h>

#include <linux/types.h>

static __u8 hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/*
 * The n bytes that hex begins with, for free(): of exactly their size, so that the sanitizers see every byte read behind
 * them. Ends the program where there is no memory.
 */
static __u8 *hex_bytes(const char *hex, size_t n)
{
	__u8 *bytes = malloc(n ? n : 1);

	if (!bytes)
		exit(125);
	for (size_t i = 0; i < n; i++)
		bytes[i] = hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]);
	return bytes;
}
