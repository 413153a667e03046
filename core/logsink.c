#include "config.h"
#include "logsink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "io.h"

enum {
	/* A syslogd whose queue is full does not say when there is room again. */
	AGAIN_MS = 10,
	APART = 900,		/* no number that processes give to their children's descriptors */
};

static int syslog_fd = -1;

void
logsink_open(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	tzset();			/* its file, too, is out of reach later */
	logsink_close();
	syslog_fd = fcntl(fd, F_DUPFD_CLOEXEC, APART);
	if (syslog_fd >= 0)
		close(fd);
	else
		syslog_fd = fd;
}

void
logsink_close(void)
{
	if (syslog_fd >= 0)
		close(syslog_fd);
	syslog_fd = -1;
}

static struct iovec
part(const char *text)
{
	return (struct iovec){ (void *)(uintptr_t)text, strlen(text) };
}

static int
left_of(long long until, int wait_ms)
{
	long long left = until - io_monotonic_ms();

	return wait_ms < 0 ? -1 : left < 0 ? 0 : (int)left;
}

/* ---- syslog ---------------------------------------------------------------------------------- */

/* "<30>Nov 22 09:05:01 vmimagefs[17]: ", RFC 3164 4.1; the month's name in English. */
static void
write_head(char *head, size_t room, int priority, const char *program)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t now = time(NULL);
	struct tm tm = { .tm_mday = 1 };

	localtime_r(&now, &tm);
	snprintf(head, room, "<%d>%.3s %2d %02d:%02d:%02d %s[%ld]: ", LOG_DAEMON | priority,
		 months + 3 * tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, program,
		 (long)getpid());
}

bool
logsink_syslog(const char *path, int priority, const char *program, const char *line, int wait_ms)
{
	long long until = io_monotonic_ms() + wait_ms;
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char head[128];
	struct iovec parts[] = { part(head), part(line) };
	struct msghdr message = {
		.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = parts, .msg_iovlen = 2,
	};

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	write_head(head, sizeof(head), priority, program);
	parts[0] = part(head);
	while (sendmsg(syslog_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return false;
		if (left_of(until, wait_ms) == 0)
			return false;
		poll(NULL, 0, AGAIN_MS);
	}
	return true;
}

/* ---- standard error -------------------------------------------------------------------------- */

static bool
is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/*
 * How much was taken; 0: look again; -1: nothing more will be.  Terminals, and pipes before Linux
 * 6.5, cannot be written to without waiting: these are asked whether there is room.
 */
static ssize_t
write_some(int fd, const struct iovec *parts, int n, int wait_ms)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	ssize_t done = pwritev2(fd, parts, n, -1, RWF_NOWAIT);
	bool can_say = done >= 0 || errno == EAGAIN || errno == EINTR;
	int rc;

	if (done > 0 || (!can_say && errno != EOPNOTSUPP && errno != ENOSYS))
		return done;
	rc = poll(&room, 1, wait_ms);
	if (rc == 0)
		return -1;
	if (rc < 0)
		return errno == EINTR ? 0 : -1;
	return can_say && !is_file(fd) ? 0 : writev(fd, parts, n);
}

static void
advance(struct iovec *parts, int n, size_t done)
{
	for (int i = 0; i < n; i++) {
		size_t here = done < parts[i].iov_len ? done : parts[i].iov_len;

		parts[i].iov_base = (char *)parts[i].iov_base + here;
		parts[i].iov_len -= here;
		done -= here;
	}
}

bool
logsink_write(int fd, const char *program, const char *level, const char *line, int wait_ms)
{
	long long until = io_monotonic_ms() + wait_ms;
	struct iovec parts[] = {
		part(program), part(": "), part(level != NULL ? level : ""),
		part(level != NULL ? ": " : ""), part(line), part("\n"),
	};
	enum { N = sizeof(parts) / sizeof(parts[0]) };

	for (int left = wait_ms; ; left = left_of(until, wait_ms)) {
		ssize_t done = write_some(fd, parts, N, left);

		if (done < 0)
			return false;
		advance(parts, N, (size_t)done);
		if (parts[N - 1].iov_len == 0)
			return true;
		if (left == 0)
			return false;
	}
}
