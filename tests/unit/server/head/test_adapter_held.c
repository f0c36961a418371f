/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk that has stopped holds requests; whatever else its guest or its server does meanwhile neither waits nor hangs. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_blk.h>

#include "adapter_world.h"
#include "server/dev/blk/blk_priv.h"
#include "vio/atomics.h"

#define OWN 0x200000ull /* a window of buffers of its own */

static const struct {
	enum vio_ring_access ring;
	enum vio_payload payload;
	enum vio_notification notify;
} arms[] = {
	{VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL},
	{VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ},
	{VIO_RING_COPY_DELTA, VIO_PAYLOAD_RDMA, VIO_NOTIFY_SUPPRESS},
};

/* Before the guest's queue is one of another lcore, which reads it. */
static void errors_stop_it(struct aw *w)
{
	w->b.be.rerror = VIO_ON_ERROR_STOP;
}

static void reads_fail(struct aw *w, int result)
{
	vio_store_relaxed(&w->b.fail, result);
}

static const struct vio_squeue *queue(struct aw *w)
{
	return vio_adapter_queue(w->a, 0);
}

/* A guest with n requests that wait. */
static void stopped(struct aw *w, unsigned arm, unsigned n)
{
	aw_guest(w, 2);
	errors_stop_it(w);
	aw_bring_up(w, arms[arm].ring, arms[arm].payload, arms[arm].notify);
	reads_fail(w, -EIO);
	for (unsigned i = 0; i < n; i++)
		aw_request(w, 0);
	aw_run(w);
	aw_run(w);
	assert_int_equal(aw_used(w, 0), 0);
	assert_int_equal(queue(w)->in_flight, n);
	assert_int_equal(queue(w)->parked, n);
	vio_store_relaxed(&w->b.fail, 0);
}

static void resume(struct aw *w)
{
	const char *answer;

	assert_true(vio_kind_disk.resume(&w->disk.dev, &answer));
	vio_adapter_wake(w->a);
	aw_run(w);
}

static void rescind_all(struct aw *w)
{
	for (unsigned i = 0; i < 3; i++)
		h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[i]);
}

static void works(struct aw *w, unsigned arm)
{
	aw_bring_up(w, arms[arm].ring, arms[arm].payload, arms[arm].notify);
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(aw_used(w, 0), 1);
}

static void a_disk_that_goes_on_answers_all_that_waited(void **state)
{
	struct aw *w = *state;

	stopped(w, 0, 3);
	resume(w);
	assert_int_equal(aw_used(w, 0), 3);
	for (unsigned i = 0; i < 3; i++)
		assert_memory_equal(w->gmem + AW_BUF + 0x1000 * i + 0x200, w->b.disk, 512);
	assert_int_equal(queue(w)->in_flight, 0);
}

static void windows_come_and_go_though_requests_wait(void **state)
{
	struct aw *w = *state;
	uint64_t cookie;

	stopped(w, 0, 2);
	assert_int_equal(
		aw_window(w, OWN, 0x1000, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS, &cookie),
		VIO_ST_OK);
	assert_int_equal(
		aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = w->last.arg16}),
		VIO_ST_OK);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, cookie), H_SUCCESS);
	assert_int_equal(w->b.adds_in_flight, 0);
	assert_int_equal(queue(w)->parked, 2);
	resume(w);
	assert_int_equal(aw_used(w, 0), 2);
}

/* Like aw_request(), with its data in the window OWN. */
static void request_into_own(struct aw *w)
{
	const struct virtio_blk_outhdr hdr = {.type = vio_le32(VIRTIO_BLK_T_IN)};
	const struct mock_seg seg[] = {{.at = aw_at(w, AW_BUF).v, .len = 16},
				       {aw_at(w, OWN).v, 512, .dev_writes = true},
				       {aw_at(w, AW_BUF + 16).v, 1, .dev_writes = true}};

	memcpy(w->gmem + AW_BUF, &hdr, sizeof(hdr));
	w->gmem[AW_BUF + 16] = 0xee;
	mock_add(&w->ring[0], 0, seg, VIO_ARRAY_SIZE(seg));
	mock_publish(&w->ring[0]);
	aw_run(w);
}

static void
a_request_whose_window_went_while_it_waited_fails_and_its_pages_are_not_touched(void **state)
{
	struct aw *w = *state;
	uint64_t cookie;

	/* Once it failed and is held, once it comes to a disk that has stopped already. */
	for (unsigned early = 0; early < 2; early++) {
		aw_guest(w, 2);
		errors_stop_it(w);
		aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
		assert_int_equal(aw_window(w, OWN, 0x1000, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS,
					   &cookie),
				 VIO_ST_OK);
		reads_fail(w, -EIO);
		if (early)
			vio_store_relaxed(&w->disk.stopped, 5);
		request_into_own(w);
		assert_int_equal(queue(w)->parked, 1);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_DEL,
							     .arg16 = w->last.arg16}),
				 VIO_ST_OK);
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, cookie), H_SUCCESS);
		memset(w->gmem + OWN, 0x77, 512);
		reads_fail(w, 0);
		resume(w);
		assert_int_equal(aw_used(w, 0), 1);
		assert_int_equal(w->gmem[AW_BUF + 16], VIRTIO_BLK_S_IOERR);
		for (unsigned i = 0; i < 512; i++)
			assert_int_equal(w->gmem[OWN + i], 0x77);
		assert_int_equal(w->fsm.state, VIO_G_RUNNING);
		assert_int_equal(h_free_crq(w->gv, w->gu->unit), H_SUCCESS);
		aw_run(w);
		rescind_all(w);
	}
}

static void a_reset_drops_what_waits_and_the_next_life_finds_a_disk_that_runs(void **state)
{
	struct aw *w = *state;
	static uint8_t before[AW_BUFLEN];

	for (unsigned arm = 0; arm < VIO_ARRAY_SIZE(arms); arm++) {
		stopped(w, arm, 3);
		memcpy(before, w->gmem + AW_BUF, sizeof(before));
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		assert_int_equal(w->b.queues_open, 0);
		assert_int_equal(w->disk.stopped, 0);
		aw_run(w);
		assert_int_equal(aw_used(w, 0), 0);
		assert_memory_equal(w->gmem + AW_BUF, before, sizeof(before));
		rescind_all(w);
		works(w, arm);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		rescind_all(w);
		assert_int_equal(h_free_crq(w->gv, w->gu->unit), H_SUCCESS);
		aw_run(w);
	}
}

static void a_guest_that_dies_with_requests_that_wait_is_forgotten(void **state)
{
	struct aw *w = *state;

	for (unsigned arm = 0; arm < VIO_ARRAY_SIZE(arms); arm++) {
		stopped(w, arm, 3);
		/* As when a process is killed and the server notices within the grace: its CRQ goes first. */
		assert_int_equal(h_free_crq(w->gv, w->gu->unit), H_SUCCESS);
		aw_run(w);
		if (arms[arm].ring == VIO_RING_DIRECT)
			rescind_all(w);
		else
			aw_guest_gone(w);
		aw_run(w);
		assert_false(vio_adapter_busy(w->a));
		assert_int_equal(w->b.queues_open, 0);
		assert_int_equal(w->disk.stopped, 0);
	}
	aw_guest(w, 2);
	works(w, 0);
}

static void a_server_that_ends_does_not_wait_for_what_waits(void **state)
{
	struct aw *w = *state;

	stopped(w, 0, 3);
	vio_adapter_stop(w->a);
	aw_run(w);
	assert_false(vio_adapter_busy(w->a));
	assert_int_equal(aw_used(w, 0),
			 0); /* not acknowledged: the guest sends them to the next server */
}

static void pages_taken_back_by_force_end_the_device_and_not_the_call(void **state)
{
	struct aw *w = *state;
	int64_t rc = H_PARTIAL;

	stopped(w, 0, 3);
	w->b.forced = true;
	for (unsigned i = 0; i < 1000 && rc != H_SUCCESS; i++) {
		rc = h_rescind_logical(w->gv, RESCIND_FORCED, w->cookie[2]);
		aw_run(w);
		sched_yield();
	}
	assert_int_equal(rc, H_SUCCESS);
	assert_int_equal(w->fsm.state, VIO_G_BROKEN);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
}

/* With a lcore of their own: stops, withdrawals and resumptions in all orders. */
static void stops_and_resumptions_beside_another_lcore_lose_nothing(void **state)
{
	struct aw *w = *state;
	const char *answer;

	errors_stop_it(w);
	aw_second_lcore(w);
	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	for (unsigned i = 0; i < 100; i++) {
		struct vio_window_desc d;
		struct vio_msg m = {.op = VIO_OP_WINDOW_ADD, .arg = aw_at(w, AW_WDESC).v};
		uint64_t cookie = aw_grant(w, 0, OWN, 0x1000);
		unsigned used = 0, messages = w->messages;

		d = aw_wdesc(w, OWN, 0x1000, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS, cookie);
		memcpy(w->gmem + AW_WDESC, &d, sizeof(d));
		reads_fail(w, i % 2 ? -EIO : 0);
		aw_request(w, 0);
		aw_request(w, 0);
		assert_int_equal(vio_gfsm_tx(&w->fsm, &m), 0);
		aw_send_raw(w, m);
		for (unsigned k = 0; k < 100000 && (used < 2 || w->messages == messages); k++) {
			aw_run(w);
			if (k % 3 == i % 3) {
				vio_store_relaxed(&w->b.fail, 0);
				if (vio_kind_disk.resume(&w->disk.dev, &answer))
					vio_adapter_wake(w->a);
			}
			used += aw_used(w, 0);
			sched_yield();
		}
		assert_int_equal(used, 2);
		assert_int_equal(w->last.status, VIO_ST_OK);
		m = (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = w->last.arg16};
		messages = w->messages;
		assert_int_equal(vio_gfsm_tx(&w->fsm, &m), 0);
		aw_send_raw(w, m);
		for (unsigned k = 0; k < 100000 && w->messages == messages; k++) {
			aw_run(w);
			sched_yield();
		}
		assert_int_equal(w->last.status, VIO_ST_OK);
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, cookie), H_SUCCESS);
	}
	assert_int_equal(w->b.adds_in_flight, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, aw_setup, aw_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_disk_that_goes_on_answers_all_that_waited),
		T(windows_come_and_go_though_requests_wait),
		T(a_request_whose_window_went_while_it_waited_fails_and_its_pages_are_not_touched),
		T(a_reset_drops_what_waits_and_the_next_life_finds_a_disk_that_runs),
		T(a_guest_that_dies_with_requests_that_wait_is_forgotten),
		T(a_server_that_ends_does_not_wait_for_what_waits),
		T(pages_taken_back_by_force_end_the_device_and_not_the_call),
		T(stops_and_resumptions_beside_another_lcore_lose_nothing),
	};

	return cmocka_run_group_tests_name("server/adapter_held", tests, NULL, NULL);
}
