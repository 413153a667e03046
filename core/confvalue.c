#include "config.h"
#include "confvalue.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "cleanup.h"
#include "limits.h"
#include "stamp.h"

static const struct unit {
	char letter;
	int64_t factor;
} span_units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } },
  size_units[] = { { 'T', 1LL << 40 }, { 'G', 1LL << 30 }, { 'M', 1LL << 20 }, { 'K', 1LL << 10 } };

/*
 * Digits from the start of text; *end is what follows them.  False without digits or above
 * INT64_MAX.
 */
static bool
parse_digits(const char *text, int64_t *value, const char **end)
{
	int64_t n = 0;
	const char *p;

	for (p = text; *p >= '0' && *p <= '9'; p++) {
		if (n > (INT64_MAX - (*p - '0')) / 10)
			return false;
		n = n * 10 + (*p - '0');
	}
	*value = n;
	*end = p;
	return p != text;
}

static bool
has_control_byte(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

int
confvalue_path(const char *text, char **out, struct err *err)
{
	struct buf path = BUF_INIT;
	const char *p = text;

	*out = NULL;
	if (text[0] != '/')
		return err_set(err, EINVAL, "'%s' is not an absolute path: begin it with '/'",
			       text);
	if (strlen(text) > CONFVALUE_PATH_MAX)
		return err_set(err, EINVAL, "the path is longer than %d bytes", CONFVALUE_PATH_MAX);
	if (has_control_byte(text))
		return err_set(err, EINVAL, "'%s' holds a control byte", text);
	while (*p != '\0') {
		size_t skip = strspn(p, "/"), len = strcspn(p + skip, "/");

		p += skip;
		if (len == 2 && memcmp(p, "..", 2) == 0) {
			buf_release(&path);
			return err_set(err, EINVAL, "'%s' holds '..': name the directory itself",
				       text);
		}
		if (len > 0 && !(len == 1 && *p == '.')) {
			buf_putc(&path, '/');
			buf_add(&path, p, len);
		}
		p += len;
	}
	/* No file could name it so: what surrounds a value does not count. */
	if (path.len > 0 && path.data[path.len - 1] == ' ') {
		buf_release(&path);
		return err_set(err, EINVAL, "'%s' names a directory that ends in a space", text);
	}
	if (path.len == 0)
		buf_putc(&path, '/');
	*out = buf_steal(&path, NULL);
	return 0;
}

int
confvalue_number(const char *text, int64_t min, int64_t max, int64_t *out, struct err *err)
{
	const char *end;

	if (!parse_digits(text, out, &end) || *end != '\0' || *out < min || *out > max)
		return err_set(err, EINVAL, "'%s' is not a number from %lld to %lld", text,
			       (long long)min, (long long)max);
	return 0;
}

int
confvalue_span(const char *text, int64_t min, int64_t max, int64_t *out, struct err *err)
{
	struct buf range = BUF_INIT;

	if (!stamp_parse_span(text, out))
		return err_set(err, EINVAL, "'%s' is not a span of time: write 30s, 5m, 6h or 30d",
			       text);
	if (*out < min || *out > max) {
		confvalue_add_span(&range, min);
		buf_puts(&range, " to ");
		confvalue_add_span(&range, max);
		err_set(err, EINVAL, "'%s' is out of range: %s", text, buf_str(&range));
		buf_release(&range);
		return -EINVAL;
	}
	return 0;
}

/* The largest unit that divides value without rest. */
static void
add_in_units(struct buf *out, int64_t value, const struct unit *units, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (value != 0 && value % units[i].factor == 0) {
			buf_printf(out, "%lld%c", (long long)(value / units[i].factor),
				   units[i].letter);
			return;
		}
	}
	buf_printf(out, "%lld", (long long)value);
}

void
confvalue_add_span(struct buf *out, int64_t seconds)
{
	if (seconds == 0)
		buf_puts(out, "0s");
	else
		add_in_units(out, seconds, span_units, sizeof(span_units) / sizeof(span_units[0]));
}

int
confvalue_size(const char *text, int64_t *out, struct err *err)
{
	const char *end;
	int64_t factor = 1;

	if (!parse_digits(text, out, &end))
		goto bad;
	for (size_t i = 0; i < sizeof(size_units) / sizeof(size_units[0]); i++)
		if (*end == size_units[i].letter)
			factor = size_units[i].factor;
	if (factor != 1)
		end++;
	if (*end != '\0' || *out <= 0 || *out > INT64_MAX / factor)
		goto bad;
	*out *= factor;
	return 0;
bad:
	return err_set(err, EINVAL, "'%s' is not a size: write bytes, or a number and K, M, G or T",
		       text);
}

void
confvalue_add_size(struct buf *out, int64_t bytes)
{
	add_in_units(out, bytes, size_units, sizeof(size_units) / sizeof(size_units[0]));
}

bool
confvalue_is_percent(const char *text)
{
	size_t len = strlen(text);

	return len > 0 && text[len - 1] == '%';
}

int
confvalue_percent(const char *text, int *out, struct err *err)
{
	const char *end;
	int64_t n;

	if (!parse_digits(text, &n, &end) || strcmp(end, "%") != 0 || n > 99)
		return err_set(err, EINVAL, "'%s' is not a percentage from 0%% to 99%%", text);
	*out = (int)n;
	return 0;
}

int
confvalue_choice(const char *text, const char *const *words, int *out, struct err *err)
{
	struct buf list = BUF_INIT;

	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			buf_release(&list);
			return 0;
		}
		if (i > 0)
			buf_puts(&list, words[i + 1] != NULL ? ", " : " or ");
		buf_puts(&list, words[i]);
	}
	err_set(err, EINVAL, "'%s' is not one of %s", text, buf_str(&list));
	buf_release(&list);
	return -EINVAL;
}

int
confvalue_account(const char *text, char **out, struct err *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-.";
	size_t len = strlen(text);

	*out = NULL;
	if (len == 0 || len > 64 || strspn(text, allowed) != len || text[0] == '-')
		return err_set(err, EINVAL, "'%s' is not the name of an account", text);
	*out = xstrdup(text);
	return 0;
}

int
confvalue_text(const char *text, char **out, struct err *err)
{
	*out = NULL;
	if (strlen(text) > CONFVALUE_TEXT_MAX)
		return err_set(err, EINVAL, "the text is longer than %d bytes", CONFVALUE_TEXT_MAX);
	if (has_control_byte(text))
		return err_set(err, EINVAL, "'%s' holds a control byte", text);
	*out = xstrdup(text);
	return 0;
}

int
confvalue_variables(const char *text, char **out, struct err *err)
{
	static const char white[] = " \t", digits[] = "0123456789";
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_";
	CLEANUP_FREE char *copy = xstrdup(text);

	*out = NULL;
	if (strlen(text) > CONFVALUE_TEXT_MAX)
		return err_set(err, EINVAL, "the text is longer than %d bytes", CONFVALUE_TEXT_MAX);
	for (char *p = copy; *p != '\0'; p++)
		if (*p == '\t')
			*p = ' ';
	if (has_control_byte(copy))
		return err_set(err, EINVAL, "'%s' holds a control byte", text);
	for (const char *p = text + strspn(text, white); *p != '\0'; p += strspn(p, white)) {
		size_t name = strspn(p, allowed), word = strcspn(p, white);

		if (name == 0 || strchr(digits, *p) != NULL || (name < word && p[name] != '='))
			return err_set(err, EINVAL, "'%.*s' is neither NAME nor NAME=VALUE",
				       (int)word, p);
		p += word;
	}
	*out = xstrdup(text);
	return 0;
}

int
confvalue_url(const char *text, char **out, struct err *err)
{
	const char *authority;

	*out = NULL;
	if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0 &&
	    strncmp(text, "file:///", 8) != 0)
		return err_set(err, EINVAL, "an address is written http://HOST/PATH, https:// or"
			       " file:///PATH");
	authority = strstr(text, "://") + 3;
	/* Without showing them. */
	if (memchr(authority, '@', strcspn(authority, "/?#")) != NULL)
		return err_set(err, EINVAL, "the address holds credentials, which it cannot have");
	if (strlen(text) > LIMIT_URI_BYTES || has_control_byte(text) ||
	    strpbrk(text, " \t") != NULL)
		return err_set(err, EINVAL, "the address holds a space or is longer than %d bytes",
			       LIMIT_URI_BYTES);
	*out = xstrdup(text);
	return 0;
}

int
confvalue_proxy(const char *text, char **out, struct err *err)
{
	*out = NULL;
	if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0 &&
	    strncmp(text, "socks5://", 9) != 0)
		return err_set(err, EINVAL,
			       "a proxy is written http://HOST:PORT, https:// or socks5://");
	if (strlen(text) > LIMIT_URI_BYTES || has_control_byte(text) ||
	    strpbrk(text, " \t") != NULL)
		return err_set(err, EINVAL,
			       "the proxy's URL holds a space or is longer than %d bytes",
			       LIMIT_URI_BYTES);
	*out = xstrdup(text);
	return 0;
}

void
confvalue_add_proxy(struct buf *out, const char *url)
{
	const char *host = strstr(url, "://") + 3, *at = strrchr(host, '@');

	if (at == NULL) {
		buf_puts(out, url);
		return;
	}
	buf_add(out, url, (size_t)(host - url));
	buf_puts(out, "***");
	buf_puts(out, at);
}
