/*
 * pins.c - records that the kernel still knows.
 */
#include "config.h"
#include "fs/pins.h"

#include <pthread.h>
#include <stdlib.h>
#include "core/buf.h"
#include "fs/idmap.h"
#include "fs/node.h"

struct pin {
	const struct record *record;
	uint64_t count;
};

struct pins {
	pthread_mutex_t lock;		/* protects map and the counts */
	struct idmap map;		/* pin_key() -> struct pin */
};

struct pins *
pins_new(void)
{
	struct pins *p = xcalloc(1, sizeof(*p));

	pthread_mutex_init(&p->lock, NULL);
	idmap_init(&p->map);
	return p;
}

static void
pin_free(struct pin *pin)
{
	record_unref(pin->record);
	free(pin);
}

void
pins_free(struct pins *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->map.n_slots; i++)
		if (p->map.slots[i].key != 0)
			pin_free(p->map.slots[i].value);
	idmap_release(&p->map);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Not 0: row ids begin at 1. */
static uint64_t
pin_key(enum record_class class, uint64_t row, uint64_t rev)
{
	return node_make(KIND_ROOT, class, row, rev);
}

void
pins_add(struct pins *p, const struct record *r, uint64_t rev)
{
	uint64_t key = pin_key(r->class, r->row, rev);
	struct pin *pin;

	pthread_mutex_lock(&p->lock);
	pin = idmap_get(&p->map, key);
	if (pin == NULL) {
		pin = xcalloc(1, sizeof(*pin));
		pin->record = record_ref(r);
		idmap_set(&p->map, key, pin);
	}
	pin->count++;
	pthread_mutex_unlock(&p->lock);
}

void
pins_drop(struct pins *p, enum record_class class, uint64_t row, uint64_t rev, uint64_t n)
{
	uint64_t key = pin_key(class, row, rev);
	struct pin *pin, *gone = NULL;

	pthread_mutex_lock(&p->lock);
	pin = idmap_get(&p->map, key);
	/* NULL: looked up in the process before us. */
	if (pin != NULL && pin->count <= n)
		gone = idmap_remove(&p->map, key);
	else if (pin != NULL)
		pin->count -= n;
	pthread_mutex_unlock(&p->lock);
	if (gone != NULL)
		pin_free(gone);
}

const struct record *
pins_find(struct pins *p, enum record_class class, uint64_t row, uint64_t rev)
{
	const struct record *found = NULL;
	const struct pin *pin;

	pthread_mutex_lock(&p->lock);
	pin = idmap_get(&p->map, pin_key(class, row, rev));
	if (pin != NULL)
		found = record_ref(pin->record);
	pthread_mutex_unlock(&p->lock);
	return found;
}

/* Records are freed under the lock here: it is short work, and lookups are few at that moment. */
void
pins_renew(struct pins *p,
	   const struct record *(*find)(void *arg, enum record_class class, uint64_t row),
	   void *arg)
{
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->map.n_slots; i++) {
		uint64_t key = p->map.slots[i].key;
		struct pin *pin = p->map.slots[i].value;
		const struct record *newest;

		if (key == 0 || node_rev(key) != 0)
			continue;
		newest = find(arg, pin->record->class, pin->record->row);
		if (newest == NULL || newest == pin->record)
			continue;
		record_ref(newest);
		record_unref(pin->record);
		pin->record = newest;
	}
	pthread_mutex_unlock(&p->lock);
}

