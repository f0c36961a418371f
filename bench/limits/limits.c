/* SPDX-License-Identifier: BSD-3-Clause */
/* bench-limits: what this machine can do at best, in one run, on the two cores that an experiment uses. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/limits/limits_measure.h"
#include "bench/limits/options.h"
#include "vio/cycles.h"

struct options {
	struct bench_common c;
	bool table, quick;
};

static const struct vio_option rows[] = {
	VIO_ROWS(struct options, c, bench_rows),
	{"quick", NULL, "the same as --seconds 1", VIO_FLAG(struct options, quick)},
	{"table", NULL,
	 "print a readable table too: on standard output when the JSON goes to a FILE, else on standard error",
	 VIO_FLAG(struct options, table)},
	{0},
};

static const struct vio_program program = {
	.name = "bench-limits",
	.about =
		"bench-limits: measure what this machine can do at best\n\n"
		"With one core only, what needs two is null in the JSON, with the reason; the exit code is 0.\n"
		"Exit code: 0 done, 1 failed, 2 wrong use.\n\n",
	.tail = limits_json_keys,
	.rows = rows,
};

/* Samples of the short measurements; the middle of an odd number is one of them. */
#define BATCHES      15
#define COPY_SAMPLES 9
#define ROUNDS       200000
#define WAKES        5000

static int measure_pair(struct limits_result *r, double total_ns, struct vio_err *err)
{
	const unsigned s = r->cores.server_core;
	int rc = limits_round_trip(s, (uint64_t)(total_ns * 0.28), BATCHES, ROUNDS, &r->round_trip,
				   &r->round_trip_shared, &r->shared_huge, err);

	for (unsigned i = 0; i < LIMITS_N_HANDOVER && !rc; i++) {
		struct limits_handover *h = &r->handover[i];

		*h = (struct limits_handover){
			.size = i & 1 ? 65536 : 4096,
			.depth = i & 2 ? 32 : 1,
			.reading = !(i & 4),
		};
		rc = limits_handover_run(s, (uint64_t)(total_ns * 0.16 / LIMITS_N_HANDOVER),
					 COPY_SAMPLES, h, err);
		r->n_handover++;
	}
	if (!rc)
		rc = limits_eventfd_wake(s, (uint64_t)(total_ns * 0.10), BATCHES, WAKES,
					 &r->eventfd_wake, err);
	return rc;
}

static int limits_measure(struct limits_result *r, struct vio_err *err)
{
	const double total_ns = r->budget_seconds * 1e9;
	struct rusage before, after;
	uint64_t t0 = vio_now_ns();
	int rc = bench_pin(r->cores.guest_core, err);

	if (rc)
		return rc;
	getrusage(RUSAGE_SELF, &before);
	if (r->two_cores)
		rc = measure_pair(r, total_ns, err);
	for (unsigned i = 0; i < LIMITS_N_OPS && !rc; i++)
		rc = limits_op_run(i, (uint64_t)(total_ns * 0.12 / LIMITS_N_OPS), BATCHES,
				   &r->op[i], err);
	r->n_levels = bench_levels(&r->cores, bench_mem_allowance(), r->levels);
	if (!rc)
		rc = limits_memcpy_all(r->levels, r->n_levels, (uint64_t)(total_ns * 0.28),
				       COPY_SAMPLES, r->copies, &r->n_copies, err);
	getrusage(RUSAGE_SELF, &after);
	r->involuntary_switches = (uint64_t)(after.ru_nivcsw - before.ru_nivcsw);
	r->taken_seconds = (double)(vio_now_ns() - t0) / 1e9;
	return rc;
}

int main(int argc, char **argv)
{
	struct options o = {.quick = false};
	struct limits_result r = {0};
	struct vio_err err = {""};
	const char *json;
	FILE *out = stdout;
	int rc = vio_options_parse(&program, &o, argc, argv, &err);

	if (rc > 0)
		return 0;
	if (rc < 0) {
		fprintf(stderr, "bench-limits: %s\n", err.msg);
		return 2;
	}
	json = strcmp(o.c.json, "-") ? o.c.json : NULL;
	r.budget_seconds = o.quick ? 1 : o.c.seconds;
	rc = bench_choose_cores(&o.c.cores, &r.cores, &r.two_cores, &err);
	/* Opened before the measurement, so that a wrong path costs no time. */
	if (!rc && json) {
		out = fopen(json, "we");
		if (!out)
			rc = vio_err_set(&err, -errno, "--json %s: %s", json, strerror(errno));
	}
	if (!rc && !r.two_cores)
		fprintf(stderr, "bench-limits: %s\n", r.cores.reason);
	if (!rc)
		rc = limits_measure(&r, &err);
	if (!rc)
		rc = bench_write_json(limits_json(&r), out, json ? json : "standard output", &err);
	if (!rc && o.table)
		limits_table(&r, json ? stdout : stderr);
	if (out && out != stdout && fclose(out) && !rc)
		rc = vio_err_set(&err, -errno, "--json %s: %s", json, strerror(errno));
	if (rc)
		fprintf(stderr, "bench-limits: %s\n", err.msg);
	return rc ? 1 : 0;
}
