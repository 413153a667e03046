/*
 * cmd_lists.c - subscriptions: which lists are followed, and bringing them up to date.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/fetch.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/log.h"
#include "core/outbox.h"
#include "core/recheck.h"
#include "core/stamp.h"

/* ---- showing --------------------------------------------------------------------------------- */

static void
subscription_json(struct jsonw *w, const struct subscription_row *row)
{
	jsonw_open(w, NULL, '{');
	jsonw_string(w, "id", row->list_id);
	jsonw_string(w, "title", row->title);
	jsonw_string(w, "description", row->description);
	jsonw_string(w, "url", row->url);
	jsonw_string(w, "uri", row->uri);
	jsonw_string(w, "vo", row->vo);
	jsonw_string(w, "version", row->version);
	jsonw_stamp(w, "created", row->created);
	jsonw_stamp(w, "expires", row->expires);
	jsonw_stamp(w, "updated", row->updated);
	jsonw_stamp(w, "tried", row->tried);
	jsonw_string(w, "state", subscription_state_name(row->state));
	jsonw_integer(w, "code", (int64_t)row->code);
	jsonw_string(w, "error", row->error);
	jsonw_string(w, "endorser", row->endorser);
	jsonw_string(w, "select", row->select_new == SELECT_ALL ? "all" : "none");
	jsonw_boolean(w, "credentials", row->username != NULL);
	jsonw_close(w, '}');
}

static void
pair_stamp(struct output *o, const char *key, int64_t seconds)
{
	char text[STAMP_BYTES] = "";

	if (seconds > 0)
		stamp_format(seconds, text);
	output_pair(o, key, text);
}

static const char *
or_empty(const char *text)
{
	return text != NULL ? text : "";
}

static void
subscription_text(struct output *o, const struct subscription_row *row)
{
	output_pair(o, "id", row->list_id);
	output_pair(o, "title", or_empty(row->title));
	output_pair(o, "description", or_empty(row->description));
	output_pair(o, "url", row->url);
	output_pair(o, "uri", or_empty(row->uri));
	output_pair(o, "vo", or_empty(row->vo));
	output_pair(o, "version", or_empty(row->version));
	pair_stamp(o, "created", row->created);
	pair_stamp(o, "expires", row->expires);
	pair_stamp(o, "updated", row->updated);
	pair_stamp(o, "tried", row->tried);
	output_pair(o, "state", subscription_state_name(row->state));
	if (row->code != CODE_NONE)
		output_line(o, "error: code %d: %s", (int)row->code, or_empty(row->error));
	else
		output_pair(o, "error", or_empty(row->error));
	output_pair(o, "endorser", or_empty(row->endorser));
	output_pair(o, "select", row->select_new == SELECT_ALL ? "all" : "none");
	output_pair(o, "credentials", row->username != NULL ? "stored" : "none");
}

static int
list_one(void *arg, const struct subscription_row *row)
{
	struct ctl *ctl = arg;
	struct jsonw *w = output_json(&ctl->out);

	if (w != NULL)
		subscription_json(w, row);
	output_line(&ctl->out, "%s  %-10s  %s", row->list_id, subscription_state_name(row->state),
		    row->url);
	return output_drain(&ctl->out);
}

static void
show_row(struct ctl *ctl, const struct subscription_row *row)
{
	struct jsonw *w = output_json(&ctl->out);

	if (w == NULL) {
		subscription_text(&ctl->out, row);
		return;
	}
	jsonw_open(w, "subscriptions", '[');
	subscription_json(w, row);
	jsonw_close(w, ']');
}

int
cmd_subscriptions(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct subscription_row row = { 0 };
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	(void)opt;
	rc = ctl_open(ctl, 0, &err);
	if (rc == 0 && n == 1) {
		rc = catalogue_subscription_find(ctl->catalogue, args[0], &row, &err);
		if (rc == 0)
			show_row(ctl, &row);
		subscription_row_release(&row);
	} else if (rc == 0) {
		w = output_json(&ctl->out);
		if (w != NULL)
			jsonw_open(w, "subscriptions", '[');
		rc = catalogue_subscription_each(ctl->catalogue, list_one, ctl, &err);
		if (w != NULL)
			jsonw_close(w, ']');
	}
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

/* ---- subscribing ----------------------------------------------------------------------------- */

struct secret {
	char *username, *password;
};

static void
wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

static void
secret_release(struct secret *s)
{
	wipe(s->username);
	wipe(s->password);
}

/*
 * "user:password", or a token, which travels as AppDB wants it: the user name of a fixed password.
 */
static int
parse_secret(char *text, struct secret *s, struct err *err)
{
	char *colon;

	text[strcspn(text, "\r\n")] = '\0';
	if (*text == '\0')
		return err_set(err, EINVAL, "the credentials are empty");
	for (const char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return err_set(err, EINVAL, "the credentials hold control characters");
	colon = strchr(text, ':');
	s->username = colon != NULL ? xstrndup(text, (size_t)(colon - text)) : xstrdup(text);
	s->password = xstrdup(colon != NULL ? colon + 1 : "x-oauth-basic");
	return 0;
}

static int
read_secret(const char *file, struct secret *s, struct err *err)
{
	CLEANUP_FD int opened = -1;
	struct buf text = BUF_INIT;
	int fd = STDIN_FILENO, rc;

	if (strcmp(file, "-") != 0) {
		fd = opened = io_openat(AT_FDCWD, file, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
		if (fd < 0)
			return err_set(err, errno == ENOENT ? EINVAL : errno,
				       "cannot open credentials '%s': %s", file,
				       strerrordesc_np(errno));
	}
	buf_reserve(&text, 2 * FETCH_SECRET_MAX);	/* no copies are left behind by growing */
	rc = io_read_to_end(fd, 2 * FETCH_SECRET_MAX - 1, &text);
	if (rc != 0)
		err_set(err, -rc, "cannot read credentials '%s': %s", file, strerrordesc_np(-rc));
	else
		rc = text.len == 0 ? err_set(err, EINVAL, "credentials '%s' are empty", file)
				   : parse_secret(text.data, s, err);
	if (text.len > 0)
		explicit_bzero(text.data, text.len);
	buf_release(&text);
	return rc;
}

/* Splits the URL and reads the credentials: as the caller's user, before anything is given up. */
static int
take_wish(const struct options *opt, const char *arg, char **url, struct secret *secret,
	  struct err *err)
{
	int rc;

	rc = fetch_split_url(arg, url, &secret->username, &secret->password, err);
	if (rc != 0 || opt->credentials == NULL)
		return rc;
	if (secret->username != NULL)
		return err_set(err, EINVAL, "credentials are in the URL and in --credentials");
	return read_secret(opt->credentials, secret, err);
}

static int
take_select(struct ctl *ctl, const char *text, int *select_new)
{
	*select_new = ctl->conf->select_new;
	if (text == NULL)
		return EXIT_DONE;
	if (strcmp(text, "all") == 0)
		*select_new = SELECT_ALL;
	else if (strcmp(text, "none") == 0)
		*select_new = SELECT_NONE;
	else
		return ctl_usage(ctl, "subscribe", "--select is all or none, not '%s'", text);
	return EXIT_DONE;
}

static int
report_subscribed(struct ctl *ctl, int64_t id, const struct update_result *result, struct err *err)
{
	struct subscription_row row = { 0 };
	int rc;

	rc = catalogue_subscription_by_id(ctl->catalogue, id, &row, err);
	if (rc == 0 && ctl->out.json)
		show_row(ctl, &row);
	else if (rc == 0)
		output_note(&ctl->out, "subscribed to list '%s' (%s), version %s, endorser '%s': %d"
			    " images, %d refused", row.list_id, or_empty(row.title),
			    or_empty(row.version), or_empty(row.endorser), result->added,
			    result->refused);
	subscription_row_release(&row);
	return rc;
}

int
cmd_subscribe(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct secret secret = { 0 };
	CLEANUP_FREE char *url = NULL;
	struct refresh_wish wish = { .endorser = opt->endorser, .auto_endorse = opt->auto_endorse };
	struct update_result result;
	struct err err = { 0 };
	struct refresh r;
	int64_t id = 0;
	int rc, status;

	(void)n;
	status = take_select(ctl, opt->select, &wish.select_new);
	if (status != EXIT_DONE)
		return status;
	rc = take_wish(opt, args[0], &url, &secret, &err);
	if (rc == 0)
		rc = ctl_open(ctl, CTL_WRITE | CTL_STARTER, &err);
	if (rc == 0) {
		wish.url = url;
		wish.username = secret.username;
		wish.password = secret.password;
		ctl_refresh(ctl, false, &r);
		rc = refresh_subscribe(&r, &wish, &id, &result, &err);
	}
	secret_release(&secret);
	if (rc == 0) {
		ctl->poke = true;
		rc = report_subscribed(ctl, id, &result, &err);
	}
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

/* ---- unsubscribing --------------------------------------------------------------------------- */

static int
unsubscribe(struct ctl *ctl, void *arg, struct err *err)
{
	struct subscription_row *row = arg;

	return catalogue_subscription_remove(ctl->catalogue, row->id, stamp_now(), err);
}

int
cmd_unsubscribe(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct subscription_row row = { 0 };
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	(void)opt;
	(void)n;
	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP, &err);
	if (rc == 0)
		rc = catalogue_subscription_find(ctl->catalogue, args[0], &row, &err);
	if (rc == 0)
		rc = ctl_transaction(ctl, unsubscribe, &row, &err);
	if (rc == 0) {
		w = output_json(&ctl->out);
		if (w != NULL)
			jsonw_string(w, "removed", row.list_id);
		output_note(&ctl->out,
			    "unsubscribed from list '%s'; its images are in expired/ until"
			    " they are purged",
			    row.list_id);
	}
	subscription_row_release(&row);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

/* ---- updating -------------------------------------------------------------------------------- */

struct update {
	struct ctl *ctl;
	const struct options *opt;
	struct refresh refresh;
	struct { int64_t id; char *list_id; } *lists;
	size_t n_lists;
	int status;
};

static int
add_list(void *arg, const struct subscription_row *row)
{
	struct update *u = arg;

	u->lists = xrealloc(u->lists, (u->n_lists + 1) * sizeof(*u->lists));
	u->lists[u->n_lists].id = row->id;
	u->lists[u->n_lists++].list_id = xstrdup(row->list_id);
	return 0;
}

/* With --dry-run what would change is the output; otherwise these are warnings. */
static void
say(void *arg, const char *text)
{
	struct update *u = arg;
	struct output *o = &u->ctl->out;

	if (u->opt->dry_run && o->json)
		jsonw_string(output_json(o), NULL, text);
	else if (u->opt->dry_run)
		output_line(o, "%s", text);
	else
		output_warn(o, "%s", text);
	/* Nobody reads the standard error of an update that the daemon or cron has started. */
	if (!u->opt->dry_run && !u->ctl->conf->log_to_stderr)
		log_warning("%s", text);
}

static void
log_refusal(struct update *u, const char *list_id, const struct err *err)
{
	CLEANUP_FREE char *subject = xasprintf("list '%s'", list_id);

	/* On standard error it has been told already. */
	if (!u->ctl->conf->log_to_stderr && !u->opt->dry_run)
		log_err(LOG_LVL_WARNING, subject, err);
}

static void
result_json(struct jsonw *w, const struct update_result *result, int rc, const struct err *err)
{
	jsonw_string(w, "result", rc != 0 ? "refused" : result->same ? "same" : "updated");
	jsonw_integer(w, "added", result->added);
	jsonw_integer(w, "changed", result->changed);
	jsonw_integer(w, "removed", result->removed);
	jsonw_integer(w, "unchanged", result->unchanged);
	jsonw_integer(w, "refused", result->refused);
	jsonw_integer(w, "pending", result->pending);
	jsonw_integer(w, "code", (int64_t)err->code);
	jsonw_string(w, "error", err->text);
}

static void
result_text(struct update *u, const char *list_id, const struct update_result *result, int rc,
	    struct err *err)
{
	struct output *o = &u->ctl->out;

	if (rc != 0) {
		err_prefix(err, "list '%s'", list_id);
		ctl_fail(u->ctl, err);
	} else if (result->same) {
		output_note(o, "list '%s': nothing new", list_id);
	} else {
		output_note(o,
			    "list '%s': %d added, %d changed, %d removed, %d unchanged, %d refused,"
			    " %d to be fetched before they replace the old version",
			    list_id, result->added, result->changed, result->removed,
			    result->unchanged, result->refused, result->pending);
	}
}

/* The last refusal that the subscription shows.  Caller frees. */
static char *
shown_error(struct update *u, int64_t id)
{
	struct subscription_row row = { 0 };
	char *text = NULL;

	if (catalogue_subscription_by_id(u->ctl->catalogue, id, &row, NULL) == 0)
		text = xstrdup(row.error);
	subscription_row_release(&row);
	return text;
}

static void
update_one(struct update *u, int64_t id, const char *list_id)
{
	CLEANUP_FREE char *before = u->opt->news ? shown_error(u, id) : NULL;
	struct update_result result = { 0 };
	struct err err = { 0 };
	struct jsonw *w = output_json(&u->ctl->out);
	bool known = false;
	int rc = 0;

	if (w != NULL) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, "id", list_id);
		if (u->opt->dry_run)
			jsonw_open(w, "changes", '[');
	}
	if (u->opt->reset_version && !u->opt->dry_run) {
		rc = catalogue_subscription_reset_version(u->ctl->catalogue, id, &err);
		if (rc == 0)
			log_warning(
				"list '%s': any version will be accepted once (--reset-version)",
				list_id);
	}
	if (rc == 0)
		rc = refresh_subscription(&u->refresh, id, &result, &err);
	if (rc != 0) {
		u->status = ctl_last_failure(u->status, output_status(&err));
		known = before != NULL && strcmp(before, err.text) == 0;
		if (!known)
			log_refusal(u, list_id, &err);
	}
	if (w != NULL) {
		if (u->opt->dry_run)
			jsonw_close(w, ']');
		result_json(w, &result, rc, &err);
		jsonw_close(w, '}');
	} else if (!known) {
		result_text(u, list_id, &result, rc, &err);
	}
	u->ctl->poke = u->ctl->poke || (!u->opt->dry_run && !result.same);
}

static int
choose_lists(struct update *u, char **args, size_t n, struct err *err)
{
	if (n == 0)
		return catalogue_subscription_each_due(u->ctl->catalogue, stamp_now(), add_list, u,
						       err);
	for (size_t i = 0; i < n; i++) {
		struct subscription_row row = { 0 };
		struct err why = { 0 };

		/* A name that means nothing must not stop the others. */
		if (catalogue_subscription_find(u->ctl->catalogue, args[i], &row, &why) == 0)
			add_list(u, &row);
		else
			u->status =
				ctl_last_failure(u->status, output_error(&u->ctl->out, &why, NULL));
		subscription_row_release(&row);
	}
	return 0;
}

/* What time and the trust directory have done meanwhile; a site without a daemon has only this. */
static int
apply_time(struct ctl *ctl, struct err *err)
{
	struct refresh r;
	int expired = 0, changed = 0, rc;

	rc = catalogue_begin(ctl->catalogue, err);
	if (rc != 0)
		return rc;
	rc = catalogue_expire_by_date(ctl->catalogue, stamp_now(), &expired, err);
	if (rc == 0)
		rc = catalogue_commit(ctl->catalogue, err);
	else
		catalogue_rollback(ctl->catalogue);
	ctl_refresh(ctl, false, &r);
	if (rc == 0)
		rc = recheck_lists(&r, RECHECK_IF_CHANGED, &changed, err);
	ctl->poke = ctl->poke || expired > 0 || changed > 0;
	if (rc == 0)
		rc = catalogue_event_prune(ctl->catalogue, err);
	return rc == 0 ? catalogue_expired_prune(ctl->catalogue, err) : rc;
}

int
cmd_update(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct update u = { .ctl = ctl, .opt = opt };
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	if (opt->reset_version && n == 0)
		return ctl_usage(ctl, "update", "--reset-version needs the lists to be named");
	rc = ctl_open(ctl, CTL_CONFINED | CTL_STARTER | (opt->dry_run ? 0 : CTL_WRITE), &err);
	if (rc == 0)
		rc = choose_lists(&u, args, n, &err);
	if (rc != 0)
		return ctl_fail(ctl, &err);
	ctl_refresh(ctl, opt->dry_run, &u.refresh);
	u.refresh.any_version = opt->dry_run && opt->reset_version;
	u.refresh.say = say;
	u.refresh.arg = &u;
	u.refresh.news = opt->news;
	u.refresh.deadline = io_monotonic_ms() + LIMIT_REFRESH_SECONDS * 1000LL;

	w = output_json(&ctl->out);
	if (w != NULL)
		jsonw_open(w, "subscriptions", '[');
	for (size_t i = 0; i < u.n_lists; i++) {
		update_one(&u, u.lists[i].id, u.lists[i].list_id);
		free(u.lists[i].list_id);
	}
	free(u.lists);
	if (w != NULL)
		jsonw_close(w, ']');
	if (n == 0 && !opt->dry_run && apply_time(ctl, &err) != 0)
		u.status = ctl_last_failure(u.status, ctl_fail(ctl, &err));
	if (!opt->dry_run && ctl_sweep_messages(ctl, &err) != 0)
		u.status = ctl_last_failure(u.status, ctl_fail(ctl, &err));
	return u.status;
}
