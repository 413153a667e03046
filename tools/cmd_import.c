/*
 * cmd_import.c - import-vmcatcher: what import.h did, told.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>

#include "import.h"

static const char *const outcomes[] = { "new", "known", "left", "refused" };

/* ---- for people ------------------------------------------------------------------------------ */

static void
tell_list(struct output *o, const struct import_list *l)
{
	switch (l->outcome) {
	case IMPORT_REFUSED:
		output_warn(o, "list '%s' is not taken over: %s", l->list_id, l->why.text);
		return;
	case IMPORT_LEFT:
		output_note(o, "list '%s' was imported before and has been removed here since: left"
			    " so", l->list_id);
		return;
	case IMPORT_NEW:
	case IMPORT_KNOWN:
		break;
	}
	output_note(o, "list '%s' (%s): %s, %d images known, %d selected%s", l->list_id, l->url,
		    l->outcome == IMPORT_NEW ? "subscribed" : "was subscribed", l->images,
		    l->selected, l->applied ? ", its list is accepted" : "");
	if (l->why.rc != 0)
		output_warn(o, "list '%s': the stored list is not accepted: %s (code %d); the next"
			    " update fetches it", l->list_id, l->why.text, (int)l->why.code);
	else if (!l->has_list)
		output_note(o, "list '%s': no list is stored; 'vmimagectl update' fetches it",
			    l->list_id);
}

static void
tell_file(struct output *o, const struct import_file *f)
{
	char size[OUTPUT_SIZE_BYTES];

	output_size(f->size, size);
	if (f->adopted)
		output_note(o, "image '%s': file adopted, %s", f->identifier, size);
	else if (f->known)
		output_note(o, "image '%s': is here already", f->identifier);
	else
		output_warn(o, "image '%s': file left where it is: %s", f->identifier, f->why.text);
}

static void
tell(struct output *o, const struct import_result *r, const char *path)
{
	for (size_t i = 0; i < r->n_odd; i++)
		output_warn(o, "%s", r->odd[i]);
	if (r->endorsers > 0 || r->credentials > 0 || r->links > 0)
		output_note(o, "%d endorsers, %d credentials, %d links", r->endorsers,
			    r->credentials, r->links);
	for (size_t i = 0; i < r->n_lists; i++)
		tell_list(o, &r->lists[i]);
	for (size_t i = 0; i < r->n_files; i++)
		tell_file(o, &r->files[i]);
	if (!r->changed)
		output_note(o, "nothing new in '%s': nothing was changed", path);
}

/* ---- for programs ---------------------------------------------------------------------------- */

static void
why_json(struct jsonw *w, const struct err *why)
{
	jsonw_integer(w, "code", (int64_t)why->code);
	jsonw_string(w, "error", why->text);
}

static void
tell_json(struct jsonw *w, const struct import_result *r)
{
	jsonw_boolean(w, "changed", r->changed);
	jsonw_integer(w, "endorsers", r->endorsers);
	jsonw_integer(w, "credentials", r->credentials);
	jsonw_integer(w, "links", r->links);
	jsonw_open(w, "subscriptions", '[');
	for (size_t i = 0; i < r->n_lists; i++) {
		const struct import_list *l = &r->lists[i];

		jsonw_open(w, NULL, '{');
		jsonw_string(w, "id", l->list_id);
		jsonw_string(w, "url", l->url);
		jsonw_string(w, "outcome", outcomes[l->outcome]);
		jsonw_boolean(w, "stored_list", l->has_list);
		jsonw_boolean(w, "accepted", l->applied);
		why_json(w, &l->why);
		jsonw_integer(w, "images", l->images);
		jsonw_integer(w, "selected", l->selected);
		jsonw_close(w, '}');
	}
	jsonw_close(w, ']');
	jsonw_open(w, "files", '[');
	for (size_t i = 0; i < r->n_files; i++) {
		const struct import_file *f = &r->files[i];

		jsonw_open(w, NULL, '{');
		jsonw_string(w, "id", f->identifier);
		jsonw_integer(w, "size", f->size);
		jsonw_string(w, "outcome", f->adopted ? "adopted" : f->known ? "known" : "left");
		why_json(w, &f->why);
		jsonw_close(w, '}');
	}
	jsonw_close(w, ']');
	jsonw_open(w, "passed_over", '[');
	for (size_t i = 0; i < r->n_odd; i++)
		jsonw_string(w, NULL, r->odd[i]);
	jsonw_close(w, ']');
}

/* What to do about a database that cannot be read is not what is to be done about our own. */
static int
fail(struct ctl *ctl, const struct err *err)
{
	if (err->code == CODE_CORRUPT && ctl->catalogue == NULL)
		return output_error(&ctl->out, err, "nothing was imported; give a good copy of it");
	return ctl_fail(ctl, err);
}

int
cmd_import_vmcatcher(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct import_result result;
	struct err err = { 0 };
	int rc;

	(void)n;
	rc = import_vmcatcher(ctl, args[0], opt->cache, &result, &err);
	if (rc == 0 && ctl->out.json)
		tell_json(output_json(&ctl->out), &result);
	else if (rc == 0 || result.n_lists > 0)
		tell(&ctl->out, &result, args[0]);
	/* With -q the single reasons are not told. */
	if (rc == 0 && result.refused && ctl->out.verbosity < 0)
		rc = err_set(&err, EIO,
			     "not all of '%s' was taken over: without -q it is said what was"
			     " not, and why", args[0]);
	if (rc != 0)
		rc = fail(ctl, &err);
	else
		rc = result.refused ? EXIT_SOME_FAILED : EXIT_DONE;
	import_result_release(&result);
	return rc;
}
