/*
 * err.h - one error: what went wrong, said once, where it was found.
 *
 * Functions that can fail take a struct err * as their last parameter and return 0 or a negative
 * errno value.  The function that detects the fault writes the sentence; callers pass it on
 * unchanged, or put the subject in front with err_prefix().  A NULL err is allowed everywhere.
 */
#ifndef VMI_ERR_H
#define VMI_ERR_H

#include "code.h"

enum { ERR_TEXT_MAX = 1024 };

struct err {
	int rc;			/* negative errno value; 0: no error */
	enum code code;		/* refusal code, CODE_NONE where none applies */
	char text[ERR_TEXT_MAX];/* a sentence: lower case, no full stop, one line */
};

/* Writes the sentence and returns -errnum.  errnum is positive.  Control bytes are escaped. */
int err_set(struct err *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As err_set(), with a refusal code; the errno value is code_errno(code). */
int err_refuse(struct err *err, enum code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts a subject and ": " in front of the sentence.  Returns err->rc, or rc 0 if err is NULL. */
int err_prefix(struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

void err_clear(struct err *err);

#endif
