/* SPDX-License-Identifier: BSD-3-Clause */
/* What of a partner's memory this process has mapped for the hypervisor's calls, and how much is done of it at once. */
#include <stdio.h>
#include <sys/resource.h>

#include "world.h"

#define S_LIOBN (w->s.u->liobn)
#define R_LIOBN (w->s.u->remote_liobn)
#define STEP    (512ull << 10)

static void open_windows(struct world *w)
{
	connect_ends(w);
	map_tces(&w->s, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
	map_tces(&w->g, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
}

static int64_t pull(struct world *w, uint64_t len, uint64_t from)
{
	return h_copy_rdma(w->s.v, len, R_LIOBN, at(&w->g, from), S_LIOBN, at(&w->s, 2 * MIB));
}

/* Bytes, and in how many places, of LMBs in this process that are not the two partitions' own. */
static uint64_t foreign_bytes(const struct world *w, unsigned *places)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	uint64_t bytes = 0;

	assert_non_null(f);
	*places = 0;
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;

		if (!strstr(line, "memfd:lmb-") || sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		if (vio_range_ok(from - (uintptr_t)w->s.part->mem, 1, w->s.part->mem_bytes) ||
		    vio_range_ok(from - (uintptr_t)w->g.part->mem, 1, w->g.part->mem_bytes))
			continue;
		bytes += to - from;
		(*places)++;
	}
	fclose(f);
	return bytes;
}

static unsigned foreign_mappings(const struct world *w)
{
	unsigned places;

	foreign_bytes(w, &places);
	return places;
}

static void set(struct world *w, enum phyp_alias kind)
{
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, kind, NULL), 0);
}

static uint64_t step(struct world *w, uint64_t bytes)
{
	return phyp_alias_step(w->s.part, w->s.u->unit, bytes);
}

static void a_transient_alias_leaves_no_mapping_and_a_standing_one_goes_when_told(void **state)
{
	struct world *w = *state;
	uint64_t regs[PHYP_REGS] = {0};

	open_windows(w);
	assert_int_equal(pull(w, 65536, 2 * MIB), H_SUCCESS);
	assert_int_equal(h_read_rdma(w->s.v, 72, R_LIOBN, at(&w->g, 2 * MIB), regs), H_SUCCESS);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_SUCCESS);
	assert_int_equal(foreign_mappings(w), 0);
	set(w, PHYP_ALIAS_CRQ);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_SUCCESS);
	assert_int_equal(foreign_mappings(w), 1);
	set(w, PHYP_ALIAS_RDMA);
	assert_int_equal(pull(w, 65536, 2 * MIB), H_SUCCESS);
	assert_true(foreign_mappings(w) >= 2);
	set(w, PHYP_ALIAS_TRANSIENT);
	while (step(w, STEP) > 0)
		;
	assert_int_equal(foreign_mappings(w), 0);
	assert_int_equal(pull(w, 65536, 2 * MIB), H_SUCCESS);
	/* ... and by itself when the partner dies. */
	set(w, PHYP_ALIAS_RDMA);
	assert_int_equal(pull(w, 65536, 2 * MIB), H_SUCCESS);
	phyp_local_kill(w->m, "guest0");
	assert_int_equal(foreign_mappings(w), 0);
	assert_int_equal(phyp_alias_set(w->s.part, 12345, PHYP_ALIAS_CRQ, NULL), -ENOENT);
	assert_true(phyp_alias_step(w->s.part, 12345, STEP) == 0);
}

static uint64_t faults(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return (uint64_t)u.ru_minflt;
}

/* The pages are there before the first call, and none of the steps did more than was asked for. */
static void the_pages_of_a_standing_alias_come_a_step_at_a_time(void **state)
{
	struct world *w = *state;
	uint64_t left = w->g.part->mem_bytes, next, before, first, all;

	open_windows(w);
	assert_int_equal(pull(w, 4096, 2 * MIB), H_SUCCESS); /* what the server's end needs */
	before = faults();
	set(w, PHYP_ALIAS_RDMA);
	first = faults() - before;
	/* To make it is no work of the memory's size. */
	assert_true(first < w->g.part->mem_bytes / 4096 / 8);
	do {
		next = step(w, STEP);
		assert_true(left - next <= STEP);
		assert_true(next < left);
		left = next;
	} while (left > 0);
	before = faults();
	for (uint64_t from = 2 * MIB; from < 18 * MIB; from += 65536)
		assert_int_equal(pull(w, 65536, from), H_SUCCESS);
	all = 16 * MIB / 4096;
#ifndef __SANITIZE_ADDRESS__ /* whose shadow of these pages faults instead */
	assert_true(faults() - before < all / 8);
#else
	(void)all;
#endif
	assert_true(step(w, STEP) == 0);
}

static void an_alias_that_ends_is_unmapped_a_step_at_a_time_and_used_by_nobody(void **state)
{
	struct world *w = *state;
	uint64_t left, next;
	unsigned places;

	open_windows(w);
	set(w, PHYP_ALIAS_RDMA);
	assert_int_equal(pull(w, 65536, 2 * MIB), H_SUCCESS);
	left = foreign_bytes(w, &places);
	assert_true(left >= w->g.part->mem_bytes);
	set(w, PHYP_ALIAS_TRANSIENT);
	assert_null(w->s.u ? w->s.part->peer[w->g.part->idx]->alias : NULL);
	next = foreign_bytes(w, &places);
	assert_true(left - next <= STEP); /* its queue's pages, perhaps */
	for (left = next; left > 0; left = next) {
		uint64_t said = step(w, STEP);

		next = foreign_bytes(w, &places);
		assert_true(said == next);
		assert_true(left - next <= STEP && next < left);
		/* Meanwhile calls map what they need, for themselves. */
		assert_int_equal(pull(w, 4096, 2 * MIB), H_SUCCESS);
	}
}

/* A session after the other, faster than the steps: nothing is forgotten. */
static void aliases_that_end_before_the_last_one_is_gone_all_go(void **state)
{
	struct world *w = *state;
	unsigned places;

	open_windows(w);
	for (unsigned i = 0; i < 3; i++) {
		set(w, PHYP_ALIAS_RDMA);
		step(w, STEP);
		set(w, PHYP_ALIAS_TRANSIENT);
		step(w, STEP);
	}
	assert_true(foreign_bytes(w, &places) > w->g.part->mem_bytes);
	while (step(w, STEP) > 0)
		;
	assert_int_equal(foreign_bytes(w, &places), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(a_transient_alias_leaves_no_mapping_and_a_standing_one_goes_when_told),
		WORLD_TEST(the_pages_of_a_standing_alias_come_a_step_at_a_time),
		WORLD_TEST(an_alias_that_ends_is_unmapped_a_step_at_a_time_and_used_by_nobody),
		WORLD_TEST(aliases_that_end_before_the_last_one_is_gone_all_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
