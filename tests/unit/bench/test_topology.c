/* SPDX-License-Identifier: BSD-3-Clause */
/* The choice of two cores, on machines that hwloc makes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/limits/topology.h"

static hwloc_topology_t machine(const char *synthetic)
{
	hwloc_topology_t t;

	assert_int_equal(hwloc_topology_init(&t), 0);
	assert_int_equal(hwloc_topology_set_synthetic(t, synthetic), 0);
	assert_int_equal(hwloc_topology_load(t), 0);
	return t;
}

/* `allowed`: a list as taskset takes it, NULL for all. */
static int choose(const char *synthetic, const char *allowed, struct bench_cores *c)
{
	hwloc_topology_t t = machine(synthetic);
	hwloc_bitmap_t set = NULL;
	struct vio_err err = {""};
	int rc;

	if (allowed) {
		set = hwloc_bitmap_alloc();
		assert_int_equal(hwloc_bitmap_list_sscanf(set, allowed), 0);
	}
	memset(c, 0xa5, sizeof(*c));
	rc = bench_topology_choose(t, set, c, &err);
	if (rc < 0)
		assert_true(err.msg[0] != '\0');
	bench_topology_free(t, set);
	return rc;
}

static void one_core_is_said_and_both_are_that_core(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(choose("core:1 pu:1", NULL, &c), 1);
	assert_int_equal(c.guest_core, c.server_core);
	assert_int_equal(c.n_cpus, 1);
	assert_int_equal(c.n_cores, 1);
	assert_false(c.smt_siblings);
	assert_non_null(strstr(c.reason, "only one"));
}

static void one_allowed_cpu_of_a_big_machine_counts_as_one(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(choose("numa:2 core:4 pu:2", "5", &c), 1);
	assert_int_equal(c.guest_core, 5);
	assert_int_equal(c.server_core, 5);
	assert_int_equal(c.n_cpus, 1);
}

static void two_plain_cores_are_both_taken_cpu_0_included(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(choose("l3:1 core:2 pu:1", NULL, &c), 0);
	assert_int_equal(c.guest_core, 0);
	assert_int_equal(c.server_core, 1);
	assert_true(c.l3_shared);
	assert_true(c.numa_shared);
	assert_false(c.smt);
}

static void smt_siblings_are_avoided(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(choose("l3:1 core:2 pu:2", NULL, &c), 0);
	assert_int_equal(c.guest_core,
			 1); /* the other thread of CPU 0's core: there are only two cores */
	assert_int_equal(c.server_core, 2);
	assert_true(c.smt);
	assert_false(c.smt_siblings);
	assert_int_equal(c.n_cores, 2);
	assert_int_equal(c.n_cpus, 4);
}

static void smt_siblings_are_seen_when_numbers_are_interleaved(void **state)
{
	struct bench_cores c;

	(void)state;
	/* As Linux numbers them on x86: CPUs 0 and 2 are of the first core, 1 and 3 of the second. */
	assert_int_equal(choose("l3:1 core:2 pu:2(indexes=0,2,1,3)", NULL, &c), 0);
	assert_int_equal(c.guest_core, 1);
	assert_int_equal(c.server_core, 2);
	assert_false(c.smt_siblings);
	/* Without CPUs 0 and 1, both of what is left are of different cores still. */
	assert_int_equal(choose("l3:1 core:2 pu:2(indexes=0,2,1,3)", "2-3", &c), 0);
	assert_false(c.smt_siblings);
	assert_false(c.smt);
}

static void siblings_are_taken_with_a_warning_when_there_is_no_other_core(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(choose("core:1 pu:2", NULL, &c), 0);
	assert_int_not_equal(c.guest_core, c.server_core);
	assert_true(c.smt_siblings);
	assert_non_null(strstr(c.reason, "slow each other down"));
}

static void cpu_0_and_its_core_are_left_to_the_system(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(choose("l3:1 core:4 pu:2", NULL, &c), 0);
	assert_int_equal(c.guest_core, 2);
	assert_int_equal(c.server_core, 4);
	assert_non_null(strstr(c.reason, "CPU 0 is left"));
	assert_int_equal(choose("l3:1 core:3 pu:1", NULL, &c), 0);
	assert_int_equal(c.guest_core, 1);
	assert_int_equal(c.server_core, 2);
}

static void both_are_of_one_numa_node(void **state)
{
	struct bench_cores c;

	(void)state;
	/* Avoiding CPU 0 would leave one core on node 0; the pair must not straddle the nodes for that. */
	assert_int_equal(choose("numa:2 core:2 pu:1", NULL, &c), 0);
	assert_int_equal(c.guest_core, 2);
	assert_int_equal(c.server_core, 3);
	assert_true(c.numa_shared);
	assert_int_equal(c.numa_node, 1);
	assert_int_equal(choose("numa:2 core:2 pu:1", "0-2", &c), 0);
	assert_int_equal(c.guest_core, 0);
	assert_int_equal(c.server_core, 1);
	assert_true(c.numa_shared);
}

static void different_nodes_are_said_when_there_is_no_choice(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(choose("numa:2 core:2 pu:1", "1,2", &c), 0);
	assert_int_equal(c.guest_core, 1);
	assert_int_equal(c.server_core, 2);
	assert_false(c.numa_shared);
	assert_non_null(strstr(c.reason, "different NUMA nodes"));
}

static void both_are_under_one_l3(void **state)
{
	struct bench_cores c;

	(void)state;
	/* CPUs 1-3 without 0: only 2 and 3 share an L3. */
	assert_int_equal(choose("numa:1 l3:2 core:2 pu:1", NULL, &c), 0);
	assert_int_equal(c.guest_core, 2);
	assert_int_equal(c.server_core, 3);
	assert_true(c.l3_visible);
	assert_true(c.l3_shared);
	/* An own L3 each, as on POWER. */
	assert_int_equal(choose("numa:1 l3:2 core:1 pu:4", NULL, &c), 0);
	assert_true(c.l3_visible);
	assert_false(c.l3_shared);
	assert_false(c.smt_siblings);
}

static void cache_sizes_are_those_above_the_guest_cpu(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(
		choose("l3:1(size=33554432) l2:2(size=1048576) l1d:1(size=49152) core:1 pu:1", NULL,
		       &c),
		0);
	assert_int_equal(c.l1_bytes, 48 << 10);
	assert_int_equal(c.l2_bytes, 1 << 20);
	assert_int_equal(c.l3_bytes, 32 << 20);
}

static void cpus_outside_the_topology_are_an_error(void **state)
{
	struct bench_cores c;

	(void)state;
	assert_int_equal(choose("core:2 pu:1", "7", &c), -ENODEV);
}

static void a_pair_that_was_asked_for_is_described_or_refused(void **state)
{
	hwloc_topology_t t = machine("numa:2 core:2 pu:2");
	struct bench_cores c;
	struct vio_err err = {""};

	(void)state;
	assert_int_equal(bench_topology_describe(t, NULL, 6, 1, &c, &err), 0);
	assert_int_equal(c.guest_core, 6);
	assert_int_equal(c.server_core, 1);
	assert_false(c.numa_shared);
	assert_int_equal(bench_topology_describe(t, NULL, 4, 5, &c, &err), 0);
	assert_true(c.smt_siblings);
	assert_int_equal(bench_topology_describe(t, NULL, 4, 4, &c, &err), 1);
	assert_false(c.smt_siblings);
	assert_int_equal(bench_topology_describe(t, NULL, 0, 8, &c, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "CPU 8"));
	assert_int_equal(bench_topology_describe(t, NULL, 9, 0, &c, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "CPU 9"));
	hwloc_topology_destroy(t);
}

static void json_says_null_for_an_l3_that_is_not_visible(void **state)
{
	struct bench_cores c;
	json_t *j;

	(void)state;
	assert_int_equal(choose("core:2 pu:1", NULL, &c), 0);
	j = bench_cores_json(&c);
	assert_non_null(j);
	assert_true(json_is_null(json_object_get(j, "l3_shared")));
	assert_int_equal(json_integer_value(json_object_get(j, "guest_core")), 0);
	assert_int_equal(json_integer_value(json_object_get(j, "server_core")), 1);
	assert_true(json_is_false(json_object_get(j, "smt")));
	json_decref(j);
	assert_int_equal(choose("l3:1 core:2 pu:1", NULL, &c), 0);
	j = bench_cores_json(&c);
	assert_true(json_is_true(json_object_get(j, "l3_shared")));
	json_decref(j);
}

static void this_machine_gives_cpus_on_which_this_process_may_run(void **state)
{
	hwloc_topology_t t;
	hwloc_bitmap_t allowed;
	struct bench_cores c;
	struct vio_err err = {""};

	(void)state;
	assert_int_equal(bench_topology_load(&t, &allowed, &err), 0);
	assert_true(bench_topology_choose(t, allowed, &c, &err) >= 0);
	assert_true(hwloc_bitmap_isset(allowed, c.guest_core));
	assert_true(hwloc_bitmap_isset(allowed, c.server_core));
	bench_topology_free(t, allowed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_core_is_said_and_both_are_that_core),
		cmocka_unit_test(one_allowed_cpu_of_a_big_machine_counts_as_one),
		cmocka_unit_test(two_plain_cores_are_both_taken_cpu_0_included),
		cmocka_unit_test(smt_siblings_are_avoided),
		cmocka_unit_test(smt_siblings_are_seen_when_numbers_are_interleaved),
		cmocka_unit_test(siblings_are_taken_with_a_warning_when_there_is_no_other_core),
		cmocka_unit_test(cpu_0_and_its_core_are_left_to_the_system),
		cmocka_unit_test(both_are_of_one_numa_node),
		cmocka_unit_test(different_nodes_are_said_when_there_is_no_choice),
		cmocka_unit_test(both_are_under_one_l3),
		cmocka_unit_test(cache_sizes_are_those_above_the_guest_cpu),
		cmocka_unit_test(cpus_outside_the_topology_are_an_error),
		cmocka_unit_test(a_pair_that_was_asked_for_is_described_or_refused),
		cmocka_unit_test(json_says_null_for_an_l3_that_is_not_visible),
		cmocka_unit_test(this_machine_gives_cpus_on_which_this_process_may_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
