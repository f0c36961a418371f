/* SPDX-License-Identifier: BSD-3-Clause */
/* The levels of the notification factor over a ring that only counts what is asked of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "notify/notify.h"

struct ring {
	struct vio_notify n;
	bool has; /* what arm finds */
	unsigned arms, parks;
};

static bool ring_arm(void *p)
{
	struct ring *r = p;

	r->arms++;
	return r->has;
}

static void ring_park(void *p)
{
	struct ring *r = p;

	r->parks++;
	r->n.ask = VIO_ASK_PARKED;
}

static const struct vio_notify_end end = {.arm = ring_arm, .park = ring_park};

static struct ring ring_of(enum vio_notification level, bool event_idx)
{
	struct ring r = {.has = false};

	vio_notify_init(&r.n, vio_notify_level(level), event_idx);
	return r;
}

static bool may_look(struct ring *r, bool free_look)
{
	return vio_notify_row(&r->n)->may_look(&r->n, &end, r, free_look);
}

static bool dry(struct ring *r)
{
	return vio_notify_row(&r->n)->device.dry(&r->n, &end, r);
}

static void found(struct ring *r)
{
	vio_notify_row(&r->n)->device.found(&r->n, &end, r);
}

static void every_level_has_its_row_and_nothing_else_has_one(void **state)
{
	(void)state;
	for (unsigned i = 0; i < VIO_N_NOTIFY; i++)
		assert_int_equal(vio_notify_level((enum vio_notification)i)->level, i);
	assert_null(vio_notify_level(VIO_N_NOTIFY));
	assert_null(vio_notify_level((enum vio_notification) - 1));
}

static void crq_asks_for_nothing_and_looks_only_when_told(void **state)
{
	struct ring r = ring_of(VIO_NOTIFY_CRQ, false);

	(void)state;
	assert_false(may_look(&r, true));
	assert_false(dry(&r));
	found(&r);
	assert_false(vio_notify_crq.device.sleep(&r.n, &end, &r));
	assert_false(vio_notify_crq.driver.sleep(&r.n, &end, &r));
	assert_int_equal(r.arms + r.parks, 0);
	assert_true(vio_notify_crq.always);
}

static void suppress_asks_once_when_dry_and_then_waits_for_the_message(void **state)
{
	struct ring r = ring_of(VIO_NOTIFY_SUPPRESS, true);

	(void)state;
	assert_true(may_look(&r, false));
	assert_false(dry(&r));
	assert_int_equal(r.n.ask, VIO_ASK_ARMED);
	assert_false(may_look(&r, false)); /* a look costs a call */
	assert_true(may_look(&r, true));
	assert_false(dry(&r));
	assert_int_equal(r.arms, 1);
	assert_false(vio_notify_suppress.device.sleep(&r.n, &end, &r));
	assert_int_equal(r.arms, 1);
}

static void suppress_goes_on_when_something_came_while_it_armed(void **state)
{
	struct ring r = ring_of(VIO_NOTIFY_SUPPRESS, true);

	(void)state;
	r.has = true;
	assert_true(dry(&r));
	assert_int_not_equal(r.n.ask, VIO_ASK_ARMED);
	assert_true(vio_notify_suppress.device.sleep(&r.n, &end, &r));
	assert_int_not_equal(r.n.ask, VIO_ASK_ARMED);
}

static void suppress_puts_flags_out_and_leaves_an_event_index_behind(void **state)
{
	struct ring flags = ring_of(VIO_NOTIFY_SUPPRESS, false),
		    event = ring_of(VIO_NOTIFY_SUPPRESS, true);

	(void)state;
	assert_false(dry(&flags));
	assert_false(dry(&event));
	found(&flags);
	found(&event);
	assert_int_equal(flags.parks, 1);
	assert_int_equal(event.parks, 0);
	assert_int_equal(event.n.ask, VIO_ASK_NOTHING);
}

static void suppress_learns_whether_a_look_right_after_work_pays(void **state)
{
	struct ring r = ring_of(VIO_NOTIFY_SUPPRESS, true);

	(void)state;
	/* The driver waits for its answers: after work, arming at once saves a look. */
	found(&r);
	assert_false(may_look(&r, false));
	assert_int_equal(r.arms, 1);
	/* It goes on publishing: arming finds something, and the next time a look comes first. */
	r = ring_of(VIO_NOTIFY_SUPPRESS, true);
	r.has = true;
	found(&r);
	assert_true(may_look(&r, false));
	found(&r);
	assert_true(may_look(&r, false));
	assert_int_equal(r.arms, 1);
}

static void poll_asks_only_before_it_sleeps_and_parks_when_there_was_something(void **state)
{
	struct ring r = ring_of(VIO_NOTIFY_POLL, true);

	(void)state;
	assert_true(r.n.looks);
	assert_true(may_look(&r, false));
	assert_false(dry(&r));
	assert_int_equal(r.arms, 0);
	r.has = true;
	assert_true(vio_notify_poll.device.sleep(&r.n, &end, &r));
	assert_int_equal(r.n.ask, VIO_ASK_PARKED);
	r.has = false;
	assert_false(vio_notify_poll.device.sleep(&r.n, &end, &r));
	assert_int_equal(r.n.ask, VIO_ASK_ARMED);
	found(&r);
	assert_int_equal(r.n.ask, VIO_ASK_PARKED);
}

static void a_driver_that_armed_is_not_armed_again(void **state)
{
	struct ring r = ring_of(VIO_NOTIFY_SUPPRESS, true);

	(void)state;
	assert_false(vio_notify_suppress.driver.dry(&r.n, &end, &r));
	assert_false(vio_notify_suppress.driver.sleep(&r.n, &end, &r));
	assert_int_equal(r.arms, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_level_has_its_row_and_nothing_else_has_one),
		cmocka_unit_test(crq_asks_for_nothing_and_looks_only_when_told),
		cmocka_unit_test(suppress_asks_once_when_dry_and_then_waits_for_the_message),
		cmocka_unit_test(suppress_goes_on_when_something_came_while_it_armed),
		cmocka_unit_test(suppress_puts_flags_out_and_leaves_an_event_index_behind),
		cmocka_unit_test(suppress_learns_whether_a_look_right_after_work_pays),
		cmocka_unit_test(
			poll_asks_only_before_it_sleeps_and_parks_when_there_was_something),
		cmocka_unit_test(a_driver_that_armed_is_not_armed_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
