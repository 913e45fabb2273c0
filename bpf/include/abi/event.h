/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Records of the ring buffers. Each begins with struct ev_header; the decoder checks version and
 * length. Text is raw bytes of the workload, NUL-padded, and may lack a terminator.
 */
#include <linux/types.h>
#include <abi/ktls.h>
#include <abi/limits.h>
#include <abi/request.h>

/* As in probes/event. */
enum ev_kind {
	EV_KIND_EXEC = 1,
	EV_KIND_EXIT = 2,
	EV_KIND_SESSION_START = 3,
	EV_KIND_SESSION_END = 4,
	EV_KIND_CONNECT = 5,
	EV_KIND_LISTEN = 6,
	EV_KIND_SOCKET = 7,
	EV_KIND_FLOW = 8,
	EV_KIND_FOREIGN = 9,
	EV_KIND_CGROUP = 10,
	EV_KIND_BORROW = 12, /* 11, 13, 15 and 21 are made in user space only */
	EV_KIND_DNS = 14,
	EV_KIND_REQUEST = 16,
	EV_KIND_TAMPER = 17, /* made in user space too */
	EV_KIND_HELLO = 18, /* a struct ev_request whose host is the name that a TLS client asks for */
	EV_KIND_KTLS = 19,
	EV_KIND_RESPONSE = 20,
};

enum call {
	CALL_NONE = 0,
	CALL_CONNECT = 1,
	CALL_SENDMSG = 2,
	CALL_BIND = 3,
	CALL_LISTEN = 4,
	CALL_ACCEPT = 5,
	CALL_SOCKET = 6,
	CALL_PACKET_OUT = 7,
	CALL_PACKET_IN = 8,
	CALL_TRACE = 9,
	CALL_RECEIVE = 10,
	CALL_SIGNAL = 11,
	CALL_LIMIT = 12,
	CALL_BPF = 13,
	CALL_OPTION = 14, /* made in user space only, of every KTLS */
	CALL_LOCAL = 15,  /* of a BORROW: a unix socket that another label's holder serves */
};

enum step {
	STEP_NONE = 0,
	STEP_LSM = 1,
	STEP_MODRET = 2,
	STEP_CGROUP = 3,
	STEP_REPORT = 4,
	STEP_GATE = 5,
	STEP_TAP = 6,
};

enum reason {
	REASON_NONE = 0,
	REASON_RULE = 1,
	REASON_DEFAULT = 2,
	REASON_UNGOVERNED = 3,
	REASON_LOOPBACK = 4,
	REASON_UNKNOWN = 5,
	REASON_FOREIGN = 6,
	REASON_MALFORMED = 7,
	REASON_MPTCP = 8,
	REASON_BORROW = 9,
	REASON_DNS_STREAM = 10, /* DNS that cannot be read: by its protocol, or what came before it, or its length */
	REASON_UNASKED = 11,   /* an answer to no query */
	REASON_NAMES_FULL = 12, /* DNS told more addresses than are remembered */
	REASON_AMBIGUOUS = 13, /* no request, or one that two programs could read in two ways: enum flaw */
	REASON_OPAQUE = 14, /* where rules.http governs, something that nobody reads */
	REASON_PROTECTED = 15, /* made in user space only, of every TAMPER */
	REASON_FRONTED = 16, /* another site is asked for than the connection was made for */
};

/* Where an error or a loss was counted. */
enum site {
	SITE_ALERT_RING = 0, /* lost: no room in alerts */
	SITE_FLOW_RING = 1,  /* lost: no room in flows */
	SITE_LABEL_STORAGE = 2,
	SITE_SOCK_STORAGE = 3,
	SITE_FLOW_MAP = 4,
	SITE_CONTAINER_MAP = 5,
	SITE_TABLES = 6, /* tables of the revision in force are missing */
	SITE_ARGS = 7,	 /* argv could not be read */
	SITE_PATH = 8,	 /* path could not be read */
	SITE_PENDING = 9, /* fmod_ret found no judgement: denied */
	SITE_NAMES = 10,  /* an address was not remembered by its name: no room, or memory */
	SITE_DNS_BUSY = 11, /* a query or answer was dropped because others were being read */
	SITE_TAP_BUSY = 12,  /* a write to a TLS library was denied because others were being read */
	SITE_READ_BUSY = 13, /* a segment was dropped because others were being read */
	SITE_COUNT = 14,
};

struct ev_header {
	__u64 ktime_ns; /* CLOCK_BOOTTIME */
	__u16 version;	/* ABI_VERSION */
	__u16 kind;	/* enum ev_kind */
	__u32 len;	/* of the whole record */
};

/* A process without the texts of its label. */
struct ev_task {
	__u64 container;
	__u64 session;
	__u64 exec;
	__u32 tgid;
	__u32 tid;
	__u32 uid;
	__u32 flags; /* enum label_flags */
	__u32 origin;
	__u32 pad;
	__u8 comm[16];
};

struct ev_subject {
	struct ev_task task;
	__u8 exe[EXE_LEN];
	__u8 script[SCRIPT_LEN];
};

/* EXEC, SESSION_START */
struct ev_exec {
	struct ev_header header;
	struct ev_subject subject;
	__u32 args_len;
	__u32 pad;
	__u8 args[ARGS_LEN]; /* NUL-separated */
};

/* EXIT, SESSION_END */
struct ev_exit {
	struct ev_header header;
	struct ev_subject subject;
	__u32 status; /* as of wait(2) */
	__u32 pad;
};

/* CONNECT, LISTEN, SOCKET, FLOW, FOREIGN */
struct ev_call {
	struct ev_header header;
	struct ev_subject subject;
	__u64 rule;
	__u64 revision;
	__u64 netns;
	__u64 packets;
	__u64 bytes;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port; /* host byte order */
	__u16 remote_port;
	__u16 family;
	__u16 type;
	__u32 protocol;
	__u32 ifindex;
	__u8 call;
	__u8 step;
	__u8 verdict;
	__u8 would;
	__u8 reason;
	__u8 severity;
	__u8 has_remote;
	__u8 pad;
};

/* BORROW: subject reached for what target's label may do, or asked it over a unix socket */
struct ev_borrow {
	struct ev_header header;
	struct ev_subject subject;
	struct ev_subject target;
	__u64 revision;
	__u8 call;
	__u8 step;
	__u8 verdict;
	__u8 would;
	__u32 pad;
};

/* TAMPER: subject reached for the agent, or for what it has put into the kernel */
struct ev_tamper {
	struct ev_header header;
	struct ev_subject subject; /* zero: nobody knows who */
	__u64 revision;
	__u32 detail; /* SIGNAL: which; LIMIT: which; BPF: the command; TRACE: the mode */
	__u8 call;
	__u8 step;
	__u8 verdict;
	__u8 would;
};

/* DNS: a query that was refused, an answer that was taken, one that was not */
struct ev_dns {
	struct ev_header header;
	struct ev_subject subject;
	__u64 rule;
	__u64 revision;
	__u64 netns;
	__u64 packets; /* that this reports */
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u16 type; /* of the question */
	__u8 is_answer;
	__u8 rcode;
	__u32 addresses;
	__u8 verdict;
	__u8 would;
	__u8 reason;
	__u8 severity;
	__u8 name[256]; /* lower case, no last dot */
};

/* Texts of a REQUEST, in this order. */
enum ev_texts {
	EV_TEXT_EXE = 0,
	EV_TEXT_SCRIPT = 1,
	EV_TEXT_SAID = 2, /* and on: method; path, canonical, without the query; host. Each may be cut */
	EV_TEXT_QUERY = EV_TEXT_SAID + SAID_PARTS, /* where CONTROL_TELL_QUERY asks for it */
	EV_TEXT_HEADERS = EV_TEXT_QUERY + 1, /* and on: values, where CONTROL_TELL_HEADERS asks for them */
	EV_TEXTS = EV_TEXT_QUERY + DETAILS,
	EV_TEXT = 256, /* bytes of one, at most */
	/* In the length of the query, or of a value: */
	EV_TEXT_THERE = 1 << 14, /* the request has it */
	EV_TEXT_CUT = 1 << 15,	 /* this is not all of it; not there: nobody knows */
};

/*
 * REQUEST: an HTTP request that was judged, or what is none where only requests may be. Every request may be told, so the
 * record is no longer than what it says: the texts are behind it, one after the other and without terminators.
 */
struct ev_request {
	struct ev_header header;
	struct ev_task task;
	__u64 rule;
	__u64 revision;
	__u64 netns;
	__u64 socket; /* cookie of the socket whose connection the agent is to end, for nobody else does; 0: none */
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u8 direction; /* enum direction */
	__u8 verdict;
	__u8 would;
	__u8 reason;
	__u8 severity;
	__u8 flaw; /* enum flaw */
	__u8 step; /* enum step: who read it */
	__u8 hello; /* HELLO: enum hello_flags */
	__u16 len[EV_TEXTS]; /* of the texts */
	__u32 headers; /* header_names.id of the values */
	__u32 pad;
};

/* KTLS: the kernel was asked to encrypt, or to decrypt, on a socket */
struct ev_ktls {
	struct ev_header header;
	struct ev_subject subject;
	__u64 revision;
	__u64 netns;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	struct ktls_suite suite;
	__u8 part; /* enum ktls_part */
	__u8 step; /* enum step: who refused it */
	__u8 verdict; /* VERDICT_DENY; VERDICT_NONE: it was done */
	__u8 tapped; /* 1: for a library that a tap reads */
	__u32 pad2;
};

/* RESPONSE: the answer to a REQUEST of the same connection whose header has asked_ns */
struct ev_response {
	struct ev_header header;
	struct ev_subject subject;
	__u64 asked_ns;
	__u64 netns;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u16 status; /* 100 to 599 */
	__u8 direction; /* enum direction: of the request */
	__u8 step; /* enum step: who read it */
};

/* CGROUP */
struct ev_cgroup {
	struct ev_header header;
	__u64 id;
	__u32 removed;
	__u32 unit; /* 1: no container's, but it may be a unit that policies select */
	__u8 path[CGROUP_PATH_LEN];
};
