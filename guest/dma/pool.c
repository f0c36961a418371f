/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapping lifetime pool: everything that a request names lies in one range that was mapped (and,
 * for in-place payload, granted) when the queue was set up. An address becomes an IOBA by
 * arithmetic; no call, nothing to undo.
 */
#include <stdlib.h>

#include "guest/dma/dma.h"

static int pool_create(const struct vio_dma_cfg *cfg, struct vio_dma **out, struct vio_err *err)
{
	struct vio_dma *d;

	if (cfg->pool_len == 0 || cfg->pool_addr.v + cfg->pool_len < cfg->pool_addr.v ||
	    cfg->pool_at.v + cfg->pool_len < cfg->pool_at.v)
		return vio_err_set(err, -EINVAL,
				   "mapping pool: there is no pool, or it is not a range");
	d = calloc(1, sizeof(*d));
	if (!d)
		return vio_err_set(err, -ENOMEM, "mapping pool: no memory");
	d->ops = &vio_dma_pool;
	d->cfg = *cfg;
	*out = d;
	return 0;
}

static void pool_destroy(struct vio_dma *d)
{
	free(d);
}

static int pool_map(struct vio_dma *d, struct vio_dma_map *const r[], unsigned n)
{
	const uint64_t from = d->cfg.pool_addr.v, len = d->cfg.pool_len, at = d->cfg.pool_at.v;

	for (unsigned i = 0; i < n; i++) {
		struct vio_dma_map *m = r[i];

		if (vio_unlikely(m->n_seg == 0 || m->n_seg > VIO_DMA_MAX_SEG))
			return i > 0 ? (int)i : -EFAULT;
		for (unsigned s = 0; s < m->n_seg; s++) {
			/* Below the pool wraps to a huge offset, which is outside too. */
			const uint64_t off = m->seg[s].addr.v - from;

			if (vio_unlikely(m->seg[s].len == 0 ||
					 !vio_range_ok(off, m->seg[s].len, len)))
				return i > 0 ? (int)i : -EFAULT;
			m->seg[s].at.v = at + off;
		}
	}
	return (int)n;
}

static unsigned pool_unmap(struct vio_dma *d, struct vio_dma_map *const r[], unsigned n)
{
	(void)d;
	(void)r;
	return n;
}

/* The pool belongs to the transport, which registers it again. */
static void pool_lost(struct vio_dma *d)
{
	(void)d;
}

const struct vio_dma_ops vio_dma_pool = {
	.name = "pool",
	.fixed = true,
	.create = pool_create,
	.destroy = pool_destroy,
	.map = pool_map,
	.unmap = pool_unmap,
	.lost = pool_lost,
};
