/* SPDX-License-Identifier: BSD-3-Clause */
/* An uplink's way out: frames as mbufs, lent or copied. */
#include <string.h>

#include "server/ports/ethdev_priv.h"

/* A frame is back, once: when the port frees the last piece, or when it is closed and has not. */
static void back(struct vio_uplink *u, const struct lent *l, struct vio_hold *hold)
{
	vio_counter_add(&u->pieces[l->from], -(uint32_t)l->pieces);
	vio_counter_add(&u->port.stats.lent, -1ull);
	vio_hold_put(hold);
}

static void on_free(void *addr, void *opaque)
{
	struct lent *l = opaque, *old;
	struct vio_hold *hold = vio_load_relaxed(&l->hold);
	struct vio_uplink *u = l->u;

	(void)addr;
	if (hold && vio_likely(rte_lcore_id() == vio_load_relaxed(&u->home))) {
		/* We close it only when this lcore has ended. */
		vio_store_relaxed(&l->hold, NULL);
		back(u, l, hold);
	} else if (hold) {
		hold = vio_xchg_acq_rel(&l->hold, NULL);
		if (hold) {
			l->back = hold;
			old = vio_load_relaxed(&u->away);
			do {
				l->next = old;
			} while (!vio_cas(&u->away, old,
					  l)); /* pair X: the body is not touched any more */
			return;
		}
	}
	if (l->shared)
		rte_mempool_put(rte_mempool_from_obj(l), l);
}

/* Those that were let go of on other threads. */
static void collect(struct vio_uplink *u)
{
	struct lent *l, *next;

	if (vio_likely(!vio_load_relaxed(&u->away)))
		return;
	for (l = vio_xchg_acq_rel(&u->away, NULL); l; l = next) { /* pair X */
		next = l->next;
		back(u, l, l->back);
		if (l->shared)
			rte_mempool_put(u->lent_pool, l);
	}
}

/* What is the same for all frames. */
static void lent_init(struct vio_uplink *u, struct lent *l, bool shared)
{
	*l = (struct lent){.info = {.free_cb = on_free, .fcb_opaque = l}, .u = u, .shared = shared};
}

static void lent_init_own(struct rte_mempool *p, void *arg, void *obj, unsigned i)
{
	(void)p, (void)i;
	lent_init(arg, rte_mbuf_to_priv(obj), false);
}

static void lent_init_shared(struct rte_mempool *p, void *arg, void *obj, unsigned i)
{
	(void)p, (void)i;
	lent_init(arg, obj, true);
}

bool vio_uplink_lent_pools(struct vio_uplink *u)
{
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "vio_ext_%u", u->id);
	/* ... and those that wait in ext[] */
	u->ext_pool = rte_pktmbuf_pool_create(name, POOL_LENT + VIO_FRAME_BURST, 64,
					      VIO_ALIGN_UP(sizeof(struct lent), VIO_CACHE_LINE), 0,
					      SOCKET_ID_ANY);
	snprintf(name, sizeof(name), "vio_lent_%u", u->id);
	u->lent_pool = rte_mempool_create(name, POOL_LENT, sizeof(struct lent), 64, 0, NULL, NULL,
					  lent_init_shared, u, SOCKET_ID_ANY, 0);
	if (u->ext_pool)
		rte_mempool_obj_iter(u->ext_pool, lent_init_own, u);
	return u->ext_pool && u->lent_pool;
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
	bool ok;

	if (vio_likely(n == 1 && u->n_ext > 0)) {
		m[0] = u->ext[--u->n_ext];
		return true;
	}
	if (n == 1 && rte_pktmbuf_alloc_bulk(u->ext_pool, u->ext, VIO_FRAME_BURST) == 0) {
		u->n_ext = VIO_FRAME_BURST - 1;
		m[0] = u->ext[u->n_ext];
		ok = true;
	} else {
		ok = rte_pktmbuf_alloc_bulk(u->ext_pool, m, n) == 0;
	}
	collect(u); /* what is behind an mbuf that was freed on another thread is in `away` by now */
	return ok;
}

/* Where a frame of so many pieces is noted; NULL: not now. */
static inline struct lent *take_lent(struct vio_uplink *u, struct rte_mbuf *const m[], unsigned n)
{
	void *obj;

	if (vio_likely(n == 1))
		return rte_mbuf_to_priv(m[0]);
	return rte_mempool_get(u->lent_pool, &obj) == 0 ? obj : NULL;
}

/* The body as external buffers behind the head. False: not now. */
static bool lend(struct vio_uplink *u, struct vio_frame *f, struct rte_mbuf *head)
{
	uint32_t from = vio_switch_from(u->port.sw)->index;
	struct rte_mbuf *m[VIO_MAX_SEGS + 1], *last = head;
	struct lent *l;

	if (f->n_body > VIO_ARRAY_SIZE(m) || u->pieces[from] + f->n_body > share(u) ||
	    !take_ext(u, m, f->n_body))
		return false;
	l = take_lent(u, m, f->n_body);
	if (!l) {
		rte_pktmbuf_free_bulk(m, f->n_body);
		return false;
	}
	vio_store_relaxed(&l->hold, f->hold);
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

void vio_uplink_deliver(struct vio_port *p, struct vio_frame *const f[], unsigned n)
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

void vio_uplink_reap(struct vio_port *p)
{
	struct vio_uplink *u = of(p);

	if (!u->stopped)
		rte_eth_tx_done_cleanup(u->id, 0,
					0); /* not all devices have it; those free on their own */
	collect(u);
}

static void take_back(struct lent *l)
{
	struct vio_hold *hold = vio_xchg_acq_rel(&l->hold, NULL);

	if (hold)
		back(l->u, l, hold);
}

static void take_back_own(struct rte_mempool *p, void *arg, void *obj, unsigned i)
{
	(void)p, (void)arg, (void)i;
	take_back(rte_mbuf_to_priv(obj));
}

static void take_back_shared(struct rte_mempool *p, void *arg, void *obj, unsigned i)
{
	(void)p, (void)arg, (void)i;
	take_back(obj);
}

void vio_uplink_take_back(struct vio_uplink *u)
{
	collect(u);
	rte_mempool_obj_iter(u->ext_pool, take_back_own, NULL);
	rte_mempool_obj_iter(u->lent_pool, take_back_shared, NULL);
}

bool vio_uplink_all_back(const struct vio_uplink *u)
{
	return (!u->lent_pool || rte_mempool_in_use_count(u->lent_pool) == 0) &&
	       (!u->ext_pool || rte_mempool_in_use_count(u->ext_pool) == u->n_ext);
}
