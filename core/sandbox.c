/*
 * What each role keeps.
 *
 *               capabilities    no_new_privs  files (Landlock)  calls (syscallfilter.c)
 *   supervisor  CAP_SYS_ADMIN   yes           as the user       a list of refusals
 *   starter     none            no            as the user       all: its children inherit
 *   worker      none            yes           the paths given   a list of refusals
 *   fetcher     none            yes           reads only        a list of refusals
 *   verifier    none            yes           none              a list of permissions
 *
 * Capabilities are taken by raw calls: the bounding set while we still may (it needs
 * CAP_SETPCAP), the rest at the end, because a change of user takes some away by itself.
 */
#include "config.h"
#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "landlock.h"
#include "limits.h"
#include "log.h"
#include "syscallfilter.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* The bounding set goes first: afterwards nothing that is executed can gain a capability. */
static void
drop_bounding_set(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

static void __attribute__((noreturn))
die_half_done(const char *what)
{
	log_error("%s: %s: privileges are only partly dropped, giving up", what,
		  strerrordesc_np(errno));
	abort();
}

int
sandbox_become_user(uid_t uid, gid_t gid, struct err *err)
{
	uid_t real, effective, saved;

	if (getresuid(&real, &effective, &saved) != 0)
		return err_set(err, errno, "getresuid: %s", strerrordesc_np(errno));
	if (real == uid && effective == uid && saved == uid)
		return 0;
	if (effective != 0)
		return err_set(err, EPERM, "cannot become uid %u: run this as root or as that user",
			       (unsigned)uid);
	if (setgroups(0, NULL) != 0)
		return err_set(err, errno, "setgroups: %s", strerrordesc_np(errno));
	drop_bounding_set();
	if (setresgid(gid, gid, gid) != 0)
		die_half_done("setresgid");
	if (setresuid(uid, uid, uid) != 0)
		die_half_done("setresuid");
	if (getresuid(&real, &effective, &saved) != 0 || real != uid || effective != uid ||
	    saved != uid)
		die_half_done("getresuid");
	return 0;
}

/* Leaves exactly the capabilities of the mask. */
static int
keep_capabilities(uint64_t keep, struct err *err)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	for (unsigned i = 0; i < 2; i++) {
		data[i].permitted = data[i].effective = (uint32_t)(keep >> (32 * i));
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, data) != 0)
		return err_set(err, errno, "sandbox: capset: %s", strerrordesc_np(errno));
	return 0;
}

static void
limit_to(__rlimit_resource_t resource, rlim_t most)
{
	struct rlimit now, limit = { most, most };

	if (getrlimit(resource, &now) == 0 && now.rlim_max != RLIM_INFINITY && now.rlim_max < most)
		return;
	setrlimit(resource, &limit);
}

static void
limit_resources(enum sandbox_role role)
{
	limit_to(RLIMIT_CORE, 0);
	if (role != SANDBOX_VERIFIER)
		return;
	limit_to(RLIMIT_CPU, LIMIT_VERIFIER_CPU_SECONDS);
	if (!SANITIZED) {	/* shadow memory is terabytes of address space */
		limit_to(RLIMIT_AS, (rlim_t)LIMIT_VERIFIER_MEMORY);
		limit_to(RLIMIT_NPROC, 0);
	}
}

/* Files that a sandbox without them would only make slower or noisier. */
static const struct sandbox_path harmless[] = {
	{ "/dev/null", true },
	{ "/dev/urandom", false },
#if SANITIZED
	{ "/proc", false },
	{ "/usr/lib", false },
#endif
};

static int
enter_landlock(enum sandbox_role role, const struct sandbox_path *paths, size_t n_paths,
	       unsigned *missing, struct err *err)
{
	enum { N_HARMLESS = sizeof(harmless) / sizeof(harmless[0]) };
	CLEANUP_FREE struct sandbox_path *all = xcalloc(n_paths + N_HARMLESS, sizeof(*all));
	struct landlock_rules rules = {
		.write = true, .tcp_bind = true, .scope = true, .paths = all
	};

	if (role == SANDBOX_SUPERVISOR || role == SANDBOX_STARTER)
		return 0;
	/*
	 * What the fetcher reads (resolver, trust stores, file:// images) is not known
	 * beforehand.
	 */
	rules.read = role != SANDBOX_FETCHER || n_paths > 0;
	rules.tcp_connect = role != SANDBOX_FETCHER;
	for (size_t i = 0; i < n_paths; i++) {
		all[i] = paths[i];
		if (role != SANDBOX_WORKER)
			all[i].writable = false;
	}
	rules.n_paths = n_paths;
	if (role != SANDBOX_VERIFIER || SANITIZED) {
		memcpy(all + n_paths, harmless, sizeof(harmless));
		rules.n_paths += N_HARMLESS;
	}
	return landlock_enter(&rules, missing, err);
}

int
sandbox_enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n_paths,
	      unsigned *missing, struct err *err)
{
	int rc;

	*missing = 0;
	umask(0027);
	limit_resources(role);
	if (role == SANDBOX_FETCHER && !SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return err_set(err, errno, "sandbox: PR_SET_DUMPABLE: %s", strerrordesc_np(errno));
	/*
	 * The starter's children may be anything a site configures; the others never gain
	 * anything.
	 */
	if (role != SANDBOX_STARTER && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return err_set(err, errno, "sandbox: PR_SET_NO_NEW_PRIVS: %s",
			       strerrordesc_np(errno));
	rc = keep_capabilities(role == SANDBOX_SUPERVISOR ? 1ULL << CAP_SYS_ADMIN : 0, err);
	if (rc == 0)
		rc = enter_landlock(role, paths, n_paths, missing, err);
	if (rc == 0)
		rc = syscallfilter_enter(role, missing, err);
	return rc;
}

void
sandbox_describe_missing(unsigned missing, struct buf *out)
{
	static const struct { unsigned bit; const char *text; } parts[] = {
		{ SANDBOX_MISSING_LANDLOCK,
		  "no Landlock in this kernel: files are protected by their modes alone" },
		{ SANDBOX_MISSING_LANDLOCK_NET,
		  "no Landlock network rules in this kernel: only seccomp bars the network" },
		{ SANDBOX_MISSING_SECCOMP,
		  "no seccomp in this kernel or build: system calls are not filtered" },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (missing & parts[i].bit)
			buf_printf(out, "%s%s", out->len > 0 ? "; " : "", parts[i].text);
}

void
sandbox_clean_environment(const char *const *keep)
{
	CLEANUP_FREE char **values = NULL;
	size_t n = 0;

	while (keep != NULL && keep[n] != NULL)
		n++;
	values = xcalloc(n + 1, sizeof(*values));
	for (size_t i = 0; i < n; i++)
		values[i] = xstrdup(getenv(keep[i]));
	clearenv();
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("LC_ALL", "C", 1);
	setenv("TZ", "UTC", 1);
	for (size_t i = 0; i < n; i++) {
		if (values[i] != NULL)
			setenv(keep[i], values[i], 1);
		free(values[i]);
	}
}
