/*
 * safename.c - strings from outside as file names in the mount.
 *
 * Titles and identifiers are chosen by whoever writes a list.  What a shell, ls or a path walk
 * could take for something else never reaches a directory: the alphabet is [A-Za-z0-9._+-], no
 * name begins with '.' (hidden, or the way up) or '-' (an option).  Identifiers that are safe
 * already are shown as they are; a mapped one ends in '~' and eight digits of its SHA-512.  As
 * '~' is not in the alphabet, a mapped identifier can never be taken for a safe one.
 */
#include "config.h"
#include "safename.h"

#include <stddef.h>
#include <string.h>

#include "digest.h"
#include "limits.h"

enum { SUFFIX_DIGITS = 8 };

_Static_assert(LIMIT_IDENTIFIER_BYTES + 1 + SUFFIX_DIGITS < SAFENAME_MAX + 32,
	       "a safe identifier with a suffix fits the callers' buffers");

static bool
is_safe_byte(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
		|| c == '.' || c == '_' || c == '+' || c == '-';
}

static bool
may_begin(char c)
{
	return is_safe_byte(c) && c != '.' && c != '-';
}

bool
safename_is_safe(const char *text)
{
	size_t len = strnlen(text, LIMIT_IDENTIFIER_BYTES + 1);

	if (len == 0 || len > LIMIT_IDENTIFIER_BYTES || !may_begin(text[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_safe_byte(text[i]))
			return false;
	return true;
}

void
safename_title(const char *title, char out[SAFENAME_MAX + 32])
{
	size_t len = 0;

	for (; *title != '\0' && len < LIMIT_NAME_BYTES; title++) {
		bool kept = len == 0 ? may_begin(*title) : is_safe_byte(*title);
		char c = kept ? *title : '_';

		if (c == '_' && len > 0 && out[len - 1] == '_')
			continue;
		out[len++] = c;
	}
	if (len == 0)
		out[len++] = '_';
	out[len] = '\0';
}

void
safename_disambiguate(char name[SAFENAME_MAX + 32], const char *identifier)
{
	size_t len = strnlen(name, LIMIT_IDENTIFIER_BYTES);
	struct digest d;
	char hex[DIGEST_HEX + 1];

	digest_of(identifier, strlen(identifier), &d);
	digest_hex(&d, hex);
	name[len] = '~';
	memcpy(name + len + 1, hex, SUFFIX_DIGITS);
	name[len + 1 + SUFFIX_DIGITS] = '\0';
}

void
safename_identifier(const char *identifier, char out[SAFENAME_MAX + 32])
{
	if (safename_is_safe(identifier)) {
		memcpy(out, identifier, strlen(identifier) + 1);
		return;
	}
	safename_title(identifier, out);
	safename_disambiguate(out, identifier);
}
