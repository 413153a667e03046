/*
 * tarindex.c - the members of a tar, from its headers alone.
 *
 * An archive is a sequence of blocks of 512 bytes: a header, then the member's bytes, padded to
 * whole blocks; two blocks of zeros are the end.  A header (POSIX.1-1988; numbers are octal text):
 *
 *   0     100   108  116  124   136    148  156   157       257    263      265    345     500
 *   name  mode  uid  gid  size  mtime  sum  type  linkname  magic  version  users  prefix
 *
 *   magic, version  "ustar\0" "00": name is prefix/name, if there is a prefix
 *                   "ustar  \0": GNU; no prefix
 *                   zeros: before POSIX; no prefix, a directory is a file whose name ends in '/'
 *   size            11 or 12 octal digits, or (GNU) 0x80 and eleven bytes, the highest first
 *   type            '0' or 0: a file; '5': a directory; 'x', 'g': a pax header, whose bytes are
 *                   records "length key=value\n" about the next member, or all that follow
 *
 * An archive that ends where a header would begin is taken as it is: some writers leave the zeros
 * out, and nothing can be hidden by that.  What comes after the zeros is nobody's business.
 */
#include "config.h"
#include "tarindex.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"
#include "safename.h"

enum {
	NAME_OFF = 0, NAME_LEN = 100,
	SIZE_OFF = 124, SIZE_LEN = 12,
	SUM_OFF = 148, SUM_LEN = 8,
	TYPE_OFF = 156,
	MAGIC_OFF = 257, MAGIC_LEN = 8,
	PREFIX_OFF = 345, PREFIX_LEN = 155,
	FULL_NAME_BYTES = PREFIX_LEN + 1 + NAME_LEN + 1,
};

void
tarindex_init(struct tarindex *t, int64_t archive_size)
{
	memset(t, 0, sizeof(*t));
	t->archive = archive_size;
	t->next = archive_size < TAR_BLOCK ? -1 : 0;
}

void
tarindex_release(struct tarindex *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->members[i].name);
	free(t->members);
	buf_release(&t->pax);
	memset(t, 0, sizeof(*t));
	t->next = -1;
}

int64_t
tarindex_next(const struct tarindex *t)
{
	return t->next;
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* Digits, with spaces before them and a space, a NUL or the field's end after them. */
static bool
parse_octal(const unsigned char *field, size_t len, int64_t *out)
{
	size_t i = 0;

	*out = 0;
	while (i < len && field[i] == ' ')
		i++;
	if (i == len || field[i] < '0' || field[i] > '7')
		return false;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		*out = *out * 8 + (field[i] - '0');
	return i == len || field[i] == ' ' || field[i] == '\0';
}

/* Negative ones, and those of more than 63 bits, are no sizes. */
static bool
parse_base256(const unsigned char *field, size_t len, int64_t *out)
{
	uint64_t value = 0;

	for (size_t i = 1; i < len; i++) {
		if (value >> 55 != 0)
			return false;
		value = value << 8 | field[i];
	}
	*out = (int64_t)value;
	return field[0] == 0x80;
}

static bool
parse_size(const unsigned char block[TAR_BLOCK], int64_t *out)
{
	const unsigned char *field = block + SIZE_OFF;

	return (field[0] & 0x80) != 0 ? parse_base256(field, SIZE_LEN, out) :
					parse_octal(field, SIZE_LEN, out);
}

static bool
is_zero(const unsigned char block[TAR_BLOCK])
{
	for (size_t i = 0; i < TAR_BLOCK; i++)
		if (block[i] != 0)
			return false;
	return true;
}

/* Of all bytes, with spaces in the place of the sum itself. */
static bool
sum_is_right(const unsigned char block[TAR_BLOCK])
{
	int64_t said, sum = 0;

	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= SUM_OFF && i < SUM_OFF + SUM_LEN ? ' ' : block[i];
	return parse_octal(block + SUM_OFF, SUM_LEN, &said) && said == sum;
}

/* ---- names ---------------------------------------------------------------------------------- */

static bool
has_parent_component(const char *name)
{
	for (const char *p = name; p != NULL; p = strchr(p, '/')) {
		p += *p == '/';
		if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0'))
			return true;
	}
	return false;
}

/* `tar -c .' puts "./" before every name. */
static const char *
without_dot(const char *name)
{
	while (name[0] == '.' && name[1] == '/') {
		name += 2;
		while (*name == '/')
			name++;
	}
	return name;
}

static int
check_name(const char *name, struct err *err)
{
	if (name[0] == '/')
		return err_set(err, EPROTO, "the archive has a member with an absolute name, '%s'",
			       name);
	if (has_parent_component(name))
		return err_set(err, EPROTO, "the archive has a member with '..' in its name, '%s'",
			       name);
	return 0;
}

/* Of a file: one component. */
static int
check_file_name(const char *name, struct err *err)
{
	if (name[0] == '\0' || strcmp(name, ".") == 0)
		return err_set(err, EPROTO, "the archive has a member without a name");
	if (strchr(name, '/') != NULL)
		return err_set(err, EPROTO, "member '%s' of the archive lies in a directory", name);
	return 0;
}

/* ---- members -------------------------------------------------------------------------------- */

/* On to what follows the size bytes behind this header. */
static int
advance(struct tarindex *t, const char *name, int64_t size, struct err *err)
{
	int64_t data = t->next + TAR_BLOCK;

	if (size > t->archive - data)
		return err_set(err, EPROTO, "member '%s' of the archive, %lld bytes at %lld, ends "
			       "beyond the archive's %lld bytes", name, (long long)size,
			       (long long)data, (long long)t->archive);
	/* LIMIT_IMAGE_BYTES is far below where this could overflow. */
	t->next = data + (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
	if (t->next > t->archive - TAR_BLOCK)
		t->next = -1;
	return 0;
}

static int
add_file(struct tarindex *t, const char *name, int64_t size, struct err *err)
{
	int64_t data = t->next + TAR_BLOCK;
	int rc;

	name = without_dot(name);
	rc = check_file_name(name, err);
	if (rc == 0)
		rc = advance(t, name, size, err);
	if (rc != 0)
		return rc;
	if (t->n == LIMIT_TAR_MEMBERS)
		return err_set(err, EPROTO, "the archive has more than %d members",
			       LIMIT_TAR_MEMBERS);
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->members[i].name, name) == 0)
			return err_set(err, EPROTO, "the archive has two members '%s'", name);
	t->members = xrealloc(t->members, (t->n + 1) * sizeof(*t->members));
	t->members[t->n++] = (struct tar_member){ xstrdup(name), data, size };
	return 0;
}

static int
pass_directory(struct tarindex *t, const char *name, int64_t size, struct err *err)
{
	if (size != 0)
		return err_set(err, EPROTO, "directory '%s' of the archive has a size", name);
	return advance(t, name, 0, err);
}

static const char *
type_name(unsigned char type)
{
	switch (type) {
	case '1':
		return "a hard link";
	case '2':
		return "a symbolic link";
	case '3': case '4':
		return "a device";
	case '6':
		return "a fifo";
	case '7':
		return "a contiguous file";
	case 'S':
		return "a sparse file";
	case 'L': case 'K':
		return "a header for a long name";
	default:
		return "of a type that is not read here";
	}
}

/* ---- pax headers ---------------------------------------------------------------------------- */

/* What would have the member read in another way than its own header says. */
static bool
key_is_refused(const char *key, size_t len)
{
	static const char *const whole[] = {
		"path", "linkpath", "size", "GNU.dumpdir", "SCHILY.realsize", "SCHILY.filetype",
		"SUN.holesdata",
	};
	static const char sparse[] = "GNU.sparse.";

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		if (len == strlen(whole[i]) && memcmp(key, whole[i], len) == 0)
			return true;
	return len >= strlen(sparse) && memcmp(key, sparse, strlen(sparse)) == 0;
}

/* "length key=value\n" at p, of at most left bytes: its length, or 0 if it is none. */
static size_t
record_at(const char *p, size_t left, const char **key, size_t *key_len)
{
	size_t len = 0, i = 0;
	const char *equals;

	while (i < left && i < 6 && p[i] >= '0' && p[i] <= '9')
		len = len * 10 + (size_t)(p[i++] - '0');
	if (i == 0 || i == left || p[i] != ' ' || len > left || len < i + 4 || p[len - 1] != '\n')
		return 0;
	*key = p + i + 1;
	equals = memchr(*key, '=', len - i - 2);
	if (equals == NULL || equals == *key)
		return 0;
	*key_len = (size_t)(equals - *key);
	return len;
}

static int
check_pax(const struct buf *pax, struct err *err)
{
	const char *key;
	size_t len, key_len;

	for (size_t at = 0; at < pax->len; at += len) {
		len = record_at(pax->data + at, pax->len - at, &key, &key_len);
		if (len == 0)
			return err_set(err, EPROTO, "a pax header of the archive is malformed");
		if (key_is_refused(key, key_len))
			return err_set(err, EPROTO, "a pax header of the archive changes '%.*s' of "
				       "a member", (int)key_len, key);
	}
	return 0;
}

static int
begin_pax(struct tarindex *t, int64_t size, struct err *err)
{
	int64_t data = t->next + TAR_BLOCK;

	if (size > t->archive - data)
		return err_set(err, EPROTO, "a pax header ends beyond the archive");
	t->pax_left = size;
	/* Its blocks are read like headers: it may end where the archive does, within a block. */
	t->next = data > t->archive - TAR_BLOCK ? -1 : data;
	buf_clear(&t->pax);
	return 0;
}

static int
take_pax(struct tarindex *t, const unsigned char block[TAR_BLOCK], struct err *err)
{
	size_t n = t->pax_left < TAR_BLOCK ? (size_t)t->pax_left : TAR_BLOCK;

	buf_add(&t->pax, block, n);
	t->pax_left -= (int64_t)n;
	t->next += TAR_BLOCK;
	if (t->next > t->archive - TAR_BLOCK)
		t->next = -1;
	return t->pax_left > 0 ? 0 : check_pax(&t->pax, err);
}

/* ---- headers -------------------------------------------------------------------------------- */

/* Fields that are full have no NUL at their end. */
static void
full_name(const unsigned char block[TAR_BLOCK], char out[FULL_NAME_BYTES])
{
	size_t len = 0;

	if (memcmp(block + MAGIC_OFF, "ustar\0", 6) == 0 && block[PREFIX_OFF] != '\0') {
		len = strnlen((const char *)block + PREFIX_OFF, PREFIX_LEN);
		memcpy(out, block + PREFIX_OFF, len);
		out[len++] = '/';
	}
	memcpy(out + len, block + NAME_OFF, NAME_LEN);
	out[len + NAME_LEN] = '\0';
}

static int
check_header(const struct tarindex *t, const unsigned char block[TAR_BLOCK], int64_t *size,
	     struct err *err)
{
	const unsigned char *magic = block + MAGIC_OFF;
	long long off = (long long)t->next;

	if (!sum_is_right(block) ||
	    (memcmp(magic, "ustar\00000", MAGIC_LEN) != 0 &&
	     memcmp(magic, "ustar  \0", MAGIC_LEN) != 0 &&
	     memcmp(magic, "\0\0\0\0\0\0\0\0", MAGIC_LEN) != 0))
		return err_set(err, EPROTO, "the archive has no tar header at %lld", off);
	if (!parse_size(block, size))
		return err_set(err, EPROTO, "the tar header at %lld has no valid size", off);
	if (t->n_zero > 0)
		return err_set(err, EPROTO, "a tar header follows the end of the archive, at %lld",
			       off);
	return 0;
}

static int
take_header(struct tarindex *t, const unsigned char block[TAR_BLOCK], struct err *err)
{
	unsigned char type = block[TYPE_OFF];
	char name[FULL_NAME_BYTES];
	size_t len;
	int64_t size;
	int rc;

	rc = check_header(t, block, &size, err);
	if (rc != 0)
		return rc;
	if (type == 'x' || type == 'g')
		return size > 0 ? begin_pax(t, size, err) : advance(t, "pax", 0, err);
	full_name(block, name);
	rc = check_name(name, err);
	if (rc != 0)
		return rc;
	len = strlen(name);
	if (type == '5' || ((type == '0' || type == '\0') && len > 0 && name[len - 1] == '/'))
		return pass_directory(t, name, size, err);
	if (type == '0' || type == '\0')
		return add_file(t, name, size, err);
	return err_set(err, EPROTO, "member '%s' of the archive is %s", name, type_name(type));
}

static int
take_zeros(struct tarindex *t)
{
	t->n_zero++;
	t->next += TAR_BLOCK;
	if (t->n_zero == 2 || t->next > t->archive - TAR_BLOCK)
		t->next = -1;
	return 0;
}

int
tarindex_take(struct tarindex *t, const unsigned char block[TAR_BLOCK], struct err *err)
{
	if (++t->n_blocks > LIMIT_TAR_BLOCKS)
		return err_set(err, EPROTO, "the archive has more than %d blocks of headers",
			       LIMIT_TAR_BLOCKS);
	if (t->pax_left > 0)
		return take_pax(t, block, err);
	if (is_zero(block))
		return take_zeros(t);
	return take_header(t, block, err);
}

/* ---- the end -------------------------------------------------------------------------------- */

/* The name in the mount, but for what tells it from others of the same. */
static void
shown_name(const char *name, char out[SAFENAME_MAX + 32])
{
	if (strcmp(name, "error") == 0)
		safename_identifier("error ", out);
	else if (safename_is_safe(name))
		memcpy(out, name, strlen(name) + 1);
	else
		safename_title(name, out);
}

static bool
is_called_so(const struct tarindex *t, size_t but, const char *name)
{
	char other[SAFENAME_MAX + 32];

	for (size_t i = 0; i < t->n; i++) {
		shown_name(t->members[i].name, other);
		if (i != but && strcmp(other, name) == 0)
			return true;
	}
	return false;
}

static int
compare_members(const void *a, const void *b)
{
	const struct tar_member *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* All at once: each name depends on the others as the archive has them. */
static void
make_names_safe(struct tarindex *t)
{
	char **names = xcalloc(t->n, sizeof(*names));
	char name[SAFENAME_MAX + 32];

	for (size_t i = 0; i < t->n; i++) {
		const char *raw = t->members[i].name;

		shown_name(raw, name);
		if (strcmp(name, raw) != 0 && is_called_so(t, i, name))
			safename_disambiguate(name, raw);
		names[i] = xstrdup(name);
	}
	for (size_t i = 0; i < t->n; i++) {
		free(t->members[i].name);
		t->members[i].name = names[i];
	}
	free(names);
}

int
tarindex_end(struct tarindex *t, struct err *err)
{
	if (t->pax_left > 0)
		return err_set(err, EPROTO, "a pax header ends beyond the archive");
	if (t->n == 0)
		return err_set(err, EPROTO, "the archive has no members");
	make_names_safe(t);
	qsort(t->members, t->n, sizeof(*t->members), compare_members);
	for (size_t i = 1; i < t->n; i++)
		if (strcmp(t->members[i - 1].name, t->members[i].name) == 0)
			return err_set(err, EPROTO, "two members of the archive would be shown as "
				       "'%s'", t->members[i].name);
	buf_release(&t->pax);
	return 0;
}
