/* SPDX-License-Identifier: BSD-3-Clause */
/* Virtual interrupts: when they are raised, who takes them, sleeping and waking without losing one. */
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

static const struct phyp_counters *counters(struct end *e)
{
	return phyp_vcpu_counters(e->v);
}

static void send_one(struct end *e, uint64_t n)
{
	assert_int_equal(h_send_crq(e->v, e->u->unit, CMD(n), n), H_SUCCESS);
}

static void registering_leaves_the_interrupt_off_until_it_is_enabled(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	send_one(&w->g, 1);
	assert_int_equal(phyp_irq_take(w->s.v), 0);
	assert_int_equal(counters(&w->g)->irq_raised, 0);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	/* What arrived before is not announced: enabling and looking once more belong together. */
	assert_int_equal(phyp_irq_take(w->s.v), 0);
	expect_entry(&w->s, CMD(1), 1);
	send_one(&w->g, 2);
	assert_int_equal(phyp_irq_take(w->s.v), 1);
	assert_int_equal(phyp_irq_take(w->s.v), 0);
	assert_int_equal(counters(&w->g)->irq_raised, 1);
	assert_int_equal(counters(&w->s)->irq_taken, 1);
}

static void one_interrupt_is_outstanding_until_it_is_taken(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	for (unsigned i = 0; i < 10; i++)
		send_one(&w->g, i);
	assert_int_equal(counters(&w->g)->irq_raised, 1);
	assert_int_equal(phyp_irq_take(w->s.v), 1);
	send_one(&w->g, 10);
	assert_int_equal(counters(&w->g)->irq_raised, 2);
	assert_int_equal(counters(&w->g)->irq_wakes, 0);
}

static void a_disabled_interrupt_is_not_raised(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_OFF), H_SUCCESS);
	send_one(&w->g, 1);
	assert_int_equal(phyp_irq_take(w->s.v), 0);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, 2), H_PARAMETER);
	assert_int_equal(h_vio_signal(w->s.v, w->g.u->unit, VIO_SIGNAL_ON), H_PARAMETER);
}

static void transport_events_raise_the_interrupt(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	assert_int_equal(h_free_crq(w->g.v, w->g.u->unit), H_SUCCESS);
	assert_int_equal(phyp_irq_take(w->s.v), 1);
	assert_int_equal(crq_up(&w->g, 1), H_SUCCESS);
	phyp_local_kill(w->m, "guest0");
	assert_int_equal(phyp_irq_take(w->s.v), 1);
}

static void a_routed_interrupt_goes_to_the_new_vcpu_also_when_it_is_pending(void **state)
{
	struct world *w = *state;
	struct phyp_vcpu *two;

	connect_ends(w);
	assert_int_equal(phyp_vcpu_create(w->s.part, &two, NULL), 0);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	send_one(&w->g, 1);
	assert_int_equal(phyp_irq_route(two, w->s.u->unit), 0);
	assert_int_equal(phyp_irq_take(w->s.v), 0);
	assert_int_equal(phyp_irq_take(two), 1);
	send_one(&w->g, 2);
	assert_int_equal(phyp_irq_take(two), 1);
	assert_int_equal(phyp_irq_route(two, w->g.u->unit), -ENOENT);
	phyp_vcpu_destroy(two);
}

static void a_partition_has_16_vcpus_and_a_place_is_used_again(void **state)
{
	struct world *w = *state;
	struct phyp_vcpu *v[PHYP_MAX_VCPUS], *more;
	struct vio_err err;

	for (unsigned i = 1; i < PHYP_MAX_VCPUS; i++)
		assert_int_equal(phyp_vcpu_create(w->s.part, &v[i], &err), 0);
	assert_int_equal(phyp_vcpu_create(w->s.part, &more, &err), -ENOSPC);
	phyp_vcpu_destroy(v[3]);
	assert_int_equal(phyp_vcpu_create(w->s.part, &v[3], &err), 0);
	for (unsigned i = 1; i < PHYP_MAX_VCPUS; i++)
		phyp_vcpu_destroy(v[i]);
}

static void waiting_returns_at_once_when_something_is_pending_and_times_out_when_not(void **state)
{
	struct world *w = *state;

	connect_ends(w);
	assert_int_equal(phyp_vcpu_wait(w->s.v, 0, 1000000), -ETIMEDOUT);
	assert_int_equal(counters(&w->s)->sleeps, 1);
	assert_int_equal(phyp_vcpu_wait(w->s.v, 1000, 0), -ETIMEDOUT);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	send_one(&w->g, 1);
	assert_int_equal(phyp_vcpu_wait(w->s.v, 0, UINT64_MAX), 0);
	assert_int_equal(phyp_vcpu_wait(w->s.v, 1000, UINT64_MAX), 0); /* does not take it */
	assert_int_equal(phyp_irq_take(w->s.v), 1);
	phyp_vcpu_prod(w->s.v);
	assert_int_equal(phyp_irq_take(w->s.v), 0);
	assert_int_equal(phyp_vcpu_wait(w->s.v, 0, UINT64_MAX), 0);
	assert_int_equal(phyp_vcpu_wait(w->s.v, 0, 1000000), -ETIMEDOUT); /* a prod is used up */
}

static void a_ready_descriptor_ends_the_wait_and_says_which_it_was(void **state)
{
	struct world *w = *state;
	struct pollfd p[2] = {{.events = POLLIN}, {.events = POLLIN}};
	int a[2], b[2];
	char c;

	connect_ends(w);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	p[0].fd = a[0];
	p[1].fd = b[0];
	p[0].revents = p[1].revents = POLLERR; /* must not be left as they are */
	assert_int_equal(phyp_vcpu_wait_fds(w->s.v, 0, 1000000, p, 2), -ETIMEDOUT);
	assert_int_equal(p[0].revents | p[1].revents, 0);
	assert_int_equal(write(b[1], "x", 1), 1);
	assert_int_equal(phyp_vcpu_wait_fds(w->s.v, 0, UINT64_MAX, p, 2), 0);
	assert_int_equal(p[0].revents, 0);
	assert_int_equal(p[1].revents, POLLIN);
	assert_int_equal(read(b[0], &c, 1), 1);
	/* An interrupt still ends it, and a descriptor does not take the interrupt away. */
	send_one(&w->g, 1);
	assert_int_equal(phyp_vcpu_wait_fds(w->s.v, 0, UINT64_MAX, p, 2), 0);
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(phyp_vcpu_wait_fds(w->s.v, 0, UINT64_MAX, p, 2), 0);
	assert_int_equal(phyp_irq_take(w->s.v), 1);
	for (unsigned i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void a_signal_ends_the_wait(void **state)
{
	struct world *w = *state;
	struct sigaction sa = {.sa_handler = on_alarm}, old;
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	/* Again and again, so that one of them meets the sleep. */
	struct itimerspec t = {.it_value = {0, 20000000}, .it_interval = {0, 20000000}};
	timer_t timer;

	sigaction(SIGALRM, &sa, &old);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
	timer_settime(timer, 0, &t, NULL);
	assert_int_equal(phyp_vcpu_wait(w->s.v, 0, UINT64_MAX), -EINTR);
	timer_delete(timer);
	sigaction(SIGALRM, &old, NULL);
}

struct dying {
	struct world *w;
	int rc;
};

static void *wait_for_ever(void *arg)
{
	struct dying *d = arg;

	d->rc = phyp_vcpu_wait(d->w->g.v, 0, UINT64_MAX);
	return NULL;
}

static void a_machine_that_goes_wakes_the_sleeper_with_epipe(void **state)
{
	struct dying d = {.w = *state, .rc = 1};
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, wait_for_ever, &d), 0);
	while (vio_load_relaxed(&phyp_vcpu_counters(d.w->g.v)->sleeps) == 0)
		;
	phyp_local_kill(d.w->m, "guest0");
	pthread_join(t, NULL);
	assert_int_equal(d.rc, -EPIPE);
	assert_int_equal(phyp_vcpu_wait(d.w->g.v, 0, UINT64_MAX), -EPIPE);
}

#define ROUNDS   5000ull
#define PATIENCE 20000000000ull /* of a wait that a lost wake-up would make endless */

struct echo {
	struct end *e;
	uint64_t spin_ns;
	uint64_t got;
	bool ok;
};

/* Answers each entry with one, asleep in between; a lost wake-up shows as a time-out. */
static void *echo_all(void *arg)
{
	struct echo *x = arg;
	uint64_t hi, lo;

	x->ok = true;
	while (x->got < ROUNDS && x->ok) {
		phyp_irq_take(x->e->v);
		while (phyp_crq_pop(&x->e->crq, &hi, &lo)) {
			x->ok = x->ok && lo == x->got;
			x->got++;
			x->ok = x->ok &&
				h_send_crq(x->e->v, x->e->u->unit, CMD(lo), lo) == H_SUCCESS;
		}
		if (x->got < ROUNDS && phyp_vcpu_wait(x->e->v, x->spin_ns, PATIENCE))
			x->ok = false;
	}
	return NULL;
}

static void ping_pong(struct world *w, uint64_t spin_ns)
{
	struct echo x = {.e = &w->s, .spin_ns = spin_ns};
	uint64_t hi, lo, sent = 0, back = 0;
	pthread_t t;

	connect_ends(w);
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_CRQ, NULL), 0);
	assert_int_equal(phyp_alias_set(w->g.part, w->g.u->unit, PHYP_ALIAS_CRQ, NULL), 0);
	assert_int_equal(h_vio_signal(w->s.v, w->s.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	assert_int_equal(h_vio_signal(w->g.v, w->g.u->unit, VIO_SIGNAL_ON), H_SUCCESS);
	assert_int_equal(pthread_create(&t, NULL, echo_all, &x), 0);
	while (back < ROUNDS) {
		/*
		 * Bursts of 1 to 4, so that entries arrive while the other side drains, takes, goes
		 * to sleep.
		 */
		for (uint64_t burst = 1 + sent % 4; burst > 0 && sent < ROUNDS && sent - back < 100;
		     burst--, sent++)
			assert_int_equal(h_send_crq(w->g.v, w->g.u->unit, CMD(sent), sent),
					 H_SUCCESS);
		if (!phyp_irq_take(w->g.v))
			assert_int_equal(phyp_vcpu_wait(w->g.v, spin_ns, PATIENCE), 0);
		while (phyp_crq_pop(&w->g.crq, &hi, &lo)) {
			assert_int_equal(lo, back);
			back++;
		}
	}
	pthread_join(t, NULL);
	assert_true(x.ok);
	assert_int_equal(x.got, ROUNDS);
}

static void no_wake_up_is_lost_between_two_sleepers(void **state)
{
	ping_pong(*state, 0);
}

static void no_wake_up_is_lost_between_two_that_spin_first(void **state)
{
	ping_pong(*state, 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(registering_leaves_the_interrupt_off_until_it_is_enabled),
		WORLD_TEST(one_interrupt_is_outstanding_until_it_is_taken),
		WORLD_TEST(a_disabled_interrupt_is_not_raised),
		WORLD_TEST(transport_events_raise_the_interrupt),
		WORLD_TEST(a_routed_interrupt_goes_to_the_new_vcpu_also_when_it_is_pending),
		WORLD_TEST(a_partition_has_16_vcpus_and_a_place_is_used_again),
		WORLD_TEST(
			waiting_returns_at_once_when_something_is_pending_and_times_out_when_not),
		WORLD_TEST(a_ready_descriptor_ends_the_wait_and_says_which_it_was),
		WORLD_TEST(a_signal_ends_the_wait),
		WORLD_TEST(a_machine_that_goes_wakes_the_sleeper_with_epipe),
		WORLD_TEST(no_wake_up_is_lost_between_two_sleepers),
		WORLD_TEST(no_wake_up_is_lost_between_two_that_spin_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
