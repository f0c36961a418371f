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

static struct vio_dma_map range(unsigned page, unsigned n, bool dev_writes)
{
	struct vio_dma_map m = {0};

	seg_add(&m, DATA + page * PAGE, (uint32_t)(n * PAGE), dev_writes);
	return m;
}

/* Map and unmap; whether it was there already. */
static bool touch(unsigned page, unsigned n)
{
	struct vio_dma_map m = range(page, n, true);
	uint64_t misses = w.d->misses;

	assert_int_equal(map1(&w, &m), 1);
	expect_request(&w, &m, false);
	unmap1(&w, &m);
	return w.d->misses == misses;
}

static void a_repeated_request_makes_no_call(void **state)
{
	struct vio_dma_map m;
	uint64_t updates;

	(void)state;
	dma_open(&w, VIO_MAP_CACHED);
	make_read(&m, 1, DATA, 65536);
	assert_int_equal(map1(&w, &m), 1);
	expect_request(&w, &m, false);
	unmap1(&w, &m);
	updates = w.p.c->tce_updates;
	assert_int_equal(
		updates,
		1 + 16 + 1); /* header, data, and the header's page once more for the status */
	assert_int_equal(w.d->tce_live, 17);
	for (unsigned i = 0; i < 100; i++) {
		make_read(&m, i % 32, DATA, 65536); /* other headers of the same page */
		assert_int_equal(map1(&w, &m), 1);
		expect_request(&w, &m, false);
		unmap1(&w, &m);
	}
	assert_int_equal(w.p.c->tce_updates, updates);
	assert_int_equal(w.d->hits, 300);
	assert_int_equal(w.d->misses, 3);
}

static void a_page_that_is_read_and_written_gets_the_union_once(void **state)
{
	struct vio_dma_map r, wr;

	(void)state;
	dma_open(&w, VIO_MAP_CACHED);
	r = range(0, 4, false);
	assert_int_equal(map1(&w, &r), 1);
	assert_int_equal(tce_of(&w, r.seg[0].at) & TCE_PERM, TCE_READ);
	wr = range(0, 4, true); /* while the first is in flight */
	assert_int_equal(map1(&w, &wr), 1);
	assert_int_equal(wr.seg[0].at.v, r.seg[0].at.v);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(tce_of(&w, ioba_add(r.seg[0].at, i * PAGE)) & TCE_PERM,
				 TCE_READ | TCE_WRITE);
	assert_int_equal(w.d->tce_live, 4);
	unmap1(&w, &r);
	unmap1(&w, &wr);
	assert_true(touch(0, 4));
	assert_int_equal(w.p.c->tce_updates, 8);
}

static void ranges_that_overlap_are_apart(void **state)
{
	struct vio_dma_map a, b, c;

	(void)state;
	dma_open(&w, VIO_MAP_CACHED);
	a = range(0, 4, true);
	b = range(1, 2, true);
	c = range(0, 1, true);
	assert_int_equal(map1(&w, &a), 1);
	assert_int_equal(map1(&w, &b), 1);
	assert_int_equal(map1(&w, &c), 1);
	assert_int_equal(w.d->tce_live, 7);
	expect_request(&w, &a, true);
	expect_request(&w, &b, true);
	expect_request(&w, &c, true);
	unmap1(&w, &a);
	unmap1(&w, &b);
	unmap1(&w, &c);
	assert_true(touch(0, 4) && touch(1, 2) && touch(0, 1));
}

static void the_quota_is_kept_and_the_longest_unused_goes_first(void **state)
{
	(void)state;
	w.cfg.quota_pages = 8;
	dma_open(&w, VIO_MAP_CACHED);
	for (unsigned i = 0; i < 4; i++)
		assert_false(touch(10 * i, 2));
	assert_int_equal(w.d->tce_live, 8);
	assert_true(touch(0, 2)); /* now 10 is the oldest */
	assert_false(touch(100, 2));
	assert_int_equal(w.d->tce_live, 8);
	assert_true(touch(0, 2) && touch(20, 2) && touch(30, 2) && touch(100, 2));
	assert_false(touch(10, 2)); /* it had gone; 0 is the oldest and goes */
	assert_false(touch(0, 2));
	/* One of 8 pages takes the place of all. */
	assert_false(touch(200, 8));
	assert_int_equal(w.d->tce_live, 8);
	assert_int_equal(mapped(&w), 8);
	assert_false(touch(0, 2));
}

static void what_is_in_flight_is_never_evicted(void **state)
{
	struct vio_dma_map a, b, c, again;

	(void)state;
	w.cfg.quota_pages = 4;
	dma_open(&w, VIO_MAP_CACHED);
	a = range(0, 2, true);
	again = range(0, 2, true);
	b = range(10, 2, true);
	c = range(20, 1, true);
	assert_int_equal(map1(&w, &a), 1); /* the oldest */
	assert_int_equal(map1(&w, &again), 1);
	assert_int_equal(map1(&w, &b), 1);
	assert_int_equal(map1(&w, &c), 0); /* quota; later */
	unmap1(&w, &a);
	assert_int_equal(map1(&w, &c), 0); /* still used by the other */
	expect_request(&w, &again, true);
	unmap1(&w, &b);
	assert_int_equal(map1(&w, &c), 1); /* b went */
	expect_request(&w, &again, true);
	assert_int_equal(w.d->tce_live, 3);
	unmap1(&w, &again);
	unmap1(&w, &c);
	assert_true(touch(0, 2));
	assert_false(touch(10, 2));
}

static void a_request_beyond_the_quota_is_refused_only_when_nothing_could_help(void **state)
{
	struct vio_dma_map big, two = {0}, one;

	(void)state;
	w.cfg.quota_pages = 4;
	dma_open(&w, VIO_MAP_CACHED);
	big = range(0, 5, true);
	assert_int_equal(map1(&w, &big), -EFAULT);
	/* Each segment fits, both together don't. */
	seg_add(&two, DATA, 3 * PAGE, true);
	seg_add(&two, DATA + MIB, 2 * PAGE, true);
	assert_int_equal(map1(&w, &two), -EFAULT);
	one = range(50, 1, true);
	assert_int_equal(map1(&w, &one), 1);
	two.seg[1].len = (uint32_t)PAGE;
	assert_int_equal(map1(&w, &two), 0);
	expect_request(&w, &one, true);
	unmap1(&w, &one);
	assert_int_equal(map1(&w, &two), 1);
	expect_request(&w, &two, true);
	unmap1(&w, &two);
	assert_true(w.d->tce_live <= 4);
}

static void a_fragmented_slice_evicts_until_a_range_fits(void **state)
{
	struct vio_dma_map held, big;

	(void)state;
	w.cfg.quota_pages = 100000;
	dma_open(&w, VIO_MAP_CACHED);
	for (unsigned i = 0; i < 100; i++)
		touch(i, 1);
	held = range(1000, 1, true);
	assert_int_equal(map1(&w, &held), 1);
	for (unsigned i = 100; i < SLICE_PAGES - 1; i++)
		touch(i, 1);
	assert_int_equal(w.d->tce_live, SLICE_PAGES);
	big = range(2000, 300, true);
	assert_int_equal(map1(&w, &big), 1);
	expect_request(&w, &big, true);
	expect_request(&w, &held, true);
	unmap1(&w, &big);
	unmap1(&w, &held);
}

static void losing_the_server_keeps_the_mappings(void **state)
{
	(void)state;
	dma_open(&w, VIO_MAP_CACHED);
	touch(0, 2);
	w.d->ops->lost(w.d);
	assert_true(touch(0, 2)); /* not in place: the server held nothing */
}

#define T(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_repeated_request_makes_no_call),
		T(a_page_that_is_read_and_written_gets_the_union_once),
		T(ranges_that_overlap_are_apart),
		T(the_quota_is_kept_and_the_longest_unused_goes_first),
		T(what_is_in_flight_is_never_evicted),
		T(a_request_beyond_the_quota_is_refused_only_when_nothing_could_help),
		T(a_fragmented_slice_evicts_until_a_range_fits),
		T(losing_the_server_keeps_the_mappings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
