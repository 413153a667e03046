/*
 * importsource.h - all of a vmcatcher database that is taken over, in memory.
 */
#ifndef VMI_IMPORTSOURCE_H
#define VMI_IMPORTSOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include "core/buf.h"
#include "core/err.h"

struct source_credential {
	char *endorser, *subject, *issuer;
};

struct source_image {
	char *identifier;
	bool selected;
};

struct source_list {
	char *list_id;
	char *url;			/* without userinfo */
	char *username, *password;	/* NULL: none */
	bool authorised;
	int trust_anchor, update_mode;	/* as vmcatcherdb.h has them */
	struct buf message;		/* empty: none */
	char **endorsers;		/* linked */
	size_t n_endorsers;
	struct source_image *images;
	size_t n_images;
	struct err why;			/* rc not 0: it cannot be taken over */
};

struct source {
	struct source_credential *credentials;
	size_t n_credentials;
	struct source_list *lists;
	size_t n_lists;
	/* Told of what was passed over. */
	void (*odd)(void *arg, const char *text);
	void *arg;
};

/* odd and arg are set; the caller source_release()s it in every case. */
int source_load(struct source *s, const char *path, struct err *err);
void source_release(struct source *s);

#endif
