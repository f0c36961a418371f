/* SPDX-License-Identifier: BSD-3-Clause */
#include "dma_world.h"

#define DATA (4 * MIB)

static struct dma_world w;

static int up(void **state)
{
	(void)state;
	dma_up(&w, 12, SLICE_PAGES);
	return 0;
}

static int down(void **state)
{
	(void)state;
	dma_down(&w);
	return 0;
}

static void the_levels_are_those_of_the_arms(void **state)
{
	(void)state;
	for (unsigned i = 0; i < VIO_N_MAPPING; i++)
		assert_string_equal(vio_dma_level((enum vio_mapping)i)->name,
				    vio_mapping_name((enum vio_mapping)i));
	assert_null(vio_dma_level(VIO_N_MAPPING));
}

static void single_use_maps_a_4k_read_with_one_call_and_unmaps_it_with_one(void **state)
{
	struct vio_dma_map m;

	(void)state;
	dma_open(&w, VIO_MAP_SINGLE_USE);
	make_read(&m, 5, DATA, 4096);
	assert_int_equal(map1(&w, &m), 1);
	assert_int_equal(calls(&w.p, H_PUT_TCE_INDIRECT), 1);
	assert_int_equal(w.p.c->tce_updates, 3);
	expect_request(&w, &m,
		       true); /* header and status share a page of memory, but no permission */
	assert_int_equal(mapped(&w), 3);
	assert_int_equal(w.d->tce_live, 3);
	unmap1(&w, &m);
	assert_int_equal(calls(&w.p, H_STUFF_TCE), 1);
	assert_int_equal(calls(&w.p, H_PUT_TCE_INDIRECT), 1);
	assert_int_equal(calls(&w.p, H_PUT_TCE), 0);
	assert_int_equal(w.p.c->tce_updates, 6);
	assert_int_equal(w.d->tce_live, 0);
	assert_int_equal(mapped(&w), 0);
}

static void single_use_maps_one_page_with_the_plain_call(void **state)
{
	struct vio_dma_map m = {0};

	(void)state;
	dma_open(&w, VIO_MAP_SINGLE_USE);
	seg_add(&m, DATA + 4000, 96, true);
	assert_int_equal(map1(&w, &m), 1);
	expect_request(&w, &m, true);
	unmap1(&w, &m);
	assert_int_equal(calls(&w.p, H_PUT_TCE), 2);
	assert_int_equal(calls(&w.p, H_PUT_TCE_INDIRECT) + calls(&w.p, H_STUFF_TCE), 0);
}

static void a_segment_keeps_its_offset_and_gets_every_page_that_it_touches(void **state)
{
	struct vio_dma_map m;

	(void)state;
	dma_open(&w, VIO_MAP_SINGLE_USE);
	make_read(&m, 0, DATA + 2048, 4096); /* two pages */
	assert_int_equal(map1(&w, &m), 1);
	assert_int_equal(w.d->tce_live, 4);
	expect_request(&w, &m, true);
	unmap1(&w, &m);
	make_read(&m, 0, DATA + 4095, 4098); /* three */
	assert_int_equal(map1(&w, &m), 1);
	assert_int_equal(w.d->tce_live, 5);
	expect_request(&w, &m, true);
	unmap1(&w, &m);
}

static void more_than_512_pages_take_more_calls_and_no_more(void **state)
{
	struct vio_dma_map m = {0};

	(void)state;
	dma_down(&w);
	dma_up(&w, 12, 2048);
	dma_open(&w, VIO_MAP_SINGLE_USE);
	seg_add(&m, DATA, 16, false);
	for (unsigned i = 0; i < 4; i++)
		seg_add(&m, DATA + i * MIB, MIB, true);
	assert_int_equal(map1(&w, &m), 1);
	assert_int_equal(calls(&w.p, H_PUT_TCE_INDIRECT), 2); /* 1025 pages: 512 + 512 + 1 */
	assert_int_equal(calls(&w.p, H_PUT_TCE), 1);
	expect_request(&w, &m, true);
	unmap1(&w, &m);
	assert_int_equal(calls(&w.p, H_STUFF_TCE), 2);
	assert_int_equal(calls(&w.p, H_PUT_TCE), 2);
	assert_int_equal(w.p.c->tce_updates, 2 * 1025);
}

static void large_tce_pages_are_mapped_by_their_own_size(void **state)
{
	struct vio_dma_map m;

	(void)state;
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		dma_down(&w);
		dma_up(&w, 16, 64);
		dma_open(&w, (enum vio_mapping)level);
		make_read(&m, 1, DATA + 60000, 131072);
		assert_int_equal(map1(&w, &m), 1);
		assert_int_equal(w.d->tce_live, level == VIO_MAP_CACHED
							? 4
							: 5); /* cached: header and status share */
		expect_request(&w, &m, level != VIO_MAP_CACHED);
		unmap1(&w, &m);
	}
}

static void requests_that_can_never_be_mapped_answer_efault_and_map_nothing(void **state)
{
	const uint64_t size = phyp_mem_size(w.p.part);

	(void)state;
	w.cfg.pool_addr.v = DATA;
	w.cfg.pool_len = MIB;
	w.cfg.pool_at.v = w.cfg.slice.v + w.cfg.slice_len;
	for (int level = 0; level < VIO_N_MAPPING; level++) {
		struct vio_dma_map good = {0}, bad[7], *list[2];

		dma_open(&w, (enum vio_mapping)level);
		memset(bad, 0, sizeof(bad));
		seg_add(&bad[0], size - 4096, 4097, true);
		seg_add(&bad[1], UINT64_MAX - 10, 20, true);
		seg_add(&bad[2], size, 1, true);
		seg_add(&bad[3], DATA, 0, true);
		seg_add(&bad[4], DATA, (SLICE_PAGES + 1) * 4096, true); /* larger than the slice */
		bad[6].n_seg = VIO_DMA_MAX_SEG + 1;                     /* bad[5]: none */
		seg_add(&good, DATA, 4096, false);
		list[0] = &good;
		for (unsigned i = 0; i < 7; i++) {
			assert_int_equal(map1(&w, &bad[i]), -EFAULT);
			assert_int_equal(w.d->tce_live, 0);
			list[1] = &bad[i];
			assert_int_equal(w.d->ops->map(w.d, list, 2),
					 1); /* those before it are mapped */
			unmap1(&w, &good);
			w.d->ops->destroy(w.d);
			dma_open(&w, (enum vio_mapping)level);
		}
		w.d->ops->destroy(w.d);
		w.d = NULL;
	}
}

static void a_full_slice_takes_fewer_and_goes_on_after_an_unmap(void **state)
{
	static struct vio_dma_map m[200];
	struct vio_dma_map *list[200];

	(void)state;
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		int n;

		dma_open(&w, (enum vio_mapping)level);
		for (unsigned i = 0; i < 200; i++) {
			memset(&m[i], 0, sizeof(m[i]));
			seg_add(&m[i], DATA + i * 4 * PAGE, 4 * PAGE, true);
			list[i] = &m[i];
		}
		n = w.d->ops->map(w.d, list, 200);
		assert_int_equal(n, SLICE_PAGES / 4);
		assert_int_equal(w.d->ops->map(w.d, &list[n], 1), 0);
		unmap1(&w, &m[7]);
		assert_int_equal(w.d->ops->map(w.d, &list[n], 2), 1);
		for (int i = 0; i <= n; i++)
			if (i != 7)
				expect_request(&w, &m[i], true);
		list[7] = &m[n];
		w.d->ops->unmap(w.d, list, (unsigned)n);
		w.d->ops->destroy(w.d);
		w.d = NULL;
	}
}

static void deferred_unmaps_a_batch_of_neighbours_with_one_call(void **state)
{
	static struct vio_dma_map m[64];

	(void)state;
	dma_open(&w, VIO_MAP_DEFERRED);
	for (unsigned i = 0; i < 64; i++) {
		make_read(&m[i], i, DATA + i * PAGE, 4096);
		assert_int_equal(map1(&w, &m[i]), 1);
		expect_request(&w, &m[i], true);
	}
	/* Done in another order than mapped: still one run of 192 pages. */
	for (unsigned i = 0; i < 63; i++)
		unmap1(&w, &m[(i * 37) % 64]);
	assert_int_equal(calls(&w.p, H_STUFF_TCE), 0);
	assert_int_equal(w.d->tce_live, 192);
	assert_int_equal(mapped(&w), 192);
	unmap1(&w, &m[(63 * 37) % 64]);
	assert_int_equal(calls(&w.p, H_STUFF_TCE), 1);
	assert_int_equal(w.p.c->tce_updates, 2 * 192);
	assert_int_equal(w.d->tce_live, 0);
	assert_int_equal(mapped(&w), 0);
}

static void deferred_uses_no_ioba_again_before_its_flush(void **state)
{
	bool used[SLICE_PAGES] = {false};
	struct vio_dma_map m = {0};

	(void)state;
	w.cfg.defer_batch = 100000; /* refused */
	struct vio_err err;
	assert_int_equal(vio_dma_deferred.create(&w.cfg, &w.d, &err), -EINVAL);
	w.cfg.defer_batch = SLICE_PAGES + 10;
	dma_open(&w, VIO_MAP_DEFERRED);
	seg_add(&m, DATA, 4096, true);
	for (unsigned i = 0; i < SLICE_PAGES; i++) {
		uint64_t page;

		assert_int_equal(map1(&w, &m), 1);
		page = (m.base.v - w.cfg.slice.v) / PAGE;
		assert_false(used[page]);
		used[page] = true;
		unmap1(&w, &m);
	}
	assert_int_equal(calls(&w.p, H_STUFF_TCE), 0);
	assert_int_equal(w.d->tce_live, SLICE_PAGES);
	/* The slice is used up: the flush comes early, as one call for its 512 pages. */
	assert_int_equal(map1(&w, &m), 1);
	assert_int_equal(calls(&w.p, H_STUFF_TCE), 1);
	assert_int_equal(w.d->tce_live, 1);
	expect_request(&w, &m, true);
	unmap1(&w, &m);
}

static void deferred_does_not_join_what_is_not_adjacent(void **state)
{
	struct vio_dma_map m[5];

	(void)state;
	w.cfg.defer_batch = 3;
	dma_open(&w, VIO_MAP_DEFERRED);
	for (unsigned i = 0; i < 5; i++) {
		make_read(&m[i], i, DATA + i * PAGE, 4096);
		assert_int_equal(map1(&w, &m[i]), 1);
	}
	unmap1(&w, &m[4]);
	unmap1(&w, &m[0]);
	unmap1(&w, &m[3]);
	assert_int_equal(calls(&w.p, H_STUFF_TCE), 2); /* 0; 3 and 4 */
	expect_request(&w, &m[1], true);
	expect_request(&w, &m[2], true);
	assert_int_equal(mapped(&w), 6);
	unmap1(&w, &m[1]);
	unmap1(&w, &m[2]);
}

static void pool_is_arithmetic_inside_the_pool_and_refuses_outside(void **state)
{
	struct vio_dma_map m;
	struct vio_err err;

	(void)state;
	assert_int_equal(vio_dma_pool.create(&w.cfg, &w.d, &err), -EINVAL); /* no pool */
	w.d = NULL;
	w.cfg.pool_addr.v = MIB;
	w.cfg.pool_len = 8 * MIB;
	w.cfg.pool_at.v = 0x70000000;
	dma_open(&w, VIO_MAP_POOL);
	make_read(&m, 3, DATA + 123, 65536);
	assert_int_equal(map1(&w, &m), 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(m.seg[i].at.v, m.seg[i].addr.v - MIB + 0x70000000);
	unmap1(&w, &m);
	make_read(&m, 0, 9 * MIB - 512, 512);
	assert_int_equal(map1(&w, &m), 1);
	make_read(&m, 0, 9 * MIB - 512, 513);
	assert_int_equal(map1(&w, &m), -EFAULT);
	make_read(&m, 0, MIB - 1, 16);
	assert_int_equal(map1(&w, &m), -EFAULT);
	make_read(&m, 0, UINT64_MAX, UINT32_MAX);
	assert_int_equal(map1(&w, &m), -EFAULT);
	assert_int_equal(w.p.c->tce_updates, 0);
	assert_int_equal(calls(&w.p, H_PUT_TCE) + calls(&w.p, H_PUT_TCE_INDIRECT) +
				 calls(&w.p, H_STUFF_TCE),
			 0);
}

static void what_is_in_flight_always_translates_and_the_count_is_exact(void **state)
{
	static struct vio_dma_map m[32];

	(void)state;
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		bool live[32] = {false};
		unsigned seed = (unsigned)level, done = 0;

		w.cfg.defer_batch = 16;
		w.cfg.quota_pages = 300;
		dma_open(&w, (enum vio_mapping)level);
		for (unsigned round = 0; round < 3000; round++) {
			unsigned i = (unsigned)rand_r(&seed) % 32;

			if (live[i]) {
				expect_request(&w, &m[i], level != VIO_MAP_CACHED);
				unmap1(&w, &m[i]);
			} else {
				make_read(&m[i], i, DATA + ((unsigned)rand_r(&seed) % 64) * 1024,
					  1 + (unsigned)rand_r(&seed) % 30000);
				m[i].seg[1].dev_writes = rand_r(&seed) % 2;
				if (map1(&w, &m[i]) != 1)
					continue;
				expect_request(&w, &m[i], level != VIO_MAP_CACHED);
				done++;
			}
			live[i] = !live[i];
			if (round % 100 == 0) {
				assert_int_equal(mapped(&w), w.d->tce_live);
				for (unsigned k = 0; k < 32; k++)
					if (live[k])
						expect_request(&w, &m[k], level != VIO_MAP_CACHED);
			}
		}
		assert_true(done > 500);
		for (unsigned i = 0; i < 32; i++)
			if (live[i])
				unmap1(&w, &m[i]);
		assert_int_equal(mapped(&w), w.d->tce_live);
		w.d->ops->destroy(w.d);
		w.d = NULL;
		assert_int_equal(mapped(&w), 0);
	}
}

static void destroy_unmaps_also_what_was_never_unmapped(void **state)
{
	struct vio_dma_map m[3];

	(void)state;
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		dma_open(&w, (enum vio_mapping)level);
		for (unsigned i = 0; i < 3; i++) {
			make_read(&m[i], i, DATA + i * MIB, 4096);
			assert_int_equal(map1(&w, &m[i]), 1);
		}
		unmap1(&w, &m[1]);
		w.d->ops->destroy(w.d);
		w.d = NULL;
		assert_int_equal(mapped(&w), 0);
	}
}

static void a_slice_or_list_that_is_none_is_refused(void **state)
{
	struct vio_err err;

	(void)state;
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		struct vio_dma_cfg c = w.cfg;

		c.slice_len = 4095;
		assert_int_equal(vio_dma_level((enum vio_mapping)level)->create(&c, &w.d, &err),
				 -EINVAL);
		c = w.cfg;
		c.slice.v += 1;
		assert_int_equal(vio_dma_level((enum vio_mapping)level)->create(&c, &w.d, &err),
				 -EINVAL);
		c = w.cfg;
		c.list.v = LIST + 8;
		assert_int_equal(vio_dma_level((enum vio_mapping)level)->create(&c, &w.d, &err),
				 -EINVAL);
		c.list.v = phyp_mem_size(w.p.part);
		assert_int_equal(vio_dma_level((enum vio_mapping)level)->create(&c, &w.d, &err),
				 -EINVAL);
	}
	w.d = NULL;
}

#define T(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_levels_are_those_of_the_arms),
		T(single_use_maps_a_4k_read_with_one_call_and_unmaps_it_with_one),
		T(single_use_maps_one_page_with_the_plain_call),
		T(a_segment_keeps_its_offset_and_gets_every_page_that_it_touches),
		T(more_than_512_pages_take_more_calls_and_no_more),
		T(large_tce_pages_are_mapped_by_their_own_size),
		T(requests_that_can_never_be_mapped_answer_efault_and_map_nothing),
		T(a_full_slice_takes_fewer_and_goes_on_after_an_unmap),
		T(deferred_unmaps_a_batch_of_neighbours_with_one_call),
		T(deferred_uses_no_ioba_again_before_its_flush),
		T(deferred_does_not_join_what_is_not_adjacent),
		T(pool_is_arithmetic_inside_the_pool_and_refuses_outside),
		T(what_is_in_flight_always_translates_and_the_count_is_exact),
		T(destroy_unmaps_also_what_was_never_unmapped),
		T(a_slice_or_list_that_is_none_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
