/*
 * statustext.c - status, status.json, metrics, events and SHA512SUMS.
 *
 * The figures are the engine's (engine_status.c) and, after them, what only the mount knows.  Then
 * status has one line for everything that was refused or failed: nothing is skipped in silence.
 */
#include "config.h"
#include "fs/statustext.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/jsonw.h"
#include "fs/errand.h"
#include "core/sandboxstate.h"
#include "fs/text.h"

static void
each_figure(struct fs_context *fs, void (*fn)(void *arg, const struct engine_figure *f), void *arg)
{
	struct engine_figure parked = { "reads_parked", "Reads that wait for an image",
					FIGURE_NUMBER, 0 };
	struct engine_figure at_disk = { "reads_at_disk", "Requests that wait for the disk",
					 FIGURE_NUMBER, 0 };
	struct engine_figure open = { "files_open", "Open image files", FIGURE_NUMBER, 0 };
	struct engine_figure passed = { "passthrough_images",
					"Images that the kernel reads by itself", FIGURE_NUMBER,
					0 };
	struct engine_figure passing = { "passthrough_files_open", "Open files of these",
					 FIGURE_NUMBER, 0 };
	struct engine_figure restarts = { "worker_restarts",
					  "Workers that ended and were started again",
					  FIGURE_COUNTER, 0 };
	struct engine_status status;

	fs_status(fs, &status);
	engine_status_each(&status, fn, arg);
	if (fs->blobs != NULL) {
		parked.value = blobs_parked(fs->blobs);
		at_disk.value = blobs_at_disk(fs->blobs);
		open.value = blobs_open(fs->blobs);
	}
	if (fs->errands != NULL)
		at_disk.value += errands_count(fs->errands);
	fn(arg, &parked);
	fn(arg, &at_disk);
	fn(arg, &open);
	passthrough_count(fs->passthrough, &passed.value, &passing.value);
	fn(arg, &passed);
	fn(arg, &passing);
	if (fs->history != NULL) {
		pthread_mutex_lock(&fs->history->lock);
		restarts.value = fs->history->restarts;
		pthread_mutex_unlock(&fs->history->lock);
	}
	fn(arg, &restarts);
}

/* Why and when the last worker was started again; "" if none was. */
static void
add_last_end(struct fs_context *fs, struct buf *out)
{
	if (fs->history == NULL)
		return;
	pthread_mutex_lock(&fs->history->lock);
	buf_add_escaped(out, fs->history->last, strlen(fs->history->last));
	pthread_mutex_unlock(&fs->history->lock);
}

/* ---- what was refused or failed ------------------------------------------------------------- */

struct refusal {
	const char *kind;	/* subscription, refused, image */
	const char *list;	/* safe name of the subscription, NULL for images */
	const char *name;	/* of the image or the refused entry, NULL for a list */
	enum code code;
	const char *error;
};

typedef void (*refusal_fn)(void *arg, const struct refusal *r);

static void
refusals_of_sub(const struct tree_sub *sub, refusal_fn fn, void *arg)
{
	const char *error = sub->row.error != NULL ? sub->row.error : "";

	if (sub->row.code != CODE_NONE || error[0] != '\0')
		fn(arg, &(struct refusal){ "subscription", sub->row.name, NULL, sub->row.code,
					   error });
	for (size_t i = 0; i < sub->n_refused; i++)
		fn(arg, &(struct refusal){ "refused", sub->row.name, sub->refused[i]->name,
					   sub->refused[i]->code, sub->refused[i]->error });
}

static void
each_refusal(const struct tree *t, refusal_fn fn, void *arg)
{
	for (size_t i = 0; i < t->n_subs; i++)
		refusals_of_sub(t->subs[i], fn, arg);
	for (size_t i = 0; i < t->n_images; i++) {
		const struct image_row *row = &t->images[i].image->row;
		enum code code;
		const char *error = tree_image_error(t, i, &code);

		if (row->selected && error[0] != '\0')
			fn(arg, &(struct refusal){ "image", NULL, row->name, code, error });
	}
}

/*
 * What was withdrawn (distrusted, damaged, evicted) and is open in the kernel's own hands: it is
 * out of our reach until it is closed.
 */
struct held_out {
	refusal_fn fn;
	void *arg;
};

static void
on_held(void *arg, const struct digest *d, int64_t n_open)
{
	const struct held_out *out = arg;
	char hex[DIGEST_HEX + 1], error[128];

	digest_hex(d, hex);
	snprintf(error, sizeof(error), "withdrawn, and still open through passthrough: %" PRId64
		 " open file%s", n_open, n_open == 1 ? "" : "s");
	out->fn(out->arg, &(struct refusal){ "held", NULL, hex, CODE_NONE, error });
}

/* Of this host. */
static void
refusal_of_clock(struct fs_context *fs, refusal_fn fn, void *arg)
{
	struct engine_status status;

	fs_status(fs, &status);
	if (status.clock.rc != 0)
		fn(arg, &(struct refusal){ "clock", NULL, "host", status.clock.code,
					   status.clock.text });
}

static void
each_held(struct fs_context *fs, refusal_fn fn, void *arg)
{
	struct held_out out = { fn, arg };

	passthrough_each_held(fs->passthrough, on_held, &out);
}

/* ---- the files ------------------------------------------------------------------------------ */

static void
refusal_line(void *arg, const struct refusal *r)
{
	struct buf *out = arg;

	buf_printf(out, "%s.%s%s%s: ", r->kind, r->list != NULL ? r->list : "",
		   r->list != NULL && r->name != NULL ? "/" : "",
		   r->name != NULL ? r->name : "");
	if (r->code != CODE_NONE)
		buf_printf(out, "code %d: ", (int)r->code);
	buf_add_escaped(out, r->error, strlen(r->error));
	buf_putc(out, '\n');
}

static void
make_status(struct fs_context *fs, const struct tree *t, struct buf *out)
{
	buf_puts(out, "version: " PACKAGE_VERSION "\n");
	each_figure(fs, engine_figure_text, out);
	buf_puts(out, "worker_last_end: ");
	add_last_end(fs, out);
	buf_putc(out, '\n');
	if (fs->passthrough != NULL) {
		buf_puts(out, "passthrough: ");
		passthrough_describe(fs->passthrough, out);
		buf_putc(out, '\n');
	}
	sandbox_board_text(out);
	refusal_of_clock(fs, refusal_line, out);
	each_refusal(t, refusal_line, out);
	each_held(fs, refusal_line, out);
}

static void
refusal_object(void *arg, const struct refusal *r)
{
	struct jsonw *w = arg;

	jsonw_open(w, NULL, '{');
	jsonw_string(w, "kind", r->kind);
	if (r->list != NULL)
		jsonw_string(w, "subscription", r->list);
	if (r->name != NULL)
		jsonw_string(w, "name", r->name);
	jsonw_integer(w, "code", (int)r->code);
	jsonw_string(w, "error", r->error);
	jsonw_close(w, '}');
}

static void
make_status_json(struct fs_context *fs, const struct tree *t, struct buf *out)
{
	CLEANUP_BUF struct buf passthrough = BUF_INIT, last_end = BUF_INIT;
	struct jsonw w;

	jsonw_begin(&w, out, true);
	jsonw_open(&w, NULL, '{');
	jsonw_integer(&w, "schema", 1);
	jsonw_string(&w, "version", PACKAGE_VERSION);
	each_figure(fs, engine_figure_json, &w);
	add_last_end(fs, &last_end);
	jsonw_string(&w, "worker_last_end", buf_str(&last_end));
	if (fs->passthrough != NULL) {
		passthrough_describe(fs->passthrough, &passthrough);
		jsonw_string(&w, "passthrough", buf_str(&passthrough));
	}
	sandbox_board_json(&w);
	jsonw_open(&w, "refusals", '[');
	refusal_of_clock(fs, refusal_object, &w);
	each_refusal(t, refusal_object, &w);
	each_held(fs, refusal_object, &w);
	jsonw_close(&w, ']');
	jsonw_close(&w, '}');
	buf_putc(out, '\n');
}

static void
metric_head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP vmimagefs_%s %s\n# TYPE vmimagefs_%s %s\n", name, help, name,
		   type);
}

/* What Prometheus calls a figure: counters end in _total, stamps in _time_seconds. */
static void
metric(void *arg, const struct engine_figure *f)
{
	static const char *const suffix[] = {
		[FIGURE_NUMBER] = "", [FIGURE_COUNTER] = "_total",
		[FIGURE_STAMP] = "_time_seconds",
	};
	struct buf *out = arg;
	char name[128];

	snprintf(name, sizeof(name), "%s%s", f->name, suffix[f->form]);
	metric_head(out, name, f->form == FIGURE_COUNTER ? "counter" : "gauge", f->help);
	buf_printf(out, "vmimagefs_%s %" PRId64 "\n", name, f->value);
}

/* Names of subscriptions are safe names: nothing in them needs quoting in a label. */
static void
make_metrics(struct fs_context *fs, const struct tree *t, struct buf *out)
{
	metric_head(out, "info", "gauge", "The running version");
	buf_puts(out, "vmimagefs_info{version=\"" PACKAGE_VERSION "\"} 1\n");
	each_figure(fs, metric, out);
	metric_head(out, "subscription_ok", "gauge", "1 if the list is valid and its last refresh "
		    "succeeded");
	for (size_t i = 0; i < t->n_subs; i++)
		buf_printf(out, "vmimagefs_subscription_ok{subscription=\"%s\"} %d\n",
			   t->subs[i]->row.name, t->subs[i]->row.state == SUB_OK);
	metric_head(out, "subscription_updated_time_seconds", "gauge",
		    "When the list was last refreshed with success");
	for (size_t i = 0; i < t->n_subs; i++)
		buf_printf(out, "vmimagefs_subscription_updated_time_seconds"
			   "{subscription=\"%s\"} %" PRId64 "\n", t->subs[i]->row.name,
			   t->subs[i]->row.updated);
	metric_head(out, "subscription_expires_time_seconds", "gauge", "When the list expires");
	for (size_t i = 0; i < t->n_subs; i++)
		buf_printf(out, "vmimagefs_subscription_expires_time_seconds"
			   "{subscription=\"%s\"} %" PRId64 "\n", t->subs[i]->row.name,
			   t->subs[i]->row.expires);
}

static void
make_sums(const struct tree *t, struct buf *out)
{
	char hex[DIGEST_HEX + 1];

	for (size_t i = 0; i < t->n_images; i++) {
		if (!tree_image_is_cached(t, i))
			continue;
		digest_hex(&t->images[i].image->row.meta.sha512, hex);
		buf_printf(out, "%s  cache/%s\n", hex, t->images[i].image->row.name);
	}
}

void
statustext_make(struct fs_context *fs, const struct tree *t, unsigned field, struct buf *out)
{
	switch (field) {
	case ROOT_STATUS:
		make_status(fs, t, out);
		break;
	case ROOT_STATUS_JSON:
		make_status_json(fs, t, out);
		break;
	case ROOT_METRICS:
		make_metrics(fs, t, out);
		break;
	case ROOT_EVENTS:
		if (t->events != NULL)
			buf_add(out, t->events->data, t->events->len);
		break;
	case ROOT_SHA512SUMS:
		make_sums(t, out);
		break;
	default:
		break;
	}
}
