/*
 * json.c - strict JSON in, through jansson.
 *
 * Jansson parses.  Before it does, one scan passes over the source, because three things cannot
 * be asked of jansson:
 *
 *  - Bounds.  Depth, values, keys of an object and length of a string are counted here and a
 *    source that exceeds them is refused before memory is spent on it.
 *  - U+0000 in strings, which would shorten every C string, is refused here, so that it can be
 *    allowed to jansson for the next purpose.
 *  - Numbers.  Jansson refuses a whole document for one number that it cannot hold (2^64, 1e999)
 *    and writes 0.1 back as 0.10000000000000001.  A number that is not a plain integer is
 *    therefore handed to it as a string that begins with U+0000, which no string of the source
 *    can.  Such a carried number keeps its kind and its text, and has no integer value.
 *
 * The scan knows strings, brackets, colons and numbers apart and nothing else: whether the source
 * is JSON is for jansson to say.  If it is not, what the scan took for a string or a number does
 * not matter, for none of its changes makes JSON of what was none: a carried number stands where
 * a number stood, and as the key of an object jansson refuses it.
 */
#include "config.h"
#include "json.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#include <jansson.h>

#include "buf.h"
#include "limits.h"

/* Digits of any number that surely fits int64. */
enum { PLAIN_DIGITS = 18 };

/* 16 MiB of "{}," become 1.2 GB in memory; a list of 20,000 images has about 500,000 values. */
enum { VALUES_MAX = 1 << 20 };

struct scan {
	const char *at, *end;
	ptrdiff_t string_max;	/* bytes of one string as it is written */
	const char *copied;	/* what stands before is in patched, unless nothing was patched */
	struct buf patched;	/* the source with numbers carried */
	int depth;
	int n_keys[LIMIT_JSON_DEPTH + 1];
	int n_values;		/* at least as many as the text has, less one */
	size_t control_at;	/* offset in patched + 1 of the first control byte in a string */
};

/* ---- the scan ---------------------------------------------------------------------------- */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static size_t
patched_offset(const struct scan *s)
{
	return s->patched.len + (size_t)(s->at - s->copied);
}

static int
scan_string(struct scan *s, struct err *err)
{
	static const char nul[] = "\\u0000";
	const char *start = ++s->at;

	for (; s->at < s->end && *s->at != '"'; s->at++) {
		size_t left = (size_t)(s->end - s->at);

		if (*s->at == '\\') {
			if (left >= sizeof(nul) - 1 && memcmp(s->at, nul, sizeof(nul) - 1) == 0)
				return err_refuse(err, CODE_JSON_STRICT,
						  "a string contains \\u0000");
			if (left > 1)
				s->at++;
		} else if ((unsigned char)*s->at < 0x20 && s->control_at == 0) {
			s->control_at = patched_offset(s) + 1;
		}
	}
	if (s->at - start > s->string_max)
		return err_refuse(err, CODE_LIMIT, "a string is longer than %lld bytes",
				  (long long)s->string_max);
	if (s->at < s->end)
		s->at++;
	return 0;
}

/* Every value but the first follows a bracket or a comma. */
static int
count_value(struct scan *s, struct err *err)
{
	if (++s->n_values > VALUES_MAX)
		return err_refuse(err, CODE_LIMIT, "more than %d values", VALUES_MAX);
	s->at++;
	return 0;
}

static int
scan_open(struct scan *s, struct err *err)
{
	if (s->depth == LIMIT_JSON_DEPTH)
		return err_refuse(err, CODE_LIMIT, "nested deeper than %d levels",
				  LIMIT_JSON_DEPTH);
	s->n_keys[++s->depth] = 0;
	return count_value(s, err);
}

static int
scan_colon(struct scan *s, struct err *err)
{
	if (s->depth > 0 && ++s->n_keys[s->depth] > LIMIT_JSON_KEYS)
		return err_refuse(err, CODE_LIMIT, "an object has more than %d keys",
				  LIMIT_JSON_KEYS);
	s->at++;
	return 0;
}

static const char *
skip_digits(const char *p, const char *end)
{
	while (p < end && is_digit(*p))
		p++;
	return p;
}

/* The number grammar of RFC 8259 section 6, for the whole of the text. */
static bool
is_number(const char *p, const char *end)
{
	const char *digits;

	if (p < end && *p == '-')
		p++;
	digits = p;
	p = skip_digits(p, end);
	if (p == digits || (*digits == '0' && p - digits > 1))
		return false;
	if (p < end && *p == '.') {
		digits = ++p;
		p = skip_digits(p, end);
		if (p == digits)
			return false;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		digits = p;
		p = skip_digits(p, end);
		if (p == digits)
			return false;
	}
	return p == end;
}

/* Jansson reads it and writes it back as it stands: an integer, of not too many digits, not -0. */
static bool
is_plain(const char *p, const char *end)
{
	const char *digits = *p == '-' ? p + 1 : p;

	return skip_digits(digits, end) == end && end - digits <= PLAIN_DIGITS
		&& !(digits > p && digits < end && *digits == '0');
}

static void
scan_number(struct scan *s)
{
	const char *start = s->at;

	while (s->at < s->end && (is_digit(*s->at) || memchr("+-.eE", *s->at, 5) != NULL))
		s->at++;
	if (is_plain(start, s->at) || !is_number(start, s->at))
		return;
	buf_add(&s->patched, s->copied, (size_t)(start - s->copied));
	buf_puts(&s->patched, "\"\\u0000");
	buf_add(&s->patched, start, (size_t)(s->at - start));
	buf_putc(&s->patched, '"');
	s->copied = s->at;
}

static int
scan_next(struct scan *s, struct err *err)
{
	switch (*s->at) {
	case '"':
		return scan_string(s, err);
	case '{':
	case '[':
		return scan_open(s, err);
	case '}':
	case ']':
		if (s->depth > 0)
			s->depth--;
		break;
	case ':':
		return scan_colon(s, err);
	case ',':
		return count_value(s, err);
	default:
		if (is_digit(*s->at) || *s->at == '-') {
			scan_number(s);
			return 0;
		}
		break;
	}
	s->at++;
	return 0;
}

static int
scan_source(struct scan *s, struct err *err)
{
	int rc = 0;

	while (rc == 0 && s->at < s->end)
		rc = scan_next(s, err);
	if (rc == 0 && s->patched.len > 0)
		buf_add(&s->patched, s->copied, (size_t)(s->end - s->copied));
	return rc;
}

/* ---- reading ------------------------------------------------------------------------------ */

/*
 * Jansson would open /dev/urandom, which a sandboxed process cannot.  And it would say of a
 * document that there is no memory for that it is none, which must not happen to one that is
 * trusted.
 */
static void
set_up(void)
{
	size_t seed = 0;

	json_set_alloc_funcs(xmalloc, free);

	while (getrandom(&seed, sizeof(seed), 0) < 0 && errno == EINTR)
		continue;
	json_object_seed(seed | 1);	/* 0 would mean: choose yourself */
}

static int
refuse_source(const struct scan *s, const json_error_t *error, struct err *err)
{
	enum code code = CODE_JSON;

	switch (json_error_code(error)) {
	case json_error_out_of_memory:
		return err_set(err, ENOMEM, "no memory to parse JSON");
	case json_error_duplicate_key:
	case json_error_invalid_utf8:
		code = CODE_JSON_STRICT;
		break;
	case json_error_stack_overflow:
		code = CODE_LIMIT;
		break;
	case json_error_invalid_syntax:
		/* The other syntax errors leave jansson at another place. */
		if (s->control_at != 0 && (size_t)error->position == s->control_at - 1)
			code = CODE_JSON_STRICT;
		break;
	default:
		break;
	}
	return err_refuse(err, code, "%s: line %d, column %d: %s",
			  code == CODE_JSON ? "not JSON" : "not strict JSON",
			  error->line, error->column, error->text);
}

static int
parse(const void *data, size_t len, int bytes_max, ptrdiff_t string_max, struct json **out,
      struct err *err)
{
	static pthread_once_t seeded = PTHREAD_ONCE_INIT;
	struct scan s = { .at = data, .string_max = string_max, .copied = data };
	json_error_t error;
	json_t *root = NULL;
	int rc;

	pthread_once(&seeded, set_up);
	buf_init(&s.patched);
	if (len > (size_t)bytes_max) {
		rc = err_refuse(err, CODE_LIMIT, "a JSON text of more than %d bytes", bytes_max);
		goto out;
	}
	s.end = s.at + len;
	rc = scan_source(&s, err);
	if (rc < 0)
		goto out;
	if (s.patched.len > 0) {
		data = s.patched.data;
		len = s.patched.len;
	}
	root = json_loadb(data, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (root == NULL) {
		rc = refuse_source(&s, &error, err);
		goto out;
	}
	*out = (struct json *)root;
	rc = 0;
out:
	buf_release(&s.patched);
	return rc;
}

int
json_parse(const void *data, size_t len, struct json **out, struct err *err)
{
	return parse(data, len, LIMIT_MESSAGE_BYTES, LIMIT_JSON_STRING, out, err);
}

int
json_parse_written(const void *data, size_t len, struct json **out, struct err *err)
{
	return parse(data, len, LIMIT_SITE_BYTES, 6 * LIMIT_JSON_STRING, out, err);
}

/* Jansson's accessors take some values without const, and write to none. */
static json_t *
jansson(const struct json *j)
{
	return (json_t *)(uintptr_t)j;
}

static const struct json *
borrowed(const json_t *j)
{
	return (const struct json *)j;
}

void
json_free(struct json *doc)
{
	json_decref(jansson(doc));
}

/* The text of a carried number, NULL if it is none. */
static const char *
carried_number(const struct json *j)
{
	const char *text = json_string_value(jansson(j));

	return text != NULL && text[0] == '\0' && json_string_length(jansson(j)) > 0
		? text + 1 : NULL;
}

enum json_kind
json_kind(const struct json *j)
{
	const char *number = carried_number(j);

	if (j == NULL)
		return JSON_KIND_NULL;
	if (number != NULL)
		return strpbrk(number, ".eE") != NULL ? JSON_KIND_REAL : JSON_KIND_INTEGER;
	switch (json_typeof(jansson(j))) {
	case JSON_OBJECT:
		return JSON_KIND_OBJECT;
	case JSON_ARRAY:
		return JSON_KIND_ARRAY;
	case JSON_STRING:
		return JSON_KIND_STRING;
	case JSON_INTEGER:
		return JSON_KIND_INTEGER;
	case JSON_REAL:
		return JSON_KIND_REAL;
	case JSON_TRUE:
	case JSON_FALSE:
		return JSON_KIND_BOOL;
	case JSON_NULL:
		break;
	}
	return JSON_KIND_NULL;
}

const struct json *
json_get(const struct json *object, const char *key)
{
	return borrowed(json_object_get(jansson(object), key));
}

size_t
json_size(const struct json *array_or_object)
{
	const json_t *j = jansson(array_or_object);

	return json_is_array(j) ? json_array_size(j) : json_object_size(j);
}

const struct json *
json_at(const struct json *array, size_t i)
{
	return borrowed(json_array_get(jansson(array), i));
}

const char *
json_as_string(const struct json *j)
{
	return carried_number(j) == NULL ? json_string_value(jansson(j)) : NULL;
}

bool
json_as_integer(const struct json *j, int64_t *value)
{
	if (!json_is_integer(jansson(j)))
		return false;
	*value = json_integer_value(jansson(j));
	return true;
}

bool
json_as_boolean(const struct json *j, bool *value)
{
	if (!json_is_boolean(jansson(j)))
		return false;
	*value = json_is_true(jansson(j));
	return true;
}

void
json_each(const struct json *object,
	  void (*fn)(void *arg, const char *key, const struct json *value), void *arg)
{
	json_t *o = jansson(object);

	for (void *i = json_object_iter(o); i != NULL; i = json_object_iter_next(o, i))
		fn(arg, json_object_iter_key(i), borrowed(json_object_iter_value(i)));
}

/* ---- writing it out again ------------------------------------------------------------------ */

static void dump_value(struct jsonw *w, const char *key, const struct json *j);

static void
dump_member(void *arg, const char *key, const struct json *value)
{
	dump_value(arg, key, value);
}

/* Recursion is bounded by LIMIT_JSON_DEPTH. */
static void
dump_value(struct jsonw *w, const char *key, const struct json *j)
{
	const char *number = carried_number(j);

	if (number != NULL) {
		jsonw_raw(w, key, number);
		return;
	}
	switch (json_kind(j)) {
	case JSON_KIND_OBJECT:
		jsonw_open(w, key, '{');
		json_each(j, dump_member, w);
		jsonw_close(w, '}');
		break;
	case JSON_KIND_ARRAY:
		jsonw_open(w, key, '[');
		for (size_t i = 0; i < json_size(j); i++)
			dump_value(w, NULL, json_at(j, i));
		jsonw_close(w, ']');
		break;
	case JSON_KIND_STRING:
		jsonw_string(w, key, json_as_string(j));
		break;
	case JSON_KIND_INTEGER:
		jsonw_integer(w, key, json_integer_value(jansson(j)));
		break;
	case JSON_KIND_BOOL:
		jsonw_boolean(w, key, json_is_true(jansson(j)));
		break;
	case JSON_KIND_REAL:	/* always carried */
	case JSON_KIND_NULL:
		jsonw_raw(w, key, "null");
		break;
	}
}

void
json_dump(const struct json *j, struct buf *out)
{
	struct jsonw w;

	jsonw_begin(&w, out, true);
	dump_value(&w, NULL, j);
}
