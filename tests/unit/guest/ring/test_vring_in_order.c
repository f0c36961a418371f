/* SPDX-License-Identifier: BSD-3-Clause */
/* VIRTIO_F_IN_ORDER, the driver's side: both layouts, against a device that batches, and may lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>

#include "guest/ring/vring.h"
#include "vq/mock.h"

#define MAX 64u

struct rig {
	struct vio_vring_cfg cfg;
	struct vio_vring *vr;
	struct mock dev;
	int tokens[4096];
	unsigned made, back; /* chains so far */
};

static void *memory(size_t bytes)
{
	void *p = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(bytes, (size_t)VIO_CACHE_LINE));

	assert_non_null(p);
	memset(p, 0xa5, bytes);
	return p;
}

static void start(struct rig *r, bool packed, uint16_t size, uint8_t group, bool indirect)
{
	const uint64_t layout =
		1ull << VIRTIO_F_IN_ORDER | (packed ? 1ull << VIRTIO_F_RING_PACKED : 0);
	struct vio_err err;

	memset(r, 0, sizeof(*r));
	r->cfg = (struct vio_vring_cfg){.size = size,
					.group = group,
					.event_idx = true,
					.indirect = indirect,
					.features = layout,
					.desc = memory(vio_vring_desc_bytes(size)),
					.avail = memory(vio_vring_avail_bytes(size)),
					.used = memory(vio_vring_used_bytes(size))};
	if (indirect)
		r->cfg.tables = memory(vio_vring_tables_bytes(size, group));
	r->cfg.tables_at.v = 0x100000;
	assert_int_equal(vio_vring_new(&r->cfg, &r->vr, &err), 0);
	mock_init(&r->dev, size, layout | 1ull << VIRTIO_RING_F_EVENT_IDX, r->cfg.desc,
		  r->cfg.avail, r->cfg.used);
}

static void stop(struct rig *r)
{
	vio_vring_free(r->vr);
	free(r->cfg.tables);
	free(r->cfg.desc);
	free(r->cfg.avail);
	free(r->cfg.used);
}

/* Both layouts. */
static void each(void (*test)(bool packed))
{
	test(false);
	test(true);
}

/* n segments, of which the device may write the last two (or the only one). */
static int add(struct rig *r, unsigned n)
{
	struct vio_dma_seg seg[VIO_DMA_MAX_SEG];
	int rc;

	for (unsigned i = 0; i < n; i++) {
		seg[i] = (struct vio_dma_seg){.len = 100 + i, .dev_writes = i + 2 >= n};
		seg[i].at.v = 0x10000ull * r->made + i;
	}
	rc = vio_vring_add(r->vr, seg, n, &r->tokens[r->made % 4096]);
	if (rc == 0)
		r->made++;
	return rc;
}

static uint32_t may(unsigned n)
{
	return n == 1 ? 100 : 2 * 100 + (n - 2) + (n - 1);
}

/* The next chain, and that it is the one that was added as the k-th. */
static uint16_t pop(struct rig *r, unsigned k, unsigned n)
{
	struct mock_seg seg[VIO_DMA_MAX_SEG];
	uint16_t id = 0;

	assert_int_equal(mock_pop(&r->dev, seg, VIO_DMA_MAX_SEG, &id), n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(seg[i].at, 0x10000ull * k + i);
		assert_int_equal(seg[i].len, 100 + i);
		assert_int_equal(seg[i].dev_writes, i + 2 >= n);
	}
	return id;
}

static void take(struct rig *r, unsigned max, unsigned want, const uint32_t len[])
{
	struct vio_used u[MAX];

	assert_int_equal(vio_vring_take(r->vr, u, max), want);
	for (unsigned i = 0; i < want; i++, r->back++) {
		assert_ptr_equal(u[i].token, &r->tokens[r->back % 4096]);
		assert_int_equal(u[i].len, len[i]);
	}
}

static unsigned rnd(unsigned *s, unsigned n)
{
	*s = *s * 1664525u + 1013904223u;
	return (*s >> 16) % n;
}

static void batches(bool packed)
{
	struct {
		uint16_t id;
		unsigned n;
	} out[MAX];
	unsigned n_out = 0, seed = 3, first = 0;
	uint32_t len[MAX], lens[4096];
	struct rig r;

	start(&r, packed, 64, 4, false);
	while (r.back < 20000) {
		const unsigned n = 1 + rnd(&seed, 6);
		unsigned k;

		while (rnd(&seed, 4) && vio_vring_room(r.vr, n) > 0 && r.made - r.back < MAX) {
			const unsigned made = r.made;

			lens[made % 4096] = n;
			assert_int_equal(add(&r, n), 0);
		}
		vio_vring_publish(r.vr);
		while (first + n_out < r.made) {
			const unsigned segs = lens[(first + n_out) % 4096];

			out[n_out].n = segs;
			out[n_out].id = pop(&r, first + n_out, segs);
			n_out++;
		}
		/* A batch, or several: of each all are used completely but for the last. */
		for (k = 0; k < n_out && rnd(&seed, 5);) {
			const unsigned m = 1 + rnd(&seed, n_out - k);

			for (unsigned i = 0; i < m; i++)
				lens[(first + k + i) % 4096] = may(out[k + i].n);
			lens[(first + k + m - 1) % 4096] = 7 + k;
			mock_give(&r.dev, out[k + m - 1].id, 7 + k);
			k += m;
		}
		mock_publish_used(&r.dev);
		first += k;
		n_out -= k;
		memmove(out, out + k, n_out * sizeof(out[0]));
		assert_int_equal(vio_vring_outstanding(r.vr), r.made - r.back);
		while (r.back < first) { /* in parts: a batch is remembered */
			const unsigned want = 1 + rnd(&seed, first - r.back);

			assert_true(vio_vring_has_used(r.vr));
			assert_true(vio_vring_arm(r.vr));
			vio_vring_park(r.vr);
			for (unsigned i = 0; i < want; i++)
				len[i] = lens[(r.back + i) % 4096];
			take(&r, want, want, len);
		}
		assert_false(vio_vring_has_used(r.vr));
		assert_false(vio_vring_arm(r.vr));
		take(&r, MAX, 0, len);
	}
	stop(&r);
}

static void a_batch_comes_back_by_one_element_in_the_order_in_which_it_went(void **state)
{
	(void)state;
	each(batches);
}

/* VIRTIO 1.2, 2.7.5.2: from entry 0 on, each link to the next entry, the last one's to entry 0. */
static void descriptors_are_taken_in_the_order_of_the_table(void **state)
{
	struct rig r;
	unsigned at = 0;

	(void)state;
	start(&r, false, 16, 4, false);
	for (unsigned k = 0; k < 100; k++) {
		const unsigned n = 1 + k % 5;
		const uint32_t len = 0;
		uint16_t id;

		assert_int_equal(add(&r, n), 0);
		vio_vring_publish(r.vr);
		id = pop(&r, k, n);
		assert_int_equal(id, at);
		for (unsigned i = 0; i + 1 < n; i++)
			assert_int_equal(vio_le16(r.cfg.desc[(at + i) % 16].next),
					 (at + i + 1) % 16);
		at = (at + n) % 16;
		mock_give(&r.dev, id, 0);
		mock_publish_used(&r.dev);
		take(&r, MAX, 1, &len);
	}
	stop(&r);
}

static void rooms(bool packed)
{
	static const struct {
		uint8_t group;
		bool indirect;
		unsigned segs, room;
	} t[] = {{1, false, 1, 64}, {4, false, 1, 16}, {4, false, 4, 16},
		 {4, false, 34, 1}, {4, true, 34, 16}, {1, true, 3, 64}};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		struct rig r;

		start(&r, packed, 64, t[i].group, t[i].indirect);
		for (unsigned round = 0; round < 20; round++) {
			struct mock_seg seg[VIO_DMA_MAX_SEG];
			struct vio_used u[64];
			uint16_t id = 0;
			unsigned k;

			assert_int_equal(vio_vring_room(r.vr, t[i].segs), t[i].room);
			for (k = 0; add(&r, t[i].segs) == 0; k++)
				;
			assert_int_equal(k, t[i].room);
			assert_int_equal(vio_vring_room(r.vr, t[i].segs), 0);
			vio_vring_publish_always(r.vr);
			for (k = 0; k < t[i].room; k++)
				assert_true(mock_pop(&r.dev, seg, VIO_DMA_MAX_SEG, &id) > 0);
			mock_give(&r.dev, id, 5); /* all of them */
			mock_publish_used(&r.dev);
			assert_int_equal(vio_vring_take(r.vr, u, 64), t[i].room);
			for (k = 0; k < t[i].room; k++) {
				assert_ptr_equal(u[k].token, &r.tokens[r.back++ % 4096]);
				assert_int_equal(u[k].len, k + 1 < t[i].room ? may(t[i].segs) : 5);
			}
		}
		stop(&r);
	}
}

static void a_ring_takes_as_many_chains_as_out_of_order(void **state)
{
	(void)state;
	each(rooms);
}

static void ones(bool packed)
{
	struct vio_vring_one one[8];
	struct vio_used u[8];
	struct rig r;

	start(&r, packed, 16, 1, false);
	for (unsigned round = 0; round < 100; round++) {
		uint16_t id = 0;

		for (unsigned i = 0; i < 8; i++)
			one[i] = (struct vio_vring_one){
				{0x1000ull * i}, 64 + i, &r.tokens[8 * (round % 9) + i]};
		vio_vring_add_ones(r.vr, one, 8, round & 1);
		vio_vring_publish(r.vr);
		for (unsigned i = 0; i < 8; i++) {
			struct mock_seg seg = {0};

			assert_int_equal(mock_pop(&r.dev, &seg, 1, &id), 1);
			assert_int_equal(seg.at, 0x1000 * i);
			assert_int_equal(seg.dev_writes, round & 1);
		}
		mock_give(&r.dev, id, 3);
		mock_publish_used(&r.dev);
		assert_int_equal(vio_vring_take(r.vr, u, 8), 8);
		for (unsigned i = 0; i < 8; i++) {
			assert_ptr_equal(u[i].token, &r.tokens[8 * (round % 9) + i]);
			assert_int_equal(u[i].len, i == 7 ? 3 : round & 1 ? 64 + i : 0);
		}
	}
	stop(&r);
}

static void chains_of_one_descriptor_come_back_in_a_batch(void **state)
{
	(void)state;
	each(ones);
}

/* ---- lies: three chains of one descriptor are outstanding, a fourth is added; the first is given back rightly ---- */

enum lie {
	L_TWICE,
	L_NO_SUCH,
	L_BEYOND,
	L_WRAPPED,
	L_NOT_PUBLISHED,
	L_TOO_MANY,
	L_TOO_FEW,
	N_LIES
};

static void tell(struct rig *r, enum lie lie, const uint16_t id[])
{
	struct mock *d = &r->dev;

	switch (lie) {
	case L_TWICE: /* again what came back */
		mock_put(d, id[0], 1, 1);
		break;
	case L_NO_SUCH:
		mock_put(d, 16, 1, 1);
		break;
	case L_BEYOND:
		mock_put(d, 0xffff, 1, 1);
		break;
	case L_WRAPPED: /* where the ring begins again */
		mock_put(d, 15, 1, 1);
		break;
	case L_NOT_PUBLISHED: /* a batch that ends with a chain that was not made available */
		mock_put(d, 3, 1, 2);
		break;
	case L_TOO_MANY: /* split: an index that covers more than is outstanding; packed: the last one again */
		mock_put(d, id[2], 1, d->packed ? 2 : 4);
		if (d->packed)
			mock_put(d, id[2], 1, 1);
		break;
	default: /* a batch of two by an index that moved by one; a packed ring has none */
		mock_put(d, id[2], 1, 1);
		break;
	}
	mock_publish_used(d);
}

static void lies(bool packed)
{
	for (unsigned lie = 0; lie < (packed ? L_TOO_FEW : N_LIES); lie++) {
		struct vio_used u[MAX];
		uint16_t id[3];
		struct rig r;
		unsigned n = 0;
		int rc;

		start(&r, packed, 16, 1, false);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(add(&r, 1), 0);
		vio_vring_publish(r.vr);
		for (unsigned i = 0; i < 3; i++)
			id[i] = pop(&r, i, 1);
		assert_int_equal(add(&r, 1), 0);
		mock_give(&r.dev, id[0], 1);
		mock_publish_used(&r.dev);
		assert_int_equal(vio_vring_take(r.vr, u, MAX), 1);
		assert_ptr_equal(u[0].token, &r.tokens[0]);
		tell(&r, (enum lie)lie, id);
		while ((rc = vio_vring_take(r.vr, u, MAX)) > 0)
			for (int i = 0; i < rc; i++)
				assert_ptr_equal(u[i].token, &r.tokens[1 + n++]);
		assert_int_equal(n, packed && lie == L_TOO_MANY ? 2 : 0);
		assert_int_equal(rc, -EPROTO);
		assert_int_equal(add(&r, 1), -ENOSPC);
		assert_int_equal(vio_vring_room(r.vr, 1), 0);
		assert_true(vio_vring_has_used(r.vr));
		assert_true(vio_vring_arm(r.vr));
		/* What was added and never published is nobody's but ours. */
		vio_vring_reset(r.vr);
		assert_int_equal(vio_vring_take(r.vr, u, MAX), 0);
		assert_int_equal(vio_vring_outstanding(r.vr), 0);
		r.made = 0;
		assert_int_equal(add(&r, 1), 0);
		stop(&r);
	}
}

static void a_device_that_gives_back_what_is_not_next_is_found_out(void **state)
{
	(void)state;
	each(lies);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_comes_back_by_one_element_in_the_order_in_which_it_went),
		cmocka_unit_test(descriptors_are_taken_in_the_order_of_the_table),
		cmocka_unit_test(a_ring_takes_as_many_chains_as_out_of_order),
		cmocka_unit_test(chains_of_one_descriptor_come_back_in_a_batch),
		cmocka_unit_test(a_device_that_gives_back_what_is_not_next_is_found_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
