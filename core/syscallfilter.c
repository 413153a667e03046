/*
 * What each role may call.  Everything that is not named here is refused.
 *
 *                       supervisor  worker    fetcher      verifier   updater
 *   files by name       yes         yes       reading      -          yes
 *   sockets             pairs       pairs     inet, inet6, -          unix
 *                                             unix, netlink
 *   connect             -           -         yes          -          yes (Landlock: no TCP)
 *   new threads         -           yes       yes          -          -
 *   new processes       fork        -         -            -          -
 *   signals to others   yes         -         -            -          -
 *   mount               ro,nosuid,nodev; umount  -  -      -          -
 *   executable memory   -           -         of libraries -          -
 *   exec                -           -         -            -          -
 *
 * Arguments decide where they are numbers; what a pointer leads to a filter cannot see, so that
 * paths are the matter of Landlock (landlock.c), and clone3(), whose flags lie in memory, is
 * answered with ENOSYS: libc then uses clone().  That answer has a filter of its own, because
 * the kernel logs the refusals of the other one, and this happens all the time.
 *
 * The starter has a list of refusals: what it starts inherits it and must be able to live with it.
 * A runner has nothing: handlers are any program of the site's.
 *
 * In the field a refused call fails with EPERM, so that a libc or a library which begins to use
 * another call costs a function, and not the mount.  A test build ends the process instead where it
 * is told to, so that no test passes with a hole in a list.
 */
#include "config.h"
#include "syscallfilter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_SECCOMP

#include <seccomp.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1	/* the run-time of the sanitizers reads /proc and starts a tracer */
#else
#define SANITIZED 0
#endif

#define CALL(name) SCMP_SYS(name)
#define N_OF(list) (sizeof(list) / sizeof((list)[0]))

#define SUPERVISOR (1U << SANDBOX_SUPERVISOR)
#define WORKER (1U << SANDBOX_WORKER)
#define FETCHER (1U << SANDBOX_FETCHER)
#define VERIFIER (1U << SANDBOX_VERIFIER)
#define UPDATER (1U << SANDBOX_UPDATER)
#define ALL (SUPERVISOR | WORKER | FETCHER | VERIFIER | UPDATER)
#define NOT_VERIFIER (ALL & ~VERIFIER)
#define STORING (WORKER | UPDATER)

struct permission {
	unsigned roles;
	int call;
};

/* Whatever their arguments. */
static const struct permission permitted[] = {
	/* descriptors that are open, memory, time, ourselves */
	{ ALL, CALL(read) }, { ALL, CALL(write) }, { ALL, CALL(readv) }, { ALL, CALL(writev) },
	{ ALL, CALL(close) }, { ALL, CALL(lseek) }, { ALL, CALL(fstat) },
	{ ALL, CALL(poll) }, { ALL, CALL(ppoll) }, { ALL, CALL(brk) }, { ALL, CALL(munmap) },
	{ ALL, CALL(mremap) }, { ALL, CALL(madvise) }, { ALL, CALL(futex) },
	{ ALL, CALL(exit) }, { ALL, CALL(exit_group) }, { ALL, CALL(restart_syscall) },
	{ ALL, CALL(rt_sigaction) }, { ALL, CALL(rt_sigprocmask) }, { ALL, CALL(rt_sigreturn) },
	{ ALL, CALL(sigaltstack) }, { ALL, CALL(clock_gettime) }, { ALL, CALL(gettimeofday) },
	{ ALL, CALL(time) }, { ALL, CALL(getrandom) }, { ALL, CALL(getpid) }, { ALL, CALL(gettid) },
	{ ALL, CALL(getrlimit) }, { ALL, CALL(sched_yield) }, { ALL, CALL(getuid) },
	{ ALL, CALL(geteuid) }, { ALL, CALL(getgid) }, { ALL, CALL(getegid) },
	{ ALL, CALL(getresuid) }, { ALL, CALL(getresgid) }, { ALL, CALL(capget) },
	{ ALL, CALL(rseq) }, { ALL, CALL(set_robust_list) }, { ALL, CALL(getrusage) },
	{ ALL, CALL(pwritev2) },

	{ NOT_VERIFIER, CALL(getppid) }, { NOT_VERIFIER, CALL(uname) },
	{ NOT_VERIFIER, CALL(sysinfo) }, { NOT_VERIFIER, CALL(sched_getaffinity) },
	{ NOT_VERIFIER, CALL(clock_getres) }, { NOT_VERIFIER, CALL(clock_nanosleep) },
	{ NOT_VERIFIER, CALL(nanosleep) }, { NOT_VERIFIER, CALL(getcpu) },
	{ NOT_VERIFIER, CALL(dup) }, { NOT_VERIFIER, CALL(dup2) }, { NOT_VERIFIER, CALL(dup3) },
	{ NOT_VERIFIER, CALL(pipe) }, { NOT_VERIFIER, CALL(pipe2) },
	{ NOT_VERIFIER, CALL(pread64) }, { NOT_VERIFIER, CALL(preadv) },
	{ NOT_VERIFIER, CALL(close_range) }, { NOT_VERIFIER, CALL(membarrier) },
	{ NOT_VERIFIER, CALL(set_tid_address) }, { NOT_VERIFIER, CALL(rt_sigtimedwait) },

	/* names: Landlock says which */
	{ NOT_VERIFIER, CALL(open) }, { NOT_VERIFIER, CALL(openat) },
	{ NOT_VERIFIER, CALL(openat2) },
	{ NOT_VERIFIER, CALL(stat) }, { NOT_VERIFIER, CALL(lstat) },
	{ NOT_VERIFIER, CALL(newfstatat) }, { NOT_VERIFIER, CALL(statx) },
	{ NOT_VERIFIER, CALL(statfs) }, { NOT_VERIFIER, CALL(fstatfs) },
	{ NOT_VERIFIER, CALL(access) }, { NOT_VERIFIER, CALL(faccessat) },
	{ NOT_VERIFIER, CALL(faccessat2) }, { NOT_VERIFIER, CALL(readlink) },
	{ NOT_VERIFIER, CALL(readlinkat) }, { NOT_VERIFIER, CALL(getdents64) },
	{ NOT_VERIFIER, CALL(getcwd) }, { NOT_VERIFIER, CALL(umask) },
	{ STORING | SUPERVISOR, CALL(unlink) }, { STORING | SUPERVISOR, CALL(unlinkat) },
	{ STORING | SUPERVISOR, CALL(ftruncate) }, { STORING | SUPERVISOR, CALL(chdir) },

	/* changing files; the supervisor keeps a note of its own in run_dir */
	{ STORING | SUPERVISOR, CALL(pwrite64) }, { STORING | SUPERVISOR, CALL(fsync) },
	{ STORING | SUPERVISOR, CALL(rename) }, { STORING | SUPERVISOR, CALL(renameat) },
	{ STORING | SUPERVISOR, CALL(renameat2) }, { STORING | SUPERVISOR, CALL(flock) },
	{ STORING | SUPERVISOR, CALL(fchmod) },
	{ STORING, CALL(pwritev) }, { STORING, CALL(preadv2) },
	{ STORING, CALL(fdatasync) }, { STORING, CALL(sync_file_range) },
	{ STORING, CALL(fallocate) },
	{ STORING, CALL(fadvise64) }, { STORING, CALL(truncate) },
	{ STORING, CALL(copy_file_range) }, { STORING, CALL(mkdir) }, { STORING, CALL(mkdirat) },
	{ STORING, CALL(rmdir) }, { STORING, CALL(link) }, { STORING, CALL(linkat) },
	{ STORING, CALL(symlink) }, { STORING, CALL(symlinkat) }, { STORING, CALL(chmod) },
	{ STORING, CALL(fchmodat) }, { STORING, CALL(fchown) },
	{ STORING, CALL(fchownat) }, { STORING, CALL(utimensat) }, { STORING, CALL(fchdir) },
	{ STORING, CALL(msync) }, { FETCHER, CALL(fadvise64) }, { FETCHER, CALL(sendfile) },

	/* talking over sockets that are there */
	{ NOT_VERIFIER, CALL(sendmsg) }, { NOT_VERIFIER, CALL(recvmsg) },
	{ NOT_VERIFIER, CALL(sendto) }, { NOT_VERIFIER, CALL(recvfrom) },
	{ NOT_VERIFIER, CALL(shutdown) }, { NOT_VERIFIER, CALL(getsockopt) },
	{ NOT_VERIFIER, CALL(eventfd2) }, { NOT_VERIFIER, CALL(signalfd4) },
	{ WORKER, CALL(accept4) }, { WORKER, CALL(memfd_create) },
	{ SUPERVISOR, CALL(memfd_create) },
	{ WORKER, CALL(splice) }, { WORKER, CALL(vmsplice) }, { WORKER, CALL(tee) },
	{ WORKER | FETCHER, CALL(epoll_create1) }, { WORKER | FETCHER, CALL(epoll_ctl) },
	{ WORKER | FETCHER, CALL(epoll_wait) }, { WORKER | FETCHER, CALL(epoll_pwait) },
	{ WORKER | FETCHER, CALL(timerfd_create) }, { WORKER | FETCHER, CALL(timerfd_settime) },
	{ WORKER | FETCHER | SUPERVISOR, CALL(setsockopt) },

	/* the network */
	{ FETCHER | UPDATER, CALL(connect) }, { FETCHER, CALL(bind) }, { FETCHER, CALL(sendmmsg) },
	{ FETCHER, CALL(recvmmsg) }, { FETCHER, CALL(getsockname) }, { FETCHER, CALL(getpeername) },
	{ FETCHER, CALL(select) }, { FETCHER, CALL(pselect6) }, { FETCHER, CALL(setitimer) },
	{ FETCHER, CALL(alarm) }, { FETCHER, CALL(getgroups) },

	/* processes */
	{ SUPERVISOR | UPDATER, CALL(wait4) }, { SUPERVISOR | UPDATER, CALL(waitid) },
	{ SUPERVISOR, CALL(fork) }, { SUPERVISOR, CALL(vfork) }, { SUPERVISOR, CALL(kill) },
	{ SUPERVISOR, CALL(pidfd_open) }, { SUPERVISOR, CALL(pidfd_send_signal) },
	{ SUPERVISOR, CALL(umount2) }, { SUPERVISOR, CALL(setpgid) },
	{ SUPERVISOR, CALL(set_tid_address) }, { SUPERVISOR, CALL(timerfd_create) },
	{ SUPERVISOR, CALL(timerfd_settime) },
};

/* The run-time of a sanitizer, and its tracer at the end. */
static const int sanitizer_may[] = {
	CALL(open), CALL(openat), CALL(readlink), CALL(readlinkat), CALL(clone), CALL(wait4),
	CALL(ptrace), CALL(prctl), CALL(arch_prctl), CALL(getdents), CALL(getdents64),
	CALL(getppid),
	CALL(sched_getaffinity), CALL(pipe2), CALL(pipe), CALL(dup2), CALL(uname),
	CALL(sysinfo), CALL(clock_nanosleep), CALL(nanosleep), CALL(set_robust_list), CALL(rseq),
	CALL(membarrier), CALL(kill), CALL(tgkill), CALL(rt_sigtimedwait), CALL(fork),
	CALL(newfstatat), CALL(stat), CALL(lstat), CALL(prlimit64), CALL(ioctl),
	CALL(getcwd), CALL(fcntl), CALL(pread64), CALL(setrlimit), CALL(set_tid_address),
	CALL(sched_setaffinity), CALL(personality), CALL(access), CALL(statx),
};

/* What an intruder would want, and nothing that is started by the starter needs. */
static const int refused_to_children[] = {
	CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev), CALL(kcmp),
	CALL(process_madvise), CALL(pidfd_getfd),
	CALL(mount), CALL(umount2), CALL(pivot_root), CALL(chroot), CALL(open_tree),
	CALL(move_mount), CALL(fsopen), CALL(fsconfig), CALL(fsmount), CALL(fspick),
	CALL(mount_setattr), CALL(unshare), CALL(setns),
	CALL(bpf), CALL(perf_event_open), CALL(userfaultfd), CALL(keyctl), CALL(add_key),
	CALL(request_key), CALL(io_uring_setup), CALL(io_uring_enter), CALL(io_uring_register),
	CALL(kexec_load), CALL(kexec_file_load), CALL(init_module), CALL(finit_module),
	CALL(delete_module), CALL(reboot), CALL(swapon), CALL(swapoff), CALL(acct), CALL(quotactl),
	CALL(settimeofday), CALL(clock_settime), CALL(adjtimex), CALL(clock_adjtime),
	CALL(sethostname), CALL(setdomainname), CALL(syslog), CALL(vhangup), CALL(iopl),
	CALL(ioperm), CALL(name_to_handle_at), CALL(open_by_handle_at), CALL(fanotify_init),
	CALL(lookup_dcookie), CALL(mknod), CALL(mknodat), CALL(nfsservctl), CALL(uselib),
	CALL(setuid), CALL(setgid), CALL(setreuid), CALL(setregid), CALL(setresuid),
	CALL(setresgid), CALL(setfsuid), CALL(setfsgid), CALL(setgroups), CALL(listen),
};

/* Of prctl(): a name, and questions about ourselves. */
static const int own_affairs[] = {
	PR_SET_NAME, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_GET_DUMPABLE, PR_GET_SECCOMP,
	PR_CAPBSET_READ, PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, 66 /* PR_GET_MDWE */,
	0x53564d41 /* PR_SET_VMA, by malloc */,
};

/* ioctl(): of the kernel's 32 bits. */
static const struct {
	unsigned roles;
	uint32_t request;
} permitted_ioctls[] = {
	{ ALL, 0x5401 },			/* TCGETS: is this a terminal? asks stdio */
	{ SUPERVISOR, 0x4010e501 },		/* FUSE_DEV_IOC_BACKING_OPEN */
	{ SUPERVISOR, 0x4004e502 },		/* FUSE_DEV_IOC_BACKING_CLOSE */
	{ WORKER, 0xc0046686 },			/* FS_IOC_MEASURE_VERITY */
	{ STORING, 0xc020660b },		/* FS_IOC_FIEMAP */
	{ UPDATER, 0x5413 },			/* TIOCGWINSZ */
	{ FETCHER, FIONREAD }, { FETCHER, FIONBIO },
};

/*
 * fcntl(): by command.  Not F_SETOWN, F_SETOWN_EX and F_SETSIG, by which the kernel sends others
 * the signal that kill() may not.
 */
static const uint32_t permitted_fcntls[] = {
	F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW,
	F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_GETPIPE_SZ, F_SETPIPE_SZ, F_ADD_SEALS,
	F_GET_SEALS,
};

/* ---- rules ----------------------------------------------------------------------------------- */

static int
add_all(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t n)
{
	int rc = 0;

	/* A negative number is a call that this architecture does not have. */
	for (size_t i = 0; i < n && rc == 0; i++)
		if (calls[i] >= 0)
			rc = seccomp_rule_add(filter, action, calls[i], 0);
	return rc;
}

static int
permit(scmp_filter_ctx filter, int call, struct scmp_arg_cmp argument)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, argument);
}

/* Only without these bits in an argument. */
static int
permit_without(scmp_filter_ctx filter, int call, unsigned argument, uint64_t bits)
{
	return permit(filter, call, SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, bits, 0));
}

/* Memory may be mapped and changed but never be made executable, but for libraries of a fetcher. */
static int
add_memory(scmp_filter_ctx filter, enum sandbox_role role)
{
	int rc = permit_without(filter, CALL(mmap), 2, PROT_EXEC);

	if (rc == 0)
		rc = permit_without(filter, CALL(mprotect), 2, PROT_EXEC);
	if (rc == 0 && role == SANDBOX_FETCHER)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(mmap), 2,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE,
					      PROT_EXEC),
				      SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0));
	return rc;
}

/* Signals go to our own threads, limits are our own. */
static int
add_ourselves(scmp_filter_ctx filter)
{
	int rc = permit(filter, CALL(tgkill), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));

	if (rc == 0)
		rc = permit(filter, CALL(prlimit64), SCMP_A0(SCMP_CMP_EQ, 0));
	for (size_t i = 0; i < N_OF(own_affairs) && rc == 0; i++)
		rc = permit(filter, CALL(prctl),
			    SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)own_affairs[i]));
	return rc;
}

static int
add_ioctls(scmp_filter_ctx filter, enum sandbox_role role)
{
	int rc = 0;

	for (size_t i = 0; i < N_OF(permitted_ioctls) && rc == 0; i++)
		if (permitted_ioctls[i].roles & (1U << role))
			rc = permit(filter, CALL(ioctl),
				    SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU,
					    permitted_ioctls[i].request));
	return rc;
}

static int
add_fcntls(scmp_filter_ctx filter, enum sandbox_role role)
{
	int rc = 0;

	if (role == SANDBOX_VERIFIER)
		return 0;
	for (size_t i = 0; i < N_OF(permitted_fcntls) && rc == 0; i++)
		rc = permit(filter, CALL(fcntl),
			    SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, permitted_fcntls[i]));
	return rc;
}

/* Threads, or processes in the name spaces that we are in. */
static int
add_clone(scmp_filter_ctx filter, enum sandbox_role role)
{
	const uint64_t spaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
				CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_PTRACE;

	if (role == SANDBOX_SUPERVISOR)
		return permit_without(filter, CALL(clone), 0, spaces);
	if (role == SANDBOX_WORKER || role == SANDBOX_FETCHER)
		return permit(filter, CALL(clone),
			      SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	return 0;
}

/* Comparisons are of all 64 bits, so high bits are no way around. */
static int
add_sockets(scmp_filter_ctx filter, enum sandbox_role role)
{
	static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
	size_t n = role == SANDBOX_FETCHER ? N_OF(families) : role == SANDBOX_UPDATER ? 1 : 0;
	int rc = 0;

	if (role != SANDBOX_VERIFIER)
		rc = permit(filter, CALL(socketpair), SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = permit(filter, CALL(socket),
			    SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
	return rc;
}

/* A mount that gives nobody anything. */
static int
add_mount(scmp_filter_ctx filter)
{
	const uint64_t wanted = MS_RDONLY | MS_NOSUID | MS_NODEV;

	return permit(filter, CALL(mount),
		      SCMP_A3(SCMP_CMP_MASKED_EQ, ~(uint64_t)MS_NOEXEC, wanted));
}

/* newfstatat of no name is the fstat() of newer libc. */
static int
add_fstat(scmp_filter_ctx filter)
{
	return permit(filter, CALL(newfstatat),
		      SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
}

static int
add_permissions(scmp_filter_ctx filter, enum sandbox_role role)
{
	int rc = add_memory(filter, role);

	for (size_t i = 0; i < N_OF(permitted) && rc == 0; i++)
		if ((permitted[i].roles & (1U << role)) && permitted[i].call >= 0)
			rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, permitted[i].call, 0);
	if (rc == 0)
		rc = add_ourselves(filter);
	if (rc == 0)
		rc = add_ioctls(filter, role);
	if (rc == 0)
		rc = add_fcntls(filter, role);
	if (rc == 0)
		rc = add_clone(filter, role);
	if (rc == 0)
		rc = add_sockets(filter, role);
	if (rc == 0 && role == SANDBOX_SUPERVISOR)
		rc = add_mount(filter);
	if (rc == 0 && role == SANDBOX_VERIFIER)
		rc = add_fstat(filter);
	/* The other filter answers it. */
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(clone3), 0);
	if (rc == 0 && SANITIZED)
		rc = add_all(filter, SCMP_ACT_ALLOW, sanitizer_may, N_OF(sanitizer_may));
	return rc;
}

/* ---- filters --------------------------------------------------------------------------------- */

/* What happens to a call that is not on the list. */
static uint32_t
refusal(void)
{
#ifdef TEST_BUILD
	const char *word = secure_getenv("VMIMAGEFS_TEST_FILTER");

	if (word != NULL && strcmp(word, "kill") == 0)
		return SCMP_ACT_KILL_PROCESS;
#endif
	return SCMP_ACT_ERRNO(EPERM);
}

static int
load_and_free(scmp_filter_ctx filter, int rc)
{
	if (rc == 0)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	return rc;
}

static int
load_quiet(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	if (filter == NULL)
		return -ENOMEM;
	return load_and_free(filter, seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS),
						      CALL(clone3), 0));
}

/* Refused by EPERM always: in children it is not a mistake of ours to be found. */
static int
load_refusals(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	/* LeakSanitizer traces. */
	size_t skip = SANITIZED ? 2 : 0;

	if (filter == NULL)
		return -ENOMEM;
	return load_and_free(filter, add_all(filter, SCMP_ACT_ERRNO(EPERM),
					     refused_to_children + skip,
					     N_OF(refused_to_children) - skip));
}

static int
load_permissions(enum sandbox_role role)
{
	scmp_filter_ctx filter = seccomp_init(refusal());

	if (filter == NULL)
		return -ENOMEM;
	/* Kernels before 4.14 cannot; a refusal is a refusal all the same. */
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	return load_and_free(filter, add_permissions(filter, role));
}

/*
 * Not where seccomp() is unknown: libseccomp would then take an older way into the kernel, and what
 * runs us in a machine of its own, as valgrind does, would be bound by rules that were made for us.
 */
static bool
kernel_has_seccomp(void)
{
	uint32_t action = SCMP_ACT_ALLOW;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 || errno != ENOSYS;
}

int
syscallfilter_enter(enum sandbox_role role, unsigned *missing, struct err *err)
{
	int rc;

	if (role == SANDBOX_RUNNER)
		return 0;
	if (!kernel_has_seccomp()) {
		*missing |= SANDBOX_MISSING_SECCOMP;
		return 0;
	}
	if (role == SANDBOX_STARTER) {
		rc = load_refusals();
	} else {
		rc = load_quiet();
		if (rc == 0)
			rc = load_permissions(role);
	}
	if (rc == -EINVAL || rc == -ENOSYS || rc == -EOPNOTSUPP) {
		*missing |= SANDBOX_MISSING_SECCOMP;
		return 0;
	}
	if (rc != 0)
		return err_set(err, -rc, "sandbox: seccomp: %s", strerrordesc_np(-rc));
	return 0;
}

#else

int
syscallfilter_enter(enum sandbox_role role, unsigned *missing, struct err *err)
{
	(void)err;
	if (role != SANDBOX_RUNNER)
		*missing |= SANDBOX_MISSING_SECCOMP;
	return 0;
}

#endif
