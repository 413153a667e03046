/*
 * childof.h - the child of another process.
 */
#ifndef VMI_TESTS_CHILDOF_H
#define VMI_TESTS_CHILDOF_H

#include <stdio.h>
#include <sys/types.h>

/* The first one; 0 if it has none. */
static inline pid_t
child_of(pid_t pid)
{
	char path[64];
	int child = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "%d", &child) != 1)
		child = 0;
	if (f != NULL)
		fclose(f);
	return (pid_t)child;
}

#endif
