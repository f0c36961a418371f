// SPDX-License-Identifier: GPL-2.0
/* dma_map_ops of mapping levels single-use, deferred and direct. */
#include <linux/mm.h>
#include <linux/slab.h>

#include "virtio_vio.h"

static u64 vv_perm(enum dma_data_direction dir)
{
	switch (dir) {
	case DMA_TO_DEVICE:
		return TCE_READ;
	case DMA_FROM_DEVICE:
		return TCE_WRITE;
	default:
		return TCE_READ | TCE_WRITE;
	}
}

static unsigned long vv_span(const struct vv_iommu *m, u64 addr, size_t size)
{
	u64 page = 1ull << m->shift;

	return ((addr & (page - 1)) + size + page - 1) >> m->shift;
}

static dma_addr_t vv_map_phys(struct vv *vv, phys_addr_t phys, size_t size, u64 perm)
{
	struct vv_iommu *m = &vv->iommu;
	phys_addr_t in = phys & ((1ull << m->shift) - 1);
	unsigned long n = vv_span(m, phys, size), at = vv_iommu_get(m, n);

	if (at == VV_NO_SPACE)
		return DMA_MAPPING_ERROR;
	if (vv_tce_map(m, at, phys - in, n, perm)) {
		vv_iommu_put(m, at, n);
		return DMA_MAPPING_ERROR;
	}
	return m->base + ((u64)at << m->shift) + in;
}

/* ---------------------------------------------------------- level single-use, and common */

static dma_addr_t vv_single_map_page(struct device *dev, struct page *page, unsigned long offset,
				     size_t size, enum dma_data_direction dir, unsigned long attrs)
{
	struct vv *vv = dev_get_drvdata(dev);

	vv_track_look(vv);
	return vv_map_phys(vv, page_to_phys(page) + offset, size, vv_perm(dir));
}

static void vv_single_unmap_page(struct device *dev, dma_addr_t addr, size_t size,
				 enum dma_data_direction dir, unsigned long attrs)
{
	struct vv *vv = dev_get_drvdata(dev);
	struct vv_iommu *m = &vv->iommu;
	unsigned long at = (addr - m->base) >> m->shift, n = vv_span(m, addr, size);

	vv_tce_unmap(m, at, n);
	vv_iommu_put(m, at, n);
}

static void *vv_single_alloc(struct device *dev, size_t size, dma_addr_t *addr, gfp_t gfp,
			     unsigned long attrs)
{
	void *va = alloc_pages_exact(size, gfp | __GFP_ZERO);

	if (!va)
		return NULL;
	*addr = vv_map_phys(dev_get_drvdata(dev), virt_to_phys(va), size, TCE_READ | TCE_WRITE);
	if (*addr != DMA_MAPPING_ERROR)
		return va;
	free_pages_exact(va, size);
	return NULL;
}

static void vv_single_free(struct device *dev, size_t size, void *va, dma_addr_t addr,
			   unsigned long attrs)
{
	vv_single_unmap_page(dev, addr, size, DMA_BIDIRECTIONAL, attrs);
	free_pages_exact(va, size);
}

/* For the rare user of lists: the levels' own map_page, one entry after the other. */
void vv_unmap_sg(struct device *dev, struct scatterlist *sgl, int n, enum dma_data_direction dir,
		 unsigned long attrs)
{
	const struct dma_map_ops *ops = get_dma_ops(dev);
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, n, i)
		ops->unmap_page(dev, sg_dma_address(sg), sg_dma_len(sg), dir, attrs);
}

int vv_map_sg(struct device *dev, struct scatterlist *sgl, int n, enum dma_data_direction dir,
	      unsigned long attrs)
{
	const struct dma_map_ops *ops = get_dma_ops(dev);
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, n, i) {
		sg_dma_address(sg) = ops->map_page(dev, sg_page(sg), sg->offset, sg->length, dir,
						   attrs);
		if (sg_dma_address(sg) == DMA_MAPPING_ERROR) {
			vv_unmap_sg(dev, sgl, i, dir, attrs);
			return -EIO;
		}
		sg_dma_len(sg) = sg->length;
	}
	return n;
}

static int vv_dma_supported(struct device *dev, u64 mask)
{
	struct vv *vv = dev_get_drvdata(dev);

	return mask >= vv->iommu.base + ((u64)vv->iommu.n << vv->iommu.shift) - 1;
}

static const struct dma_map_ops vv_single_dma = {
	.alloc = vv_single_alloc,
	.free = vv_single_free,
	.map_page = vv_single_map_page,
	.unmap_page = vv_single_unmap_page,
	.map_sg = vv_map_sg,
	.unmap_sg = vv_unmap_sg,
	.dma_supported = vv_dma_supported,
};

const struct vv_mapping vv_map_single_use = {
	.name = "single-use",
	.dma = &vv_single_dma,
};

/* -------------------------------------------------------------------- level deferred */

/*
 * What is unmapped waits until there are VV_DEFERRED of them: neighbours in the window, which next-fit makes
 * of maps that follow each other, are then cleared by one call. Until then the server still reaches the
 * pages, though the kernel may use them for something else.
 */
#define VV_DEFERRED 64

struct vv_deferred {
	spinlock_t lock;
	unsigned int n;
	struct vv_run {
		unsigned long at, n;
	} run[VV_DEFERRED];
};

static void vv_clear_runs(struct vv *vv, const struct vv_run *run, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		vv_tce_unmap(&vv->iommu, run[i].at, run[i].n);
		vv_iommu_put(&vv->iommu, run[i].at, run[i].n);
	}
}

/* With the lock. */
static bool vv_extend_run(struct vv_deferred *d, unsigned long at, unsigned long n)
{
	unsigned int i;

	for (i = 0; i < d->n; i++) {
		struct vv_run *r = &d->run[i];

		if (r->n + n > TCE_MAX_MULTI)
			continue;
		if (r->at + r->n == at || at + n == r->at) {
			r->at = min(r->at, at);
			r->n += n;
			return true;
		}
	}
	return false;
}

static void vv_deferred_unmap_page(struct device *dev, dma_addr_t addr, size_t size,
				   enum dma_data_direction dir, unsigned long attrs)
{
	struct vv *vv = dev_get_drvdata(dev);
	struct vv_deferred *d = vv->mapping_data;
	unsigned long at = (addr - vv->iommu.base) >> vv->iommu.shift, flags;
	unsigned long n = vv_span(&vv->iommu, addr, size);

	spin_lock_irqsave(&d->lock, flags);
	if (!vv_extend_run(d, at, n)) {
		if (d->n == VV_DEFERRED) {
			vv_clear_runs(vv, d->run, d->n);
			d->n = 0;
		}
		d->run[d->n++] = (struct vv_run){ at, n };
	}
	spin_unlock_irqrestore(&d->lock, flags);
}

static const struct dma_map_ops vv_deferred_dma = {
	.alloc = vv_single_alloc,
	.free = vv_single_free, /* at once: the memory goes back */
	.map_page = vv_single_map_page,
	.unmap_page = vv_deferred_unmap_page,
	.map_sg = vv_map_sg,
	.unmap_sg = vv_unmap_sg,
	.dma_supported = vv_dma_supported,
};

static int vv_deferred_open(struct vv *vv)
{
	struct vv_deferred *d = kzalloc(sizeof(*d), GFP_KERNEL);

	if (!d)
		return -ENOMEM;
	spin_lock_init(&d->lock);
	vv->mapping_data = d;
	return 0;
}

static void vv_deferred_close(struct vv *vv)
{
	struct vv_deferred *d = vv->mapping_data;

	if (!d)
		return;
	vv_clear_runs(vv, d->run, d->n);
	kfree(d);
	vv->mapping_data = NULL;
}

const struct vv_mapping vv_map_deferred = {
	.name = "deferred",
	.dma = &vv_deferred_dma,
	.open = vv_deferred_open,
	.close = vv_deferred_close,
};

/* ---------------------------------------------------------------------- level direct */

/*
 * All memory of the partition stands in the window at a fixed distance, as with a POWER kernel's "direct
 * DMA window": mapping is an addition. Nothing is protected from the server; every page can be zero-copy.
 */
static dma_addr_t vv_direct_map_page(struct device *dev, struct page *page, unsigned long offset,
				     size_t size, enum dma_data_direction dir, unsigned long attrs)
{
	struct vv *vv = dev_get_drvdata(dev);
	phys_addr_t phys = page_to_phys(page) + offset;

	vv_track_look(vv);
	if (phys + size > vio_hv_info()->mem_bytes)
		return DMA_MAPPING_ERROR;
	return vv->iommu.base + phys;
}

static void vv_direct_unmap_page(struct device *dev, dma_addr_t addr, size_t size,
				 enum dma_data_direction dir, unsigned long attrs)
{
}

static void *vv_direct_alloc(struct device *dev, size_t size, dma_addr_t *addr, gfp_t gfp,
			     unsigned long attrs)
{
	struct vv *vv = dev_get_drvdata(dev);
	void *va = alloc_pages_exact(size, gfp | __GFP_ZERO);

	if (va)
		*addr = vv->iommu.base + virt_to_phys(va);
	return va;
}

static void vv_direct_free(struct device *dev, size_t size, void *va, dma_addr_t addr,
			   unsigned long attrs)
{
	free_pages_exact(va, size);
}

static const struct dma_map_ops vv_direct_dma = {
	.alloc = vv_direct_alloc,
	.free = vv_direct_free,
	.map_page = vv_direct_map_page,
	.unmap_page = vv_direct_unmap_page,
	.map_sg = vv_map_sg,
	.unmap_sg = vv_unmap_sg,
	.dma_supported = vv_dma_supported,
};

static int vv_direct_open(struct vv *vv)
{
	const struct vio_hv_info *info = vio_hv_info();
	struct vv_iommu *m = &vv->iommu;
	u64 at;

	if (info->mem_bytes >> m->shift >= m->n) {
		dev_err(vv->dev, "the DMA window of %llu bytes does not hold all memory: give the adapter a larger window_mib\n",
			vv->u->window_bytes);
		return -ENOSPC;
	}
	/* The first ones: the window is empty yet. */
	vv_iommu_get(m, info->mem_bytes >> m->shift);
	for (at = 0; at < info->mem_bytes; at += info->lmb_bytes) {
		int rc = vv_window_add(vv, at >> m->shift, at,
				       min(info->lmb_bytes, info->mem_bytes - at));

		if (rc)
			return rc;
	}
	return 0;
}

static void vv_direct_close(struct vv *vv)
{
	struct vv_iommu *m = &vv->iommu;
	unsigned long n = vio_hv_info()->mem_bytes >> m->shift;

	if (!m->map || n >= m->n)
		return; /* it was not opened */
	vv_tce_unmap(m, 0, n);
	vv_iommu_put(m, 0, n);
	vv->n_windows = 0;
}

const struct vv_mapping vv_map_direct = {
	.name = "direct",
	.dma = &vv_direct_dma,
	.open = vv_direct_open,
	.close = vv_direct_close,
};
