/* SPDX-License-Identifier: BSD-3-Clause */
/* The mapping levels with in-place payload (windows per mapping), and with a hypervisor that says no. */
#include "dma_world.h"

#define DATA     (4 * MIB)
#define MAX_WINS 256

/* The other end of expose: a table of windows that checks what it is told against the TCEs. */
struct recorder {
	struct win {
		bool live;
		struct ioba at;
		uint64_t len;
		uint8_t perm;
	} win[MAX_WINS];
	unsigned adds, dels, live, room;
	unsigned fail_at; /* this add (1 = first) fails */
	int fail_rc;
	bool gone; /* the server is gone: nothing may be asked of it */
};

static struct dma_world w;
static struct recorder rec;

static void check_tces(struct ioba at, uint64_t addr, uint64_t len, uint8_t perm)
{
	for (uint64_t off = 0; off < len; off += PAGE)
		assert_int_equal(tce_of(&w, ioba_add(at, off)), (addr + off) | perm);
}

static int add(void *ctx, struct ioba at, struct gla addr, uint64_t len, uint8_t perm, uint16_t *id)
{
	struct recorder *r = ctx;

	r->adds++;
	assert_false(r->gone);
	assert_int_equal(at.v % PAGE, 0);
	assert_int_equal(addr.v % phyp_backing_page(w.p.part), 0);
	assert_int_equal(len % phyp_backing_page(w.p.part), 0);
	check_tces(at, addr.v, len, perm); /* mapped before it is exposed */
	if (r->adds == r->fail_at)
		return r->fail_rc;
	if (r->room && r->live >= r->room)
		return -ENOSPC;
	for (*id = 0; r->win[*id].live; (*id)++)
		assert_true(*id < MAX_WINS - 1);
	for (unsigned i = 0; i < MAX_WINS; i++)
		if (r->win[i].live)
			assert_true(at.v >= r->win[i].at.v + r->win[i].len ||
				    at.v + len <= r->win[i].at.v);
	r->win[*id] = (struct win){true, at, len, perm};
	r->live++;
	return 0;
}

static int del(void *ctx, uint16_t id)
{
	struct recorder *r = ctx;

	assert_false(r->gone);
	assert_true(r->win[id].live);
	/* Withdrawn before it is unmapped. */
	assert_int_equal(tce_of(&w, r->win[id].at) & TCE_PERM, r->win[id].perm);
	r->win[id].live = false;
	r->dels++;
	r->live--;
	return 0;
}

static int up(void **state)
{
	(void)state;
	dma_up(&w, 12, SLICE_PAGES);
	memset(&rec, 0, sizeof(rec));
	w.cfg.expose = (struct vio_dma_expose){.add = add, .del = del, .ctx = &rec};
	return 0;
}

static int down(void **state)
{
	(void)state;
	dma_down(&w);
	assert_int_equal(rec.live, 0);
	return 0;
}

static void expect_exposed(const struct vio_dma_map *m)
{
	for (unsigned i = 0; i < m->n_seg; i++) {
		const struct vio_dma_seg *s = &m->seg[i];
		bool found = false;

		for (unsigned k = 0; k < MAX_WINS && !found; k++) {
			const struct win *x = &rec.win[k];

			found = x->live && s->at.v >= x->at.v &&
				vio_range_ok(s->at.v - x->at.v, s->len, x->len) &&
				x->perm == (s->dev_writes ? TCE_WRITE : TCE_READ);
		}
		assert_true(found);
	}
}

static void single_use_exposes_each_segment_with_its_permission_and_withdraws_first(void **state)
{
	struct vio_dma_map m;

	(void)state;
	dma_open(&w, VIO_MAP_SINGLE_USE);
	make_read(&m, 0, DATA + 100, 8192);
	assert_int_equal(map1(&w, &m), 1);
	assert_int_equal(rec.live, 3);
	expect_exposed(&m);
	expect_request(&w, &m, true);
	unmap1(&w, &m);
	assert_int_equal(rec.live, 0);
	assert_int_equal(mapped(&w), 0);
}

static void deferred_withdraws_at_the_flush(void **state)
{
	struct vio_dma_map m[4];

	(void)state;
	w.cfg.defer_batch = 4;
	dma_open(&w, VIO_MAP_DEFERRED);
	for (unsigned i = 0; i < 4; i++) {
		make_read(&m[i], i, DATA + i * MIB, 4096);
		assert_int_equal(map1(&w, &m[i]), 1);
		expect_exposed(&m[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		unmap1(&w, &m[i]);
	assert_int_equal(rec.live, 12);
	unmap1(&w, &m[3]);
	assert_int_equal(rec.live, 0);
	assert_int_equal(mapped(&w), 0);
}

static void cached_exposes_once_and_never_more_than_is_needed(void **state)
{
	struct vio_dma_map m;

	(void)state;
	dma_open(&w, VIO_MAP_CACHED);
	for (unsigned i = 0; i < 50; i++) {
		make_read(&m, i % 32, DATA, 65536);
		assert_int_equal(map1(&w, &m), 1);
		expect_exposed(&m);
		expect_request(&w, &m, true); /* header and status are apart: no union */
		unmap1(&w, &m);
	}
	assert_int_equal(rec.adds, 3);
	assert_int_equal(rec.live, 3);
}

static void cached_withdraws_what_it_evicts(void **state)
{
	struct vio_dma_map m = {0};

	(void)state;
	w.cfg.quota_pages = 4;
	dma_open(&w, VIO_MAP_CACHED);
	seg_add(&m, DATA, 4096, true);
	for (unsigned i = 0; i < 20; i++) {
		m.seg[0].addr.v = DATA + i * PAGE;
		assert_int_equal(map1(&w, &m), 1);
		expect_exposed(&m);
		unmap1(&w, &m);
		assert_true(rec.live <= 4);
	}
	assert_int_equal(rec.dels, 16);
}

static void cached_evicts_when_the_server_takes_no_more_windows(void **state)
{
	struct vio_dma_map m;

	(void)state;
	rec.room = 4;
	dma_open(&w, VIO_MAP_CACHED);
	for (unsigned i = 0; i < 20; i++) {
		make_read(&m, 0, DATA + i * MIB / 2, 4096);
		assert_int_equal(map1(&w, &m), 1);
		expect_exposed(&m);
		expect_request(&w, &m, true);
		unmap1(&w, &m);
	}
	rec.room = 2; /* too few for one request */
	make_read(&m, 0, DATA + 12 * MIB, 4096);
	assert_int_equal(map1(&w, &m), -EFAULT);
}

static void a_lost_server_is_asked_nothing_and_the_next_mapping_is_exposed_anew(void **state)
{
	(void)state;
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		struct vio_dma_map done, flight, redo;

		dma_open(&w, (enum vio_mapping)level);
		make_read(&done, 0, DATA, 4096);
		make_read(&flight, 1, DATA + MIB, 4096);
		assert_int_equal(map1(&w, &done), 1);
		assert_int_equal(map1(&w, &flight), 1);
		unmap1(&w, &done);
		rec.gone = true;
		w.d->ops->lost(w.d);
		memset(rec.win, 0, sizeof(rec.win)); /* the server's table went with it */
		rec.live = 0;
		unmap1(&w, &flight);
		rec.gone = false;
		make_read(&redo, 1, DATA + MIB, 4096);
		assert_int_equal(map1(&w, &redo), 1);
		expect_exposed(&redo);
		expect_request(&w, &redo, true);
		unmap1(&w, &redo);
		assert_int_equal(mapped(&w), w.d->tce_live);
		w.d->ops->destroy(w.d);
		w.d = NULL;
		assert_int_equal(mapped(&w), 0);
		assert_int_equal(rec.live, 0);
	}
}

/* In flight when the server was lost, mapped again before the old mapping is given back. */
static void cached_does_not_mistake_a_void_window_for_a_live_one(void **state)
{
	struct vio_dma_map old = {0}, new = {0};

	(void)state;
	dma_open(&w, VIO_MAP_CACHED);
	seg_add(&old, DATA, 8192, true);
	seg_add(&new, DATA, 8192, true);
	assert_int_equal(map1(&w, &old), 1);
	w.d->ops->lost(w.d);
	memset(rec.win, 0, sizeof(rec.win));
	rec.live = 0;
	assert_int_equal(map1(&w, &new), 1);
	expect_exposed(&new);
	assert_int_not_equal(new.seg[0].at.v, old.seg[0].at.v);
	unmap1(&w, &old);
	assert_int_equal(w.d->tce_live, 2);
	expect_request(&w, &new, true);
	unmap1(&w, &new);
	w.d->ops->lost(w.d); /* twice, with nothing in flight */
	memset(rec.win, 0, sizeof(rec.win));
	rec.live = 0;
	assert_int_equal(w.d->tce_live, 0);
}

static void an_exposure_that_fails_leaves_nothing_mapped_or_exposed(void **state)
{
	(void)state;
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_DEFERRED; level++) {
		for (unsigned at = 1; at <= 3; at++) {
			struct vio_dma_map m, first;

			memset(&rec, 0, sizeof(rec));
			dma_open(&w, (enum vio_mapping)level);
			make_read(&m, 0, DATA, 4096);
			rec.fail_at = at;
			rec.fail_rc = -EPERM;
			assert_int_equal(map1(&w, &m), -EFAULT);
			assert_int_equal(rec.live, 0);
			assert_int_equal(mapped(&w), 0);
			/* "No room" is an answer for later when something can make room ... */
			make_read(&first, 1, DATA + MIB, 4096);
			assert_int_equal(map1(&w, &first), 1);
			rec.fail_at = rec.adds + at;
			rec.fail_rc = -ENOSPC;
			assert_int_equal(map1(&w, &m), 0);
			assert_int_equal(rec.live, 3);
			unmap1(&w, &first);
			assert_int_equal(map1(&w, &m), 1);
			unmap1(&w, &m);
			w.d->ops->destroy(w.d);
			w.d = NULL;
			assert_int_equal(rec.live, 0);
			assert_int_equal(mapped(&w), 0);
		}
	}
}

/*
 * Where the machine has 2 MiB pages free, a grant is of whole ones, and so is what is mapped for
 * it; else as above.
 */
static void what_is_exposed_is_whole_backing_pages(void **state)
{
	const struct vio_dma_expose expose = w.cfg.expose;
	uint64_t granule;

	(void)state;
	dma_down(&w);
	dma_up_pages(&w, 12, 3 * 1024, PHYP_PAGES_AUTO);
	w.cfg.expose = expose;
	granule = phyp_backing_page(w.p.part);
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		struct vio_dma_map m;

		dma_open(&w, (enum vio_mapping)level);
		make_read(&m, 3, DATA + 5000, 16384);
		assert_int_equal(map1(&w, &m), 1);
		expect_exposed(&m);
		expect_request(&w, &m, true);
		if (granule > PAGE)
			assert_int_equal(w.d->tce_live, 3 * granule / PAGE);
		unmap1(&w, &m);
		w.d->ops->destroy(w.d);
		w.d = NULL;
		assert_int_equal(mapped(&w), 0);
		assert_int_equal(rec.live, 0);
	}
}

static struct phyp_filter *fault(const char *spec)
{
	struct phyp_filter *f;
	struct vio_err err = {{0}};

	if (phyp_fault_create(spec, &f, &err))
		fail_msg("%s", err.msg);
	phyp_filter_push(w.p.part, f);
	return f;
}

static void no_fault(struct phyp_filter *f)
{
	phyp_filter_pop(w.p.part);
	phyp_fault_free(f);
}

static void a_busy_hypervisor_is_asked_again(void **state)
{
	(void)state;
	memset(&w.cfg.expose, 0, sizeof(w.cfg.expose));
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		struct phyp_filter *f = fault(
			"H_PUT_TCE_INDIRECT@1=H_BUSYx3,H_STUFF_TCE@1=H_BUSYx3,H_PUT_TCE@1=H_BUSYx3");
		struct vio_dma_map m;

		dma_open(&w, (enum vio_mapping)level);
		make_read(&m, 0, DATA, 8192);
		assert_int_equal(map1(&w, &m), 1);
		expect_request(&w, &m, false);
		unmap1(&w, &m);
		w.d->ops->destroy(w.d);
		w.d = NULL;
		assert_int_equal(mapped(&w), 0);
		no_fault(f);
	}
}

static void a_refused_mapping_leaves_nothing_behind(void **state)
{
	(void)state;
	memset(&w.cfg.expose, 0, sizeof(w.cfg.expose));
	for (int level = VIO_MAP_SINGLE_USE; level <= VIO_MAP_CACHED; level++) {
		struct phyp_filter *f = fault("H_PUT_TCE_INDIRECT@1=H_PARAMETER");
		struct vio_dma_map m;

		dma_open(&w, (enum vio_mapping)level);
		make_read(&m, 0, DATA, 8192);
		assert_int_equal(map1(&w, &m), -EFAULT);
		assert_int_equal(mapped(&w), w.d->tce_live);
		assert_int_equal(map1(&w, &m), 1);
		expect_request(&w, &m, false);
		unmap1(&w, &m);
		w.d->ops->destroy(w.d);
		w.d = NULL;
		no_fault(f);
		assert_int_equal(mapped(&w), 0);
	}
}

static void an_ioba_that_could_not_be_unmapped_is_not_used_again(void **state)
{
	struct phyp_filter *f = fault("H_STUFF_TCE@1=H_HARDWARE");
	struct vio_dma_map m;
	uint64_t bad;

	(void)state;
	memset(&w.cfg.expose, 0, sizeof(w.cfg.expose));
	dma_open(&w, VIO_MAP_SINGLE_USE);
	make_read(&m, 0, DATA, 4096);
	assert_int_equal(map1(&w, &m), 1);
	bad = m.base.v;
	unmap1(&w, &m);
	assert_int_equal(mapped(&w), 3);
	assert_int_equal(w.d->tce_live, 3); /* it says so */
	for (unsigned i = 0; i < 2 * SLICE_PAGES; i++) {
		assert_int_equal(map1(&w, &m), 1);
		assert_true(m.base.v >= bad + 3 * PAGE || m.base.v + 3 * PAGE <= bad);
		unmap1(&w, &m);
	}
	assert_int_equal(mapped(&w), 3);
	w.d->ops->destroy(w.d); /* tries again */
	w.d = NULL;
	no_fault(f);
}

#define T(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(single_use_exposes_each_segment_with_its_permission_and_withdraws_first),
		T(deferred_withdraws_at_the_flush),
		T(cached_exposes_once_and_never_more_than_is_needed),
		T(cached_withdraws_what_it_evicts),
		T(cached_evicts_when_the_server_takes_no_more_windows),
		T(a_lost_server_is_asked_nothing_and_the_next_mapping_is_exposed_anew),
		T(cached_does_not_mistake_a_void_window_for_a_live_one),
		T(what_is_exposed_is_whole_backing_pages),
		T(an_exposure_that_fails_leaves_nothing_mapped_or_exposed),
		T(a_busy_hypervisor_is_asked_again),
		T(a_refused_mapping_leaves_nothing_behind),
		T(an_ioba_that_could_not_be_unmapped_is_not_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
