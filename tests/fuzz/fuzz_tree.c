/*
 * X17: what comes beside an image: the prefix of a sidecar and the tree that is kept
 * (core/vtree.h), the map of what is here (core/granulemap.h), signed block digests
 * (core/attestation.h), the headers of an archive inside of an image (core/tarindex.h).
 *
 *	0	2 bytes which size; a prefix
 *	1	2 bytes which size; a .fsv file
 *	2	1 byte granules; a map
 *	3	a payload of block digests
 *	4	a tar archive
 *
 * A tree is accepted only if it leads to the digest that was named, so that no other prefix than
 * the genuine one ever is.
 */
#include "config.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/attestation.h"
#include "core/cleanup.h"
#include "core/granulemap.h"
#include "core/imageuri.h"
#include "core/io.h"
#include "core/jsonw.h"
#include "core/limits.h"
#include "core/tarindex.h"
#include "core/vtree.h"
#include "fuzz.h"

const char *
fuzz_title(void)
{
	return "X17 trees, maps, block digests and archives are taken only if they are what they"
	       " say";
}

/* ---- trees ----------------------------------------------------------------------------------- */

/* Images of zeros: none, of one leaf, of one granule, and of up to three levels. */
static const int64_t sizes[] = {
	0, 1, 4096, 4097, VERITY_GRANULE, VERITY_GRANULE + 1, 70LL * VERITY_GRANULE - 5,
	129LL * VERITY_GRANULE,
};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static struct genuine {
	struct vtree_id id;
	char *prefix;
	size_t len;
} genuine[N_SIZES];

static void
make_genuine(struct genuine *g, int64_t size)
{
	static unsigned char zeros[VERITY_GRANULE];
	struct verity_builder *b = NULL;
	struct verity_shape shape;
	struct digest whole, d;
	const void *prefix;

	if (!verity_shape_init(&shape, size) || verity_builder_new(&b, size) != 0)
		abort();
	if (size > 0)
		verity_granule(&shape, zeros, verity_granule_size(&shape, 0), NULL, &whole);
	for (int64_t i = 0; i < shape.n_granules; i++) {
		size_t len = verity_granule_size(&shape, i);

		d = whole;
		if (len < VERITY_GRANULE && i > 0)
			verity_granule(&shape, zeros, len, NULL, &d);
		verity_builder_set(b, i, &d);
	}
	verity_builder_end(b, &g->id.verity);
	g->id.size = size;
	digest_of(&size, sizeof(size), &g->id.image);
	prefix = verity_builder_prefix(b, &g->len);
	g->prefix = fuzz_copy(prefix, g->len, 0);
	verity_builder_free(b);
}

static const struct genuine *
choose(struct fuzz_input *in)
{
	unsigned which = fuzz_take_byte(in) % N_SIZES;

	if (genuine[which].prefix == NULL)
		make_genuine(&genuine[which], sizes[which]);
	return &genuine[which];
}

static void
check_tree(struct vtree *t, const struct genuine *g)
{
	CLEANUP_FREE char *copy = fuzz_copy(g->prefix, g->len, 1);
	CLEANUP_FD int file = memfd_create("tree", MFD_CLOEXEC);
	struct digest d;

	FUZZ_CHECK(file >= 0 && vtree_write(t, file, NULL) == 0);
	FUZZ_CHECK(io_pread_full(file, copy, g->len + 1, VTREE_HEADER) == (ssize_t)g->len);
	FUZZ_CHECK(memcmp(copy, g->prefix, g->len) == 0);
	if (g->id.size > 0)
		FUZZ_CHECK(vtree_granule(t, 0, &d) <= 0);
	vtree_unref(t);
}

static void
check_prefix(struct fuzz_input *in)
{
	const struct genuine *g = choose(in);
	CLEANUP_FREE char *prefix = fuzz_copy(in->data, in->len, 0);
	struct err err = { 0 };
	struct vtree *t = NULL;

	if (vtree_new(&t, &g->id, prefix, in->len, &err) == 0) {
		FUZZ_CHECK(in->len == g->len && memcmp(prefix, g->prefix, g->len) == 0);
		check_tree(t, g);
	} else {
		FUZZ_CHECK(t == NULL && err.code == CODE_BLOCK_DIGEST);
	}
}

static void
check_file(struct fuzz_input *in)
{
	const struct genuine *g = choose(in);
	struct err err = { 0 };
	struct vtree *t = NULL;
	int fd = memfd_create("tree", MFD_CLOEXEC);

	if (fd < 0 || io_write_all(fd, in->data, in->len) != 0)
		abort();
	if (vtree_open(&t, &g->id, fd, &err) == 0)
		check_tree(t, g);
	else
		FUZZ_CHECK(t == NULL && err.text[0] != '\0');
}

/* ---- the map --------------------------------------------------------------------------------- */

static void
check_map(struct fuzz_input *in)
{
	int64_t n = fuzz_take_byte(in), missing = 0, left = 0, g;
	struct granulemap *m = granulemap_new(n, false);
	CLEANUP_FREE char *bytes = fuzz_copy(in->data, in->len, 0);
	CLEANUP_BUF struct buf out = BUF_INIT;

	granulemap_load(m, bytes, in->len);
	for (g = 0; g < n; g++)
		missing += !granulemap_has(m, g);
	FUZZ_CHECK(granulemap_n_missing(m) == missing);
	for (g = 0; g < n; g++) {
		int64_t run = 0, at = granulemap_missing(m, g, &run);

		if (at < 0)
			break;
		FUZZ_CHECK(at >= g && run > 0 && at + run <= n && !granulemap_has(m, at));
		left += run;
		g = at + run;
	}
	FUZZ_CHECK(left == missing);
	granulemap_copy(m, &out);
	FUZZ_CHECK(out.len == (size_t)((n + 7) / 8));
	granulemap_free(m);
}

/* ---- block digests --------------------------------------------------------------------------- */

/* An entry that was taken is the same when it is written and read again. */
static void
check_entry(const struct attestation_entry *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct attestation *again = NULL;
	struct jsonw w;

	if (e->refused) {
		FUZZ_CHECK(e->code != CODE_NONE && e->error != NULL);
		return;
	}
	FUZZ_CHECK(e->size > 0 && e->size <= LIMIT_IMAGE_BYTES && e->uri != NULL);
	jsonw_begin(&w, &text, true);
	attestation_write(&w, e);
	FUZZ_CHECK(attestation_parse(text.data, text.len, NULL, &again, NULL) == 0);
	FUZZ_CHECK(again->n == 1 && !again->entries[0].refused);
	FUZZ_CHECK(digest_equal(&again->entries[0].sha512, &e->sha512) &&
		   digest_equal(&again->entries[0].verity, &e->verity) &&
		   again->entries[0].size == e->size && strcmp(again->entries[0].uri, e->uri) == 0);
	attestation_free(again);
}

static void
check_attestation(struct fuzz_input *in)
{
	CLEANUP_FREE char *payload = fuzz_copy(in->data, in->len, 0);
	struct attestation *a = NULL;
	struct err err = { 0 };

	if (attestation_parse(payload, in->len, NULL, &a, &err) != 0) {
		FUZZ_CHECK(a == NULL && err.code != CODE_NONE);
		return;
	}
	FUZZ_CHECK(a->n > 0 && a->n <= LIMIT_IMAGES_PER_LIST);
	for (size_t i = 0; i < a->n; i++)
		check_entry(&a->entries[i]);
	attestation_free(a);
}

/* ---- archives -------------------------------------------------------------------------------- */

static void
check_members(const struct tarindex *t)
{
	FUZZ_CHECK(t->n > 0 && t->n <= LIMIT_TAR_MEMBERS);
	for (size_t i = 0; i < t->n; i++) {
		const struct tar_member *m = &t->members[i];

		FUZZ_CHECK(m->name[0] != '\0' && m->name[0] != '.' && strchr(m->name, '/') == NULL);
		FUZZ_CHECK(m->off >= TAR_BLOCK && m->size >= 0 && m->off <= t->archive &&
			   m->size <= t->archive - m->off);
		FUZZ_CHECK(i == 0 || strcmp(t->members[i - 1].name, m->name) < 0);
	}
}

static void
check_tar(struct fuzz_input *in)
{
	struct tarindex t;
	struct err err = { 0 };
	int64_t at;
	int rc = 0;

	tarindex_init(&t, (int64_t)in->len);
	while (rc == 0 && (at = tarindex_next(&t)) >= 0) {
		CLEANUP_FREE char *block = NULL;

		FUZZ_CHECK(at <= (int64_t)in->len - TAR_BLOCK);
		block = fuzz_copy(in->data + at, TAR_BLOCK, 0);
		rc = tarindex_take(&t, (const unsigned char *)block, &err);
	}
	if (rc == 0)
		rc = tarindex_end(&t, &err);
	if (rc == 0)
		check_members(&t);
	else
		FUZZ_CHECK(err.text[0] != '\0');
	tarindex_release(&t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	switch (fuzz_take_byte(&in)) {
	case 0:
		check_prefix(&in);
		break;
	case 1:
		check_file(&in);
		break;
	case 2:
		check_map(&in);
		break;
	case 3:
		check_attestation(&in);
		break;
	default:
		check_tar(&in);
		break;
	}
	return 0;
}
