/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/* The header of TCP (RFC 9293, 3.1). */
enum tcp_flags {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_PSH = 8,
	TCP_ACK = 16,
	TCP_URG = 32,
};

enum tcp_header {
	TCP_SEQ = 4, /* offsets */
	TCP_ACK_SEQ = 8,
	TCP_DATA_OFFSET = 12,
	TCP_FLAGS = 13,
	TCP_LEN = 20, /* without options */
};
