/*
 * argsecret.h - secrets on the command line.
 */
#ifndef VMI_ARGSECRET_H
#define VMI_ARGSECRET_H

#include <stdbool.h>

/*
 * A secret in a URL can be seen by everybody in the process list: arguments with one are copied
 * and what is between "://" and '@' is overwritten where others see it, before anything else
 * happens.  The copies live as long as the process.  Whether there was any.
 */
bool argsecret_hide(int argc, char **argv);

#endif
