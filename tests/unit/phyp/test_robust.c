/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A partition killed at any point inside a call blocks nobody. Each case: a forked child stops in
 * the middle, as SIGKILL would stop it, and the parent goes on. The in-process machine's segment is
 * shared memory, so the child is a real other process to its locks.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

static void in_child(void (*work)(struct world *w), struct world *w)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		work(w);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static struct hv_unit *unit_of(struct end *e)
{
	return hv_own_unit(e->part, e->u->unit)->u;
}

static void die_with_all_locks(struct world *w)
{
	if (!hv_pair_lock(w->g.part->seg, unit_of(&w->g)))
		_exit(1);
}

static void a_sender_killed_with_the_locks_held_blocks_nobody(void **state)
{
	struct world *w = *state;
	uint64_t cookie;

	connect_ends(w);
	in_child(die_with_all_locks, w);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 1), H_SUCCESS);
	expect_entry(&w->s, CMD(1), 1);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(2), 2), H_SUCCESS);
	expect_entry(&w->g, CMD(2), 2);
	assert_int_equal(h_grant_logical(w->g.v, GRANT_SYSTEM_MEMORY, (struct gla){0}, PAGE,
					 w->g.u->unit, &cookie),
			 H_SUCCESS);
	in_child(die_with_all_locks, w);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	expect_event(&w->s, CRQ_XPORT_PARTNER_DEREGISTERED);
}

/* As SIGSTOP, a debugger or a freezer would leave it. */
static pid_t stopped_with_all_locks(struct world *w)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		die_with_all_locks(w);
		raise(SIGSTOP);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

static void a_partition_stopped_with_the_locks_held_keeps_nobody_waiting(void **state)
{
	struct world *w = *state;
	struct hv_unit *told, *u = unit_of(&w->s);
	struct hv_slots slots = {.slot = hv_slot_machine, .fd = w->m->lmb[w->g.part->idx]};
	uint64_t cookie = 0, len, flags;
	struct gla a;
	pid_t pid;

	connect_ends(w);
	pid = stopped_with_all_locks(w);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(1), 1), H_BUSY);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(1), 1), H_BUSY);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_BUSY);
	assert_int_equal(h_enable_crq(w->s.v, w->s.u->unit), H_BUSY);
	assert_int_equal(hv_crq_close(w->g.part->seg, u, UINT32_MAX / 2, CRQ_XPORT_PARTNER_FAILED,
				      &slots, &told),
			 -EBUSY);
	assert_true(hv_agent_sweep(w->s.part)); /* to be done again */
	/* Grants have no lock. */
	assert_int_equal(h_grant_logical(w->g.v, GRANT_SYSTEM_MEMORY, (struct gla){0}, PAGE,
					 w->g.u->unit, &cookie),
			 H_SUCCESS);
	assert_int_equal(h_accept_logical(w->s.v, cookie, &a, &len, &flags), H_SUCCESS);
	assert_int_equal(h_return_logical(w->s.v, cookie), H_SUCCESS);
	assert_int_equal(h_rescind_logical(w->g.v, RESCIND_NORMAL, cookie), H_SUCCESS);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_false(hv_agent_sweep(w->s.part));
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(2), 2), H_SUCCESS);
	expect_entry(&w->s, CMD(2), 2);
}

/* Its queue could not be closed when it ended; the next process of the partition finds it. */
static void a_queue_left_registered_by_a_dead_generation_is_closed_by_the_next(void **state)
{
	struct world *w = *state;
	struct hv_seg *seg = w->g.part->seg;
	struct hv_unit *u = unit_of(&w->g);

	connect_ends(w);
	u->crq.gen--; /* registered by the process before this one */
	assert_int_equal(h_reg_crq(w->g.v, w->g.u->unit, at(&w->g, CRQ_AT), PAGE), H_SUCCESS);
	expect_event(&w->s, CRQ_XPORT_PARTNER_FAILED);
	assert_int_equal(u->crq.gen, seg->part[w->g.part->idx].active);
	/* What phypd still had to close is not what is registered now. */
	assert_int_equal(hv_machine_close(w->m, (uint32_t)(u - seg->unit), u->crq.gen - 1,
					  CRQ_XPORT_PARTNER_FAILED),
			 0);
	assert_int_equal(h_send_crq(w->s.v, w->s.u->unit, CMD(3), 3), H_SUCCESS);
}

static void a_guessed_cookie_or_that_of_another_adapter_has_no_effect(void **state)
{
	struct world *w = *state;
	const uint64_t other = w->s.u->unit + 2;
	uint64_t cookie = 0, ret[PHYP_REGS] = {0}, args[PHYP_REGS] = {0}, len, flags;
	struct gla a;

	connect_ends(w);
	assert_int_equal(h_grant_logical(w->g.v, GRANT_SYSTEM_MEMORY, (struct gla){0}, PAGE,
					 w->g.u->unit, &cookie),
			 H_SUCCESS);
	for (unsigned bit = 12; bit < 64; bit++)
		assert_int_equal(h_accept_logical(w->s.v, cookie ^ 1ull << bit, &a, &len, &flags),
				 H_PARAMETER);
	args[0] = cookie;
	args[1] = other;
	assert_int_equal(phyp_hcall(w->s.v, H_ACCEPT_LOGICAL, args, ret), H_PARAMETER);
	args[1] = w->s.u->unit;
	assert_int_equal(phyp_hcall(w->s.v, H_ACCEPT_LOGICAL, args, ret), H_SUCCESS);
}

static void one_partition_cannot_use_up_the_grants_of_another(void **state)
{
	struct world *w = *state;
	uint64_t cookie;
	unsigned n = 0;

	connect_ends(w);
	while (h_grant_logical(w->g.v, GRANT_SYSTEM_MEMORY, (struct gla){0}, PAGE, w->g.u->unit,
			       &cookie) == H_SUCCESS)
		n++;
	assert_int_equal(n, w->g.part->seg->grants_each);
	assert_int_equal(h_grant_logical(w->s.v, GRANT_SYSTEM_MEMORY, (struct gla){0}, PAGE,
					 w->s.u->unit, &cookie),
			 H_SUCCESS);
}

static void die_by_fault(struct world *w)
{
	struct phyp_filter *f;

	if (phyp_fault_create("H_SEND_CRQ@3=DIE", &f, NULL))
		_exit(1);
	phyp_filter_push(w->g.part, f);
	for (uint64_t i = 0; i < 10; i++)
		h_send_crq(w->g.v, w->g.u->unit, CMD(i), i);
}

static void a_die_fault_kills_at_the_chosen_call(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	in_child(die_by_fault, w);
	expect_entry(&w->s, CMD(0), 0);
	expect_entry(&w->s, CMD(1), 1);
	expect_empty(&w->s);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(7), 7), H_SUCCESS);
	expect_entry(&w->s, CMD(7), 7);
}

/*
 * hv_crq_put()'s stores, up to a point. What it does is repeated here on purpose: the test is about
 * each state that a death between two of its stores can leave.
 */
static unsigned stop_after;

static void half_a_send(struct world *w)
{
	struct hv_crq *c = &unit_of(&w->s)->crq;
	uint64_t *slot = (uint64_t *)(void *)mem(&w->s, CRQ_AT) + 2 * c->tail;

	if (!hv_lock(&c->lock, HV_LOOKS))
		_exit(1);
	c->scrub = vio_to_be64((UINT64_MAX >> 8) ^ (CMD(5) & 1)).raw;
	vio_store_relaxed(&slot[0], c->scrub);
	if (stop_after == 0)
		return;
	vio_store_release(&c->intent, c->tail + 1);
	if (stop_after == 1)
		return;
	vio_store_relaxed(&slot[1], vio_to_be64(5).raw);
	if (stop_after == 2)
		return;
	vio_store_release(&slot[0], vio_to_be64(CMD(5)).raw);
	if (stop_after == 3)
		return;
	c->tail = (c->tail + 1) % c->n;
}

static void half(struct world *w, unsigned stop, bool consumed_first)
{
	stop_after = stop;
	for (uint64_t i = 0; i < 300;
	     i++) { /* not at the queue's start, and with old entries under it */
		assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(5), 5), H_SUCCESS);
		expect_entry(&w->s, CMD(5), 5);
	}
	in_child(half_a_send, w);
	if (stop >= 3 && consumed_first)
		expect_entry(&w->s, CMD(5), 5);
	assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(6), 6), H_SUCCESS);
	if (stop >= 3 && !consumed_first)
		expect_entry(&w->s, CMD(5), 5);
	expect_entry(&w->s, CMD(6), 6);
	expect_empty(&w->s);
}

static void a_send_cut_off_between_any_two_stores_leaves_the_queue_in_step(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	for (unsigned stop = 0; stop <= 4; stop++) {
		half(w, stop, false);
		half(w, stop, true);
	}
}

static void die_in_a_grant(struct world *w)
{
	struct hv_seg *seg = w->g.part->seg;
	struct hv_grant *g = &seg->grant[w->g.part->idx * seg->grants_each];

	vio_store_relaxed(&g->sharer, 99u);
	vio_store_relaxed(&g->len, 1u);
}

static void a_grant_cut_off_before_it_is_made_leaves_its_place_free(void **state)
{
	struct world *w = *state;
	uint64_t cookie = 0, len, flags;
	struct gla a = {0};

	in_child(die_in_a_grant, w);
	assert_int_equal(h_grant_logical(w->g.v, GRANT_SYSTEM_MEMORY, (struct gla){0}, PAGE,
					 w->g.u->unit, &cookie),
			 H_SUCCESS);
	assert_int_equal(h_accept_logical(w->s.v, cookie, &a, &len, &flags), H_SUCCESS);
}

static void send_for_ever(struct world *w)
{
	for (uint64_t i = 0;;)
		i += h_send_crq(w->g.v, w->g.u->unit, CMD(i), i) == H_SUCCESS; /* full: once more */
}

/*
 * Killed anywhere, again and again, by somebody else: what arrives is in order and whole, and the
 * next sender gets through.
 */
static void senders_killed_at_random_leave_order_behind(void **state)
{
	struct world *w = *state;
	uint64_t hi, lo;

	connect_ends(w);
	for (unsigned round = 0; round < 40; round++) {
		pid_t pid = fork();
		uint64_t next = 0;
		int status;

		assert_true(pid >= 0);
		if (pid == 0)
			send_for_ever(w);
		while (next < 500 + round * 37) {
			if (!phyp_crq_pop(&w->s.crq, &hi, &lo))
				continue;
			assert_int_equal(lo, next);
			assert_int_equal(hi, CMD(next));
			next++;
		}
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		while (phyp_crq_pop(&w->s.crq, &hi, &lo)) {
			assert_int_equal(lo, next);
			next++;
		}
		assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(77), 77), H_SUCCESS);
		expect_entry(&w->s, CMD(77), 77);
		expect_empty(&w->s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(a_sender_killed_with_the_locks_held_blocks_nobody),
		WORLD_TEST(a_partition_stopped_with_the_locks_held_keeps_nobody_waiting),
		WORLD_TEST(a_queue_left_registered_by_a_dead_generation_is_closed_by_the_next),
		WORLD_TEST(a_guessed_cookie_or_that_of_another_adapter_has_no_effect),
		WORLD_TEST(one_partition_cannot_use_up_the_grants_of_another),
		WORLD_TEST(a_die_fault_kills_at_the_chosen_call),
		WORLD_TEST(a_send_cut_off_between_any_two_stores_leaves_the_queue_in_step),
		WORLD_TEST(a_grant_cut_off_before_it_is_made_leaves_its_place_free),
		WORLD_TEST(senders_killed_at_random_leave_order_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
