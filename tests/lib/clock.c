/*
 * clock.c - LD_PRELOAD: the wall clock is wrong by as many seconds as a file says.
 *
 *   CLOCK_FILE    its first 32 bytes are a decimal number and spaces.  It is mapped when the
 *                 program starts: what is written into it later counts at once, also where files
 *                 cannot be opened any more.  A second number, if there is one, is for the
 *                 monotonic clock, which otherwise goes on as it was
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 32 };

static const char *wrong;

static void __attribute__((constructor))
map_it(void)
{
	const char *path = getenv("CLOCK_FILE");
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		wrong = map;
}

static void
offsets(time_t *wall, time_t *monotonic)
{
	char text[BYTES + 1] = { 0 }, *end;

	for (int i = 0; wrong != NULL && i < BYTES; i++)
		text[i] = wrong[i];
	*wall = (time_t)strtoll(text, &end, 10);
	*monotonic = (time_t)strtoll(end, NULL, 10);
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	static int (*real)(clockid_t id, struct timespec *ts);
	time_t wall, monotonic;
	int rc;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
	rc = real(id, ts);
	offsets(&wall, &monotonic);
	if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += wall;
	else if (rc == 0 && id == CLOCK_MONOTONIC)
		ts->tv_sec += monotonic;
	return rc;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *out)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	if (out != NULL)
		*out = ts.tv_sec;
	return ts.tv_sec;
}
