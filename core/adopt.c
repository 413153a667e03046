#include "config.h"
#include "adopt.h"

#include <string.h>

#include "cleanup.h"
#include "io.h"

enum { CHUNK = 1 << 20 };

static int
hash_file(int fd, int64_t size, struct digest *out, struct err *err)
{
	struct digest_state *state = digest_state_new();
	char *chunk = xmalloc(CHUNK);
	int64_t off = 0;
	ssize_t n = 0;

	while (off < size) {
		n = io_pread_full(fd, chunk, CHUNK, off);
		if (n <= 0)
			break;
		digest_state_add(state, chunk, (size_t)n);
		off += n;
	}
	digest_state_end(state, out);
	digest_state_free(state);
	free(chunk);
	if (n < 0)
		return err_set(err, (int)-n, "cannot be read at byte %lld", (long long)off);
	return 0;
}

bool
adopt_object_good(struct store *s, const struct digest *d, int64_t size, struct err *err)
{
	CLEANUP_FD int fd = store_object_open(s, d, size, err);
	struct digest have;

	if (fd < 0 || hash_file(fd, size, &have, err) != 0)
		return false;
	if (!digest_equal(&have, d)) {
		err_refuse(err, CODE_CORRUPT, "the stored bytes have another SHA-512 than the name says");
		return false;
	}
	return true;
}
