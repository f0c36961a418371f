/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <string.h>

#include "guest/prog/pattern.h"
#include "guest/prog/blk/workload_priv.h"
#include "vio/cycles.h"

/* Told to end, so long a program waits for answers that do not come, ns. */
#define PATIENCE_NS  3000000000ull
#define CLOSED_LOOKS 16
#define BUSY         0x80000000u /* block table: a request on this block is in flight */
#define REQ_FRAME    17u         /* header and status */
#define POISON       0xDEADDA7ADEADDA7Aull

/* ------------------------------------------------------------------- one request ---- */

/*
 * A block with nothing in flight: two requests on one block would have no defined order, and no
 * defined pattern.
 */
static uint64_t pick_block(struct vio_wl *w, struct wl_queue *q)
{
	uint64_t b;

	do {
		if (w->cfg.order == VIO_WL_RANDOM) {
			/* the high half of the product: uniform in [0, n_blocks), without a division */
			b = (uint64_t)((unsigned __int128)rng_next(w) * w->n_blocks >> 64);
		} else {
			b = q->cursor;
			q->cursor += w->n_queues;
			if (q->cursor >= w->n_blocks)
				q->cursor %= w->n_queues;
		}
	} while ((w->table[b] & BUSY) || (w->read_back && !w->filled && w->table[b] == 0));
	return b;
}

/* A planted slowdown, which costs this processor nothing but time. No clock: to read one takes longer than some delays. */
static void wl_spin(uint64_t turns)
{
	while (turns > 0) {
		turns--;
		__asm__ volatile("" : "+r"(turns));
	}
}

uint64_t vio_wl_delay_turns(uint64_t ns, uint64_t tick_hz)
{
	const uint64_t n = 100000;
	uint64_t best = UINT64_MAX;

	for (unsigned k = 0; ns && k < 20; k++) {
		uint64_t from = vio_ticks();

		wl_spin(n);
		from = vio_ticks() - from;
		best = from < best ? from : best;
	}
	return ns ? vio_muldiv(n, vio_muldiv(ns, tick_hz, 1000000000ull), best) : 0;
}

static void wl_prepare(struct vio_wl *w, struct wl_queue *q, struct wl_io *io, bool read)
{
	uint64_t b = pick_block(w, q);

	if (vio_unlikely(w->delay_turns))
		wl_spin(w->delay_turns);
	io->block = b;
	io->generation = w->table[b];
	io->req.sector = b * (w->stride / VIO_SECTOR);
	io->req.len = w->cfg.bs;
	io->req.result = 0;
	w->table[b] |= BUSY;
	if (read) {
		io->req.type = VIRTIO_BLK_T_IN;
		if (w->cfg.touch ==
		    VIO_WL_TOUCH_ALL) { /* a read that never arrives must not pass on what an earlier one left */
			io->va[0] = POISON;
			io->va[w->cfg.bs / 8 - 1] = POISON;
		}
	} else {
		io->req.type = VIRTIO_BLK_T_OUT;
		io->generation = (io->generation + 1) & ~BUSY;
		if (w->cfg.touch != VIO_WL_TOUCH_NONE)
			vio_pattern_fill(io->va,
					 w->cfg.touch == VIO_WL_TOUCH_ALL ? w->cfg.bs
									  : VIO_WL_HEADER,
					 vio_pattern_key(w->cfg.seed, b, io->generation));
		q->writes_since_flush++;
	}
}

static void check_read(struct vio_wl *w, const struct wl_io *io)
{
	uint64_t key = vio_pattern_key(w->cfg.seed, io->block, io->generation);
	uint64_t bad = vio_pattern_check(io->va, w->cfg.bs, key);

	w->res->bytes_verified += w->cfg.bs;
	if (vio_likely(bad == 0))
		return;
	if (w->res->mismatches == 0)
		snprintf(w->res->first_mismatch, sizeof(w->res->first_mismatch),
			 "block %" PRIu64 " (sector %" PRIu64 "), byte %zu, generation %u: %" PRIu64
			 " wrong words",
			 io->block, io->req.sector, vio_pattern_first_bad(io->va, w->cfg.bs, key),
			 io->generation, bad);
	w->res->mismatches += bad;
}

static void wl_touch_read(struct vio_wl *w, const struct wl_io *io)
{
	const volatile uint64_t *word = io->va;

	if (w->cfg.touch == VIO_WL_TOUCH_ALL)
		check_read(w, io);
	else if (w->cfg.touch == VIO_WL_TOUCH_HEADERS)
		for (unsigned i = 0; i < VIO_WL_HEADER / 8; i++)
			(void)word[i];
}

static void wl_finish(struct vio_wl *w, struct wl_queue *q, struct wl_io *io, uint64_t now)
{
	w->res->in_gap += io->start < w->gap_end;
	vio_hist_add(&w->res->latency, now - io->start);
	w->res->need += (unsigned __int128)(io->req.len + REQ_FRAME) * (now - io->publish);
	w->res->requests++;
	if (io->req.type == VIRTIO_BLK_T_FLUSH) {
		w->res->flushes++;
		w->res->errors += io->req.result != 0;
	} else {
		/*
		 * A failed write may or may not be on the disk: its block keeps the new generation
		 * only when acknowledged.
		 */
		if (io->req.result != 0) {
			w->res->errors++;
			w->table[io->block] &= ~BUSY;
		} else if (io->req.type == VIRTIO_BLK_T_OUT) {
			w->table[io->block] = io->generation;
			w->res->writes++;
			w->res->bytes_written += w->cfg.bs;
		} else {
			w->table[io->block] &= ~BUSY;
			w->res->reads++;
			w->res->bytes_read += w->cfg.bs;
			wl_touch_read(w, io);
		}
	}
	io_put(w, q, io);
}

/* ------------------------------------------------------------------ one queue's turn ---- */

/* Turn what has arrived into requests, as far as there are buffers. */
static void prepare_due(struct vio_wl *w, struct wl_queue *q)
{
	unsigned n = 0;

	while (n < q->n_due && q->n_fifo > 0) {
		struct wl_io *io = io_get(w, q);

		io->start = q->due[n++];

		if (w->cfg.flush_every && q->writes_since_flush >= w->cfg.flush_every) {
			io->req.type = VIRTIO_BLK_T_FLUSH;
			io->req.sector = 0;
			io->req.len = 0;
			io->req.result = 0;
			q->writes_since_flush = 0;
		} else {
			bool read =
				w->cfg.read_percent == 100 ||
				(w->cfg.read_percent && rng_next(w) % 100 < w->cfg.read_percent);

			wl_prepare(w, q, io, read);
		}
		q->ready[q->n_ready++] = &io->req;
	}
	q->n_due -= n;
	if (vio_unlikely(q->n_due > 0))
		memmove(q->due, q->due + n, q->n_due * sizeof(q->due[0]));
}

/*
 * Submit what is ready; what the front end could not take now stays at the front, as does what has
 * no buffer.
 */
static void submit_ready(struct vio_wl *w, unsigned qi)
{
	struct wl_queue *q = &w->q[qi];
	uint64_t now;
	unsigned n;

	prepare_due(w, q);
	now = vio_ticks();
	for (unsigned i = 0; i < q->n_ready; i++) {
		struct wl_io *io = (struct wl_io *)q->ready[i];

		io->publish = now;
		if (io->start == 0)
			io->start = now;
	}
	for (unsigned i = 0; i < q->n_due; i++)
		if (q->due[i] == 0)
			q->due[i] = now;
	n = q->n_ready ? vio_blk_submit(w->b, qi, q->ready, q->n_ready) : 0;
	if (n == 0)
		return;
	w->res->publishes++;
	q->n_ready -= n;
	memmove(q->ready, q->ready + n, q->n_ready * sizeof(q->ready[0]));
}

static unsigned wl_collect(struct vio_wl *w, unsigned qi)
{
	struct vio_blk_req *done[VIO_WL_MAX_BURST];
	int n = vio_blk_poll(w->b, qi, done, VIO_WL_MAX_BURST);
	uint64_t now;

	if (n == 0)
		return 0;
	if (n < 0) {
		w->machine_gone = true;
		return 0;
	}
	now = vio_ticks();
	for (int i = 0; i < n; i++)
		wl_finish(w, &w->q[qi], (struct wl_io *)done[i], now);
	return (unsigned)n;
}

/* Asked to end, and nobody is there who could finish what is outstanding. */
static bool in_vain(struct vio_wl *w)
{
	w->abandoned |= w->cfg.stop && *w->cfg.stop && vio_blk_away(w->b);
	return w->abandoned;
}

static void wl_drain(struct vio_wl *w)
{
	uint64_t quiet = vio_now_ns();

	for (unsigned i = 0; i < w->n_queues && !w->machine_gone; i++)
		while (w->q[i].n_ready + w->q[i].n_due + vio_blk_outstanding(w->b, i) > 0 &&
		       !w->machine_gone && !in_vain(w)) {
			if (w->q[i].n_ready + w->q[i].n_due)
				submit_ready(w, i);
			if (wl_collect(w, i) > 0) {
				quiet = vio_now_ns();
				continue;
			}
			vio_blk_idle(w->b, i, 1000000);
			/* Told to end, and it is there, but does not answer. */
			w->abandoned |=
				w->cfg.stop && *w->cfg.stop && vio_now_ns() - quiet > PATIENCE_NS;
		}
}

/* -------------------------------------------------------------------------- phases ---- */

struct phase {
	uint64_t count;                /* requests to start; UINT64_MAX = by time */
	uint64_t begin_tick, end_tick; /* end: 0 = by count */
	uint64_t started;
	double period; /* open loop: ticks between intended starts */
	double next;   /* ... the next one */
};

/* How many requests of queue qi may start now; the closed loop waits for a whole batch of free places. */
static unsigned allowed(struct vio_wl *w, struct wl_queue *q, struct phase *p, uint64_t now)
{
	uint64_t left = p->count - p->started;
	unsigned n = w->cfg.batch;

	if (p->period > 0) {
		/* Past the end only what should have started before it. */
		double t = (double)(p->end_tick && now > p->end_tick ? p->end_tick : now);
		double due = p->next <= t ? (t - p->next) / p->period + 1 : 0;

		if (due < n)
			n = (unsigned)due;
		if (n > q->n_free)
			n = q->n_free;
	} else if (q->n_free < n && left >= n) {
		return 0;
	}
	if (n > left)
		n = (unsigned)left;
	return n < q->n_free ? n : q->n_free;
}

static void wl_start_some(struct vio_wl *w, unsigned qi, struct phase *p)
{
	struct wl_queue *q = &w->q[qi];

	/*
	 * In order: nothing arrives while something waits. The open loop's intended starts wait in
	 * p->next.
	 */
	if (q->n_ready + q->n_due == 0) {
		uint64_t now = p->period > 0 ? vio_ticks() : 0;

		q->n_due = allowed(w, q, p, now);
		p->started += q->n_due;
		for (unsigned i = 0; i < q->n_due; i++) {
			q->due[i] = (uint64_t)p->next;
			w->res->late += p->period > 0 && (double)now > p->next + p->period;
			p->next += p->period;
		}
	}
	if (q->n_ready + q->n_due > 0)
		submit_ready(w, qi);
}

/*
 * The open loop goes on until everything that was to start before the end has started, or else the
 * most delayed requests would be missing; at most for twice the time, because an overload has no
 * end. The rest is told as unstarted.
 */
static bool phase_over(const struct phase *p, const volatile int *stop)
{
	uint64_t now;

	if (p->started >= p->count || *stop)
		return true;
	if (!p->end_tick)
		return false;
	now = vio_ticks();
	if (p->period > 0 && p->next < (double)p->end_tick)
		return now >= p->end_tick + (p->end_tick - p->begin_tick);
	return now >= p->end_tick;
}

/*
 * The open loop has nothing to do: it may wait as its notification level does (poll goes on
 * looking), but no longer than to a safe while before the next start, because a sleeper wakes late
 * and the start must not.
 */
#define WAKE_EARLY_NS 150000
static void wait_for_start(struct vio_wl *w, const struct phase *p)
{
	uint64_t now = vio_ticks(), left_ns;

	if (p->next <= (double)now)
		return;
	left_ns = vio_muldiv((uint64_t)p->next - now, 1000000000ull, w->tick_hz);
	if (left_ns > 2 * WAKE_EARLY_NS)
		vio_blk_idle(w->b, 0, left_ns - WAKE_EARLY_NS);
}

/*
 * Each queue once. The closed loop looks at the ring a few times before it looks at the clock again.
 * Completed.
 */
static unsigned each_queue(struct vio_wl *w, struct phase *p, unsigned looks)
{
	unsigned progress = 0, got = 0;

	for (unsigned i = 0; i < w->n_queues; i++) {
		wl_start_some(w, i, p);
		for (unsigned k = 0; k < looks && (got = wl_collect(w, i)) == 0; k++)
			;
		progress += got;
	}
	return progress;
}

/* An open loop's turn: was this processor away? What waited for it meanwhile is marked when it completes. */
static void look_for_gap(struct vio_wl *w)
{
	const uint64_t before = w->gaps.gaps, now = vio_ticks();

	vio_gaps_look(&w->gaps, now);
	if (vio_unlikely(w->gaps.gaps != before))
		w->gap_end = now;
}

void vio_wl_phase(struct vio_wl *w, uint64_t count, uint64_t ns, const volatile int *stop)
{
	uint64_t begin = vio_ticks(), t0 = vio_now_ns();
	struct phase p = {
		.count = count ? count : UINT64_MAX,
		.begin_tick = begin,
		.end_tick = count ? 0 : begin + vio_muldiv(ns, w->tick_hz, 1000000000ull),
		.period = w->cfg.rate > 0 ? (double)w->tick_hz / w->cfg.rate : 0,
		.next = w->cfg.rate > 0 ? (double)begin : 0,
	};

	const unsigned looks = p.period > 0 || w->n_queues > 1 ? 1 : CLOSED_LOOKS;

	vio_gaps_begin(&w->gaps, begin, vio_muldiv(VIO_WL_GAP_NS, w->tick_hz, 1000000000ull));
	w->gap_end = 0;
	phyp_watch_gaps(w->part, p.period > 0 ? &w->gaps : NULL);
	while (!phase_over(&p, stop) && !w->machine_gone && !in_vain(w)) {
		unsigned progress;

		if (p.period > 0)
			look_for_gap(w);
		progress = each_queue(w, &p, looks);
		/*
		 * With several queues on this thread nobody waits for one of them while another has
		 * something.
		 */
		if (progress == 0 && w->n_queues == 1) {
			if (p.period > 0)
				wait_for_start(w, &p);
			else
				vio_blk_idle(w->b, 0, 100000);
		}
	}
	if (p.end_tick && p.period > 0 && p.next < (double)p.end_tick)
		w->res->unstarted = (uint64_t)(((double)p.end_tick - p.next) / p.period) + 1;
	wl_drain(w);
	phyp_watch_gaps(w->part, NULL);
	w->res->gaps = w->gaps.gaps;
	w->res->longest_turn = w->gaps.longest;
	w->res->elapsed_ns = vio_now_ns() - t0;
}

void vio_wl_play(struct vio_wl *w, struct vio_duet *d, const volatile int *stop)
{
	struct phase p = {.count = UINT64_MAX};
	const unsigned looks = w->n_queues > 1 ? 1 : CLOSED_LOOKS;

	while (!w->machine_gone && !*stop) {
		unsigned progress = each_queue(w, &p, looks);

		if (vio_duet_step(d, vio_ticks(), w->res->requests, progress > 0))
			break;
		if (progress == 0 && w->n_queues == 1)
			vio_blk_idle(w->b, 0, 100000);
	}
	wl_drain(w);
}
