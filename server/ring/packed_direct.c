/* SPDX-License-Identifier: BSD-3-Clause */
/* A packed ring in place: the guest's ring is read and written through an accepted window, without a call or a copy. */
#include "server/ring/packed.h"
#include "server/core/windows.h"

/* The driver's word (q->avail) and ours (q->used). */
static const uint32_t *packed_direct_theirs(const struct vio_squeue *q)
{
	return (const uint32_t *)(const void *)q->avail;
}
static uint32_t *packed_direct_ours(const struct vio_squeue *q)
{
	return (uint32_t *)(void *)q->used;
}

/* One of the three parts; NULL with the queue's fault set. */
static void *packed_direct_part(struct vio_squeue *q, const char *name, struct ioba at,
				uint64_t len, uint64_t align, uint8_t perm, struct vio_err *err)
{
	unsigned hint = 0;
	uint8_t why;
	void *p = vio_window_ptr(q->windows, at, len, perm, &hint, &why);

	if (p && at.v % align == 0 && (uintptr_t)p % align == 0)
		return p;
	vio_sq_fault(q, VIO_ST_QUEUE, at.v);
	vio_err_set(err, -EFAULT, "queue %u: its %s [0x%llx, +%llu) is %s", q->index, name,
		    (unsigned long long)at.v, (unsigned long long)len,
		    p ? "not aligned as VIRTIO 1.2 section 2.8 wants"
		    : why == VIO_ST_DESC_PERM
			    ? "in a window that does not permit the access"
			    : "not inside one window that the guest has registered");
	return NULL;
}

static void packed_direct_park(struct vio_squeue *q)
{
	vio_store_relaxed(packed_direct_ours(q), vio_packed_silence());
	q->parked_at = q->last_avail;
	q->notify.ask = VIO_ASK_PARKED;
}

static int packed_direct_attach(struct vio_squeue *q, struct vio_err *err)
{
	q->windows = vio_load_acquire(q->windows_src); /* pair R */
	q->desc = packed_direct_part(q, "descriptor ring", q->place.desc, 16ull * q->size, 16,
				     TCE_READ | TCE_WRITE, err);
	if (q->desc)
		q->avail = packed_direct_part(q, "driver event suppression", q->place.avail, 4, 4,
					      TCE_READ, err);
	if (q->avail)
		q->used = packed_direct_part(q, "device event suppression", q->place.used, 4, 4,
					     TCE_WRITE, err);
	if (!q->used)
		return -EFAULT;
	if (vio_heads_new(q, err))
		return -ENOMEM;
	if (q->notify.looks)
		packed_direct_park(q);
	return 0;
}

static void packed_direct_detach(struct vio_squeue *q)
{
	q->desc = NULL;
	q->avail = NULL;
	q->used = NULL;
	vio_heads_free(q);
}

/* After a pop. What follows, and the used descriptor that is filled next, are asked for while the requests are worked on. */
static inline void packed_direct_left(struct vio_squeue *q, unsigned n, unsigned max)
{
	if (n == 0)
		return;
	q->more = n == max && packed_there(q, q->last_avail);
	__builtin_prefetch(packed_at(q, q->last_avail), 0);
	__builtin_prefetch(packed_at(q, q->used_idx), 1);
}

static unsigned packed_direct_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
					bool *rest)
{
	const unsigned n = packed_pop_plain(q, out, max, q->size, rest);

	packed_direct_left(q, n, max);
	return n;
}

static unsigned packed_direct_pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	const unsigned n = packed_pop(q, out, max, q->size, NULL);

	packed_direct_left(q, n, max);
	return n;
}

static bool packed_direct_publish(struct vio_squeue *q, const struct packed_given *g)
{
	if (vio_unlikely(g->n == 0))
		return false;
	vio_store_release(&packed_at(q, g->from)->tail, g->tail); /* pair B */
	vio_fence_full(); /* pair N: the ring before the load of the guest's wish */
	return vio_packed_wants(vio_load_relaxed(packed_direct_theirs(q)), q->used_idx, g->from,
				q->size, q->event_idx);
}

static bool packed_direct_push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	const struct packed_given g = packed_push(q, r, n);

	return packed_direct_publish(q, &g);
}

static bool packed_direct_push_plain(struct vio_squeue *q, const struct vio_plain v[],
				     const uint32_t used_len[], unsigned n)
{
	const struct packed_given g = packed_push_plain(q, v, used_len, n);

	return packed_direct_publish(q, &g);
}

static bool packed_direct_arm(struct vio_squeue *q)
{
	vio_store_relaxed(packed_direct_ours(q), q->event_idx
							 ? vio_packed_ask_at(q->last_avail, q->size)
							 : vio_packed_ask());
	vio_fence_full(); /* pair N: our wish before the load of the ring */
	return packed_there(q, q->last_avail);
}

const struct vio_ring_ops vio_ring_packed_direct = {
	.name = "direct, packed",
	.free_look = true,
	.attach = packed_direct_attach,
	.detach = packed_direct_detach,
	.pop = packed_direct_pop,
	.pop_plain = packed_direct_pop_plain,
	.push_plain = packed_direct_push_plain,
	.push = packed_direct_push,
	.arm = packed_direct_arm,
	.park = packed_direct_park,
};
