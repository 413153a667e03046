/*
 * callfaults.h - in a unit test: the Nth call of the units to the kernel, SQLite or OpenSSL fails.
 *
 * callfaults.c has functions of their names, which the linker takes before those of the libraries.
 * What a library calls by itself is not counted, and neither is anything outside of fault_begin()
 *and fault_end().  Other than with lib/shim.c no process is needed for each N: a test can try them
 *all.
 *
 *	for (long n = 1; ; n++) {
 *		fault_begin(FAULT_FILES | FAULT_SQLITE, n, EIO);
 *		rc = unit();
 *		if (!fault_end())
 *			break;				// it makes no n calls
 *		... what must hold when the nth failed; fault_name() says which call it was
 *	}
 */
#ifndef VMI_TESTS_CALLFAULTS_H
#define VMI_TESTS_CALLFAULTS_H

#include <stdbool.h>

enum {
	FAULT_FILES = 1,   /* open, read, write, sync, rename, unlink, stat ... */
	FAULT_PROCESS = 2, /* fork, thread, pipe, socket, what they say and hear; limits */
	FAULT_SQLITE = 4,  /* statements, not the file layer below them */
	FAULT_HERE = 16,	/* beside others: those of the thread that began it alone */
	FAULT_CRYPTO = 8,  /* OpenSSL, where only a lack of memory makes it fail */
};

/*
 * errnum is what a call to the kernel fails with; the others fail in their own way.  0: only what
 * reads is concerned, and is told that there is no more.
 */
void fault_begin(unsigned kinds, long n, int errnum);
bool fault_end(void);	      /* whether one failed */
const char *fault_name(void); /* the one that failed last, "" if none */

/* From now on nothing is synced to the disk, which takes longest and of which no test knows. */
void fault_unsynced(void);

#endif
