/*
 * fetcher_byhand.h - a fetcher that is run by hand: its options.
 */
#ifndef VMI_FETCHER_BYHAND_H
#define VMI_FETCHER_BYHAND_H

#include <stdbool.h>
#include "core/fetch.h"

struct byhand {
	struct fetch_request req;
	bool verbose;			/* tell on stderr what begins */
};

/* 0 to go on, 1 when all is said (help, version), -1 for a usage error, which is said too. */
int byhand_parse(struct byhand *b, int argc, char **argv);

#endif
