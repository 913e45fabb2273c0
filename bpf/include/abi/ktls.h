/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* The TLS of the kernel (kTLS): what a process asks of it by setsockopt(2). */
#include <linux/types.h>

/* As in probes/event. */
enum ktls_part {
	KTLS_NONE = 0,
	KTLS_ULP = 1, /* TCP_ULP: the socket gets an upper layer protocol; no keys yet */
	KTLS_TX = 2,  /* SOL_TLS, TLS_TX: keys for what is sent */
	KTLS_RX = 3,  /* SOL_TLS, TLS_RX: keys for what is received */
};

/* The beginning of struct tls_crypto_info, and all of it that is ever read: keys follow. */
struct ktls_suite {
	__u16 version; /* as TLS itself counts: 0x0303 is 1.2, 0x0304 is 1.3; 0: not known */
	__u16 cipher;  /* TLS_CIPHER_* of linux/tls.h; 0: not known */
};
