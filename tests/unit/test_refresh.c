/*
 * Which lists are refreshed first, and what becomes of those for which there was no time.
 */
#include "config.h"
#include "sitefixture.h"

#include "core/fetch.h"
#include "core/refresh.h"

struct bed {
	struct fixture *f;
	struct refresh r;
	int64_t a, b, c;
	struct buf order;
};

static struct {
	struct catalogue *c;
	int64_t id, tried;	/* what its row says while it is fetched */
} fetched;

/* A fetcher of ours, which looks at the catalogue and brings nothing. */
void
fetch_request_init(struct fetch_request *req, const struct conf *conf)
{
	(void)conf;
	memset(req, 0, sizeof(*req));
}

int
fetch_to_buf(struct starter *starter, const struct fetch_request *req, struct buf *out,
	     struct err *err)
{
	struct subscription_row row = { 0 };

	(void)starter;
	(void)req;
	(void)out;
	if (catalogue_subscription_by_id(fetched.c, fetched.id, &row, err) == 0)
		fetched.tried = row.tried;
	subscription_row_release(&row);
	return err_refuse(err, CODE_SLOW, "nothing came");
}

static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	b->f = fixture_new();
	b->r = (struct refresh){ .conf = &b->f->conf, .catalogue = b->f->c };
	b->a = subscribe(b->f, "list-a", SELECT_NONE);
	b->b = subscribe(b->f, "list-b", SELECT_NONE);
	b->c = subscribe(b->f, "list-c", SELECT_NONE);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	buf_release(&b->order);
	fixture_free(b->f);
	free(b);
	return 0;
}

static void
tried(struct bed *b, int64_t id, int64_t when)
{
	if (catalogue_subscription_tried(b->f->c, id, when, CODE_NONE, "", &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
}

static int
add(void *arg, const struct subscription_row *row)
{
	struct bed *b = arg;

	buf_printf(&b->order, "%s ", row->list_id);
	return 0;
}

static void
assert_order(struct bed *b, const char *order)
{
	buf_clear(&b->order);
	if (catalogue_subscription_each_due(b->f->c, NOW, add, b, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	assert_string_equal(b->order.data, order);
}

/* Lists that take all their time leave none for the others: those come first in the next pass. */
static void
in_turn(void **state)
{
	struct bed *b = *state;

	tried(b, b->a, NOW - 10);
	tried(b, b->b, NOW - 10);
	assert_order(b, "list-c list-a list-b ");
	tried(b, b->c, NOW - 5);
	tried(b, b->a, NOW - 4);
	assert_order(b, "list-b list-c list-a ");
	/* By a clock that was ahead. */
	tried(b, b->a, NOW + 1);
	assert_order(b, "list-a list-b list-c ");
}

static void
no_time(void **state)
{
	struct bed *b = *state;
	struct subscription_row row = { 0 };
	struct update_result result;

	b->r.deadline = 1;
	tried(b, b->a, NOW - 10);
	tried(b, b->b, NOW - 9);
	tried(b, b->c, NOW - 8);
	assert_int_not_equal(refresh_subscription(&b->r, b->a, &result, &b->f->err), 0);
	assert_int_equal(b->f->err.code, CODE_SLOW);
	if (catalogue_subscription_by_id(b->f->c, b->a, &row, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	assert_non_null(strstr(row.error, "not tried"));
	assert_int_equal(row.tried, NOW - 10);
	subscription_row_release(&row);
	assert_order(b, "list-a list-b list-c ");
}

static void
begins(void **state)
{
	struct bed *b = *state;
	struct update_result result;
	int64_t now = stamp_now();

	tried(b, b->a, NOW - 10);
	fetched.c = b->f->c;
	fetched.id = b->a;
	fetched.tried = 0;
	b->r.dry_run = true;
	assert_int_equal(refresh_subscription(&b->r, b->a, &result, &b->f->err), -ETIMEDOUT);
	assert_int_equal(fetched.tried, NOW - 10);
	b->r.dry_run = false;
	assert_int_equal(refresh_subscription(&b->r, b->a, &result, &b->f->err), -ETIMEDOUT);
	assert_true(fetched.tried >= now);
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("the lists that were tried longest ago are refreshed first", in_turn),
		TEST("a list for which there was no time says so, and is among the first then",
		     no_time),
		TEST("a list that ends whoever refreshes it is not the first the next time",
		     begins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
