/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's split ring against a device that says what is not so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vring_test.h"

/*
 * Publish `n` requests, have the device answer with `lie` as the next element's id (or index jump),
 * expect -EPROTO for ever.
 */
static void expect_refused(struct model *m, struct vio_vring *vr)
{
	struct vio_used u[64];

	assert_int_equal(vio_vring_take(vr, u, 64), -EPROTO);
	assert_int_equal(vio_vring_take(vr, u, 64), -EPROTO);
	assert_true(vio_vring_has_used(vr)); /* nobody sleeps over it */
	assert_true(vio_vring_arm(vr));
	assert_int_equal(vio_vring_room(vr, 1), 0);
	assert_int_equal(vio_vring_add(vr, make(1, 1), 1, tokens), -ENOSPC);
	/* After a reset it works again. */
	vio_vring_reset(vr);
	m->dev.next = m->dev.used = m->dev.published = 0;
	assert_int_equal(vio_vring_outstanding(vr), 0);
	add(vr, 3, 9);
	vio_vring_publish(vr);
	mock_put(&m->dev, (uint32_t)model_pop(m), 1, 1);
	mock_publish_used(&m->dev);
	assert_int_equal(vio_vring_take(vr, u, 64), 1);
	assert_ptr_equal(u[0].token, &tokens[9]);
}

static void ids_that_are_not_outstanding_heads_are_refused(void **state)
{
	/* Out of range, inside a chain, a second group of a chain, free, only just out of 16 bits. */
	const uint32_t lies[] = {64, 65536, UINT32_MAX, 1, 2, 4, 8, 60, 0x80000000u};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(lies); i++) {
		struct model m;
		struct vio_vring *vr = open_ring(&m, 64, true, false);

		add(vr, 5, 1); /* groups 0 and 1 */
		vio_vring_publish(vr);
		assert_int_equal(model_pop(&m), 0);
		mock_put(&m.dev, lies[i], 0, 1);
		mock_publish_used(&m.dev);
		expect_refused(&m, vr);
		close_ring(&m, vr);
	}
}

static void an_id_returned_twice_is_refused_and_what_was_right_before_is_kept(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 64, true, false);
	struct vio_used u[8];

	(void)state;
	add(vr, 3, 1);
	add(vr, 3, 2);
	vio_vring_publish(vr);
	int head = model_pop(&m);
	mock_put(&m.dev, (uint32_t)head, 11, 1);
	mock_put(&m.dev, (uint32_t)head, 12, 1);
	mock_publish_used(&m.dev);
	assert_int_equal(vio_vring_take(vr, u, 8), 1);
	assert_ptr_equal(u[0].token, &tokens[1]);
	expect_refused(&m, vr);
	close_ring(&m, vr);
}

static void a_used_index_beyond_what_was_published_is_refused(void **state)
{
	const uint16_t jumps[] = {2, 3, 64, 65, 0x8000, 0xffff};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(jumps); i++) {
		struct model m;
		struct vio_vring *vr = open_ring(&m, 64, true, false);

		add(vr, 3, 1);
		vio_vring_publish(vr);
		add(vr, 3, 2); /* not published: does not count */
		mock_put(&m.dev, (uint32_t)model_pop(&m), 0, 1);
		vio_store_release(&m.cfg.used->idx, vio_le16(jumps[i]));
		expect_refused(&m, vr);
		close_ring(&m, vr);
	}
}

static void an_id_that_was_never_published_is_refused(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 64, true, false);

	(void)state;
	add(vr, 3, 1);
	vio_vring_publish(vr);
	add(vr, 3, 2); /* group 1, id 4 */
	mock_put(&m.dev, 4, 0, 1);
	mock_publish_used(&m.dev);
	expect_refused(&m, vr);
	close_ring(&m, vr);
}

static void what_the_device_scribbles_over_the_rings_does_not_confuse_the_driver(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 64, true, false);
	struct vio_used u[64];
	unsigned seed = 3;

	(void)state;
	/*
	 * Random bytes in everything that the device can reach: each token at most once, or
	 * -EPROTO; never outside.
	 */
	for (unsigned round = 0; round < 3000; round++) {
		uint8_t seen[65] = {0};
		int rc = 0;

		for (unsigned i = 0; i < 16; i++)
			add(vr, 3, i + 1);
		vio_vring_publish(vr);
		for (unsigned i = 0; i < 64; i++)
			m.cfg.used->ring[i] = (struct vring_used_elem){
				.id = vio_le32(4 * ((unsigned)rand_r(&seed) % 18)), .len = 1};
		memset(m.cfg.desc, (int)(round % 256), vio_vring_desc_bytes(64));
		memset(m.cfg.avail->ring, (int)(round % 256), 2 * 64);
		vio_store_release(&m.cfg.used->idx, vio_le16((uint16_t)(rand_r(&seed) % 20)));
		while ((rc = vio_vring_take(vr, u, 1 + (unsigned)rand_r(&seed) % 64)) > 0) {
			for (int i = 0; i < rc; i++) {
				ptrdiff_t t = (int *)u[i].token - tokens;

				assert_in_range(t, 1, 16);
				assert_int_equal(seen[t]++, 0);
			}
		}
		assert_true(rc == 0 || rc == -EPROTO);
		vio_vring_reset(vr);
	}
	close_ring(&m, vr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_that_are_not_outstanding_heads_are_refused),
		cmocka_unit_test(an_id_returned_twice_is_refused_and_what_was_right_before_is_kept),
		cmocka_unit_test(a_used_index_beyond_what_was_published_is_refused),
		cmocka_unit_test(an_id_that_was_never_published_is_refused),
		cmocka_unit_test(
			what_the_device_scribbles_over_the_rings_does_not_confuse_the_driver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
