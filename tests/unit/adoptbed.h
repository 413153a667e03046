/*
 * adoptbed.h - an engine with a store into which files are put behind its back, for unit tests of
 * what becomes of them.
 */
#ifndef VMI_ADOPTBED_H
#define VMI_ADOPTBED_H

#include "tests/unit/sitefixture.h"

#include <poll.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/engine_adopt.h"
#include "core/io.h"
#include "core/passes.h"
#include "core/store.h"

enum { PATIENCE_MS = 20000 };

struct bed {
	struct fixture *f;
	struct store *store;
	struct engine *e;
	int64_t sub;
	int n_answers, rc;		/* of the last one */
	bool had_file;
};

static inline void
note_answer(void *arg, const struct digest *d, int rc, struct blockfile *f, const struct err *why)
{
	struct bed *b = arg;

	(void)d;
	(void)why;
	b->n_answers++;
	b->rc = rc;
	b->had_file = f != NULL;
}

/* ---- images ---------------------------------------------------------------------------------- */

/* The bytes of an image, by its letter in the list. */
static inline size_t
bytes_of(char letter, unsigned char out[2048])
{
	memset(out, letter, 2048);
	return (size_t)(1000 + letter);
}

static inline struct digest
digest_for(char letter)
{
	unsigned char bytes[2048];
	struct digest d;

	digest_of(bytes, bytes_of(letter, bytes), &d);
	return d;
}

/* Lists of the fixture have made-up digests: here they are to be those of the bytes. */
static inline void
make_true(struct buf *text, char letter)
{
	struct digest made_up = content(letter), d = digest_for(letter);
	char old[DIGEST_HEX + 1], new[DIGEST_HEX + 1], *at;

	digest_hex(&made_up, old);
	digest_hex(&d, new);
	at = strstr(buf_str(text), old);
	if (at != NULL)
		memcpy(text->data + (at - buf_str(text)), new, DIGEST_HEX);
}

static inline void
publish_true(struct bed *b, const char *version, const struct entry *e)
{
	struct buf text = BUF_INIT;

	list_text(&text, LIST, version, NOW - 1000, (int64_t)NOW + 100LL * 365 * 86400, e);
	for (; e->identifier != NULL; e++)
		make_true(&text, e->content);
	if (apply_text(b->f, b->sub, &text, NOW) != 0)
		fail_msg("%s", b->f->err.text);
	buf_release(&text);
}

static inline void
path_of(struct bed *b, char letter, char out[512])
{
	char hex[DIGEST_HEX + 1];
	struct digest d = digest_for(letter);

	digest_hex(&d, hex);
	snprintf(out, 512, "%s/objects/%.2s", b->f->conf.cache_dir, hex);
	mkdir(out, 0750);
	snprintf(out, 512, "%s/objects/%.2s/%s", b->f->conf.cache_dir, hex, hex);
}

/* As a crash leaves it between the rename and the row. */
static inline void
put_file(struct bed *b, char letter, bool good)
{
	unsigned char bytes[2048];
	size_t len = bytes_of(letter, bytes);
	char path[512];
	FILE *out;

	bytes[0] ^= !good;
	path_of(b, letter, path);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_int_equal(fwrite(bytes, 1, len, out), len);
	assert_int_equal(fclose(out), 0);
}

static inline bool
has_file(struct bed *b, char letter)
{
	char path[512];

	path_of(b, letter, path);
	return access(path, F_OK) == 0;
}

static inline bool
is_verified(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);
	struct object_row row;
	bool verified;

	if (catalogue_object_get(b->f->c, &d, &row, &b->f->err) != 0)
		return false;
	verified = row.state == OBJECT_VERIFIED;
	object_row_release(&row);
	return verified;
}

/* ---- the engine ------------------------------------------------------------------------------ */

static inline void
start(struct bed *b, bool daemon)
{
	struct engine_config config = {
		.conf = &b->f->conf, .catalogue = b->f->c, .store = b->store,
		.ops = { .answered = note_answer, .arg = b }, .control_socket = -1, .stop_fd = -1,
		.daemon = daemon,
	};

	if (engine_new(&b->e, &config, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	engine_adopt(b->e);
}

/* With its catalogue. */
static inline void
stop(struct bed *b)
{
	engine_free(b->e);
	b->e = NULL;
	b->f->c = NULL;
}

static inline int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	b->f = fixture_new();
	b->f->conf.fetch_parallel = 2;
	if (store_init(&b->f->conf, catalogue_store_id(b->f->c), false, &b->f->err) != 0 ||
	    store_open(&b->f->conf, catalogue_store_id(b->f->c), &b->store, &b->f->err) != 0 ||
	    store_lock(b->store, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	b->sub = subscribe(b->f, LIST, SELECT_ALL);
	*state = b;
	return 0;
}

static inline int
teardown(void **state)
{
	struct bed *b = *state;

	if (b->e != NULL)
		stop(b);
	store_close(b->store);
	fixture_free(b->f);
	free(b);
	return 0;
}

/* Until a pass is taken, it is under way for all that the engine knows. */
static inline void
end_pass(struct bed *b)
{
	struct pollfd fd = { .fd = b->e->notify_fd, .events = POLLIN };
	struct pass *pass;
	uint64_t n;

	while ((pass = passes_take(b->e->passes)) == NULL) {
		assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
		assert_int_equal(read(fd.fd, &n, sizeof(n)), sizeof(n));
	}
	assert_int_equal(pass->kind, PASS_ADOPT);
	engine_adopted(b->e, pass);
	pass_free(pass);
	engine_adopt_step(b->e);
}

static inline bool
is_being_hashed(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);

	return passes_find(b->e->passes, PASS_ADOPT, &d) != NULL;
}

static inline void
want(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);

	engine_request(b->e, &d, false);
}

static inline bool
is_fetched(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);

	return engine_is_fetching(b->e, &d);
}

static inline void
assert_answered(struct bed *b, int n, int rc)
{
	assert_int_equal(b->n_answers, n);
	assert_int_equal(b->rc, rc);
	assert_int_equal(b->had_file, rc == 0);
}

static inline void
run_sql(struct bed *b, const char *sql)
{
	CLEANUP_FREE char *path = xasprintf("%s/catalogue.db", b->f->conf.state_dir);
	struct sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* As long as this lasts no directory can be opened. */
static inline void
run_short_of_files(struct rlimit *before)
{
	struct rlimit none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
	none = (struct rlimit){ 3, before->rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}

#endif
