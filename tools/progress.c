#include "config.h"
#include "progress.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "output.h"

enum {
	REDRAW_MS = 100,
	DEFAULT_COLUMNS = 80,
	MIN_BAR = 10,
	SUBJECT_COLUMNS = 36,	/* an image identifier is a UUID by custom */
};

void
progress_begin(struct progress *p, const char *subject, bool silent)
{
	memset(p, 0, sizeof(*p));
	p->subject = subject;
	p->silent = silent;
	p->terminal = isatty(STDERR_FILENO) == 1;
	p->last_step = -1;
	p->first_bytes = -1;
}

static size_t
columns(void)
{
	struct winsize w;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20)
		return w.ws_col;
	return DEFAULT_COLUMNS;
}

static void
write_stderr(const struct buf *b)
{
	/* Showing progress is no reason for a transfer to fail. */
	(void)io_write_all(STDERR_FILENO, b->data, b->len);
}

static void
draw_bar(struct progress *p, int64_t bytes, int64_t total, int percent)
{
	CLEANUP_BUF struct buf line = BUF_INIT, subject = BUF_INIT, tail = BUF_INIT;
	char have[OUTPUT_SIZE_BYTES], all[OUTPUT_SIZE_BYTES], speed[OUTPUT_SIZE_BYTES];
	long long ms = io_monotonic_ms() - p->began;
	size_t room, width = columns() - 1;

	output_size(bytes, have);
	output_size(total, all);
	output_size(ms > 0 ? (bytes - p->first_bytes) * 1000 / ms : 0, speed);
	output_add_foreign(&subject, p->subject);
	buf_printf(&tail, " %3d %%  %s of %s  %s/s", percent, have, all, speed);
	buf_printf(&line, "\r\033[K%.*s ", SUBJECT_COLUMNS, buf_str(&subject));

	room = line.len - 4 + tail.len + 2;
	if (width >= room + MIN_BAR) {
		size_t cells = width - room, full = cells * (size_t)percent / 100;

		buf_putc(&line, '[');
		for (size_t i = 0; i < cells; i++)
			buf_putc(&line, i < full ? '#' : '.');
		buf_putc(&line, ']');
	}
	buf_puts(&line, buf_str(&tail));
	write_stderr(&line);
	p->drawn = true;
}

static void
tell_step(struct progress *p, int64_t bytes, int64_t total, int percent)
{
	CLEANUP_BUF struct buf line = BUF_INIT;

	if (percent / 10 <= p->last_step)
		return;
	p->last_step = percent / 10;
	output_add_foreign(&line, p->subject);
	buf_printf(&line, ": %d %% (%" PRId64 " of %" PRId64 " bytes)\n", percent / 10 * 10, bytes,
		   total);
	write_stderr(&line);
}

void
progress_update(struct progress *p, int64_t bytes, int64_t total)
{
	long long now = io_monotonic_ms();
	int percent;

	if (p->silent || total <= 0 || bytes < 0)
		return;
	if (bytes > total)
		bytes = total;
	if (p->first_bytes < 0) {
		p->first_bytes = bytes;
		p->began = now;
	}
	percent = (int)(bytes / (total / 100 > 0 ? total / 100 : 1));
	if (total < 100)
		percent = (int)(bytes * 100 / total);
	/* Rounding must not say that it is over. */
	if (percent > 99)
		percent = bytes < total ? 99 : 100;
	if (!p->terminal) {
		tell_step(p, bytes, total, percent);
	} else if (!p->drawn || now - p->last_ms >= REDRAW_MS || bytes == total) {
		p->last_ms = now;
		draw_bar(p, bytes, total, percent);
	}
}

void
progress_end(struct progress *p)
{
	struct buf newline = { .data = (char[]){ "\n" }, .len = 1 };

	if (p->drawn)
		write_stderr(&newline);
	p->drawn = false;
}
