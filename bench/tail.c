/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-tail: the latency of nothing. An open loop as vio-blk's, whose request is a line that goes to the other core and
 * comes back: what remains of a tail is the machine's own. Pair H, as bench-limits.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "bench/limits_measure.h"
#include "guest/prog/hist.h"
#include "guest/prog/measure.h"
#include "vio/atomics.h"
#include "vio/cycles.h"
#include "vio/gaps.h"
#include "vio/number.h"

#define GAP_NS 10000u /* as VIO_WL_GAP_NS */
#define STOP   UINT64_MAX

static const char usage[] =
	"bench-tail: latency from the intended start of a line's round trip between two cores, nothing else\n"
	"  --cores G,S     who asks, who answers (required)\n"
	"  --rate N        round trips a second (required)     --seconds S   (1)\n"
	"  --json FILE     - is standard output (-)\n"
	"  --help\n"
	"Exit code: 0, 1 failed, 2 wrong use.\n";

enum { O_CORES = 256, O_RATE, O_SECONDS, O_JSON, O_HELP };

static const struct option longs[] = {
	{"cores", 1, 0, O_CORES}, {"rate", 1, 0, O_RATE}, {"seconds", 1, 0, O_SECONDS},
	{"json", 1, 0, O_JSON},   {"help", 0, 0, O_HELP}, {0, 0, 0, 0},
};

struct lines {
	_Alignas(BENCH_BLOCK) uint64_t ping; /* guest */
	_Alignas(BENCH_BLOCK) uint64_t pong; /* server */
};

struct tail {
	struct lines line;
	unsigned core[2];
	uint64_t rate, tick_hz, elapsed_ns;
	double seconds;
	const char *json;
	uint64_t in_gap;
	struct vio_gaps gaps;
	struct vio_hist latency;
};

static int parse_one(struct tail *t, int c, const char *arg, struct vio_err *err)
{
	char *end;

	switch (c) {
	case O_CORES:
		if (sscanf(arg, "%u,%u", &t->core[0], &t->core[1]) != 2 || t->core[0] == t->core[1])
			return vio_err_set(err, -EINVAL, "--cores %s: two processors, such as 0,1",
					   arg);
		return 0;
	case O_RATE:
		return vio_option_number("rate", arg, 1, 100000000, &t->rate, err);
	case O_SECONDS:
		t->seconds = strtod(arg, &end);
		return end != arg && !*end && t->seconds > 0 && t->seconds <= 3600
			       ? 0
			       : vio_err_set(err, -EINVAL, "--seconds %s: above 0, at most 3600",
					     arg);
	default:
		t->json = arg;
		return 0;
	}
}

/* 0; 1: --help; -EINVAL. */
static int parse(struct tail *t, int argc, char **argv, struct vio_err *err)
{
	int c, rc = 0;

	t->json = "-";
	t->seconds = 1;
	opterr = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == O_HELP) {
			fputs(usage, stdout);
			return 1;
		}
		if (c == '?' || c == ':')
			return vio_err_set(err, -EINVAL, "%s: %s; see bench-tail --help",
					   argv[optind - 1],
					   c == '?' ? "unknown option" : "needs a value");
		rc = parse_one(t, c, optarg, err);
	}
	if (rc == 0 && (optind < argc || !t->rate || t->core[0] == t->core[1]))
		rc = vio_err_set(
			err, -EINVAL,
			"--cores G,S and --rate N, and nothing else; see bench-tail --help");
	return rc;
}

static void server(void *ctx)
{
	struct tail *t = ctx;
	uint64_t v, last = 0;

	do {
		while ((v = vio_load_acquire(&t->line.ping)) == last) /* pair H */
			;
		last = v;
		vio_store_release(&t->line.pong, v); /* pair H */
	} while (v != STOP);
}

/* Whatever should have started by now has its round trip, one after the other; none is left out. */
static void guest(void *ctx)
{
	struct tail *t = ctx;
	const uint64_t begin = vio_ticks(), t0 = vio_now_ns();
	const double period = (double)t->tick_hz / (double)t->rate;
	const uint64_t n = (uint64_t)(t->seconds * (double)t->rate);
	uint64_t gap_end = 0, now = begin;

	vio_gaps_begin(&t->gaps, begin, vio_muldiv(GAP_NS, t->tick_hz, 1000000000ull));
	for (uint64_t i = 0; i < n; i++) {
		const uint64_t due = begin + (uint64_t)((double)i * period);
		bool sent = false;

		for (;;) {
			const uint64_t gaps = t->gaps.gaps;

			now = vio_ticks();
			vio_gaps_look(&t->gaps, now);
			gap_end = t->gaps.gaps != gaps ? now : gap_end;
			if (sent && vio_load_acquire(&t->line.pong) == i + 1) /* pair H */
				break;
			if (sent || now < due)
				continue;
			vio_store_release(&t->line.ping, i + 1); /* pair H */
			sent = true;
		}
		vio_hist_add(&t->latency, now - due);
		t->in_gap += due < gap_end;
	}
	t->elapsed_ns = vio_now_ns() - t0;
	vio_store_release(&t->line.ping, STOP);
}

static int report(const struct tail *t, struct vio_err *err)
{
	json_t *root = json_pack("{s:s, s:I, s:f, s:I, s:{s:I, s:f, s:I, s:I}, s:o}", "schema",
				 "bench-tail/1", "requests", (json_int_t)t->latency.count, "rate",
				 (double)t->rate, "elapsed_ns", (json_int_t)t->elapsed_ns, "gaps",
				 "count", (json_int_t)t->gaps.gaps, "longest_ns",
				 vio_ticks_to_ns(t->gaps.longest, t->tick_hz), "requests",
				 (json_int_t)t->in_gap, "threshold_ns", (json_int_t)GAP_NS,
				 "latency_ns", vio_latency_json(&t->latency, t->tick_hz));
	int rc = root ? vio_json_write(root, t->json, err)
		      : vio_err_set(err, -ENOMEM, "no memory for the result");

	json_decref(root);
	return rc;
}

int main(int argc, char **argv)
{
	struct tail *t = aligned_alloc(BENCH_BLOCK, VIO_ALIGN_UP(sizeof(*t), (size_t)BENCH_BLOCK));
	struct vio_err err = {{0}};
	int parsed = -ENOMEM, rc;

	if (t) {
		memset(t, 0, sizeof(*t));
		parsed = parse(t, argc, argv, &err);
	}
	if (parsed > 0) {
		free(t);
		return 0;
	}
	rc = parsed;
	if (rc == 0) {
		t->tick_hz = vio_measure_tick_hz(100000000);
		rc = bench_pin(t->core[0], &err);
	}
	if (rc == 0)
		rc = bench_pair_run(t->core[1], guest, server, t, &err);
	if (rc == 0)
		rc = report(t, &err);
	if (rc)
		fprintf(stderr, "bench-tail: %s\n", err.msg);
	free(t);
	return parsed ? 2 : rc ? 1 : 0;
}
