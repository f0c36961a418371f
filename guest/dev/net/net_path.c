/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data path of the network front end: net_rx.c, net_tx.c, and here what both need. Everything goes in bursts
 * through the arm's tables: payload, mapping, ring; one publish and at most one kick a call. No allocation, no
 * system call (but a sleep), no lock.
 */
#include "guest/dev/net/net_priv.h"

unsigned net_ready(struct vio_fq *q, struct vio_vring_one one[], struct gla app[], unsigned n,
		   bool dev_writes)
{
	struct vio_gbuf *g[NET_BURST];
	struct vio_dma_map *m[NET_BURST];
	int got;

	if (!q->payload->ops->as_is) {
		for (unsigned i = 0; i < n; i++) {
			g[i] = &((struct net_buf *)one[i].token)->g;
			g[i]->app = app[i];
			g[i]->len = one[i].len;
			g[i]->dev_writes = dev_writes;
		}
		got = q->payload->ops->get(q->payload, g, n);
		n = got > 0 ? (unsigned)got : 0;
		for (unsigned i = 0; i < n; i++)
			app[i] = g[i]->dev;
	}
	if (q->dma->ops->fixed) {
		for (unsigned i = 0; i < n; i++)
			one[i].at = vio_dma_fixed(q->dma, app[i]);
		return n;
	}
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		m[i] = &((struct net_buf *)one[i].token)->map;
		m[i]->n_seg = 1;
		m[i]->seg[0].addr = app[i];
		m[i]->seg[0].len = one[i].len;
		m[i]->seg[0].dev_writes = dev_writes;
	}
	got = q->dma->ops->map(q->dma, m, n);
	got = got > 0 ? got : 0;
	for (unsigned i = 0; i < (unsigned)got; i++)
		one[i].at = m[i]->seg[0].at;
	if ((unsigned)got < n && !q->payload->ops->as_is) {
		for (unsigned i = (unsigned)got; i < n; i++)
			g[i]->dev_writes = false; /* nothing to copy back */
		q->payload->ops->put(q->payload, g + got, n - (unsigned)got);
	}
	return (unsigned)got;
}
