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
#include "core/audit.h"
#include "core/intake.h"
#include "core/io.h"
#include "core/stored.h"

enum {
	IMAGE_LEN = 3 * 1024 * 1024 + 17,	/* more than the ring, and no round number */
	WAIT_MS = 30000,			/* until a test that hangs is called one */
};

/* One image, its digest, a store, and the intake under test. */
struct rig {
	struct bed *bed;
	unsigned char *image;
	struct digest digest;
	bool has_root;
	struct digest root;		/* signed */
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
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, IMAGE_LEN,
				    r->has_root ? &r->root : NULL, r->notify, &r->err), 0);
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

/* The fs-verity digest of the tree that came of the transfer. */
static struct digest
built_tree(struct rig *r)
{
	struct blockfile *f = intake_blockfile(r->in);
	struct digest d;

	assert_non_null(f);
	d = vtree_id(blockfile_tree(f))->verity;
	blockfile_unref(f);
	return d;
}

/* The same of a file, by another way. */
static struct digest
audited_tree(int fd, int64_t size)
{
	struct audit a = { .fd = fd, .size = size };
	struct err err;

	assert_int_equal(audit_run(&a, &err), 0);
	verity_builder_free(a.builder);
	return a.verity;
}

static void
expect_tree(struct rig *r, const struct digest *wanted)
{
	struct blockfile *f = NULL;

	assert_int_equal(stored_open(r->bed->store, &r->digest, IMAGE_LEN, wanted, &f, &r->err), 0);
	assert_memory_equal(&vtree_id(blockfile_tree(f))->image, &r->digest, sizeof(r->digest));
	blockfile_unref(f);
}

/* The object is there, byte for byte, and the tree beside it is its own. */
static void
expect_stored(struct rig *r)
{
	unsigned char *got = malloc(IMAGE_LEN + 1);
	struct digest built, audited;
	int fd;

	assert_int_equal(intake_state(r->in), INTAKE_STORED);
	fd = store_object_open(r->bed->store, &r->digest, IMAGE_LEN, &r->err);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, IMAGE_LEN + 1, 0), IMAGE_LEN);
	assert_memory_equal(got, r->image, IMAGE_LEN);
	free(got);
	built = built_tree(r);
	audited = audited_tree(fd, IMAGE_LEN);
	close(fd);
	assert_memory_equal(&built, &audited, sizeof(built));
	expect_tree(r, &audited);
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
	assert_null(intake_blockfile(r->in));
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

/* What a reader has of the image: the verified bytes at off. */
static void
expect_read(struct blockfile *f, const unsigned char *image, int64_t off, size_t size)
{
	struct readbuf buf = { 0 };
	const void *data;
	int64_t g;

	assert_int_equal(blockfile_read(f, &buf, off, size, &data, &g), 0);
	assert_memory_equal(data, image + off, size);
	readbuf_release(&buf);
}

static void
keeps_what_was_given(void **state)
{
	struct rig *r = *state;
	struct blockfile *f;

	start(r);
	feed(r, r->image, IMAGE_LEN, 1 << 16);
	f = intake_blockfile(r->in);
	assert_non_null(f);
	intake_free(r->in);
	r->in = NULL;
	assert_true(blockfile_is_complete(f));
	assert_false(blockfile_is_writable(f));
	assert_int_equal(fcntl(blockfile_fd(f), F_GETFL) & O_ACCMODE, O_RDONLY);
	expect_read(f, r->image, IMAGE_LEN - 100, 100);
	expect_read(f, r->image, 0, 1);
	blockfile_unref(f);
}

static void
one_byte(void **state)
{
	struct rig *r = *state;

	digest_of(r->image, 1, &r->digest);
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 1, NULL, r->notify,
				    &r->err), 0);
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

/* ---- the tree ---------------------------------------------------------------------------- */

/* An image of zeros, and the first bytes of its digest as the fsverity tool prints it. */
static void
expect_vector(struct rig *r, size_t len, const char *hex16)
{
	unsigned char *zeros = calloc(1, len);
	char hex[DIGEST_HEX + 1];
	struct digest built;

	assert_non_null(zeros);
	digest_of(zeros, len, &r->digest);
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, (int64_t)len, NULL,
				    r->notify, &r->err), 0);
	assert_int_equal(feed(r, zeros, len, 50021), INTAKE_STORED);
	built = built_tree(r);
	digest_hex(&built, hex);
	hex[16] = '\0';
	assert_string_equal(hex, hex16);
	intake_free(r->in);
	r->in = NULL;
	free(zeros);
}

static void
vectors(void **state)
{
	struct rig *r = *state;

	expect_vector(r, 4096, "928922686c4caf32");
	expect_vector(r, 4097, "4339f5da3788e60f");
	expect_vector(r, 262144, "0fab0d1193794470");
	expect_vector(r, 262145, "66570da2a4960575");
	expect_vector(r, 16777217, "3103eb04b7a15418");
}

/* The end of a pipe, and a pause of the sender, at and around the ends of granules. */
static void
cut_around_granules(void **state)
{
	struct rig *r = *state;
	const size_t ends[] = {
		1, VERITY_GRANULE - 1, VERITY_GRANULE, VERITY_GRANULE + 1, 2 * VERITY_GRANULE,
		5 * VERITY_GRANULE - 4096, 10 * VERITY_GRANULE + 4097, IMAGE_LEN - 1,
	};
	size_t at = 0;

	start(r);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		assert_int_equal(feed(r, r->image + at, ends[i] - at, 1 << 16), INTAKE_IDLE);
		assert_int_equal(intake_offset(r->in), ends[i]);
		at = ends[i];
	}
	assert_int_equal(feed(r, r->image + at, IMAGE_LEN - at, 1), INTAKE_STORED);
	expect_stored(r);
}

/* Waits until that much has come and was written. */
static void
wait_offset(struct rig *r, int64_t offset)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	alarm(WAIT_MS / 1000);
	while (intake_offset(r->in) < offset)
		nanosleep(&pause, NULL);
	alarm(0);
}

static void
slow_sender(void **state)
{
	struct rig *r = *state;
	const size_t ends[] = { 10, 300000, 2 * VERITY_GRANULE, 2 * VERITY_GRANULE + 1, IMAGE_LEN };
	size_t at = 0;
	int fds[2];

	start(r);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	intake_feed(r->in, fds[0]);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		assert_int_equal(io_write_all(fds[1], r->image + at, ends[i] - at), 0);
		/* Nothing more until the pieces of granules were taken as they are. */
		wait_offset(r, (int64_t)ends[i]);
		at = ends[i];
	}
	close(fds[1]);
	assert_int_equal(settle(r), INTAKE_STORED);
	expect_stored(r);
}

static void
signed_root(void **state)
{
	struct rig *r = *state;

	start(r);
	feed(r, r->image, IMAGE_LEN, 1 << 16);
	r->root = built_tree(r);
	r->has_root = true;
	intake_free(r->in);
	assert_int_equal(store_object_remove(r->bed->store, &r->digest, &r->err), 0);
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	expect_stored(r);
}

/* The SHA-512 is right: nobody but the signers is at fault, also after a resumed transfer. */
static void
other_root(void **state)
{
	struct rig *r = *state;

	digest_of("another image", 13, &r->root);
	r->has_root = true;
	for (size_t first = 0; first < 1000000; first += 700001) {
		start(r);
		feed(r, r->image, first, 1 << 16);
		assert_int_equal(feed(r, r->image + first, IMAGE_LEN - first, 1 << 16),
				 INTAKE_FAILED);
		assert_int_equal(intake_result(r->in, &r->err), -code_errno(CODE_BLOCK_DIGEST));
		assert_int_equal(r->err.code, CODE_BLOCK_DIGEST);
		assert_null(intake_blockfile(r->in));
		assert_int_equal(bed_count(r->bed, "quarantine"), 1);
		assert_int_equal(bed_count(r->bed, "partial"), 0);
		assert_int_equal(store_object_open(r->bed->store, &r->digest, IMAGE_LEN, NULL),
				 -ENOENT);
		intake_free(r->in);
		r->in = NULL;
	}
}

static void
both_wrong(void **state)
{
	struct rig *r = *state;

	digest_of("another image", 13, &r->root);
	r->has_root = true;
	r->image[5] ^= 1;
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_FAILED);
	intake_result(r->in, &r->err);
	assert_int_equal(r->err.code, CODE_DIGEST);
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
	wait_offset(r, 5000);
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
	assert_null(intake_blockfile(r->in));
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
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 10, NULL, r->notify,
				    &r->err), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	intake_feed(r->in, fds[0]);
	assert_int_equal(write(fds[1], r->image, 10), 10);
	wait_offset(r, 10);
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

	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 0, NULL, r->notify,
				    &r->err), -EBADMSG);
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
	/* More than the ring holds: all threads have run, and have their names. */
	assert_int_equal(feed(r, r->image, IMAGE_LEN - 1, 1 << 16), INTAKE_IDLE);
	assert_int_equal(count_threads("intake-read", &blocked), 1);
	assert_true(blocked);
	assert_int_equal(count_threads("intake-hash", &blocked), 1);
	assert_true(blocked);
	assert_int_equal(count_threads("intake-tree", &blocked), 1);
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
			    keeps_what_was_given, setup),
		INTAKE_TEST("an image of one byte is stored", one_byte, setup),
		INTAKE_TEST("an image that is stored already is stored once", raced, setup),
		INTAKE_TEST("the tree that a transfer builds is the one that fsverity prints",
			    vectors, setup),
		INTAKE_TEST("a transfer that is cut anywhere in a granule builds the same tree",
			    cut_around_granules, setup),
		INTAKE_TEST("a sender that pauses within granules builds the same tree",
			    slow_sender, setup),
		INTAKE_TEST("bytes with the signed SHA-512 and the signed tree are stored",
			    signed_root, setup),
		INTAKE_TEST("T40 bytes with the signed SHA-512 and another tree are refused (40)",
			    other_root, setup),
		INTAKE_TEST("bytes with neither are those of another image (42)", both_wrong, setup),
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
