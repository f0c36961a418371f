/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's side of a packed ring, against a device that is driven by hand and may lie. */
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
	struct vio_packed_desc *ring;
	uint32_t *driver, *device; /* event words */
	struct mock dev;
	int tokens[4096];
};

static void start(struct rig *r, uint16_t size, uint8_t group, bool event_idx, bool indirect)
{
	struct vio_err err;

	memset(r, 0, sizeof(*r));
	r->ring = aligned_alloc(VIO_CACHE_LINE, 16u * size);
	r->driver = aligned_alloc(VIO_CACHE_LINE, VIO_CACHE_LINE);
	r->device = aligned_alloc(VIO_CACHE_LINE, VIO_CACHE_LINE);
	r->cfg = (struct vio_vring_cfg){.size = size,
					.group = group,
					.event_idx = event_idx,
					.indirect = indirect,
					.features = 1ull << VIRTIO_F_RING_PACKED,
					.desc = (void *)r->ring,
					.avail = (void *)r->driver,
					.used = (void *)r->device};
	if (indirect)
		r->cfg.tables = aligned_alloc(VIO_CACHE_LINE, vio_vring_tables_bytes(size, group));
	r->cfg.tables_at.v = 0x100000;
	assert_int_equal(vio_vring_new(&r->cfg, &r->vr, &err), 0);
	mock_init(&r->dev, size, r->cfg.features, r->ring, r->driver, r->device);
}

static void stop(struct rig *r)
{
	vio_vring_free(r->vr);
	free(r->cfg.tables);
	free(r->ring);
	free(r->driver);
	free(r->device);
}

static int add(struct rig *r, unsigned n, unsigned token)
{
	struct vio_dma_seg seg[VIO_DMA_MAX_SEG];

	for (unsigned i = 0; i < n; i++) {
		seg[i] = (struct vio_dma_seg){.len = 100 + i, .dev_writes = i + 1 == n};
		seg[i].at.v = 0x10000ull * token + i;
	}
	return vio_vring_add(r->vr, seg, n, &r->tokens[token]);
}

/* The device takes the next chain: its descriptors, their number in *n; false: there is none. Chains become visible whole. */
static bool device_pop(struct rig *r, uint16_t *id, unsigned *n)
{
	struct mock_seg seg[VIO_DMA_MAX_SEG];
	const int k = mock_pop(&r->dev, seg, VIO_DMA_MAX_SEG, id);

	assert_true(k >= 0);
	*n = (unsigned)k;
	return k > 0;
}

static void nothing_is_visible_before_publish_and_all_of_it_after(void **state)
{
	struct rig r;
	unsigned n;
	uint16_t id = 0;

	(void)state;
	start(&r, 16, 4, true, false);
	for (unsigned round = 0; round < 50; round++) { /* across the wrap, both counters */
		struct vio_used u[MAX];

		for (unsigned k = 0; k < 3; k++)
			assert_int_equal(add(&r, 1 + (round + k) % 4, 10 * round + k), 0);
		assert_false(device_pop(&r, &id, &n));
		vio_vring_publish(r.vr);
		for (unsigned k = 0; k < 3; k++) {
			const struct vio_packed_desc *d = &r.ring[r.dev.next & 15];

			assert_int_equal(vio_le64(d->addr), 0x10000ull * (10 * round + k));
			assert_true(device_pop(&r, &id, &n));
			assert_int_equal(n, 1 + (round + k) % 4);
			mock_give(&r.dev, id, round + k);
		}
		assert_false(device_pop(&r, &id, &n));
		assert_int_equal(vio_vring_outstanding(r.vr), 3);
		assert_true(vio_vring_has_used(r.vr));
		assert_int_equal(vio_vring_take(r.vr, u, MAX), 3);
		for (unsigned k = 0; k < 3; k++) {
			assert_ptr_equal(u[k].token, &r.tokens[10 * round + k]);
			assert_int_equal(u[k].len, round + k);
		}
		assert_false(vio_vring_has_used(r.vr));
		assert_int_equal(vio_vring_outstanding(r.vr), 0);
	}
	stop(&r);
}

static void a_ring_takes_as_many_chains_as_it_says_and_gets_them_back_in_any_order(void **state)
{
	static const struct {
		uint8_t group;
		bool indirect;
		unsigned segs, room;
	} t[] = {{1, false, 1, 64}, {4, false, 1, 16}, {4, false, 4, 16},
		 {4, false, 34, 1}, {4, true, 34, 16}, {1, true, 3, 64}};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		struct rig r;

		start(&r, 64, t[i].group, true, t[i].indirect);
		for (unsigned round = 0; round < 20; round++) {
			uint16_t id[64] = {0};
			unsigned n[64], k;
			struct vio_used u[64];

			assert_int_equal(vio_vring_room(r.vr, t[i].segs), t[i].room);
			for (k = 0; add(&r, t[i].segs, k) == 0; k++)
				;
			assert_int_equal(k, t[i].room);
			assert_int_equal(vio_vring_room(r.vr, t[i].segs), 0);
			vio_vring_publish_always(r.vr);
			for (k = 0; k < t[i].room; k++)
				assert_true(device_pop(&r, &id[k], &n[k]));
			for (k = t[i].room; k-- > 0;)
				mock_give(&r.dev, id[k], k);
			assert_int_equal(vio_vring_take(r.vr, u, 64), t[i].room);
			for (k = 0; k < t[i].room; k++)
				assert_ptr_equal(u[k].token, &r.tokens[t[i].room - 1 - k]);
		}
		stop(&r);
	}
}

static void a_device_that_returns_what_it_does_not_have_is_found_out(void **state)
{
	(void)state;
	for (unsigned lie = 0; lie < 4; lie++) {
		struct vio_used u[MAX];
		struct rig r;
		unsigned n;
		uint16_t id = 0;

		start(&r, 16, 1, true, false);
		assert_int_equal(add(&r, 1, 0), 0);
		assert_int_equal(add(&r, 1, 1), 0);
		vio_vring_publish(r.vr);
		assert_true(device_pop(&r, &id, &n));
		mock_put(&r.dev, id, 0, 1);
		switch (lie) {
		case 0:
			mock_put(&r.dev, id, 0, 1); /* twice */
			break;
		case 1:
			mock_put(&r.dev, 16, 0, 1); /* no such id */
			break;
		case 2:
			mock_put(&r.dev, 0xffff, 0, 1);
			break;
		default: /* added, and not made available */
			assert_int_equal(add(&r, 1, 2), 0);
			mock_put(&r.dev, 2, 0, 1);
			break;
		}
		assert_int_equal(vio_vring_take(r.vr, u, MAX), 1); /* what came before was right */
		assert_ptr_equal(u[0].token, &r.tokens[0]);
		assert_int_equal(vio_vring_take(r.vr, u, MAX), -EPROTO);
		assert_int_equal(add(&r, 1, 3), -ENOSPC);
		assert_true(vio_vring_has_used(r.vr));
		assert_true(vio_vring_arm(r.vr));
		vio_vring_reset(r.vr);
		assert_int_equal(vio_vring_take(r.vr, u, MAX), 0);
		assert_int_equal(add(&r, 1, 3), 0);
		stop(&r);
	}
}

static void kicks_and_wishes_are_those_of_the_specification(void **state)
{
	struct vio_used u[MAX];
	struct rig r;
	unsigned n;
	uint16_t id = 0;

	(void)state;
	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		start(&r, 16, 1, event_idx, false);
		assert_false(vio_vring_publish(r.vr)); /* nothing was added */
		*r.device = vio_packed_silence();
		assert_int_equal(add(&r, 1, 0), 0);
		assert_false(vio_vring_publish(r.vr));
		*r.device = vio_packed_ask();
		assert_int_equal(add(&r, 1, 1), 0);
		assert_true(vio_vring_publish(r.vr));
		*r.device = vio_packed_ask_at(2, 16);
		assert_int_equal(add(&r, 1, 2), 0);
		assert_true(vio_vring_publish(r.vr));
		assert_int_equal(add(&r, 1, 3), 0);
		assert_int_equal(vio_vring_publish(r.vr), !event_idx); /* the index has passed it */
		/* The other direction. */
		vio_vring_park(r.vr);
		assert_int_equal(*r.driver, vio_packed_silence());
		assert_false(vio_vring_arm(r.vr));
		assert_int_equal(*r.driver,
				 event_idx ? vio_packed_ask_at(0, 16) : vio_packed_ask());
		assert_true(device_pop(&r, &id, &n));
		mock_put(&r.dev, id, 0, 1);
		assert_true(vio_vring_arm(r.vr));
		assert_int_equal(vio_vring_take(r.vr, u, MAX), 1);
		stop(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_visible_before_publish_and_all_of_it_after),
		cmocka_unit_test(
			a_ring_takes_as_many_chains_as_it_says_and_gets_them_back_in_any_order),
		cmocka_unit_test(a_device_that_returns_what_it_does_not_have_is_found_out),
		cmocka_unit_test(kicks_and_wishes_are_those_of_the_specification),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
