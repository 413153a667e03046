/*
 * test_fetcher.c - the fetcher as a child: the request socket, several requests, a reader or a
 * parent that goes away.  What servers can do to it is in spec/fetcher.sh.
 *
 * VMIMAGEFS_FETCHER and VMIMAGEFS_HOSTILE name the programs; without them everything is skipped.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/cleanup.h"
#include "core/fetch.h"
#include "core/io.h"

enum { IMAGE_BYTES = 3 << 20, PATIENCE_MS = 20000 };

static pid_t server, child;
static int port;
static char image_path[] = "/tmp/test_fetcher.XXXXXX";
static unsigned char image[IMAGE_BYTES];

/* In the place of the starter: the fetcher as our own child. */
int
starter_run(struct starter *s, enum starter_program program, int arg, const int *fds, size_t n_fds,
	    uint32_t *id, struct err *err)
{
	const char *path = getenv("VMIMAGEFS_FETCHER");

	(void)s;
	(void)program;
	(void)arg;
	(void)n_fds;
	(void)err;
	*id = 1;
	child = fork();
	if (child == 0) {
		dup2(fds[0], 3);
		fcntl(3, F_SETFD, 0);
		execl(path, "vmimagefs-fetcher", (char *)NULL);
		_exit(127);
	}
	return 0;
}

void
starter_kill(struct starter *s, uint32_t id)
{
	(void)s;
	(void)id;
}

/* ---- the web server ------------------------------------------------------------------------ */

static int
start_server(void **state)
{
	const char *path = getenv("VMIMAGEFS_HOSTILE");
	int fd = mkstemp(image_path);
	int out[2];
	FILE *ports;
	char line[64];

	(void)state;
	if (path == NULL || getenv("VMIMAGEFS_FETCHER") == NULL)
		return 0;
	for (size_t i = 0; i < sizeof(image); i++)
		image[i] = (unsigned char)(i * 2654435761u >> 13);
	if (fd < 0 || io_write_all(fd, image, sizeof(image)) != 0 || pipe2(out, O_CLOEXEC) != 0)
		return -1;
	close(fd);
	server = fork();
	if (server == 0) {
		dup2(out[1], 1);
		execl(path, "hostile", "--data", image_path, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	ports = fdopen(out[0], "r");
	while (ports != NULL && fgets(line, sizeof(line), ports) != NULL &&
	       strcmp(line, "ready\n") != 0)
		sscanf(line, "http %d", &port);
	if (ports != NULL)
		fclose(ports);
	return port != 0 ? 0 : -1;
}

static int
stop_server(void **state)
{
	(void)state;
	unlink(image_path);
	if (server > 0) {
		kill(server, SIGTERM);
		waitpid(server, NULL, 0);
	}
	return 0;
}

static void
need_programs(void)
{
	if (port == 0)
		skip();
}

/* ---- pieces -------------------------------------------------------------------------------- */

static struct starter *
nobody(void)
{
	return (struct starter *)(void *)&child;
}

static void
request_of(struct fetch_request *req, const char *mode)
{
	fetch_request_init(req, NULL);
	req->expected_size = req->max_bytes = IMAGE_BYTES;
	snprintf(req->url, sizeof(req->url), "http://127.0.0.1:%d/%s/image", port, mode);
}

/* Starts (or goes on with) *f; the read end of the pipe. */
static int
ask(struct fetch **f, const struct fetch_request *req)
{
	struct err err = { 0 };
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	if (*f == NULL)
		assert_int_equal(fetch_start(f, nobody(), req, fds[1], &err), 0);
	else
		assert_int_equal(fetch_again(*f, req, fds[1], &err), 0);
	return fds[0];
}

static struct fetch_answer
wait_answer(struct fetch *f)
{
	struct pollfd p = { fetch_fd(f), POLLIN, 0 };
	struct fetch_answer a = { 0 };
	struct err err = { 0 };
	int n = 0;

	while (n == 0) {
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		n = fetch_take(f, &a, &err);
	}
	assert_int_equal(n, 1);
	return a;
}

static void
read_image(int fd, size_t from)
{
	CLEANUP_BUF struct buf got = BUF_INIT;

	assert_int_equal(io_read_to_end(fd, IMAGE_BYTES, &got), 0);
	close(fd);
	assert_int_equal(got.len, IMAGE_BYTES - from);
	assert_memory_equal(got.data, image + from, got.len);
}

/* Ends when its socket does; the status says that it ended by itself. */
static void
assert_child_ends_well(void)
{
	int status = -1;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int64_t
connections_of(const char *path)
{
	CLEANUP_BUF struct buf body = BUF_INIT;
	struct fetch_request req;
	struct err err = { 0 };
	int64_t requests = 0, bytes = 0, connections = 0;

	fetch_request_init(&req, NULL);
	snprintf(req.url, sizeof(req.url), "http://127.0.0.1:%d/stats?%s", port, path);
	assert_int_equal(fetch_to_buf(nobody(), &req, &body, &err), 0);
	waitpid(child, NULL, 0);
	assert_int_equal(sscanf(buf_str(&body), "%*s %" SCNd64 " %" SCNd64 " %" SCNd64, &requests,
				&bytes, &connections), 3);
	return connections;
}

/* ---- tests --------------------------------------------------------------------------------- */

static void
answers_in_order(void **state)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "ok");
	fd = ask(&f, &req);
	a = wait_answer(f);
	assert_int_equal(a.kind, FETCH_BEGIN);
	assert_int_equal(a.total, IMAGE_BYTES);
	assert_string_equal(a.etag, "\"v1\"");
	read_image(fd, 0);
	a = wait_answer(f);
	assert_int_equal(a.kind, FETCH_END);
	assert_int_equal(a.rc, 0);
	assert_int_equal(a.bytes, IMAGE_BYTES);
	assert_int_equal(a.http_status, 200);
	fetch_free(f);
	assert_child_ends_well();
}

static void
second_request(void **state)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "ok:warm");
	fd = ask(&f, &req);
	wait_answer(f);
	read_image(fd, 0);
	wait_answer(f);
	req.offset = 1000;
	snprintf(req.etag, sizeof(req.etag), "\"v1\"");
	fd = ask(&f, &req);
	assert_int_equal(wait_answer(f).offset, 1000);
	read_image(fd, 1000);
	assert_int_equal(wait_answer(f).http_status, 206);
	fetch_free(f);
	assert_child_ends_well();
	/* Each closed before its end was told, so that places of fetch_parallel are connections. */
	assert_int_equal(connections_of("/ok:warm/image"), 2);
}

static void
read_part(int fd, size_t from, size_t len)
{
	CLEANUP_BUF struct buf got = BUF_INIT;

	assert_int_equal(io_read_to_end(fd, IMAGE_BYTES, &got), 0);
	close(fd);
	assert_int_equal(got.len, len);
	assert_memory_equal(got.data, image + from, got.len);
}

static void
parts_over_one_connection(void **state)
{
	static const int64_t parts[][2] = {
		{ 0, 100 }, { 262144, 262144 }, { 1000000, 1 }, { IMAGE_BYTES - 7, 7 },
	};
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;

	(void)state;
	need_programs();
	request_of(&req, "ok:parts");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		int fd;

		req.offset = parts[i][0];
		req.length = parts[i][1];
		fd = ask(&f, &req);
		a = wait_answer(f);
		assert_int_equal(a.kind, FETCH_BEGIN);
		assert_int_equal(a.offset, req.offset);
		assert_int_equal(a.total, IMAGE_BYTES);
		read_part(fd, (size_t)req.offset, (size_t)req.length);
		a = wait_answer(f);
		assert_int_equal(a.rc, 0);
		assert_int_equal(a.bytes, req.length);
	}
	fetch_free(f);
	assert_child_ends_well();
	assert_int_equal(connections_of("/ok:parts/image"), 1);
}

/* END alone, and the pipe ends empty. */
static void
part_refused(const char *mode, enum code code)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;
	int fd;

	request_of(&req, mode);
	req.offset = 1000;
	req.length = 5000;
	fd = ask(&f, &req);
	a = wait_answer(f);
	assert_int_equal(a.kind, FETCH_END);
	assert_int_equal(a.code, code);
	assert_int_equal(a.bytes, 0);
	read_part(fd, 0, 0);
	fetch_free(f);
	assert_child_ends_well();
}

static void
whole_instead_of_part(void **state)
{
	(void)state;
	need_programs();
	part_refused("norange", CODE_RANGE);
	part_refused("wrongrange", CODE_RANGE);
	part_refused("nototal", CODE_RANGE);
	part_refused("othertotal", CODE_SIZE);
}

static void
part_in_part(void **state)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "shortrange");
	req.offset = 1000;
	req.length = 5000;
	fd = ask(&f, &req);
	wait_answer(f);
	read_part(fd, 1000, 2500);
	a = wait_answer(f);
	assert_int_equal(a.rc, 0);
	assert_int_equal(a.bytes, 2500);
	fetch_free(f);
	assert_child_ends_well();
}

static void
part_cut_short(void **state)
{
	CLEANUP_BUF struct buf got = BUF_INIT;
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "rangeendless");
	req.offset = 1000;
	req.length = 5000;
	fd = ask(&f, &req);
	wait_answer(f);
	assert_int_equal(io_read_to_end(fd, IMAGE_BYTES, &got), 0);
	close(fd);
	a = wait_answer(f);
	assert_int_equal(a.code, CODE_RANGE);
	assert_in_range(got.len, 5000, 5001);
	assert_memory_equal(got.data, image + 1000, 5000);
	fetch_free(f);
	assert_child_ends_well();
}

static void
refusal_then_success(void **state)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "status:503");
	snprintf(req.url + strlen(req.url), 16, "?retry=%s", "7");
	fd = ask(&f, &req);
	a = wait_answer(f);
	assert_int_equal(a.kind, FETCH_END);
	assert_int_equal(a.code, CODE_DOWNLOAD);
	assert_int_equal(a.http_status, 503);
	assert_int_equal(a.retry_after, 7);
	close(fd);
	request_of(&req, "ok");
	fd = ask(&f, &req);
	assert_int_equal(wait_answer(f).kind, FETCH_BEGIN);
	read_image(fd, 0);
	assert_int_equal(wait_answer(f).rc, 0);
	fetch_free(f);
	assert_child_ends_well();
}

static void
cut_in_the_middle(void **state)
{
	CLEANUP_BUF struct buf got = BUF_INIT;
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "cut:50");
	fd = ask(&f, &req);
	wait_answer(f);
	assert_int_equal(io_read_to_end(fd, IMAGE_BYTES, &got), 0);
	close(fd);
	a = wait_answer(f);
	assert_int_equal(a.rc, -ECONNRESET);
	assert_int_equal(a.code, CODE_SLOW);
	assert_int_equal(a.bytes, IMAGE_BYTES / 2);
	assert_int_equal(got.len, IMAGE_BYTES / 2);
	fetch_free(f);
	assert_child_ends_well();
}

/* What became of a request; its body stays in the pipe, which has room for half a megabyte. */
static struct fetch_answer
end_of(const struct fetch_request *req)
{
	struct fetch *f = NULL;
	struct fetch_answer a;
	int fd = ask(&f, req);

	a = wait_answer(f);
	if (a.kind == FETCH_BEGIN)
		a = wait_answer(f);
	assert_int_equal(a.kind, FETCH_END);
	close(fd);
	fetch_free(f);
	assert_child_ends_well();
	return a;
}

static void
silence_ends(void **state)
{
	static const char *const modes[] = { "silent", "stall:10", "headerdrip:300" };
	struct fetch_request req;

	(void)state;
	need_programs();
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		request_of(&req, modes[i]);
		req.stall_timeout = 1;
		assert_int_equal(end_of(&req).code, CODE_SLOW);
	}
}

/* To libcurl that is a success. */
static void
cut_without_length(void **state)
{
	struct fetch_request req;
	struct fetch_answer a;

	(void)state;
	need_programs();
	request_of(&req, "cutnolen:10");
	a = end_of(&req);
	assert_int_equal(a.code, CODE_SLOW);
	assert_int_equal(a.bytes, IMAGE_BYTES / 10);
}

static void
redirects_refused(void **state)
{
	struct fetch_request req;
	struct fetch_answer a;

	(void)state;
	need_programs();
	request_of(&req, "chain:5");
	a = end_of(&req);
	assert_int_equal(a.code, CODE_DOWNLOAD);
	assert_non_null(strstr(a.text, "redirect"));
	request_of(&req, "redirect");
	snprintf(req.url + strlen(req.url), 64, "?to=%s", "ftp://127.0.0.1/x");
	a = end_of(&req);
	assert_int_equal(a.code, CODE_DOWNLOAD);
	assert_non_null(strstr(a.text, "neither http nor https"));
}

static void
secret_without_tls(void **state)
{
	struct fetch_request req;
	struct fetch_answer a;

	(void)state;
	need_programs();
	request_of(&req, "auth");
	snprintf(req.username, sizeof(req.username), "user");
	snprintf(req.password, sizeof(req.password), "secret");
	a = end_of(&req);
	assert_true(a.rc < 0);
	assert_int_equal(a.http_status, 0);
}

static void
file_elsewhere(void **state)
{
	struct fetch_request req;
	struct fetch_answer a;

	(void)state;
	need_programs();
	request_of(&req, "");
	snprintf(req.url, sizeof(req.url), "file://%s", image_path);
	snprintf(req.file_prefix, sizeof(req.file_prefix), "/usr");
	a = end_of(&req);
	assert_int_equal(a.code, CODE_DOWNLOAD);
	/* EACCES would be Landlock's: no word of ours. */
	assert_int_equal(a.rc, -EPERM);
}

static void
reader_gone(void **state)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "stall:10");
	req.stall_timeout = 3600;
	fd = ask(&f, &req);
	wait_answer(f);
	close(fd);
	a = wait_answer(f);
	assert_int_equal(a.kind, FETCH_END);
	assert_int_equal(a.rc, -EPIPE);
	fetch_free(f);
	assert_child_ends_well();
}

static void
parent_gone(void **state)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "silent");
	req.stall_timeout = 3600;
	fd = ask(&f, &req);
	fetch_free(f);
	assert_child_ends_well();
	close(fd);
}

/* The pipe holds 1 MiB, the image is 3 MiB, the stall timeout passes while nobody reads. */
static void
reader_slow(void **state)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	struct pollfd p;
	int fd;

	(void)state;
	need_programs();
	request_of(&req, "ok");
	req.stall_timeout = 1;
	fd = ask(&f, &req);
	wait_answer(f);
	p = (struct pollfd){ fetch_fd(f), POLLIN, 0 };
	assert_int_equal(poll(&p, 1, 2500), 0);
	read_image(fd, 0);
	assert_int_equal(wait_answer(f).rc, 0);
	fetch_free(f);
	assert_child_ends_well();
}

static void
list_in_memory(void **state)
{
	CLEANUP_BUF struct buf got = BUF_INIT;
	struct fetch_request req;
	struct err err = { 0 };

	(void)state;
	need_programs();
	request_of(&req, "ok");
	assert_int_equal(fetch_to_buf(nobody(), &req, &got, &err), 0);
	assert_int_equal(got.len, IMAGE_BYTES);
	assert_memory_equal(got.data, image, IMAGE_BYTES);
	waitpid(child, NULL, 0);
	request_of(&req, "endless");
	req.expected_size = -1;
	req.max_bytes = 100000;
	assert_int_equal(fetch_to_buf(nobody(), &req, &got, &err), -EBADMSG);
	assert_int_equal(err.code, CODE_TOO_MUCH);
	assert_int_equal(got.len, 0);
	waitpid(child, NULL, 0);
}

static void
sandbox_holds_for_files(void **state)
{
	struct fetch *f = NULL;
	struct fetch_request req;
	struct fetch_answer a;
	char other[] = "/tmp/test_fetcher_other.XXXXXX";
	int fd, file;

	(void)state;
	need_programs();
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0)
		skip();		/* a kernel without Landlock */
	file = mkstemp(other);
	assert_true(file >= 0);
	request_of(&req, "ok");
	fd = ask(&f, &req);
	wait_answer(f);
	read_image(fd, 0);
	wait_answer(f);
	/* A file that the first request did not name cannot be opened any more. */
	req.expected_size = -1;
	snprintf(req.url, sizeof(req.url), "file://%s", other);
	close(ask(&f, &req));
	a = wait_answer(f);
	assert_int_equal(a.kind, FETCH_END);
	assert_int_equal(a.rc, -EACCES);
	close(file);
	unlink(other);
	fetch_free(f);
	assert_child_ends_well();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "BEGIN comes before the body, END after it", answers_in_order, NULL, NULL, NULL },
		{ "C17 a second request is answered; the connection of a whole file is closed with"
		  " it", second_request, NULL, NULL, NULL },
		{ "parts of a file come over one connection", parts_over_one_connection, NULL, NULL,
		  NULL },
		{ "T26 T27 of what is not the part that was asked for no byte is passed on",
		  whole_instead_of_part, NULL, NULL, NULL },
		{ "T28 a shorter part ends well, and END says how much came", part_in_part, NULL,
		  NULL, NULL },
		{ "a body that goes on after its part is refused", part_cut_short, NULL, NULL,
		  NULL },
		{ "T24 after an HTTP error the next request is served", refusal_then_success, NULL,
		  NULL, NULL },
		{ "T08 a cut body is counted to the byte", cut_in_the_middle, NULL, NULL, NULL },
		{ "T03 T04 T06 a server that says no more is given up", silence_ends, NULL, NULL,
		  NULL },
		{ "T09 a body cut short without a length is not whole", cut_without_length, NULL,
		  NULL, NULL },
		{ "T20 T22 there are four redirects at most, and all to http or https",
		  redirects_refused, NULL, NULL, NULL },
		{ "a password goes to nobody without TLS", secret_without_tls, NULL, NULL, NULL },
		{ "a file that does not lie below file_prefix is refused", file_elsewhere, NULL,
		  NULL, NULL },
		{ "a reader that closes the pipe ends a stalled transfer", reader_gone, NULL, NULL,
		  NULL },
		{ "a fetcher ends when its parent does, also while it waits", parent_gone, NULL,
		  NULL, NULL },
		{ "a reader that takes its time is not held against the server", reader_slow, NULL,
		  NULL, NULL },
		{ "T13 a list comes into memory whole or not at all", list_in_memory, NULL, NULL,
		  NULL },
		{ "X10 the sandbox holds for later requests", sandbox_holds_for_files, NULL, NULL,
		  NULL },
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("fetcher", tests, start_server, stop_server);
}
