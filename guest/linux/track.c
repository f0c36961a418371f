// SPDX-License-Identifier: GPL-2.0
/*
 * What is in flight in a queue. virtio_ring keeps that to itself, and its drivers can't send a request anew;
 * but the rings tell it to whoever looks often enough: before an entry is overwritten, a ring's length later.
 * Each request is mapped before it is made available, so that a look at each map misses none.
 */
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/virtio_ring.h>

#include "virtio_vio.h"

int vv_track_start(struct vv_queue *q, u16 size)
{
	struct vv_track *t = &q->track;

	spin_lock_init(&t->lock);
	t->avail = 0;
	t->used = 0;
	t->lost = false;
	t->clock = 0;
	t->stamp = kcalloc(size, sizeof(*t->stamp), GFP_KERNEL);
	return t->stamp ? 0 : -ENOMEM;
}

void vv_track_stop(struct vv_queue *q)
{
	kfree(q->track.stamp);
	q->track.stamp = NULL;
}

/* With the lock. */
static void vv_track_made(struct vv_track *t, const struct vring *r, u16 from, u16 to)
{
	for (; from != to; from++) {
		u16 head = le16_to_cpu((__force __le16)READ_ONCE(r->avail->ring[from % r->num]));

		if (head < r->num)
			t->stamp[head] = ++t->clock;
	}
}

/* With the lock. */
static void vv_track_ended(struct vv_track *t, const struct vring *r, u16 from, u16 to)
{
	for (; from != to; from++) {
		u32 head = le32_to_cpu((__force __le32)READ_ONCE(r->used->ring[from % r->num].id));

		if (head < r->num)
			t->stamp[head] = 0;
	}
}

/*
 * A head can have come and gone and come again since the last look. So entries are taken in steps in which
 * each head appears once: as many as became available, then what was used of them.
 */
static void vv_track_queue(struct vv_queue *q)
{
	const struct vring *r = virtqueue_get_vring(q->vq);
	struct vv_track *t = &q->track;
	u16 avail, used;

	used = le16_to_cpu((__force __le16)smp_load_acquire(&r->used->idx)); /* pair B */
	avail = le16_to_cpu((__force __le16)smp_load_acquire(&r->avail->idx)); /* pair A */
	if ((u16)(avail - t->avail) > r->num || (u16)(used - t->used) > r->num)
		t->lost = true;
	if (t->lost)
		return;
	while (t->avail != avail || t->used != used) {
		/* In flight never exceeds the ring: what does not fit came after something was used. */
		u16 room = r->num - (u16)(t->avail - t->used);
		u16 a = min_t(u16, avail - t->avail, room), u;

		vv_track_made(t, r, t->avail, t->avail + a);
		t->avail += a;
		u = min_t(u16, used - t->used, t->avail - t->used);
		vv_track_ended(t, r, t->used, t->used + u);
		t->used += u;
		if (!a && !u) {
			t->lost = true; /* used that was never available */
			return;
		}
	}
}

void vv_track_look(struct vv *vv)
{
	unsigned long flags;
	unsigned int i;

	for (i = 0; i < vv->num_queues; i++) {
		struct vv_queue *q = &vv->queue[i];

		if (!READ_ONCE(q->vq) || !q->track.stamp)
			continue;
		spin_lock_irqsave(&q->track.lock, flags);
		vv_track_queue(q);
		spin_unlock_irqrestore(&q->track.lock, flags);
	}
}

struct vv_flight {
	u64 stamp;
	u16 head;
};

static int vv_flight_order(const void *a, const void *b)
{
	const struct vv_flight *x = a, *y = b;

	return x->stamp < y->stamp ? -1 : x->stamp > y->stamp;
}

int vv_track_rebase(struct vv_queue *q, u16 *base)
{
	const struct vring *r = virtqueue_get_vring(q->vq);
	struct vv_track *t = &q->track;
	struct vv_flight *f;
	unsigned long flags;
	unsigned int i, n = 0;
	int rc = -EIO;

	if (!t->stamp)
		return -EIO;
	f = kcalloc(r->num, sizeof(*f), GFP_NOIO); /* I/O may wait for this very disk */
	if (!f)
		return -ENOMEM;
	spin_lock_irqsave(&t->lock, flags);
	vv_track_queue(q);
	for (i = 0; i < r->num; i++)
		if (t->stamp[i])
			f[n++] = (struct vv_flight){ t->stamp[i], i };
	if (!t->lost && n == (u16)(t->avail - t->used)) {
		sort(f, n, sizeof(*f), vv_flight_order, NULL);
		/* The driver adds at t->avail and after, which these slots end before. */
		for (i = 0; i < n; i++)
			WRITE_ONCE(r->avail->ring[(u16)(t->used + i) % r->num],
				   (__force __virtio16)cpu_to_le16(f[i].head));
		*base = t->used;
		rc = 0;
	}
	spin_unlock_irqrestore(&t->lock, flags);
	kfree(f);
	return rc;
}
