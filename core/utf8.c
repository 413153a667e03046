#include "config.h"
#include "utf8.h"

size_t
utf8_length(const unsigned char *s)
{
	unsigned char low = 0x80, high = 0xBF;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xC2 || s[0] > 0xF4)
		return 0;
	len = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	if (s[0] == 0xE0)
		low = 0xA0;
	else if (s[0] == 0xED)
		high = 0x9F;
	else if (s[0] == 0xF0)
		low = 0x90;
	else if (s[0] == 0xF4)
		high = 0x8F;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (s[i] < 0x80 || s[i] > 0xBF)
			return 0;
	return len;
}

int
utf8_control(const unsigned char *s, size_t len)
{
	if (len == 1 && (s[0] < 0x20 || s[0] == 0x7F))
		return s[0];
	if (len == 2 && s[0] == 0xC2 && s[1] < 0xA0)
		return s[1];
	return -1;
}

static bool
check(const char *text, bool plain)
{
	const unsigned char *s = (const unsigned char *)text;

	while (*s != '\0') {
		size_t len = utf8_length(s);

		if (len == 0 || (plain && utf8_control(s, len) >= 0))
			return false;
		s += len;
	}
	return true;
}

bool
utf8_is_valid(const char *text)
{
	return check(text, false);
}

bool
utf8_is_plain(const char *text)
{
	return check(text, true);
}
