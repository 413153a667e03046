#include "config.h"
#include "hex.h"

static int
value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
hex_byte(const char *digits)
{
	int high = value(digits[0]);
	int low = high >= 0 ? value(digits[1]) : -1;

	return low >= 0 ? high * 16 + low : -1;
}
