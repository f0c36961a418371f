/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's machine: every state with every op, sent and received, in both versions. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/fsm.h"

#define R(op) ((op) | VIO_OP_REPLY)

/* A machine in `state` of a session of `version`; before PROBE's answer there is none agreed. */
static struct vio_gfsm in_state(enum vio_gstate state, uint8_t version)
{
	struct vio_gfsm f;

	vio_gfsm_init(&f, version);
	f.state = state;
	f.version = state == VIO_G_IDLE || state == VIO_G_PROBING ? 0 : version;
	return f;
}

static bool same(const struct vio_gfsm *a, const struct vio_gfsm *b)
{
	return a->state == b->state && a->max_version == b->max_version &&
	       a->version == b->version && a->window_pending == b->window_pending &&
	       a->pending_op == b->pending_op && a->why == b->why;
}

/* ---------------------------------------------------------------- sending ---- */

/* All that may be sent, one row a state; everything else is -EPROTO. v: 0 = both versions. */
static const struct sent {
	uint8_t v;
	enum vio_gstate from;
	uint8_t op;
	enum vio_gstate to;
} sendable[] = {
	{0, VIO_G_IDLE, VIO_OP_PROBE, VIO_G_PROBING},
	{0, VIO_G_PROBED, VIO_OP_ACKNOWLEDGE, VIO_G_ACKING},
	{1, VIO_G_ACKED, VIO_OP_DRIVER, VIO_G_FEATURES},
	{2, VIO_G_ACKED, VIO_OP_DRIVER, VIO_G_DRIVER},
	{2, VIO_G_DRIVER, VIO_OP_FEATURES_OK, VIO_G_NEGOTIATING},
	{0, VIO_G_FEATURES, VIO_OP_QUEUE, VIO_G_FEATURES},
	{2, VIO_G_FEATURES, VIO_OP_WINDOW_ADD, VIO_G_FEATURES},
	{2, VIO_G_FEATURES, VIO_OP_WINDOW_DEL, VIO_G_FEATURES},
	{0, VIO_G_FEATURES, VIO_OP_DRIVER_OK, VIO_G_STARTING},
	{0, VIO_G_RUNNING, VIO_OP_KICK, VIO_G_RUNNING},
	{2, VIO_G_RUNNING, VIO_OP_WINDOW_ADD, VIO_G_RUNNING},
	{2, VIO_G_RUNNING, VIO_OP_WINDOW_DEL, VIO_G_RUNNING},
	{2, VIO_G_FEATURES, VIO_OP_CONFIG_SET, VIO_G_FEATURES},
	{2, VIO_G_RUNNING, VIO_OP_CONFIG_SET, VIO_G_RUNNING},
	{0, VIO_G_IDLE, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_PROBING, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_PROBED, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_ACKING, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_ACKED, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_DRIVER, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_NEGOTIATING, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_FEATURES, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_STARTING, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_RUNNING, VIO_OP_RESET, VIO_G_RESETTING},
	{0, VIO_G_BROKEN, VIO_OP_RESET, VIO_G_RESETTING},
};

static const struct sent *find_sent(uint8_t v, unsigned state, unsigned op)
{
	for (size_t i = 0; i < VIO_ARRAY_SIZE(sendable); i++)
		if (sendable[i].from == state && sendable[i].op == op &&
		    (sendable[i].v == 0 || sendable[i].v == v))
			return &sendable[i];
	return NULL;
}

static void only_the_legal_messages_of_each_state_may_be_sent(void **state)
{
	unsigned legal = 0;

	(void)state;
	for (uint8_t v = 1; v <= 2; v++)
		for (unsigned s = 0; s < VIO_N_GSTATE; s++)
			for (unsigned op = 0; op < 256; op++) {
				struct vio_gfsm f = in_state((enum vio_gstate)s, v), before = f;
				struct vio_msg m = {.op = (uint8_t)op, .version = 99};
				const struct sent *want = find_sent(v, s, op);
				int rc = vio_gfsm_tx(&f, &m);

				if (!want) {
					assert_int_equal(rc, -EPROTO);
					assert_true(same(&f, &before));
					assert_int_equal(m.version, 99);
					continue;
				}
				assert_int_equal(rc, 0);
				assert_int_equal(f.state, want->to);
				assert_int_equal(m.version, v);
				legal++;
			}
	assert_int_equal(legal, 17 + 24);
}

static void the_size_and_base_of_a_queue_are_said_in_version_2_only(void **state)
{
	(void)state;
	for (uint8_t v = 1; v <= 2; v++)
		for (unsigned part = 0; part < 256; part++) {
			struct vio_gfsm f = in_state(VIO_G_FEATURES, v);
			struct vio_msg m = {.op = VIO_OP_QUEUE, .arg8 = (uint8_t)part};

			assert_int_equal(vio_gfsm_tx(&f, &m),
					 part <= (v == 1 ? 2u : 4u) ? 0 : -EPROTO);
		}
}

static void one_window_message_at_a_time(void **state)
{
	struct vio_gfsm f = in_state(VIO_G_RUNNING, 2);
	struct vio_msg add = {.op = VIO_OP_WINDOW_ADD}, del = {.op = VIO_OP_WINDOW_DEL};
	struct vio_msg added = {.version = 2, .op = R(VIO_OP_WINDOW_ADD), .arg16 = 7};

	(void)state;
	assert_int_equal(vio_gfsm_tx(&f, &add), 0);
	assert_int_equal(vio_gfsm_tx(&f, &del), -EPROTO);
	assert_int_equal(vio_gfsm_tx(&f, &add), -EPROTO);
	assert_int_equal(vio_gfsm_rx(&f, &added), VIO_GE_WINDOW_DONE);
	assert_int_equal(vio_gfsm_tx(&f, &del), 0);
}

/* -------------------------------------------------------------- receiving ---- */

/* All that may arrive, status OK and nothing about windows pending. What is not here is a violation. */
struct arrives {
	uint8_t v;
	uint8_t op;
	enum vio_gstate in;
	enum vio_gevent event;
	enum vio_gstate to;
};
static const struct arrives arrivals[] = {
	{0, R(VIO_OP_PROBE), VIO_G_PROBING, VIO_GE_STEP_DONE, VIO_G_PROBED},
	{0, R(VIO_OP_ACKNOWLEDGE), VIO_G_ACKING, VIO_GE_STEP_DONE, VIO_G_ACKED},
	{2, R(VIO_OP_FEATURES_OK), VIO_G_NEGOTIATING, VIO_GE_STEP_DONE, VIO_G_FEATURES},
	{0, R(VIO_OP_DRIVER_OK), VIO_G_STARTING, VIO_GE_STEP_DONE, VIO_G_RUNNING},
	{0, R(VIO_OP_RESET), VIO_G_RESETTING, VIO_GE_STEP_DONE, VIO_G_IDLE},
	{2, VIO_OP_WINDOW_LOST, VIO_G_FEATURES, VIO_GE_WINDOW_LOST, VIO_G_FEATURES},
	{2, VIO_OP_WINDOW_LOST, VIO_G_STARTING, VIO_GE_WINDOW_LOST, VIO_G_STARTING},
	{2, VIO_OP_WINDOW_LOST, VIO_G_RUNNING, VIO_GE_WINDOW_LOST, VIO_G_RUNNING},
	{2, VIO_OP_WINDOW_LOST, VIO_G_BROKEN, VIO_GE_WINDOW_LOST, VIO_G_BROKEN},
	{2, VIO_OP_WINDOW_LOST, VIO_G_RESETTING, VIO_GE_WINDOW_LOST, VIO_G_RESETTING},
	{0, VIO_OP_USED, VIO_G_STARTING, VIO_GE_USED, VIO_G_STARTING},
	{0, VIO_OP_USED, VIO_G_RUNNING, VIO_GE_USED, VIO_G_RUNNING},
	{0, VIO_OP_CONFIG, VIO_G_ACKED, VIO_GE_CONFIG, VIO_G_ACKED},
	{0, VIO_OP_CONFIG, VIO_G_DRIVER, VIO_GE_CONFIG, VIO_G_DRIVER},
	{0, VIO_OP_CONFIG, VIO_G_NEGOTIATING, VIO_GE_CONFIG, VIO_G_NEGOTIATING},
	{0, VIO_OP_CONFIG, VIO_G_FEATURES, VIO_GE_CONFIG, VIO_G_FEATURES},
	{0, VIO_OP_CONFIG, VIO_G_STARTING, VIO_GE_CONFIG, VIO_G_STARTING},
	{0, VIO_OP_CONFIG, VIO_G_RUNNING, VIO_GE_CONFIG, VIO_G_RUNNING},
};

/* Crossed on the wire, or spurious: nothing changes. */
static bool may_be_late(uint8_t v, unsigned s, unsigned op)
{
	bool over = s == VIO_G_BROKEN || s == VIO_G_RESETTING;

	(void)v;
	switch (op) {
	case VIO_OP_USED:
		return s != VIO_G_STARTING && s != VIO_G_RUNNING;
	case R(VIO_OP_PROBE):
	case R(VIO_OP_ACKNOWLEDGE):
	case R(VIO_OP_FEATURES_OK):
	case R(VIO_OP_DRIVER_OK):
	case VIO_OP_CONFIG:
	case VIO_OP_NEEDS_RESET:
		return over;
	default:
		return false;
	}
}

static const struct arrives *find_arrival(uint8_t v, unsigned s, unsigned op)
{
	static struct arrives needs_reset = {0, VIO_OP_NEEDS_RESET, 0, VIO_GE_NEEDS_RESET,
					     VIO_G_BROKEN};

	for (size_t i = 0; i < VIO_ARRAY_SIZE(arrivals); i++)
		if (arrivals[i].in == s && arrivals[i].op == op &&
		    (arrivals[i].v == 0 || arrivals[i].v == v))
			return &arrivals[i];
	if (op == VIO_OP_NEEDS_RESET && s >= VIO_G_PROBING && s <= VIO_G_RUNNING)
		return &needs_reset;
	return NULL;
}

static void every_message_in_every_state_is_an_event_late_or_a_violation(void **state)
{
	(void)state;
	for (uint8_t v = 1; v <= 2; v++)
		for (unsigned s = 0; s < VIO_N_GSTATE; s++)
			for (unsigned op = 0; op < 256; op++) {
				struct vio_gfsm f = in_state((enum vio_gstate)s, v), before = f;
				const struct vio_msg m = {
					.op = (uint8_t)op, .version = v, .arg16 = 1};
				const struct arrives *want = find_arrival(v, s, op);
				enum vio_gevent event = vio_gfsm_rx(&f, &m);

				if (want) {
					assert_int_equal(event, want->event);
					assert_int_equal(f.state, want->to);
				} else if (may_be_late(v, s, op)) {
					assert_int_equal(event, VIO_GE_LATE);
					assert_true(same(&f, &before));
				} else {
					assert_int_equal(event, VIO_GE_BAD);
					assert_int_equal(f.state, s == VIO_G_RESETTING
									  ? VIO_G_RESETTING
									  : VIO_G_BROKEN);
					assert_int_equal(f.why, VIO_ST_BAD_MESSAGE);
				}
			}
}

static void a_refused_step_breaks_the_session_and_keeps_the_reason(void **state)
{
	static const struct {
		enum vio_gstate in;
		uint8_t op;
	} steps[] = {
		{VIO_G_PROBING, VIO_OP_PROBE},           {VIO_G_ACKING, VIO_OP_ACKNOWLEDGE},
		{VIO_G_NEGOTIATING, VIO_OP_FEATURES_OK}, {VIO_G_STARTING, VIO_OP_DRIVER_OK},
		{VIO_G_RESETTING, VIO_OP_RESET},
	};

	(void)state;
	for (size_t i = 0; i < VIO_ARRAY_SIZE(steps); i++)
		for (unsigned status = 1; status < 256; status++) { /* unknown reasons too */
			struct vio_gfsm f = in_state(steps[i].in, 2);
			const struct vio_msg m = {
				.version = 2, .op = R(steps[i].op), .status = (uint8_t)status};

			assert_int_equal(vio_gfsm_rx(&f, &m), VIO_GE_STEP_REFUSED);
			assert_int_equal(f.state, VIO_G_BROKEN);
			assert_int_equal(f.why, status);
		}
}

static void a_refused_window_leaves_the_session_as_it_is(void **state)
{
	static const enum vio_gstate in[] = {VIO_G_FEATURES, VIO_G_STARTING, VIO_G_RUNNING};

	(void)state;
	for (size_t i = 0; i < VIO_ARRAY_SIZE(in); i++) {
		struct vio_gfsm f = in_state(in[i], 2);
		const struct vio_msg m = {
			.version = 2, .op = R(VIO_OP_WINDOW_ADD), .status = VIO_ST_WINDOW_PERM};

		f.window_pending = true;
		f.pending_op = VIO_OP_WINDOW_ADD;
		assert_int_equal(vio_gfsm_rx(&f, &m), VIO_GE_WINDOW_REFUSED);
		assert_int_equal(f.state, in[i]);
		assert_int_equal(f.why, VIO_ST_WINDOW_PERM);
		assert_false(f.window_pending);
	}
}

static void the_answer_to_the_other_window_op_is_a_violation(void **state)
{
	struct vio_gfsm f = in_state(VIO_G_RUNNING, 2);
	const struct vio_msg m = {.version = 2, .op = R(VIO_OP_WINDOW_DEL)};

	(void)state;
	f.window_pending = true;
	f.pending_op = VIO_OP_WINDOW_ADD;
	assert_int_equal(vio_gfsm_rx(&f, &m), VIO_GE_BAD);
	assert_int_equal(f.state, VIO_G_BROKEN);
}

static void a_withdrawal_that_crosses_needs_reset_is_still_answered(void **state)
{
	struct vio_gfsm f = in_state(VIO_G_RUNNING, 2);
	struct vio_msg del = {.op = VIO_OP_WINDOW_DEL, .arg16 = 3};
	const struct vio_msg needs = {
		.version = 2, .op = VIO_OP_NEEDS_RESET, .status = VIO_ST_DESC_HEAD};
	const struct vio_msg done = {.version = 2, .op = R(VIO_OP_WINDOW_DEL), .arg16 = 3};

	(void)state;
	assert_int_equal(vio_gfsm_tx(&f, &del), 0);
	assert_int_equal(vio_gfsm_rx(&f, &needs), VIO_GE_NEEDS_RESET);
	assert_int_equal(f.why, VIO_ST_DESC_HEAD);
	assert_int_equal(vio_gfsm_rx(&f, &done), VIO_GE_WINDOW_DONE);
	assert_int_equal(f.state, VIO_G_BROKEN);
	assert_int_equal(f.why, VIO_ST_DESC_HEAD);
	assert_int_equal(vio_gfsm_rx(&f, &done), VIO_GE_BAD); /* nobody waits for a second one */
}

static void reset_voids_the_session_only_when_it_is_answered(void **state)
{
	struct vio_gfsm f = in_state(VIO_G_RUNNING, 2);
	struct vio_msg reset = {.op = VIO_OP_RESET};
	const struct vio_msg garbage = {.version = 77, .op = 0x7e};
	const struct vio_msg done = {.version = 2, .op = R(VIO_OP_RESET)};

	(void)state;
	f.window_pending = true;
	f.pending_op = VIO_OP_WINDOW_ADD;
	assert_int_equal(vio_gfsm_tx(&f, &reset), 0);
	assert_int_equal(f.version, 2);
	/* Broken by it, a second RESET would take the first one's answer for its own. */
	assert_int_equal(vio_gfsm_rx(&f, &garbage), VIO_GE_BAD);
	assert_int_equal(f.state, VIO_G_RESETTING);
	assert_int_equal(vio_gfsm_rx(&f, &done), VIO_GE_STEP_DONE);
	assert_int_equal(f.state, VIO_G_IDLE);
	assert_int_equal(f.version, 0);
	assert_int_equal(f.max_version, 2);
	assert_false(f.window_pending);
}

static void a_message_of_another_version_is_a_violation(void **state)
{
	(void)state;
	for (unsigned wrong = 0; wrong < 256; wrong++) {
		struct vio_gfsm f = in_state(VIO_G_RUNNING, 2);
		const struct vio_msg m = {.version = (uint8_t)wrong, .op = VIO_OP_USED};

		if (wrong == 2)
			continue;
		assert_int_equal(vio_gfsm_rx(&f, &m), VIO_GE_BAD);
		assert_int_equal(f.why, VIO_ST_BAD_VERSION);
		assert_int_equal(f.state, VIO_G_BROKEN);
	}
}

static void probes_answer_settles_a_version_that_both_speak(void **state)
{
	(void)state;
	for (uint8_t max = 1; max <= 2; max++)
		for (unsigned v = 0; v < 256; v++) {
			struct vio_gfsm f = in_state(VIO_G_PROBING, max);
			const struct vio_msg m = {.version = (uint8_t)v, .op = R(VIO_OP_PROBE)};
			bool good = v >= 1 && v <= max;

			assert_int_equal(vio_gfsm_rx(&f, &m), good ? VIO_GE_STEP_DONE : VIO_GE_BAD);
			assert_int_equal(f.version, good ? v : 0);
		}
}

static void a_refusal_of_probe_is_understood_in_any_version(void **state)
{
	struct vio_gfsm f = in_state(VIO_G_PROBING, 1);
	const struct vio_msg m = {
		.version = 9, .op = R(VIO_OP_PROBE), .status = VIO_ST_BAD_VERSION};

	(void)state;
	assert_int_equal(vio_gfsm_rx(&f, &m), VIO_GE_STEP_REFUSED);
	assert_int_equal(f.why, VIO_ST_BAD_VERSION);
}

static void used_for_a_queue_that_can_not_be_is_a_violation(void **state)
{
	(void)state;
	for (unsigned q = 0; q < 0x10000; q++) {
		struct vio_gfsm f = in_state(VIO_G_RUNNING, 1);
		const struct vio_msg m = {.version = 1, .op = VIO_OP_USED, .arg16 = (uint16_t)q};

		assert_int_equal(vio_gfsm_rx(&f, &m),
				 q < VIO_MAX_QUEUES ? VIO_GE_USED : VIO_GE_BAD);
	}
}

static void a_new_machine_is_idle_and_speaks_a_version_that_exists(void **state)
{
	struct vio_gfsm f;

	(void)state;
	for (unsigned v = 0; v < 256; v++) {
		vio_gfsm_init(&f, (uint8_t)v);
		assert_int_equal(f.state, VIO_G_IDLE);
		assert_int_equal(f.max_version, v < 2 ? 1 : 2);
		assert_int_equal(f.version, 0);
	}
}

static void every_state_has_its_own_name(void **state)
{
	(void)state;
	for (unsigned a = 0; a < VIO_N_GSTATE; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(vio_gstate_name((enum vio_gstate)a),
						vio_gstate_name((enum vio_gstate)b));
	assert_string_equal(vio_gstate_name(VIO_N_GSTATE), "?");
	assert_string_equal(vio_gstate_name((enum vio_gstate) - 1), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_legal_messages_of_each_state_may_be_sent),
		cmocka_unit_test(the_size_and_base_of_a_queue_are_said_in_version_2_only),
		cmocka_unit_test(one_window_message_at_a_time),
		cmocka_unit_test(every_message_in_every_state_is_an_event_late_or_a_violation),
		cmocka_unit_test(a_refused_step_breaks_the_session_and_keeps_the_reason),
		cmocka_unit_test(a_refused_window_leaves_the_session_as_it_is),
		cmocka_unit_test(the_answer_to_the_other_window_op_is_a_violation),
		cmocka_unit_test(a_withdrawal_that_crosses_needs_reset_is_still_answered),
		cmocka_unit_test(reset_voids_the_session_only_when_it_is_answered),
		cmocka_unit_test(a_message_of_another_version_is_a_violation),
		cmocka_unit_test(probes_answer_settles_a_version_that_both_speak),
		cmocka_unit_test(a_refusal_of_probe_is_understood_in_any_version),
		cmocka_unit_test(used_for_a_queue_that_can_not_be_is_a_violation),
		cmocka_unit_test(a_new_machine_is_idle_and_speaks_a_version_that_exists),
		cmocka_unit_test(every_state_has_its_own_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
