// SPDX-License-Identifier: GPL-2.0
/*
 * Mapping level pool: a few megabytes stand in the window, rings lie in them, and data is copied into and
 * out of them, as IBM's ibmveth does with its long-term mapped buffers. The server sees nothing else.
 *
 * The pool is made of chunks, each of contiguous memory and one window; a piece lies in one chunk.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "virtio_vio.h"

#define VV_CHUNK_BYTES (2ul << 20)
#define VV_CHUNK_PAGES (VV_CHUNK_BYTES / VV_TCE_PAGE)
/* No piece is larger: drivers cut their requests. A quarter of a chunk, so that holes do not stop a large one. */
#define VV_PIECE_BYTES (VV_CHUNK_BYTES / 4)

static unsigned int pool_mib = 16;
module_param(pool_mib, uint, 0444);
MODULE_PARM_DESC(pool_mib, "Mapping level pool: size of each adapter's pool in MiB, 2 to 128");

struct vv_chunk {
	void *va;
	unsigned long at; /* in the window, TCE pages */
	DECLARE_BITMAP(used, VV_CHUNK_PAGES);
	phys_addr_t original[VV_CHUNK_PAGES]; /* what a page in use is the copy of, from its first byte on */
};

struct vv_pool {
	spinlock_t lock;
	unsigned int n, next;
	struct vv_chunk *chunk[];
};

static struct vv_chunk *vv_pool_chunk(struct vv *vv, dma_addr_t addr, unsigned long *page)
{
	struct vv_pool *p = vv->mapping_data;
	unsigned long at = (addr - vv->iommu.base) >> vv->iommu.shift;
	unsigned int i;

	for (i = 0; i < p->n; i++) {
		struct vv_chunk *c = p->chunk[i];

		if (at >= c->at && at < c->at + VV_CHUNK_PAGES) {
			*page = at - c->at;
			return c;
		}
	}
	return NULL;
}

static unsigned long vv_pages(size_t size)
{
	return DIV_ROUND_UP(size, VV_TCE_PAGE);
}

/* A piece of the pool; NULL: full. */
static void *vv_pool_get(struct vv *vv, size_t size, phys_addr_t original, dma_addr_t *addr)
{
	struct vv_pool *p = vv->mapping_data;
	unsigned long n = vv_pages(size), flags, at, j;
	void *va = NULL;
	unsigned int i;

	spin_lock_irqsave(&p->lock, flags);
	for (i = 0; i < p->n && !va; i++) {
		unsigned int k = (p->next + i) % p->n;
		struct vv_chunk *c = p->chunk[k];

		at = bitmap_find_next_zero_area(c->used, VV_CHUNK_PAGES, 0, n, 0);
		if (at >= VV_CHUNK_PAGES)
			continue;
		bitmap_set(c->used, at, n);
		for (j = 0; j < n; j++)
			c->original[at + j] = original + j * VV_TCE_PAGE;
		va = c->va + at * VV_TCE_PAGE;
		*addr = vv->iommu.base + ((u64)(c->at + at) << vv->iommu.shift);
		p->next = k;
	}
	spin_unlock_irqrestore(&p->lock, flags);
	return va;
}

static void vv_pool_put(struct vv *vv, struct vv_chunk *c, unsigned long at, size_t size)
{
	struct vv_pool *p = vv->mapping_data;
	unsigned long flags;

	spin_lock_irqsave(&p->lock, flags);
	bitmap_clear(c->used, at, vv_pages(size));
	spin_unlock_irqrestore(&p->lock, flags);
}

static dma_addr_t vv_pool_map_page(struct device *dev, struct page *page, unsigned long offset,
				   size_t size, enum dma_data_direction dir, unsigned long attrs)
{
	phys_addr_t phys = page_to_phys(page) + offset;
	struct vv *vv = dev_get_drvdata(dev);
	dma_addr_t addr;
	void *va;

	vv_track_look(vv);
	va = vv_pool_get(vv, size, phys, &addr);
	if (!va)
		return DMA_MAPPING_ERROR;
	/*
	 * For the device to write too: it may write less than it was given, and what comes back must not be
	 * another request's data.
	 */
	memcpy(va, phys_to_virt(phys), size);
	return addr;
}

static void vv_pool_unmap_page(struct device *dev, dma_addr_t addr, size_t size,
			       enum dma_data_direction dir, unsigned long attrs)
{
	struct vv *vv = dev_get_drvdata(dev);
	unsigned long at;
	struct vv_chunk *c = vv_pool_chunk(vv, addr, &at);

	if (WARN_ON_ONCE(!c))
		return;
	if ((dir == DMA_FROM_DEVICE || dir == DMA_BIDIRECTIONAL) &&
	    !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		memcpy(phys_to_virt(c->original[at]), c->va + at * VV_TCE_PAGE, size);
	vv_pool_put(vv, c, at, size);
}

static void *vv_pool_alloc(struct device *dev, size_t size, dma_addr_t *addr, gfp_t gfp,
			   unsigned long attrs)
{
	void *va = vv_pool_get(dev_get_drvdata(dev), size, 0, addr);

	if (va)
		memset(va, 0, size);
	return va;
}

static void vv_pool_free(struct device *dev, size_t size, void *va, dma_addr_t addr,
			 unsigned long attrs)
{
	struct vv *vv = dev_get_drvdata(dev);
	unsigned long at;
	struct vv_chunk *c = vv_pool_chunk(vv, addr, &at);

	if (!WARN_ON_ONCE(!c))
		vv_pool_put(vv, c, at, size);
}

/* What a driver does with a page that stays mapped, e.g. reads part of a frame before it unmaps: any part of a piece. */
static void vv_pool_sync_for_cpu(struct device *dev, dma_addr_t addr, size_t size,
				 enum dma_data_direction dir)
{
	unsigned long at, in = addr & (VV_TCE_PAGE - 1);
	struct vv *vv = dev_get_drvdata(dev);
	struct vv_chunk *c = vv_pool_chunk(vv, addr, &at);

	if (c && dir != DMA_TO_DEVICE)
		memcpy(phys_to_virt(c->original[at]) + in, c->va + at * VV_TCE_PAGE + in, size);
}

static void vv_pool_sync_for_device(struct device *dev, dma_addr_t addr, size_t size,
				    enum dma_data_direction dir)
{
	unsigned long at, in = addr & (VV_TCE_PAGE - 1);
	struct vv *vv = dev_get_drvdata(dev);
	struct vv_chunk *c = vv_pool_chunk(vv, addr, &at);

	if (c && dir != DMA_FROM_DEVICE)
		memcpy(c->va + at * VV_TCE_PAGE + in, phys_to_virt(c->original[at]) + in, size);
}

static size_t vv_pool_max_mapping_size(struct device *dev)
{
	return VV_PIECE_BYTES;
}

static int vv_pool_dma_supported(struct device *dev, u64 mask)
{
	struct vv *vv = dev_get_drvdata(dev);

	return mask >= vv->iommu.base + ((u64)vv->iommu.n << vv->iommu.shift) - 1;
}

static const struct dma_map_ops vv_pool_dma = {
	.alloc = vv_pool_alloc,
	.free = vv_pool_free,
	.map_page = vv_pool_map_page,
	.unmap_page = vv_pool_unmap_page,
	.map_sg = vv_map_sg,
	.unmap_sg = vv_unmap_sg,
	.sync_single_for_cpu = vv_pool_sync_for_cpu,
	.sync_single_for_device = vv_pool_sync_for_device,
	.max_mapping_size = vv_pool_max_mapping_size,
	.dma_supported = vv_pool_dma_supported,
};

static int vv_pool_add_chunk(struct vv *vv, struct vv_pool *p)
{
	struct vv_chunk *c = kzalloc(sizeof(*c), GFP_KERNEL);
	int rc;

	if (!c)
		return -ENOMEM;
	/* A power of two: aligned to its size, so that it crosses no LMB. */
	c->va = alloc_pages_exact(VV_CHUNK_BYTES, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
	if (!c->va) {
		kfree(c);
		return -ENOMEM;
	}
	c->at = vv_iommu_get(&vv->iommu, VV_CHUNK_PAGES);
	rc = c->at == VV_NO_SPACE ? -ENOSPC :
			     vv_window_add(vv, c->at, virt_to_phys(c->va), VV_CHUNK_BYTES);
	if (rc) {
		if (c->at != VV_NO_SPACE)
			vv_iommu_put(&vv->iommu, c->at, VV_CHUNK_PAGES);
		free_pages_exact(c->va, VV_CHUNK_BYTES);
		kfree(c);
		return rc;
	}
	p->chunk[p->n++] = c;
	return 0;
}

static int vv_pool_open(struct vv *vv)
{
	unsigned int n = clamp(pool_mib, 2u, 128u) / 2;
	struct vv_pool *p = kzalloc(struct_size(p, chunk, n), GFP_KERNEL);
	int rc = 0;

	if (!p)
		return -ENOMEM;
	spin_lock_init(&p->lock);
	vv->mapping_data = p;
	while (p->n < n && !rc)
		rc = vv_pool_add_chunk(vv, p);
	if (rc)
		dev_err(vv->dev, "a pool of %u MiB can't be made (%d): see pool_mib=\n", 2 * n, rc);
	return rc;
}

static void vv_pool_close(struct vv *vv)
{
	struct vv_pool *p = vv->mapping_data;

	if (!p)
		return;
	while (p->n) {
		struct vv_chunk *c = p->chunk[--p->n];

		if (!bitmap_empty(c->used, VV_CHUNK_PAGES))
			dev_warn(vv->dev, "%u pages of the pool are still in use\n",
				 bitmap_weight(c->used, VV_CHUNK_PAGES));
		vv_tce_unmap(&vv->iommu, c->at, VV_CHUNK_PAGES);
		vv_iommu_put(&vv->iommu, c->at, VV_CHUNK_PAGES);
		/* Chunk i is window i. What is still granted stays out of use: the hypervisor died with it. */
		if (!vv->window[p->n].granted)
			free_pages_exact(c->va, VV_CHUNK_BYTES);
		kfree(c);
	}
	kfree(p);
	vv->mapping_data = NULL;
	vv->n_windows = 0;
}

const struct vv_mapping vv_map_pool = {
	.name = "pool",
	.dma = &vv_pool_dma,
	.open = vv_pool_open,
	.close = vv_pool_close,
};
