/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapping lifetime single-use, the 2010 design: a request's pages are mapped when it is sent and
 * unmapped when it is done; one call each, for a request of up to 512 pages.
 */
#include <stdlib.h>

#include "guest/dma/mapper.h"

static int single_use_create(const struct vio_dma_cfg *cfg, struct vio_dma **out,
			     struct vio_err *err)
{
	struct vio_mapper *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return vio_err_set(err, -ENOMEM, "mapping single-use: no memory");
	rc = vio_mapper_init(m, &vio_dma_single_use, cfg, err);
	if (rc) {
		free(m);
		return rc;
	}
	*out = &m->d;
	return 0;
}

static void single_use_destroy(struct vio_dma *d)
{
	struct vio_mapper *m = vio_mapper_of(d);

	vio_mapper_fini(m);
	free(m);
}

static int single_use_map(struct vio_dma *d, struct vio_dma_map *const r[], unsigned n)
{
	struct vio_mapper *m = vio_mapper_of(d);

	for (unsigned i = 0; i < n; i++) {
		int rc = vio_mapper_request(m, r[i]);

		if (vio_unlikely(rc))
			return vio_mapper_answer(m, i, rc);
	}
	return (int)n;
}

static bool single_use_end(struct vio_mapper *m, const struct vio_dma_map *r)
{
	const struct vio_dma_cfg *c = &m->d.cfg;
	bool gone = true;

	if (m->in_place && r->session == m->session) {
		for (unsigned s = 0; s < r->n_seg; s++)
			gone &= vio_mapper_unexpose(m, r->window_id[s]);
	}
	return gone && vio_mapper_clear(m, (uint32_t)((r->base.v - c->slice.v) >> c->page_shift),
					r->n_pages);
}

static unsigned single_use_unmap(struct vio_dma *d, struct vio_dma_map *const r[], unsigned n)
{
	unsigned i = 0;

	while (i < n && vio_likely(single_use_end(vio_mapper_of(d), r[i])))
		i++;
	return i;
}

static void single_use_lost(struct vio_dma *d)
{
	vio_mapper_lost(vio_mapper_of(d));
}

const struct vio_dma_ops vio_dma_single_use = {
	.name = "single-use",
	.create = single_use_create,
	.destroy = single_use_destroy,
	.map = single_use_map,
	.unmap = single_use_unmap,
	.lost = single_use_lost,
};
