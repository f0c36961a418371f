/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/prog/net/net_load_priv.h"
#include "vio/cycles.h"

#define STREAMS  65536u
#define AGE_MASK ((1ull << 48) - 1)
#define NEAR_NS  100000u /* longer than a wake-up takes */

const char *const vio_nl_modes[] = {"txonly", "rxonly", "io", "mac", "flowgen", NULL};

const char *vio_nl_mode_name(enum vio_nl_mode m)
{
	return (unsigned)m < VIO_ARRAY_SIZE(vio_nl_modes) - 1 ? vio_nl_modes[m] : "?";
}

static bool sends(const struct vio_nl *l)
{
	return l->cfg.mode == VIO_NL_TXONLY || l->cfg.mode == VIO_NL_FLOWGEN;
}

static bool forwards(const struct vio_nl *l)
{
	return l->cfg.mode == VIO_NL_IO || l->cfg.mode == VIO_NL_MAC;
}

static bool checks(const struct vio_nl *l)
{
	return l->cfg.mode == VIO_NL_RXONLY || l->cfg.mode == VIO_NL_FLOWGEN;
}

/* ------------------------------------------------------------------------- receive ---- */

static void order(struct vio_nl *l, const struct vio_nf_seen *s)
{
	uint32_t *next = &l->expect[s->stream];
	int32_t ahead = (int32_t)(s->seq - *next);

	if (!l->seen[s->stream]) {
		l->seen[s->stream] = 1; /* the first one seen is where counting begins */
		ahead = 0;
	}
	if (ahead < 0) {
		l->res->disordered++;
		return;
	}
	l->res->missing += (uint32_t)ahead;
	*next = s->seq + 1;
}

static void nl_check(struct vio_nl *l, const struct vio_net_buf *f, uint64_t now)
{
	struct vio_nf_seen s;
	uint64_t age;

	if (!vio_nf_look(f, l->cfg.frame.seed, l->cfg.frame.payload, &s)) {
		l->res->foreign++;
		return;
	}
	l->res->own++;
	order(l, &s);
	/* A frame says when modulo 2^48; clocks that differ a little make it look as if from the future. */
	age = (now - s.tick) & AGE_MASK;
	vio_hist_add(&l->res->latency, age <= AGE_MASK / 2 ? age : 0);
	if (l->cfg.frame.payload)
		l->res->bytes_verified += f->total;
	if (vio_likely(s.wrong == 0))
		return;
	if (l->res->mismatches == 0)
		snprintf(l->res->first_mismatch, sizeof(l->res->first_mismatch),
			 "stream 0x%04x, frame %u, %u bytes: %" PRIu64
			 " of them wrong (1 may be a wrong length)",
			 s.stream, s.seq, f->total, s.wrong);
	l->res->mismatches += s.wrong;
}

static void readdress(const struct vio_nl *l, struct vio_net_buf *f)
{
	memcpy(f->data, l->cfg.peer_given ? l->cfg.frame.dst : f->data + 6, 6);
	memcpy(f->data + 6, l->cfg.frame.src, 6);
}

static void nl_forward(struct vio_nl *l, struct pair_load *p, struct vio_net_buf *f)
{
	if (l->cfg.mode == VIO_NL_MAC && f->len >= 12)
		readdress(l, f);
	f->hdr->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM; /* the others are the receiver's to know */
	p->ready[p->n_ready++] = f;
}

static unsigned nl_receive(struct vio_nl *l, unsigned pi)
{
	struct pair_load *p = &l->p[pi];
	struct vio_net_buf *f[VIO_NL_MAX_BURST];
	unsigned room = forwards(l) ? l->cfg.burst - p->n_ready : l->cfg.burst;
	int n = room ? vio_net_rx_burst(l->n, pi, f, room) : 0;
	uint64_t now;

	if (n <= 0) {
		l->machine_gone |= n < 0;
		return 0;
	}
	now = vio_ticks();
	for (int i = 0; i < n; i++) {
		l->res->rx_bytes += f[i]->total;
		if (forwards(l))
			nl_forward(l, p, f[i]);
		else if (checks(l))
			nl_check(l, f[i], now);
	}
	l->res->rx_frames += (unsigned)n;
	if (!forwards(l))
		vio_net_free(l->n, pi, f, (unsigned)n);
	return (unsigned)n;
}

/* ---------------------------------------------------------------------------- send ---- */

/* A frame's length spread over its buffers. */
static void cut_up(struct vio_net_buf *const b[], unsigned n, uint32_t room, uint32_t len)
{
	b[0]->total = len;
	for (unsigned i = 0; i < n; i++) {
		b[i]->len = i + 1 < n ? room : len - i * room;
		b[i]->next = i + 1 < n ? b[i + 1] : NULL;
	}
}

static uint32_t next_size(struct vio_nl *l, struct pair_load *p)
{
	const uint32_t len = l->cfg.size[p->next_size];

	p->next_size = p->next_size + 1 == l->cfg.n_sizes ? 0 : p->next_size + 1;
	return len;
}

/* Frames that take several buffers. How many. */
static unsigned make_long(struct vio_nl *l, unsigned pi, unsigned n, const uint64_t tick[])
{
	struct pair_load *p = &l->p[pi];
	struct vio_net_buf *b[VIO_NET_MAX_BUFS];

	for (unsigned i = 0; i < n; i++) {
		const uint32_t len = l->cfg.size[p->next_size];
		unsigned need = (len + l->room - 1) / l->room,
			 got = vio_net_tx_alloc(l->n, pi, b, need);

		if (vio_unlikely(got < need)) {
			vio_net_free(l->n, pi, b, got);
			return i;
		}
		next_size(l, p);
		cut_up(b, need, l->room, len);
		vio_nf_build(&p->maker, b[0], len, tick[i]);
		p->ready[p->n_ready++] = b[0];
	}
	return n;
}

/* Up to n frames of the next sizes, in new buffers; tick[i]: when. How many: fewer when buffers are short. */
static unsigned make(struct vio_nl *l, unsigned pi, unsigned n, const uint64_t tick[])
{
	struct pair_load *p = &l->p[pi];
	struct vio_net_buf **b = p->ready + p->n_ready;

	if (vio_unlikely(!l->single))
		return make_long(l, pi, n, tick);
	n = vio_net_tx_alloc(l->n, pi, b, n);
	for (unsigned i = 0; i < n; i++) {
		const uint32_t len = next_size(l, p);

		cut_up(b + i, 1, l->room, len);
		vio_nf_build(&p->maker, b[i], len, tick[i]);
	}
	p->n_ready += n;
	return n;
}

static unsigned send_ready(struct vio_nl *l, unsigned pi)
{
	struct pair_load *p = &l->p[pi];
	unsigned n;

	if (p->n_ready == 0)
		return 0;
	n = vio_net_tx_burst(l->n, pi, p->ready, p->n_ready);
	/* Still ours to look at: buffers are used again by later calls only. */
	for (unsigned i = 0; i < n; i++)
		l->res->tx_bytes += p->ready[i]->total;
	l->res->tx_frames += n;
	l->res->publishes += n > 0;
	p->n_ready -= n;
	if (vio_likely(p->n_ready == 0))
		return n;
	l->res->tx_full++;
	memmove(p->ready, p->ready + n, p->n_ready * sizeof(p->ready[0]));
	return n;
}

/* Make what may be sent now. */
static void generate(struct vio_nl *l, unsigned pi, struct vio_nl_phase *ph)
{
	struct pair_load *p = &l->p[pi];
	uint64_t now, left = ph->count - ph->started, tick[VIO_NL_MAX_BURST];
	unsigned n = l->cfg.burst - p->n_ready;

	if (ph->period == 0 && p->n_ready > 0)
		return; /* the queue is full: no more than it did not take */
	now = vio_ticks();
	if (ph->period > 0) {
		double due =
			ph->next <= (double)now ? ((double)now - ph->next) / ph->period + 1 : 0;

		n = due < n ? (unsigned)due : n;
	}
	n = left < n ? (unsigned)left : n;
	for (unsigned i = 0; i < n; i++)
		tick[i] = ph->period > 0 ? (uint64_t)(ph->next + i * ph->period) : now;
	n = make(l, pi, n, tick);
	ph->started += n;
	if (ph->period == 0)
		return;
	for (unsigned i = 0; i < n; i++, ph->next += ph->period)
		l->res->late += (double)now > ph->next + ph->period;
}

/* -------------------------------------------------------------------------- phases ---- */

/* Something moved? */
bool vio_nl_turn(struct vio_nl *l, unsigned pi, struct vio_nl_phase *ph)
{
	unsigned got = nl_receive(l, pi), sent;

	if (ph && sends(l))
		generate(l, pi, ph);
	sent = send_ready(l, pi);
	if (ph && !sends(l))
		ph->started += forwards(l) ? sent : got;
	vio_net_refill(l->n, pi);
	return got + sent > 0;
}

static bool over(const struct vio_nl_phase *p, const volatile int *stop)
{
	return p->started >= p->count || *stop || (p->end_tick && vio_ticks() >= p->end_tick);
}

/* Nothing to do. The open loop looks at the clock, unless the next start is far away. */
void vio_nl_rest(struct vio_nl *l, const struct vio_nl_phase *ph)
{
	const uint64_t now = vio_ticks(), near = vio_muldiv(NEAR_NS, l->tick_hz, 1000000000ull);

	if (ph->period == 0)
		vio_net_idle(l->n, 0, l->p[0].n_ready > 0 || sends(l), NEAR_NS);
	else if (ph->next > (double)(now + 2 * near))
		vio_net_idle(
			l->n, 0, false,
			vio_muldiv((uint64_t)ph->next - now - near, 1000000000ull, l->tick_hz));
}

static void run_phase(struct vio_nl *l, uint64_t count, uint64_t ns, const volatile int *stop)
{
	uint64_t begin = vio_ticks(), t0 = vio_now_ns();
	struct vio_nl_phase ph = {
		.count = count ? count : UINT64_MAX,
		.end_tick = ns ? begin + vio_muldiv(ns, l->tick_hz, 1000000000ull) : 0,
		.period = l->cfg.rate > 0 && sends(l) ? (double)l->tick_hz / l->cfg.rate : 0,
		.next = (double)begin,
	};

	while (!over(&ph, stop) && !l->machine_gone) {
		bool moved = false;

		for (unsigned i = 0; i < l->n_pairs; i++)
			moved |= vio_nl_turn(l, i, &ph);
		/* Several pairs on one thread wait for nobody. */
		if (!moved && l->n_pairs == 1)
			vio_nl_rest(l, &ph);
		(void)vio_net_look_at_config(l->n);
	}
	l->res->elapsed_ns = vio_now_ns() - t0;
}

void vio_nl_drain(struct vio_nl *l, uint64_t ns, const volatile int *stop)
{
	uint64_t begin = vio_now_ns(), quiet = begin;

	while (!l->machine_gone && vio_now_ns() - quiet < ns &&
	       !(*stop && vio_now_ns() - begin >= ns)) {
		bool moved = false;

		for (unsigned i = 0; i < l->n_pairs; i++)
			moved |= vio_nl_turn(l, i, NULL);
		if (moved)
			quiet = vio_now_ns();
		else
			vio_net_idle(l->n, 0, true, 100000);
	}
	for (unsigned i = 0; i < l->n_pairs; i++) {
		vio_net_free(l->n, i, l->p[i].ready, l->p[i].n_ready);
		l->p[i].n_ready = 0;
		vio_net_tx_reclaim(l->n, i);
	}
}

void vio_nl_sum_stats(const struct vio_nl *l, struct vio_net_stats *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < l->n_pairs; i++) {
		struct vio_net_stats s;
		const uint64_t *from = (const uint64_t *)&s;

		vio_net_get_stats(l->n, i, &s);
		for (unsigned k = 0; k < sizeof(s) / sizeof(*from); k++)
			((uint64_t *)sum)[k] += from[k];
	}
}

void vio_nl_difference(struct vio_net_stats *z, const struct vio_net_stats *a)
{
	for (unsigned k = 0; k < sizeof(*z) / sizeof(uint64_t); k++)
		((uint64_t *)z)[k] -= ((const uint64_t *)a)[k];
}

int vio_nl_run(struct vio_nl *l, void (*mark)(void *ctx, bool end), void *ctx,
	       const volatile int *stop, struct vio_nl_result *res)
{
	struct vio_net_stats before;
	char first[sizeof(res->first_mismatch)];
	uint64_t wrong, sent;

	l->res = res;
	for (unsigned i = 0; i < l->n_pairs; i++)
		vio_net_refill(l->n, i);
	if (l->cfg.warm_ns)
		run_phase(l, 0, l->cfg.warm_ns, stop);
	/* Wrong bytes are not forgotten: what the warm-up found wrong stays found. */
	wrong = res->mismatches;
	sent = res->tx_frames;
	memcpy(first, res->first_mismatch, sizeof(first));
	memset(res, 0, sizeof(*res));
	res->mismatches = wrong;
	res->tx_before = sent;
	memcpy(res->first_mismatch, first, sizeof(first));
	mark(ctx, false);
	vio_nl_sum_stats(l, &before);
	run_phase(l, l->cfg.count, l->cfg.run_ns, stop);
	vio_nl_sum_stats(l, &res->front);
	vio_nl_difference(&res->front, &before);
	mark(ctx, true);
	vio_nl_drain(l, l->cfg.drain_ns, stop);
	return l->machine_gone ? -EIO : 0;
}

/* --------------------------------------------------------------------------- set-up ---- */

int vio_nl_create(struct vio_net *n, struct phyp_part *part, const struct vio_nl_cfg *cfg,
		  struct vio_nl **out, struct vio_err *err)
{
	const struct vio_net_info *info = vio_net_get_info(n);
	const uint32_t most = info->mtu + 14u + (cfg->frame.vlan ? 4 : 0);
	bool single = true;
	struct vio_nl *l;

	for (unsigned i = 0; i < cfg->n_sizes; i++) {
		single &= cfg->size[i] <= info->room;
		if (cfg->size[i] > most)
			return vio_err_set(err, -EINVAL,
					   "--size %u: the card's MTU of %u allows frames of %u",
					   cfg->size[i], info->mtu, most);
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return vio_err_set(err, -ENOMEM, "no memory for the load");
	l->cfg = *cfg;
	l->n = n;
	l->part = part;
	l->n_pairs = info->pairs;
	l->room = info->room;
	l->single = single;
	l->tick_hz = phyp_tick_hz(part);
	l->p = calloc(l->n_pairs, sizeof(*l->p));
	l->expect = calloc(STREAMS, sizeof(*l->expect));
	l->seen = calloc(STREAMS, sizeof(*l->seen));
	if (!l->p || !l->expect || !l->seen) {
		vio_nl_free(l);
		return vio_err_set(err, -ENOMEM, "no memory for the load");
	}
	for (unsigned i = 0; i < l->n_pairs; i++)
		vio_nf_init(&l->p[i].maker, &cfg->frame, (uint16_t)(cfg->frame.src[5] << 8 | i));
	*out = l;
	return 0;
}

void vio_nl_free(struct vio_nl *l)
{
	if (!l)
		return;
	free(l->p);
	free(l->expect);
	free(l->seen);
	free(l);
}
