/*
 * What each role keeps.
 *
 *               capabilities    no_new_privs  files (Landlock)     TCP      calls (syscallfilter.c)
 *   supervisor  CAP_SYS_ADMIN   yes           as the user          none     permissions
 *   starter     none            yes           as the user          any      refusals
 *   runner      none            no            as its user          any      all
 *   worker      none            yes           the paths given      none     permissions
 *   fetcher     none            yes           reads only           connect  permissions
 *   verifier    none            yes           none                 none     permissions
 *   updater     none            yes           the paths given      none     permissions
 *
 * The supervisor has no rules for files: the kernel lets nobody under such rules mount or unmount.
 * The starter has no Landlock at all (enter_landlock() says why).  Starter and runner leave what
 * they have to what they start: the starter therefore has a list of what none of its children
 * needs, and the runner, whose children are the site's own programs, gives up its capabilities and
 * hides its memory, and no more.
 *
 * Capabilities are taken by raw calls: the bounding set while we still may (it needs
 * CAP_SETPCAP), the rest at the end, because a change of user takes some away by itself.
 */
#include "config.h"
#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
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
#include "sandboxstate.h"
#include "syscallfilter.h"

#ifndef PR_SET_MDWE		/* Linux 6.3 */
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

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

/* Unless it is where the output goes: by hand that may be a file. */
static void
forbid_file_growth(void)
{
	struct stat st;

	if (SANITIZED || fstat(STDOUT_FILENO, &st) != 0 || S_ISREG(st.st_mode))
		return;
	signal(SIGXFSZ, SIG_IGN);
	limit_to(RLIMIT_FSIZE, 0);
}

/* A runner's limits would be those of its handlers. */
static void
limit_resources(enum sandbox_role role)
{
	limit_to(RLIMIT_CORE, 0);
	if (role == SANDBOX_FETCHER || role == SANDBOX_VERIFIER)
		forbid_file_growth();
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

/* What the role takes away; paths give some back. */
static struct landlock_rules
rules_of(enum sandbox_role role, size_t n_paths)
{
	struct landlock_rules rules = {
		.write = role != SANDBOX_SUPERVISOR, .tcp_bind = true,
		.tcp_connect = role != SANDBOX_FETCHER,
		/* The supervisor ends workers that are in no domain of its own. */
		.scope_sockets = true, .scope_signals = role != SANDBOX_SUPERVISOR,
	};

	switch (role) {
	case SANDBOX_FETCHER:
		/*
		 * What it reads (resolver, trust stores, file:// images) may not be known
		 * beforehand.
		 */
		rules.read = n_paths > 0;
		break;
	case SANDBOX_WORKER:
	case SANDBOX_VERIFIER:
	case SANDBOX_UPDATER:
		rules.read = true;
		break;
	case SANDBOX_SUPERVISOR:
	case SANDBOX_STARTER:
	case SANDBOX_RUNNER:
	case SANDBOX_ROLES:
		break;
	}
	return rules;
}

static int
enter_landlock(enum sandbox_role role, const struct sandbox_path *paths, size_t n_paths,
	       struct landlock_force *force, unsigned *missing, struct err *err)
{
	enum { N_HARMLESS = sizeof(harmless) / sizeof(harmless[0]) };
	CLEANUP_FREE struct sandbox_path *all = xcalloc(n_paths + N_HARMLESS, sizeof(*all));
	struct landlock_rules rules = rules_of(role, n_paths);

	/*
	 * Whatever a domain is for, below it no file can be moved between directories, which the
	 * store of its children lives by (measured, Linux 6.18).
	 */
	if (role == SANDBOX_STARTER)
		return 0;
	for (size_t i = 0; i < n_paths; i++) {
		all[i] = paths[i];
		if (role == SANDBOX_FETCHER || role == SANDBOX_VERIFIER)
			all[i].writable = false;
	}
	rules.paths = all;
	rules.n_paths = n_paths;
	if (role != SANDBOX_VERIFIER || SANITIZED) {
		memcpy(all + n_paths, harmless, sizeof(harmless));
		rules.n_paths += N_HARMLESS;
	}
	return landlock_enter(&rules, force, missing, err);
}

/* Secrets, and what leads to them, are not for debuggers of the same user, nor for core files. */
static int
hide_memory(struct err *err)
{
	if (!SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return err_set(err, errno, "sandbox: PR_SET_DUMPABLE: %s", strerrordesc_np(errno));
	return 0;
}

static void
note_state(enum sandbox_role role, unsigned missing, const struct landlock_force *force)
{
	struct sandbox_state state;

	sandbox_look(role, &state);
	state.missing = missing;
	state.landlock_abi = force->abi;
	state.landlock_files = force->files;
	state.landlock_net = force->net;
	state.landlock_scope = force->scope;
	state.allow_list = state.seccomp == 2 && role != SANDBOX_STARTER;
	sandbox_board_note(&state);
}

/* Its handlers inherit what it has. */
static int
enter_runner(struct err *err)
{
	const struct landlock_force none = { 0 };
	/* Where a site runs handlers as root, it wants them to be root. */
	int rc = geteuid() != 0 ? keep_capabilities(0, err) : 0;

	if (rc == 0)
		rc = hide_memory(err);
	if (rc == 0)
		note_state(SANDBOX_RUNNER, 0, &none);
	return rc;
}

int
sandbox_enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n_paths,
	      unsigned *missing, struct err *err)
{
	struct landlock_force force = { 0 };
	int rc;

	*missing = 0;
	if (role == SANDBOX_RUNNER)
		return enter_runner(err);
	umask(0027);
	limit_resources(role);
	rc = hide_memory(err);
	if (rc != 0)
		return rc;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return err_set(err, errno, "sandbox: PR_SET_NO_NEW_PRIVS: %s",
			       strerrordesc_np(errno));
	rc = keep_capabilities(role == SANDBOX_SUPERVISOR ? 1ULL << CAP_SYS_ADMIN : 0, err);
	if (rc == 0)
		rc = enter_landlock(role, paths, n_paths, &force, missing, err);
	/* What makes code of data, as valgrind does, knows neither of the two. */
	if (rc == 0 && force.abi != 0 && role != SANDBOX_STARTER)
		prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0);
	if (rc == 0)
		rc = syscallfilter_enter(role, missing, err);
	if (rc == 0)
		note_state(role, *missing, &force);
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

const char *const sandbox_own_variables[] = {
	"VMIMAGEFS_LIBEXECDIR",
#if SANITIZED
	"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
#endif
#ifdef TEST_BUILD
	"SHIM_*", "FAKETIME*", "DONT_FAKE_MONOTONIC",
#endif
	NULL
};

/* What a test says to all programs. */
static const char *const test_variables[] = {
#ifdef TEST_BUILD
	"VMIMAGEFS_TEST_*",
#endif
	NULL
};

static bool
is_kept(const char *variable, const char *const *keep)
{
	size_t len = strcspn(variable, "=");

	for (size_t i = 0; keep != NULL && keep[i] != NULL; i++) {
		size_t n = strlen(keep[i]);
		bool all = n > 0 && keep[i][n - 1] == '*';

		if (all ? len >= n - 1 && memcmp(variable, keep[i], n - 1) == 0
			: len == n && memcmp(variable, keep[i], n) == 0)
			return true;
	}
	return false;
}

void
sandbox_clean_environment(const char *const *keep)
{
	CLEANUP_FREE char **kept = NULL;
	size_t n = 0;

	while (environ != NULL && environ[n] != NULL)
		n++;
	kept = xcalloc(n + 1, sizeof(*kept));
	for (size_t i = 0, k = 0; i < n; i++)
		if (strchr(environ[i], '=') != NULL &&
		    (is_kept(environ[i], keep) || is_kept(environ[i], test_variables)))
			kept[k++] = xstrdup(environ[i]);
	clearenv();
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("LC_ALL", "C", 1);
	setenv("TZ", "UTC", 1);
	for (size_t i = 0; kept[i] != NULL; i++) {
		size_t len = strcspn(kept[i], "=");

		kept[i][len] = '\0';
		setenv(kept[i], kept[i] + len + 1, 1);
		free(kept[i]);
	}
}
