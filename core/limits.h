/*
 * limits.h - every bound on foreign data and on waiting, each with its reason.
 *
 * Configuration may lower them, never raise them.
 */
#ifndef VMI_LIMITS_H
#define VMI_LIMITS_H

#include <sys/types.h>
#include <time.h>

/* On every machine: images are larger than 2 GiB, and lists expire after 2038. */
_Static_assert(sizeof(off_t) == 8 && sizeof(time_t) == 8, "files and dates need 64 bits");

#define LIMIT_MESSAGE_BYTES (16 << 20)	/* a 60 MiB message costs CMS 4.4 s and 329 MB */
#define LIMIT_SITE_BYTES (128 << 20)	/* site.json: the names of all images several times */
#define LIMIT_IMAGES_PER_LIST 20000
#define LIMIT_IMAGES_ALL 100000		/* as rpki-client's manifest entries */
#define LIMIT_DEPARTED_KEPT 1000	/* of one list: images that left it and nobody decided on */
#define LIMIT_INODES_UNUSED 1000	/* numbers beyond twice those in use */
#define LIMIT_JSON_DEPTH 32
#define LIMIT_JSON_STRING (64 << 10)
#define LIMIT_JSON_KEYS 256
#define LIMIT_URI_BYTES 2048		/* as rpki-client's MAX_URI_LENGTH */
#define LIMIT_IDENTIFIER_BYTES 128
#define LIMIT_TITLE_BYTES 255
#define LIMIT_NAME_BYTES 100		/* of a safe name made of a title */
#define LIMIT_CERTS_IN_MESSAGE 16
#define LIMIT_CHAIN_DEPTH 12
#define LIMIT_RSA_BITS 8192		/* RSA-16384 costs a second a signature */
#define LIMIT_CRL_BYTES (64 << 20)
#define LIMIT_SIGNING_POLICY_BYTES (64 << 10)
#define LIMIT_NAMESPACES_BYTES (256 << 10)
#define LIMIT_TRUST_FILES 20000		/* 5,000 CAs with four files each */
#define LIMIT_IMAGE_BYTES (16LL << 40)
#define LIMIT_HEADER_BYTES (64 << 10)	/* all response header lines together */
#define LIMIT_REDIRECTS 4
#define LIMIT_TRIES 5			/* of one image, a list version; vmcatcher's number */
#define LIMIT_BACKOFF_MIN_MS 2000
#define LIMIT_BACKOFF_MAX_MS 300000
#define LIMIT_ROOM_LOOK_MS 1000	/* between two looks for room of one that found none */
#define LIMIT_LOW_SPEED 1024		/* bytes a second, over stall_timeout */
#define LIMIT_LIST_SECONDS 120		/* one list, first byte to last */
#define LIMIT_REFRESH_SECONDS 3600	/* all subscriptions together */
#define LIMIT_UPDATER_SECONDS 4200	/* until one that does not end is killed */
#define LIMIT_VERIFIER_MEMORY (512LL << 20)
#define LIMIT_VERIFIER_CPU_SECONDS 20
#define LIMIT_VERIFIER_SECONDS 60	/* wall clock until it is killed */
#define LIMIT_CONFIG_BYTES (1 << 20)
#define LIMIT_CONTROL_LINE 4096
#define LIMIT_CONTROL_CLIENTS 64
#define LIMIT_EVENTS_SHOWN 1000
#define LIMIT_EVENTS_KEPT 2000		/* in the outbox, of those that are over */
#define LIMIT_PURGED_KEPT 1000		/* in expired/, of versions without bytes: what they were */
#define LIMIT_EVENT_TRIES 24		/* of one event and handler: eight hours, a night */
#define LIMIT_EVENT_BACKOFF_MIN 10	/* seconds */
#define LIMIT_EVENT_BACKOFF_MAX 1800
#define LIMIT_EVENT_OUTPUT (64 << 10)	/* of a handler, kept; the rest is read and dropped */
#define LIMIT_EVENT_KILL_SECONDS 5	/* from TERM to KILL */
#define LIMIT_HANDLERS 32
#define LIMIT_HANDLER_IDLE_DAYS 30	/* then a handler, and what waits for it, is forgotten */
#define LIMIT_HANDLER_GAP_DAYS 7	/* of idle time, for a longer one in which nobody looked */
#define LIMIT_TAR_MEMBERS 100		/* of an OVA: one descriptor, a manifest, some disks */
#define LIMIT_TAR_BLOCKS 1000		/* of headers and pax headers: each may cost a fetch */
#define LIMIT_OVA_INDEXES 1024		/* kept in memory: at most 13 KiB each */
#define LIMIT_QUARANTINE_FILES 16	/* bad bytes are kept for inspection, bounded */
#define LIMIT_VMCATCHER_DB_BYTES (2LL << 30)	/* in memory, with every version of every list */
#define LIMIT_DN_BYTES 2048		/* of a registered name: no certificate's is longer */
#define LIMIT_SECRET_BYTES 1023		/* a user name or a password: what the fetcher takes */
#define LIMIT_LOG_LINE 1024

#endif
