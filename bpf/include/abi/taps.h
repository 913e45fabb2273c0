/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What is known of the TLS connections of libraries. Only the kernel programs write it. */
#include <abi/request.h>

/* An object in the memory of a process: of a TLS library (SSL, gnutls_session_t, sslSocket, tls.Conn), or a goroutine. */
struct tls_key {
	__u64 object; /* its address */
	__u32 tgid;
	__u32 pad;
};

enum tls_state {
	TLS_NEW = 0,	/* it has a handshake before it, and no socket yet */
	TLS_TIED = 1,	/* to a socket: what is written is judged by who its peer is */
	TLS_DENIED = 2, /* a request on it was, or could not be read: nothing more leaves, for what the
			   library holds would be sent with the next write */
	TLS_HELD = 3,	/* to a socket, by a write that began the handshake and was not judged yet: nothing
			   but the ClientHello may leave, see lib/tap_nss.h */
};

/* What is written to a connection, as its first bytes say. */
enum tls_speaks {
	TLS_SPEAKS_NOTHING = 0, /* yet */
	TLS_SPEAKS_HTTP1 = 1,
	TLS_SPEAKS_HTTP2 = 2, /* see lib/tap_h2.h */
};

struct tls_conn {
	__u64 serial; /* of this use of the object, never used twice */
	__u64 ahead;  /* bytes that were judged and that the library has not yet said it took */
	__u64 netns;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port; /* host byte order */
	__u16 remote_port;
	__u32 state; /* enum tls_state */
	__u16 family;	 /* of its socket */
	__u16 direction; /* enum direction: who opened it; ingress: what is written are answers */
	__u32 speaks; /* enum tls_speaks */
	__u64 name_hash; /* of the name by which its socket was allowed */
	__u64 name_serial; /* 0: by none */
	__u8 served; /* 1: the gate lets it pass by the name that it asks for */
	__u8 holds; /* 1: a write waits for its handshake, which gives it a socket: TLS_HELD */
	__u16 verdict; /* enum verdict, of the request that denied it; 0: it could not be read */
	__u32 asked;  /* of that name, see front_mark() in lib/front.h; 0: the gate has not read it */
	__u64 socket; /* its cookie */
	struct request request;
};

/* In the storage of a socket: the object whose records it carries. */
struct tls_tie {
	struct tls_key key;
	__u64 serial; /* of the object; 0: something was sent after its end, by no object */
};

/* What a thread does with a TLS library. */
struct tls_thread {
	__u64 object;	  /* the one it used last */
	__u64 writing;	  /* the one it is writing to; 0: none */
	__u64 written_at; /* where the library leaves in its memory how much it took; 0: it returns that */
	__u64 held_at;	  /* the bytes of the write that waits for a socket, in memory */
	__u64 held;	  /* how many; 0: none waits */
};
