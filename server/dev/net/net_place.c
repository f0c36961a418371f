/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive in place: buffers that the guest has posted, given out to an uplink before there is a frame for them (vio_port_ops.post). A
 * frame that comes in there and is for this guest gets its header, and is done. What was given out is in flight, so that neither the
 * device is reset nor the window goes while it is out; and it is no more than a part of the ring.
 *
 * Only what is one descriptor, is made addressable in place and needs no order is given out: a level of payload that copies has nothing
 * to give, and in order a buffer whose frame was dropped would hold back those behind it. The switch's lcore.
 */
#include "server/core/squeue.h"
#include "server/dev/net/net_rx.h"
#include "server/payload/payload.h"

/* Out at once: they all have room in held[], beside a pop. */
#define OUT_MAX VIO_NET_OUT
static_assert(VIO_NET_BATCH + VIO_BURST + OUT_MAX <= VIO_NET_HELD, "room for all that comes back");

/* The queue from which frames of this port would take their buffers; NULL: none runs. */
static inline struct vio_squeue *place_queue(struct vio_net *net)
{
	struct vio_squeue *q = vio_load_acquire(&net->rx[0]); /* pair L */

	if (!q || q->fault != VIO_ST_OK || vio_load_acquire(&q->ctl) != VIO_SQ_RUN) /* pair K */
		return NULL;
	return q;
}

static inline void count_places(struct vio_squeue *q, int n)
{
	vio_store_release(&q->in_flight, (uint16_t)(q->in_flight + n)); /* pair Q */
}

/* Chains that were taken before, up to the first that is not as wanted. */
static unsigned place_held(struct vio_squeue *q, struct vio_net_queue *nq, struct vio_plain v[],
			   unsigned n, uint32_t need)
{
	unsigned k = 0, done;

	for (; k < n && nq->held_at + k < nq->held_n; k++) {
		const struct vio_req *r = nq->held[nq->held_at + k];

		if (r->n_seg != 1 || r->seg[0].len < need)
			break;
		v[k] = (struct vio_plain){
			.at = r->seg[0].at, .len = r->seg[0].len, .head = r->head};
	}
	q->windows = vio_load_acquire(q->windows_src); /* pair R */
	done = k ? q->payload->plain(q, v, k, TCE_WRITE) : 0;
	for (unsigned i = 0; i < done; i++)
		nq->held[nq->held_at++]->state = VIO_REQ_FREE;
	return done;
}

/* New ones. Those that are too short for any frame of the port are noted, for frames that fit. */
static unsigned place_new(struct vio_squeue *q, struct vio_net_queue *nq, struct vio_plain v[],
			  unsigned n, uint32_t need)
{
	unsigned got = vio_squeue_take_plain(q, v, n), k = 0;

	while (k < got && v[k].len >= need)
		k++;
	vio_net_hold_plain(q, nq, v + k, got - k);
	return k;
}

unsigned vio_net_post(struct vio_port *p, struct vio_place *const place[], unsigned n,
		      uint32_t room)
{
	struct vio_net *net = vio_container_of(p, struct vio_net, port);
	const uint32_t need = room + (uint32_t)VIO_NET_HDR;
	struct vio_squeue *q = place_queue(net);
	struct vio_plain v[VIO_BURST];
	struct vio_net_queue *nq;
	unsigned k, left;

	if (!q || q->payload->plain_out || q->in_order || net->pairs > 1)
		return 0;
	nq = vio_nq_of(q);
	left = q->in_flight < OUT_MAX ? OUT_MAX - q->in_flight : 0;
	n = n < left ? n : left;
	n = n < VIO_BURST ? n : VIO_BURST;
	k = place_held(q, nq, v, n, need);
	if (k < n && nq->held_at == nq->held_n)
		k += place_new(q, nq, v + k, n - k, need);
	for (unsigned i = 0; i < k; i++) {
		struct vio_net_hold *h = &nq->hold[v[i].head];

		*place[i] = (struct vio_place){.at = v[i].va + VIO_NET_HDR,
					       .room = v[i].len - (uint32_t)VIO_NET_HDR,
					       .len = v[i].len,
					       .head = v[i].head,
					       .addr = v[i].at,
					       .of = q,
					       .port = p};
		/* The lcore ends its turn before window_busy() is asked, so the order is free. */
		vio_store_relaxed(&h->from, (uintptr_t)v[i].va);
		vio_store_relaxed(&h->to, (uintptr_t)v[i].va + v[i].len);
	}
	if (k > 0)
		count_places(q, (int)k);
	return k;
}

/* It is not out any more. */
static inline void place_back(struct vio_squeue *q, struct vio_place *at)
{
	at->of = NULL;
	vio_store_release(&vio_nq_of(q)->hold[at->head].to, 0); /* pair Y */
}

void vio_net_unpost(struct vio_place *const place[], unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct vio_squeue *q = place[i]->of;
		const struct vio_plain v = {
			.at = place[i]->addr, .len = place[i]->len, .head = place[i]->head};

		place_back(q, place[i]);
		/* A queue that has stopped forgets what it had taken. */
		vio_net_hold_plain(q, vio_nq_of(q), &v, 1);
		count_places(q, -1);
	}
}

/* Does it lie as the guest is to find it, in one of its own buffers, and is it wanted so? */
static inline bool place_fits(struct vio_net *net, const struct vio_squeue *q, struct vio_frame *f)
{
	return f->place && f->place->of == q && f->head == f->buf &&
	       !vio_port_tags(&net->port, f->vid) && net->pairs == 1 && vio_net_simple(net, f);
}

unsigned vio_net_deliver_placed(struct vio_net *net, struct vio_frame *const f[], unsigned n)
{
	struct vio_squeue *q = place_queue(net);
	struct vio_plain v[VIO_BURST];
	uint32_t used[VIO_BURST];
	uint64_t bytes = 0;
	unsigned k = 0;

	for (; q && k < n && place_fits(net, q, f[k]); k++) {
		struct vio_place *at = f[k]->place;
		uint8_t *hdr = at->at - VIO_NET_HDR;

		if (vio_likely(f[k]->flags == 0)) {
			vio_net_put_plain_header(hdr, 1);
		} else {
			struct virtio_net_hdr_v1 h = vio_net_header(net, f[k], false, 1);

			memcpy(hdr, &h, sizeof(h));
		}
		v[k] = (struct vio_plain){.at = at->addr, .len = at->len, .head = at->head};
		used[k] = f[k]->len + (uint32_t)VIO_NET_HDR;
		bytes += f[k]->len;
		place_back(q, at);
	}
	if (k > 0) {
		vio_net_count_plain(net, q, k, bytes, 0);
		vio_counter_add(&net->port.stats.in_place, k);
		count_places(q, -(int)k);
		vio_squeue_give_plain(q, v, used, k, 0);
	}
	return k;
}
