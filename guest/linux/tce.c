// SPDX-License-Identifier: GPL-2.0
/*
 * The adapter's DMA window: addresses and TCEs.
 *
 * A TCE's page is 4 KiB, whatever the kernel's is. Addresses are given out next-fit: one that has just been
 * unmapped comes back as late as possible, so that a stale access meets no mapping rather than another's.
 */
#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/percpu.h>
#include <linux/vmalloc.h>

#include "virtio_vio.h"

/* A call that is busy is asked again for so long. */
#define VV_BUSY_NS 100000000ull

/* ------------------------------------------------------------------------------- TCEs */

/* Where H_PUT_TCE_INDIRECT finds its list: a page for each processor, used with interrupts off. */
static DEFINE_PER_CPU(__be64 *, vv_list);

int vv_lists_alloc(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		__be64 *page = (__be64 *)__get_free_page(GFP_KERNEL);

		if (!page) {
			vv_lists_free();
			return -ENOMEM;
		}
		per_cpu(vv_list, cpu) = page;
	}
	return 0;
}

void vv_lists_free(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		free_page((unsigned long)per_cpu(vv_list, cpu));
		per_cpu(vv_list, cpu) = NULL;
	}
}

static s64 vv_call_patiently(u64 op, u64 a, u64 b, u64 c, u64 d)
{
	u64 end = 0;
	s64 rc;

	while (vio_hv_busy(rc = vio_hv_call4(op, a, b, c, d))) {
		if (!end)
			end = ktime_get_mono_fast_ns() + VV_BUSY_NS;
		if (ktime_get_mono_fast_ns() > end)
			break;
	}
	return rc;
}

/* n <= TCE_MAX_MULTI */
static s64 vv_put_tces(struct vv_iommu *m, u64 ioba, phys_addr_t phys, unsigned long n, u64 perm)
{
	unsigned long flags, i;
	__be64 *list;
	s64 rc;

	if (n == 1)
		return vv_call_patiently(H_PUT_TCE, m->liobn, ioba, phys | perm, 0);
	local_irq_save(flags);
	list = this_cpu_read(vv_list);
	for (i = 0; i < n; i++)
		list[i] = cpu_to_be64((phys + (i << m->shift)) | perm);
	rc = vv_call_patiently(H_PUT_TCE_INDIRECT, m->liobn, ioba, virt_to_phys(list), n);
	local_irq_restore(flags);
	return rc;
}

int vv_tce_map(struct vv_iommu *m, unsigned long at, phys_addr_t phys, unsigned long n, u64 perm)
{
	unsigned long done, k;

	for (done = 0; done < n; done += k) {
		k = min_t(unsigned long, n - done, TCE_MAX_MULTI);
		if (vv_put_tces(m, m->base + ((u64)(at + done) << m->shift),
				phys + ((phys_addr_t)done << m->shift), k, perm) != H_SUCCESS) {
			vv_tce_unmap(m, at, done + k); /* a failed call may have set some */
			return -EIO;
		}
	}
	return 0;
}

void vv_tce_unmap(struct vv_iommu *m, unsigned long at, unsigned long n)
{
	unsigned long done, k;

	for (done = 0; done < n; done += k) {
		u64 ioba = m->base + ((u64)(at + done) << m->shift);

		k = min_t(unsigned long, n - done, TCE_MAX_MULTI);
		if (k == 1)
			vv_call_patiently(H_PUT_TCE, m->liobn, ioba, 0, 0);
		else
			vv_call_patiently(H_STUFF_TCE, m->liobn, ioba, 0, k);
	}
}

/* ------------------------------------------------------------------------- addresses */

int vv_iommu_open(struct vv *vv)
{
	struct vv_iommu *m = &vv->iommu;

	if (vv->u->page_shift != 12) {
		dev_err(vv->dev, "TCE pages of %llu bytes: this driver knows 4096\n",
			1ull << vv->u->page_shift);
		return -EOPNOTSUPP;
	}
	spin_lock_init(&m->lock);
	m->shift = vv->u->page_shift;
	m->base = vv->u->window;
	m->liobn = vv->u->liobn;
	m->n = vv->u->window_bytes >> m->shift;
	m->next = 0;
	m->map = vzalloc(BITS_TO_LONGS(m->n) * sizeof(long));
	return m->map ? 0 : -ENOMEM;
}

void vv_iommu_close(struct vv *vv)
{
	struct vv_iommu *m = &vv->iommu;

	if (m->map && !bitmap_empty(m->map, m->n))
		dev_warn(vv->dev, "%u TCEs are still mapped\n", bitmap_weight(m->map, m->n));
	vfree(m->map);
	m->map = NULL;
}

unsigned long vv_iommu_get(struct vv_iommu *m, unsigned long n)
{
	unsigned long at, flags;

	spin_lock_irqsave(&m->lock, flags);
	at = bitmap_find_next_zero_area(m->map, m->n, m->next, n, 0);
	if (at >= m->n)
		at = bitmap_find_next_zero_area(m->map, m->n, 0, n, 0);
	if (at < m->n) {
		bitmap_set(m->map, at, n);
		m->next = at + n;
	} else {
		at = VV_NO_SPACE;
	}
	spin_unlock_irqrestore(&m->lock, flags);
	return at;
}

void vv_iommu_put(struct vv_iommu *m, unsigned long at, unsigned long n)
{
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	bitmap_clear(m->map, at, n);
	spin_unlock_irqrestore(&m->lock, flags);
}
