/* SPDX-License-Identifier: BSD-3-Clause */
#include "bench/peers/load.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/prog/pattern.h"
#include "vio/cycles.h"

#define BUSY   0x80000000u /* of a block: a request on it is in flight */
#define LOOKS  16u         /* at the ring before the clock is looked at: as vio-blk */
#define QUIET  4096u       /* turns without a completion before the server's life is looked at */
#define POISON 0xDEADDA7ADEADDA7Aull
#define HEAD   64u /* bytes that LOAD_TOUCH_HEADERS touches */

struct load_io {
	struct ring_io io; /* first: a completed request is its load_io */
	uint64_t block, publish;
	uint32_t generation;
};

static uint64_t rng_next(struct load *l)
{
	l->rng ^= l->rng >> 12;
	l->rng ^= l->rng << 25;
	l->rng ^= l->rng >> 27;
	return l->rng * 0x2545F4914F6CDD1Dull;
}

/* A block with nothing in flight; for reads after writes one whose content is known. */
static uint64_t pick(struct load *l)
{
	uint64_t b;

	do {
		if (l->random) {
			b = (uint64_t)((unsigned __int128)rng_next(l) * l->n_blocks >> 64);
		} else {
			b = l->cursor;
			l->cursor = b + 1 == l->n_blocks ? 0 : b + 1;
		}
	} while (l->table[b] & BUSY);
	return b;
}

static void touch_write(const struct load *l, struct load_io *io)
{
	if (l->cfg.touch != LOAD_TOUCH_NONE)
		vio_pattern_fill(io->io.data, l->cfg.touch == LOAD_TOUCH_ALL ? l->cfg.bs : HEAD,
				 vio_pattern_key(l->cfg.seed, io->block, io->generation));
}

static void load_prepare(struct load *l, struct load_io *io)
{
	uint64_t *word = io->io.data;

	io->block = pick(l);
	io->generation = l->table[io->block];
	io->io.sector = io->block * (l->cfg.bs / 512);
	l->table[io->block] |= BUSY;
	io->io.type = l->read ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
	if (!l->read) {
		io->generation = (io->generation + 1) & ~BUSY;
		touch_write(l, io);
	} else if (l->cfg.touch == LOAD_TOUCH_ALL) {
		/* A read that never arrives must not pass on what an earlier one left. */
		word[0] = word[l->cfg.bs / 8 - 1] = POISON;
	}
}

static void load_check(struct load *l, const struct load_io *io)
{
	const uint64_t key = vio_pattern_key(l->cfg.seed, io->block, io->generation);
	const uint64_t bad = vio_pattern_check(io->io.data, l->cfg.bs, key);

	l->res->bytes_verified += l->cfg.bs;
	if (bad && l->res->mismatches == 0)
		snprintf(l->res->first_mismatch, sizeof(l->res->first_mismatch),
			 "block %" PRIu64 " (sector %" PRIu64 "), byte %zu, generation %u: %" PRIu64
			 " wrong words",
			 io->block, io->io.sector,
			 vio_pattern_first_bad(io->io.data, l->cfg.bs, key), io->generation, bad);
	l->res->mismatches += bad;
}

static void load_touch_read(struct load *l, const struct load_io *io)
{
	const volatile uint64_t *word = io->io.data;

	if (l->cfg.touch == LOAD_TOUCH_ALL && l->filled)
		load_check(l, io);
	else if (l->cfg.touch == LOAD_TOUCH_HEADERS)
		for (unsigned i = 0; i < HEAD / 8; i++)
			(void)word[i];
}

static void load_finish(struct load *l, struct load_io *io, uint64_t now)
{
	struct load_result *s = l->res;
	unsigned at = l->first + l->n_fifo;

	vio_hist_add(&s->latency, now - io->publish);
	s->requests++;
	l->table[io->block] &= ~BUSY;
	if (io->io.status != VIRTIO_BLK_S_OK) {
		s->errors++;
	} else if (io->io.type == VIRTIO_BLK_T_OUT) {
		l->table[io->block] = io->generation;
		s->writes++;
		s->bytes_written += l->cfg.bs;
	} else {
		s->reads++;
		s->bytes_read += l->cfg.bs;
		load_touch_read(l, io);
	}
	l->fifo[at >= l->cfg.buffers ? at - l->cfg.buffers : at] = io;
	l->n_fifo++;
	l->in_flight--;
}

static void load_start_some(struct load *l)
{
	const uint64_t left = l->count - l->started;
	unsigned n = l->cfg.batch, room = l->cfg.depth - l->in_flight;
	struct load_io *io[LOAD_BURST];
	uint64_t now;
	const uint64_t one = 1;

	if (left < n)
		n = (unsigned)left;
	if (n == 0 || room < n)
		return;
	for (unsigned i = 0; i < n; i++) {
		io[i] = l->fifo[l->first];
		l->first = l->first + 1 == l->cfg.buffers ? 0 : l->first + 1;
		l->n_fifo--;
		load_prepare(l, io[i]);
		l->r->ops->add(l->r, &io[i]->io);
	}
	now = vio_ticks();
	for (unsigned i = 0; i < n; i++)
		io[i]->publish = now;
	l->r->ops->publish(l->r);
	l->in_flight += n;
	l->started += n;
	l->res->publishes++;
	if (l->cfg.kick && l->r->ops->wants_kick(l->r)) {
		l->res->kicks++;
		/* Full: the server has a kick pending already. */
		if (write(l->v->kick, &one, sizeof(one)) < 0 && errno != EAGAIN)
			l->rc = vio_err_set(l->err, -errno, "the kick's eventfd: %s",
					    strerror(errno));
	}
}

static unsigned load_collect(struct load *l)
{
	struct ring_io *done[LOAD_BURST];
	int n = l->r->ops->take(l->r, done, LOAD_BURST);
	uint64_t now;

	if (n <= 0) {
		if (n < 0)
			l->rc = vio_err_set(
				l->err, n, "the server returned a request that is not outstanding");
		return 0;
	}
	now = vio_ticks();
	for (int i = 0; i < n; i++)
		load_finish(l, (struct load_io *)done[i], now);
	return (unsigned)n;
}

/* Nothing came for a while. */
static void look_at_server(struct load *l)
{
	const uint64_t now = vio_now_ns();

	if (l->quiet_since == 0)
		l->quiet_since = now;
	if (vu_gone(l->v))
		l->rc = vio_err_set(
			l->err, -EPIPE,
			"the vhost-user server closed the connection; %u requests were in flight",
			l->in_flight);
	else if (now - l->quiet_since > VU_TIMEOUT_SECONDS * 1000000000ull)
		l->rc = vio_err_set(
			l->err, -ETIMEDOUT,
			"the vhost-user server completed none of %u requests within %d s",
			l->in_flight, VU_TIMEOUT_SECONDS);
}

unsigned load_turn(struct load *l)
{
	unsigned got = 0;

	load_start_some(l);
	for (unsigned k = 0; k < LOOKS && l->rc == 0 && (got = load_collect(l)) == 0; k++)
		;
	if (got) {
		l->looks = 0;
		l->quiet_since = 0;
	} else if (l->in_flight && ++l->looks >= QUIET && l->rc == 0) {
		l->looks = 0;
		look_at_server(l);
	}
	return got;
}

static int load_drain(struct load *l)
{
	l->count = l->started;
	while (l->in_flight && l->rc == 0)
		load_turn(l);
	return l->rc;
}

int load_run(struct load *l, uint64_t ns, const volatile int *stop, struct load_result *res)
{
	const uint64_t t0 = vio_now_ns();

	memset(res, 0, sizeof(*res));
	l->res = res;
	l->started = 0;
	l->count = UINT64_MAX;
	while (l->rc == 0 && !*stop && vio_now_ns() - t0 < ns)
		load_turn(l);
	load_drain(l);
	res->elapsed_ns = vio_now_ns() - t0;
	return l->rc;
}

int load_duet(struct load *l, struct vio_duet *d, uint64_t tick_hz, const volatile int *stop,
	      struct load_result *res)
{
	uint64_t ticks = 0, from;
	unsigned got;

	memset(res, 0, sizeof(*res));
	l->res = res;
	do {
		vio_duet_ready(d);
		while (l->rc == 0 && vio_duet_wait(d, res->requests, stop)) {
			from = vio_ticks();
			l->started = 0;
			l->count = UINT64_MAX;
			do {
				got = load_turn(l);
			} while (l->rc == 0 && !*stop &&
				 !vio_duet_step(d, vio_ticks(), res->requests, got > 0));
			load_drain(l);
			ticks += vio_ticks() - from;
			vio_duet_pass(d, res->requests);
		}
	} while (l->rc == 0 && !vio_duet_over(d) && !*stop);
	res->elapsed_ns = vio_muldiv(ticks, 1000000000ull, tick_hz);
	return l->rc;
}

/* Every block once, in order. */
static int pass(struct load *l, bool read, struct load_result *res)
{
	const bool was_read = l->read, was_random = l->random;

	l->res = res;
	l->read = read;
	l->random = false;
	l->cursor = 0;
	l->started = 0;
	l->count = l->n_blocks;
	while (l->rc == 0 && (l->started < l->n_blocks || l->in_flight))
		load_turn(l);
	l->read = was_read;
	l->random = was_random;
	l->cursor = 0;
	if (l->rc == 0 && res->errors)
		l->rc = vio_err_set(l->err, -EIO,
				    "%s every block of %" PRIu64 " bytes: %" PRIu64 " errors",
				    read ? "reading" : "writing", l->cfg.span, res->errors);
	return l->rc;
}

int load_fill(struct load *l)
{
	struct load_result *res = calloc(1, sizeof(*res));

	if (!res)
		return l->rc = vio_err_set(l->err, -ENOMEM, "no memory for the fill's result");
	pass(l, false, res);
	l->filled = l->rc == 0;
	free(res);
	return l->rc;
}

int load_read_back(struct load *l, struct load_result *res)
{
	struct load_result *own = calloc(1, sizeof(*own));

	if (!own)
		return l->rc = vio_err_set(l->err, -ENOMEM,
					   "no memory for the result of reading back");
	pass(l, true, own);
	res->bytes_verified += own->bytes_verified;
	if (own->mismatches && !res->mismatches)
		memcpy(res->first_mismatch, own->first_mismatch, sizeof(res->first_mismatch));
	res->mismatches += own->mismatches;
	free(own);
	return l->rc;
}

int load_create(struct load *l, const struct load_cfg *cfg, struct vu *v, struct ring *r,
		uint8_t *data, struct vio_err *err)
{
	memset(l, 0, sizeof(*l));
	l->cfg = *cfg;
	l->v = v;
	l->r = r;
	l->err = err;
	l->read = cfg->read;
	l->random = cfg->random;
	l->rng = cfg->seed * 2 + 1;
	l->n_blocks = cfg->span / cfg->bs;
	if (cfg->depth > r->slots)
		return vio_err_set(
			err, -EINVAL,
			"--depth %u: a queue of %u holds %u requests; give a larger --queue-size",
			cfg->depth, r->size, r->slots);
	if (l->n_blocks < 2ull * cfg->depth)
		return vio_err_set(err, -EINVAL,
				   "--span %" PRIu64
				   ": too small for %u requests of %u in flight, twice over",
				   cfg->span, cfg->depth, cfg->bs);
	l->io = calloc(cfg->buffers, sizeof(*l->io));
	l->fifo = calloc(cfg->buffers, sizeof(struct load_io *));
	l->table = calloc(l->n_blocks, sizeof(*l->table));
	if (!l->io || !l->fifo || !l->table)
		return vio_err_set(err, -ENOMEM, "no memory for %u requests and %" PRIu64 " blocks",
				   cfg->buffers, l->n_blocks);
	for (unsigned i = 0; i < cfg->buffers; i++) {
		l->io[i].io.data = data + (size_t)i * cfg->bs;
		l->io[i].io.len = cfg->bs;
		l->fifo[l->n_fifo++] = &l->io[i];
	}
	return 0;
}

void load_free(struct load *l)
{
	free(l->io);
	free(l->fifo);
	free(l->table);
}
