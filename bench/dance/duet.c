/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-duet: the slots of a duet that are no arms. A line to and fro, a copy on one core, a block
 * handed to the other core: what this machine can do, in the same half milliseconds as the arms.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bench/dance/duet_play.h"
#include "bench/limits/options.h"
#include "vio/cycles.h"

static volatile int stop_now; /* set by the signal handler: the one mutable global, as main's */

static void duet_on_signal(int sig)
{
	(void)sig;
	stop_now = 1;
}

struct opts {
	const char *score;
	struct bench_core_option cores;
	bool tick_hz;
	uint64_t slot[BENCH_N_PLAYS]; /* UINT64_MAX: not played */
	struct bench_play_cfg cfg;
};

#define O    struct opts
#define MOST (VIO_DUET_MAX_SLOTS - 1)
static const struct vio_option rows[] = {
	{"tick-hz", NULL, "print the rate of the tick counter, measured over 0.1 s, and end",
	 VIO_FLAG(O, tick_hz)},
	{"score", "FILE", "the score (needed)", VIO_TEXT(O, score)},
	{"cores", "G,S", "the guest's and the server's core (needed)",
	 VIO_CALL(O, cores, bench_set_cores)},
	{"round-trip", "SLOT", "a line from G to S and back",
	 VIO_NUMBER(O, slot[BENCH_PLAY_ROUND_TRIP], 0, MOST)},
	{"memcpy", "SLOT", "a copy of a block, on G alone",
	 VIO_NUMBER(O, slot[BENCH_PLAY_MEMCPY], 0, MOST)},
	{"handover", "SLOT", "a block copied by S at G's request, and read by G",
	 VIO_NUMBER(O, slot[BENCH_PLAY_HANDOVER], 0, MOST)},
	{"size", "BYTES", "of a block", VIO_NUMBER(O, cfg.size, 8, 1u << 20), .multiple = 8,
	 .def = "4k"},
	{"depth", "N", "blocks asked for ahead", VIO_NUMBER(O, cfg.depth, 1, BENCH_PLAY_MAX_DEPTH),
	 .def = "1"},
	{"span", "BYTES", "the blocks that are copied come from so much memory",
	 VIO_NUMBER(O, cfg.span, 4096, 1u << 30), .def = "2M"},
	{0},
};
#undef MOST
#undef O

static const struct vio_program program = {
	.name = "bench-duet",
	.about = "bench-duet: takes part in a duet with what the machine itself can do\n",
	.tail = "A dance begins when this reads a byte from standard input and all others are ready; it writes an E after it.\n"
		"Exit code: 0 the score was played to its end, 1 failed, 2 wrong use.\n",
	.rows = rows,
};

/* 0; 1: answered; -EINVAL. */
static int duet_parse(struct opts *o, int argc, char **argv, struct vio_err *err)
{
	int rc;

	*o = (struct opts){.score = NULL};
	for (unsigned i = 0; i < BENCH_N_PLAYS; i++)
		o->slot[i] = UINT64_MAX;
	rc = vio_options_parse(&program, o, argc, argv, err);
	if (rc == 0 && o->tick_hz) {
		printf("%llu\n", (unsigned long long)vio_measure_tick_hz(100000000));
		return 1;
	}
	if (rc == 0 && (!o->score || !o->cores.given || o->cores.guest == o->cores.server))
		rc = vio_err_set(
			err, -EINVAL,
			"--score FILE and --cores G,S, two different CPUs, are needed; see bench-duet --help");
	if (rc == 0 && o->cfg.span < o->cfg.size)
		rc = vio_err_set(err, -EINVAL, "--span: at least one block (--size)");
	return rc;
}

static int play_all(const struct opts *o, struct vio_err *err)
{
	struct bench_play *p[BENCH_N_PLAYS] = {NULL};
	struct bench_play_cfg cfg = o->cfg;
	const unsigned core[] = {o->cores.guest, o->cores.server};
	int rc = 0;

	cfg.leads = true; /* the first one */

	for (unsigned i = 0; i < BENCH_N_PLAYS && rc == 0; i++) {
		char at[4096];

		if (o->slot[i] == UINT64_MAX)
			continue;
		snprintf(at, sizeof(at), "%s,slot=%u", o->score, (unsigned)o->slot[i]);
		rc = bench_play_start((enum bench_play_kind)i, at, &cfg, core, &stop_now, &p[i],
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
	struct sigaction sa = {.sa_handler = duet_on_signal};
	struct vio_err err = {{0}};
	struct opts o;
	int rc = duet_parse(&o, argc, argv, &err), parsed = rc;

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
