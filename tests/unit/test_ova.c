/*
 * test_ova.c - images/ID/ova: names and numbers of members, the table of indexes, and operations
 * that wait for one.
 *
 * The open image files are played by this file: an archive in memory, whose blocks come at once or
 * when the test says so.
 */
#define FUSE_USE_VERSION 312

#include "config.h"

#include "tests/lib/treebed.h"
#include "tests/lib/reqbed.h"

#include <errno.h>

#include "core/cleanup.h"
#include "core/limits.h"
#include "fs/ova.h"
#include "fs/ovaread.h"

/* ---- the part of blob.c --------------------------------------------------------------------- */

enum { ARCHIVE = 4103 };		/* bytes of image 7 (treebed.h) */

static struct {
	unsigned char bytes[8192];	/* the archive */
	bool at_once;			/* blocks come before the call returns */
	int errnum;			/* instead of a block that comes at once */
	int n_open, n_fetches, depth, deepest;
	blob_done *done;		/* what waits for a block */
	void *arg;
	int64_t off;
	long long since;
} disk;

int
blob_open(struct blobs *b, const struct object_row *row, bool at_disk)
{
	(void)b;
	(void)row;
	(void)at_disk;
	disk.n_open++;
	return 0;
}

void
blob_close(struct blobs *b, uint64_t object)
{
	(void)b;
	(void)object;
	disk.n_open--;
}

void
blob_fetch(struct blobs *b, uint64_t object, size_t size, off_t off, long long since,
	   blob_done *done, void *arg)
{
	(void)b;
	(void)object;
	assert_int_equal(size, TAR_BLOCK);
	assert_true(off >= 0 && off + TAR_BLOCK <= ARCHIVE);
	assert_null(disk.done);
	disk.n_fetches++;
	if (disk.at_once) {
		if (++disk.depth > disk.deepest)
			disk.deepest = disk.depth;
		if (disk.errnum != 0)
			done(arg, disk.errnum, NULL, 0);
		else
			done(arg, 0, disk.bytes + off, size);
		disk.depth--;
		return;
	}
	disk.done = done;
	disk.arg = arg;
	disk.off = off;
	disk.since = since;
}

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

/* A header in block number i of the archive. */
static void
put_member(int i, const char *name, int size)
{
	unsigned char *block = disk.bytes + i * TAR_BLOCK;
	char octal[32];
	unsigned sum = 0;

	memset(block, 0, TAR_BLOCK);
	memcpy(block, name, strlen(name));
	snprintf(octal, sizeof(octal), "%011o", (unsigned)size);
	memcpy(block + 124, octal, 12);
	block[156] = '0';
	memcpy(block + 257, "ustar\00000", 8);
	memset(block + 148, ' ', 8);
	for (int k = 0; k < TAR_BLOCK; k++)
		sum += block[k];
	snprintf(octal, sizeof(octal), "%06o", sum);
	memcpy(block + 148, octal, 7);
}

/* vm.ovf, disk.vmdk, the end: headers in blocks 0, 2 and 5. */
static void
put_archive(void)
{
	memset(&disk, 0, sizeof(disk));
	put_member(0, "vm.ovf", 100);
	put_member(2, "disk.vmdk", 1024);
}

/* ---- a site with archives ------------------------------------------------------------------- */

static const struct treebed_image images[] = {
	{ .number = 7, .format = "OVA" }, { .number = 8 }, { .number = 9, .format = "ova" },
};

static int
setup(void **state)
{
	struct treebed *b = treebed_new();

	put_archive();
	treebed_list(b, 1, images, 3);
	treebed_select(b, 7, true);
	treebed_select(b, 8, true);
	treebed_refresh(b);
	b->fs.ovareads = ovareads_new(&b->fs);
	reqbed_userdata = &b->fs;
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct treebed *b = *state;

	assert_null(disk.done);
	assert_int_equal(disk.n_open, 0);
	ovareads_free(b->fs.ovareads);
	treebed_free(b);
	return 0;
}

/* The index of image 7 is known: members named so, or the reason why there are none. */
static void
learn(struct treebed *b, const char *const *names, size_t n, const char *why)
{
	struct tarindex tar;
	struct digest d;

	treebed_digest(7, "1", &d);
	tarindex_init(&tar, ARCHIVE);
	tar.members = xcalloc(n + 1, sizeof(*tar.members));
	for (tar.n = 0; tar.n < n; tar.n++)
		tar.members[tar.n] = (struct tar_member){
			xstrdup(names[tar.n]), 512 * (int64_t)tar.n, 100 + (int64_t)tar.n };
	ovas_add(b->fs.ovas, &d, &tar, why);
	tarindex_release(&tar);
}

static void
learn_two(struct treebed *b)
{
	static const char *const names[] = { "disk.vmdk", "vm.ovf" };

	learn(b, names, 2, NULL);
}

static bool
is_listed(struct treebed *b, const char *path, const char *name)
{
	struct looked looked;
	struct place dir;
	struct entry e;
	bool found = false;

	assert_int_equal(treebed_walk(b, path, &looked), 0);
	assert_int_equal(place_resolve(&b->fs, looked.node, &dir), 0);
	for (uint64_t cookie = 0; place_next(&dir, cookie, &e); cookie = e.cookie)
		found = found || strcmp(e.name, name) == 0;
	place_release(&dir);
	return found;
}

static uint64_t
node_of(struct treebed *b, const char *path)
{
	struct looked looked;

	assert_int_equal(treebed_walk(b, path, &looked), 0);
	return looked.node;
}

static nlink_t
links_of(struct treebed *b, const char *path)
{
	struct looked looked;

	assert_int_equal(treebed_walk(b, path, &looked), 0);
	return looked.st.st_nlink;
}

/* ---- what is shown -------------------------------------------------------------------------- */

static void
formats_of_archives(void **state)
{
	static const struct {
		char format[32];
		bool is;
	} cases[] = {
		{ "OVA", true }, { "ova", true }, { "Ova", true }, { " ova ", true },
		{ "application/x-ova", true }, { "VMware OVA", true }, { "OVA.", true },
		{ "ova.gz", false }, { "nova", false }, { "OVAL", false }, { "ov", false },
		{ "", false }, { "raw", false }, { "...", false }, { "ova/raw", false },
	};
	struct image_meta m;

	(void)state;
	memset(&m, 0, sizeof(m));
	assert_false(image_meta_is_ova(&m));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char format[32];

		memcpy(format, cases[i].format, sizeof(format));
		m.value[FIELD_FORMAT] = format;
		assert_int_equal(image_meta_is_ova(&m), cases[i].is);
	}
}

static void
an_archive_that_is_not_here_is_found_but_not_listed(void **state)
{
	struct treebed *b = *state;

	treebed_expect_missing(b, "images/image-8/ova");
	treebed_expect_missing(b, "images/image-9/ova");
	assert_int_equal(node_kind(node_of(b, "images/image-7/ova")), KIND_OVA_DIR);
	assert_false(is_listed(b, "images/image-7", "ova"));
	assert_int_equal(links_of(b, "images/image-7"), 2);
	treebed_select(b, 9, true);
	treebed_refresh(b);
	node_of(b, "images/image-9/ova");
}

static void
an_archive_that_is_here_is_listed(void **state)
{
	struct treebed *b = *state;

	treebed_verified(b, 7, "1");
	treebed_refresh(b);
	assert_true(is_listed(b, "images/image-7", "ova"));
	assert_int_equal(links_of(b, "images/image-7"), 3);
}

static void
an_archive_whose_members_are_known_is_listed(void **state)
{
	struct treebed *b = *state;

	learn_two(b);
	assert_true(is_listed(b, "images/image-7", "ova"));
	assert_int_equal(links_of(b, "images/image-7"), 3);
}

static void
members_are_files(void **state)
{
	struct treebed *b = *state;
	struct looked a, c, dir;
	struct place p;

	learn_two(b);
	assert_int_equal(treebed_walk(b, "images/image-7/ova/disk.vmdk", &a), 0);
	assert_int_equal(treebed_walk(b, "images/image-7/ova/vm.ovf", &c), 0);
	assert_int_equal(treebed_walk(b, "images/image-7/ova", &dir), 0);
	assert_int_equal(a.st.st_mode, S_IFREG | 0644);
	assert_int_equal(a.st.st_size, 100);
	assert_int_equal(c.st.st_size, 101);
	assert_int_equal(c.st.st_blocks, 1);
	assert_int_not_equal(a.st.st_ino, c.st.st_ino);
	assert_int_not_equal(a.st.st_ino & ~0xffULL, dir.st.st_ino & ~0xffULL);
	assert_true(is_listed(b, "images/image-7/ova", "vm.ovf"));
	treebed_expect_missing(b, "images/image-7/ova/error");
	treebed_expect_missing(b, "images/image-7/ova/none");
	assert_int_equal(place_resolve(&b->fs, dir.node, &p), 0);
	assert_int_equal(place_parent(&p), node_of(b, "images/image-7"));
	place_release(&p);
	/* A number that is no member's. */
	assert_int_equal(place_resolve(&b->fs, a.node + (2ULL << 50), &p), -ESTALE);
	place_release(&p);
	lookup_forget(&b->fs, a.node, 1);
	lookup_forget(&b->fs, c.node, 1);
	assert_int_equal(pins_count(b->fs.pins), 0);
}

static void
an_archive_that_is_refused_has_one_file(void **state)
{
	struct treebed *b = *state;

	learn(b, NULL, 0, "it is no tar");
	treebed_expect(b, "images/image-7/ova/error", "it is no tar\n");
	assert_true(is_listed(b, "images/image-7/ova", "error"));
	treebed_expect_missing(b, "images/image-7/ova/vm.ovf");
}

static void
another_version_is_another_directory(void **state)
{
	static const struct treebed_image next[] = {
		{ .number = 7, .version = "2", .format = "OVA" }, { .number = 8 },
	};
	struct treebed *b = *state;
	struct looked dir, again, member;
	struct place p;

	treebed_verified(b, 7, "1");
	treebed_refresh(b);
	learn_two(b);
	assert_int_equal(treebed_walk(b, "images/image-7/ova", &dir), 0);
	assert_int_equal(treebed_walk(b, "images/image-7/ova/vm.ovf", &member), 0);
	treebed_list(b, 2, next, 2);
	treebed_verified(b, 7, "2");
	treebed_refresh(b);
	assert_int_equal(treebed_walk(b, "images/image-7/ova", &again), 0);
	assert_int_not_equal(again.node, dir.node);
	assert_int_equal(again.st.st_ino, dir.st.st_ino);
	assert_int_equal(place_resolve(&b->fs, dir.node, &p), -ESTALE);
	place_release(&p);
	/* Whoever has a member of the old one open goes on. */
	assert_int_equal(place_resolve(&b->fs, member.node, &p), 0);
	assert_false(place_needs_index(&p));
	place_release(&p);
	lookup_forget(&b->fs, member.node, 1);
}

/* ---- the table ------------------------------------------------------------------------------ */

static int n_changed, n_disowned;

static void
note_change(void *arg, const struct digest *d, bool disowned)
{
	(void)arg;
	(void)d;
	n_changed++;
	n_disowned += disowned;
}

static void
number_digest(int n, struct digest *d)
{
	digest_of(&n, sizeof(n), d);
}

static void
add_number(struct ovas *o, int n)
{
	struct tarindex tar;
	struct digest d;

	tarindex_init(&tar, 0);
	number_digest(n, &d);
	ovas_add(o, &d, &tar, "no");
	tarindex_release(&tar);
}

/* With one member. */
static void
add_member(struct ovas *o, int n, const char *name, int64_t off)
{
	struct tarindex tar;
	struct digest d;

	tarindex_init(&tar, 4096);
	tar.members = xcalloc(1, sizeof(*tar.members));
	tar.members[tar.n++] = (struct tar_member){ xstrdup(name), off, 100 };
	number_digest(n, &d);
	ovas_add(o, &d, &tar, NULL);
	tarindex_release(&tar);
}

static bool
knows_number(struct ovas *o, int n)
{
	struct digest d;

	number_digest(n, &d);
	return ovas_knows(o, &d);
}

static struct ovas *
table_new(void)
{
	n_changed = n_disowned = 0;
	return ovas_new(note_change, NULL);
}

static void
what_was_not_used_for_longest_is_let_go_of(void **state)
{
	struct ovas *o = table_new();
	const struct ova_index *held;
	struct digest d;

	(void)state;
	for (int i = 0; i < LIMIT_OVA_INDEXES; i++)
		add_number(o, i);
	assert_int_equal(n_changed, LIMIT_OVA_INDEXES);
	number_digest(1, &d);
	held = ovas_find(o, &d);
	ovas_hold(o, held);
	for (int i = 2; i < LIMIT_OVA_INDEXES; i++)
		assert_true(knows_number(o, i));
	assert_true(knows_number(o, 0));
	/* Number 1 is the oldest now, but has an open member. */
	add_number(o, -1);
	assert_int_equal(n_changed, LIMIT_OVA_INDEXES + 2);
	assert_true(knows_number(o, 1));
	assert_false(knows_number(o, 2));
	ovas_let_go(o, &d, held->serial);
	ova_unref(held);
	ovas_free(o);
}

static void
an_open_member_keeps_its_index(void **state)
{
	struct ovas *o = table_new();
	const struct ova_index *x, *y;
	struct digest d;

	(void)state;
	number_digest(5, &d);
	add_number(o, 5);
	add_number(o, 5);		/* again: nothing new */
	assert_int_equal(n_changed, 1);
	x = ovas_find(o, &d);
	assert_non_null(x);
	ovas_hold(o, x);
	assert_int_equal(ovas_held(o, &d, x->serial, &y), 0);
	assert_ptr_equal(y, x);
	ova_unref(y);
	assert_int_equal(ovas_held(o, &d, x->serial + 1, &y), -ESTALE);
	assert_null(y);
	ovas_let_go(o, &d, x->serial);
	ova_unref(x);
	ovas_free(o);
}

/* The serial of an archive of this number with this member, as another process would find it. */
static uint64_t
serial_of(int n, const char *name, int64_t off)
{
	struct ovas *o = table_new();
	const struct ova_index *x;
	struct digest d;
	uint64_t serial;

	add_number(o, 100);		/* each has read others before */
	add_member(o, n, name, off);
	number_digest(n, &d);
	x = ovas_find(o, &d);
	serial = x->serial;
	ova_unref(x);
	ovas_free(o);
	return serial;
}

static void
an_open_member_is_known_to_the_next_process(void **state)
{
	uint64_t serial = serial_of(1, "vm.ovf", 512);

	(void)state;
	assert_true(serial != 0 && serial <= OVA_SERIAL_MASK);
	assert_int_equal(serial_of(1, "vm.ovf", 512), serial);
	assert_int_not_equal(serial_of(2, "vm.ovf", 512), serial);
	assert_int_not_equal(serial_of(1, "vn.ovf", 512), serial);
	assert_int_not_equal(serial_of(1, "vm.ovf", 1024), serial);
}

static enum ova_fate
judge_as(void *arg, const struct digest *d)
{
	const enum ova_fate *fate = arg;

	(void)d;
	return *fate;
}

static void
a_review_lets_go_of_what_is_unused_or_disowned(void **state)
{
	enum ova_fate keep = OVA_KEEP, unused = OVA_UNUSED, disowned = OVA_DISOWNED;
	struct ovas *o = table_new();
	const struct ova_index *x, *y;
	struct digest d;

	(void)state;
	add_number(o, 1);
	add_number(o, 2);
	number_digest(1, &d);
	x = ovas_find(o, &d);
	ovas_hold(o, x);
	ovas_review(o, judge_as, &keep);
	assert_true(knows_number(o, 1) && knows_number(o, 2));
	ovas_review(o, judge_as, &unused);
	assert_true(knows_number(o, 1));
	assert_false(knows_number(o, 2));
	assert_int_equal(n_disowned, 0);
	ovas_review(o, judge_as, &disowned);
	assert_false(knows_number(o, 1));
	assert_int_equal(n_disowned, 1);
	assert_int_equal(ovas_held(o, &d, x->serial, &y), -EAGAIN);
	/* Read anew it is another one: who had the old one open does not read it as this. */
	add_member(o, 1, "other", 512);
	assert_int_equal(ovas_held(o, &d, x->serial, &y), -ESTALE);
	ovas_let_go(o, &d, x->serial);
	ova_unref(x);
	ovas_free(o);
}

static void
numbers_of_open_members(void **state)
{
	uint64_t fh = ova_fh(NODE_ROW_MAX, LIMIT_TAR_MEMBERS - 1, OVA_SERIAL_MASK);

	(void)state;
	assert_int_equal(ova_fh_object(fh), NODE_ROW_MAX);
	assert_int_equal(ova_fh_member(fh), LIMIT_TAR_MEMBERS - 1);
	assert_int_equal(ova_fh_serial(fh), OVA_SERIAL_MASK);
	assert_int_equal(ova_fh_member(NODE_ROW_MAX), -1);
	assert_int_equal(ova_fh_object(5), 5);
	assert_int_equal(ova_fh_member(ova_fh(5, 0, 0)), 0);
}

/* ---- waiting -------------------------------------------------------------------------------- */

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

/* ---- threads -------------------------------------------------------------------------------- */

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

#define IN_BED(title, function) { title, function, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ .name = "a format whose last word is ova is that of an archive",
		  .test_func = formats_of_archives },
		IN_BED("an archive that is not here is found, and not listed",
		       an_archive_that_is_not_here_is_found_but_not_listed),
		IN_BED("an archive that is here is listed", an_archive_that_is_here_is_listed),
		IN_BED("an archive whose members are known is listed",
		       an_archive_whose_members_are_known_is_listed),
		IN_BED("members are files with numbers of their own", members_are_files),
		IN_BED("an archive that is refused has one file that says why",
		       an_archive_that_is_refused_has_one_file),
		IN_BED("the members of another version are in another directory",
		       another_version_is_another_directory),
		{ .name = "the index that was not used for longest is let go of",
		  .test_func = what_was_not_used_for_longest_is_let_go_of },
		{ .name = "an open member keeps its index",
		  .test_func = an_open_member_keeps_its_index },
		{ .name = "P07 an open member is known to the next process",
		  .test_func = an_open_member_is_known_to_the_next_process },
		{ .name = "a review lets go of what is unused and closed, and of what is disowned",
		  .test_func = a_review_lets_go_of_what_is_unused_or_disowned },
		{ .name = "the number of an open member tells its object, place and index",
		  .test_func = numbers_of_open_members },
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

	return cmocka_run_group_tests_name("ova", tests, NULL, NULL);
}
