/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of buffers when the server goes, comes back, or stops the device: all of them are
 * free again. A frame in flight may or may not have reached the network; it is not sent again,
 * because a network may lose a frame but should not invent one, and is counted as lost.
 */
#include <inttypes.h>
#include <string.h>

#include "guest/dev/net/net_priv.h"

static unsigned held(const struct vio_front *f)
{
	const struct vio_net *n = vio_container_of(f, const struct vio_net, f);
	unsigned sum = 0;

	for (unsigned i = 0; i < n->info.pairs; i++)
		sum += n->p[i].n_sending;
	return sum;
}

/* A card that came back must be the one that went; its link may have changed. */
static int same_card(struct vio_front *f, struct vio_err *err)
{
	struct vio_net *n = vio_container_of(f, struct vio_net, f);
	const struct vio_transport_info *ti = vio_transport_get_info(n->f.t);
	const struct vio_net_info *is = &n->info;
	struct vio_net_info now = *is;
	int rc;

	if (ti->version != is->version || ti->features != is->features ||
	    memcmp(&ti->arm, &is->arm, sizeof(ti->arm)) != 0 || ti->queue_size != is->queue_size)
		return vio_err_set(
			err, -ENOTSUP,
			"the VIO server came back with other abilities (protocol %u, arm %s, features 0x%" PRIx64
			", queues of %u); open the card anew",
			ti->version, ti->arm.name, ti->features, ti->queue_size);
	rc = net_read_config(n, &now, err);
	if (rc)
		return rc;
	if (now.max_pairs != is->max_pairs || now.mtu != is->mtu)
		return vio_err_set(
			err, -ENOTSUP,
			"the VIO server came back with another card (%u pairs of queues, MTU %u; before %u and %u); open it anew",
			now.max_pairs, now.mtu, is->max_pairs, is->mtu);
	vio_store_relaxed(&n->card_up, now.link_up); /* told by vio_net_look_at_config() */
	if (!n->wishes.mac_said)
		memcpy(n->info.mac, now.mac, sizeof(now.mac));
	return 0;
}

const struct vio_front_ops net_front_ops = {
	.device = "network card",
	.item = "frame",
	.fate = "lost",
	.held = held,
	.same = same_card,
};

/*
 * A buffer that the device was given to receive into, or a frame with all of its buffers: they share the
 * first one's mapping. What can't be unmapped stays where it is, whole, until another session can take it back.
 */
static void take_back(struct net_pair *p, struct net_buf *first, bool unmap)
{
	const bool frame = first->state == NET_SENDING;
	struct vio_fq *q = frame ? &p->tx : &p->rx;
	struct vio_dma_map *m = &first->map;
	struct vio_net_buf *b = &first->b, *next;

	if (unmap && q->dma->ops->unmap(q->dma, &m, 1) == 0)
		return;
	if (frame)
		p->s.tx_lost++;
	do {
		struct vio_gbuf *g = &net_buf_of(b)->g;

		next = frame ? b->next : NULL;
		g->dev_writes = false; /* nothing to copy back */
		q->payload->ops->put(q->payload, &g, 1);
		net_buf_free(p, net_buf_of(b));
		b = next;
	} while (b);
}

static void take_all_back(struct net_pair *p, bool unmap)
{
	struct vio_net_buf *part = p->part ? &p->part->b : NULL;

	while (part) {
		struct vio_net_buf *next = part->next;

		net_buf_free(p, net_buf_of(part));
		part = next;
	}
	p->part = NULL;
	p->part_left = 0;
	for (uint32_t i = 0; i < p->n->info.buffers; i++) {
		struct net_buf *b = &p->buf[i];

		/* Of a frame that is being sent the first buffer has the whole mapping, and the others none. */
		if (b->state == NET_POSTED || (b->state == NET_SENDING && b->n > 0))
			take_back(p, b, unmap);
	}
	p->n_posted = p->n_sending = 0;
}

void net_revive(struct net_pair *p)
{
	struct vio_net *n = p->n;
	struct vio_err err = {""};
	int rc;

	p->rx.dma->ops->lost(p->rx.dma);
	p->tx.dma->ops->lost(p->tx.dma);
	take_all_back(p, true);
	p->rx.stuck = p->tx.stuck = false;
	p->rx.epoch = p->tx.epoch = n->f.epoch;
	p->rx.idle_tick = 0;
	if (p != n->p)
		return;
	net_ctrl_lost(n);
	rc = net_tell(n, &err);
	if (rc && rc != -ENOTCONN)
		vio_front_say(&n->f, "telling the device again: %s", err.msg);
}

void net_give_up(struct net_pair *p)
{
	/* Not unmapped: the machine may be gone, and close unmaps what is left. */
	take_all_back(p, false);
}
