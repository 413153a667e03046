/*
 * Two passes.  The first takes what may go, worst first, until there is room.  Then there may be
 * more of it than needed, because the last one was large: so the second goes back from the most
 * valuable and spares whatever the rest can do without.
 */
#include "config.h"
#include "evict.h"

#include <stdlib.h>
#include <string.h>

enum evict_kind
evict_judge(const struct evict_facts *f)
{
	if (f->open || f->pinned || f->busy)
		return EVICT_NEVER;
	if (!f->verified)
		return f->filling ? EVICT_FILLING : EVICT_PARTIAL;
	if (f->wanted)
		return EVICT_SELECTED;
	return f->live ? EVICT_UNSELECTED : EVICT_EXPIRED;
}

static bool
may_go(const struct evict_item *item, const struct evict_policy *policy)
{
	switch (item->kind) {
	case EVICT_QUARANTINE:
	case EVICT_PARTIAL:
	case EVICT_EXPIRED:
	case EVICT_UNSELECTED:
		return item->bytes > 0;
	case EVICT_FILLING:
		return item->bytes > 0 && policy->urgent;
	case EVICT_SELECTED:
		return item->bytes > 0 && policy->selected_too;
	case EVICT_NEVER:
		break;
	}
	return false;
}

static int
worst_first(const void *a, const void *b)
{
	const struct evict_item *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->since != y->since)
		return x->since < y->since ? -1 : 1;
	return memcmp(x->digest.bytes, y->digest.bytes, DIGEST_BYTES);
}

/* What may go to the front, the rest behind it; how many may. */
static size_t
part(struct evict_item *items, size_t n, const struct evict_policy *policy)
{
	size_t front = 0;

	for (size_t i = 0; i < n; i++)
		if (may_go(&items[i], policy)) {
			struct evict_item other = items[front];

			items[front++] = items[i];
			items[i] = other;
		}
	return front;
}

/* The surplus goes to the most valuable that it covers; what is spared moves behind the n. */
static size_t
spare(struct evict_item *items, size_t n, int64_t surplus)
{
	for (size_t i = n; i > 0; i--) {
		struct evict_item item = items[i - 1];

		if (item.bytes > surplus)
			continue;
		surplus -= item.bytes;
		memmove(&items[i - 1], &items[i], (n - i) * sizeof(*items));
		items[--n] = item;
	}
	return n;
}

size_t
evict_plan(struct evict_item *items, size_t n, const struct evict_policy *policy, int64_t lacking,
	   int64_t *possible)
{
	size_t may = part(items, n, policy), taken = 0;
	int64_t freed = 0;

	if (may > 0)
		qsort(items, may, sizeof(*items), worst_first);
	while (taken < may && freed < lacking)
		freed += items[taken++].bytes;
	if (possible != NULL)
		*possible = freed;
	if (freed < lacking)
		return policy->partly ? taken : 0;
	return spare(items, taken, freed - lacking);
}
