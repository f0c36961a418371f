/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Disks that stop at an error (werror=, rerror=): the failed request and all that come later wait
 * until a person has made room and says so (vio_blk_resume()). A request that waits has no place in
 * server memory and no pointer to the guest's: whatever happens to the guest meanwhile, nothing of it is
 * used (docs/decisions/0015).
 */
#include <string.h>

#include "server/dev/blk/blk_priv.h"
#include "server/payload/payload.h"

/* What a disk stopped of, in one word, so that it is never half of one and half of another: 0 is none. */
#define WHY_OP_BIT     8
#define WHY_SECTOR_BIT 11
#define WHY_SECTOR_MAX (UINT64_MAX >> WHY_SECTOR_BIT)

static struct vio_disk *stop_disk_of(const struct vio_squeue *q)
{
	return vio_container_of(q->dq->dev, struct vio_disk, dev);
}

static uint64_t why_of(const struct vio_io *io)
{
	const uint64_t sector = io->offset / VIO_BLK_SECTOR;

	return (uint64_t)(-io->result & 0xff) | (uint64_t)io->op << WHY_OP_BIT |
	       (sector < WHY_SECTOR_MAX ? sector : WHY_SECTOR_MAX) << WHY_SECTOR_BIT;
}

bool vio_blk_stopped(const struct vio_disk *d, char *text, size_t len)
{
	const uint64_t why = vio_load_relaxed(&d->stopped);

	if (why)
		snprintf(text, len, "stopped: %s %s %llu", strerrorname_np((int)(why & 0xff)),
			 vio_io_op_name((uint8_t)(why >> WHY_OP_BIT & 7)),
			 (unsigned long long)(why >> WHY_SECTOR_BIT));
	else
		snprintf(text, len, "running");
	return why != 0;
}

bool vio_blk_resume(struct vio_disk *d)
{
	(void)vio_fetch_add(&d->epoch, 1);
	return vio_xchg_acq_rel(&d->stopped, 0) != 0;
}

/* Does the disk stop at how the store has answered? */
static bool stops_at(const struct vio_backend *be, const struct vio_req *r)
{
	const uint8_t at = r->io.op == VIO_IO_READ ? be->rerror : be->werror;

	/*
	 * A flush that failed is told: what it should have made durable may be gone from the host's cache,
	 * and the next one would succeed without it. What may still be executed is not sent a second time.
	 */
	if (r->kind == VIO_BLK_FLUSH || r->io.unsure || r->io.result == -EOPNOTSUPP)
		return false;
	return at == VIO_ON_ERROR_STOP || (at == VIO_ON_ERROR_ENOSPC && r->io.result == -ENOSPC);
}

/* To where a second try begins. A flush of ours that failed covers nothing: all before it is done again. */
static void rewind_request(struct vio_req *r)
{
	struct virtio_blk_outhdr hdr;

	if (r->io.op != VIO_IO_FLUSH)
		return;
	if (r->kind == VIO_BLK_RW) {
		r->io.op = VIO_IO_WRITE;
		return;
	}
	memcpy(&hdr, r->hdr, sizeof(hdr));
	r->io.op = vio_le32(hdr.type) == VIRTIO_BLK_T_DISCARD ? VIO_IO_DISCARD : VIO_IO_ZERO;
	for (r->range = 0, vio_blk_load_range(r); r->io.length == 0; vio_blk_load_range(r))
		r->range++; /* one has a length: it got here */
}

/* Give back what the request has of the payload level; nothing is copied to the guest. */
static void stop_let_go(struct vio_squeue *q, struct vio_req *r)
{
	const bool to_guest = r->to_guest;

	r->to_guest = false;
	q->payload->put(q, &r, 1);
	r->to_guest = to_guest;
	r->state = VIO_REQ_HELD;
}

/* Behind those that failed before it, and before those that were not begun. */
static void hold(struct vio_squeue *q, struct vio_req *r)
{
	struct vio_disk_queue *dq = vio_disk_queue_of(q);
	struct vio_req **at = dq->last_held ? &dq->last_held->next : &q->wait_head;

	r->next = *at;
	*at = r;
	if (!r->next)
		q->wait_tail = r;
	dq->last_held = r;
	q->n_wait++;
}

bool vio_blk_hold(struct vio_squeue *q, struct vio_req *r)
{
	struct vio_disk *d = stop_disk_of(q);
	uint64_t running = 0;

	if (vio_likely(!stops_at(d->be, r)))
		return false;
	vio_backend_count(d->be, r->io.result);
	/* One that was begun before a resumption fails of what was there before it, and is only done again. */
	if (r->epoch == vio_load_relaxed(&d->epoch) &&
	    vio_cas(&d->stopped, running, why_of(&r->io)))
		vio_backend_say(
			d->be,
			"stopped: %s of %llu bytes at sector %llu: %s; its guest waits for /vio/blk/resume,%u",
			vio_io_op_name(r->io.op), (unsigned long long)r->io.length,
			(unsigned long long)(r->io.offset / VIO_BLK_SECTOR),
			strerrordesc_np(-r->io.result), d->number);
	rewind_request(r);
	stop_let_go(q, r);
	hold(q, r);
	return true;
}

bool vio_blk_wait(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	const bool stopped = vio_load_relaxed(&stop_disk_of(q)->stopped);

	if (vio_likely(!stopped && !q->wait_head))
		return false;
	for (unsigned i = 0; stopped && i < n; i++)
		r[i]->state = VIO_REQ_HELD;
	vio_sq_wait(q, r, n, false);
	vio_blk_may_begin(q);
	return true;
}

bool vio_blk_may_begin(struct vio_squeue *q)
{
	/* Resumed and held: what has failed since then waits with the others, so that the adapter's wait for it ends. */
	if (vio_unlikely(vio_load_relaxed(&stop_disk_of(q)->stopped) ||
			 (q->parked && vio_load_acquire(&q->ctl) != VIO_SQ_RUN))) { /* pair K */
		if (q->parked == q->n_wait)
			return false;
		/* Those that waited for bounce room too: their windows may go while they wait. */
		for (struct vio_req *r = q->wait_head; r; r = r->next)
			r->state = VIO_REQ_HELD;
		vio_store_release(&q->parked, q->n_wait); /* pair Q */
		return false;
	}
	if (vio_likely(q->parked == 0))
		return true;
	/* Held, the adapter counts on those that are parked: it may be changing windows. */
	if (vio_load_acquire(&q->ctl) != VIO_SQ_RUN) /* pair K */
		return false;
	vio_disk_queue_of(q)->last_held = NULL;
	vio_store_release(&q->parked, 0); /* pair Q */
	return true;
}
