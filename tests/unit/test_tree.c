/*
 * test_tree.c - the tree: names, listings, what a change takes back, and who may open what.
 */
#include "config.h"

#include "tests/lib/treebed.h"
#include <errno.h>
#include "fs/openrule.h"
#include "fs/tree_diff.h"

/* ---- listings ------------------------------------------------------------------------------- */

struct names {
	char name[64][ENTRY_NAME_MAX + 1];
	int n;
};

static void
list_from(struct treebed *b, const char *path, uint64_t *cookie, int max, struct names *out)
{
	struct looked looked = { .node = NODE_ROOT };
	struct place dir;
	struct entry e;

	if (path[0] != '\0')
		assert_int_equal(treebed_walk(b, path, &looked), 0);
	assert_int_equal(place_resolve(&b->fs, looked.node, &dir), 0);
	for (int i = 0; i < max && place_next(&dir, *cookie, &e); i++) {
		assert_true(e.cookie > *cookie);
		*cookie = e.cookie;
		assert_true(out->n < 64);
		memcpy(out->name[out->n++], e.name, sizeof(e.name));
	}
	place_release(&dir);
}

static void
list(struct treebed *b, const char *path, struct names *out)
{
	uint64_t cookie = 2;

	out->n = 0;
	list_from(b, path, &cookie, 64, out);
}

static bool
has(const struct names *names, const char *name)
{
	int n = 0;

	for (int i = 0; i < names->n; i++)
		n += strcmp(names->name[i], name) == 0;
	assert_true(n <= 1);
	return n == 1;
}

static void
root_has_every_entry(void **state)
{
	static const char *const expected[] = {
		"README", "status", "status.json", "metrics", "events", "SHA512SUMS", "by-sha512",
		"cache", "images", "by-title", "subscriptions", "endorsers", "expired"
	};
	struct names names;

	list(*state, "", &names);
	assert_int_equal(names.n, 13);
	for (size_t i = 0; i < 13; i++)
		assert_true(has(&names, expected[i]));
}

static void
listing_survives_changes(void **state)
{
	const struct treebed_image before[] = {
		{ 1, 0, 0 }, { 2, 0, 0 }, { 3, 0, 0 }, { 4, 0, 0 }, { 5, 0, 0 }, { 6, 0, 0 }
	};
	const struct treebed_image after[] = {
		{ 2, 0, 0 }, { 4, 0, "2" }, { 5, "New", 0 }, { 6, 0, 0 }, { 7, 0, 0 }, { 8, 0, 0 }
	};
	struct treebed *b = *state;
	struct names names = { .n = 0 };
	uint64_t cookie = 0;

	treebed_list(b, 1, before, 6);
	treebed_refresh(b);
	list_from(b, "images", &cookie, 5, &names);	/* ".", "..", 1, 2, 3 */
	treebed_list(b, 2, after, 6);
	treebed_refresh(b);
	list_from(b, "images", &cookie, 64, &names);
	/* Each of 2, 4, 5, 6 was there all the time. */
	assert_true(has(&names, "image-2") && has(&names, "image-4"));
	assert_true(has(&names, "image-5") && has(&names, "image-6"));
	assert_true(has(&names, ".") && has(&names, ".."));
}

static void
titles_that_clash(void **state)
{
	const struct treebed_image images[] = {
		{ 1, "Same title!", 0 }, { 2, "Same title!", 0 }, { 3, "..//odd\\\"", 0 }
	};
	struct treebed *b = *state;
	struct names names;
	char *target;

	treebed_list(b, 1, images, 3);
	treebed_refresh(b);
	list(b, "by-title", &names);
	assert_int_equal(names.n, 3);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(strncmp(names.name[i], "Same_title_~", 12), 0);
		assert_int_equal(strlen(names.name[i]), 12 + 8);
	}
	for (int i = 0; i < 3; i++) {
		char path[300];

		assert_int_equal(strspn(names.name[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghij"
					"klmnopqrstuvwxyz0123456789._+-~"),
				 strlen(names.name[i]));
		assert_int_not_equal(names.name[i][0], '.');
		snprintf(path, sizeof(path), "by-title/%s", names.name[i]);
		target = treebed_read(b, path);
		assert_int_equal(strncmp(target, "../images/image-", 16), 0);
		free(target);
	}
	assert_string_not_equal(names.name[0], names.name[1]);
}

static void
links_and_directories_by_state(void **state)
{
	const struct treebed_image images[] = { { 1, 0, 0 }, { 2, 0, 0 } };
	struct treebed *b = *state;
	struct looked old, new;
	struct names names;
	char path[200], hex[DIGEST_HEX + 1];
	struct digest d;

	treebed_list(b, 1, images, 2);
	treebed_refresh(b);
	treebed_expect_missing(b, "images/image-1/image");
	list(b, "by-sha512", &names);
	assert_int_equal(names.n, 0);
	treebed_select(b, 1, true);
	treebed_refresh(b);
	treebed_digest(1, "1", &d);
	digest_hex(&d, hex);
	snprintf(path, sizeof(path), "by-sha512/%s", hex);
	assert_int_equal(treebed_walk(b, path, &old), 0);
	assert_int_equal(old.st.st_mode, S_IFREG | 0644);
	assert_int_equal(old.st.st_size, 4097);
	assert_int_equal(old.st.st_blocks, 9);
	assert_int_equal(old.st.st_mtim.tv_sec, 1700000001);
	list(b, "cache", &names);
	assert_int_equal(names.n, 0);
	treebed_verified(b, 1, "1");
	treebed_refresh(b);
	list(b, "cache", &names);
	assert_true(names.n == 1 && has(&names, "image-1"));
	assert_int_equal(treebed_walk(b, path, &new), 0);
	assert_int_not_equal(old.node, new.node);
	assert_int_equal(old.st.st_ino, new.st.st_ino);
	lookup_forget(&b->fs, old.node, 1);
	lookup_forget(&b->fs, new.node, 1);
	snprintf(path, sizeof(path), "../../by-sha512/%s", hex);
	treebed_expect(b, "images/image-1/image", path);
	snprintf(path, sizeof(path), "../by-sha512/%s", hex);
	treebed_expect(b, "cache/image-1", path);
}

static void
names_that_are_none(void **state)
{
	struct treebed *b = *state;
	char hex[DIGEST_HEX + 1], path[200];
	struct looked looked;
	struct digest d;
	const struct treebed_image images[] = { { 1, 0, 0 } };

	treebed_list(b, 1, images, 1);
	treebed_select(b, 1, true);
	treebed_refresh(b);
	treebed_digest(1, "1", &d);
	digest_hex(&d, hex);
	for (char *p = hex; *p != '\0'; p++)
		if (*p >= 'a')
			*p = (char)(*p - 'a' + 'A');
	snprintf(path, sizeof(path), "by-sha512/%s", hex);
	treebed_expect_missing(b, path);
	treebed_expect_missing(b, "by-sha512/xyz");
	treebed_expect_missing(b, "images/image-9");
	assert_int_equal(treebed_walk(b, "README/x", &looked), -ENOTDIR);
}

static void
inodes_are_unique(void **state)
{
	const struct treebed_image images[] = { { 1, 0, 0 }, { 2, 0, 0 } };
	static const char *const dirs[] = {
		"", "images", "images/image-1", "images/image-2", "by-title", "subscriptions",
		"subscriptions/list-1", "subscriptions/list-1/images", "endorsers",
		"endorsers/alice", "endorsers/alice/subscriptions", "cache", "by-sha512"
	};
	struct treebed *b = *state;
	struct buf left = BUF_INIT;
	uint64_t seen[256];
	size_t n = 0;

	treebed_list(b, 1, images, 2);
	treebed_select(b, 1, true);
	treebed_verified(b, 1, "1");
	treebed_refresh(b);
	for (size_t d = 0; d < sizeof(dirs) / sizeof(dirs[0]); d++) {
		struct looked looked = { .node = NODE_ROOT };
		struct place dir;
		struct entry e;
		uint64_t cookie = 2;

		if (dirs[d][0] != '\0')
			assert_int_equal(treebed_walk(b, dirs[d], &looked), 0);
		assert_int_equal(place_resolve(&b->fs, looked.node, &dir), 0);
		for (; place_next(&dir, cookie, &e); cookie = e.cookie) {
			assert_int_equal(lookup_entry(&dir, &e, &looked), 0);
			assert_int_equal(looked.st.st_ino, e.ino);
			assert_int_equal(looked.st.st_mode & S_IFMT, e.type);
			assert_true(S_ISDIR(looked.st.st_mode) || looked.st.st_nlink == 1);
			for (size_t i = 0; i < n; i++) {
				if (seen[i] == e.ino)
					print_error("%s/%s\n", dirs[d], e.name);
				assert_int_not_equal(seen[i], e.ino);
			}
			assert_true(n < 256);
			seen[n++] = e.ino;
			lookup_forget(&b->fs, looked.node, 1);
			treebed_expect_unpinned(b, looked.node);
		}
		place_release(&dir);
	}
	snapshots_save(b->fs.snapshots, &left);
	assert_int_equal(left.len, 0);
	buf_release(&left);
}

static void
inodes_are_stable(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 } }, two[] = { { 1, 0, "2" } };
	struct treebed *b = *state;
	struct looked before, after;

	treebed_list(b, 1, one, 1);
	treebed_refresh(b);
	assert_int_equal(treebed_walk(b, "images/image-1/version", &before), 0);
	treebed_list(b, 2, two, 1);
	treebed_refresh(b);
	assert_int_equal(treebed_walk(b, "images/image-1/version", &after), 0);
	assert_int_equal(before.st.st_ino, after.st.st_ino);
	assert_int_not_equal(before.node, after.node);
	lookup_forget(&b->fs, before.node, 1);
	lookup_forget(&b->fs, after.node, 1);
}

static void
open_text_is_one_version(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 } }, two[] = { { 1, 0, "2" } };
	struct treebed *b = *state;
	struct looked looked;
	struct buf text = BUF_INIT;
	struct place p;

	treebed_list(b, 1, one, 1);
	treebed_refresh(b);
	assert_int_equal(treebed_walk(b, "images/image-1/version", &looked), 0);
	treebed_list(b, 2, two, 1);
	treebed_refresh(b);
	assert_int_equal(place_resolve(&b->fs, looked.node, &p), 0);
	assert_int_equal(place_text(&p, &text), 0);
	assert_string_equal(buf_str(&text), "1\n");
	place_release(&p);
	buf_release(&text);
	treebed_expect(b, "images/image-1/version", "2\n");
	lookup_forget(&b->fs, looked.node, 1);
	assert_int_equal(place_resolve(&b->fs, looked.node, &p), -ESTALE);
	place_release(&p);
}

static void
directory_that_went_away(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 }, { 2, 0, 0 } }, two[] = { { 2, 0, 0 } };
	struct treebed *b = *state;
	struct looked dir;
	struct place p;

	treebed_list(b, 1, one, 2);
	treebed_refresh(b);
	assert_int_equal(treebed_walk(b, "images/image-1", &dir), 0);
	treebed_list(b, 2, two, 1);
	treebed_refresh(b);
	assert_int_equal(place_resolve(&b->fs, dir.node, &p), -ESTALE);
	place_release(&p);
	treebed_expect_missing(b, "images/image-1");
}

static void
expired_shows_why(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 } }, two[] = { { 1, 0, "2" } };
	struct treebed *b = *state;
	struct names names;
	char path[400], hex[DIGEST_HEX + 1];
	struct digest d;

	treebed_list(b, 1, one, 1);
	treebed_select(b, 1, true);
	treebed_verified(b, 1, "1");
	treebed_list(b, 2, two, 1);
	treebed_verified(b, 1, "2");
	treebed_refresh(b);
	list(b, "expired", &names);
	assert_int_equal(names.n, 1);
	assert_int_equal(strncmp(names.name[0], "image-1.20", 10), 0);
	snprintf(path, sizeof(path), "expired/%s/reason", names.name[0]);
	treebed_expect(b, path, "replaced\n");
	snprintf(path, sizeof(path), "expired/%s/replaced_by", names.name[0]);
	treebed_expect(b, path, "2\n");
	snprintf(path, sizeof(path), "expired/%s/version", names.name[0]);
	treebed_expect(b, path, "1\n");
	snprintf(path, sizeof(path), "expired/%s/state", names.name[0]);
	treebed_expect(b, path, "expired\n");
	treebed_digest(1, "1", &d);
	digest_hex(&d, hex);
	snprintf(path, sizeof(path), "by-sha512/%s", hex);
	free(treebed_read(b, "images/image-1/version"));
	list(b, "by-sha512", &names);
	assert_int_equal(names.n, 2);
	assert_true(has(&names, hex));
}

static void
distrust_cuts(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 } };
	struct treebed *b = *state;
	struct names names;
	struct digest d;
	char path[400];

	treebed_list(b, 1, one, 1);
	treebed_select(b, 1, true);
	treebed_verified(b, 1, "1");
	treebed_refresh(b);
	assert_int_equal(treebed_n_cut, 0);
	treebed_ok(b, catalogue_unlink(b->c, "alice", b->sub.id, &b->err));
	treebed_refresh(b);
	treebed_digest(1, "1", &d);
	assert_int_equal(treebed_n_cut, 1);
	assert_true(digest_equal(&treebed_cut, &d));
	treebed_expect_missing(b, "images/image-1");
	treebed_expect_missing(b, "cache/image-1");
	treebed_expect_missing(b, "endorsers/alice/subscriptions/list-1");
	list(b, "expired", &names);
	assert_int_equal(names.n, 1);
	snprintf(path, sizeof(path), "expired/%s/image", names.name[0]);
	treebed_expect_missing(b, path);
}

static void
second_owner_is_refused(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 } }, two[] = { { 1, 0, 0 }, { 2, 0, 0 } };
	struct treebed *b = *state;
	struct subscription_row other = { .list_id = NULL };
	struct names names;

	treebed_list(b, 1, one, 1);
	other.list_id = xstrdup("list-2");
	other.url = xstrdup("https://lists.example.org/other");
	treebed_ok(b, catalogue_subscription_add(b->c, &other, &b->err));
	treebed_ok(b, catalogue_link(b->c, "alice", other.id, &b->err));
	treebed_list_of(b, &other, 1, two, 2);
	treebed_refresh(b);
	list(b, "subscriptions/list-1/images", &names);
	assert_true(names.n == 1 && has(&names, "image-1"));
	list(b, "subscriptions/list-2/images", &names);
	assert_true(names.n == 1 && has(&names, "image-2"));
	list(b, "subscriptions/list-2/refused", &names);
	assert_int_equal(names.n, 1);
	treebed_expect(b, "subscriptions/list-2/refused/image-1/id", "image-1\n");
	treebed_expect(b, "subscriptions/list-2/refused/image-1/code", "48\n");
	subscription_row_release(&other);
}

/* ---- what a change takes back --------------------------------------------------------------- */

struct told {
	struct { uint64_t parent; char name[256]; } entry[512];
	uint64_t inode[256];
	int n_entries, n_inodes;
};

static void
on_entry(void *arg, uint64_t parent, const char *name)
{
	struct told *told = arg;

	assert_true(told->n_entries < 512);
	told->entry[told->n_entries].parent = parent;
	snprintf(told->entry[told->n_entries++].name, 256, "%s", name);
}

static void
on_inode(void *arg, uint64_t node, bool data)
{
	struct told *told = arg;

	(void)data;
	assert_true(told->n_inodes < 256);
	told->inode[told->n_inodes++] = node;
}

static bool
was_told(const struct told *told, uint64_t parent, const char *name)
{
	for (int i = 0; i < told->n_entries; i++)
		if (told->entry[i].parent == parent && strcmp(told->entry[i].name, name) == 0)
			return true;
	return false;
}

/* Everything that a kernel could have remembered of one tree: path, and the node it gave. */
struct memory {
	struct { uint64_t parent, node; char name[256]; } entry[512];
	int n;
};

static void
remember(struct treebed *b, uint64_t node, struct memory *m)
{
	struct place dir;
	struct entry e;
	struct looked looked;
	uint64_t cookie = 2;

	assert_int_equal(place_resolve(&b->fs, node, &dir), 0);
	for (; place_next(&dir, cookie, &e); cookie = e.cookie) {
		assert_int_equal(lookup_entry(&dir, &e, &looked), 0);
		if (!looked.brief) {
			assert_true(m->n < 512);
			m->entry[m->n].parent = node;
			m->entry[m->n].node = looked.node;
			snprintf(m->entry[m->n++].name, 256, "%s", e.name);
		}
		if (S_ISDIR(looked.st.st_mode))
			remember(b, looked.node, m);
	}
	place_release(&dir);
}

static uint64_t
recall(const struct memory *m, uint64_t parent, const char *name)
{
	for (int i = 0; i < m->n; i++)
		if (m->entry[i].parent == parent && strcmp(m->entry[i].name, name) == 0)
			return m->entry[i].node;
	return 0;
}

static bool
knew(const struct memory *m, uint64_t node)
{
	for (int i = 0; i < m->n; i++)
		if (m->entry[i].node == node)
			return true;
	return node == NODE_ROOT;
}

/* Every name whose node differs, came or went between the two must have been told. */
static void
nothing_is_missed(const struct memory *before, const struct memory *after,
		  const struct told *told)
{
	for (int i = 0; i < after->n; i++) {
		uint64_t parent = after->entry[i].parent;
		const char *name = after->entry[i].name;

		/* Of a directory that was not there nothing was remembered. */
		if (recall(before, parent, name) == after->entry[i].node || !knew(before, parent))
			continue;
		if (!was_told(told, parent, name))
			print_error("not told: %s\n", name);
		assert_true(was_told(told, parent, name));
	}
	for (int i = 0; i < before->n; i++) {
		uint64_t parent = before->entry[i].parent;
		const char *name = before->entry[i].name;

		if (recall(after, parent, name) != 0 || !knew(after, parent))
			continue;
		assert_true(was_told(told, parent, name));
	}
}

static void
step_and_compare(struct treebed *b, struct memory *before, struct told *told)
{
	static struct memory after;
	const struct tree_diff_ops ops = { on_entry, on_inode };
	struct tree *old = tree_get(b->fs.holder), *new;

	treebed_refresh(b);
	new = tree_get(b->fs.holder);
	memset(&after, 0, sizeof(after));
	remember(b, NODE_ROOT, &after);
	memset(told, 0, sizeof(*told));
	tree_diff(old, new, &ops, told);
	nothing_is_missed(before, &after, told);
	*before = after;
	tree_unref(old);
	tree_unref(new);
}

static void
every_change_is_told(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 }, { 2, 0, 0 } };
	const struct treebed_image two[] = { { 1, 0, "2" }, { 3, "Title 2", 0 } };
	const struct treebed_image three[] = { { 1, "Title 2", "2" }, { 3, "Title 2", 0 } };
	static struct memory memory;
	static struct told told;
	struct treebed *b = *state;
	struct digest d;

	memset(&memory, 0, sizeof(memory));
	treebed_refresh(b);
	remember(b, NODE_ROOT, &memory);
	treebed_list(b, 1, one, 2);
	step_and_compare(b, &memory, &told);
	assert_true(was_told(&told, node_dir(DIR_IMAGES), "image-1"));
	treebed_select(b, 1, true);
	step_and_compare(b, &memory, &told);
	treebed_digest(1, "1", &d);
	treebed_ok(b, catalogue_object_failed(b->c, &d, CODE_SLOW, "no answer", true, 0, &b->err));
	step_and_compare(b, &memory, &told);
	treebed_verified(b, 1, "1");
	step_and_compare(b, &memory, &told);
	assert_true(was_told(&told, node_dir(DIR_CACHE), "image-1"));
	treebed_list(b, 2, two, 2);
	step_and_compare(b, &memory, &told);
	treebed_verified(b, 1, "2");
	step_and_compare(b, &memory, &told);
	treebed_list(b, 3, three, 2);
	step_and_compare(b, &memory, &told);
	treebed_ok(b, catalogue_unlink(b->c, "alice", b->sub.id, &b->err));
	step_and_compare(b, &memory, &told);
	treebed_ok(b, catalogue_subscription_remove(b->c, b->sub.id, stamp_now(), &b->err));
	step_and_compare(b, &memory, &told);
	treebed_ok(b, catalogue_endorser_remove(b->c, "alice", NULL, NULL, &b->err));
	step_and_compare(b, &memory, &told);
}

static void
nothing_changed_tells_nothing(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 }, { 2, 0, 0 } };
	const struct tree_diff_ops ops = { on_entry, on_inode };
	static struct told told;
	struct treebed *b = *state;
	struct tree *old, *new;

	treebed_list(b, 1, one, 2);
	treebed_refresh(b);
	old = tree_get(b->fs.holder);
	treebed_refresh(b);
	new = tree_get(b->fs.holder);
	memset(&told, 0, sizeof(told));
	tree_diff(old, new, &ops, &told);
	assert_int_equal(told.n_entries, 0);
	assert_int_equal(told.n_inodes, 0);
	assert_ptr_equal(old->images[0].image, new->images[0].image);
	assert_int_equal(old->changed[DIR_IMAGES], new->changed[DIR_IMAGES]);
	tree_unref(old);
	tree_unref(new);
}

static void
a_job_takes_back_what_tells_of_it(void **state)
{
	const struct treebed_image one[] = { { 1, 0, 0 }, { 2, 0, 0 } };
	const struct tree_diff_ops ops = { on_entry, on_inode };
	static struct told told;
	struct treebed *b = *state;
	struct image_row row;
	struct tree *t;
	uint64_t dir;

	treebed_list(b, 1, one, 2);
	treebed_refresh(b);
	t = tree_get(b->fs.holder);
	treebed_image(b, 2, &row);
	dir = node_make(KIND_IMAGE_DIR, 0, (uint64_t)row.id, 0);
	memset(&told, 0, sizeof(told));
	tree_diff_activity(t, &row.meta.sha512, &ops, &told);
	assert_true(was_told(&told, dir, "state") && was_told(&told, dir, "progress"));
	for (int i = 0; i < told.n_entries; i++)
		assert_int_equal(told.entry[i].parent, dir);
	image_row_release(&row);
	tree_unref(t);
}

/* ---- who may open what ---------------------------------------------------------------------- */

static void
rules_of_opening(void **state)
{
	struct object_row row = { .state = OBJECT_VERIFIED, .access = ACCESS_OK };
	struct tree_object_slot slot = { .listed = true, .expires = 1000 };

	(void)state;
	assert_int_equal(openrule_decide(&row, &slot, 999, true, false), 0);
	/* Past its date by the clock, whatever the row says. */
	assert_int_equal(openrule_decide(&row, &slot, 1000, true, false), -EKEYEXPIRED);
	assert_int_equal(openrule_decide(&row, &slot, 1000, false, false), 0);
	row.access = ACCESS_EXPIRED;
	assert_int_equal(openrule_decide(&row, &slot, 999, false, false), 0);
	assert_int_equal(openrule_decide(&row, &slot, 999, true, false), -EKEYEXPIRED);
	row.state = OBJECT_MISSING;
	assert_int_equal(openrule_decide(&row, &slot, 999, false, false), -EKEYEXPIRED);
	row.access = ACCESS_OK;
	assert_int_equal(openrule_decide(&row, &slot, 999, false, false), -ENOENT);
	row.wanted = true;
	assert_int_equal(openrule_decide(&row, &slot, 999, false, false), 0);
	assert_int_equal(openrule_decide(&row, &slot, 1000, false, false), -EKEYEXPIRED);
	/* What is here in part counts while it is open: then it is filled. */
	row.has_tree = true;
	assert_int_equal(openrule_decide(&row, &slot, 1000, false, false), -EKEYEXPIRED);
	assert_int_equal(openrule_decide(&row, &slot, 1000, false, true), 0);
	assert_int_equal(openrule_decide(&row, &slot, 1000, true, true), -EKEYEXPIRED);
	row.wanted = false;
	assert_int_equal(openrule_decide(&row, &slot, 999, false, true), 0);
	assert_int_equal(openrule_decide(&row, &slot, 999, false, false), -ENOENT);
	row.access = ACCESS_DISTRUSTED;
	assert_int_equal(openrule_decide(&row, &slot, 999, false, true), -EKEYREJECTED);
	row.access = ACCESS_OK;
	assert_int_equal(openrule_decide(&row, NULL, 999, false, false), -ESTALE);
}

#define IN_BED(title, function) { title, function, treebed_setup, treebed_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		IN_BED("the root has every entry of the manual", root_has_every_entry),
		IN_BED("F31 an entry that is there throughout a listing is told once",
		       listing_survives_changes),
		IN_BED("titles that clash are told apart, and odd ones made safe",
		       titles_that_clash),
		IN_BED("a selected image has a file, a verified one stands in cache/",
		       links_and_directories_by_state),
		IN_BED("F30 a name that is nearly one is none", names_that_are_none),
		IN_BED("F32 inode numbers are unique and the same in listings and stat",
		       inodes_are_unique),
		IN_BED("F32 an inode number stays when the content changes", inodes_are_stable),
		IN_BED("F33 an open text is one version", open_text_is_one_version),
		IN_BED("F39 a directory that went away is stale", directory_that_went_away),
		IN_BED("a replaced image stands in expired/ and says why", expired_shows_why),
		IN_BED("a distrusted image is cut and its names are gone", distrust_cuts),
		IN_BED("an image id of another list is shown as refused",
		       second_owner_is_refused),
		IN_BED("F36 every name that changed is told to the kernel",
		       every_change_is_told),
		IN_BED("a refresh without a change tells nothing and shares all records",
		       nothing_changed_tells_nothing),
		IN_BED("a job that begins takes back the files that tell of it",
		       a_job_takes_back_what_tells_of_it),
		{ .name = "an image past its date by the clock is expired when it is opened",
		  .test_func = rules_of_opening },
	};

	return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
