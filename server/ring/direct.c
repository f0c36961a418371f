/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring access in place: the guest's descriptor table and available ring are read, its used ring
 * written, through accepted windows, without a call or a copy.
 *
 * What a request costs here is the transfer of cache lines from the guest's core, so their order is
 * chosen: the only line looked at while idle is the available index's; when it has moved,
 * everything else that can be guessed or is known is asked for at once and not one after the other.
 */
#include <stdlib.h>

#include "server/device.h"
#include "server/payload/payload.h"
#include "server/ring/desc.h"
#include "server/ring/ring.h"
#include "server/windows.h"
#include "vio/notify.h"

#define USED_PER_LINE (VIO_CACHE_LINE / sizeof(struct vring_used_elem))

static uint16_t *avail_event(const struct vio_squeue *q)
{
	return (uint16_t *)(void *)&q->used->ring[q->size];
}

/* One of the three parts; NULL with the queue's fault set. */
static void *part(struct vio_squeue *q, const char *name, struct ioba at, uint64_t len,
		  uint64_t align, uint8_t perm, struct vio_err *err)
{
	unsigned hint = 0;
	uint8_t why;
	void *p = vio_window_ptr(q->windows, at, len, perm, &hint, &why);

	if (p && at.v % align == 0 && (uintptr_t)p % align == 0)
		return p;
	vio_sq_fault(q, VIO_ST_QUEUE, at.v);
	vio_err_set(err, -EFAULT, "queue %u: its %s [0x%llx, +%llu) is %s", q->index, name,
		    (unsigned long long)at.v, (unsigned long long)len,
		    p ? "not aligned as VIRTIO 1.2 section 2.7 wants"
		    : why == VIO_ST_DESC_PERM
			    ? "in a window that does not permit the access"
			    : "not inside one window that the guest has registered");
	return NULL;
}

static void park(struct vio_squeue *q)
{
	vio_park(q->event_idx ? avail_event(q) : NULL, &q->used->flags, VRING_USED_F_NO_NOTIFY,
		 q->last_avail);
	q->parked_at = q->last_avail;
	q->notify.ask = VIO_ASK_PARKED;
}

/* A byte for each head: not 0 while it is in flight, taken by pop or by pop_plain. */
static uint8_t *taken_of(const struct vio_squeue *q)
{
	return q->ring_priv;
}

static int attach(struct vio_squeue *q, struct vio_err *err)
{
	uint64_t n = q->size;

	q->windows = vio_load_acquire(q->windows_src); /* pair R */
	q->desc = part(q, "descriptor table", q->place.desc, 16 * n, VRING_DESC_ALIGN_SIZE,
		       TCE_READ, err);
	if (!q->desc)
		return -EFAULT;
	q->avail = part(q, "available ring", q->place.avail, 6 + 2 * n, VRING_AVAIL_ALIGN_SIZE,
			TCE_READ, err);
	if (!q->avail)
		return -EFAULT;
	q->used = part(q, "used ring", q->place.used, 6 + 8 * n, VRING_USED_ALIGN_SIZE, TCE_WRITE,
		       err);
	if (!q->used)
		return -EFAULT;
	q->ring_priv = calloc(n, 1);
	if (!q->ring_priv)
		return vio_err_set(err, -ENOMEM, "queue %u: no memory for %u heads", q->index,
				   q->size);
	if (q->notify.looks)
		park(q);
	return 0;
}

static void detach(struct vio_squeue *q)
{
	q->desc = NULL;
	q->avail = NULL;
	q->used = NULL;
	free(q->ring_priv);
	q->ring_priv = NULL;
}

/* Ask for every line that the next steps will need and whose address is known or guessed. */
static inline void prefetch_turn(const struct vio_squeue *q, unsigned n)
{
	const uint16_t mask = (uint16_t)(q->size - 1);
	const uint8_t *used_slot = (const uint8_t *)&q->used->ring[q->used_idx & mask];

	__builtin_prefetch(&q->avail->ring[q->last_avail & mask], 0);
	if (n == 1 && q->in_flight == 0) {
		/*
		 * One request at a time: a driver takes the descriptors and the buffer that it just
		 * got back.
		 */
		__builtin_prefetch(&q->desc[q->prev_head & mask], 0);
		if (q->prev_hdr)
			__builtin_prefetch(q->prev_hdr, 1);
	} else {
		__builtin_prefetch(&q->avail->ring[(uint16_t)(q->last_avail + n - 1) & mask], 0);
	}
	/*
	 * The line that the guest spins on (used->idx) would only be taken away again before it is
	 * written.
	 */
	if (((uintptr_t)used_slot ^ (uintptr_t)q->used) >= VIO_CACHE_LINE)
		__builtin_prefetch(used_slot, 1);
	for (unsigned i = USED_PER_LINE; i < n; i += USED_PER_LINE)
		__builtin_prefetch(&q->used->ring[(q->used_idx + i) & mask], 1);
}

/*
 * The descriptor, loaded once, if it is all of its chain and as the device wants it; its head is
 * taken then.
 */
static inline bool plain_chain(struct vio_squeue *q, const struct vio_dev_ops *dev, uint8_t *taken,
			       struct vio_plain *v)
{
	struct vio_desc d;

	if (vio_unlikely(v->head >= q->size || taken[v->head]))
		return false;
	d = vio_desc_load(&q->desc[v->head]);
	if (vio_unlikely(d.flags != dev->plain_flags || d.len < dev->plain_min ||
			 d.len > dev->plain_max))
		return false;
	taken[v->head] = 1;
	v->at.v = d.addr;
	v->len = d.len;
	return true;
}

static unsigned pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max, bool *rest)
{
	const uint16_t mask = (uint16_t)(q->size - 1);
	const struct vio_dev_ops *dev = q->dev;
	uint16_t idx = vio_le16(vio_load_acquire(&q->avail->idx)); /* pair A */
	uint16_t fresh = (uint16_t)(idx - q->last_avail);
	unsigned n = fresh < max ? fresh : max, seen = 0, done;
	uint8_t *taken = taken_of(q);

	*rest = fresh > q->size; /* which pop says */
	if (fresh == 0 || vio_unlikely(*rest))
		return 0;
	prefetch_turn(q, n);
	q->more = fresh > n;
	q->windows =
		vio_load_acquire(q->windows_src); /* pair R; after the index, see server/req.h */
	for (unsigned i = 0; i < n; i++) {
		out[i].head = vio_le16(
			vio_load_relaxed(&q->avail->ring[(uint16_t)(q->last_avail + i) & mask]));
		__builtin_prefetch(&q->desc[out[i].head & mask], 0);
	}
	while (seen < n && plain_chain(q, dev, taken, &out[seen]))
		seen++;
	done = q->payload->plain(q, out, seen,
				 dev->plain_flags & VRING_DESC_F_WRITE ? TCE_WRITE : TCE_READ);
	for (unsigned i = done; i < seen; i++)
		taken[out[i].head] = 0;
	*rest = done < n;
	q->last_avail = (uint16_t)(q->last_avail + done);
	if (done > 0)
		q->prev_head = out[done - 1].head;
	return done;
}

static unsigned pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	const struct vio_desc_src src = {.table = q->desc, .n = q->size};
	const uint16_t mask = (uint16_t)(q->size - 1);
	uint16_t idx = vio_le16(vio_load_acquire(&q->avail->idx)); /* pair A */
	uint16_t fresh = (uint16_t)(idx - q->last_avail);
	uint16_t head[VIO_BURST];
	unsigned n = fresh < max ? fresh : max, done;
	uint8_t *taken = taken_of(q);

	if (fresh == 0)
		return 0;
	if (vio_unlikely(fresh > q->size)) {
		vio_sq_fault(q, VIO_ST_AVAIL_IDX, idx);
		return 0;
	}
	prefetch_turn(q, n);
	q->more = fresh > n;
	q->windows =
		vio_load_acquire(q->windows_src); /* pair R; after the index, see server/req.h */
	for (unsigned i = 0; i < n; i++) {
		head[i] = vio_le16(
			vio_load_relaxed(&q->avail->ring[(uint16_t)(q->last_avail + i) & mask]));
		__builtin_prefetch(&q->desc[head[i] & mask], 0);
		__builtin_prefetch(&q->req[head[i] & mask], 1);
		__builtin_prefetch(&q->req[head[i] & mask].hdr, 1);
	}
	for (done = 0; done < n; done++) {
		bool again = head[done] < q->size && taken[head[done]];
		uint8_t why =
			again ? VIO_ST_DESC_HEAD : vio_chain_walk(q, &src, head[done], &out[done]);

		if (vio_unlikely(why != VIO_ST_OK)) {
			vio_sq_fault(q, why, head[done]);
			break;
		}
		taken[head[done]] = 1;
	}
	q->last_avail = (uint16_t)(q->last_avail + done);
	if (done > 0)
		q->prev_head = head[done - 1];
	return done;
}

static inline void put_used(struct vring_used_elem *e, uint32_t id, uint32_t len)
{
	vio_store_relaxed(&e->id, vio_le32(id));
	vio_store_relaxed(&e->len, vio_le32(len));
}

/* What was put between index `old` and now is the guest's. */
static inline bool publish(struct vio_squeue *q, uint16_t old)
{
	return vio_publish_and_check(&q->used->idx, q->used_idx, old, &q->avail->ring[q->size],
				     &q->avail->flags, VRING_AVAIL_F_NO_INTERRUPT,
				     q->event_idx); /* pairs B, N */
}

static bool push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	const uint16_t mask = (uint16_t)(q->size - 1), old = q->used_idx;
	uint8_t *taken = taken_of(q);

	for (unsigned i = 0; i < n; i++) {
		put_used(&q->used->ring[q->used_idx++ & mask], r[i]->head, r[i]->used_len);
		r[i]->state = VIO_REQ_FREE;
		taken[r[i]->head] = 0;
	}
	return publish(q, old);
}

static bool push_plain(struct vio_squeue *q, const struct vio_plain v[], const uint32_t used_len[],
		       unsigned n)
{
	const uint16_t mask = (uint16_t)(q->size - 1), old = q->used_idx;
	uint8_t *taken = taken_of(q);

	for (unsigned i = 0; i < n; i++) {
		put_used(&q->used->ring[q->used_idx++ & mask], v[i].head,
			 used_len ? used_len[i] : 0);
		taken[v[i].head] = 0;
	}
	return publish(q, old);
}

static bool arm(struct vio_squeue *q)
{
	return vio_arm_and_recheck(q->event_idx ? avail_event(q) : NULL, &q->used->flags,
				   VRING_USED_F_NO_NOTIFY, &q->avail->idx,
				   q->last_avail); /* pairs A, N */
}

const struct vio_ring_ops vio_ring_direct = {
	.name = "direct",
	.free_look = true,
	.attach = attach,
	.detach = detach,
	.pop = pop,
	.pop_plain = pop_plain,
	.push_plain = push_plain,
	.push = push,
	.arm = arm,
	.park = park,
};
