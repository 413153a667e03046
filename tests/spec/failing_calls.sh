#!/bin/bash
# time limit: 120 s
#
# Every command, with each of its system calls failing: memory that is not there, files that cannot be
# opened, read, written, synced or renamed, processes and threads that cannot be had, calls that are
# interrupted or do half of what they were asked for.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root openssl jq setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/sweep.sh"

tiny_up
sweep_up
sweep_faults=("${sweep_files[@]}" "${sweep_quiet[@]}" "${sweep_host[@]}")

# swept_ctl NAME TITLE ARG...: only those that VMI_SWEEP_ONLY names, if it is set.
swept_ctl() {
	local name=$1 title=$2

	shift 2
	[[ -z ${VMI_SWEEP_ONLY:-} || " $VMI_SWEEP_ONLY " == *" $name "* ]] || return 0
	swept "P13 B08 $title" vmimagectl -c "$CONF" -q "$@"
}

swept_ctl begin 'a new site is begun or not, whatever fails' endorser add alice --from-cert "$PKI/alice.pem"
ctl -q endorser add alice --from-cert "$PKI/alice.pem"
swept_ctl subscribe 'a list is subscribed or not' subscribe "file://$WWW/list" --endorser alice
ctl -q subscribe "file://$WWW/list" --endorser alice
swept_ctl select 'images are selected or not' select one two
ctl -q select one two
swept_ctl fetch 'an image is fetched or not' fetch one
ctl -q fetch one
tiny_file one-2
tiny_file four 5000
tiny_list 2 one:2:one-2 four
swept_ctl update 'a new version of a list is taken whole or not at all' update
ctl -q update
swept_ctl replace 'a new version of an image replaces the old one or does not' fetch one
ctl -q fetch one
swept_ctl deselect 'an image is deselected or not' deselect one
swept_ctl evict 'an image is evicted or not' evict one
swept_ctl get 'an image is copied out or not' get one "$SITE/copy"
# First the rows, then the files: one that cannot be removed is left to the next start.
sweep_options=(-x)
swept_ctl purge 'files of expired images are removed or not' expired --purge 0
sweep_options=()
ctl -q expired --purge 0
swept_ctl unlink 'a link to a list is taken away or not' endorser unlink alice tiny
swept_ctl remove 'an endorser is removed or not' endorser remove alice
swept_ctl unsubscribe 'a list is unsubscribed or not' unsubscribe tiny
swept_ctl verify 'what is stored is good, whatever fails while it is looked at' verify --deep

plan_done
