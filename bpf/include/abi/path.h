/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <linux/types.h>

enum path_limits {
	PATH_MIDDLE = 1024, /* walks write down from here, names given by the caller up */
	PATH_SIZE = 2048,
	PATH_MASK = PATH_SIZE - 1,
	NAME_MASK = 255, /* NAME_MAX */
};

/* Where a path is put together, see lib/path.h. */
struct path_buffer {
	char text[PATH_SIZE + NAME_MASK + 1];
};
