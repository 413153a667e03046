/*
 * log.h - one line a fact, to syslog or stderr.
 *
 * Lines are escaped (no control bytes from outside) and cut at LIMIT_LOG_LINE bytes.  The same
 * line repeated is written once and counted.  Any thread.  Only the tops log: engine, commands,
 * the FUSE edge; everything below returns a struct err.
 */
#ifndef VMI_LOG_H
#define VMI_LOG_H

#include <stdbool.h>
#include "err.h"

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARNING, LOG_LVL_INFO, LOG_LVL_DEBUG };

void log_open(const char *program, bool to_syslog, enum log_level level);

/*
 * For a daemon: from now on a line that standard error does not take in 100 ms is given up, and
 * with the next that is taken it is said how many are missing.  syslog is never waited for any
 * longer.
 */
void log_never_wait(void);

/* After descriptors were closed, before a sandbox is entered: what log_open() had opened. */
void log_renew(void);

void log_set_level(enum log_level level);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Without any memory, for a process that is about to end; on standard error in any case. */
void log_last_words(const char *text);

/* "code 42: subject: sentence": the one line of a refusal (code left out where there is none). */
void log_err(enum log_level level, const char *subject, const struct err *err);

#endif
