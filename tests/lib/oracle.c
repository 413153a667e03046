/*
 * oracle.c - reads a file in as many ways as there are, and compares every byte with an original.
 *
 *   oracle [OPTION...] FILE ORIGINAL
 *
 *     --mode LIST       some of MODES, with commas between them; "all" (default) is each in turn:
 *                         pread     one piece after the other
 *                         whole     one read() of everything
 *                         backward  from the last piece to the first
 *                         odd       pieces of odd sizes, in order, beginning in the middle of pages
 *                         random    pieces of random sizes in random order
 *                         mmap      a shared mapping, page by page, in random order
 *                         direct    O_DIRECT, aligned pieces in random order
 *                         spots     --reads pieces of random sizes at random places
 *                         directspots   the same with O_DIRECT, pages
 *     --from N, --length N   only this part of the file
 *     --reads N         of spots in a round (64)
 *     --rounds N        that often (1); --seconds S: until S seconds have passed
 *     --seed N          of what is random; printed with every failure
 *     --errors NAMES    these (ESTALE,EKEYEXPIRED) may end a round, or the read of a spot; bytes
 *                       that did come must be right
 *     --start FILE      make this file when the first read is about to be asked for
 *     --count           print "rounds N reads N bytes N errors N" at the end
 *
 * Each round opens the file anew and asks the kernel to forget its pages, so that what is compared
 * comes from the file system.  The size and the answer at the end of the file are compared, too,
 * unless only a part was asked for.
 *
 * Ends with 0 only if all bytes were equal.  An error of FILE is named on standard error as the
 * last word and is the exit status: EIO gives 5, ETIMEDOUT 110.  Other ends: 200 a byte differs,
 * 201 usage, 202 ORIGINAL cannot be read, 203 SIGBUS in the mapping, 204 the size or the end of the
 * file is wrong.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { END_DIFFERS = 200, END_USAGE, END_ORIGINAL, END_SIGBUS, END_SIZE };
enum { PIECE = 128 << 10, PAGE = 4096, DIRECT_PIECE = 64 << 10, ODD_MAX = 70001 };

struct oracle {
	const char *path, *mode, *start;
	const char *allowed;		/* ",ESTALE,EIO," */
	uint64_t seed, random;
	const unsigned char *original;
	size_t size;
	size_t from, to;		/* the part that is read */
	size_t n_spots;
	int fd;
	unsigned char *buffer;		/* aligned, size + PAGE bytes */
	uint64_t n_rounds, n_reads, n_bytes, n_errors;
};

struct piece {
	size_t at, len;
};

static sigjmp_buf bus;

static void __attribute__((noreturn, format(printf, 3, 4)))
end(const struct oracle *o, int status, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "oracle: '%s' (%s, --seed %" PRIu64 "): ", o->path, o->mode, o->seed);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

/* True: this error may end the round. */
static bool
failed(struct oracle *o, int errnum, const char *what, size_t at)
{
	char name[64];

	snprintf(name, sizeof(name), ",%s,", strerrorname_np(errnum));
	if (strstr(o->allowed, name) != NULL) {
		o->n_errors++;
		return true;
	}
	end(o, errnum, "%s at byte %zu: %s", what, at, strerrorname_np(errnum));
}

/* splitmix64 */
static uint64_t
draw(struct oracle *o)
{
	uint64_t z = (o->random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void
compare(const struct oracle *o, const unsigned char *data, size_t at, size_t len)
{
	if (memcmp(data, o->original + at, len) == 0)
		return;
	for (size_t i = 0; i < len; i++)
		if (data[i] != o->original[at + i])
			end(o, END_DIFFERS, "byte %zu is 0x%02x, not 0x%02x", at + i, data[i],
			    o->original[at + i]);
}

/* ---- pieces ------------------------------------------------------------------------------ */

struct pieces {
	struct piece *list;
	size_t n;
};

static void
pieces_add(struct pieces *p, size_t at, size_t len)
{
	p->list = realloc(p->list, (p->n + 1) * sizeof(*p->list));
	if (p->list == NULL)
		abort();
	p->list[p->n++] = (struct piece){ at, len };
}

/* The part in pieces of len bytes; 0: of random lengths. */
static struct pieces
cut(struct oracle *o, size_t len)
{
	struct pieces p = { NULL, 0 };
	size_t now;

	for (size_t at = o->from; at < o->to; at += now) {
		now = len > 0 ? len : 1 + draw(o) % ODD_MAX;
		if (now > o->to - at)
			now = o->to - at;
		pieces_add(&p, at, now);
	}
	return p;
}

static void
shuffle(struct oracle *o, struct pieces *p)
{
	for (size_t i = p->n; i > 1; i--) {
		size_t j = draw(o) % i;
		struct piece other = p->list[j];

		p->list[j] = p->list[i - 1];
		p->list[i - 1] = other;
	}
}

static void
reverse(struct pieces *p)
{
	for (size_t i = 0, j = p->n; i + 1 < j; i++) {
		struct piece other = p->list[--j];

		p->list[j] = p->list[i];
		p->list[i] = other;
	}
}

/* ---- ways to read ------------------------------------------------------------------------ */

/* Asks for asked bytes, of which len exist.  False: an allowed error ended the round. */
static bool
read_piece(struct oracle *o, size_t at, size_t asked, size_t len)
{
	size_t have = 0;

	memset(o->buffer, 0x5a, len);
	while (have < len) {
		ssize_t n = pread(o->fd, o->buffer + have, asked - have, (off_t)(at + have));

		o->n_reads++;
		if (n < 0)
			return !failed(o, errno, "read", at + have);
		if (n == 0)
			end(o, END_SIZE, "the file ends at byte %zu of %zu", at + have, o->size);
		if ((size_t)n > len - have)
			end(o, END_SIZE, "the file goes on after byte %zu", o->size);
		compare(o, o->buffer + have, at + have, (size_t)n);
		o->n_bytes += (uint64_t)n;
		have += (size_t)n;
	}
	return true;
}

static bool
read_pieces(struct oracle *o, struct pieces *p)
{
	bool good = true;

	for (size_t i = 0; good && i < p->n; i++)
		good = read_piece(o, p->list[i].at, p->list[i].len, p->list[i].len);
	free(p->list);
	return good;
}

static bool
mode_pread(struct oracle *o)
{
	struct pieces p = cut(o, PIECE);

	return read_pieces(o, &p);
}

static bool
mode_whole(struct oracle *o)
{
	size_t more = o->to == o->size ? PAGE : 0;

	return read_piece(o, o->from, o->to - o->from + more, o->to - o->from);
}

static bool
mode_backward(struct oracle *o)
{
	struct pieces p = cut(o, PIECE);

	reverse(&p);
	return read_pieces(o, &p);
}

static bool
mode_odd(struct oracle *o)
{
	struct pieces p = cut(o, 12347);

	return read_pieces(o, &p);
}

static bool
mode_random(struct oracle *o)
{
	struct pieces p = cut(o, 0);

	shuffle(o, &p);
	return read_pieces(o, &p);
}

/* O_DIRECT wants whole pages, also where the file ends within one. */
static bool
read_direct(struct oracle *o, size_t at, size_t len)
{
	if (len > o->size - at)
		len = o->size - at;
	return read_piece(o, at, (len + PAGE - 1) / PAGE * PAGE, len);
}

static bool
mode_direct(struct oracle *o)
{
	struct pieces p = cut(o, DIRECT_PIECE);
	bool good = true;

	shuffle(o, &p);
	for (size_t i = 0; good && i < p.n; i++)
		good = read_direct(o, p.list[i].at, p.list[i].len);
	free(p.list);
	return good;
}

/* An error that is allowed ends one spot only. */
static bool
mode_spots(struct oracle *o)
{
	for (size_t i = 0; i < o->n_spots; i++) {
		size_t at = o->from + draw(o) % (o->to - o->from), len = 1 + draw(o) % ODD_MAX;

		if (len > o->to - at)
			len = o->to - at;
		read_piece(o, at, len, len);
	}
	return true;
}

static bool
mode_directspots(struct oracle *o)
{
	size_t n_pages = (o->to - o->from + PAGE - 1) / PAGE;

	for (size_t i = 0; i < o->n_spots; i++) {
		size_t page = draw(o) % n_pages, n = 1 + draw(o) % (DIRECT_PIECE / PAGE);

		if (n > n_pages - page)
			n = n_pages - page;
		read_direct(o, o->from + page * PAGE, n * PAGE);
	}
	return true;
}

static void
on_bus(int sig)
{
	(void)sig;
	siglongjmp(bus, 1);
}

static bool
mode_mmap(struct oracle *o)
{
	struct pieces p = cut(o, PAGE);
	volatile size_t at = 0;
	volatile bool good = true;
	unsigned char *map = mmap(NULL, o->size, PROT_READ, MAP_SHARED, o->fd, 0);

	if (map == MAP_FAILED)
		return !failed(o, errno, "mmap", 0);
	shuffle(o, &p);
	if (sigsetjmp(bus, 1) == 0) {
		for (size_t i = 0; i < p.n; i++) {
			at = p.list[i].at;
			compare(o, map + at, at, p.list[i].len);
		}
	} else {
		good = false;
		o->n_errors++;
		if (strstr(o->allowed, ",SIGBUS,") == NULL)
			end(o, END_SIGBUS, "mapping at byte %zu: SIGBUS", at);
	}
	munmap(map, o->size);
	free(p.list);
	return good;
}

static const struct mode {
	const char *name;
	bool (*read)(struct oracle *o);
	int flags;
} modes[] = {
	{ "pread", mode_pread, 0 },
	{ "whole", mode_whole, 0 },
	{ "backward", mode_backward, 0 },
	{ "odd", mode_odd, 0 },
	{ "random", mode_random, 0 },
	{ "mmap", mode_mmap, 0 },
	{ "direct", mode_direct, O_DIRECT },
	{ "spots", mode_spots, 0 },
	{ "directspots", mode_directspots, O_DIRECT },
};

enum { N_MODES = sizeof(modes) / sizeof(modes[0]) };

/* ---- rounds ------------------------------------------------------------------------------ */

static void
check_end(const struct oracle *o)
{
	size_t block = (o->size + PAGE - 1) / PAGE * PAGE;
	struct stat st;
	ssize_t n;

	if (o->from > 0 || o->to < o->size)
		return;
	if (fstat(o->fd, &st) != 0 || st.st_size != (off_t)o->size)
		end(o, END_SIZE, "st_size is %lld, not %zu", (long long)st.st_size, o->size);
	n = pread(o->fd, o->buffer, PAGE, (off_t)block);
	if (n != 0)
		end(o, END_SIZE, "read at byte %zu, behind the end, gives %zd, not 0", block, n);
}

static void
tell_start(struct oracle *o)
{
	int fd;

	if (o->start == NULL)
		return;
	fd = open(o->start, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		end(o, END_USAGE, "cannot make '%s'", o->start);
	close(fd);
	o->start = NULL;
}

static void
run_mode(struct oracle *o, const struct mode *m)
{
	o->mode = m->name;
	o->fd = open(o->path, O_RDONLY | O_CLOEXEC | m->flags);
	if (o->fd < 0) {
		failed(o, errno, "open", 0);
		return;
	}
	posix_fadvise(o->fd, 0, 0, POSIX_FADV_DONTNEED);
	tell_start(o);
	o->n_rounds++;
	if (m->read(o))
		check_end(o);
	close(o->fd);
}

static bool
is_listed(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; p != NULL; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, name, len) == 0 && (p[len] == ',' || p[len] == '\0'))
			return true;
	}
	return false;
}

static void
run(struct oracle *o, const char *list, long rounds, long seconds)
{
	time_t until = time(NULL) + seconds;

	for (long round = 0; seconds > 0 ? time(NULL) < until : round < rounds; round++)
		for (size_t i = 0; i < N_MODES; i++)
			if (is_listed(list, "all") || is_listed(list, modes[i].name))
				run_mode(o, &modes[i]);
}

/* O_DIRECT wants it to begin and end with a page. */
static void
set_part(struct oracle *o)
{
	if (o->from >= o->size)
		end(o, END_USAGE, "--from is behind the end");
	o->to = o->to > 0 && o->to < o->size - o->from ? o->from + o->to : o->size;
	o->from -= o->from % PAGE;
	if (o->to % PAGE != 0 && o->size - o->to > PAGE - o->to % PAGE)
		o->to += PAGE - o->to % PAGE;
	else if (o->to % PAGE != 0)
		o->to = o->size;
}

static void
load_original(struct oracle *o, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	o->mode = "original";
	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
		end(o, END_ORIGINAL, "cannot read '%s'", path);
	o->size = (size_t)st.st_size;
	set_part(o);
	o->original = mmap(NULL, o->size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (o->original == MAP_FAILED || posix_memalign((void **)&o->buffer, PAGE,
						       o->size + DIRECT_PIECE) != 0)
		end(o, END_ORIGINAL, "no memory for '%s'", path);
}

static void
check_modes(const char *list)
{
	size_t n = 0, known = 0;

	for (const char *p = list; p != NULL; p = strchr(p + 1, ','))
		n++;
	for (size_t i = 0; i < N_MODES; i++)
		known += is_listed(list, modes[i].name);
	if (known == n || is_listed(list, "all"))
		return;
	fprintf(stderr, "oracle: unknown mode in '%s'\n", list);
	exit(END_USAGE);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "mode", required_argument, NULL, 'm' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'd' },
		{ "errors", required_argument, NULL, 'e' },
		{ "start", required_argument, NULL, 't' },
		{ "from", required_argument, NULL, 'f' },
		{ "length", required_argument, NULL, 'l' },
		{ "reads", required_argument, NULL, 'n' },
		{ "count", no_argument, NULL, 'c' },
		{ NULL, 0, NULL, 0 },
	};
	struct oracle o = { .seed = 1, .allowed = "", .n_spots = 64 };
	const char *list = "all";
	long rounds = 1, seconds = 0;
	char allowed[512];
	bool count = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'm': list = optarg; break;
		case 'r': rounds = strtol(optarg, NULL, 10); break;
		case 's': seconds = strtol(optarg, NULL, 10); break;
		case 'd': o.seed = strtoull(optarg, NULL, 10); break;
		case 't': o.start = optarg; break;
		case 'f': o.from = strtoull(optarg, NULL, 10); break;
		case 'l': o.to = strtoull(optarg, NULL, 10); break;
		case 'n': o.n_spots = strtoull(optarg, NULL, 10); break;
		case 'c': count = true; break;
		case 'e':
			snprintf(allowed, sizeof(allowed), ",%s,", optarg);
			o.allowed = allowed;
			break;
		default: return END_USAGE;
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: oracle [--mode LIST] [--rounds N|--seconds S] [--seed N]"
			" [--errors NAMES] [--start FILE] [--from N] [--length N] [--reads N]"
			" [--count] FILE ORIGINAL\n");
		return END_USAGE;
	}
	check_modes(list);
	o.path = argv[optind];
	o.random = o.seed;
	signal(SIGBUS, on_bus);
	load_original(&o, argv[optind + 1]);
	run(&o, list, rounds, seconds);
	if (count)
		printf("rounds %" PRIu64 " reads %" PRIu64
		       " bytes %" PRIu64 " errors %" PRIu64 "\n", o.n_rounds, o.n_reads,
		       o.n_bytes, o.n_errors);
	free(o.buffer);
	return 0;
}
