/*
 * storebed.h - a store in a directory of its own, for unit tests.
 *
 * bed_new() makes it, bed_free() takes everything away again; BED_TEST is a test that finds one
 * (bed_setup) or only its directory (bed_setup_bare) in *state.  bed_mount() puts a file system of
 * a given kind and size under the cache directory, where the machine allows it.
 */
#ifndef VMI_STOREBED_H
#define VMI_STOREBED_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/digest.h"
#include "core/store.h"
#include "core/verity.h"
#include "core/vtree.h"
#include "tests/lib/removetree.h"

#define BED_ID "0b3e4f8e-55f5-4bd5-a5a5-6d0d1f7f3f10"
#define BED_TEXT "an image, of a kind"

enum { BED_TEXT_LEN = sizeof(BED_TEXT) - 1 };

struct bed {
	char dir[64];		/* of the test */
	char cache[80];		/* cache_dir */
	bool mounted;
	struct conf conf;
	struct store *store;
	struct err err;
};

static inline void __attribute__((format(printf, 3, 4)))
bed_path(const struct bed *b, char out[512], const char *fmt, ...)
{
	char tail[384];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(tail, sizeof(tail), fmt, ap);
	va_end(ap);
	snprintf(out, 512, "%s/%s", b->cache, tail);
}

static inline bool
bed_run(const char *const argv[])
{
	extern char **environ;
	posix_spawn_file_actions_t quiet;
	int status = -1;
	pid_t pid;

	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(&pid, argv[0], &quiet, NULL, (char *const *)(uintptr_t)argv, environ) == 0)
		waitpid(pid, &status, 0);
	posix_spawn_file_actions_destroy(&quiet);
	return status == 0;
}

/* A mount namespace of our own, once a process: mounts of a test that dies go with it. */
static inline bool
bed_may_mount(void)
{
	static int may = -1;

	if (may < 0)
		may = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
		      mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0;
	return may;
}

/* kind: "tmpfs" with options, or "ext2", "ext4" in a file of size_kib. */
static inline bool
bed_mount(struct bed *b, const char *kind, const char *options, int size_kib)
{
	char image[96], size[32];

	if (!bed_may_mount())
		return false;
	if (strcmp(kind, "tmpfs") == 0) {
		b->mounted = mount("tmpfs", b->cache, "tmpfs", 0, options) == 0;
		return b->mounted;
	}
	snprintf(image, sizeof(image), "%s/disk", b->dir);
	snprintf(size, sizeof(size), "%dk", size_kib);
	b->mounted = bed_run((const char *[]){ "mke2fs", "-q", "-F", "-t", kind, image, size,
						  NULL }) &&
		     bed_run((const char *[]){ "mount", "-o", "loop", image, b->cache, NULL });
	return b->mounted;
}

static inline struct bed *
bed_new_bare(void)
{
	struct bed *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	snprintf(b->dir, sizeof(b->dir), "%s/storebed.XXXXXX",
		 access("/var/tmp", W_OK) == 0 ? "/var/tmp" : "/tmp");
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->cache, sizeof(b->cache), "%s/cache", b->dir);
	assert_int_equal(mkdir(b->cache, 0750), 0);
	b->conf.cache_dir = b->cache;
	b->conf.cache_min_free_percent = -1;
	return b;
}

static inline void
bed_open(struct bed *b)
{
	assert_int_equal(store_init(&b->conf, BED_ID, false, &b->err), 0);
	assert_int_equal(store_open(&b->conf, BED_ID, &b->store, &b->err), 0);
	assert_int_equal(store_lock(b->store, &b->err), 0);
}

static inline struct bed *
bed_new(void)
{
	struct bed *b = bed_new_bare();

	bed_open(b);
	return b;
}

static inline void
bed_free(struct bed *b)
{
	store_close(b->store);
	if (b->mounted)
		assert_int_equal(umount(b->cache), 0);
	remove_tree(b->dir);
	free(b);
}

static inline int
bed_setup(void **state)
{
	*state = bed_new();
	return 0;
}

static inline int
bed_setup_bare(void **state)
{
	*state = bed_new_bare();
	return 0;
}

static inline int
bed_teardown(void **state)
{
	bed_free(*state);
	return 0;
}

#define BED_TEST(title, fn, make) \
	{ .name = title, .test_func = fn, .setup_func = make, .teardown_func = bed_teardown }

static inline void
bed_write(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static inline bool
bed_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* Number of names in a directory below the cache. */
static inline int
bed_count(const struct bed *b, const char *name)
{
	char path[512];
	DIR *list;
	int n = 0;

	bed_path(b, path, "%s", name);
	list = opendir(path);
	assert_non_null(list);
	for (struct dirent *e = readdir(list); e != NULL; e = readdir(list))
		n += e->d_name[0] != '.';
	closedir(list);
	return n;
}

static inline void
bed_object_path(const struct bed *b, char out[512], const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	bed_path(b, out, "objects/%.2s/%s", hex, hex);
}

/* The tree of bytes in memory, and in *id what it is of. */
static inline struct vtree *
bed_tree(const void *data, int64_t size, struct vtree_id *id)
{
	struct verity_builder *builder;
	struct verity_shape shape;
	struct vtree *tree;
	const void *prefix;
	size_t len;

	assert_true(verity_shape_init(&shape, size));
	assert_int_equal(verity_builder_new(&builder, size), 0);
	for (int64_t g = 0; g < shape.n_granules; g++) {
		struct digest d;

		verity_granule(&shape, (const char *)data + g * VERITY_GRANULE,
			       verity_granule_size(&shape, g), NULL, &d);
		verity_builder_set(builder, g, &d);
	}
	verity_builder_end(builder, &id->verity);
	id->size = size;
	digest_of(data, (size_t)size, &id->image);
	prefix = verity_builder_prefix(builder, &len);
	assert_int_equal(vtree_new(&tree, id, prefix, len, NULL), 0);
	verity_builder_free(builder);
	return tree;
}

/* Brings bytes into the store as an object, by the way that every stream takes. */
static inline void
bed_add(struct bed *b, const void *data, int64_t size, struct vtree_id *id)
{
	struct vtree *tree = bed_tree(data, size, id);
	int64_t have;
	int fd;

	assert_int_equal(store_partial_open(b->store, &id->image, size, &fd, &have, &b->err), 0);
	assert_int_equal(pwrite(fd, data, (size_t)size, 0), size);
	assert_int_equal(store_commit(b->store, &id->image, fd, tree, &b->err), 0);
	close(fd);
	vtree_unref(tree);
}

static inline void
bed_add_object(struct bed *b, const char *text, struct digest *d)
{
	struct vtree_id id;

	bed_add(b, text, (int64_t)strlen(text), &id);
	*d = id.image;
}

/* partial/HEX or objects/ab/HEX, with a suffix. */
static inline void
bed_side_path(const struct bed *b, char out[512], const struct digest *d, bool partial,
	      const char *suffix)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	if (partial)
		bed_path(b, out, "partial/%s%s", hex, suffix);
	else
		bed_path(b, out, "objects/%.2s/%s%s", hex, hex, suffix);
}

/* Damages a file: len bytes at off become others. */
static inline void
bed_flip(const char *path, int64_t off, size_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char c;

	assert_true(fd >= 0);
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(pread(fd, &c, 1, off + (int64_t)i), 1);
		c = (char)(c ^ 0x20);
		assert_int_equal(pwrite(fd, &c, 1, off + (int64_t)i), 1);
	}
	close(fd);
}

#endif
