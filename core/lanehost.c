#include "config.h"
#include "lanehost.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"

enum { REST_DOUBLINGS = 6 };

char *
lanehost_name(const char *uri)
{
	const char *host = strstr(uri, "://");
	char *name;

	if (host == NULL)
		return xstrdup(uri);
	host += 3;
	name = xstrndup(uri, (size_t)(host - uri) + strcspn(host, "/?#"));
	for (char *c = name; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	return name;
}

struct lanehost *
lanehost_get(struct lanehost **head, const char *uri)
{
	CLEANUP_FREE char *name = lanehost_name(uri);
	struct lanehost *h = *head;

	while (h != NULL && strcmp(h->name, name) != 0)
		h = h->next;
	if (h == NULL) {
		h = xcalloc(1, sizeof(*h));
		h->name = steal_ptr(&name);
		h->next = *head;
		*head = h;
	}
	return lanehost_ref(h);
}

struct lanehost *
lanehost_ref(struct lanehost *h)
{
	h->n_refs++;
	return h;
}

void
lanehost_put(struct lanehost **head, struct lanehost *h)
{
	if (h == NULL || --h->n_refs > 0)
		return;
	while (*head != h)
		head = &(*head)->next;
	*head = h->next;
	free(h->name);
	free(h);
}

bool
lanehost_may_ask(const struct lanehost *h, bool knows, int per_host, long long now,
		 long long *next)
{
	int most = now < h->careful_until ? 1 : per_host;

	/* Whoever has a connection goes on with it; another would be one too many. */
	if (h->n_active >= most || (!knows && h->n_lanes >= most))
		return false;
	if (now >= h->rest_until)
		return true;
	if (h->rest_until < *next)
		*next = h->rest_until;
	return false;
}

void
lanehost_refused(struct lanehost *h, int retry_after, long long now)
{
	long long rest = LANEHOST_REST_MS;

	h->careful_until = now + LANEHOST_CAREFUL_MS;
	if (h->n_active > 0)	/* it serves another one of ours: that was the reason */
		return;
	rest <<= h->n_refused < REST_DOUBLINGS ? h->n_refused : REST_DOUBLINGS;
	h->n_refused++;
	if (rest < retry_after * 1000LL)
		rest = retry_after * 1000LL;
	h->rest_until = now + (rest < LANEHOST_REST_MAX_MS ? rest : LANEHOST_REST_MAX_MS);
}

void
lanehost_answered(struct lanehost *h)
{
	h->n_refused = 0;
}
