/*
 * initial.h - the kernel's first request, INIT, as bytes: those of its fields that are looked at
 * apart from libfuse.
 *
 *	header(40: len(4) opcode(4) ...) major(4) minor(4) max_readahead(4) flags(4) flags2(4) ...
 *
 * linux/fuse.h; short requests of old kernels end before flags2.  And the one note to the kernel
 * that libfuse does not know.
 */
#ifndef VMI_INITIAL_H
#define VMI_INITIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INITIAL_OPCODE_AT = 4, INITIAL_FLAGS_AT = 52, INITIAL_FLAGS2_AT = 56 };

#define INITIAL_EXT (1U << 30)		/* flags: flags2 counts */

uint32_t initial_number(const uint8_t *data, size_t at);

/* Whether the kernel can send again what was not answered (6.9); false if it is too short. */
bool initial_can_resend(const uint8_t *request, size_t len);

/* Asks such a one for it, through /dev/fuse.  False: errno says why not. */
bool initial_resend(int fuse_fd);

#endif
