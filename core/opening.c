#include "config.h"
#include "opening.h"

#include "cleanup.h"
#include "log.h"
#include "store.h"
#include "verify.h"

/* In the catalogue: the marker was made.  It survives a crash between the two steps. */
#define STORE_NOTE "store_made"

static int
count_subscription(void *arg, const struct subscription_row *row)
{
	(void)row;
	++*(int *)arg;
	return 0;
}

/* A catalogue that was rebuilt has no note, but its site has subscriptions. */
static int
make_store_once(struct catalogue *c, const struct conf *conf, struct err *err)
{
	CLEANUP_FREE char *made = NULL;
	int n = 0, rc;

	rc = catalogue_note_read(c, STORE_NOTE, &made, err);
	if (rc != 0 || made != NULL)
		return rc;
	rc = catalogue_subscription_each(c, count_subscription, &n, err);
	if (rc == 0 && n == 0)
		rc = store_init(conf, catalogue_store_id(c), false, err);
	if (rc == 0)
		rc = catalogue_note_set(c, STORE_NOTE, "yes", err);
	return rc;
}

static int
verify(void *arg, const void *message, size_t len, struct verdict *out, struct err *err)
{
	const struct opening *o = arg;

	return verify_message(o->starter, message, len, out, err);
}

static void
say(void *arg, const char *text)
{
	const struct opening *o = arg;

	if (o->say != NULL)
		o->say(o->arg, text);
	else
		log_warning("catalogue: %s", text);
}

int
opening_catalogue(struct catalogue **out, const struct opening *o, unsigned flags, struct err *err)
{
	struct opening copy = *o;
	const struct conf *conf = o->conf;
	/* Objects of a rebuilt catalogue are taken over by the engine, which hashes them. */
	struct catalogue_hooks hooks = {
		.verify = o->starter != NULL ? verify : NULL,
		.say = say,
		.arg = &copy,
	};
	int rc = catalogue_open(out, conf, flags, &hooks, err);

	if (rc == 0 && (flags & CATALOGUE_CREATE) != 0)
		rc = make_store_once(*out, conf, err);
	if (rc != 0) {
		catalogue_close(*out);
		*out = NULL;
	}
	return rc;
}
