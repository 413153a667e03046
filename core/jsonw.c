/*
 * jsonw.c - JSON out, in document order.
 *
 * The writer keeps no stack: whether a comma is due is known from the last call, and the caller
 * says which bracket it closes.  What it writes is always UTF-8 and safe to show on a terminal.
 */
#include "config.h"
#include "jsonw.h"

#include <inttypes.h>
#include <stddef.h>

#include "stamp.h"

/* Bytes of the UTF-8 sequence (RFC 3629 section 4) that the text begins with; 0 if it is none. */
static size_t
utf8_sequence(const unsigned char *s)
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

/* The character of a control sequence of one or two bytes (C0, DEL, C1); -1 for any other. */
static int
control_character(const unsigned char *s, size_t len)
{
	if (len == 1 && (s[0] < 0x20 || s[0] == 0x7F))
		return s[0];
	if (len == 2 && s[0] == 0xC2 && s[1] < 0xA0)
		return s[1];
	return -1;
}

/* The rest of \n, \t and their like, '\0' if the character has no such form. */
static char
short_escape(int c)
{
	switch (c) {
	case '"':
	case '\\':
		return (char)c;
	case '\n':
		return 'n';
	case '\t':
		return 't';
	case '\r':
		return 'r';
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	}
	return '\0';
}

/*
 * RFC 8259 wants the C0 controls, the quote and the backslash escaped.  DEL and the C1 controls
 * are escaped as well, since the text may be shown on a terminal.
 */
static void
add_quoted(struct buf *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	buf_putc(out, '"');
	while (*s != '\0') {
		size_t len = utf8_sequence(s);

		if (len == 0)
			buf_puts(out, "\xEF\xBF\xBD");
		else if (len == 1 && short_escape(*s) != '\0')
			buf_printf(out, "\\%c", short_escape(*s));
		else if (control_character(s, len) >= 0)
			buf_printf(out, "\\u%04x", (unsigned)control_character(s, len));
		else
			buf_add(out, s, len);
		s += len != 0 ? len : 1;
	}
	buf_putc(out, '"');
}

static void
new_line(struct jsonw *w)
{
	if (!w->pretty)
		return;
	buf_putc(w->out, '\n');
	for (int i = 0; i < w->depth; i++)
		buf_puts(w->out, "  ");
}

static void
begin_value(struct jsonw *w, const char *key)
{
	if (w->depth > 0) {
		if (!w->first)
			buf_putc(w->out, ',');
		new_line(w);
	}
	w->first = false;
	if (key == NULL)
		return;
	add_quoted(w->out, key);
	buf_puts(w->out, w->pretty ? ": " : ":");
}

void
jsonw_begin(struct jsonw *w, struct buf *out, bool pretty)
{
	*w = (struct jsonw){ .out = out, .pretty = pretty, .first = true };
}

void
jsonw_open(struct jsonw *w, const char *key, char bracket)
{
	begin_value(w, key);
	buf_putc(w->out, bracket);
	w->depth++;
	w->first = true;
}

void
jsonw_close(struct jsonw *w, char bracket)
{
	w->depth--;
	if (!w->first)
		new_line(w);
	buf_putc(w->out, bracket);
	w->first = false;
}

void
jsonw_string(struct jsonw *w, const char *key, const char *value)
{
	begin_value(w, key);
	if (value != NULL)
		add_quoted(w->out, value);
	else
		buf_puts(w->out, "null");
}

void
jsonw_integer(struct jsonw *w, const char *key, int64_t value)
{
	begin_value(w, key);
	buf_printf(w->out, "%" PRId64, value);
}

void
jsonw_boolean(struct jsonw *w, const char *key, bool value)
{
	jsonw_raw(w, key, value ? "true" : "false");
}

void
jsonw_stamp(struct jsonw *w, const char *key, int64_t seconds)
{
	char text[STAMP_BYTES];

	stamp_format(seconds, text);
	jsonw_string(w, key, seconds != 0 ? text : NULL);
}

void
jsonw_raw(struct jsonw *w, const char *key, const char *json)
{
	begin_value(w, key);
	buf_puts(w->out, json);
}
