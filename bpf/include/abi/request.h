/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What is kept of a connection whose requests are judged. */
#include <abi/http1.h>

enum request_limits {
	REQUEST_ROOMS = 4, /* read in by one processor at a time, by programs that interrupt each other */
};

enum request_rows {
	REQUEST_ROW_METHOD = 0,
	REQUEST_ROW_PATH = 1,
	REQUEST_ROW_HOST = 2,
	REQUEST_ROW_LINE = 3,
	REQUEST_ROWS = 4,
};

/* A request being read and where the automata are in its parts. At first zeroes, and http1_begin(). */
struct request {
	struct http1 parser;
	__u64 revision; /* of the tables that the rows are of */
	__u64 met;	/* demands that its headers meet */
	__u64 seen;	/* demanded headers that were there */
	__u16 row[REQUEST_ROWS];
};
