/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/dma/mapper.h"

#include "vio/atomics.h"
#include "vio/cycles.h"

int vio_mapper_init(struct vio_mapper *m, const struct vio_dma_ops *ops,
		    const struct vio_dma_cfg *cfg, struct vio_err *err)
{
	struct phyp_part *part = phyp_vcpu_part(cfg->vcpu);
	const uint64_t page = 1ull << cfg->page_shift, pages = cfg->slice_len >> cfg->page_shift;

	if (pages == 0 || pages >= UINT32_MAX / 2 || cfg->slice.v % page != 0)
		return vio_err_set(
			err, -EINVAL,
			"mapping %s: its slice of the DMA window, [0x%llx, +%llu), is not made of whole pages of %llu bytes",
			ops->name, (unsigned long long)cfg->slice.v,
			(unsigned long long)cfg->slice_len, (unsigned long long)page);
	m->list = cfg->list.v % 4096 == 0 ? phyp_mem(part, cfg->list, 4096) : NULL;
	if (!m->list)
		return vio_err_set(
			err, -EINVAL,
			"mapping %s: the TCE list at 0x%llx is not a page of this partition",
			ops->name, (unsigned long long)cfg->list.v);
	m->d = (struct vio_dma){.ops = ops, .cfg = *cfg};
	m->mem_bytes = phyp_mem_size(part);
	m->session = 0;
	m->in_place = cfg->expose.add != NULL;
	m->round_shift = cfg->page_shift;
	if (m->in_place && phyp_backing_page(part) > page)
		m->round_shift = (uint8_t)__builtin_ctzll(phyp_backing_page(part));
	if (vio_ioba_init(&m->iobas, (uint32_t)pages))
		return vio_err_set(err, -ENOMEM, "mapping %s: no memory for the map of %llu pages",
				   ops->name, (unsigned long long)pages);
	return 0;
}

void vio_mapper_fini(struct vio_mapper *m)
{
	uint32_t page = 0, n;

	while ((page = vio_ioba_taken(&m->iobas, page, &n)) != VIO_IOBA_NONE) {
		vio_mapper_clear(m, page, n);
		page += n;
	}
	vio_ioba_fini(&m->iobas);
}

int vio_mapper_span(const struct vio_mapper *m, const struct vio_dma_seg *seg, struct vio_span *out)
{
	const uint64_t mask = (1ull << m->round_shift) - 1;
	uint64_t first, end;

	if (seg->len == 0 || !vio_range_ok(seg->addr.v, seg->len, m->mem_bytes))
		return -EFAULT;
	first = seg->addr.v & ~mask;
	end = (seg->addr.v + seg->len + mask) & ~mask;
	out->first.v = first;
	out->n = (uint32_t)((end - first) >> m->d.cfg.page_shift);
	out->perm = seg->dev_writes ? TCE_WRITE : TCE_READ;
	return 0;
}

/* May the same call succeed later? */
static bool later(int64_t rc)
{
	return phyp_rc_busy(rc) || rc == H_RESOURCE || rc == H_NOT_ENOUGH_RESOURCES;
}

/* Make a call again as long as it is worth it; `since` is 0 before the first answer. */
static bool again(int64_t rc, uint64_t *since)
{
	if (vio_likely(rc == H_SUCCESS) || !later(rc))
		return false;
	if (*since == 0)
		*since = vio_now_ns();
	vio_cpu_relax();
	return vio_now_ns() - *since < VIO_MAPPER_BUSY_NS;
}

static int put_chunk(struct vio_mapper *m, uint32_t page, uint32_t n, uint64_t only)
{
	const struct vio_dma_cfg *c = &m->d.cfg;
	uint64_t since = 0;
	int64_t rc;

	do {
		rc = n == 1 ? h_put_tce(c->vcpu, c->liobn, vio_mapper_at(m, page), only)
			    : h_put_tce_indirect(c->vcpu, c->liobn, vio_mapper_at(m, page), c->list,
						 n);
	} while (again(rc, &since));
	return vio_likely(rc == H_SUCCESS) ? 0 : later(rc) ? -EAGAIN : -EFAULT;
}

int vio_mapper_put(struct vio_mapper *m, uint32_t page, const struct vio_span *spans,
		   unsigned n_spans)
{
	uint64_t tce = 0;
	uint32_t n = 0;
	int rc;

	for (unsigned s = 0; s < n_spans; s++) {
		for (uint32_t i = 0; i < spans[s].n; i++) {
			if (n == TCE_MAX_MULTI) {
				rc = put_chunk(m, page, n, 0);
				if (rc)
					return rc;
				page += n;
				n = 0;
			}
			tce = (spans[s].first.v + ((uint64_t)i << m->d.cfg.page_shift)) |
			      spans[s].perm;
			vio_store_relaxed(&m->list[n++].raw, vio_to_be64(tce).raw);
		}
	}
	return n > 0 ? put_chunk(m, page, n, tce) : 0;
}

int vio_mapper_map(struct vio_mapper *m, const struct vio_span *spans, unsigned n_spans,
		   uint32_t *page)
{
	uint64_t total = 0;
	int rc;

	for (unsigned s = 0; s < n_spans; s++)
		total += spans[s].n;
	if (total > m->iobas.n_pages)
		return -EFAULT;
	*page = vio_ioba_get(&m->iobas, (uint32_t)total);
	if (*page == VIO_IOBA_NONE)
		return -EAGAIN;
	m->d.tce_live += total;
	rc = vio_mapper_put(m, *page, spans, n_spans);
	if (vio_unlikely(rc))
		vio_mapper_clear(m, *page, (uint32_t)total); /* some may have been set */
	return rc;
}

bool vio_mapper_clear(struct vio_mapper *m, uint32_t page, uint32_t n)
{
	const struct vio_dma_cfg *c = &m->d.cfg;

	for (uint32_t done = 0, some; done < n; done += some) {
		const struct ioba at = vio_mapper_at(m, page + done);
		uint64_t since = 0;
		int64_t rc;

		some = n - done < TCE_MAX_MULTI ? n - done : TCE_MAX_MULTI;
		do {
			rc = some == 1 ? h_put_tce(c->vcpu, c->liobn, at, 0)
				       : h_stuff_tce(c->vcpu, c->liobn, at, 0, some);
		} while (again(rc, &since));
		if (vio_unlikely(rc != H_SUCCESS))
			return false;
	}
	vio_ioba_put(&m->iobas, page, n);
	m->d.tce_live -= n;
	return true;
}

int vio_mapper_expose(struct vio_mapper *m, uint32_t page, const struct vio_span *span,
		      uint16_t *id)
{
	const struct vio_dma_expose *e = &m->d.cfg.expose;
	int rc = e->add(e->ctx, vio_mapper_at(m, page), span->first,
			(uint64_t)span->n << m->d.cfg.page_shift, span->perm, id);

	if (rc == -ENOSPC || rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM)
		return -EAGAIN;
	return rc ? -EFAULT : 0;
}

bool vio_mapper_unexpose(struct vio_mapper *m, uint16_t id)
{
	/* The transport rescinds by force when the server does not answer. */
	return m->d.cfg.expose.del(m->d.cfg.expose.ctx, id) == 0;
}

void vio_mapper_withdraw(struct vio_mapper *m, const uint16_t *window, unsigned n, uint32_t page,
			 uint32_t n_pages)
{
	bool gone = true;

	for (unsigned i = 0; i < n; i++)
		gone &= vio_mapper_unexpose(m, window[i]);
	if (vio_likely(gone))
		vio_mapper_clear(m, page, n_pages);
	else if (m->n_kept < VIO_ARRAY_SIZE(m->kept))
		m->kept[m->n_kept++] = (struct vio_mapper_run){page, n_pages};
}

void vio_mapper_lost(struct vio_mapper *m)
{
	m->session++;
	for (unsigned i = 0; i < m->n_kept; i++)
		vio_mapper_clear(m, m->kept[i].page, m->kept[i].n);
	m->n_kept = 0;
}

/* As vio_mapper_expose(), each span; after an error nothing is mapped. */
static int expose_all(struct vio_mapper *m, struct vio_dma_map *map, uint32_t page,
		      const struct vio_span *spans)
{
	uint32_t at = page;

	for (unsigned i = 0; i < map->n_seg; i++) {
		int rc = vio_mapper_expose(m, at, &spans[i], &map->window_id[i]);

		if (rc) {
			vio_mapper_withdraw(m, map->window_id, i, page, map->n_pages);
			return rc;
		}
		at += spans[i].n;
	}
	return 0;
}

int vio_mapper_request(struct vio_mapper *m, struct vio_dma_map *map)
{
	struct vio_span spans[VIO_DMA_MAX_SEG];
	uint32_t page, total = 0;
	int rc;

	if (vio_unlikely(map->n_seg == 0 || map->n_seg > VIO_DMA_MAX_SEG))
		return -EFAULT;
	for (unsigned i = 0; i < map->n_seg; i++) {
		if (vio_unlikely(vio_mapper_span(m, &map->seg[i], &spans[i])))
			return -EFAULT;
	}
	rc = vio_mapper_map(m, spans, map->n_seg, &page);
	if (vio_unlikely(rc))
		return rc;
	for (unsigned i = 0; i < map->n_seg; i++) {
		map->seg[i].at = ioba_add(vio_mapper_at(m, page + total),
					  map->seg[i].addr.v - spans[i].first.v);
		total += spans[i].n;
	}
	map->base = vio_mapper_at(m, page);
	map->n_pages = total;
	map->session = m->session;
	return m->in_place ? expose_all(m, map, page, spans) : 0;
}
