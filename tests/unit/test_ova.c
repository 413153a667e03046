/*
 * test_ova.c - images/ID/ova: names and numbers of members, and the table of indexes.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "core/limits.h"
#include "fs/ova.h"
#include "fs/ovaread.h"
#include "tests/unit/ovabed.h"

/* ---- what is shown ------------------------------------------------------------------------- */

static nlink_t
links_of(struct treebed *b, const char *path)
{
	struct looked looked;

	assert_int_equal(treebed_walk(b, path, &looked), 0);
	return looked.st.st_nlink;
}

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
	treebed_expect_unpinned(b, a.node);
	treebed_expect_unpinned(b, c.node);
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

/* ---- the table ----------------------------------------------------------------------------- */

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
	};

	return cmocka_run_group_tests_name("ova", tests, NULL, NULL);
}
