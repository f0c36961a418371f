/* SPDX-License-Identifier: BSD-3-Clause */
/* The server's machine: every state with every op in both versions, and how work ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/fsm.h"

static struct vio_sfsm in_state(enum vio_sstate state, uint8_t version)
{
	struct vio_sfsm f;

	vio_sfsm_init(&f, version);
	f.state = state;
	f.version = state == VIO_S_IDLE ? 0 : version;
	return f;
}

/* What is accepted: to do, and the state when that is done well. Everything else is refused or ignored. */
static const struct accepted {
	uint8_t v;
	enum vio_sstate from;
	uint8_t op;
	enum vio_stodo todo;
	enum vio_sstate to;
	bool reply;
} accepts[] = {
	{0, VIO_S_IDLE, VIO_OP_PROBE, VIO_TODO_WRITE_HEADER, VIO_S_PROBED, true},
	{0, VIO_S_PROBED, VIO_OP_ACKNOWLEDGE, VIO_TODO_WRITE_CONFIG, VIO_S_ACKED, true},
	{1, VIO_S_ACKED, VIO_OP_DRIVER, VIO_TODO_NOTHING, VIO_S_FEATURES, false},
	{2, VIO_S_ACKED, VIO_OP_DRIVER, VIO_TODO_NOTHING, VIO_S_DRIVER, false},
	{2, VIO_S_DRIVER, VIO_OP_FEATURES_OK, VIO_TODO_READ_CHOICE, VIO_S_FEATURES, true},
	{0, VIO_S_FEATURES, VIO_OP_QUEUE, VIO_TODO_QUEUE, VIO_S_FEATURES, false},
	{2, VIO_S_FEATURES, VIO_OP_WINDOW_ADD, VIO_TODO_WINDOW_ADD, VIO_S_FEATURES, true},
	{2, VIO_S_FEATURES, VIO_OP_WINDOW_DEL, VIO_TODO_WINDOW_DEL, VIO_S_FEATURES, true},
	{0, VIO_S_FEATURES, VIO_OP_DRIVER_OK, VIO_TODO_START, VIO_S_RUNNING, true},
	{2, VIO_S_RUNNING, VIO_OP_WINDOW_ADD, VIO_TODO_WINDOW_ADD, VIO_S_RUNNING, true},
	{2, VIO_S_RUNNING, VIO_OP_WINDOW_DEL, VIO_TODO_WINDOW_DEL, VIO_S_RUNNING, true},
	{2, VIO_S_FEATURES, VIO_OP_CONFIG_SET, VIO_TODO_CONFIG_SET, VIO_S_FEATURES, true},
	{2, VIO_S_RUNNING, VIO_OP_CONFIG_SET, VIO_TODO_CONFIG_SET, VIO_S_RUNNING, true},
	{0, VIO_S_RUNNING, VIO_OP_KICK, VIO_TODO_KICK, VIO_S_RUNNING, false},
	{0, VIO_S_IDLE, VIO_OP_RESET, VIO_TODO_RESET, VIO_S_IDLE, true},
	{0, VIO_S_PROBED, VIO_OP_RESET, VIO_TODO_RESET, VIO_S_IDLE, true},
	{0, VIO_S_ACKED, VIO_OP_RESET, VIO_TODO_RESET, VIO_S_IDLE, true},
	{0, VIO_S_DRIVER, VIO_OP_RESET, VIO_TODO_RESET, VIO_S_IDLE, true},
	{0, VIO_S_FEATURES, VIO_OP_RESET, VIO_TODO_RESET, VIO_S_IDLE, true},
	{0, VIO_S_RUNNING, VIO_OP_RESET, VIO_TODO_RESET, VIO_S_IDLE, true},
	{0, VIO_S_NEEDS_RESET, VIO_OP_RESET, VIO_TODO_RESET, VIO_S_IDLE, true},
};

static const struct accepted *find_accepted(uint8_t v, unsigned s, unsigned op)
{
	for (size_t i = 0; i < VIO_ARRAY_SIZE(accepts); i++)
		if (accepts[i].from == s && accepts[i].op == op &&
		    (accepts[i].v == 0 || accepts[i].v == v))
			return &accepts[i];
	return NULL;
}

static bool has_reply(unsigned op)
{
	return op == VIO_OP_PROBE || op == VIO_OP_ACKNOWLEDGE || op == VIO_OP_FEATURES_OK ||
	       op == VIO_OP_DRIVER_OK || op == VIO_OP_RESET || op == VIO_OP_WINDOW_ADD ||
	       op == VIO_OP_WINDOW_DEL || op == VIO_OP_CONFIG_SET;
}

static bool is_ignored(unsigned s, unsigned op)
{
	return ((s == VIO_S_NEEDS_RESET || s == VIO_S_RESETTING) && !has_reply(op)) ||
	       (s == VIO_S_IDLE && op == VIO_OP_KICK);
}

static void check_accepted(struct vio_sfsm f, const struct vio_msg *m, const struct accepted *want,
			   uint8_t v)
{
	struct vio_sfsm failed;
	struct vio_msg reply;
	uint8_t why = 99;
	bool sent;

	assert_int_equal(vio_sfsm_rx(&f, m, &why), want->todo);
	assert_int_equal(f.state, m->op == VIO_OP_RESET ? VIO_S_RESETTING : want->from);
	failed = f;
	memset(&reply, 0xee, sizeof(reply));
	assert_int_equal(vio_sfsm_done(&f, m, VIO_ST_OK, &reply), want->reply);
	assert_int_equal(f.state, want->to);
	if (want->reply) {
		assert_int_equal(reply.op, m->op | VIO_OP_REPLY);
		assert_int_equal(reply.status, VIO_ST_OK);
		assert_int_equal(reply.version, v);
		assert_int_equal(reply.arg16, m->op == VIO_OP_WINDOW_DEL ? m->arg16 : 0);
	}
	/* The same work, failed: a reply or NEEDS_RESET says so, and no step is taken. */
	sent = vio_sfsm_done(&failed, m, VIO_ST_NO_DMA, &reply);
	assert_true(sent);
	assert_int_equal(reply.status, VIO_ST_NO_DMA);
	if (want->reply) {
		assert_int_equal(reply.op, m->op | VIO_OP_REPLY);
		assert_int_equal(failed.state,
				 m->op == VIO_OP_RESET ? VIO_S_RESETTING : want->from);
	} else {
		assert_int_equal(reply.op, VIO_OP_NEEDS_RESET);
		assert_int_equal(failed.state, VIO_S_NEEDS_RESET);
	}
}

static void check_refused(struct vio_sfsm f, const struct vio_msg *m, enum vio_sstate from)
{
	struct vio_msg reply;
	uint8_t why = 99;

	assert_int_equal(vio_sfsm_rx(&f, m, &why), VIO_TODO_REFUSE);
	assert_int_equal(why, VIO_ST_BAD_MESSAGE);
	assert_int_equal(f.state, from);
	assert_true(vio_sfsm_done(&f, m, why, &reply));
	assert_int_equal(reply.status, VIO_ST_BAD_MESSAGE);
	if (has_reply(m->op)) {
		assert_int_equal(reply.op, m->op | VIO_OP_REPLY);
		assert_int_equal(f.state, from);
	} else {
		assert_int_equal(reply.op, VIO_OP_NEEDS_RESET);
		assert_true(reply.arg == m->op);
		assert_int_equal(reply.arg16,
				 m->op == VIO_OP_QUEUE || m->op == VIO_OP_KICK ? m->arg16 : 0xffff);
		assert_int_equal(f.state, VIO_S_NEEDS_RESET);
	}
}

static void every_message_in_every_state_is_accepted_ignored_or_refused(void **state)
{
	(void)state;
	for (uint8_t v = 1; v <= 2; v++)
		for (unsigned s = 0; s < VIO_N_SSTATE; s++)
			for (unsigned op = 0; op < 256; op++) {
				struct vio_sfsm f = in_state((enum vio_sstate)s, v);
				const struct vio_msg m = {
					.version = v,
					.op = (uint8_t)op,
					.arg8 = op == VIO_OP_CONFIG_SET,
					.arg16 = op == VIO_OP_PROBE ? VIO_DEV_HEADER_BYTES : 5};
				const struct accepted *want = find_accepted(v, s, op);
				struct vio_msg reply;
				uint8_t why = 99;

				if (want) {
					check_accepted(f, &m, want, v);
				} else if (is_ignored(s, op)) {
					assert_int_equal(vio_sfsm_rx(&f, &m, &why),
							 VIO_TODO_NOTHING);
					assert_false(vio_sfsm_done(&f, &m, VIO_ST_OK, &reply));
					assert_int_equal(f.state, s);
				} else {
					check_refused(f, &m, (enum vio_sstate)s);
				}
			}
}

static void probe_settles_the_lower_version(void **state)
{
	(void)state;
	for (uint8_t max = 1; max <= 2; max++)
		for (unsigned v = 0; v < 256; v++) {
			struct vio_sfsm f = in_state(VIO_S_IDLE, max);
			const struct vio_msg m = {
				.version = (uint8_t)v, .op = VIO_OP_PROBE, .arg16 = 64};
			unsigned low = v < max ? v : max;
			struct vio_msg reply;
			uint8_t why = 99;

			if (v == 0) {
				assert_int_equal(vio_sfsm_rx(&f, &m, &why), VIO_TODO_REFUSE);
				assert_int_equal(why, VIO_ST_BAD_VERSION);
				assert_true(vio_sfsm_done(&f, &m, why, &reply));
				assert_int_equal(reply.version, 1);
				assert_int_equal(f.version, 0);
				continue;
			}
			assert_int_equal(vio_sfsm_rx(&f, &m, &why), VIO_TODO_WRITE_HEADER);
			assert_int_equal(f.version,
					 low); /* the adapter has to know which header to write */
			assert_true(vio_sfsm_done(&f, &m, VIO_ST_OK, &reply));
			assert_int_equal(reply.version, low);
			assert_int_equal(f.version, low);
		}
}

static void a_probe_that_fails_agrees_on_nothing(void **state)
{
	struct vio_sfsm f = in_state(VIO_S_IDLE, 2);
	struct vio_msg m = {.version = 1, .op = VIO_OP_PROBE, .arg16 = 64}, reply;
	uint8_t why;

	(void)state;
	assert_int_equal(vio_sfsm_rx(&f, &m, &why), VIO_TODO_WRITE_HEADER);
	assert_true(vio_sfsm_done(&f, &m, VIO_ST_NO_DMA, &reply));
	assert_int_equal(f.state, VIO_S_IDLE);
	assert_int_equal(f.version, 0);
	m.version = 2;
	assert_int_equal(vio_sfsm_rx(&f, &m, &why), VIO_TODO_WRITE_HEADER);
	assert_int_equal(f.version, 2);
}

static void a_header_too_small_for_its_version_is_refused(void **state)
{
	(void)state;
	for (uint8_t v = 1; v <= 2; v++)
		for (uint16_t bytes = 0; bytes <= 64; bytes++) {
			struct vio_sfsm f = in_state(VIO_S_IDLE, v);
			const struct vio_msg m = {.version = v, .op = VIO_OP_PROBE, .arg16 = bytes};
			uint8_t why = 99;
			bool fits = bytes >= (v == 1 ? 13 : 32);

			assert_int_equal(vio_sfsm_rx(&f, &m, &why),
					 fits ? VIO_TODO_WRITE_HEADER : VIO_TODO_REFUSE);
			if (!fits)
				assert_int_equal(why, VIO_ST_BAD_MESSAGE);
		}
}

static void a_message_of_another_version_is_refused_but_reset_is_not(void **state)
{
	(void)state;
	for (unsigned s = VIO_S_PROBED; s <= VIO_S_RUNNING; s++)
		for (unsigned op = 1; op < 0x30; op++) {
			struct vio_sfsm f = in_state((enum vio_sstate)s, 2);
			const struct vio_msg m = {.version = 1, .op = (uint8_t)op};
			uint8_t why = 99;
			enum vio_stodo todo = vio_sfsm_rx(&f, &m, &why);

			if (op == VIO_OP_RESET) {
				assert_int_equal(todo, VIO_TODO_RESET);
				continue;
			}
			assert_int_equal(todo, VIO_TODO_REFUSE);
			if (find_accepted(2, s, op))
				assert_int_equal(why, VIO_ST_BAD_VERSION);
		}
}

static void queue_parts_and_numbers_are_checked(void **state)
{
	(void)state;
	for (uint8_t v = 1; v <= 2; v++)
		for (unsigned part = 0; part < 256; part++)
			for (unsigned q = 0; q < 300; q++) {
				struct vio_sfsm f = in_state(VIO_S_FEATURES, v);
				const struct vio_msg m = {.version = v,
							  .op = VIO_OP_QUEUE,
							  .arg8 = (uint8_t)part,
							  .arg16 = (uint16_t)q};
				bool part_ok = part <= (v == 1 ? 2u : 4u);
				uint8_t why = 99;

				if (part_ok && q < VIO_MAX_QUEUES) {
					assert_int_equal(vio_sfsm_rx(&f, &m, &why), VIO_TODO_QUEUE);
				} else {
					assert_int_equal(vio_sfsm_rx(&f, &m, &why),
							 VIO_TODO_REFUSE);
					assert_int_equal(why, part_ok ? VIO_ST_QUEUE
								      : VIO_ST_BAD_MESSAGE);
				}
			}
}

static void a_kick_for_a_queue_that_can_not_be_needs_reset(void **state)
{
	struct vio_sfsm f = in_state(VIO_S_RUNNING, 2);
	const struct vio_msg m = {.version = 2, .op = VIO_OP_KICK, .arg16 = VIO_MAX_QUEUES};
	struct vio_msg reply;
	uint8_t why;

	(void)state;
	assert_int_equal(vio_sfsm_rx(&f, &m, &why), VIO_TODO_REFUSE);
	assert_int_equal(why, VIO_ST_QUEUE);
	assert_true(vio_sfsm_done(&f, &m, why, &reply));
	assert_int_equal(reply.op, VIO_OP_NEEDS_RESET);
	assert_int_equal(reply.arg16, VIO_MAX_QUEUES);
}

static void
a_withdrawal_that_ends_after_needs_reset_or_during_a_reset_is_still_answered(void **state)
{
	static const enum vio_sstate at_end[] = {VIO_S_NEEDS_RESET, VIO_S_RESETTING};
	const struct vio_msg m = {.version = 2, .op = VIO_OP_WINDOW_DEL, .arg16 = 9};

	(void)state;
	for (size_t i = 0; i < VIO_ARRAY_SIZE(at_end); i++) {
		struct vio_sfsm f = in_state(VIO_S_RUNNING, 2);
		struct vio_msg reply;
		uint8_t why;

		assert_int_equal(vio_sfsm_rx(&f, &m, &why), VIO_TODO_WINDOW_DEL);
		f.state = at_end[i];
		assert_true(vio_sfsm_done(&f, &m, VIO_ST_OK, &reply));
		assert_int_equal(reply.op, VIO_OP_WINDOW_DEL | VIO_OP_REPLY);
		assert_int_equal(reply.status, VIO_ST_OK);
		assert_int_equal(reply.arg16, 9);
		assert_int_equal(f.state, at_end[i]);
	}
}

static void work_of_a_session_that_is_gone_is_not_answered(void **state)
{
	static const uint8_t ops[] = {VIO_OP_WINDOW_ADD, VIO_OP_WINDOW_DEL, VIO_OP_RESET,
				      VIO_OP_DRIVER_OK};

	(void)state;
	for (size_t i = 0; i < VIO_ARRAY_SIZE(ops); i++)
		for (unsigned s = VIO_S_IDLE; s <= VIO_S_ACKED; s++) {
			struct vio_sfsm f = in_state((enum vio_sstate)s, 2);
			const struct vio_msg m = {.version = 2, .op = ops[i]};
			struct vio_msg reply;

			assert_false(vio_sfsm_done(&f, &m, VIO_ST_OK, &reply));
			assert_int_equal(f.state, s);
		}
}

static void a_start_that_ends_after_needs_reset_does_not_make_the_device_run(void **state)
{
	struct vio_sfsm f = in_state(VIO_S_FEATURES, 2);
	const struct vio_msg m = {.version = 2, .op = VIO_OP_DRIVER_OK};
	struct vio_msg reply;
	uint8_t why;

	(void)state;
	assert_int_equal(vio_sfsm_rx(&f, &m, &why), VIO_TODO_START);
	vio_sfsm_needs_reset(&f, VIO_ST_AVAIL_IDX, 0, 0, &reply);
	assert_true(vio_sfsm_done(&f, &m, VIO_ST_OK, &reply));
	assert_int_equal(reply.status, VIO_ST_BAD_MESSAGE);
	assert_int_equal(f.state, VIO_S_NEEDS_RESET);
}

static void needs_reset_names_reason_queue_and_detail(void **state)
{
	struct vio_sfsm f = in_state(VIO_S_RUNNING, 1);
	struct vio_msg out;

	(void)state;
	vio_sfsm_needs_reset(&f, VIO_ST_DESC_RANGE, 2, 0xdead000, &out);
	assert_int_equal(f.state, VIO_S_NEEDS_RESET);
	assert_int_equal(out.op, VIO_OP_NEEDS_RESET);
	assert_int_equal(out.version, 1);
	assert_int_equal(out.status, VIO_ST_DESC_RANGE);
	assert_int_equal(out.arg16, 2);
	assert_true(out.arg == 0xdead000);
	/* A reset that is under way is not forgotten. */
	f.state = VIO_S_RESETTING;
	vio_sfsm_needs_reset(&f, VIO_ST_DESC_RANGE, 2, 0, &out);
	assert_int_equal(f.state, VIO_S_RESETTING);
}

static void a_guest_that_sends_garbage_hears_needs_reset_once(void **state)
{
	struct vio_sfsm f = in_state(VIO_S_RUNNING, 2);
	unsigned heard = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		const struct vio_msg m = {.version = (uint8_t)i, .op = (uint8_t)(0x30 + i % 16)};
		struct vio_msg reply;
		uint8_t why = VIO_ST_OK;

		vio_sfsm_rx(&f, &m, &why);
		heard += vio_sfsm_done(&f, &m, why, &reply);
	}
	assert_int_equal(heard, 1);
}

static void a_new_machine_is_idle_and_speaks_a_version_that_exists(void **state)
{
	struct vio_sfsm f;

	(void)state;
	for (unsigned v = 0; v < 256; v++) {
		vio_sfsm_init(&f, (uint8_t)v);
		assert_int_equal(f.state, VIO_S_IDLE);
		assert_int_equal(f.max_version, v < 2 ? 1 : 2);
		assert_int_equal(f.version, 0);
	}
}

static void every_state_has_its_own_name(void **state)
{
	(void)state;
	for (unsigned a = 0; a < VIO_N_SSTATE; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(vio_sstate_name((enum vio_sstate)a),
						vio_sstate_name((enum vio_sstate)b));
	assert_string_equal(vio_sstate_name(VIO_N_SSTATE), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_in_every_state_is_accepted_ignored_or_refused),
		cmocka_unit_test(probe_settles_the_lower_version),
		cmocka_unit_test(a_probe_that_fails_agrees_on_nothing),
		cmocka_unit_test(a_header_too_small_for_its_version_is_refused),
		cmocka_unit_test(a_message_of_another_version_is_refused_but_reset_is_not),
		cmocka_unit_test(queue_parts_and_numbers_are_checked),
		cmocka_unit_test(a_kick_for_a_queue_that_can_not_be_needs_reset),
		cmocka_unit_test(
			a_withdrawal_that_ends_after_needs_reset_or_during_a_reset_is_still_answered),
		cmocka_unit_test(work_of_a_session_that_is_gone_is_not_answered),
		cmocka_unit_test(a_start_that_ends_after_needs_reset_does_not_make_the_device_run),
		cmocka_unit_test(needs_reset_names_reason_queue_and_detail),
		cmocka_unit_test(a_guest_that_sends_garbage_hears_needs_reset_once),
		cmocka_unit_test(a_new_machine_is_idle_and_speaks_a_version_that_exists),
		cmocka_unit_test(every_state_has_its_own_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
