/*
 * jsonw.h - a small writer of JSON.
 *
 * Strings are written as UTF-8 with control characters (C0, DEL, C1) escaped, so that the text
 * can be shown on a terminal.
 */
#ifndef VMI_JSONW_H
#define VMI_JSONW_H

#include <stdbool.h>
#include <stdint.h>
#include "buf.h"

/*
 * Calls come in document order; commas, quoting and indentation are done here.  key is NULL
 * inside arrays and for the outermost value.  pretty: one member a line, two spaces; otherwise
 * one line without spaces.  No newline is written at the end.
 */
struct jsonw {
	struct buf *out;
	bool pretty;
	int depth;
	bool first;
};

void jsonw_begin(struct jsonw *w, struct buf *out, bool pretty);
void jsonw_open(struct jsonw *w, const char *key, char bracket);	/* '{' or '[' */
void jsonw_close(struct jsonw *w, char bracket);			/* '}' or ']' */
/* A value of NULL is written as null, each byte that is not UTF-8 as U+FFFD. */
void jsonw_string(struct jsonw *w, const char *key, const char *value);
void jsonw_integer(struct jsonw *w, const char *key, int64_t value);
void jsonw_boolean(struct jsonw *w, const char *key, bool value);
/* RFC 3339 UTC; 0 is written as null. */
void jsonw_stamp(struct jsonw *w, const char *key, int64_t seconds);
/* A value that is JSON already. */
void jsonw_raw(struct jsonw *w, const char *key, const char *json);

#endif
