/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What zero-copy can reach at best when one core fills blocks and another one reads them: memcpy
 * into a ring of blocks, a flag a slot. Barriers: pair H, the slot's flag.
 */
#include <string.h>

#include "bench/limits/limits_measure.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

#define BYTES_PER_LOOK (1u << 20)

enum slot_state { SLOT_FREE, SLOT_FULL, SLOT_STOP };

/*
 * Both sides write a slot's flag by turns; alone on its lines, because neighbours are handed over
 * at other times.
 */
struct slot {
	_Alignas(BENCH_BLOCK) uint32_t state;
};

struct handover {
	const struct limits_handover *h;
	struct slot *slot;
	uint8_t *ring;
	const uint8_t *src;
	const uint64_t *src_sum; /* per block */
	uint64_t budget_ns;
	unsigned samples;
	struct bench_series *out;
	_Alignas(BENCH_BLOCK) unsigned at; /* producer's, as `sent` */
	uint64_t sent;
	_Alignas(BENCH_BLOCK) uint64_t received; /* consumer's, written once at its end */
};

static uint64_t sum_words(const uint8_t *block, size_t size)
{
	const uint64_t *w = (const uint64_t *)(const void *)block;
	uint64_t s = 0;

	for (size_t i = 0; i < size / sizeof(*w); i++)
		s += w[i];
	return s;
}

static void produce(struct handover *c, uint64_t n)
{
	const size_t size = c->h->size;

	for (uint64_t i = 0; i < n; i++) {
		struct slot *s = &c->slot[c->at];

		while (vio_load_acquire(&s->state) !=
		       SLOT_FREE) /* pair H: the consumer's reads are over */
			;
		memcpy(c->ring + c->at * size, c->src + c->at * size, size);
		c->sent += c->src_sum[c->at];
		vio_store_release(&s->state,
				  (uint32_t)SLOT_FULL); /* pair H: the block before its flag */
		if (++c->at == c->h->depth)
			c->at = 0;
	}
}

static double produce_for(struct handover *c, uint64_t ns)
{
	uint64_t look = BYTES_PER_LOOK / c->h->size + 1, n = 0, t0 = vio_now_ns(), now;

	do {
		produce(c, look);
		n += look;
		now = vio_now_ns();
	} while (now - t0 < ns);
	return (double)(now - t0) / (double)n;
}

static void producer(void *ctx)
{
	struct handover *c = ctx;
	uint64_t each = c->budget_ns / (c->samples + 1);

	produce_for(c, each);
	for (unsigned i = 0; i < c->samples; i++)
		bench_series_add(c->out, produce_for(c, each));
	while (vio_load_acquire(&c->slot[c->at].state) != SLOT_FREE)
		;
	vio_store_release(&c->slot[c->at].state, (uint32_t)SLOT_STOP);
}

static void consumer(void *ctx)
{
	struct handover *c = ctx;
	const size_t size = c->h->size;
	const bool reading = c->h->reading;
	uint64_t sum = 0;
	unsigned at = 0;

	for (;;) {
		struct slot *s = &c->slot[at];
		uint32_t state;

		while ((state = vio_load_acquire(&s->state)) == SLOT_FREE) /* pair H */
			;
		if (state == SLOT_STOP)
			break;
		if (reading)
			sum += sum_words(c->ring + at * size, size);
		vio_store_release(
			&s->state,
			(uint32_t)SLOT_FREE); /* pair H: the reads before the slot's return */
		if (++at == c->h->depth)
			at = 0;
	}
	c->received = sum;
}

/* Words that differ from block to block, so that a stale or missed block changes the sum. */
static void fill(uint8_t *src, uint64_t *sums, size_t size, unsigned depth)
{
	uint64_t x = 1;

	for (unsigned b = 0; b < depth; b++) {
		for (size_t i = 0; i < size; i += sizeof(x)) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			memcpy(src + b * size + i, &x, sizeof(x));
		}
		sums[b] = sum_words(src + b * size, size);
	}
}

int limits_handover_run(unsigned server_cpu, uint64_t budget_ns, unsigned samples,
			struct limits_handover *h, struct vio_err *err)
{
	const size_t ring_bytes = h->size * h->depth;
	struct bench_mem data = {0}, ctl = {0};
	struct handover c = {.h = h, .budget_ns = budget_ns, .samples = samples, .out = &h->ns};
	uint64_t *sums;
	int rc = bench_mem_get(BENCH_MEM_SHARED, 2 * ring_bytes, &data, err);

	if (!rc)
		rc = bench_mem_get(BENCH_MEM_SHARED,
				   h->depth * (sizeof(struct slot) + sizeof(*sums)), &ctl, err);
	if (!rc) {
		c.slot = (struct slot *)(void *)ctl.base;
		sums = (uint64_t *)(void *)(ctl.base + h->depth * sizeof(struct slot));
		c.ring = data.base;
		c.src = data.base + ring_bytes;
		fill(data.base + ring_bytes, sums, h->size, h->depth);
		c.src_sum = sums;
		h->huge = data.huge;
		rc = bench_pair_run(server_cpu, producer, consumer, &c, err);
	}
	if (!rc && h->reading && c.sent != c.received)
		rc = vio_err_set(
			err, -EIO,
			"hand-over of %zu byte blocks: the reader's sum differs from the writer's",
			h->size);
	bench_mem_put(&ctl);
	bench_mem_put(&data);
	return rc;
}
