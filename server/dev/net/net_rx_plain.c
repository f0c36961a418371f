/* SPDX-License-Identifier: BSD-3-Clause */
/* From the switch into buffers of one descriptor each: no request is made for them. */
#include <string.h>

#include "server/core/squeue.h"
#include "server/dev/net/net_rx.h"
#include "server/payload/payload.h"

/* The one copy of a frame; the chain has room for it. Bytes written. */
static inline uint32_t fill_plain(const struct vio_net *net, struct vio_frame *f, uint8_t *to)
{
	bool tagged = vio_port_tags(&net->port, f->vid);
	uint32_t head = vio_frame_head_out(f, tagged);

	if (vio_likely(f->flags == 0)) {
		vio_net_put_plain_header(to, 1);
	} else {
		struct virtio_net_hdr_v1 h = vio_net_header(net, f, tagged, 1);

		memcpy(to, &h, sizeof(h));
	}
	to += VIO_NET_HDR;
	/* Not a byte more: what is behind the head is of another frame, and the guest may be looking. */
	if (vio_likely(!tagged && head <= VIO_COPY_SHORT))
		vio_copy_short(to, vio_frame_head(f), head);
	else
		vio_frame_put_head(f, tagged, to);
	to += head;
	if (vio_likely(f->n_body == 1 && f->body_len <= VIO_COPY_SHORT)) {
		vio_copy_short(to, f->body->iov_base, f->body_len);
	} else {
		for (unsigned i = 0; i < f->n_body; i++) {
			memmove(to, f->body[i].iov_base,
				f->body[i].iov_len); /* both may be one guest's */
			to += f->body[i].iov_len;
		}
	}
	return (uint32_t)VIO_NET_HDR + head + f->body_len;
}

/*
 * The frame into the chain, by whatever the payload level has: *used bytes; those that the CPU copied are added to *copied. An enum
 * vio_status.
 */
static inline uint8_t put_plain(const struct vio_net *net, struct vio_squeue *q,
				struct vio_frame *f, const struct vio_plain *v, uint32_t *used,
				uint64_t *copied)
{
	bool tagged;

	if (!q->payload->plain_out) {
		*used = fill_plain(net, f, v->va);
		*copied += *used - VIO_NET_HDR;
		return VIO_ST_OK;
	}
	tagged = vio_port_tags(&net->port, f->vid);
	if (vio_net_in_one_piece(f, tagged)) {
		uint32_t before = vio_net_put_before(net, f, tagged, 1);

		*used = before + f->body_len;
		return q->payload->plain_out(q, v, ioba_add(q->local_base, f->local_at.v - before),
					     *used);
	}
	*used = fill_plain(net, f, v->va);
	*copied += *used - VIO_NET_HDR;
	return q->payload->plain_out(q, v, vio_sq_local(q, v->va), *used);
}

void vio_net_hold_plain(struct vio_squeue *q, struct vio_net_queue *nq, const struct vio_plain v[],
			unsigned n)
{
	if (n == 0)
		return;
	if (nq->held_at == nq->held_n || nq->held_n + n > VIO_NET_HELD) {
		memmove(nq->held, nq->held + nq->held_at,
			(nq->held_n - nq->held_at) * sizeof(nq->held[0]));
		nq->held_n -= nq->held_at;
		nq->held_at = 0;
	}
	for (unsigned i = 0; i < n; i++) {
		struct vio_req *r = &q->req[v[i].head];

		r->q = q;
		r->head = v[i].head;
		r->n_seg = 1;
		r->n_readable = 0;
		r->fault = VIO_ST_OK;
		r->state = VIO_REQ_POPPED;
		r->seg[0] = (struct vio_seg){.at = v[i].at, .len = v[i].len, .dev_writes = true};
		r->data = r->seg;
		r->bounce = NULL;
		r->to_guest = true;
		r->data_len = v[i].len;
		nq->held[nq->held_n++] = r;
	}
}

void vio_net_count_plain(struct vio_net *net, struct vio_squeue *q, unsigned n, uint64_t bytes,
			 uint64_t copied)
{
	vio_counter_add(&net->port.stats.out_frames, n);
	vio_counter_add(&net->port.stats.out_plain, n);
	vio_counter_add(&net->port.stats.out_bytes, bytes);
	vio_counter_add(&q->stats.reads, n);
	vio_counter_add(&q->stats.bytes_read, bytes);
	vio_counter_add(&q->stats.cpu_bytes, copied);
}

unsigned vio_net_deliver_plain(struct vio_net *net, struct vio_frame *const f[], unsigned n)
{
	struct vio_squeue *q = vio_load_acquire(&net->rx[vio_net_pair(net, f[0])]); /* pair L */
	struct vio_plain v[VIO_BURST];
	uint32_t used[VIO_BURST];
	struct vio_net_queue *nq;
	uint64_t bytes = 0, copied = 0;
	uint8_t why = VIO_ST_OK;
	unsigned k = 0, have;

	static_assert(VIO_FRAME_BURST <= VIO_BURST, "a burst of frames is a burst of chains");
	static_assert(VIO_NET_HDR + VIO_TAG_LEN + VIO_FRAME_MAX <= VIO_PLAIN_OUT, "any frame");
	if (!q || q->fault != VIO_ST_OK || vio_load_acquire(&q->ctl) != VIO_SQ_RUN) /* pair K */
		return 0;
	nq = vio_nq_of(q);
	if (nq->held_at != nq->held_n)
		return 0;
	while (k < n && vio_net_simple(net, f[k]) &&
	       (net->pairs == 1 || vio_load_acquire(&net->rx[vio_net_pair(net, f[k])]) == q))
		k++;
	have = k ? vio_squeue_take_plain(q, v, k) : 0;
	for (k = 0; k < have && v[k].len >= VIO_NET_HDR + VIO_TAG_LEN + f[k]->len; k++) {
		why = put_plain(net, q, f[k], &v[k], &used[k], &copied);
		if (vio_unlikely(why != VIO_ST_OK))
			break;
		bytes += used[k] - VIO_NET_HDR;
	}
	if (vio_likely(why == VIO_ST_OK))
		vio_net_hold_plain(q, nq, v + k, have - k);
	if (k > 0) {
		vio_net_count_plain(net, q, k, bytes, copied);
		vio_squeue_give_plain(q, v, used, k, copied);
	}
	if (vio_unlikely(why != VIO_ST_OK)) /* what is left of the burst finds the queue stopped */
		vio_sq_fault(q, why, v[k].head);
	return k;
}
