/*
 * intake_rate [MIB [DIR]] - how fast an image comes in, beside how fast its bytes can be hashed.
 *
 * Prints MiB/s of SHA-512 over memory in one thread, and of a whole intake: a pipe filled by
 * another process, hashing, writing, until VERIFIED and until STORED.  No verdict: figures of one
 * run on one machine are compared with each other only.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "core/intake.h"
#include "core/io.h"
#include "tests/lib/storebed.h"

enum { BLOCK = 1 << 20 };

static unsigned char block[BLOCK];

static double
rate(int64_t mib, long long since)
{
	long long ms = io_monotonic_ms() - since;

	return (double)mib * 1000.0 / (double)(ms > 0 ? ms : 1);
}

/* The digest of n blocks, and the speed of making it. */
static double
hash_alone(int64_t n, struct digest *d)
{
	struct digest_state *s = digest_state_new();
	long long since = io_monotonic_ms();

	for (int64_t i = 0; i < n; i++)
		digest_state_add(s, block, BLOCK);
	digest_state_end(s, d);
	digest_state_free(s);
	return rate(n, since);
}

static pid_t
fork_sender(int64_t n, int fds[2])
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	close(fds[0]);
	for (int64_t i = 0; i < n; i++) {
		if (io_write_all(fds[1], block, BLOCK) != 0)
			_exit(1);
	}
	_exit(0);
}

static void
wait_for(struct intake *in, int notify, enum intake_state wanted)
{
	while (intake_state(in) < wanted) {
		uint64_t changes;

		if (read(notify, &changes, sizeof(changes)) < 0)
			break;
	}
}

int
main(int argc, char **argv)
{
	int64_t n = argc > 1 ? strtoll(argv[1], NULL, 10) : 1024;
	struct bed *b = bed_new_bare();
	struct rusage use;
	struct digest d;
	struct intake *in;
	struct err err = { 0 };
	int fds[2], notify = eventfd(0, EFD_CLOEXEC);
	long long since;
	pid_t pid;

	if (argc > 2)
		b->conf.cache_dir = argv[2];
	bed_open(b);
	for (size_t i = 0; i < BLOCK; i++)
		block[i] = (unsigned char)(i * 2654435761u >> 13);
	printf("sha512 alone    %7.0f MiB/s\n", hash_alone(n, &d));
	if (intake_new(&in, b->store, &d, n * BLOCK, NULL, notify, &err) != 0 ||
	    pipe2(fds, O_CLOEXEC) != 0) {
		fprintf(stderr, "intake_rate: %s\n", err.text);
		bed_free(b);
		return 1;
	}
	since = io_monotonic_ms();
	pid = fork_sender(n, fds);
	close(fds[1]);
	intake_feed(in, fds[0]);
	wait_for(in, notify, INTAKE_VERIFIED);
	printf("until verified  %7.0f MiB/s\n", rate(n, since));
	wait_for(in, notify, INTAKE_STORED);
	printf("until stored    %7.0f MiB/s\n", rate(n, since));
	waitpid(pid, NULL, 0);
	getrusage(RUSAGE_SELF, &use);
	printf("peak memory     %7ld KiB\n", use.ru_maxrss);
	if (intake_result(in, &err) != 0)
		fprintf(stderr, "intake_rate: %s\n", err.text);
	intake_free(in);
	if (argc > 2)
		store_object_remove(b->store, &d, &err);
	bed_free(b);
	close(notify);
	return err.rc != 0;
}
