/*
 * policyfile.c - the syntax of .signing_policy and .namespaces files.
 *
 * A signing_policy file (Globus Toolkit, "EACL") holds groups of lines of three words each:
 *
 *	access_id_CA   X509    '/O=Example Grid/CN=Example CA'
 *	pos_rights     globus  CA:sign
 *	cond_subjects  globus  '"/O=Example Grid/CN=*" "/C=NL/O=Example*"'
 *
 * A namespaces file (EUGridPMA, "Namespaces" version 1.0) holds statements that a backslash may
 * carry over the end of a line:
 *
 *	TO Issuer "/O=Example Grid/CN=Example CA" \
 *	  PERMIT Subject "/O=Example Grid/CN=.*"
 *
 * In both '#' begins a comment, and words may stand in single or double quotes.  Whatever is not
 * understood makes the whole file malformed: a rule that we read differently from its author
 * would widen or narrow the CA in silence.  `TO Issuer SELF` is not understood: this module sees
 * texts, not the certificate that a file lies beside.
 */
#include "config.h"
#include "policyfile.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "buf.h"
#include "cleanup.h"

/* A file being read. */
enum { WORDS_MAX = 8 };

struct scan {
	const char *origin;
	const char *at, *end;
	unsigned line;
	bool continues;		/* a backslash carries a statement over the end of its line */
	char *words[WORDS_MAX];
	size_t n_words;
	policyfile_rule_fn *fn;
	void *arg;
};

/* ---- words -------------------------------------------------------------- */

static int __attribute__((format(printf, 3, 4)))
scan_fault(const struct scan *s, struct err *err, const char *fmt, ...)
{
	char why[ERR_TEXT_MAX / 2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return err_refuse(err, CODE_NAMESPACE, "policy file '%s' is malformed: line %u: %s",
			  s->origin, s->line, why);
}

static void
scan_clear(struct scan *s)
{
	for (size_t i = 0; i < s->n_words; i++)
		free(s->words[i]);
	s->n_words = 0;
}

/* Blanks, comments, and a backslash with the line end after it. */
static void
scan_skip(struct scan *s)
{
	while (s->at < s->end) {
		const char *next = s->at + 1;

		if (*s->at == '#') {
			while (s->at < s->end && *s->at != '\n')
				s->at++;
		} else if (*s->at == ' ' || *s->at == '\t' || *s->at == '\r') {
			s->at++;
		} else if (s->continues && *s->at == '\\') {
			while (next < s->end && (*next == ' ' || *next == '\t' || *next == '\r'))
				next++;
			if (next < s->end && *next != '\n')
				return;
			s->at = next < s->end ? next + 1 : next;
			s->line++;
		} else {
			return;
		}
	}
}

static int
scan_word(struct scan *s, struct err *err)
{
	const char *start = s->at;

	if (s->n_words == WORDS_MAX)
		return scan_fault(s, err, "too many words");
	if (*start == '\'' || *start == '"') {
		const char *close;

		start++;
		for (close = start; close < s->end && *close != start[-1] && *close != '\n';)
			close++;
		if (close == s->end || *close == '\n')
			return scan_fault(s, err, "a quote is not closed");
		s->at = close + 1;
		s->words[s->n_words++] = xstrndup(start, (size_t)(close - start));
		return 0;
	}
	while (s->at < s->end && strchr(" \t\r\n'\"", *s->at) == NULL)
		s->at++;
	s->words[s->n_words++] = xstrndup(start, (size_t)(s->at - start));
	return 0;
}

/* The words of the next statement: 1, or 0 at the end of the file, or an error. */
static int
scan_statement(struct scan *s, struct err *err)
{
	int rc;

	scan_clear(s);
	for (;;) {
		scan_skip(s);
		if (s->at == s->end)
			return s->n_words != 0;
		if (*s->at == '\n') {
			if (s->n_words != 0)
				return 1;
			s->at++;
			s->line++;
			continue;
		}
		rc = scan_word(s, err);
		if (rc != 0)
			return rc;
	}
}

/* ---- signing_policy ----------------------------------------------------- */

/* The access_id_CA group being read. */
struct group {
	char *issuer;
	bool may_sign;
	size_t n_conditions;
};

static int
group_end(const struct scan *s, const struct group *g, struct err *err)
{
	if (g->issuer != NULL && g->n_conditions == 0)
		return scan_fault(s, err, "the rule of '%s' has no cond_subjects", g->issuer);
	return 0;
}

static int
add_condition(const struct scan *s, struct group *g, const char *pattern, struct err *err)
{
	const char *fault = s->fn(s->arg, g->issuer, false, pattern);

	g->n_conditions++;
	return fault == NULL ? 0 : scan_fault(s, err, "pattern '%s': %s", pattern, fault);
}

/* The third word of cond_subjects: one pattern, or several in double quotes. */
static int
read_conditions(const struct scan *s, struct group *g, struct err *err)
{
	const char *at = s->words[2], *close;
	int rc = 0;

	if (g->issuer == NULL || !g->may_sign)
		return scan_fault(s, err, "cond_subjects without access_id_CA and CA:sign");
	if (strchr(at, '"') == NULL)
		return add_condition(s, g, at, err);
	for (at += strspn(at, " \t"); *at != '\0' && rc == 0; at += strspn(at, " \t")) {
		CLEANUP_FREE char *pattern = NULL;

		close = *at == '"' ? strchr(at + 1, '"') : NULL;
		if (close == NULL)
			return scan_fault(s, err, "a quote in cond_subjects is not closed");
		pattern = xstrndup(at + 1, (size_t)(close - at - 1));
		rc = add_condition(s, g, pattern, err);
		at = close + 1;
	}
	return rc;
}

static int
signing_policy_line(const struct scan *s, struct group *g, struct err *err)
{
	int rc;

	if (s->n_words != 3)
		return scan_fault(s, err, "%zu words where 3 are expected", s->n_words);
	if (strcasecmp(s->words[0], "access_id_CA") == 0) {
		rc = group_end(s, g, err);
		if (rc != 0)
			return rc;
		free(g->issuer);
		g->issuer = xstrdup(s->words[2]);
		g->may_sign = false;
		g->n_conditions = 0;
		s->fn(s->arg, g->issuer, false, NULL);
		return 0;
	}
	if (strcasecmp(s->words[0], "pos_rights") == 0) {
		g->may_sign = strcasecmp(s->words[2], "CA:sign") == 0;
		return 0;
	}
	if (strcasecmp(s->words[0], "cond_subjects") == 0)
		return read_conditions(s, g, err);
	return scan_fault(s, err, "'%s' is not understood", s->words[0]);
}

static int
read_signing_policy(struct scan *s, struct group *g, struct err *err)
{
	int rc;

	while ((rc = scan_statement(s, err)) > 0) {
		rc = signing_policy_line(s, g, err);
		if (rc != 0)
			return rc;
	}
	return rc != 0 ? rc : group_end(s, g, err);
}

/* ---- namespaces --------------------------------------------------------- */

static int
namespaces_statement(const struct scan *s, struct err *err)
{
	const char *fault;
	bool deny;

	if (s->n_words != 6 || strcasecmp(s->words[0], "TO") != 0 ||
	    strcasecmp(s->words[1], "Issuer") != 0 || strcasecmp(s->words[4], "Subject") != 0)
		return scan_fault(s, err, "not of the form TO Issuer \"NAME\" PERMIT Subject"
				  " \"EXPRESSION\"");
	deny = strcasecmp(s->words[3], "DENY") == 0;
	if (!deny && strcasecmp(s->words[3], "PERMIT") != 0)
		return scan_fault(s, err, "'%s' where PERMIT or DENY is expected", s->words[3]);
	if (s->words[2][0] != '/')
		return scan_fault(s, err, "issuer '%s' is not a name beginning with '/'",
				  s->words[2]);
	fault = s->fn(s->arg, s->words[2], deny, s->words[5]);
	if (fault != NULL)
		return scan_fault(s, err, "expression '%s': %s", s->words[5], fault);
	return 0;
}

static int
read_namespaces(struct scan *s, struct err *err)
{
	int rc;

	while ((rc = scan_statement(s, err)) > 0) {
		rc = namespaces_statement(s, err);
		if (rc != 0)
			return rc;
	}
	return rc;
}

/* ---- files -------------------------------------------------------------- */

static int
check_bytes(const struct scan *s, struct err *err)
{
	if (s->at != s->end && memchr(s->at, '\0', (size_t)(s->end - s->at)) != NULL)
		return scan_fault(s, err, "a NUL byte");
	return 0;
}

int
policyfile_signing_policy(const char *origin, const char *text, size_t len, policyfile_rule_fn *fn,
			  void *arg, struct err *err)
{
	struct scan s = {
		.origin = origin, .at = text, .end = text + len, .line = 1, .fn = fn, .arg = arg,
	};
	struct group g = { NULL, false, 0 };
	int rc = check_bytes(&s, err);

	if (rc == 0)
		rc = read_signing_policy(&s, &g, err);
	scan_clear(&s);
	free(g.issuer);
	return rc;
}

int
policyfile_namespaces(const char *origin, const char *text, size_t len, policyfile_rule_fn *fn,
		      void *arg, struct err *err)
{
	struct scan s = {
		.origin = origin, .at = text, .end = text + len, .line = 1, .continues = true,
		.fn = fn, .arg = arg,
	};
	int rc = check_bytes(&s, err);

	if (rc == 0)
		rc = read_namespaces(&s, err);
	scan_clear(&s);
	return rc;
}
