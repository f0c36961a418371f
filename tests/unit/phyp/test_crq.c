/* SPDX-License-Identifier: BSD-3-Clause */
/* CRQs: registration, entries, full and closed queues, transport events, suspension. */
#include "world.h"

#define INIT    0xC001000000000000ull
#define INIT_OK 0xC002000000000000ull

static void registering_before_and_after_the_partner_answers_closed_then_success(void **state)
{
	connect_ends(*state);
}

static void registering_twice_answers_h_resource_and_keeps_the_first_queue(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(crq_up(&w->g, 2), H_RESOURCE);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 2), H_SUCCESS);
	w->g.crq.n = 256;
	expect_entry(&w->g, CMD(1), 2);
}

static void a_queue_of_wrong_length_alignment_place_or_unmapped_is_refused(void **state)
{
	struct world *w = *state;
	struct end *g = &w->g;
	uint32_t unit = g->u->unit;

	map_tces(g, CRQ_AT, CRQ_AT, 2 * PAGE, TCE_READ | TCE_WRITE);
	assert_int_equal(h_reg_crq(g->v, unit, at(g, CRQ_AT), 0), H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, unit, at(g, CRQ_AT), 2048), H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, unit, at(g, CRQ_AT), CRQ_MAX_BYTES + PAGE), H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, unit, at(g, CRQ_AT + 16), PAGE), H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, unit, at(g, CRQ_AT), 3 * PAGE), H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, unit, at(g, g->u->window_bytes - PAGE), 2 * PAGE),
			 H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, unit, (struct ioba){0}, PAGE), H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, unit, (struct ioba){UINT64_MAX & ~0xfffull}, 2 * PAGE),
			 H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, unit + 100, at(g, CRQ_AT), PAGE), H_PARAMETER);
	assert_int_equal(h_reg_crq(g->v, w->s.u->unit, at(g, CRQ_AT), PAGE), H_PARAMETER);
	map_tces(g, CRQ_AT + PAGE, CRQ_AT + PAGE, PAGE, TCE_READ);
	assert_int_equal(h_reg_crq(g->v, unit, at(g, CRQ_AT), 2 * PAGE), H_PARAMETER);
}

static void a_unit_without_partner_answers_h_not_found(void **state)
{
	struct world *w = *state;
	struct hv_lunit *lu = hv_own_unit(w->g.part, w->g.u->unit);
	struct hv_unit *far = lu->far;

	lu->far = NULL; /* a profile cannot say so; the architecture can */
	assert_int_equal(crq_up(&w->g, 1), H_NOT_FOUND);
	lu->far = far;
}

static void the_init_handshake_passes_both_ways(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, INIT, 0), H_SUCCESS);
	expect_entry(&w->s, INIT, 0);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, INIT_OK, 0), H_SUCCESS);
	expect_entry(&w->g, INIT_OK, 0);
}

static void an_entry_is_big_endian_in_memory(void **state)
{
	struct world *w = *state;
	const uint8_t *q = mem(&w->g, CRQ_AT);

	connect_ends(w);
	assert_int_equal(
		h_send_crq(w->s.v, w->s.u->unit, 0x8002030405060708ull, 0x090a0b0c0d0e0f10ull),
		H_SUCCESS);
	assert_int_equal(q[0], 0x80);
	for (uint8_t i = 1; i < 16; i++)
		assert_int_equal(q[i], i + 1);
}

static void headers_that_partners_may_not_send_answer_h_parameter(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, 0x0101000000000000ull, 0), H_PARAMETER);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, 0x7f01000000000000ull, 0), H_PARAMETER);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, 0xFF01000000000000ull, 0), H_PARAMETER);
	assert_int_equal(h_send_crq(w->g.v, w->s.u->unit, CMD(1), 0), H_PARAMETER);
	expect_empty(&w->s);
}

static void sending_to_a_partner_without_queue_answers_h_closed(void **state)
{
	struct world *w = *state;

	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 0), H_CLOSED);
	assert_int_equal(crq_up(&w->g, 1), H_CLOSED);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 0), H_CLOSED);
	assert_int_equal(crq_up(&w->s, 1), H_SUCCESS);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 0), H_SUCCESS);
}

static void send_to_a_full_queue_answers_h_dropped_and_order_is_kept_over_the_wrap(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	for (uint64_t i = 0; i < 256; i++)
		assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(i), ~i), H_SUCCESS);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(999), 0), H_DROPPED);
	for (uint64_t i = 0; i < 1000; i++) {
		expect_entry(&w->s, CMD(i), ~i);
		assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(i + 256), ~(i + 256)),
				 H_SUCCESS);
	}
}

static void a_queue_on_scattered_pages_across_lmbs_keeps_order(void **state)
{
	struct world *w = *state;
	const uint64_t page[3] = {17 * MIB, 3 * MIB, 16 * MIB - PAGE};
	uint64_t hi, lo;

	for (unsigned kind = PHYP_ALIAS_TRANSIENT; kind <= PHYP_ALIAS_CRQ; kind++) {
		for (unsigned i = 0; i < 3; i++) {
			map_tces(&w->g, CRQ_AT + i * PAGE, page[i], PAGE, TCE_READ | TCE_WRITE);
			memset(mem(&w->g, page[i]), 0, PAGE);
		}
		assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, kind, NULL), 0);
		assert_int_equal(crq_up(&w->s, 1), H_CLOSED);
		assert_int_equal(h_reg_crq(w->g.v, w->g.u->unit, at(&w->g, CRQ_AT), 3 * PAGE),
				 H_SUCCESS);
		for (uint64_t i = 0; i < 3 * 256; i++)
			assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(i), i), H_SUCCESS);
		for (unsigned p = 0; p < 3; p++) {
			struct phyp_crq q = {.entry = (uint64_t *)(void *)mem(&w->g, page[p]),
					     .n = 256};

			for (uint64_t i = 0; i < 256; i++) {
				assert_true(phyp_crq_pop(&q, &hi, &lo));
				assert_int_equal(hi, CMD(p * 256 + i));
			}
		}
		assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
		assert_int_equal(h_free_crq(w->s.v, w->s.u->unit), H_SUCCESS);
	}
}

static void freeing_tells_the_partner_and_closes_the_connection(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	expect_event(&w->s, CRQ_XPORT_PARTNER_DEREGISTERED);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_CLOSED);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	expect_empty(&w->s);
	assert_int_equal(crq_up(&w->g, 1), H_SUCCESS);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_SUCCESS);
	expect_entry(&w->g, CMD(1), 0);
}

static void an_event_for_a_full_queue_replaces_its_last_entry(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	for (uint64_t i = 0; i < 256; i++)
		assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(i), i), H_SUCCESS);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	for (uint64_t i = 0; i < 255; i++)
		expect_entry(&w->s, CMD(i), i);
	expect_event(&w->s, CRQ_XPORT_PARTNER_DEREGISTERED);
	expect_empty(&w->s);
}

static void a_killed_partner_is_reported_as_failed_and_a_new_one_can_connect(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < 3; i++) {
		if (i == 0)
			connect_ends(w);
		else
			assert_int_equal(crq_up(&w->g, 1), H_SUCCESS);
		assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(i), 0), H_SUCCESS);
		phyp_local_kill(w->m, "guest0");
		assert_false(phyp_alive(w->g.part));
		expect_event(&w->s, CRQ_XPORT_PARTNER_FAILED);
		assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_CLOSED);
		assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 0), H_HARDWARE);
		end_close(&w->g);
		end_open(w->m, "guest0", &w->g);
	}
}

static void a_closed_partner_is_reported_as_deregistered(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	end_close(&w->g);
	expect_event(&w->s, CRQ_XPORT_PARTNER_DEREGISTERED);
}

static void a_partition_can_be_open_only_once(void **state)
{
	struct world *w = *state;
	struct phyp_part *again;
	struct vio_err err;

	assert_int_equal(phyp_local_open(w->m, "guest0", &again, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "guest0"));
	assert_int_equal(phyp_local_open(w->m, "guest7", &again, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "guest7"));
}

static void a_suspended_queue_is_closed_until_it_is_enabled(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(hv_machine_event(w->m, w->s.u->unit, CRQ_XPORT_PREPARE_SUSPEND), 0);
	expect_event(&w->s, CRQ_XPORT_PREPARE_SUSPEND);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 0), H_SUCCESS);
	expect_entry(&w->s, CMD(1), 0);
	assert_int_equal(hv_machine_event(w->m, w->s.u->unit, CRQ_XPORT_SUSPENDED), 0);
	expect_event(&w->s, CRQ_XPORT_SUSPENDED);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 0), H_CLOSED);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_CLOSED);
	assert_int_equal(h_enable_crq(w->s.v, w->s.u->unit), H_SUCCESS);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(2), 0), H_SUCCESS);
	expect_entry(&w->s, CMD(2), 0);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(3), 0), H_SUCCESS);
}

static void enabling_a_queue_that_is_not_registered_answers_h_not_found(void **state)
{
	struct world *w = *state;

	assert_int_equal(h_enable_crq(w->g.v, w->g.u->unit), H_NOT_FOUND);
	assert_int_equal(h_enable_crq(w->g.v, 5), H_PARAMETER);
	assert_int_equal(hv_machine_event(w->m, w->g.u->unit, CRQ_XPORT_SUSPENDED), -ENOTCONN);
	assert_int_equal(hv_machine_event(w->m, 5, CRQ_XPORT_SUSPENDED), -ENOENT);
}

/*
 * What a receiver that clears byte 0 only, as PAPR's drivers do, leaves behind must not confuse the
 * sender.
 */
static void a_receiver_that_clears_only_the_valid_byte_is_served(void **state)
{
	struct world *w = *state;
	volatile uint8_t *q = mem(&w->g, CRQ_AT);

	connect_ends(w);
	for (uint64_t i = 0; i < 1000; i++) {
		volatile uint8_t *e = q + (i % 256) * 16;

		assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(i), i), H_SUCCESS);
		assert_int_equal(e[0], 0x80);
		assert_int_equal(e[7], (uint8_t)i);
		e[0] = 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(registering_before_and_after_the_partner_answers_closed_then_success),
		WORLD_TEST(registering_twice_answers_h_resource_and_keeps_the_first_queue),
		WORLD_TEST(a_queue_of_wrong_length_alignment_place_or_unmapped_is_refused),
		WORLD_TEST(a_unit_without_partner_answers_h_not_found),
		WORLD_TEST(the_init_handshake_passes_both_ways),
		WORLD_TEST(an_entry_is_big_endian_in_memory),
		WORLD_TEST(headers_that_partners_may_not_send_answer_h_parameter),
		WORLD_TEST(sending_to_a_partner_without_queue_answers_h_closed),
		WORLD_TEST(send_to_a_full_queue_answers_h_dropped_and_order_is_kept_over_the_wrap),
		WORLD_TEST(a_queue_on_scattered_pages_across_lmbs_keeps_order),
		WORLD_TEST(freeing_tells_the_partner_and_closes_the_connection),
		WORLD_TEST(an_event_for_a_full_queue_replaces_its_last_entry),
		WORLD_TEST(a_killed_partner_is_reported_as_failed_and_a_new_one_can_connect),
		WORLD_TEST(a_closed_partner_is_reported_as_deregistered),
		WORLD_TEST(a_partition_can_be_open_only_once),
		WORLD_TEST(a_suspended_queue_is_closed_until_it_is_enabled),
		WORLD_TEST(enabling_a_queue_that_is_not_registered_answers_h_not_found),
		WORLD_TEST(a_receiver_that_clears_only_the_valid_byte_is_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
