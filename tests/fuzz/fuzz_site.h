/*
 * fuzz_site.h - a site in the harness' own directory: configuration, catalogue, store.
 *
 * One list with the images a (stored), b (selected) and c; another list whose endorser was
 * unlinked: its image e is distrusted.  A list's "message" is its text itself, and any text is
 * signed by Alice: signatures are not tried here.
 */
#ifndef VMI_FUZZ_SITE_H
#define VMI_FUZZ_SITE_H

#include <errno.h>

#include "core/catalogue.h"
#include "core/imagelist.h"
#include "core/outbox.h"
#include "core/stamp.h"
#include "core/verdict.h"
#include "fuzz.h"
#include "fuzz_dir.h"

#define ALICE "/DC=org/DC=example/CN=Alice"
#define CA "/DC=org/DC=example/CN=Example CA"
#define LIST "0c7a3bd0-1111-4222-8333-444455556666"
#define OTHER_LIST "97f0e5e0-aaaa-4bbb-8ccc-dddd0000eeee"

/* 2026-11-21T10:00:00Z; the lists are published then and expire a hundred years later. */
enum { FUZZ_NOW = 1795255200 };

static inline void
fuzz_must(int rc, const struct err *err)
{
	if (rc != 0) {
		fprintf(stderr, "%d: %s\n", rc, err->text);
		abort();
	}
}

/* Directories and a configuration that names them.  The caller keeps it. */
static inline struct conf *
fuzz_conf(void)
{
	CLEANUP_FREE char *file = fuzz_path("vmimagefs.conf");
	CLEANUP_FREE char *text = NULL;
	static const char *const dirs[] = { "state", "cache", "run" };
	struct conf *conf = NULL;
	struct err err = { 0 };

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		CLEANUP_FREE char *path = fuzz_path(dirs[i]);

		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			abort();
	}
	text = xasprintf("state_dir = %1$s/state\ncache_dir = %1$s/cache\nrun_dir = %1$s/run\n"
			 "cert_dir = %1$s/certs\nmountpoint = %1$s/mnt\n"
			 "handler_dir = %1$s/handlers\nlog = stderr\n", fuzz_dir());
	fuzz_put(file, text, strlen(text));
	fuzz_must(conf_load_from(file, true, NULL, &conf, &err), &err);
	return conf;
}

/* The digest of 128 times one hexadecimal digit. */
static inline struct digest
fuzz_content(char letter)
{
	char hex[DIGEST_HEX + 1];
	struct digest d;

	memset(hex, letter, DIGEST_HEX);
	hex[DIGEST_HEX] = '\0';
	if (!digest_parse(hex, &d))
		abort();
	return d;
}

static inline void
fuzz_add_image(struct buf *b, char letter, const char *separator)
{
	struct digest d = fuzz_content(letter);
	char hex[DIGEST_HEX + 1];

	digest_hex(&d, hex);
	buf_printf(b, "%s{\"hv:image\":{\"dc:identifier\":\"%c\",\"dc:title\":\"Title of %c\","
		   "\"dc:description\":\"d\",\"hv:version\":\"1\",\"sl:comments\":\"\","
		   "\"sl:os\":\"Linux\",\"sl:osversion\":\"12\",\"sl:arch\":\"x86_64\","
		   "\"hv:hypervisor\":\"kvm\",\"hv:size\":%d,\"sl:checksum:sha512\":\"%s\","
		   "\"hv:uri\":\"https://example.org/%c.img\"}}",
		   separator, letter, letter, 1000 + letter, hex, letter);
}

/* images: a letter each. */
static inline void
fuzz_list_text(struct buf *b, const char *list_id, const char *images)
{
	char created[STAMP_BYTES], expires[STAMP_BYTES];

	stamp_format(FUZZ_NOW - 1000, created);
	stamp_format(FUZZ_NOW + 100LL * 365 * 86400, expires);
	buf_printf(b, "{\"hv:imagelist\":{\"dc:date:created\":\"%s\",\"dc:date:expires\":\"%s\","
		   "\"dc:identifier\":\"%s\",\"dc:description\":\"a list\",\"dc:title\":\"List\","
		   "\"dc:source\":\"here\",\"hv:version\":\"1\","
		   "\"hv:uri\":\"https://example.org/%s\","
		   "\"hv:endorser\":{\"hv:x509\":{\"hv:ca\":\"" CA "\",\"hv:dn\":\"" ALICE "\","
		   "\"hv:email\":\"a@example.org\",\"dc:creator\":\"Alice\"}},\"hv:images\":[",
		   created, expires, list_id, list_id);
	for (const char *p = images; *p != '\0'; p++)
		fuzz_add_image(b, *p, p == images ? "" : ",");
	buf_puts(b, "]}}");
}

static int
fuzz_verify(void *arg, const void *message, size_t len, struct verdict *out, struct err *err)
{
	(void)arg;
	(void)err;
	out->subject = xstrdup(ALICE);
	out->issuer = xstrdup(CA);
	buf_add(&out->payload, message, len);
	return 0;
}

static inline int64_t
fuzz_subscribe(struct catalogue *c, const char *list_id, const char *images, int select_new)
{
	struct subscription_row row = { .list_id = xstrdup(list_id), .select_new = select_new };
	struct subscription_row got;
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct update_result result;
	struct imagelist *list = NULL;
	struct err err = { 0 };
	struct verdict v;
	int64_t id;

	row.url = xasprintf("https://example.org/%s", list_id);
	fuzz_must(catalogue_subscription_add(c, &row, &err), &err);
	id = row.id;
	fuzz_must(catalogue_link(c, "alice", id, &err), &err);
	subscription_row_release(&row);
	fuzz_list_text(&text, list_id, images);
	verdict_init(&v);
	fuzz_verify(NULL, text.data, text.len, &v, NULL);
	fuzz_must(imagelist_parse(text.data, text.len, NULL, &list, &err), &err);
	fuzz_must(catalogue_subscription_by_id(c, id, &got, &err), &err);
	fuzz_must(catalogue_apply_list(c, &got, list, &v, text.data, text.len, FUZZ_NOW, &result,
				       &err), &err);
	subscription_row_release(&got);
	imagelist_free(list);
	verdict_release(&v);
	return id;
}

static inline void
fuzz_select(struct catalogue *c, const char *identifier)
{
	struct image_row row;
	struct err err = { 0 };

	fuzz_must(catalogue_image_find(c, identifier, &row, &err), &err);
	fuzz_must(catalogue_image_select(c, row.id, true, FUZZ_NOW, &err), &err);
	image_row_release(&row);
}

/* Fills an empty catalogue. */
static inline void
fuzz_furnish(struct catalogue *c)
{
	struct digest a = fuzz_content('a'), e = fuzz_content('e');
	struct err err = { 0 };
	int64_t other;

	fuzz_must(catalogue_endorser_add(c, "alice", ALICE, CA, false, false, &err), &err);
	fuzz_subscribe(c, LIST, "abc", SELECT_NONE);
	fuzz_select(c, "a");
	fuzz_select(c, "b");
	fuzz_must(catalogue_object_verified(c, &a, NULL, FUZZ_NOW, &err), &err);
	other = fuzz_subscribe(c, OTHER_LIST, "e", SELECT_ALL);
	fuzz_must(catalogue_object_verified(c, &e, NULL, FUZZ_NOW, &err), &err);
	fuzz_must(catalogue_unlink(c, "alice", other, &err), &err);
}

#endif
