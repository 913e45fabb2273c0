/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* Frames of HTTP/2 (RFC 9113, 4 and 6), as far as anybody here reads them. */

enum h2_limits {
	H2_PREFACE = 24,
	H2_FRAME = 9, /* bytes of a frame's header */
	H2_PRIORITY = 5,
	H2_PROMISED = 4,
	H2_SETTING = 6, /* bytes of one */
	H2_PING_SIZE = 8,
	H2_WINDOW_SIZE = 4,
};

enum h2_type {
	H2_DATA = 0,
	H2_HEADERS = 1,
	H2_SETTINGS = 4,
	H2_PUSH_PROMISE = 5,
	H2_PING = 6,
	H2_WINDOW_UPDATE = 8,
	H2_CONTINUATION = 9,
};

enum h2_flags {
	H2_END_STREAM = 0x01,
	H2_END_HEADERS = 0x04,
	H2_PADDED = 0x08,
	H2_HAS_PRIORITY = 0x20,
};
