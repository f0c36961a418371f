/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of the mapping levels share: a partition, a slice of its DMA window, and the truth
 * from H_GET_TCE.
 */
#ifndef TEST_DMA_WORLD_H
#define TEST_DMA_WORLD_H

#include "partition.h"

#include "guest/dma/dma.h"

#define LIST        (30 * MIB)
#define SLICE_PAGES 512u

struct dma_world {
	struct partition p;
	struct vio_dma_cfg cfg;
	struct vio_dma *d;
	unsigned shift;
};

static inline void dma_up_pages(struct dma_world *w, uint8_t page_shift, uint32_t pages,
				enum phyp_pages backing)
{
	memset(w, 0, sizeof(*w));
	partition_open_pages(&w->p, page_shift, backing);
	w->shift = w->p.u->page_shift;
	w->cfg = (struct vio_dma_cfg){
		.vcpu = w->p.v,
		.liobn = w->p.u->liobn,
		.page_shift = w->p.u->page_shift,
		.slice = ioba_add(w->p.u->window, 4ull << w->p.u->page_shift),
		.slice_len = (uint64_t)pages << w->p.u->page_shift,
		.list = {LIST},
	};
}

static inline void dma_up(struct dma_world *w, uint8_t page_shift, uint32_t pages)
{
	dma_up_pages(w, page_shift, pages, PHYP_PAGES_4K);
}

static inline void dma_open(struct dma_world *w, enum vio_mapping level)
{
	struct vio_err err = {{0}};

	if (vio_dma_level(level)->create(&w->cfg, &w->d, &err))
		fail_msg("%s", err.msg);
	assert_ptr_equal(w->d->ops, vio_dma_level(level));
}

static inline uint64_t tce_of(const struct dma_world *w, struct ioba at)
{
	uint64_t tce = 0;

	assert_int_equal(h_get_tce(w->p.v, w->cfg.liobn, at, &tce), H_SUCCESS);
	return tce;
}

/* TCEs that are not 0 in the whole slice. */
static inline uint64_t mapped(const struct dma_world *w)
{
	uint64_t n = 0;

	for (uint64_t off = 0; off < w->cfg.slice_len; off += 1ull << w->shift)
		n += tce_of(w, ioba_add(w->cfg.slice, off)) != 0;
	return n;
}

static inline void dma_down(struct dma_world *w)
{
	if (w->d)
		w->d->ops->destroy(w->d);
	assert_int_equal(mapped(w), 0); /* no level leaves anything behind */
	partition_close(&w->p);
}

/* The segment's IOBAs translate to its bytes, with the access that it needs; `exact`: and no other. */
static inline void expect_translates(const struct dma_world *w, const struct vio_dma_seg *s,
				     bool exact)
{
	const uint64_t page = 1ull << w->shift, need = s->dev_writes ? TCE_WRITE : TCE_READ;

	for (uint64_t a = s->addr.v & ~(page - 1); a < s->addr.v + s->len; a += page) {
		uint64_t from = a > s->addr.v ? a - s->addr.v : 0;
		uint64_t tce = tce_of(w, ioba_add(s->at, from));

		assert_int_equal((s->at.v + from) % page, (s->addr.v + from) % page);
		assert_int_equal(tce & ~(page - 1), a);
		assert_true(exact ? (tce & TCE_PERM) == need : (tce & need) != 0);
	}
}

static inline void expect_request(const struct dma_world *w, const struct vio_dma_map *m,
				  bool exact)
{
	for (unsigned i = 0; i < m->n_seg; i++)
		expect_translates(w, &m->seg[i], exact);
}

static inline void seg_add(struct vio_dma_map *m, uint64_t addr, uint32_t len, bool dev_writes)
{
	m->seg[m->n_seg++] =
		(struct vio_dma_seg){.addr = {addr}, .len = len, .dev_writes = dev_writes};
}

/* A disk read: header and status of request `i` in one line of a page that all share, data at `data`. */
static inline void make_read(struct vio_dma_map *m, unsigned i, uint64_t data, uint32_t len)
{
	memset(m, 0, sizeof(*m));
	seg_add(m, 1 * MIB + 64 * i, 16, false);
	seg_add(m, data, len, true);
	seg_add(m, 1 * MIB + 64 * i + 32, 1, true);
}

static inline int map1(struct dma_world *w, struct vio_dma_map *m)
{
	return w->d->ops->map(w->d, &m, 1);
}

static inline void unmap1(struct dma_world *w, struct vio_dma_map *m)
{
	w->d->ops->unmap(w->d, &m, 1);
}

#endif
