/*
 * Whether a list may become the current one: versions, dates, names, endorsers.
 */
#include "config.h"
#include "sitefixture.h"

#include <sys/wait.h>

#include "core/cleanup.h"
#include "core/listjudge.h"


static const int64_t day = 86400;

/* Judges a list of this version and these dates against a subscription. */
static int
judge(struct fixture *f, struct subscription_row *sub, const char *version, int64_t created,
      int64_t expires)
{
	struct imagelist list = { .identifier = xstrdup(LIST),
				  .version = xstrdup(version),
				  .uri = xstrdup(""),
				  .created = created,
				  .expires = expires };
	struct digest message = content('d');
	struct err warning = { 0 };
	int rc;

	err_clear(&f->err);
	rc = list_judge(sub, &list, &message, &f->conf, NOW, &warning, &f->err);
	free(list.identifier);
	free(list.version);
	free(list.uri);
	assert_true((rc == JUDGE_ACCEPT_WITH_WARNING) == (warning.text[0] != '\0'));
	return rc < 0 ? -(int)f->err.code : rc;
}

static struct subscription_row
known(void)
{
	struct subscription_row sub = { .list_id = xstrdup(LIST),
					.version = xstrdup("5"),
					.created = NOW - 100,
					.state = SUB_OK,
					.has_message = true,
					.message = content('c') };

	return sub;
}

static void
other_identifier(void **state)
{
	struct fixture *f = *state;
	struct subscription_row sub = known();

	free(sub.list_id);
	sub.list_id = xstrdup(OTHER_LIST);
	assert_int_equal(judge(f, &sub, "6", NOW - 10, NOW + day), -CODE_LIST_ID);
	subscription_row_release(&sub);
}

static void
dates(void **state)
{
	struct fixture *f = *state;
	struct subscription_row sub = known();

	assert_int_equal(judge(f, &sub, "6", NOW + 600, NOW + day), -CODE_FUTURE);
	assert_int_equal(judge(f, &sub, "6", NOW - 10, NOW - 10), -CODE_EXPIRED);
	assert_int_equal(judge(f, &sub, "6", NOW - 10, NOW), -CODE_EXPIRED);
	assert_int_equal(judge(f, &sub, "6", NOW, NOW + 1), JUDGE_ACCEPT);
	f->conf.max_valid_time = day;
	assert_int_equal(judge(f, &sub, "6", NOW - day, NOW + 100 * day), -CODE_EXPIRED);
	/* It never makes a list longer, and does not hide that one ends before it begins. */
	assert_int_equal(judge(f, &sub, "6", NOW - 10, NOW + 10), JUDGE_ACCEPT);
	assert_int_equal(judge(f, &sub, "6", NOW - 10, NOW - 20), -CODE_EXPIRED);
	subscription_row_release(&sub);
}

/* Nothing is known of it: neither its identifier nor a version. */
static void
first_list(void **state)
{
	struct fixture *f = *state;
	struct subscription_row sub = { .state = SUB_NEW };

	assert_int_equal(judge(f, &sub, "1", NOW - 10, NOW + day), JUDGE_ACCEPT);
	sub.list_id = xstrdup(LIST);
	sub.version = xstrdup("");
	assert_int_equal(judge(f, &sub, "1", NOW - 10, NOW + day), JUDGE_ACCEPT);
	subscription_row_release(&sub);
}

/* What list_judge() says of the form: the sentence of the warning, "" if there is none. */
static void
assert_warned(struct fixture *f, const char *subscribed, const char *uri, bool unwrapped,
	      const char *warned)
{
	struct imagelist list = { .identifier = xstrdup(LIST), .version = xstrdup("6"),
				  .uri = uri != NULL ? xstrdup(uri) : NULL,
				  .created = NOW - 10, .expires = NOW + day,
				  .unwrapped = unwrapped };
	struct subscription_row sub = known();
	struct digest message = content('d');
	struct err warning = { 0 };

	sub.url = subscribed != NULL ? xstrdup(subscribed) : NULL;
	assert_int_equal(list_judge(&sub, &list, &message, &f->conf, NOW, &warning, &f->err),
			 warned[0] != '\0' ? JUDGE_ACCEPT_WITH_WARNING : JUDGE_ACCEPT);
	assert_non_null(strstr(warning.text, warned));
	free(list.identifier);
	free(list.version);
	free(list.uri);
	subscription_row_release(&sub);
}

static void
form(void **state)
{
	struct fixture *f = *state;

	assert_warned(f, "https://example.org/a", "https://example.org/a", true, "old form");
	assert_warned(f, "https://example.org/a", "https://example.org/b", false,
		      "another address");
	assert_warned(f, "https://example.org/a", "https://example.org/a", false, "");
	assert_warned(f, "https://example.org/a", "", false, "");
	assert_warned(f, "https://example.org/a", NULL, false, "");
	assert_warned(f, NULL, "https://example.org/b", false, "");
}

static void
versions(void **state)
{
	struct fixture *f = *state;
	struct subscription_row sub = known();

	assert_int_equal(judge(f, &sub, "6", NOW - 10, NOW + day), JUDGE_ACCEPT);
	assert_int_equal(judge(f, &sub, "5", NOW - 10, NOW + day), JUDGE_ACCEPT_WITH_WARNING);
	assert_int_equal(judge(f, &sub, "5", NOW - 100, NOW + day), -CODE_SAME_VERSION);
	assert_int_equal(judge(f, &sub, "5", NOW - 200, NOW + day), -CODE_SAME_VERSION);
	assert_int_equal(judge(f, &sub, "4", NOW - 10, NOW + day), -CODE_LOWER_VERSION);
	assert_int_equal(judge(f, &sub, "6", NOW - 101, NOW + day), -CODE_LOWER_VERSION);
	subscription_row_release(&sub);
}

static void
fast_forward(void **state)
{
	struct fixture *f = *state;
	struct subscription_row sub = known();

	free(sub.version);
	sub.version = xstrdup("99999999999999999999");
	assert_int_equal(judge(f, &sub, "2", NOW - 10, NOW + day), -CODE_LOWER_VERSION);
	assert_non_null(strstr(f->err.text, "--reset-version"));
	sub.reset_version = true;
	assert_int_equal(judge(f, &sub, "2", NOW - 200, NOW + day), JUDGE_ACCEPT);
	subscription_row_release(&sub);
}

static void
same_bytes(void **state)
{
	struct fixture *f = *state;
	struct subscription_row sub = known();

	sub.message = content('d');
	assert_int_equal(judge(f, &sub, "5", NOW - 100, NOW + day), JUDGE_SAME);
	sub.state = SUB_DISTRUSTED;
	assert_int_equal(judge(f, &sub, "5", NOW - 100, NOW + day), JUDGE_ACCEPT);
	sub.state = SUB_FAILED;
	assert_int_equal(judge(f, &sub, "5", NOW - 100, NOW + day), JUDGE_SAME);
	/* The stored message was damaged: the same bytes are what is wanted. */
	sub.has_message = false;
	assert_int_equal(judge(f, &sub, "5", NOW - 100, NOW + day), JUDGE_ACCEPT);
	subscription_row_release(&sub);
}

static void
reset_once(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct subscription_row row;

	publish(f, sub, "9", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(catalogue_subscription_reset_version(f->c, sub, &f->err), 0);
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(catalogue_subscription_by_id(f->c, sub, &row, &f->err), 0);
	assert_false(row.reset_version);
	assert_string_equal(row.version, "2");
	subscription_row_release(&row);
}

static void
names(void **state)
{
	(void)state;
	assert_true(dn_equal("/DC=org/CN=Alice", "/DC=org/CN=Alice"));
	assert_false(dn_equal("/DC=org/CN=Alice", "/DC=org/CN=Alice2"));
	assert_false(dn_equal("/DC=org/CN=Alice2", "/DC=org/CN=Alice"));
	assert_false(dn_equal("/DC=org/CN=alice", "/DC=org/CN=Alice"));
	assert_true(dn_equal("/CN=host/node.example.org", "/CN=host\\/node.example.org"));
	assert_true(dn_equal("/CN=host\\/node.example.org", "/CN=host\\/node.example.org"));
	/* What may be another component is not believed. */
	assert_false(dn_equal("/CN=Alice/CN=Bob", "/CN=Alice\\/CN=Bob"));
	assert_false(dn_equal("/O=x/1.2.3=y", "/O=x\\/1.2.3=y"));
	assert_false(dn_equal("/CN=Alice", "/CN=Alice\\/"));
	assert_false(dn_equal("/CN=Alice/E-Mail=y", "/CN=Alice\\/E-Mail=y"));
	assert_true(dn_equal("/CN=host//x", "/CN=host\\//x"));
	assert_true(dn_equal("/CN=a/b c=d", "/CN=a\\/b c=d"));
	/* A backslash that stands for itself; an escaped '/' where the other name has none. */
	assert_false(dn_equal("/CN=a/b", "/CN=a\\b"));
	assert_false(dn_equal("/CN=a+b", "/CN=a\\/b"));
}

static void
list_names(void **state)
{
	struct fixture *f = *state;
	struct imagelist list = { .dn = xstrdup(ALICE), .ca = xstrdup(CA) };
	struct verdict v;

	verdict_init(&v);
	v.subject = xstrdup(ALICE);
	v.issuer = xstrdup(CA);
	assert_int_equal(list_judge_names(&list, &v, &f->err), 0);
	free(list.ca);
	list.ca = xstrdup("/CN=Root");
	assert_int_equal(list_judge_names(&list, &v, &f->err), -EKEYREJECTED);
	assert_int_equal(f->err.code, CODE_DN);
	free(v.issuer);
	v.issuer = NULL;
	err_clear(&f->err);
	assert_int_equal(list_judge_names(&list, &v, &f->err), -EKEYREJECTED);
	free(v.subject);
	v.subject = xstrdup(BOB);
	err_clear(&f->err);
	assert_int_equal(list_judge_names(&list, &v, &f->err), -EKEYREJECTED);
	assert_non_null(strstr(f->err.text, "hv:dn"));
	free(v.subject);
	v.subject = NULL;
	assert_int_equal(list_judge_names(&list, &v, &f->err), -EKEYREJECTED);
	free(list.dn);
	free(list.ca);
	verdict_release(&v);
}

/* The refusal code for a signer, or 0 and the endorser's name in *name. */
static int
signed_by(struct fixture *f, int64_t sub, const char *subject, bool weak, bool purpose, char **name)
{
	struct verdict v;
	int rc;

	verdict_init(&v);
	v.subject = xstrdup(subject);
	v.issuer = xstrdup(CA);
	v.weak_digest = weak;
	v.other_purpose = purpose;
	err_clear(&f->err);
	rc = list_judge_endorser(f->c, sub, &v, name, &f->err);
	verdict_release(&v);
	return rc == 0 ? 0 : (int)f->err.code;
}

static void
endorsers(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	char *name;

	assert_int_equal(catalogue_endorser_add(f->c, "bob", BOB, CA, true, true, &f->err), 0);
	assert_int_equal(signed_by(f, sub, ALICE, false, false, &name), 0);
	assert_string_equal(name, "alice");
	free(name);
	assert_int_equal(signed_by(f, sub, BOB, false, false, &name), CODE_NOT_LINKED);
	assert_null(name);
	assert_int_equal(signed_by(f, 0, BOB, false, false, &name), 0);
	assert_string_equal(name, "bob");
	free(name);
	assert_int_equal(signed_by(f, sub, "/CN=Mallory", false, false, &name), CODE_NOT_LINKED);
	assert_int_equal(signed_by(f, sub, ALICE, true, false, &name), CODE_WEAK);
	assert_int_equal(signed_by(f, sub, ALICE, false, true, &name), CODE_SIGNATURE);
	assert_int_equal(signed_by(f, 0, BOB, true, true, &name), 0);
	free(name);
}

static void
credentials_not_mixed(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	char *name;

	assert_int_equal(
		catalogue_endorser_add(f->c, "alice", "/CN=Alice 2", CA, false, false, &f->err), 0);
	assert_int_equal(catalogue_endorser_add(f->c, "bob", BOB, CA, false, false, &f->err), 0);
	assert_int_equal(catalogue_link(f->c, "bob", sub, &f->err), 0);
	assert_int_equal(signed_by(f, sub, "/CN=Alice 2", false, false, &name), 0);
	assert_string_equal(name, "alice");
	free(name);
	assert_int_equal(signed_by(f, sub, BOB, false, false, &name), 0);
	assert_string_equal(name, "bob");
	free(name);
	assert_int_equal(catalogue_endorser_remove(f->c, "alice", ALICE, CA, &f->err), 0);
	assert_int_equal(signed_by(f, sub, "/CN=Alice 2", false, false, &name), 0);
	free(name);
	assert_int_equal(signed_by(f, sub, ALICE, false, false, &name), CODE_NOT_LINKED);
}

/* One with the subject of a registered credential, from another CA. */
static void
issuer_counts(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct verdict v;
	char *name;

	verdict_init(&v);
	v.subject = xstrdup(ALICE);
	v.issuer = xstrdup("/DC=org/DC=example/CN=Another CA");
	assert_int_not_equal(list_judge_endorser(f->c, sub, &v, &name, &f->err), 0);
	assert_int_equal(f->err.code, CODE_NOT_LINKED);
	assert_null(name);
	verdict_release(&v);
}

/* Half of a signer is none. */
static void
no_signer(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct verdict v;
	char *name;

	verdict_init(&v);
	v.subject = xstrdup(ALICE);
	assert_int_not_equal(list_judge_endorser(f->c, sub, &v, &name, &f->err), 0);
	assert_int_equal(f->err.code, CODE_SIGNATURE);
	v.issuer = v.subject;
	v.subject = NULL;
	err_clear(&f->err);
	assert_int_not_equal(list_judge_attester(f->c, &v, &name, &f->err), 0);
	assert_int_equal(f->err.code, CODE_SIGNATURE);
	assert_null(name);
	verdict_release(&v);
}

/*
 * Attestations: an endorser of nothing is nobody; one with --blocks-only signs blocks and no lists.
 */
static void
attesters(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct verdict v;
	char *name;

	assert_int_equal(catalogue_endorser_add(f->c, "bob", BOB, CA, false, false, &f->err), 0);
	assert_int_equal(catalogue_endorser_add_blocks_only(f->c, "site", "/CN=Site", CA, false,
							    false, &f->err), 0);
	verdict_init(&v);
	v.issuer = xstrdup(CA);
	v.subject = xstrdup(BOB);
	assert_int_not_equal(list_judge_attester(f->c, &v, &name, &f->err), 0);
	assert_non_null(strstr(f->err.text, "linked to any list"));
	free(v.subject);
	v.subject = xstrdup(ALICE);
	err_clear(&f->err);
	assert_int_equal(list_judge_attester(f->c, &v, &name, &f->err), 0);
	free(name);
	free(v.subject);
	v.subject = xstrdup("/CN=Site");
	assert_int_equal(list_judge_attester(f->c, &v, &name, &f->err), 0);
	free(name);
	assert_int_not_equal(list_judge_endorser(f->c, sub, &v, &name, &f->err), 0);
	assert_int_equal(f->err.code, CODE_NOT_LINKED);
	/* Nor where being registered is enough: who subscribes cannot make a link of it. */
	err_clear(&f->err);
	assert_int_not_equal(list_judge_endorser(f->c, 0, &v, &name, &f->err), 0);
	assert_int_equal(f->err.code, CODE_NOT_LINKED);
	assert_null(name);
	verdict_release(&v);
}

/* Nobody is believed while it cannot be seen who is registered. */
static void
unreadable_catalogue(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	CLEANUP_FREE char *db = xasprintf("%s/catalogue.db", f->conf.state_dir);
	pid_t child = fork();
	char *name;
	int status;

	if (child == 0) {
		execlp("sqlite3", "sqlite3", db, "PRAGMA legacy_alter_table = ON;"
		       "ALTER TABLE endorser RENAME TO gone", (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		skip();
	assert_int_equal(status, 0);
	assert_int_not_equal(signed_by(f, sub, ALICE, false, false, &name), 0);
	assert_null(name);
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("L12 S35 a list with another identifier is refused", other_identifier),
		T("L14 L30 a list from the future, expired, or ending before it begins is refused",
		  dates),
		T("L15 a lower version and a changed one are refused, a newly dated one is taken",
		  versions),
		T("L17 a fast-forwarded version is undone by --reset-version", fast_forward),
		T("L17 --reset-version counts once", reset_once),
		T("L16 the same bytes are nothing new, unless their images are not live",
		  same_bytes),
		T("names are equal byte for byte; an old '/' counts where it is unambiguous",
		  names),
		T("hv:dn and hv:ca must be the certificate's", list_names),
		T("S36 L31 the signer must be registered and linked, within its switches",
		  endorsers),
		T("L12 the first list of a subscription may have any version", first_list),
		T("L27 a list in the old form, and one of another address, are taken with a"
		  " warning", form),
		T("S07 a credential is a subject and an issuer: from another CA it is another one",
		  issuer_counts),
		T("S05 a message without a signer's subject and issuer has no endorser", no_signer),
		T("block digests are taken from linked endorsers and from --blocks-only ones, lists"
		  " are not", attesters),
		T("I4 while the catalogue cannot be read nobody is an endorser",
		  unreadable_catalogue),
		T("S38 the credentials of two endorsers are not mixed up", credentials_not_mixed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
