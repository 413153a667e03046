/*
 * test_fetch.c - our side of the request socket.  starter_run() is replaced: what it "starts" is a
 * child of the test that speaks the protocol by a script, also wrongly.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/fetch.h"
#include "core/io.h"

/* ---- the other side ------------------------------------------------------------------------ */

static void (*script)(int sock);
static pid_t child;
static int n_killed;

int
starter_run(struct starter *s, enum starter_program program, int arg, const int *fds, size_t n_fds,
	    uint32_t *id, struct err *err)
{
	(void)s;
	(void)arg;
	assert_int_equal(program, STARTER_FETCHER);
	assert_int_equal(n_fds, 1);
	if (script == NULL)
		return err_set(err, ENOENT, "no program");
	*id = 7;
	child = fork();
	if (child == 0) {
		int sock = dup(fds[0]);

		for (int fd = 3; fd < 64; fd++)
			if (fd != sock)
				close(fd);
		script(sock);
		_exit(0);
	}
	return 0;
}

void
starter_kill(struct starter *s, uint32_t id)
{
	(void)s;
	assert_int_equal(id, 7);
	n_killed++;
	kill(child, SIGKILL);
}

static int
no_child_left(void **state)
{
	(void)state;
	if (child > 0)
		waitpid(child, NULL, 0);
	child = 0;
	script = NULL;
	n_killed = 0;
	return 0;
}

static int
take_request(int sock, struct fetch_request *req)
{
	int fd = -1;
	size_t n = 1;

	if (io_recv_fds(sock, req, sizeof(*req), &fd, &n) != (ssize_t)sizeof(*req) || n != 1)
		_exit(1);
	return fd;
}

static void
answer(int sock, enum fetch_kind kind, int64_t number, int rc, int code, const char *text)
{
	struct fetch_answer a = { .magic = FETCH_ANSWER_MAGIC, .kind = (int32_t)kind,
				  .total = -1, .rc = rc, .code = code };

	if (kind == FETCH_BEGIN)
		a.offset = number;
	else
		a.bytes = number;
	snprintf(a.text, sizeof(a.text), "%s", text);
	io_send_fds(sock, &a, sizeof(a), NULL, 0);
}

static void
send_hello(int sock)
{
	struct fetch_request req;
	int fd = take_request(sock, &req);

	answer(sock, FETCH_BEGIN, 0, 0, 0, "");
	io_write_all(fd, "hello", 5);
	close(fd);
	answer(sock, FETCH_END, 5, 0, 0, "");
}

static void
send_hello_for_ever(int sock)
{
	for (;;)
		send_hello(sock);
}

static void
refuse_before_the_body(int sock)
{
	struct fetch_request req;

	close(take_request(sock, &req));
	answer(sock, FETCH_END, 0, -EBADMSG, CODE_SIZE, "server announces another size");
}

static void
cut_after_begin(int sock)
{
	struct fetch_request req;
	int fd = take_request(sock, &req);

	answer(sock, FETCH_BEGIN, 0, 0, 0, "");
	io_write_all(fd, "hel", 3);
	close(fd);
	answer(sock, FETCH_END, 3, -ECONNRESET, CODE_SLOW, "cut");
}

static void
die_at_once(int sock)
{
	struct fetch_request req;

	take_request(sock, &req);
	_exit(1);
}

static void
stay_silent(int sock)
{
	struct fetch_request req;

	take_request(sock, &req);
	for (;;)
		pause();
}

static void
send_too_much(int sock)
{
	static char piece[4096];
	struct fetch_request req;
	int fd = take_request(sock, &req);

	answer(sock, FETCH_BEGIN, 0, 0, 0, "");
	while (io_write_all(fd, piece, sizeof(piece)) == 0)
		;
}

static void
count_wrongly(int sock)
{
	struct fetch_request req;
	int fd = take_request(sock, &req);

	answer(sock, FETCH_BEGIN, 0, 0, 0, "");
	io_write_all(fd, "hello", 5);
	close(fd);
	answer(sock, FETCH_END, 6, 0, 0, "");
}

static void
end_well_without_begin(int sock)
{
	struct fetch_request req;

	close(take_request(sock, &req));
	answer(sock, FETCH_END, 0, 0, 0, "");
}

static void
begin_at(int sock, int64_t offset, int64_t total)
{
	struct fetch_answer a = { .magic = FETCH_ANSWER_MAGIC, .kind = FETCH_BEGIN,
				  .offset = offset, .total = total };

	io_send_fds(sock, &a, sizeof(a), NULL, 0);
}

static void
begin_elsewhere_at(int sock, int64_t offset, int64_t total)
{
	struct fetch_request req;

	take_request(sock, &req);
	begin_at(sock, offset, total);
	pause();
}

static void
begin_elsewhere(int sock)
{
	struct fetch_request req;

	take_request(sock, &req);
	answer(sock, FETCH_BEGIN, 99, 0, 0, "");
	pause();
}

static void
begin_twice(int sock)
{
	struct fetch_request req;

	take_request(sock, &req);
	answer(sock, FETCH_BEGIN, 0, 0, 0, "");
	answer(sock, FETCH_BEGIN, 0, 0, 0, "");
	pause();
}

static void
send_control_bytes(int sock)
{
	struct fetch_request req;

	close(take_request(sock, &req));
	answer(sock, FETCH_END, 0, -EIO, CODE_DOWNLOAD, "line\nforged line");
	pause();
}

static void
send_half_an_answer(int sock)
{
	struct fetch_request req;

	take_request(sock, &req);
	io_send_fds(sock, "half", 4, NULL, 0);
	pause();
}

static void
end_with_a_strange_code(int sock)
{
	struct fetch_request req;

	take_request(sock, &req);
	answer(sock, FETCH_END, 0, -EIO, 4711, "x");
	pause();
}

static void
begin_with_the_whole(int sock)
{
	begin_elsewhere_at(sock, 0, 100);
}

static void
begin_with_another_size(int sock)
{
	begin_elsewhere_at(sock, 10, 101);
}

static void
begin_with_no_size(int sock)
{
	begin_elsewhere_at(sock, 10, -1);
}

static void
send_more_than_the_part(int sock)
{
	struct fetch_request req;

	take_request(sock, &req);
	begin_at(sock, 10, 100);
	answer(sock, FETCH_END, 21, 0, 0, "");
	pause();
}

/* ---- tests --------------------------------------------------------------------------------- */

static int
to_buf(void (*what)(int), struct buf *out, struct err *err)
{
	struct fetch_request req;

	fetch_request_init(&req, NULL);
	req.max_bytes = 1 << 20;
	req.total_timeout = 1;
	script = what;
	buf_init(out);
	memset(err, 0, sizeof(*err));
	return fetch_to_buf((struct starter *)&script, &req, out, err);
}

static void
whole_body(void **state)
{
	struct buf out;
	struct err err;

	(void)state;
	assert_int_equal(to_buf(send_hello, &out, &err), 0);
	assert_int_equal(out.len, 5);
	assert_string_equal(buf_str(&out), "hello");
	assert_int_equal(n_killed, 1);
	buf_release(&out);
}

static void
sentence_passed_on(void **state)
{
	struct buf out;
	struct err err;

	(void)state;
	assert_int_equal(to_buf(refuse_before_the_body, &out, &err), -EBADMSG);
	assert_int_equal(err.code, CODE_SIZE);
	assert_int_equal(err.rc, -EBADMSG);
	assert_string_equal(err.text, "server announces another size");
	buf_release(&out);
	assert_int_equal(no_child_left(state), 0);
	assert_int_equal(to_buf(cut_after_begin, &out, &err), -ECONNRESET);
	assert_int_equal(err.code, CODE_SLOW);
	assert_int_equal(out.len, 0);
	buf_release(&out);
}

static void
dead_fetcher(void **state)
{
	struct buf out;
	struct err err;

	(void)state;
	assert_int_equal(to_buf(die_at_once, &out, &err), -EIO);
	assert_int_equal(err.code, CODE_DOWNLOAD);
	assert_non_null(strstr(err.text, "without an answer"));
	buf_release(&out);
}

static void
no_fetcher(void **state)
{
	struct buf out;
	struct err err;

	(void)state;
	assert_int_equal(to_buf(NULL, &out, &err), -ENOENT);
	assert_int_equal(n_killed, 0);
	buf_release(&out);
}

/* total_timeout 1 s, one second more for the fetcher's own sentence: over after 2 s. */
static void
deadline(void **state)
{
	long long start = io_monotonic_ms();
	struct buf out;
	struct err err;

	(void)state;
	assert_int_equal(to_buf(stay_silent, &out, &err), -ETIMEDOUT);
	assert_int_equal(err.code, CODE_SLOW);
	assert_in_range(io_monotonic_ms() - start, 1900, 10000);
	assert_int_equal(n_killed, 1);
	buf_release(&out);
}

static void
too_much(void **state)
{
	struct buf out;
	struct err err;

	(void)state;
	assert_int_equal(to_buf(send_too_much, &out, &err), -EBADMSG);
	assert_int_equal(err.code, CODE_TOO_MUCH);
	assert_int_equal(out.len, 0);
	buf_release(&out);
}

static void
nonsense(void **state)
{
	static void (*const scripts[])(int) = {
		count_wrongly, end_well_without_begin, begin_elsewhere, begin_twice,
		send_control_bytes, send_half_an_answer, end_with_a_strange_code,
	};

	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		struct buf out;
		struct err err;

		assert_int_equal(to_buf(scripts[i], &out, &err), -EIO);
		assert_int_equal(err.code, CODE_DOWNLOAD);
		buf_release(&out);
		no_child_left(state);
	}
}

static struct fetch_answer
wait_answer(struct fetch *f)
{
	struct pollfd p = { fetch_fd(f), POLLIN, 0 };
	struct fetch_answer a;
	struct err err = { 0 };
	int n = 0;

	while (n == 0) {
		assert_int_equal(poll(&p, 1, 10000), 1);
		n = fetch_take(f, &a, &err);
	}
	assert_int_equal(n, 1);
	return a;
}

static void
second_request(void **state)
{
	struct fetch_request req;
	struct fetch_answer a;
	struct fetch *f = NULL;
	struct err err = { 0 };
	char text[8] = "";
	int fds[2];

	(void)state;
	fetch_request_init(&req, NULL);
	script = send_hello_for_ever;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fetch_start(&f, (struct starter *)&script, &req, fds[1], &err), 0);
	assert_int_equal(wait_answer(f).kind, FETCH_BEGIN);
	assert_int_equal(fetch_again(f, &req, dup(fds[0]), &err), -EBUSY);
	assert_int_equal(wait_answer(f).kind, FETCH_END);
	assert_int_equal(io_read_full(fds[0], text, sizeof(text)), 5);
	close(fds[0]);
	assert_int_equal(fetch_take(f, &a, &err), 0);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fetch_again(f, &req, fds[1], &err), 0);
	assert_int_equal(wait_answer(f).kind, FETCH_BEGIN);
	assert_int_equal(wait_answer(f).bytes, 5);
	assert_int_equal(io_read_full(fds[0], text, sizeof(text)), 5);
	close(fds[0]);
	fetch_free(f);
}

static void
urls(void **state)
{
	static const struct {
		const char *url, *clean, *user, *password;
	} cases[] = {
		{ "http://h/x", "http://h/x", NULL, NULL },
		{ "HTTPS://h:8443/x?y@z#f", "HTTPS://h:8443/x?y@z#f", NULL, NULL },
		{ "https://u:p@h/x", "https://h/x", "u", "p" },
		{ "https://token:x-oauth-basic@h", "https://h", "token", "x-oauth-basic" },
		{ "https://token@h/x", "https://h/x", "token", "" },
		{ "https://a%40b:c%3ad%2F@h/x", "https://h/x", "a@b", "c:d/" },
		{ "https://u:p@ss@h/x", "https://h/x", "u", "p@ss" },
		{ "https://u:p@[::1]:1/x", "https://[::1]:1/x", "u", "p" },
		{ "file:///etc/list", "file:///etc/list", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *clean, *user, *password;

		assert_int_equal(fetch_split_url(cases[i].url, &clean, &user, &password, NULL), 0);
		assert_string_equal(clean, cases[i].clean);
		if (cases[i].user == NULL) {
			assert_null(user);
			assert_null(password);
		} else {
			assert_string_equal(user, cases[i].user);
			assert_string_equal(password, cases[i].password);
		}
		free(clean);
		free(user);
		free(password);
	}
}

static void
bad_urls(void **state)
{
	static const char *const bad[] = {
		"", "h/x", "ftp://h/x", "javascript:x", "http:/h", "http://", "http:///x",
		"https://u:p@/x",
		"http://h/a b", "http://h/a\nb", "http://h/a\x7f", "https://u%0a:p@h/x",
		"https://u:p%00@h/x",
		"https://u:%zz@h/x", "https://u:p%4@h/x", "file://u:p@/etc/list", " http://h/x",
	};
	static char longest[LIMIT_URI_BYTES + 2] = "http://h/";
	char *clean, *user, *password;
	struct err err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fetch_split_url(bad[i], &clean, &user, &password, &err), -EINVAL);
		assert_null(clean);
	}
	memset(longest + strlen(longest), 'x', LIMIT_URI_BYTES - strlen(longest));
	assert_int_equal(fetch_split_url(longest, &clean, &user, &password, &err), 0);
	free(clean);
	longest[LIMIT_URI_BYTES] = 'x';
	assert_int_equal(fetch_split_url(longest, &clean, &user, &password, &err), -EINVAL);
}

static void
no_secret_in_errors(void **state)
{
	char *clean, *user, *password;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(fetch_split_url("https://joe:hunter2%zz@h/x", &clean, &user, &password,
					 &err),
			 -EINVAL);
	assert_null(strstr(err.text, "hunter2"));
	assert_null(strstr(err.text, "joe"));
}

/* The result of the first answer that is none, to a request for bytes 10..29 of 100. */
static int
take_part(void (*what)(int))
{
	struct fetch_request req;
	struct fetch_answer a;
	struct err err = { 0 };
	struct fetch *f;
	int fds[2], n = 1;

	fetch_request_init(&req, NULL);
	req.offset = 10;
	req.length = 20;
	req.expected_size = 100;
	script = what;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fetch_start(&f, (struct starter *)&script, &req, fds[1], &err), 0);
	while (n > 0) {
		struct pollfd p = { fetch_fd(f), POLLIN, 0 };

		assert_int_equal(poll(&p, 1, 10000), 1);
		n = fetch_take(f, &a, &err);
	}
	fetch_free(f);
	close(fds[0]);
	return n;
}

static void
part_nonsense(void **state)
{
	static void (*const scripts[])(int) = {
		begin_with_the_whole, begin_with_another_size, begin_with_no_size,
		send_more_than_the_part,
	};

	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		assert_int_equal(take_part(scripts[i]), -EIO);
		no_child_left(state);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "a whole body arrives in memory", whole_body, NULL, no_child_left, NULL },
		{ "the fetcher's code and sentence are passed on", sentence_passed_on, NULL,
		  no_child_left, NULL },
		{ "a fetcher that dies is an error, not a wait", dead_fetcher, NULL, no_child_left,
		  NULL },
		{ "a fetcher that cannot be started is an error", no_fetcher, NULL, no_child_left,
		  NULL },
		{ "T03 a fetcher that never answers is ended at the deadline", deadline, NULL,
		  no_child_left, NULL },
		{ "T13 more than the allowed bytes are refused on our side too", too_much, NULL,
		  no_child_left, NULL },
		{ "answers that make no sense are refused", nonsense, NULL, no_child_left, NULL },
		{ "a part is taken from a fetcher only if it is the one asked for", part_nonsense,
		  NULL, no_child_left, NULL },
		{ "a second request goes to the same fetcher, after the first has ended",
		  second_request, NULL, no_child_left, NULL },
		{ "user and password are taken out of a URL and decoded", urls, NULL, NULL, NULL },
		{ "URLs of other schemes, with control bytes or too long are refused", bad_urls,
		  NULL, NULL, NULL },
		{ "X08 a refused URL shows no secret", no_secret_in_errors, NULL, NULL, NULL },
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
