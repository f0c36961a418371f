/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "server/core/squeue.h"
#include "server/dev/pull.h"
#include "server/payload/payload.h"

/* [at, at+len) of the chain for this CPU; NULL with r->fault set. payload->put ends it. */
static void *pull_map(struct vio_squeue *q, struct vio_req *r, struct vio_seg *piece)
{
	r->data = piece;
	r->n_data = 1;
	r->data_len = piece->len;
	r->to_guest = piece->dev_writes;
	r->bounce = NULL;
	r->waits = false;
	q->payload->get(q, &r, 1);
	if (r->waits) /* can't be: nothing else of this queue is under way */
		r->fault = VIO_ST_NO_DMA;
	return r->fault == VIO_ST_OK ? r->iov[0].iov_base : NULL;
}

/* Segment i of the chain, whose first ones the request has. NULL: there is none. */
static const struct vio_seg *pull_seg(const struct vio_squeue *q, const struct vio_req *r,
				      unsigned i)
{
	if (vio_likely(r->n_seg <= VIO_MAX_SEGS))
		return i < r->n_seg ? &r->seg[i] : NULL;
	if (i < VIO_MAX_SEGS - 1u)
		return &r->seg[i];
	i -= VIO_MAX_SEGS - 1u;
	return i < q->n_tail ? &q->tail[i] : NULL;
}

/* Up to `most` bytes of the chain from its place on; how many. r->fault may be set. */
static uint32_t pull_move(struct vio_squeue *q, struct vio_pull *p, uint32_t most)
{
	struct vio_req *r = p->r;
	const struct vio_seg *s;
	uint32_t moved = 0;

	while (moved < most && (s = pull_seg(q, r, p->seg)) != NULL) {
		uint32_t left = s->len - p->off, n = most - moved,
			 can = p->to_guest ? vio_bytes_ready(p->bytes) : vio_bytes_room(p->bytes);
		struct vio_seg piece;
		void *va;

		n = n < left ? n : left;
		n = n < can ? n : can;
		if (n == 0)
			break;
		piece = (struct vio_seg){ioba_add(s->at, p->off), n, p->to_guest};
		va = pull_map(q, r, &piece);
		if (!va)
			break;
		if (p->to_guest)
			vio_bytes_read(p->bytes, va, n);
		else
			vio_bytes_write(p->bytes, va, n);
		q->payload->put(q, &r, 1);
		vio_counter_add(&q->stats.cpu_bytes, n);
		moved += n;
		p->off += n;
		if (p->off == s->len) {
			p->seg++;
			p->off = 0;
		}
		if (r->fault != VIO_ST_OK)
			break;
	}
	r->used_len += p->to_guest ? moved : 0;
	return moved;
}

static bool take_chain(struct vio_squeue *q, struct vio_pull *p)
{
	struct vio_req *r;

	if (vio_squeue_take(q, &r, 1) == 0 || q->fault != VIO_ST_OK)
		return false;
	if (vio_unlikely(r->n_readable != (p->to_guest ? 0 : r->n_seg))) {
		vio_sq_fault(q, VIO_ST_REQUEST, r->head);
		return false;
	}
	r->used_len = 0;
	p->r = r;
	p->seg = 0;
	p->off = 0;
	return true;
}

static void count_chain(struct vio_squeue *q, bool to_guest, uint32_t bytes)
{
	struct vio_sq_stats *s = &q->stats;

	vio_counter_add(to_guest ? &s->reads : &s->writes, 1);
	vio_counter_add(to_guest ? &s->bytes_read : &s->bytes_written, bytes);
}

uint32_t vio_pull_turn(struct vio_squeue *q, struct vio_pull *p)
{
	struct vio_req *done[VIO_PULL_CHAINS];
	const uint64_t copied = q->stats.cpu_bytes;
	unsigned n_done = 0;
	uint32_t total = 0;

	while (total < VIO_PULL_BYTES && n_done < VIO_PULL_CHAINS && vio_pull_wants(p)) {
		uint32_t most = VIO_PULL_BYTES - total, n;

		if (!p->r && !take_chain(q, p))
			break;
		if (p->to_guest && most > p->per_chain)
			most = p->per_chain;
		n = pull_move(q, p, most);
		total += n;
		if (vio_unlikely(p->r->fault != VIO_ST_OK)) {
			vio_sq_fault(q, p->r->fault, p->r->head);
			break;
		}
		if (!p->to_guest && pull_seg(q, p->r, p->seg))
			continue;
		count_chain(q, p->to_guest, n);
		p->r->n_data = 0; /* nothing is left to be copied */
		p->r->data_len = 0;
		done[n_done++] = p->r;
		p->r = NULL;
	}
	if (n_done > 0)
		vio_squeue_give(q, done, n_done, q->stats.cpu_bytes - copied);
	return total;
}

/* ------------------------------------------------------------------------------ a queue ---- */

bool vio_pull_queue_wants(const struct vio_squeue *q)
{
	return vio_pull_wants(vio_pull_of(q));
}

int vio_pull_queue_open(struct vio_device *dev, unsigned depth, struct vio_dev_queue **out,
			struct vio_err *err)
{
	struct vio_pull_queue *pq = calloc(1, sizeof(*pq));

	if (!pq)
		return vio_err_set(err, -ENOMEM, "no memory for its queue");
	/* As many as the queue has descriptors, and again as many behind one of them (indirect). */
	pq->room = 2 * (depth > VIO_MAX_SEGS ? depth : VIO_MAX_SEGS);
	pq->tail = calloc(pq->room, sizeof(pq->tail[0]));
	if (!pq->tail) {
		free(pq);
		return vio_err_set(err, -ENOMEM, "no memory for its queue");
	}
	pq->dq.dev = dev;
	*out = &pq->dq;
	return 0;
}

void vio_pull_queue_close(struct vio_dev_queue *dq)
{
	struct vio_pull_queue *pq = vio_container_of(dq, struct vio_pull_queue, dq);

	free(pq->tail);
	free(pq);
}

void vio_pull_queue_ready(struct vio_squeue *q, struct vio_pull p)
{
	struct vio_pull_queue *pq = vio_container_of(q->dq, struct vio_pull_queue, dq);

	q->pull = true;
	q->tail = pq->tail;
	q->tail_room = pq->room;
	pq->pull = p;
}
