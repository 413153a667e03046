/*
 * confvalue.h - how values are written in the configuration, and back.
 *
 * Pure functions of text.  The ones that read return 0 or -EINVAL with a sentence that quotes the
 * value and says what was expected; the ones that write append text that reads back as the same
 * value.
 */
#ifndef VMI_CONFVALUE_H
#define VMI_CONFVALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "err.h"

/* bytes; a path and a name of ours still fit PATH_MAX and fetch.h */
enum { CONFVALUE_PATH_MAX = 1000, CONFVALUE_TEXT_MAX = 4000 };

/* An absolute path without "..", double or trailing slashes taken out.  Caller frees *out. */
int confvalue_path(const char *text, char **out, struct err *err);

/* "4": decimal digits alone, within min and max. */
int confvalue_number(const char *text, int64_t min, int64_t max, int64_t *out, struct err *err);

/* "30s", "6h", "30d" or plain seconds, within min and max. */
int confvalue_span(const char *text, int64_t min, int64_t max, int64_t *out, struct err *err);
void confvalue_add_span(struct buf *out, int64_t seconds);

/* "100G": digits and one of K, M, G, T (powers of 1024), or plain bytes; more than 0. */
int confvalue_size(const char *text, int64_t *out, struct err *err);
void confvalue_add_size(struct buf *out, int64_t bytes);

/* "5%": 0 to 99. */
bool confvalue_is_percent(const char *text);
int confvalue_percent(const char *text, int *out, struct err *err);

/* One of words (NULL-terminated); *out is its index. */
int confvalue_choice(const char *text, const char *const *words, int *out, struct err *err);

/* A user's or group's name: letters, digits, '_', '-', '.', at most 64. */
int confvalue_account(const char *text, char **out, struct err *err);

/* Any text of one line, at most CONFVALUE_TEXT_MAX bytes. */
int confvalue_text(const char *text, char **out, struct err *err);

/* NAME and NAME=VALUE with white space between; names are those of variables. */
int confvalue_variables(const char *text, char **out, struct err *err);

/* An http, https or file URL without credentials. */
int confvalue_url(const char *text, char **out, struct err *err);

/* An http, https or socks5 proxy URL; its password is never written back. */
int confvalue_proxy(const char *text, char **out, struct err *err);
void confvalue_add_proxy(struct buf *out, const char *url);

#endif
