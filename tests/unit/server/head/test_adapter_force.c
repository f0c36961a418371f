/* SPDX-License-Identifier: BSD-3-Clause */
/* Grants that a guest takes back by force, or punches holes into: it loses its device, and nobody else anything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>

#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/server/fault_guard.h"
#include "phyp/core/hv.h"
#include "window_test.h"

/* ------------------------------------------------------------------------ taken by force ---- */

/* The server's turns are this thread's: so it is told to wait until they have come. */
static void take_back_by_force(struct aw *w, uint64_t cookie)
{
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_FORCED, cookie), H_PARTIAL);
	aw_run(w);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_FORCED, cookie), H_SUCCESS);
}

static void a_grant_taken_back_by_force_stops_the_device_and_a_reset_is_answered(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	for (unsigned i = 0; i < 3; i++) {
		aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_RDMA, VIO_NOTIFY_POLL);
		w->b.forced = true;
		take_back_by_force(w, w->cookie[2]);
		assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
		assert_int_equal(w->last.status, VIO_ST_RESCINDED);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[k]),
					 H_SUCCESS);
	}
}

static void a_window_that_no_running_device_has_is_taken_back_by_force_and_withdrawn(void **state)
{
	struct aw *w = *state;
	uint64_t cookie;

	up_to_features(w);
	assert_int_equal(aw_window(w, AW_BUF, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, &cookie),
			 VIO_ST_OK);
	take_back_by_force(w, cookie);
	assert_int_equal(
		aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = w->last.arg16}),
		VIO_ST_OK);
}

/* The backend holds a pointer to the pages, as the kernel does for O_DIRECT. */
static void a_forced_rescind_says_success_while_the_backend_has_the_pages(void **state)
{
	struct aw *w = *state;
	uint8_t status;
	int64_t rc;

	aw_guest(w, 2);
	for (unsigned second = 0; second < 2; second++) {
		/* And so that the lcore with the requests is not the adapter's. */
		if (second)
			aw_second_lcore(w);
		aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
		w->b.forced = true;
		vio_store_relaxed(&w->b.slow, true);
		aw_request(w, 0);
		while (vio_load_acquire(&vio_adapter_queue(w->a, 0)->in_flight) == 0)
			aw_turn(w);
		for (unsigned i = 0; i < 20; i++) {
			assert_int_equal(h_rescind_logical(w->gv, RESCIND_FORCED, w->cookie[2]),
					 H_PARTIAL);
			aw_run(w);
		}
		/* Meanwhile the device is stopped: nothing new begins on them. */
		assert_int_equal(w->last.status, VIO_ST_RESCINDED);
		fault_guard_begin(w->a); /* of what the test's backend copies with the CPU */
		vio_store_relaxed(&w->b.slow, false);
		while (vio_load_acquire(&vio_adapter_queue(w->a, 0)->in_flight) != 0)
			aw_turn(w);
		aw_run(w);
		fault_guard_end();
		/* The other lcore passes its quiescent states when it is scheduled. */
		while ((rc = h_rescind_logical(w->gv, RESCIND_FORCED, w->cookie[2])) == H_PARTIAL)
			aw_run(w);
		assert_int_equal(rc, H_SUCCESS);
		status = aw_step(w, (struct vio_msg){.op = VIO_OP_RESET});
		while (status == 0xff) {
			aw_run(w);
			if (w->last.op == (VIO_OP_RESET | VIO_OP_REPLY))
				status = w->last.status;
		}
		assert_int_equal(status, VIO_ST_OK);
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[k]),
					 H_SUCCESS);
	}
}

static void a_request_that_no_lcore_has_shown_yet_is_missed_by_a_forced_rescind(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	w->b.forced = true;
	w->lcores_stuck = true; /* in the middle of a turn: in_flight may not show all */
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_FORCED, w->cookie[2]), H_PARTIAL);
		aw_run(w);
	}
	w->lcores_stuck = false;
	aw_run(w);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_FORCED, w->cookie[2]), H_SUCCESS);
}

static void a_grant_taken_back_by_force_in_use_costs_the_guest_its_device_only(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	for (unsigned i = 0; i < 3; i++) {
		aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
		w->b.forced = true;
		fault_guard_begin(w->a);
		/* Before the adapter's lcore has heard of it, a queue's touches it. */
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_FORCED, w->cookie[i]), H_PARTIAL);
		aw_request(w, 0);
		for (unsigned turn = 0; turn < 8; turn++)
			vio_squeue_poll(w->polled[0]);
		aw_run(w);
		fault_guard_end();
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_FORCED, w->cookie[i]), H_SUCCESS);
		assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
		assert_int_equal(w->last.status, VIO_ST_RESCINDED);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		for (unsigned k = 0; k < 3; k++) {
			if (k != i)
				assert_int_equal(
					h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[k]),
					H_SUCCESS);
		}
	}
}

/* What a hole in a granted large page is to the server when the machine has no such page left. */
static void punch(struct aw *w, uint64_t cookie)
{
	const struct hv_acc *x = w->sp->acc;
	int fd = memfd_create("hole", MFD_CLOEXEC);

	while (x->cookie != cookie)
		x++;
	assert_ptr_not_equal(mmap(w->sp->acc_va + x->off, x->len, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED, fd, 0),
			     MAP_FAILED);
	close(fd);
}

static void a_hole_in_granted_memory_costs_the_guest_its_device_only(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	for (unsigned i = 0; i < 3; i++) {
		aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
		fault_guard_begin(w->a);
		punch(w, w->cookie[i]);
		aw_request(w, 0);
		aw_run(w);
		fault_guard_end();
		assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
		assert_int_equal(w->last.status, VIO_ST_RESCINDED);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		for (unsigned k = 0; k < 3; k++)
			assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[k]),
					 H_SUCCESS);
	}
}

static void the_place_of_a_grant_lost_by_force_is_not_given_away_before_its_return(void **state)
{
	struct aw *w = *state;
	uint64_t first, second, len, flags;
	struct gla a, b;

	first = aw_grant(w, 0, AW_BUF, AW_BUFLEN);
	assert_int_equal(h_accept_logical(w->sv, first, &a, &len, &flags), H_SUCCESS);
	take_back_by_force(w, first);
	assert_null(phyp_mem(w->sp, a, 1));
	second = aw_grant(w, 0, 0x300000, AW_BUFLEN);
	assert_int_equal(h_accept_logical(w->sv, second, &b, &len, &flags), H_SUCCESS);
	assert_true(a.v != b.v);
	assert_int_equal(h_return_logical(w->sv, first), H_RESCINDED);
	assert_int_equal(h_return_logical(w->sv, second), H_SUCCESS);
}

#define T(f) cmocka_unit_test_setup_teardown(f, aw_setup, aw_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_grant_taken_back_by_force_stops_the_device_and_a_reset_is_answered),
		T(a_window_that_no_running_device_has_is_taken_back_by_force_and_withdrawn),
		T(a_forced_rescind_says_success_while_the_backend_has_the_pages),
		T(a_request_that_no_lcore_has_shown_yet_is_missed_by_a_forced_rescind),
		T(a_grant_taken_back_by_force_in_use_costs_the_guest_its_device_only),
		T(a_hole_in_granted_memory_costs_the_guest_its_device_only),
		T(the_place_of_a_grant_lost_by_force_is_not_given_away_before_its_return),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
