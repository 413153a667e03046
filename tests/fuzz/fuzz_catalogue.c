/*
 * X19: state_dir as a disk, or another program, left it (core/catalogue.h, core/site.h).
 *
 *	0	changes of catalogue.db: 3 bytes where, 1 byte how many, so many bytes; ...
 *	1	a whole catalogue.db
 *	2	site.json, without its checksum, which is added; the catalogue is lost
 *	3	site.json byte for byte; the catalogue is lost
 *	4	changes as 0, of catalogue.db and of the message of the list
 *
 * Whatever the bytes: the catalogue opens, is rebuilt, or is refused with a code; no image is live
 * that no list signs, and none of a list whose endorser was unlinked (I4).  With 2 and 3 the
 * decisions themselves are foreign, so that only the lists bind.
 */
#include "config.h"

#include <dirent.h>

#include "core/catalogue.h"
#include "core/site.h"
#include "fuzz.h"
#include "fuzz_site.h"

static struct conf *conf;
static struct buf database = BUF_INIT, site = BUF_INIT, message = BUF_INIT;
static char *database_path, *site_path, *message_path;

const char *
fuzz_title(void)
{
	return "X19 a damaged catalogue or site.json is rebuilt or refused, and trusts nobody new";
}

/* ---- the state ------------------------------------------------------------------------------- */

static void
find_message(void)
{
	char hex[DIGEST_HEX + 1];
	struct digest d;

	fuzz_list_text(&message, LIST, "abc");
	digest_of(message.data, message.len, &d);
	digest_hex(&d, hex);
	message_path = xasprintf("%s/messages/%s.smime", conf->state_dir, hex);
	buf_clear(&message);
	fuzz_get(message_path, &message);
}

static void
setup(void)
{
	struct catalogue *c = NULL;
	struct err err = { 0 };

	if (conf != NULL)
		return;
	conf = fuzz_conf();
	fuzz_must(catalogue_open(&c, conf, CATALOGUE_CREATE, NULL, &err), &err);
	fuzz_furnish(c);
	catalogue_close(c);
	database_path = xasprintf("%s/catalogue.db", conf->state_dir);
	site_path = xasprintf("%s/site.json", conf->state_dir);
	fuzz_get(database_path, &database);
	fuzz_get(site_path, &site);
	find_message();
}

/*
 * All but the state's own files: what SQLite keeps beside its file, and what was kept as damaged.
 */
static void
sweep(void)
{
	DIR *dir = opendir(conf->state_dir);
	const struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL)
		if (strncmp(e->d_name, "catalogue.db", 12) == 0 ||
		    strncmp(e->d_name, "site.json", 9) == 0)
			unlinkat(dirfd(dir), e->d_name, 0);
	if (dir != NULL)
		closedir(dir);
}

static void
put_state(const struct buf *db, const struct buf *decisions, const struct buf *text)
{
	CLEANUP_FREE char *payload = xasprintf("%.*s.json", (int)strlen(message_path) - 6,
					       message_path);

	sweep();
	if (db != NULL)
		fuzz_put(database_path, db->data, db->len);
	fuzz_put(site_path, decisions->data, decisions->len);
	fuzz_put(message_path, text->data, text->len);
	fuzz_put(payload, message.data, message.len);
}

/* 3 bytes where, one how many, bytes. */
static void
change(struct buf *bytes, struct fuzz_input *in)
{
	while (in->len > 4) {
		size_t at = (size_t)fuzz_take_number(in, 3) % bytes->len;
		size_t n = fuzz_take_byte(in);

		for (; n > 0 && in->len > 0 && at < bytes->len; n--, at++)
			bytes->data[at] = (char)fuzz_take_byte(in);
	}
}

/* ---- what may be seen ------------------------------------------------------------------------ */

static int
check_image(void *arg, const struct image_row *r)
{
	const char *id = r->meta.value[FIELD_ID];
	struct digest d;

	FUZZ_CHECK(strlen(id) == 1 && strchr(arg, *id) != NULL);
	d = fuzz_content(*id);
	FUZZ_CHECK(digest_equal(&d, &r->meta.sha512) && r->meta.size == 1000 + *id);
	FUZZ_CHECK(strncmp(r->meta.value[FIELD_URI], "https://example.org/", 20) == 0);
	return 0;
}

static int
check_object(void *arg, const struct object_row *r)
{
	struct digest e = fuzz_content('e');

	(void)arg;
	FUZZ_CHECK(!digest_equal(&r->digest, &e) || r->access == ACCESS_DISTRUSTED);
	return 0;
}

/* Who reads it until now believes it; a row that cannot be read is an error, and no image. */
static void
open_and_look(bool own_decisions)
{
	static const struct catalogue_hooks hooks = { .verify = fuzz_verify };
	char images[8];
	struct catalogue *c = NULL;
	struct err err = { 0 };
	int rc = catalogue_open(&c, conf, CATALOGUE_CHECK, &hooks, &err);

	snprintf(images, sizeof(images), "%s", own_decisions ? "abc" : "abce");
	if (rc != 0) {
		FUZZ_CHECK(c == NULL && err.text[0] != '\0');
		FUZZ_CHECK(err.code != CODE_NONE || err.rc == -ENOENT);
		return;
	}
	catalogue_image_each(c, 0, true, check_image, images, &err);
	if (own_decisions)
		catalogue_object_each(c, check_object, NULL, &err);
	catalogue_close(c);
}

static void
check_database(struct fuzz_input *in, bool also_message)
{
	CLEANUP_BUF struct buf db = BUF_INIT, text = BUF_INIT;
	struct fuzz_input first = *in;

	buf_add(&db, database.data, database.len);
	buf_add(&text, message.data, message.len);
	if (also_message) {
		first.len = in->len / 2;
		in->data += first.len;
		in->len -= first.len;
		change(&text, in);
	}
	change(&db, &first);
	put_state(&db, &site, &text);
	open_and_look(true);
}

static void
add_checksum(struct buf *text)
{
	char hex[DIGEST_HEX + 1];
	struct digest d;

	digest_of(text->data, text->len, &d);
	digest_hex(&d, hex);
	buf_printf(text, "  \"sha512\": \"%s\"\n}\n", hex);
}

static void
check_site(struct fuzz_input *in, bool add_sum)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	buf_add(&text, in->data, in->len);
	if (add_sum)
		add_checksum(&text);
	put_state(NULL, &text, &message);
	open_and_look(false);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct buf whole = { NULL, 0, 0 };

	setup();
	switch (fuzz_take_byte(&in)) {
	case 1:
		buf_add(&whole, in.data, in.len);
		put_state(&whole, &site, &message);
		buf_release(&whole);
		open_and_look(true);
		break;
	case 2:
		check_site(&in, true);
		break;
	case 3:
		check_site(&in, false);
		break;
	case 4:
		check_database(&in, true);
		break;
	default:
		check_database(&in, false);
		break;
	}
	return 0;
}
