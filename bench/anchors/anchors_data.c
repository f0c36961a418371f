/* SPDX-License-Identifier: BSD-3-Clause */
/* What the cases move: data that can be told from any other, and the samples that check it. */
#include <string.h>

#include "bench/anchors/anchors.h"

uint64_t anchors_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

void anchors_fill(void *to, size_t bytes, uint64_t seed, uint64_t first)
{
	uint64_t *w = to;

	for (size_t i = 0; i < bytes / sizeof(*w); i++)
		w[i] = anchors_mix(seed ^ (first / sizeof(*w) + i));
}

bool anchors_matches(const void *at, size_t bytes, uint64_t seed, uint64_t first)
{
	const uint64_t *w = at;

	for (size_t i = 0; i < bytes / sizeof(*w); i++)
		if (w[i] != anchors_mix(seed ^ (first / sizeof(*w) + i)))
			return false;
	return true;
}

void anchors_poison(void *at, size_t bytes)
{
	memset(at, 0xa5, bytes);
}

int anchors_sample(const struct anchors_env *env, bench_op op, bench_op check, void *ctx,
		   struct anchors_outcome *out)
{
	int rc = bench_sample_checked(op, check, ctx, env->case_ns, env->samples, &out->ns,
				      &out->ops);

	if (rc == -EBADMSG)
		vio_err_set(&out->why, rc, "the data that came differs from what was written");
	else if (rc)
		vio_err_set(&out->why, rc, "%s", strerror(-rc));
	return rc;
}
