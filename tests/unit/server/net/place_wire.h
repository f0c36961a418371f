/* SPDX-License-Identifier: BSD-3-Clause */
/* An uplink that belongs to guest 0, and a test that has its mbufs as a driver has. */
#ifndef VIO_TESTS_PLACE_WIRE_H
#define VIO_TESTS_PLACE_WIRE_H

#include "tests/unit/server/net/uplink_wire.h"

static uint8_t out[ROOM], in[ROOM];

/* The uplink's VLAN has guest 0 only. */
static const char *const alone[NW_GUESTS] = {"", "vlan=2", "vlan=2"};

static inline struct nw *begin(void **state, struct wire *r, const char *words)
{
	struct nw *w;

	nw_setup_with(state, alone);
	w = *state;
	wire_up(w, r, words);
	vio_switch_poll(w->sw, w->now); /* the port knows its lcore */
	return w;
}

/* What a driver has: an mbuf of the port's own pool. */
static inline struct rte_mbuf *take(struct wire *r)
{
	struct rte_mbuf *m = NULL;
	char name[32];

	(void)r;
	for (unsigned id = 0; !m && id < RTE_MAX_ETHPORTS; id++) {
		snprintf(name, sizeof(name), "vio_rx_%u", id);
		if (rte_mempool_lookup(name))
			m = rte_pktmbuf_alloc(rte_mempool_lookup(name));
	}
	assert_non_null(m);
	return m;
}

static inline bool of_guest(const struct nw_guest *g, const struct rte_mbuf *m)
{
	const uint8_t *at = rte_pktmbuf_mtod(m, const uint8_t *);
	const struct vio_squeue *q = g->polled[0];
	const struct vio_wtable *t = q ? *q->windows_src : NULL;

	for (unsigned i = 0; t && i < t->n; i++) {
		if (at >= t->w[i].va && at < t->w[i].va + t->w[i].len)
			return true;
	}
	return false;
}

/* A frame for guest `to` has come into m. */
static inline void fill(struct rte_mbuf *m, uint32_t len, unsigned to, unsigned seed)
{
	nw_frame(out, len, to, 99, seed);
	memcpy(rte_pktmbuf_append(m, (uint16_t)len), out, len);
}

static inline void comes_in(struct wire *r, struct rte_mbuf *m)
{
	assert_int_equal(rte_ring_enqueue(r->rx, m), 0);
}

static inline void guest_up(struct nw *w, unsigned buffers)
{
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_post(&w->g[0], 0, buffers, 2048);
}

/* The next frame that guest 0 gets is this one. */
static inline void assert_gets(struct nw *w, uint32_t len, unsigned to, unsigned seed)
{
	struct virtio_net_hdr_v1 h;

	nw_frame(out, len, to, 99, seed);
	assert_int_equal(nw_recv(&w->g[0], 0, in, &h), len);
	assert_int_equal(h.num_buffers, vio_le16(1));
	assert_int_equal(h.flags, 0);
	assert_memory_equal(in, out, len);
}

#endif
