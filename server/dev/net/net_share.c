/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A transmit queue's share of a turn. What the switch makes of a burst (copies to several ports, segments) is known when it has
 * gone; so where it could be much, the burst goes in pieces, and what is left when that was a turn's waits for the next one.
 */
#include "server/dev/net/net_priv.h"

/* Frames from f on that are a piece however many ways they go; one at least. */
static unsigned piece(const struct vio_net *n, const struct vio_frame *f, unsigned most,
		      uint64_t *cost)
{
	unsigned k = 0;

	*cost = 0;
	do
		*cost += vio_frame_cost(&f[k++]);
	while (k < most && (*cost + vio_frame_cost(&f[k])) * n->port.others <= VIO_NET_PIECE);
	return k;
}

unsigned vio_net_forward_some(struct vio_squeue *q, struct vio_net *n, unsigned frames)
{
	const bool copied = q->payload->plain_put != NULL;
	unsigned k = 0, part;
	uint64_t cost, spent = 0;

	n->cut = false;
	if (q->budget <= 0)
		return 0;
	vio_net_note_flows(q, n, frames);
	for (; k < frames && spent < VIO_NET_PIECE; k += part) {
		part = piece(n, n->frame + k, frames - k, &cost);
		for (unsigned i = k; copied && i < k + part; i++)
			cost += n->frame[i].len;
		vio_switch_forward(&n->port, n->frame + k, part);
		spent += cost + n->port.spread;
		n->port.spread = 0;
	}
	q->budget -= (int64_t)spent;
	return k;
}

unsigned vio_net_begin(const struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	uint64_t sum = 0;
	unsigned k = 0;

	while (k < n && q->budget > 0 && sum < VIO_NET_PIECE)
		sum += r[k++]->data_len;
	return k;
}

static void aside(struct vio_squeue *q, const struct vio_plain *v)
{
	struct vio_req *r = &q->req[v->head];

	if (q->payload->plain_put)
		q->payload->plain_put(q, v, 1);
	r->q = q;
	r->head = v->head;
	r->n_seg = r->n_readable = r->n_data = 1;
	r->fault = VIO_ST_OK;
	r->state = VIO_REQ_POPPED;
	r->seg[0] = (struct vio_seg){.at = v->at, .len = v->len};
	r->data = r->seg;
	r->data_len = v->len;
	r->bounce = NULL;
	r->to_guest = false;
	vio_sq_wait(q, &r, 1, false);
}

unsigned vio_net_aside(struct vio_squeue *q, struct vio_plain v[], unsigned n, const uint8_t at[],
		       unsigned k, uint64_t *bytes)
{
	unsigned kept = at[0], next = 0;

	for (unsigned i = at[0]; i < n; i++) {
		if (next < k && at[next] == i) {
			*bytes -= v[i].len;
			aside(q, &v[i]);
			next++;
		} else {
			v[kept++] = v[i];
		}
	}
	return kept;
}
