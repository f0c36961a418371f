/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/prog/net/net_load_priv.h"
#include "vio/cycles.h"

/* What counts: frames that are sent and those that come. A generator's echo would be counted twice. */
static uint64_t moved(const struct vio_nl *l)
{
	const struct vio_nl_result *r = l->res;

	return r->tx_frames + (l->cfg.mode == VIO_NL_FLOWGEN ? 0 : r->rx_frames);
}

/* Until the server has all that was sent: it may sleep then. */
static void finish_sending(struct vio_nl *l, const volatile int *stop)
{
	struct vio_net_count c;
	uint32_t sending = 1;

	while (sending > 0 && !l->machine_gone && !*stop) {
		sending = 0;
		for (unsigned i = 0; i < l->n_pairs; i++) {
			(void)vio_nl_turn(l, i, NULL);
			vio_net_tx_reclaim(l->n, i);
			vio_net_get_count(l->n, i, &c);
			sending += c.sending + l->p[i].n_ready;
		}
	}
}

/* One turn of the duet: until its window is over and nothing that was sent is outstanding. */
static void nl_play(struct vio_nl *l, struct vio_duet *d, const volatile int *stop)
{
	struct vio_nl_phase ph = {.count = UINT64_MAX};

	while (!l->machine_gone && !*stop) {
		bool progress = false;

		for (unsigned i = 0; i < l->n_pairs; i++)
			progress |= vio_nl_turn(l, i, &ph);
		if (vio_duet_step(d, vio_ticks(), moved(l), progress))
			break;
		if (!progress && l->n_pairs == 1)
			vio_nl_rest(l, &ph);
	}
	finish_sending(l, stop);
}

int vio_nl_duet(struct vio_nl *l, struct vio_duet *d, void (*mark)(void *ctx, bool end), void *ctx,
		const volatile int *stop, struct vio_nl_result *res)
{
	struct vio_net_stats before;
	uint64_t ticks = 0, from;

	l->res = res;
	for (unsigned i = 0; i < l->n_pairs; i++)
		vio_net_refill(l->n, i);
	phyp_watch_gaps(l->part, &d->gaps);
	mark(ctx, false);
	vio_nl_sum_stats(l, &before);
	do {
		vio_duet_ready(d);
		while (vio_duet_wait(d, moved(l), stop)) {
			from = vio_ticks();
			nl_play(l, d, stop);
			ticks += vio_ticks() - from;
			vio_duet_pass(d, moved(l));
		}
	} while (!vio_duet_over(d) && !*stop);
	vio_nl_sum_stats(l, &res->front);
	vio_nl_difference(&res->front, &before);
	phyp_watch_gaps(l->part, NULL);
	res->elapsed_ns = vio_muldiv(ticks, 1000000000ull, l->tick_hz);
	mark(ctx, true);
	vio_nl_drain(l, l->cfg.drain_ns, stop);
	return l->machine_gone ? -EIO : 0;
}
