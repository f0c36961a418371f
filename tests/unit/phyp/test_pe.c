/* SPDX-License-Identifier: BSD-3-Clause */
/* Partitionable endpoints: what a freeze stops, when it says so, and the way back. */
#include "world.h"

#define BUF (4 * MIB) /* a page in both ends, mapped at that offset of their windows */

static int64_t to_guest(struct world *w)
{
	return h_copy_rdma(w->s.v, 64, w->s.u->liobn, at(&w->s, BUF), w->s.u->remote_liobn,
			   ioba_add(w->s.u->remote_window, BUF));
}

static int64_t from_guest(struct world *w)
{
	return h_copy_rdma(w->s.v, 64, w->s.u->remote_liobn, ioba_add(w->s.u->remote_window, BUF),
			   w->s.u->liobn, at(&w->s, BUF));
}

static void up(struct world *w)
{
	connect_ends(w);
	map_tces(&w->s, BUF, BUF, PAGE, TCE_READ | TCE_WRITE);
	map_tces(&w->g, BUF, BUF, PAGE, TCE_READ | TCE_WRITE);
	memset(mem(&w->s, BUF), 's', PAGE);
	memset(mem(&w->g, BUF), 'g', PAGE);
	assert_int_equal(to_guest(w), H_SUCCESS);
	memset(mem(&w->g, BUF), 'g', PAGE);
}

static struct phyp_pe pe(const struct end *e)
{
	struct phyp_pe x = {0};

	assert_int_equal(h_read_pe_state(e->v, e->u->unit, &x), H_SUCCESS);
	return x;
}

static int64_t set(const struct end *e, enum pe_state state)
{
	return h_set_pe_state(e->v, e->u->unit, state);
}

static int64_t grant(const struct end *e, uint64_t *cookie)
{
	return h_grant_logical(e->v, GRANT_SYSTEM_MEMORY, (struct gla){BUF}, PAGE, e->u->unit,
			       cookie);
}

static int64_t accept_it(const struct end *e, uint64_t cookie, struct gla *a)
{
	uint64_t len, flags;

	return h_accept_logical(e->v, cookie, a, &len, &flags);
}

static void expect_silence(struct world *w, uint64_t of_guest, uint64_t of_server)
{
	uint64_t regs[PHYP_REGS] = {0}, cookie = 0;
	struct gla a;

	assert_int_equal(to_guest(w), H_R_STATE);
	assert_int_equal(from_guest(w), H_R_STATE);
	assert_int_equal(h_read_rdma(w->s.v, 8, w->s.u->remote_liobn,
				     ioba_add(w->s.u->remote_window, BUF), regs),
			 H_R_STATE);
	assert_int_equal(h_write_rdma(w->s.v, 8, w->s.u->remote_liobn,
				      ioba_add(w->s.u->remote_window, BUF), regs),
			 H_R_STATE);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_R_STATE);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(2), 0), H_R_STATE);
	assert_int_equal(grant(&w->g, &cookie), H_R_STATE);
	assert_int_equal(grant(&w->s, &cookie), H_R_STATE);
	assert_int_equal(accept_it(&w->s, of_guest, &a), H_R_STATE);
	assert_int_equal(accept_it(&w->g, of_server, &a), H_R_STATE);
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(mem(&w->g, BUF)[i], 'g');
		assert_int_equal(mem(&w->s, BUF)[i], 's');
	}
}

static void nothing_passes_a_frozen_endpoint_in_either_direction(void **state)
{
	struct world *w = *state;
	uint64_t of_guest = 0, of_server = 0;

	up(w);
	assert_int_equal(grant(&w->g, &of_guest), H_SUCCESS);
	assert_int_equal(grant(&w->s, &of_server), H_SUCCESS);
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	expect_silence(w, of_guest, of_server);
	expect_empty(&w->g);
	expect_empty(&w->s);
	/* The owner may unmap; its own memory is its own. */
	assert_int_equal(h_put_tce(w->g.v, w->g.u->liobn, at(&w->g, BUF), 0), H_SUCCESS);
	assert_int_equal(pe(&w->g).state, PE_FROZEN);
	assert_int_equal(pe(&w->g).reason, PE_ASKED);
	assert_int_equal(pe(&w->g).draining, 0);
	assert_int_equal(pe(&w->s).state, PE_NORMAL);
	assert_int_equal(pe(&w->s).far, PE_FROZEN);
}

static void a_servers_frozen_end_stops_its_own_windows_as_well(void **state)
{
	struct world *w = *state;
	uint64_t of_guest = 0, of_server = 0;

	up(w);
	assert_int_equal(grant(&w->g, &of_guest), H_SUCCESS);
	assert_int_equal(grant(&w->s, &of_server), H_SUCCESS);
	assert_int_equal(set(&w->s, PE_FROZEN), H_SUCCESS);
	expect_silence(w, of_guest, of_server);
	assert_int_equal(h_copy_rdma(w->s.v, 8, w->s.u->liobn, at(&w->s, BUF), w->s.u->liobn,
				     at(&w->s, BUF + 64)),
			 H_R_STATE);
}

static void what_was_accepted_is_taken_back_by_a_freeze(void **state)
{
	struct world *w = *state;
	uint64_t of_guest = 0, of_server = 0;
	struct gla in_server, in_guest;

	up(w);
	assert_int_equal(grant(&w->g, &of_guest), H_SUCCESS);
	assert_int_equal(grant(&w->s, &of_server), H_SUCCESS);
	assert_int_equal(accept_it(&w->s, of_guest, &in_server), H_SUCCESS);
	assert_int_equal(accept_it(&w->g, of_server, &in_guest), H_SUCCESS);
	assert_non_null(phyp_mem(w->s.part, in_server, PAGE));
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	assert_null(phyp_mem(w->s.part, in_server, PAGE));
	assert_null(phyp_mem(w->g.part, in_guest, PAGE));
}

static uint64_t drain_start(void *ctx)
{
	(void)ctx;
	return 1;
}

static bool drain_done(void *ctx, uint64_t n)
{
	return n == 1 && *(bool *)ctx;
}

static void a_freeze_is_not_done_while_a_device_still_uses_the_pages(void **state)
{
	struct world *w = *state;
	bool ended = false;
	const struct phyp_drain drain = {.start = drain_start, .done = drain_done, .ctx = &ended};
	uint64_t cookie = 0;
	struct gla a;

	up(w);
	phyp_on_rescind(w->s.part, w->s.u->unit, &drain);
	assert_int_equal(grant(&w->g, &cookie), H_SUCCESS);
	assert_int_equal(accept_it(&w->s, cookie, &a), H_SUCCESS);
	assert_int_equal(set(&w->g, PE_FROZEN), H_PARTIAL);
	assert_int_equal(pe(&w->g).draining, 1);
	assert_int_equal(to_guest(w), H_R_STATE);
	assert_int_equal(set(&w->g, PE_RESET), H_PARTIAL);
	assert_int_equal(pe(&w->g).state, PE_FROZEN);
	ended = true;
	assert_int_equal(set(&w->g, PE_RESET), H_SUCCESS);
	assert_int_equal(pe(&w->g).state, PE_RESET);
	phyp_on_rescind(w->s.part, w->s.u->unit, NULL);
}

static void a_freeze_is_not_done_while_a_call_that_began_before_is_inside(void **state)
{
	struct world *w = *state;

	up(w);
	hv_dma_begin(w->s.v); /* as if the server's thread stood still in it */
	assert_int_equal(set(&w->g, PE_FROZEN), H_PARTIAL);
	assert_int_equal(set(&w->g, PE_RESET), H_PARTIAL);
	assert_int_equal(pe(&w->g).draining, 1);
	hv_dma_end(w->s.v);
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	assert_int_equal(pe(&w->g).draining, 0);
}

static void the_way_back_is_reset_thaw_and_a_start(void **state)
{
	struct world *w = *state;

	up(w);
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	assert_int_equal(set(&w->g, PE_NORMAL), H_R_STATE); /* not without a reset */
	assert_int_equal(set(&w->g, PE_RESET), H_SUCCESS);
	assert_int_equal(set(&w->g, PE_RESET), H_SUCCESS);
	assert_int_equal(set(&w->g, PE_FROZEN), H_R_STATE);
	expect_event(&w->s, CRQ_XPORT_PARTNER_DEREGISTERED);
	assert_int_equal(crq_up(&w->g, 1), H_R_STATE);
	assert_int_equal(set(&w->g, PE_NORMAL), H_SUCCESS);
	assert_int_equal(set(&w->g, PE_NORMAL), H_SUCCESS);
	assert_int_equal(to_guest(w), H_DEST_PARM); /* nobody registered it again */
	assert_int_equal(crq_up(&w->g, 1), H_SUCCESS);
	assert_int_equal(to_guest(w), H_SUCCESS);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(3), 4), H_SUCCESS);
	expect_entry(&w->g, CMD(3), 4);
	assert_int_equal(pe(&w->g).reason, PE_NO_REASON);
}

static void a_partner_that_registers_again_does_not_connect_a_frozen_end(void **state)
{
	struct world *w = *state;

	up(w);
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	assert_int_equal(h_free_crq(w->s.v, w->s.u->unit), H_SUCCESS);
	assert_int_equal(crq_up(&w->s, 1), H_SUCCESS);
	assert_int_equal(h_enable_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	assert_int_equal(to_guest(w), H_R_STATE);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_R_STATE);
}

static void both_ends_are_woken_to_look(void **state)
{
	struct world *w = *state;

	up(w);
	assert_int_equal(h_vio_signal(w->g.v, w->g.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	assert_int_equal(phyp_irq_take(w->g.v), 1);
	assert_int_equal(phyp_irq_take(w->s.v), 1);
	assert_true(phyp_event_take(w->g.v, w->g.u->unit));
	assert_true(phyp_event_take(w->s.v, w->s.u->unit));
	assert_false(phyp_event_take(w->g.v, w->g.u->unit));
}

static void whoever_takes_over_a_units_interrupt_is_told_of_a_freeze_before(void **state)
{
	struct world *w = *state;
	struct phyp_vcpu *other;

	up(w);
	assert_int_equal(phyp_vcpu_create(w->g.part, &other, NULL), 0);
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	assert_int_equal(phyp_irq_route(other, w->g.u->unit), 0);
	assert_false(phyp_event_take(w->g.v, w->g.u->unit));
	assert_true(phyp_event_take(other, w->g.u->unit));
	phyp_vcpu_destroy(other);
}

static void only_ones_own_endpoint_and_only_to_a_state_there_is(void **state)
{
	struct world *w = *state;
	struct phyp_pe x;

	assert_int_equal(h_set_pe_state(w->g.v, w->s.u->unit, PE_FROZEN), H_PARAMETER);
	assert_int_equal(h_set_pe_state(w->s.v, w->g.u->unit, PE_FROZEN), H_PARAMETER);
	assert_int_equal(h_read_pe_state(w->g.v, w->s.u->unit, &x), H_PARAMETER);
	assert_int_equal(h_read_pe_state(w->g.v, 0, &x), H_PARAMETER);
	assert_int_equal(h_set_pe_state(w->g.v, w->g.u->unit, (enum pe_state)3), H_PARAMETER);
	assert_int_equal(pe(&w->g).state, PE_NORMAL);
}

/* -------------------------------------------------------------------------------- bad DMA ---- */

static int freezing_up(void **state)
{
	struct phyp_profile p;

	phyp_profile_default(&p, 2, 32, 32);
	for (unsigned i = 0; i < p.n_parts; i++)
		p.part[i].pages = PHYP_PAGES_4K;
	p.freeze = true;
	*state = world_of(&p);
	return 0;
}

#define FREEZING_TEST(f) cmocka_unit_test_setup_teardown(f, freezing_up, world_down)

static int64_t bad_read(struct world *w, uint64_t off)
{
	return h_copy_rdma(w->s.v, 64, w->s.u->remote_liobn, ioba_add(w->s.u->remote_window, off),
			   w->s.u->liobn, at(&w->s, BUF));
}

static int64_t bad_write(struct world *w, uint64_t off)
{
	const uint64_t data[6] = {0};

	return h_write_rdma(w->s.v, 8, w->s.u->remote_liobn, ioba_add(w->s.u->remote_window, off),
			    data);
}

static void recover(struct world *w)
{
	assert_int_equal(set(&w->g, PE_RESET), H_SUCCESS);
	assert_int_equal(set(&w->g, PE_NORMAL), H_SUCCESS);
	assert_int_equal(crq_up(&w->g, 1), H_SUCCESS);
}

static void a_bad_dma_freezes_its_adapter_and_says_which_and_where(void **state)
{
	struct world *w = *state;
	uint64_t page = ioba_add(w->s.u->remote_window, BUF + PAGE).v;

	up(w);
	assert_int_equal(bad_read(w, BUF + PAGE + 8), H_PERMISSION);
	assert_int_equal(pe(&w->g).state, PE_FROZEN);
	assert_int_equal(pe(&w->g).reason, PE_BAD_READ);
	assert_int_equal(pe(&w->g).ioba, page);
	assert_int_equal(pe(&w->s).state, PE_NORMAL);
	assert_int_equal(to_guest(w), H_R_STATE);
	/* What comes after it does not change the reason. */
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	assert_int_equal(pe(&w->g).reason, PE_BAD_READ);
	recover(w);
	assert_int_equal(to_guest(w), H_SUCCESS);
	assert_int_equal(bad_write(w, BUF + PAGE), H_PERMISSION);
	assert_int_equal(pe(&w->g).reason, PE_BAD_WRITE);
	recover(w);
	assert_int_equal(bad_write(w, w->s.u->remote_window_bytes), H_DEST_PARM);
	assert_int_equal(pe(&w->g).state, PE_FROZEN);
}

static void a_copy_that_runs_into_a_hole_names_the_hole(void **state)
{
	struct world *w = *state;

	up(w);
	assert_int_equal(bad_read(w, BUF + PAGE - 8), H_PERMISSION);
	assert_int_equal(pe(&w->g).ioba, ioba_add(w->s.u->remote_window, BUF + PAGE).v);
}

static void an_adapters_bad_dma_leaves_the_others_alone(void **state)
{
	struct world *w = *state;
	const struct phyp_unit_info *two = phyp_unit(w->s.part, 1);
	struct end other;

	up(w);
	end_open(w->m, "guest1", &other);
	map_tces(&other, CRQ_AT, CRQ_AT, PAGE, TCE_READ | TCE_WRITE);
	memset(mem(&other, CRQ_AT), 0, PAGE);
	assert_int_equal(h_reg_crq(other.v, other.u->unit, at(&other, CRQ_AT), PAGE), H_CLOSED);
	assert_int_equal(h_put_tce(w->s.v, two->liobn, two->window, (2 * MIB) | TCE_WRITE),
			 H_SUCCESS);
	memset(mem(&w->s, 2 * MIB), 0, PAGE);
	assert_int_equal(h_reg_crq(w->s.v, two->unit, two->window, PAGE), H_SUCCESS);
	assert_int_equal(bad_read(w, BUF + PAGE), H_PERMISSION);
	assert_int_equal(pe(&w->g).state, PE_FROZEN);
	assert_int_equal(pe(&other).state, PE_NORMAL);
	assert_int_equal(h_send_crq(w->s.v, two->unit, CMD(5), 6), H_SUCCESS);
	assert_int_equal(h_send_crq(other.v, other.u->unit, CMD(5), 6), H_SUCCESS);
	end_close(&other);
}

static void a_bad_dma_takes_back_what_its_caller_had_accepted(void **state)
{
	struct world *w = *state;
	uint64_t cookie = 0;
	struct gla a;

	up(w);
	assert_int_equal(grant(&w->g, &cookie), H_SUCCESS);
	assert_int_equal(accept_it(&w->s, cookie, &a), H_SUCCESS);
	assert_int_equal(bad_read(w, BUF + PAGE), H_PERMISSION);
	assert_null(phyp_mem(w->s.part, a, PAGE));
}

static void a_fault_of_the_device_can_be_put_in_by_the_fault_filter(void **state)
{
	struct world *w = *state;
	struct phyp_filter *f;

	up(w);
	assert_int_equal(phyp_fault_create("H_COPY_RDMA@2=STRAY,H_SEND_CRQ@1=FREEZE", &f, NULL), 0);
	phyp_filter_push(w->s.part, f);
	assert_int_equal(to_guest(w), H_SUCCESS);
	assert_int_equal(to_guest(w), H_DEST_PARM);
	assert_int_equal(pe(&w->g).reason, PE_BAD_WRITE);
	recover(w);
	assert_int_equal(to_guest(w), H_SUCCESS);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 0), H_R_STATE);
	assert_int_equal(pe(&w->s).reason, PE_ASKED);
	phyp_filter_pop(w->s.part);
	phyp_fault_free(f);
}

static void without_the_option_a_bad_dma_freezes_nothing(void **state)
{
	struct world *w = *state;

	up(w);
	assert_int_equal(bad_read(w, BUF + PAGE), H_PERMISSION);
	assert_int_equal(pe(&w->g).state, PE_NORMAL);
	assert_int_equal(to_guest(w), H_SUCCESS);
}

static void who_is_not_connected_is_not_frozen_by_an_old_address(void **state)
{
	struct world *w = *state;

	up(w);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	assert_int_equal(bad_write(w, w->s.u->remote_window_bytes), H_DEST_PARM);
	assert_int_equal(pe(&w->g).state, PE_NORMAL);
}

static void a_partition_that_died_frozen_comes_back_normal(void **state)
{
	struct world *w = *state;

	up(w);
	assert_int_equal(set(&w->g, PE_FROZEN), H_SUCCESS);
	phyp_local_kill(w->m, "guest0");
	end_close(&w->g);
	end_open(w->m, "guest0", &w->g);
	assert_int_equal(pe(&w->g).state, PE_NORMAL);
	assert_int_equal(crq_up(&w->g, 1), H_SUCCESS);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 0), H_SUCCESS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(nothing_passes_a_frozen_endpoint_in_either_direction),
		WORLD_TEST(a_servers_frozen_end_stops_its_own_windows_as_well),
		WORLD_TEST(what_was_accepted_is_taken_back_by_a_freeze),
		WORLD_TEST(a_freeze_is_not_done_while_a_device_still_uses_the_pages),
		WORLD_TEST(a_freeze_is_not_done_while_a_call_that_began_before_is_inside),
		WORLD_TEST(the_way_back_is_reset_thaw_and_a_start),
		WORLD_TEST(a_partner_that_registers_again_does_not_connect_a_frozen_end),
		WORLD_TEST(both_ends_are_woken_to_look),
		WORLD_TEST(whoever_takes_over_a_units_interrupt_is_told_of_a_freeze_before),
		WORLD_TEST(only_ones_own_endpoint_and_only_to_a_state_there_is),
		FREEZING_TEST(a_bad_dma_freezes_its_adapter_and_says_which_and_where),
		FREEZING_TEST(a_copy_that_runs_into_a_hole_names_the_hole),
		FREEZING_TEST(an_adapters_bad_dma_leaves_the_others_alone),
		FREEZING_TEST(a_bad_dma_takes_back_what_its_caller_had_accepted),
		FREEZING_TEST(a_fault_of_the_device_can_be_put_in_by_the_fault_filter),
		WORLD_TEST(without_the_option_a_bad_dma_freezes_nothing),
		FREEZING_TEST(who_is_not_connected_is_not_frozen_by_an_old_address),
		WORLD_TEST(a_partition_that_died_frozen_comes_back_normal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
