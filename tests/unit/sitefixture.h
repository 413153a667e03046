/*
 * sitefixture.h - a catalogue in a temporary directory, and lists to apply to it.
 *
 * A list is written as JSON and parsed by imagelist_parse().  Its "message" is that JSON itself,
 * and site_verify() accepts any message as signed by Alice: signatures are not tried here.
 */
#ifndef VMI_TEST_SITEFIXTURE_H
#define VMI_TEST_SITEFIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/catalogue.h"
#include "core/imagelist.h"
#include "core/outbox.h"
#include "core/stamp.h"
#include "core/verdict.h"
#include "tests/lib/removetree.h"

#define ALICE "/DC=org/DC=example/CN=Alice"
#define BOB "/DC=org/DC=example/CN=Bob"
#define CA "/DC=org/DC=example/CN=Example CA"
#define LIST "0c7a3bd0-1111-4222-8333-444455556666"
#define OTHER_LIST "97f0e5e0-aaaa-4bbb-8ccc-dddd0000eeee"

/* 2026-11-21T10:00:00Z; lists are published then and expire a hundred years later. */
enum { NOW = 1795255200 };

struct fixture {
	char dir[64];
	struct conf conf;
	struct catalogue *c;
	struct err err;
	struct update_result result;
	struct buf said;
	bool revoked;			/* site_verify() refuses everything */
	bool objects_good;
};

static int
site_verify(void *arg, const void *message, size_t len, struct verdict *out, struct err *err)
{
	struct fixture *f = arg;

	(void)err;
	out->subject = xstrdup(ALICE);
	out->issuer = xstrdup(CA);
	if (f->revoked) {
		out->rc = -EKEYREJECTED;
		out->code = CODE_SIGNATURE;
		out->revoked = true;
		snprintf(out->text, sizeof(out->text), "certificate is revoked");
		return 0;
	}
	buf_add(&out->payload, message, len);
	return 0;
}

static void
site_say(void *arg, const char *text)
{
	struct fixture *f = arg;

	buf_puts(&f->said, text);
	buf_putc(&f->said, '\n');
}

static bool
site_object_good(void *arg, const struct digest *d, int64_t size)
{
	struct fixture *f = arg;

	(void)d;
	(void)size;
	return f->objects_good;
}

static inline int
fixture_open(struct fixture *f, unsigned flags)
{
	struct catalogue_hooks hooks = { site_verify, site_say, site_object_good, f };

	err_clear(&f->err);
	return catalogue_open(&f->c, &f->conf, flags, &hooks, &f->err);
}

static inline void
fixture_reopen(struct fixture *f, unsigned flags)
{
	catalogue_close(f->c);
	f->c = NULL;
	if (fixture_open(f, flags) != 0)
		fail_msg("%s", f->err.text);
}

/* The database is lost; site.json and the messages bring it back. */
static inline void
fixture_lose_database(struct fixture *f)
{
	char *db = xasprintf("%s/catalogue.db", f->conf.state_dir);

	catalogue_close(f->c);
	f->c = NULL;
	assert_int_equal(unlink(db), 0);
	free(db);
	if (fixture_open(f, CATALOGUE_CHECK) != 0)
		fail_msg("%s", f->err.text);
}

static inline struct fixture *
fixture_new(void)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/vmi-catalogue-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		abort();
	f->conf.state_dir = xasprintf("%s/state", f->dir);
	f->conf.cache_dir = xasprintf("%s/cache", f->dir);
	mkdir(f->conf.cache_dir, 0700);
	if (fixture_open(f, CATALOGUE_CREATE) != 0)
		fail_msg("%s", f->err.text);
	return f;
}

static inline void
fixture_free(struct fixture *f)
{
	catalogue_close(f->c);
	remove_tree(f->dir);
	buf_release(&f->said);
	free(f->conf.state_dir);
	free(f->conf.cache_dir);
	free(f);
}

static inline int
fixture_setup(void **state)
{
	*state = fixture_new();
	return 0;
}

static inline int
fixture_teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

/* The digest that an image with this content letter has: 128 times the letter. */
static inline struct digest
content(char letter)
{
	struct digest d;
	char hex[DIGEST_HEX + 1];

	memset(hex, letter, DIGEST_HEX);
	hex[DIGEST_HEX] = '\0';
	if (!digest_parse(hex, &d))
		abort();
	return d;
}

struct entry {
	const char *identifier, *version;
	char content;			/* a hexadecimal digit */
	int64_t expires;		/* 0: with the list */
	const char *title;		/* NULL: made of the identifier */
	char verity;			/* a hexadecimal digit as content; 0: no block digests */
	const char *sidecar;		/* NULL: none is named */
};

static inline void
add_entry(struct buf *b, const struct entry *e, bool first)
{
	char hex[DIGEST_HEX + 1], date[STAMP_BYTES];
	struct digest d = content(e->content);

	digest_hex(&d, hex);
	buf_printf(b, "%s{\"hv:image\":{\"dc:identifier\":\"%s\",\"dc:title\":\"", first ? "" : ",",
		   e->identifier);
	if (e->title != NULL)
		buf_puts(b, e->title);
	else
		buf_printf(b, "Title of %s", e->identifier);
	buf_printf(b,
		   "\",\"dc:description\":\"d\",\"hv:version\":\"%s\",\"sl:comments\":\"\",\"sl:"
		   "os\":\"Linux\","
		   "\"sl:osversion\":\"12\",\"sl:arch\":\"x86_64\",\"hv:hypervisor\":\"kvm\",\"hv:"
		   "size\":%d,"
		   "\"sl:checksum:sha512\":\"%s\",\"hv:uri\":\"https://example.org/%s-%s.img\"",
		   e->version, 1000 + e->content, hex, e->identifier, e->version);
	if (e->verity != 0) {
		d = content(e->verity);
		digest_hex(&d, hex);
		buf_printf(b, ",\"sl:checksum:fsverity-sha512\":\"%s\"", hex);
	}
	if (e->sidecar != NULL)
		buf_printf(b, ",\"hv:fsverity:uri\":\"%s\"", e->sidecar);
	if (e->expires != 0) {
		stamp_format(e->expires, date);
		buf_printf(b, ",\"dc:date:expires\":\"%s\"", date);
	}
	buf_puts(b, "}}");
}

/* A list's text.  Entries end with an identifier of NULL. */
static inline void
list_text(struct buf *b, const char *list_id, const char *version, int64_t created, int64_t expires,
	  const struct entry *e)
{
	char c[STAMP_BYTES], x[STAMP_BYTES];
	bool first = true;

	stamp_format(created, c);
	stamp_format(expires, x);
	buf_printf(b,
		   "{\"hv:imagelist\":{\"dc:date:created\":\"%s\",\"dc:date:expires\":\"%s\",\"dc:"
		   "identifier\":\"%s\","
		   "\"dc:description\":\"a "
		   "list\",\"dc:title\":\"List\",\"dc:source\":\"here\",\"hv:version\":\"%s\","
		   "\"hv:uri\":\"https://example.org/"
		   "%s\",\"hv:endorser\":{\"hv:x509\":{\"hv:ca\":\"" CA "\","
		   "\"hv:dn\":\"" ALICE
		   "\",\"hv:email\":\"a@example.org\",\"dc:creator\":\"Alice\"}},\"hv:images\":[",
		   c, x, list_id, version, list_id);
	for (; e->identifier != NULL; e++, first = false)
		add_entry(b, e, first);
	buf_puts(b, "]}}");
}

/* Registers Alice once, subscribes and links: the id of the subscription. */
static inline int64_t
subscribe(struct fixture *f, const char *list_id, int select_new)
{
	struct subscription_row row = { .list_id = xstrdup(list_id), .select_new = select_new };
	struct endorser_row e;

	row.url = xasprintf("https://example.org/%s", list_id);
	if (catalogue_endorser_get(f->c, "alice", &e, NULL) != 0 &&
	    catalogue_endorser_add(f->c, "alice", ALICE, CA, false, false, &f->err) != 0)
		fail_msg("%s", f->err.text);
	endorser_row_release(&e);
	if (catalogue_subscription_add(f->c, &row, &f->err) != 0 ||
	    catalogue_link(f->c, "alice", row.id, &f->err) != 0)
		fail_msg("%s", f->err.text);
	free(row.list_id);
	free(row.url);
	free(row.name);
	return row.id;
}

/* Applies a text as the subscription's list at a time. */
static inline int
apply_text(struct fixture *f, int64_t sub, const struct buf *text, int64_t now)
{
	struct subscription_row row;
	struct imagelist *list = NULL;
	struct verdict v;
	int rc;

	verdict_init(&v);
	site_verify(f, text->data, text->len, &v, NULL);
	rc = catalogue_subscription_by_id(f->c, sub, &row, &f->err);
	if (rc == 0)
		rc = imagelist_parse(text->data, text->len, NULL, &list, &f->err);
	if (rc == 0)
		rc = catalogue_apply_list(f->c, &row, list, &v, text->data, text->len, now,
					  &f->result, &f->err);
	imagelist_free(list);
	verdict_release(&v);
	subscription_row_release(&row);
	return rc;
}

/* Publishes entries as this version of the list and applies it; the list outlives the test. */
static inline void
publish_in(struct fixture *f, int64_t sub, const char *list_id, const char *version, int64_t now,
	   const struct entry *e)
{
	struct buf text = BUF_INIT;

	list_text(&text, list_id, version, NOW - 1000, (int64_t)NOW + 100LL * 365 * 86400, e);
	if (apply_text(f, sub, &text, now) != 0)
		fail_msg("%s", f->err.text);
	buf_release(&text);
}

static inline void
publish(struct fixture *f, int64_t sub, const char *version, const struct entry *e)
{
	publish_in(f, sub, LIST, version, NOW, e);
}

#define IMG(id, v, c, ...) { .identifier = id, .version = v, .content = c, ##__VA_ARGS__ }
#define NO_ENTRIES ((const struct entry[]){ { .identifier = NULL } })
#define ENTRIES(...) ((const struct entry[]){ __VA_ARGS__, { .identifier = NULL } })

static inline struct image_row
image(struct fixture *f, const char *identifier)
{
	struct image_row r;

	if (catalogue_image_find(f->c, identifier, &r, &f->err) != 0)
		fail_msg("%s", f->err.text);
	return r;
}

static inline void
select_image(struct fixture *f, const char *identifier, bool selected)
{
	struct image_row r = image(f, identifier);

	if (catalogue_image_select(f->c, r.id, selected, NOW, &f->err) != 0)
		fail_msg("%s", f->err.text);
	image_row_release(&r);
}

static inline void
store_content(struct fixture *f, char letter)
{
	struct digest d = content(letter);

	if (catalogue_object_verified(f->c, &d, NULL, NOW, &f->err) != 0)
		fail_msg("%s", f->err.text);
}

/* "live" "selected" "version" of an image as one word, such as "live selected 1". */
static inline void
assert_image(struct fixture *f, const char *identifier, const char *expected)
{
	struct image_row r = image(f, identifier);
	char *text = xasprintf("%s %s %s%s%s", r.live ? "live" : "away",
			       r.selected ? "selected" : "unselected", r.meta.value[FIELD_VERSION],
			       r.has_pending ? " pending " : "",
			       r.has_pending ? r.pending.value[FIELD_VERSION] : "");

	assert_string_equal(text, expected);
	free(text);
	image_row_release(&r);
}

static inline enum object_access
access_of(struct fixture *f, char letter)
{
	struct digest d = content(letter);
	struct object_row o;
	enum object_access a;

	if (catalogue_object_get(f->c, &d, &o, &f->err) != 0)
		fail_msg("%s", f->err.text);
	a = o.access;
	object_row_release(&o);
	return a;
}

static int
add_reason(void *arg, const struct expired_row *r)
{
	buf_printf(arg, "%s%s %s%s%s", ((struct buf *)arg)->len > 0 ? ", " : "",
		   r->meta.value[FIELD_ID], reason_name(r->reason),
		   r->distrusted ? " distrusted" : "", r->purged ? " purged" : "");
	return 0;
}

/* All of expired/, as "a replaced, b removed-from-list distrusted purged". */
static inline void
assert_expired(struct fixture *f, const char *expected)
{
	struct buf b = BUF_INIT;

	if (catalogue_expired_each(f->c, add_reason, &b, &f->err) != 0)
		fail_msg("%s", f->err.text);
	assert_string_equal(buf_str(&b), expected);
	buf_release(&b);
}

static int
add_event(void *arg, const struct event_row *r)
{
	struct buf *b = arg;
	bool begins = strcmp(r->type, "ProcessPrefix") == 0;
	bool first = b->len == 0 || buf_str(b)[b->len - 1] == '[';

	if (strcmp(r->type, "ProcessPostfix") == 0)
		buf_putc(b, ']');
	else
		buf_printf(b, "%s%s", first ? "" : ", ", begins ? "[" : "");
	if (r->identifier[0] != '\0')
		buf_printf(b, "%s %s", r->type, r->identifier);
	return 0;
}

/* The events after one, those of a session in brackets: "[ExpirePrefix a, ExpirePostfix a]". */
static inline void
assert_events(struct fixture *f, int64_t after, const char *expected)
{
	struct buf b = BUF_INIT;

	if (catalogue_event_each(f->c, after, 1000, add_event, &b, &f->err) != 0)
		fail_msg("%s", f->err.text);
	assert_string_equal(buf_str(&b), expected);
	buf_release(&b);
}

static inline void
assert_state(struct fixture *f, int64_t sub, enum subscription_state state)
{
	struct subscription_row r;

	if (catalogue_subscription_by_id(f->c, sub, &r, &f->err) != 0)
		fail_msg("%s", f->err.text);
	assert_string_equal(subscription_state_name(r.state), subscription_state_name(state));
	subscription_row_release(&r);
}

#endif
