/*
 * test_sandbox.c - what each role can still do, tried from inside.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/sandbox.h"
#include "core/sandboxstate.h"
#include "tests/unit/sandboxbed.h"

/* ---- in the child -------------------------------------------------------------------------- */

static void
expect_refused(long rc, const char *what)
{
	expect(rc < 0 && (errno == EPERM || errno == EACCES), what);
}

static void
expect_no_exec(void)
{
	char *const argv[] = { (char[]){ "true" }, NULL };

	execv("/bin/true", argv);
	expect_refused(-1, "execve fails");
	syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, NULL, 0);
	expect_refused(-1, "execveat fails");
}

static void
expect_no_process(void)
{
	pid_t pid;

	if (SANITIZED)
		return;
	pid = fork();
	if (pid == 0)
		_exit(0);
	expect_refused(pid, "fork fails");
	expect_refused(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0),
		       "clone of a process fails");
	expect(syscall(SYS_clone3, NULL, 0) < 0 && (errno == ENOSYS || errno == EPERM),
	       "clone3 is hidden");
}

/* By SIGIO, of whatever number. */
static void
expect_no_signals_by_descriptor(void)
{
	struct f_owner_ex owner = { .type = F_OWNER_PID, .pid = getppid() };
	int fds[2];

	expect(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0, "a pipe is made");
	expect(fcntl(fds[0], F_GETFL) >= 0 && fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0 &&
		       fcntl(fds[0], F_SETFD, FD_CLOEXEC) == 0 &&
		       fcntl(fds[0], F_GETPIPE_SZ) > 0 && fcntl(fds[0], F_DUPFD_CLOEXEC, 0) >= 0,
	       "descriptors are looked after");
	if (SANITIZED)
		return;
	expect_refused(fcntl(fds[0], F_SETOWN, getppid()), "F_SETOWN fails");
	expect_refused(fcntl(fds[0], F_SETOWN_EX, &owner), "F_SETOWN_EX fails");
	expect_refused(fcntl(fds[0], F_SETSIG, SIGKILL), "F_SETSIG fails");
	expect_refused(syscall(SYS_fcntl, fds[0], (1ULL << 32) | F_SETOWN, getppid()),
		       "no way around by high bits");
}

static void
expect_no_powers(void)
{
	expect_no_signals_by_descriptor();
	expect_refused(mount("x", dir, "tmpfs", 0, NULL), "mount fails");
	expect_refused(umount2("/proc", MNT_DETACH), "umount fails");
	expect_refused(syscall(SYS_io_uring_setup, 1, NULL), "io_uring fails");
	expect_refused(unshare(CLONE_NEWUSER), "unshare fails");
	expect_refused(chroot("/"), "chroot fails");
	/* Not by libc, which does it in all threads or dies. */
	expect_refused(syscall(SYS_setuid, 0), "setuid fails");
	expect_refused(syscall(SYS_bpf, 0, NULL, 0), "bpf fails");
	expect_refused(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0), "perf_event_open fails");
	expect_refused(syscall(SYS_userfaultfd, 0), "userfaultfd fails");
	expect_refused(syscall(SYS_keyctl, 0, 0, 0, 0, 0), "keyctl fails");
	expect_refused(syscall(SYS_add_key, NULL, NULL, NULL, 0, 0), "add_key fails");
	expect_refused(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0),
		       "process_vm_readv fails");
	if (!SANITIZED) {
		expect_refused(syscall(SYS_ptrace, 16, getppid(), NULL, NULL), "ptrace fails");
		expect_refused(kill(getppid(), 0), "kill of another process fails");
	}
	expect(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no_new_privs is set");
}

static void *
note_that_it_ran(void *arg)
{
	*(int *)arg = 1;
	return NULL;
}

static void
worker_keeps_its_directories(void)
{
	const struct sandbox_path paths[] = {
		{ writable, true }, { readable, false }, { "/proc/self/status", false },
		{ "/no/such/directory", true },
	};
	char a[96], b[128], sub[96];
	int fd;

	enter(SANDBOX_WORKER, paths, 4);
	snprintf(a, sizeof(a), "%s/a", writable);
	snprintf(sub, sizeof(sub), "%s/sub", writable);
	snprintf(b, sizeof(b), "%s/b", sub);
	fd = open(a, O_RDWR | O_CREAT, 0640);
	expect(fd >= 0 && write(fd, "x", 1) == 1 && ftruncate(fd, 0) == 0 && fsync(fd) == 0,
	       "a file is made");
	close(fd);
	expect(mkdir(sub, 0750) == 0, "a directory is made");
	expect(rename(a, b) == 0, "a file moves to another directory");
	expect(symlink("b", a) == 0 && unlink(a) == 0, "a link comes and goes");
	expect_refused(mkfifo(a, 0600), "a FIFO is not made");
	expect(unlink(b) == 0 && rmdir(sub) == 0, "they are removed");
	snprintf(a, sizeof(a), "%s/file", readable);
	fd = open(a, O_RDONLY);
	expect(fd >= 0, "a readable file is read");
	expect_refused(open(a, O_WRONLY), "a readable file is not written");
	expect_refused(truncate(a, 0), "a readable file is not truncated");
	expect_refused(unlink(a), "a readable file is not removed");
	expect_refused(open("/etc/shadow", O_RDONLY), "/etc/shadow does not open");
	expect_refused(open("/etc/passwd", O_RDONLY), "/etc/passwd does not open");
	expect_refused(open("/tmp", O_RDONLY | O_DIRECTORY), "/tmp does not open");
	expect(effective_capabilities() == 0, "there are no capabilities");
}

static void
worker_has_no_network(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(9) };
	int pair[2], listening, tcp;

	listening = socket(AF_UNIX, SOCK_STREAM, 0);
	tcp = socket(AF_INET, SOCK_STREAM, 0);
	expect(listening >= 0 && tcp >= 0, "sockets before the sandbox");
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	enter(SANDBOX_WORKER, NULL, 0);
	expect_refused(socket(AF_INET, SOCK_STREAM, 0), "no inet socket");
	expect_refused(socket(AF_UNIX, SOCK_STREAM, 0), "no unix socket");
	expect_refused(connect(tcp, (struct sockaddr *)&sin, sizeof(sin)),
		       "connect fails on an old socket");
	expect_refused(bind(tcp, (struct sockaddr *)&sin, sizeof(sin)),
		       "bind fails on an old socket");
	expect_refused(listen(tcp, 1), "listen fails");
	expect(accept4(listening, NULL, NULL, SOCK_CLOEXEC) < 0 && errno == EINVAL,
	       "accept is not filtered");
	expect(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0, "socketpair works");
	expect(send(pair[0], "x", 1, 0) == 1, "sending works");
}

static void
worker_has_threads_and_no_programs(void)
{
	pthread_t thread;
	int ran = 0;

	enter(SANDBOX_WORKER, NULL, 0);
	expect(pthread_create(&thread, NULL, note_that_it_ran, &ran) == 0, "a thread starts");
	expect(pthread_join(thread, NULL) == 0 && ran == 1, "a thread runs");
	expect_no_exec();
	expect_no_process();
	expect_no_powers();
	expect(pthread_kill(pthread_self(), 0) == 0, "own threads can be signalled");
}

static void
fetcher_writes_no_file(void)
{
	char path[96];

	enter(SANDBOX_FETCHER, NULL, 0);
	snprintf(path, sizeof(path), "%s/new", writable);
	expect_refused(open(path, O_WRONLY | O_CREAT, 0600), "no file is made");
	snprintf(path, sizeof(path), "%s/file", readable);
	expect_refused(open(path, O_WRONLY), "no file is opened for writing");
	expect_refused(unlink(path), "no file is removed");
	expect(open(path, O_RDONLY) >= 0, "files are read");
	expect(effective_capabilities() == 0, "there are no capabilities");
	expect_no_exec();
	expect_no_process();
	expect_no_powers();
	expect(SANITIZED || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0,
	       "its memory is not for others");
}

static void
fetcher_reads_only_what_it_names(void)
{
	const struct sandbox_path paths[] = { { readable, true } };
	char path[96];

	enter(SANDBOX_FETCHER, paths, 1);
	snprintf(path, sizeof(path), "%s/file", readable);
	expect(open(path, O_RDONLY) >= 0, "a named file is read");
	expect_refused(open(path, O_WRONLY), "and not written, whatever was asked");
	expect_refused(open("/etc/passwd", O_RDONLY), "no other file is read");
}

static void
fetcher_connects_and_does_not_listen(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int tcp;

	enter(SANDBOX_FETCHER, NULL, 0);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sin.sin_port = htons(1);
	tcp = socket(AF_INET, SOCK_STREAM, 0);
	expect(tcp >= 0, "inet");
	expect(socket(AF_UNIX, SOCK_STREAM, 0) >= 0, "unix");
	expect(socket(AF_NETLINK, SOCK_RAW, 0) >= 0, "netlink");
	expect(connect(tcp, (struct sockaddr *)&sin, sizeof(sin)) < 0 && errno == ECONNREFUSED,
	       "connect goes out");
	expect_refused(bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&sin, sizeof(sin)),
		       "no TCP port is bound");
	expect_refused(listen(tcp, 1), "listen fails");
	expect_refused(socket(AF_PACKET, SOCK_RAW, 0), "no packet socket");
	expect_refused(syscall(SYS_socket, (1ULL << 32) | AF_INET, SOCK_STREAM, 0),
		       "no way around by high bits");
	expect_refused(socket(AF_ALG, SOCK_SEQPACKET, 0), "no crypto socket");
	expect_refused(socket(AF_VSOCK, SOCK_STREAM, 0), "no vsock");
}

static void
verifier_computes_and_nothing_else(void)
{
	struct rlimit limit;
	int pipes[2];
	char byte;
	void *memory;

	expect(pipe(pipes) == 0, "pipes before the sandbox");
	enter(SANDBOX_VERIFIER, NULL, 0);
	expect(write(pipes[1], "x", 1) == 1 && read(pipes[0], &byte, 1) == 1, "pipes work");
	memory = malloc(1 << 20);
	expect(memory != NULL, "memory is had");
	free(memory);
	expect_refused(open("/etc/shadow", O_RDONLY), "/etc/shadow does not open");
	expect_refused(open("/etc/passwd", O_RDONLY), "/etc/passwd does not open");
	if (!SANITIZED)
		expect_refused(open("/dev/null", O_RDWR), "not even /dev/null");
	expect_refused(socket(AF_INET, SOCK_STREAM, 0), "no socket");
	expect_refused(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pipes), "no socket pair");
	if (!SANITIZED)
		expect_refused(fcntl(pipes[0], F_SETOWN, getppid()), "no signals by a descriptor");
	expect_no_exec();
	expect_no_process();
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(memory != MAP_FAILED, "memory is mapped");
	expect_refused(mprotect(memory, 4096, PROT_READ | PROT_EXEC),
		       "memory does not become code");
	memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect_refused(memory == MAP_FAILED ? -1 : 0, "no code is mapped");
	expect(getrlimit(RLIMIT_CPU, &limit) == 0 && limit.rlim_max <= 20, "its time is bounded");
	expect(SANITIZED || (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_max <= 512 << 20),
	       "its memory is bounded");
}

static void
verifier_ends_by_abort_when_told(void)
{
	enter(SANDBOX_VERIFIER, NULL, 0);
	expect_refused(syscall(SYS_tgkill, getppid(), getppid(), SIGKILL), "others are not killed");
	abort();
}

static void
supervisor_unmounts_and_nothing_else(void)
{
	if (geteuid() != 0)
		_exit(CHILD_SKIPS);
	enter(SANDBOX_SUPERVISOR, NULL, 0);
	expect(effective_capabilities() == 1ULL << 21, "CAP_SYS_ADMIN alone is left");
	expect(umount2("/no/such/mount", MNT_DETACH) < 0 && errno == ENOENT,
	       "umount is not filtered");
	expect_refused(mount("x", dir, "tmpfs", 0, NULL), "mount fails");
	expect_refused(socket(AF_UNIX, SOCK_STREAM, 0), "no socket");
	expect_refused(unshare(CLONE_NEWNS), "unshare fails");
	expect_no_signals_by_descriptor();
	expect_no_exec();
}

static void
supervisor_mounts_what_gives_nobody_anything(void)
{
	static const unsigned long safe = MS_RDONLY | MS_NOSUID | MS_NODEV;

	if (geteuid() != 0)
		_exit(CHILD_SKIPS);
	enter(SANDBOX_SUPERVISOR, NULL, 0);
	expect(mount("x", "/no/such/place", "tmpfs", safe, NULL) < 0 && errno == ENOENT,
	       "a mount without rights is not filtered");
	expect(mount("x", "/no/such/place", "tmpfs", safe | MS_NOEXEC, NULL) < 0 &&
		       errno == ENOENT,
	       "nor without programs");
	expect_refused(mount("x", "/no/such/place", "tmpfs", safe & ~(unsigned long)MS_NOSUID,
			     NULL),
		       "a mount with setuid programs fails");
	expect_refused(mount("x", "/no/such/place", "tmpfs", safe & ~(unsigned long)MS_NODEV, NULL),
		       "a mount with devices fails");
	expect_refused(mount("x", "/no/such/place", NULL, safe | MS_BIND, NULL),
		       "a bind mount fails");
	expect_refused(mount("x", "/no/such/place", NULL, safe | MS_REMOUNT, NULL),
		       "a remount fails");
}

static void
starter_leaves_a_list_of_refusals_on_its_children(void)
{
	char *const argv[] = { (char[]){ "cat" }, (char[]){ "/etc/passwd" }, NULL };

	enter(SANDBOX_STARTER, NULL, 0);
	expect(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "its children gain nothing");
	expect(effective_capabilities() == 0, "there are no capabilities");
	expect_refused(mount("x", dir, "tmpfs", 0, NULL), "mount fails");
	expect_refused(syscall(SYS_bpf, 0, NULL, 0), "bpf fails");
	expect_refused(unshare(CLONE_NEWUSER), "unshare fails");
	expect(socket(AF_INET, SOCK_STREAM, 0) >= 0, "a fetcher will have sockets");
	expect(freopen("/dev/null", "w", stdout) != NULL, "files open");
	execv("/bin/cat", argv);
	expect(false, "programs run");
}

static void
runner_leaves_nothing_on_handlers(void)
{
	char *const argv[] = { (char[]){ "true" }, NULL };
	struct sandbox_state state;
	struct err err;

	if (geteuid() != 0 || sandbox_become_user(65534, 65534, &err) != 0)
		_exit(CHILD_SKIPS);
	enter(SANDBOX_RUNNER, NULL, 0);
	expect(sandbox_board_get(SANDBOX_RUNNER, &state), "it says what it has");
	expect(state.capabilities == 0 && state.uid == 65534 && !state.no_new_privs &&
		       state.seccomp == 0 && state.landlock_abi == 0,
	       "which is no capability, and no sandbox");
	expect(SANITIZED || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0,
	       "its memory is not for others");
	execv("/bin/true", argv);
	expect(false, "programs run");
}

static void
updater_has_its_store_and_unix_sockets(void)
{
	const struct sandbox_path paths[] = { { writable, true }, { readable, false } };
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(9) };
	int tcp = socket(AF_INET, SOCK_STREAM, 0);
	char path[96];

	enter(SANDBOX_UPDATER, paths, 2);
	snprintf(path, sizeof(path), "%s/new", writable);
	expect(open(path, O_WRONLY | O_CREAT, 0600) >= 0 && unlink(path) == 0, "a file is made");
	snprintf(path, sizeof(path), "%s/file", readable);
	expect_refused(open(path, O_WRONLY), "a readable file is not written");
	expect_refused(open("/etc/passwd", O_RDONLY), "no other file is read");
	expect(socket(AF_UNIX, SOCK_STREAM, 0) >= 0, "there are unix sockets");
	expect_refused(socket(AF_INET, SOCK_STREAM, 0), "there are no others");
	expect_refused(connect(tcp, (struct sockaddr *)&sin, sizeof(sin)),
		       "nor by an old one a connection");
	expect_no_exec();
	expect_no_process();
	expect_no_powers();
}

static void
expect_no_code(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect(memory != MAP_FAILED, "memory is mapped");
	if (SANITIZED)
		return;
	expect_refused(mprotect(memory, 4096, PROT_READ | PROT_EXEC),
		       "memory does not become code");
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	expect_refused(memory == MAP_FAILED ? -1 : 0, "no memory is both");
}

static void
worker_makes_no_code(void)
{
	enter(SANDBOX_WORKER, NULL, 0);
	expect_no_code();
}

static void
fetcher_makes_no_code(void)
{
	enter(SANDBOX_FETCHER, NULL, 0);
	expect_no_code();
}

/* ---- the test's part ----------------------------------------------------------------------- */

static void
in_a_process_that_aborts(void **state)
{
	int status = run(verifier_ends_by_abort_when_told);

	(void)state;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "a worker keeps its directories and loses all other files",
		  in_a_process, NULL, NULL,
		  body(worker_keeps_its_directories) },
		{ "a worker has no network",
		  in_a_process, NULL, NULL, body(worker_has_no_network) },
		{ "a worker has threads and no programs", in_a_process, NULL, NULL,
		  body(worker_has_threads_and_no_programs) },
		{ "a fetcher writes no file",
		  in_a_process, NULL, NULL, body(fetcher_writes_no_file) },
		{ "a fetcher that names its files reads no others", in_a_process, NULL, NULL,
		  body(fetcher_reads_only_what_it_names) },
		{ "a fetcher connects and does not listen", in_a_process, NULL, NULL,
		  body(fetcher_connects_and_does_not_listen) },
		{ "a verifier computes and does nothing else", in_a_process, NULL, NULL,
		  body(verifier_computes_and_nothing_else) },
		{ "a verifier can abort itself and kill nobody",
		  in_a_process_that_aborts, NULL, NULL, NULL },
		{ "a supervisor unmounts and does nothing else", in_a_process, NULL, NULL,
		  body(supervisor_unmounts_and_nothing_else) },
		{ "a supervisor mounts nothing that gives anybody anything", in_a_process, NULL,
		  NULL, body(supervisor_mounts_what_gives_nobody_anything) },
		{ "a starter leaves a list of refusals on what it starts", in_a_process, NULL, NULL,
		  body(starter_leaves_a_list_of_refusals_on_its_children) },
		{ "a runner leaves nothing of it on handlers", in_a_process, NULL, NULL,
		  body(runner_leaves_nothing_on_handlers) },
		{ "an updater has its store and unix sockets", in_a_process, NULL, NULL,
		  body(updater_has_its_store_and_unix_sockets) },
		{ "a worker makes no code", in_a_process, NULL, NULL, body(worker_makes_no_code) },
		{ "a fetcher makes no code", in_a_process, NULL, NULL,
		  body(fetcher_makes_no_code) },
	};

	/* Here it is looked at what refusals are, one after the other. */
	unsetenv("VMIMAGEFS_TEST_FILTER");
	return cmocka_run_group_tests_name("sandbox", tests, make_dirs, remove_dirs);
}
