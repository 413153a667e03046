/*
 * test_blob_storm.c - readers, interrupts, the engine's answers and its refusals all at once:
 * each read is answered exactly once.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/blockfile.h"
#include "fs/blob.h"
#include "tests/unit/readbed.h"

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

		open_row(s->m, object, verified);
		for (int i = 0; i < AT_ONCE; i++) {
			req_init(&reqs[i]);
			blob_read(s->m->blobs, &reqs[i], object, SIZE, 0, 0);
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
			blob_answered(s->m->blobs, &s->m->digest, -EBADMSG, NULL);
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

/*
 * The same in block mode: lanes land granules and fail some, the disk loses some, the image goes
 * and comes back.
 */
static void *
read_granules_wildly(void *arg)
{
	struct storm *s = arg;
	struct fuse_req reqs[AT_ONCE];

	for (int round = 0; round < ROUNDS; round++) {
		off_t off[AT_ONCE];
		size_t size[AT_ONCE];

		open_large(s->m);
		for (int i = 0; i < AT_ONCE; i++) {
			off[i] = rand_r(&s->seed) % (LARGE_SIZE - 2);
			size[i] = (size_t)(rand_r(&s->seed) % (GRANULE + GRANULE / 2)) + 1;
			if ((off_t)size[i] > LARGE_SIZE - off[i])
				size[i] = (size_t)(LARGE_SIZE - off[i]);
			req_init(&reqs[i]);
			blob_read(s->m->blobs, &reqs[i], LARGE, size[i], off[i], 0);
			if (rand_r(&s->seed) % 4 == 0)
				interrupt(&reqs[rand_r(&s->seed) % (i + 1)]);
		}
		blob_close(s->m->blobs, LARGE);
		for (int i = 0; i < AT_ONCE; i++) {
			wait_for_answer(&reqs[i]);
			assert_int_equal(atomic_load(&reqs[i].n_answers), 1);
			if (reqs[i].errnum == 0) {
				assert_large(&reqs[i], off[i], size[i]);
			} else {
				assert_true(reqs[i].errnum == EINTR || reqs[i].errnum == ESTALE ||
					    reqs[i].errnum == EBADMSG ||
					    reqs[i].errnum == EHOSTUNREACH);
			}
		}
	}
	return NULL;
}

static void *
land_wildly(void *arg)
{
	struct storm *s = arg;
	struct mount *m = s->m;
	char zero = 0;

	while (!atomic_load(s->over)) {
		int64_t g = rand_r(&s->seed) % N_GRANULES;

		switch (rand_r(&s->seed) % 16) {
		case 0:
			blob_failed(m->blobs, &m->id.image, g, 2, -EHOSTUNREACH);
			break;
		case 1:
			if (pwrite(blockfile_fd(m->partial), &zero, 1, g * GRANULE) == 1)
				break;
			abort();
		case 2:
			blob_lost(m->blobs, &m->id.image);
			break;
		case 3:
			blob_answered(m->blobs, &m->id.image, -EBADMSG, NULL);
			break;
		case 4: case 5: case 6:
			blob_answered(m->blobs, &m->id.image, 0, m->partial);
			break;
		default:
			land(m, g);
			break;
		}
	}
	return NULL;
}

static void
answers_each_exactly_once_by_granules(void **state)
{
	enum { LANES = 2 };
	struct mount *m = *state;
	atomic_bool over = false;
	struct storm storms[READERS + LANES];
	pthread_t threads[READERS + LANES];

	prepare_large(m);
	for (unsigned i = 0; i < READERS + LANES; i++) {
		storms[i] = (struct storm){ m, i + 1, &over };
		assert_int_equal(pthread_create(&threads[i], NULL,
						i < READERS ? read_granules_wildly : land_wildly,
						&storms[i]), 0);
	}
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&over, true);
	for (unsigned i = READERS; i < READERS + LANES; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(blobs_parked(m->blobs), 0);
	assert_int_equal(blobs_open(m->blobs), 0);
	assert_false(blob_is_open(m->blobs, &m->id.image));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("C07 every read is answered exactly once, whatever happens at once",
		     answers_each_exactly_once),
		TEST("and in block mode", answers_each_exactly_once_by_granules),
	};

	return cmocka_run_group_tests_name("blob_storm", tests, NULL, NULL);
}
