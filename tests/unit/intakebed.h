/*
 * intakebed.h - an image that comes through real pipes into a real store, for unit tests.
 */
#ifndef VMI_INTAKEBED_H
#define VMI_INTAKEBED_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/audit.h"
#include "core/intake.h"
#include "core/stored.h"
#include "tests/lib/storebed.h"

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

static inline struct rig *
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

static inline int
setup(void **state)
{
	*state = rig_new(bed_new());
	return 0;
}

static inline int
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

static inline void
start(struct rig *r)
{
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, IMAGE_LEN,
				    r->has_root ? &r->root : NULL, r->notify, &r->err), 0);
}

/* ---- sending ------------------------------------------------------------------------------- */

/* Sleeps on the eventfd until the state is one of those that last. */
static inline enum intake_state
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

/* Waits until that much has come and was written. */
static inline void
wait_offset(struct rig *r, int64_t offset)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	alarm(WAIT_MS / 1000);
	while (intake_offset(r->in) < offset)
		nanosleep(&pause, NULL);
	alarm(0);
}

struct sender {
	pthread_t thread;
	const unsigned char *data;
	size_t len, piece;
	int fd;
};

static inline void *
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
static inline enum intake_state
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

/* ---- what came of it ----------------------------------------------------------------------- */

/* The fs-verity digest of the tree that came of the transfer. */
static inline struct digest
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
static inline struct digest
audited_tree(int fd, int64_t size)
{
	struct audit a = { .fd = fd, .size = size };
	struct err err;

	assert_int_equal(audit_run(&a, &err), 0);
	verity_builder_free(a.builder);
	return a.verity;
}

static inline void
expect_tree(struct rig *r, const struct digest *wanted)
{
	struct blockfile *f = NULL;

	assert_int_equal(stored_open(r->bed->store, &r->digest, IMAGE_LEN, wanted, &f, &r->err), 0);
	assert_memory_equal(&vtree_id(blockfile_tree(f))->image, &r->digest, sizeof(r->digest));
	blockfile_unref(f);
}

/* The object is there, byte for byte, and the tree beside it is its own. */
static inline void
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

#define INTAKE_TEST(title, fn, make) \
	{ .name = title, .test_func = fn, .setup_func = make, .teardown_func = teardown }

#endif
