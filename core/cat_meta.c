/*
 * cat_meta.c - rows of metadata: written once, referred to by images and expired rows.
 *
 * The seal is SHA-512 over every value.  Two versions of an image's metadata are equal exactly
 * when their seals are, and a row whose seal does not fit was damaged.  Block digests are covered
 * where there are any, so that the seals of rows older than they are still fit.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <stdlib.h>
#include <string.h>
#include "cleanup.h"

static void
seal_text(struct buf *b, const char *text)
{
	buf_puts(b, text != NULL ? text : "");
	buf_putc(b, '\0');		/* so that neighbouring values cannot trade bytes */
}

void
meta_seal(const struct image_meta *m, struct digest *seal)
{
	CLEANUP_BUF struct buf b = BUF_INIT;

	for (int i = 0; i < N_FIELDS; i++)
		seal_text(&b, m->value[i]);
	buf_printf(&b, "%lld %lld %lld ", (long long)m->size, (long long)m->created,
		   (long long)m->expires);
	buf_add(&b, m->sha512.bytes, DIGEST_BYTES);
	seal_text(&b, m->json);
	if (m->has_verity) {
		buf_add(&b, m->verity.bytes, DIGEST_BYTES);
		seal_text(&b, m->verity_uri);
	}
	digest_of(b.data, b.len, seal);
}

static const char *
or_empty(const char *text)
{
	return text != NULL ? text : "";
}

int
meta_insert(struct catalogue *c, const struct image_meta *m, int64_t *id, struct err *err)
{
	struct cat_arg args[META_COLUMNS + 2];
	struct digest seal;
	int n = 0, rc;

	meta_seal(m, &seal);
	for (int i = 0; i < N_FIELDS; i++)
		args[n++] = arg_text(or_empty(m->value[i]));
	args[n++] = arg_int(m->size);
	args[n++] = arg_digest(&m->sha512);
	args[n++] = arg_int(m->created);
	args[n++] = arg_int(m->expires);
	args[n++] = arg_text(or_empty(m->json));
	args[n++] = arg_digest(m->has_verity ? &m->verity : NULL);
	args[n++] = arg_text(or_empty(m->verity_uri));
	args[n++] = arg_digest(&seal);
	args[n] = (struct cat_arg){ .kind = ARG_END };
	rc = cat_run(c, SQL_META_ADD, args, err);
	*id = cat_last_id(c);
	return rc;
}

void
meta_next(struct cat_query *q, struct image_meta *m)
{
	memset(m, 0, sizeof(*m));
	for (int i = 0; i < N_FIELDS; i++)
		m->value[i] = next_text(q);
	m->size = next_int(q);
	next_digest(q, &m->sha512);
	m->created = next_int(q);
	m->expires = next_int(q);
	m->json = next_text(q);
	m->has_verity = next_digest(q, &m->verity);
	m->verity_uri = next_text(q);
}

int
meta_drop(struct catalogue *c, int64_t id, struct err *err)
{
	return id == 0 ? 0 : cat_run(c, SQL_META_DELETE, ARGS(arg_int(id)), err);
}

int
meta_version(struct catalogue *c, int64_t id, char **version, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_META_VERSION, ARGS(arg_int(id)), err);

	*version = NULL;
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc > 0)
		*version = next_text(&q);
	return rc > 0 ? 0 : rc;
}
