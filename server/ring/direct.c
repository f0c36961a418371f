/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring access in place: the guest's descriptor table and available ring are read, its used ring
 * written, through accepted windows, without a call or a copy.
 *
 * What a request costs here is the transfer of cache lines from the guest's core, so their order is
 * chosen: the only line looked at while idle is the available index's; when it has moved,
 * everything else that can be guessed or is known is asked for at once and not one after the other.
 */
#include "server/ring/split.h"
#include "server/core/windows.h"
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

static void split_direct_park(struct vio_squeue *q)
{
	vio_park(q->event_idx ? avail_event(q) : NULL, &q->used->flags, VRING_USED_F_NO_NOTIFY,
		 q->last_avail);
	q->parked_at = q->last_avail;
	q->notify.ask = VIO_ASK_PARKED;
}

static int split_direct_attach(struct vio_squeue *q, struct vio_err *err)
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
	if (vio_heads_new(q, err))
		return -ENOMEM;
	if (q->notify.looks)
		split_direct_park(q);
	return 0;
}

static void split_direct_detach(struct vio_squeue *q)
{
	q->desc = NULL;
	q->avail = NULL;
	q->used = NULL;
	vio_heads_free(q);
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

/* New available entries, at most `max`; 0 also with the queue's fault set. */
static inline unsigned split_direct_look(struct vio_squeue *q, unsigned max)
{
	const uint16_t idx = vio_le16(vio_load_acquire(&q->avail->idx)); /* pair A */
	const uint16_t fresh = (uint16_t)(idx - q->last_avail);
	const unsigned n = fresh < max ? fresh : max;

	if (fresh == 0)
		return 0;
	if (vio_unlikely(fresh > q->size)) {
		vio_sq_fault(q, VIO_ST_AVAIL_IDX, idx);
		return 0;
	}
	prefetch_turn(q, n);
	q->more = fresh > n;
	return n;
}

static unsigned split_direct_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
				       bool *rest)
{
	const unsigned n = split_direct_look(q, max);

	*rest = false;
	return n ? split_pop_plain(q, out, n, rest, NULL) : 0;
}

static unsigned split_direct_pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	const unsigned n = split_direct_look(q, max);

	return n ? split_pop(q, out, n, NULL) : 0;
}

/* What was put from index s.old on is the guest's. */
static inline bool split_direct_publish(struct vio_squeue *q, struct split_span s)
{
	if (vio_unlikely(s.n == 0))
		return false;
	return vio_publish_and_check(&q->used->idx, q->used_idx, s.old, &q->avail->ring[q->size],
				     &q->avail->flags, VRING_AVAIL_F_NO_INTERRUPT,
				     q->event_idx); /* pairs B, N */
}

static bool split_direct_push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	return split_direct_publish(q, split_push(q, r, n));
}

static bool split_direct_push_plain(struct vio_squeue *q, const struct vio_plain v[],
				    const uint32_t used_len[], unsigned n)
{
	return split_direct_publish(q, split_push_plain(q, v, used_len, n));
}

static bool split_direct_arm(struct vio_squeue *q)
{
	return vio_arm_and_recheck(q->event_idx ? avail_event(q) : NULL, &q->used->flags,
				   VRING_USED_F_NO_NOTIFY, &q->avail->idx,
				   q->last_avail); /* pairs A, N */
}

const struct vio_ring_ops vio_ring_direct = {
	.name = "direct",
	.free_look = true,
	.attach = split_direct_attach,
	.detach = split_direct_detach,
	.pop = split_direct_pop,
	.pop_plain = split_direct_pop_plain,
	.push_plain = split_direct_push_plain,
	.push = split_direct_push,
	.arm = split_direct_arm,
	.park = split_direct_park,
};
