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
	uint64_t hi[16], lo[16];
	unsigned n;
};
struct side {
	struct vio_link link;
	struct wire in;
	unsigned came_up, restarted;
};

static void push(struct side *to, uint64_t hi, uint64_t lo)
{
	assert_true(to->in.n < VIO_ARRAY_SIZE(to->in.hi));
	to->in.hi[to->in.n] = hi;
	to->in.lo[to->in.n++] = lo;
}

static void pop(struct wire *w, uint64_t *hi, uint64_t *lo)
{
	assert_true(w->n > 0);
	*hi = w->hi[0];
	*lo = w->lo[0];
	w->n--;
	for (unsigned i = 0; i < w->n; i++) {
		w->hi[i] = w->hi[i + 1];
		w->lo[i] = w->lo[i + 1];
	}
}

static void hello(struct side *from, struct side *to)
{
	uint64_t hi, lo;

	vio_link_hello(&from->link, &hi, &lo);
	assert_true(hi == INIT && lo == from->link.era && lo != 0);
	push(to, hi, lo);
}

/* `me` takes one entry and answers `peer`. */
static void step(struct side *me, struct side *peer)
{
	uint64_t rhi = 0, rlo = 0, hi, lo;
	enum vio_link_event e;
	bool reply;

	pop(&me->in, &hi, &lo);
	e = vio_link_rx(&me->link, hi, lo, &reply, &rhi, &rlo);
	me->came_up += e == VIO_LINK_CAME_UP;
	me->restarted += e == VIO_LINK_RESTARTED;
	if (reply)
		push(peer, rhi, rlo);
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

		hello(first ? &b : &a,
		      first ? &a : &b); /* the other's own INIT met a closed queue and is lost */
		settle(&a, &b, true);
	}
}

static void inits_that_cross_bring_the_link_up_once_in_every_order(void **state)
{
	(void)state;
	for (int a_first = 0; a_first < 2; a_first++) {
		struct side a = {0}, b = {0};

		hello(&b, &a);
		hello(&a, &b);
		settle(&a, &b, a_first);
	}
}

static void expect(enum vio_link_state from, uint64_t hi, enum vio_link_event event,
		   enum vio_link_state to, bool want_reply)
{
	struct vio_link l = {from, 0};
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
	struct vio_link l = {VIO_LINK_UP, 0};

	(void)state;
	vio_link_init(&l, 7);
	assert_int_equal(l.state, VIO_LINK_DOWN);
}

static void an_init_complete_of_an_earlier_era_changes_nothing(void **state)
{
	uint64_t hi, lo, rhi, rlo;
	bool reply;

	(void)state;
	for (enum vio_link_state from = VIO_LINK_DOWN; from <= VIO_LINK_UP; from++) {
		struct vio_link l;

		vio_link_init(&l, UINT64_MAX); /* and the era after it is not 0 */
		vio_link_hello(&l, &hi, &lo);
		l.state = from;
		assert_int_equal(vio_link_rx(&l, COMPLETE, lo + 1, &reply, &rhi, &rlo),
				 VIO_LINK_IGNORED);
		assert_int_equal(l.state, from);
		assert_false(reply);
		assert_int_equal(vio_link_rx(&l, COMPLETE, lo, &reply, &rhi, &rlo),
				 from == VIO_LINK_UP ? VIO_LINK_NOTHING : VIO_LINK_CAME_UP);
		vio_link_init(&l, 1);
		assert_int_equal(vio_link_rx(&l, INIT, 99, &reply, &rhi, &rlo), VIO_LINK_CAME_UP);
		assert_true(reply && rhi == COMPLETE && rlo == 99);
	}
}

/* ---------------------------------------------------------------- every order of restarts ---- */

/*
 * The guest's end (0) says PROBE, once a session; the server's (1) answers an INIT that restarts it
 * at any later time, also to a guest that has begun anew since, and takes nothing from its queue
 * before. Either end can begin anew at any step: its queue is empty then, and the other one is told
 * and gets an INIT; the guest's some time after its queue can be reached, and again while it is down.
 */
struct model {
	struct side end[2];
	unsigned probes;  /* since the server's device was last void */
	bool owed;        /* the server owes an INIT COMPLETE */
	uint64_t owed_lo; /* of this era */
	bool greet;       /* the guest has still to say INIT, if it is down then */
	unsigned restarts, greetings, eras;
};

static void begin_anew(struct model *m, unsigned i)
{
	struct side *me = &m->end[i], *peer = &m->end[!i];

	me->in.n = 0;
	vio_link_init(&me->link, m->eras += 10);
	push(peer, XPORT(CRQ_XPORT_PARTNER_DEREGISTERED), 0);
	m->greet |= !i;
	if (!i)
		return;
	m->owed = false;
	m->probes = 0;
	hello(me, peer);
}

static bool greets(struct model *m)
{
	bool down = m->end[0].link.state == VIO_LINK_DOWN;

	/* Again only with its queue taken empty, as the transport does. */
	if (!m->greet && (!down || m->greetings == 0 || m->end[0].in.n > 0))
		return false;
	m->greetings -= !m->greet;
	m->greet = false;
	if (down)
		hello(&m->end[0], &m->end[1]);
	return true;
}

static void guest_takes(struct model *m)
{
	struct side *g = &m->end[0];
	unsigned before = g->came_up + g->restarted;

	step(g, &m->end[1]);
	if (g->came_up + g->restarted != before)
		push(&m->end[1], COMMAND, 0);
}

static void server_takes(struct model *m)
{
	uint64_t hi, lo, rhi, rlo;
	bool reply;

	pop(&m->end[1].in, &hi, &lo);
	switch (vio_link_rx(&m->end[1].link, hi, lo, &reply, &rhi, &rlo)) {
	case VIO_LINK_MESSAGE:
		m->probes++;
		break;
	case VIO_LINK_LOST:
		m->probes = 0;
		break;
	case VIO_LINK_RESTARTED:
		m->probes = 0;
		m->owed = reply;
		m->owed_lo = rlo;
		break;
	default:
		if (reply)
			push(&m->end[0], rhi, rlo);
	}
}

/* Everything that can happen next; m is copied for each. The number of ends reached. */
static unsigned long explore(const struct model *m)
{
	unsigned long ends = 0;
	bool moved = false;

	for (unsigned what = 0; what < 6; what++) {
		struct model n = *m;

		if (what == 0 && n.end[0].in.n > 0)
			guest_takes(&n);
		else if (what == 1 && n.end[1].in.n > 0 && !n.owed)
			server_takes(&n);
		else if (what == 2 && n.owed) {
			n.owed = false;
			push(&n.end[0], COMPLETE, n.owed_lo);
		} else if (what == 3 && greets(&n)) {
			moved |= m->greet; /* one more of them is not owed */
		} else if (what >= 4 && n.restarts > 0) {
			n.restarts--;
			begin_anew(&n, what - 4);
		} else {
			continue;
		}
		moved |= what < 3;
		ends += explore(&n);
	}
	if (moved)
		return ends;
	assert_int_equal(m->end[0].link.state, VIO_LINK_UP);
	assert_int_equal(m->end[1].link.state, VIO_LINK_UP);
	assert_int_equal(m->probes, 1); /* a second one is refused, and the device needs a reset */
	return ends + 1;
}

static void both_ends_come_up_for_one_session_whoever_restarts_when(void **state)
{
	(void)state;
	for (unsigned first = 0; first < 2; first++) {
		struct model m = {.restarts = 2, .greetings = 1};
		unsigned long ends;

		vio_link_init(&m.end[!first].link, m.eras += 10);
		vio_link_init(&m.end[first].link, m.eras += 10);
		hello(&m.end[first], &m.end[!first]);
		ends = explore(&m);
		print_message("%lu orders\n", ends);
		assert_true(ends > 1000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_init_complete_of_an_earlier_era_changes_nothing),
		cmocka_unit_test(both_ends_come_up_for_one_session_whoever_restarts_when),
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
