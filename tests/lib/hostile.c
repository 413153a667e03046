/*
 * hostile.c - a web server on 127.0.0.1 that goes wrong as it is told.
 *
 * The first component of a path names the mode (hostile_modes.c, hostile_ranges.c), the last one
 * the file in --root:
 *
 *   http://127.0.0.1:PORT/stall:99/disk.img      99 percent of disk.img, then nothing
 *
 * Besides the modes there are
 *
 *   /stats             "connections N", "open N M", "active N M" (now, and at most: connections,
 *                      requests for files being answered), then "PATH REQUESTS BYTES CONNECTIONS"
 *                      for every path seen
 *   /stats?PATH        that path's line alone
 *   /release           what waits now goes on; /release?always: what waits later, too
 *
 * One thread a connection.  Each --tls makes one more port with its own certificate; the port
 * "refused" is taken and does not listen, "silent" listens and says nothing, ever, "full" has its
 * queue full, so that the kernel drops every SYN.  When all ports are open their numbers and the
 * line "ready" are printed.
 */
#include "config.h"

#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { MAX_PORTS = 16, MAX_PATHS = 4096, HEADER_MAX = 32 << 10 };

struct listener {
	int fd;
	SSL_CTX *tls;			/* NULL: plain */
};

struct counted_path {
	char *path;
	int64_t requests, bytes, connections;
	int64_t marks;
};

/* How many there are, and were at most. */
struct gauge {
	int64_t now, most;
};

struct conn {
	int fd;
	SSL *tls;
	int64_t number;
	struct counted_path *counted;	/* of the request being served */
	int64_t cut_after;		/* body bytes until the connection ends; -1: does not */
	char in[HEADER_MAX];
	size_t in_len;
};

/* Set before the first thread, then read only; the rest is under lock. */
static struct {
	const char *data_file, *root;
	FILE *log;
	struct listener listeners[MAX_PORTS];
	int n_listeners;

	pthread_mutex_t lock;
	int64_t connections;
	struct gauge open, active;
	struct counted_path paths[MAX_PATHS];
	int n_paths;
	int release_fd;			/* eventfd of all who wait now */
	bool release_always;
} server = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- connections --------------------------------------------------------------------------- */

bool
conn_is_tls(const struct conn *c)
{
	return c->tls != NULL;
}

bool
conn_send(struct conn *c, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		size_t now = len < (1 << 20) ? len : (1 << 20);
		ssize_t n = c->tls != NULL ? SSL_write(c->tls, p, (int)now)
					   : send(c->fd, p, now, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

bool
conn_printf(struct conn *c, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int len;
	bool good;

	va_start(ap, fmt);
	len = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (len < 0)
		return false;
	good = conn_send(c, text, (size_t)len);
	free(text);
	return good;
}

void
conn_cut_after(struct conn *c, int64_t len)
{
	c->cut_after = len;
}

bool
conn_body(struct conn *c, const void *data, int64_t len)
{
	const char *p = data;
	bool cut = c->cut_after >= 0 && len > c->cut_after, good = true;

	if (cut)
		len = c->cut_after;
	if (c->cut_after >= 0)
		c->cut_after -= len;
	/* In pieces, so that the count is right when the peer goes away in the middle. */
	while (good && len > 0) {
		int64_t now = len < (256 << 10) ? len : (256 << 10);

		good = conn_send(c, p, (size_t)now);
		p += now;
		len -= now;
		if (good && c->counted != NULL) {
			pthread_mutex_lock(&server.lock);
			c->counted->bytes += now;
			pthread_mutex_unlock(&server.lock);
		}
	}
	return good && !cut;
}

bool
conn_sleep_ms(struct conn *c, int ms)
{
	struct pollfd p = { c->fd, POLLRDHUP, 0 };

	return poll(&p, 1, ms) == 0;
}

bool
conn_wait_release(struct conn *c)
{
	struct pollfd p[2] = { { c->fd, POLLRDHUP, 0 }, { -1, POLLIN, 0 } };
	bool always;

	pthread_mutex_lock(&server.lock);
	p[1].fd = server.release_fd;
	always = server.release_always;
	pthread_mutex_unlock(&server.lock);
	if (always)
		return true;
	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	return p[0].revents == 0 && p[1].revents != 0;
}

static void
gauge_add(struct gauge *g, int n)
{
	pthread_mutex_lock(&server.lock);
	g->now += n;
	if (g->now > g->most)
		g->most = g->now;
	pthread_mutex_unlock(&server.lock);
}

int64_t
conn_active(const struct conn *c)
{
	int64_t n;

	(void)c;
	pthread_mutex_lock(&server.lock);
	n = server.active.now;
	pthread_mutex_unlock(&server.lock);
	return n;
}

int64_t
conn_mark(struct conn *c)
{
	int64_t n = 0;

	pthread_mutex_lock(&server.lock);
	if (c->counted != NULL)
		n = ++c->counted->marks;
	pthread_mutex_unlock(&server.lock);
	return n;
}

static void
release(bool always)
{
	pthread_mutex_lock(&server.lock);
	/* The old one stays readable for those who poll it; a test releases a few times. */
	eventfd_write(server.release_fd, 1);
	server.release_fd = eventfd(0, EFD_CLOEXEC);
	server.release_always = always;
	pthread_mutex_unlock(&server.lock);
}

/* ---- requests ------------------------------------------------------------------------------ */

/* Until the empty line is in c->in; its length with that line, or 0. */
static size_t
read_head(struct conn *c)
{
	for (;;) {
		const char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
		ssize_t n;

		if (end != NULL)
			return (size_t)(end - c->in) + 4;
		if (c->in_len == sizeof(c->in))
			return 0;
		n = c->tls != NULL
			    ? SSL_read(c->tls, c->in + c->in_len, (int)(sizeof(c->in) - c->in_len))
			    : recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);
		if (n <= 0)
			return 0;
		c->in_len += (size_t)n;
	}
}

static void
decode(char *text)
{
	char *out = text;

	for (const char *p = text; *p != '\0'; p++) {
		char hex[3] = { p[0] == '%' ? p[1] : '\0', 0, 0 };

		if (hex[0] != '\0' && p[2] != '\0') {
			hex[1] = p[2];
			*out++ = (char)strtol(hex, NULL, 16);
			p += 2;
		} else {
			*out++ = *p;
		}
	}
	*out = '\0';
}

static bool
parse_target(struct request *r, char *target)
{
	char *query = strchr(target, '?');
	const char *mode = target + 1, *end, *colon;

	if (target[0] != '/' || strlen(target) >= sizeof(r->path))
		return false;
	if (query != NULL) {
		*query++ = '\0';
		snprintf(r->query, sizeof(r->query), "%s", query);
		decode(r->query);
	}
	snprintf(r->path, sizeof(r->path), "%s", target);
	end = mode + strcspn(mode, "/");
	colon = memchr(mode, ':', (size_t)(end - mode));
	if (colon != NULL)
		snprintf(r->arg, sizeof(r->arg), "%.*s", (int)(end - colon - 1), colon + 1);
	snprintf(r->mode, sizeof(r->mode), "%.*s",
		 (int)((colon != NULL ? colon : end) - mode), mode);
	return true;
}

static void
parse_field(struct request *r, const char *name, const char *value)
{
	if (strcasecmp(name, "If-Range") == 0)
		snprintf(r->if_range, sizeof(r->if_range), "%s", value);
	else if (strcasecmp(name, "Authorization") == 0)
		snprintf(r->authorization, sizeof(r->authorization), "%s", value);
	else if (strcasecmp(name, "Host") == 0)
		snprintf(r->host, sizeof(r->host), "%s", value);
	else if (strcasecmp(name, "Range") == 0)
		sscanf(value, "bytes=%" SCNd64 "-%" SCNd64, &r->range_first, &r->range_last);
}

static bool
parse_head(struct request *r, char *head)
{
	char *save = NULL;
	char *line = strtok_r(head, "\r\n", &save);
	char *target = line != NULL ? strchr(line, ' ') : NULL;
	char *version = target != NULL ? strchr(target + 1, ' ') : NULL;

	memset(r, 0, sizeof(*r));
	r->range_first = r->range_last = -1;
	if (version == NULL)
		return false;
	*target++ = '\0';
	*version = '\0';
	snprintf(r->method, sizeof(r->method), "%.15s", line);
	if (!parse_target(r, target))
		return false;
	while ((line = strtok_r(NULL, "\r\n", &save)) != NULL) {
		char *colon = strchr(line, ':');

		if (colon != NULL) {
			*colon = '\0';
			parse_field(r, line, colon + 1 + strspn(colon + 1, " "));
		}
	}
	return true;
}

/* ---- counting and data --------------------------------------------------------------------- */

static struct counted_path *
find_path(const char *path)
{
	for (int i = 0; i < server.n_paths; i++)
		if (strcmp(server.paths[i].path, path) == 0)
			return &server.paths[i];
	return NULL;
}

enum { RANGE_TEXT_MAX = 48 };

/* FIRST, or FIRST-LAST; -1: there was none. */
static const char *
range_text(const struct request *r, char out[RANGE_TEXT_MAX])
{
	int n = snprintf(out, RANGE_TEXT_MAX, "%lld", (long long)r->range_first);

	if (r->range_last >= 0)
		snprintf(out + n, (size_t)(RANGE_TEXT_MAX - n), "-%lld", (long long)r->range_last);
	return out;
}

static long long
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
count(struct conn *c, struct request *r, bool new_connection)
{
	char range[RANGE_TEXT_MAX];

	pthread_mutex_lock(&server.lock);
	c->counted = find_path(r->path);
	if (c->counted == NULL && server.n_paths < MAX_PATHS) {
		c->counted = &server.paths[server.n_paths++];
		c->counted->path = strdup(r->path);
	}
	if (c->counted != NULL) {
		r->nth = (int)++c->counted->requests;
		c->counted->connections += new_connection;
	}
	if (server.log != NULL) {
		fprintf(server.log,
			"%s %s tls=%d connection=%lld host=%s range=%s if-range=%s at=%lld "
			"authorization=%s\n",
			r->method, r->path, c->tls != NULL, (long long)c->number, r->host,
			range_text(r, range), r->if_range[0] ? r->if_range : "-",
			now_ms(), r->authorization[0] ? r->authorization : "-");
		fflush(server.log);
	}
	pthread_mutex_unlock(&server.lock);
}

static bool
serve_stats(struct conn *c, const struct request *r)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	bool good;

	if (out == NULL)
		return false;
	pthread_mutex_lock(&server.lock);
	if (r->query[0] == '\0')
		fprintf(out, "connections %lld\nopen %lld %lld\nactive %lld %lld\n",
			(long long)server.connections, (long long)server.open.now,
			(long long)server.open.most, (long long)server.active.now,
			(long long)server.active.most);
	for (int i = 0; i < server.n_paths; i++) {
		const struct counted_path *p = &server.paths[i];

		if (r->query[0] == '\0' || strcmp(r->query, p->path) == 0)
			fprintf(out, "%s %lld %lld %lld\n", p->path, (long long)p->requests,
				(long long)p->bytes, (long long)p->connections);
	}
	pthread_mutex_unlock(&server.lock);
	fclose(out);
	good = conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len) &&
	       conn_send(c, text, len);
	free(text);
	return good;
}

/* The last component names a file in the root; without a root there is one file for all. */
static int
open_data(const struct request *r)
{
	const char *name = strrchr(r->path, '/') + 1;
	char path[REQUEST_TEXT_MAX * 2];

	if (server.root == NULL)
		return open(server.data_file, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/%s", server.root,
		 name[0] != '\0' && name[0] != '.' ? name : "index");
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* A file that is replaced between two requests is seen by the second. */
static bool
serve_data(struct conn *c, struct request *r)
{
	void *data = NULL;
	struct stat st;
	bool good;
	int fd = open_data(r);

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		return conn_printf(c, "HTTP/1.1 404 No such file\r\nContent-Length: 0\r\n\r\n");
	}
	if (st.st_size > 0)
		data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (data == MAP_FAILED)
		return false;
	r->data = data != NULL ? data : (const unsigned char *)"";
	r->size = st.st_size;
	good = mode_serve(c, r);
	if (data != NULL)
		munmap(data, (size_t)st.st_size);
	return good;
}

static bool
serve_request(struct conn *c, struct request *r, bool new_connection)
{
	bool good;

	if (strcmp(r->mode, "stats") == 0) {
		c->counted = NULL;
		return serve_stats(c, r);
	}
	if (strcmp(r->mode, "release") == 0) {
		release(strcmp(r->query, "always") == 0);
		return conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	}
	count(c, r, new_connection);
	gauge_add(&server.active, 1);
	good = serve_data(c, r);
	gauge_add(&server.active, -1);
	return good;
}

static void *
serve_connection(void *arg)
{
	struct conn *c = arg;
	struct request *r = malloc(sizeof(*r));
	bool good = r != NULL && (c->tls == NULL || SSL_accept(c->tls) == 1);

	for (int n = 0; good; n++) {
		size_t len = read_head(c);

		good = len > 0;
		if (good) {
			c->in[len - 1] = '\0';
			good = parse_head(r, c->in) && serve_request(c, r, n == 0);
			memmove(c->in, c->in + len, c->in_len - len);
			c->in_len -= len;
		}
	}
	ERR_clear_error();
	/* No SSL_shutdown(): a peer that is cut off must not be told that this was the end. */
	SSL_free(c->tls);
	shutdown(c->fd, SHUT_RDWR);
	close(c->fd);
	gauge_add(&server.open, -1);
	free(c);
	free(r);
	return NULL;
}

/* ---- listening ----------------------------------------------------------------------------- */

static void
add_listener(const char *name, int port, SSL_CTX *tls)
{
	if (server.n_listeners == MAX_PORTS)
		hostile_die("too many ports");
	server.listeners[server.n_listeners].fd = port_open(128, &port);
	server.listeners[server.n_listeners++].tls = tls;
	printf("%s %d\n", name, port);
}

static void
accept_one(const struct listener *l)
{
	struct conn *c = calloc(1, sizeof(*c));
	pthread_attr_t attr;
	pthread_t thread;
	int one = 1;

	if (c == NULL)
		hostile_die("no memory");
	c->cut_after = -1;
	c->fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	if (c->fd < 0) {
		free(c);
		return;
	}
	if (l->tls != NULL) {
		c->tls = SSL_new(l->tls);
		SSL_set_fd(c->tls, c->fd);
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	pthread_mutex_lock(&server.lock);
	c->number = ++server.connections;
	pthread_mutex_unlock(&server.lock);
	gauge_add(&server.open, 1);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, serve_connection, c) != 0)
		hostile_die("no thread");
	pthread_attr_destroy(&attr);
}

static void
accept_loop(void)
{
	struct pollfd p[MAX_PORTS];

	for (int i = 0; i < server.n_listeners; i++)
		p[i] = (struct pollfd){ server.listeners[i].fd, POLLIN, 0 };
	for (;;) {
		if (poll(p, (nfds_t)server.n_listeners, -1) < 0 && errno != EINTR)
			hostile_die("poll: %s", strerrordesc_np(errno));
		for (int i = 0; i < server.n_listeners; i++)
			if (p[i].revents != 0)
				accept_one(&server.listeners[i]);
	}
}

static void
usage(void)
{
	printf("usage: hostile (--data FILE | --root DIR) [--port N] [--log FILE]\n"
	       "               [--tls CERT:KEY[:old|:demand]]...\n"
	       "serves http://127.0.0.1:PORT/MODE[:ARG]/NAME; /stats and /release besides\n");
	mode_help();
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "data", required_argument, NULL, 'd' }, { "root", required_argument, NULL, 'r' },
		{ "log", required_argument, NULL, 'l' },  { "tls", required_argument, NULL, 't' },
		{ "port", required_argument, NULL, 'p' }, { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	SSL_CTX *tls[MAX_PORTS];
	int o, n_tls = 0, port = 0, refused = 0, silent = 0, full = 0;

	signal(SIGPIPE, SIG_IGN);
	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (o == 'd')
			server.data_file = optarg;
		else if (o == 'r')
			server.root = optarg;
		else if (o == 'l' && (server.log = fopen(optarg, "ae")) == NULL)
			hostile_die("cannot write %s", optarg);
		else if (o == 't' && n_tls < MAX_PORTS - 1)
			tls[n_tls++] = port_tls(optarg);
		else if (o == 'p')
			port = (int)strtol(optarg, NULL, 10);
		else if (o != 'l')
			return usage(), o == 'h' ? 0 : 2;
	}
	if (server.data_file == NULL && server.root == NULL)
		return usage(), 2;
	server.release_fd = eventfd(0, EFD_CLOEXEC);
	add_listener("http", port, NULL);
	for (int i = 0; i < n_tls; i++)
		add_listener("https", 0, tls[i]);
	port_open(-1, &refused);
	port_open(128, &silent);
	port_open_full(&full);
	printf("refused %d\nsilent %d\nfull %d\nready\n", refused, silent, full);
	fflush(stdout);
	accept_loop();
}
