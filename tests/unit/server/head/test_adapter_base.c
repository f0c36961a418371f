/* SPDX-License-Identifier: BSD-3-Clause */
/* Queues that go on where an earlier server left off, and those that can't. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_blk.h>
#include "adapter_world.h"

#define NEEDED (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM)

/* A queue whose earlier server has taken and given back 6 chains; the driver has seen 5 of them. */
static void goes_on(struct aw *w, enum vio_ring_access ring, enum vio_payload payload)
{
	struct mock *r = &w->ring[0];

	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, NEEDED, ring, payload, VIO_NOTIFY_CRQ), VIO_ST_OK);
	if (ring == VIO_RING_DIRECT)
		aw_windows(w);
	aw_queue(w, 0);
	mock_store(r, MOCK_USED, 4 + 5 * 8, 4, 12);
	mock_store(r, MOCK_USED, 2, 2, 6);
	mock_store(r, MOCK_AVAIL, 2, 2, 6);
	r->next = r->published = 6;
	r->used = 5;
	assert_int_equal(
		aw_step(w, (struct vio_msg){.op = VIO_OP_QUEUE, .arg8 = VIO_QUEUE_BASE, .arg = 6}),
		0xff);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_OK);
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(mock_load(r, MOCK_USED, 2, 2), 7);
	assert_int_equal(mock_load(r, MOCK_USED, 4 + 5 * 8, 4), 12);
	assert_int_equal(aw_used(w, 0), 2);
}

static void a_queue_with_a_base_goes_on_there_in_place(void **state)
{
	goes_on(*state, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT);
}

static void
a_queue_with_a_base_goes_on_there_and_a_copied_used_ring_keeps_what_was_not_taken(void **state)
{
	goes_on(*state, VIO_RING_COPY, VIO_PAYLOAD_RDMA);
}

static void base_refused(struct aw *w, uint64_t layout, uint64_t base, uint8_t why)
{
	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(
		aw_features(w, NEEDED | layout, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ),
		VIO_ST_OK);
	assert_int_equal(
		aw_step(w,
			(struct vio_msg){.op = VIO_OP_QUEUE, .arg8 = VIO_QUEUE_BASE, .arg = base}),
		why);
	assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
}

static void a_base_that_is_no_index_stops_the_device(void **state)
{
	base_refused(*state, 0, 1u << 16, VIO_ST_QUEUE);
}

/* Where a batch has one used element, or descriptors are overwritten, an index says not what is in flight. */
static void a_base_in_a_packed_ring_stops_the_device(void **state)
{
	base_refused(*state, 1ull << VIRTIO_F_RING_PACKED, 6, VIO_ST_QUEUE);
}

static void a_base_in_order_stops_the_device(void **state)
{
	base_refused(*state, 1ull << VIRTIO_F_IN_ORDER, 6, VIO_ST_QUEUE);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, aw_setup, aw_teardown)
	const struct CMUnitTest tests[] = {
		T(a_queue_with_a_base_goes_on_there_in_place),
		T(a_queue_with_a_base_goes_on_there_and_a_copied_used_ring_keeps_what_was_not_taken),
		T(a_base_that_is_no_index_stops_the_device),
		T(a_base_in_a_packed_ring_stops_the_device),
		T(a_base_in_order_stops_the_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
