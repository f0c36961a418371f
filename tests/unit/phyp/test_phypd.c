/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phypd and real processes: this one is the server partition, guests are processes of their own.
 * Usage: test_phyp_phypd PHYPD; executed again as "test_phyp_phypd guest SOCKET PARTITION" for each
 * guest.
 */
#include "tests/unit/phyp/phypd_machine.h"

static int64_t pull(struct machine *m, uint64_t len)
{
	const struct phyp_unit_info *u = m->s.u;

	return h_copy_rdma(m->s.v, len, u->remote_liobn, ioba_add(u->remote_window, 2 * MIB),
			   u->liobn, at(&m->s, 2 * MIB));
}

static int64_t push(struct machine *m, uint64_t len)
{
	const struct phyp_unit_info *u = m->s.u;

	return h_copy_rdma(m->s.v, len, u->liobn, at(&m->s, 2 * MIB), u->remote_liobn,
			   ioba_add(u->remote_window, 2 * MIB));
}

/* Wait for the next entry in the server's queue, asleep; returns its first two bytes. */
static unsigned next_entry(struct machine *m)
{
	uint64_t hi, lo;

	while (!phyp_crq_pop(&m->s.crq, &hi, &lo)) {
		assert_int_equal(phyp_vcpu_wait(m->s.v, 0, PATIENCE_NS), 0);
		phyp_irq_take(m->s.v);
	}
	return (unsigned)(hi >> 48);
}

/* A byte that the kernel reads for us: a fault is an error code. */
static bool readable(const void *p)
{
	int fd[2];
	bool ok;

	assert_int_equal(pipe(fd), 0);
	ok = write(fd[1], p, 1) == 1;
	close(fd[0]);
	close(fd[1]);
	return ok;
}

static void entries_interrupts_and_rdma_pass_between_processes(void **state)
{
	struct machine *m = *state;
	static const enum phyp_alias kinds[] = {PHYP_ALIAS_TRANSIENT, PHYP_ALIAS_CRQ,
						PHYP_ALIAS_RDMA};

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	assert_int_equal(child_ask(&m->guest, 's'), H_SUCCESS);
	assert_int_equal(next_entry(m), CMD(0) >> 48);
	assert_int_equal(child_ask(&m->guest, 'M'), 0);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t *byte = mem(&m->s, 2 * MIB);

		assert_int_equal(phyp_alias_set(m->s.part, m->s.u->unit, kinds[i], NULL), 0);
		*byte = 0;
		assert_int_equal(child_ask(&m->guest, 'M'), 0);
		assert_int_equal(pull(m, 100000), H_SUCCESS);
		assert_int_equal(*byte, 0x5a);
		*byte = (uint8_t)(0x10 + i);
		assert_int_equal(push(m, 100000), H_SUCCESS);
		assert_int_equal(child_ask(&m->guest, 'm'), 0x10 + i);
		assert_int_equal(h_send_crq(m->s.v, m->s.u->unit, CMD(3), 3), H_SUCCESS);
		assert_int_equal(child_ask(&m->guest, 'w'), 0);
		assert_int_equal(child_ask(&m->guest, 'e'), CMD(3) >> 48);
	}
}

static void a_sleeping_guest_is_woken_by_an_entry(void **state)
{
	struct machine *m = *state;
	const char wait = 'w';
	struct phyp_part_stats st[PHYP_MAX_PARTS];
	unsigned n;

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	assert_int_equal(write(m->guest.to, &wait, 1), 1);
	/* Until phypd's counters say that it sleeps. */
	UNTIL((n = PHYP_MAX_PARTS,
	       phyp_machine_stats(m->s.part, st, &n, NULL) == 0 && st[1].c.sleeps > 0));
	assert_int_equal(n, 3);
	assert_string_equal(st[1].name, "guest0");
	assert_true(st[0].active && st[1].active && !st[2].active);
	assert_int_equal(h_send_crq(m->s.v, m->s.u->unit, CMD(3), 3), H_SUCCESS);
	assert_int_equal(child_ask(&m->guest, 'e'), 0); /* the answer to 'w' */
	assert_int_equal(phyp_vcpu_counters(m->s.v)->irq_raised, 1);
}

static void a_killed_guest_is_reported_and_its_successor_gets_fresh_memory(void **state)
{
	struct machine *m = *state;

	assert_int_equal(phyp_alias_set(m->s.part, m->s.u->unit, PHYP_ALIAS_RDMA, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
		assert_int_equal(child_ask(&m->guest, 'm'), 0);
		assert_int_equal(child_ask(&m->guest, 'M'), 0);
		assert_int_equal(pull(m, 1), H_SUCCESS);
		assert_int_equal(*mem(&m->s, 2 * MIB), 0x5a);
		assert_int_equal(child_kill(&m->guest, SIGKILL), 128 + SIGKILL);
		assert_int_equal(next_entry(m), 0xFF00 | CRQ_XPORT_PARTNER_FAILED);
		assert_int_equal(pull(m, 1), H_SOURCE_PARM);
		assert_int_equal(h_send_crq(m->s.v, m->s.u->unit, CMD(3), 3), H_CLOSED);
		m->guest = start_guest(m, "guest0");
	}
	UNTIL(strstr(text_of(m->log), "partition guest0 (pid "));
	assert_non_null(strstr(text_of(m->log), "has gone"));
	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	assert_int_equal(pull(m, 1), H_SUCCESS);
	assert_int_equal(*mem(&m->s, 2 * MIB), 0);
}

static void an_orderly_close_is_reported_as_deregistered(void **state)
{
	struct machine *m = *state;

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	assert_int_equal(child_ask(&m->guest, 'x'), 0);
	assert_int_equal(next_entry(m), 0xFF00 | CRQ_XPORT_PARTNER_DEREGISTERED);
	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	assert_null(strstr(text_of(m->log), "has gone"));
}

static void a_forced_rescind_reaches_into_the_other_process(void **state)
{
	struct machine *m = *state;
	uint64_t cookie, len = 0, flags = 0;
	struct gla a = {0};
	uint8_t *p;

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	cookie = (uint64_t)child_ask(&m->guest, 'g');
	assert_int_equal(h_accept_logical(m->s.v, cookie, &a, &len, &flags), H_SUCCESS);
	p = phyp_mem(m->s.part, a, len);
	assert_true(readable(p));
	assert_true(child_ask(&m->guest, 'r') >= 0);
	assert_false(readable(p));
	assert_null(phyp_mem(m->s.part, a, len));
	assert_int_equal(h_return_logical(m->s.v, cookie), H_RESCINDED);
}

static void a_killed_owners_grant_stays_for_the_grace_and_then_goes(void **state)
{
	struct machine *m = *state;
	uint64_t cookie, len = 0, flags = 0, killed;
	struct gla a = {0};
	uint8_t *p;

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	cookie = (uint64_t)child_ask(&m->guest, 'g');
	assert_int_equal(h_accept_logical(m->s.v, cookie, &a, &len, &flags), H_SUCCESS);
	p = phyp_mem(m->s.part, a, len);
	killed = vio_now_ns();
	child_kill(&m->guest, SIGKILL);
	assert_int_equal(next_entry(m), 0xFF00 | CRQ_XPORT_PARTNER_FAILED);
	while (readable(p) && vio_now_ns() - killed < PATIENCE_NS)
		usleep(2000);
	assert_false(readable(p));
	assert_true(vio_now_ns() - killed >= 2000000000ull); /* LoPAR: not before 2 s */
	assert_int_equal(h_return_logical(m->s.v, cookie), H_RESCINDED);
}

static int64_t register_unit(struct end *e)
{
	return h_reg_crq(e->v, e->u->unit, at(e, CRQ_AT), PAGE);
}

/* guest0 stops in the middle of a call; its server ends, comes back and serves the other guest. */
static void
a_guest_stopped_inside_a_call_blocks_neither_server_nor_phypd_nor_neighbour(void **state)
{
	struct machine *m = *state;
	struct child neighbour = start_guest(m, "guest1");
	struct vio_err err;
	struct end other;
	int64_t rc;

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	assert_int_equal(child_ask(&m->guest, 'h'), 0);
	kill(m->guest.pid, SIGSTOP);
	assert_int_equal(h_send_crq(m->s.v, m->s.u->unit, CMD(1), 1), H_BUSY);
	end_close(&m->s); /* phypd answers, though it can't close this queue */
	assert_int_equal(phyp_connect(m->sock, "vios", &m->s.part, &err), 0);
	assert_int_equal(phyp_vcpu_create(m->s.part, &m->s.v, &err), 0);
	m->s.u = phyp_unit(m->s.part, 0);
	map_tces(&m->s, CRQ_AT, CRQ_AT, PAGE, TCE_READ | TCE_WRITE);
	assert_int_equal(register_unit(&m->s), H_BUSY);
	other = m->s;
	other.u = phyp_unit(m->s.part, 1);
	map_tces(&other, CRQ_AT, CRQ_AT, PAGE, TCE_READ | TCE_WRITE);
	assert_int_equal(register_unit(&other), H_CLOSED);
	assert_int_equal(child_ask(&neighbour, 'c'), H_SUCCESS);
	/* Busy for a moment is anybody's right; for good would be what this test is about. */
	UNTIL((rc = child_ask(&neighbour, 's')) != H_BUSY);
	assert_int_equal(rc, H_SUCCESS);
	child_kill(&neighbour, SIGKILL);
	/* It goes on, or ends: the queue is there again. */
	child_kill(&m->guest, SIGKILL);
	UNTIL((rc = register_unit(&m->s)) != H_BUSY);
	assert_true(rc == H_CLOSED || rc == H_SUCCESS); /* its end may not be noticed yet */
}

static void phypd_ends_on_sigterm_while_a_stopped_guest_holds_its_servers_queue(void **state)
{
	struct machine *m = *state;

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	assert_int_equal(child_ask(&m->guest, 'h'), 0);
	kill(m->guest.pid, SIGSTOP);
	end_close(&m->s);
	assert_int_equal(child_kill(&m->phypd, SIGTERM), 0);
}

static void the_death_of_phypd_ends_the_machine_for_everybody(void **state)
{
	struct machine *m = *state;
	struct phyp_part_stats st[1];
	struct phyp_part *part;
	struct vio_err err = {{0}};
	unsigned n = 1;

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	child_kill(&m->phypd, SIGKILL);
	assert_int_equal(child_ask(&m->guest, 'w'), -EPIPE);
	assert_int_equal(child_ask(&m->guest, 'a'), 0);
	while (phyp_vcpu_wait(m->s.v, 0, PATIENCE_NS) == 0)
		phyp_irq_take(m->s.v);
	assert_int_equal(phyp_vcpu_wait(m->s.v, 0, PATIENCE_NS), -EPIPE);
	assert_false(phyp_alive(m->s.part));
	assert_int_equal(phyp_machine_stats(m->s.part, st, &n, &err), -EPIPE);
	assert_int_equal(phyp_connect(m->sock, "guest1", &part, &err), -ECONNREFUSED);
	end_close(&m->s);
	/* The socket that it left is no obstacle. */
	start_phypd(m);
	open_server(m);
	assert_int_equal(child_ask(&m->guest, 'x'), 0);
	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
}

static void two_guests_share_a_server_and_not_each_other(void **state)
{
	struct machine *m = *state;
	struct child g1 = start_guest(m, "guest1");
	const struct phyp_unit_info *u1 = phyp_unit(m->s.part, 1);

	assert_int_equal(child_ask(&m->guest, 'c'), H_SUCCESS);
	assert_int_equal(child_ask(&g1, 'c'),
			 H_CLOSED); /* the server has no queue at its second adapter */
	assert_int_equal(h_put_tce(m->s.v, u1->liobn, u1->window, 8 * MIB | 3), H_SUCCESS);
	assert_int_equal(h_reg_crq(m->s.v, u1->unit, u1->window, PAGE), H_SUCCESS);
	assert_int_equal(h_send_crq(m->s.v, u1->unit, CMD(4), 4), H_SUCCESS);
	assert_int_equal(child_ask(&g1, 'w'), 0);
	assert_int_equal(child_ask(&g1, 'e'), CMD(4) >> 48);
	child_kill(&g1, SIGKILL);
	assert_int_equal(h_send_crq(m->s.v, m->s.u->unit, CMD(5), 5), H_SUCCESS);
	assert_int_equal(child_ask(&m->guest, 'w'), 0);
	assert_int_equal(child_ask(&m->guest, 'e'), CMD(5) >> 48);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(entries_interrupts_and_rdma_pass_between_processes,
						up, down),
		cmocka_unit_test_setup_teardown(a_sleeping_guest_is_woken_by_an_entry, up, down),
		cmocka_unit_test_setup_teardown(
			a_killed_guest_is_reported_and_its_successor_gets_fresh_memory, up, down),
		cmocka_unit_test_setup_teardown(an_orderly_close_is_reported_as_deregistered, up,
						down),
		cmocka_unit_test_setup_teardown(a_forced_rescind_reaches_into_the_other_process, up,
						down),
		cmocka_unit_test_setup_teardown(
			a_killed_owners_grant_stays_for_the_grace_and_then_goes, up, down),
		cmocka_unit_test_setup_teardown(
			a_guest_stopped_inside_a_call_blocks_neither_server_nor_phypd_nor_neighbour,
			up, down),
		cmocka_unit_test_setup_teardown(
			phypd_ends_on_sigterm_while_a_stopped_guest_holds_its_servers_queue, up,
			down),
		cmocka_unit_test_setup_teardown(the_death_of_phypd_ends_the_machine_for_everybody,
						up, down),
		cmocka_unit_test_setup_teardown(two_guests_share_a_server_and_not_each_other, up,
						down),
	};
	int rc = child_begin(argc, argv, &phypd_path);

	return rc < 0 ? cmocka_run_group_tests(tests, NULL, NULL) : rc;
}
