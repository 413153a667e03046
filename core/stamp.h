/*
 * stamp.h - points in time as they are written in lists, names and output.
 *
 * Image lists write exactly YYYY-MM-DDTHH:MM:SSZ (UTC, years 1970 to 9999; the form that
 * vmcatcher's strptime accepts); no other form is accepted, no locale or TZ has any effect.
 */
#ifndef VMI_STAMP_H
#define VMI_STAMP_H

#include <stdbool.h>
#include <stdint.h>

enum { STAMP_BYTES = 21 };	/* with the NUL */

bool stamp_parse(const char *text, int64_t *seconds);		/* seconds since 1970, UTC */
void stamp_format(int64_t seconds, char out[STAMP_BYTES]);	/* 2026-11-21T10:00:00Z */
void stamp_format_name(int64_t seconds, char out[STAMP_BYTES]);	/* 2026-11-21_10-00-00 */
int64_t stamp_now(void);					/* CLOCK_REALTIME */

/*
 * "30s", "5m", "6h", "30d", or plain seconds; false for anything else, negative, or over 100 years.
 */
bool stamp_parse_span(const char *text, int64_t *seconds);

#endif
