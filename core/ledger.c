#include "config.h"
#include "ledger.h"

#include <stdlib.h>

#include "buf.h"

enum { BUCKETS = 4096 };

struct node {
	struct node *next;
	struct digest digest;
	struct ledger_entry entry;
};

struct ledger {
	struct node *buckets[BUCKETS];
	struct ledger_totals totals;
};

struct ledger *
ledger_new(void)
{
	return xcalloc(1, sizeof(struct ledger));
}

void
ledger_free(struct ledger *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (l->buckets[i] != NULL) {
			struct node *node = l->buckets[i];

			l->buckets[i] = node->next;
			free(node);
		}
	free(l);
}

/* A digest is as good as random. */
static size_t
bucket_of(const struct digest *d)
{
	return (d->bytes[0] | (size_t)d->bytes[1] << 8) % BUCKETS;
}

static struct node *
find(const struct ledger *l, const struct digest *d)
{
	struct node *node = l->buckets[bucket_of(d)];

	while (node != NULL && !digest_equal(&node->digest, d))
		node = node->next;
	return node;
}

struct ledger_entry
ledger_get(const struct ledger *l, const struct digest *d)
{
	const struct node *node = find(l, d);

	return node != NULL ? node->entry : (struct ledger_entry){ 0 };
}

static void
count(struct ledger_totals *t, const struct ledger_entry *e, int sign)
{
	t->objects += sign * e->object;
	t->partial += sign * e->partial;
	if (e->promised > e->partial)
		t->promised += sign * (e->promised - e->partial);
	t->n_objects += e->stored ? sign : 0;
}

static struct node *
add(struct ledger *l, const struct digest *d)
{
	struct node **bucket = &l->buckets[bucket_of(d)], *node = xcalloc(1, sizeof(*node));

	node->digest = *d;
	node->next = *bucket;
	*bucket = node;
	return node;
}

static void
forget(struct ledger *l, struct node *node)
{
	struct node **p = &l->buckets[bucket_of(&node->digest)];

	while (*p != node)
		p = &(*p)->next;
	*p = node->next;
	free(node);
}

static bool
is_empty(const struct ledger_entry *e)
{
	return !e->stored && e->object == 0 && e->partial == 0 && e->promised == 0;
}

void
ledger_set(struct ledger *l, const struct digest *d, const struct ledger_entry *entry)
{
	struct node *node = find(l, d);

	if (node == NULL && is_empty(entry))
		return;
	if (node == NULL)
		node = add(l, d);
	count(&l->totals, &node->entry, -1);
	node->entry = *entry;
	count(&l->totals, &node->entry, 1);
	if (is_empty(entry))
		forget(l, node);
}

struct ledger_totals
ledger_totals(const struct ledger *l)
{
	return l->totals;
}

void
ledger_each(struct ledger *l, void (*fn)(void *arg, const struct digest *d), void *arg)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct node *node = l->buckets[i], *next; node != NULL; node = next) {
			const struct digest d = node->digest;

			next = node->next;
			fn(arg, &d);
		}
}
