/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* rte_dev_dma_map(), the only call that serves every driver, is not stable yet in DPDK 22.11. */
#define ALLOW_EXPERIMENTAL_API
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eth_bond.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>

#include "server/ports/ethdev_priv.h"

#define POOL 2047u /* mbufs with room for a frame, for each direction */
/*
 * Pieces that are lent at once, and so frames. Each frame needs an mbuf for its head too, and those
 * that are copied must find some.
 */
#define POOL_LENT 1535u
#define RING      512u /* descriptors asked for; the device adjusts */
#define PAGE      4096u
/* Empty or not, when a port is stopped: more than all that can be in it. */
#define DRAIN_TURNS (2u * (POOL + POOL_LENT) / VIO_FRAME_BURST)
#define FLUSH_MASK                                                                                 \
	1023u /* turns between two empty transmit calls, which bonding (LACP) and memif want now and then */
#define TX_CAPA                                                                                    \
	(RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM |                           \
	 RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO)

/* ------------------------------------------------------------------------------ leaving ---- */

/* Once: by the port when it frees the last piece, or by us when it is closed and has not. */
static void let_go(struct lent *l)
{
	struct vio_hold *hold = vio_load_relaxed(&l->hold);
	struct vio_uplink *u = l->u;
	unsigned here = rte_lcore_id();

	if (!hold) /* it was never lent, or is back */
		return;
	if (vio_likely(here != LCORE_ID_ANY && here == vio_load_relaxed(&u->home))) {
		/* We close it only when this lcore has ended. */
		vio_store_relaxed(&l->hold, NULL);
		vio_counter_add(&u->pieces[l->from], -(uint32_t)l->pieces);
		vio_counter_add(&u->port.stats.lent, -1ull);
	} else {
		hold = vio_xchg_acq_rel(&l->hold, NULL); /* pair X */
		if (!hold)
			return;
		(void)vio_fetch_add(&u->away_pieces[l->from], l->pieces);
		(void)vio_fetch_add(&u->away_frames, 1);
	}
	vio_hold_put(hold);
}

static void on_free(void *addr, void *opaque)
{
	struct lent *l = opaque;

	(void)addr;
	let_go(l);
	rte_mempool_put(l->pool, l);
}

static void send_all(struct vio_uplink *u)
{
	uint16_t n = (uint16_t)u->n_tx, sent;
	uint64_t bytes = 0;

	if (u->copied) {
		vio_counter_add(&u->port.stats.out_copied, u->copied);
		u->copied = 0;
	}
	if (n == 0)
		return;
	for (unsigned i = 0; i < n; i++)
		bytes += u->tx[i]->pkt_len;
	if (u->capa & ~(uint64_t)RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
		n = rte_eth_tx_prepare(u->id, 0, u->tx, n);
	sent = rte_eth_tx_burst(u->id, 0, u->tx, n);
	if (vio_unlikely(sent < u->n_tx)) {
		for (unsigned i = sent; i < u->n_tx; i++)
			bytes -= u->tx[i]->pkt_len;
		rte_pktmbuf_free_bulk(u->tx + sent, u->n_tx - sent);
		vio_port_drop(&u->port, VIO_DROP_NO_BUFFERS, u->n_tx - sent);
	}
	vio_counter_add(&u->port.stats.out_frames, sent);
	vio_counter_add(&u->port.stats.out_bytes, bytes);
	u->n_tx = 0;
}

/* Pieces that one guest may have lent at once: an equal part, so that none can take what others need. */
static uint32_t share(struct vio_uplink *u)
{
	unsigned others = 0;

	if (vio_unlikely(u->share == 0)) {
		while (vio_switch_port(u->port.sw, others + 1))
			others++;
		u->share = POOL_LENT / (others ? others : 1);
	}
	return u->share;
}

/* `n` mbufs for lent pieces; one, mostly. */
static inline bool take_ext(struct vio_uplink *u, struct rte_mbuf **m, unsigned n)
{
	if (vio_unlikely(n > 1))
		return rte_pktmbuf_alloc_bulk(u->ext_pool, m, n) == 0;
	if (vio_unlikely(u->n_ext == 0)) {
		if (rte_pktmbuf_alloc_bulk(u->ext_pool, u->ext, VIO_FRAME_BURST) < 0)
			return rte_pktmbuf_alloc_bulk(u->ext_pool, m, n) == 0;
		u->n_ext = VIO_FRAME_BURST;
	}
	m[0] = u->ext[--u->n_ext];
	return true;
}

/* The body as external buffers behind the head. False: not now. */
static bool lend(struct vio_uplink *u, struct vio_frame *f, struct rte_mbuf *head)
{
	uint32_t from = vio_switch_from(u->port.sw)->index;
	struct rte_mbuf *m[VIO_MAX_SEGS + 1], *last = head;
	uint32_t out = u->pieces[from] - vio_load_relaxed(&u->away_pieces[from]);
	struct lent *l;
	void *obj;

	if (f->n_body > VIO_ARRAY_SIZE(m) || out + f->n_body > share(u) ||
	    rte_mempool_get(u->lent_pool, &obj) < 0)
		return false;
	if (!take_ext(u, m, f->n_body)) {
		rte_mempool_put(u->lent_pool, obj);
		return false;
	}
	l = obj;
	l->info.free_cb = on_free;
	l->info.fcb_opaque = l;
	vio_store_relaxed(&l->hold, f->hold);
	l->u = u;
	l->pool = u->lent_pool;
	l->from = (uint16_t)from;
	l->pieces = f->n_body;
	vio_counter_add(&u->pieces[from], f->n_body);
	vio_counter_add(&u->port.stats.lent, 1);
	rte_mbuf_ext_refcnt_set(&l->info, f->n_body);
	vio_hold_get(f->hold);
	for (unsigned i = 0; i < f->n_body; i++) {
		uint16_t len = (uint16_t)f->body[i].iov_len;

		rte_pktmbuf_attach_extbuf(m[i], f->body[i].iov_base,
					  (rte_iova_t)(uintptr_t)f->body[i].iov_base, len,
					  &l->info);
		m[i]->data_off = 0;
		m[i]->data_len = len;
		last->next = m[i];
		last = m[i];
	}
	head->nb_segs = (uint16_t)(head->nb_segs + f->n_body);
	head->pkt_len += f->body_len;
	vio_counter_add(&u->port.stats.in_place, 1);
	return true;
}

/* `len` bytes behind what the mbufs from head to *last have, into more of them where one has no room. */
static bool append(struct vio_uplink *u, struct rte_mbuf *head, struct rte_mbuf **last,
		   const uint8_t *from, size_t len)
{
	while (len > 0) {
		uint16_t room = rte_pktmbuf_tailroom(*last),
			 part = len < room ? (uint16_t)len : room;

		if (part == 0) {
			if (!(u->capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS))
				return false;
			(*last)->next = rte_pktmbuf_alloc(u->tx_pool);
			if (!(*last)->next)
				return false;
			*last = (*last)->next;
			head->nb_segs++;
			continue;
		}
		memcpy(rte_pktmbuf_mtod_offset(*last, uint8_t *, (*last)->data_len), from, part);
		(*last)->data_len = (uint16_t)((*last)->data_len + part);
		head->pkt_len += part;
		from += part;
		len -= part;
	}
	return true;
}

/* The body copied behind the head. */
static bool copy_long(struct vio_uplink *u, struct vio_frame *f, struct rte_mbuf *head)
{
	struct rte_mbuf *last = rte_pktmbuf_lastseg(head);

	for (unsigned i = 0; i < f->n_body; i++) {
		if (!append(u, head, &last, f->body[i].iov_base, f->body[i].iov_len))
			return false;
	}
	return true;
}

/* A head that is longer than the frame's own room, and perhaps than an mbuf; then the body. */
static bool copy_whole(struct vio_uplink *u, struct vio_frame *f, bool tagged, struct rte_mbuf *m)
{
	uint8_t front[VIO_FRAME_MACS + VIO_TAG_LEN];
	struct rte_mbuf *last = m;

	u->copied += f->body_len;
	m->data_len = 0;
	m->pkt_len = 0;
	return append(u, m, &last, front, vio_frame_put_front(f, tagged, front)) &&
	       append(u, m, &last, vio_frame_head(f) + VIO_FRAME_MACS,
		      f->head_len - VIO_FRAME_MACS) &&
	       copy_long(u, f, m);
}

static inline bool copy(struct vio_uplink *u, struct vio_frame *f, struct rte_mbuf *head)
{
	u->copied += f->body_len;
	/* All of it fits behind the head. */
	if (vio_unlikely(f->n_body != 1 || f->body_len > VIO_COPY_SHORT))
		return copy_long(u, f, head);
	vio_copy_short(rte_pktmbuf_mtod_offset(head, uint8_t *, head->data_len), f->body->iov_base,
		       f->body_len);
	head->data_len = (uint16_t)(head->data_len + f->body_len);
	head->pkt_len += f->body_len;
	return true;
}

/*
 * What the device is to do about the checksum, in its own words; false: it can't. The headers are
 * the frame's own copy, and with segmentation they have been checked.
 */
static bool hand_over_csum(const struct vio_uplink *u, struct vio_frame *f, bool tagged,
			   struct rte_mbuf *m)
{
	const uint8_t *head = vio_frame_head(f);
	uint16_t type = vio_get_be16(head + 12), l3 = VIO_ETH_LEN, l4;
	bool v4 = type == VIO_ETHERTYPE_IPV4, tcp = f->csum_offset == 16;
	uint64_t flags = v4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;

	if ((!v4 && type != VIO_ETHERTYPE_IPV6) || (!tcp && f->csum_offset != 6))
		return false;
	if (!(u->capa & (tcp ? RTE_ETH_TX_OFFLOAD_TCP_CKSUM : RTE_ETH_TX_OFFLOAD_UDP_CKSUM)))
		return false;
	/* IPv6's extension headers: not all drivers get past them. */
	if (f->csum_start < l3 + (v4 ? 20 : 40) || f->csum_start + (tcp ? 20u : 8u) > f->head_len ||
	    head[l3 + (v4 ? 9 : 6)] != (tcp ? 6 : 17) ||
	    (v4 ? (head[l3] & 0xfu) * 4u : 40u) != (uint32_t)f->csum_start - l3)
		return false;
	/* The length of a TCP header is what the guest wrote; drivers take it from us as it is. */
	l4 = tcp ? (uint16_t)((head[f->csum_start + 12] >> 4) * 4) : 8u;
	if (tcp && (l4 < 20 || f->csum_start + l4 > f->head_len))
		return false;
	flags |= tcp ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
	m->tx_offload = 0;
	m->l2_len = (uint64_t)(l3 + (tagged ? VIO_TAG_LEN : 0)) & 0x7f;
	m->l3_len = (uint64_t)(f->csum_start - l3) & 0x1ff;
	m->l4_len = (uint64_t)l4 & 0xff;
	if (f->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		flags |= RTE_MBUF_F_TX_TCP_SEG | (v4 ? RTE_MBUF_F_TX_IP_CKSUM : 0);
		m->tso_segsz = f->gso_size;
	}
	m->ol_flags |= flags;
	return true;
}

/* With the burst, or not at all. */
static inline void put(struct vio_uplink *u, struct rte_mbuf *m, bool whole)
{
	if (vio_likely(whole)) {
		u->tx[u->n_tx++] = m;
	} else {
		rte_pktmbuf_free(m);
		vio_port_drop(&u->port, VIO_DROP_NO_BUFFERS, 1);
	}
	if (vio_unlikely(u->n_tx == VIO_FRAME_BURST))
		send_all(u);
}

/* The frame as m and what it takes more, to be sent with the burst. */
static inline void put_frame(struct vio_uplink *u, struct vio_frame *f, struct rte_mbuf *m)
{
	bool tagged = vio_port_tags(&u->port, f->vid), wanted;
	uint32_t head = vio_frame_head_out(f, tagged);

	if (vio_unlikely(f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
	    !hand_over_csum(u, f, tagged, m)) {
		vio_offload_csum(f);
		vio_counter_add(&u->port.stats.checksummed, 1);
	}
	if (vio_likely(head <= VIO_HEAD_COPY && !tagged)) {
		memcpy(rte_pktmbuf_mtod(m, uint8_t *), vio_frame_head(f), VIO_HEAD_COPY);
	} else if (vio_likely(f->head_len <= VIO_FRAME_HEAD)) {
		vio_frame_put_head(f, tagged, rte_pktmbuf_mtod(m, uint8_t *));
	} else {
		put(u, m, copy_whole(u, f, tagged, m));
		return;
	}
	m->data_len = (uint16_t)head;
	m->pkt_len = head;
	/* Pieces are at most what an mbuf can name: a frame has no larger ones. */
	wanted = vio_load_relaxed(&u->in_place) && f->hold && f->body_len >= VIO_UPLINK_COPYBREAK &&
		 f->body_len <= UINT16_MAX;
	if (vio_likely(wanted && lend(u, f, m))) {
		put(u, m, true);
	} else {
		vio_counter_add(&u->port.stats.not_lent, wanted);
		put(u, m, copy(u, f, m));
	}
}

static void send_one(struct vio_uplink *u, struct vio_frame *f)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(u->tx_pool);

	if (vio_likely(m != NULL))
		put_frame(u, f, m);
	else
		vio_port_drop(&u->port, VIO_DROP_NO_BUFFERS, 1);
}

/* None is to be cut. */
static void send_burst(struct vio_uplink *u, struct vio_frame *const f[], unsigned n)
{
	struct rte_mbuf *m[VIO_FRAME_BURST];

	if (vio_likely(rte_mempool_get_bulk(u->tx_pool, (void **)m, n) == 0)) {
		for (unsigned i = 0; i < n; i++) {
			/*
			 * In the pool an mbuf is alone, and nobody's. tx_offload is looked at with
			 * flags only.
			 */
			memcpy(&m[i]->rearm_data, &u->fresh, sizeof(u->fresh));
			m[i]->ol_flags = 0;
			m[i]->packet_type = 0;
			put_frame(u, f[i], m[i]);
		}
		return;
	}
	for (unsigned i = 0; i < n; i++)
		send_one(u, f[i]);
}

static void cut(struct vio_uplink *u, struct vio_frame *f)
{
	uint32_t k = vio_offload_segments(f);

	vio_counter_add(&u->port.stats.segmented, 1);
	for (uint32_t s = 0; s < k; s++) {
		vio_offload_segment(f, s, &u->segment);
		send_one(u, &u->segment.f);
	}
}

/* A device cuts what hand_over_csum() can describe to it: no second tag, no extension header. */
static bool must_cut(const struct vio_uplink *u, const struct vio_frame *f)
{
	return vio_unlikely(f->gso_type != VIRTIO_NET_HDR_GSO_NONE) &&
	       (!(u->capa & RTE_ETH_TX_OFFLOAD_TCP_TSO) || f->l3_at != VIO_ETH_LEN ||
		f->csum_offset != 16 ||
		(f->gso_type == VIRTIO_NET_HDR_GSO_TCPV6 && f->l4_at - f->l3_at != 40));
}

static void deliver(struct vio_port *p, struct vio_frame *const f[], unsigned n)
{
	struct vio_uplink *u = of(p);

	if (vio_unlikely(u->home != rte_lcore_id()))
		vio_store_relaxed(&u->home, rte_lcore_id());
	for (unsigned i = 0, k; i < n; i = k) {
		for (k = i; k < n && !must_cut(u, f[k]); k++)
			;
		send_burst(u, f + i, k - i);
		for (; k < n && must_cut(u, f[k]); k++)
			cut(u, f[k]);
	}
	send_all(u);
}

/* ------------------------------------------------------------------------------ coming in ---- */

/* A tag that the driver took off goes back to where it was, and the switch judges it like any other. */
static void put_tag_back(struct vio_frame *f, uint16_t tci)
{
	memmove(f->buf + 12 + VIO_TAG_LEN, f->buf + 12, f->head_len - 12u);
	vio_put_be16(f->buf + 12, VIO_ETHERTYPE_VLAN);
	vio_put_be16(f->buf + 14, tci);
	f->head_len = (uint16_t)(f->head_len + VIO_TAG_LEN);
	f->len += VIO_TAG_LEN;
}

/* False: not a frame that can be passed on. */
static bool take(struct vio_uplink *u, struct rte_mbuf *m, struct vio_frame *f, struct iovec *iov)
{
	uint16_t first = rte_pktmbuf_data_len(m), n = 0;
	uint16_t head = first < VIO_ETH_LEN + VIO_TAG_LEN ? first : VIO_ETH_LEN + VIO_TAG_LEN;

	if (m->nb_segs > RX_SEGS || (head < VIO_ETH_LEN && m->nb_segs > 1)) {
		vio_port_drop(&u->port, VIO_DROP_OVERSIZED, 1);
		return false;
	}
	if (vio_likely(head == VIO_ETH_LEN + VIO_TAG_LEN))
		memcpy(f->buf, rte_pktmbuf_mtod(m, uint8_t *), VIO_ETH_LEN + VIO_TAG_LEN);
	else
		memcpy(f->buf, rte_pktmbuf_mtod(m, uint8_t *), head);
	/* Field by field: this is a small part of the struct. */
	f->head = f->buf;
	f->flags = 0;
	f->gso_type = VIRTIO_NET_HDR_GSO_NONE;
	f->local = NULL;
	f->hold = NULL;
	f->len = rte_pktmbuf_pkt_len(m);
	f->head_len = head;
	f->body_len = f->len - head;
	f->body = iov;
	f->flow = 0; /* not the device's hash: it differs between the two directions */
	if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
		f->flags = VIRTIO_NET_HDR_F_DATA_VALID;
	for (struct rte_mbuf *s = m; s; s = s->next) {
		uint16_t skip = s == m ? head : 0, len = (uint16_t)(rte_pktmbuf_data_len(s) - skip);

		if (len > 0)
			iov[n++] = (struct iovec){rte_pktmbuf_mtod_offset(s, uint8_t *, skip), len};
	}
	f->n_body = n;
	if (vio_unlikely(m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) && head >= VIO_ETH_LEN) {
		put_tag_back(f, m->vlan_tci);
		if (m->ol_flags & RTE_MBUF_F_RX_QINQ_STRIPPED)
			put_tag_back(f, m->vlan_tci_outer);
	}
	return true;
}

/* Room for what a checksum covers at least: two tags, IPv6, TCP. Of a driver's first mbuf. */
static void lengthen_head(struct vio_frame *f, struct iovec *iov)
{
	uint32_t more = VIO_FRAME_HEAD - f->head_len;

	if (f->n_body == 0)
		return;
	more = iov->iov_len < more ? (uint32_t)iov->iov_len : more;
	memcpy(f->head + f->head_len, iov->iov_base, more);
	f->head_len = (uint16_t)(f->head_len + more);
	f->body_len -= more;
	iov->iov_base = (uint8_t *)iov->iov_base + more;
	iov->iov_len -= more;
	if (iov->iov_len == 0) {
		f->body++;
		f->n_body--;
	}
}

/*
 * Of an interface whose kernel leaves checksums to a device that isn't there (af_packet on a veth):
 * the driver does not pass on which these are, so they are found by what stands in them. False: it is
 * not the whole frame, the driver has cut it off.
 */
static bool take_unfinished(struct vio_uplink *u, struct vio_frame *f, struct iovec *iov)
{
	lengthen_head(f, iov);
	switch (vio_offload_look(f)) {
	case VIO_SUM_TRUNCATED:
		vio_port_drop(&u->port, VIO_DROP_TRUNCATED, 1);
		return false;
	case VIO_SUM_UNFINISHED:
		vio_counter_add(&u->port.stats.in_unfinished, 1);
		break;
	case VIO_SUM_OTHER:
		break;
	}
	return true;
}

static unsigned poll_port(struct vio_port *p)
{
	struct vio_uplink *u = of(p);
	struct rte_mbuf *m[VIO_FRAME_BURST];
	uint16_t n;
	unsigned k = 0;

	if (vio_unlikely(u->stopped))
		return 0;
	n = rte_eth_rx_burst(u->id, 0, m, VIO_FRAME_BURST);
	if (vio_unlikely((++u->turns & FLUSH_MASK) == 0))
		rte_eth_tx_burst(u->id, 0, NULL, 0);
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		k += take(u, m[i], &u->frame[k], u->iov[k]) &&
		     (vio_likely(!u->unfinished_sums) ||
		      take_unfinished(u, &u->frame[k], u->iov[k]));
	if (k > 0)
		vio_switch_forward(p, u->frame, k);
	rte_pktmbuf_free_bulk(m, n);
	return n;
}

static void reap(struct vio_port *p)
{
	if (!of(p)->stopped)
		rte_eth_tx_done_cleanup(of(p)->id, 0,
					0); /* not all devices have it; those free on their own */
}

static int may_change(const struct vio_port *p, const struct vio_port_change *to,
		      struct vio_err *err)
{
	(void)p;
	if (!to->set_up && !to->set_mtu)
		return 0;
	return vio_err_set(err, -EINVAL, "the link and the MTU of an uplink are its device's");
}

static const struct vio_port_ops ops = {.kind = "uplink",
					.outside = true,
					.deliver = deliver,
					.poll = poll_port,
					.tick = vio_uplink_tick,
					.may_change = may_change,
					.reap = reap};

/* ------------------------------------------------------------------------------- memory ---- */

/* It can't have a window in place, and so no frame: it gets copies. */
static void give_up_lending(struct vio_uplink *u, int rc, struct vio_err *err)
{
	vio_store_relaxed(&u->in_place, false);
	vio_err_set(
		err, rc,
		"uplink %s: a window of a guest can't be made known to it (%s); frames are copied out from here on",
		u->name, strerror(-rc));
}

int vio_uplink_mem_add(struct vio_uplink *const u[], unsigned n, void *va, uint64_t len,
		       struct vio_err *err)
{
	int rc = rte_extmem_register(va, len, NULL, 0, PAGE) < 0 ? -rte_errno : 0;

	if (rc < 0)
		vio_err_set(
			err, rc,
			"DPDK takes no more windows of guests (%s); ports that reach memory by themselves would get copies from here on, but there are none",
			strerror(-rc));
	for (unsigned i = 0; i < n; i++) {
		if (rc < 0 && u[i]->n_dma > 0)
			give_up_lending(u[i], rc, err);
		for (unsigned k = 0; k < u[i]->n_dma && vio_load_relaxed(&u[i]->in_place); k++) {
			if (rte_dev_dma_map(u[i]->dma[k], va, (uint64_t)(uintptr_t)va, len) < 0)
				give_up_lending(u[i], -rte_errno, err);
		}
	}
	return rc;
}

void vio_uplink_mem_del(struct vio_uplink *const u[], unsigned n, void *va, uint64_t len)
{
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < u[i]->n_dma; k++)
			rte_dev_dma_unmap(u[i]->dma[k], va, (uint64_t)(uintptr_t)va, len);
	}
	rte_extmem_unregister(va, len);
}

/* --------------------------------------------------------------------------------- life ---- */

/* The switch's words into the port, the others into devargs. */
static int split(struct vio_uplink *u, const char *spec, char *devargs, size_t len,
		 struct vio_err *err)
{
	char *copy = strdup(spec), *save = NULL;
	bool vlan = false;
	size_t at = 0;
	int rc = copy ? 0 : vio_err_set(err, -ENOMEM, "no memory");

	devargs[0] = '\0';
	for (char *w = copy ? strtok_r(copy, ",", &save) : NULL; w && rc >= 0;
	     w = strtok_r(NULL, ",", &save)) {
		char *value = strchr(w, '=');

		rc = 0;
		if (value) {
			*value = '\0';
			rc = vio_port_option(&u->port, w, value + 1, err);
			vlan |= rc > 0 && !strcmp(w, "vlan");
			*value = '=';
		}
		if (rc == 0 && at < len)
			at += (size_t)snprintf(devargs + at, len - at, "%s%s", at ? "," : "", w);
	}
	free(copy);
	if (rc < 0)
		return rc;
	if (at == 0 || at >= len)
		return vio_err_set(err, -EINVAL, "wants the arguments of a DPDK device");
	return vio_port_options_end(&u->port, vlan, err);
}

int vio_uplink_vdev(const char *devargs, struct vio_err *err)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	uint16_t id;
	int rc;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(devargs, ","), devargs);
	if (rte_eth_dev_get_port_by_name(name, &id) == 0)
		return 0; /* EAL has found it on the bus */
	rc = rte_dev_probe(devargs);
	return rc < 0 ? vio_err_set(err, rc, "%s: DPDK can't make this device: %s%s", devargs,
				    strerror(-rc), geteuid() ? "; most devices need root" : "")
		      : 0;
}

/*
 * Software drivers whose transmit function needs no more of a frame's address than that this process can
 * read it (drivers/net of DPDK): af_packet and memif copy, pcap copies or hands it to libpcap, tap to
 * writev(), null drops the frame or copies its start, ring passes the mbuf on to who polls the ring, which
 * here is this process too. Others may hand the address to another process or a kernel that does not
 * have the page (net_virtio_user, net_memif with zero-copy, net_af_xdp): what is not known gets copies.
 */
static bool reads_our_memory(const struct rte_eth_dev_info *info)
{
	static const char *const known[] = {"net_af_packet", "net_memif", "net_null",
					    "net_pcap",      "net_ring",  "net_tap"};
	const struct rte_devargs *args = info->device ? rte_dev_devargs(info->device) : NULL;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(known); i++) {
		if (!strcmp(info->driver_name, known[i]))
			return !args || !args->args || !strstr(args->args, "zero-copy=yes");
	}
	return false;
}

struct parts {
	bool hardware; /* all of it */
	bool reach; /* all of it can have frames in place: hardware, for which memory is mapped, or known */
	bool known; /* all software among it is */
};

/* What it is, or its parts are. Fills dma[]. */
static struct parts look_at_parts(struct vio_uplink *u)
{
	uint16_t part[MAX_PARTS] = {u->id};
	int n = u->bond ? rte_eth_bond_slaves_get(u->id, part, MAX_PARTS) : 1;
	char name[RTE_ETH_NAME_MAX_LEN], addr[32];
	struct parts p = {n > 0, n > 0, true};
	struct rte_eth_dev_info info;

	for (int i = 0; i < n; i++) {
		bool ok = rte_eth_dev_get_name_by_port(part[i], name) == 0 &&
			  rte_eth_dev_info_get(part[i], &info) == 0;

		if (ok && vio_uplink_is_pci(name, addr, sizeof(addr))) {
			u->dma[u->n_dma++] = info.device;
			continue;
		}
		p.hardware = false;
		if (!ok || !reads_our_memory(&info))
			p.reach = p.known = false;
		if (ok && !strcmp(info.driver_name, "net_af_packet"))
			u->unfinished_sums = true;
	}
	return p;
}

/* Make the device, or find it where EAL has done so already. */
static int probe(struct vio_uplink *u, const char *devargs, struct vio_err *err)
{
	struct rte_eth_dev_info info;
	struct parts parts;
	bool chains;
	int rc;

	snprintf(u->name, sizeof(u->name), "%.*s", (int)strcspn(devargs, ","), devargs);
	rc = vio_uplink_vdev(devargs, err);
	if (rc < 0)
		return rc;
	if (rte_eth_dev_get_port_by_name(u->name, &u->id) < 0)
		return vio_err_set(err, -ENODEV,
				   "%s: DPDK has made a device, but it is no Ethernet port",
				   u->name);
	rc = rte_eth_dev_info_get(u->id, &info);
	u->bond = rc == 0 && !strcmp(info.driver_name, "net_bonding");
	if (u->bond) {
		/* A bond knows its parts, and what they can do, only after this. */
		rc = rte_eth_dev_configure(u->id, 1, 1,
					   &(struct rte_eth_conf){.intr_conf = {.lsc = 1}});
		if (rc == 0)
			rc = rte_eth_dev_info_get(u->id, &info);
	}
	if (rc < 0)
		return vio_err_set(err, rc, "%s: %s", u->name, strerror(-rc));
	u->dev = info.device;
	u->capa = info.tx_offload_capa & TX_CAPA;
	parts = look_at_parts(u);
	u->known = parts.known;
	/* Software drivers (tap) cut with rte_gso: no IPv6, and not to full frames. We do both. */
	if (!parts.hardware || !(u->capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) ||
	    !(u->capa & RTE_ETH_TX_OFFLOAD_TCP_CKSUM))
		u->capa &= ~(uint64_t)RTE_ETH_TX_OFFLOAD_TCP_TSO;
	/* The null port does not say that it takes chained mbufs, and frees them like any. */
	chains = (u->capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) || !strcmp(info.driver_name, "net_null");
	u->in_place =
		chains && parts.reach && (u->n_dma == 0 || rte_eal_iova_mode() == RTE_IOVA_VA);
	snprintf(u->what, sizeof(u->what), "%s (%s), frames %s, checksums %s, segmentation %s",
		 u->name, info.driver_name, u->in_place ? "leave in place" : "are copied out",
		 u->capa & RTE_ETH_TX_OFFLOAD_TCP_CKSUM ? "by the port" : "in software",
		 u->capa & RTE_ETH_TX_OFFLOAD_TCP_TSO ? "by the port" : "in software");
	return 0;
}

static struct rte_mempool *pool(const struct vio_uplink *u, const char *kind, unsigned n,
				uint16_t room)
{
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "vio_%s_%u", kind, u->id);
	return rte_pktmbuf_pool_create(name, n, 64, 0, room, SOCKET_ID_ANY);
}

static void not_lent(struct rte_mempool *p, void *arg, void *obj, unsigned i)
{
	(void)p, (void)arg, (void)i;
	memset(obj, 0, sizeof(struct lent));
}

static int make_pools(struct vio_uplink *u, bool scatter, struct vio_err *err)
{
	uint32_t frame = u->port.mtu + VIO_ETH_LEN + VIO_TAG_LEN;
	bool small = scatter || frame <= RTE_MBUF_DEFAULT_DATAROOM;
	uint16_t room = small ? RTE_MBUF_DEFAULT_BUF_SIZE
			      : (uint16_t)(VIO_ALIGN_UP(frame, 64u) + RTE_PKTMBUF_HEADROOM);
	char name[RTE_MEMPOOL_NAMESIZE];

	u->rx_pool = pool(u, "rx", POOL, room);
	u->tx_pool = pool(u, "tx", POOL, room);
	u->ext_pool = pool(u, "ext", POOL_LENT + VIO_FRAME_BURST, 0); /* ... that wait in ext[] */
	snprintf(name, sizeof(name), "vio_lent_%u", u->id);
	u->lent_pool = rte_mempool_create(name, POOL_LENT, sizeof(struct lent), 64, 0, NULL, NULL,
					  not_lent, NULL, SOCKET_ID_ANY, 0);
	if (u->rx_pool && u->tx_pool && u->ext_pool && u->lent_pool)
		return 0;
	return vio_err_set(err, -ENOMEM,
			   "%s: no memory for its buffers (%s); give DPDK more hugepages", u->name,
			   rte_strerror(rte_errno));
}

/* ---- what DPDK says ---- */

/* While a port is made and started: what DPDK reports is kept, as the reason for what follows. */
struct heard {
	FILE *f;
	char *text;
	size_t len;
};

static void begin_listening(struct heard *h)
{
	*h = (struct heard){NULL, NULL, 0};
	h->f = open_memstream(&h->text, &h->len);
	if (h->f)
		rte_openlog_stream(h->f);
}

/* Bytes so far. */
static size_t heard(struct heard *h)
{
	if (h->f)
		fflush(h->f);
	return h->len;
}

/* Lines into one sentence's end, "; DPDK: a; b", in place of `len` bytes at most. */
static void reason(struct heard *h, char *to, size_t len)
{
	char *save = NULL;
	size_t at = 0;

	to[0] = '\0';
	heard(h);
	for (char *w = h->text ? strtok_r(h->text, "\n", &save) : NULL; w && at < len;
	     w = strtok_r(NULL, "\n", &save))
		at += (size_t)snprintf(to + at, len - at, "%s%s", at ? "; " : "; DPDK: ", w);
}

/* What was said without a failure is somebody's to read nevertheless. */
static void end_listening(struct heard *h, bool print)
{
	if (!h->f)
		return;
	rte_openlog_stream(NULL);
	fclose(h->f);
	if (print && h->len > 0)
		fputs(h->text, stderr);
	free(h->text);
}

static int start(struct vio_uplink *u, struct heard *h, struct vio_err *err)
{
	struct rte_eth_conf conf = {0};
	struct rte_eth_dev_info info;
	uint16_t rx = RING, tx = RING;
	const char *what = "configure it";
	size_t before = 0;
	int rc = rte_eth_dev_info_get(u->id, &info);

	/* A bond hears of its parts' links this way. */
	conf.intr_conf.lsc = rc == 0 && (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) ? 1 : 0;
	conf.txmode.offloads = u->capa;
	conf.rxmode.mtu = u->port.mtu;
	conf.rxmode.offloads =
		info.rx_offload_capa & (RTE_ETH_RX_OFFLOAD_SCATTER | RTE_ETH_RX_OFFLOAD_TCP_CKSUM |
					RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
	if (rc == 0 && info.max_rx_pktlen >= RTE_ETHER_MIN_LEN &&
	    u->port.mtu + VIO_ETH_LEN + VIO_TAG_LEN > info.max_rx_pktlen)
		return vio_err_set(err, -EINVAL,
				   "%s: its largest frame of %u bytes allows an MTU of %u", u->name,
				   info.max_rx_pktlen,
				   info.max_rx_pktlen - VIO_ETH_LEN - VIO_TAG_LEN);
	if (rc == 0)
		rc = make_pools(u, info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER, err);
	if (rc < 0)
		return rc;
	rc = rte_eth_dev_configure(u->id, 1, 1, &conf);
	if (rc == 0)
		rc = rte_eth_dev_adjust_nb_rx_tx_desc(u->id, &rx, &tx);
	if (rc == 0) {
		what = "set its MTU";
		rc = rte_eth_dev_set_mtu(u->id, u->port.mtu);
		if (rc == -ENOTSUP)
			rc = 0; /* then it has none */
	}
	if (rc == 0) {
		what = "set up its queues";
		rc = rte_eth_rx_queue_setup(u->id, 0, rx, (unsigned)SOCKET_ID_ANY, NULL,
					    u->rx_pool);
	}
	if (rc == 0)
		rc = rte_eth_tx_queue_setup(u->id, 0, tx, (unsigned)SOCKET_ID_ANY, NULL);
	if (rc == 0) {
		what = "start it";
		before = heard(h);
		rc = rte_eth_dev_start(u->id);
		/* Not all drivers pass on that it failed (virtio_user does not); they say so. */
		if (rc == 0 && !u->known && heard(h) > before)
			rc = -EIO;
	}
	if (rc < 0)
		return vio_err_set(err, rc, "%s: can't %s: %s", u->name, what, strerror(-rc));
	u->started = true;
	rte_eth_promiscuous_enable(u->id); /* addresses behind the switch are not the port's */
	rte_eth_allmulticast_enable(u->id);
	return 0;
}

static uint64_t fresh_mbuf(void)
{
	struct rte_mbuf m = {.data_off = RTE_PKTMBUF_HEADROOM,
			     .refcnt = 1,
			     .nb_segs = 1,
			     .port = RTE_MBUF_PORT_INVALID};
	uint64_t word;

	memcpy(&word, &m.rearm_data, sizeof(word));
	return word;
}

int vio_uplink_create(const char *spec, struct vio_uplink **out, struct vio_err *err)
{
	struct vio_uplink *u =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*u), (size_t)VIO_CACHE_LINE));
	char devargs[512], said[200];
	struct vio_err why;
	struct heard h;
	int rc;

	if (!u)
		return vio_err_set(err, -ENOMEM, "no memory for an uplink");
	memset(u, 0, sizeof(*u));
	u->id = RTE_MAX_ETHPORTS;
	u->home = LCORE_ID_ANY;
	u->active = -1;
	u->fresh = fresh_mbuf();
	u->port.ops = &ops;
	vio_port_defaults(&u->port);
	rc = split(u, spec, devargs, sizeof(devargs), err);
	begin_listening(&h);
	if (rc == 0)
		rc = probe(u, devargs, err);
	if (rc == 0)
		rc = start(u, &h, err);
	if (rc < 0) {
		why = *err;
		reason(&h, said, sizeof(said));
		vio_err_set(err, rc, "%s%s", why.msg, said);
	}
	end_listening(&h, rc == 0);
	if (rc < 0) {
		vio_uplink_destroy(u);
		return rc;
	}
	snprintf(u->port.name, sizeof(u->port.name), "%s", u->name);
	u->port.up = vio_uplink_link(u);
	*out = u;
	return 0;
}

static void take_back(struct rte_mempool *p, void *arg, void *obj, unsigned i)
{
	(void)p, (void)arg, (void)i;
	let_go(obj);
}

/*
 * The device is freed, and adapters may withdraw windows yet. A bond's parts stay, and so does what
 * is mapped for them.
 */
static void forget_device(struct vio_uplink *u)
{
	unsigned n = 0;

	for (unsigned k = 0; k < u->n_dma; k++) {
		if (u->dma[k] != u->dev)
			u->dma[n++] = u->dma[k];
	}
	u->n_dma = n;
	u->dev = NULL;
}

void vio_uplink_stop(struct vio_uplink *u)
{
	struct rte_mbuf *m[VIO_FRAME_BURST];

	if (!u || u->stopped)
		return;
	if (u->port.sw)
		vio_switch_link(&u->port, false); /* nothing leaves any more */
	if (u->id != RTE_MAX_ETHPORTS && rte_eth_dev_is_valid_port(u->id)) {
		/*
		 * Some loop back what has left (net_ring), and forget what is in them when they are
		 * closed.
		 */
		for (unsigned i = 0; u->started && i < DRAIN_TURNS; i++) {
			rte_eth_tx_done_cleanup(u->id, 0, 0);
			rte_pktmbuf_free_bulk(m, rte_eth_rx_burst(u->id, 0, m, VIO_FRAME_BURST));
		}
		rte_eth_dev_stop(u->id);
		rte_eth_dev_close(u->id);
		if (u->dev && rte_dev_remove(u->dev) == 0)
			forget_device(u);
	}
	u->stopped = true;
	if (vio_uplink_lent(u) > 0)
		rte_mempool_obj_iter(u->lent_pool, take_back, NULL);
}

void vio_uplink_destroy(struct vio_uplink *u)
{
	if (!u)
		return;
	u->port.sw = NULL; /* it may have gone already */
	vio_uplink_stop(u);
	rte_mempool_free(u->rx_pool);
	/* Mbufs that the driver has forgotten may be remembered: they must stay what they are. */
	if (!u->lent_pool || rte_mempool_in_use_count(u->lent_pool) == 0) {
		rte_mempool_free(u->tx_pool);
		rte_mempool_free(u->ext_pool);
		rte_mempool_free(u->lent_pool);
	}
	free(u);
}

struct vio_port *vio_uplink_port(struct vio_uplink *u)
{
	return &u->port;
}

unsigned vio_uplink_lent(const struct vio_uplink *u)
{
	return (unsigned)(vio_load_acquire(&u->port.stats.lent) -
			  vio_load_acquire(&u->away_frames));
}

const char *vio_uplink_what(const struct vio_uplink *u)
{
	return u->what;
}
