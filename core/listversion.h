/*
 * listversion.h - the order of hv:version strings, as vmcatcher's split_numeric_sort defines it.
 */
#ifndef VMI_LISTVERSION_H
#define VMI_LISTVERSION_H

/*
 * Less than, equal to or greater than 0 as a is older than, the same as or newer than b.
 * Strings that differ may be of one version (1.0 and 1.00).
 */
int listversion_compare(const char *a, const char *b);

#endif
