/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* State that user space and the kernel programs share through pinned maps. */
#include <linux/types.h>
#include <abi/label.h>

enum control_flags {
	CONTROL_TELL_EXEC = 1,	    /* report exec and exit */
	CONTROL_TELL_CONNECT = 2,   /* report allowed calls too */
	CONTROL_UNKNOWN_DENY = 4,   /* unknownWorkload: deny */
	CONTROL_GATE = 8,	    /* gate_skb is in place: Drop may be silent, DNS is read */
	CONTROL_BORROW_REFUSE = 16, /* enforcement.borrowing: refuse */
	CONTROL_BORROW_TELL = 32,   /* refuse or audit */
	CONTROL_TAPS = 64,	    /* read_tls may be attached: objects of TLS libraries look for their sockets,
				       and execs are told at once, for what they map may need taps */
	CONTROL_PROTECT_REFUSE = 256, /* protect.access: refuse */
	CONTROL_PROTECT_TELL = 512,   /* refuse or audit */
	CONTROL_FRONT_REFUSE = 1024,  /* enforcement.fronting: deny */
	CONTROL_FRONT_TELL = 2048,    /* deny or audit */
	CONTROL_RELAY_TELL = 4096,    /* enforcement.relaying: audit */
	CONTROL_TELL_QUERY = 8192,    /* visibility.query: with a request */
	CONTROL_TELL_HEADERS = 16384, /* visibility.headers: those of header_names */
	CONTROL_UNITS = 128,	    /* policies select units of the node: tell of new cgroups that may be one */
};

/* The one entry of the controls map; only user space writes it. */
struct control {
	__u64 revision;	   /* tables in force; 0: none yet, nothing is governed */
	__u32 abi;	   /* ABI_VERSION of the agent that made the pins */
	__u32 flags;	   /* enum control_flags */
	__u32 host_mntns;  /* inode of the mount namespace of PID 1 */
	__u32 names_most;  /* addresses, and names, that DNS may tell one container */
	__u64 seed;	   /* of the hashes of names; random, so that nobody can make two collide */
	__u64 ttl_least_ns; /* how long an address is at least known by its name */
};

enum container_flags {
	CONTAINER_JOINED = 1, /* its first process has entered: the next one is a session */
	CONTAINER_UNIT = 2,   /* no container: a unit or cgroup of the node that policies select */
};

/* A container by the id of its cgroup. */
struct container {
	__u32 flags;
	__u32 creator_mntns; /* of the process that made the cgroup: the runtime's, not the workload's */
};

/* What /proc told of a process older than the agent, by its thread group id. */
struct inferred {
	__u64 start_ticks; /* start time in 10 ms since boot, so that a reused pid gets no label */
	struct label label;
};

/* A governed network namespace by its cookie. */
struct netns {
	__u64 container; /* whose pod-level rules judge processes of the node in here */
	__u32 ifindex;	 /* of the veth on the node; 0: no gate */
	__u32 inside;	 /* of its other end, in the namespace; 0: not known */
};

/* A gated veth by its interface index on the node. */
struct gate {
	__u64 netns;
	__u64 told_ns; /* when a foreign packet was last reported */
	__u64 held;    /* foreign packets dropped since, not yet reported */
};

/* The same veth in the slot of its index, if no other has taken it: found without hashing. */
struct gate_slot {
	__u64 netns;
	__u32 ifindex; /* 0: free */
	__u32 pad;
};

/* A flow, seen from the pod. */
struct flow_key {
	__u64 netns;
	__u8 local[16]; /* IPv4-mapped; zero where only the remote end counts: answers of UDP servers,
			   of neighbour discovery */
	__u8 remote[16];
	__u16 local_port; /* host byte order; ICMP: the echo id, on both sides */
	__u16 remote_port;
	__u8 protocol;
	__u8 icmp_type;	 /* ICMP: of the request, also where the packet is its reply */
	__u8 icmp_asked; /* ICMP: 1 when the remote end is the one that asks */
	__u8 pad;
};

enum flow_state {
	FLOW_JUDGED = 0,
	FLOW_PENDING = 1, /* came in and nobody has judged it: only the kernel itself may answer */
	FLOW_DNS = 2,	  /* judged, and rules.dns has a say about each of its packets */
	FLOW_HTTP = 3,	  /* the same of rules.http, about each request */
	FLOW_REFUSED = 4, /* TCP, over: nothing of it passes, and gate_tc ends it at both ends */
};

struct flow {
	__u64 decision; /* revision << 8 | enum verdict; one atomic word */
	__u64 container;
	__u64 session;
	__u64 owner;	/* label.actor of the owner of the socket that it was judged for; 0: of none */
	__u64 packets[2]; /* by enum direction of the packet */
	__u64 bytes[2];
	__u32 direction; /* enum direction: who opened it */
	__u32 state;	 /* enum flow_state */
};

/* Fragments after the first carry no ports: they follow the first one's flow. */
struct frag_key {
	__u64 netns;
	__u8 src[16];
	__u8 dst[16];
	__u32 id;
	__u32 protocol;
};
