/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>

#include "server/core/rdma.h"
#include "server/ring/order.h"
#include "server/ring/shadow.h"
#include "vio/notify.h"

uint64_t vio_shadow_bytes(uint16_t size)
{
	uint64_t n = size;

	/* Each part begins on a line of its own. */
	return VIO_ALIGN_UP(16 * n, VIO_CACHE_LINE) + VIO_ALIGN_UP(6 + 2 * n, VIO_CACHE_LINE) +
	       VIO_ALIGN_UP(6 + 8 * n, VIO_CACHE_LINE);
}

static bool aligned(const struct vio_squeue *q)
{
	return q->place.desc.v % VRING_DESC_ALIGN_SIZE == 0 &&
	       q->place.avail.v % VRING_AVAIL_ALIGN_SIZE == 0 &&
	       q->place.used.v % VRING_USED_ALIGN_SIZE == 0;
}

int vio_shadow_attach(struct vio_squeue *q, struct vio_err *err)
{
	uint64_t n = q->size;
	struct vio_shadow *s;

	if (!aligned(q)) {
		vio_sq_fault(q, VIO_ST_QUEUE, q->place.desc.v);
		return vio_err_set(
			err, -EFAULT,
			"queue %u: a ring is not aligned as VIRTIO 1.2 section 2.7 wants",
			q->index);
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return vio_err_set(err, -ENOMEM, "queue %u: no memory for its shadow ring",
				   q->index);
	s->stamp = calloc(n, sizeof(s->stamp[0]));
	if (vio_heads_new(q, err)) {
		q->ring_priv = s;
		vio_shadow_detach(q);
		return -ENOMEM;
	}
	s->desc = vio_sq_carve(q, 16 * n, VIO_CACHE_LINE, &s->desc_at);
	s->avail = vio_sq_carve(q, 6 + 2 * n, VIO_CACHE_LINE, &s->avail_at);
	s->used = vio_sq_carve(q, 6 + 8 * n, VIO_CACHE_LINE, &s->used_at);
	q->ring_priv = s;
	if (!s->stamp || !s->desc || !s->avail || !s->used) {
		vio_shadow_detach(q);
		return vio_err_set(
			err, -ENOMEM,
			"queue %u: its shadow rings need %llu bytes of server memory, %llu are there",
			q->index, (unsigned long long)vio_shadow_bytes(q->size),
			(unsigned long long)q->local_len);
	}
	memset(s->used, 0, 6 + 8 * n);
	s->idx = s->copied = q->last_avail;
	/* Rings that go on: what the driver has not taken yet of an earlier server's is not written over. */
	if (q->used_idx != 0 && vio_rdma_copy(q, q->place.used, s->used_at, 6 + 8 * n, true)) {
		vio_shadow_detach(q);
		return vio_err_set(err, -EFAULT, "queue %u: its used ring at 0x%llx can't be read",
				   q->index, (unsigned long long)q->place.used.v);
	}
	q->desc = s->desc;
	q->avail = s->avail;
	q->used = s->used;
	if (q->notify.looks) {
		vio_shadow_park(q);
		if (q->fault != VIO_ST_OK) {
			vio_shadow_detach(q);
			return vio_err_set(err, -EFAULT,
					   "queue %u: its used ring at 0x%llx can't be written",
					   q->index, (unsigned long long)q->place.used.v);
		}
	}
	return 0;
}

void vio_shadow_detach(struct vio_squeue *q)
{
	struct vio_shadow *s = q->ring_priv;

	if (s)
		free(s->stamp);
	free(s);
	q->ring_priv = NULL;
	vio_heads_free(q);
	q->desc = NULL;
	q->avail = NULL;
	q->used = NULL;
}

void vio_shadow_fault(struct vio_squeue *q, uint8_t why, struct ioba at)
{
	/* A ring that can't be reached is a wrong place for a queue, not a wrong descriptor. */
	vio_sq_fault(q, why == VIO_ST_NO_DMA ? why : VIO_ST_QUEUE, at.v);
}

/* Flags and index in one access; false with the queue's fault set. */
static bool read_idx(struct vio_squeue *q, struct vio_shadow *s)
{
	uint64_t buf[PHYP_REGS];
	uint16_t field[2];
	uint8_t why = vio_rdma_read(q, q->place.avail, sizeof(field), buf);

	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, q->place.avail);
		return false;
	}
	vio_fence_acquire(); /* pair D, for A: the index before what it covers, which later calls copy */
	memcpy(field, buf, sizeof(field));
	s->idx = vio_le16(field[1]);
	return true;
}

uint16_t vio_shadow_look(struct vio_squeue *q)
{
	struct vio_shadow *s = q->ring_priv;
	uint16_t fresh;

	if (!s->idx_known && !read_idx(q, s))
		return 0;
	s->idx_known = false;
	fresh = (uint16_t)(s->idx - q->last_avail);
	if (fresh > q->size) {
		vio_sq_fault(q, VIO_ST_AVAIL_IDX, s->idx);
		s->idx = q->last_avail; /* it covers nothing */
		return 0;
	}
	return fresh;
}

bool vio_shadow_publish(struct vio_squeue *q, uint16_t old)
{
	struct vio_shadow *s = q->ring_priv;
	uint16_t field[2] = {vio_le16(s->used_flags), vio_le16(q->used_idx)}, wish;
	struct ioba wish_at = q->event_idx ? vio_avail_entry_at(q, q->size) : q->place.avail;
	uint64_t buf[PHYP_REGS];
	uint8_t why;

	s->used->flags = field[0];
	s->used->idx = field[1];
	vio_fence_release(); /* pair D, for B: the elements, written by earlier calls, before the index */
	why = vio_rdma_write(q, q->place.used, sizeof(field), field);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, q->place.used);
		return false;
	}
	if (vio_notify_row(&q->notify)->always)
		return true; /* the guest is always told: its wish is not worth a call */
	vio_fence_full();    /* pair N: index before the load of the guest's wish */
	why = vio_rdma_read(q, wish_at, sizeof(wish), buf);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, wish_at);
		return false;
	}
	memcpy(&wish, buf, sizeof(wish));
	wish = vio_le16(wish);
	return q->event_idx ? vring_need_event(wish, q->used_idx, old)
			    : !(wish & VRING_AVAIL_F_NO_INTERRUPT);
}

/* Write our wish: the event index, or the flags. */
static void write_wish(struct vio_squeue *q, uint16_t event, uint16_t flags)
{
	struct vio_shadow *s = q->ring_priv;
	struct ioba at = q->event_idx ? vio_used_entry_at(q, q->size) : q->place.used;
	uint16_t *field =
		q->event_idx ? (uint16_t *)(void *)&s->used->ring[q->size] : &s->used->flags;
	uint8_t why;

	/* The shadow keeps it too: level copy writes it back with the ring. */
	*field = vio_le16(q->event_idx ? event : flags);
	if (!q->event_idx)
		s->used_flags = flags;
	why = vio_rdma_write(q, at, sizeof(*field), field);
	if (why != VIO_ST_OK)
		vio_shadow_fault(q, why, at);
}

bool vio_shadow_arm(struct vio_squeue *q)
{
	struct vio_shadow *s = q->ring_priv;

	write_wish(q, q->last_avail, 0);
	vio_fence_full(); /* pair N: our wish before the load of the guest's index */
	if (q->fault != VIO_ST_OK || !read_idx(q, s))
		return false;
	s->idx_known = s->idx != q->last_avail;
	return s->idx_known;
}

void vio_shadow_park(struct vio_squeue *q)
{
	write_wish(q, (uint16_t)(q->last_avail + VIO_EVENT_PARKED), VRING_USED_F_NO_NOTIFY);
	q->parked_at = q->last_avail;
	q->notify.ask = VIO_ASK_PARKED;
}
