#include "config.h"
#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "buf.h"
#include "limits.h"
#include "logsink.h"

/*
 * A line is made in a local buffer, escaped, cut, compared with the one before and written in one
 * call.  The mutex protects what is remembered of lines and keeps them whole.
 *
 * Once the log did not take a line in time the next ones are tried without any wait, until one is
 * taken that says how many are missing.
 */
enum { WAIT_MS = 100 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char last[LIMIT_LOG_LINE + 1];
static enum log_level last_level;
static unsigned long n_repeats, n_lost;

static char program[64] = "vmimagefs";
static bool use_syslog, waits = true;
static atomic_int threshold = LOG_LVL_INFO;

static const char *const names[] = { "error", "warning", "info", "debug" };
static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void
log_open(const char *name, bool to_syslog, enum log_level level)
{
	snprintf(program, sizeof(program), "%s", name);
	use_syslog = to_syslog;
	atomic_store(&threshold, (int)level);
	if (to_syslog)
		logsink_open();
}

void
log_never_wait(void)
{
	waits = false;
}

void
log_renew(void)
{
	if (use_syslog)
		logsink_open();
}

void
log_set_level(enum log_level level)
{
	atomic_store(&threshold, (int)level);
}

static bool
put(enum log_level level, const char *line, int wait_ms)
{
	if (use_syslog)
		return logsink_syslog("/dev/log", priorities[level], program, line, wait_ms);
	return logsink_write(STDERR_FILENO, program, names[level], line, waits ? -1 : wait_ms);
}

void
log_last_words(const char *text)
{
	if (use_syslog)
		put(LOG_LVL_ERROR, text, WAIT_MS);
	logsink_write(STDERR_FILENO, program, NULL, text, WAIT_MS);
}

static bool
tell_of_lost(void)
{
	char lost[80];

	snprintf(lost, sizeof(lost), "%lu lines are missing here: the log did not take them",
		 n_lost);
	if (put(LOG_LVL_WARNING, lost, 0))
		n_lost = 0;
	return n_lost == 0;
}

static void
emit(enum log_level level, const char *line)
{
	if ((n_lost > 0 && !tell_of_lost()) || !put(level, line, WAIT_MS))
		n_lost++;
}

/*
 * Writes the line, unless it is the last one again: that is counted and said with the next other
 * line.
 */
static void
write_line(enum log_level level, const char *line)
{
	char repeats[64];

	pthread_mutex_lock(&lock);
	if (level == last_level && strcmp(line, last) == 0) {
		n_repeats++;
	} else {
		if (n_repeats > 0) {
			snprintf(repeats, sizeof(repeats), "last message repeated %lu times",
				 n_repeats);
			emit(last_level, repeats);
		}
		n_repeats = 0;
		last_level = level;
		snprintf(last, sizeof(last), "%s", line);
		emit(level, line);
	}
	pthread_mutex_unlock(&lock);
}

static void __attribute__((format(printf, 2, 0)))
vlog(enum log_level level, const char *fmt, va_list ap)
{
	struct buf line = BUF_INIT;
	char *text;
	int n;

	if ((int)level > atomic_load(&threshold))
		return;
	n = vasprintf(&text, fmt, ap);
	if (n < 0)
		return;
	buf_add_escaped(&line, text, (size_t)n);
	free(text);
	if (line.len > LIMIT_LOG_LINE) {
		size_t whole = line.len;

		line.len = LIMIT_LOG_LINE - 32;
		buf_printf(&line, "... (%zu bytes)", whole);
	}
	write_line(level, buf_str(&line));
	buf_release(&line);
}

#define LOG_FUNCTION(name, level)			\
	void						\
	name(const char *fmt, ...)			\
	{						\
		va_list ap;				\
							\
		va_start(ap, fmt);			\
		vlog(level, fmt, ap);			\
		va_end(ap);				\
	}

LOG_FUNCTION(log_error, LOG_LVL_ERROR)
LOG_FUNCTION(log_warning, LOG_LVL_WARNING)
LOG_FUNCTION(log_info, LOG_LVL_INFO)
LOG_FUNCTION(log_debug, LOG_LVL_DEBUG)

static void __attribute__((format(printf, 2, 3)))
log_at(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(level, fmt, ap);
	va_end(ap);
}

void
log_err(enum log_level level, const char *subject, const struct err *err)
{
	if (err->code != CODE_NONE)
		log_at(level, "code %d: %s: %s", (int)err->code, subject, err->text);
	else
		log_at(level, "%s: %s", subject, err->text);
}
