/*
 * Two kinds of filters.  The verifier runs one computation on bytes that nobody has authenticated:
 * it gets a list of what it may call, everything else fails.  The other processes use large
 * libraries whose calls change from version to version: they lose what an intruder would want,
 * by a list.
 *
 *                           supervisor  worker  fetcher  verifier
 *   sockets                 -           -       inet, inet6, unix, netlink     -
 *   connect                 -           -       yes      -
 *   bind, listen, accept    -           accept  bind     -
 *   new processes           yes         -       -        -
 *   signals to others       yes         -       -        -
 *   exec                    -           -       -        -
 *   umount                  yes         -       -        -
 *
 * bind() stays with the fetcher because the resolver binds its netlink socket; listening is
 * refused. The starter has no filter: what it starts must not inherit one.
 */
#include "config.h"
#include "syscallfilter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
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

/* For every role that has a list of refusals. */
static const int refused_by_all[] = {
	CALL(execve), CALL(execveat),
	CALL(process_vm_readv), CALL(process_vm_writev), CALL(kcmp),
	CALL(process_madvise), CALL(pidfd_getfd),
	CALL(mount), CALL(pivot_root), CALL(chroot), CALL(open_tree), CALL(move_mount),
	CALL(fsopen),
	CALL(fsconfig), CALL(fsmount), CALL(fspick), CALL(mount_setattr),
	CALL(unshare), CALL(setns),
	CALL(bpf), CALL(perf_event_open), CALL(userfaultfd), CALL(keyctl), CALL(add_key),
	CALL(request_key), CALL(io_uring_setup), CALL(io_uring_enter), CALL(io_uring_register),
	CALL(kexec_load), CALL(kexec_file_load), CALL(init_module), CALL(finit_module),
	CALL(delete_module), CALL(reboot), CALL(swapon), CALL(swapoff), CALL(acct), CALL(quotactl),
	CALL(settimeofday), CALL(clock_settime), CALL(adjtimex), CALL(clock_adjtime),
	CALL(sethostname), CALL(setdomainname), CALL(syslog), CALL(vhangup), CALL(iopl),
	CALL(ioperm),
	CALL(name_to_handle_at), CALL(open_by_handle_at), CALL(fanotify_init), CALL(lookup_dcookie),
	CALL(mknod), CALL(mknodat), CALL(personality), CALL(nfsservctl), CALL(uselib),
	CALL(setuid), CALL(setgid), CALL(setreuid), CALL(setregid), CALL(setresuid),
	CALL(setresgid),
	CALL(setfsuid), CALL(setfsgid), CALL(setgroups), CALL(capset),
	CALL(listen),
};

static const int refused_sockets[] = { CALL(socket), CALL(connect), CALL(bind) };
static const int refused_processes[] = { CALL(fork), CALL(vfork) };
static const int refused_umount[] = { CALL(umount2) };
static const int refused_accept[] = { CALL(accept), CALL(accept4) };
static const int refused_tracing[] = { CALL(ptrace) };
static const int refused_signals[] = {
	CALL(kill), CALL(tkill), CALL(rt_sigqueueinfo), CALL(rt_tgsigqueueinfo),
	CALL(pidfd_send_signal),
};

static const int verifier_may[] = {
	CALL(read), CALL(write), CALL(readv), CALL(writev), CALL(close), CALL(lseek), CALL(fstat),
	CALL(brk), CALL(munmap), CALL(mremap), CALL(madvise),
	CALL(exit), CALL(exit_group), CALL(futex), CALL(rt_sigreturn), CALL(rt_sigaction),
	CALL(rt_sigprocmask), CALL(sigaltstack), CALL(restart_syscall),
	CALL(clock_gettime), CALL(gettimeofday), CALL(time), CALL(getrandom), CALL(getpid),
	CALL(gettid), CALL(getrlimit), CALL(sched_yield),
	CALL(poll), CALL(ppoll), CALL(getuid), CALL(geteuid), CALL(getgid), CALL(getegid),
#if SANITIZED
	CALL(openat), CALL(readlink), CALL(readlinkat), CALL(clone), CALL(wait4), CALL(ptrace),
	CALL(prctl),
	CALL(arch_prctl), CALL(getdents64), CALL(process_vm_readv), CALL(getppid),
	CALL(sched_getaffinity),
	CALL(pipe2), CALL(pipe), CALL(dup2), CALL(uname), CALL(sysinfo), CALL(clock_nanosleep),
	CALL(nanosleep),
	CALL(set_robust_list), CALL(rseq), CALL(membarrier), CALL(kill), CALL(rt_sigtimedwait),
#endif
};

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
refuse_all(scmp_filter_ctx filter, const int *calls, size_t n)
{
	return add_all(filter, SCMP_ACT_ERRNO(EPERM), calls, n);
}

/* Threads, but no processes.  The flags of clone3 are in memory, where a filter cannot look. */
static int
refuse_processes(scmp_filter_ctx filter)
{
	int rc = refuse_all(filter, refused_processes, N_OF(refused_processes));

	if (rc == 0 && !SANITIZED)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), CALL(clone), 1,
				      SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0);
	return rc;
}

/*
 * Refuses every family but those four.  Comparisons are of all 64 bits, so high bits are no
 * way around.
 */
static int
refuse_odd_sockets(scmp_filter_ctx filter)
{
	int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), CALL(socket), 1,
				  SCMP_A0(SCMP_CMP_GT, AF_NETLINK));

	for (unsigned family = 0; family < AF_NETLINK && rc == 0; family++) {
		if (family == AF_UNIX || family == AF_INET || family == AF_INET6)
			continue;
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), CALL(socket), 1,
				      SCMP_A0(SCMP_CMP_EQ, family));
	}
	return rc;
}

/* Other processes of the same user are not to be stopped or starved; our own threads are ours. */
static int
refuse_signals(scmp_filter_ctx filter)
{
	int rc = refuse_all(filter, refused_signals, N_OF(refused_signals));

	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), CALL(tgkill), 1,
				      SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)getpid()));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), CALL(prlimit64), 1,
				      SCMP_A0(SCMP_CMP_NE, 0));
	return rc;
}

/*
 * Typing into the terminal that we were started from.  The kernel looks at 32 bits of the
 * request.
 */
static int
refuse_terminal(scmp_filter_ctx filter)
{
	static const unsigned requests[] = { TIOCSTI, TIOCLINUX };
	int rc = 0;

	for (size_t i = 0; i < N_OF(requests) && rc == 0; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), CALL(ioctl), 1,
				      SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, requests[i]));
	return rc;
}

static int
add_refusals(scmp_filter_ctx filter, enum sandbox_role role)
{
	int rc = refuse_all(filter, refused_by_all, N_OF(refused_by_all));

	if (rc == 0)
		rc = refuse_terminal(filter);
	if (rc == 0 && role != SANDBOX_SUPERVISOR && !SANITIZED)
		rc = refuse_signals(filter);

	if (rc == 0 && !SANITIZED)
		rc = refuse_all(filter, refused_tracing, N_OF(refused_tracing));
	if (rc == 0 && role == SANDBOX_FETCHER)
		rc = refuse_odd_sockets(filter);
	else if (rc == 0)
		rc = refuse_all(filter, refused_sockets, N_OF(refused_sockets));
	if (rc == 0 && role != SANDBOX_WORKER)
		rc = refuse_all(filter, refused_accept, N_OF(refused_accept));
	if (rc == 0 && role != SANDBOX_SUPERVISOR)
		rc = refuse_all(filter, refused_umount, N_OF(refused_umount));
	if (rc == 0 && role != SANDBOX_SUPERVISOR)
		rc = refuse_processes(filter);
	return rc;
}

/*
 * The calls whose arguments decide: memory may be mapped and changed but never be made
 * executable; signals go to ourselves (abort), limits are our own, and newfstatat is the fstat()
 * of newer libc.
 */
static int
add_verifier(scmp_filter_ctx filter)
{
	static const int memory[] = { CALL(mmap), CALL(mprotect) };
	int rc = add_all(filter, SCMP_ACT_ALLOW, verifier_may, N_OF(verifier_may));

	for (size_t i = 0; i < N_OF(memory) && rc == 0; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, memory[i], 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(tgkill), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(prlimit64), 1,
				      SCMP_A0(SCMP_CMP_EQ, 0));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(newfstatat), 1,
				      SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
	return rc;
}

int
syscallfilter_enter(enum sandbox_role role, unsigned *missing, struct err *err)
{
	bool strict = role == SANDBOX_VERIFIER;
	scmp_filter_ctx filter;
	int rc;

	if (role == SANDBOX_STARTER)
		return 0;
	filter = seccomp_init(strict ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW);
	if (filter == NULL)
		return err_set(err, ENOMEM, "sandbox: no memory for a seccomp filter");
	rc = strict ? add_verifier(filter) : add_refusals(filter, role);
	if (rc == 0)
		rc = seccomp_load(filter);
	seccomp_release(filter);
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
	if (role != SANDBOX_STARTER)
		*missing |= SANDBOX_MISSING_SECCOMP;
	return 0;
}

#endif
