/*
 * test_passthrough.c - when the kernel may read an object's stored file by itself.
 *
 * The supervisor is played by this file.  Stored files are anonymous ones.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/log.h"
#include "fs/note.h"
#include "fs/passthrough.h"
#include "fs/shared.h"
#include "tests/lib/storebed.h"

#define TEXT "the quick brown fox"

struct bench {
	struct passthrough *p;
	struct vtree_id id;
	struct blockfile *file;
	int open_rc, close_rc;		/* what the supervisor's socket says */
	atomic_int n_offers, n_closes, n_changes;
};

static int
on_open(void *arg, const struct digest *d, int fd)
{
	struct bench *b = arg;

	assert_true(digest_equal(d, &b->id.image));
	assert_true(fd >= 0);
	b->n_offers++;
	return b->open_rc;
}

static int
on_close(void *arg, const struct digest *d)
{
	struct bench *b = arg;

	assert_true(digest_equal(d, &b->id.image));
	b->n_closes += b->close_rc == 0;
	return b->close_rc;
}

static void
on_change(void *arg, const struct digest *d)
{
	struct bench *b = arg;

	assert_true(digest_equal(d, &b->id.image));
	b->n_changes++;
	/* No lock is held: the name is looked up while it is told. */
	passthrough_is_usable(b->p, d);
}

static struct blockfile *
make_file(struct vtree_id *id)
{
	struct vtree *tree = bed_tree(TEXT, sizeof(TEXT) - 1, id);
	int fd = memfd_create("object", MFD_CLOEXEC);

	assert_int_equal(write(fd, TEXT, sizeof(TEXT) - 1), sizeof(TEXT) - 1);
	return blockfile_complete(fd, tree);
}

static int
setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	const struct passthrough_ops ops = { on_open, on_close, on_change, b };

	log_set_level(LOG_LVL_ERROR);
	b->p = passthrough_new(&ops, true, true);
	b->file = make_file(&b->id);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;

	passthrough_free(b->p);
	blockfile_unref(b->file);
	free(b);
	return 0;
}

static const struct digest *
object(const struct bench *b)
{
	return &b->id.image;
}

static bool
is_usable(struct bench *b)
{
	return passthrough_is_usable(b->p, object(b));
}

/* Opened, audited, registered. */
static void
make_usable(struct bench *b)
{
	assert_true(passthrough_opened(b->p, object(b), b->file));
	passthrough_audited(b->p, object(b), b->file);
	passthrough_answered(b->p, object(b), 7);
	assert_true(is_usable(b));
}

static enum passthrough_fate
judge(void *arg, const struct digest *d)
{
	const enum passthrough_fate *fate = arg;

	(void)d;
	return *fate;
}

static void
review(struct bench *b, enum passthrough_fate fate)
{
	passthrough_review(b->p, judge, &fate);
}

static void
assert_described(struct bench *b, const char *wanted)
{
	struct buf text = BUF_INIT;

	passthrough_describe(b->p, &text);
	assert_string_equal(buf_str(&text), wanted);
	buf_release(&text);
}

static int n_held;

static void
count_held(void *arg, const struct digest *d, int64_t n_open)
{
	(void)arg;
	(void)d;
	n_held += (int)n_open;
}

static int
held(struct bench *b)
{
	n_held = 0;
	passthrough_each_held(b->p, count_held, NULL);
	return n_held;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void
audits_offers_and_passes(void **state)
{
	struct bench *b = *state;

	assert_false(is_usable(b));
	assert_true(passthrough_opened(b->p, object(b), b->file));
	assert_false(passthrough_opened(b->p, object(b), b->file));
	assert_int_equal(b->n_offers, 0);
	passthrough_audited(b->p, object(b), b->file);
	assert_int_equal(b->n_offers, 1);
	assert_false(is_usable(b));
	assert_int_equal(passthrough_enter(b->p, object(b)), 0);
	passthrough_answered(b->p, object(b), 7);
	assert_int_equal(b->n_changes, 1);
	assert_int_equal(passthrough_enter(b->p, object(b)), 7);
	assert_int_equal(passthrough_enter(b->p, object(b)), 7);
	passthrough_leave(b->p, object(b));
	passthrough_leave(b->p, object(b));
	assert_true(is_usable(b));
	assert_int_equal(b->n_closes, 0);
	assert_described(b, "yes");
}

static void
offers_what_was_just_fetched(void **state)
{
	struct bench *b = *state;

	passthrough_audited(b->p, object(b), b->file);
	passthrough_audited(b->p, object(b), b->file);
	assert_int_equal(b->n_offers, 1);
	passthrough_answered(b->p, object(b), 7);
	assert_true(is_usable(b));
}

static void
does_nothing_with_integrity_read(void **state)
{
	struct bench *b = *state;

	passthrough_set_on(b->p, false);
	assert_false(passthrough_opened(b->p, object(b), b->file));
	passthrough_audited(b->p, object(b), b->file);
	assert_int_equal(b->n_offers, 0);
	assert_described(b, "no (integrity = read)");
	passthrough_set_on(b->p, true);
	make_usable(b);
	passthrough_set_on(b->p, false);
	assert_false(is_usable(b));
	assert_int_equal(b->n_closes, 1);
}

static void
gives_up_for_good(void **state)
{
	struct bench *b = *state;

	assert_true(passthrough_opened(b->p, object(b), b->file));
	passthrough_audited(b->p, object(b), b->file);
	passthrough_answered(b->p, object(b), -EOPNOTSUPP);
	assert_false(is_usable(b));
	assert_described(b, "no (this kernel is built without it)");
	assert_false(passthrough_opened(b->p, object(b), b->file));
	passthrough_audited(b->p, object(b), b->file);
	assert_int_equal(b->n_offers, 1);
}

/* The supervisor is busy, or keeps no more: that is no reason to give up. */
static void
asks_again_after_a_busy_moment(void **state)
{
	struct bench *b = *state;

	b->open_rc = -EAGAIN;
	assert_true(passthrough_opened(b->p, object(b), b->file));
	passthrough_audited(b->p, object(b), b->file);
	assert_described(b, "yes");
	b->open_rc = 0;
	assert_true(passthrough_opened(b->p, object(b), b->file));
	passthrough_audited(b->p, object(b), b->file);
	passthrough_answered(b->p, object(b), -ENOSPC);
	assert_described(b, "yes");
	make_usable(b);
}

static void
keeps_the_number_while_it_is_open(void **state)
{
	struct bench *b = *state;

	make_usable(b);
	assert_int_equal(passthrough_enter(b->p, object(b)), 7);
	review(b, PASSTHROUGH_DENIED);
	assert_false(is_usable(b));
	assert_int_equal(passthrough_enter(b->p, object(b)), 0);
	assert_int_equal(b->n_closes, 0);
	assert_int_equal(held(b), 1);
	review(b, PASSTHROUGH_FREE);
	assert_true(is_usable(b));
	assert_int_equal(held(b), 0);
	review(b, PASSTHROUGH_DENIED);
	passthrough_leave(b->p, object(b));
	assert_int_equal(b->n_closes, 1);
	assert_int_equal(held(b), 0);
	make_usable(b);
}

/* Before it has, another file would get the number of the one before. */
static void
offers_nothing_before_the_last_was_closed(void **state)
{
	struct bench *b = *state;

	make_usable(b);
	b->close_rc = -EAGAIN;
	passthrough_lost(b->p, object(b));
	assert_false(is_usable(b));
	assert_int_equal(b->n_closes, 0);
	assert_false(passthrough_opened(b->p, object(b), b->file));
	passthrough_audited(b->p, object(b), b->file);
	assert_int_equal(b->n_offers, 1);
	b->close_rc = 0;
	assert_true(passthrough_opened(b->p, object(b), b->file));
	assert_int_equal(b->n_closes, 1);
	passthrough_audited(b->p, object(b), b->file);
	assert_int_equal(b->n_offers, 2);
}

/* Another file with the same bytes behind one node: the kernel would refuse it. */
static void
offers_no_other_file_while_one_is_open(void **state)
{
	struct bench *b = *state;
	struct vtree_id id;
	struct blockfile *other = make_file(&id);

	make_usable(b);
	assert_int_equal(passthrough_enter(b->p, object(b)), 7);
	passthrough_lost(b->p, object(b));
	assert_int_equal(held(b), 1);
	review(b, PASSTHROUGH_FREE);
	assert_false(is_usable(b));
	assert_false(passthrough_opened(b->p, object(b), other));
	passthrough_audited(b->p, object(b), other);
	assert_int_equal(b->n_offers, 1);
	passthrough_leave(b->p, object(b));
	assert_int_equal(b->n_closes, 1);
	passthrough_audited(b->p, object(b), other);
	assert_int_equal(b->n_offers, 2);
	blockfile_unref(other);
}

/* Its name was without a file for a while: what is there now is another one. */
static void
never_goes_back_to_a_file_that_was_gone(void **state)
{
	struct bench *b = *state;

	make_usable(b);
	assert_int_equal(passthrough_enter(b->p, object(b)), 7);
	review(b, PASSTHROUGH_GONE);
	review(b, PASSTHROUGH_FREE);
	assert_false(is_usable(b));
	assert_int_equal(held(b), 1);
	passthrough_leave(b->p, object(b));
	assert_int_equal(b->n_closes, 1);
	make_usable(b);
}

static void
withdraws_what_was_distrusted_meanwhile(void **state)
{
	struct bench *b = *state;

	passthrough_audited(b->p, object(b), b->file);
	review(b, PASSTHROUGH_DENIED);
	passthrough_answered(b->p, object(b), 7);
	assert_false(is_usable(b));
	assert_int_equal(b->n_closes, 1);
	passthrough_audited(b->p, object(b), b->file);
	passthrough_lost(b->p, object(b));
	review(b, PASSTHROUGH_FREE);
	passthrough_answered(b->p, object(b), 8);
	assert_false(is_usable(b));
	assert_int_equal(b->n_closes, 2);
}

static void
forgets_an_audit_that_was_lost(void **state)
{
	struct bench *b = *state;

	assert_true(passthrough_opened(b->p, object(b), b->file));
	passthrough_lost(b->p, object(b));
	assert_int_equal(b->n_changes + b->n_closes, 0);
	make_usable(b);
}

/* ---- what another worker has left, which is much --------------------------------------------- */

enum { LEFT = 300, ROOM = 60 };		/* the answers that a socket surely holds */

struct supervisor {
	struct passthrough *p;
	struct digest asked[LEFT];
	size_t n_asked, n_answered;
	bool busy;
};

static int
on_question(void *arg, const struct digest *d, int fd)
{
	struct supervisor *s = arg;

	assert_int_equal(fd, -1);
	if (s->busy)
		return -EAGAIN;
	assert_in_range(s->n_asked, 0, LEFT - 1);
	s->asked[s->n_asked++] = *d;
	assert_in_range(s->n_asked - s->n_answered, 1, ROOM);
	return 0;
}

static int
on_end(void *arg, const struct digest *d)
{
	(void)arg;
	(void)d;
	return 0;
}

static void
on_news(void *arg, const struct digest *d)
{
	(void)arg;
	(void)d;
}

static struct shared *
much_was_left(void)
{
	struct shared *shared = calloc(1, sizeof(*shared));

	assert_non_null(shared);
	for (size_t i = 0; i < LEFT; i++) {
		memset(shared->backed[i].digest.bytes, (int)i % 200, DIGEST_BYTES);
		shared->backed[i].digest.bytes[1] = (unsigned char)(i / 200);
		shared->backed[i].used = SHARED_USABLE;
	}
	return shared;
}

static void
answer_all(struct supervisor *s)
{
	while (s->n_answered < s->n_asked) {
		const struct digest d = s->asked[s->n_answered++];

		passthrough_answered(s->p, &d, (int)s->n_answered);
	}
}

static void
asks_for_no_more_than_can_be_answered(void **state)
{
	struct supervisor s = { .busy = true };
	const struct passthrough_ops ops = { on_question, on_end, on_news, &s };
	struct shared *shared = much_was_left();
	int64_t n, n_open;

	s.p = passthrough_new(&ops, true, true);
	passthrough_restore(s.p, shared);
	assert_int_equal(s.n_asked, 0);
	/* Whoever opens something has it done then. */
	s.busy = false;
	passthrough_opened(s.p, object(*state), ((struct bench *)*state)->file);
	assert_in_range(s.n_asked, 1, ROOM);
	answer_all(&s);
	assert_int_equal(s.n_answered, LEFT);
	passthrough_count(s.p, &n, &n_open);
	assert_int_equal(n, LEFT);
	assert_int_equal(shared->backed[LEFT - 1].used, SHARED_USABLE);
	passthrough_free(s.p);
	free(shared);
}

static void
ignores_answers_to_nothing(void **state)
{
	struct bench *b = *state;

	passthrough_answered(b->p, object(b), 7);
	passthrough_answered(b->p, object(b), -EPERM);
	passthrough_leave(b->p, object(b));
	assert_false(is_usable(b));
	assert_described(b, "yes");
}

/* Opens and closes, reviews and losses, answers: in the end nothing is open and nothing is kept. */

enum { THREADS = 3, ROUNDS = 3000 };

static void *
storm(void *arg)
{
	struct bench *b = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;

	for (int i = 0; i < ROUNDS; i++) {
		switch (rand_r(&seed) % 8) {
		case 0:
			passthrough_lost(b->p, object(b));
			break;
		case 1:
			review(b, rand_r(&seed) % 4 == 0 ? PASSTHROUGH_GONE :
				  rand_r(&seed) % 2 == 0 ? PASSTHROUGH_DENIED : PASSTHROUGH_FREE);
			break;
		case 2:
			passthrough_answered(b->p, object(b), 7);
			break;
		case 3:
			passthrough_opened(b->p, object(b), b->file);
			passthrough_audited(b->p, object(b), b->file);
			break;
		case 4:
			held(b);
			break;
		default:
			if (passthrough_enter(b->p, object(b)) > 0)
				passthrough_leave(b->p, object(b));
			break;
		}
	}
	return NULL;
}

static void
many_threads_leave_nothing(void **state)
{
	struct bench *b = *state;
	pthread_t threads[THREADS];
	int64_t objects, open;

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm, b), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	passthrough_answered(b->p, object(b), 7);
	passthrough_lost(b->p, object(b));
	passthrough_count(b->p, &objects, &open);
	assert_int_equal(objects, 0);
	assert_int_equal(open, 0);
	assert_true(b->n_closes <= b->n_offers);
	make_usable(b);
}

/* ---- notes ----------------------------------------------------------------------------------- */

static void
notes_carry_descriptors(void **state)
{
	int pair[2], fd = -1, sent = memfd_create("x", MFD_CLOEXEC);
	struct note note, got;
	struct stat a, b;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	note_init(&note, NOTE_BACKING_OPEN);
	digest_of("x", 1, &note.digest);
	assert_int_equal(note_send(pair[0], &note, sent, false), 0);
	assert_int_equal(note_receive(pair[1], &got, &fd, true), 1);
	assert_memory_equal(&note, &got, sizeof(note));
	assert_int_equal(fstat(sent, &a) + fstat(fd, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	close(fd);
	assert_int_equal(note_send(pair[0], &note, -1, false), 0);
	assert_int_equal(note_receive(pair[1], &got, &fd, true), 1);
	assert_int_equal(fd, -1);
	assert_int_equal(note_receive(pair[1], &got, &fd, false), -EAGAIN);
	assert_int_equal(send(pair[0], "short", 5, 0), 5);
	assert_int_equal(note_receive(pair[1], &got, &fd, true), -EPROTO);
	close(pair[0]);
	assert_int_equal(note_receive(pair[1], &got, &fd, true), 0);
	close(pair[1]);
	close(sent);
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("an image is audited once, registered, and passes through after that",
		     audits_offers_and_passes),
		TEST("an image that was just fetched needs no audit", offers_what_was_just_fetched),
		TEST("with integrity = read nothing passes through",
		     does_nothing_with_integrity_read),
		TEST("what the kernel cannot do is asked for once", gives_up_for_good),
		TEST("a supervisor that is busy is asked again", asks_again_after_a_busy_moment),
		TEST("what is distrusted is kept until it is closed, and can be trusted again",
		     keeps_the_number_while_it_is_open),
		TEST("what a busy supervisor was not told is told later, and before anything else",
		     offers_nothing_before_the_last_was_closed),
		TEST("what hundreds of images had before is asked for as fast as it is answered",
		     asks_for_no_more_than_can_be_answered),
		TEST("an image that was replaced is not registered while the old file is open",
		     offers_no_other_file_while_one_is_open),
		TEST("an image that was away is not read from the file that it had before",
		     never_goes_back_to_a_file_that_was_gone),
		TEST("what is distrusted while it is being registered never passes through",
		     withdraws_what_was_distrusted_meanwhile),
		TEST("an audit that found damage is forgotten", forgets_an_audit_that_was_lost),
		TEST("an answer that nobody waits for changes nothing", ignores_answers_to_nothing),
		TEST("many threads at once leave nothing open", many_threads_leave_nothing),
		{ .name = "a note comes whole, with its descriptor, or not at all",
		  .test_func = notes_carry_descriptors },
	};

	return cmocka_run_group_tests_name("passthrough", tests, NULL, NULL);
}
