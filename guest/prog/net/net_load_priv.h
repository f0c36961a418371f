/* SPDX-License-Identifier: BSD-3-Clause */
/* What the load's own loop (net_load.c) and its turns in a duet (net_load_duet.c) share. */
#ifndef VIO_GUEST_PROG_NET_LOAD_PRIV_H
#define VIO_GUEST_PROG_NET_LOAD_PRIV_H

#include "guest/prog/net/net_load.h"

struct pair_load {
	struct vio_nf maker;
	struct vio_net_buf
		*ready[VIO_NL_MAX_BURST]; /* made, or to be forwarded, and not yet taken */
	unsigned n_ready;
	unsigned next_size;
};

struct vio_nl {
	struct vio_nl_cfg cfg;
	struct vio_net *n;
	struct phyp_part *part;
	unsigned n_pairs;
	uint32_t room; /* of a buffer */
	bool single;   /* every frame fits one */
	uint64_t tick_hz;
	struct pair_load *p;
	uint32_t *expect; /* next number of each stream */
	uint8_t *seen;    /* of each stream: something */
	struct vio_nl_result *res;
	bool machine_gone;
};

struct vio_nl_phase {
	uint64_t count;    /* frames; UINT64_MAX: by time */
	uint64_t end_tick; /* 0: by count */
	uint64_t started;
	double period; /* open loop: ticks between intended starts */
	double next;   /* ... the next one */
};

/* A turn of the loop for one pair: receive, send, refill; ph NULL: nothing new is made. True: something moved. */
bool vio_nl_turn(struct vio_nl *l, unsigned pi, struct vio_nl_phase *ph);
/* Nothing to do. The open loop looks at the clock, unless the next start is far away. */
void vio_nl_rest(struct vio_nl *l, const struct vio_nl_phase *ph);
/*
 * What is on the way: sent, and for a checker received. At most for `ns` without news; where news do
 * not end (others send), until *stop is set, and for `ns` when it was before.
 */
void vio_nl_drain(struct vio_nl *l, uint64_t ns, const volatile int *stop);
/* Of all pairs; and what was before taken off. */
void vio_nl_sum_stats(const struct vio_nl *l, struct vio_net_stats *sum);
void vio_nl_difference(struct vio_net_stats *z, const struct vio_net_stats *a);

#endif
