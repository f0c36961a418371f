/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-tail: the latency of nothing. An open loop as vio-blk's, whose request is a line that goes to the other core and
 * comes back: what remains of a tail is the machine's own. Pair H, as bench-limits.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/limits/limits_measure.h"
#include "bench/limits/options.h"
#include "guest/prog/hist.h"
#include "guest/prog/measure.h"
#include "vio/atomics.h"
#include "vio/cycles.h"
#include "vio/gaps.h"

#define GAP_NS 10000u /* as VIO_WL_GAP_NS */
#define STOP   UINT64_MAX

struct lines {
	_Alignas(BENCH_BLOCK) uint64_t ping; /* guest */
	_Alignas(BENCH_BLOCK) uint64_t pong; /* server */
};

struct tail {
	struct lines line;
	struct bench_core_option cores;
	uint64_t rate, tick_hz, elapsed_ns;
	double seconds;
	const char *json;
	uint64_t in_gap;
	struct vio_gaps gaps;
	struct vio_hist latency;
};

static const struct vio_option rows[] = {
	{"cores", "G,S", "who asks, who answers", VIO_CALL(struct tail, cores, bench_set_cores),
	 .required = true},
	{"rate", "N", "round trips a second", VIO_NUMBER(struct tail, rate, 1, 100000000),
	 .required = true},
	{"seconds", "S", "so long", VIO_REAL(struct tail, seconds, 0.001, 3600), .def = "1"},
	VIO_ROW_JSON(struct tail, json, "-"),
	{0},
};

static const struct vio_program program = {
	.name = "bench-tail",
	.about =
		"bench-tail: latency from the intended start of a line's round trip between two cores, nothing else\n",
	.tail = "Exit code: 0, 1 failed, 2 wrong use.\n",
	.rows = rows,
};

/* 0; 1: --help; -EINVAL. */
static int tail_parse(struct tail *t, int argc, char **argv, struct vio_err *err)
{
	int rc = vio_options_parse(&program, t, argc, argv, err);

	if (rc == 0 && t->cores.guest == t->cores.server)
		return vio_err_set(err, -EINVAL,
				   "--cores %u,%u: two different CPUs, as in --cores 0,1",
				   t->cores.guest, t->cores.server);
	return rc;
}

static void tail_server(void *ctx)
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
static void tail_guest(void *ctx)
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

static int tail_report(const struct tail *t, struct vio_err *err)
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
		parsed = tail_parse(t, argc, argv, &err);
	}
	if (parsed > 0) {
		free(t);
		return 0;
	}
	rc = parsed;
	if (rc == 0) {
		t->tick_hz = vio_measure_tick_hz(100000000);
		rc = bench_pin(t->cores.guest, &err);
	}
	if (rc == 0)
		rc = bench_pair_run(t->cores.server, tail_guest, tail_server, t, &err);
	if (rc == 0)
		rc = tail_report(t, &err);
	if (rc)
		fprintf(stderr, "bench-tail: %s\n", err.msg);
	free(t);
	return parsed ? 2 : rc ? 1 : 0;
}
