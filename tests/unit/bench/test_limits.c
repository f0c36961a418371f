/* SPDX-License-Identifier: BSD-3-Clause */
/* bench-limits' arithmetic, and each measurement run for a moment: shape and data, never a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/limits/limits_measure.h"

#define MOMENT 2000000u /* ns */

static void quantiles_are_linear_between_neighbours(void **state)
{
	const double v[] = {1, 2, 4, 8};

	(void)state;
	/* numpy.quantile([1, 2, 4, 8], p) */
	assert_true(bench_quantile(v, 4, 0) == 1);
	assert_true(bench_quantile(v, 4, 0.25) == 1.75);
	assert_true(bench_quantile(v, 4, 0.5) == 3);
	assert_true(bench_quantile(v, 4, 0.75) == 5);
	assert_true(bench_quantile(v, 4, 1) == 8);
	assert_true(bench_quantile(v, 1, 0.5) == 1);
}

static void a_summary_sorts_and_leaves_the_samples_in_order(void **state)
{
	struct bench_series s = {{0}, 0};
	struct bench_summary q;

	(void)state;
	assert_int_equal(bench_series_summary(&s, &q), -ENODATA);
	for (unsigned i = 0; i < 5; i++)
		assert_true(bench_series_add(&s, (double)(i * 3 % 5))); /* 0 3 1 4 2 */
	assert_int_equal(bench_series_summary(&s, &q), 0);
	assert_true(q.min == 0 && q.q1 == 1 && q.median == 2 && q.q3 == 3 && q.max == 4);
	assert_true(s.v[0] == 0 && s.v[1] == 3 && s.v[4] == 2);
}

static void samples_past_the_room_are_refused(void **state)
{
	struct bench_series s = {{0}, 0};

	(void)state;
	for (unsigned i = 0; i < BENCH_MAX_SAMPLES; i++)
		assert_true(bench_series_add(&s, 1));
	assert_false(bench_series_add(&s, 1));
	assert_int_equal(s.n, BENCH_MAX_SAMPLES);
}

struct count {
	uint64_t ops;
	int rc;
};

static int count_ops(void *ctx, uint64_t n)
{
	struct count *c = ctx;

	c->ops += n;
	return c->rc;
}

static void sampling_takes_the_batches_asked_for_and_stops_on_an_error(void **state)
{
	struct bench_series s = {{0}, 0};
	struct count good = {0, 0}, bad = {0, -EIO};

	(void)state;
	assert_int_equal(bench_sample(count_ops, &good, 1000, 7, &s), 0);
	assert_int_equal(s.n, 7);
	assert_true(good.ops >= 8);
	s.n = 0;
	assert_int_equal(bench_sample(count_ops, &bad, 1000, 7, &s), -EIO);
	assert_int_equal(s.n, 0);
	assert_int_equal(bad.ops, 1);
}

static void levels_fit_their_caches_and_the_last_is_beyond(void **state)
{
	struct bench_cores c = {.l1_bytes = 48 << 10, .l2_bytes = 2 << 20, .l3_bytes = 36 << 20};
	struct bench_level l[BENCH_MAX_LEVELS];

	(void)state;
	assert_int_equal(bench_levels(&c, UINT64_MAX, l), 4);
	assert_string_equal(l[0].name, "L1");
	assert_int_equal(l[0].footprint, 24 << 10);
	assert_string_equal(l[1].name, "L2");
	assert_int_equal(l[1].footprint, 1 << 20);
	assert_string_equal(l[2].name, "L3");
	assert_int_equal(l[2].footprint, 16 << 20);
	assert_string_equal(l[3].name, "memory");
	assert_int_equal(l[3].footprint, 72 << 20);
}

static void a_capped_level_does_not_claim_to_be_memory(void **state)
{
	struct bench_cores c = {.l1_bytes = 48 << 10, .l2_bytes = 2 << 20, .l3_bytes = 480 << 20};
	struct bench_level l[BENCH_MAX_LEVELS];

	(void)state;
	assert_int_equal(bench_levels(&c, UINT64_MAX, l), 4);
	assert_string_equal(l[3].name, "large");
	assert_int_equal(l[3].footprint, 256 << 20);
	assert_non_null(strstr(l[3].rule, "256 MiB cap"));
	assert_int_equal(bench_levels(&c, 100 << 20, l), 4);
	assert_int_equal(l[3].footprint, 100 << 20);
	assert_non_null(strstr(l[3].rule, "available memory"));
	/* No room for more than L3's footprint: no such level. */
	assert_int_equal(bench_levels(&c, 1 << 20, l), 3);
}

static void caches_that_are_not_visible_are_assumed_and_said(void **state)
{
	struct bench_cores c = {0};
	struct bench_level l[BENCH_MAX_LEVELS];

	(void)state;
	assert_int_equal(bench_levels(&c, UINT64_MAX, l), 3);
	assert_non_null(strstr(l[0].rule, "assumed"));
	assert_non_null(strstr(l[1].rule, "assumed"));
	assert_string_equal(l[2].name, "memory");
	assert_int_equal(l[2].footprint, 2 << 20);
	assert_non_null(strstr(l[2].rule, "assumed"));
}

static void memory_is_zero_and_as_large_as_asked(void **state)
{
	static const enum bench_mem_kind kinds[] = {BENCH_MEM_PRIVATE, BENCH_MEM_SHARED};
	struct vio_err err = {""};

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct bench_mem m;

		assert_int_equal(bench_mem_get(kinds[k], 10000, &m, &err), 0);
		assert_true(m.bytes >= 10000);
		assert_int_equal((uintptr_t)m.base % 4096, 0);
		for (size_t i = 0; i < 10000; i++)
			assert_int_equal(m.base[i], 0);
		bench_mem_put(&m);
		assert_null(m.base);
	}
}

static void no_more_memory_is_asked_for_than_a_quarter_of_what_is_available(void **state)
{
	const uint64_t mib = 1 << 20;

	(void)state;
	assert_true(bench_mem_fits(256 * mib, 1024 * mib));
	assert_false(bench_mem_fits(256 * mib + 1, 1024 * mib));
	/* /proc/meminfo can't be read: only what every machine has. */
	assert_true(bench_mem_fits(4 * mib, 0));
	assert_false(bench_mem_fits(4 * mib + 1, 0));
	assert_false(bench_mem_fits(SIZE_MAX, UINT64_MAX / 8));
}

/*
 * More than any file or address space can have: the kernel refuses it by its size, without trying.
 * A size that it would try (a memfd of some TiB) must never stand in a test: if the check before it
 * broke, the machine would run out of memory.
 */
#define IMPOSSIBLE ((size_t)1 << 63)

static void memory_that_is_not_there_is_an_error(void **state)
{
	struct bench_mem m;
	struct vio_err err = {""};

	(void)state;
	assert_int_equal(bench_mem_get(BENCH_MEM_SHARED, IMPOSSIBLE, &m, &err), -ENOMEM);
	assert_non_null(strstr(err.msg, "available"));
	assert_int_equal(bench_mem_get(BENCH_MEM_PRIVATE, IMPOSSIBLE, &m, &err), -ENOMEM);
}

static void each_memcpy_point_fits_its_level_and_has_samples(void **state)
{
	struct bench_cores c = {.l1_bytes = 32 << 10, .l2_bytes = 1 << 20};
	struct bench_level l[BENCH_MAX_LEVELS];
	struct limits_memcpy p[LIMITS_MAX_MEMCPY];
	struct vio_err err = {""};
	unsigned n_levels = bench_levels(&c, UINT64_MAX, l), n = 0;

	(void)state;
	assert_int_equal(n_levels, 3);
	assert_int_equal(limits_memcpy_all(l, n_levels, MOMENT, 3, p, &n, &err), 0);
	/* L1: 16 KiB takes 64, 512, 4096; L2: 512 KiB takes 65536 too; 2 MiB takes all. */
	assert_int_equal(n, 3 + 4 + 5);
	for (unsigned i = 0; i < n; i++) {
		assert_true(2 * p[i].size <= p[i].level.footprint);
		assert_int_equal(p[i].ns.n, 3);
		for (unsigned k = 0; k < 3; k++)
			assert_true(p[i].ns.v[k] > 0);
	}
}

static void a_level_without_memory_is_skipped_and_the_others_are_measured(void **state)
{
	struct bench_level l[2] = {
		{.name = "memory", .footprint = IMPOSSIBLE},
		{.name = "L1", .footprint = 16 << 10},
	};
	struct limits_memcpy p[LIMITS_MAX_MEMCPY];
	struct vio_err err = {""};
	unsigned n = 0;

	(void)state;
	assert_int_equal(limits_memcpy_all(l, 2, MOMENT, 2, p, &n, &err), 0);
	assert_int_equal(n, 3);
	assert_true(l[0].skipped[0] != '\0');
	assert_string_equal(l[1].skipped, "");
}

static void every_operation_has_a_name_and_samples(void **state)
{
	struct vio_err err = {""};

	(void)state;
	for (unsigned i = 0; i < LIMITS_N_OPS; i++) {
		struct bench_series s = {{0}, 0};

		assert_int_equal(limits_op_run(i, MOMENT, 4, &s, &err), 0);
		assert_int_equal(s.n, 4);
		assert_string_not_equal(limits_op_name(i), "?");
		for (unsigned k = 0; k < s.n; k++)
			assert_true(s.v[k] > 0);
	}
	assert_string_equal(limits_op_name(LIMITS_N_OPS), "?");
}

/* The CPUs of this machine; with one only, the two threads take turns, which is slow and correct. */
static struct bench_cores here(void)
{
	hwloc_topology_t t;
	hwloc_bitmap_t allowed;
	struct bench_cores c;
	struct vio_err err = {""};

	assert_int_equal(bench_topology_load(&t, &allowed, &err), 0);
	assert_true(bench_topology_choose(t, allowed, &c, &err) >= 0);
	bench_topology_free(t, allowed);
	return c;
}

static void eventfd_wakes_end_and_give_a_sample_a_batch(void **state)
{
	struct bench_series s = {{0}, 0};
	struct vio_err err = {""};

	(void)state;
	assert_int_equal(limits_eventfd_wake(here().server_core, MOMENT, 3, 32, &s, &err), 0);
	assert_int_equal(s.n, 3);
	assert_true(s.v[0] > 0);
}

static void handover_delivers_every_block(void **state)
{
	static const struct limits_handover kinds[] = {
		{.size = 4096, .depth = 1, .reading = true},
		{.size = 4096, .depth = 3, .reading = true},
		{.size = 65536, .depth = 2, .reading = true},
		{.size = 64, .depth = 5, .reading = false},
	};
	struct bench_cores c = here();
	struct vio_err err = {""};

	(void)state;
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct limits_handover h = kinds[i];

		if (c.guest_core == c.server_core) {
			/* Spinning threads on one CPU: a time slice a block. bench-limits never does it. */
			print_message("one CPU only: hand-over needs two\n");
			skip();
		}
		assert_int_equal(limits_handover_run(c.server_core, MOMENT, 3, &h, &err), 0);
		assert_int_equal(h.ns.n, 3);
	}
}

static void round_trips_end_and_give_a_sample_a_batch_of_each_memory(void **state)
{
	struct bench_cores c = here();
	struct bench_series priv = {{0}, 0}, shared = {{0}, 0};
	struct vio_err err = {""};
	bool huge;

	(void)state;
	if (c.guest_core == c.server_core) {
		print_message("one CPU only: round trips need two\n");
		skip();
	}
	assert_int_equal(
		limits_round_trip(c.server_core, MOMENT, 3, 256, &priv, &shared, &huge, &err), 0);
	assert_int_equal(priv.n, 3);
	assert_int_equal(shared.n, 3);
	assert_true(priv.v[0] > 0 && shared.v[2] > 0);
}

static void nothing(void *ctx)
{
	*(int *)ctx += 1;
}

static void a_cpu_that_is_not_there_is_refused_with_its_number(void **state)
{
	struct vio_err err = {""};
	int ran = 0;

	(void)state;
	assert_int_equal(bench_pin(65535, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "CPU 65535"));
	err.msg[0] = '\0';
	assert_int_equal(bench_pair_run(65535, nothing, nothing, &ran, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "CPU 65535"));
	assert_int_equal(ran, 0);
}

static void one_core_makes_two_core_keys_null_with_the_reason(void **state)
{
	static const char *const keys[] = {"round_trip", "round_trip_shared", "eventfd_wake",
					   "memcpy_handover"};
	struct limits_result r = {.two_cores = false, .cores = {.reason = "because"}};
	json_t *j = limits_json(&r);

	(void)state;
	assert_non_null(j);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(json_is_null(json_object_get(j, keys[i])));
		assert_string_equal(json_string_value(json_object_get(
					    json_object_get(j, "not_measured"), keys[i])),
				    "because");
	}
	json_decref(j);
}

static void json_gives_raw_samples_and_what_follows_from_them(void **state)
{
	struct limits_result r = {
		.two_cores = true,
		.round_trip = {{30, 10, 20}, 3},
		.eventfd_wake = {{400, 200}, 2},
		.copies = {{.level = {.name = "L1", .footprint = 8192},
			    .size = 4096,
			    .ns = {{512, 1024, 2048}, 3}}},
		.n_copies = 1,
	};
	json_t *j = limits_json(&r), *rt, *copy;

	(void)state;
	assert_non_null(j);
	rt = json_object_get(j, "round_trip");
	assert_int_equal(json_array_size(json_object_get(rt, "samples_ns")), 3);
	assert_true(json_real_value(json_array_get(json_object_get(rt, "samples_ns"), 0)) == 30);
	assert_true(json_real_value(json_object_get(rt, "median_ns")) == 20);
	assert_true(json_real_value(json_object_get(json_object_get(j, "eventfd_wake"),
						    "one_way_ns")) == 150);
	copy = json_array_get(json_object_get(j, "memcpy"), 0);
	assert_true(json_real_value(json_object_get(copy, "gb_per_s")) == 4);
	assert_int_equal(json_integer_value(json_object_get(copy, "footprint_bytes")), 8192);
	assert_int_equal(json_object_size(json_object_get(j, "not_measured")), 0);
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantiles_are_linear_between_neighbours),
		cmocka_unit_test(a_summary_sorts_and_leaves_the_samples_in_order),
		cmocka_unit_test(samples_past_the_room_are_refused),
		cmocka_unit_test(sampling_takes_the_batches_asked_for_and_stops_on_an_error),
		cmocka_unit_test(levels_fit_their_caches_and_the_last_is_beyond),
		cmocka_unit_test(a_capped_level_does_not_claim_to_be_memory),
		cmocka_unit_test(caches_that_are_not_visible_are_assumed_and_said),
		cmocka_unit_test(memory_is_zero_and_as_large_as_asked),
		cmocka_unit_test(no_more_memory_is_asked_for_than_a_quarter_of_what_is_available),
		cmocka_unit_test(memory_that_is_not_there_is_an_error),
		cmocka_unit_test(each_memcpy_point_fits_its_level_and_has_samples),
		cmocka_unit_test(a_level_without_memory_is_skipped_and_the_others_are_measured),
		cmocka_unit_test(every_operation_has_a_name_and_samples),
		cmocka_unit_test(eventfd_wakes_end_and_give_a_sample_a_batch),
		cmocka_unit_test(handover_delivers_every_block),
		cmocka_unit_test(round_trips_end_and_give_a_sample_a_batch_of_each_memory),
		cmocka_unit_test(a_cpu_that_is_not_there_is_refused_with_its_number),
		cmocka_unit_test(one_core_makes_two_core_keys_null_with_the_reason),
		cmocka_unit_test(json_gives_raw_samples_and_what_follows_from_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
