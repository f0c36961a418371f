/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/prog/blk/workload_priv.h"
#include "vio/cycles.h"

/* ------------------------------------------------------- passes beside the measurement ---- */

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
	vio_wl_phase(w, count, 0, &never);
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

static int wl_check_cfg(const struct vio_wl_cfg *c, const struct vio_blk_info *info,
			struct vio_err *err)
{
	uint64_t disk = vio_load_relaxed(&info->sectors) * VIO_SECTOR;

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
	if (c->batch == 0 || c->batch > c->depth || c->batch > VIO_WL_MAX_BURST)
		return vio_err_set(err, -EINVAL, "--batch %u: 1 to the depth (%u), at most %u",
				   c->batch, c->depth, VIO_WL_MAX_BURST);
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
	q->fifo = calloc(n, sizeof(struct wl_io *));
	if (!q->io || !q->fifo)
		return vio_err_set(err, -ENOMEM, "no memory for %u requests", n);
	q->cursor = qi;
	for (unsigned i = 0; i < n; i++) {
		struct wl_io *io = &q->io[i];
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
	int rc = wl_check_cfg(cfg, info, err);

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
	w->delay_turns = vio_wl_delay_turns(cfg->delay_ns, w->tick_hz);
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

/* -------------------------------------------------------------------------- runs ---- */

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
			vio_wl_play(w, d, stop);
			ticks += vio_ticks() - from;
			vio_duet_pass(d, res->requests);
		}
	} while (!vio_duet_over(d) && !*stop);
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
		vio_wl_phase(w, w->cfg.warm_count, w->cfg.warm_ns, stop);
	/* Errors and mismatches are not reset: what the warm-up found wrong stays found. */
	memset(&res->latency, 0, sizeof(res->latency));
	res->requests = res->reads = res->writes = res->flushes = 0;
	res->in_gap = 0;
	res->bytes_read = res->bytes_written = res->bytes_verified = res->publishes = res->late = 0;
	res->need = 0;
	mark(ctx, false);
	vio_wl_phase(w, w->cfg.count, w->cfg.run_ns, stop);
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
