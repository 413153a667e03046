/*
 * syscallfilter.h - the seccomp filter of each role.
 */
#ifndef VMI_SYSCALLFILTER_H
#define VMI_SYSCALLFILTER_H

#include "err.h"
#include "sandbox.h"

/*
 * Binds the calling thread and the threads it makes, for good.  A refused call fails with EPERM
 * (clone3 with ENOSYS, so that libc falls back to clone, whose flags can be seen).  *missing gets
 * SANDBOX_MISSING_SECCOMP when the build or the kernel has none.
 */
int syscallfilter_enter(enum sandbox_role role, unsigned *missing, struct err *err);

#endif
