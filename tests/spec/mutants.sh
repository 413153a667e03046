#!/bin/bash
# The list of mutants still fits the program.  That the tests catch them, tests/mutate sees at night.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"

check 'there is a mutant for each refusal code and each invariant, and each fits its file and its tests' \
    "$here/../mutate" --check
plan_done
