#include "config.h"
#include "fs/initial.h"

#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

enum { NOTIFY_RESEND = 7 };

#define INIT2_HAS_RESEND (1U << 7)	/* flags2: bit 39 of all */

uint32_t
initial_number(const uint8_t *data, size_t at)
{
	uint32_t n;

	memcpy(&n, data + at, sizeof(n));
	return n;
}

bool
initial_can_resend(const uint8_t *request, size_t len)
{
	return len >= INITIAL_FLAGS2_AT + 4 &&
	       (initial_number(request, INITIAL_FLAGS_AT) & INITIAL_EXT) != 0 &&
	       (initial_number(request, INITIAL_FLAGS2_AT) & INIT2_HAS_RESEND) != 0;
}

bool
initial_resend(int fuse_fd)
{
	const struct fuse_out_header note = { .len = sizeof(note), .error = NOTIFY_RESEND };

	return write(fuse_fd, &note, sizeof(note)) == (ssize_t)sizeof(note);
}
