/*
 * passthrough.c - the table of objects that the kernel reads by itself.
 *
 * Notes to the supervisor are sent without the lock, so that two for one object could change
 * places; they do not, because an entry has one note under way at a time: it is OFFERED until the
 * answer comes, and what is decided meanwhile is done then; and it is CLOSING until the supervisor
 * has taken the note that it is no more, which may need another try.
 *
 * Answers wait in a socket that is read by one thread, and has no room for many.  So no more than
 * ASKED_MAX are waited for: what a worker has left, hundreds at a time, is asked for bit by bit.
 *
 * When an object has another file now (it was lost and fetched again), nothing is offered while the
 * old one is still open: the kernel refuses two backing files behind one node.
 */
#include "config.h"
#include "fs/passthrough.h"
#include "fs/shared.h"

#include <errno.h>
#include <linux/fsverity.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/log.h"
#include "core/verity.h"
#include "core/vtree.h"

enum state { AUDITING, OFFERED, USABLE, WITHDRAWN, CLOSING };

enum { BUCKETS = 64, ASKED_MAX = 32 };

struct entry {
	struct entry *next;
	struct digest digest;
	enum state state;
	bool measured;		/* the kernel checks it: of use whatever integrity says */
	bool doomed;		/* OFFERED: withdraw it when the answer comes */
	bool stale;		/* the object has another file, or none: not usable any more */
	bool under_way;		/* CLOSING: the note is being sent */
	bool unasked;		/* OFFERED: the supervisor is still to be asked */
	int id;			/* USABLE, WITHDRAWN */
	int64_t n_open;
	struct shared_backed *left;	/* its place in the shared memory, or NULL */
};

struct passthrough {
	struct passthrough_ops ops;
	pthread_mutex_t lock;		/* protects all below */
	bool on;
	const char *never;		/* why nothing is offered any more; NULL */
	struct entry *buckets[BUCKETS];
	int64_t n_usable, n_open, n_closing;
	int64_t n_asked, n_unasked;	/* of those OFFERED */
	struct shared *shared;		/* for the next worker; or NULL */
};

struct passthrough *
passthrough_new(const struct passthrough_ops *ops, bool possible, bool on)
{
	struct passthrough *p = xcalloc(1, sizeof(*p));

	p->ops = *ops;
	p->on = on;
	p->never = possible ? NULL : "this libfuse is older than 3.13";
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

void
passthrough_free(struct passthrough *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (p->buckets[i] != NULL) {
			struct entry *e = p->buckets[i];

			p->buckets[i] = e->next;
			free(e);
		}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* ---- the lock is held ----------------------------------------------------------------------- */

static struct entry **
bucket_of(struct passthrough *p, const struct digest *d)
{
	return &p->buckets[d->bytes[0] % BUCKETS];
}

static struct entry *
find(struct passthrough *p, const struct digest *d)
{
	struct entry *e = *bucket_of(p, d);

	while (e != NULL && !digest_equal(&e->digest, d))
		e = e->next;
	return e;
}

static struct entry *
add(struct passthrough *p, const struct digest *d, enum state state)
{
	struct entry *e = xcalloc(1, sizeof(*e)), **bucket = bucket_of(p, d);

	e->digest = *d;
	e->state = state;
	e->next = *bucket;
	*bucket = e;
	return e;
}

/* What the next worker is to know of it. */
static void
leave_note(struct passthrough *p, struct entry *e)
{
	bool kept = e->state == USABLE || (e->state == WITHDRAWN && e->n_open > 0);

	for (size_t i = 0; kept && p->shared != NULL && e->left == NULL && i < SHARED_BACKED; i++)
		if (p->shared->backed[i].used == 0)
			e->left = &p->shared->backed[i];
	if (e->left == NULL)
		return;
	e->left->digest = e->digest;
	e->left->n_open = e->n_open;
	e->left->used = !kept ? 0 : e->state == USABLE ? SHARED_USABLE : SHARED_WITHDRAWN;
	if (!kept)
		e->left = NULL;
}

static void
drop(struct passthrough *p, struct entry *e)
{
	struct entry **at = bucket_of(p, &e->digest);

	if (e->left != NULL)
		e->left->used = 0;
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	free(e);
}

/* What is to be done when the lock was let go. */
struct deeds {
	bool changed, close;
};

/* An entry that nobody has open and that cannot be used is no more. */
static void
drop_if_idle(struct passthrough *p, struct entry *e, struct deeds *deeds)
{
	if (e->state != WITHDRAWN || e->n_open > 0)
		return;
	deeds->close = true;
	e->state = CLOSING;
	p->n_closing++;
	leave_note(p, e);
}

static void
withdraw(struct passthrough *p, struct entry *e, struct deeds *deeds)
{
	switch (e->state) {
	case AUDITING:
		drop(p, e);
		break;
	case OFFERED:
		e->doomed = true;
		break;
	case USABLE:
		p->n_usable--;
		e->state = WITHDRAWN;
		deeds->changed = true;
		leave_note(p, e);
		drop_if_idle(p, e, deeds);
		break;
	case WITHDRAWN: case CLOSING:
		break;
	}
}

/* ---- without the lock ----------------------------------------------------------------------- */

/* True: the supervisor has taken it. */
static bool
send_close(struct passthrough *p, const struct digest *d)
{
	struct entry *e;
	bool taken;

	pthread_mutex_lock(&p->lock);
	e = find(p, d);
	if (e == NULL || e->state != CLOSING || e->under_way) {
		pthread_mutex_unlock(&p->lock);
		return false;
	}
	e->under_way = true;
	pthread_mutex_unlock(&p->lock);
	taken = p->ops.close(p->ops.arg, d) == 0;
	pthread_mutex_lock(&p->lock);
	e->under_way = false;
	if (taken) {
		p->n_closing--;
		drop(p, e);
	}
	pthread_mutex_unlock(&p->lock);
	return taken;
}

/* The lock is held. */
static const struct entry *
find_closing(struct passthrough *p)
{
	for (size_t i = 0; p->n_closing > 0 && i < BUCKETS; i++)
		for (const struct entry *e = p->buckets[i]; e != NULL; e = e->next)
			if (e->state == CLOSING && !e->under_way)
				return e;
	return NULL;
}

static void
close_rest(struct passthrough *p)
{
	const struct entry *e;
	struct digest d;

	do {
		pthread_mutex_lock(&p->lock);
		e = find_closing(p);
		if (e != NULL)
			d = e->digest;
		pthread_mutex_unlock(&p->lock);
	} while (e != NULL && send_close(p, &d));
}

/* The lock is held. */
static struct entry *
find_unasked(struct passthrough *p)
{
	for (size_t i = 0; p->n_unasked > 0 && i < BUCKETS; i++)
		for (struct entry *e = p->buckets[i]; e != NULL; e = e->next)
			if (e->unasked)
				return e;
	return NULL;
}

/* The lock is held.  It stays OFFERED until it was asked for and answered. */
static void
set_asked(struct passthrough *p, struct entry *e, bool asked)
{
	e->unasked = !asked;
	p->n_asked += asked ? 1 : -1;
	p->n_unasked -= asked ? 1 : -1;
}

/*
 * Without a file: the supervisor has one, or has forgotten this one.  True: it has taken the note.
 */
static bool
ask_for_one(struct passthrough *p)
{
	struct entry *e;
	struct digest d;
	bool taken;

	pthread_mutex_lock(&p->lock);
	e = p->n_asked < ASKED_MAX ? find_unasked(p) : NULL;
	if (e == NULL) {
		pthread_mutex_unlock(&p->lock);
		return false;
	}
	d = e->digest;
	set_asked(p, e, true);
	pthread_mutex_unlock(&p->lock);
	taken = p->ops.open(p->ops.arg, &d, -1) == 0;
	pthread_mutex_lock(&p->lock);
	e = taken ? NULL : find(p, &d);
	if (e != NULL && e->state == OFFERED)
		set_asked(p, e, false);
	pthread_mutex_unlock(&p->lock);
	return taken;
}

/* What there was no room for. */
static void
catch_up(struct passthrough *p)
{
	close_rest(p);
	while (ask_for_one(p))
		;
}

static void
carry_out(struct passthrough *p, const struct digest *d, const struct deeds *deeds)
{
	if (deeds->close)
		send_close(p, d);
	if (deeds->changed)
		p->ops.changed(p->ops.arg, d);
}

/* Linux fs-verity: the kernel has checked, and goes on checking, every page that it reads. */
static bool
is_measured(struct blockfile *f)
{
	union {
		struct fsverity_digest head;
		char room[sizeof(struct fsverity_digest) + DIGEST_BYTES];
	} m = { .head.digest_size = DIGEST_BYTES };

	return ioctl(blockfile_fd(f), FS_IOC_MEASURE_VERITY, &m) == 0 &&
	       m.head.digest_algorithm == FS_VERITY_HASH_ALG_SHA512 &&
	       m.head.digest_size == DIGEST_BYTES &&
	       memcmp(m.room + sizeof(m.head), vtree_id(blockfile_tree(f))->verity.bytes,
		      DIGEST_BYTES) == 0;
}

/* The lock is held.  An entry to be offered, or NULL; what was audited in vain is forgotten. */
static struct entry *
prepare_offer(struct passthrough *p, const struct digest *d)
{
	struct entry *e = find(p, d);

	if (p->never != NULL || (e != NULL && e->state != AUDITING))
		return NULL;
	if (p->n_asked >= ASKED_MAX) {
		if (e != NULL)
			drop(p, e);
		return NULL;
	}
	if (e == NULL)
		e = add(p, d, OFFERED);
	e->state = OFFERED;
	p->n_asked++;
	return e;
}

static void
offer(struct passthrough *p, const struct digest *d, struct blockfile *f, bool measured)
{
	struct entry *e;
	bool offered;

	if (!blockfile_is_complete(f))
		return;
	pthread_mutex_lock(&p->lock);
	e = measured || p->on ? prepare_offer(p, d) : NULL;
	offered = e != NULL;
	if (offered)
		e->measured = measured;
	pthread_mutex_unlock(&p->lock);
	if (!offered || p->ops.open(p->ops.arg, d, blockfile_fd(f)) == 0)
		return;
	/* The supervisor is busy or gone: the next one who opens it asks again. */
	passthrough_answered(p, d, -EAGAIN);
}

bool
passthrough_opened(struct passthrough *p, const struct digest *d, struct blockfile *f)
{
	bool audit = false, look;

	catch_up(p);
	pthread_mutex_lock(&p->lock);
	look = p->never == NULL && find(p, d) == NULL;
	pthread_mutex_unlock(&p->lock);
	if (!look || !blockfile_is_complete(f))
		return false;
	if (is_measured(f)) {
		offer(p, d, f, true);
		return false;
	}
	pthread_mutex_lock(&p->lock);
	if (p->on && find(p, d) == NULL) {
		add(p, d, AUDITING);
		audit = true;
	}
	pthread_mutex_unlock(&p->lock);
	return audit;
}

void
passthrough_audited(struct passthrough *p, const struct digest *d, struct blockfile *f)
{
	offer(p, d, f, false);
}

void
passthrough_lost(struct passthrough *p, const struct digest *d)
{
	struct deeds deeds = { false, false };
	struct entry *e;

	pthread_mutex_lock(&p->lock);
	e = find(p, d);
	if (e != NULL) {
		e->stale = true;
		withdraw(p, e, &deeds);
	}
	pthread_mutex_unlock(&p->lock);
	carry_out(p, d, &deeds);
}

/* ---- the supervisor's answer ---------------------------------------------------------------- */

/* Why nothing of this mount can be passed through; NULL: this one alone, or now alone. */
static const char *
reason_for_good(int rc)
{
	switch (-rc) {
	case EPERM:
		return "it lacks CAP_SYS_ADMIN, or the kernel did not agree to it";
	case ENOTTY: case EINVAL: case ENOSYS:
		return "this kernel is older than 6.9";
	case EOPNOTSUPP:
		return "this kernel is built without it";
	case ELOOP:
		return "cache_dir lies on a stacked file system";
	default:
		return NULL;
	}
}

static void
say_never(const char *why)
{
	log_warning("passthrough: no (%s): images are read and checked by the daemon", why);
}

void
passthrough_answered(struct passthrough *p, const struct digest *d, int rc)
{
	struct deeds deeds = { false, false };
	const char *never = rc < 0 ? reason_for_good(rc) : NULL;
	struct entry *e;

	pthread_mutex_lock(&p->lock);
	e = find(p, d);
	if (e == NULL || e->state != OFFERED || e->unasked) {
		never = NULL;
	} else if (rc <= 0) {
		p->n_asked--;
		p->n_open -= e->n_open;
		drop(p, e);
		if (p->never != NULL)
			never = NULL;
		else
			p->never = never;
	} else {
		p->n_asked--;
		e->id = rc;
		e->state = USABLE;
		p->n_usable++;
		deeds.changed = true;
		leave_note(p, e);
		if (e->doomed || !(p->on || e->measured))
			withdraw(p, e, &deeds);
	}
	pthread_mutex_unlock(&p->lock);
	if (never != NULL)
		say_never(never);
	carry_out(p, d, &deeds);
	if (rc != -EAGAIN)	/* there is no room */
		catch_up(p);
}

/* ---- from worker to worker ------------------------------------------------------------------ */

static void
restore(struct passthrough *p, struct shared_backed *left)
{
	const struct digest d = left->digest;
	struct entry *e;

	pthread_mutex_lock(&p->lock);
	if (find(p, &d) != NULL) {
		left->used = 0;
		pthread_mutex_unlock(&p->lock);
		return;
	}
	e = add(p, &d, OFFERED);
	e->unasked = true;
	p->n_unasked++;
	e->left = left;
	e->n_open = left->n_open;
	e->doomed = e->stale = left->used == SHARED_WITHDRAWN;
	p->n_open += e->n_open;
	pthread_mutex_unlock(&p->lock);
}

void
passthrough_restore(struct passthrough *p, struct shared *shared)
{
	p->shared = shared;
	for (size_t i = 0; i < SHARED_BACKED; i++)
		if (shared->backed[i].used != 0)
			restore(p, &shared->backed[i]);
	catch_up(p);
}

void
passthrough_end(struct passthrough *p)
{
	pthread_mutex_lock(&p->lock);
	p->shared = NULL;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct entry *e = p->buckets[i]; e != NULL; e = e->next)
			e->left = NULL;
	pthread_mutex_unlock(&p->lock);
}

/* ---- review --------------------------------------------------------------------------------- */

struct review {
	enum passthrough_fate (*judge)(void *arg, const struct digest *d);
	void *arg;
};

/* The lock is held. */
static void
review_one(struct passthrough *p, struct entry *e, const struct review *r, struct deeds *deeds)
{
	enum passthrough_fate fate = r->judge(r->arg, &e->digest);
	bool may;

	e->stale |= fate == PASSTHROUGH_GONE;
	may = (p->on || e->measured) && !e->stale && fate == PASSTHROUGH_FREE;
	if (e->state == OFFERED) {
		e->doomed = !may;
	} else if (!may) {
		withdraw(p, e, deeds);
	} else if (e->state == WITHDRAWN) {
		e->state = USABLE;
		p->n_usable++;
		deeds->changed = true;
		leave_note(p, e);
	}
}

void
passthrough_review(struct passthrough *p,
		   enum passthrough_fate (*judge)(void *arg, const struct digest *d), void *arg)
{
	const struct review r = { judge, arg };

	catch_up(p);
	for (size_t i = 0; i < BUCKETS; i++) {
		struct entry *e, *next;

		pthread_mutex_lock(&p->lock);
		for (e = p->buckets[i]; e != NULL; e = next) {
			struct deeds deeds = { false, false };
			struct digest d = e->digest;

			next = e->next;
			review_one(p, e, &r, &deeds);
			if (!deeds.close && !deeds.changed)
				continue;
			pthread_mutex_unlock(&p->lock);
			carry_out(p, &d, &deeds);
			pthread_mutex_lock(&p->lock);
			/* Others were in between: from the start, which is done with soon. */
			next = p->buckets[i];
		}
		pthread_mutex_unlock(&p->lock);
	}
}

/* With integrity = read again everything is denied that the kernel does not measure. */
static enum passthrough_fate
judge_by_state(void *arg, const struct digest *d)
{
	const struct entry *e = find(arg, d);

	return e->state == WITHDRAWN || e->doomed ? PASSTHROUGH_DENIED : PASSTHROUGH_FREE;
}

void
passthrough_set_on(struct passthrough *p, bool on)
{
	bool was;

	pthread_mutex_lock(&p->lock);
	was = p->on;
	p->on = on;
	pthread_mutex_unlock(&p->lock);
	if (was && !on)
		passthrough_review(p, judge_by_state, p);
}

/* ---- open files ----------------------------------------------------------------------------- */

bool
passthrough_is_usable(struct passthrough *p, const struct digest *d)
{
	const struct entry *e;
	bool usable;

	if (p == NULL)
		return false;
	pthread_mutex_lock(&p->lock);
	e = p->n_usable > 0 ? find(p, d) : NULL;
	usable = e != NULL && e->state == USABLE;
	pthread_mutex_unlock(&p->lock);
	return usable;
}

int
passthrough_enter(struct passthrough *p, const struct digest *d)
{
	struct entry *e;
	int id = 0;

	if (p == NULL)
		return 0;
	pthread_mutex_lock(&p->lock);
	e = find(p, d);
	if (e != NULL && e->state == USABLE) {
		id = e->id;
		e->n_open++;
		p->n_open++;
		leave_note(p, e);
	}
	pthread_mutex_unlock(&p->lock);
	return id;
}

void
passthrough_leave(struct passthrough *p, const struct digest *d)
{
	struct deeds deeds = { false, false };
	struct entry *e;

	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	e = find(p, d);
	if (e != NULL && e->n_open > 0) {
		e->n_open--;
		p->n_open--;
		leave_note(p, e);
		drop_if_idle(p, e, &deeds);
	}
	pthread_mutex_unlock(&p->lock);
	carry_out(p, d, &deeds);
}

/* ---- for status ----------------------------------------------------------------------------- */

void
passthrough_describe(struct passthrough *p, struct buf *out)
{
	pthread_mutex_lock(&p->lock);
	if (p->never != NULL)
		buf_printf(out, "no (%s)", p->never);
	else if (!p->on)
		buf_puts(out, "no (integrity = read)");
	else
		buf_puts(out, "yes");
	pthread_mutex_unlock(&p->lock);
}

void
passthrough_count(struct passthrough *p, int64_t *n_objects, int64_t *n_open)
{
	*n_objects = *n_open = 0;
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	*n_objects = p->n_usable;
	*n_open = p->n_open;
	pthread_mutex_unlock(&p->lock);
}

/* The lock is held while fn runs: it must not come back here. */
void
passthrough_each_held(struct passthrough *p,
		      void (*fn)(void *arg, const struct digest *d, int64_t n_open), void *arg)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct entry *e = p->buckets[i]; e != NULL; e = e->next)
			if (e->state == WITHDRAWN && e->n_open > 0)
				fn(arg, &e->digest, e->n_open);
	pthread_mutex_unlock(&p->lock);
}
