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

#endif
