/* SPDX-License-Identifier: BSD-3-Clause */
/* An uplink's way in: mbufs as frames. */
#include <string.h>

#include "server/ports/ethdev_priv.h"

#define FLUSH_MASK                                                                                 \
	1023u /* turns between two empty transmit calls, which bonding (LACP) and memif want now and then */

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
	__asm__ volatile(""
			 :
			 : "r"(f->buf)
			 : "memory"); /* it may be a guest's: not looked at again */
	/* Field by field: this is a small part of the struct. */
	f->head = f->buf;
	f->flags = 0;
	f->gso_type = VIRTIO_NET_HDR_GSO_NONE;
	f->local = NULL;
	f->hold = NULL;
	f->place = u->places ? vio_uplink_placed(u, m) : NULL;
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

static void count_placed(struct vio_uplink *u, unsigned n)
{
	unsigned placed = 0;

	for (unsigned i = 0; i < n; i++)
		placed += u->frame[i].place != NULL;
	vio_counter_add(&u->port.stats.in_placed, placed);
}

unsigned vio_uplink_poll(struct vio_port *p)
{
	struct vio_uplink *u = of(p);
	struct rte_mbuf *m[VIO_FRAME_BURST];
	uint16_t n;
	unsigned k = 0;

	if (vio_unlikely(u->stopped))
		return 0;
	if (vio_unlikely(u->home != rte_lcore_id()))
		vio_store_relaxed(&u->home, rte_lcore_id());
	if (u->places)
		vio_uplink_place_collect(u);
	n = rte_eth_rx_burst(u->id, 0, m, VIO_FRAME_BURST);
	if (vio_unlikely((++u->turns & FLUSH_MASK) == 0))
		rte_eth_tx_burst(u->id, 0, NULL, 0);
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		k += take(u, m[i], &u->frame[k], u->iov[k]) &&
		     (vio_likely(!u->unfinished_sums) ||
		      take_unfinished(u, &u->frame[k], u->iov[k]));
	if (u->places)
		count_placed(u, k);
	if (k > 0)
		vio_switch_forward(p, u->frame, k);
	rte_pktmbuf_free_bulk(m, n);
	return n;
}
