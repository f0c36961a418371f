/* SPDX-License-Identifier: BSD-3-Clause */
/* What arms are to have alike besides the trace: short requests, small pools, borders of memory; and how their exposure differs. */
#include "tests/unit/parity/pair.h"

/* ------------------------------------------------------------------- short requests ---- */

static void any_named_arm_gives_the_same_for_requests_shorter_than_a_sector(void **state)
{
	struct outcome *want = reference(true), *got = malloc(sizeof(*got));
	unsigned good = 0;

	(void)state;
	for (unsigned k = 0; k < TRACE_LEN; k++)
		good += want->result[k] == 0 && want->sum[k] != 0;
	assert_true(good > 100);
	for (unsigned i = 1; vio_arm_named(i); i++) {
		run_arm(vio_arm_named(i)->name, true, got);
		compare(vio_arm_named(i)->name, want, got);
	}
	free(want);
	free(got);
}

static void a_short_request_moves_the_first_bytes_of_its_sector_and_no_others(void **state)
{
	struct vio_err err;

	(void)state;
	for (unsigned a = 0; vio_arm_named(a); a++) {
		struct pair p;
		struct gla buf;
		uint8_t *va;

		pair_up(&p, vio_arm_named(a)->name, SHORT_DISK, 0);
		assert_int_equal(vio_blk_get_info(p.b)->block_size, 64);
		assert_int_equal(vio_blk_alloc(p.b, 1024, &buf, &err), 0);
		va = phyp_mem(p.gp, buf, 1024);
		memset(va, 'a', 1024);
		one(&p, VIRTIO_BLK_T_OUT, 6, buf, 1024, 0);
		memset(va, 'b', 1024);
		one(&p, VIRTIO_BLK_T_OUT, 7, buf, 64, 0);
		memset(va, 0, 1024);
		one(&p, VIRTIO_BLK_T_IN, 7, buf, 128, 0);
		for (unsigned i = 0; i < 1024; i++)
			assert_int_equal(va[i], i < 64 ? 'b' : i < 128 ? 'a' : 0);
		one(&p, VIRTIO_BLK_T_IN, 6, buf, 1024, 0);
		for (unsigned i = 0; i < 1024; i++)
			assert_int_equal(va[i], i < 512 || i >= 576 ? 'a' : 'b');
		/* The last sector's beginning is the disk's; past its end nothing is, however short. */
		one(&p, VIRTIO_BLK_T_IN, DISK_BYTES / 512 - 1, buf, 64, 0);
		one(&p, VIRTIO_BLK_T_IN, DISK_BYTES / 512, buf, 64, -EINVAL);
		one(&p, VIRTIO_BLK_T_IN, 0, buf, 65, -EINVAL);
		one(&p, VIRTIO_BLK_T_WRITE_ZEROES, 0, buf, 64, -EINVAL);
		pair_down(&p);
	}
}

static void a_disk_without_short_refuses_short_requests(void **state)
{
	struct vio_err err;
	struct pair p;
	struct gla buf;

	(void)state;
	pair_up(&p, "zero-copy", "memory,size=4M", 0);
	assert_int_equal(vio_blk_alloc(p.b, 512, &buf, &err), 0);
	one(&p, VIRTIO_BLK_T_IN, 0, buf, 64, -EINVAL);
	pair_down(&p);
}

/* -------------------------------------------------------------------------- exposure ---- */

struct reach {
	uint64_t before, after; /* pages under valid TCEs, nothing in flight */
	uint64_t mean_x1000;    /* between the two, thousandths of a page */
	bool constant;          /* the integral is exactly before * time */
};

/* 300 reads of 4 KiB, one at a time. */
static struct reach reach_of(const char *arm)
{
	struct phyp_counters a, z;
	struct vio_err err;
	struct reach r;
	struct gla buf;
	struct pair p;
	uint64_t t0, t1, area;

	pair_up(&p, arm, "memory,size=4M", 0);
	assert_int_equal(vio_blk_alloc(p.b, 4096, &buf, &err), 0);
	phyp_part_counters(p.gp, &a);
	t0 = vio_ticks();
	for (unsigned i = 0; i < 300; i++)
		one(&p, VIRTIO_BLK_T_IN, i * 8, buf, 4096, 0);
	t1 = vio_ticks();
	phyp_part_counters(p.gp, &z);
	area = phyp_exposure(a.tce_pages, a.tce_page_ticks, t0, z.tce_pages, z.tce_page_ticks, t1);
	r = (struct reach){.before = a.tce_pages,
			   .after = z.tce_pages,
			   .mean_x1000 = vio_muldiv(area, 1000, t1 - t0),
			   .constant = area == a.tce_pages * (t1 - t0)};
	assert_true(a.tce_pages_write <= a.tce_pages);
	assert_true(a.tce_pages * 4096 >= vio_blk_get_info(p.b)->ring_bytes);
	if (vio_blk_get_info(p.b)->arm.mapping != VIO_MAP_POOL)
		assert_int_equal(a.tce_pages * 4096, vio_blk_get_info(p.b)->ring_bytes);
	pair_down(&p);
	return r;
}

static void each_mapping_lifetime_shows_its_exposure(void **state)
{
	struct reach r;

	(void)state;
	/*
	 * Header, data and status page, from the mapping to the unmapping: between none and all of
	 * the time.
	 */
	r = reach_of("copy");
	assert_int_equal(r.after, r.before);
	assert_false(r.constant);
	assert_in_range(r.mean_x1000, r.before * 1000, (r.before + 3) * 1000);
	/* Unmapped in batches of 64 requests: more stays, and no more than a batch and what is in flight. */
	r = reach_of("copy,mapping=deferred");
	assert_in_range(r.after, r.before + 1,
			r.before + 65 * 3); /* 300 is no multiple of a batch */
	assert_in_range(r.mean_x1000, r.before * 1000, (r.before + 65 * 3) * 1000);
	/* Mapped once, and kept: the three pages. */
	r = reach_of("copy,mapping=cached");
	assert_in_range(r.after, r.before + 1, r.before + 3);
	assert_in_range(r.mean_x1000, r.before * 1000, r.after * 1000);
	/* The pool stands all the while. */
	r = reach_of("copy,mapping=pool");
	assert_int_equal(r.after, r.before);
	assert_true(r.constant);
	r = reach_of("zero-copy");
	assert_int_equal(r.after, r.before);
	assert_true(r.constant);
}

/* ------------------------------------------------------------------------ small pools ---- */

static void a_small_pool_takes_fewer_requests_and_loses_none(void **state)
{
	struct vio_blk_req r[DEPTH], *in[DEPTH], *done;
	struct vio_err err;
	struct pair p;
	struct gla buf;
	unsigned taken = 0, back = 0;

	(void)state;
	/* Room for three requests of the largest length. */
	pair_up(&p, "premapped", "memory,size=4M", 3 * MAX_LEN + 4096);
	assert_int_equal(vio_blk_get_info(p.b)->pool_bytes, 3 * MAX_LEN);
	assert_int_equal(vio_blk_alloc(p.b, 4096, &buf, &err), 0);
	for (unsigned i = 0; i < DEPTH; i++) {
		r[i] = (struct vio_blk_req){
			.type = VIRTIO_BLK_T_IN, .sector = i * 8, .buf = buf, .len = 4096};
		in[i] = &r[i];
	}
	assert_int_equal(vio_blk_submit(p.b, 0, in, DEPTH), 3);
	taken = 3;
	while (back < DEPTH) {
		wait_one(p.b, &done);
		assert_int_equal(done->result, 0);
		back++;
		taken += vio_blk_submit(p.b, 0, in + taken, DEPTH - taken);
		assert_true(taken - back <= 3);
	}
	assert_int_equal(taken, DEPTH);
	pair_down(&p);
}

static void a_small_pool_in_place_is_what_buffers_are_taken_from(void **state)
{
	struct vio_err err;
	struct pair p;
	struct gla buf;
	unsigned n = 0;

	(void)state;
	pair_up(&p, "zero-copy", "memory,size=4M", 16384);
	assert_int_equal(vio_blk_get_info(p.b)->pool_bytes, 16384);
	assert_int_equal(vio_blk_get_info(p.b)->alloc_bytes, 16384);
	while (n < 100 && vio_blk_alloc(p.b, 4096, &buf, &err) == 0)
		n++;
	assert_in_range(n, 4, 6); /* its alignment may leave room for more, never for fewer */
	pair_down(&p);
}

static void buffers_on_both_sides_of_an_lmb_border_work_in_every_arm(void **state)
{
	struct vio_err err;

	(void)state;
	for (unsigned a = 0; vio_arm_named(a); a++) {
		struct pair p;
		struct gla first, next;

		pair_up(&p, vio_arm_named(a)->name, "memory,size=4M", 20u << 20);
		assert_int_equal(vio_blk_alloc(p.b, MAX_LEN, &first, &err), 0);
		memset(phyp_mem(p.gp, first, MAX_LEN), 'x', MAX_LEN);
		one(&p, VIRTIO_BLK_T_OUT, 0, first, MAX_LEN, 0);
		/*
		 * Every later buffer gets it back, in whichever LMB it is; one of them lies across
		 * the border.
		 */
		while (vio_blk_alloc(p.b, MAX_LEN, &next, &err) == 0) {
			uint8_t *va = phyp_mem(p.gp, next, MAX_LEN);

			one(&p, VIRTIO_BLK_T_IN, 0, next, MAX_LEN, 0);
			assert_memory_equal(va, phyp_mem(p.gp, first, MAX_LEN), MAX_LEN);
		}
		pair_down(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_named_arm_gives_the_same_for_requests_shorter_than_a_sector),
		cmocka_unit_test(a_short_request_moves_the_first_bytes_of_its_sector_and_no_others),
		cmocka_unit_test(a_disk_without_short_refuses_short_requests),
		cmocka_unit_test(each_mapping_lifetime_shows_its_exposure),
		cmocka_unit_test(a_small_pool_takes_fewer_requests_and_loses_none),
		cmocka_unit_test(buffers_on_both_sides_of_an_lmb_border_work_in_every_arm),
		cmocka_unit_test(a_small_pool_in_place_is_what_buffers_are_taken_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
