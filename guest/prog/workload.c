/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/prog/pattern.h"
#include "guest/prog/workload.h"
#include "vio/cycles.h"

/* Told to end, so long a program waits for answers that do not come, ns. */
#define PATIENCE_NS  3000000000ull
#define MAX_BURST    64
#define CLOSED_LOOKS 16
#define BUSY         0x80000000u /* block table: a request on this block is in flight */
#define REQ_FRAME    17u         /* header and status */
#define POISON       0xDEADDA7ADEADDA7Aull

/* One request that can be in flight. */
struct io {
	struct vio_blk_req req; /* first: a completed request is its io */
	uint64_t *va;
	uint64_t block;
	uint32_t generation;
	uint64_t start;   /* ticks: submit, or the intended start */
	uint64_t publish; /* ticks: given to the server */
};

struct wl_queue {
	struct io *io;    /* `buffers` of them, a buffer each */
	struct io **fifo; /* those not in flight, oldest first: see struct vio_wl_cfg, buffers */
	unsigned first, n_fifo;
	unsigned n_free;                      /* requests that may still be put in flight */
	struct vio_blk_req *ready[MAX_BURST]; /* prepared, not yet taken by submit */
	unsigned n_ready;
	/* Arrived, and waiting for a buffer: when, in ticks (0: not stamped yet), oldest first. */
	uint64_t due[MAX_BURST];
	unsigned n_due;
	unsigned writes_since_flush;
	uint64_t cursor; /* sequential: next block; queues take turns by stride */
};

struct vio_wl {
	struct vio_wl_cfg cfg;
	struct vio_blk *b;
	struct phyp_part *part;
	unsigned n_queues;
	uint64_t stride; /* bytes of the disk from a block to the next: cfg.bs, in whole sectors */
	uint64_t n_blocks;
	uint32_t *table; /* generation of each block, with BUSY */
	struct wl_queue *q;
	uint64_t rng;
	uint64_t tick_hz;
	struct vio_gaps gaps;      /* of an open loop */
	uint64_t gap_end;          /* tick at which the last one was seen; 0: none yet */
	uint64_t delay_turns;      /* of spin(), before each request */
	struct vio_wl_result *res; /* of the phase that runs */
	bool filled;               /* every block of the span was written */
	bool read_back;            /* only blocks with a known content */
	bool machine_gone;
	bool abandoned; /* ended with requests outstanding */
};

static uint64_t rng_next(struct vio_wl *w)
{
	/* xorshift64*: reproducible from the seed on every machine. */
	w->rng ^= w->rng >> 12;
	w->rng ^= w->rng << 25;
	w->rng ^= w->rng >> 27;
	return w->rng * 0x2545F4914F6CDD1Dull;
}

static struct io *io_get(struct vio_wl *w, struct wl_queue *q)
{
	struct io *io = q->fifo[q->first];

	q->first = q->first + 1 == w->cfg.buffers ? 0 : q->first + 1;
	q->n_fifo--;
	q->n_free--;
	return io;
}

static void io_put(struct vio_wl *w, struct wl_queue *q, struct io *io)
{
	unsigned at = q->first + q->n_fifo;

	q->fifo[at >= w->cfg.buffers ? at - w->cfg.buffers : at] = io;
	q->n_fifo++;
	q->n_free++;
}

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
static void spin(uint64_t turns)
{
	while (turns > 0) {
		turns--;
		__asm__ volatile("" : "+r"(turns));
	}
}

/* Turns of spin() that take so long, by the fastest of some tries. */
static uint64_t delay_turns(uint64_t ns, uint64_t tick_hz)
{
	const uint64_t n = 100000;
	uint64_t best = UINT64_MAX;

	for (unsigned k = 0; ns && k < 20; k++) {
		uint64_t from = vio_ticks();

		spin(n);
		from = vio_ticks() - from;
		best = from < best ? from : best;
	}
	return ns ? vio_muldiv(n, vio_muldiv(ns, tick_hz, 1000000000ull), best) : 0;
}

static void prepare(struct vio_wl *w, struct wl_queue *q, struct io *io, bool read)
{
	uint64_t b = pick_block(w, q);

	if (vio_unlikely(w->delay_turns))
		spin(w->delay_turns);
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

static void check_read(struct vio_wl *w, const struct io *io)
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

static void touch_read(struct vio_wl *w, const struct io *io)
{
	const volatile uint64_t *word = io->va;

	if (w->cfg.touch == VIO_WL_TOUCH_ALL)
		check_read(w, io);
	else if (w->cfg.touch == VIO_WL_TOUCH_HEADERS)
		for (unsigned i = 0; i < VIO_WL_HEADER / 8; i++)
			(void)word[i];
}

static void finish(struct vio_wl *w, struct wl_queue *q, struct io *io, uint64_t now)
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
			touch_read(w, io);
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
		struct io *io = io_get(w, q);

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

			prepare(w, q, io, read);
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
		struct io *io = (struct io *)q->ready[i];

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

static unsigned collect(struct vio_wl *w, unsigned qi)
{
	struct vio_blk_req *done[MAX_BURST];
	int n = vio_blk_poll(w->b, qi, done, MAX_BURST);
	uint64_t now;

	if (n == 0)
		return 0;
	if (n < 0) {
		w->machine_gone = true;
		return 0;
	}
	now = vio_ticks();
	for (int i = 0; i < n; i++)
		finish(w, &w->q[qi], (struct io *)done[i], now);
	return (unsigned)n;
}

/* Asked to end, and nobody is there who could finish what is outstanding. */
static bool in_vain(struct vio_wl *w)
{
	w->abandoned |= w->cfg.stop && *w->cfg.stop && vio_blk_away(w->b);
	return w->abandoned;
}

static void drain(struct vio_wl *w)
{
	uint64_t quiet = vio_now_ns();

	for (unsigned i = 0; i < w->n_queues && !w->machine_gone; i++)
		while (w->q[i].n_ready + w->q[i].n_due + vio_blk_outstanding(w->b, i) > 0 &&
		       !w->machine_gone && !in_vain(w)) {
			if (w->q[i].n_ready + w->q[i].n_due)
				submit_ready(w, i);
			if (collect(w, i) > 0) {
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

static void start_some(struct vio_wl *w, unsigned qi, struct phase *p)
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
		start_some(w, i, p);
		for (unsigned k = 0; k < looks && (got = collect(w, i)) == 0; k++)
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

static void run_phase(struct vio_wl *w, uint64_t count, uint64_t ns, const volatile int *stop)
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
	drain(w);
	phyp_watch_gaps(w->part, NULL);
	w->res->gaps = w->gaps.gaps;
	w->res->longest_turn = w->gaps.longest;
	w->res->elapsed_ns = vio_now_ns() - t0;
}

/* One turn of the duet: until its window is over and nothing is outstanding. */
static void play(struct vio_wl *w, struct vio_duet *d, const volatile int *stop)
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
	drain(w);
}

/*
 * A pass over the disk outside the measurement, on one queue: several run ahead of each other, and
 * would leave out blocks of the slower ones. `count` requests, results into *res.
 */
static void side_pass(struct vio_wl *w, unsigned read_percent, uint64_t count,
		      struct vio_wl_result *res)
{
	struct vio_wl_cfg saved = w->cfg;
	struct vio_wl_result *running = w->res;
	unsigned queues = w->n_queues;
	const volatile int never = 0;

	w->cfg.order = VIO_WL_SEQUENTIAL;
	w->cfg.read_percent = read_percent;
	w->cfg.rate = 0;
	w->cfg.flush_every = 0;
	w->res = res;
	w->n_queues = 1;
	w->q[0].cursor = 0;
	run_phase(w, count, 0, &never);
	w->n_queues = queues;
	w->q[0].cursor = 0;
	w->res = running;
	w->cfg = saved;
}

/* Write the span once, so that every read has something to be checked against. */
static int fill_span(struct vio_wl *w, struct vio_err *err)
{
	struct vio_wl_result *res = calloc(1, sizeof(*res));
	int rc = 0;

	if (!res)
		return vio_err_set(err, -ENOMEM, "no memory for the fill's result");
	side_pass(w, 0, w->n_blocks, res);
	if (w->abandoned)
		rc = vio_err_set(err, -EINTR, "ended before the VIO server had finished it");
	else if (w->machine_gone || res->errors)
		rc = vio_err_set(err, -EIO,
				 "writing the first %" PRIu64
				 " bytes before the run failed (%" PRIu64
				 " errors); is the disk read-only?",
				 w->cfg.span, res->errors);
	w->filled = rc == 0;
	free(res);
	return rc;
}

/* What was written is read again and checked: a write that was lost must not count as done. */
static int read_back(struct vio_wl *w)
{
	struct vio_wl_result *res = calloc(1, sizeof(*res));
	uint64_t known = 0;

	if (!res)
		return -ENOMEM;
	for (uint64_t b = 0; b < w->n_blocks; b++)
		known += w->filled || w->table[b] != 0;
	w->read_back = true;
	if (known)
		side_pass(w, 100, known, res);
	w->read_back = false;
	w->res->bytes_verified += res->bytes_verified;
	w->res->errors += res->errors;
	if (res->mismatches && !w->res->mismatches)
		memcpy(w->res->first_mismatch, res->first_mismatch, sizeof(res->first_mismatch));
	w->res->mismatches += res->mismatches;
	free(res);
	return 0;
}

/* --------------------------------------------------------------------------- set-up ---- */

static int check_cfg(const struct vio_wl_cfg *c, const struct vio_blk_info *info,
		     struct vio_err *err)
{
	uint64_t disk = info->sectors * VIO_SECTOR;

	const bool shorts = info->block_size < VIO_SECTOR;
	const uint64_t stride = VIO_ALIGN_UP(c->bs, VIO_SECTOR);

	if (c->bs == 0 || c->bs > info->max_len || (!shorts && c->bs % VIO_SECTOR))
		return vio_err_set(
			err, -EINVAL, "--bs %u: must be a multiple of %u, at most %u here%s", c->bs,
			shorts ? info->block_size : VIO_SECTOR, info->max_len,
			shorts ? ""
			       : "; shorter requests need a disk that vios serves with short=on");
	if (c->bs % info->block_size)
		return vio_err_set(err, -EINVAL, "--bs %u: the disk's block size is %u", c->bs,
				   info->block_size);
	if (c->depth == 0)
		return vio_err_set(err, -EINVAL, "--depth 0: at least 1");
	if (c->batch == 0 || c->batch > c->depth || c->batch > MAX_BURST)
		return vio_err_set(err, -EINVAL, "--batch %u: 1 to the depth (%u), at most %u",
				   c->batch, c->depth, MAX_BURST);
	if (c->span > disk || c->span % stride)
		return vio_err_set(
			err, -EINVAL,
			"--span %" PRIu64
			": a multiple of --bs in whole sectors, at most the disk's %" PRIu64,
			c->span, disk);
	if (c->span / stride < 2ull * c->depth * info->num_queues)
		return vio_err_set(err, -EINVAL,
				   "--span %" PRIu64
				   ": too small for %u requests of %u in flight, twice over",
				   c->span, c->depth * info->num_queues, c->bs);
	if (c->read_percent < 100 && info->read_only)
		return vio_err_set(
			err, -EINVAL,
			"the disk is read-only: use --rw read or randread with --touch none");
	if (c->touch == VIO_WL_TOUCH_ALL && info->read_only)
		return vio_err_set(
			err, -EINVAL,
			"--touch all needs to write the disk first, and it is read-only");
	if (c->flush_every && !info->can_flush)
		return vio_err_set(err, -EINVAL, "--flush-every: the disk does not offer FLUSH");
	return 0;
}

/* Buffers of each queue, when the pool that they come from has a fixed size. */
static int fit_buffers(struct vio_wl *w, const struct vio_blk_info *info, struct vio_err *err)
{
	const uint32_t bs = w->cfg.bs;
	uint64_t align = bs >= 4096 ? 4096 : bs >= VIO_SECTOR ? VIO_SECTOR : VIO_CACHE_LINE, n;

	if (info->alloc_bytes == 0)
		return 0;
	n = info->alloc_bytes / info->num_queues / VIO_ALIGN_UP(bs, align);
	if (n == 0)
		return vio_err_set(
			err, -EINVAL,
			"--pool-kib: a share of %" PRIu64
			" bytes a queue has no room for one request of %u; give more, or 0 for what the load needs",
			info->alloc_bytes / info->num_queues, bs);
	if (n < w->cfg.buffers)
		w->cfg.buffers = (uint32_t)n;
	return 0;
}

static int make_queue(struct vio_wl *w, struct phyp_part *part, unsigned qi, struct vio_err *err)
{
	struct wl_queue *q = &w->q[qi];
	unsigned n = w->cfg.buffers;

	q->io = calloc(n, sizeof(*q->io));
	q->fifo = calloc(n, sizeof(struct io *));
	if (!q->io || !q->fifo)
		return vio_err_set(err, -ENOMEM, "no memory for %u requests", n);
	q->cursor = qi;
	for (unsigned i = 0; i < n; i++) {
		struct io *io = &q->io[i];
		int rc = vio_blk_alloc(w->b, w->cfg.bs, &io->req.buf, err);

		if (rc)
			return rc;
		io->va = phyp_mem(part, io->req.buf, w->cfg.bs);
		memset(io->va, 0, w->cfg.bs); /* touched once: no page fault in the measurement */
		q->fifo[q->n_fifo++] = io;
	}
	q->n_free = w->cfg.depth;
	return 0;
}

int vio_wl_create(struct vio_blk *b, struct phyp_part *part, const struct vio_wl_cfg *cfg,
		  struct vio_wl **out, struct vio_err *err)
{
	const struct vio_blk_info *info = vio_blk_get_info(b);
	struct vio_wl *w;
	int rc = check_cfg(cfg, info, err);

	if (rc)
		return rc;
	w = calloc(1, sizeof(*w));
	if (!w)
		return vio_err_set(err, -ENOMEM, "no memory for the workload");
	w->cfg = *cfg;
	w->b = b;
	w->n_queues = info->num_queues;
	w->stride = VIO_ALIGN_UP(cfg->bs, VIO_SECTOR);
	w->n_blocks = cfg->span / w->stride;
	w->tick_hz = phyp_tick_hz(part);
	w->delay_turns = delay_turns(cfg->delay_ns, w->tick_hz);
	w->part = part;
	w->rng = cfg->seed * 2 + 1;
	w->table = calloc(w->n_blocks, sizeof(*w->table));
	w->q = calloc(w->n_queues, sizeof(*w->q));
	if (!w->table || !w->q)
		rc = vio_err_set(err, -ENOMEM, "no memory for a table of %" PRIu64 " blocks",
				 w->n_blocks);
	if (rc == 0)
		rc = fit_buffers(w, info, err);
	for (unsigned i = 0; rc == 0 && i < w->n_queues; i++)
		rc = make_queue(w, part, i, err);
	if (rc == 0 && cfg->touch == VIO_WL_TOUCH_ALL && cfg->read_percent > 0)
		rc = fill_span(w, err);
	if (rc) {
		vio_wl_free(w);
		return rc;
	}
	*out = w;
	return 0;
}

/* What was written is checked at the end. */
static int finish_run(struct vio_wl *w)
{
	if (w->cfg.touch == VIO_WL_TOUCH_ALL && w->cfg.read_percent < 100 && !w->machine_gone &&
	    !w->abandoned && read_back(w))
		return -ENOMEM;
	if (w->abandoned)
		return -EINTR;
	return w->machine_gone ? -EIO : 0;
}

int vio_wl_duet(struct vio_wl *w, struct vio_duet *d, void (*mark)(void *ctx, bool end), void *ctx,
		const volatile int *stop, struct vio_wl_result *res)
{
	uint64_t ticks = 0, from;

	w->res = res;
	phyp_watch_gaps(w->part, &d->gaps);
	mark(ctx, false);
	do {
		vio_duet_ready(d);
		while (vio_duet_wait(d, res->requests, stop)) {
			from = vio_ticks();
			play(w, d, stop);
			ticks += vio_ticks() - from;
			vio_duet_pass(d, res->requests);
		}
	} while (vio_duet_again(d) && !*stop);
	phyp_watch_gaps(w->part, NULL);
	res->elapsed_ns = vio_muldiv(ticks, 1000000000ull, w->tick_hz);
	mark(ctx, true);
	return finish_run(w);
}

int vio_wl_run(struct vio_wl *w, void (*mark)(void *ctx, bool end), void *ctx,
	       const volatile int *stop, struct vio_wl_result *res)
{
	w->res = res;
	if (w->cfg.warm_count || w->cfg.warm_ns)
		run_phase(w, w->cfg.warm_count, w->cfg.warm_ns, stop);
	/* Errors and mismatches are not reset: what the warm-up found wrong stays found. */
	memset(&res->latency, 0, sizeof(res->latency));
	res->requests = res->reads = res->writes = res->flushes = 0;
	res->in_gap = 0;
	res->bytes_read = res->bytes_written = res->bytes_verified = res->publishes = res->late = 0;
	res->need = 0;
	mark(ctx, false);
	run_phase(w, w->cfg.count, w->cfg.run_ns, stop);
	mark(ctx, true);
	return finish_run(w);
}

void vio_wl_free(struct vio_wl *w)
{
	if (!w)
		return;
	for (unsigned i = 0; w->q && i < w->n_queues; i++) {
		free(w->q[i].io);
		free(w->q[i].fifo);
	}
	free(w->q);
	free(w->table);
	free(w);
}
