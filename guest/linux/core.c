// SPDX-License-Identifier: GPL-2.0
/*
 * virtio over a CRQ: an adapter's life, arms, and the worker that follows the server's coming and going.
 *
 * The virtio drivers are the kernel's own. Their addresses are I/O bus addresses of the adapter's DMA window
 * (VIRTIO_F_ACCESS_PLATFORM), which the adapter's dma_map_ops give out.
 */
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>

#include "vio/levels.h"
#include "virtio_vio.h"

static char *arm = "copy";
module_param(arm, charp, 0444);
MODULE_PARM_DESC(arm, "copy (as in 2010), copy-tuned, premapped or zero-copy");

static bool packed;
module_param(packed, bool, 0444);
MODULE_PARM_DESC(packed, "Take packed rings where the server has them; all arms have split ones otherwise");

/* docs/linux-guest.md says why each level is what it is in a kernel. */
static const struct vv_arm vv_arms[] = {
	{ "copy", &vv_map_single_use, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ, false,
	  false },
	{ "copy-tuned", &vv_map_deferred, VIO_RING_COPY_DELTA, VIO_PAYLOAD_RDMA,
	  VIO_NOTIFY_SUPPRESS, true, false },
	{ "premapped", &vv_map_pool, VIO_RING_DIRECT, VIO_PAYLOAD_BOUNCE, VIO_NOTIFY_POLL, true,
	  true },
	{ "zero-copy", &vv_map_direct, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL, true,
	  true },
};

static const struct vv_arm *vv_arm_named(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vv_arms); i++)
		if (!strcmp(vv_arms[i].name, name))
			return &vv_arms[i];
	return NULL;
}

int vv_arm_check(void)
{
	if (vv_arm_named(arm))
		return 0;
	pr_err("virtio_vio: arm=%s: it is copy, copy-tuned, premapped or zero-copy\n", arm);
	return -EINVAL;
}

/* -------------------------------------------------------------------- control memory */

static int vv_control_open(struct vv *vv)
{
	/* The server writes and reads the header, writes config space, reads the descriptor. */
	static const u64 perm[VV_PAGES] = {
		[VV_HEADER] = TCE_READ | TCE_WRITE,
		[VV_CONFIG] = TCE_WRITE,
		[VV_WDESC] = TCE_READ,
		[VV_CRQ] = TCE_READ | TCE_WRITE, /* the hypervisor's */
	};
	struct vv_iommu *m = &vv->iommu;
	unsigned long at;
	unsigned int i;
	int rc = 0;

	vv->control = alloc_pages_exact(VV_PAGES * VV_TCE_PAGE, GFP_KERNEL | __GFP_ZERO);
	if (!vv->control)
		return -ENOMEM;
	at = vv_iommu_get(m, VV_PAGES);
	if (at == VV_NO_SPACE)
		rc = -ENOSPC;
	for (i = 0; i < VV_PAGES && !rc; i++) {
		vv->page_at[i] = m->base + ((u64)(at + i) << m->shift);
		rc = vv_tce_map(m, at + i, virt_to_phys(vv_page(vv, i)), 1, perm[i]);
	}
	if (!rc)
		return 0;
	dev_err(vv->dev, "mapping the adapter's control memory failed (%d)\n", rc);
	if (at != VV_NO_SPACE) {
		vv_tce_unmap(m, at, VV_PAGES);
		vv_iommu_put(m, at, VV_PAGES);
	}
	free_pages_exact(vv->control, VV_PAGES * VV_TCE_PAGE);
	vv->control = NULL;
	return rc;
}

static void vv_control_close(struct vv *vv)
{
	struct vv_iommu *m = &vv->iommu;
	unsigned long at = (vv->page_at[0] - m->base) >> m->shift;

	if (!vv->control)
		return;
	vv_tce_unmap(m, at, VV_PAGES);
	vv_iommu_put(m, at, VV_PAGES);
	free_pages_exact(vv->control, VV_PAGES * VV_TCE_PAGE);
}

/* ------------------------------------------------------------------------- the worker */

static void vv_release_device(struct device *dev)
{
	kfree(container_of(dev, struct vv_device, vdev.dev));
}

/* The worker sees d no more, and our reference to it goes. */
static void vv_forget(struct vv *vv, struct vv_device *d)
{
	WRITE_ONCE(vv->d, NULL);
	cancel_delayed_work_sync(&vv->work);
	put_device(&d->vdev.dev);
	queue_delayed_work(system_long_wq, &vv->work, VV_AGAIN_S * HZ); /* what it was to see, or to try again */
}

/*
 * A server is there, and no device yet, or one whose driver's probe failed because the server went: PROBE, and
 * give it to the kernel's drivers. A disk's driver reads the partition table before this returns; should the
 * server end meanwhile, vv_work() goes on with the next one.
 */
static void vv_register(struct work_struct *work)
{
	struct vv *vv = container_of(work, struct vv, reg);
	struct vv_device *d;
	int rc;

	if (READ_ONCE(vv->closing) || (vv->d && !READ_ONCE(vv->lost)))
		return;
	WRITE_ONCE(vv->lost, false);
	if (vv->d && READ_ONCE(vv->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		return;
	d = vv->d;
	if (d) {
		get_device(&d->vdev.dev);
		unregister_virtio_device(&d->vdev);
		virtio_reset_device(&d->vdev); /* what its probe had agreed since */
		vv_forget(vv, d);
	}
	rc = vv_probe_device(vv);
	if (rc == -ETIMEDOUT) {
		/* Slow, or its answer was lost: as in vv_reset(), and the next hello leads here again. */
		vv_crq_close(vv);
		vv_crq_open(vv);
	}
	if (rc)
		return; /* said; the server's next start is another try */
	d = kzalloc(sizeof(*d), GFP_KERNEL);
	if (!d)
		return;
	d->vv = vv;
	d->vdev.dev.parent = vv->dev;
	d->vdev.dev.release = vv_release_device;
	d->vdev.id.vendor = VIRTIO_DEV_ANY_ID;
	d->vdev.id.device = vv->type;
	d->vdev.config = &vv_config_ops;
	/* As register_virtio_device() does: vv_work() may break the device before that comes to it. */
	INIT_LIST_HEAD(&d->vdev.vqs);
	spin_lock_init(&d->vdev.vqs_list_lock);
	spin_lock_init(&d->vdev.config_lock);
	smp_store_release(&vv->d, d); /* pair RD: made before it is seen */
	rc = register_virtio_device(&d->vdev);
	if (rc) {
		dev_err(vv->dev, "registering the virtio device failed (%d)\n", rc);
		vv_forget(vv, d);
	}
}

static void vv_tell_config(struct vv *vv, struct vv_device *d)
{
	bool told;

	spin_lock_irq(&vv->lock);
	told = vv->config_told;
	vv->config_told = false;
	spin_unlock_irq(&vv->lock);
	if (told && d)
		virtio_config_changed(&d->vdev);
}

/* Jiffies until the worker has to come again. */
static unsigned long vv_ask_for_server(struct vv *vv)
{
	u32 session = READ_ONCE(vv->session);
	long left = (long)(vv->hello_at - jiffies);

	if (vv->hello_session != session) {
		vv->hello_session = session;
		vv->hello_ms = 0;
	}
	if (vv->hello_ms && left > 0)
		return left;
	vv_hello(vv);
	vv->hello_ms = vv->hello_ms ? min(2 * vv->hello_ms, VV_HELLO_MOST_MS) : VV_HELLO_MS;
	vv->hello_at = jiffies + msecs_to_jiffies(vv->hello_ms);
	return msecs_to_jiffies(vv->hello_ms);
}

static void vv_work(struct work_struct *work)
{
	struct vv *vv = container_of(to_delayed_work(work), struct vv, work);
	struct vv_device *d = smp_load_acquire(&vv->d); /* pair RD */

	if (vio_hv_dead()) {
		if (d)
			virtio_break_device(&d->vdev);
		return;
	}
	vv_drain(vv);
	switch (READ_ONCE(vv->state)) {
	case VV_DOWN:
		mod_delayed_work(system_long_wq, &vv->work, vv_ask_for_server(vv));
		break;
	case VV_UP:
		if (!d || READ_ONCE(vv->lost))
			queue_work(system_long_wq, &vv->reg);
		if (d)
			vv_resume(vv);
		break;
	case VV_RUNNING:
		vv_kick_again(vv);
		break;
	case VV_STOPPED:
		if (d && !(vv->status & VIRTIO_CONFIG_S_NEEDS_RESET)) {
			vv->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
			dev_err(vv->dev, "the server stopped the device: %s\n",
				vio_status_text(vv->why));
			virtio_break_device(&d->vdev);
		}
		break;
	}
	vv_tell_config(vv, d);
}

/* ---------------------------------------------------------------------------- adapters */

void vv_close(struct vv *vv)
{
	struct vv_device *d;

	/* The worker runs on until the device has gone: what is in flight may need another server for that. */
	WRITE_ONCE(vv->closing, true);
	cancel_work_sync(&vv->reg);
	d = vv->d;
	if (d) {
		get_device(&d->vdev.dev); /* the worker still sees it */
		unregister_virtio_device(&d->vdev);
	}
	cancel_delayed_work_sync(&vv->work);
	vv_crq_close(vv);
	cancel_delayed_work_sync(&vv->work);
	cancel_work_sync(&vv->reg);
	if (d)
		put_device(&d->vdev.dev);
	vv_windows_void_all(vv);
	vv_control_close(vv);
	if (vv->arm->mapping->close)
		vv->arm->mapping->close(vv);
	vv_iommu_close(vv);
	set_dma_ops(vv->dev, NULL);
	vv->dev->dma_mask = NULL; /* it was vv's */
	dev_set_drvdata(vv->dev, NULL);
	kfree(vv);
}

int vv_open(struct device *dev, struct vio_hv_device *hdev)
{
	const struct vv_arm *a = vv_arm_named(arm);
	struct vv *vv = kzalloc(sizeof(*vv), GFP_KERNEL);
	int rc;

	if (!vv)
		return -ENOMEM;
	vv->dev = dev;
	vv->hdev = hdev;
	vv->u = &hdev->u;
	vv->arm = a;
	vv->packed = packed;
	spin_lock_init(&vv->lock);
	spin_lock_init(&vv->queues_lock);
	vv->used = vv_used;
	mutex_init(&vv->ask);
	mutex_init(&vv->life);
	init_waitqueue_head(&vv->wait);
	INIT_DELAYED_WORK(&vv->work, vv_work);
	INIT_WORK(&vv->reg, vv_register);
	dev_set_drvdata(dev, vv);
	vv->dma_mask = DMA_BIT_MASK(64);
	dev->dma_mask = &vv->dma_mask;
	dev->coherent_dma_mask = DMA_BIT_MASK(64);
	set_dma_ops(dev, a->mapping->dma);
	rc = vv_iommu_open(vv);
	if (!rc && a->mapping->open)
		rc = a->mapping->open(vv);
	if (!rc)
		rc = vv_control_open(vv);
	if (!rc)
		rc = vv_crq_open(vv);
	if (!rc)
		return 0;
	vv_close(vv);
	return rc;
}
