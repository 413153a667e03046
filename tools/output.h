/*
 * output.h - what vmimagectl says: lines for people, one JSON object for programs.
 *
 * Standard output is collected and written in pieces; the first write that fails is remembered and
 * becomes the exit status, after whatever the command changed has been committed.  Between rows
 * nobody waits for a reader, who may be a pager: while a walk over rows stands still the log of the
 * catalogue cannot end and grows with every change.  Foreign text is shown with control bytes and
 * invalid UTF-8 escaped.
 */
#ifndef VMI_OUTPUT_H
#define VMI_OUTPUT_H

#include <stdbool.h>
#include "core/buf.h"
#include "core/err.h"
#include "core/jsonw.h"

struct output {
	bool json;
	int verbosity;		/* -1 quiet, 0, 1 verbose */
	const char *lead;	/* what lines on standard error begin with; NULL: "vmimagectl: " */
	struct buf text;	/* not yet written */
	size_t held;		/* of it: what nobody was ready to take at the last look */
	struct jsonw writer;
	bool json_open;		/* the one object has begun */
	int write_error;	/* positive errno value of the first failed write */
};

void output_init(struct output *o);

/* A line on standard output; nothing with --json. */
void output_line(struct output *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line unless -q or --json: "done" messages. */
void output_note(struct output *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "key: value" with a foreign value; nothing with --json. */
void output_pair(struct output *o, const char *key, const char *value);

/* The JSON writer inside the one object ("schema" is written first), or NULL without --json. */
struct jsonw *output_json(struct output *o);

/*
 * Writes out what has been collected if it is much, as far as it is taken at once (between rows),
 * or all of it (before waiting).  The first is 0, or the negative errno value of a write that
 * failed: what is only shown, nobody sees any more, and the walk over the rows ends with it
 * (ctl_fail() knows).
 */
int output_drain(struct output *o);
void output_flush(struct output *o);

/*
 * The same for text that another collects: what is written leaves it.  *held, 0 at first, is what
 * stayed; it has to double before the next look, so that a slow reader costs little.
 */
int output_offer(struct buf *text, size_t *held);

/* Closes the object and writes everything: 0 or a negative errno value. */
int output_end(struct output *o);

/* Appends foreign text: UTF-8 as it is, control bytes and anything else as \xNN. */
void output_add_foreign(struct buf *b, const char *text);

/* Whether all of text is valid UTF-8. */
bool output_is_utf8(const char *text);

/* A warning on standard error, also with --json, not with -q. */
void output_warn(const struct output *o, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Tells an error: on standard error its sentence and what to do about it (the hint may be NULL:
 * then one is found by code); with --json, if nothing has been written yet, as the error object
 * instead. Returns the exit status.
 */
int output_error(struct output *o, const struct err *err, const char *hint);

/* The exit status of an error, by its refusal code, else by its errno value. */
int output_status(const struct err *err);

/* "1.5 GiB"; for people only. */
enum { OUTPUT_SIZE_BYTES = 32 };
void output_size(int64_t bytes, char out[OUTPUT_SIZE_BYTES]);

#endif
