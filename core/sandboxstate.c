#include "config.h"
#include "sandboxstate.h"

#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "hex.h"

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

static struct sandbox_board own_board;
static struct sandbox_board *board = &own_board;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* of the board, in this process */

static const char *const role_names[SANDBOX_ROLES] = {
	[SANDBOX_SUPERVISOR] = "supervisor", [SANDBOX_STARTER] = "starter",
	[SANDBOX_WORKER] = "worker", [SANDBOX_FETCHER] = "fetcher",
	[SANDBOX_VERIFIER] = "verifier", [SANDBOX_UPDATER] = "updater",
	[SANDBOX_RUNNER] = "runner",
};

/* ---- the board ------------------------------------------------------------------------------- */

void
sandbox_board_use(struct sandbox_board *to)
{
	pthread_mutex_lock(&lock);
	board = to != NULL ? to : &own_board;
	pthread_mutex_unlock(&lock);
}

void
sandbox_board_note(const struct sandbox_state *state)
{
	if (state->pid <= 0 || state->role < 0 || state->role >= SANDBOX_ROLES)
		return;
	pthread_mutex_lock(&lock);
	board->states[state->role] = *state;
	pthread_mutex_unlock(&lock);
}

/* Another process may write while we read: what is torn is shown once at most. */
bool
sandbox_board_get(enum sandbox_role role, struct sandbox_state *out)
{
	pthread_mutex_lock(&lock);
	*out = board->states[role];
	pthread_mutex_unlock(&lock);
	return out->pid > 0 && out->role == (int32_t)role;
}

/* ---- questions to the kernel ----------------------------------------------------------------- */

static uint64_t
any_capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	uint64_t any = 0;

	memset(data, 0, sizeof(data));
	if (syscall(SYS_capget, &header, data) != 0)
		return ~0ULL;
	for (unsigned i = 0; i < 2; i++)
		any |= (uint64_t)(data[i].permitted | data[i].effective | data[i].inheritable)
		       << (32 * i);
	return any;
}

static uint64_t
bounding_set(void)
{
	uint64_t set = 0;

	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			set |= 1ULL << cap;
	return set;
}

static uint8_t
ask(int question)
{
	int answer = prctl(question, 0, 0, 0, 0);

	return answer > 0 ? (uint8_t)answer : 0;
}

void
sandbox_look(enum sandbox_role role, struct sandbox_state *out)
{
	memset(out, 0, sizeof(*out));
	out->pid = getpid();
	out->role = (int32_t)role;
	out->uid = geteuid();
	out->capabilities = any_capabilities();
	out->bounding = bounding_set();
	out->no_new_privs = ask(PR_GET_NO_NEW_PRIVS);
	out->dumpable = ask(PR_GET_DUMPABLE);
	out->seccomp = ask(PR_GET_SECCOMP);
	out->no_exec_gain = ask(PR_GET_MDWE) & 1;
}

/* ---- in words -------------------------------------------------------------------------------- */

static void
describe_capabilities(const struct sandbox_state *s, struct buf *out)
{
	if (s->capabilities == 0)
		buf_puts(out, ", no capabilities");
	else if (s->capabilities == 1ULL << CAP_SYS_ADMIN)
		buf_puts(out, ", CAP_SYS_ADMIN alone");
	else
		buf_printf(out, ", capabilities %llx", (unsigned long long)s->capabilities);
	if (s->bounding != 0 && !s->no_new_privs)
		buf_puts(out, ", what it executes may gain some");
}

static void
describe_landlock(const struct sandbox_state *s, struct buf *out)
{
	const char *comma = "";

	if (s->landlock_abi == 0) {
		buf_puts(out, ", no Landlock");
		return;
	}
	buf_printf(out, ", Landlock %u (", s->landlock_abi);
	if (s->landlock_files) {
		buf_puts(out, "files");
		comma = ", ";
	}
	if (s->landlock_net) {
		buf_printf(out, "%sTCP", comma);
		comma = ", ";
	}
	if (s->landlock_scope)
		buf_printf(out, "%sscope", comma);
	buf_putc(out, ')');
}

static void
describe_seccomp(const struct sandbox_state *s, struct buf *out)
{
	if (s->seccomp != 2)
		buf_puts(out, ", no seccomp");
	else
		buf_printf(out, ", seccomp (list of %s)",
			   s->allow_list ? "permissions" : "refusals");
}

void
sandbox_state_describe(const struct sandbox_state *s, struct buf *out)
{
	buf_printf(out, "uid %u", (unsigned)s->uid);
	describe_capabilities(s, out);
	buf_puts(out, s->no_new_privs ? ", no_new_privs" : ", without no_new_privs");
	describe_landlock(s, out);
	describe_seccomp(s, out);
	if (s->no_exec_gain)
		buf_puts(out, ", no new code");
	if (s->dumpable)
		buf_puts(out, ", dumpable");
	if (s->missing != 0) {
		buf_puts(out, "; ");
		sandbox_describe_missing(s->missing, out);
	}
}

void
sandbox_board_text(struct buf *out)
{
	for (int role = 0; role < SANDBOX_ROLES; role++) {
		struct sandbox_state state;

		buf_printf(out, "sandbox.%s: ", role_names[role]);
		if (sandbox_board_get((enum sandbox_role)role, &state))
			sandbox_state_describe(&state, out);
		else
			buf_puts(out, "none has run yet");
		buf_putc(out, '\n');
	}
}

static void
add_object(const struct sandbox_state *s, struct jsonw *w)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	char caps[20];

	sandbox_state_describe(s, &text);
	snprintf(caps, sizeof(caps), "%016llx", (unsigned long long)s->capabilities);
	jsonw_integer(w, "pid", s->pid);
	jsonw_integer(w, "uid", s->uid);
	jsonw_string(w, "capabilities", caps);
	jsonw_boolean(w, "no_new_privs", s->no_new_privs != 0);
	jsonw_boolean(w, "dumpable", s->dumpable != 0);
	jsonw_integer(w, "landlock", s->landlock_abi);
	jsonw_string(w, "seccomp", s->seccomp != 2 ? "none" : s->allow_list ? "permissions"
									    : "refusals");
	jsonw_string(w, "text", buf_str(&text));
}

void
sandbox_board_json(struct jsonw *w)
{
	jsonw_open(w, "sandbox", '[');
	for (int role = 0; role < SANDBOX_ROLES; role++) {
		struct sandbox_state state;

		jsonw_open(w, NULL, '{');
		jsonw_string(w, "process", role_names[role]);
		if (sandbox_board_get((enum sandbox_role)role, &state))
			add_object(&state, w);
		jsonw_close(w, '}');
	}
	jsonw_close(w, ']');
}

/* ---- as a word ------------------------------------------------------------------------------- */

void
sandbox_state_pack(const struct sandbox_state *state, struct buf *out)
{
	const unsigned char *bytes = (const unsigned char *)state;

	for (size_t i = 0; i < sizeof(*state); i++)
		buf_printf(out, "%02x", bytes[i]);
}

bool
sandbox_state_unpack(const char *text, struct sandbox_state *out)
{
	unsigned char *bytes = (unsigned char *)out;

	if (strlen(text) != 2 * sizeof(*out))
		return false;
	for (size_t i = 0; i < sizeof(*out); i++) {
		int byte = hex_byte(text + 2 * i);

		if (byte < 0)
			return false;
		bytes[i] = (unsigned char)byte;
	}
	return true;
}
