/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RDMA: the order of checks, lengths, crossing pages and LMBs, permissions, who may name which
 * window, death.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "world.h"

#define S_LIOBN (w->s.u->liobn)
#define R_LIOBN (w->s.u->remote_liobn)

static void pattern(uint8_t *p, uint64_t n, unsigned seed)
{
	for (uint64_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 7 + seed + (i >> 8));
}

/* Both ends: window offset = logical address, for the first 20 MiB, but for the CRQ's page. */
static void open_windows(struct world *w)
{
	connect_ends(w);
	map_tces(&w->s, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
	map_tces(&w->g, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
}

static int64_t pull(struct world *w, uint64_t len, uint64_t from, uint64_t to)
{
	return h_copy_rdma(w->s.v, len, R_LIOBN, at(&w->g, from), S_LIOBN, at(&w->s, to));
}

static int64_t push(struct world *w, uint64_t len, uint64_t from, uint64_t to)
{
	return h_copy_rdma(w->s.v, len, S_LIOBN, at(&w->s, from), R_LIOBN, at(&w->g, to));
}

static void each_alias(struct world *w, void (*check)(struct world *w))
{
	for (unsigned kind = PHYP_ALIAS_TRANSIENT; kind <= PHYP_ALIAS_RDMA; kind++) {
		assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, kind, NULL), 0);
		check(w);
	}
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

static void not_connected(struct world *w)
{
	uint64_t regs[PHYP_REGS] = {0};

	assert_int_equal(pull(w, 8, 2 * MIB, 2 * MIB), H_SOURCE_PARM);
	assert_int_equal(push(w, 8, 2 * MIB, 2 * MIB), H_DEST_PARM);
	assert_int_equal(h_read_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 2 * MIB), regs), H_SOURCE_PARM);
	assert_int_equal(h_write_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 2 * MIB), regs), H_DEST_PARM);
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

/* Kill the guest, start it again, and look for the old one's memory in every mode. */
static void reborn(struct world *w)
{
	memset(mem(&w->g, 2 * MIB), 0x77, PAGE);
	assert_int_equal(pull(w, PAGE, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(*mem(&w->s, 2 * MIB), 0x77);
	phyp_local_kill(w->m, "guest0");
	not_connected(w);
	end_close(&w->g);
	end_open(w->m, "guest0", &w->g);
	w->s.crq.next = 0;
	assert_int_equal(h_free_crq(w->s.v, w->s.u->unit), H_SUCCESS);
	connect_ends(w);
	map_tces(&w->g, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
	assert_int_equal(pull(w, PAGE, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(*mem(&w->s, 2 * MIB), 0);
	*mem(&w->s, 2 * MIB) = 0x55;
	assert_int_equal(push(w, 1, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(*mem(&w->g, 2 * MIB), 0x55);
}

static void a_partner_that_died_is_never_reached_in_its_old_memory(void **state)
{
	open_windows(*state);
	each_alias(*state, reborn);
}

/* Mappings of LMBs in this process that are not the two partitions' own. */
static unsigned foreign_mappings(const struct world *w)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from;

		if (!strstr(line, "memfd:lmb-") || sscanf(line, "%lx-", &from) != 1)
			continue;
		n += !vio_range_ok(from - (uintptr_t)w->s.part->mem, 1, w->s.part->mem_bytes) &&
		     !vio_range_ok(from - (uintptr_t)w->g.part->mem, 1, w->g.part->mem_bytes);
	}
	fclose(f);
	return n;
}

static void a_transient_alias_leaves_no_mapping_and_a_standing_one_goes_when_told(void **state)
{
	struct world *w = *state;
	uint64_t regs[PHYP_REGS] = {0};

	open_windows(w);
	assert_int_equal(pull(w, 65536, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(h_read_rdma(w->s.v, 72, R_LIOBN, at(&w->g, 2 * MIB), regs), H_SUCCESS);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_SUCCESS);
	assert_int_equal(foreign_mappings(w), 0);
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_CRQ, NULL), 0);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_SUCCESS);
	assert_int_equal(foreign_mappings(w), 1);
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_RDMA, NULL), 0);
	assert_int_equal(pull(w, 65536, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_true(foreign_mappings(w) >= 2);
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_TRANSIENT, NULL), 0);
	assert_int_equal(foreign_mappings(w), 0);
	assert_int_equal(pull(w, 65536, 2 * MIB, 2 * MIB), H_SUCCESS);
	/* ... and by itself when the partner dies. */
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_RDMA, NULL), 0);
	assert_int_equal(pull(w, 65536, 2 * MIB, 2 * MIB), H_SUCCESS);
	phyp_local_kill(w->m, "guest0");
	assert_int_equal(foreign_mappings(w), 0);
	assert_int_equal(phyp_alias_set(w->s.part, 12345, PHYP_ALIAS_CRQ, NULL), -ENOENT);
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

#define LIVES 30

struct reader {
	struct world *w;
	uint32_t stop;
	uint64_t reads, wrong;
};

/*
 * Reads the guest's word as fast as it can; what comes back must be of the guest's present life or
 * a later one.
 */
static void *read_for_ever(void *arg)
{
	struct reader *r = arg;
	struct world *w = r->w;
	uint64_t regs[PHYP_REGS], last = 0;
	struct phyp_vcpu *v;

	if (phyp_vcpu_create(w->s.part, &v, NULL)) {
		r->wrong++;
		return NULL;
	}
	while (!vio_load_acquire(&r->stop)) {
		struct ioba src = ioba_add(w->s.u->remote_window, 2 * MIB);
		int64_t rc = h_read_rdma(v, 8, R_LIOBN, src, regs);

		if (rc == H_SUCCESS) {
			r->wrong += regs[0] < last || regs[0] == 0;
			last = regs[0];
			vio_counter_add(&r->reads, 1u);
		} else {
			r->wrong += rc != H_SOURCE_PARM && rc != H_PERMISSION;
		}
	}
	phyp_vcpu_destroy(v);
	return NULL;
}

/*
 * A standing alias goes while another thread is in a call that uses it: no fault, no byte of a
 * former life.
 */
static void die_in_flight(struct world *w)
{
	struct reader r = {.w = w};
	pthread_t t;

	connect_ends(w);
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_RDMA, NULL), 0);
	assert_int_equal(pthread_create(&t, NULL, read_for_ever, &r), 0);
	for (uint64_t life = 1; life <= LIVES; life++) {
		uint64_t before = vio_load_relaxed(&r.reads);

		memcpy(mem(&w->g, 2 * MIB), &life, sizeof(life));
		map_tces(&w->g, 2 * MIB, 2 * MIB, PAGE, TCE_READ);
		while (vio_load_relaxed(&r.reads) < before + 100)
			vio_cpu_relax();
		phyp_local_kill(w->m, "guest0");
		end_close(&w->g);
		end_open(w->m, "guest0", &w->g);
		crq_up(&w->g, 1);
	}
	vio_store_release(&r.stop, 1u);
	pthread_join(t, NULL);
	assert_int_equal(r.wrong, 0);
}

static void a_partner_may_die_while_calls_are_in_flight(void **state)
{
	die_in_flight(*state);
}

/* As on a kernel without membarrier(). */
static void a_partner_may_die_while_calls_with_fences_are_in_flight(void **state)
{
	struct world *w = *state;

	w->s.part->asymmetric = false;
	die_in_flight(w);
}

static struct phyp_part *owner_of_the_call;
static volatile sig_atomic_t holes;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	holes++;
	if (!phyp_hole(owner_of_the_call, info->si_addr))
		signal(sig, SIG_DFL);
}

/* A large page that the owner has thrown away, on a machine that has none left. */
static void a_hole_in_the_partners_memory_ends_neither_the_call_nor_the_caller(void **state)
{
	const struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
	struct world *w = *state;
	struct hv_alias *alias;
	int fd = memfd_create("hole", MFD_CLOEXEC);

	connect_ends(w);
	map_tces(&w->g, 2 * MIB, 2 * MIB, PAGE, TCE_READ | TCE_WRITE);
	map_tces(&w->s, 2 * MIB, 2 * MIB, PAGE, TCE_READ | TCE_WRITE);
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_RDMA, NULL), 0);
	alias = w->s.part->peer[w->g.part->idx]->alias;
	assert_ptr_not_equal(mmap(alias->base + 2 * MIB, PAGE, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED, fd, 0),
			     MAP_FAILED);
	owner_of_the_call = w->s.part;
	assert_int_equal(sigaction(SIGBUS, &sa, NULL), 0);
	assert_int_equal(h_copy_rdma(w->s.v, 512, w->s.u->remote_liobn, at(&w->g, 2 * MIB),
				     w->s.u->liobn, at(&w->s, 2 * MIB)),
			 H_SUCCESS);
	assert_int_equal(holes, 1);
	signal(SIGBUS, SIG_DFL);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(copies_of_all_shapes_move_exactly_their_bytes),
		WORLD_TEST(a_hole_in_the_partners_memory_ends_neither_the_call_nor_the_caller),
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
		WORLD_TEST(a_partner_that_died_is_never_reached_in_its_old_memory),
		WORLD_TEST(a_partner_may_die_while_calls_are_in_flight),
		WORLD_TEST(a_partner_may_die_while_calls_with_fences_are_in_flight),
		WORLD_TEST(a_transient_alias_leaves_no_mapping_and_a_standing_one_goes_when_told),
	};
	const struct CMUnitTest huge[] = {
		cmocka_unit_test_setup_teardown(copies_work_on_whatever_pages_the_machine_has,
						huge_up, world_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) + cmocka_run_group_tests(huge, NULL, NULL);
}
