/*
 * test_engine_evict.c - what a command does between the choice of what leaves and its leaving.
 */
#include "config.h"

#include "tests/unit/sitefixture.h"

#include "core/engine_impl.h"
#include "core/store.h"

enum { LIMIT = 1 << 20, BYTES = 1 << 17 };

struct bed {
	struct fixture *f;
	struct fixture command;		/* the same site, as a command has it open */
	struct store *store;
	struct engine *e;
	int64_t sub;
	void (*meanwhile)(struct bed *b);	/* once: when it is asked who has 'a' open */
};

static bool
is_open(void *arg, const struct digest *d)
{
	const struct digest a = content('a');
	struct bed *b = arg;
	void (*meanwhile)(struct bed *) = b->meanwhile;

	if (meanwhile != NULL && digest_equal(d, &a)) {
		b->meanwhile = NULL;
		meanwhile(b);
	}
	return false;
}

/* ---- the site: 'a' was used before 'b', and nobody has selected them ------------------------- */

static void
path_of(struct bed *b, char letter, char out[512])
{
	struct digest d = content(letter);
	char hex[DIGEST_HEX + 1];

	digest_hex(&d, hex);
	snprintf(out, 512, "%s/objects/%.2s", b->f->conf.cache_dir, hex);
	mkdir(out, 0750);
	snprintf(out, 512, "%s/objects/%.2s/%s", b->f->conf.cache_dir, hex, hex);
}

static void
put_image(struct bed *b, char letter, int64_t used)
{
	struct digest d = content(letter);
	static const char bytes[BYTES];
	char path[512];
	FILE *out;

	path_of(b, letter, path);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_int_equal(fwrite(bytes, 1, sizeof(bytes), out), sizeof(bytes));
	assert_int_equal(fclose(out), 0);
	store_content(b->f, letter);
	assert_int_equal(catalogue_object_used(b->f->c, &d, used, &b->f->err), 0);
}

static bool
is_there(struct bed *b, char letter)
{
	struct digest d = content(letter);
	struct object_row row;
	char path[512];
	bool verified;

	path_of(b, letter, path);
	if (catalogue_object_get(b->f->c, &d, &row, &b->f->err) != 0)
		return false;
	verified = row.state == OBJECT_VERIFIED;
	object_row_release(&row);
	assert_int_equal(access(path, F_OK) == 0, verified);
	return verified;
}

static void
start(struct bed *b)
{
	struct engine_config config = {
		.conf = &b->f->conf, .catalogue = b->f->c, .store = b->store,
		.ops = { .is_open = is_open, .arg = b }, .control_socket = -1, .stop_fd = -1,
	};

	if (engine_new(&b->e, &config, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
}

static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));
	int64_t now = stamp_now();
	struct fixture *f;

	b->f = f = fixture_new();
	f->conf.cache_size = LIMIT;
	if (store_init(&f->conf, catalogue_store_id(f->c), false, &f->err) != 0)
		fail_msg("%s", f->err.text);
	b->sub = subscribe(f, LIST, SELECT_NONE);
	publish(f, b->sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	/* Only what was selected once is verified. */
	select_image(f, "a", true);
	select_image(f, "b", true);
	put_image(b, 'a', now + 1);
	put_image(b, 'b', now + 2);
	select_image(f, "a", false);
	select_image(f, "b", false);
	if (store_open(&f->conf, catalogue_store_id(f->c), &b->store, &f->err) != 0 ||
	    store_lock(b->store, &f->err) != 0 || store_recount(b->store, &f->err) != 0)
		fail_msg("%s", f->err.text);
	b->command.conf = f->conf;
	if (fixture_open(&b->command, 0) != 0)
		fail_msg("%s", b->command.err.text);
	start(b);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	catalogue_close(b->command.c);
	engine_free(b->e);
	b->f->c = NULL;			/* it was the engine's */
	store_close(b->store);
	fixture_free(b->f);
	free(b);
	return 0;
}

/* As much as there is, without its tree: one of the two has to go. */
static void
make_room(struct bed *b)
{
	const struct digest d = content('c');
	struct store_usage u = { 0 };

	assert_int_equal(store_room(b->store, &u, &b->f->err), 0);
	if (engine_make_room(b->e, &d, LIMIT - store_used(&u), true, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	assert_null(b->meanwhile);
}

/* ---- meanwhile ------------------------------------------------------------------------------- */

static void
nothing(struct bed *b)
{
	(void)b;
}

static void
pin_a(struct bed *b)
{
	struct image_row r = image(&b->command, "a");

	assert_int_equal(catalogue_image_pin(b->command.c, r.id, true, &b->command.err), 0);
	image_row_release(&r);
}

static void
select_a(struct bed *b)
{
	select_image(&b->command, "a", true);
}

static void
oldest_goes(void **state)
{
	struct bed *b = *state;

	b->meanwhile = nothing;
	make_room(b);
	assert_false(is_there(b, 'a'));
	assert_true(is_there(b, 'b'));
}

static void
pinned_stays(void **state)
{
	struct bed *b = *state;

	b->meanwhile = pin_a;
	make_room(b);
	assert_true(is_there(b, 'a'));
	assert_false(is_there(b, 'b'));
}

static void
selected_stays(void **state)
{
	struct bed *b = *state;

	b->meanwhile = select_a;
	make_room(b);
	assert_true(is_there(b, 'a'));
	assert_false(is_there(b, 'b'));
}

static void
selected_by_word(void **state)
{
	const struct digest a = content('a');
	struct bed *b = *state;

	b->meanwhile = select_a;
	if (engine_evict(b->e, &a, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	assert_false(is_there(b, 'a'));
}

static void
pinned_by_word(void **state)
{
	const struct digest a = content('a');
	struct bed *b = *state;

	b->meanwhile = pin_a;
	assert_int_equal(engine_evict(b->e, &a, &b->f->err), -EBUSY);
	assert_true(is_there(b, 'a'));
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("room is made by what was used longest ago", oldest_goes),
		TEST("X07 what is pinned while room is made stays, and another image goes",
		     pinned_stays),
		TEST("what is selected while room is made stays, too", selected_stays),
		TEST("an admin evicts what is selected, too", selected_by_word),
		TEST("but nothing that is pinned just then", pinned_by_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
