/*
 * treebed.h - a catalogue in a directory of its own, filled by lists as a refresh does it, and the
 * trees built from it: for unit tests of what the mount shows.
 *
 * Images are named by small numbers: image 7 has the identifier "image-7" and, in version "1", the
 * content digest of the text "image-7 1".
 *
 * The engine and the open image files are played by this file: include it once in a program.
 */
#ifndef VMI_TREEBED_H
#define VMI_TREEBED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/catalogue.h"
#include "core/imagelist.h"
#include "core/stamp.h"
#include "core/verdict.h"
#include "fs/context.h"
#include "fs/lookup.h"
#include "tests/lib/removetree.h"

#define TREEBED_DN "/C=XX/O=test/CN=Endorser"
#define TREEBED_CA "/C=XX/O=test/CN=CA"

struct treebed {
	char dir[64];
	struct conf *conf;
	struct catalogue *c;
	struct subscription_row sub;	/* the first list */
	struct fs_context fs;
	struct err err;
};

/* ---- the engine and the open files ---------------------------------------------------------- */

static struct engine_progress treebed_progress;
static struct digest treebed_fetched;
static struct digest treebed_cut;
static int treebed_n_cut, treebed_n_restored;

void
engine_progress(struct engine *e, const struct digest *d, struct engine_progress *out)
{
	(void)e;
	memset(out, 0, sizeof(*out));
	if (digest_equal(d, &treebed_fetched))
		*out = treebed_progress;
}

void
engine_used(struct engine *e, const struct digest *d)
{
	(void)e;
	(void)d;
}

void
engine_status(struct engine *e, struct engine_status *out)
{
	(void)e;
	memset(out, 0, sizeof(*out));
	out->started = 1700000000;
	out->rows.images = 3;
	out->usage.fs_total = 1 << 20;
}

void
blob_cut(struct blobs *b, const struct digest *d, bool cut)
{
	(void)b;
	treebed_cut = *d;
	if (cut)
		treebed_n_cut++;
	else
		treebed_n_restored++;
}

void
blob_mode(struct blobs *b, const struct object_row *row)
{
	(void)b;
	(void)row;
}

bool
blob_row_is_lazy(const struct object_row *row)
{
	(void)row;
	return false;
}

bool
blob_is_open(struct blobs *b, const struct digest *d)
{
	(void)b;
	(void)d;
	return false;
}

int64_t
blobs_parked(struct blobs *b)
{
	(void)b;
	return 0;
}

int64_t
blobs_at_disk(struct blobs *b)
{
	(void)b;
	return 0;
}

int64_t
blobs_open(struct blobs *b)
{
	(void)b;
	return 0;
}

/* Any pointer will do: the functions above ask nothing of it. */
static inline struct engine *
treebed_engine(void)
{
	return (struct engine *)&treebed_progress;
}

/* One image of a list; NULLs give the values that the head of this file names. */
struct treebed_image {
	int number;
	const char *title;
	const char *version;
	bool blocks;			/* its entry names the digest of its tree (treebed_root) */
	const char *format;		/* NULL: raw */
};

static inline void
treebed_ok(struct treebed *b, int rc)
{
	if (rc != 0)
		print_error("%d: %s\n", rc, b->err.text);
	assert_int_equal(rc, 0);
}

static inline void
treebed_digest(int number, const char *version, struct digest *d)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "image-%d %s", number, version);

	digest_of(text, (size_t)n, d);
}

/* What stands for the fs-verity digest of a version. */
static inline void
treebed_root(int number, const char *version, struct digest *d)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "tree of image-%d %s", number, version);

	digest_of(text, (size_t)n, d);
}

/* A job for this content runs, and has so many bytes. */
static inline void
treebed_fetching(struct treebed *b, int number, const char *version, int64_t bytes)
{
	b->fs.engine = treebed_engine();
	treebed_digest(number, version, &treebed_fetched);
	treebed_progress = (struct engine_progress){ true, bytes, 4096 + number };
}

static inline void
treebed_idle(void)
{
	treebed_progress.active = false;
}

static inline void
treebed_image_json(const struct treebed_image *image, struct buf *out)
{
	const char *version = image->version != NULL ? image->version : "1";
	char hex[DIGEST_HEX + 1];
	struct digest d;

	treebed_digest(image->number, version, &d);
	digest_hex(&d, hex);
	buf_printf(out, "{\"hv:image\":{\"dc:identifier\":\"image-%d\",", image->number);
	if (image->title != NULL)
		buf_printf(out, "\"dc:title\":\"%s\",", image->title);
	else
		buf_printf(out, "\"dc:title\":\"Title %d\",", image->number);
	buf_printf(out, "\"dc:description\":\"an image\",\"hv:version\":\"%s\","
		   "\"sl:comments\":\"it's \\\"quoted\\\"\",\"sl:os\":\"Linux\","
		   "\"sl:osversion\":\"12\",\"sl:arch\":\"x86_64\",\"hv:hypervisor\":\"kvm\","
		   "\"hv:format\":\"%s\",\"hv:size\":%d,\"sl:checksum:sha512\":\"%s\","
		   "\"hv:uri\":\"https://images.example.org/%d.img\"", version,
		   image->format != NULL ? image->format : "raw", 4096 + image->number, hex,
		   image->number);
	if (image->blocks) {
		treebed_root(image->number, version, &d);
		digest_hex(&d, hex);
		buf_printf(out, ",\"sl:checksum:fsverity-sha512\":\"%s\"", hex);
	}
	buf_puts(out, "}}");
}

/* Makes the images the content of list number n (version n), as a refresh does. */
static inline void
treebed_list_of(struct treebed *b, const struct subscription_row *sub, int n,
		const struct treebed_image *images, size_t n_images)
{
	struct subscription_row now;
	struct update_result result;
	struct imagelist *list;
	struct verdict verdict;
	struct buf payload = BUF_INIT;
	char created[STAMP_BYTES];

	stamp_format(1700000000 + n, created);
	buf_printf(&payload, "{\"hv:imagelist\":{\"dc:identifier\":\"%s\",\"dc:title\":\"A list\","
		   "\"dc:description\":\"of images\",\"dc:source\":\"us\",\"hv:version\":\"%d\","
		   "\"hv:uri\":\"https://lists.example.org/list\",\"dc:date:created\":\"%s\","
		   "\"dc:date:expires\":\"2099-01-01T00:00:00Z\",\"hv:endorser\":{\"hv:x509\":{"
		   "\"hv:dn\":\"%s\",\"hv:ca\":\"%s\",\"hv:email\":\"a@example.org\","
		   "\"dc:creator\":\"us\"}},\"hv:images\":[", sub->list_id, n, created,
		   TREEBED_DN, TREEBED_CA);
	for (size_t i = 0; i < n_images; i++) {
		if (i > 0)
			buf_putc(&payload, ',');
		treebed_image_json(&images[i], &payload);
	}
	buf_puts(&payload, "]}}");
	treebed_ok(b, imagelist_parse(payload.data, payload.len, NULL, &list, &b->err));
	verdict_init(&verdict);
	verdict.subject = xstrdup(TREEBED_DN);
	verdict.issuer = xstrdup(TREEBED_CA);
	buf_add(&verdict.payload, payload.data, payload.len);
	treebed_ok(b, catalogue_subscription_by_id(b->c, sub->id, &now, &b->err));
	treebed_ok(b, catalogue_begin(b->c, &b->err));
	treebed_ok(b, catalogue_apply_list(b->c, &now, list, &verdict, payload.data, payload.len,
					   stamp_now(), &result, &b->err));
	treebed_ok(b, catalogue_commit(b->c, &b->err));
	subscription_row_release(&now);
	verdict_release(&verdict);
	imagelist_free(list);
	buf_release(&payload);
}

static inline void
treebed_list(struct treebed *b, int n, const struct treebed_image *images, size_t n_images)
{
	treebed_list_of(b, &b->sub, n, images, n_images);
}

/* The current image row with this number; release it. */
static inline void
treebed_image(struct treebed *b, int number, struct image_row *row)
{
	char name[32];

	snprintf(name, sizeof(name), "image-%d", number);
	treebed_ok(b, catalogue_image_find(b->c, name, row, &b->err));
}

static inline void
treebed_select(struct treebed *b, int number, bool selected)
{
	struct image_row row;

	treebed_image(b, number, &row);
	treebed_ok(b, catalogue_begin(b->c, &b->err));
	treebed_ok(b, catalogue_image_select(b->c, row.id, selected, stamp_now(), &b->err));
	treebed_ok(b, catalogue_commit(b->c, &b->err));
	image_row_release(&row);
}

/* The content of a version was fetched. */
static inline void
treebed_verified(struct treebed *b, int number, const char *version)
{
	struct digest d;

	treebed_digest(number, version, &d);
	treebed_ok(b, catalogue_begin(b->c, &b->err));
	treebed_ok(b, catalogue_object_verified(b->c, &d, NULL, stamp_now(), &b->err));
	treebed_ok(b, catalogue_commit(b->c, &b->err));
}

/* The tree of a version was fetched and verified. */
static inline void
treebed_rooted(struct treebed *b, int number, const char *version)
{
	struct digest d, root;

	treebed_digest(number, version, &d);
	treebed_root(number, version, &root);
	treebed_ok(b, catalogue_begin(b->c, &b->err));
	treebed_ok(b, catalogue_object_rooted(b->c, &d, &root, &b->err));
	treebed_ok(b, catalogue_commit(b->c, &b->err));
}

/* Rows changed: what the engine does. */
static inline void
treebed_refresh(struct treebed *b)
{
	fs_tree_refresh(&b->fs, b->c);
}

static inline void
treebed_conf(struct treebed *b)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/state", b->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/cache", b->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/conf", b->dir);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f, "state_dir = %s/state\ncache_dir = %s/cache\n", b->dir, b->dir);
	assert_int_equal(fclose(f), 0);
	treebed_ok(b, conf_load(path, &b->conf, &b->err));
}

static inline struct treebed *
treebed_new(void)
{
	struct treebed *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	snprintf(b->dir, sizeof(b->dir), "/tmp/treebed.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	treebed_conf(b);
	treebed_ok(b, catalogue_open(&b->c, b->conf, CATALOGUE_CREATE, NULL,
				     &b->err));
	treebed_ok(b, catalogue_endorser_add(b->c, "alice", TREEBED_DN, TREEBED_CA, false, false,
					     &b->err));
	b->sub.list_id = xstrdup("list-1");
	b->sub.url = xstrdup("https://lists.example.org/list");
	treebed_ok(b, catalogue_subscription_add(b->c, &b->sub, &b->err));
	treebed_ok(b, catalogue_link(b->c, "alice", b->sub.id, &b->err));
	/* As the engine, the open files need to be no more than somewhere. */
	fs_context_init(&b->fs, b->conf, NULL, (struct blobs *)&treebed_n_cut);
	treebed_idle();
	treebed_n_cut = treebed_n_restored = 0;
	return b;
}

static inline void
treebed_free(struct treebed *b)
{
	fs_context_release(&b->fs);
	subscription_row_release(&b->sub);
	catalogue_close(b->c);
	conf_free(b->conf);
	remove_tree(b->dir);
	free(b);
}

/* cmocka setup and teardown. */
static inline int
treebed_setup(void **state)
{
	*state = treebed_new();
	return 0;
}

static inline int
treebed_teardown(void **state)
{
	treebed_free(*state);
	return 0;
}

/* Nothing is kept for a node that the kernel has forgotten. */
static inline void
treebed_expect_unpinned(struct treebed *b, uint64_t node)
{
	for (int class = RECORD_OBJECT; class <= RECORD_EXPIRED; class++) {
		enum record_class c = (enum record_class)class;

		assert_null(pins_find(b->fs.pins, c, node_row(node), 0));
		assert_null(pins_find(b->fs.pins, c, node_row(node), node_rev(node)));
	}
}

/* ---- the mount as a program sees it, without a kernel --------------------------------------- */

/* Looks a path up from the root, a component at a time; counts only the last lookup. */
static inline int
treebed_walk(struct treebed *b, const char *path, struct looked *out)
{
	char copy[512], *save = NULL;
	uint64_t node = NODE_ROOT;
	int rc = 0;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *part = strtok_r(copy, "/", &save); part != NULL && rc == 0;) {
		struct place dir;
		struct entry e;
		char *next = strtok_r(NULL, "/", &save);

		rc = place_resolve(&b->fs, node, &dir);
		if (rc == 0)
			rc = place_find(&dir, part, &e);
		if (rc == 0)
			rc = lookup_entry(&dir, &e, out);
		if (rc == 0 && next != NULL)
			lookup_forget(&b->fs, out->node, 1);
		place_release(&dir);
		node = rc == 0 ? out->node : 0;
		part = next;
	}
	return rc;
}

/* The bytes of a text or the target of a link; asserts that its size is what stat says. */
static inline char *
treebed_read(struct treebed *b, const char *path)
{
	struct looked looked;
	struct place p;
	struct buf text = BUF_INIT;
	struct stat st;

	assert_int_equal(treebed_walk(b, path, &looked), 0);
	assert_int_equal(place_resolve(&b->fs, looked.node, &p), 0);
	assert_int_equal(place_text(&p, &text), 0);
	place_stat(&p, &st);
	assert_int_equal(st.st_size, text.len);
	assert_int_equal(looked.st.st_size, text.len);
	assert_int_equal(st.st_ino, looked.st.st_ino);
	place_release(&p);
	lookup_forget(&b->fs, looked.node, 1);
	if (text.data == NULL)
		return xstrdup("");
	return buf_steal(&text, NULL);
}

static inline void
treebed_expect(struct treebed *b, const char *path, const char *text)
{
	char *got = treebed_read(b, path);

	assert_string_equal(got, text);
	free(got);
}

static inline void
treebed_expect_missing(struct treebed *b, const char *path)
{
	struct looked looked;

	assert_int_equal(treebed_walk(b, path, &looked), -2 /* ENOENT */);
}

#endif
