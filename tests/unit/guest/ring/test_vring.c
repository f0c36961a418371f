/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vring_test.h"

static void bad_sizes_and_alignments_are_refused(void **state)
{
	const uint16_t sizes[] = {0, 1, 2, 3, 5, 12, 48, 32767, 32769, 65535};
	struct model m;
	struct vio_vring *vr;
	struct vio_err err;

	(void)state;
	model_init(&m, 8, true, false);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(sizes); i++) {
		struct vio_vring_cfg c = m.cfg;

		c.size = sizes[i];
		assert_int_equal(vio_vring_new(&c, &vr, &err), -EINVAL);
	}
	m.cfg.avail = (struct vring_avail *)(void *)((uint8_t *)m.cfg.avail + 8);
	assert_int_equal(vio_vring_new(&m.cfg, &vr, &err), -EINVAL);
	m.cfg.avail = (struct vring_avail *)(void *)((uint8_t *)m.cfg.avail - 8);
	m.cfg.indirect = true; /* without tables */
	assert_int_equal(vio_vring_new(&m.cfg, &vr, &err), -EINVAL);
	model_fini(&m);
}

static void a_request_is_invisible_until_it_is_published(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 16, false, false);
	struct vio_used u[4];

	(void)state;
	assert_false(vio_vring_publish(vr));
	add(vr, 3, 1);
	assert_int_equal(model_pop(&m), -1);
	assert_true(vio_vring_publish(vr));
	assert_false(vio_vring_publish(vr)); /* nothing new: no kick */
	int head = model_pop(&m);
	expect_chain(&m, head, 3, 1);
	assert_int_equal(vio_vring_outstanding(vr), 1);
	assert_false(vio_vring_has_used(vr));
	mock_put(&m.dev, (uint32_t)head, 4242, 1);
	assert_int_equal(vio_vring_take(vr, u, 4), 0);
	assert_true(mock_publish_used(&m.dev));
	assert_true(vio_vring_has_used(vr));
	assert_int_equal(vio_vring_take(vr, u, 4), 1);
	assert_ptr_equal(u[0].token, &tokens[1]);
	assert_int_equal(u[0].len, 4242);
	assert_int_equal(vio_vring_outstanding(vr), 0);
	close_ring(&m, vr);
}

static void a_short_chain_lies_in_one_cache_line(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 64, false, false);

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		add(vr, 1 + i % 4, i + 1);
	vio_vring_publish(vr);
	for (unsigned i = 0; i < 16; i++) {
		int head = model_pop(&m);

		assert_int_equal(head % 4, 0);
		expect_chain(&m, head, 1 + i % 4, i + 1);
		for (unsigned s = 0; s < i % 4; s++)
			assert_int_equal(vio_le16(m.cfg.desc[(unsigned)head + s].next),
					 (unsigned)head + s + 1);
	}
	close_ring(&m, vr);
}

static void room_and_enospc_agree_for_every_length(void **state)
{
	(void)state;
	for (int indirect = 0; indirect < 2; indirect++) {
		for (unsigned n = 1; n <= VIO_DMA_MAX_SEG; n++) {
			struct model m;
			struct vio_vring *vr = open_ring(&m, 64, true, indirect);
			unsigned room = vio_vring_room(vr, n);
			unsigned groups = n <= 4 || indirect ? 1 : (n + 3) / 4;

			assert_int_equal(room, 16 / groups);
			for (unsigned i = 0; i < room; i++) {
				assert_int_equal(vio_vring_room(vr, n), room - i);
				add(vr, n, i + 1);
			}
			assert_int_equal(vio_vring_room(vr, n), 0);
			assert_int_equal(vio_vring_add(vr, make(n, 1), n, tokens), -ENOSPC);
			vio_vring_publish(vr);
			for (unsigned i = 0; i < room; i++)
				expect_chain(&m, model_pop(&m), n, i + 1);
			assert_int_equal(model_pop(&m), -1);
			close_ring(&m, vr);
		}
	}
}

static void chains_without_segments_or_token_or_too_long_are_refused(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 256, true, true);

	(void)state;
	assert_int_equal(vio_vring_add(vr, segs, 0, tokens), -EINVAL);
	assert_int_equal(vio_vring_add(vr, segs, VIO_DMA_MAX_SEG + 1, tokens), -EINVAL);
	assert_int_equal(vio_vring_add(vr, make(1, 1), 1, NULL), -EINVAL);
	assert_int_equal(vio_vring_room(vr, 0), 0);
	assert_int_equal(vio_vring_room(vr, VIO_DMA_MAX_SEG + 1), 0);
	assert_int_equal(vio_vring_outstanding(vr), 0);
	close_ring(&m, vr);
}

static void long_chains_survive_reuse_of_shuffled_groups(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 128, true, false);
	struct vio_used u[32];
	int held[32];
	unsigned n_held = 0, seed = 1;

	(void)state;
	for (unsigned round = 0; round < 5000; round++) {
		unsigned n = 1 + (unsigned)rand_r(&seed) % VIO_DMA_MAX_SEG;

		if (vio_vring_room(vr, n) > 0) {
			add(vr, n, round + 1);
			vio_vring_publish(vr);
			held[n_held] = model_pop(&m);
			expect_chain(&m, held[n_held], n, round + 1);
			n_held++;
		} else {
			unsigned which = (unsigned)rand_r(&seed) % n_held;

			mock_put(&m.dev, (uint32_t)held[which], 0, 1);
			mock_publish_used(&m.dev);
			held[which] = held[--n_held];
			assert_int_equal(vio_vring_take(vr, u, 32), 1);
		}
		assert_int_equal(vio_vring_outstanding(vr), n_held);
	}
	while (n_held > 0)
		mock_put(&m.dev, (uint32_t)held[--n_held], 0, 1);
	mock_publish_used(&m.dev);
	while (vio_vring_take(vr, u, 32) > 0)
		;
	assert_int_equal(vio_vring_room(vr, 1), 32); /* no group was lost */
	close_ring(&m, vr);
}

/*
 * The device sees whole requests although the driver stores only what differs from the last use of
 * a descriptor.
 */
static void every_field_that_changes_reaches_the_device(void **state)
{
	struct model m;
	struct vio_vring *vr =
		open_ring(&m, 4, false, false); /* one group: always the same descriptors */
	struct mock_seg got[VIO_DMA_MAX_SEG];
	struct vio_used u;
	unsigned seed = 7;

	(void)state;
	for (unsigned round = 0; round < 4000; round++) {
		unsigned n = 1 + (unsigned)rand_r(&seed) % 4;

		for (unsigned i = 0; i < n; i++) {
			segs[i].at.v = (uint64_t)(rand_r(&seed) % 2) << 40;
			segs[i].len = 1 + (unsigned)rand_r(&seed) % 2;
			segs[i].dev_writes = rand_r(&seed) % 2;
		}
		assert_int_equal(vio_vring_add(vr, segs, n, tokens), 0);
		vio_vring_publish(vr);
		int head = model_pop(&m);
		assert_int_equal(model_chain(&m, head, got), n);
		for (unsigned i = 0; i < n; i++) {
			assert_int_equal(got[i].at, segs[i].at.v);
			assert_int_equal(got[i].len, segs[i].len);
			assert_int_equal(got[i].dev_writes, segs[i].dev_writes);
		}
		mock_put(&m.dev, (uint32_t)head, 0, 1);
		mock_publish_used(&m.dev);
		assert_int_equal(vio_vring_take(vr, &u, 1), 1);
	}
	close_ring(&m, vr);
}

static void a_repeated_request_writes_no_descriptor_and_no_available_entry(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 4, false, false);
	struct vio_used u;

	(void)state;
	for (unsigned round = 0; round < 12; round++) {
		add(vr, 3, 1);
		vio_vring_publish(vr);
		if (round == 7) {
			/* What was stored before is wiped: it must not come back. */
			memset(m.cfg.desc, 0, vio_vring_desc_bytes(4));
			memset(m.cfg.avail->ring, 0, 4 * sizeof(uint16_t));
		}
		if (round > 7) {
			assert_int_equal(m.cfg.desc[0].len, 0);
			assert_int_equal(m.cfg.desc[2].addr, 0);
		}
		assert_int_equal(model_pop(&m), 0);
		mock_put(&m.dev, 0, 0, 1);
		mock_publish_used(&m.dev);
		assert_int_equal(vio_vring_take(vr, &u, 1), 1);
	}
	close_ring(&m, vr);
}

static void indices_wrap_without_losing_or_repeating_a_request(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct model m;
		struct vio_vring *vr = open_ring(&m, 32, event_idx, false);
		struct vio_used u[8];
		uint32_t sent = 0, back = 0;

		vio_vring_park(vr);
		mock_park(&m.dev);
		while (back < 3 * 65536 + 100) {
			unsigned burst = 1 + sent % 7;

			for (unsigned i = 0; i < burst; i++)
				add(vr, 3, ++sent);
			assert_false(vio_vring_publish(
				vr)); /* the device polls: no kick, at any index */
			if (sent % 4096 < 8)
				mock_park(&m.dev);
			for (unsigned i = 0; i < burst; i++) {
				int head = model_pop(&m);

				assert_true(head >= 0);
				mock_put(&m.dev, (uint32_t)head, back + i, 1);
			}
			assert_false(mock_publish_used(
				&m.dev)); /* the driver polls: no notification, at any index */
			assert_int_equal(vio_vring_take(vr, u, 8), burst);
			for (unsigned i = 0; i < burst; i++) {
				assert_int_equal(u[i].len, back + i);
				assert_ptr_equal(u[i].token, &tokens[(back + i + 1) % 32768]);
			}
			back += burst;
		}
		close_ring(&m, vr);
	}
}

static void a_sleeping_device_is_kicked_once(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct model m;
		struct vio_vring *vr = open_ring(&m, 64, event_idx, false);
		struct vio_used u[16];

		mock_park(&m.dev);
		add(vr, 3, 1);
		assert_false(vio_vring_publish(vr));
		assert_true(mock_arm(&m.dev)); /* there is something: it must not sleep */
		mock_put(&m.dev, (uint32_t)model_pop(&m), 0, 1);
		assert_false(mock_arm(&m.dev));
		add(vr, 3, 2);
		add(vr, 3, 3);
		assert_true(vio_vring_publish(vr)); /* one for both */
		if (event_idx) {
			add(vr, 3, 4);
			assert_false(vio_vring_publish(vr)); /* it was kicked already */
		}
		(void)mock_publish_used(&m.dev);
		assert_int_equal(vio_vring_take(vr, u, 16), 1);
		close_ring(&m, vr);
	}
}

static void arming_reports_what_was_used_in_between(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct model m;
		struct vio_vring *vr = open_ring(&m, 64, event_idx, false);
		struct vio_used u[16];

		vio_vring_park(vr);
		add(vr, 3, 1);
		add(vr, 3, 2);
		vio_vring_publish(vr);
		mock_put(&m.dev, (uint32_t)model_pop(&m), 0, 1);
		assert_false(mock_publish_used(&m.dev));
		assert_true(vio_vring_arm(vr));
		assert_int_equal(vio_vring_take(vr, u, 16), 1);
		assert_false(vio_vring_arm(vr));
		mock_put(&m.dev, (uint32_t)model_pop(&m), 0, 1);
		assert_true(mock_publish_used(&m.dev));
		vio_vring_park(vr);
		assert_int_equal(vio_vring_take(vr, u, 16), 1);
		close_ring(&m, vr);
	}
}

static void reset_forgets_everything_and_zeroes_the_rings(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 64, true, true);
	struct vio_used u[8];

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		add(vr, 1 + i, i + 1);
	vio_vring_park(vr);
	vio_vring_publish(vr);
	vio_vring_reset(vr);
	assert_int_equal(vio_vring_outstanding(vr), 0);
	assert_int_equal(vio_vring_room(vr, 3), 16);
	assert_int_equal(vio_vring_take(vr, u, 8), 0);
	for (unsigned i = 0; i < 64; i++)
		assert_true(m.cfg.desc[i].addr == 0 && m.cfg.desc[i].len == 0 &&
			    m.cfg.avail->ring[i] == 0);
	assert_int_equal(m.cfg.avail->idx, 0);
	assert_int_equal(m.cfg.avail->ring[64], 0);
	add(vr, 7, 5);
	vio_vring_publish(vr);
	m.dev.next = 0;
	expect_chain(&m, model_pop(&m), 7, 5);
	close_ring(&m, vr);
}

static void the_same_request_is_written_again_after_a_reset(void **state)
{
	struct model m;
	struct vio_vring *vr = open_ring(&m, 64, false, true);

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		m.dev.next = 0;
		for (unsigned i = 0; i < 16; i++)
			add(vr, 1 + i, i + 1);
		vio_vring_publish(vr);
		for (unsigned i = 0; i < 16; i++)
			expect_chain(&m, model_pop(&m), 1 + i, i + 1);
		vio_vring_reset(vr);
	}
	close_ring(&m, vr);
}

/* ------------------------------------------------------- groups of one descriptor ---- */

static void single_descriptors_use_the_whole_table_and_four_chains_share_a_line(void **state)
{
	struct model m;
	struct vio_vring *vr = NULL;
	struct vio_err err;

	(void)state;
	model_init(&m, 64, true, false);
	m.cfg.group = 2;
	assert_int_equal(vio_vring_new(&m.cfg, &vr, &err), -EINVAL);
	m.cfg.group = 1;
	assert_int_equal(vio_vring_new(&m.cfg, &vr, &err), 0);
	assert_int_equal(vio_vring_room(vr, 1), 64);
	assert_int_equal(vio_vring_room(vr, 3), 21);
	for (unsigned i = 0; i < 64; i++)
		add(vr, 1, i);
	assert_int_equal(vio_vring_room(vr, 1), 0);
	assert_int_equal(vio_vring_add(vr, make(1, 99), 1, &tokens[0]), -ENOSPC);
	vio_vring_publish(vr);
	for (unsigned i = 0; i < 64; i++) {
		int head = model_pop(&m);

		assert_int_equal(head, i);
		expect_chain(&m, head, 1, i);
	}
	close_ring(&m, vr);
}

/*
 * In-order completion: the k-th chain always gets the same descriptor and entry, so neither is
 * written again.
 */
static void in_order_completion_leaves_available_entries_as_they_are(void **state)
{
	struct model m;
	struct vio_vring *vr = NULL;
	struct vio_err err;
	struct vio_used u[7];

	(void)state;
	model_init(&m, 16, true, false);
	m.cfg.group = 1;
	assert_int_equal(vio_vring_new(&m.cfg, &vr, &err), 0);
	for (unsigned i = 0; i < 16; i++)
		add(vr, 1, i);
	vio_vring_publish(vr);
	for (unsigned turn = 0; turn < 40; turn++) {
		for (unsigned i = 0; i < 7; i++)
			mock_put(&m.dev, (uint32_t)model_pop(&m), 0, 1);
		mock_publish_used(&m.dev);
		assert_int_equal(vio_vring_take(vr, u, 7), 7);
		memset(m.cfg.avail->ring, 0xee, sizeof(m.cfg.avail->ring[0]) * 16);
		for (unsigned i = 0; i < 7; i++)
			add(vr, 1, (7 * turn + i) % 16);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(m.cfg.avail->ring[i], 0xeeee);
		for (uint16_t i = 0; i < 16; i++)
			m.cfg.avail->ring[i] = vio_le16(i);
		vio_vring_publish(vr);
	}
	close_ring(&m, vr);
}

static void single_descriptors_survive_mixed_lengths_out_of_order(void **state)
{
	struct model m;
	struct vio_vring *vr = NULL;
	struct vio_err err;
	struct vio_used u;
	int head[32];
	uint64_t salt[32], next = 1;
	unsigned len[32], n = 0, free_descs = 32;

	(void)state;
	model_init(&m, 32, false, false);
	m.cfg.group = 1;
	assert_int_equal(vio_vring_new(&m.cfg, &vr, &err), 0);
	srand(7);
	for (unsigned turn = 0; turn < 20000; turn++) {
		unsigned k = 1 + (unsigned)rand() % 6;

		if (rand() % 2 && k <= free_descs) {
			assert_true(vio_vring_room(vr, k) > 0);
			add(vr, k, next);
			vio_vring_publish(vr);
			head[n] = model_pop(&m);
			expect_chain(&m, head[n], k, next);
			salt[n] = next++;
			len[n++] = k;
			free_descs -= k;
		} else if (n > 0) {
			unsigned i = (unsigned)rand() % n;

			mock_put(&m.dev, (uint32_t)head[i], 0, 1);
			mock_publish_used(&m.dev);
			assert_int_equal(vio_vring_take(vr, &u, 1), 1);
			assert_ptr_equal(u.token, &tokens[salt[i] % 32768]);
			free_descs += len[i];
			n--;
			head[i] = head[n];
			salt[i] = salt[n];
			len[i] = len[n];
		}
		assert_int_equal(vio_vring_room(vr, 1), free_descs);
	}
	close_ring(&m, vr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_sizes_and_alignments_are_refused),
		cmocka_unit_test(a_request_is_invisible_until_it_is_published),
		cmocka_unit_test(a_short_chain_lies_in_one_cache_line),
		cmocka_unit_test(room_and_enospc_agree_for_every_length),
		cmocka_unit_test(chains_without_segments_or_token_or_too_long_are_refused),
		cmocka_unit_test(long_chains_survive_reuse_of_shuffled_groups),
		cmocka_unit_test(every_field_that_changes_reaches_the_device),
		cmocka_unit_test(a_repeated_request_writes_no_descriptor_and_no_available_entry),
		cmocka_unit_test(indices_wrap_without_losing_or_repeating_a_request),
		cmocka_unit_test(a_sleeping_device_is_kicked_once),
		cmocka_unit_test(arming_reports_what_was_used_in_between),
		cmocka_unit_test(reset_forgets_everything_and_zeroes_the_rings),
		cmocka_unit_test(the_same_request_is_written_again_after_a_reset),
		cmocka_unit_test(
			single_descriptors_use_the_whole_table_and_four_chains_share_a_line),
		cmocka_unit_test(in_order_completion_leaves_available_entries_as_they_are),
		cmocka_unit_test(single_descriptors_survive_mixed_lengths_out_of_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
