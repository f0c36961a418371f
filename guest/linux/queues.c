// SPDX-License-Identifier: GPL-2.0
/* Virtqueues: the kernel's own (virtio_ring), in memory that the mapping level provides. */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "virtio_vio.h"

#define VV_RING_ALIGN SMP_CACHE_BYTES

static bool vv_notify(struct virtqueue *vq)
{
	struct vv *vv = to_vv(vq->vdev);

	if (!vv_kick(vv, vq->index)) {
		WRITE_ONCE(vv->queue[vq->index].kick, true);
		mod_delayed_work(system_long_wq, &vv->work, 1);
	}
	return !vio_hv_dead(); /* false: the queue is broken, and what the driver adds fails */
}

void vv_kick_again(struct vv *vv)
{
	unsigned int i;

	for (i = 0; i < vv->num_queues; i++) {
		if (!READ_ONCE(vv->queue[i].kick))
			continue;
		WRITE_ONCE(vv->queue[i].kick, false);
		if (!vv_kick(vv, i)) {
			WRITE_ONCE(vv->queue[i].kick, true);
			mod_delayed_work(system_long_wq, &vv->work, 1);
		}
	}
}

void vv_used(struct vv *vv, u64 queues)
{
	unsigned long flags;

	spin_lock_irqsave(&vv->queues_lock, flags); /* which no queue goes under */
	vv_track_look(vv); /* before the drivers take what was used, and use it again */
	while (queues) {
		unsigned int i = __ffs64(queues);

		queues &= queues - 1;
		if (vv->queue[i].vq)
			vring_interrupt(0, vv->queue[i].vq);
	}
	spin_unlock_irqrestore(&vv->queues_lock, flags);
}

static void vv_del_vq(struct vv *vv, unsigned int i)
{
	struct virtqueue *vq = vv->queue[i].vq;

	spin_lock_irq(&vv->queues_lock);
	vv->queue[i].vq = NULL;
	spin_unlock_irq(&vv->queues_lock);
	if (!vq)
		return;
	vring_del_virtqueue(vq);
	vv_track_stop(&vv->queue[i]);
}

void vv_del_vqs(struct virtio_device *vdev)
{
	struct vv *vv = to_vv(vdev);
	unsigned int i;

	for (i = 0; i < VIO_MAX_QUEUES; i++)
		vv_del_vq(vv, i);
}

static struct virtqueue *vv_new_vq(struct vv *vv, unsigned int i, vq_callback_t *callback,
				   const char *name, bool ctx)
{
	struct vv_queue *q = &vv->queue[i];
	struct virtqueue *vq;

	if (i >= vv->num_queues)
		return ERR_PTR(-ENOENT);
	vq = vring_create_virtqueue(i, vv->queue_size, VV_RING_ALIGN, &vv->d->vdev, true, true,
				    ctx, vv_notify, callback, name);
	if (!vq)
		return ERR_PTR(-ENOMEM);
	vq->num_max = vv->queue_size;
	*q = (struct vv_queue){
		.desc = virtqueue_get_desc_addr(vq),
		.avail = virtqueue_get_avail_addr(vq),
		.used = virtqueue_get_used_addr(vq),
		.size = virtqueue_get_vring_size(vq),
	};
	if (!vv->packed_agreed && vv_track_start(q, q->size)) {
		vring_del_virtqueue(vq);
		return ERR_PTR(-ENOMEM);
	}
	spin_lock_irq(&vv->queues_lock);
	q->vq = vq;
	spin_unlock_irq(&vv->queues_lock);
	return vq;
}

int vv_find_vqs(struct virtio_device *vdev, unsigned int nvqs, struct virtqueue *vqs[],
		vq_callback_t *callbacks[], const char *const names[], const bool *ctx,
		struct irq_affinity *desc)
{
	struct vv *vv = to_vv(vdev);
	unsigned int i, n = 0;

	for (i = 0; i < nvqs; i++) {
		if (!names[i]) {
			vqs[i] = NULL;
			continue;
		}
		vqs[i] = vv_new_vq(vv, n++, callbacks[i], names[i], ctx ? ctx[i] : false);
		if (IS_ERR(vqs[i])) {
			int rc = PTR_ERR(vqs[i]);

			vv_del_vqs(vdev);
			return rc;
		}
	}
	return 0;
}

static int vv_say_queue(struct vv *vv, u16 i, u8 part, u64 arg)
{
	struct vio_msg m = { .op = VIO_OP_QUEUE, .arg8 = part, .arg16 = i, .arg = arg };

	return vv_send(vv, &m);
}

static int vv_announce_queue(struct vv *vv, u16 i, bool resume)
{
	struct vv_queue *q = &vv->queue[i];
	const u64 arg[] = {
		[VIO_QUEUE_DESC] = q->desc,
		[VIO_QUEUE_AVAIL] = q->avail,
		[VIO_QUEUE_USED] = q->used,
		[VIO_QUEUE_SIZE] = q->size,
	};
	unsigned int part;
	u16 base = 0;
	int rc = 0;

	for (part = 0; part < ARRAY_SIZE(arg) && !rc; part++)
		rc = vv_say_queue(vv, i, part, arg[part]);
	if (rc || !resume)
		return rc;
	rc = vv_track_rebase(q, &base);
	if (rc)
		dev_err(vv->dev, "queue %u: what was in flight is not known\n", i);
	return rc ?: vv_say_queue(vv, i, VIO_QUEUE_BASE, base);
}

int vv_announce_queues(struct vv *vv, bool resume)
{
	unsigned int i;
	int rc = 0;

	for (i = 0; i < vv->num_queues && !rc; i++)
		if (vv->queue[i].vq)
			rc = vv_announce_queue(vv, i, resume);
	return rc;
}

void vv_stir_queues(struct vv *vv)
{
	u64 all = 0;
	unsigned int i;

	for (i = 0; i < vv->num_queues; i++) {
		if (!vv->queue[i].vq)
			continue;
		vv_kick(vv, i);
		all |= 1ull << i;
	}
	vv_used(vv, all);
}
