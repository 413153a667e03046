/*
 * process.h - what a process that was just forked does to be nobody's copy; and waiting for one.
 */
#ifndef VMI_PROCESS_H
#define VMI_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Every signal has its default action and none is blocked. */
void process_reset_signals(void);

/* Every signal is blocked: they are taken from a signalfd, or not at all. */
void process_block_signals(void);

/*
 * Closes all descriptors from 3 on but keep: what the forking process has open is not ours.  The
 * log's socket goes by closelog(), so that syslog() does not go on using a number that means
 * another file.  0, or a negative errno value.
 */
int process_close_inherited(int keep);

/* The same with several to keep, none of them below 3. */
int process_close_all_but(const int *keep, size_t n);

/* Closes all descriptors from first on, or has them closed by the next execve(). */
int process_close_from(unsigned first);

/*
 * What a process or thread does, as ps says it (R, S, D, Z ...), from a descriptor on its
 * /proc/.../stat; 0: that cannot be read.
 */
char process_state(int stat);

/* Each image that somebody has open costs a descriptor; the usual 1024 are soon used up. */
void process_raise_file_limit(void);

/* Waits for a child to end; status as of waitpid(2), or NULL.  False: not within the time. */
bool process_wait(pid_t pid, int ms, int *status);

#endif
