/*
 * Partial files of images in block mode, and their maps.
 *
 * partial/<hex>.blocks has its full length from the start and is reserved whole.  Which of its
 * granules are here is in partial/<hex>.map, one bit each, with a checksum behind them.  Neither
 * the data nor the map is synced on the way, and a map is but a hint (blockfile.h): what a power
 * cut makes of them is found out by the checksum and the digests.
 */
#include "config.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "digest.h"
#include "io.h"
#include "limits.h"
#include "store_priv.h"
#include "storedir.h"
#include "verity.h"

enum { MAP_BYTES_MAX = LIMIT_IMAGE_BYTES / VERITY_GRANULE / 8 };

static void
drop(struct store *s, const struct digest *d, const char *suffix)
{
	char hex[DIGEST_HEX + 1], name[STORE_SIDE_MAX + 1];

	digest_hex(d, hex);
	store_side_name(name, hex, suffix);
	unlinkat(s->partial, name, 0);
}

int
store_blocks_open(struct store *s, const struct digest *d, int64_t size, int *out_fd, bool *is_new,
		  struct err *err)
{
	char hex[DIGEST_HEX + 1], name[STORE_SIDE_MAX + 1];
	CLEANUP_FD int fd = -1;
	int rc;

	digest_hex(d, hex);
	store_side_name(name, hex, STORE_BLOCKS);
	store_partial_drop(s, d);
	fd = store_open_earlier(s, name, size, size);
	*is_new = fd == -ENOENT;
	if (*is_new) {
		drop(s, d, STORE_MAP);
		fd = storedir_open(s->partial, name, O_RDWR | O_CREAT | O_EXCL, STORE_FILE_MODE);
	}
	if (fd < 0)
		return store_say_unopened(s, fd, name, err);
	rc = store_reserve(s, d, fd, size, false, err);
	if (rc != 0) {
		if (*is_new)
			unlinkat(s->partial, name, 0);
		store_measure(s, d);
		return rc;
	}
	*out_fd = steal_fd(&fd);
	return 0;
}

void
store_blocks_drop(struct store *s, const struct digest *d)
{
	drop(s, d, STORE_BLOCKS);
	drop(s, d, STORE_MAP);
	drop(s, d, STORE_TREE);
	store_measure(s, d);
}

int
store_quarantine_blocks(struct store *s, const struct digest *d, struct err *err)
{
	char hex[DIGEST_HEX + 1], name[STORE_SIDE_MAX + 1];
	int rc;

	digest_hex(d, hex);
	store_side_name(name, hex, STORE_BLOCKS);
	rc = store_aside_any(s, s->partial, name, hex);
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot move '%s/partial/%s' to quarantine: %m", s->path,
			       name);
	}
	store_blocks_drop(s, d);
	return 0;
}

/* ---- maps ------------------------------------------------------------------------------------ */

/* Behind a map are so many bytes of its SHA-512: after a power cut a part of it may be zeros. */
#define MAP_SUM ((size_t)8)

int
store_map_read(struct store *s, const struct digest *d, struct buf *out)
{
	char hex[DIGEST_HEX + 1], name[STORE_SIDE_MAX + 1];
	CLEANUP_FD int fd = -1;
	struct digest sum;
	int rc;

	digest_hex(d, hex);
	store_side_name(name, hex, STORE_MAP);
	fd = store_open_regular(s->partial, name, O_RDONLY);
	rc = fd < 0 ? fd : io_read_to_end(fd, MAP_BYTES_MAX + MAP_SUM, out);
	if (rc != 0)
		return rc;
	if (out->len < MAP_SUM)
		return -EBADMSG;
	out->len -= MAP_SUM;
	digest_of(out->data, out->len, &sum);
	return memcmp(out->data + out->len, sum.bytes, MAP_SUM) == 0 ? 0 : -EBADMSG;
}

static int
write_bytes(void *arg, int fd)
{
	const struct buf *b = arg;

	return io_write_all(fd, b->data, b->len);
}

int
store_map_write(struct store *s, const struct digest *d, const void *map, size_t len)
{
	char hex[DIGEST_HEX + 1], name[STORE_SIDE_MAX + 1];
	CLEANUP_BUF struct buf bytes = BUF_INIT;
	struct digest sum;

	digest_of(map, len, &sum);
	buf_add(&bytes, map, len);
	buf_add(&bytes, sum.bytes, MAP_SUM);
	digest_hex(d, hex);
	store_side_name(name, hex, STORE_MAP);
	return store_replace_side(s, s->partial, name, write_bytes, &bytes, false);
}
