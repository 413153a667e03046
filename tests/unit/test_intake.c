/*
 * Receiving an image through real pipes into a real store.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "tests/lib/storebed.h"
#include "core/intake.h"

enum {
	IMAGE_LEN = 3 * 1024 * 1024 + 17,	/* more than the ring, and no round number */
	WAIT_MS = 30000,			/* until a test that hangs is called one */
};

/* One image, its digest, a store, and the intake under test. */
struct rig {
	struct bed *bed;
	unsigned char *image;
	struct digest digest;
	int notify;
	struct intake *in;
	struct err err;
};

static struct rig *
rig_new(struct bed *bed)
{
	struct rig *r = calloc(1, sizeof(*r));
	uint32_t x = 2463534242u;

	assert_non_null(r);
	r->bed = bed;
	r->image = malloc(IMAGE_LEN + 1);
	assert_non_null(r->image);
	for (size_t i = 0; i < IMAGE_LEN + 1; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		r->image[i] = (unsigned char)x;
	}
	digest_of(r->image, IMAGE_LEN, &r->digest);
	r->notify = eventfd(0, EFD_CLOEXEC);
	return r;
}

static int
setup(void **state)
{
	*state = rig_new(bed_new());
	return 0;
}

static int
setup_bare(void **state)
{
	*state = rig_new(bed_new_bare());
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	intake_free(r->in);
	close(r->notify);
	bed_free(r->bed);
	free(r->image);
	free(r);
	return 0;
}

static void
start(struct rig *r)
{
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, IMAGE_LEN, r->notify,
				    &r->err), 0);
}

/* Sleeps on the eventfd until the state is one of those that last. */
static enum intake_state
settle(struct rig *r)
{
	for (;;) {
		enum intake_state s = intake_state(r->in);
		struct pollfd p = { .fd = r->notify, .events = POLLIN };
		uint64_t n;

		if (s != INTAKE_RUNNING && s != INTAKE_VERIFIED)
			return s;
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		assert_int_equal(read(r->notify, &n, sizeof(n)), sizeof(n));
	}
}

struct sender {
	pthread_t thread;
	const unsigned char *data;
	size_t len, piece;
	int fd;
};

static void *
send_main(void *arg)
{
	struct sender *s = arg;

	while (s->len > 0) {
		size_t want = s->len < s->piece ? s->len : s->piece;
		ssize_t n = write(s->fd, s->data, want);

		if (n < 0)
			break;
		s->data += n;
		s->len -= (size_t)n;
	}
	close(s->fd);
	return NULL;
}

/* Feeds len bytes in pieces through a pipe, waits for what becomes of it. */
static enum intake_state
feed(struct rig *r, const unsigned char *data, size_t len, size_t piece)
{
	struct sender s = { .data = data, .len = len, .piece = piece };
	enum intake_state state;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	s.fd = fds[1];
	intake_feed(r->in, fds[0]);
	assert_int_equal(pthread_create(&s.thread, NULL, send_main, &s), 0);
	state = settle(r);
	pthread_join(s.thread, NULL);
	return state;
}

static void
expect_stored(struct rig *r)
{
	unsigned char *got = malloc(IMAGE_LEN + 1);
	int fd;

	assert_int_equal(intake_state(r->in), INTAKE_STORED);
	fd = store_object_open(r->bed->store, &r->digest, IMAGE_LEN, &r->err);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, IMAGE_LEN + 1, 0), IMAGE_LEN);
	assert_memory_equal(got, r->image, IMAGE_LEN);
	close(fd);
	free(got);
	assert_int_equal(bed_count(r->bed, "partial"), 0);
}

/* ---- what goes well ---------------------------------------------------------------------- */

static void
stores(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(intake_state(r->in), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 0);
	assert_int_equal(intake_dup(r->in), -EAGAIN);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, IMAGE_LEN), INTAKE_STORED);
	assert_int_equal(intake_offset(r->in), IMAGE_LEN);
	assert_false(intake_resumed(r->in));
	assert_int_equal(intake_result(r->in, NULL), 0);
	expect_stored(r);
}

static void
small_pieces(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1009), INTAKE_STORED);
	expect_stored(r);
}

static void
dup_reads(void **state)
{
	struct rig *r = *state;
	unsigned char got[100];
	int fd;

	start(r);
	feed(r, r->image, IMAGE_LEN, 1 << 16);
	fd = intake_dup(r->in);
	assert_true(fd >= 0);
	intake_free(r->in);
	r->in = NULL;
	assert_int_equal(pread(fd, got, sizeof(got), IMAGE_LEN - 100), 100);
	assert_memory_equal(got, r->image + IMAGE_LEN - 100, 100);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(fd);
}

static void
one_byte(void **state)
{
	struct rig *r = *state;

	digest_of(r->image, 1, &r->digest);
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 1, r->notify, &r->err), 0);
	assert_int_equal(feed(r, r->image, 1, 1), INTAKE_STORED);
}

static void
raced(void **state)
{
	struct rig *r = *state;

	start(r);
	feed(r, r->image, IMAGE_LEN, 1 << 16);
	intake_free(r->in);
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	expect_stored(r);
}

/* ---- cut and resumed --------------------------------------------------------------------- */

static void
several_pipes(void **state)
{
	struct rig *r = *state;
	size_t step = 300001;

	start(r);
	for (size_t at = 0; at + step < IMAGE_LEN; at += step) {
		assert_int_equal(feed(r, r->image + at, step, 1 << 16), INTAKE_IDLE);
		assert_int_equal(intake_offset(r->in), at + step);
	}
	assert_int_equal(feed(r, r->image + intake_offset(r->in),
			      IMAGE_LEN - (size_t)intake_offset(r->in), 1 << 16), INTAKE_STORED);
	assert_true(intake_resumed(r->in));
	expect_stored(r);
}

static void
empty_pipe(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(feed(r, r->image, 0, 1), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 0);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	assert_false(intake_resumed(r->in));
}

static void
restarts(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(feed(r, r->image + 5, 1000000, 1 << 16), INTAKE_IDLE);
	intake_restart(r->in);
	assert_int_equal(intake_offset(r->in), 0);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	assert_false(intake_resumed(r->in));
	expect_stored(r);
}

static void
earlier_run(void **state)
{
	struct rig *r = *state;

	start(r);
	feed(r, r->image, 2000000, 1 << 16);
	intake_free(r->in);
	start(r);
	assert_int_equal(settle(r), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 2000000);
	assert_true(intake_resumed(r->in));
	assert_int_equal(feed(r, r->image + 2000000, IMAGE_LEN - 2000000, 1 << 16), INTAKE_STORED);
	expect_stored(r);
}

static void
earlier_run_complete(void **state)
{
	struct rig *r = *state;
	char path[512], hex[DIGEST_HEX + 1];

	digest_hex(&r->digest, hex);
	bed_path(r->bed, path, "partial/%s", hex);
	bed_write(path, r->image, IMAGE_LEN);
	start(r);
	assert_int_equal(settle(r), INTAKE_STORED);
	expect_stored(r);
}

static void
poisoned(void **state)
{
	struct rig *r = *state;

	start(r);
	feed(r, r->image + 1, 1000000, 1 << 16);
	intake_free(r->in);
	start(r);
	settle(r);
	assert_int_equal(feed(r, r->image + 1000000, IMAGE_LEN - 1000000, 1 << 16), INTAKE_FAILED);
	assert_int_equal(intake_result(r->in, &r->err), -EBADMSG);
	assert_int_equal(r->err.code, CODE_DIGEST);
	assert_true(intake_resumed(r->in));
	assert_int_equal(bed_count(r->bed, "quarantine") + bed_count(r->bed, "partial"), 0);
	intake_free(r->in);
	start(r);
	assert_int_equal(intake_offset(r->in), 0);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
}

static void
stopped_while_waiting(void **state)
{
	struct rig *r = *state;
	int fds[2];

	start(r);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	intake_feed(r->in, fds[0]);
	assert_int_equal(write(fds[1], r->image, 5000), 5000);
	/* The sender is silent but there: what it sent is in the file all the same. */
	alarm(WAIT_MS / 1000);
	while (intake_offset(r->in) < 5000)
		sched_yield();
	alarm(0);
	intake_free(r->in);
	assert_int_equal(write(fds[1], "x", 1), -1);	/* the reading end is closed */
	close(fds[1]);
	start(r);
	assert_int_equal(settle(r), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 5000);
}

/* ---- refusals ---------------------------------------------------------------------------- */

static void
expect_wrong(struct rig *r)
{
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_FAILED);
	assert_int_equal(intake_result(r->in, &r->err), -EBADMSG);
	assert_int_equal(r->err.code, CODE_DIGEST);
	assert_int_equal(intake_dup(r->in), -EAGAIN);
	assert_int_equal(bed_count(r->bed, "quarantine"), 1);
	assert_int_equal(bed_count(r->bed, "partial"), 0);
	intake_free(r->in);
	r->in = NULL;
	assert_int_equal(store_object_open(r->bed->store, &r->digest, IMAGE_LEN, NULL), -ENOENT);
}

static void
wrong_bits(void **state)
{
	struct rig *r = *state;
	const size_t at[] = { 0, IMAGE_LEN / 2, IMAGE_LEN - 1 };

	for (size_t i = 0; i < 3; i++) {
		r->image[at[i]] ^= 1;
		expect_wrong(r);
		r->image[at[i]] ^= 1;
	}
}

static void
wrong_order(void **state)
{
	struct rig *r = *state;
	unsigned char *swap = malloc(1 << 20);

	memcpy(swap, r->image, 1 << 20);
	memcpy(r->image, r->image + (1 << 20), 1 << 20);
	memcpy(r->image + (1 << 20), swap, 1 << 20);
	free(swap);
	expect_wrong(r);
}

static void
zeros(void **state)
{
	struct rig *r = *state;

	memset(r->image, 0, IMAGE_LEN);
	expect_wrong(r);
}

static void
too_much(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN + 1, 1 << 16), INTAKE_FAILED);
	assert_int_equal(intake_result(r->in, &r->err), -EBADMSG);
	assert_int_equal(r->err.code, CODE_TOO_MUCH);
	assert_int_equal(bed_count(r->bed, "partial"), 0);
}

static void
waits_for_the_end(void **state)
{
	struct rig *r = *state;
	int fds[2];

	digest_of(r->image, 10, &r->digest);
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 10, r->notify, &r->err), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	intake_feed(r->in, fds[0]);
	assert_int_equal(write(fds[1], r->image, 10), 10);
	alarm(WAIT_MS / 1000);
	while (intake_offset(r->in) < 10)
		sched_yield();
	alarm(0);
	assert_int_equal(intake_state(r->in), INTAKE_RUNNING);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(settle(r), INTAKE_FAILED);
	intake_result(r->in, &r->err);
	assert_int_equal(r->err.code, CODE_TOO_MUCH);
	close(fds[1]);
}

static void
no_size(void **state)
{
	struct rig *r = *state;

	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 0, r->notify, &r->err),
			 -EBADMSG);
	assert_int_equal(r->err.code, CODE_SIZE);
	assert_null(r->in);
}

/* ext2 has no fallocate(), so the disk can be full in the middle. */
static void
full_in_the_middle(void **state)
{
	struct rig *r = *state;
	static char block[64 << 10];
	char path[512];
	int fd;

	if (!bed_mount(r->bed, "ext2", NULL, 8192))
		skip();
	bed_open(r->bed);
	start(r);
	bed_path(r->bed, path, "filler");
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_FAILED);
	assert_int_equal(intake_result(r->in, &r->err), -ENOSPC);
	assert_int_equal(r->err.code, CODE_FULL);
	assert_int_equal(bed_count(r->bed, "partial"), 0);
	intake_free(r->in);
	assert_int_equal(unlink(path), 0);
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	expect_stored(r);
	intake_free(r->in);
	r->in = NULL;
}

/* ---- threads ----------------------------------------------------------------------------- */

static int
count_threads(const char *name, bool *all_blocked)
{
	struct dirent *e;
	int n = 0;
	DIR *tasks = opendir("/proc/self/task");

	*all_blocked = true;
	while ((e = readdir(tasks)) != NULL) {
		char path[300], line[200], want[64];
		unsigned long long blocked;
		bool ours = false;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		snprintf(want, sizeof(want), "Name:\t%s\n", name);
		f = fopen(path, "re");
		while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
			if (strcmp(line, want) == 0)
				ours = true;
			if (ours && sscanf(line, "SigBlk: %llx", &blocked) == 1 &&
			    (blocked >> (SIGTERM - 1) & 1) == 0)
				*all_blocked = false;
		}
		n += ours;
		if (f != NULL)
			fclose(f);
	}
	closedir(tasks);
	return n;
}

static void
threads_are_quiet(void **state)
{
	struct rig *r = *state;
	bool blocked;

	start(r);
	/* More than the ring holds: both threads have run, and have their names. */
	assert_int_equal(feed(r, r->image, IMAGE_LEN - 1, 1 << 16), INTAKE_IDLE);
	assert_int_equal(count_threads("intake-read", &blocked), 1);
	assert_true(blocked);
	assert_int_equal(count_threads("intake-hash", &blocked), 1);
	assert_true(blocked);
	intake_free(r->in);
	r->in = NULL;
	assert_int_equal(count_threads("intake-read", &blocked), 0);
}

#define INTAKE_TEST(title, fn, make) \
	{ .name = title, .test_func = fn, .setup_func = make, .teardown_func = teardown }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		INTAKE_TEST("an image with the signed digest is stored", stores, setup),
		INTAKE_TEST("T01 pieces of any size make the same image", small_pieces, setup),
		INTAKE_TEST("verified bytes stay readable whatever becomes of the intake",
			    dup_reads, setup),
		INTAKE_TEST("an image of one byte is stored", one_byte, setup),
		INTAKE_TEST("an image that is stored already is stored once", raced, setup),
		INTAKE_TEST("T38 a transfer that is cut often goes on where it stopped",
			    several_pipes, setup),
		INTAKE_TEST("a transfer without a byte changes nothing", empty_pipe, setup),
		INTAKE_TEST("a transfer can start again at its first byte", restarts, setup),
		INTAKE_TEST("the bytes of an earlier run are hashed again and gone on with",
			    earlier_run, setup),
		INTAKE_TEST("an earlier run that had all bytes needs no transfer",
			    earlier_run_complete, setup),
		INTAKE_TEST("B25 a partial of another image is dropped and accuses nobody",
			    poisoned, setup),
		INTAKE_TEST("a silent sender is no reason to wait",
			    stopped_while_waiting, setup),
		INTAKE_TEST("T31 one wrong bit, first, middle or last, is refused and quarantined",
			    wrong_bits, setup),
		INTAKE_TEST("T31 two swapped blocks are refused", wrong_order, setup),
		INTAKE_TEST("T31 zeros are refused", zeros, setup),
		INTAKE_TEST("T31 one byte more than the signed size is refused",
			    too_much, setup),
		INTAKE_TEST("an image is complete when the sender has ended",
			    waits_for_the_end, setup),
		INTAKE_TEST("an image of no bytes is refused", no_size, setup),
		INTAKE_TEST("B02 a disk that fills up in the middle is full until room is made",
			    full_in_the_middle, setup_bare),
		INTAKE_TEST("the threads of a transfer take no signals",
			    threads_are_quiet, setup),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("intake", tests, NULL, NULL);
}
