/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapping lifetime deferred: mapped per request like single-use, but unmapped for many requests
 * together, neighbouring ranges in one call. Until then a device can still reach pages whose
 * request is done: that is the price. The IOBAs are not used again before.
 */
#include <stdlib.h>

#include "guest/dma/mapper.h"

#define DEFAULT_BATCH 64u
#define MAX_BATCH     65536u

struct range {
	uint32_t page, n;
};

struct deferred {
	struct vio_mapper m; /* first */
	struct range *range; /* of requests that are done */
	uint16_t *window;    /* their exposures */
	unsigned batch, n, n_windows;
	bool stuck; /* the last flush left something: its neighbours may be one range now */
};

static struct deferred *deferred_of(struct vio_dma *d)
{
	return vio_container_of(d, struct deferred, m.d);
}

static unsigned batch_of(const struct vio_dma_cfg *cfg)
{
	return cfg->defer_batch ? cfg->defer_batch : DEFAULT_BATCH;
}

static int deferred_create(const struct vio_dma_cfg *cfg, struct vio_dma **out, struct vio_err *err)
{
	const unsigned batch = batch_of(cfg);
	struct deferred *f;
	int rc;

	if (batch > MAX_BATCH)
		return vio_err_set(err, -EINVAL,
				   "mapping deferred: a batch of %u unmaps; at most %u", batch,
				   MAX_BATCH);
	f = calloc(1, sizeof(*f));
	if (!f)
		return vio_err_set(err, -ENOMEM, "mapping deferred: no memory");
	f->batch = batch;
	f->range = calloc(batch, sizeof(f->range[0]));
	f->window = cfg->expose.add ? calloc((size_t)batch * VIO_DMA_MAX_SEG, sizeof(f->window[0]))
				    : NULL;
	rc = f->range && (f->window || !cfg->expose.add)
		     ? vio_mapper_init(&f->m, &vio_dma_deferred, cfg, err)
		     : vio_err_set(err, -ENOMEM, "mapping deferred: no memory for a batch of %u",
				   batch);
	if (rc) {
		free(f->range);
		free(f->window);
		free(f);
		return rc;
	}
	*out = &f->m.d;
	return 0;
}

/* By insertion: requests are mostly done in the order in which they got their IOBAs. */
static void sort(struct range *r, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		struct range x = r[i];
		unsigned j = i;

		for (; j > 0 && r[j - 1].page > x.page; j--)
			r[j] = r[j - 1];
		r[j] = x;
	}
}

/* What the device may still reach stays for the next flush. */
static void deferred_flush(struct deferred *f)
{
	unsigned i = 0, left = 0;

	for (unsigned w = 0; w < f->n_windows; w++) {
		if (vio_unlikely(!vio_mapper_unexpose(&f->m, f->window[w])))
			f->window[left++] = f->window[w];
	}
	f->n_windows = left;
	f->stuck = left > 0;
	if (vio_unlikely(left > 0))
		return; /* whose pages these are is not known any more */
	sort(f->range, f->n);
	while (i < f->n) {
		struct range x = f->range[i++];

		while (i < f->n && f->range[i].page == x.page + x.n)
			x.n += f->range[i++].n;
		if (vio_unlikely(!vio_mapper_clear(&f->m, x.page, x.n)))
			f->range[left++] = x;
	}
	f->n = left;
	f->stuck = left > 0;
}

static void deferred_destroy(struct vio_dma *d)
{
	struct deferred *f = deferred_of(d);

	deferred_flush(f);
	vio_mapper_fini(&f->m);
	free(f->range);
	free(f->window);
	free(f);
}

static int deferred_map(struct vio_dma *d, struct vio_dma_map *const r[], unsigned n)
{
	struct deferred *f = deferred_of(d);

	for (unsigned i = 0; i < n; i++) {
		int rc = vio_mapper_request(&f->m, r[i]);

		if (vio_unlikely(rc == -EAGAIN && f->n > 0)) {
			deferred_flush(
				f); /* what waits to be unmapped is the room that is missing */
			rc = vio_mapper_request(&f->m, r[i]);
		}
		if (vio_unlikely(rc))
			return vio_mapper_answer(&f->m, i, rc);
	}
	return (int)n;
}

static unsigned deferred_unmap(struct vio_dma *d, struct vio_dma_map *const r[], unsigned n)
{
	struct deferred *f = deferred_of(d);

	for (unsigned i = 0; i < n; i++) {
		if (vio_unlikely(f->stuck)) {
			deferred_flush(f);
			if (f->stuck)
				return i;
		}
		f->range[f->n].page =
			(uint32_t)((r[i]->base.v - d->cfg.slice.v) >> d->cfg.page_shift);
		f->range[f->n++].n = r[i]->n_pages;
		if (f->m.in_place && r[i]->session == f->m.session) {
			for (unsigned s = 0; s < r[i]->n_seg; s++)
				f->window[f->n_windows++] = r[i]->window_id[s];
		}
		if (f->n == f->batch)
			deferred_flush(f);
	}
	return n;
}

static void deferred_lost(struct vio_dma *d)
{
	struct deferred *f = deferred_of(d);

	vio_mapper_lost(&f->m);
	f->n_windows = 0;
}

static void deferred_keeps(const struct vio_dma_cfg *cfg, uint64_t *requests, uint64_t *pages)
{
	(void)pages;
	*requests = batch_of(cfg);
}

const struct vio_dma_ops vio_dma_deferred = {
	.name = "deferred",
	.keeps = deferred_keeps,
	.create = deferred_create,
	.destroy = deferred_destroy,
	.map = deferred_map,
	.unmap = deferred_unmap,
	.lost = deferred_lost,
};
