/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parity: the same trace of requests through any two arms gives the same bytes, the same used ring
 * and the same errors. Whole guest and whole server in one process, a thread each, on the
 * in-process machine; no DPDK, no root.
 */
#include "tests/unit/parity/pair.h"

/* --------------------------------------------------------------------------- tests ---- */

static void any_named_arm_gives_the_bytes_used_ring_and_errors_of_the_copy_arm(void **state)
{
	struct outcome *want = reference(false), *got = malloc(sizeof(*got));

	(void)state;
	for (unsigned i = 0; vio_arm_named(i); i++) {
		run_arm(vio_arm_named(i)->name, false, got);
		compare(vio_arm_named(i)->name, want, got);
	}
	free(want);
	free(got);
}

static void any_level_of_any_factor_gives_the_same_as_the_copy_arm(void **state)
{
	static const char *const arms[] = {
		"copy,mapping=deferred",
		"copy,mapping=cached",
		"copy,mapping=pool",
		"copy,ring=copy-delta",
		"copy,ring=direct",
		"copy,notify=suppress",
		"copy,notify=poll",
		"copy,payload=direct",
		"zero-copy,ring=copy",
		"zero-copy,ring=copy-delta",
		"zero-copy,notify=crq",
		"zero-copy,notify=suppress",
		"zero-copy,payload=rdma",
		"zero-copy,payload=bounce",
		"zero-copy,payload=copybreak",
		"zero-copy,mapping=single-use",
		"zero-copy,mapping=deferred",
		"zero-copy,mapping=cached",
		"zero-copy,mapping=cached,payload=copybreak",
		"copy-tuned,notify=poll",
	};
	struct outcome *want = reference(false), *got = malloc(sizeof(*got));

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(arms); i++) {
		run_arm(arms[i], false, got);
		compare(arms[i], want, got);
	}
	free(want);
	free(got);
}

/* In order, which chains have a used element is a matter of what is done when: the ring is nobody's but their driver's. */
static void any_arm_on_any_layout_gives_the_bytes_and_errors_of_the_copy_arm(void **state)
{
	static const char *const arms[] = {
		"copy",
		"copy,ring=copy-delta",
		"copy,ring=direct",
		"copy,notify=suppress",
		"copy,notify=poll",
		"copy-tuned",
		"copy-tuned,notify=poll",
		"premapped",
		"zero-copy",
		"zero-copy,notify=crq",
		"zero-copy,notify=suppress",
		"zero-copy,ring=copy",
		"unprotected",
		"copy/indirect",
		"zero-copy/indirect",
	};
	struct outcome *split = reference(false), *want = malloc(sizeof(*want)),
		       *got = malloc(sizeof(*got));

	(void)state;
	for (unsigned l = VIO_LAYOUT_SPLIT + 1; l < VIO_N_LAYOUT; l++) {
		const struct vio_arm any = {.layout = (enum vio_layout)l};
		const bool in_order = vio_arm_features(&any) >> VIRTIO_F_IN_ORDER & 1;

		for (unsigned i = 0; i < VIO_ARRAY_SIZE(arms); i++) {
			const size_t n = strcspn(arms[i], "/");
			char arm[96];

			snprintf(arm, sizeof(arm), "%.*s,layout=%s%s", (int)n, arms[i],
				 vio_layout_name(any.layout), arms[i] + n);
			run_arm(arm, false, got);
			if (i == 0)
				memcpy(want->used, got->used,
				       sizeof(want->used)); /* another ring */
			if (in_order || arms[i][n])         /* indirect: other descriptors */
				memcpy(got->used, want->used, sizeof(want->used));
			memcpy(split->used, want->used, sizeof(want->used));
			compare(arm, split, got);
		}
	}
	free(split);
	free(want);
	free(got);
}

static void the_trace_has_reads_writes_and_errors_so_that_equal_means_something(void **state)
{
	struct outcome *o = reference(false);
	unsigned ok = 0, failed = 0, sums = 0;

	(void)state;
	for (unsigned k = 0; k < TRACE_LEN; k++) {
		ok += o->result[k] == 0;
		failed += o->result[k] != 0;
		sums += o->sum[k] != 0;
	}
	assert_true(ok > TRACE_LEN / 2);
	assert_true(failed > 10);
	assert_true(sums > 100);
	free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_trace_has_reads_writes_and_errors_so_that_equal_means_something),
		cmocka_unit_test(
			any_named_arm_gives_the_bytes_used_ring_and_errors_of_the_copy_arm),
		cmocka_unit_test(any_level_of_any_factor_gives_the_same_as_the_copy_arm),
		cmocka_unit_test(any_arm_on_any_layout_gives_the_bytes_and_errors_of_the_copy_arm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
