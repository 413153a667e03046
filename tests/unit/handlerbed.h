/*
 * handlerbed.h - a catalogue, a store and the three directories of event handlers, for unit tests.
 */
#ifndef VMI_TEST_HANDLERBED_H
#define VMI_TEST_HANDLERBED_H

#include "sitefixture.h"

#include "core/handlerdir.h"
#include "core/io.h"
#include "core/json.h"

#define MOUNT "/mnt/images"
#define EXPIRED_AT ".2026-11-21_10-00-00"	/* NOW, as a name has it */

struct bed {
	struct fixture *f;
	struct handlerdir_config config;
	struct handlerdir *h;
	char *top, *cache, *partial, *expired;
	int64_t sub;
	struct err err;
};

#define OK(call) \
	do { \
		b->err.text[0] = '\0'; \
		if ((call) != 0) \
			fail_msg("%s: %s", #call, b->err.text); \
	} while (0)

static inline int
bed_setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	b->f = fixture_new();
	b->top = xasprintf("%s/handlers", b->f->dir);
	b->cache = xasprintf("%s/cache", b->top);
	b->partial = xasprintf("%s/partial", b->top);
	b->expired = xasprintf("%s/expired", b->top);
	b->f->conf.handler_dir = b->top;
	if (mkdir(b->top, 0755) != 0 || mkdir(b->cache, 0755) != 0 ||
	    mkdir(b->partial, 0755) != 0 || mkdir(b->expired, 0755) != 0)
		abort();
	b->config = (struct handlerdir_config){ .cache = b->cache, .partial = b->partial,
						.expired = b->expired, .mountpoint = MOUNT,
						.objects = b->f->conf.cache_dir };
	b->sub = subscribe(b->f, LIST, SELECT_ALL);
	*state = b;
	return 0;
}

static inline int
bed_teardown(void **state)
{
	struct bed *b = *state;

	handlerdir_close(b->h);
	fixture_free(b->f);
	free(b->cache);
	free(b->partial);
	free(b->expired);
	free(b->top);
	free(b);
	return 0;
}

static inline void
open_dirs(struct bed *b)
{
	handlerdir_close(b->h);
	b->h = NULL;
	OK(handlerdir_open(&b->h, &b->config, &b->err));
}

static inline void
sync_dirs(struct bed *b)
{
	if (b->h == NULL)
		open_dirs(b);
	OK(handlerdir_sync(b->h, b->f->c, &b->err));
}

/* Images a and b, selected; a is fetched and verified. */
static inline void
publish_two(struct bed *b)
{
	publish(b->f, b->sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	store_content(b->f, 'a');
}

/* Version 2 of a replaces the first. */
static inline void
replace_a(struct bed *b)
{
	publish(b->f, b->sub, "2", ENTRIES(IMG("a", "2", 'c'), IMG("b", "1", 'b')));
	store_content(b->f, 'c');
}

/* A file in the store of the size that the list says. */
static inline char *
make_object(struct bed *b, char letter)
{
	char hex[DIGEST_HEX + 1];
	struct digest d = content(letter);
	char *shard, *path;
	int fd;

	digest_hex(&d, hex);
	shard = xasprintf("%s/objects", b->f->conf.cache_dir);
	mkdir(shard, 0750);
	free(shard);
	shard = xasprintf("%s/objects/%.2s", b->f->conf.cache_dir, hex);
	mkdir(shard, 0750);
	path = xasprintf("%s/%s", shard, hex);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1000 + letter), 0);
	close(fd);
	free(shard);
	return path;
}

/* ---- what stands under a name ---------------------------------------------------------------- */

static inline char *
path_of(const struct bed *b, const char *name)
{
	return xasprintf("%s/%s", b->top, name);
}

/* "-" nothing, "link a" into the mount, "empty 0444", "file", "dir". */
static inline void
describe(const char *path, char out[256])
{
	char target[256];
	struct stat st;
	ssize_t len;

	if (lstat(path, &st) != 0) {
		snprintf(out, 256, "-");
	} else if (S_ISLNK(st.st_mode)) {
		len = readlink(path, target, sizeof(target) - 1);
		assert_true(len > 0);
		target[len] = '\0';
		if (strncmp(target, MOUNT "/by-sha512/", strlen(MOUNT "/by-sha512/")) == 0 &&
		    len == (ssize_t)strlen(MOUNT "/by-sha512/") + DIGEST_HEX)
			snprintf(out, 256, "link %c", target[len - 1]);
		else
			snprintf(out, 256, "link to %.200s", target);
	} else if (S_ISREG(st.st_mode) && st.st_size == 0) {
		snprintf(out, 256, "empty %04o", (unsigned)st.st_mode & 07777);
	} else {
		snprintf(out, 256, "%s", S_ISDIR(st.st_mode) ? "dir" : "file");
	}
}

static inline void
assert_name(struct bed *b, const char *name, const char *expected)
{
	char *path = path_of(b, name), found[256];

	describe(path, found);
	assert_string_equal(found, expected);
	free(path);
}

static inline bool
is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return lstat(a, &x) == 0 && lstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

static inline void
write_file(struct bed *b, const char *name, const void *data, size_t len)
{
	char *path = path_of(b, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
	free(path);
}

static inline void
remove_name(struct bed *b, const char *name)
{
	char *path = path_of(b, name);

	assert_int_equal(unlink(path), 0);
	free(path);
}

static inline struct json *
read_index(struct bed *b, const char *name)
{
	struct buf text = BUF_INIT;
	char *path = path_of(b, name);
	struct json *doc = NULL;

	assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 20, &text), 0);
	OK(json_parse(text.data, text.len, &doc, &b->err));
	buf_release(&text);
	free(path);
	return doc;
}

/* An index that took long to write, as on a busy machine, is written again a while later only. */
static inline void
settle_index(struct bed *b)
{
	int ms;

	while ((ms = handlerdir_wait(b->h)) >= 0) {
		usleep((useconds_t)ms * 1000 + 1000);
		OK(handlerdir_sync(b->h, b->f->c, &b->err));
	}
}

/* The value of a key of an image in an index; NULL if the index lacks either. */
static inline void
assert_index(struct bed *b, const char *index, const char *id, const char *key,
	     const char *expected)
{
	struct json *doc;
	const char *found;

	settle_index(b);
	doc = read_index(b, index);
	found = json_as_string(json_get(json_get(doc, id), key));
	if (expected == NULL)
		assert_null(found);
	else if (found == NULL)
		fail_msg("%s: no %s of %s", index, key, id);
	else
		assert_string_equal(found, expected);
	json_free(doc);
}

#define T(title, function) \
	{ title, function, bed_setup, bed_teardown, NULL }

#endif
