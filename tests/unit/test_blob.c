/*
 * test_blob.c - reads of image files, parked until there is something to answer.
 *
 * The engine is played by this file, libfuse by reqbed.h, the store is a real one.
 */
#define FUSE_USE_VERSION 312

#include "config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "tests/lib/reqbed.h"
#include "tests/lib/storebed.h"

#include "core/engine.h"
#include "core/io.h"
#include "fs/blob.h"
#include "fs/context.h"

static struct fs_context fs;

/* ---- the engine's part ----------------------------------------------------------------------- */

static atomic_int n_wanted, n_damaged, n_unreadable;
static struct digest last_wanted, last_damaged;

void
engine_want(struct engine *e, const struct digest *d)
{
	(void)e;
	if (atomic_fetch_add(&n_wanted, 1) == 0)
		last_wanted = *d;
}

void
engine_damaged(struct engine *e, const struct digest *d, const char *why)
{
	(void)e;
	assert_non_null(why);
	if (atomic_fetch_add(&n_damaged, 1) == 0)
		last_damaged = *d;
}

void
engine_unreadable(struct engine *e, const struct digest *d, const char *why)
{
	(void)e;
	(void)d;
	assert_non_null(why);
	atomic_fetch_add(&n_unreadable, 1);
}

/* ---- a mount with one image ------------------------------------------------------------------ */

#define TEXT "the quick brown fox"

enum { SIZE = sizeof(TEXT) - 1, OBJECT = 7, N_REQS = 70 };

struct mount {
	struct bed *bed;
	struct blobs *blobs;
	struct digest digest;
	struct fuse_req reqs[N_REQS];
};

static int
setup(void **state)
{
	struct mount *m = calloc(1, sizeof(*m));

	m->bed = bed_new();
	reqbed_userdata = &fs;
	m->blobs = fs.blobs = blobs_new(m->bed->store, 3600);
	bed_add_object(m->bed, TEXT, &m->digest);
	for (size_t i = 0; i < N_REQS; i++)
		req_init(&m->reqs[i]);
	n_wanted = n_damaged = n_unreadable = 0;
	*state = m;
	return 0;
}

static int
teardown(void **state)
{
	struct mount *m = *state;

	blobs_free(m->blobs);
	bed_free(m->bed);
	free(m);
	return 0;
}

/* Opened while the store has nothing of it yet. */
static void
open_unfetched(struct mount *m)
{
	assert_int_equal(blob_open(m->blobs, OBJECT, &m->digest, SIZE, false), 0);
}

static void
open_verified(struct mount *m)
{
	assert_int_equal(blob_open(m->blobs, OBJECT, &m->digest, SIZE, true), 0);
}

static void
read_whole(struct mount *m, size_t i)
{
	blob_read(m->blobs, &m->reqs[i], OBJECT, SIZE, 0);
}

/* The engine has the bytes. */
static void
bring(struct mount *m)
{
	int fd = store_object_open(m->bed->store, &m->digest, SIZE, &m->bed->err);

	assert_true(fd >= 0);
	blob_answered(m->blobs, &m->digest, 0, fd);
	close(fd);
}

/* ---- parked reads ---------------------------------------------------------------------------- */

static void
parks_and_answers(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	for (size_t i = 0; i < N_REQS; i++)
		blob_read(m->blobs, &m->reqs[i], OBJECT, 5, 4);
	assert_int_equal(n_wanted, 1);
	assert_true(digest_equal(&last_wanted, &m->digest));
	assert_int_equal(blobs_parked(m->blobs), N_REQS);
	for (size_t i = 0; i < N_REQS; i++)
		assert_false(has_answer(&m->reqs[i]));
	bring(m);
	for (size_t i = 0; i < N_REQS; i++)
		assert_bytes(&m->reqs[i], "quick");
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_close(m->blobs, OBJECT);
}

static void
fails_all_and_asks_again(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	read_whole(m, 1);
	blob_answered(m->blobs, &m->digest, -EBADMSG, -1);
	assert_errno(&m->reqs[0], EBADMSG);
	assert_errno(&m->reqs[1], EBADMSG);
	assert_int_equal(blobs_parked(m->blobs), 0);
	read_whole(m, 2);
	assert_int_equal(n_wanted, 2);
	bring(m);
	assert_bytes(&m->reqs[2], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
says_what_was_withdrawn(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	blob_answered(m->blobs, &m->digest, -ENOENT, -1);
	assert_errno(&m->reqs[0], ESTALE);
	blob_close(m->blobs, OBJECT);
}

static void
ignores_answers_to_others(void **state)
{
	struct mount *m = *state;
	struct digest other;

	digest_of("other", 5, &other);
	open_unfetched(m);
	read_whole(m, 0);
	blob_answered(m->blobs, &other, -EBADMSG, -1);
	assert_false(has_answer(&m->reqs[0]));
	bring(m);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
interrupts_one(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	read_whole(m, 1);
	interrupt(&m->reqs[0]);
	assert_errno(&m->reqs[0], EINTR);
	assert_false(has_answer(&m->reqs[1]));
	assert_int_equal(blobs_parked(m->blobs), 1);
	bring(m);
	interrupt(&m->reqs[1]);
	assert_errno(&m->reqs[0], EINTR);
	assert_bytes(&m->reqs[1], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
interrupted_before_it_waits(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	interrupt(&m->reqs[0]);
	read_whole(m, 0);
	assert_errno(&m->reqs[0], EINTR);
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_close(m->blobs, OBJECT);
}

/* The first read may wait for an hour, the second for one second: it fails alone. */
static void
fails_at_its_deadline(void **state)
{
	struct mount *m = *state;
	long long from;

	open_unfetched(m);
	read_whole(m, 0);
	blobs_set_timeout(m->blobs, 1);
	from = io_monotonic_ms();
	read_whole(m, 1);
	wait_for_answer(&m->reqs[1]);
	assert_errno(&m->reqs[1], ETIMEDOUT);
	assert_in_range(io_monotonic_ms() - from, 1000, 10000);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(blobs_parked(m->blobs), 1);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
does_not_wait_at_all(void **state)
{
	struct mount *m = *state;

	blobs_set_timeout(m->blobs, 0);
	open_unfetched(m);
	read_whole(m, 0);
	assert_errno(&m->reqs[0], EAGAIN);
	assert_int_equal(n_wanted, 1);
	bring(m);
	read_whole(m, 1);
	assert_bytes(&m->reqs[1], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
ends_with_the_mount(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	blobs_end(m->blobs);
	assert_errno(&m->reqs[0], ENOTCONN);
	read_whole(m, 1);
	assert_errno(&m->reqs[1], ENOTCONN);
	interrupt(&m->reqs[0]);
	assert_errno(&m->reqs[0], ENOTCONN);
	blob_close(m->blobs, OBJECT);
}

/* The reader was killed: its file is closed while its read is still parked. */
static void
outlives_its_file(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	blob_close(m->blobs, OBJECT);
	assert_int_equal(blobs_open(m->blobs), 0);
	assert_true(blob_is_open(m->blobs, &m->digest));
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	assert_false(blob_is_open(m->blobs, &m->digest));
}

/* ---- what is there --------------------------------------------------------------------------- */

static void
reads_what_is_verified(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	read_whole(m, 0);
	assert_bytes(&m->reqs[0], TEXT);
	blob_read(m->blobs, &m->reqs[1], OBJECT, 100, SIZE - 3);
	assert_bytes(&m->reqs[1], "fox");
	blob_read(m->blobs, &m->reqs[2], OBJECT, 100, SIZE);
	assert_bytes(&m->reqs[2], "");
	blob_read(m->blobs, &m->reqs[3], OBJECT, 100, INT64_MAX);
	assert_bytes(&m->reqs[3], "");
	blob_read(m->blobs, &m->reqs[4], OBJECT, 0, 0);
	assert_bytes(&m->reqs[4], "");
	assert_int_equal(n_wanted, 0);
	blob_close(m->blobs, OBJECT);
}

/* At the end of a file nothing is missing. */
static void
reads_the_end_without_waiting(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	blob_read(m->blobs, &m->reqs[0], OBJECT, 100, SIZE);
	assert_bytes(&m->reqs[0], "");
	assert_int_equal(n_wanted, 0);
	blob_close(m->blobs, OBJECT);
}

static void
seeks_without_fetching(void **state)
{
	struct mount *m = *state;

	for (int verified = 0; verified < 2; verified++) {
		assert_int_equal(blob_open(m->blobs, OBJECT, &m->digest, SIZE, verified), 0);
		assert_int_equal(blob_seek(m->blobs, OBJECT, 0, SEEK_DATA), 0);
		assert_int_equal(blob_seek(m->blobs, OBJECT, SIZE - 1, SEEK_DATA), SIZE - 1);
		assert_int_equal(blob_seek(m->blobs, OBJECT, 0, SEEK_HOLE), SIZE);
		assert_int_equal(blob_seek(m->blobs, OBJECT, SIZE, SEEK_DATA), -ENXIO);
		assert_int_equal(blob_seek(m->blobs, OBJECT, SIZE, SEEK_HOLE), -ENXIO);
		assert_int_equal(blob_seek(m->blobs, OBJECT, -1, SEEK_HOLE), -ENXIO);
		blob_close(m->blobs, OBJECT);
	}
	assert_int_equal(blob_seek(m->blobs, OBJECT, 0, SEEK_DATA), -ESTALE);
	assert_int_equal(n_wanted, 0);
}

static void
counts_open_files(void **state)
{
	struct mount *m = *state;

	assert_false(blob_is_open(m->blobs, &m->digest));
	open_verified(m);
	open_verified(m);
	assert_int_equal(blobs_open(m->blobs), 2);
	blob_close(m->blobs, OBJECT);
	assert_true(blob_is_open(m->blobs, &m->digest));
	blob_close(m->blobs, OBJECT);
	assert_false(blob_is_open(m->blobs, &m->digest));
	blob_close(m->blobs, OBJECT);
	assert_int_equal(blobs_open(m->blobs), 0);
	read_whole(m, 0);
	assert_errno(&m->reqs[0], ESTALE);
}

/* Forgotten and listed again while a file of it was open: two numbers, one content. */
static void
serves_two_numbers(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	assert_int_equal(blob_open(m->blobs, OBJECT + 1, &m->digest, SIZE, false), 0);
	blob_read(m->blobs, &m->reqs[0], OBJECT + 1, SIZE, 0);
	assert_false(has_answer(&m->reqs[0]));
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_cut(m->blobs, &m->digest, true);
	blob_read(m->blobs, &m->reqs[1], OBJECT, SIZE, 0);
	blob_read(m->blobs, &m->reqs[2], OBJECT + 1, SIZE, 0);
	assert_errno(&m->reqs[1], ESTALE);
	assert_errno(&m->reqs[2], ESTALE);
	blob_close(m->blobs, OBJECT);
	assert_true(blob_is_open(m->blobs, &m->digest));
	blob_close(m->blobs, OBJECT + 1);
	assert_false(blob_is_open(m->blobs, &m->digest));
}

/* ---- distrust -------------------------------------------------------------------------------- */

static void
cuts_what_is_distrusted(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	read_whole(m, 0);
	assert_bytes(&m->reqs[0], TEXT);
	blob_cut(m->blobs, &m->digest, true);
	read_whole(m, 1);
	assert_errno(&m->reqs[1], ESTALE);
	/* Bytes that come late change nothing. */
	bring(m);
	read_whole(m, 2);
	assert_errno(&m->reqs[2], ESTALE);
	blob_cut(m->blobs, &m->digest, false);
	read_whole(m, 3);
	bring(m);
	assert_bytes(&m->reqs[3], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
cuts_what_waits(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	blob_cut(m->blobs, &m->digest, true);
	assert_errno(&m->reqs[0], ESTALE);
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_cut(m->blobs, &m->digest, true);
	blob_close(m->blobs, OBJECT);
}

/* ---- bad files ------------------------------------------------------------------------------- */

static void
damage(struct mount *m)
{
	char path[512];

	bed_object_path(m->bed, path, &m->digest);
	assert_int_equal(truncate(path, 3), 0);
}

/* As the engine does: away with it, and the good bytes from the network. */
static void
mend(struct mount *m)
{
	assert_int_equal(store_quarantine_object(m->bed->store, &m->digest, &m->bed->err), 0);
	bed_add_object(m->bed, TEXT, &m->digest);
}

static void
refetches_what_is_bad_at_open(void **state)
{
	struct mount *m = *state;

	damage(m);
	open_verified(m);
	assert_int_equal(n_damaged, 1);
	assert_true(digest_equal(&last_damaged, &m->digest));
	read_whole(m, 0);
	assert_int_equal(n_wanted, 1);
	mend(m);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
heals_what_goes_bad(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	damage(m);
	read_whole(m, 0);
	read_whole(m, 1);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(n_unreadable, 1);
	/* One note is enough, and the file is not given up. */
	assert_int_equal(n_wanted + n_damaged, 0);
	mend(m);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	assert_bytes(&m->reqs[1], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
gives_up_what_cannot_be_healed(void **state)
{
	struct mount *m = *state;
	int fd;

	open_verified(m);
	damage(m);
	read_whole(m, 0);
	blob_answered(m->blobs, &m->digest, -EHOSTUNREACH, -1);
	assert_errno(&m->reqs[0], EIO);
	/* What was brought is bad, too: no further round. */
	read_whole(m, 1);
	fd = memfd_create("short", MFD_CLOEXEC);
	blob_answered(m->blobs, &m->digest, 0, fd);
	close(fd);
	assert_errno(&m->reqs[1], EIO);
	assert_int_equal(n_unreadable, 2);
	blob_close(m->blobs, OBJECT);
}

static void
keeps_what_can_be_read(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	damage(m);
	read_whole(m, 0);
	blob_read(m->blobs, &m->reqs[1], OBJECT, 3, 0);
	assert_false(has_answer(&m->reqs[1]));
	blob_answered(m->blobs, &m->digest, -EHOSTUNREACH, -1);
	assert_errno(&m->reqs[0], EIO);
	assert_bytes(&m->reqs[1], "the");
	blob_read(m->blobs, &m->reqs[2], OBJECT, 3, 0);
	assert_bytes(&m->reqs[2], "the");
	assert_int_equal(n_unreadable, 1);
	blob_close(m->blobs, OBJECT);
}

static void
waits_anew_for_what_was_lost(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	blob_lost(m->blobs, &m->digest);
	read_whole(m, 0);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(n_wanted, 1);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

/* ---- all at once ----------------------------------------------------------------------------- */

/* Readers, interrupts, the engine's answers, cuts and closes in any order: one answer a read. */

enum { READERS = 3, ROUNDS = 400, AT_ONCE = 8 };

struct storm {
	struct mount *m;
	unsigned seed;
	atomic_bool *over;
};

static void *
read_wildly(void *arg)
{
	struct storm *s = arg;
	struct fuse_req reqs[AT_ONCE];

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t object = OBJECT + (unsigned)rand_r(&s->seed) % 2;
		bool verified = rand_r(&s->seed) % 4 == 0;

		blob_open(s->m->blobs, object, &s->m->digest, SIZE, verified);
		for (int i = 0; i < AT_ONCE; i++) {
			req_init(&reqs[i]);
			blob_read(s->m->blobs, &reqs[i], object, SIZE, 0);
			if (rand_r(&s->seed) % 3 == 0)
				interrupt(&reqs[rand_r(&s->seed) % (i + 1)]);
		}
		if (rand_r(&s->seed) % 2 == 0)
			interrupt(&reqs[0]);
		blob_close(s->m->blobs, object);
		for (int i = 0; i < AT_ONCE; i++) {
			wait_for_answer(&reqs[i]);
			assert_int_equal(atomic_load(&reqs[i].n_answers), 1);
			if (reqs[i].errnum == 0) {
				assert_bytes(&reqs[i], TEXT);
			} else {
				assert_true(reqs[i].errnum == EINTR || reqs[i].errnum == ESTALE ||
					    reqs[i].errnum == EBADMSG);
			}
		}
	}
	return NULL;
}

static void *
answer_wildly(void *arg)
{
	struct storm *s = arg;

	while (!atomic_load(s->over)) {
		switch (rand_r(&s->seed) % 5) {
		case 4:
			blob_lost(s->m->blobs, &s->m->digest);
			break;
		case 0:
			blob_answered(s->m->blobs, &s->m->digest, -EBADMSG, -1);
			break;
		case 1:
			blob_cut(s->m->blobs, &s->m->digest, true);
			blob_cut(s->m->blobs, &s->m->digest, false);
			break;
		default:
			bring(s->m);
			break;
		}
		blob_is_open(s->m->blobs, &s->m->digest);
		blob_seek(s->m->blobs, OBJECT, 0, SEEK_DATA);
	}
	return NULL;
}

static void
answers_each_exactly_once(void **state)
{
	struct mount *m = *state;
	atomic_bool over = false;
	struct storm storms[READERS + 1];
	pthread_t threads[READERS + 1];

	for (unsigned i = 0; i <= READERS; i++) {
		storms[i] = (struct storm){ m, i + 1, &over };
		assert_int_equal(pthread_create(&threads[i], NULL,
						i < READERS ? read_wildly : answer_wildly,
						&storms[i]), 0);
	}
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&over, true);
	pthread_join(threads[READERS], NULL);
	assert_int_equal(blobs_parked(m->blobs), 0);
	assert_int_equal(blobs_open(m->blobs), 0);
	assert_false(blob_is_open(m->blobs, &m->digest));
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("C01 many readers of one image cause one fetch and all get its bytes",
		     parks_and_answers),
		TEST("a failed fetch fails all readers; the next reader asks again",
		     fails_all_and_asks_again),
		TEST("a reader of an image that is withdrawn meanwhile gets ESTALE",
		     says_what_was_withdrawn),
		TEST("C03 the fate of another image changes nothing", ignores_answers_to_others),
		TEST("P06 an interrupted reader gets EINTR, the others wait on", interrupts_one),
		TEST("P06 a reader that was interrupted on the way does not begin to wait",
		     interrupted_before_it_waits),
		TEST("read_timeout ends each read with ETIMEDOUT in its own time",
		     fails_at_its_deadline),
		TEST("read_timeout = 0 answers EAGAIN at once and fetches", does_not_wait_at_all),
		TEST("P04 the end of the mount answers what waits with ENOTCONN",
		     ends_with_the_mount),
		TEST("C04 a read that its reader no longer waits for is answered all the same",
		     outlives_its_file),
		TEST("F21 reads of a verified image end at its size", reads_what_is_verified),
		TEST("F21 a read at the end of an unfetched image fetches nothing",
		     reads_the_end_without_waiting),
		TEST("F25 an image is data up to its size, fetched or not", seeks_without_fetching),
		TEST("an image is open until its last file is closed", counts_open_files),
		TEST("C07 an image that was forgotten and listed again serves old and new files",
		     serves_two_numbers),
		TEST("C07 open files of a distrusted image are ESTALE until it is trusted again",
		     cuts_what_is_distrusted),
		TEST("S37 a reader that waits for an image learns that it is distrusted",
		     cuts_what_waits),
		TEST("B10 an image that is bad when it is opened is fetched again",
		     refetches_what_is_bad_at_open),
		TEST("B07 an image that goes bad under its readers is fetched again, once",
		     heals_what_goes_bad),
		TEST("B07 local damage that cannot be healed is EIO",
		     gives_up_what_cannot_be_healed),
		TEST("B07 and EIO for what cannot be read alone", keeps_what_can_be_read),
		TEST("B06 bytes that the disk did not keep are waited for again",
		     waits_anew_for_what_was_lost),
		TEST("C07 every read is answered exactly once, whatever happens at once",
		     answers_each_exactly_once),
	};

	return cmocka_run_group_tests_name("blob", tests, NULL, NULL);
}
