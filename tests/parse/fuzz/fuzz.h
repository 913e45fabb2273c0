/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the harnesses for libFuzzer share: a parser's whole report as one number, which must not depend on how its bytes were
 * cut. The oracles are elsewhere (tests/parse): they run what is found here and kept (testdata/corpus).
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

/* Adds a number to a digest. */
static inline __u64 digest_add(__u64 digest, __u64 n)
{
	digest = (digest ^ n) * 0x9e3779b97f4a7c15ULL;
	return digest ^ digest >> 29;
}

/* The size of the pieces in which an input is read the second time: 1 to 37. */
static inline size_t piece_of(const __u8 *bytes, size_t n)
{
	return 1 + bytes[n / 2] % 37;
}

/* Ends the program where two readings of the same bytes differ. */
static inline void must_agree(__u64 whole, __u64 pieces)
{
	if (whole != pieces)
		abort();
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t n);
