/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What the kernel stores per task and per socket. Shared with user space: bpf2go makes the Go types
 * of probes/internal/bpfobj from these. Fields go from large to small, padding is explicit.
 */
#include <linux/types.h>
#include <abi/limits.h>
#include <abi/path.h>

/* How a process came into its container; index of struct ruleset.origins. */
enum origin {
	ORIGIN_UNKNOWN = 0,
	ORIGIN_MAIN = 1,
	ORIGIN_EXEC = 2,
	ORIGIN_PROBE = 3,
	ORIGIN_HOST = 4,
	ORIGIN_COUNT = 5,
};

enum label_flags {
	LABEL_JOINING = 1, /* entered the container's cgroup, has not yet executed the workload */
	LABEL_FIRST = 2,   /* with JOINING: the first to enter, so its exec is Main */
	LABEL_SESSION = 4, /* the first process of its session: its exit ends the session */
	LABEL_INFERRED = 8,	 /* decided from /proc, not from birth */
	LABEL_TRUNCATED = 16,	 /* exe or script is longer than the label holds, or not known, or not its container's */
	LABEL_SCRIPTLESS = 32,	 /* nobody can say which script it runs, or whether: began unseen, or its name may lead elsewhere */
	LABEL_MAPPED = 64, /* its container has a user namespace: see struct id_map */
	LABEL_IDS = 128,   /* who[] asks for users or groups: it is to follow the task's ids */
	LABEL_UNIT = 256,  /* of a unit of the node, see lib/unit.h */
	LABEL_UNLISTED = 512, /* there was no room for its container, see lib/unlisted.h */
	LABEL_DRIFTED = 1024, /* exe or script was written since the container was made, see lib/drift.h */
};

/* A task has three ids of each kind, in this order. */
enum id_places {
	ID_REAL = 0,
	ID_SAVED = 1,
	ID_EFFECTIVE = 2,
	ID_COUNT = 3,
};

enum id_kinds {
	ID_USER = 0,
	ID_GROUP = 1,
	ID_KINDS = 2,
};

enum id_limits {
	ID_GROUPS = 16,		/* supplementary groups that a label holds */
	ID_EXTENTS = 5,		/* of a map of a user namespace: as many as the kernel has inline */
	ID_NONE = 0xffffffff,	/* has no number inside its container */
};

/* ids of the initial user namespace from lower on that are those from first on inside. */
struct id_extent {
	__u32 first;
	__u32 lower;
	__u32 count; /* 0: none */
};

/* How the user namespace of a container calls ids. */
struct id_map {
	struct id_extent extent[ID_KINDS * ID_EXTENTS]; /* by kind */
};

/* The last addressed call that was judged Allow: the same call again needs no new judgement. */
struct last_call {
	__u64 revision; /* 0: none */
	__u8 addr[16];
	__u16 port;
	__u8 protocol;
	__u8 direction;
	__u32 pad;
};

/* The label of a task: facts, and the rules that select it. Copied at task creation. */
struct label {
	__u64 container;       /* id of the container's cgroup */
	__u64 session;	       /* id of the exec session; 0: none */
	__u64 exec;	       /* id of the program execution, never used twice while pins live */
	__u64 actor;	       /* id of the execution under these ids, from the same numbers: what is decided is for it */
	__u64 who_revision;    /* revision that who[] was computed for; 0: not yet */
	__u64 who[RULE_WORDS]; /* rules that select this process */
	__u32 tgid;	       /* of the process that executed exe */
	__u32 ids[ID_KINDS][ID_COUNT]; /* initial user namespace, by enum id_kinds and id_places */
	__u32 group_count; /* supplementary groups that it has: more than groups holds are not known */
	__u32 groups[ID_GROUPS];
	__u32 origin;	       /* enum origin */
	__u32 flags;	       /* enum label_flags */
	__u32 pending_call;    /* fmod_ret step: enum call that fentry has judged; 0: none */
	__s32 pending_errno;   /* fmod_ret step: what it decided */
	struct last_call last; /* written by the task itself only */
	__u8 exe[EXE_LEN];     /* path inside the container, NUL-terminated */
	__u8 script[SCRIPT_LEN]; /* for #! scripts, else empty */
};

_Static_assert(sizeof(struct label) == 248 + EXE_LEN + SCRIPT_LEN, "label has no holes");

/*
 * The first file of an execution that is under way, if it is a script. Kept with the task that executes until the
 * execution has succeeded or the next one begins: of one that fails nothing comes into the label.
 */
struct script {
	__u64 bprm;  /* the execution: address of its struct linux_binprm; 0: none, or its first file is no script */
	__u32 files; /* how many it has looked at: two where the script's interpreter is a program */
	__u32 drifted; /* 1: it was written since the container was made */
	__u64 path[SCRIPT_LEN / 8]; /* of the file, NUL-padded; empty: not known */
	struct path_buffer walk;    /* of a task's own, since an execution may sleep: it is no per-CPU buffer */
};

enum probe_limits {
	PROBE_SLOTS = 8, /* commands of one container */
	PROBE_WORDS = 64,
	PROBE_LEN = 512, /* bytes of a command that can be compared: PROBE_WORDS of 8 */
};

/* One exec probe or lifecycle command of a container. */
struct probe_key {
	__u64 container;
	__u32 slot; /* below PROBE_SLOTS */
	__u32 pad;
};

/* Its arguments as a process has them in its memory: each with its NUL, zero after the last. */
struct probe {
	__u64 len; /* bytes, at most PROBE_LEN */
	__u64 args[PROBE_WORDS];
};

/* What a socket's storage holds. Cloned to accepted sockets. */
struct sock_state {
	__u64 netns;	    /* cookie of its network namespace */
	__u64 decision;	    /* of its connection: see decision_word() in lib/judge.h; one atomic word */
	__u64 served;	    /* of a listener: the same for its last accept */
	__u64 hushed;	    /* revision under which left_to_gate() let its owner's sends go */
	__u64 looped;	    /* of a TCP client over loopback, by the owner: as flow.decision */
	__u32 direction;    /* enum direction: who opens connections on it */
	__u16 peer_port;    /* of peer, host byte order; 0: connect did not settle who it is */
	__u8 looped_state;  /* with looped: as flow.state */
	__u8 refused;	    /* 1: what it said was refused, and its connection is over: see FLOW_REFUSED */
	__u32 opened;	    /* how often it has begun to connect */
	__u32 pad;
	__u64 name_hash;    /* of the name by which its connection was allowed */
	__u64 name_serial;  /* 0: by none */
	__u8 peer[16];	    /* that decision and the name are about, IPv4-mapped */
	struct label owner; /* the process that made the socket, as it was then; never changed */
};
