/*
 * sweep.h - the site that a sweep works on: put away, put back, and looked at.
 *
 * A site is a directory with state, cache and run in it.
 */
#ifndef VMI_TESTS_SWEEP_H
#define VMI_TESTS_SWEEP_H

#include <stdbool.h>
#include "core/buf.h"

/*
 * Copies state, cache and run of the site to NAME.<suffix>, or back from there.  Dies on failure.
 */
void site_save(const char *site, const char *suffix);
void site_load(const char *site, const char *suffix);

/*
 * All rows of the catalogue as text, less moments, random numbers and what a failed try leaves
 * (its error and how often): equal texts, equal sites.  "" without a catalogue.  What is wrong with
 * the database begins with '!'.
 */
void site_rows(const char *site, struct buf *out);

/* The files of state and cache, one a line, less what SQLite makes and removes as it likes. */
void site_files(const char *site, struct buf *out);

/* Leaves out the lines of events. */
void site_drop_events(struct buf *rows);

/* Prints the first line in which two texts differ, of both. */
void site_show_difference(const char *what, const struct buf *wanted, const struct buf *found);

#endif
