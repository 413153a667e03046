/*
 * safename.h - the one function by which a string from outside becomes a file name in the mount.
 *
 * A safe name consists of [A-Za-z0-9._+-], is 1 to 255 bytes long and does not begin with '.'.
 */
#ifndef VMI_SAFENAME_H
#define VMI_SAFENAME_H

#include <stdbool.h>

enum { SAFENAME_MAX = 112 };	/* LIMIT_NAME_BYTES, '~', 8 digits, NUL, room for "~NN" */

/*
 * True if the string may be shown as it is: a safe name of at most LIMIT_IDENTIFIER_BYTES that
 * does not begin with '-' either.
 */
bool safename_is_safe(const char *text);

/*
 * The name of an identifier: itself if it is safe, else its mapped form, '~' and the first 8 hex
 * digits of SHA-512(identifier).
 */
void safename_identifier(const char *identifier, char out[SAFENAME_MAX + 32]);

/*
 * The mapped form of a title: other bytes become '_', runs of '_' are squeezed, a leading '.' or
 * '-' becomes '_', at most LIMIT_NAME_BYTES; empty becomes "_".
 */
void safename_title(const char *title, char out[SAFENAME_MAX + 32]);

/* Appends '~' and the first 8 hex digits of SHA-512(identifier) to a name (a clash of titles). */
void safename_disambiguate(char name[SAFENAME_MAX + 32], const char *identifier);

#endif
