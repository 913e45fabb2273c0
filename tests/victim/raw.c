// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts below the transport layer: ICMP echo, packets with their own IP header, frames on an interface. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "victim.h"

#define PING_TIMEOUT_MS 1000

/* Sum of 16-bit words in network byte order, not yet folded. */
static uint32_t sum_words(const void *data, size_t len, uint32_t sum)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	return len % 2 ? sum + ((uint32_t)p[len - 1] << 8) : sum;
}

/* The Internet checksum of a sum, ready to be stored. */
static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum & 0xffff);
}

/* An ICMP or ICMPv6 echo: both have the same layout. */
struct echo {
	uint8_t type, code;
	uint16_t checksum, id, sequence;
	uint64_t nonce; /* tells the answer from others' */
} __attribute__((packed));

/* Reads until the answer with the nonce comes. A raw socket of IPv4 yields the IP header as well. */
static int await_echo(int fd, uint8_t type, uint64_t nonce, bool with_header)
{
	long end = now_ms() + PING_TIMEOUT_MS;
	uint8_t packet[1500];

	for (;;) {
		long left = end - now_ms();
		int err = wait_for(fd, POLLIN, left > 0 ? left : 0);
		ssize_t n = err ? 0 : recv(fd, packet, sizeof(packet), 0);
		size_t header = with_header ? (packet[0] & 15) * 4 : 0;
		struct echo e;

		if (err || n < 0)
			return err ? err : errno;
		if ((size_t)n < header + sizeof(e))
			continue;
		memcpy(&e, packet + header, sizeof(e));
		if (e.type == type && e.nonce == nonce)
			return 0;
	}
}

static int ping_with(struct call *c, int socket_type)
{
	struct endpoint to = endpoint_from(c->argv[0], "0");
	bool v6 = to.sa.sa_family == AF_INET6;
	struct echo e = {
		.type = v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO,
		.id = htons(getpid()),
		.sequence = htons(1),
		.nonce = (uint64_t)now_ms() << 32 | (uint32_t)getpid(),
	};
	int fd = endpoint_socket(&to, socket_type, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

	if (!v6) /* the kernel does it for ICMPv6 and for ping sockets */
		e.checksum = fold(sum_words(&e, sizeof(e), 0));
	if (fd < 0 || sendto(fd, &e, sizeof(e), 0, &to.sa, to.len) < 0)
		return errno;
	return await_echo(fd, v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY, e.nonce, !v6 && socket_type == SOCK_RAW);
}

static int ping(struct call *c)
{
	return ping_with(c, SOCK_DGRAM);
}

static int ping_raw(struct call *c)
{
	return ping_with(c, SOCK_RAW);
}

/* A UDP datagram with the IP header in front, all checksums in place. */
struct datagram {
	uint8_t bytes[128];
	size_t len;
};

static const char body[] = "sallyport-raw";

static struct datagram datagram4(const struct sockaddr_in *from, const struct sockaddr_in *to)
{
	struct datagram d = {.len = sizeof(struct iphdr) + sizeof(struct udphdr) + sizeof(body)};
	struct iphdr ip = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(d.len),
		.saddr = from->sin_addr.s_addr, .daddr = to->sin_addr.s_addr,
	};
	/* A UDP checksum of 0 means none in IPv4. */
	struct udphdr udp = {.source = htons(40000), .dest = to->sin_port, .len = htons(sizeof(udp) + sizeof(body))};

	ip.check = fold(sum_words(&ip, sizeof(ip), 0));
	memcpy(d.bytes, &ip, sizeof(ip));
	memcpy(d.bytes + sizeof(ip), &udp, sizeof(udp));
	memcpy(d.bytes + sizeof(ip) + sizeof(udp), body, sizeof(body));
	return d;
}

static struct datagram datagram6(const struct sockaddr_in6 *from, const struct sockaddr_in6 *to)
{
	const uint16_t len = sizeof(struct udphdr) + sizeof(body);
	struct datagram d = {.len = sizeof(struct ip6_hdr) + len};
	struct ip6_hdr ip = {.ip6_src = from->sin6_addr, .ip6_dst = to->sin6_addr};
	struct udphdr udp = {.source = htons(40000), .dest = to->sin6_port, .len = htons(len)};
	uint32_t sum = sum_words(&ip.ip6_src, 32, len + IPPROTO_UDP); /* the pseudo header */

	ip.ip6_flow = htonl(6u << 28);
	ip.ip6_plen = htons(len);
	ip.ip6_nxt = IPPROTO_UDP;
	ip.ip6_hlim = 64;
	udp.check = fold(sum_words(body, sizeof(body), sum_words(&udp, sizeof(udp), sum)));
	memcpy(d.bytes, &ip, sizeof(ip));
	memcpy(d.bytes + sizeof(ip), &udp, sizeof(udp));
	memcpy(d.bytes + sizeof(ip) + sizeof(udp), body, sizeof(body));
	return d;
}

/* The source is the destination when the line names none, which is right on a loopback only. */
static struct datagram build(const struct endpoint *to, const char *source)
{
	struct endpoint from = source ? endpoint_from(source, "0") : *to;

	if (from.sa.sa_family != to->sa.sa_family)
		die(0, "source %s is of another family", source);
	return to->sa.sa_family == AF_INET6 ? datagram6(&from.in6, &to->in6) : datagram4(&from.in, &to->in);
}

static int raw_udp(struct call *c)
{
	struct endpoint to = endpoint_from(c->argv[0], c->argv[1]);
	struct datagram d = build(&to, c->argc > 2 ? c->argv[2] : NULL);
	int fd = endpoint_socket(&to, SOCK_RAW, IPPROTO_RAW); /* includes the header, in both families */

	to.in.sin_port = 0; /* a raw socket reads it as a protocol; same place in both families */
	if (fd < 0 || sendto(fd, d.bytes, d.len, 0, &to.sa, to.len) < 0)
		return errno;
	return 0;
}

static void hardware_address(const char *text, uint8_t *mac)
{
	int used = 0;

	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx%n", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5, &used) != 6 || text[used])
		die(0, "%s is no hardware address", text);
}

/* The ioctls go through the packet socket itself: no socket of another family is made. */
static int packet(struct call *c)
{
	struct endpoint to = endpoint_from(c->argv[1], c->argv[2]);
	struct datagram d = build(&to, c->argc > 3 ? c->argv[3] : NULL);
	uint16_t protocol = htons(to.sa.sa_family == AF_INET6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = protocol, .sll_halen = ETH_ALEN};
	struct ether_header eth = {.ether_type = protocol};
	uint8_t frame[sizeof(eth) + sizeof(d.bytes)];
	struct ifreq ifr = {0};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (strlen(c->argv[0]) >= sizeof(ifr.ifr_name))
		die(0, "%s is no interface name", c->argv[0]);
	strcpy(ifr.ifr_name, c->argv[0]);
	if (fd < 0 || ioctl(fd, SIOCGIFINDEX, &ifr))
		return errno;
	at.sll_ifindex = ifr.ifr_ifindex;
	if (ioctl(fd, SIOCGIFHWADDR, &ifr))
		return errno;
	memcpy(eth.ether_shost, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	if (c->argc > 4)
		hardware_address(c->argv[4], eth.ether_dhost);
	else if (ifr.ifr_hwaddr.sa_family != 772 /* ARPHRD_LOOPBACK: all zero */)
		memset(eth.ether_dhost, 0xff, ETH_ALEN);
	memcpy(frame, &eth, sizeof(eth));
	memcpy(frame + sizeof(eth), d.bytes, d.len);
	return sendto(fd, frame, sizeof(eth) + d.len, 0, (struct sockaddr *)&at, sizeof(at)) < 0 ? errno : 0;
}

const struct attempt raw_attempts[] = {
	{"ping", 1, 1, ping, "ADDR                         a ping socket; an answer must come within a second"},
	{"ping-raw", 1, 1, ping_raw, "ADDR"},
	{"raw-udp", 2, 3, raw_udp, "ADDR PORT [SOURCE]        own IP header"},
	{"packet", 3, 5, packet, "IFACE ADDR PORT [SOURCE [MAC]]  own Ethernet frame, broadcast without MAC"},
	{0},
};
