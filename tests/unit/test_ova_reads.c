/*
 * test_ova_reads.c - operations on images/ID/ova that wait until the headers of the archive were
 * read.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "fs/ova.h"
#include "fs/ovaread.h"
#include "tests/unit/ovabed.h"

/* ---- waiting ------------------------------------------------------------------------------- */

/* The block that is waited for has come, or (errnum) will not. */
static void
bring(int errnum)
{
	blob_done *done = disk.done;

	assert_non_null(done);
	disk.done = NULL;
	if (errnum != 0)
		done(disk.arg, errnum, NULL, 0);
	else
		done(disk.arg, 0, disk.bytes + disk.off, TAR_BLOCK);
}

static atomic_int n_run;

/* What an operation does when it is begun anew. */
static void
run_op(const struct operation *op)
{
	struct fs_context *fs = fuse_req_userdata(op->req);
	struct place p;

	atomic_fetch_add(&n_run, 1);
	assert_string_equal(op->name, "vm.ovf");
	assert_int_equal(place_resolve(fs, op->node, &p), 0);
	assert_false(place_needs_index(&p));
	place_release(&p);
	fuse_reply_err(op->req, 0);
}

static void
ask(struct treebed *b, struct fuse_req *req)
{
	char name[] = "vm.ovf";
	struct operation op = { .req = req, .run = run_op, .name = name };
	struct place p;

	op.node = node_of(b, "images/image-7/ova");
	assert_int_equal(place_resolve(&b->fs, op.node, &p), 0);
	ovareads_wait(b->fs.ovareads, &p, &op);
	place_release(&p);
	memset(name, 'x', strlen(name));	/* it has been copied */
}

static void
ask_first(struct treebed *b, struct fuse_req *req)
{
	atomic_store(&n_run, 0);
	req_init(req);
	ask(b, req);
}

static void
headers_are_read_one_after_the_other(void **state)
{
	static const int64_t offsets[] = { 0, 2 * 512, 5 * 512, 6 * 512 };
	struct treebed *b = *state;
	struct fuse_req req;

	ask_first(b, &req);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(atomic_load(&req.n_answers), 0);
		assert_int_equal(disk.off, offsets[i]);
		bring(0);
	}
	assert_errno(&req, 0);
	assert_int_equal(atomic_load(&n_run), 1);
	assert_true(is_listed(b, "images/image-7/ova", "disk.vmdk"));
}

static void
blocks_that_are_here_are_read_without_nesting(void **state)
{
	struct treebed *b = *state;
	struct fuse_req req;

	disk.at_once = true;
	memset(disk.bytes, 0, sizeof(disk.bytes));
	for (int i = 0; i < 8; i++)
		put_member(i, (char[]){ (char)('a' + i), '\0' }, 0);
	ask_first(b, &req);
	assert_errno(&req, 0);
	assert_int_equal(disk.n_fetches, 8);
	assert_int_equal(disk.deepest, 1);
	assert_true(is_listed(b, "images/image-7/ova", "h"));
	/* The second one finds it known. */
	req_init(&req);
	ask(b, &req);
	assert_errno(&req, 0);
	assert_int_equal(disk.n_fetches, 8);
}

static void
many_wait_for_one_reader(void **state)
{
	struct treebed *b = *state;
	struct fuse_req reqs[20];

	ask_first(b, &reqs[0]);
	for (int i = 1; i < 20; i++) {
		req_init(&reqs[i]);
		ask(b, &reqs[i]);
	}
	assert_int_equal(disk.n_open, 1);
	for (int i = 0; i < 4; i++)
		bring(0);
	for (int i = 0; i < 20; i++)
		assert_errno(&reqs[i], 0);
	assert_int_equal(disk.n_fetches, 4);
}

static void
an_error_is_told_and_nothing_is_remembered(void **state)
{
	struct treebed *b = *state;
	struct fuse_req req;

	ask_first(b, &req);
	bring(0);
	bring(EHOSTUNREACH);
	assert_errno(&req, EHOSTUNREACH);
	assert_int_equal(atomic_load(&n_run), 0);
	assert_false(is_listed(b, "images/image-7", "ova"));
	disk.at_once = true;
	ask_first(b, &req);
	assert_errno(&req, 0);
}

static void
what_is_no_archive_is_remembered(void **state)
{
	struct treebed *b = *state;
	struct fuse_req req;

	put_member(2, "../disk.vmdk", 1024);
	ask_first(b, &req);
	bring(0);
	bring(0);
	assert_errno(&req, 0);
	treebed_expect(b, "images/image-7/ova/error",
		       "the archive has a member with '..' in its name, '../disk.vmdk'\n");
}

static void
who_is_interrupted_is_let_go(void **state)
{
	struct treebed *b = *state;
	struct fuse_req first, second, late;

	ask_first(b, &first);
	req_init(&second);
	ask(b, &second);
	interrupt(&first);
	assert_errno(&first, EINTR);
	assert_int_equal(atomic_load(&second.n_answers), 0);
	req_init(&late);
	late.interrupted = true;	/* before it waits */
	ask(b, &late);
	assert_errno(&late, EINTR);
	for (int i = 0; i < 4; i++)
		bring(0);
	assert_errno(&first, EINTR);
	assert_errno(&second, 0);
	interrupt(&second);
	assert_int_equal(atomic_load(&n_run), 1);
}

/* The reader began with the first, whose time is over; the second came later. */
static void
who_came_later_has_the_full_time(void **state)
{
	struct timespec some = { .tv_nsec = 5000000 };
	struct treebed *b = *state;
	struct fuse_req first, second;
	long long since;

	ask_first(b, &first);
	since = disk.since;
	bring(0);
	nanosleep(&some, NULL);
	req_init(&second);
	ask(b, &second);
	bring(ETIMEDOUT);
	assert_errno(&first, ETIMEDOUT);
	assert_int_equal(atomic_load(&second.n_answers), 0);
	assert_true(disk.since > since);
	assert_int_equal(disk.off, 2 * 512);
	bring(ETIMEDOUT);
	assert_errno(&second, ETIMEDOUT);
}

static void
what_may_not_be_opened_is_not_read(void **state)
{
	struct treebed *b = *state;
	struct looked dir, member;
	struct operation op;
	struct fuse_req req;
	struct place p;

	learn_two(b);
	assert_int_equal(treebed_walk(b, "images/image-7/ova", &dir), 0);
	assert_int_equal(treebed_walk(b, "images/image-7/ova/vm.ovf", &member), 0);
	treebed_ok(b, catalogue_endorser_remove(b->c, "alice", NULL, NULL, &b->err));
	treebed_refresh(b);
	assert_int_equal(place_resolve(&b->fs, dir.node, &p), -ESTALE);
	place_release(&p);
	assert_int_equal(place_resolve(&b->fs, member.node, &p), 0);
	assert_true(place_needs_index(&p));
	req_init(&req);
	op = (struct operation){ .req = &req, .run = run_op, .node = member.node };
	ovareads_wait(b->fs.ovareads, &p, &op);
	assert_true(req.errnum == EKEYREJECTED || req.errnum == ESTALE);
	assert_int_equal(disk.n_fetches, 0);
	place_release(&p);
	lookup_forget(&b->fs, member.node, 1);
}

static void
an_archive_of_no_block_is_refused(void **state)
{
	static const struct treebed_image small[] = { { .number = -4000, .format = "OVA" } };
	struct treebed *b = *state;
	struct operation op = { .run = run_op };
	struct fuse_req req;
	struct place p;

	treebed_list(b, 2, small, 1);
	treebed_select(b, -4000, true);
	treebed_refresh(b);
	req_init(&req);
	op.req = &req;
	op.name = "vm.ovf";
	op.node = node_of(b, "images/image--4000/ova");
	assert_int_equal(place_resolve(&b->fs, op.node, &p), 0);
	ovareads_wait(b->fs.ovareads, &p, &op);
	place_release(&p);
	assert_errno(&req, 0);
	assert_int_equal(disk.n_fetches, 0);
	treebed_expect(b, "images/image--4000/ova/error", "the archive has no members\n");
}

/* ---- threads ------------------------------------------------------------------------------- */

enum { CROWD = 8, ROUNDS = 200 };

static void *
interrupt_all(void *arg)
{
	struct fuse_req *reqs = arg;

	for (int i = 0; i < CROWD; i += 2)
		interrupt(&reqs[i]);
	return NULL;
}

static void *
bring_all(void *arg)
{
	(void)arg;
	while (disk.done != NULL)
		bring(0);
	return NULL;
}

static void
blocks_and_interrupts_meet(void **state)
{
	struct treebed *b = *state;
	struct fuse_req reqs[CROWD];
	enum ova_fate unused = OVA_UNUSED;

	for (int round = 0; round < ROUNDS; round++) {
		pthread_t a, c;

		atomic_store(&n_run, 0);
		for (int i = 0; i < CROWD; i++) {
			req_init(&reqs[i]);
			ask(b, &reqs[i]);
		}
		assert_int_equal(pthread_create(&a, NULL, bring_all, NULL), 0);
		assert_int_equal(pthread_create(&c, NULL, interrupt_all, reqs), 0);
		pthread_join(a, NULL);
		pthread_join(c, NULL);
		for (int i = 0; i < CROWD; i++)
			assert_int_equal(atomic_load(&reqs[i].n_answers), 1);
		assert_true(atomic_load(&n_run) >= CROWD / 2);
		ovas_review(b->fs.ovas, judge_as, &unused);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		IN_BED("headers are read one after the other",
		       headers_are_read_one_after_the_other),
		IN_BED("headers that are here are read without nesting",
		       blocks_that_are_here_are_read_without_nesting),
		IN_BED("all who wait for an archive share one reader", many_wait_for_one_reader),
		IN_BED("an error is told to who waits, and the next one tries again",
		       an_error_is_told_and_nothing_is_remembered),
		IN_BED("an archive that is refused is not read again",
		       what_is_no_archive_is_remembered),
		IN_BED("who is interrupted is let go, and the others wait on",
		       who_is_interrupted_is_let_go),
		IN_BED("who began to wait later has the full time",
		       who_came_later_has_the_full_time),
		IN_BED("an archive that may not be opened is not read",
		       what_may_not_be_opened_is_not_read),
		IN_BED("an archive of less than a block is refused unread",
		       an_archive_of_no_block_is_refused),
		IN_BED("blocks that come while operations are interrupted answer each once",
		       blocks_and_interrupts_meet),
	};

	return cmocka_run_group_tests_name("ova_reads", tests, NULL, NULL);
}
