#include "config.h"
#include "workerstate.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "stamp.h"

enum { FILE_MAX = 16384 };

static const char *const phase_names[N_WORKER_PHASES] = {
	[WORKER_STARTING] = "starting", [WORKER_SERVING] = "serving",
	[WORKER_EXCHANGING] = "exchanging", [WORKER_WAITING] = "waiting",
	[WORKER_STOPPING] = "stopping",
};

enum form { PHASE, NUMBER, STAMP, TEXT };

static const struct key {
	const char *name;
	enum form form;
	size_t offset, room;
} keys[] = {
	{ "state", PHASE, offsetof(struct worker_state, phase), 0 },
	{ "supervisor", NUMBER, offsetof(struct worker_state, supervisor), 0 },
	{ "worker", NUMBER, offsetof(struct worker_state, worker), 0 },
	{ "since", STAMP, offsetof(struct worker_state, since), 0 },
	{ "version", TEXT, offsetof(struct worker_state, version), 64 },
	{ "restarts", NUMBER, offsetof(struct worker_state, restarts), 0 },
	{ "last_end", STAMP, offsetof(struct worker_state, last_end), 0 },
	{ "last_cause", TEXT, offsetof(struct worker_state, last_cause), WORKERSTATE_TEXT },
	{ "next_start", STAMP, offsetof(struct worker_state, next_start), 0 },
	{ "exchanges", NUMBER, offsetof(struct worker_state, exchanges), 0 },
	{ "exchange", TEXT, offsetof(struct worker_state, exchange), WORKERSTATE_TEXT },
	{ "exchanges_refused", NUMBER, offsetof(struct worker_state, exchanges_refused), 0 },
};

enum { N_KEYS = sizeof(keys) / sizeof(keys[0]) };

const char *
worker_phase_name(enum worker_phase phase)
{
	return phase_names[phase];
}

/* ---- writing --------------------------------------------------------------------------------- */

static void
show(const struct worker_state *s, const struct key *key, struct buf *out)
{
	const char *at = (const char *)s + key->offset;
	char stamp[STAMP_BYTES];
	int64_t number = 0;

	if (key->form == NUMBER || key->form == STAMP)
		memcpy(&number, at, sizeof(number));
	if (key->form == STAMP && number == 0)
		return;
	buf_printf(out, "%s: ", key->name);
	switch (key->form) {
	case PHASE:
		buf_puts(out, phase_names[s->phase]);
		break;
	case NUMBER:
		buf_printf(out, "%" PRId64, number);
		break;
	case STAMP:
		stamp_format(number, stamp);
		buf_puts(out, stamp);
		break;
	case TEXT:
		buf_add_escaped(out, at, strnlen(at, key->room));
		break;
	}
	buf_putc(out, '\n');
}

/* Others read it at any time: they see the old text or the new one, whole. */
int
worker_state_write(const char *run_dir, const struct worker_state *s)
{
	CLEANUP_FREE char *path = xasprintf("%s/" WORKERSTATE_FILE, run_dir);
	CLEANUP_FREE char *new = xasprintf("%s.new", path);
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_FD int fd = -1;
	int rc;

	for (size_t i = 0; i < N_KEYS; i++)
		show(s, &keys[i], &text);
	if (unlink(new) != 0 && errno != ENOENT)
		return -errno;
	fd = io_openat(AT_FDCWD, new, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	/* Whatever the umask: everybody may know how it is. */
	if (fd < 0 || fchmod(fd, 0644) != 0)
		return -errno;
	rc = io_write_all(fd, text.data, text.len);
	return rc == 0 && rename(new, path) != 0 ? -errno : rc;
}

void
worker_state_remove(const char *run_dir)
{
	CLEANUP_FREE char *path = xasprintf("%s/" WORKERSTATE_FILE, run_dir);

	unlink(path);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void
take(struct worker_state *s, const struct key *key, const char *value)
{
	char *at = (char *)s + key->offset;
	int64_t number = 0;

	switch (key->form) {
	case PHASE:
		for (int i = 0; i < N_WORKER_PHASES; i++)
			if (strcmp(value, phase_names[i]) == 0)
				s->phase = (enum worker_phase)i;
		return;
	case TEXT:
		snprintf(at, key->room, "%s", value);
		return;
	case NUMBER:
		number = strtoll(value, NULL, 10);
		break;
	case STAMP:
		if (!stamp_parse(value, &number))
			number = 0;
		break;
	}
	memcpy(at, &number, sizeof(number));
}

static void
take_line(struct worker_state *s, char *line)
{
	char *value = strstr(line, ": ");

	if (value == NULL)
		return;
	*value = '\0';
	for (size_t i = 0; i < N_KEYS; i++)
		if (strcmp(line, keys[i].name) == 0)
			take(s, &keys[i], value + 2);
}

int
worker_state_read(const char *run_dir, struct worker_state *out)
{
	CLEANUP_FD int dir = io_openat(AT_FDCWD, run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	CLEANUP_BUF struct buf text = BUF_INIT;
	char *rest, *line;
	int rc;

	memset(out, 0, sizeof(*out));
	if (dir < 0)
		return -errno;
	rc = io_read_file(dir, WORKERSTATE_FILE, FILE_MAX, &text);
	if (rc != 0)
		return rc;
	rest = text.data;
	while (rest != NULL && (line = strsep(&rest, "\n")) != NULL)
		take_line(out, line);
	return 0;
}

/* ---- what it means --------------------------------------------------------------------------- */

bool
worker_state_is_down(const struct worker_state *s)
{
	return s->phase == WORKER_WAITING;
}

void
worker_state_describe(const struct worker_state *s, struct buf *out)
{
	char stamp[STAMP_BYTES];

	buf_puts(out, s->last_cause[0] != '\0' ? s->last_cause : "there is no worker");
	if (s->next_start == 0)
		return;
	stamp_format(s->next_start, stamp);
	buf_printf(out, "; the next one is started at %s", stamp);
}
