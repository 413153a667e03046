/*
 * cat_wait.c - waiting for other processes that use the catalogue.
 *
 * SQLite asks what to do while another process has a lock that it needs.  We look again every
 * moment, say so when it takes long, and give up in the end: whoever wrote for that long hangs.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <sqlite3.h>
#include <time.h>

#include "io.h"
#include "log.h"

enum {
	SAY_MS = 2000,		/* a wait that is longer is told */
	STEP_MS = 50,
};

void
cat_wait_step(void)
{
	const struct timespec step = { 0, STEP_MS * 1000000L };

	nanosleep(&step, NULL);
}

static void
say_waiting(const struct catalogue *c)
{
	static const char text[] = "another process is writing the catalogue: waiting for it";

	if (c->wait_say != NULL)
		c->wait_say(c->wait_arg, text);
	else
		log_warning("%s", text);
}

/* 1 waits on. */
static int
wait_for_others(void *arg, int n_tries)
{
	struct catalogue *c = arg;
	long long waited;

	if (n_tries == 0) {
		c->wait_began = io_monotonic_ms();
		c->wait_said = false;
	}
	waited = io_monotonic_ms() - c->wait_began;
	if (waited >= c->wait_ms)
		return 0;
	if (waited >= SAY_MS && !c->wait_said) {
		c->wait_said = true;
		say_waiting(c);
	}
	cat_wait_step();
	return 1;
}

void
cat_wait_install(struct catalogue *c)
{
	sqlite3_busy_handler(c->db, wait_for_others, c);
}

void
catalogue_on_wait(struct catalogue *c, void (*tell)(void *arg, const char *text), void *arg)
{
	c->wait_say = tell;
	c->wait_arg = arg;
}
