/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Features, and the memory of an open card. Carved and mapped once; after a restart the same memory
 * is announced again. Besides the rings (front_mem.c):
 *
 *   area    control page | bounce buffers | receive and transmit buffers     device reads and writes
 *
 * In arms with payload in place and the pool, the area is a window (one for each LMB that it
 * touches, at contiguous IOBAs). Else it is only TCE-mapped, by the mapping level. Buffers of the
 * bounce arm are the guest's alone and outside the area. None crosses an LMB border, where a window
 * ends: buffers have lengths that are powers of two and are aligned to them. In arms with the pool
 * they lie one line further apart, so that their first lines are not all in the same few sets of
 * the caches, and the borders are left out.
 */
#include <stdlib.h>
#include <string.h>

#include "guest/dev/net/net_priv.h"
#include "vio/cycles.h"

#define COPYBREAK 256u

#define BIT(b) (1ull << VIRTIO_NET_F_##b)
#define OFFLOAD                                                                                    \
	(BIT(CSUM) | BIT(GUEST_CSUM) | BIT(HOST_TSO4) | BIT(HOST_TSO6) | BIT(GUEST_TSO4) |         \
	 BIT(GUEST_TSO6) | BIT(HOST_ECN) | BIT(GUEST_ECN) | BIT(HOST_USO) | BIT(GUEST_USO4) |      \
	 BIT(GUEST_USO6) | BIT(CTRL_GUEST_OFFLOADS))

static bool has(const struct vio_net_info *i, unsigned bit)
{
	return i->features >> bit & 1;
}

/* ----------------------------------------------------------------------- features ---- */

void net_want_features(struct vio_net *n)
{
	uint64_t *f = &n->cfg.transport.features;

	*f |= BIT(MAC) | BIT(STATUS) | BIT(MTU) | BIT(CTRL_VQ) | BIT(CTRL_RX) | BIT(CTRL_MAC_ADDR) |
	      BIT(SPEED_DUPLEX);
	if (n->cfg.announce)
		*f |= BIT(GUEST_ANNOUNCE);
	if (n->cfg.filter_vlans)
		*f |= BIT(CTRL_VLAN);
	if (!n->cfg.no_merge)
		*f |= BIT(MRG_RXBUF);
	if (n->cfg.pairs > 1)
		*f |= BIT(MQ);
	if (n->cfg.offload)
		*f |= OFFLOAD;
}

static void read_features(const struct vio_net *n, struct vio_net_info *i)
{
	const struct vio_transport_info *ti = vio_transport_get_info(n->f.t);

	i->features = ti->features;
	i->version = ti->version;
	i->arm = ti->arm;
	i->queue_size = ti->queue_size;
	i->merge = has(i, VIRTIO_NET_F_MRG_RXBUF);
	i->csum = has(i, VIRTIO_NET_F_CSUM);
	i->guest_csum = has(i, VIRTIO_NET_F_GUEST_CSUM);
	i->tso4 = has(i, VIRTIO_NET_F_HOST_TSO4);
	i->tso6 = has(i, VIRTIO_NET_F_HOST_TSO6);
	i->guest_tso4 = has(i, VIRTIO_NET_F_GUEST_TSO4);
	i->guest_tso6 = has(i, VIRTIO_NET_F_GUEST_TSO6);
	i->ecn = has(i, VIRTIO_NET_F_HOST_ECN);
	i->uso = has(i, VIRTIO_NET_F_HOST_USO);
	i->guest_uso = has(i, VIRTIO_NET_F_GUEST_USO4) && has(i, VIRTIO_NET_F_GUEST_USO6);
	i->can_control = has(i, VIRTIO_NET_F_CTRL_VQ);
	i->can_vlan = i->can_control && has(i, VIRTIO_NET_F_CTRL_VLAN);
	i->can_set_offloads = i->can_control && has(i, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	i->can_rx_mode = i->can_control && has(i, VIRTIO_NET_F_CTRL_RX);
	i->can_set_mac = i->can_control && has(i, VIRTIO_NET_F_CTRL_MAC_ADDR);
}

uint32_t net_speed(uint64_t features, const struct virtio_net_config *c)
{
	uint32_t v = vio_le32(c->speed);

	return features >> VIRTIO_NET_F_SPEED_DUPLEX & 1 && v <= INT32_MAX ? v : 0;
}

int net_read_config(struct vio_net *n, struct vio_net_info *i, struct vio_err *err)
{
	const struct vio_transport_info *ti = vio_transport_get_info(n->f.t);
	struct virtio_net_config c = {0};
	unsigned need;

	memcpy(&c, ti->config, ti->config_len < sizeof(c) ? ti->config_len : sizeof(c));
	n->config_changes = vio_transport_config_changes(n->f.t);
	read_features(n, i);
	i->max_pairs = has(i, VIRTIO_NET_F_MQ) ? vio_le16(c.max_virtqueue_pairs) : 1;
	i->mtu = has(i, VIRTIO_NET_F_MTU) ? vio_le16(c.mtu) : 1500;
	i->speed = net_speed(i->features, &c);
	i->announce =
		has(i, VIRTIO_NET_F_GUEST_ANNOUNCE) && vio_le16(c.status) & VIRTIO_NET_S_ANNOUNCE;
	i->link_up = !has(i, VIRTIO_NET_F_STATUS) || vio_le16(c.status) & VIRTIO_NET_S_LINK_UP;
	if (has(i, VIRTIO_NET_F_MAC))
		memcpy(i->mac, c.mac, sizeof(i->mac));
	else /* an address of this end's own: locally administered */
		memcpy(i->mac, (const uint8_t[]){0x02, 0x56, 0x49, 0x4f, 0xff, (uint8_t)n->f.unit},
		       6);
	need = 2u * i->max_pairs + (i->can_control ? 1 : 0);
	if (i->max_pairs == 0 || need > ti->num_queues || i->mtu < 68)
		return vio_err_set(
			err, -EPROTO,
			"the network card's configuration makes no sense: %u pairs of queues and %s control queue in %u queues, MTU %u",
			i->max_pairs, i->can_control ? "a" : "no", ti->num_queues, i->mtu);
	i->pairs = n->cfg.pairs < i->max_pairs ? n->cfg.pairs : i->max_pairs;
	return 0;
}

/* Can every frame be received? */
static int check_room(const struct vio_net *n, struct vio_err *err)
{
	const struct vio_net_info *i = &n->info;
	uint32_t most =
		i->guest_tso4 || i->guest_tso6 || i->guest_uso ? VIO_NET_MAX_FRAME : i->mtu + 18u;

	if (!i->merge && most + VIO_NET_HDR > n->cap)
		return vio_err_set(
			err, -EINVAL,
			"receive buffers of %u bytes can't take frames of %u, and the device does not merge buffers; use larger ones%s",
			n->cfg.buf_len, most, i->guest_tso4 ? " or do without offload" : "");
	if (i->merge && n->max_merge > i->queue_size)
		return vio_err_set(
			err, -EINVAL,
			"a frame of %u bytes takes %u receive buffers of %u bytes, but a queue has only %u entries; use larger buffers or queues",
			most, n->max_merge, n->cfg.buf_len, i->queue_size);
	return 0;
}

/* --------------------------------------------------------------------------- area ---- */

static uint64_t pow2_up(uint64_t v)
{
	uint64_t p = VIO_CACHE_LINE;

	while (p < v)
		p *= 2;
	return p;
}

static int carve_area(struct vio_net *n, struct vio_err *err)
{
	const struct vio_gpayload_ops *ops = vio_gpayload_level(n->info.arm.payload);
	const unsigned traits = vio_arm_traits(&n->info.arm);
	const bool pool = traits & VIO_ARM_POOL, bounce_only = traits & VIO_ARM_BOUNCES;
	uint64_t g = vio_front_grain(&n->f, vio_front_grants(&n->info.arm)), bl = n->cfg.buf_len,
		 slots = 2ull * n->info.pairs * n->info.queue_size, len, buffers;
	uint64_t align = bl > NET_PAGE ? bl : NET_PAGE;
	struct vio_front_area at = {.at = {0}};
	int rc;

	n->stride = pool && !bounce_only ? bl + VIO_CACHE_LINE : bl;
	buffers = (uint64_t)n->info.pairs * n->info.buffers * n->stride;
	if (n->stride > bl)
		buffers += (buffers / n->f.lmb_size + 2) * n->stride; /* left out at borders */

	if (ops->needs_bounce)
		n->slot_len = bounce_only || n->cfg.copybreak > bl ? bl : pow2_up(n->cfg.copybreak);
	n->bounce_off = n->slot_len > NET_PAGE ? n->slot_len : NET_PAGE;
	len = VIO_ALIGN_UP(n->bounce_off + slots * n->slot_len, align);
	rc = vio_front_carve(&n->f, &n->info.arm, len, buffers, g, align, "network buffers", &at,
			     err);
	n->area = at.area;
	n->area_at = at.at;
	n->buffers = at.buffers;
	n->next_buffer = n->buffers.at.v;
	return rc;
}

/* ------------------------------------------------------------------------- queues ---- */

static int new_payload(struct vio_net *n, struct vio_fq *q, struct vio_err *err)
{
	const struct vio_gpayload_ops *ops = vio_gpayload_level(n->info.arm.payload);
	const struct vio_gpayload_cfg c = {
		.part = n->f.part,
		.counters = q->cnt,
		.bounce = gla_add(n->area.at, n->bounce_off + (uint64_t)q->index *
								      n->info.queue_size *
								      n->slot_len),
		.slot_len = (uint32_t)n->slot_len,
		.n_slots = ops->needs_bounce ? n->info.queue_size : 0,
		.copybreak = n->cfg.copybreak,
	};

	return ops->create(&c, &q->payload, err);
}

/* requests of `units` pieces of the DMA window, to be in flight on one queue. */
static uint64_t slice_len(const struct vio_net *n, uint64_t requests, uint64_t units)
{
	const struct vio_dma_cfg c = {.defer_batch = n->cfg.defer_batch,
				      .quota_pages = n->cfg.quota_pages};

	return vio_front_slice(&n->f, &n->info.arm, &c, requests, units, 2ull * n->info.pairs + 1);
}

static int new_dma(struct vio_net *n, struct vio_fq *q, uint64_t slice, struct vio_err *err)
{
	struct vio_dma_cfg c = {.slice_len = slice,
				.defer_batch = n->cfg.defer_batch,
				.quota_pages = n->cfg.quota_pages};

	return vio_front_dma(&n->f, q, &n->info.arm, &n->area, n->area_at, &c, err);
}

/* Guest-logical address of the next buffer. */
static struct gla place_buffer(struct vio_net *n)
{
	uint64_t lmb = n->f.lmb_size, at = n->next_buffer;

	if (at % lmb + n->cfg.buf_len > lmb)
		at = VIO_ALIGN_UP(at, lmb);
	n->next_buffer = at + n->stride;
	return (struct gla){at};
}

static int new_buffers(struct vio_net *n, struct net_pair *p, unsigned pair, struct vio_err *err)
{
	const uint32_t count = n->info.buffers;

	p->buf = aligned_alloc(VIO_CACHE_LINE, count * sizeof(*p->buf));
	p->free = calloc(count, sizeof(struct net_buf *));
	if (!p->buf || !p->free)
		return vio_err_set(err, -ENOMEM, "pair %u: no memory for %u buffers", pair, count);
	memset(p->buf, 0, count * sizeof(*p->buf));
	for (uint32_t i = count; i-- > 0;) { /* buffer 0 on top */
		struct net_buf *b = &p->buf[i];

		b->at = place_buffer(n);
		b->b.hdr = (struct virtio_net_hdr_v1 *)(void *)(n->buffers.va +
								(b->at.v - n->buffers.at.v));
		net_buf_free(p, b);
	}
	return 0;
}

static int new_pairs(struct vio_net *n, struct vio_err *err)
{
	for (unsigned i = 0; i < n->info.pairs; i++) {
		struct net_pair *p = &n->p[i];

		p->n = n;
		p->posted_max = n->info.posted;
		if (!p->rx.vcpu) { /* pair 0's came first, for the transport */
			int rc = phyp_vcpu_create(n->f.part, &p->rx.vcpu, err);

			if (rc)
				return rc;
		}
		vio_front_queue(&n->f, &p->rx, 2 * i, p->rx.vcpu);
		vio_front_queue(&n->f, &p->tx, 2 * i + 1, p->rx.vcpu);
	}
	if (!n->info.can_control)
		return 0;
	n->ctrl = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*n->ctrl), VIO_CACHE_LINE));
	if (!n->ctrl)
		return vio_err_set(err, -ENOMEM, "no memory for the control queue");
	memset(n->ctrl, 0, sizeof(*n->ctrl));
	vio_front_queue(&n->f, &n->ctrl->v, 2u * n->info.max_pairs, n->p[0].rx.vcpu);
	return 0;
}

static int new_queues(struct vio_net *n, struct vio_err *err)
{
	int rc = vio_front_lists(&n->f, err);
	const uint64_t unit = vio_front_unit(&n->f, &n->info.arm),
		       slice = slice_len(n, n->info.queue_size, (n->cfg.buf_len + unit - 1) / unit);

	if (rc == 0 && n->ctrl) {
		n->ctrl->at = n->area.at;
		n->ctrl->va = n->area.va;
		rc = new_dma(n, &n->ctrl->v, slice_len(n, 1, 2), err);
	}
	for (unsigned i = 0; rc == 0 && i < n->info.pairs; i++) {
		struct net_pair *p = &n->p[i];

		rc = new_buffers(n, p, i, err);
		if (rc == 0)
			rc = new_payload(n, &p->rx, err);
		if (rc == 0)
			rc = new_payload(n, &p->tx, err);
		if (rc == 0)
			rc = new_dma(n, &p->rx, slice, err);
		if (rc == 0)
			rc = new_dma(n, &p->tx, slice, err);
	}
	return rc;
}

static void size_up(struct vio_net *n)
{
	struct vio_net_info *i = &n->info;
	const struct vio_net_cfg *c = &n->cfg;

	i->buf_len = c->buf_len;
	i->room = c->buf_len - VIO_NET_HEADROOM;
	n->cap = i->room + VIO_NET_HDR;
	n->max_merge = (VIO_NET_MAX_FRAME + VIO_NET_HDR + n->cap - 1) / n->cap;
	if (!i->guest_tso4 && !i->guest_tso6 && !i->guest_uso)
		n->max_merge = (i->mtu + 18u + VIO_NET_HDR + n->cap - 1) / n->cap;
	i->posted = c->posted && c->posted < i->queue_size ? c->posted : i->queue_size;
	i->buffers = c->buffers ? c->buffers : i->posted + i->queue_size + 2 * NET_BURST;
	n->refill_min = i->posted / 4 < NET_BURST ? (i->posted / 4 ? i->posted / 4 : 1) : NET_BURST;
	n->cfg.copybreak = c->copybreak ? c->copybreak : COPYBREAK;
	vio_front_tune(&n->f, &i->arm, i->queue_size,
		       &(struct vio_front_waits){c->spin_ns, c->idle_ns, c->give_way});
}

int net_setup(struct vio_net *n, struct vio_err *err)
{
	int rc;

	size_up(n);
	rc = check_room(n, err);
	if (rc == 0)
		rc = new_pairs(n, err);
	if (rc == 0)
		rc = vio_front_rings(&n->f, n->info.features, vio_ring_in_place(n->info.arm.ring),
				     1, err);
	if (rc == 0)
		rc = carve_area(n, err);
	if (rc == 0)
		rc = new_queues(n, err);
	n->info.window_bytes = n->f.window_bytes;
	n->info.granted_bytes = n->f.granted_bytes;
	return rc;
}

void net_teardown(struct vio_net *n)
{
	for (unsigned i = 0; i < VIO_NET_MAX_PAIRS; i++) {
		struct net_pair *p = &n->p[i];

		vio_fq_fini(&p->rx);
		vio_fq_fini(&p->tx);
		free(p->buf);
		free(p->free);
	}
	if (n->ctrl)
		vio_fq_fini(&n->ctrl->v);
	free(n->ctrl);
	vio_front_fini(&n->f);
}
