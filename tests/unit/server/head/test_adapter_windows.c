/* SPDX-License-Identifier: BSD-3-Clause */
/* Windows: every refusal, and that a withdrawal is answered only when nothing touches the pages any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>

#include "window_test.h"

/* -------------------------------------------------------------------- announced, withdrawn ---- */

static void a_window_is_accepted_and_counted(void **state)
{
	struct aw *w = *state;
	struct vio_adapter_info info;
	uint64_t cookie;

	up_to_features(w);
	assert_int_equal(aw_window(w, AW_BUF, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, &cookie),
			 VIO_ST_OK);
	assert_int_not_equal(w->last.arg16, 0);
	vio_adapter_get_info(w->a, &info);
	assert_int_equal(info.windows, 1);
	assert_int_equal(info.window_bytes, AW_BUFLEN);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, cookie), H_RESOURCE);
}

static void an_announcement_that_is_not_mapped_is_refused(void **state)
{
	struct aw *w = *state;

	up_to_features(w);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_ADD, .arg = 0x1000}),
			 VIO_ST_NO_DMA);
}

/* Each announcement is right but for one field. */
static void every_wrong_field_of_an_announcement_is_refused_and_nothing_kept(void **state)
{
	struct aw *w = *state;
	uint64_t cookie = 0;
	struct vio_window_desc good, d;

	up_to_features(w);
	cookie = aw_grant(w, 0, AW_BUF, AW_BUFLEN);
	good = aw_wdesc(w, AW_BUF, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, cookie);

	d = good;
	d.liobn = vio_to_be32(w->gu->liobn + 1);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	d = good;
	d.role = 0;
	assert_int_equal(aw_announce(w, &d), VIO_ST_BAD_MESSAGE);
	d = good;
	d.role = 3;
	assert_int_equal(aw_announce(w, &d), VIO_ST_BAD_MESSAGE);
	d = good;
	d.perm = 0;
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_PERM);
	d = good;
	d.perm = RW | 4;
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_PERM);
	d = good;
	d.perm = TCE_READ; /* less than granted is not what was granted either */
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_PERM);
	d = good;
	d.len = vio_to_be64(0);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	d = good;
	d.len = vio_to_be64(AW_BUFLEN + 4096); /* more than granted */
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	d = good;
	d.len = vio_to_be64(AW_BUFLEN - 4096);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	d = good;
	d.len = vio_to_be64(UINT64_MAX - 4095); /* wraps */
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	d = good;
	d.ioba = vio_to_be64(aw_at(w, AW_BUF).v + 8);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	d = good;
	d.ioba = vio_to_be64(0); /* below the DMA window */
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	d = good;
	d.ioba = vio_to_be64(w->gu->window.v + w->gu->window_bytes - 4096); /* runs out of it */
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	d = good;
	d.cookie = vio_to_be64(cookie + 12345);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_COOKIE);
	not_accepted(w, cookie);
	assert_int_equal(aw_announce(w, &good), VIO_ST_WINDOW_COOKIE); /* rescinded */
}

static void a_permission_that_was_not_granted_is_refused(void **state)
{
	struct aw *w = *state;
	struct vio_window_desc d;
	uint64_t cookie;

	up_to_features(w);
	cookie = aw_grant(w, GRANT_NO_WRITE, AW_BUF, AW_BUFLEN);
	d = aw_wdesc(w, AW_BUF, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, cookie);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_PERM);
	not_accepted(w, cookie);
}

static void overlapping_windows_are_refused(void **state)
{
	struct aw *w = *state;
	struct vio_window_desc d;
	uint64_t cookie, second;

	up_to_features(w);
	assert_int_equal(aw_window(w, AW_BUF, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, &cookie),
			 VIO_ST_OK);
	second = aw_grant(w, 0, AW_BUF + 0x8000, AW_BUFLEN);
	d = aw_wdesc(w, AW_BUF + 0x8000, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, second);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_RANGE);
	assert_int_equal(windows(w), 1);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, second), H_SUCCESS);
	/* The same grant at another place: it is taken. */
	d = aw_wdesc(w, AW_BUF + 0x100000, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, cookie);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_COOKIE);
	assert_int_equal(windows(w), 1);
}

static void the_grant_of_another_guest_is_refused(void **state)
{
	struct aw *w = *state;
	struct vio_err err;
	struct vio_window_desc d;
	uint64_t cookie = 0;

	assert_int_equal(phyp_local_open(w->m, "guest1", &w->other, &err), 0);
	assert_int_equal(phyp_vcpu_create(w->other, &w->ov, &err), 0);
	assert_int_equal(h_grant_logical(w->ov, GRANT_SYSTEM_MEMORY, (struct gla){0x10000},
					 AW_BUFLEN, phyp_unit(w->other, 0)->unit, &cookie),
			 H_SUCCESS);
	up_to_features(w);
	d = aw_wdesc(w, AW_BUF, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, cookie);
	assert_int_equal(aw_announce(w, &d), VIO_ST_WINDOW_COOKIE);
	assert_int_equal(windows(w), 0);
	assert_true(aw_said(w, "H_ACCEPT_LOGICAL"));
	assert_int_equal(h_rescind_logical(w->ov, RESCIND_NORMAL, cookie), H_SUCCESS);
}

static void more_windows_than_fit_are_refused_and_the_rest_works(void **state)
{
	struct aw *w = *state;
	uint64_t cookie;
	unsigned n = 0;
	uint8_t st = VIO_ST_OK;

	up_to_features(w);
	while (n < 2 * VIO_MAX_WINDOWS && st == VIO_ST_OK) {
		st = aw_window(w, AW_BUF + n * 0x1000ull, 0x1000, RW, VIO_WINDOW_BUFFERS, &cookie);
		n += st == VIO_ST_OK;
	}
	assert_int_equal(st, VIO_ST_WINDOW_FULL);
	assert_true(n > 1);
	assert_int_equal(windows(w), n);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	assert_int_equal(windows(w), 0);
}

static void withdrawing_an_unknown_window_is_refused(void **state)
{
	struct aw *w = *state;

	up_to_features(w);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = 77}),
			 VIO_ST_WINDOW_ID);
}

static void a_window_with_rings_in_use_cannot_be_withdrawn(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_DEL,
							     .arg16 = w->window_id[i]}),
				 VIO_ST_QUEUE);
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(aw_used(w, 0), 1);
}

static void withdrawal_is_answered_only_after_requests_in_flight_are_done(void **state)
{
	struct aw *w = *state;
	struct vio_msg del = {.op = VIO_OP_WINDOW_DEL};
	unsigned before;

	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	w->b.slow = true;
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(w->b.n_held, 1);
	before = w->messages;
	del.arg16 = w->window_id[2];
	assert_int_equal(vio_gfsm_tx(&w->fsm, &del), 0);
	aw_send_raw(w, del);
	aw_run(w);
	assert_int_equal(w->messages, before);
	assert_int_equal(w->b.dels, 0);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[2]), H_RESOURCE);
	/* A request that is made available meanwhile is not begun. */
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(w->b.n_held, 1);
	w->b.slow = false;
	aw_run(w);
	/* The first was given back before the answer came; the second's buffers are no longer in a window. */
	assert_int_equal(w->b.dels, 1);
	assert_int_equal(aw_used(w, 0), 1);
	assert_memory_equal(w->gmem + AW_BUF + 0x200, w->b.disk, 512);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[2]), H_SUCCESS);
	assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
	assert_int_equal(w->last.status, VIO_ST_DESC_RANGE);
}

static void withdrawal_waits_for_lcores_that_may_hold_the_old_table(void **state)
{
	struct aw *w = *state;
	struct vio_msg del = {.op = VIO_OP_WINDOW_DEL};
	unsigned before;

	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	before = w->messages;
	w->lcores_stuck = true;
	del.arg16 = w->window_id[2];
	assert_int_equal(vio_gfsm_tx(&w->fsm, &del), 0);
	aw_send_raw(w, del);
	aw_run(w);
	assert_int_equal(w->messages, before);
	assert_true(vio_adapter_busy(w->a));
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[2]), H_RESOURCE);
	w->lcores_stuck = false;
	aw_run(w);
	assert_int_equal(w->last.op, VIO_OP_WINDOW_DEL | VIO_OP_REPLY);
	assert_int_equal(w->last.status, VIO_ST_OK);
	assert_int_equal(w->last.arg16, w->window_id[2]);
	assert_false(vio_adapter_busy(w->a));
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[2]), H_SUCCESS);
}

static void a_window_added_while_running_reaches_the_backend_between_requests(void **state)
{
	struct aw *w = *state;
	struct vio_window_desc d;
	struct vio_msg m = {.op = VIO_OP_WINDOW_ADD};
	uint64_t cookie;
	unsigned adds;

	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	adds = w->b.adds;
	assert_int_equal(adds, 1); /* the buffers, not the rings */
	w->b.slow = true;
	aw_request(w, 0);
	aw_run(w);
	cookie = aw_grant(w, 0, 0x200000, AW_BUFLEN);
	d = aw_wdesc(w, 0x200000, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, cookie);
	memcpy(w->gmem + AW_WDESC, &d, sizeof(d));
	m.arg = aw_at(w, AW_WDESC).v;
	assert_int_equal(vio_gfsm_tx(&w->fsm, &m), 0);
	aw_send_raw(w, m);
	aw_run(w);
	assert_int_equal(w->b.adds, adds);
	w->b.slow = false;
	aw_run(w);
	assert_int_equal(w->b.adds, adds + 1);
	assert_int_equal(w->last.op, VIO_OP_WINDOW_ADD | VIO_OP_REPLY);
	assert_int_equal(w->last.status, VIO_ST_OK);
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(aw_used(w, 0), 2);
}

/* Each takes a while, and the lcore has the queues of other guests. */
static void a_guest_that_announces_many_windows_leaves_the_lcore_turns_between_them(void **state)
{
	struct aw *w = *state;
	const unsigned many = 16;
	uint64_t cookie;
	unsigned n;

	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	n = windows(w);
	for (unsigned i = 0; i < many; i++) {
		uint64_t at = 0x200000 + i * 0x1000ull,
			 desc = AW_WDESC + i * sizeof(struct vio_window_desc);
		struct vio_window_desc d;

		cookie = aw_grant(w, 0, at, 0x1000);
		d = aw_wdesc(w, at, 0x1000, RW, VIO_WINDOW_RINGS, cookie);
		memcpy(w->gmem + desc, &d, sizeof(d));
		aw_send_raw(w, (struct vio_msg){.version = w->fsm.version,
						.op = VIO_OP_WINDOW_ADD,
						.arg = aw_at(w, desc).v});
	}
	for (unsigned i = 0; i < many; i++) {
		unsigned before = windows(w);

		aw_turn(w);
		/* One for the interrupt, one for the adapter's own turn. */
		assert_in_range(windows(w) - before, 0, 2);
	}
	aw_run(w);
	assert_int_equal(windows(w), n + many);
	assert_false(vio_adapter_busy(w->a));
}

static void many_windows_come_and_go_without_a_trace(void **state)
{
	struct aw *w = *state;
	uint64_t cookie;

	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(aw_window(w, 0x200000, 0x1000, RW, VIO_WINDOW_RINGS, &cookie),
				 VIO_ST_OK);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_DEL,
							     .arg16 = w->last.arg16}),
				 VIO_ST_OK);
		assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, cookie), H_SUCCESS);
	}
	assert_int_equal(windows(w), 3);
	assert_false(vio_adapter_busy(w->a));
}

/* An lcore that faults on one guest's window looks through the tables of all adapters. */
static void a_table_can_be_read_after_a_reset_until_every_lcore_has_ended_its_turn(void **state)
{
	struct aw *w = *state;
	const struct vio_wtable *t;

	aw_guest(w, 2);
	aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
	t = *w->polled[0]->windows_src;
	aw_send_raw(w, (struct vio_msg){.version = w->fsm.version, .op = VIO_OP_RESET});
	for (unsigned i = 0; i < 100 && windows(w) > 0; i++)
		aw_turn(w);
	assert_int_equal(windows(w), 0); /* in this turn, which this lcore may have begun with t */
	assert_int_equal(t->n, 3);
	assert_int_equal(t->w[2].id, w->window_id[2]);
	assert_true(vio_adapter_busy(w->a));
	aw_run(w);
	assert_false(vio_adapter_busy(w->a));
}

/* What calloc() is linked to: the call after `calloc_left` more fails. */
void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
static unsigned calloc_left = UINT32_MAX;

void *__wrap_calloc(size_t n, size_t bytes)
{
	if (calloc_left == UINT32_MAX)
		return __real_calloc(n, bytes);
	return calloc_left-- == 0 ? NULL : __real_calloc(n, bytes);
}

static bool never_busy(struct vio_backend_queue *bq, const void *va, uint64_t len)
{
	(void)bq, (void)va, (void)len;
	return false;
}

static void a_withdrawal_that_finds_no_memory_leaves_the_window_as_it_was(void **state)
{
	struct aw *w = *state;
	static struct vio_backend_ops live; /* the teardown uses it when this fails */
	const struct vio_backend_ops *was = w->b.be.ops;
	unsigned failed = 0, at;
	uint8_t st;

	aw_guest(w, 2);
	for (unsigned kind = 0; kind < 2; kind++) {
		live = *was;
		live.window_busy = kind == 0 ? NULL : never_busy;
		w->b.be.ops = &live;
		w->disk.dev.live_windows = kind == 1;
		aw_bring_up(w, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL);
		for (at = 0;; at++) {
			calloc_left = at;
			st = aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_DEL,
							 .arg16 = w->window_id[2]});
			calloc_left = UINT32_MAX;
			if (st == VIO_ST_OK)
				break;
			failed++;
			assert_int_equal(st, VIO_ST_WINDOW_FULL);
			aw_request(w, 0);
			aw_run(w);
			assert_int_equal(w->fsm.state, VIO_G_RUNNING);
			assert_int_equal(aw_used(w, 0), 1);
		}
		assert_true(at > 0);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[i]),
					 H_SUCCESS);
	}
	assert_true(failed >= 3);
	w->b.be.ops = was;
	w->disk.dev.live_windows = false;
}

static void a_table_replaced_before_the_device_runs_waits_for_the_lcores_too(void **state)
{
	struct aw *w = *state;
	uint64_t cookie;

	up_to_features(w);
	assert_int_equal(aw_window(w, AW_BUF, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, &cookie),
			 VIO_ST_OK);
	w->lcores_stuck = true;
	assert_int_equal(aw_window(w, 0x200000, AW_BUFLEN, RW, VIO_WINDOW_BUFFERS, &cookie),
			 VIO_ST_OK);
	assert_true(vio_adapter_busy(w->a));
	w->lcores_stuck = false;
	aw_run(w);
	assert_false(vio_adapter_busy(w->a));
}

#define T(f) cmocka_unit_test_setup_teardown(f, aw_setup, aw_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_window_is_accepted_and_counted),
		T(an_announcement_that_is_not_mapped_is_refused),
		T(every_wrong_field_of_an_announcement_is_refused_and_nothing_kept),
		T(a_permission_that_was_not_granted_is_refused),
		T(overlapping_windows_are_refused),
		T(the_grant_of_another_guest_is_refused),
		T(more_windows_than_fit_are_refused_and_the_rest_works),
		T(withdrawing_an_unknown_window_is_refused),
		T(a_window_with_rings_in_use_cannot_be_withdrawn),
		T(withdrawal_is_answered_only_after_requests_in_flight_are_done),
		T(withdrawal_waits_for_lcores_that_may_hold_the_old_table),
		T(a_window_added_while_running_reaches_the_backend_between_requests),
		T(a_guest_that_announces_many_windows_leaves_the_lcore_turns_between_them),
		T(many_windows_come_and_go_without_a_trace),
		T(a_table_can_be_read_after_a_reset_until_every_lcore_has_ended_its_turn),
		T(a_table_replaced_before_the_device_runs_waits_for_the_lcores_too),
		T(a_withdrawal_that_finds_no_memory_leaves_the_window_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
