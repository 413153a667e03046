#include "config.h"
#include "importsource.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/fetch.h"
#include "core/vmcatcherdb.h"

static void
wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

static void
release_list(struct source_list *l)
{
	for (size_t i = 0; i < l->n_endorsers; i++)
		free(l->endorsers[i]);
	for (size_t i = 0; i < l->n_images; i++)
		free(l->images[i].identifier);
	free(l->endorsers);
	free(l->images);
	free(l->list_id);
	free(l->url);
	wipe(l->username);
	wipe(l->password);
	buf_release(&l->message);
}

void
source_release(struct source *s)
{
	for (size_t i = 0; i < s->n_credentials; i++) {
		free(s->credentials[i].endorser);
		free(s->credentials[i].subject);
		free(s->credentials[i].issuer);
	}
	for (size_t i = 0; i < s->n_lists; i++)
		release_list(&s->lists[i]);
	free(s->credentials);
	free(s->lists);
	s->credentials = NULL;
	s->lists = NULL;
	s->n_credentials = s->n_lists = 0;
}

static int
take_credential(void *arg, const struct vmcdb_credential *v, struct err *err)
{
	struct source *s = arg;

	(void)err;
	s->credentials = xrealloc(s->credentials, (s->n_credentials + 1) * sizeof(*s->credentials));
	s->credentials[s->n_credentials++] = (struct source_credential){
		.endorser = xstrdup(v->endorser),
		.subject = xstrdup(v->subject),
		.issuer = xstrdup(v->issuer),
	};
	return 0;
}

/* vmcatcher's own columns come before what the address holds. */
static void
take_credentials(struct source_list *l, const struct vmcdb_subscription *v)
{
	CLEANUP_FREE char *username = NULL, *password = NULL;

	if (fetch_split_url(v->uri, &l->url, &username, &password, &l->why) != 0)
		return;
	if (v->username != NULL || v->password != NULL) {
		l->username = xstrdup(v->username);
		l->password = xstrdup(v->password);
		return;
	}
	l->username = steal_ptr(&username);
	l->password = steal_ptr(&password);
}

static int
take_subscription(void *arg, const struct vmcdb_subscription *v, struct err *err)
{
	struct source *s = arg;
	struct source_list *l;

	(void)err;
	s->lists = xrealloc(s->lists, (s->n_lists + 1) * sizeof(*s->lists));
	l = &s->lists[s->n_lists++];
	*l = (struct source_list){
		.list_id = xstrdup(v->identifier),
		.authorised = v->authorised,
		.trust_anchor = v->trust_anchor,
		.update_mode = v->update_mode,
	};
	take_credentials(l, v);
	if (v->message != NULL)
		buf_add(&l->message, v->message, v->message_len);
	return 0;
}

static struct source_list *
find_list(const struct source *s, const char *list_id)
{
	for (size_t i = 0; i < s->n_lists; i++)
		if (strcmp(s->lists[i].list_id, list_id) == 0)
			return &s->lists[i];
	return NULL;
}

/* Rows of a subscription that was passed over are passed over with it. */
static int
take_link(void *arg, const struct vmcdb_link *v, struct err *err)
{
	struct source_list *l = find_list(arg, v->subscription);

	(void)err;
	if (l == NULL || !v->authorised)
		return 0;
	l->endorsers = xrealloc(l->endorsers, (l->n_endorsers + 1) * sizeof(*l->endorsers));
	l->endorsers[l->n_endorsers++] = xstrdup(v->endorser);
	return 0;
}

static int
take_image(void *arg, const struct vmcdb_image *v, struct err *err)
{
	struct source_list *l = find_list(arg, v->subscription);

	(void)err;
	if (l == NULL)
		return 0;
	l->images = xrealloc(l->images, (l->n_images + 1) * sizeof(*l->images));
	l->images[l->n_images++] = (struct source_image){
		.identifier = xstrdup(v->identifier), .selected = v->subscribed,
	};
	return 0;
}

static void
take_odd(void *arg, const char *text)
{
	const struct source *s = arg;

	s->odd(s->arg, text);
}

int
source_load(struct source *s, const char *path, struct err *err)
{
	const struct vmcdb_visitor visitor = {
		.credential = take_credential, .subscription = take_subscription,
		.link = take_link, .image = take_image, .odd = take_odd, .arg = s,
	};
	struct vmcatcherdb *db = NULL;
	int rc = vmcatcherdb_open(&db, path, err);

	if (rc == 0)
		rc = vmcatcherdb_visit(db, &visitor, err);
	vmcatcherdb_close(db);
	return rc;
}
