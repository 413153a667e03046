/*
 * workermain.h - the program as a worker: executed by the keeper, with its descriptors in fixed
 * places (keeper.h) and the daemon's options.
 */
#ifndef VMI_WORKERMAIN_H
#define VMI_WORKERMAIN_H

#include <stdbool.h>

bool workermain_is_asked(int argc, char *const *argv);

/* Returns the exit status. */
int workermain(int argc, char **argv);

#endif
