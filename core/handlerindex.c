#include "config.h"
#include "handlerindex.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "json.h"
#include "limits.h"

#define IMAGE_KEY "hv:image."
#define INDENT_ENTRY "    "
#define INDENT_MEMBER "        "

/* Fields that an entry has under their own key; list_key and key differ for none of them. */
static const enum field_id plain_fields[] = {
	FIELD_DESCRIPTION, FIELD_ID, FIELD_TITLE, FIELD_HYPERVISOR, FIELD_SIZE, FIELD_URI,
	FIELD_VERSION, FIELD_ARCH, FIELD_SHA512, FIELD_COMMENTS, FIELD_OS, FIELD_OSVERSION,
};
/* And once more under the names that vmcatcher's download had for them. */
static const struct { const char *key; enum field_id id; } again_fields[] = {
	{ "sha512", FIELD_SHA512 }, { "size", FIELD_SIZE }, { "uri", FIELD_URI },
	{ "uuid", FIELD_ID },
};

enum { N_PLAIN = sizeof(plain_fields) / sizeof(plain_fields[0]),
       N_AGAIN = sizeof(again_fields) / sizeof(again_fields[0]) };

struct member {
	char *key, *value;		/* value: JSON */
};

struct members {
	struct member at[N_PLAIN + N_AGAIN + 3 + LIMIT_JSON_KEYS];
	size_t n;
};

static char *
quoted(const char *text)
{
	struct buf b = BUF_INIT;
	struct jsonw w;

	jsonw_begin(&w, &b, false);
	jsonw_string(&w, NULL, text);
	return buf_steal(&b, NULL);
}

/* Takes value. */
static void
add(struct members *m, const char *key, char *value)
{
	m->at[m->n++] = (struct member){ xstrdup(key), value };
}

static void
add_field(struct members *all, const char *key, const struct image_meta *m, enum field_id id)
{
	if (m->value[id] == NULL)
		return;
	if (field_table[id].type == FIELD_BYTES)
		add(all, key, xasprintf("%lld", (long long)m->size));
	else
		add(all, key, quoted(m->value[id]));
}

static void
add_of_list(void *arg, const char *key, const struct json *value)
{
	CLEANUP_FREE char *whole = xasprintf(IMAGE_KEY "%s", key);
	struct members *all = arg;
	struct buf text = BUF_INIT;

	if (all->n == sizeof(all->at) / sizeof(all->at[0]))
		return;
	json_dump(value, &text);
	add(all, whole, buf_steal(&text, NULL));
}

static void
add_image(struct members *all, const struct image_meta *m)
{
	struct json *doc = NULL;

	if (m->json == NULL || json_parse_written(m->json, strlen(m->json), &doc, NULL) != 0)
		return;
	json_each(doc, add_of_list, all);
	json_free(doc);
}

static int
by_key(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return strcmp(x->key, y->key);
}

static void
write_members(struct handlerindex_text *t, const struct members *all)
{
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < all->n; i++) {
		CLEANUP_FREE char *key = quoted(all->at[i].key);

		if (t->split == 0 && out.len > 0 && strcmp(all->at[i].key, "msgHash") > 0)
			t->split = out.len;
		buf_printf(&out, INDENT_MEMBER "%s: %s%s\n", key, all->at[i].value,
			   i + 1 < all->n ? ", " : "");
	}
	t->text = buf_steal(&out, NULL);
}

void
handlerindex_text_init(struct handlerindex_text *t, const struct image_meta *m,
		       const char *filename, const char *list_id)
{
	struct members *all = xcalloc(1, sizeof(*all));

	memset(t, 0, sizeof(*t));
	for (size_t i = 0; i < N_PLAIN; i++)
		add_field(all, field_table[plain_fields[i]].list_key, m, plain_fields[i]);
	for (size_t i = 0; i < N_AGAIN; i++)
		add_field(all, again_fields[i].key, m, again_fields[i].id);
	add(all, "filename", quoted(filename));
	add(all, "hv:imagelist.dc:identifier", quoted(list_id));
	if (m->value[FIELD_VO] != NULL && m->value[FIELD_VO][0] != '\0')
		add(all, "hv:imagelist.ad:vo", quoted(m->value[FIELD_VO]));
	add_image(all, m);
	qsort(all->at, all->n, sizeof(all->at[0]), by_key);
	write_members(t, all);
	for (size_t i = 0; i < all->n; i++) {
		free(all->at[i].key);
		free(all->at[i].value);
	}
	free(all);
}

void
handlerindex_text_release(struct handlerindex_text *t)
{
	free(t->text);
	memset(t, 0, sizeof(*t));
}

/* The object is open, with nothing in it yet: each entry begins with what ends the one before. */
void
handlerindex_begin(struct buf *out)
{
	buf_clear(out);
	buf_putc(out, '{');
}

void
handlerindex_add(struct buf *out, const char *key, const struct handlerindex_text *t,
		 const struct digest *message)
{
	CLEANUP_FREE char *name = quoted(key);
	char hex[DIGEST_HEX + 1];

	buf_printf(out, "%s\n" INDENT_ENTRY "%s: {\n", out->len > 1 ? ", " : "", name);
	buf_add(out, t->text, t->split);
	if (message != NULL && t->split > 0) {
		digest_hex(message, hex);
		buf_printf(out, INDENT_MEMBER "\"msgHash\": \"%s\", \n", hex);
	}
	buf_puts(out, t->text + t->split);
	buf_puts(out, INDENT_ENTRY "}");
}

void
handlerindex_end(struct buf *out)
{
	if (out->len > 1)
		buf_putc(out, '\n');
	buf_putc(out, '}');
}
