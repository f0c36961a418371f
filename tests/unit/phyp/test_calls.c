/* SPDX-License-Identifier: BSD-3-Clause */
/* The entry of all calls: names, codes, counters, filters (faults, trace), injected costs, profiles. */
#include <stdio.h>

#include "vio/cycles.h"
#include "world.h"

static void every_call_has_one_counter_and_one_name(void **state)
{
	unsigned n = 0;

	(void)state;
	for (; phyp_op_at(n); n++) {
		assert_int_equal(phyp_op_index(phyp_op_at(n)), n);
		assert_int_equal(strncmp(phyp_op_name(phyp_op_at(n)), "H_", 2), 0);
		for (unsigned k = 0; k < n; k++)
			assert_string_not_equal(phyp_op_name(phyp_op_at(k)),
						phyp_op_name(phyp_op_at(n)));
	}
	assert_int_equal(n, 18);
	assert_string_equal(phyp_op_name(H_SEND_CRQ), "H_SEND_CRQ");
	assert_string_equal(phyp_op_name(H_ENABLE_CRQ), "H_ENABLE_CRQ");
	assert_int_equal(phyp_op_index(0), -1);
	assert_int_equal(phyp_op_index(H_SEND_CRQ + 1), -1);
	assert_int_equal(phyp_op_index(UINT64_MAX), -1);
	assert_int_equal(phyp_op_index(H_ENABLE_CRQ + 4), -1);
	assert_string_equal(phyp_op_name(3), "?");
}

static void codes_translate_to_errno_in_one_place(void **state)
{
	(void)state;
	assert_int_equal(phyp_rc_errno(H_SUCCESS), 0);
	assert_int_equal(phyp_rc_errno(H_PARAMETER), -EINVAL);
	assert_int_equal(phyp_rc_errno(H_CLOSED), -ENOTCONN);
	assert_int_equal(phyp_rc_errno(-12345), -EIO);
	assert_string_equal(phyp_rc_name(H_RESCINDED), "H_RESCINDED");
	assert_string_equal(phyp_rc_name(-12345), "H_?");
	for (int64_t rc = -64; rc <= 64; rc++)
		assert_true(rc == 0 || phyp_rc_errno(rc) < 0);
}

static void an_unknown_opcode_answers_h_function(void **state)
{
	struct world *w = *state;
	uint64_t r[PHYP_REGS] = {0};

	assert_int_equal(phyp_hcall(w->g.v, 0x3fc, r, r), H_FUNCTION);
	assert_int_equal(phyp_hcall(w->g.v, UINT64_MAX, r, r), H_FUNCTION);
	assert_int_equal(phyp_hcall(w->g.v, H_PUT_TCE + 1, r, r), H_FUNCTION);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->hcall_failed, 3);
}

static void counters_are_exact_per_vcpu_and_summed_per_partition(void **state)
{
	struct world *w = *state;
	struct phyp_vcpu *two;
	struct phyp_counters sum;
	struct phyp_part_stats stats[PHYP_MAX_PARTS];
	unsigned n = PHYP_MAX_PARTS;
	uint64_t tce;

	assert_int_equal(phyp_vcpu_create(w->g.part, &two, NULL), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(h_get_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), &tce), H_SUCCESS);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(h_get_tce(two, 0, at(&w->g, 0), &tce), H_PARAMETER);
	vio_counter_add(&phyp_vcpu_counters(two)->kicks, 7);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->hcall[phyp_op_index(H_GET_TCE)], 5);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->hcall_failed, 0);
	assert_int_equal(phyp_vcpu_counters(two)->hcall[phyp_op_index(H_GET_TCE)], 3);
	assert_int_equal(phyp_vcpu_counters(two)->hcall_failed, 3);
	phyp_vcpu_destroy(two);
	phyp_part_counters(w->g.part, &sum);
	assert_int_equal(sum.hcall[phyp_op_index(H_GET_TCE)], 8);
	assert_int_equal(sum.hcall_failed, 3);
	assert_int_equal(sum.kicks, 7);
	assert_int_equal(phyp_machine_stats(w->s.part, stats, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_string_equal(stats[0].name, "vios");
	assert_string_equal(stats[1].name, "guest0");
	assert_true(stats[1].active);
	assert_int_equal(stats[1].c.hcall[phyp_op_index(H_GET_TCE)], 8);
	end_close(&w->g);
	n = 1;
	assert_int_equal(phyp_machine_stats(w->s.part, stats, &n, NULL), 0);
	assert_int_equal(n, 1);
	end_open(w->m, "guest0", &w->g);
	phyp_part_counters(w->g.part, &sum);
	assert_int_equal(sum.hcall_failed, 0);
}

static struct phyp_filter *fault(const char *spec)
{
	struct phyp_filter *f = NULL;
	struct vio_err err = {{0}};

	if (phyp_fault_create(spec, &f, &err))
		fail_msg("%s", err.msg);
	return f;
}

static int64_t get(struct world *w)
{
	uint64_t tce;

	return h_get_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), &tce);
}

static void a_fault_answers_the_chosen_calls_and_no_other(void **state)
{
	struct world *w = *state;
	struct phyp_filter *f =
		fault("H_GET_TCE@3=H_BUSYx2,H_GET_TCE@7=H_HARDWARE,H_PUT_TCE@1=H_RESOURCE");
	const int64_t want[] = {0, 0, H_BUSY, H_BUSY, 0, 0, H_HARDWARE, 0};

	phyp_filter_push(w->g.part, f);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(want); i++)
		assert_int_equal(get(w), want[i]);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 1), H_RESOURCE);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 1), H_SUCCESS);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->hcall[phyp_op_index(H_GET_TCE)], 8);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->hcall_failed, 4);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->tce_updates, 1);
	phyp_filter_pop(w->g.part);
	phyp_fault_free(f);
	assert_int_equal(get(w), H_SUCCESS);
}

static void a_fault_of_any_call_counts_them_all(void **state)
{
	struct world *w = *state;
	struct phyp_filter *f = fault("ANY@3=H_HARDWARE,H_GET_TCE@3=H_BUSY");

	phyp_filter_push(w->g.part, f);
	assert_int_equal(get(w), H_SUCCESS);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 1), H_SUCCESS);
	assert_int_equal(get(w), H_HARDWARE); /* the third of all, the second of its kind */
	assert_int_equal(get(w), H_BUSY);
	assert_int_equal(get(w), H_SUCCESS);
	phyp_filter_pop(w->g.part);
	phyp_fault_free(f);
}

static void a_busy_call_is_made_again_whatever_the_hint_and_not_for_ever(void **state)
{
	struct world *w = *state;
	struct phyp_filter *f = fault(
		"H_GET_TCE@1=H_BUSYx2,H_GET_TCE@4=H_LONG_BUSY_ORDER_100_SECx2,H_GET_TCE@7=H_BUSYx9,H_GET_TCE@16=H_HARDWARE");
	const uint64_t *calls = &phyp_vcpu_counters(w->g.v)->hcall[phyp_op_index(H_GET_TCE)];

	phyp_filter_push(w->g.part, f);
	assert_int_equal(PHYP_RETRY(3, get(w)), H_SUCCESS);
	assert_int_equal(*calls, 3);
	assert_int_equal(PHYP_RETRY(3, get(w)), H_SUCCESS);
	assert_int_equal(*calls, 6);
	assert_int_equal(PHYP_RETRY(9, get(w)), H_BUSY); /* the caller decides what now */
	assert_int_equal(*calls, 15);
	assert_int_equal(PHYP_RETRY(9, get(w)),
			 H_HARDWARE); /* what is not busy is not tried again */
	assert_int_equal(*calls, 16);
	phyp_filter_pop(w->g.part);
	phyp_fault_free(f);
	assert_false(phyp_rc_busy(H_CLOSED) || phyp_rc_busy(H_PARTIAL) || phyp_rc_busy(H_RESOURCE));
}

static void a_late_unmap_takes_effect_with_the_next_call(void **state)
{
	struct world *w = *state;
	struct phyp_filter *f = fault("H_STUFF_TCE@1=LATE");
	uint64_t tce;

	map_tces(&w->g, 0, PAGE, 2 * PAGE, TCE_READ);
	phyp_filter_push(w->g.part, f);
	assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 0, 1), H_SUCCESS);
	assert_int_equal(h_get_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), &tce), H_SUCCESS);
	assert_int_equal(tce, PAGE | TCE_READ);
	assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, PAGE), 0, 1), H_SUCCESS);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(h_get_tce(w->g.v, w->g.u->liobn, at(&w->g, i * PAGE), &tce),
				 H_SUCCESS);
		assert_int_equal(tce, 0);
	}
	phyp_filter_pop(w->g.part);
	phyp_fault_free(f);
}

static void a_bad_fault_is_refused_with_what_is_wrong(void **state)
{
	const char *const bad[][2] = {
		{"", "unknown call"},
		{"H_NOPE@1=H_BUSY", "unknown call"},
		{"H_GET_TCE", "@"},
		{"H_GET_TCE@0=H_BUSY", "from 1"},
		{"H_GET_TCE@x=H_BUSY", "from 1"},
		{"H_GET_TCE@99999999999999999999=H_BUSY", "from 1"},
		{"H_GET_TCE@1", "="},
		{"H_GET_TCE@1=H_WHAT", "return code"},
		{"H_GET_TCE@1=", "return code"},
		{"H_GET_TCE@1=H_BUSYx0", "from 1"},
		{"H_GET_TCE@1=LATE", "LATE"},
		{"H_SEND_CRQ@1=STRAY", "STRAY"},
		{"H_GET_TCE@1=H_BUSY,", "unknown call"},
		{"H_GET_TCE@1=H_BUSY;H_GET_TCE@2=H_BUSY", "follows"},
	};
	struct phyp_filter *f;

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		struct vio_err err = {{0}};

		assert_int_equal(phyp_fault_create(bad[i][0], &f, &err), -EINVAL);
		assert_non_null(strstr(err.msg, bad[i][1]));
	}
}

static void a_trace_line_names_caller_call_arguments_and_answer(void **state)
{
	struct world *w = *state;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct phyp_filter *t = phyp_trace_create(f, "guest0"), *busy = fault("H_GET_TCE@2=H_BUSY");

	phyp_filter_push(w->g.part, busy);
	phyp_filter_push(w->g.part, t);
	map_tces(&w->g, 0, PAGE, PAGE, TCE_READ);
	assert_int_equal(get(w), H_SUCCESS);
	assert_int_equal(get(w),
			 H_BUSY); /* filters stack: the trace sees what the fault answered */
	phyp_filter_pop(w->g.part);
	phyp_filter_pop(w->g.part);
	assert_int_equal(get(w), H_SUCCESS);
	fclose(f);
	assert_string_equal(text, "guest0: H_PUT_TCE(0x10000001, 0x10000000, 0x1001) = H_SUCCESS\n"
				  "guest0: H_GET_TCE(0x10000001, 0x10000000) = H_SUCCESS 0x1001\n"
				  "guest0: H_GET_TCE(0x10000001, 0x10000000) = H_BUSY\n");
	free(text);
	phyp_trace_free(t);
	phyp_fault_free(busy);
}

static void costs_parse_as_presets_and_lists(void **state)
{
	struct phyp_cost c;

	(void)state;
	assert_int_equal(phyp_cost_parse("free", &c, NULL), 0);
	assert_string_equal(c.name, "free");
	assert_int_equal(c.hcall_ns + c.tce_ns + c.rdma_ns, 0);
	assert_int_equal(phyp_cost_parse("vmexit", &c, NULL), 0);
	assert_int_equal(c.hcall_ns, 700);
	assert_int_equal(phyp_cost_parse("ibmvnic", &c, NULL), 0);
	assert_int_equal(c.hcall_ns, 2500);
	assert_string_equal(c.name, "ibmvnic");
	assert_int_equal(phyp_cost_parse("rdma=30,hcall=1000000", &c, NULL), 0);
	assert_int_equal(c.hcall_ns, 1000000);
	assert_int_equal(c.tce_ns, 0);
	assert_int_equal(c.rdma_ns, 30);
	assert_int_equal(phyp_cost_parse("tce=0", &c, NULL), 0);
}

static void bad_costs_are_refused_and_leave_the_old_ones(void **state)
{
	const char *const bad[] = {"",
				   "cheap",
				   "hcall",
				   "hcall=",
				   "hcall=x",
				   "hcall=-1",
				   "hcall=1000001",
				   "hcall=1,",
				   "hcall=1,hcall=2",
				   "hcall=1 ,tce=2",
				   "FREE",
				   "tce=1;rdma=2",
				   "hcall=99999999999999999999"};
	struct phyp_cost c = {.hcall_ns = 5};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		struct vio_err err = {{0}};

		assert_int_equal(phyp_cost_parse(bad[i], &c, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "hcall=NS"));
		assert_int_equal(c.hcall_ns, 5);
	}
}

static int costly_up(void **state)
{
	struct phyp_profile p;

	small_profile(&p);
	assert_int_equal(phyp_cost_parse("hcall=200000,tce=100000,rdma=300000", &p.cost, NULL), 0);
	*state = world_of(&p);
	return 0;
}

/* A cost is a lower bound of what a call takes: no load on the machine can make a spin shorter. */
static void injected_costs_are_spent_by_the_calls_they_belong_to(void **state)
{
	struct world *w = *state;
	uint64_t hz = phyp_tick_hz(w->g.part), t = vio_ticks(), tce;

	assert_int_equal(phyp_cost(w->g.part)->tce_ns, 100000);
	assert_int_equal(h_get_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), &tce), H_SUCCESS);
	assert_true(vio_ticks() - t >= hz / 5000);
	t = vio_ticks();
	assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), PAGE | 3, 10), H_SUCCESS);
	assert_true(vio_ticks() - t >= hz / 5000 + hz / 1000 - 10);
	t = vio_ticks();
	assert_int_equal(
		h_copy_rdma(w->g.v, 8, w->g.u->liobn, at(&w->g, 0), w->g.u->liobn, at(&w->g, PAGE)),
		H_SUCCESS);
	assert_true(vio_ticks() - t >= hz / 5000 + hz / 10000 * 3 - 10);
}

static int64_t refused(struct phyp_profile *p, const char *word)
{
	struct phyp_machine *m;
	struct vio_err err = {{0}};
	int rc = phyp_local_create(p, &m, &err);

	assert_non_null(strstr(err.msg, word));
	phyp_profile_default(p, 2, 16, 16);
	return rc;
}

static void a_bad_profile_is_refused_with_the_field(void **state)
{
	struct phyp_profile p;

	(void)state;
	phyp_profile_default(&p, 2, 0, 16);
	assert_int_equal(refused(&p, "memory_mib"), -EINVAL);
	p.part[0].memory_mib = 40;
	assert_int_equal(refused(&p, "memory_mib"), -EINVAL);
	p.part[0].memory_mib = 16384;
	assert_int_equal(refused(&p, "lmb_mib"), -EINVAL);
	p.part[1].lmb_mib = 3;
	assert_int_equal(refused(&p, "lmb_mib"), -EINVAL);
	p.adapter[0].page_shift = 13;
	assert_int_equal(refused(&p, "page_shift"), -EINVAL);
	p.adapter[0].window_mib = 1u << 20;
	assert_int_equal(refused(&p, "window_mib"), -EINVAL);
	strcpy(p.adapter[0].client, "nobody");
	assert_int_equal(refused(&p, "nobody"), -EINVAL);
	strcpy(p.adapter[0].client, "vios");
	assert_int_equal(refused(&p, "same partition"), -EINVAL);
	memset(p.part[1].name, 'x', sizeof(p.part[1].name));
	assert_int_equal(refused(&p, "name"), -EINVAL);
	p.n_parts = 0;
	assert_int_equal(refused(&p, "partitions"), -EINVAL);
	strcpy(p.part[2].name, "guest0");
	assert_int_equal(refused(&p, "guest0"), -EINVAL);
}

static void a_machine_holds_15_guests_that_see_only_their_adapters(void **state)
{
	struct phyp_profile p;
	struct phyp_machine *m;
	struct phyp_part *vios, *g;
	struct vio_err err;

	(void)state;
	phyp_profile_default(&p, 15, 16, 16);
	for (unsigned i = 0; i < p.n_parts; i++)
		p.part[i].pages = PHYP_PAGES_4K;
	assert_int_equal(phyp_local_create(&p, &m, &err), 0);
	assert_int_equal(phyp_local_open(m, "vios", &vios, &err), 0);
	assert_int_equal(phyp_local_open(m, "guest14", &g, &err), 0);
	assert_int_equal(phyp_n_units(vios), 15);
	assert_int_equal(phyp_n_units(g), 1);
	assert_string_equal(phyp_unit(vios, 14)->partner, "guest14");
	assert_string_equal(phyp_unit(g, 0)->partner, "vios");
	assert_int_equal(phyp_unit(vios, 14)->remote_liobn, phyp_unit(g, 0)->liobn);
	assert_int_equal(phyp_unit(vios, 14)->remote_window.v, phyp_unit(g, 0)->window.v);
	assert_int_equal(phyp_unit(vios, 14)->remote_window_bytes, 32 * MIB);
	assert_string_equal(phyp_name(g), "guest14");
	assert_int_equal(phyp_mem_size(g), 16 * MIB);
	assert_int_equal(phyp_lmb_size(g), 16 * MIB);
	assert_int_equal(phyp_backing_page(g), 4096);
	phyp_close(g);
	phyp_close(vios);
	phyp_local_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_has_one_counter_and_one_name),
		cmocka_unit_test(codes_translate_to_errno_in_one_place),
		WORLD_TEST(an_unknown_opcode_answers_h_function),
		WORLD_TEST(counters_are_exact_per_vcpu_and_summed_per_partition),
		WORLD_TEST(a_fault_answers_the_chosen_calls_and_no_other),
		WORLD_TEST(a_fault_of_any_call_counts_them_all),
		WORLD_TEST(a_busy_call_is_made_again_whatever_the_hint_and_not_for_ever),
		WORLD_TEST(a_late_unmap_takes_effect_with_the_next_call),
		cmocka_unit_test(a_bad_fault_is_refused_with_what_is_wrong),
		WORLD_TEST(a_trace_line_names_caller_call_arguments_and_answer),
		cmocka_unit_test(costs_parse_as_presets_and_lists),
		cmocka_unit_test(bad_costs_are_refused_and_leave_the_old_ones),
		cmocka_unit_test_setup_teardown(
			injected_costs_are_spent_by_the_calls_they_belong_to, costly_up,
			world_down),
		cmocka_unit_test(a_bad_profile_is_refused_with_the_field),
		cmocka_unit_test(a_machine_holds_15_guests_that_see_only_their_adapters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
