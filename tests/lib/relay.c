/*
 * relay.c - a long line in front of a server on this host: TCP connections with a round trip and a
 * rate.
 *
 *   relay --to PORT [--delay MS] [--rate BYTES] [--port N]
 *
 *     --delay MS      a round trip; every byte is held for half of it each way, without holding up
 *                     those behind it
 *     --rate BYTES    a second, in each direction, of all connections together, shared fairly
 *     --port N        listens there; any free port by default
 *
 * The first bytes of a client wait for one more round trip, because to connect takes one.  Slow
 * start and losses are not played.
 *
 * Prints "port N", "stats N" and "ready".  Who connects to the second port is told
 *
 *     connections 12
 *     open 2
 *     most 4                 at the same time, as the clients see it
 *     up 4711                bytes that have arrived at the server
 *     down 123456            bytes that have arrived at the clients
 *
 * Listens on and connects to 127.0.0.1 only.  One thread, ends when it is killed.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNS = 512, CHUNK_MAX = 64 << 10, CHUNK_MIN = 1500, BUFFER = 1 << 20 };

static const int64_t second = 1000000000, millisecond = 1000000;
/* So late we may be and still keep the rate. */
static const int64_t burst_ns = 5000000;

/* What travels; len 0 is the end. */
struct chunk {
	struct chunk *next;
	int64_t due;			/* when it arrives */
	size_t len, sent;
	unsigned char data[];
};

/* One direction of the line. */
struct line {
	int64_t free_at;		/* when the last byte will have left */
	int64_t n_bytes;		/* arrived */
};

/* One direction of one connection. */
struct pump {
	int from, to;
	struct line *line;
	struct chunk *first, **last;
	size_t held;
	int64_t not_before;		/* nothing leaves before */
	bool ended, shut;
};

struct conn {
	int client, server;		/* client -1: free */
	struct pump up, down;
	bool is_held;			/* the client has not closed it */
};

static struct {
	int listener, stats, to_port;
	int64_t half_trip, rate;	/* rate 0: unlimited */
	size_t window;			/* of one pump */
	struct line up, down;
	struct conn conns[MAX_CONNS];
	int64_t n_connections, n_open, n_held, n_most;
	int turn;			/* who may read first */
} relay;

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * second + ts.tv_nsec;
}

/* ---- pumps ------------------------------------------------------------------------------- */

static void
pump_init(struct pump *p, int from, int to, struct line *line, int64_t not_before)
{
	*p = (struct pump){ .from = from, .to = to, .line = line, .not_before = not_before };
	p->last = &p->first;
}

static void
pump_clear(struct pump *p)
{
	while (p->first != NULL) {
		struct chunk *next = p->first->next;

		free(p->first);
		p->first = next;
	}
	p->held = 0;
	p->last = &p->first;
}

static bool
pump_has_room(const struct pump *p)
{
	return !p->ended && p->held < relay.window;
}

static size_t
chunk_room(void)
{
	int64_t room = relay.rate > 0 ? relay.rate / 1000 : CHUNK_MAX;

	if (room < CHUNK_MIN)
		room = CHUNK_MIN;
	return room > CHUNK_MAX ? CHUNK_MAX : (size_t)room;
}

/* When n bytes that want to leave now have left. */
static int64_t
line_pass(struct line *line, size_t n, int64_t now)
{
	if (relay.rate == 0)
		return now;
	if (line->free_at < now - burst_ns)
		line->free_at = now - burst_ns;
	line->free_at += (int64_t)n * second / relay.rate;
	return line->free_at > now ? line->free_at : now;
}

static void
pump_read(struct pump *p, int64_t now)
{
	size_t room = chunk_room();
	struct chunk *c = malloc(sizeof(*c) + room);
	ssize_t n;

	if (c == NULL)
		die("relay: no memory");
	n = recv(p->from, c->data, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		free(c);
		return;
	}
	c->next = NULL;
	c->sent = 0;
	c->len = n > 0 ? (size_t)n : 0;
	c->due = line_pass(p->line, c->len, now);
	if (c->due < p->not_before)
		c->due = p->not_before;
	c->due += relay.half_trip;
	p->ended = c->len == 0;
	p->held += c->len;
	*p->last = c;
	p->last = &c->next;
}

static void
pump_drop_first(struct pump *p)
{
	struct chunk *c = p->first;

	p->first = c->next;
	if (p->first == NULL)
		p->last = &p->first;
	p->held -= c->len;
	free(c);
}

/* What has arrived.  False: the peer is gone. */
static bool
pump_write(struct pump *p, int64_t now)
{
	while (p->first != NULL && p->first->due <= now) {
		struct chunk *c = p->first;
		ssize_t n;

		if (c->len == 0) {
			shutdown(p->to, SHUT_WR);
			p->shut = true;
			pump_drop_first(p);
			continue;
		}
		n = send(p->to, c->data + c->sent, c->len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		p->line->n_bytes += n;
		c->sent += (size_t)n;
		if (c->sent == c->len)
			pump_drop_first(p);
	}
	return true;
}

/* ---- connections ------------------------------------------------------------------------- */

static void
conn_let_go(struct conn *c)
{
	relay.n_held -= c->is_held;
	c->is_held = false;
}

static void
conn_close(struct conn *c)
{
	conn_let_go(c);
	close(c->client);
	close(c->server);
	c->client = c->server = -1;
	pump_clear(&c->up);
	pump_clear(&c->down);
	relay.n_open--;
}

static struct conn *
conn_slot(void)
{
	for (int i = 0; i < MAX_CONNS; i++)
		if (relay.conns[i].client < 0)
			return &relay.conns[i];
	return NULL;
}

static void
socket_setup(int fd)
{
	int one = 1, buffer = BUFFER;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* What waits should wait at the sender, as it would on a long line. */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
}

static int
connect_server(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				   .sin_port = htons((uint16_t)relay.to_port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		socket_setup(fd);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sin, sizeof(sin)) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* A server that is not there is a connection that is closed at once. */
static void
conn_accept(int64_t now)
{
	int client = accept4(relay.listener, NULL, NULL, SOCK_CLOEXEC), server;
	struct conn *c = conn_slot();

	if (client < 0)
		return;
	relay.n_connections++;
	server = c != NULL ? connect_server() : -1;
	if (server < 0) {
		close(client);
		return;
	}
	socket_setup(client);
	c->client = client;
	c->server = server;
	pump_init(&c->up, client, server, &relay.up, now + 2 * relay.half_trip);
	pump_init(&c->down, server, client, &relay.down, 0);
	relay.n_open++;
	c->is_held = true;
	if (++relay.n_held > relay.n_most)
		relay.n_most = relay.n_held;
}

static void
tell_stats(void)
{
	int fd = accept4(relay.stats, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	dprintf(fd, "connections %" PRId64 "\nopen %" PRId64 "\nmost %" PRId64 "\nup %" PRId64
		"\ndown %" PRId64 "\n", relay.n_connections, relay.n_open, relay.n_most,
		relay.up.n_bytes, relay.down.n_bytes);
	close(fd);
}

/* ---- the loop ---------------------------------------------------------------------------- */

struct wait {
	struct pollfd fds[2 + 2 * MAX_CONNS];
	nfds_t n;
	int64_t until;			/* -1: nothing is due */
};

static void
wait_until(struct wait *w, int64_t when)
{
	if (w->until < 0 || when < w->until)
		w->until = when;
}

static short
wait_events(struct wait *w, const struct pump *reads, const struct pump *writes, int64_t now)
{
	short events = 0;

	if (pump_has_room(reads)) {
		if (relay.rate == 0 || reads->line->free_at <= now)
			events |= POLLIN;
		else
			wait_until(w, reads->line->free_at);
	}
	if (writes->first != NULL) {
		if (writes->first->due <= now)
			events |= POLLOUT;
		else
			wait_until(w, writes->first->due);
	}
	return events;
}

static void
wait_fill(struct wait *w, int64_t now)
{
	w->until = -1;
	w->n = 0;
	w->fds[w->n++] = (struct pollfd){ relay.listener, POLLIN, 0 };
	w->fds[w->n++] = (struct pollfd){ relay.stats, POLLIN, 0 };
	for (int i = 0; i < MAX_CONNS; i++) {
		struct conn *c = &relay.conns[i];

		if (c->client < 0)
			continue;
		/*
		 * A negative descriptor is not looked at: a closed peer would be told of for ever.
		 */
		short client = wait_events(w, &c->up, &c->down, now);
		short server = wait_events(w, &c->down, &c->up, now);

		w->fds[w->n++] = (struct pollfd){ client != 0 ? c->client : -1, client, 0 };
		w->fds[w->n++] = (struct pollfd){ server != 0 ? c->server : -1, server, 0 };
	}
}

/* Each in turn reads once, as long as the line is free. */
static void
read_all(int64_t now)
{
	int begin = relay.turn;

	for (int i = 0; i < MAX_CONNS; i++) {
		int at = (begin + i) % MAX_CONNS;
		struct conn *c = &relay.conns[at];
		struct pump *pumps[2] = { &c->up, &c->down };

		for (int j = 0; c->client >= 0 && j < 2; j++) {
			if (!pump_has_room(pumps[j]) ||
			    (relay.rate > 0 && pumps[j]->line->free_at > now))
				continue;
			pump_read(pumps[j], now);
			if (c->up.ended)
				conn_let_go(c);
			relay.turn = (at + 1) % MAX_CONNS;
		}
	}
}

static void
write_all(int64_t now)
{
	for (int i = 0; i < MAX_CONNS; i++) {
		struct conn *c = &relay.conns[i];

		if (c->client >= 0 &&
		    (!pump_write(&c->up, now) || !pump_write(&c->down, now) ||
		     (c->up.shut && c->down.shut)))
			conn_close(c);
	}
}

static void __attribute__((noreturn))
run(void)
{
	static struct wait w;

	for (;;) {
		int64_t now = now_ns(), left;
		struct timespec ts;

		wait_fill(&w, now);
		left = w.until > now ? w.until - now : 0;
		ts = (struct timespec){ left / second, left % second };
		if (ppoll(w.fds, w.n, w.until >= 0 ? &ts : NULL, NULL) < 0 && errno != EINTR)
			die("relay: poll: %s", strerrordesc_np(errno));
		now = now_ns();
		/* Who closes one connection and then opens another never has two. */
		read_all(now);
		if (w.fds[0].revents != 0)
			conn_accept(now);
		if (w.fds[1].revents != 0)
			tell_stats();
		write_all(now);
	}
}

static int
open_port(const char *name, int port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				   .sin_port = htons((uint16_t)port) };
	socklen_t len = sizeof(sin);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) != 0 || listen(fd, 128) != 0 ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) != 0)
		die("relay: no port: %s", strerrordesc_np(errno));
	printf("%s %d\n", name, ntohs(sin.sin_port));
	return fd;
}

/* As much as is on its way in a round trip, twice. */
static size_t
window_size(void)
{
	int64_t most = 32 << 20, n = most;

	if (relay.rate > 0 && relay.rate / 1000 * (relay.half_trip / millisecond + 1) * 4 < n)
		n = relay.rate / 1000 * (relay.half_trip / millisecond + 1) * 4;
	return n < CHUNK_MAX ? CHUNK_MAX : (size_t)n;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "to", required_argument, NULL, 't' },	  { "delay", required_argument, NULL, 'd' },
		{ "rate", required_argument, NULL, 'r' }, { "port", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	int o, port = 0;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 't': relay.to_port = (int)strtol(optarg, NULL, 10); break;
		case 'd': relay.half_trip = strtoll(optarg, NULL, 10) * millisecond / 2; break;
		case 'r': relay.rate = strtoll(optarg, NULL, 10); break;
		case 'p': port = (int)strtol(optarg, NULL, 10); break;
		default: relay.to_port = 0; optind = argc; break;
		}
	}
	if (relay.to_port <= 0 || relay.half_trip < 0 || relay.rate < 0 || optind != argc) {
		fprintf(stderr, "usage: relay --to PORT [--delay MS] [--rate BYTES] [--port N]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < MAX_CONNS; i++)
		relay.conns[i].client = -1;
	relay.window = window_size();
	relay.listener = open_port("port", port);
	relay.stats = open_port("stats", 0);
	printf("ready\n");
	fflush(stdout);
	run();
}
