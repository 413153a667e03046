/*
 * noresend.c - the kernel without FUSE_NOTIFY_RESEND, for a program that this is preloaded into:
 * the bit of its first request that says so is not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

enum { HEADER = 40, OPCODE_AT = 4, INIT = 26, FLAGS2_AT = 56, HAS_RESEND = 1 << 7 };

ssize_t read(int fd, void *data, size_t size);

ssize_t
read(int fd, void *data, size_t size)
{
	static ssize_t (*next)(int fd, void *data, size_t size);
	uint32_t opcode, flags;
	ssize_t n;

	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "read");
	n = next(fd, data, size);
	if (n < FLAGS2_AT + 4)
		return n;
	memcpy(&opcode, (char *)data + OPCODE_AT, sizeof(opcode));
	if (opcode != INIT)
		return n;
	memcpy(&flags, (char *)data + FLAGS2_AT, sizeof(flags));
	flags &= ~(uint32_t)HAS_RESEND;
	memcpy((char *)data + FLAGS2_AT, &flags, sizeof(flags));
	return n;
}
