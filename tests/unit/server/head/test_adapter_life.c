/* SPDX-License-Identifier: BSD-3-Clause */
/* Resets, restarts, deaths, lies, and the end: what was begun is finished, and the device works again. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_blk.h>

#include "adapter_world.h"
#include "vio/atomics.h"

#define NEEDED (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM)

static void zero_copy(struct aw *w)
{
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
}

static void works(struct aw *w)
{
	memset(w->gmem + AW_BUF, 0, AW_BUFLEN);
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(aw_used(w, 0), 1);
	assert_memory_equal(w->gmem + AW_BUF + 0x200, w->b.disk, 512);
}

static void send_only(struct aw *w, struct vio_msg m)
{
	assert_int_equal(vio_gfsm_tx(&w->fsm, &m), 0);
	aw_send_raw(w, m);
}

static void rescind_all(struct aw *w)
{
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[i]), H_SUCCESS);
}

static void
a_reset_is_answered_when_the_backend_has_finished_and_touches_nothing_after(void **state)
{
	struct aw *w = *state;
	unsigned before;

	aw_guest(w, 2);
	zero_copy(w);
	w->b.slow = true;
	aw_request(w, 0);
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(w->b.n_held, 2);
	before = w->messages;
	send_only(w, (struct vio_msg){.op = VIO_OP_RESET});
	aw_run(w);
	assert_int_equal(w->messages, before);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[0]), H_RESOURCE);
	w->b.slow = false;
	aw_run(w);
	assert_int_equal(w->last.op, VIO_OP_RESET | VIO_OP_REPLY);
	assert_int_equal(w->fsm.state, VIO_G_IDLE);
	assert_int_equal(aw_used(w, 0),
			 0); /* dropped, not given back into rings that are not ours any more */
	assert_int_equal(w->b.queues_open, 0);
	rescind_all(w);
	zero_copy(w);
	works(w);
}

static void a_guest_that_starts_anew_is_greeted_when_nothing_of_the_past_is_touched(void **state)
{
	struct aw *w = *state;
	uint64_t hi, lo;

	aw_guest(w, 2);
	zero_copy(w);
	w->b.slow = true;
	aw_request(w, 0);
	aw_run(w);
	w->link_event = VIO_LINK_IGNORED;
	vio_link_init(&w->link, w->link.era);
	vio_gfsm_init(&w->fsm, 2);
	vio_link_hello(&w->link, &hi, &lo);
	assert_int_equal(h_send_crq(w->gv, w->gu->unit, hi, lo), H_SUCCESS);
	aw_run(w);
	assert_int_equal(w->link.state, VIO_LINK_DOWN); /* no INIT COMPLETE yet */
	w->b.slow = false;
	aw_run(w);
	assert_int_equal(w->link.state, VIO_LINK_UP);
	assert_true(aw_said(w, "guest0: it has started anew"));
	assert_int_equal(w->b.queues_open, 0);
	rescind_all(w);
	zero_copy(w);
	works(w);
}

static void
a_guest_that_dies_with_requests_in_flight_is_forgotten_and_a_new_one_served(void **state)
{
	struct aw *w = *state;
	static const enum vio_ring_access ring[] = {VIO_RING_COPY, VIO_RING_COPY_DELTA,
						    VIO_RING_COPY};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(ring); i++) {
		aw_guest(w, 2);
		aw_bring_up(w, ring[i], VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ);
		works(w);
		w->b.slow = true;
		aw_request(w, 0);
		aw_run(w);
		assert_int_equal(w->b.n_held, 1);
		aw_guest_gone(w);
		assert_true(aw_said(w, "guest0: gone: its partition has ended"));
		w->b.slow = false;
		aw_run(w);
		assert_int_equal(w->b.n_held, 0);
		assert_int_equal(w->b.queues_open, 0);
		assert_false(vio_adapter_busy(w->a));
	}
	aw_guest(w, 2);
	zero_copy(w);
	works(w);
}

static void a_guest_that_dies_idle_in_the_zero_copy_arm_leaves_no_window(void **state)
{
	struct aw *w = *state;
	struct vio_adapter_info info;

	aw_guest(w, 2);
	zero_copy(w);
	works(w);
	/* As when the process is killed and the server notices within the grace: its CRQ goes first. */
	assert_int_equal(h_free_crq(w->gv, w->gu->unit), H_SUCCESS);
	aw_run(w);
	vio_adapter_get_info(w->a, &info);
	assert_int_equal(info.windows, 0);
	assert_int_equal(info.queues, 0);
	assert_int_equal(info.link_losses, 1);
	assert_int_equal(info.state, VIO_S_IDLE);
	rescind_all(w);
	aw_guest(w, 2);
	zero_copy(w);
	works(w);
}

static void
a_lying_available_index_stops_the_device_with_a_sentence_and_a_reset_mends_it(void **state)
{
	struct aw *w = *state;
	struct vio_adapter_info info;

	aw_guest(w, 2);
	zero_copy(w);
	works(w);
	mock_store_release(&w->ring[0], MOCK_AVAIL, 2, 2, w->ring[0].next + AW_SIZE + 1u);
	aw_run(w);
	assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
	assert_int_equal(w->last.status, VIO_ST_AVAIL_IDX);
	assert_int_equal(w->last.arg16, 0);
	assert_int_equal(w->fsm.state, VIO_G_BROKEN);
	assert_true(aw_said(w, "guest0 queue 0: "));
	assert_true(aw_said(w, "device stopped until the guest resets it"));
	vio_adapter_get_info(w->a, &info);
	assert_int_equal(info.state, VIO_S_NEEDS_RESET);
	assert_int_equal(info.needs_resets, 1);
	assert_int_equal(info.last_fault, VIO_ST_AVAIL_IDX);
	assert_false(vio_adapter_busy(w->a));
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	rescind_all(w);
	zero_copy(w);
	works(w);
}

struct watcher {
	const struct vio_adapter *a;
	bool stop;
	uint64_t looked, wrong;
};

/* What telemetry does, on a thread of its own. */
static void *watch(void *arg)
{
	struct watcher *t = arg;

	while (!vio_load_acquire(&t->stop)) {
		const struct vio_squeue *q = vio_adapter_queue(t->a, 0);
		uint16_t size;

		if (!q)
			continue;
		size = vio_load_relaxed(&q->size);
		t->wrong += vio_load_relaxed(&q->index) != 0 || (size != 0 && size != AW_SIZE);
		t->wrong += vio_load_relaxed(&q->in_flight) > AW_SIZE ||
			    vio_load_relaxed(&q->fault) != VIO_ST_OK;
		t->wrong += vio_load_relaxed(&q->stats.requests) > 1;
		vio_store_relaxed(&t->looked, t->looked + 1);
	}
	return NULL;
}

/* What it proves, it proves in the thread sanitizer's build. */
static void telemetry_may_look_at_a_queue_while_it_is_made_anew(void **state)
{
	struct aw *w = *state;
	struct watcher t = {.a = w->a};
	pthread_t thread;

	aw_guest(w, 2);
	zero_copy(w);
	assert_int_equal(pthread_create(&thread, NULL, watch, &t), 0);
	for (unsigned i = 0; i < 50; i++) {
		works(w);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		rescind_all(w);
		zero_copy(w);
	}
	works(w);
	while (vio_load_relaxed(&t.looked) == 0)
		sched_yield();
	vio_store_release(&t.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(t.wrong, 0);
}

static void a_fault_on_one_queue_stops_the_adapters_other_queue(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, NEEDED | 1ull << VIRTIO_BLK_F_MQ, VIO_RING_COPY,
				     VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ),
			 VIO_ST_OK);
	aw_queue(w, 0);
	aw_queue(w, 1);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_OK);
	aw_request(w, 1);
	aw_run(w);
	assert_int_equal(aw_used(w, 1), 1);
	mock_store_release(&w->ring[0], MOCK_AVAIL, 2, 2, 999);
	send_only(w, (struct vio_msg){.op = VIO_OP_KICK, .arg16 = 0});
	aw_run(w);
	assert_int_equal(w->fsm.state, VIO_G_BROKEN);
	aw_request(w, 1);
	aw_run(w);
	assert_int_equal(aw_used(w, 1), 0);
}

static void a_kick_for_a_queue_that_is_not_there_needs_a_reset(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	zero_copy(w);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_KICK, .arg16 = 1}), VIO_ST_QUEUE);
	assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
}

static void garbage_is_answered_once_and_the_server_lives(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	zero_copy(w);
	aw_send_raw(w, (struct vio_msg){.version = 2, .op = 0x7e});
	aw_send_raw(w, (struct vio_msg){.version = 9, .op = VIO_OP_KICK});
	assert_int_equal(h_send_crq(w->gv, w->gu->unit, 0x8001ull << 48, 0),
			 H_SUCCESS); /* another protocol's */
	aw_run(w);
	assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	rescind_all(w);
	zero_copy(w);
	works(w);
}

static void answers_that_find_the_guests_queue_full_are_not_lost(void **state)
{
	struct aw *w = *state;
	const unsigned slots = 4096 / CRQ_ENTRY_BYTES, wanted = slots + 40;
	struct phyp_crq kept;
	unsigned sent = 0;

	aw_guest(w, 2);
	zero_copy(w);
	/* The guest takes no message: the server's answers fill its queue, then wait. */
	kept = w->crq;
	w->crq.entry = NULL;
	for (unsigned i = 0; i < 4 * wanted && sent < wanted; i++) {
		struct vio_msg m = {.version = 2, .op = VIO_OP_WINDOW_DEL, .arg16 = 5000};
		uint64_t hi, lo;

		vio_msg_encode(&m, &hi, &lo);
		if (h_send_crq(w->gv, w->gu->unit, hi, lo) == H_SUCCESS)
			sent++;
		aw_turn(w);
	}
	assert_int_equal(sent, wanted);
	assert_true(vio_adapter_busy(w->a));
	w->crq = kept;
	w->messages = 0;
	for (unsigned i = 0; i < 20; i++)
		aw_run(w);
	assert_int_equal(w->messages, wanted);
	assert_false(vio_adapter_busy(w->a));
	works(w);
}

static void a_stopping_server_finishes_what_is_in_flight_and_tells_the_guest(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	zero_copy(w);
	w->b.slow = true;
	aw_request(w, 0);
	aw_run(w);
	vio_adapter_stop(w->a);
	aw_run(w);
	assert_int_equal(w->last.op, VIO_OP_WINDOW_LOST);
	assert_int_equal(w->last.status, VIO_ST_SHUTDOWN);
	assert_true(vio_adapter_busy(w->a));
	w->b.slow = false;
	aw_run(w);
	assert_int_equal(aw_used(w, 0), 1); /* acknowledged, not lost */
	assert_false(vio_adapter_busy(w->a));
	rescind_all(w);
	aw_server_gone(w);
	aw_run(w);
	assert_int_equal(w->link_event, VIO_LINK_LOST);
	/* And a server that comes again finds the guest. */
	aw_server(w, 2, 7, 0xf);
	h_free_crq(w->gv, w->gu->unit);
	aw_run(w);
	aw_guest(w, 2);
	zero_copy(w);
	works(w);
}

static void a_stop_in_the_middle_of_a_reset_ends_both(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	zero_copy(w);
	w->b.slow = true;
	aw_request(w, 0);
	aw_run(w);
	send_only(w, (struct vio_msg){.op = VIO_OP_RESET});
	aw_run(w);
	vio_adapter_stop(w->a);
	aw_run(w);
	assert_true(vio_adapter_busy(w->a));
	w->b.slow = false;
	aw_run(w);
	assert_false(vio_adapter_busy(w->a));
	assert_int_equal(w->b.queues_open, 0);
}

static void works_with(struct aw *w, const char *faults)
{
	struct phyp_filter *f;
	struct vio_err err = {""};

	aw_guest(w, 2);
	if (phyp_fault_create(faults, &f, &err) < 0)
		fail_msg("%s", err.msg);
	phyp_filter_push(w->sp, f);
	zero_copy(w);
	works(w);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	rescind_all(w);
	phyp_filter_pop(w->sp);
	phyp_fault_free(f);
}

static void a_busy_hypervisor_is_asked_again(void **state)
{
	works_with(
		*state,
		"H_SEND_CRQ@1=H_BUSYx5,H_READ_RDMA@1=H_BUSYx5,H_WRITE_RDMA@2=H_BUSYx3,H_ACCEPT_LOGICAL@1=H_BUSYx2,H_RETURN_LOGICAL@1=H_BUSYx2");
}

static void a_hypervisor_that_hints_how_long_it_is_busy_is_asked_again(void **state)
{
	works_with(
		*state,
		"H_SEND_CRQ@1=H_LONG_BUSY_ORDER_1_MSECx5,H_READ_RDMA@1=H_LONG_BUSY_ORDER_1_MSECx5,H_WRITE_RDMA@2=H_LONG_BUSY_ORDER_1_SECx3,H_ACCEPT_LOGICAL@1=H_LONG_BUSY_ORDER_10_MSECx2,H_RETURN_LOGICAL@1=H_LONG_BUSY_ORDER_10_MSECx2");
}

#define T(f) cmocka_unit_test_setup_teardown(f, aw_setup, aw_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_reset_is_answered_when_the_backend_has_finished_and_touches_nothing_after),
		T(a_guest_that_starts_anew_is_greeted_when_nothing_of_the_past_is_touched),
		T(a_guest_that_dies_with_requests_in_flight_is_forgotten_and_a_new_one_served),
		T(a_guest_that_dies_idle_in_the_zero_copy_arm_leaves_no_window),
		T(a_lying_available_index_stops_the_device_with_a_sentence_and_a_reset_mends_it),
		T(a_fault_on_one_queue_stops_the_adapters_other_queue),
		T(telemetry_may_look_at_a_queue_while_it_is_made_anew),
		T(a_kick_for_a_queue_that_is_not_there_needs_a_reset),
		T(garbage_is_answered_once_and_the_server_lives),
		T(answers_that_find_the_guests_queue_full_are_not_lost),
		T(a_stopping_server_finishes_what_is_in_flight_and_tells_the_guest),
		T(a_stop_in_the_middle_of_a_reset_ends_both),
		T(a_busy_hypervisor_is_asked_again),
		T(a_hypervisor_that_hints_how_long_it_is_busy_is_asked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
