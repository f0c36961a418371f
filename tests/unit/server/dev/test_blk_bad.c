/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk: addresses and chains that are wrong, room that is short, a queue that is stopped. */
#include "tests/unit/server/dev/blk_test.h"

/* -------------------------------------------------------------------------- faults ---- */

static void expect_fault(struct world *w, unsigned way, uint8_t want, const char *what)
{
	uint32_t id, len;

	/* A good request published before it is still answered. */
	w_blk(w, 8, VIRTIO_BLK_T_IN, 0, HDR + 0x100, DATA, 512);
	w_avail(w, 8);
	w_avail(w, 0);
	w_publish(w);
	w_run(w);
	if (w->q->fault != want)
		fail_msg("%s, %s: fault %u, not %u", ways[way].name, what, w->q->fault, want);
	assert_int_equal(w->q->fault_detail, 0);
	assert_true(w_used(w, &id, &len));
	assert_int_equal(id, 8);
	assert_false(w_used(w, &id, &len));
	/* Stopped means stopped. */
	w_blk(w, 16, VIRTIO_BLK_T_IN, 0, HDR + 0x200, DATA, 512);
	w_avail(w, 16);
	w_publish(w);
	w_run(w);
	assert_false(w_used(w, &id, &len));
	assert_int_equal(w->gmem[HDR + 0x210], 0xee);
	assert_int_equal(w->q->in_flight, 0);
}

static void bad_addresses_stop_the_queue_and_say_which_rule(void **state)
{
	struct world *w = *state;
	const uint32_t in = VIRTIO_BLK_T_IN, out = VIRTIO_BLK_T_OUT;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, W_HOLE, 512);
		expect_fault(w, way, way >= 2 ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE,
			     "data nowhere"); /* no TCE: no access */
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, W_RO, 512);
		expect_fault(w, way, VIO_ST_DESC_PERM, "read into a read-only pane");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, W_RO - 512, 1024);
		assert_true(w->q->fault == VIO_ST_OK);
		expect_fault(w, way, way >= 2 ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE,
			     "over a window's end");
		fresh(w, way);
		w_blk(w, 0, out, 0, HDR, W_HOLE - 512, 1024);
		expect_fault(w, way, way >= 2 ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE,
			     "over the mapped end");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, DATA, 512);
		w->desc[1].addr = vio_le64(UINT64_MAX - 100);
		expect_fault(w, way, VIO_ST_DESC_RANGE, "an address that wraps");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, DATA, 512);
		w->desc[1].addr = vio_le64(8); /* below the DMA window */
		expect_fault(w, way, VIO_ST_DESC_RANGE, "outside the DMA window");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, DATA, 512);
		w->desc[0].addr = vio_le64(w_at(w, W_HOLE).v);
		expect_fault(w, way, way >= 2 ? VIO_ST_DESC_PERM : VIO_ST_DESC_RANGE,
			     "header nowhere");
		fresh(w, way);
		w_blk(w, 0, in, 0, HDR, DATA, 512);
		w->desc[2].addr = vio_le64(w_at(w, W_RO).v);
		expect_fault(w, way, VIO_ST_DESC_PERM, "status into a read-only pane");
	}
}

static void a_request_without_header_or_status_needs_a_reset(void **state)
{
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way++) {
		fresh(w, way);
		w_blk(w, 0, VIRTIO_BLK_T_IN, 0, HDR, DATA, 512);
		w->desc[0].len = vio_le32(15);
		expect_fault(w, way, VIO_ST_REQUEST, "15 bytes of header");
		fresh(w, way);
		w_desc(w, 0, DATA, 512, VRING_DESC_F_WRITE, 0);
		expect_fault(w, way, VIO_ST_REQUEST, "no readable part");
		fresh(w, way);
		w_blk(w, 0, VIRTIO_BLK_T_OUT, 0, HDR, DATA, 512);
		w->desc[1].flags = 0; /* the chain ends before the status */
		expect_fault(w, way, VIO_ST_REQUEST, "no status byte");
	}
}

/* ------------------------------------------------------------------- bounce space ---- */

static void requests_wait_for_bounce_room_and_none_is_lost(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = {
		.ring = VIO_RING_DIRECT,
		.payload = VIO_PAYLOAD_RDMA,
		.notify = VIO_NOTIFY_POLL,
		.size = 256,
		.event_idx = true,
	};
	uint8_t seen[256] = {0};
	unsigned n = 0;
	uint32_t id, len;

	cfg.local = VIO_RDMA_LOCAL_BYTES; /* room for one request of the largest size */
	w_queue(w, &cfg);
	w->b.async = true;
	for (uint16_t h = 0; h < 60; h++) {
		uint32_t bytes = h % 7 == 3 ? VIO_MAX_DATA : h % 5 == 0 ? 256u << 10 : 4096;

		w_blk(w, (uint16_t)(4 * h), h % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, 0,
		      HDR + 0x40ull * h, DATA, bytes);
		w_avail(w, (uint16_t)(4 * h));
	}
	w_publish(w);
	for (unsigned turn = 0; turn < 1000 && n < 60; turn++) {
		w->b.async = turn % 2 == 0; /* odd turns: the disk finishes what it has */
		vio_squeue_poll(w->q);
		for (; w_used(w, &id, &len); n++) {
			assert_int_equal(seen[id]++, 0);
			assert_int_equal(
				id,
				4 * n); /* this disk keeps the order, so waiting must have kept it */
			assert_int_equal(w->gmem[HDR + 0x40ull * (id / 4) + 16], VIRTIO_BLK_S_OK);
		}
		assert_true(w->b.n_held <= VIO_MAX_DATA / 4096);
	}
	assert_int_equal(n, 60);
	assert_int_equal(w->q->in_flight, 0);
}

static void a_stopped_queue_drains_without_touching_the_guest(void **state)
{
	struct world *w = *state;

	for (unsigned way = 0; way < VIO_ARRAY_SIZE(ways); way += 2) {
		static uint8_t before[W_RO];
		struct vio_squeue *q;

		fresh(w, way);
		q = w->q;
		w->b.async = true;
		for (uint16_t h = 0; h < 8; h++) {
			w_blk(w, (uint16_t)(4 * h), VIRTIO_BLK_T_IN, 0, HDR + 0x40ull * h, DATA,
			      VIO_MAX_DATA);
			w_avail(w, (uint16_t)(4 * h));
		}
		w_publish(w);
		vio_squeue_poll(q);
		assert_int_equal(q->in_flight, 8);
		assert_true(vio_squeue_arm(q)); /* in flight: no sleep */
		w->b.async = false;
		vio_store_release(&q->ctl, VIO_SQ_STOP);
		w->b.fail = -EIO; /* (the test's disk copies in place else) */
		memcpy(before, w->gmem, sizeof(before));
		for (unsigned turn = 0; turn < 10; turn++)
			vio_squeue_poll(q);
		assert_int_equal(vio_load_acquire(&q->in_flight), 0);
		assert_memory_equal(before, w->gmem, sizeof(before));
		assert_false(vio_squeue_arm(q));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_addresses_stop_the_queue_and_say_which_rule),
		cmocka_unit_test(a_request_without_header_or_status_needs_a_reset),
		cmocka_unit_test(requests_wait_for_bounce_room_and_none_is_lost),
		cmocka_unit_test(a_stopped_queue_drains_without_touching_the_guest),
	};

	return cmocka_run_group_tests_name("server/blk", tests, w_setup, w_teardown);
}
