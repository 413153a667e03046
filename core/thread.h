/*
 * thread.h - threads of the core: small stack, every signal blocked.
 *
 * Signals belong to whoever made the process; a thread that only moves bytes must not be the one
 * they interrupt.
 */
#ifndef VMI_THREAD_H
#define VMI_THREAD_H

#include <pthread.h>

/* 0 or a negative errno value. */
int thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg);

/*
 * One that cannot be done without: if it is not to be had, a message says what it was for, and the
 * process ends with EXIT_TEMPORARY.
 */
void thread_start_or_end(pthread_t *thread, void *(*fn)(void *arg), void *arg,
			 const char *what_for);

#endif
