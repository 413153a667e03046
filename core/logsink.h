/*
 * logsink.h - where lines of a log go, without waiting for it longer than asked.
 *
 * A reader of our standard error, or a syslogd, may stop reading: it is stopped, or its own disk
 * does not answer.  syslog(3) and write(2) would wait for ever then, and with them what wrote the
 * line.  A line is sent whole or given up.
 *
 * Lines to a file are written as they are: a file takes them, unless its disk does not answer.
 *
 * One thread at a time.  No memory is asked for.
 */
#ifndef VMI_LOGSINK_H
#define VMI_LOGSINK_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A socket for logsink_syslog(); kept until logsink_close().  Sockets cannot be made in a sandbox,
 * but one that is there finds each syslogd that comes later.
 */
void logsink_open(void);
void logsink_close(void);

/*
 * A line to the syslogd that listens at path, as /dev/log is (RFC 3164, facility daemon).
 * priority: LOG_ERR ... LOG_DEBUG.  False: it was not taken within wait_ms, or there is none.
 */
bool logsink_syslog(const char *path, int priority, const char *program, const char *line,
		    int wait_ms);

/*
 * "program: level: line" and a newline to fd.  level may be NULL: it is left out.  False: not all
 * of it was taken within wait_ms; -1 waits for ever.
 */
bool logsink_write(int fd, const char *program, const char *level, const char *line, int wait_ms);

#endif
