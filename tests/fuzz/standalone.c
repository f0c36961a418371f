/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main() for a fuzzer without libFuzzer: runs the files that are named (of a folder all), else N inputs made from a
 * seed, the same on every machine: random ones, and mutations of the fuzzer's own seeds and of
 * earlier inputs. A crash prints the input, so that it can be run again as a file.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define MAX_BYTES 4096u
#define KEPT      64u

struct input {
	size_t size;
	uint8_t bytes[MAX_BYTES];
};

struct gen {
	uint64_t state;
	unsigned n_seeds, n_kept; /* kept[0..n_seeds) are the fuzzer's own and stay */
	struct input kept[KEPT];
};

/* The input under test, for the report of a crash: a signal handler has no other way to it. */
static struct {
	const uint8_t *bytes;
	size_t size;
	unsigned long run;
} now;

/* splitmix64 (public domain, S. Vigna). */
static uint64_t next(struct gen *g)
{
	uint64_t z = g->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* [0, n), n > 0 */
static size_t below(struct gen *g, size_t n)
{
	return next(g) % n;
}

static void say(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, text, len);

		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

/* Async-signal-safe. */
static void report(void)
{
	static const char hex[] = "0123456789abcdef";
	char digits[24];
	size_t i = sizeof(digits);
	unsigned long n = now.run;

	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	say("\ncrash in run ", 14);
	say(digits + i, sizeof(digits) - i);
	say(", input (xxd -r -p makes the file):\n", 36);
	for (i = 0; i < now.size; i++) {
		const char pair[2] = {hex[now.bytes[i] >> 4], hex[now.bytes[i] & 15]};

		say(pair, 2);
	}
	say("\n", 1);
}

static void on_signal(int sig)
{
	report();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* A sanitizer ends the process itself; it offers this in place of a signal. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static void catch_crashes(void)
{
	const int sigs[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM};

	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(report);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		signal(sigs[i], on_signal);
}

static void run(const uint8_t *bytes, size_t size, unsigned long n)
{
	/* An exact copy: one byte past the end is then outside an allocation, where a sanitizer sees it. */
	uint8_t *copy = malloc(size > 0 ? size : 1);

	if (!copy) {
		fputs("out of memory\n", stderr);
		exit(2);
	}
	if (size > 0)
		memcpy(copy, bytes, size);
	now.bytes = copy;
	now.size = size;
	now.run = n;
	alarm(20); /* an input that hangs is a crash */
	LLVMFuzzerTestOneInput(copy, size);
	alarm(0);
	free(copy);
}

static void mutate_once(struct gen *g, struct input *in)
{
	size_t at, len;

	if (in->size == 0)
		in->bytes[in->size++] = (uint8_t)next(g);
	at = below(g, in->size);
	len = 1 + below(g, in->size - at < 32 ? in->size - at : 32);
	switch (below(g, 7)) {
	case 0:
		in->bytes[at] = (uint8_t)(in->bytes[at] ^ 1u << below(g, 8));
		break;
	case 1:
		in->bytes[at] = (uint8_t)next(g);
		break;
	case 2: /* values at which arithmetic turns over */
		memset(in->bytes + at, next(g) & 1 ? 0xff : 0, len);
		break;
	case 3: /* small steps in a number */
		in->bytes[at] = (uint8_t)(in->bytes[at] + below(g, 5) - 2);
		break;
	case 4: /* cut out */
		memmove(in->bytes + at, in->bytes + at + len, in->size - at - len);
		in->size -= len;
		break;
	case 5: /* double */
		if (in->size + len <= MAX_BYTES) {
			memmove(in->bytes + at + len, in->bytes + at, in->size - at);
			in->size += len;
		}
		break;
	default: { /* splice in a piece of another one */
		const struct input *other = &g->kept[below(g, g->n_kept)];

		if (other->size > 0) {
			size_t from = below(g, other->size), n = 1 + below(g, other->size - from);

			n = n < MAX_BYTES - at ? n : MAX_BYTES - at;
			memcpy(in->bytes + at, other->bytes + from, n);
			in->size = in->size > at + n ? in->size : at + n;
		}
		break;
	}
	}
}

static void make(struct gen *g, struct input *in, size_t max)
{
	if (g->n_kept == 0 || below(g, 4) == 0) {
		in->size = below(g, (below(g, 8) == 0 ? max : max / 8 + 1) + 1);
		for (size_t i = 0; i < in->size; i++)
			in->bytes[i] = (uint8_t)next(g);
	} else {
		const struct input *base = &g->kept[below(g, g->n_kept)];

		in->size = base->size;
		memcpy(in->bytes, base->bytes, base->size);
		for (size_t i = 1 + below(g, 8); i > 0; i--)
			mutate_once(g, in);
	}
	if (in->size > max)
		in->size = max;
	if (g->n_kept < KEPT)
		g->kept[g->n_kept++] = *in;
	else if (g->n_seeds < KEPT && below(g, 16) == 0)
		g->kept[g->n_seeds + below(g, KEPT - g->n_seeds)] = *in;
}

static void load_seeds(struct gen *g)
{
	if (!vio_fuzz_seed)
		return;
	while (g->n_seeds < KEPT / 2) {
		struct input *in = &g->kept[g->n_seeds];

		in->size = vio_fuzz_seed(g->n_seeds, in->bytes, MAX_BYTES);
		if (in->size == 0)
			break;
		g->n_seeds++;
	}
	g->n_kept = g->n_seeds;
}

static int run_file(const char *path, unsigned long n)
{
	FILE *f = fopen(path, "rb");
	uint8_t *bytes = NULL;
	size_t size = 0, room = 0;

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	for (;;) {
		size_t got;

		if (size == room) {
			uint8_t *more = realloc(bytes, room = room > 0 ? room * 2 : MAX_BYTES);

			if (!more) {
				fputs("out of memory\n", stderr);
				exit(2);
			}
			bytes = more;
		}
		got = fread(bytes + size, 1, room - size, f);
		if (got == 0)
			break;
		size += got;
	}
	fclose(f);
	run(bytes, size, n);
	free(bytes);
	return 0;
}

/* All files of a folder, in the order of their names; or the file. Runs so far are in *n. */
static int run_path(const char *path, unsigned long *n)
{
	struct dirent **e;
	int count = scandir(path, &e, NULL, alphasort), rc = 0;

	if (count < 0)
		return run_file(path, (*n)++);
	for (int i = 0; i < count; i++) {
		char file[PATH_MAX];

		snprintf(file, sizeof(file), "%s/%s", path, e[i]->d_name);
		if (e[i]->d_name[0] != '.' && rc == 0)
			rc = run_file(file, (*n)++);
		free(e[i]);
	}
	free(e);
	return rc;
}

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	return text[0] != '-' && end != text && *end == '\0' && errno == 0 && *out >= min &&
	       *out <= max;
}

int main(int argc, char **argv)
{
	uint64_t runs = 200000, seed = 1, max = MAX_BYTES;
	struct input in;
	struct gen *g;
	int opt;

	while ((opt = getopt(argc, argv, "n:s:m:")) != -1) {
		if ((opt == 'n' && number(optarg, 0, ULONG_MAX, &runs)) ||
		    (opt == 's' && number(optarg, 0, UINT64_MAX, &seed)) ||
		    (opt == 'm' && number(optarg, 1, MAX_BYTES, &max)))
			continue;
		fprintf(stderr,
			"usage: %s [-n RUNS] [-s SEED] [-m MAX_BYTES (1 to %u)] [FILE or FOLDER...]\n",
			argv[0], MAX_BYTES);
		return 2;
	}
	catch_crashes();
	if (optind < argc) {
		unsigned long n = 0;

		for (int i = optind; i < argc; i++)
			if (run_path(argv[i], &n) < 0)
				return 2;
		printf("%lu runs, 0 crashes\n", n);
		return n > 0 ? 0 : 1;
	}
	g = calloc(1, sizeof(*g));
	if (!g) {
		fputs("out of memory\n", stderr);
		return 2;
	}
	g->state = seed;
	load_seeds(g);
	for (unsigned i = 0; i < g->n_seeds; i++)
		run(g->kept[i].bytes, g->kept[i].size, i);
	for (uint64_t i = 0; i < runs; i++) {
		make(g, &in, max);
		run(in.bytes, in.size, (unsigned long)i);
	}
	free(g);
	printf("%llu runs, 0 crashes\n", (unsigned long long)runs);
	return 0;
}
