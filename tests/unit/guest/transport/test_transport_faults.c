/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest transport: the server goes, comes back, stops the device; the hypervisor answers "not now"
 * or "no".
 */
#include <time.h>

#include "transport_test.h"

/* ------------------------------------------------------------------ losses and resets ---- */

static void run_with_window(struct tt *x, struct vio_gwindow *w)
{
	struct vio_mem_piece p;

	tt_started(x, "zero-copy");
	p = tt_piece(x, 8192);
	ok(x, vio_transport_window(x->t, &p, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS, true, w,
				   &x->err));
	ok(x, tt_go(x));
}

static void again(struct tt *x, struct vio_gwindow *w)
{
	ok(x, vio_transport_start(x->t, &x->err));
	ok(x, vio_transport_window_again(x->t, w, &x->err));
	ok(x, tt_go(x));
	tt_poll_until(x, VIO_T_RUNNING);
}

static void killed_server_that_returns_gets_everything_again(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;
	uint64_t first;

	run_with_window(x, &w);
	first = w.cookie;
	fs_kill(&x->w.s);
	tt_poll_until(x, VIO_T_DOWN);
	assert_int_equal(vio_transport_kick(x->t, x->v, 0), -ENOTCONN);
	fs_start(&x->w.s);
	tt_poll_until(x, VIO_T_RESTARTED);
	again(x, &w);
	assert_true(w.cookie != first);
	assert_int_equal(h_rescind_logical(x->v, RESCIND_NORMAL, first), H_RESCINDED);
}

static void server_that_ends_and_returns_is_followed(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;

	run_with_window(x, &w);
	for (unsigned i = 0; i < 3; i++) {
		fs_stop(&x->w.s);
		tt_poll_until(x, VIO_T_DOWN);
		fs_start(&x->w.s);
		again(x, &w);
	}
}

static void *kill_later(void *arg)
{
	struct fake_server *s = arg;

	while (fs_get(s, n_ops) < 4) /* FEATURES_OK has arrived */
		vio_cpu_relax();
	fs_kill(s);
	return NULL;
}

static void server_killed_in_the_middle_of_a_step_ends_the_wait(void **state)
{
	struct tt *x = *state;
	pthread_t killer;

	x->cfg.timeout_ms = 60000;
	x->w.s.k.mute = VIO_OP_FEATURES_OK;
	fs_start(&x->w.s);
	tt_open(x);
	pthread_create(&killer, NULL, kill_later, &x->w.s);
	assert_int_equal(vio_transport_start(x->t, &x->err), -ENOTCONN);
	pthread_join(killer, NULL);
	says(x->err.msg, "went away");
	says(x->err.msg, "FEATURES_OK");
}

static void needs_reset_says_why_and_reset_brings_the_device_back(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;

	run_with_window(x, &w);
	fs_say(&x->w.s, VIO_OP_NEEDS_RESET, 0, VIO_ST_DESC_CHAIN);
	tt_poll_until(x, VIO_T_NEEDS_RESET);
	says(vio_transport_why(x->t), vio_status_text(VIO_ST_DESC_CHAIN));
	says(vio_transport_why(x->t), "queue 0");
	assert_int_equal(vio_transport_kick(x->t, x->v, 0), -ENOTCONN);
	ok(x, vio_transport_reset(x->t, &x->err));
	again(x, &w);
}

static void lost_window_stops_the_device_with_the_reason(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;

	run_with_window(x, &w);
	fs_say(&x->w.s, VIO_OP_WINDOW_LOST, w.id, VIO_ST_RESCINDED);
	tt_poll_until(x, VIO_T_NEEDS_RESET);
	says(vio_transport_why(x->t), "withdrawn");
}

static void windows_lost_to_a_shutdown_are_waited_for(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;

	run_with_window(x, &w);
	fs_say(&x->w.s, VIO_OP_WINDOW_LOST, w.id, VIO_ST_SHUTDOWN);
	tt_poll_until(x, VIO_T_DOWN);
	fs_stop(&x->w.s);
	fs_start(&x->w.s);
	again(x, &w);
}

static void message_that_is_not_allowed_stops_the_device(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;

	run_with_window(x, &w);
	fs_say(&x->w.s, VIO_OP_PROBE | VIO_OP_REPLY, 0, 0);
	tt_poll_until(x, VIO_T_NEEDS_RESET);
	says(vio_transport_why(x->t), "PROBE reply");
}

static void reset_without_an_answer_registers_the_crq_anew(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;

	x->cfg.timeout_ms = 1000;
	run_with_window(x, &w);
	fs_set(&x->w.s, mute, VIO_OP_RESET);
	assert_int_equal(vio_transport_reset(x->t, &x->err), -ETIMEDOUT);
	says(x->err.msg, "RESET");
	fs_set(&x->w.s, mute, 0);
	again(x, &w);
}

static void machine_that_goes_is_dead(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;

	run_with_window(x, &w);
	phyp_local_kill(x->w.m, "guest0");
	tt_poll_until(x, VIO_T_DEAD);
	assert_int_equal(vio_transport_start(x->t, &x->err), -EPIPE);
}

/* ------------------------------------------------------------------------------ kicks ---- */

static void kicks_arrive_and_used_comes_back_once(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;
	uint64_t used = 0, end = vio_now_ns() + 20000000000ull;

	x->cfg.num_queues = 3;
	x->w.s.k.hold = 1;
	run_with_window(x, &w);
	assert_int_equal(vio_transport_kick(x->t, x->v, 2), 0);
	while (fs_get(&x->w.s, kicks) == 0 && vio_now_ns() < end)
		vio_cpu_relax();
	assert_true(fs_get(&x->w.s, kicks) == 1);
	fs_say(&x->w.s, VIO_OP_USED, 2, 0);
	while (used == 0 && vio_now_ns() < end) {
		assert_int_equal(vio_transport_poll(x->t, x->v, &used), VIO_T_RUNNING);
		if (!used)
			vio_transport_wait(x->t, 0, 10000000);
	}
	assert_true(used == 1ull << 2);
	vio_transport_poll(x->t, x->v, &used);
	assert_true(used == 0);
}

static void full_server_queue_makes_a_kick_wait_and_then_try_later(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;
	unsigned n = 0;
	int rc;

	x->w.s.k.hold = 1;
	run_with_window(x, &w);
	fs_set(&x->w.s, deaf, 1);
	while ((rc = vio_transport_kick(x->t, x->v, 0)) == 0 && n < 1000)
		n++;
	assert_int_equal(rc, -EAGAIN);
	assert_true(n >= 254 && n <= 257);
	fs_set(&x->w.s, deaf, 0);
	while (fs_get(&x->w.s, kicks) < n)
		phyp_vcpu_wait(x->v, 0, 100000);
	assert_int_equal(vio_transport_kick(x->t, x->v, 0), 0);
}

static void closed_answer_to_a_kick_is_a_loss_that_heals(void **state)
{
	struct tt *x = *state;
	struct vio_gwindow w;
	struct phyp_filter *f;

	x->w.s.k.hold = 1;
	run_with_window(x, &w);
	ok(x, phyp_fault_create("H_SEND_CRQ@1=H_CLOSED", &f, &x->err));
	phyp_filter_push(x->w.gp, f);
	assert_int_equal(vio_transport_kick(x->t, x->v, 0), -ENOTCONN);
	tt_poll_until(x, VIO_T_RESTARTED); /* by the guest's own hello: the server never went */
	phyp_filter_pop(x->w.gp);
	phyp_fault_free(f);
	again(x, &w);
}

static int64_t slow_send(struct phyp_filter *self, struct phyp_vcpu *v, uint64_t op,
			 const uint64_t args[PHYP_REGS], uint64_t ret[PHYP_REGS])
{
	const struct timespec nap = {.tv_nsec = 350000000};

	if (op == H_SEND_CRQ)
		nanosleep(&nap, NULL);
	return phyp_filter_next(self, v, op, args, ret);
}

static void server_slower_than_the_greeting_is_repeated_comes_up(void **state)
{
	struct tt *x = *state;
	struct phyp_filter slow = {.hcall = slow_send};

	fs_start(&x->w.s);
	phyp_filter_push(x->w.s.part, &slow); /* it makes no call before the guest is there */
	tt_open(x);
	tt_poll_until(x, VIO_T_RESTARTED);
	vio_transport_close(x->t);
	x->t = NULL;
	fs_stop(&x->w.s);
}

/* ------------------------------------------------------------------------------ trace ---- */

static void trace_shows_each_message_in_order(void **state)
{
	static const char *const want[] = {"INIT",
					   "PROBE",
					   "PROBE reply",
					   "ACKNOWLEDGE",
					   "ACKNOWLEDGE reply",
					   "DRIVER",
					   "FEATURES_OK",
					   "FEATURES_OK reply",
					   "QUEUE",
					   "DRIVER_OK",
					   "DRIVER_OK reply",
					   "RESET",
					   "RESET reply"};
	struct tt *x = *state;
	char *text = NULL;
	const char *at;
	size_t len;

	x->cfg.trace = open_memstream(&text, &len);
	tt_started(x, "zero-copy");
	ok(x, tt_go(x));
	vio_transport_close(x->t);
	x->t = NULL;
	fclose(x->cfg.trace);
	at = text;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(want); i++) {
		at = strstr(at, want[i]);
		if (!at)
			fail_msg("no %s in its place in:\n%s", want[i], text);
		at += strlen(want[i]);
	}
	free(text);
}

/* ----------------------------------------------------------------------------- faults ---- */

/* The whole life with one fault; whatever comes of it, it ends, and close leaves no TCE behind. */
static int life(struct tt *x, const char *spec)
{
	struct vio_mem_piece p;
	struct phyp_filter *f;
	struct vio_gwindow w;
	int rc;

	x->t = NULL;
	vio_mem_init(&x->w.mem, x->w.gp);
	ok(x, phyp_fault_create(spec, &f, &x->err));
	x->err.msg[0] = 0;
	phyp_filter_push(x->w.gp, f);
	rc = vio_transport_open(x->v, &x->w.mem, &x->cfg, &x->t, &x->err);
	if (rc == 0)
		rc = vio_transport_start(x->t, &x->err);
	if (rc == 0) {
		p = tt_piece(x, 600 * 4096);
		rc = vio_transport_window(x->t, &p, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS, true,
					  &w, &x->err);
	}
	if (rc == 0)
		rc = tt_go(x);
	if (rc == 0 && (rc = vio_transport_kick(x->t, x->v, 0)) != 0)
		vio_err_set(&x->err, rc, "kick");
	if (rc == 0)
		rc = vio_transport_window_del(x->t, &w, &x->err);
	vio_transport_close(x->t);
	x->t = NULL;
	phyp_filter_pop(x->w.gp);
	phyp_fault_free(f);
	if (fw_tces(&x->w, x->v) != 0)
		fail_msg("%s left TCEs", spec);
	return rc;
}

static void sweep(struct tt *x, const char *call, unsigned calls, const char *answer,
		  bool must_work)
{
	char spec[64];

	for (unsigned n = 1; n <= calls; n++) {
		int rc;

		snprintf(spec, sizeof(spec), "%s@%u=%s", call, n, answer);
		rc = life(x, spec);
		if (rc && (must_work || !x->err.msg[0]))
			fail_msg("%s: %d: %s", spec, rc, x->err.msg);
	}
}

static const struct {
	const char *name;
	unsigned n;  /* about as often as one life makes it */
	bool undoes; /* what can't be undone stays: only "not now" is tried */
} calls[] = {
	{"H_PUT_TCE", 5, false},       {"H_PUT_TCE_INDIRECT", 2, false}, {"H_STUFF_TCE", 3, true},
	{"H_REG_CRQ", 1, false},       {"H_FREE_CRQ", 1, true},          {"H_SEND_CRQ", 14, false},
	{"H_GRANT_LOGICAL", 1, false}, {"H_RESCIND_LOGICAL", 1, false},
};

static void busy_hypervisor_is_asked_again_wherever_it_is_busy(void **state)
{
	struct tt *x = *state;

	tt_arm(x, "zero-copy");
	fs_start(&x->w.s);
	for (unsigned c = 0; c < VIO_ARRAY_SIZE(calls); c++)
		sweep(x, calls[c].name, calls[c].n, "H_BUSYx3", true);
}

static void full_queue_at_any_message_is_waited_for(void **state)
{
	struct tt *x = *state;

	tt_arm(x, "zero-copy");
	fs_start(&x->w.s);
	sweep(x, "H_SEND_CRQ", 14, "H_DROPPEDx5", true);
}

static void failing_call_at_any_place_ends_cleanly_with_a_sentence(void **state)
{
	static const char *const answers[] = {"H_RESOURCE", "H_CLOSED", "H_PARAMETER",
					      "H_HARDWARE"};
	struct tt *x = *state;

	tt_arm(x, "zero-copy");
	x->cfg.timeout_ms = 600;
	fs_start(&x->w.s);
	for (unsigned c = 0; c < VIO_ARRAY_SIZE(calls); c++)
		for (unsigned a = 0; a < VIO_ARRAY_SIZE(answers) && !calls[c].undoes; a++)
			sweep(x, calls[c].name, calls[c].n, answers[a], false);
	/* The server is none the worse. */
	assert_int_equal(life(x, "H_COPY_RDMA@1=H_BUSY"), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, tt_setup, tt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(killed_server_that_returns_gets_everything_again),
		T(server_that_ends_and_returns_is_followed),
		T(server_killed_in_the_middle_of_a_step_ends_the_wait),
		T(needs_reset_says_why_and_reset_brings_the_device_back),
		T(lost_window_stops_the_device_with_the_reason),
		T(windows_lost_to_a_shutdown_are_waited_for),
		T(message_that_is_not_allowed_stops_the_device),
		T(reset_without_an_answer_registers_the_crq_anew),
		T(machine_that_goes_is_dead),
		T(kicks_arrive_and_used_comes_back_once),
		T(full_server_queue_makes_a_kick_wait_and_then_try_later),
		T(closed_answer_to_a_kick_is_a_loss_that_heals),
		T(server_slower_than_the_greeting_is_repeated_comes_up),
		T(trace_shows_each_message_in_order),
		T(busy_hypervisor_is_asked_again_wherever_it_is_busy),
		T(full_queue_at_any_message_is_waited_for),
		T(failing_call_at_any_place_ends_cleanly_with_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
