/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* The compiled policy in the kernel's maps: what policy/compile.Tables is in user space. */
#include <linux/types.h>
#include <abi/label.h>

enum direction {
	DIR_EGRESS = 0,
	DIR_INGRESS = 1,
	DIR_COUNT = 2,
};

/* As in probes/event. */
enum verdict {
	VERDICT_NONE = 0,
	VERDICT_ALLOW = 1,
	VERDICT_AUDIT = 2,
	VERDICT_DENY = 3,
	VERDICT_DROP = 4,
	VERDICT_RESET = 5,
	VERDICT_KILL = 6,
};

/* What stands for a type of ICMP messages where a port is asked for, as in compile.PortEntry. */
enum icmp_ports {
	ICMP_PORT = 256,	 /* + type */
	ICMP_PORT_UNKNOWN = 512, /* a message whose type is not known yet */
};

struct bits {
	__u64 word[RULE_WORDS];
};

struct dfa_ref {
	__u32 page;
	__u16 base;    /* cell of the class table */
	__u16 classes; /* 0: no DFA */
};

enum ruleset_flags {
	RULESET_AUDIT = 1, /* has rules of policies in mode Audit */
	RULESET_RULES = 2, /* has any rule */
	RULESET_NAMES = 4, /* has rules that match peers by name */
	RULESET_DNS = 8,   /* has rules that say which names may be asked for */
	RULESET_ICMP = 16, /* has rules that name types of ICMP messages */
	RULESET_USERS = 32,  /* has rules that name users */
	RULESET_GROUPS = 64, /* has rules that name groups */
	RULESET_TLS = 128, /* has rules that say which names TLS clients may ask for */
};

struct ruleset {
	struct bits allow[DIR_COUNT];
	struct bits deny[DIR_COUNT];
	struct bits audit;
	struct bits origins[ORIGIN_COUNT];
	struct bits any_binary;
	struct bits any_script;
	struct bits any_id[ID_KINDS]; /* rules that name no users, no groups */
	struct bits any_of; /* rules to which one of a process's ids is enough; to the others all must be named */
	struct bits truncated;
	struct bits any_peer;
	struct bits any_port;
	struct bits dns; /* what these rules allow carries queries, which queries is asked about */
	struct bits http; /* the same of requests */
	struct bits tls; /* the same of ClientHellos: rules with serverNames */
	struct bits read; /* either */
	struct bits any_method; /* rules that say nothing of a request's method */
	struct bits any_path;
	struct bits any_host;
	struct dfa_ref exe;
	struct dfa_ref interpreters; /* path of the executable, and of its script → rules, which are ANDed */
	struct dfa_ref scripts;
	struct dfa_ref names;	/* name of a peer */
	struct dfa_ref queries; /* name asked for */
	struct dfa_ref methods;
	struct dfa_ref paths;
	struct dfa_ref hosts;
	struct dfa_ref servers; /* name that a TLS client asks for */
	struct dfa_ref lines; /* header of a request → demands it meets in word 0, its name in word 1 */
	__u32 id; /* its own index */
	__u32 flags;
	__u32 first_demand; /* index into demands */
	__u32 demands;	    /* how many */
	__u32 digest; /* of the rules, the same in every revision and after every restart; not 0 */
	__u32 pad;
};

/* One compiled rule, at index ruleset * RULE_MAX + bit. */
struct rule {
	__u64 ref;
	__u8 verdict;  /* enum verdict, for a violation */
	__u8 severity; /* probes/event.Severity */
	__u8 pad[6];
};

struct address_key {
	__u32 prefixlen; /* 0 to 128 */
	__u8 addr[16];	 /* network byte order */
};

struct peer_key {
	__u32 ruleset;
	__u32 identity;
};

struct port_key {
	__u32 prefixlen; /* 48 + 0 to 16 */
	__u32 ruleset;	 /* big endian */
	__u8 protocol;
	__u8 pad;
	__u16 port_be;
};

/* → the rules that name an id, with those that name none of its kind. */
struct id_key {
	__u32 ruleset;
	__u32 id; /* as its container calls it */
	__u32 kind; /* enum id_kinds */
};

struct dfa_page {
	__u16 cell[PAGE_CELLS];
};
