// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Namespaces that are entered, and what rtnetlink lets a process change in its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "victim.h"

/* Enters the namespace that a file names, as nsenter does. */
static void enter(char **args, char **rest)
{
	int fd = open(args[0], O_RDONLY | O_CLOEXEC);

	(void)rest;
	if (fd < 0)
		die(errno, "opening %s", args[0]);
	if (setns(fd, 0))
		die(errno, "entering %s", args[0]);
	close(fd);
}

/* Enters all that a process is in but its pid namespace, by its pidfd. */
static void enter_process(char **args, char **rest)
{
	struct call c = {.name = "enter-process", .argc = 1, .argv = args};
	int fd = syscall(SYS_pidfd_open, number_arg(&c, 0, 0), 0);

	(void)rest;
	if (fd < 0)
		die(errno, "opening process %s", args[0]);
	if (setns(fd, CLONE_NEWNET | CLONE_NEWNS))
		die(errno, "entering the namespaces of process %s", args[0]);
	close(fd);
}

/* The request that gives an interface one more IPv4 address, by itself (/32). */
struct new_address {
	struct nlmsghdr header;
	struct ifaddrmsg message;
	struct rtattr local;
	struct in_addr local_address;
	struct rtattr address;
	struct in_addr address_address;
};

/* 0 or an errno. */
static int add_address(const char *interface, struct in_addr address)
{
	struct new_address r = {
		.header = {.nlmsg_len = sizeof(r), .nlmsg_type = RTM_NEWADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE},
		.message = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = if_nametoindex(interface)},
		.local = {.rta_len = RTA_LENGTH(sizeof(address)), .rta_type = IFA_LOCAL},
		.local_address = address,
		.address = {.rta_len = RTA_LENGTH(sizeof(address)), .rta_type = IFA_ADDRESS},
		.address_address = address,
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr result;
		char rest[256];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int err = fd < 0 || send(fd, &r, sizeof(r), 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0 ? errno : -answer.result.error;

	if (fd >= 0)
		close(fd);
	return err;
}

/* A datagram from an address that the interface was given for that. IPv4. */
static int netlink_address(struct call *c)
{
	static const char body[] = "sallyport";
	struct endpoint own = endpoint_from(c->argv[1], "0"), to = endpoint_from(c->argv[2], c->argv[3]);
	int err = add_address(c->argv[0], own.in.sin_addr);
	int fd = endpoint_socket(&to, SOCK_DGRAM, 0);

	if (err)
		return err;
	return fd < 0 || bind(fd, &own.sa, own.len) || sendto(fd, body, sizeof(body), 0, &to.sa, to.len) < 0 ? errno : 0;
}

const struct attempt space_attempts[] = {
	{"netlink-address", 4, 4, netlink_address, "IFACE SOURCE ADDR PORT  a datagram from an address that IFACE gets"},
	{0},
};

const struct transform space_transforms[] = {
	{"enter", 1, enter, "FILE          setns into the namespace of /proc/PID/ns/…"},
	{"enter-process", 1, enter_process, "PID   setns into its network and mount namespaces"},
	{0},
};
