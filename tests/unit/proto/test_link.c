/* SPDX-License-Identifier: BSD-3-Clause */
/* The CRQ connection: orders of INIT, second INIT, transport events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/fsm.h"

#define INIT     0xc001000000000000u
#define COMPLETE 0xc002000000000000u
#define XPORT(e) (0xff00000000000000u | (uint64_t)(e) << 48)
#define COMMAND  0x8056012000000000u

/* Two ends and what is on the wire between them, in order. */
struct wire {
	uint64_t hi[8];
	unsigned n;
};
struct side {
	struct vio_link link;
	struct wire in;
	unsigned came_up, restarted;
};

static void push(struct side *to, uint64_t hi)
{
	assert_true(to->in.n < VIO_ARRAY_SIZE(to->in.hi));
	to->in.hi[to->in.n++] = hi;
}

static void hello(struct side *to)
{
	uint64_t hi, lo;

	vio_link_hello(&hi, &lo);
	assert_true(hi == INIT && lo == 0);
	push(to, hi);
}

/* `me` takes one entry and answers `peer`. */
static void step(struct side *me, struct side *peer)
{
	uint64_t rhi = 0, rlo = 0, hi = me->in.hi[0];
	enum vio_link_event e;
	bool reply;

	assert_true(me->in.n > 0);
	me->in.n--;
	for (unsigned i = 0; i < me->in.n; i++)
		me->in.hi[i] = me->in.hi[i + 1];
	e = vio_link_rx(&me->link, hi, 0, &reply, &rhi, &rlo);
	me->came_up += e == VIO_LINK_CAME_UP;
	me->restarted += e == VIO_LINK_RESTARTED;
	if (reply)
		push(peer, rhi);
}

static void settle(struct side *a, struct side *b, bool a_first)
{
	while (a->in.n + b->in.n > 0) {
		if (a->in.n > 0 && (a_first || b->in.n == 0))
			step(a, b);
		else
			step(b, a);
	}
	assert_int_equal(a->link.state, VIO_LINK_UP);
	assert_int_equal(b->link.state, VIO_LINK_UP);
	assert_int_equal(a->came_up + b->came_up, 2);
	assert_int_equal(a->restarted + b->restarted, 0);
}

static void the_link_comes_up_whoever_says_init_first(void **state)
{
	(void)state;
	for (int first = 0; first < 2; first++) {
		struct side a = {0}, b = {0};

		hello(first ? &a : &b); /* the other's own INIT met a closed queue and is lost */
		settle(&a, &b, true);
	}
}

static void inits_that_cross_bring_the_link_up_once_in_every_order(void **state)
{
	(void)state;
	for (int a_first = 0; a_first < 2; a_first++) {
		struct side a = {0}, b = {0};

		hello(&a);
		hello(&b);
		settle(&a, &b, a_first);
	}
}

static void expect(enum vio_link_state from, uint64_t hi, enum vio_link_event event,
		   enum vio_link_state to, bool want_reply)
{
	struct vio_link l = {from};
	uint64_t rhi = 1, rlo = 1;
	bool reply = !want_reply;

	assert_int_equal(vio_link_rx(&l, hi, 0, &reply, &rhi, &rlo), event);
	assert_int_equal(l.state, to);
	assert_int_equal(reply, want_reply);
	assert_true(rhi == (want_reply ? COMPLETE : 1));
	assert_true(rlo == (want_reply ? 0 : 1));
}

static void a_second_init_means_that_the_partner_restarted_and_is_answered(void **state)
{
	(void)state;
	expect(VIO_LINK_UP, INIT, VIO_LINK_RESTARTED, VIO_LINK_UP, true);
	expect(VIO_LINK_DOWN, INIT, VIO_LINK_CAME_UP, VIO_LINK_UP, true);
	expect(VIO_LINK_UP, COMPLETE, VIO_LINK_NOTHING, VIO_LINK_UP, false);
	expect(VIO_LINK_DOWN, COMPLETE, VIO_LINK_CAME_UP, VIO_LINK_UP, false);
}

static void a_transport_event_takes_the_link_down(void **state)
{
	static const uint8_t gone[] = {CRQ_XPORT_PARTNER_FAILED, CRQ_XPORT_PARTNER_DEREGISTERED,
				       CRQ_XPORT_SUSPENDED};

	(void)state;
	for (size_t i = 0; i < sizeof(gone); i++) {
		expect(VIO_LINK_UP, XPORT(gone[i]), VIO_LINK_LOST, VIO_LINK_DOWN, false);
		expect(VIO_LINK_DOWN, XPORT(gone[i]), VIO_LINK_NOTHING, VIO_LINK_DOWN, false);
	}
	expect(VIO_LINK_UP, XPORT(CRQ_XPORT_PREPARE_SUSPEND), VIO_LINK_NOTHING, VIO_LINK_UP, false);
	expect(VIO_LINK_DOWN, XPORT(CRQ_XPORT_PREPARE_SUSPEND), VIO_LINK_NOTHING, VIO_LINK_DOWN,
	       false);
}

static void after_a_suspend_the_resume_is_reported_and_init_brings_the_link_up(void **state)
{
	(void)state;
	expect(VIO_LINK_DOWN, XPORT(CRQ_XPORT_RESUMED), VIO_LINK_RESUMED, VIO_LINK_DOWN, false);
	expect(VIO_LINK_UP, XPORT(CRQ_XPORT_RESUMED), VIO_LINK_IGNORED, VIO_LINK_UP, false);
}

static void commands_are_heard_only_while_the_link_is_up(void **state)
{
	(void)state;
	expect(VIO_LINK_UP, COMMAND, VIO_LINK_MESSAGE, VIO_LINK_UP, false);
	expect(VIO_LINK_DOWN, COMMAND, VIO_LINK_IGNORED, VIO_LINK_DOWN, false);
}

static void every_other_entry_is_ignored_and_changes_nothing(void **state)
{
	(void)state;
	for (unsigned valid = 0; valid < 256; valid++) {
		for (unsigned format = 0; format < 256; format++) {
			uint64_t hi =
				(uint64_t)valid << 56 | (uint64_t)format << 48 | 0xffffffffffffu;

			if (valid == CRQ_CMD_RSP ||
			    (valid == CRQ_INIT && (format == 1 || format == 2)) ||
			    (valid == CRQ_TRANSPORT && (format == 1 || format == 2 || format == 6 ||
							format == 9 || format == 10)))
				continue;
			expect(VIO_LINK_UP, hi, VIO_LINK_IGNORED, VIO_LINK_UP, false);
			expect(VIO_LINK_DOWN, hi, VIO_LINK_IGNORED, VIO_LINK_DOWN, false);
		}
	}
}

static void a_new_link_is_down(void **state)
{
	struct vio_link l = {VIO_LINK_UP};

	(void)state;
	vio_link_init(&l);
	assert_int_equal(l.state, VIO_LINK_DOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_link_comes_up_whoever_says_init_first),
		cmocka_unit_test(inits_that_cross_bring_the_link_up_once_in_every_order),
		cmocka_unit_test(a_second_init_means_that_the_partner_restarted_and_is_answered),
		cmocka_unit_test(a_transport_event_takes_the_link_down),
		cmocka_unit_test(
			after_a_suspend_the_resume_is_reported_and_init_brings_the_link_up),
		cmocka_unit_test(commands_are_heard_only_while_the_link_is_up),
		cmocka_unit_test(every_other_entry_is_ignored_and_changes_nothing),
		cmocka_unit_test(a_new_link_is_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
