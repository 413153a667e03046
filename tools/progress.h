/*
 * progress.h - how far a transfer is: a bar on a terminal, a line every 10 % otherwise.
 *
 * Written to standard error, so that the output of a command stays what it is.
 */
#ifndef VMI_PROGRESS_H
#define VMI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *subject;	/* borrowed */
	bool silent, terminal;
	bool drawn;		/* a bar stands on the current line */
	int last_step;		/* tenths already told; -1 none */
	long long began, last_ms;
	int64_t first_bytes;	/* what was there at the beginning: not part of the speed */
};

/* silent: show nothing (-q, --json). */
void progress_begin(struct progress *p, const char *subject, bool silent);
void progress_update(struct progress *p, int64_t bytes, int64_t total);
void progress_end(struct progress *p);	/* leaves the terminal at the beginning of a line */

#endif
