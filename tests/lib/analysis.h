/*
 * analysis.h - what a checker that looks at one file at a time cannot know: functions that say what
 * is wrong return what is wrong, and never 0.  Included before each file by tests/analysis.
 */
#ifndef VMI_TEST_ANALYSIS_H
#define VMI_TEST_ANALYSIS_H

#include "core/err.h"

static inline int
analysis_fault(int rc)
{
	if (rc >= 0)
		__builtin_unreachable();
	return rc;
}

#define err_set(...) analysis_fault(err_set(__VA_ARGS__))
#define err_refuse(...) analysis_fault(err_refuse(__VA_ARGS__))
#define err_prefix(...) analysis_fault(err_prefix(__VA_ARGS__))

#endif
