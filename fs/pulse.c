#include "config.h"
#include "fs/pulse.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/process.h"
#include "core/thread.h"

struct pulse {
	atomic_uint *beats;
	bool (*alive)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	pthread_t thread;
};

static void
wait_a_second(struct pulse *p)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec++;
	pthread_cond_timedwait(&p->wake, &p->lock, &until);
}

static void *
beat(void *arg)
{
	struct pulse *p = arg;

	prctl(PR_SET_NAME, "pulse");
	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		pthread_mutex_unlock(&p->lock);
		if (p->alive(p->arg))
			atomic_fetch_add(p->beats, 1);
		pthread_mutex_lock(&p->lock);
		if (!p->stop)
			wait_a_second(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct pulse *
pulse_start(atomic_uint *beats, bool (*alive)(void *arg), void *arg)
{
	struct pulse *p = xcalloc(1, sizeof(*p));
	pthread_condattr_t attr;

	p->beats = beats;
	p->alive = alive;
	p->arg = arg;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->wake, &attr);
	pthread_condattr_destroy(&attr);
	/* Without it the worker would be taken for one that hangs. */
	thread_start_or_end(&p->thread, beat, p, "signs of life");
	return p;
}

void
pulse_stop(struct pulse *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* ---- one thread that works ------------------------------------------------------------------- */

void
pulsework_init(struct pulsework *w)
{
	w->used = 0;
	w->stat = open("/proc/thread-self/stat", O_RDONLY | O_CLOEXEC);
	if (pthread_getcpuclockid(pthread_self(), &w->clock) != 0)
		w->clock = CLOCK_PROCESS_CPUTIME_ID;
}

void
pulsework_release(struct pulsework *w)
{
	close_keep_errno(steal_fd(&w->stat));
}

bool
pulsework_goes_on(void *arg)
{
	struct pulsework *w = arg;
	struct timespec t = { 0 };
	long long used, before = w->used;

	clock_gettime(w->clock, &t);
	used = t.tv_sec * 1000000000LL + t.tv_nsec;
	w->used = used;
	return used != before || process_state(w->stat) == 'D';
}

/* ---- the supervisor's side ------------------------------------------------------------------- */

void
pulsewatch_begin(struct pulsewatch *w, unsigned beats, long long now, long long limit_ms)
{
	w->last = beats;
	w->missed = 0;
	w->look_at = limit_ms > 0 ? now + limit_ms / PULSE_LOOKS : 0;
}

bool
pulsewatch_is_silent(struct pulsewatch *w, unsigned beats, long long now, long long limit_ms)
{
	unsigned missed = w->missed + 1;

	if (w->look_at == 0 || now < w->look_at)
		return false;
	if (beats != w->last)
		missed = 0;
	pulsewatch_begin(w, beats, now, limit_ms);
	if (missed >= PULSE_LOOKS)
		return true;
	w->missed = missed;
	return false;
}
