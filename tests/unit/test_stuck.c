/*
 * test_stuck.c - a worker that was killed and cannot end: who holds what it waits for lets go.
 *
 * The kernel is a socket: what lies there before it is read are requests that it sends again.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/log.h"
#include "fs/connection.h"
#include "fs/stuck.h"

enum { NOTIFY_RESEND = 7 };
#define AGAIN (1ULL << 63)

static struct {
	struct connection connection;
	struct stuck stuck;
	int kernel;
	pid_t dead, living;
} bed;

static pid_t
start(bool dies)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0) {
		while (!dies)
			pause();
		_exit(0);
	}
	assert_true(pid > 0);
	if (dies)
		assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	return pid;
}

static int
begin(void **state)
{
	int pair[2];

	(void)state;
	memset(&bed, 0, sizeof(bed));
	log_open("test", false, LOG_LVL_ERROR);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	connection_init(&bed.connection);
	bed.connection.fd = pair[0];
	bed.connection.resends = true;
	bed.kernel = pair[1];
	bed.dead = start(true);
	bed.living = start(false);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	kill(bed.living, SIGKILL);
	waitpid(bed.living, NULL, 0);
	waitpid(bed.dead, NULL, 0);
	connection_release(&bed.connection);
	close(bed.kernel);
	return 0;
}

static void
request_of(uint32_t pid, uint32_t opcode, uint64_t unique)
{
	const struct fuse_in_header header = {
		.len = sizeof(header), .opcode = opcode, .unique = unique, .pid = pid,
	};

	assert_int_equal(send(bed.kernel, &header, sizeof(header), 0), sizeof(header));
}

static void
request(uint32_t opcode, uint64_t unique)
{
	request_of(100, opcode, unique);
}

static void
assert_answer(int error, uint64_t unique)
{
	struct fuse_out_header header = { 0 };

	assert_int_equal(recv(bed.kernel, &header, sizeof(header), MSG_DONTWAIT), sizeof(header));
	assert_int_equal(header.len, sizeof(header));
	assert_int_equal(header.error, error);
	assert_int_equal(header.unique, unique);
}

static void
assert_nothing_more(void)
{
	char byte;

	assert_int_equal(recv(bed.kernel, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void
all_kinds(void)
{
	request(FUSE_LOOKUP, AGAIN | 2);
	request(FUSE_READ, AGAIN | 4);
	request(FUSE_RELEASE, AGAIN | 6);
	request(FUSE_READDIR, AGAIN | 8);
	request(FUSE_LOOKUP, 10);
}

static void
lookups_are_made_anew(void **state)
{
	int flags = fcntl(bed.connection.fd, F_GETFL);

	(void)state;
	all_kinds();
	assert_int_equal(connection_refuse(&bed.connection, &bed.stuck.told, false), 1);
	assert_answer(NOTIFY_RESEND, 0);
	assert_answer(-ESTALE, AGAIN | 2);
	assert_nothing_more();
	/* A worker waits for requests. */
	assert_int_equal(fcntl(bed.connection.fd, F_GETFL), flags);
}

/* A second time it would be an error. */
static void
once_is_enough(void **state)
{
	(void)state;
	request_of(100, FUSE_LOOKUP, AGAIN | 2);
	request_of(0, FUSE_LOOKUP, AGAIN | 4);
	request_of(0, FUSE_LOOKUP, AGAIN | 6);
	assert_int_equal(connection_refuse(&bed.connection, &bed.stuck.told, false), 3);
	for (int i = 0; i < 4; i++)
		recv(bed.kernel, (char[64]){ 0 }, 64, MSG_DONTWAIT);
	request_of(100, FUSE_LOOKUP, AGAIN | 8);
	request_of(0, FUSE_LOOKUP, AGAIN | 10);
	request_of(101, FUSE_LOOKUP, AGAIN | 12);
	assert_int_equal(connection_refuse(&bed.connection, &bed.stuck.told, false), 1);
	assert_answer(NOTIFY_RESEND, 0);
	assert_answer(-ESTALE, AGAIN | 12);
	assert_nothing_more();
}

static void
who_has_locks_is_refused(void **state)
{
	(void)state;
	all_kinds();
	assert_int_equal(connection_refuse(&bed.connection, &bed.stuck.told, true), 4);
	assert_answer(NOTIFY_RESEND, 0);
	assert_answer(-EIO, AGAIN | 2);
	assert_answer(-EIO, AGAIN | 4);
	assert_answer(-EIO, AGAIN | 8);
	assert_answer(-EIO, 10);
	assert_nothing_more();
}

static void
nothing_where_nothing_is_sent_again(void **state)
{
	(void)state;
	bed.connection.resends = false;
	all_kinds();
	assert_int_equal(connection_refuse(&bed.connection, &bed.stuck.told, true), 0);
	assert_nothing_more();
}

static enum stuck_step
look(pid_t worker, int64_t n_untold, long long now)
{
	return stuck_look(&bed.stuck, worker, n_untold, &bed.connection, now);
}

static void
one_that_is_dead_is_helped(void **state)
{
	enum stuck_step step = STUCK_NO;
	int looks = 0;

	(void)state;
	assert_int_equal(look(bed.dead, 1, 1000), STUCK_NO);
	assert_int_equal(look(bed.dead, 1, 1500), STUCK_NO);	/* it may just be ending */
	assert_false(stuck_is(&bed.stuck, bed.dead));
	request(FUSE_LOOKUP, AGAIN | 2);
	assert_int_equal(look(bed.dead, 1, 2000), STUCK_YES);
	assert_true(stuck_is(&bed.stuck, bed.dead));
	assert_false(stuck_is(&bed.stuck, bed.living));
	assert_answer(NOTIFY_RESEND, 0);
	assert_answer(-ESTALE, AGAIN | 2);
	while (step != STUCK_CUT && looks < 10)
		step = look(bed.dead, 1, 3000 + 1000 * looks++);
	assert_in_range(looks, 2, 8);
}

static void
an_old_kernel_is_cut_soon(void **state)
{
	(void)state;
	bed.connection.resends = false;
	assert_int_equal(look(bed.dead, 1, 1000), STUCK_NO);
	assert_int_equal(look(bed.dead, 1, 2000), STUCK_YES);
	assert_int_equal(look(bed.dead, 1, 3000), STUCK_CUT);
}

static void
others_are_left_alone(void **state)
{
	(void)state;
	for (int i = 1; i < 10; i++) {
		assert_int_equal(look(bed.living, 1, 1000 * i), STUCK_NO);
		assert_int_equal(look(0, 1, 1000 * i + 100000), STUCK_NO);
	}
	/* A disk has it. */
	for (int i = 200; i < 210; i++)
		assert_int_equal(look(bed.dead, 0, 1000 * i), STUCK_NO);
	assert_nothing_more();
}

#define TEST(title, fn) { title, fn, begin, end, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("P07 who looks up a name is made to ask again", lookups_are_made_anew),
		TEST("P07 but once: the kernel would tell him otherwise", once_is_enough),
		TEST("P07 all that hold a lock are refused; what is open stays known",
		     who_has_locks_is_refused),
		TEST("P07 an older kernel is not asked", nothing_where_nothing_is_sent_again),
		TEST("P07 a dead worker that cannot end is helped, ever harder",
		     one_that_is_dead_is_helped),
		TEST("P07 with an older kernel the connection is cut", an_old_kernel_is_cut_soon),
		TEST("P07 one that lives, or that a disk holds, is left alone",
		     others_are_left_alone),
	};

	return cmocka_run_group_tests_name("stuck", tests, NULL, NULL);
}
