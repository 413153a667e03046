/*
 * X13: strict JSON (core/json.h).  What is accepted keeps within the limits, has no key twice and
 * no NUL, and is the same document again when it is written and read.
 */
#include "config.h"

#include "core/cleanup.h"
#include "core/json.h"
#include "core/limits.h"
#include "fuzz.h"

const char *
fuzz_title(void)
{
	return "X13 JSON is accepted only if it is strict, and read back as it was written";
}

struct visit {
	int depth;
	size_t n_members;
	const struct json *object;
};

static void check_value(const struct json *j, int depth);

static void
check_member(void *arg, const char *key, const struct json *value)
{
	struct visit *v = arg;

	v->n_members++;
	FUZZ_CHECK(strlen(key) <= 6 * LIMIT_JSON_STRING);
	/* The only one of its name is the one that is found. */
	FUZZ_CHECK(json_get(v->object, key) == value);
	check_value(value, v->depth + 1);
}

static void
check_value(const struct json *j, int depth)
{
	struct visit v = { .depth = depth, .object = j };
	int64_t number;
	bool boolean;

	/* A value that holds no others stands one level below the innermost that does. */
	FUZZ_CHECK(depth <= LIMIT_JSON_DEPTH + (json_size(j) == 0));
	json_each(j, check_member, &v);
	switch (json_kind(j)) {
	case JSON_KIND_OBJECT:
		FUZZ_CHECK(v.n_members <= LIMIT_JSON_KEYS && v.n_members == json_size(j));
		break;
	case JSON_KIND_ARRAY:
		for (size_t i = 0; i < json_size(j); i++)
			check_value(json_at(j, i), depth + 1);
		FUZZ_CHECK(json_at(j, json_size(j)) == NULL);
		break;
	case JSON_KIND_STRING:
		FUZZ_CHECK(json_as_string(j) != NULL && !json_as_integer(j, &number));
		break;
	case JSON_KIND_BOOL:
		FUZZ_CHECK(json_as_boolean(j, &boolean));
		break;
	case JSON_KIND_NULL:
	case JSON_KIND_INTEGER:
	case JSON_KIND_REAL:
		FUZZ_CHECK(json_as_string(j) == NULL && json_size(j) == 0);
		break;
	}
}

/* What was accepted, written and read again, is written the same. */
static void
check_round(const struct json *doc)
{
	CLEANUP_BUF struct buf first = BUF_INIT, second = BUF_INIT;
	struct json *again = NULL;
	struct err err = { 0 };

	json_dump(doc, &first);
	if (json_parse_written(first.data, first.len, &again, &err) != 0) {
		/* Escapes make a text longer: then, and only then, it is too long. */
		FUZZ_CHECK(err.code == CODE_LIMIT);
		return;
	}
	json_dump(again, &second);
	FUZZ_CHECK(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	json_free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = fuzz_copy(data, size, 0);
	struct json *doc = NULL;
	struct err err = { 0 };
	int rc = json_parse(text, size, &doc, &err);

	if (rc != 0) {
		FUZZ_CHECK(doc == NULL && err.rc == rc && err.text[0] != '\0');
		FUZZ_CHECK(err.code == CODE_JSON || err.code == CODE_JSON_STRICT ||
			   err.code == CODE_LIMIT);
		return 0;
	}
	FUZZ_CHECK(json_kind(doc) == JSON_KIND_OBJECT || json_kind(doc) == JSON_KIND_ARRAY);
	FUZZ_CHECK(memmem(text, size, "\\u0000", 6) == NULL ||
		   memmem(text, size, "\\\\u0000", 7) != NULL);
	check_value(doc, 1);
	check_round(doc);
	json_free(doc);
	return 0;
}
