/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive in place: a pool whose mbufs have their data room in buffers that a guest has posted. The driver takes an mbuf, and with it
 * comes the next of the guest's buffers (vio_port_ops.post), so that the frame's first byte is written right behind the place of
 * virtio_net_hdr; when there is none, the mbuf has its own room and the frame is copied later. An mbuf that is freed with a buffer
 * that nobody has used gives it back. Mbufs themselves, and what they say of the buffer, are the server's memory: nothing that a guest
 * writes changes where a driver writes.
 *
 * What is before the frame in the buffer is at most the header's room, so this is for drivers that write nothing before data_off
 * (ethdev_probe.c knows which). One of them, pcap, does in the mbufs behind a frame's first: those always have their own room.
 *
 * The lcore that polls takes and frees them; others may free them too (pair PX).
 */
#include <stdlib.h>
#include <string.h>

#include "server/ports/ethdev_priv.h"

/* Of each mbuf, behind its struct: what is out with it. */
struct place_priv {
	struct vio_place place; /* of NULL: it has its own room */
	struct rte_mbuf *next;  /* in `away` */
};

struct place_pool {
	struct vio_uplink *u;  /* NULL: the mbufs are being made, or the port has ended */
	struct rte_mbuf *away; /* stack of those that were freed on other threads */
	struct rte_mbuf *last; /* taken last */
	unsigned n_free;
	void *free[];
};

static inline struct place_priv *place_of(struct rte_mbuf *m)
{
	return rte_mbuf_to_priv(m);
}

static inline void place_room(struct rte_mbuf *m, void *addr)
{
	m->buf_addr = addr;
	m->buf_iova = (rte_iova_t)(uintptr_t)addr;
}

/* Of these n mbufs, the first ones get the guest's buffers as far as there are some. */
static void place_bind(struct place_pool *p, struct rte_mbuf *const m[], unsigned n)
{
	struct vio_uplink *u = p->u;
	struct vio_port *to = u->port.only;
	struct vio_place *at[VIO_FRAME_BURST];
	unsigned k = 0, got = 0;
	bool more = to && to->ops->post && to->up && rte_lcore_id() == u->home;

	/* Is it perhaps to go on where the one before has ended? */
	if (p->last && vio_unlikely(rte_pktmbuf_tailroom(p->last) == 0))
		more = false;
	for (; more && k < n; k += got) {
		unsigned want = n - k < VIO_FRAME_BURST ? n - k : VIO_FRAME_BURST;

		for (unsigned i = 0; i < want; i++)
			at[i] = &place_of(m[k + i])->place;
		got = to->ops->post(to, at, want, u->room);
		for (unsigned i = 0; i < got; i++)
			place_room(m[k + i], at[i]->at - RTE_PKTMBUF_HEADROOM);
		more = got == want;
	}
	for (; k < n; k++)
		place_room(m[k], rte_mbuf_buf_addr(m[k], u->rx_pool));
	p->last = m[n - 1];
}

static void place_unbind(struct rte_mbuf *const m[], unsigned n)
{
	struct vio_place *back[VIO_FRAME_BURST];
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++) {
		if (place_of(m[i])->place.of)
			back[k++] = &place_of(m[i])->place;
		if (k == VIO_FRAME_BURST || (k > 0 && i + 1 == n)) {
			back[0]->port->ops->unpost(back, k);
			k = 0;
		}
	}
}

static void place_collect(struct place_pool *p)
{
	struct rte_mbuf *m = vio_xchg_acq_rel(&p->away, NULL); /* pair PX */

	for (; m; m = place_of(m)->next) {
		place_unbind(&m, 1);
		p->free[p->n_free++] = m;
	}
}

/* ---------------------------------------------------------------------- struct rte_mempool_ops ---- */

static int place_alloc(struct rte_mempool *mp)
{
	struct place_pool *p = calloc(1, sizeof(*p) + mp->size * sizeof(p->free[0]));

	mp->pool_data = p;
	return p ? 0 : -ENOMEM;
}

static void place_free(struct rte_mempool *mp)
{
	free(mp->pool_data);
}

static int place_enqueue(struct rte_mempool *mp, void *const *obj, unsigned n)
{
	struct place_pool *p = mp->pool_data;
	struct rte_mbuf *const *m = (struct rte_mbuf *const *)obj;

	if (vio_unlikely(p->u && rte_lcore_id() != vio_load_relaxed(&p->u->home) &&
			 !vio_load_relaxed(&p->u->stopped))) {
		for (unsigned i = 0; i < n; i++) {
			struct rte_mbuf *old = vio_load_relaxed(&p->away);

			do {
				place_of(m[i])->next = old;
			} while (!vio_cas(&p->away, old,
					  m[i])); /* pair PX: its buffer is not touched any more */
		}
		return 0;
	}
	if (vio_likely(p->u != NULL))
		place_unbind(m, n);
	memcpy(p->free + p->n_free, obj, n * sizeof(obj[0]));
	p->n_free += n;
	return 0;
}

/* Only by the thread that polls. */
static int place_dequeue(struct rte_mempool *mp, void **obj, unsigned n)
{
	struct place_pool *p = mp->pool_data;

	if (vio_unlikely(p->n_free < n))
		return -ENOBUFS;
	p->n_free -= n;
	memcpy(obj, p->free + p->n_free, n * sizeof(obj[0]));
	if (vio_likely(p->u != NULL))
		place_bind(p, (struct rte_mbuf *const *)obj, n);
	return 0;
}

static unsigned place_count(const struct rte_mempool *mp)
{
	return ((const struct place_pool *)mp->pool_data)->n_free;
}

static const struct rte_mempool_ops place_ops = {.name = "vio_place",
						 .alloc = place_alloc,
						 .free = place_free,
						 .enqueue = place_enqueue,
						 .dequeue = place_dequeue,
						 .get_count = place_count};
RTE_MEMPOOL_REGISTER_OPS(place_ops)

/* ----------------------------------------------------------------------------------- the port's ---- */

struct rte_mempool *vio_uplink_place_pool(struct vio_uplink *u, unsigned n)
{
	char name[RTE_MEMPOOL_NAMESIZE];
	struct rte_mempool *mp;

	snprintf(name, sizeof(name), "vio_rx_%u", u->id);
	mp = rte_pktmbuf_pool_create_by_ops(
		name, n, 0, VIO_ALIGN_UP(sizeof(struct place_priv), RTE_MBUF_PRIV_ALIGN),
		(uint16_t)(RTE_PKTMBUF_HEADROOM + u->room), SOCKET_ID_ANY, place_ops.name);
	if (mp)
		((struct place_pool *)mp->pool_data)->u = u;
	return mp;
}

struct vio_place *vio_uplink_placed(const struct vio_uplink *u, struct rte_mbuf *m)
{
	struct vio_place *at;

	if (m->pool != u->rx_pool)
		return NULL;
	at = &place_of(m)->place;
	return at->of && m->nb_segs == 1 && m->data_off == RTE_PKTMBUF_HEADROOM ? at : NULL;
}

void vio_uplink_place_collect(struct vio_uplink *u)
{
	struct place_pool *p = u->rx_pool->pool_data;

	if (vio_unlikely(vio_load_relaxed(&p->away) != NULL))
		place_collect(p);
}

static void place_take_back(struct rte_mempool *mp, void *arg, void *obj, unsigned i)
{
	struct rte_mbuf *m = obj;

	(void)mp, (void)arg, (void)i;
	place_unbind(&m, 1);
}

void vio_uplink_place_end(struct vio_uplink *u)
{
	struct place_pool *p = u->rx_pool->pool_data;

	place_collect(p);
	rte_mempool_obj_iter(u->rx_pool, place_take_back, NULL);
	p->u = NULL;
}
