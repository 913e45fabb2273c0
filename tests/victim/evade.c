// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* Attempts to get past whoever looks at a call: an address that changes under the call, calls of another ABI, an
 * interface of one's own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "victim.h"

#define FLIPPED_TIMEOUT_MS 200
#define OLD_CALL_LIMIT_S 3

/* An address that a thread writes to without end, now one peer, now another. */
struct flipped {
	struct endpoint now, decoy, target;
	atomic_bool stop;
};

static void *flip(void *arg)
{
	struct flipped *f = arg;
	volatile uint32_t *word = (volatile uint32_t *)&f->now.in;
	const uint32_t *a = (const uint32_t *)&f->decoy.in, *b = (const uint32_t *)&f->target.in;

	/* Family and port are one word, the address is another: half of each is a peer as well. */
	while (!atomic_load_explicit(&f->stop, memory_order_relaxed)) {
		word[0] = b[0];
		word[1] = b[1];
		word[0] = a[0];
		word[1] = a[1];
	}
	return NULL;
}

/* One connect to what the address is when the kernel reads it. 0: it became the target. */
static int connect_flipped(struct flipped *f)
{
	struct endpoint peer = {.len = sizeof(peer.in)};
	int fd = endpoint_socket(&f->target, SOCK_STREAM, 0);
	int err;

	if (fd < 0)
		return errno;
	set_timeouts(fd, FLIPPED_TIMEOUT_MS);
	err = connect(fd, &f->now.sa, f->now.len) ? errno : 0;
	if (!err && getpeername(fd, &peer.sa, &peer.len))
		err = errno;
	if (!err && (peer.in.sin_port != f->target.in.sin_port || peer.in.sin_addr.s_addr != f->target.in.sin_addr.s_addr))
		err = EAGAIN;
	close(fd);
	return err;
}

/* Connects for MS to an address that alternates between the decoy and the target. IPv4. */
static int toctou_tcp(struct call *c)
{
	struct flipped f = {.decoy = endpoint_from(c->argv[0], c->argv[1]), .target = endpoint_from(c->argv[2], c->argv[3])};
	long end = now_ms() + number_arg(c, 4, 0);
	pthread_t thread;
	int err = EAGAIN;

	if (f.decoy.sa.sa_family != AF_INET || f.target.sa.sa_family != AF_INET)
		die(0, "%s wants IPv4 addresses", c->name);
	f.now = f.decoy;
	if (pthread_create(&thread, NULL, flip, &f))
		die(errno, "starting a thread");
	while (err && now_ms() < end)
		err = connect_flipped(&f);
	atomic_store(&f.stop, true);
	pthread_join(thread, NULL);
	return err;
}

#ifdef __x86_64__
static void no_old_calls(int sig)
{
	(void)sig;
	/* Only what a signal handler may do: the line, and the end. */
	static const char line[] = "connect32-tcp: ENOSYS\n";
	ssize_t n = write(STDOUT_FILENO, line, sizeof(line) - 1);

	_exit(n < 0 ? EXIT_VICTIM : 1);
}

/* A call of the 32-bit ABI, whose pointers must be below 4 GiB, as those of a static program's data are. */
static long old_call(long number, long a, long b, long c)
{
	long result;

	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static int connect32_tcp(struct call *c)
{
	enum { OLD_SOCKET = 359, OLD_CONNECT = 362 };
	static struct endpoint e;
	long fd, err;

	e = endpoint_from(c->argv[0], c->argv[1]);
	if ((uintptr_t)&e >> 32)
		die(0, "the program's data is not below 4 GiB");
	signal(SIGSEGV, no_old_calls); /* what a kernel without that ABI sends */
	fd = old_call(OLD_SOCKET, e.sa.sa_family, SOCK_STREAM, 0);
	if (fd < 0)
		return -fd;
	alarm(OLD_CALL_LIMIT_S); /* a silent drop: the signal ends the program */
	err = old_call(OLD_CONNECT, fd, (long)&e.sa, e.len);
	return err < 0 ? -err : 0;
}
#else
static int connect32_tcp(struct call *c)
{
	(void)c;
	return ENOSYS;
}
#endif

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err = fd < 0 || write(fd, text, strlen(text)) < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

/* Gives the interface an address and sets it up, by a socket that reaches nobody. */
static int interface_up(struct ifreq ifr, const char *address)
{
	struct endpoint own = endpoint_from(address, "0");
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? errno : 0;

	memcpy(&ifr.ifr_addr, &own.in, sizeof(own.in));
	if (!err && ioctl(fd, SIOCSIFADDR, &ifr))
		err = errno;
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	if (!err && ioctl(fd, SIOCSIFFLAGS, &ifr))
		err = errno;
	return err;
}

/*
 * A datagram that comes out of an interface of one's own, as if from a machine SOURCE behind the pod, which the pod
 * then forwards: no socket ever carried it. IPv4.
 */
static int tun(struct call *c)
{
	static const char body[] = "sallyport-tun";
	/* Interfaces are made with what default says. */
	static const char *const settings[][2] = {
		{"/proc/sys/net/ipv4/conf/all/rp_filter", "0"}, {"/proc/sys/net/ipv4/ip_forward", "1"},
	};
	struct endpoint to = endpoint_from(c->argv[0], c->argv[1]), behind = endpoint_from(c->argv[2], "40000");
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP};
	struct udphdr udp = {.source = behind.in.sin_port, .dest = to.in.sin_port, .len = htons(sizeof(udp) + sizeof(body))};
	uint8_t packet[sizeof(ip) + sizeof(udp) + sizeof(body)];
	uint32_t sum = 0;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int err = write_file("/proc/sys/net/ipv4/conf/default/rp_filter", "0");

	if (err)
		return err;
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		return errno;
	err = interface_up(ifr, "100.64.7.1");
	for (size_t i = 0; !err && i < sizeof(settings) / sizeof(settings[0]); i++)
		err = write_file(settings[i][0], settings[i][1]);
	if (err)
		return err;
	ip.tot_len = htons(sizeof(packet));
	ip.saddr = behind.in.sin_addr.s_addr;
	ip.daddr = to.in.sin_addr.s_addr;
	memcpy(packet, &ip, sizeof(ip));
	for (size_t i = 0; i < sizeof(ip); i += 2)
		sum += packet[i] << 8 | packet[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	ip.check = htons((uint16_t) ~((sum & 0xffff) + (sum >> 16)));
	memcpy(packet, &ip, sizeof(ip));
	memcpy(packet + sizeof(ip), &udp, sizeof(udp));
	memcpy(packet + sizeof(ip) + sizeof(udp), body, sizeof(body));
	return write(fd, packet, sizeof(packet)) < 0 ? errno : 0;
}

static const char word[] = "sallyport";

/* A socket that is connected to the decoy and has sent there; -1 with errno. */
static int decoyed(const struct endpoint *decoy)
{
	int fd = endpoint_socket(decoy, SOCK_DGRAM, 0);

	if (fd < 0 || connect(fd, &decoy->sa, decoy->len) || send(fd, word, sizeof(word), 0) < 0)
		return -1;
	return fd;
}

/* Connected to one peer, then to another. */
static int udp_reconnect(struct call *c)
{
	struct endpoint decoy = endpoint_from(c->argv[0], c->argv[1]), e = endpoint_from(c->argv[2], c->argv[3]);
	int fd = decoyed(&decoy);

	return fd < 0 || connect(fd, &e.sa, e.len) || send(fd, word, sizeof(word), 0) < 0 ? errno : 0;
}

/* Connected to one peer; the send names another. */
static int udp_elsewhere(struct call *c)
{
	struct endpoint decoy = endpoint_from(c->argv[0], c->argv[1]), e = endpoint_from(c->argv[2], c->argv[3]);
	int fd = decoyed(&decoy);

	return fd < 0 || sendto(fd, word, sizeof(word), 0, &e.sa, e.len) < 0 ? errno : 0;
}

#define GSO_SIZE 100

/* Ten datagrams by one send, which the kernel cuts apart on their way out. */
static int udp_gso(struct call *c)
{
	struct endpoint e = endpoint_from(c->argv[0], c->argv[1]);
	int fd = endpoint_socket(&e, SOCK_DGRAM, 0), size = GSO_SIZE;
	static char body[10 * GSO_SIZE];

	if (fd < 0 || setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)))
		return errno;
	return sendto(fd, body, sizeof(body), 0, &e.sa, e.len) < 0 ? errno : 0;
}

const struct attempt evade_attempts[] = {
	{"udp-gso", 2, 2, udp_gso, "ADDR PORT                 ten datagrams that the kernel cuts out of one"},
	{"udp-reconnect", 4, 4, udp_reconnect, "DECOY PORT ADDR PORT  connected to the one, then to the other"},
	{"udp-elsewhere", 4, 4, udp_elsewhere, "DECOY PORT ADDR PORT  connected to the one, sent to the other"},
	{"toctou-tcp", 5, 5, toctou_tcp, "DECOY PORT ADDR PORT MS  another thread writes to the address all the time"},
	{"connect32-tcp", 2, 2, connect32_tcp, "ADDR PORT           by 32-bit system calls"},
	{"tun", 3, 3, tun, "ADDR PORT SOURCE              a datagram forwarded from an interface of one's own"},
	{0},
};
