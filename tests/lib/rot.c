/*
 * rot.c - a disk that goes bad under a file.
 *
 *   rot FILE          flips one bit in each granule of 256 KiB, says "rotten", and goes on flipping
 *                     one bit of some granule every 20 ms
 *   rot FILE few      the latter alone
 *
 * It ends when it is killed, when the process that began it has ended, and when the file is
 * removed.
 */
#include "config.h"

#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { GRANULE = 256 << 10, PAUSE_NS = 20 * 1000000 };

static uint32_t
any(void)
{
	static uint32_t x = 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static void
flip(int fd, off_t size, off_t granule)
{
	off_t at = granule * GRANULE + (off_t)(any() % GRANULE);
	unsigned char byte;

	if (at >= size)
		at = size - 1;
	if (pread(fd, &byte, 1, at) != 1)
		err(1, "pread");
	byte ^= (unsigned char)(1u << any() % 8);
	if (pwrite(fd, &byte, 1, at) != 1)
		err(1, "pwrite");
}

int
main(int argc, char **argv)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	off_t n_granules;
	struct stat st;
	int fd;

	if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "few") != 0))
		errx(2, "usage: rot FILE [few]");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
		err(1, "%s", argv[1]);
	n_granules = (st.st_size + GRANULE - 1) / GRANULE;
	for (off_t g = 0; argc == 2 && g < n_granules; g++)
		flip(fd, st.st_size, g);
	puts("rotten");
	fflush(stdout);
	while (fstat(fd, &st) == 0 && st.st_nlink > 0) {
		flip(fd, st.st_size, (off_t)any() % n_granules);
		nanosleep(&pause, NULL);
	}
	return 0;
}
