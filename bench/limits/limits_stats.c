/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "bench/limits/limits_measure.h"
#include "vio/cycles.h"

bool bench_series_add(struct bench_series *s, double ns)
{
	if (s->n == BENCH_MAX_SAMPLES)
		return false;
	s->v[s->n++] = ns;
	return true;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_quantile(const double *sorted, unsigned n, double p)
{
	double at = p * (n - 1);
	unsigned lo = (unsigned)at;

	if (lo + 1 >= n)
		return sorted[n - 1];
	return sorted[lo] + (at - lo) * (sorted[lo + 1] - sorted[lo]);
}

int bench_series_summary(const struct bench_series *s, struct bench_summary *out)
{
	double v[BENCH_MAX_SAMPLES];

	if (s->n == 0)
		return -ENODATA;
	memcpy(v, s->v, s->n * sizeof(v[0]));
	qsort(v, s->n, sizeof(v[0]), ascending);
	*out = (struct bench_summary){
		.min = v[0],
		.q1 = bench_quantile(v, s->n, 0.25),
		.median = bench_quantile(v, s->n, 0.5),
		.q3 = bench_quantile(v, s->n, 0.75),
		.max = v[s->n - 1],
	};
	return 0;
}

static int no_check(void *ctx, uint64_t n)
{
	(void)ctx;
	(void)n;
	return 0;
}

int bench_sample(bench_op op, void *ctx, uint64_t budget_ns, unsigned samples,
		 struct bench_series *out)
{
	uint64_t ops;

	return bench_sample_checked(op, no_check, ctx, budget_ns, samples, out, &ops);
}

int bench_sample_checked(bench_op op, bench_op check, void *ctx, uint64_t budget_ns,
			 unsigned samples, struct bench_series *out, uint64_t *ops)
{
	uint64_t batch_ns = budget_ns / (samples + 1) + 1, n = 1, took = 0;
	int rc;

	*ops = 0;
	/*
	 * Doubling until a quarter of a batch costs about half a batch in all, and warms up what is
	 * to be timed.
	 */
	for (;;) {
		uint64_t t0 = vio_now_ns();

		rc = op(ctx, n);
		if (rc)
			return rc;
		took = vio_now_ns() - t0;
		if (took >= batch_ns / 4)
			break;
		n *= 2;
	}
	n = vio_muldiv(n, batch_ns, took ? took : 1);
	if (n == 0)
		n = 1;
	for (unsigned i = 0; i < samples; i++) {
		uint64_t t0 = vio_now_ns();

		rc = op(ctx, n);
		if (rc)
			return rc;
		took = vio_now_ns() - t0;
		rc = check(ctx, n);
		if (rc)
			return rc;
		bench_series_add(out, (double)took / (double)n);
		*ops += n;
	}
	return 0;
}
