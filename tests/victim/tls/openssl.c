// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/*
 * A client of OpenSSL 3 that writes in a way that few programs do:
 *
 *	openssl WAY ADDRESS PORT PATH [PORT]
 *
 * write, write_ex, write_ex2: GET PATH by that function behind a handshake
 * implicit: by SSL_write, which makes the handshake itself
 * bio: by BIO_write on a filter of TLS, which calls none of these functions
 * sendfile: SSL_sendfile of this program, then GET PATH
 * early: GET PATH, then, to the second PORT with the session of the first connection, GET PATH as early data
 *
 * It prints "absent" where the library has no such function, else "sent" and the beginning of the answer, or "refused"
 * with the text of errno. The library is loaded when it runs, so that neither its headers nor the library are needed to build it.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum constants {
	BIO_C_SET_SSL = 109, /* openssl/bio.h */
	BIO_CLOSE = 1,
	EARLY_BYTES = 4096,
};

static void *library, *crypto;

/* Calls a function of the library by its name. */
#define CALL(type, name, ...) ((type (*)())symbol(name))(__VA_ARGS__)

static void *symbol(const char *name)
{
	void *at = dlsym(library, name);

	if (!at)
		at = dlsym(crypto, name);
	if (!at) {
		puts("absent");
		exit(0);
	}
	return at;
}

static int dial(const char *address, const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	struct timeval patience = {.tv_sec = 3}; /* nobody says so when a handshake does not pass */
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, address, &to.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		perror("connect");
		exit(1);
	}
	return fd;
}

/* An object on a connected socket; session: what it resumes, or NULL. */
static void *begin(void *context, const char *address, const char *port, void *session)
{
	void *ssl = CALL(void *, "SSL_new", context);

	CALL(int, "SSL_set_fd", ssl, dial(address, port));
	CALL(void, "SSL_set_connect_state", ssl);
	if (session)
		CALL(int, "SSL_set_session", ssl, session);
	return ssl;
}

/* Says how a write went: ok says whether it did. */
static int say(int ok)
{
	printf("%s%s%s\n", ok ? "sent" : "refused", ok ? "" : " ", ok ? "" : strerror(errno));
	return ok;
}

/* Prints the beginning of the answer. */
static void answer(void *ssl)
{
	char text[64] = "";
	int n = CALL(int, "SSL_read", ssl, text, (int)sizeof(text) - 1);

	printf("%.*s\n", n > 0 ? (int)strcspn(text, "\r\n") : 0, text);
}

static int by_bio(void *ssl, const char *request)
{
	void *bio = CALL(void *, "BIO_new", CALL(void *, "BIO_f_ssl"));
	char text[64] = "";
	int n;

	CALL(long, "BIO_ctrl", bio, BIO_C_SET_SSL, (long)BIO_CLOSE, ssl);
	if (CALL(int, "SSL_do_handshake", ssl) != 1 || !say(CALL(int, "BIO_write", bio, request, (int)strlen(request)) > 0))
		return 1;
	n = CALL(int, "BIO_read", bio, text, (int)sizeof(text) - 1);
	printf("%.*s\n", n > 0 ? (int)strcspn(text, "\r\n") : 0, text);
	return 0;
}

static int by_early(void *context, void *first, const char *const *argv, const char *request)
{
	size_t len = strlen(request), written = 0;
	void *session, *ssl;

	if (CALL(int, "SSL_write", first, request, (int)len) <= 0)
		return 1;
	answer(first); /* the ticket is before it */
	session = CALL(void *, "SSL_get1_session", first);
	CALL(int, "SSL_SESSION_set_max_early_data", session, EARLY_BYTES);
	CALL(int, "SSL_shutdown", first);
	ssl = begin(context, argv[2], argv[5], session);
	errno = 0;
	say(CALL(int, "SSL_write_early_data", ssl, request, len, &written) == 1);
	return 0;
}

int main(int argc, char **argv)
{
	char request[1024];
	size_t len, written = 0;
	void *context, *ssl;

	library = dlopen("libssl.so.3", RTLD_NOW | RTLD_GLOBAL);
	crypto = dlopen("libcrypto.so.3", RTLD_NOW);
	if (argc < 5 || !library || !crypto) {
		fprintf(stderr, "%s WAY ADDRESS PORT PATH [PORT]: %s\n", argv[0], dlerror());
		return 1;
	}
	setvbuf(stdout, 0, _IOLBF, 0);
	len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", argv[4]);
	context = CALL(void *, "SSL_CTX_new", CALL(void *, "TLS_client_method"));
	ssl = begin(context, argv[2], argv[3], 0);
	if (!strcmp(argv[1], "bio"))
		return by_bio(ssl, request);
	if (strcmp(argv[1], "implicit") && CALL(int, "SSL_connect", ssl) != 1) {
		say(0);
		return 1;
	}
	if (!strcmp(argv[1], "early"))
		return argc < 6 || by_early(context, ssl, (const char *const *)argv, request);
	if (!strcmp(argv[1], "sendfile"))
		say(CALL(ssize_t, "SSL_sendfile", ssl, open("/proc/self/exe", O_RDONLY), (off_t)0, (size_t)1024, 0) > 0);
	errno = 0;
	if (!strcmp(argv[1], "write_ex"))
		len = CALL(int, "SSL_write_ex", ssl, request, len, &written);
	else if (!strcmp(argv[1], "write_ex2"))
		len = CALL(int, "SSL_write_ex2", ssl, request, len, (unsigned long long)0, &written);
	else
		len = CALL(int, "SSL_write", ssl, request, (int)len);
	if (!say((int)len > 0))
		return 1;
	answer(ssl);
	return 0;
}
