# olddb.sh - databases as vmcatcher 0.6 leaves them.
#
# A bash library: source it after tap.sh.  The tables are those of the database in tests/data/vmcatcher-0.6,
# which vmcatcher wrote.
#
#   olddb_new FILE                        makes an empty one and makes it the current one, $OLDDB
#   olddb_endorser NAME DN CA [DN CA...]  an endorser with its credentials
#   olddb_list ID URL [FILE [KEY=VALUE...]]   a subscription; FILE: its latest list, as signed ("": none).
#                                         KEYs: userName password trustAnchor updateMode authorised
#   olddb_link NAME ID                    the endorser may sign the list
#   olddb_image LIST ID SELECTED          an image that is known; SELECTED 1 or 0
#   olddb_sql TEXT                        anything else
#   olddb_dump FILE...                    what must not change of files: sums, modes, times

olddb_data=$tests_dir/data/vmcatcher-0.6

olddb_sql() {
	printf '%s\n' "$1" | sqlite3 -bail "$OLDDB"
}

olddb_new() {
	OLDDB=$1
	sqlite3 "$olddb_data/vmcatcher.db" .schema | sqlite3 -bail "$OLDDB" || bail "no database '$OLDDB'"
}

# 'text' as SQL writes it.
olddb_text() {
	printf "'%s'" "${1//\'/\'\'}"
}

olddb_endorser() {
	local name

	name=$(olddb_text "$1")
	olddb_sql "INSERT INTO endorser (identifier) VALUES ($name)"
	shift
	while [ $# -ge 2 ]; do
		olddb_sql "INSERT INTO endorserPrincible (hv_dn, hv_ca, endorser) SELECT $(olddb_text "$1"),
		    $(olddb_text "$2"), id FROM endorser WHERE identifier = $name"
		shift 2
	done
}

# Dates of the rows themselves nobody reads: the signed list has them.
olddb_list() {
	local id url file=${3:-} word

	id=$(olddb_text "$1") url=$(olddb_text "$2")
	shift $(($# < 3 ? $# : 3))
	olddb_sql "INSERT INTO subscription (identifier, uri, authorised, trustAnchor, updateMode)
	    VALUES ($id, $url, 1, 0, 0)"
	if [ -n "$file" ]; then
		olddb_sql "INSERT INTO imageListInstance (data, data_hash, imported, created, expires, version)
		    VALUES (readfile($(olddb_text "$file")), '$(sha512sum <"$file" | cut -d' ' -f1)',
		    '2026-01-01', '2026-01-01', '2030-01-01', '1');
		    UPDATE subscription SET imagelist_latest = last_insert_rowid() WHERE identifier = $id"
	fi
	for word in "$@"; do
		olddb_sql "UPDATE subscription SET ${word%%=*} = $(olddb_text "${word#*=}") WHERE identifier = $id"
	done
}

olddb_link() {
	olddb_sql "INSERT INTO subscriptionAuth (subscription, endorser, authorised) SELECT s.id, e.id, 1
	    FROM subscription s, endorser e WHERE s.identifier = $(olddb_text "$2")
	    AND e.identifier = $(olddb_text "$1")"
}

olddb_image() {
	olddb_sql "INSERT INTO ImageDefinition (identifier, cache, subscription) SELECT $(olddb_text "$2"), $3, id
	    FROM subscription WHERE identifier = $(olddb_text "$1")"
}

# Reading marks files and directories only once after a change: before the times are taken.
olddb_dump() {
	find "$@" -type f -print0 | sort -z | xargs -0r sha512sum
	find "$@" -printf '%p %y %m %U %s %T@ %A@ %n %i\n' | sort
}
