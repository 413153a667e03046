/*
 * policy.c - the rules of policy files, and subjects matched against them.
 *
 * Patterns of both kinds are compiled into one small alphabet (a byte, any one byte, any run of
 * bytes) and matched with one backtracking point, so that no pattern is expensive.  A pattern
 * must match the whole name.
 *
 * Spelling of names.  Newer OpenSSL writes a '/' that stands inside a value as "\/", older tools
 * and every policy file in use write "/".  A name is therefore tried as OpenSSL spells it, and
 * also in the old spelling if that can be read in one way only, that is, if what follows the
 * slash does not look like an attribute of its own.  "/Email=", "/E=" and "/USERID=" are old
 * spellings of "/emailAddress=" and "/UID=".
 */
#include "config.h"
#include "policy.h"

#include <stdint.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "policyfile.h"

enum kind { KIND_SIGNING_POLICY, KIND_NAMESPACES, N_KINDS };

enum effect {
	EFFECT_NAMED,	/* the file speaks of this issuer; the rules follow */
	EFFECT_PERMIT,
	EFFECT_DENY,
	EFFECT_BROKEN,	/* the file is malformed; text says how */
};

/* Elements of a compiled pattern: 0 to 255 are bytes. */
enum { ANY_BYTE = 256, ANY_RUN = 257 };

struct rule {
	enum kind kind;
	enum effect effect;
	char *origin;
	char *issuer;		/* in one spelling: name_normal() */
	char *text;		/* the pattern as written, or the fault */
	uint16_t *glob;
	size_t n_glob;
};

struct policy {
	struct rule *rules;
	size_t n, cap;
};

/* ---- rules -------------------------------------------------------------- */

static void
rule_release(struct rule *r)
{
	free(r->origin);
	free(r->issuer);
	free(r->text);
	free(r->glob);
}

/* Takes issuer. */
static struct rule *
policy_append(struct policy *p, enum kind kind, const char *origin, char *issuer)
{
	struct rule *r;

	if (p->n == p->cap) {
		p->cap = p->cap != 0 ? 2 * p->cap : 64;
		p->rules = xrealloc(p->rules, p->cap * sizeof(*p->rules));
	}
	r = &p->rules[p->n++];
	memset(r, 0, sizeof(*r));
	r->kind = kind;
	r->origin = xstrdup(origin);
	r->issuer = issuer;
	return r;
}

/* None of the rules from first on counts; their issuers are unusable. */
static void
policy_break(struct policy *p, size_t first, const char *why)
{
	for (size_t i = first; i < p->n; i++) {
		struct rule *r = &p->rules[i];

		free(r->text);
		free(r->glob);
		r->effect = EFFECT_BROKEN;
		r->text = xstrdup(why);
		r->glob = NULL;
		r->n_glob = 0;
	}
}

struct policy *
policy_new(void)
{
	return xcalloc(1, sizeof(struct policy));
}

void
policy_free(struct policy *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n; i++)
		rule_release(&p->rules[i]);
	free(p->rules);
	free(p);
}

/* ---- names and patterns ------------------------------------------------- */

/* One spelling for attribute names that have several.  Caller frees. */
static char *
name_normal(const char *name)
{
	static const struct { const char *old, *now; } spelling[] = {
		{ "/Email=", "/emailAddress=" },
		{ "/E=", "/emailAddress=" },
		{ "/USERID=", "/UID=" },
	};
	struct buf out = BUF_INIT;

	while (*name != '\0') {
		size_t i;

		for (i = 0; i < sizeof(spelling) / sizeof(spelling[0]); i++)
			if (strncmp(name, spelling[i].old, strlen(spelling[i].old)) == 0)
				break;
		if (i < sizeof(spelling) / sizeof(spelling[0])) {
			buf_puts(&out, spelling[i].now);
			name += strlen(spelling[i].old);
		} else {
			buf_putc(&out, *name++);
		}
	}
	return buf_steal(&out, NULL);
}

/*
 * The name with "\/" written "/", or NULL if there is none.  *plain says whether it can only be
 * read in one way.  Caller frees.
 */
static char *
name_old_spelling(const char *name, bool *plain)
{
	struct buf out = BUF_INIT;
	bool escaped = false;

	*plain = true;
	for (const char *p = name; *p != '\0'; p++) {
		if (p[0] == '\\' && p[1] == '/') {
			size_t value = strcspn(p + 2, "/\\");

			if (memchr(p + 2, '=', value) != NULL)
				*plain = false;
			escaped = true;
			p++;
		}
		buf_putc(&out, *p);
	}
	if (escaped)
		return buf_steal(&out, NULL);
	buf_release(&out);
	return NULL;
}

static bool
glob_matches(const uint16_t *glob, size_t n, const char *name)
{
	size_t i = 0, run = SIZE_MAX;	/* run: the last ANY_RUN, where a mismatch resumes */
	const char *resume = NULL;

	while (*name != '\0') {
		if (i < n && glob[i] == ANY_RUN) {
			run = i++;
			resume = name;
		} else if (i < n && (glob[i] == ANY_BYTE || glob[i] == (unsigned char)*name)) {
			i++;
			name++;
		} else if (run != SIZE_MAX) {
			i = run + 1;
			name = ++resume;
		} else {
			return false;
		}
	}
	while (i < n && glob[i] == ANY_RUN)
		i++;
	return i == n;
}

static void
rule_add_element(struct rule *r, unsigned element)
{
	r->glob[r->n_glob++] = (uint16_t)element;
}

static void
rule_compile_wildcards(struct rule *r, const char *pattern)
{
	CLEANUP_FREE char *normal = name_normal(pattern);

	r->text = xstrdup(pattern);
	r->glob = xcalloc(strlen(normal) + 1, sizeof(*r->glob));
	for (const char *p = normal; *p != '\0'; p++)
		rule_add_element(r, *p == '*' ? ANY_RUN : *p == '?' ? ANY_BYTE : (unsigned char)*p);
}

/* NULL, or what in the expression is not understood. */
static const char *
rule_compile_expression(struct rule *r, const char *pattern)
{
	CLEANUP_FREE char *normal = name_normal(pattern);
	const char *p = normal;

	r->text = xstrdup(pattern);
	r->glob = xcalloc(2 * strlen(normal) + 1, sizeof(*r->glob));
	if (*p == '^')
		p++;
	for (; *p != '\0'; p++) {
		if (p[0] == '$' && p[1] == '\0')
			break;
		if (strchr("[](){}|+*?^$", *p) != NULL)
			return "only '.', '.*', '.+' and escapes are understood";
		if (p[0] == '\\') {
			if (p[1] == '\0' || strchr("\\/.[](){}|+*?^$-@ ", p[1]) == NULL)
				return "an escape that is not understood";
			rule_add_element(r, (unsigned char)*++p);
		} else if (p[0] == '.' && p[1] == '*') {
			rule_add_element(r, ANY_RUN);
			p++;
		} else if (p[0] == '.' && p[1] == '+') {
			rule_add_element(r, ANY_BYTE);
			rule_add_element(r, ANY_RUN);
			p++;
		} else {
			rule_add_element(r, p[0] == '.' ? ANY_BYTE : (unsigned char)p[0]);
		}
	}
	return NULL;
}

/* ---- files -------------------------------------------------------------- */

struct reading {
	struct policy *policy;
	enum kind kind;
	const char *origin;
};

static const char *
on_rule(void *arg, const char *issuer, bool deny, const char *pattern)
{
	const struct reading *reading = arg;
	struct rule *r;

	r = policy_append(reading->policy, reading->kind, reading->origin, name_normal(issuer));
	if (pattern == NULL)
		return NULL;
	r->effect = deny ? EFFECT_DENY : EFFECT_PERMIT;
	if (reading->kind == KIND_NAMESPACES)
		return rule_compile_expression(r, pattern);
	rule_compile_wildcards(r, pattern);
	return NULL;
}

static int
policy_add(struct policy *p, enum kind kind, const char *origin, const char *text, size_t len,
	   struct err *err)
{
	struct reading reading = { p, kind, origin };
	struct err fault = { 0, CODE_NONE, "" };
	size_t first = p->n;
	int rc;

	if (kind == KIND_SIGNING_POLICY)
		rc = policyfile_signing_policy(origin, text, len, on_rule, &reading, &fault);
	else
		rc = policyfile_namespaces(origin, text, len, on_rule, &reading, &fault);
	if (rc == 0 && p->n == first)
		rc = err_refuse(&fault, CODE_NAMESPACE, "policy file '%s' is malformed: it holds"
				" no rule",
				origin);
	if (rc != 0)
		policy_break(p, first, fault.text);
	if (rc != 0 && err != NULL)
		*err = fault;
	return rc;
}

int
policy_add_signing_policy(struct policy *p, const char *origin, const char *text, size_t len,
			  struct err *err)
{
	return policy_add(p, KIND_SIGNING_POLICY, origin, text, len, err);
}

int
policy_add_namespaces(struct policy *p, const char *origin, const char *text, size_t len,
		      struct err *err)
{
	return policy_add(p, KIND_NAMESPACES, origin, text, len, err);
}

/* ---- the decision ------------------------------------------------------- */

/* The spellings under which a name may be known. */
struct spellings {
	char *name;	/* as OpenSSL writes it */
	char *old;	/* '/' inside values unescaped; NULL if that is the same */
	bool plain;	/* old can be read in one way only */
};

static void
spellings_init(struct spellings *s, const char *name)
{
	s->name = name_normal(name);
	s->old = name_old_spelling(s->name, &s->plain);
}

static void
spellings_release(struct spellings *s)
{
	free(s->name);
	free(s->old);
}

static bool
rule_is_for(const struct rule *r, const struct spellings *issuer)
{
	return strcmp(r->issuer, issuer->name) == 0 ||
	    (issuer->old != NULL && issuer->plain && strcmp(r->issuer, issuer->old) == 0);
}

/* A denial counts under any spelling, a permission only where the spelling is plain. */
static bool
rule_matches(const struct rule *r, const struct spellings *subject)
{
	if (glob_matches(r->glob, r->n_glob, subject->name))
		return true;
	return subject->old != NULL && (subject->plain || r->effect == EFFECT_DENY) &&
	    glob_matches(r->glob, r->n_glob, subject->old);
}

static int
refuse_by_rule(const struct rule *r, const char *issuer, const char *subject, struct err *err)
{
	return err_refuse(err, CODE_NAMESPACE, "'%.256s' is outside what '%s' lets CA '%.256s'"
			  " sign: %s \"%.256s\"",
			  subject, r->origin, issuer,
			  r->kind == KIND_SIGNING_POLICY ? "cond_subjects" :
			  r->effect == EFFECT_DENY ? "DENY Subject" : "PERMIT Subject", r->text);
}

int
policy_permits(const struct policy *p, const char *issuer, const char *subject, struct err *err)
{
	const struct rule *spoke[N_KINDS] = { NULL, NULL };
	bool permitted[N_KINDS] = { false, false };
	struct spellings by, of;
	int rc = 0;

	spellings_init(&by, issuer);
	spellings_init(&of, subject);
	for (size_t i = 0; i < p->n && rc == 0; i++) {
		const struct rule *r = &p->rules[i];

		if (r->effect == EFFECT_NAMED || !rule_is_for(r, &by))
			continue;
		spoke[r->kind] = r;
		if (r->effect == EFFECT_BROKEN)
			rc = err_refuse(err, CODE_NAMESPACE, "%s", r->text);
		else if (!rule_matches(r, &of))
			continue;
		else if (r->effect == EFFECT_DENY)
			rc = refuse_by_rule(r, issuer, subject, err);
		else
			permitted[r->kind] = true;
	}
	for (int kind = 0; kind < N_KINDS && rc == 0; kind++)
		if (spoke[kind] != NULL && !permitted[kind])
			rc = refuse_by_rule(spoke[kind], issuer, subject, err);
	if (rc == 0 && spoke[KIND_SIGNING_POLICY] == NULL && spoke[KIND_NAMESPACES] == NULL)
		rc = err_refuse(err, CODE_NAMESPACE, "no .signing_policy or .namespaces file"
				" speaks of CA '%.256s'; install the one of its CA"
				" package", issuer);
	spellings_release(&by);
	spellings_release(&of);
	return rc;
}
