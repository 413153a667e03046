/*
 * listbed.h - payloads of lists, good ones and bad ones, for unit tests.
 *
 * Most lists are made from three tables of members (list, endorser, image) in which one member is
 * replaced or left out; the files in tests/data/lists are named after their defect.
 */
#ifndef VMI_LISTBED_H
#define VMI_LISTBED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/imagelist.h"
#include "core/json.h"
#include "core/jsonw.h"
#include "tests/unit/listfile.h"

#define HEX32 "0123456789abcdef0123456789abcdef"
#define SHA512 HEX32 HEX32 HEX32 HEX32

struct member {
	const char *key;
	const char *json;
};

static const struct member list_members[] = {
	{ "dc:date:created", "\"2026-11-01T00:00:00Z\"" },
	{ "dc:date:expires", "\"2026-12-01T00:00:00Z\"" },
	{ "dc:identifier", "\"4e186b44-2c64-40ea-97d5-e9e5c0bce059\"" },
	{ "dc:description", "\"a list\"" },
	{ "dc:title", "\"A list\"" },
	{ "dc:source", "\"example.org\"" },
	{ "hv:version", "\"1.0\"" },
	{ "hv:uri", "\"https://example.org/list\"" },
	{ NULL, NULL },
};

static const struct member endorser_members[] = {
	{ "hv:ca", "\"/DC=org/CN=CA\"" },
	{ "hv:dn", "\"/DC=org/CN=Someone\"" },
	{ "hv:email", "\"someone@example.org\"" },
	{ "dc:creator", "\"Someone\"" },
	{ NULL, NULL },
};

static const struct member image_members[] = {
	{ "dc:identifier", "\"488dcdc4-9ab1-4fc8-a7ba-b7a5428ecb3d\"" },
	{ "dc:title", "\"An image\"" },
	{ "dc:description", "\"\"" },
	{ "hv:size", "121243136" },
	{ "sl:checksum:sha512", "\"" SHA512 "\"" },
	{ "sl:arch", "\"x86_64\"" },
	{ "hv:uri", "\"https://example.org/image.img\"" },
	{ "sl:os", "\"Linux\"" },
	{ "sl:osversion", "\"Debian 12\"" },
	{ "sl:comments", "\"\"" },
	{ "hv:hypervisor", "\"KVM\"" },
	{ "hv:version", "\"1\"" },
	{ NULL, NULL },
};

/* A change to one of the tables: json NULL leaves the member out, a new key is added. */
struct change {
	const struct member *table;
	const char *key;
	const char *json;
};

static const char *const wrong_types[] = { "1", "[]", "{}", "null", "true", "1.5" };

enum { N_WRONG_TYPES = sizeof(wrong_types) / sizeof(wrong_types[0]) };

/* ---- making lists -------------------------------------------------------------------------- */

static inline void
add_members(struct jsonw *w, const struct member *table, const struct change *change)
{
	bool found = change == NULL || change->table != table;

	for (const struct member *m = table; m->key != NULL; m++) {
		bool same = change != NULL && change->table == table
			&& strcmp(m->key, change->key) == 0;

		found |= same;
		if (!same || change->json != NULL)
			jsonw_raw(w, m->key, same ? change->json : m->json);
	}
	if (!found)
		jsonw_raw(w, change->key, change->json);
}

/* A list of one good image, and before it one with the change if the change is to an image. */
static inline void
make_list(const struct change *change, struct buf *out)
{
	bool image_changes = change != NULL && change->table == image_members;
	struct jsonw w;

	jsonw_begin(&w, out, true);
	jsonw_open(&w, NULL, '{');
	jsonw_open(&w, "hv:imagelist", '{');
	add_members(&w, list_members, change);
	jsonw_open(&w, "hv:endorser", '{');
	jsonw_open(&w, "hv:x509", '{');
	add_members(&w, endorser_members, change);
	jsonw_close(&w, '}');
	jsonw_close(&w, '}');
	jsonw_open(&w, "hv:images", '[');
	for (int i = image_changes ? 0 : 1; i < 2; i++) {
		struct change other = { image_members, "dc:identifier", "\"good\"" };

		jsonw_open(&w, NULL, '{');
		jsonw_open(&w, "hv:image", '{');
		add_members(&w, image_members, i == 0 ? change : &other);
		jsonw_close(&w, '}');
		jsonw_close(&w, '}');
	}
	jsonw_close(&w, ']');
	jsonw_close(&w, '}');
	jsonw_close(&w, '}');
}

static inline struct imagelist *
must_parse(const struct buf *text, const char *file_prefix)
{
	struct imagelist *list = NULL;
	struct err err;

	if (imagelist_parse(buf_str(text), text->len, file_prefix, &list, &err) != 0)
		fail_msg("%s", err.text);
	return list;
}

static inline struct imagelist *
parse_changed(const struct member *table, const char *key, const char *json)
{
	struct change change = { table, key, json };
	struct buf text = BUF_INIT;
	struct imagelist *list;

	make_list(&change, &text);
	list = must_parse(&text, NULL);
	buf_release(&text);
	return list;
}

/* ---- what becomes of them ------------------------------------------------------------------ */

/* The changed image is refused and the other one stands. */
static inline void
assert_image_refused(const char *key, const char *json, enum code code)
{
	struct imagelist *list = parse_changed(image_members, key, json);

	assert_int_equal(list->n_images, 2);
	if (!list->images[0].refused || list->images[0].code != code)
		fail_msg("%s %.60s: code %d instead of %d", key, json != NULL ? json : "missing",
			 (int)list->images[0].code, (int)code);
	assert_non_null(list->images[0].error);
	assert_null(list->images[0].meta.json);
	assert_false(list->images[1].refused);
	assert_string_equal(list->images[1].identifier, "good");
	imagelist_free(list);
}

#define TEST(title, function) { title, function, NULL, NULL, NULL }

#endif
