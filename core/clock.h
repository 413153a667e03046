/*
 * clock.h - whether this host's clock can be right.  Pure decisions on times; seconds UTC.
 *
 * Everything that expires does so by this clock (I6), so that a wrong one does harm: at 1970 (a
 * dead battery) nothing has expired and every certificate is of the future; ten years ahead
 * everything has, and what is kept for a while after that would be deleted.  Neither can be mended
 * here, but both can be seen:
 *
 *   BEHIND   before this program was made, or before a list was made that was accepted already: no
 *            list is accepted, trust is not judged anew (CODE_CLOCK)
 *   AHEAD    CLOCK_LEAP_S later than when the clock was last seen: what has expired has, but
 *            nothing is deleted for it before the clock has been the same for CLOCK_TRUST_S, in
 *            all runs of the program together
 */
#ifndef VMI_CLOCK_H
#define VMI_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "err.h"

enum clock_state { CLOCK_GOOD, CLOCK_BEHIND, CLOCK_AHEAD };

#define CLOCK_FLOOR INT64_C(1767225600)	/* 2026-01-01: older clocks than this program are wrong */
enum {
	/* A list may have been made by a clock that was ahead of ours. */
	CLOCK_SLACK_S = 86400,
	/* Of a host that was switched off: longer is worth a look. */
	CLOCK_LEAP_S = 30 * 86400,
	CLOCK_TRUST_S = 86400,		/* of the monotonic clock */
	CLOCK_NOTE_S = 3600,		/* so often what was seen is written down */
	/* Likewise, how long a clock has been ahead: a run may be short. */
	CLOCK_AHEAD_NOTE_S = 600,
	CLOCK_AHEAD_BYTES = 48,
};

/* newest: when the newest known list was made, 0: there is none.  seen: 0 if it never was. */
enum clock_state clock_judge(int64_t now, int64_t newest, int64_t seen);

/* The sentence for a state that is not GOOD: with CODE_CLOCK, in err (NULL is fine).  -EAGAIN. */
int clock_say(enum clock_state state, int64_t now, int64_t newest, int64_t seen, struct err *err);

/* For how long a clock that is ahead has been the same.  All 0: not yet. */
struct clock_ahead {
	int64_t seconds;		/* of the monotonic clock, at most CLOCK_TRUST_S */
	int64_t at;			/* what the clock said then */
};

/*
 * The clock is ahead, and has been for so many seconds more (0: since just now, or since another
 * run).  One that has leapt or gone back is another one, and counts from the beginning.
 */
void clock_ahead_count(struct clock_ahead *a, int64_t now, int64_t seconds);
bool clock_ahead_is_believed(const struct clock_ahead *a);

/* As text and back; one that is none is all 0. */
void clock_ahead_format(const struct clock_ahead *a, char text[CLOCK_AHEAD_BYTES]);
void clock_ahead_parse(const char *text, struct clock_ahead *a);

#endif
