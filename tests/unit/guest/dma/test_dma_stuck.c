/* SPDX-License-Identifier: BSD-3-Clause */
/* When a mapping can't be taken back: nothing is said to be out of reach that is not, and no IOBA is handed out again. */
#include "dma_world.h"

#define DATA (4 * MIB)

static struct dma_world w;
static bool held; /* the server does not let go of windows */
static unsigned windows;
static unsigned refused_at; /* the window with this number is not taken */

static int stuck_add(void *ctx, struct ioba at, struct gla addr, uint64_t len, uint8_t perm,
		     uint16_t *id)
{
	static uint16_t next;

	(void)ctx, (void)at, (void)addr, (void)len, (void)perm;
	if (refused_at && --refused_at == 0)
		return -ENOSPC;
	*id = next++;
	windows++;
	return 0;
}

static int stuck_del(void *ctx, uint16_t id)
{
	(void)ctx, (void)id;
	windows -= !held;
	return held ? -EBUSY : 0;
}

static int up(void **state)
{
	(void)state;
	dma_up(&w, 12, SLICE_PAGES);
	w.cfg.defer_batch = 2;
	held = false;
	windows = refused_at = 0;
	return 0;
}

static int down(void **state)
{
	(void)state;
	dma_down(&w);
	assert_int_equal(windows, 0);
	return 0;
}

/* Four requests, of which a batch of two is put off and can't be done. */
static void more_is_refused(struct vio_dma_map m[4])
{
	struct vio_dma_map other, *list[] = {&m[0], &m[1], &m[2], &m[3]};

	for (unsigned i = 0; i < 4; i++) {
		make_read(&m[i], i, DATA + i * PAGE, 4096);
		assert_int_equal(map1(&w, &m[i]), 1);
	}
	assert_int_equal(w.d->ops->unmap(w.d, list, 4), 2);
	assert_int_equal(w.d->ops->unmap(w.d, list + 2, 2), 0);
	assert_int_equal(mapped(&w), 12);
	assert_int_equal(w.d->tce_live, 12);
	make_read(&other, 9, DATA + 100 * PAGE, 4096);
	assert_int_equal(map1(&w, &other), 1);
	for (unsigned i = 0; i < 4; i++)
		assert_true(other.base.v >= m[i].base.v + 3 * PAGE ||
			    other.base.v + 3 * PAGE <= m[i].base.v);
}

static void
a_batch_that_stays_mapped_is_kept_and_the_next_request_is_not_called_unmapped(void **state)
{
	struct vio_dma_map m[4], *list[] = {&m[2], &m[3]};
	struct vio_err err = {{0}};
	struct phyp_filter *f;
	(void)state;

	dma_open(&w, VIO_MAP_DEFERRED);
	assert_int_equal(phyp_fault_create("H_STUFF_TCE@1=H_HARDWAREx1000", &f, &err), 0);
	phyp_filter_push(w.p.part, f);
	more_is_refused(m);
	phyp_filter_pop(w.p.part);
	phyp_fault_free(f);
	assert_int_equal(w.d->ops->unmap(w.d, list, 2), 2);
	assert_int_equal(mapped(&w), 3);
}

static void a_batch_whose_windows_the_server_keeps_stays_mapped(void **state)
{
	struct vio_dma_map m[4], *list[] = {&m[2], &m[3]};
	(void)state;

	w.cfg.expose = (struct vio_dma_expose){.add = stuck_add, .del = stuck_del};
	dma_open(&w, VIO_MAP_DEFERRED);
	held = true;
	more_is_refused(m);
	held = false;
	assert_int_equal(w.d->ops->unmap(w.d, list, 2), 2);
	assert_int_equal(mapped(&w), 3);
	assert_int_equal(windows, 3);
	w.d->ops->lost(w.d); /* the session ends: the rest is the transport's */
	windows = 0;
}

/* Does a request lie on pages that another one had? */
static bool overlaps(const struct vio_dma_map *a, const struct vio_dma_map *b)
{
	return a->base.v < b->base.v + (uint64_t)b->n_pages * PAGE &&
	       b->base.v < a->base.v + (uint64_t)a->n_pages * PAGE;
}

static void half_a_request_whose_windows_stay(enum vio_mapping level)
{
	struct vio_dma_map half, other;

	w.cfg.expose = (struct vio_dma_expose){.add = stuck_add, .del = stuck_del};
	dma_open(&w, level);
	held = true;
	refused_at = 3;
	make_read(&half, 0, DATA, 4096);
	assert_int_equal(map1(&w, &half), 0);
	assert_int_equal(windows, 2);
	make_read(&other, 1, DATA + PAGE, 4096);
	assert_int_equal(map1(&w, &other), 1);
	assert_false(overlaps(&half, &other));
	held = false;
	unmap1(&w, &other);
	w.d->ops->lost(w.d); /* the session has ended, and the windows with it */
	assert_int_equal(mapped(&w), level == VIO_MAP_DEFERRED ? 3 : 0);
	windows = 0;
}

static void half_a_request_whose_windows_stay_keeps_its_addresses(void **state)
{
	(void)state;
	half_a_request_whose_windows_stay(VIO_MAP_SINGLE_USE);
}

static void half_a_deferred_request_whose_windows_stay_keeps_its_addresses(void **state)
{
	(void)state;
	half_a_request_whose_windows_stay(VIO_MAP_DEFERRED);
}

static void a_range_whose_window_stays_when_it_is_evicted_keeps_its_addresses(void **state)
{
	struct vio_dma_map first, second;
	(void)state;

	w.cfg.expose = (struct vio_dma_expose){.add = stuck_add, .del = stuck_del};
	w.cfg.slice_len = 6 * PAGE;
	dma_open(&w, VIO_MAP_CACHED);
	make_read(&first, 0, DATA, 3 * PAGE);
	assert_int_equal(map1(&w, &first), 1);
	unmap1(&w, &first);
	held = true;
	make_read(&second, 1, DATA + 8 * PAGE, 3 * PAGE); /* of the slice's pages one is free */
	assert_true(map1(&w, &second) <= 0);
	assert_int_equal(tce_of(&w, first.seg[1].at) & ~(PAGE - 1), DATA);
	held = false;
	w.d->ops->lost(w.d);
	assert_int_equal(mapped(&w), 0);
	assert_int_equal(map1(&w, &second), 1);
	unmap1(&w, &second);
	w.d->ops->lost(w.d);
	windows = 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_batch_that_stays_mapped_is_kept_and_the_next_request_is_not_called_unmapped),
		T(a_batch_whose_windows_the_server_keeps_stays_mapped),
		T(half_a_request_whose_windows_stay_keeps_its_addresses),
		T(half_a_deferred_request_whose_windows_stay_keeps_its_addresses),
		T(a_range_whose_window_stays_when_it_is_evicted_keeps_its_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
