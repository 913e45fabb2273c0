// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/*
 * A client of GnuTLS, which tests/vm/ktls.sh links with a library that has the kernel encrypt:
 *
 *	gnutls-ktls ADDRESS:PORT
 *
 * It trusts whoever answers, sends what it reads, and prints what comes back. It ends with either, or when it may not send.
 */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, int code)
{
	fprintf(stderr, "%s: %s\n", what, gnutls_strerror(code));
	return 1;
}

static int dial(char *to)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	char *port = strrchr(to, ':');
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (!port)
		return -1;
	*port++ = 0;
	at.sin_port = htons(atoi(port));
	if (inet_pton(AF_INET, to, &at.sin_addr) != 1 || connect(fd, (struct sockaddr *)&at, sizeof(at)))
		return -1;
	return fd;
}

/* Sends what there is to read. Returns 0 at its end. */
static int send_some(gnutls_session_t session)
{
	char bytes[4096];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes)), sent;

	if (n <= 0)
		return 0;
	sent = gnutls_record_send(session, bytes, n);
	if (sent != n)
		return !fail("sending", sent);
	return 1;
}

/* Prints what has come. Returns 0 at its end. */
static int print_some(gnutls_session_t session)
{
	char bytes[4096];
	ssize_t n = gnutls_record_recv(session, bytes, sizeof(bytes));

	if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
		return 1; /* what came was no data */
	if (n <= 0)
		return 0;
	return write(STDOUT_FILENO, bytes, n) == n;
}

static void talk(gnutls_session_t session, int fd)
{
	struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

	while (poll(ready, 2, -1) > 0) {
		if (ready[0].revents && !send_some(session))
			return;
		if (ready[1].revents && !print_some(session))
			return;
	}
}

int main(int argc, char **argv)
{
	gnutls_certificate_credentials_t credentials;
	gnutls_session_t session;
	int fd = argc == 2 ? dial(argv[1]) : -1, code;

	if (fd < 0) {
		perror("connecting");
		return 1;
	}
	gnutls_certificate_allocate_credentials(&credentials);
	gnutls_init(&session, GNUTLS_CLIENT);
	gnutls_set_default_priority(session);
	gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
	gnutls_transport_set_int(session, fd);
	code = gnutls_handshake(session);
	if (code)
		return fail("shaking hands", code);
	talk(session, fd);
	return 0;
}
