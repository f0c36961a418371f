/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The adapter on one thread, its queues on another: what they share is seen in the right order (run
 * under ThreadSanitizer), and nothing is taken away while the other still works on it.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "adapter_world.h"
#include "vio/atomics.h"

/* Turns of the adapter's lcore until `n` requests came back. */
static void until_used(struct aw *w, unsigned n)
{
	unsigned got = 0;

	for (unsigned i = 0; i < 1000000 && got < n; i++) {
		aw_turn(w);
		got += aw_used(w, 0);
		sched_yield();
	}
	assert_int_equal(got, n);
}

static uint8_t step(struct aw *w, struct vio_msg m)
{
	unsigned before = w->messages;

	assert_int_equal(vio_gfsm_tx(&w->fsm, &m), 0);
	aw_send_raw(w, m);
	for (unsigned i = 0; i < 1000000 && w->messages == before; i++) {
		aw_run(w);
		sched_yield();
	}
	assert_int_not_equal(w->messages, before);
	return w->last.status;
}

static void windows_come_and_go_while_another_lcore_works(void **state)
{
	struct aw *w = *state;

	aw_second_lcore(w);
	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t cookie = aw_grant(w, 0, 0x200000, 0x1000);
		struct vio_window_desc d =
			aw_wdesc(w, 0x200000, 0x1000, TCE_READ | TCE_WRITE,
				 i % 2 ? VIO_WINDOW_BUFFERS : VIO_WINDOW_RINGS, cookie);

		aw_request(w, 0);
		aw_request(w, 0);
		memcpy(w->gmem + AW_WDESC, &d, sizeof(d));
		assert_int_equal(step(w, (struct vio_msg){.op = VIO_OP_WINDOW_ADD,
							  .arg = aw_at(w, AW_WDESC).v}),
				 VIO_ST_OK);
		aw_request(w, 0);
		assert_int_equal(
			step(w, (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = w->last.arg16}),
			VIO_ST_OK);
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, cookie), H_SUCCESS);
		until_used(w, 3);
	}
}

static void resets_in_the_middle_of_requests_leave_nothing(void **state)
{
	struct aw *w = *state;

	aw_second_lcore(w);
	aw_guest(w, 2);
	for (unsigned i = 0; i < 30; i++) {
		enum vio_ring_access ring = i % VIO_N_RING;

		aw_bring_up(w, ring,
			    ring == VIO_RING_DIRECT ? VIO_PAYLOAD_DIRECT : VIO_PAYLOAD_RDMA,
			    i / 3 % VIO_N_NOTIFY);
		for (unsigned k = 0; k < 1 + i % 4; k++)
			aw_request(w, 0);
		if (i % 2)
			until_used(w, 1 + i % 4);
		assert_int_equal(step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		assert_int_equal(w->b.queues_open, 0);
		for (unsigned k = 0; ring == VIO_RING_DIRECT && k < 3; k++)
			assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[k]),
					 H_SUCCESS);
	}
}

static void a_fault_on_another_lcore_reaches_the_guest(void **state)
{
	struct aw *w = *state;

	aw_second_lcore(w);
	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	mock_store_release(&w->ring[0], MOCK_AVAIL, 2, 2, 500);
	for (unsigned i = 0; i < 100000 && w->fsm.state != VIO_G_BROKEN; i++) {
		aw_run(w);
		sched_yield();
	}
	assert_int_equal(w->fsm.state, VIO_G_BROKEN);
	assert_int_equal(w->last.status, VIO_ST_AVAIL_IDX);
	assert_int_equal(step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
}

#define T(f) cmocka_unit_test_setup_teardown(f, aw_setup, aw_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(windows_come_and_go_while_another_lcore_works),
		T(resets_in_the_middle_of_requests_leave_nothing),
		T(a_fault_on_another_lcore_reaches_the_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
