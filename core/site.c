/*
 * site.c - site.json, written after each decision of an admin and read when the catalogue is lost.
 *
 *   {
 *     "schema": 1,
 *     "serial": 7,                       counts decisions; the catalogue holds the same number
 *     "store": "<uuid>",                 the marker in cache_dir says the same
 *     "endorsers": [ { "name", "allow_sha1", "any_purpose", "blocks_only",
 *                      "credentials": [ { "subject", "issuer" } ] } ],
 *     "subscriptions": [ { "list", "url", "username", "password", "select_new", "reset_version",
 *                          "message": "<sha512>" or null, "version", "created",
 *                          "endorsers": [ names ], "selected": [ identifiers ],
 *                          "new_images": "refuse", "trust_anchor": "browser" or "igtf",
 *                          "defined": [ identifiers ], "pinned": [ identifiers ] } ],
 *     "sha512": "<of every byte before this line>"
 *   }
 *
 * "defined" are images that an admin has spoken of without selecting them: accepted where new ones
 * are refused, deselected where new ones are selected.  Versions before left out the latter.
 *
 * The last four of a subscription are left out where nothing was decided, so that a file of a
 * version that did not know them is what would be written today.
 *
 * Order of a decision: commit, then site.json, then the command is acknowledged.  A crash between
 * the two leaves a smaller serial here; whoever opens the catalogue next writes the file anew.
 * Writers take a lock on messages/ and read a fresh snapshot under it, so that the last one to
 * write has seen everything.
 */
#include "config.h"
#include "site.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include "catalogue_impl.h"
#include "cleanup.h"
#include "io.h"
#include "json.h"
#include "limits.h"
#include "uuid.h"

static const char checksum_key[] = "  \"sha512\": \"";

/* ---- writing --------------------------------------------------------------------------------- */

static int
write_endorser(void *arg, const struct endorser_row *r)
{
	struct jsonw *w = arg;

	jsonw_open(w, NULL, '{');
	jsonw_string(w, "name", r->name);
	jsonw_boolean(w, "allow_sha1", r->allow_sha1);
	jsonw_boolean(w, "any_purpose", r->any_purpose);
	jsonw_boolean(w, "blocks_only", r->blocks_only);
	jsonw_open(w, "credentials", '[');
	for (size_t i = 0; i < r->n_credentials; i++) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, "subject", r->credentials[i].subject);
		jsonw_string(w, "issuer", r->credentials[i].issuer);
		jsonw_close(w, '}');
	}
	jsonw_close(w, ']');
	jsonw_close(w, '}');
	return 0;
}

struct site_writer {
	struct catalogue *c;
	bool before;			/* as versions before wrote it */
	struct jsonw w;
	struct err *err;
};

static int
write_names(struct site_writer *s, const char *key, enum sql_id sql, int64_t subscription)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, s->c, sql, ARGS(arg_int(subscription)), s->err);

	jsonw_open(&s->w, key, '[');
	while (rc == 0 && (rc = cat_query_next(&q, s->err)) > 0) {
		CLEANUP_FREE char *name = next_text(&q);

		jsonw_string(&s->w, NULL, name);
		rc = 0;
	}
	jsonw_close(&s->w, ']');
	return rc;
}

static int
write_names_if_any(struct site_writer *s, const char *key, enum sql_id sql, int64_t subscription)
{
	int64_t value;
	bool any = false;
	int rc = cat_int(s->c, sql, ARGS(arg_int(subscription)), &value, &any, s->err);

	return any ? write_names(s, key, sql, subscription) : rc;
}

static bool
is_zero(const struct digest *d)
{
	static const struct digest zero;

	return digest_equal(d, &zero);
}

static int
write_subscription(void *arg, const struct subscription_row *r)
{
	struct site_writer *s = arg;
	char hex[DIGEST_HEX + 1];
	int rc;

	digest_hex(&r->message, hex);
	jsonw_open(&s->w, NULL, '{');
	jsonw_string(&s->w, "list", r->list_id);
	jsonw_string(&s->w, "url", r->url);
	jsonw_string(&s->w, "username", r->username);
	jsonw_string(&s->w, "password", r->password);
	jsonw_string(&s->w, "select_new", r->select_new == SELECT_ALL ? "all" : "none");
	jsonw_boolean(&s->w, "reset_version", r->reset_version);
	jsonw_string(&s->w, "message", is_zero(&r->message) ? NULL : hex);
	jsonw_string(&s->w, "version", r->version);
	jsonw_integer(&s->w, "created", r->created);
	rc = write_names(s, "endorsers", SQL_LINK_ENDORSERS, r->id);
	if (rc == 0)
		rc = write_names(s, "selected", SQL_IMAGE_SELECTED_OF, r->id);
	if (r->refuse_new)
		jsonw_string(&s->w, "new_images", "refuse");
	if (r->trust_anchor != ANCHOR_NONE)
		jsonw_string(&s->w, "trust_anchor", anchor_words[r->trust_anchor]);
	if (rc == 0)
		rc = write_names_if_any(
			s, "defined", s->before ? SQL_IMAGE_DEFINED_BEFORE : SQL_IMAGE_DEFINED_OF,
			r->id);
	if (rc == 0)
		rc = write_names_if_any(s, "pinned", SQL_PIN_OF, r->id);
	jsonw_close(&s->w, '}');
	return rc;
}

static int
format(struct catalogue *c, bool before, struct buf *out, struct err *err)
{
	struct site_writer s = { .c = c, .before = before, .err = err };
	CLEANUP_FREE char *serial = NULL;
	char hex[DIGEST_HEX + 1];
	struct digest sum;
	int rc;

	rc = catalogue_note_read(c, "site_serial", &serial, err);
	if (rc != 0)
		return rc;
	jsonw_begin(&s.w, out, true);
	jsonw_open(&s.w, NULL, '{');
	jsonw_integer(&s.w, "schema", SITE_SCHEMA);
	jsonw_integer(&s.w, "serial", serial != NULL ? strtoll(serial, NULL, 10) : 0);
	jsonw_string(&s.w, "store", c->store_id);
	jsonw_open(&s.w, "endorsers", '[');
	rc = catalogue_endorser_each(c, write_endorser, &s.w, err);
	jsonw_close(&s.w, ']');
	jsonw_open(&s.w, "subscriptions", '[');
	if (rc == 0)
		rc = catalogue_subscription_each(c, write_subscription, &s, err);
	jsonw_close(&s.w, ']');
	buf_puts(out, ",\n");
	digest_of(out->data, out->len, &sum);
	digest_hex(&sum, hex);
	buf_printf(out, "%s%s\"\n}\n", checksum_key, hex);
	return rc;
}

int
site_format(struct catalogue *c, struct buf *out, struct err *err)
{
	return format(c, false, out, err);
}

int
site_format_before(struct catalogue *c, struct buf *out, struct err *err)
{
	return format(c, true, out, err);
}

static int
format_snapshot(struct catalogue *c, struct buf *out, struct err *err)
{
	int rc = cat_run(c, SQL_BEGIN_READ, ARGS(), err);

	if (rc != 0)
		return rc;
	rc = site_format(c, out, err);
	cat_undo(c);
	return rc;
}

int
site_write(struct catalogue *c, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int rc;

	while ((rc = flock(c->messages_dir, LOCK_EX)) != 0 && errno == EINTR)
		;
	if (rc != 0)
		return err_set(err, errno, "'%s/messages' cannot be locked", c->conf->state_dir);
	rc = format_snapshot(c, &text, err);
	if (rc == 0) {
		rc = io_replace_file(c->state_dir, "site.json", 0600, text.data, text.len);
		if (rc != 0)
			err_set(err, -rc,
				"the change is in the catalogue, but '%s/site.json' cannot be "
				"written",
				c->conf->state_dir);
	}
	flock(c->messages_dir, LOCK_UN);
	return rc;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool
checksum_holds(const struct buf *raw)
{
	const size_t tail = sizeof(checksum_key) - 1 + DIGEST_HEX + sizeof("\"\n}\n") - 1;
	struct digest sum, stated;
	char hex[DIGEST_HEX + 1];
	const char *last;

	if (raw->len < tail)
		return false;
	last = raw->data + raw->len - tail;
	if (memcmp(last, checksum_key, sizeof(checksum_key) - 1) != 0)
		return false;
	memcpy(hex, last + sizeof(checksum_key) - 1, DIGEST_HEX);
	hex[DIGEST_HEX] = '\0';
	digest_of(raw->data, raw->len - tail, &sum);
	return digest_parse(hex, &stated) && digest_equal(&sum, &stated);
}

static char *
member(const struct json *object, const char *key)
{
	return xstrdup(json_as_string(json_get(object, key)));
}

static bool
flag(const struct json *object, const char *key)
{
	bool value = false;

	return json_as_boolean(json_get(object, key), &value) && value;
}

static bool
read_strings(const struct json *array, struct site_strings *out)
{
	out->text = xcalloc(json_size(array) + 1, sizeof(*out->text));
	for (size_t i = 0; i < json_size(array); i++) {
		const char *text = json_as_string(json_at(array, i));

		if (text == NULL)
			return false;
		out->text[out->n++] = xstrdup(text);
	}
	return true;
}

static bool
read_endorser(const struct json *j, struct site_endorser *e)
{
	const struct json *list = json_get(j, "credentials");

	e->name = member(j, "name");
	e->allow_sha1 = flag(j, "allow_sha1");
	e->any_purpose = flag(j, "any_purpose");
	e->blocks_only = flag(j, "blocks_only");
	e->credentials = xcalloc(json_size(list) + 1, sizeof(*e->credentials));
	for (size_t i = 0; i < json_size(list); i++) {
		struct site_credential *k = &e->credentials[e->n_credentials++];

		k->subject = member(json_at(list, i), "subject");
		k->issuer = member(json_at(list, i), "issuer");
		if (k->subject == NULL || k->issuer == NULL)
			return false;
	}
	return e->name != NULL;
}

static bool
read_subscription(const struct json *j, struct site_subscription *s)
{
	const char *message = json_as_string(json_get(j, "message"));
	const char *select_new = json_as_string(json_get(j, "select_new"));
	const char *new_images = json_as_string(json_get(j, "new_images"));
	int anchor = cat_word(anchor_words, 3, json_as_string(json_get(j, "trust_anchor")));

	s->list_id = member(j, "list");
	s->url = member(j, "url");
	s->username = member(j, "username");
	s->password = member(j, "password");
	s->select_new =
		select_new != NULL && strcmp(select_new, "all") == 0 ? SELECT_ALL : SELECT_NONE;
	s->refuse_new = new_images != NULL && strcmp(new_images, "refuse") == 0;
	s->trust_anchor = anchor >= 0 ? (enum trust_anchor)anchor : ANCHOR_NONE;
	s->reset_version = flag(j, "reset_version");
	s->has_message = message != NULL;
	s->version = member(j, "version");
	if (message != NULL && !digest_parse(message, &s->message))
		return false;
	return json_as_integer(json_get(j, "created"), &s->created) &&
	       read_strings(json_get(j, "endorsers"), &s->endorsers) &&
	       read_strings(json_get(j, "selected"), &s->selected) &&
	       read_strings(json_get(j, "defined"), &s->defined) &&
	       read_strings(json_get(j, "pinned"), &s->pinned) &&
	       s->list_id != NULL && s->url != NULL && s->version != NULL;
}

static bool
read_site(const struct json *j, struct site *site)
{
	const struct json *endorsers = json_get(j, "endorsers");
	const struct json *subs = json_get(j, "subscriptions");
	int64_t schema = 0;

	site->store_id = member(j, "store");
	if (!json_as_integer(json_get(j, "schema"), &schema) || schema != SITE_SCHEMA ||
	    !json_as_integer(json_get(j, "serial"), &site->serial) || site->store_id == NULL ||
	    strlen(site->store_id) != UUID_TEXT - 1)
		return false;
	site->endorsers = xcalloc(json_size(endorsers) + 1, sizeof(*site->endorsers));
	for (size_t i = 0; i < json_size(endorsers); i++)
		if (!read_endorser(json_at(endorsers, i), &site->endorsers[site->n_endorsers++]))
			return false;
	site->subscriptions = xcalloc(json_size(subs) + 1, sizeof(*site->subscriptions));
	for (size_t i = 0; i < json_size(subs); i++)
		if (!read_subscription(json_at(subs, i),
				       &site->subscriptions[site->n_subscriptions++]))
			return false;
	return true;
}

int
site_read(int state_dir, struct site **out, struct buf *raw, struct err *err)
{
	CLEANUP_BUF struct buf own = BUF_INIT;
	struct buf *text = raw != NULL ? raw : &own;
	struct json *doc = NULL;
	struct site *site;
	int rc;

	*out = NULL;
	rc = io_read_file(state_dir, "site.json", LIMIT_SITE_BYTES, text);
	if (rc == -ENOENT)
		return err_set(err, ENOENT, "there is no site.json");
	if (rc < 0)
		return err_set(err, -rc, "site.json cannot be read");
	if (!checksum_holds(text))
		return err_refuse(err, CODE_CORRUPT,
				  "site.json is damaged: its checksum does not hold");
	if ((rc = json_parse_written(text->data, text->len, &doc, err)) != 0)
		return rc;
	site = xcalloc(1, sizeof(*site));
	if (read_site(doc, site))
		*out = site;
	else
		site_free(site);
	json_free(doc);
	if (*out == NULL)
		return err_refuse(err, CODE_CORRUPT,
				  "site.json is not in a form that this version knows");
	return 0;
}

static void
strings_free(struct site_strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->text[i]);
	free(s->text);
}

static void
endorser_free(struct site_endorser *e)
{
	for (size_t i = 0; i < e->n_credentials; i++) {
		free(e->credentials[i].subject);
		free(e->credentials[i].issuer);
	}
	free(e->credentials);
	free(e->name);
}

static void
subscription_free(struct site_subscription *s)
{
	free(s->list_id);
	free(s->url);
	free(s->username);
	free(s->password);
	free(s->version);
	strings_free(&s->endorsers);
	strings_free(&s->selected);
	strings_free(&s->defined);
	strings_free(&s->pinned);
}

void
site_free(struct site *site)
{
	if (site == NULL)
		return;
	for (size_t i = 0; i < site->n_endorsers; i++)
		endorser_free(&site->endorsers[i]);
	for (size_t i = 0; i < site->n_subscriptions; i++)
		subscription_free(&site->subscriptions[i]);
	free(site->endorsers);
	free(site->subscriptions);
	free(site->store_id);
	free(site);
}
