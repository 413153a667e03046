/*
 * hostile_ports.c - the ports of the scripted web server: that listen, refuse, are full, speak TLS.
 */
#include "config.h"

#include "hostile.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

void
hostile_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("hostile: ", stderr);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

int
port_open(int backlog, int *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				   .sin_port = htons((uint16_t)*port) };
	socklen_t len = sizeof(sin);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) != 0 ||
	    (backlog >= 0 && listen(fd, backlog) != 0) ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) != 0)
		hostile_die("no port: %s", strerrordesc_np(errno));
	*port = ntohs(sin.sin_port);
	return fd;
}

/* One connection fills a queue of length 0; the second finds it full and is only begun. */
void
port_open_full(int *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	port_open(0, port);
	sin.sin_port = htons((uint16_t)*port);
	for (int i = 0; i < 2; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd < 0 || (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) != 0 &&
			       errno != EINPROGRESS))
			hostile_die("cannot fill a queue: %s", strerrordesc_np(errno));
	}
}

SSL_CTX *
port_tls(const char *spec)
{
	char cert[1024] = "", key[1024] = "", how[16] = "";
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

	if (tls == NULL || sscanf(spec, "%1023[^:]:%1023[^:]:%15s", cert, key, how) < 2)
		hostile_die("--tls wants CERT:KEY");
	if (strcmp(how, "old") == 0) {
		SSL_CTX_set_security_level(tls, 0);
		SSL_CTX_set_min_proto_version(tls, TLS1_VERSION);
		SSL_CTX_set_max_proto_version(tls, TLS1_1_VERSION);
	}
	if (strcmp(how, "demand") == 0)
		SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
		ERR_print_errors_fp(stderr);
		hostile_die("cannot use %s and %s", cert, key);
	}
	return tls;
}
