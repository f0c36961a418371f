/* SPDX-License-Identifier: BSD-3-Clause */
/* Barriers: pair H, a value or a slot handed from one core to the other; pair M is duet/score.c's. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/dance/duet_play.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* Looks at a line that is waited for between two looks at the clock. */
#define LOOKS_PER_TICK 16u
/* Round trips, or bytes of blocks, between two looks at the clock. */
#define TRIPS_PER_TICK 4u
#define BYTES_PER_TICK 2048u
/* Blocks of the ring for each one asked for, as a guest has buffers: vio-blk --buffers. */
#define RING_PER_DEPTH 4u

enum { BLOCK_EMPTY, BLOCK_ASKED, BLOCK_FULL };

/* A line that the two cores write by turns, or one of them. */
struct play_line {
	_Alignas(BENCH_BLOCK) uint64_t v;
};

struct play_side {
	struct vio_duet duet;
	pthread_t thread;
	bool running;
	uint64_t done, sum, rng;
	unsigned at, looks;
} __attribute__((aligned(BENCH_BLOCK)));

struct bench_play {
	enum bench_play_kind kind;
	struct bench_play_cfg cfg;
	const volatile int *stop;
	unsigned ring_blocks;
	uint64_t span_blocks;
	struct play_line
		*line; /* round trip: ping, pong; hand-over: state of each block of the ring */
	uint8_t *ring;
	const uint8_t *src;
	uint64_t *src_sum; /* of each block of the span */
	struct bench_mem data, lines;
	struct play_side side[2];
};

/* ----------------------------------------------------------------------------- wait ---- */

/* Until *v is `want`; false: the play was stopped. The guest's own wait: a look for gaps in it. */
static bool wait_for(struct bench_play *p, const uint64_t *v, uint64_t want)
{
	struct vio_duet *d = &p->side[VIO_DUET_GUEST].duet;

	for (unsigned n = 1; vio_load_acquire(v) != want; n++) { /* pair H */
		if (n % LOOKS_PER_TICK)
			continue;
		vio_gaps_look(&d->gaps, vio_ticks());
		if (vio_unlikely(*p->stop))
			return false;
	}
	return true;
}

static uint64_t random_block(struct bench_play *p, struct play_side *s)
{
	s->rng ^= s->rng >> 12;
	s->rng ^= s->rng << 25;
	s->rng ^= s->rng >> 27;
	return (uint64_t)((unsigned __int128)(s->rng * 0x2545F4914F6CDD1Dull) * p->span_blocks >>
			  64);
}

static uint64_t play_sum_words(const uint8_t *block, uint64_t size)
{
	const uint64_t *w = (const uint64_t *)(const void *)block;
	uint64_t s = 0;

	for (uint64_t i = 0; i < size / sizeof(*w); i++)
		s += w[i];
	return s;
}

static unsigned play_next(const struct bench_play *p, unsigned at)
{
	return at + 1 == p->ring_blocks ? 0 : at + 1;
}

/* A block of the span into the ring; its sum is added. */
static void copy_block(struct bench_play *p, struct play_side *s, unsigned at)
{
	const uint64_t from = random_block(p, s), size = p->cfg.size;

	memcpy(p->ring + at * size, p->src + from * size, size);
	__asm__ volatile("" ::"r"(p->ring) : "memory"); /* the bytes count as used */
	s->sum += p->src_sum[from];
}

/* ---------------------------------------------------------------------- guest's side ---- */

static void play_round_trips(struct bench_play *p, struct play_side *s)
{
	bool over = false;

	while (!over) {
		for (unsigned k = 0; k < TRIPS_PER_TICK; k++) {
			vio_store_release(&p->line[0].v, ++s->done); /* pair H */
			if (!wait_for(p, &p->line[1].v, s->done))
				return;
		}
		over = vio_duet_step(&s->duet, vio_ticks(), s->done, true);
	}
}

static void play_memcpy(struct bench_play *p, struct play_side *s)
{
	const uint64_t each = 1 + BYTES_PER_TICK / p->cfg.size;

	do {
		for (uint64_t k = 0; k < each; k++, s->at = play_next(p, s->at))
			copy_block(p, s, s->at);
		s->done += each;
	} while (!vio_duet_step(&s->duet, vio_ticks(), s->done, true) && !*p->stop);
}

static void play_ask(struct bench_play *p, unsigned at)
{
	vio_store_release(&p->line[at].v, (uint64_t)BLOCK_ASKED); /* pair H: it was read before */
}

/* The oldest block that was asked for is read. */
static bool take_block(struct bench_play *p, struct play_side *s)
{
	if (!wait_for(p, &p->line[s->at].v, BLOCK_FULL))
		return false;
	s->sum += play_sum_words(p->ring + s->at * p->cfg.size, p->cfg.size);
	vio_store_relaxed(&p->line[s->at].v, (uint64_t)BLOCK_EMPTY);
	s->at = play_next(p, s->at);
	s->done++;
	return true;
}

static void play_handover(struct bench_play *p, struct play_side *s)
{
	const uint64_t each = 1 + BYTES_PER_TICK / p->cfg.size;
	unsigned ahead = s->at;
	bool over = false;

	for (unsigned k = 0; k < p->cfg.depth; k++, ahead = play_next(p, ahead))
		play_ask(p, ahead);
	while (!over) {
		for (uint64_t k = 0; k < each; k++, ahead = play_next(p, ahead)) {
			if (!take_block(p, s))
				return;
			play_ask(p, ahead);
		}
		over = vio_duet_step(&s->duet, vio_ticks(), s->done, true);
	}
	for (unsigned k = 0; k < p->cfg.depth; k++)
		if (!take_block(p, s))
			return;
}

/* False: told to end. The end of the input counts as a word to go. */
static bool asked_to_go(const struct bench_play *p)
{
	char c;

	while (read(STDIN_FILENO, &c, 1) < 0 && !*p->stop)
		;
	return !*p->stop;
}

static void tell_end(void)
{
	if (write(STDOUT_FILENO, "E", 1) != 1)
		perror("bench-duet");
}

static void *play_guest(void *ctx)
{
	static void (*const play[BENCH_N_PLAYS])(struct bench_play *, struct play_side *) = {
		play_round_trips, play_memcpy, play_handover};
	struct bench_play *p = ctx;
	struct play_side *s = &p->side[VIO_DUET_GUEST];

	do {
		if (p->cfg.leads && !asked_to_go(p))
			break;
		vio_duet_ready(&s->duet);
		while (vio_duet_wait(&s->duet, s->done, p->stop)) {
			play[p->kind](p, s);
			vio_duet_pass(&s->duet, s->done);
		}
		if (p->cfg.leads)
			tell_end();
	} while (!vio_duet_over(&s->duet) && !*p->stop);
	return NULL;
}

/* --------------------------------------------------------------------- server's side ---- */

/* One look; true: there was something. */
static bool play_answer(struct bench_play *p, struct play_side *s)
{
	if (p->kind == BENCH_PLAY_ROUND_TRIP) {
		const uint64_t v = vio_load_acquire(&p->line[0].v); /* pair H */

		if (v == s->done)
			return false;
		s->done = v;
		vio_store_release(&p->line[1].v, v); /* pair H */
		return true;
	}
	if (vio_load_acquire(&p->line[s->at].v) !=
	    BLOCK_ASKED) /* pair H: the guest's reads are over */
		return false;
	copy_block(p, s, s->at);
	vio_store_release(&p->line[s->at].v, (uint64_t)BLOCK_FULL); /* pair H */
	s->at = play_next(p, s->at);
	return true;
}

static void *play_server(void *ctx)
{
	struct bench_play *p = ctx;
	struct play_side *s = &p->side[VIO_DUET_SERVER];

	while (!*p->stop) {
		/* Copies are long: a look after each; a line's answer is not delayed by one. */
		const bool look = play_answer(p, s) && p->kind == BENCH_PLAY_HANDOVER;

		if (look || ++s->looks % LOOKS_PER_TICK == 0)
			vio_duet_look(&s->duet, vio_ticks());
		if (vio_unlikely(vio_duet_called(&s->duet))) {
			(void)vio_duet_serve(&s->duet);
			if (vio_duet_over(&s->duet))
				break;
		}
	}
	vio_duet_note(&s->duet);
	return NULL;
}

/* --------------------------------------------------------------------------- set-up ---- */

static int get_memory(struct bench_play *p, struct vio_err *err)
{
	const uint64_t size = p->cfg.size, ring = p->ring_blocks * size;
	uint8_t *src;
	uint64_t x = 1;
	int rc;

	rc = bench_mem_get(BENCH_MEM_SHARED, (p->ring_blocks + 2) * sizeof(struct play_line),
			   &p->lines, err);
	if (rc == 0)
		rc = bench_mem_get(BENCH_MEM_SHARED, ring + p->span_blocks * size, &p->data, err);
	p->src_sum = calloc(p->span_blocks, sizeof(*p->src_sum));
	if (rc == 0 && !p->src_sum)
		rc = vio_err_set(err, -ENOMEM, "no memory for %llu sums",
				 (unsigned long long)p->span_blocks);
	if (rc)
		return rc;
	p->line = (struct play_line *)(void *)p->lines.base;
	p->ring = p->data.base;
	p->src = src = p->data.base + ring;
	/* Words that differ from block to block, so that a stale or missed block changes the sum. */
	for (uint64_t b = 0; b < p->span_blocks; b++) {
		for (uint64_t i = 0; i < size; i += sizeof(x)) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			memcpy(src + b * size + i, &x, sizeof(x));
		}
		p->src_sum[b] = play_sum_words(src + b * size, size);
	}
	return 0;
}

static int play_start_thread(struct play_side *s, unsigned core, void *(*fn)(void *),
			     struct bench_play *p, struct vio_err *err)
{
	cpu_set_t set;
	pthread_attr_t attr;
	int rc;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	pthread_attr_init(&attr);
	rc = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (rc == 0)
		rc = pthread_create(&s->thread, &attr, fn, p);
	pthread_attr_destroy(&attr);
	s->running = rc == 0;
	return rc ? vio_err_set(err, -rc, "--cores: can't run a thread on processor %u: %s", core,
				strerror(rc))
		  : 0;
}

int bench_play_start(enum bench_play_kind kind, const char *at, const struct bench_play_cfg *cfg,
		     const unsigned core[2], const volatile int *stop, struct bench_play **out,
		     struct vio_err *err)
{
	struct bench_play *p = aligned_alloc(BENCH_BLOCK, sizeof(*p));
	int rc = 0;

	if (!p)
		return vio_err_set(err, -ENOMEM, "no memory for a slot of the duet");
	memset(p, 0, sizeof(*p));
	p->kind = kind;
	p->cfg = *cfg;
	p->stop = stop;
	p->ring_blocks = RING_PER_DEPTH * cfg->depth;
	p->span_blocks = cfg->span / cfg->size;
	p->side[0].rng = p->side[1].rng = kind * 2 + 1;
	for (unsigned i = 0; i < 2 && rc == 0; i++)
		rc = vio_duet_open(&p->side[i].duet, at, (enum vio_duet_side)i, err);
	if (rc == 0)
		rc = get_memory(p, err);
	/* The server first: it is there when the guest says that they are ready. */
	if (rc == 0 && kind != BENCH_PLAY_MEMCPY)
		rc = play_start_thread(&p->side[VIO_DUET_SERVER], core[1], play_server, p, err);
	if (rc == 0)
		rc = play_start_thread(&p->side[VIO_DUET_GUEST], core[0], play_guest, p, err);
	*out = p;
	return rc;
}

int bench_play_end(struct bench_play *p, struct vio_err *err)
{
	int rc = 0;

	for (unsigned i = 0; i < 2; i++)
		if (p->side[i].running)
			pthread_join(p->side[i].thread, NULL);
	if (p->kind == BENCH_PLAY_HANDOVER && !*p->stop && p->side[0].sum != p->side[1].sum)
		rc = vio_err_set(
			err, -EIO,
			"hand-over of %llu bytes: the reader's sum differs from the writer's",
			(unsigned long long)p->cfg.size);
	for (unsigned i = 0; i < 2; i++)
		vio_duet_close(&p->side[i].duet);
	if (p->data.base)
		bench_mem_put(&p->data);
	if (p->lines.base)
		bench_mem_put(&p->lines);
	free(p->src_sum);
	free(p);
	return rc;
}
