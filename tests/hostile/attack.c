/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/hostile/attack.h"

#include <sched.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#define BAD(...) (const uint64_t[]){__VA_ARGS__}, VIO_ARRAY_SIZE(((const uint64_t[]){__VA_ARGS__}))

void attack_add(struct attack *a, const char *name, void *at, uint8_t size, bool relative,
		unsigned n, const uint64_t bad[])
{
	struct attack_field *f = &a->field[a->n++];

	FUZZ_CHECK(a->n <= ATTACK_FIELDS && n > 0 && n <= ATTACK_BAD);
	*f = (struct attack_field){
		.name = name, .at = at, .size = size, .n_bad = (uint8_t)n, .relative = relative};
	memcpy(f->bad, bad, n * sizeof(bad[0]));
}

static void add(struct attack *a, const char *name, void *at, uint8_t size, const uint64_t bad[],
		unsigned n)
{
	attack_add(a, name, at, size, false, n, bad);
}

/* Address, length, flags and link of a descriptor, wherever it stands; packed: id before flags. */
static void add_desc(struct attack *a, const struct rig *g, uint8_t *d)
{
	const uint64_t base = fuzz_machine()->guest_at.v;
	const bool packed = g->arm.layout & 1ull << VIRTIO_F_RING_PACKED;

	add(a, "address", d, 8,
	    BAD(base + FUZZ_RO, base + FUZZ_RO - 8, base + FUZZ_BUF + RIG_BUFLEN - 1,
		base + FUZZ_RINGS + FUZZ_RINGS_LEN, 0, UINT64_MAX - 100, base + FUZZ_BUF + 0x5000));
	add(a, "length", d + 8, 4, BAD(0, 1, 513, 70000, 0x100001, 0x7fffffff, 0xffffffff));
	add(a, "flags", d + (packed ? 14 : 12), 2,
	    BAD(0, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_DESC_F_INDIRECT,
		VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, VIO_PACKED_AVAIL, VIO_PACKED_USED, 0xffff));
	add(a, "link", d + (packed ? 12 : 14), 2, BAD(0, 1, RIG_SIZE, 8, 0x7fff, 0xffff));
}

static void add_disk(struct attack *a, uint8_t *slot)
{
	for (unsigned i = 0; i < 3; i++) /* the sector, and the type, are what is judged and used */
		add(a, "sector", slot + RIG_HDR + 8, 8,
		    BAD(0, 127, 128, RIG_DISK / 512 - 1, 1ull << 54, 1ull << 55, UINT64_MAX));
	add(a, "type", slot + RIG_HDR, 4,
	    BAD(VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
		VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, 99));
	for (unsigned i = 0; i < 2; i++) {
		add(a, "range's sector", slot + RIG_RANGES, 8,
		    BAD(0, 128, 1ull << 54, 1ull << 55, UINT64_MAX));
		add(a, "range's length", slot + RIG_RANGES + 8, 4,
		    BAD(0, 129, 1 << 20, UINT32_MAX));
	}
	add(a, "range's flags", slot + RIG_RANGES + 12, 4, BAD(1, 2, UINT32_MAX));
}

static void add_net(struct attack *a, uint8_t *h)
{
	uint8_t *frame = h + sizeof(struct virtio_net_hdr_v1);

	add(a, "flags", h, 1, BAD(0, VIRTIO_NET_HDR_F_NEEDS_CSUM, 2, 0xff));
	add(a, "gso type", h + 1, 1, BAD(0, 1, 3, 4, 5, 0x81, 0xff));
	add(a, "hdr_len", h + 2, 2, BAD(0, 1, 0xffff));
	/* Never 0 where it is loaded again: a division by it ends the program, and more can't be seen. */
	add(a, "gso_size", h + 4, 2, BAD(1, 47, VIO_SNAPSHOTS ? 0 : 2, 0xffff));
	for (unsigned i = 0; i < 2; i++)
		add(a, "csum_start", h + 6, 2, BAD(0, 13, 33, 287, 288, 0x7fff, 0xffff));
	add(a, "csum_offset", h + 8, 2, BAD(0, 6, 254, 288, 0xffff));
	add(a, "num_buffers", h + 10, 2, BAD(1, 0xffff));
	add(a, "source", frame + 6, 1, BAD(0, 1, 0xff));
	add(a, "type", frame + 12, 2, BAD(0x0081, 0xdd86, 0xa888, 0));
	add(a, "IP's header length", frame + 14, 1, BAD(0x40, 0x4f, 0x60, 0xff));
	add(a, "IP's length", frame + 16, 2, BAD(0, 0x1400, 0xffff));
	add(a, "IP's protocol", frame + 23, 1, BAD(0, 17, 58));
	add(a, "TCP's header length", frame + 46, 1, BAD(0, 0x40, 0xf0));
}

void attack_fields(struct attack *a, const struct rig *g)
{
	const bool packed = g->arm.layout & 1ull << VIRTIO_F_RING_PACKED;

	memset(a, 0, sizeof(*a));
	for (unsigned i = 0; i < RIG_SIZE; i++) {
		if (packed || i % 4 < 3)
			add_desc(a, g, g->desc + 16 * i);
		if (!packed)
			add(a, "available entry", g->avail + 4 + 2 * i, 2,
			    BAD(0, 4, 5, 12, RIG_SIZE, 0xffff));
	}
	for (unsigned k = 0; k < RIG_SLOTS; k++) {
		uint8_t *slot = g->buf + k * RIG_SLOT;

		if (g->arm.dev == RIG_TX)
			add_net(a, slot + RIG_FRAME);
		else if (g->arm.dev != RIG_RX)
			add_disk(a, slot);
		for (unsigned i = 0; k == (g->arm.dev >= RIG_TX ? 3 : 1) && i < 3; i++)
			add_desc(a, g, slot + RIG_TABLE + 16 * i);
	}
	if (packed) {
		add(a, "driver's word", g->avail, 4, BAD(0, 1, 2, 0x20005, UINT32_MAX));
		return;
	}
	add(a, "available flags", g->avail, 2, BAD(0, 1, 0xffff));
	attack_add(a, "available index", g->avail + 2, 2, true, 5,
		   (const uint64_t[]){1, 2, RIG_SIZE + 1, 5000, 0xffff});
	add(a, "used_event", g->avail + 4 + 2 * RIG_SIZE, 2, BAD(0, 1, 0xffff));
	add(a, "used index", g->used + 2, 2, BAD(0, 1, 0xffff));
}

/* splitmix64 (public domain, S. Vigna). */
static uint64_t next(struct attack *a)
{
	uint64_t z = a->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* Fields of frames and headers lie anywhere: by bytes where no wider access is aligned. */
static uint64_t load(const struct attack_field *f)
{
	uint64_t v = 0;

	if ((uintptr_t)f->at % f->size) {
		memcpy(&v, f->at, f->size);
		return v;
	}
	return f->size == 1   ? vio_load_relaxed(f->at)
	       : f->size == 2 ? vio_load_relaxed((uint16_t *)(void *)f->at)
	       : f->size == 4 ? vio_load_relaxed((uint32_t *)(void *)f->at)
			      : vio_load_relaxed((uint64_t *)(void *)f->at);
}

static void store(const struct attack_field *f, uint64_t v)
{
	if ((uintptr_t)f->at % f->size)
		memcpy(f->at, &v, f->size);
	else if (f->size == 1)
		vio_store_relaxed(f->at, (uint8_t)v);
	else if (f->size == 2)
		vio_store_relaxed((uint16_t *)(void *)f->at, (uint16_t)v);
	else if (f->size == 4)
		vio_store_relaxed((uint32_t *)(void *)f->at, (uint32_t)v);
	else
		vio_store_relaxed((uint64_t *)(void *)f->at, v);
}

uint64_t attack_below(struct attack *a, uint64_t n)
{
	return next(a) % n;
}

void attack_put(struct attack *a)
{
	const uint64_t r = next(a);
	const struct attack_field *f = &a->field[(uint32_t)r % a->n];
	const uint64_t bad = f->bad[(r >> 32) % f->n_bad];

	a->put = f;
	a->was = load(f);
	store(f, f->relative ? a->was + bad : bad);
	vio_counter_add(&a->flips, 1);
}

void attack_back(struct attack *a)
{
	if (a->put)
		store(a->put, a->was);
	a->put = NULL;
}

static void *run(void *p)
{
	struct attack *a = p;

	while (!vio_load_relaxed(&a->stop)) {
		if (vio_load_relaxed(&a->pause)) {
			sched_yield();
			continue;
		}
		attack_put(a);
		for (uint64_t i = attack_below(a, 16); i > 0; i--)
			vio_cpu_relax();
		attack_back(a);
		for (unsigned i = 0; i < a->rest; i++)
			vio_cpu_relax();
	}
	return NULL;
}

void attack_begin(struct attack *a, uint64_t seed)
{
	a->rng = seed;
	FUZZ_CHECK(pthread_create(&a->thread, NULL, run, a) == 0);
}

void attack_end(struct attack *a)
{
	vio_store_relaxed(&a->stop, 1);
	pthread_join(a->thread, NULL);
}
