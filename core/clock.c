#include "config.h"
#include "clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "stamp.h"

enum clock_state
clock_judge(int64_t now, int64_t newest, int64_t seen)
{
	if (now < CLOCK_FLOOR || now + CLOCK_SLACK_S < newest)
		return CLOCK_BEHIND;
	if (seen > 0 && now > seen + CLOCK_LEAP_S)
		return CLOCK_AHEAD;
	return CLOCK_GOOD;
}

static int
say_behind(int64_t now, int64_t newest, struct err *err)
{
	char clock[STAMP_BYTES], other[STAMP_BYTES];

	stamp_format(now, clock);
	stamp_format(newest > CLOCK_FLOOR ? newest : CLOCK_FLOOR, other);
	return err_refuse(err, CODE_CLOCK, "this host's clock says %s, before %s at %s: set it",
			  clock, newest > CLOCK_FLOOR ? "a list was made that is known already," :
			  "this program was made,", other);
}

static int
say_ahead(int64_t now, int64_t seen, struct err *err)
{
	char clock[STAMP_BYTES], other[STAMP_BYTES];

	stamp_format(now, clock);
	stamp_format(seen, other);
	return err_refuse(err, CODE_CLOCK,
			  "this host's clock says %s, %lld days later than when it "
			  "was last seen (%s): nothing is deleted for its age before it has said "
			  "so for a day", clock, (long long)((now - seen) / 86400), other);
}

int
clock_say(enum clock_state state, int64_t now, int64_t newest, int64_t seen, struct err *err)
{
	switch (state) {
	case CLOCK_BEHIND:
		return say_behind(now, newest, err);
	case CLOCK_AHEAD:
		return say_ahead(now, seen, err);
	case CLOCK_GOOD:
		break;
	}
	return 0;
}

static bool
goes_on(const struct clock_ahead *a, int64_t now)
{
	return a->at > 0 && now >= a->at - CLOCK_SLACK_S && now <= a->at + CLOCK_LEAP_S;
}

void
clock_ahead_count(struct clock_ahead *a, int64_t now, int64_t seconds)
{
	if (!goes_on(a, now))
		a->seconds = 0;
	else if (seconds > 0)
		a->seconds = seconds < CLOCK_TRUST_S - a->seconds ? a->seconds + seconds
								  : CLOCK_TRUST_S;
	a->at = now;
}

bool
clock_ahead_is_believed(const struct clock_ahead *a)
{
	return a->seconds >= CLOCK_TRUST_S;
}

void
clock_ahead_format(const struct clock_ahead *a, char text[CLOCK_AHEAD_BYTES])
{
	snprintf(text, CLOCK_AHEAD_BYTES, "%" PRId64 " %" PRId64, a->seconds, a->at);
}

void
clock_ahead_parse(const char *text, struct clock_ahead *a)
{
	long long seconds, at;
	char *end;

	*a = (struct clock_ahead){ 0, 0 };
	seconds = strtoll(text, &end, 10);
	if (end == text || *end != ' ' || seconds < 0 || seconds > CLOCK_TRUST_S)
		return;
	text = end + 1;
	at = strtoll(text, &end, 10);
	if (end != text && *end == '\0' && at > CLOCK_FLOOR && at < INT64_MAX / 2)
		*a = (struct clock_ahead){ seconds, at };
}
