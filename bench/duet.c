/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-duet: the slots of a duet that are no arms. A line to and fro, a copy on one core, a block
 * handed to the other core: what this machine can do, in the same half milliseconds as the arms.
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bench/duet_play.h"
#include "vio/cycles.h"
#include "vio/number.h"

static volatile int stop_now; /* set by the signal handler: the one mutable global, as main's */

static void on_signal(int sig)
{
	(void)sig;
	stop_now = 1;
}

static const char usage[] =
	"bench-duet: takes part in a duet with what the machine itself can do\n"
	"  --score FILE          the score (required)\n"
	"  --cores G,S           the guest's and the server's core (required)\n"
	"  --round-trip SLOT     a line from G to S and back\n"
	"  --memcpy SLOT         a copy of a block, on G alone\n"
	"  --handover SLOT       a block copied by S at G's request, and read by G\n"
	"  --size BYTES          of a block (4k)    --depth N   blocks asked for ahead (1)\n"
	"  --span BYTES          the blocks that are copied come from so much memory (2M)\n"
	"  --tick-hz             print the rate of the tick counter, measured over 0.1 s, and end\n"
	"  --help\n"
	"A dance begins when this reads a byte from standard input and all others are ready; it writes an E after it.\n"
	"Exit code: 0 the score was played to its end, 1 failed, 2 wrong use.\n";

enum {
	O_SCORE = 256,
	O_CORES,
	O_ROUND_TRIP,
	O_MEMCPY,
	O_HANDOVER,
	O_SIZE,
	O_DEPTH,
	O_SPAN,
	O_HZ,
	O_HELP
};

static const struct option longs[] = {
	{"score", 1, 0, O_SCORE},
	{"cores", 1, 0, O_CORES},
	{"memcpy", 1, 0, O_MEMCPY},
	{"round-trip", 1, 0, O_ROUND_TRIP},
	{"size", 1, 0, O_SIZE},
	{"depth", 1, 0, O_DEPTH},
	{"handover", 1, 0, O_HANDOVER},
	{"span", 1, 0, O_SPAN},
	{"tick-hz", 0, 0, O_HZ},
	{"help", 0, 0, O_HELP},
	{0, 0, 0, 0},
};

struct opts {
	const char *score;
	unsigned core[2];
	bool cores_given;
	uint64_t slot[BENCH_N_PLAYS]; /* UINT64_MAX: not played */
	struct bench_play_cfg cfg;
};

static int parse_cores(struct opts *o, const char *text, struct vio_err *err)
{
	o->cores_given =
		sscanf(text, "%u,%u", &o->core[0], &o->core[1]) == 2 && o->core[0] != o->core[1];
	return o->cores_given
		       ? 0
		       : vio_err_set(err, -EINVAL, "--cores %s: two processors, such as 0,1", text);
}

static int parse_one(struct opts *o, int c, const char *arg, struct vio_err *err)
{
	const uint64_t most = VIO_DUET_MAX_SLOTS - 1;
	uint64_t v = 0;
	int rc;

	switch (c) {
	case O_SCORE:
		o->score = arg;
		return 0;
	case O_CORES:
		return parse_cores(o, arg, err);
	case O_ROUND_TRIP:
		return vio_option_number("round-trip", arg, 0, most,
					 &o->slot[BENCH_PLAY_ROUND_TRIP], err);
	case O_MEMCPY:
		return vio_option_number("memcpy", arg, 0, most, &o->slot[BENCH_PLAY_MEMCPY], err);
	case O_HANDOVER:
		return vio_option_number("handover", arg, 0, most, &o->slot[BENCH_PLAY_HANDOVER],
					 err);
	case O_SIZE:
		rc = vio_option_number("size", arg, 8, 1u << 20, &v, err);
		o->cfg.size = v;
		return rc || v % 8 == 0
			       ? rc
			       : vio_err_set(err, -EINVAL, "--size %s: a multiple of 8", arg);
	case O_DEPTH:
		rc = vio_option_number("depth", arg, 1, BENCH_PLAY_MAX_DEPTH, &v, err);
		o->cfg.depth = (unsigned)v;
		return rc;
	default: /* O_SPAN */
		return vio_option_number("span", arg, 4096, 1u << 30, &o->cfg.span, err);
	}
}

/* 0; 1: answered; -EINVAL. */
static int parse(struct opts *o, int argc, char **argv, struct vio_err *err)
{
	int c, rc = 0;

	*o = (struct opts){.cfg = {.size = 4096, .depth = 1, .span = 2u << 20}};
	for (unsigned i = 0; i < BENCH_N_PLAYS; i++)
		o->slot[i] = UINT64_MAX;
	opterr = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == O_HELP || c == O_HZ) {
			if (c == O_HELP)
				fputs(usage, stdout);
			else
				printf("%llu\n",
				       (unsigned long long)vio_measure_tick_hz(100000000));
			return 1;
		}
		if (c == '?' || c == ':')
			return vio_err_set(err, -EINVAL, "%s: %s; see bench-duet --help",
					   argv[optind - 1],
					   c == '?' ? "unknown option" : "needs a value");
		rc = parse_one(o, c, optarg, err);
	}
	if (rc == 0 && (optind < argc || !o->score || !o->cores_given))
		rc = vio_err_set(
			err, -EINVAL,
			"--score FILE and --cores G,S, and nothing else; see bench-duet --help");
	if (rc == 0 && o->cfg.span < o->cfg.size)
		rc = vio_err_set(err, -EINVAL, "--span: at least one block (--size)");
	return rc;
}

static int play_all(const struct opts *o, struct vio_err *err)
{
	struct bench_play *p[BENCH_N_PLAYS] = {NULL};
	struct bench_play_cfg cfg = o->cfg;
	int rc = 0;

	cfg.leads = true; /* the first one */

	for (unsigned i = 0; i < BENCH_N_PLAYS && rc == 0; i++) {
		char at[4096];

		if (o->slot[i] == UINT64_MAX)
			continue;
		snprintf(at, sizeof(at), "%s,slot=%u", o->score, (unsigned)o->slot[i]);
		rc = bench_play_start((enum bench_play_kind)i, at, &cfg, o->core, &stop_now, &p[i],
				      err);
		cfg.leads = false;
	}
	if (rc)
		stop_now = 1;
	for (unsigned i = 0; i < BENCH_N_PLAYS; i++) {
		int one = p[i] ? bench_play_end(p[i], rc == 0 ? err : NULL) : 0;

		rc = rc ? rc : one;
	}
	return rc;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct vio_err err = {{0}};
	struct opts o;
	int rc = parse(&o, argc, argv, &err), parsed = rc;

	if (rc > 0)
		return 0;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (rc == 0)
		rc = play_all(&o, &err);
	if (rc)
		fprintf(stderr, "bench-duet: %s\n", err.msg);
	return parsed ? 2 : rc ? 1 : 0;
}
