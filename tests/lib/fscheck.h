/*
 * fscheck.h - what the files of fscheck share.
 */
#ifndef VMI_TESTS_FSCHECK_H
#define VMI_TESTS_FSCHECK_H

#include <stdbool.h>

/* Says what is wrong, in a line; from then on fscheck_has_failed(). */
void fscheck_wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool fscheck_has_failed(void);
long long fscheck_now_ms(void);		/* of the monotonic clock */

/* The commands that are in other files; args ends with NULL.  Each returns the exit status. */
int fscheck_same(char **args);
int fscheck_list(char **args);
int fscheck_places(char **args);
int fscheck_lists(char **args);

#endif
