/*
 * utf8.h - foreign text, one character after the other (RFC 3629).
 */
#ifndef VMI_UTF8_H
#define VMI_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Bytes of the character that begins here, 1 for the NUL; 0: none does (overlong forms and
 * surrogates are none).
 */
size_t utf8_length(const unsigned char *s);

/* C0, DEL and C1, which a terminal obeys: the character of len bytes at s; -1 for any other. */
int utf8_control(const unsigned char *s, size_t len);

/* Whether all of text is UTF-8; and without control characters. */
bool utf8_is_valid(const char *text);
bool utf8_is_plain(const char *text);

#endif
