/*
 * importimages.h - which images a subscription knows and has selected.
 */
#ifndef VMI_IMPORTIMAGES_H
#define VMI_IMPORTIMAGES_H

#include <stdbool.h>
#include <stdint.h>
#include "core/catalogue.h"
#include "core/err.h"
#include "import.h"
#include "importsource.h"

#define IMPORT_NOTE "vmcatcher "	/* begins the name of each note of an import */

/* Images here, in order of their identifiers, live or not. */
struct known_image {
	char *identifier;
	int64_t id;
	bool selected;
};
struct known_images {
	struct known_image *at;
	size_t n;
};

/* k holds nothing before; subscription 0: of all.  The caller known_release()s it in every case. */
int known_load(struct known_images *k, struct catalogue *c, int64_t subscription, struct err *err);
void known_release(struct known_images *k);
const struct known_image *known_find(const struct known_images *k, char *identifier);

/*
 * In a transaction: the images of the database become known, and selected, here as they are there,
 * unless an earlier import has said so already.  Counts them in result.
 */
int importimages(struct catalogue *c, int64_t subscription, const struct source_list *l,
		 struct import_list *result, bool *changed, struct err *err);

#endif
