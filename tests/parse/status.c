// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* status: the parser of status lines of the kernel programs on the host. For each line of standard input, in hexadecimal, it
 * writes "more" (cut), "bad", "interim CODE" or "done CODE". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <parse/input.h>
#include <parse/status.h>

#include "hex.h"

int main(void)
{
	static const char *names[] = {"more", "done", "interim", "bad"};
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	while ((len = getline(&line, &room, stdin)) > 0) {
		size_t n = (len - 1) / 2;
		__u8 *bytes = hex_bytes(line, n);
		struct response r = {0};
		int event = STATUS_MORE;

		for (size_t i = 0; i < n && event == STATUS_MORE; i++)
			event = status_byte(&r, bytes[i]);
		if (event == STATUS_DONE || event == STATUS_INTERIM)
			printf("%s %d\n", names[event], r.code);
		else
			puts(names[event]);
		fflush(stdout);
		free(bytes);
	}
	free(line);
	return 0;
}
