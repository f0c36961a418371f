/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RDMA: the order of checks, lengths, crossing pages and LMBs, permissions, who may name which
 * window, death.
 */
#include "tests/unit/phyp/rdma_test.h"

static void pattern(uint8_t *p, uint64_t n, unsigned seed)
{
	for (uint64_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 7 + seed + (i >> 8));
}

static void copies_both_ways(struct world *w)
{
	/* Lengths and places around pages, the largest call, and an LMB's end (16 MiB). */
	const struct {
		uint64_t len, guest, server;
	} t[] = {{1, 2 * MIB + 5, 2 * MIB + 9},
		 {4096, 3 * MIB, 3 * MIB},
		 {4096, 3 * MIB + 1, 3 * MIB + 4095},
		 {H_COPY_RDMA_MAX, 4 * MIB + 17, 4 * MIB + 4000},
		 {65536, 16 * MIB - 100, 5 * MIB},
		 {H_COPY_RDMA_MAX, 16 * MIB - 8192 - 1, 16 * MIB - 3}};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		uint64_t before = phyp_vcpu_counters(w->s.v)->rdma_bytes;

		pattern(mem(&w->g, t[i].guest), t[i].len, i);
		memset(mem(&w->s, t[i].server - 1), 0xee, t[i].len + 2);
		assert_int_equal(pull(w, t[i].len, t[i].guest, t[i].server), H_SUCCESS);
		assert_memory_equal(mem(&w->s, t[i].server), mem(&w->g, t[i].guest), t[i].len);
		assert_int_equal(*mem(&w->s, t[i].server - 1), 0xee);
		assert_int_equal(*mem(&w->s, t[i].server + t[i].len), 0xee);
		pattern(mem(&w->s, t[i].server), t[i].len, i + 99);
		memset(mem(&w->g, t[i].guest - 1), 0xdd, t[i].len + 2);
		assert_int_equal(push(w, t[i].len, t[i].server, t[i].guest), H_SUCCESS);
		assert_memory_equal(mem(&w->g, t[i].guest), mem(&w->s, t[i].server), t[i].len);
		assert_int_equal(*mem(&w->g, t[i].guest - 1), 0xdd);
		assert_int_equal(*mem(&w->g, t[i].guest + t[i].len), 0xdd);
		assert_int_equal(phyp_vcpu_counters(w->s.v)->rdma_bytes - before, 2 * t[i].len);
	}
}

static void copies_of_all_shapes_move_exactly_their_bytes(void **state)
{
	open_windows(*state);
	each_alias(*state, copies_both_ways);
}

static void scattered(struct world *w)
{
	static uint8_t want[H_COPY_RDMA_MAX];

	/* Guest pages in reverse order, every second server page swapped with its neighbour. */
	for (uint64_t i = 0; i < 33; i++) {
		map_tces(&w->g, 24 * MIB + i * PAGE, 10 * MIB - i * PAGE, PAGE, TCE_READ);
		map_tces(&w->s, 24 * MIB + i * PAGE, 12 * MIB + (i ^ 1) * PAGE, PAGE, TCE_WRITE);
	}
	for (uint64_t i = 0; i < 33; i++)
		pattern(mem(&w->g, 10 * MIB - i * PAGE), PAGE, (unsigned)i);
	for (uint64_t i = 0; i < H_COPY_RDMA_MAX; i++)
		want[i] = *mem(&w->g, 10 * MIB - (i + 77) / PAGE * PAGE + (i + 77) % PAGE);
	assert_int_equal(pull(w, H_COPY_RDMA_MAX, 24 * MIB + 77, 24 * MIB + 3000), H_SUCCESS);
	for (uint64_t i = 0; i < H_COPY_RDMA_MAX; i++) {
		uint64_t o = i + 3000;

		assert_int_equal(*mem(&w->s, 12 * MIB + (o / PAGE ^ 1) * PAGE + o % PAGE), want[i]);
	}
}

static void copies_follow_pages_that_are_not_contiguous(void **state)
{
	open_windows(*state);
	each_alias(*state, scattered);
}

static void lengths_are_checked_first(void **state)
{
	struct world *w = *state;
	uint64_t regs[PHYP_REGS] = {0};

	/* Nothing is connected and no liobn is right: still the length decides. */
	assert_int_equal(h_copy_rdma(w->s.v, 0, 0, at(&w->s, 0), 0, at(&w->s, 0)), H_PARAMETER);
	assert_int_equal(h_copy_rdma(w->s.v, H_COPY_RDMA_MAX + 1, 0, at(&w->s, 0), 0, at(&w->s, 0)),
			 H_PARAMETER);
	assert_int_equal(h_copy_rdma(w->s.v, UINT64_MAX, 0, at(&w->s, 0), 0, at(&w->s, 0)),
			 H_PARAMETER);
	assert_int_equal(h_read_rdma(w->s.v, H_READ_RDMA_MAX + 1, 0, at(&w->s, 0), regs),
			 H_PARAMETER);
	assert_int_equal(h_read_rdma(w->s.v, 0, 0, at(&w->s, 0), regs), H_PARAMETER);
	assert_int_equal(h_write_rdma(w->s.v, H_WRITE_RDMA_MAX + 1, 0, at(&w->s, 0), regs),
			 H_PARAMETER);
	assert_int_equal(h_write_rdma(w->s.v, 0, 0, at(&w->s, 0), regs), H_PARAMETER);
}

static void
windows_and_ranges_are_checked_before_permissions_and_source_before_destination(void **state)
{
	struct world *w = *state;
	uint64_t regs[PHYP_REGS] = {0}, end = w->g.u->window_bytes;

	connect_ends(w);
	/* Window offset 0 is not mapped: H_PERMISSION, once everything before is right. */
	assert_int_equal(h_copy_rdma(w->s.v, 8, 1, at(&w->g, 0), 2, at(&w->s, 0)), H_SOURCE_PARM);
	assert_int_equal(h_copy_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 0), 2, at(&w->s, 0)),
			 H_DEST_PARM);
	assert_int_equal(pull(w, 8, end - 4, 0), H_SOURCE_PARM);
	assert_int_equal(pull(w, 8, 0, w->s.u->window_bytes - 4), H_DEST_PARM);
	assert_int_equal(h_copy_rdma(w->s.v, 8, R_LIOBN, (struct ioba){UINT64_MAX - 3}, S_LIOBN,
				     at(&w->s, 0)),
			 H_SOURCE_PARM);
	assert_int_equal(h_copy_rdma(w->s.v, 8, R_LIOBN, (struct ioba){0}, S_LIOBN, at(&w->s, 0)),
			 H_SOURCE_PARM);
	assert_int_equal(pull(w, 8, 0, 0), H_PERMISSION);
	assert_int_equal(h_read_rdma(w->s.v, 8, 1, at(&w->g, 0), regs), H_SOURCE_PARM);
	assert_int_equal(h_read_rdma(w->s.v, 8, R_LIOBN, at(&w->g, end - 7), regs), H_SOURCE_PARM);
	assert_int_equal(h_read_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 0), regs), H_PERMISSION);
	assert_int_equal(h_write_rdma(w->s.v, 8, 1, at(&w->g, 0), regs), H_DEST_PARM);
	assert_int_equal(h_write_rdma(w->s.v, 8, R_LIOBN, at(&w->g, end - 7), regs), H_DEST_PARM);
	assert_int_equal(h_write_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 0), regs), H_PERMISSION);
}

static void a_source_must_be_readable_and_a_destination_writable_by_the_device(void **state)
{
	struct world *w = *state;
	uint64_t regs[PHYP_REGS] = {0};

	open_windows(w);
	map_tces(&w->g, 30 * MIB, 2 * MIB, PAGE, TCE_READ);
	map_tces(&w->g, 31 * MIB, 2 * MIB, PAGE, TCE_WRITE);
	assert_int_equal(pull(w, 8, 30 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(push(w, 8, 2 * MIB, 30 * MIB), H_PERMISSION);
	assert_int_equal(pull(w, 8, 31 * MIB, 2 * MIB), H_PERMISSION);
	assert_int_equal(push(w, 8, 2 * MIB, 31 * MIB), H_SUCCESS);
	assert_int_equal(h_read_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 31 * MIB), regs), H_PERMISSION);
	assert_int_equal(h_write_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 30 * MIB), regs), H_PERMISSION);
	assert_int_equal(h_write_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 31 * MIB), regs), H_SUCCESS);
}

static void a_copy_with_a_forbidden_page_in_it_moves_nothing(void **state)
{
	struct world *w = *state;

	open_windows(w);
	memset(mem(&w->s, 4 * MIB), 0x11, 3 * PAGE);
	memset(mem(&w->g, 4 * MIB), 0x22, 3 * PAGE);
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, 4 * MIB + 2 * PAGE), 0),
			 H_SUCCESS);
	assert_int_equal(pull(w, 2 * PAGE + 1, 4 * MIB, 4 * MIB), H_PERMISSION);
	assert_int_equal(*mem(&w->s, 4 * MIB), 0x11);
	assert_int_equal(pull(w, 2 * PAGE, 4 * MIB, 4 * MIB), H_SUCCESS);
	assert_int_equal(*mem(&w->s, 4 * MIB), 0x22);
}

static void register_calls(struct world *w)
{
	uint64_t regs[PHYP_REGS], data[6];
	uint8_t *g = mem(&w->g, 6 * MIB);

	for (uint64_t len = 1; len <= H_READ_RDMA_MAX; len++) {
		for (uint64_t off = PAGE - 40; off <= PAGE; off += 5) {
			uint8_t want[H_READ_RDMA_MAX + 8] = {0};

			pattern(g + off, H_READ_RDMA_MAX, (unsigned)len);
			memset(regs, 0x5a, sizeof(regs));
			assert_int_equal(
				h_read_rdma(w->s.v, len, R_LIOBN, at(&w->g, 6 * MIB + off), regs),
				H_SUCCESS);
			memcpy(want, g + off, len);
			assert_memory_equal(regs, want, (len + 7) / 8 * 8);
			/* Registers that the call does not define keep their values. */
			for (uint64_t i = (len + 7) / 8; i < PHYP_REGS; i++)
				assert_int_equal(regs[i] & 0xff, 0x5a);
		}
	}
	for (uint64_t len = 1; len <= H_WRITE_RDMA_MAX; len++) {
		for (uint64_t off = PAGE - 40; off <= PAGE; off += 5) {
			pattern((uint8_t *)data, sizeof(data), (unsigned)(len + off));
			memset(g + off - 1, 0xcc, H_WRITE_RDMA_MAX + 2);
			assert_int_equal(
				h_write_rdma(w->s.v, len, R_LIOBN, at(&w->g, 6 * MIB + off), data),
				H_SUCCESS);
			assert_memory_equal(g + off, data, len);
			assert_int_equal(g[off - 1], 0xcc);
			assert_int_equal(g[off + len], 0xcc);
		}
	}
}

static void register_calls_move_any_length_and_fill_the_last_register_with_zero(void **state)
{
	struct world *w = *state;

	open_windows(w);
	each_alias(w, register_calls);
}

static void a_client_may_not_name_its_servers_window(void **state)
{
	struct world *w = *state;
	uint64_t regs[PHYP_REGS] = {0};

	open_windows(w);
	assert_int_equal(w->g.u->remote_liobn, 0);
	assert_int_equal(h_read_rdma(w->g.v, 8, S_LIOBN, at(&w->s, 2 * MIB), regs), H_SOURCE_PARM);
	assert_int_equal(h_write_rdma(w->g.v, 8, S_LIOBN, at(&w->s, 2 * MIB), regs), H_DEST_PARM);
	assert_int_equal(h_copy_rdma(w->g.v, 8, S_LIOBN, at(&w->s, 2 * MIB), w->g.u->liobn,
				     at(&w->g, 2 * MIB)),
			 H_SOURCE_PARM);
	assert_int_equal(phyp_alias_set(w->g.part, w->g.u->unit, PHYP_ALIAS_RDMA, NULL), -EPERM);
	/* Its own it may. */
	assert_int_equal(h_copy_rdma(w->g.v, 8, w->g.u->liobn, at(&w->g, 2 * MIB), w->g.u->liobn,
				     at(&w->g, 3 * MIB)),
			 H_SUCCESS);
}

static void overlapping_ranges_of_one_window_move_like_memmove(void **state)
{
	struct world *w = *state;
	uint8_t want[3000];

	open_windows(w);
	pattern(mem(&w->s, 5 * MIB), 4000, 1);
	memcpy(want, mem(&w->s, 5 * MIB), sizeof(want));
	assert_int_equal(h_copy_rdma(w->s.v, 3000, S_LIOBN, at(&w->s, 5 * MIB), S_LIOBN,
				     at(&w->s, 5 * MIB + 7)),
			 H_SUCCESS);
	assert_memory_equal(mem(&w->s, 5 * MIB + 7), want, sizeof(want));
}

static void rdma_needs_both_queues_registered(void **state)
{
	struct world *w = *state;

	map_tces(&w->s, 2 * MIB, 2 * MIB, MIB, TCE_READ | TCE_WRITE);
	map_tces(&w->g, 2 * MIB, 2 * MIB, MIB, TCE_READ | TCE_WRITE);
	not_connected(w);
	assert_int_equal(crq_up(&w->g, 1), H_CLOSED);
	not_connected(w);
	assert_int_equal(crq_up(&w->s, 1), H_SUCCESS);
	assert_int_equal(pull(w, 8, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	not_connected(w);
}

static int huge_up(void **state)
{
	struct phyp_profile p;

	phyp_profile_default(&p, 1, 32, 32); /* pages: auto */
	p.adapter[0].page_shift = 16;
	*state = world_of(&p);
	return 0;
}

/* With 2 MiB pages where the machine has some, with plain ones otherwise: the same bytes. */
static void copies_work_on_whatever_pages_the_machine_has(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	map_tces(&w->s, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
	map_tces(&w->g, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
	each_alias(w, copies_both_ways);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(copies_of_all_shapes_move_exactly_their_bytes),
		WORLD_TEST(copies_follow_pages_that_are_not_contiguous),
		WORLD_TEST(lengths_are_checked_first),
		WORLD_TEST(
			windows_and_ranges_are_checked_before_permissions_and_source_before_destination),
		WORLD_TEST(a_source_must_be_readable_and_a_destination_writable_by_the_device),
		WORLD_TEST(a_copy_with_a_forbidden_page_in_it_moves_nothing),
		WORLD_TEST(register_calls_move_any_length_and_fill_the_last_register_with_zero),
		WORLD_TEST(a_client_may_not_name_its_servers_window),
		WORLD_TEST(overlapping_ranges_of_one_window_move_like_memmove),
		WORLD_TEST(rdma_needs_both_queues_registered),
	};
	const struct CMUnitTest huge[] = {
		cmocka_unit_test_setup_teardown(copies_work_on_whatever_pages_the_machine_has,
						huge_up, world_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) + cmocka_run_group_tests(huge, NULL, NULL);
}
