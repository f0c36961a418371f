/* SPDX-License-Identifier: BSD-3-Clause */
/* TCE tables: bounds, permissions, multi-TCE calls and what they leave behind when they fail part-way. */
#include "world.h"
#include "vio/cycles.h"

static uint64_t tce_at(struct end *e, uint64_t off)
{
	uint64_t tce = ~0ull;

	assert_int_equal(h_get_tce(e->v, e->u->liobn, at(e, off), &tce), H_SUCCESS);
	return tce;
}

static void a_put_tce_is_read_back_and_windows_start_empty(void **state)
{
	struct world *w = *state;

	assert_int_equal(tce_at(&w->g, 0), 0);
	map_tces(&w->g, PAGE, 3 * PAGE, PAGE, TCE_READ);
	assert_int_equal(tce_at(&w->g, 0), 0);
	assert_int_equal(tce_at(&w->g, PAGE), 3 * PAGE | TCE_READ);
	assert_int_equal(tce_at(&w->g, PAGE + 123), 3 * PAGE | TCE_READ);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, PAGE), 0), H_SUCCESS);
	assert_int_equal(tce_at(&w->g, PAGE), 0);
}

static void addresses_outside_the_window_answer_h_parameter(void **state)
{
	struct world *w = *state;
	const struct ioba bad[] = {{0},
				   {w->g.u->window.v - PAGE},
				   {w->g.u->window.v + w->g.u->window_bytes},
				   {UINT64_MAX},
				   {1ull << 63}};
	uint64_t tce;

	assert_true(w->g.u->window.v != 0);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, bad[i], TCE_READ), H_PARAMETER);
		assert_int_equal(h_get_tce(w->g.v, w->g.u->liobn, bad[i], &tce), H_PARAMETER);
		assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, bad[i], 0, 1), H_PARAMETER);
		assert_int_equal(
			h_put_tce_indirect(w->g.v, w->g.u->liobn, bad[i], (struct gla){0}, 1),
			H_PARAMETER);
	}
	map_tces(&w->g, w->g.u->window_bytes - PAGE, 0, PAGE, TCE_READ);
}

static void a_liobn_that_is_not_the_callers_answers_h_parameter(void **state)
{
	struct world *w = *state;
	const uint32_t bad[] = {
		0, 1, UINT32_MAX, w->s.u->liobn, w->g.u->liobn + 2, w->g.u->liobn + 64};
	uint64_t tce;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		assert_int_equal(h_put_tce(w->g.v, bad[i], at(&w->g, 0), TCE_READ), H_PARAMETER);
		assert_int_equal(h_get_tce(w->g.v, bad[i], at(&w->g, 0), &tce), H_PARAMETER);
	}
	/* The server may name the client's window in RDMA, but not change it. */
	assert_int_equal(h_put_tce(w->s.v, w->s.u->remote_liobn, at(&w->g, 0), TCE_READ),
			 H_PARAMETER);
	assert_int_equal(h_stuff_tce(w->s.v, w->s.u->remote_liobn, at(&w->g, 0), TCE_READ, 1),
			 H_PARAMETER);
}

static void a_page_that_the_partition_does_not_have_answers_h_parameter(void **state)
{
	struct world *w = *state;
	uint64_t size = phyp_mem_size(w->g.part);
	const uint64_t bad[] = {size | TCE_READ, (UINT64_MAX & TCE_PAGE_MASK) | TCE_WRITE,
				(1ull << 40) | TCE_READ, PAGE | 0x4, PAGE | 0x800 | TCE_READ};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++)
		assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), bad[i]),
				 H_PARAMETER);
	assert_int_equal(tce_at(&w->g, 0), 0);
	map_tces(&w->g, 0, size - PAGE, PAGE, TCE_WRITE);
}

/* n entries of the list page at gla: pages 100, 101, ... */
static struct be64 *fill_list(struct end *e, uint64_t gla, unsigned n)
{
	struct be64 *list = (struct be64 *)(void *)mem(e, gla);

	for (unsigned i = 0; i < n; i++)
		list[i] = vio_to_be64((100 + i) * PAGE | TCE_READ | TCE_WRITE);
	return list;
}

static void put_indirect_sets_up_to_512_big_endian_entries(void **state)
{
	struct world *w = *state;

	fill_list(&w->g, PAGE, 512);
	assert_int_equal(h_put_tce_indirect(w->g.v, w->g.u->liobn, at(&w->g, 8 * PAGE),
					    (struct gla){PAGE}, 512),
			 H_SUCCESS);
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(tce_at(&w->g, (8 + i) * PAGE), (100 + i) * PAGE | 3);
	assert_int_equal(tce_at(&w->g, 7 * PAGE), 0);
	assert_int_equal(tce_at(&w->g, (8 + 512) * PAGE), 0);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->tce_updates, 512);
}

static void put_indirect_refuses_long_unaligned_and_foreign_lists(void **state)
{
	struct world *w = *state;
	uint32_t liobn = w->g.u->liobn;
	uint64_t size = phyp_mem_size(w->g.part);

	fill_list(&w->g, PAGE, 512);
	assert_int_equal(h_put_tce_indirect(w->g.v, liobn, at(&w->g, 0), (struct gla){PAGE}, 513),
			 H_PARAMETER);
	assert_int_equal(h_put_tce_indirect(w->g.v, liobn, at(&w->g, 0), (struct gla){PAGE + 8}, 1),
			 H_PARAMETER);
	assert_int_equal(h_put_tce_indirect(w->g.v, liobn, at(&w->g, 0), (struct gla){size}, 1),
			 H_PARAMETER);
	assert_int_equal(
		h_put_tce_indirect(w->g.v, liobn, at(&w->g, 0), (struct gla){UINT64_MAX - 4095}, 1),
		H_PARAMETER);
	assert_int_equal(tce_at(&w->g, 0), 0);
}

static void put_indirect_that_fails_part_way_leaves_the_earlier_entries(void **state)
{
	struct world *w = *state;
	struct be64 *list = fill_list(&w->g, PAGE, 8);
	uint64_t end = w->g.u->window_bytes;

	list[5] = vio_to_be64(phyp_mem_size(w->g.part) | TCE_READ);
	assert_int_equal(
		h_put_tce_indirect(w->g.v, w->g.u->liobn, at(&w->g, 0), (struct gla){PAGE}, 8),
		H_PARAMETER);
	assert_int_equal(tce_at(&w->g, 4 * PAGE), 104 * PAGE | 3);
	assert_int_equal(tce_at(&w->g, 5 * PAGE), 0);
	fill_list(&w->g, PAGE, 8);
	assert_int_equal(h_put_tce_indirect(w->g.v, w->g.u->liobn, at(&w->g, end - 2 * PAGE),
					    (struct gla){PAGE}, 8),
			 H_PARAMETER);
	assert_int_equal(tce_at(&w->g, end - PAGE), 101 * PAGE | 3);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->tce_updates, 5 + 2);
}

static void stuff_sets_a_range_and_stops_at_the_windows_end(void **state)
{
	struct world *w = *state;
	uint64_t end = w->g.u->window_bytes;

	assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 7 * PAGE | TCE_READ, 512),
			 H_SUCCESS);
	assert_int_equal(tce_at(&w->g, 511 * PAGE), 7 * PAGE | TCE_READ);
	assert_int_equal(tce_at(&w->g, 512 * PAGE), 0);
	assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 0, 513), H_PARAMETER);
	assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 0, UINT64_MAX),
			 H_PARAMETER);
	assert_int_equal(tce_at(&w->g, 0), 7 * PAGE | TCE_READ);
	assert_int_equal(
		h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, end - PAGE), PAGE | TCE_READ, 2),
		H_PARAMETER);
	assert_int_equal(tce_at(&w->g, end - PAGE), PAGE | TCE_READ);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->tce_updates, 513);
}

static void a_new_generation_finds_its_window_empty(void **state)
{
	struct world *w = *state;

	map_tces(&w->g, 0, PAGE, PAGE, TCE_READ);
	end_close(&w->g);
	end_open(w->m, "guest0", &w->g);
	assert_int_equal(tce_at(&w->g, 0), 0);
	map_tces(&w->g, 0, PAGE, PAGE, TCE_READ);
	phyp_local_kill(w->m, "guest0");
	end_close(&w->g);
	end_open(w->m, "guest0", &w->g);
	assert_int_equal(tce_at(&w->g, 0), 0);
}

static int large_pages_up(void **state)
{
	struct phyp_profile p;

	small_profile(&p);
	p.adapter[0].page_shift = 16;
	p.exposure = true;
	*state = world_of(&p);
	return 0;
}

static void tces_of_64k_pages_index_and_check_by_their_size(void **state)
{
	struct world *w = *state;
	uint64_t size = phyp_mem_size(w->g.part), tce;

	assert_int_equal(w->g.u->page_shift, 16);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 65536), 3 * 65536 | TCE_READ),
			 H_SUCCESS);
	assert_int_equal(tce_at(&w->g, 65536 + 65535), 3 * 65536 | TCE_READ);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), PAGE | TCE_READ),
			 H_PARAMETER);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), size | TCE_READ),
			 H_PARAMETER);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), (size - 65536) | TCE_READ),
			 H_SUCCESS);
	/* Exposure counts bytes, whatever the page: two valid entries of 16 times 4 KiB. */
	assert_int_equal(phyp_vcpu_counters(w->g.v)->tce_pages, 32);
	assert_int_equal(h_get_tce(w->g.v, w->g.u->liobn, at(&w->g, w->g.u->window_bytes), &tce),
			 H_PARAMETER);
}

/* ------------------------------------------------------------------------ exposure ---- */

static int counting_up(void **state)
{
	struct phyp_profile p;

	small_profile(&p);
	p.exposure = true;
	*state = world_of(&p);
	return 0;
}

static struct phyp_counters sum_of(struct end *e)
{
	struct phyp_counters c;

	phyp_part_counters(e->part, &c);
	return c;
}

/* The sum over known events lies between the ticks read around each call. */
struct bounds {
	uint64_t lo, hi;
};

static void put_between(struct end *e, uint64_t off, uint64_t tce, uint64_t delta, struct bounds *b)
{
	uint64_t before = vio_ticks(), after;

	assert_int_equal(h_put_tce(e->v, e->u->liobn, at(e, off), tce), H_SUCCESS);
	after = vio_ticks();
	b->lo += delta * (delta >> 63 ? after : before);
	b->hi += delta * (delta >> 63 ? before : after);
}

static void the_exposure_of_a_known_sequence_is_its_integral(void **state)
{
	struct world *w = *state;
	struct end *g = &w->g;
	struct bounds all = {0, 0}, write = {0, 0};
	uint64_t t0 = vio_ticks(), t1, area, warea;
	struct phyp_counters c;

	put_between(g, 0, PAGE | TCE_READ, 1, &all);
	put_between(g, PAGE, 2 * PAGE | TCE_READ | TCE_WRITE, 1, &all);
	c = sum_of(g);
	assert_int_equal(c.tce_pages, 2);
	assert_int_equal(c.tce_pages_write, 1);
	write = (struct bounds){c.tce_page_ticks_write, c.tce_page_ticks_write};
	/* A valid entry by another valid one: only the permission to write comes, then goes. */
	put_between(g, 0, 3 * PAGE | TCE_WRITE, 1, &write);
	put_between(g, 0, 3 * PAGE | TCE_READ, UINT64_MAX, &write);
	put_between(g, 0, 0, UINT64_MAX, &all);
	t1 = vio_ticks();
	c = sum_of(g);
	assert_int_equal(c.tce_pages, 1);
	assert_int_equal(c.tce_pages_write, 1);
	assert_in_range(c.tce_page_ticks - all.lo, 0, all.hi - all.lo);
	assert_in_range(c.tce_page_ticks_write - write.lo, 0, write.hi - write.lo);
	area = phyp_exposure(0, 0, t0, c.tce_pages, c.tce_page_ticks, t1);
	warea = phyp_exposure(0, 0, t0, c.tce_pages_write, c.tce_page_ticks_write, t1);
	assert_in_range(area, 1, 2 * (t1 - t0));
	assert_in_range(warea, 1, area);
	/* Nothing changes: the integral goes on by exactly what is valid, times the time. */
	assert_int_equal(phyp_exposure(c.tce_pages, c.tce_page_ticks, t1, c.tce_pages,
				       c.tce_page_ticks, t1 + 1000),
			 1000);
}

static void a_call_that_changes_no_validity_leaves_the_exposure_alone(void **state)
{
	struct world *w = *state;
	struct phyp_counters a, z;

	map_tces(&w->g, 0, 0, 8 * PAGE, TCE_READ);
	a = sum_of(&w->g);
	assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 9 * PAGE | TCE_READ, 8),
			 H_SUCCESS);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 64 * PAGE), 0), H_SUCCESS);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 0), 1ull << 60 | TCE_READ),
			 H_PARAMETER);
	z = sum_of(&w->g);
	assert_int_equal(z.tce_pages, 8);
	assert_int_equal(z.tce_page_ticks, a.tce_page_ticks);
	assert_int_equal(z.tce_page_ticks_write, a.tce_page_ticks_write);
}

static void a_call_that_fails_part_way_exposes_what_it_has_set(void **state)
{
	struct world *w = *state;
	struct be64 *list = fill_list(&w->g, PAGE, 8);

	list[5] = vio_to_be64(phyp_mem_size(w->g.part) | TCE_READ);
	assert_int_equal(
		h_put_tce_indirect(w->g.v, w->g.u->liobn, at(&w->g, 0), (struct gla){PAGE}, 8),
		H_PARAMETER);
	assert_int_equal(sum_of(&w->g).tce_pages, 5);
	assert_int_equal(sum_of(&w->g).tce_pages_write, 5);
	assert_int_equal(h_stuff_tce(w->g.v, w->g.u->liobn, at(&w->g, w->g.u->window_bytes - PAGE),
				     PAGE | TCE_READ, 2),
			 H_PARAMETER);
	assert_int_equal(sum_of(&w->g).tce_pages, 6);
}

static void what_one_vcpu_maps_another_may_unmap(void **state)
{
	struct world *w = *state;
	struct phyp_vcpu *other;
	struct vio_err err;

	assert_int_equal(phyp_vcpu_create(w->g.part, &other, &err), 0);
	map_tces(&w->g, 0, 0, 4 * PAGE, TCE_WRITE);
	assert_int_equal(h_stuff_tce(other, w->g.u->liobn, at(&w->g, 0), 0, 4), H_SUCCESS);
	assert_int_equal(phyp_vcpu_counters(w->g.v)->tce_pages, 4);
	assert_int_equal(sum_of(&w->g).tce_pages, 0);
	assert_int_equal(sum_of(&w->g).tce_pages_write, 0);
	phyp_vcpu_destroy(other);
}

static void a_partition_that_has_gone_exposes_nothing(void **state)
{
	struct world *w = *state;
	struct phyp_part_stats st[PHYP_MAX_PARTS];
	struct vio_err err;

	for (int kill = 0; kill < 2; kill++) {
		unsigned n = PHYP_MAX_PARTS;

		map_tces(&w->g, 0, 0, 4 * PAGE, TCE_WRITE);
		if (kill)
			phyp_local_kill(w->m, "guest0");
		end_close(&w->g);
		assert_int_equal(phyp_machine_stats(w->s.part, st, &n, &err), 0);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(st[i].c.tce_pages | st[i].c.tce_page_ticks |
						 st[i].c.tce_pages_write,
					 0);
		end_open(w->m, "guest0", &w->g);
		assert_int_equal(sum_of(&w->g).tce_pages, 0);
	}
}

static void a_machine_that_does_not_count_exposure_says_so(void **state)
{
	struct world *w = *state;

	assert_false(phyp_counts_exposure(w->g.part));
	map_tces(&w->g, 0, 0, 4 * PAGE, TCE_WRITE);
	assert_int_equal(sum_of(&w->g).tce_pages, 0);
}

#define EXPOSURE_TEST(f) cmocka_unit_test_setup_teardown(f, counting_up, world_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(a_put_tce_is_read_back_and_windows_start_empty),
		WORLD_TEST(addresses_outside_the_window_answer_h_parameter),
		WORLD_TEST(a_liobn_that_is_not_the_callers_answers_h_parameter),
		WORLD_TEST(a_page_that_the_partition_does_not_have_answers_h_parameter),
		WORLD_TEST(put_indirect_sets_up_to_512_big_endian_entries),
		WORLD_TEST(put_indirect_refuses_long_unaligned_and_foreign_lists),
		WORLD_TEST(put_indirect_that_fails_part_way_leaves_the_earlier_entries),
		WORLD_TEST(stuff_sets_a_range_and_stops_at_the_windows_end),
		WORLD_TEST(a_new_generation_finds_its_window_empty),
		cmocka_unit_test_setup_teardown(tces_of_64k_pages_index_and_check_by_their_size,
						large_pages_up, world_down),
		EXPOSURE_TEST(the_exposure_of_a_known_sequence_is_its_integral),
		EXPOSURE_TEST(a_call_that_changes_no_validity_leaves_the_exposure_alone),
		EXPOSURE_TEST(a_call_that_fails_part_way_exposes_what_it_has_set),
		EXPOSURE_TEST(what_one_vcpu_maps_another_may_unmap),
		WORLD_TEST(a_machine_that_does_not_count_exposure_says_so),
		EXPOSURE_TEST(a_partition_that_has_gone_exposes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
