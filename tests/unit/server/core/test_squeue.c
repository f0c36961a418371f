/* SPDX-License-Identifier: BSD-3-Clause */
/* The turn of a queue: when it looks, when it calls, when it notifies, and that no wake is lost. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#include "server/payload/payload.h"
#include "server/ring/ring.h"
#include "vio/arm.h"
#include "vio/notify.h"
#include "world.h"

#define HDR  (W_BUF + 0x0)
#define DATA (W_BUF + 0x10000)

static struct w_cfg cfg_of(enum vio_ring_access ring, enum vio_notification notify)
{
	return (struct w_cfg){
		.ring = ring,
		.payload = ring == VIO_RING_DIRECT ? VIO_PAYLOAD_DIRECT : VIO_PAYLOAD_RDMA,
		.notify = notify,
		.size = 256,
		.event_idx = true,
		.at = true,
	};
}

static uint64_t all_calls(const struct world *w)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < PHYP_N_OPS; i++)
		n += phyp_vcpu_counters(w->sv)->hcall[i];
	return n;
}

static void request(struct world *w, uint16_t head)
{
	w_blk(w, head, VIRTIO_BLK_T_IN, 0, HDR + 0x20ull * head, DATA, 512);
	w_avail(w, head);
	w_publish(w);
}

static unsigned take(struct world *w)
{
	uint32_t id, len;
	unsigned n = 0;

	while (w_used(w, &id, &len))
		n++;
	return n;
}

/* Would a driver kick for the publish that moved the available index from `old`? */
static bool would_kick(const struct world *w, uint16_t old)
{
	uint16_t event = vio_le16(*(const uint16_t *)(const void *)&w->used->ring[w->cfg.size]);

	return vring_need_event(event, w->ring.next, old);
}

static void under_crq_nothing_is_looked_at_before_a_kick_and_each_push_notifies(void **state)
{
	struct world *w = *state;
	static const enum vio_ring_access rings[] = {VIO_RING_COPY, VIO_RING_COPY_DELTA,
						     VIO_RING_DIRECT};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(rings); i++) {
		struct w_cfg cfg = cfg_of(rings[i], VIO_NOTIFY_CRQ);
		uint64_t calls;

		w_queue(w, &cfg);
		w_notifications(w);
		calls = all_calls(w);
		request(w, 0);
		assert_int_equal(w_run(w), 0);
		assert_int_equal(all_calls(w), calls);
		assert_false(vio_squeue_arm(w->q));
		w_kick(w);
		assert_true(vio_squeue_arm(w->q));
		assert_int_equal(w_run(w), 2); /* taken and given back */
		assert_int_equal(take(w), 1);
		assert_int_equal(w_notifications(w), 1);
		assert_int_equal(w->q->stats.notifications, 1);
		/* More than a burst on one kick. */
		for (uint16_t h = 0; h < 60; h++)
			request(w, (uint16_t)(4 * h));
		w_kick(w);
		w_run(w);
		assert_int_equal(take(w), 60);
		assert_int_equal(w_notifications(w), 2);
		assert_int_equal(w->q->stats.kicks_seen, 2);
	}
}

static void a_request_in_the_zero_copy_arm_makes_no_call_at_all(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_DIRECT, VIO_NOTIFY_POLL);
	uint64_t calls;

	w_queue(w, &cfg);
	w->avail->ring[cfg.size] = vio_le16(VIO_EVENT_PARKED);
	calls = all_calls(w);
	for (unsigned i = 0; i < 70000;
	     i++) { /* past the wrap, with the guest's event parked as a polling driver does */
		if (i % 0x2000 == 0)
			w->avail->ring[cfg.size] =
				vio_le16((uint16_t)(w->ring.used + VIO_EVENT_PARKED));
		uint16_t old = w->ring.next;

		request(w, (uint16_t)(i % 64 * 4));
		assert_false(would_kick(w, old));
		assert_int_equal(vio_squeue_poll(w->q), 2);
		assert_int_equal(take(w), 1);
	}
	assert_int_equal(all_calls(w), calls);
	assert_int_equal(w->q->stats.requests, 70000);
	assert_int_equal(w->q->stats.cpu_bytes, 70000 * 512);
}

static void idle_turns_under_suppress_make_no_call_once_armed(void **state)
{
	struct world *w = *state;
	static const enum vio_ring_access rings[] = {VIO_RING_COPY, VIO_RING_COPY_DELTA};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(rings); i++) {
		struct w_cfg cfg = cfg_of(rings[i], VIO_NOTIFY_SUPPRESS);
		uint64_t calls;

		w_queue(w, &cfg);
		for (unsigned k = 0; k < 20; k++) {
			uint16_t old = w->ring.next;

			w_run(w);
			w_run(w);
			assert_true(w->q->notify.ask == VIO_ASK_ARMED);
			assert_false(vio_squeue_arm(w->q));
			calls = all_calls(w);
			assert_int_equal(w_run(w), 0);
			assert_int_equal(all_calls(w), calls);
			request(w, (uint16_t)(4 * k));
			assert_true(would_kick(w, old));
			w_kick(w);
			assert_int_equal(w_run(w), 2);
			assert_int_equal(take(w), 1);
		}
	}
}

static void one_request_under_suppress_costs_no_wasted_look(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_COPY_DELTA, VIO_NOTIFY_SUPPRESS);
	uint64_t reads = 0, writes = 0;

	w_queue(w, &cfg);
	for (unsigned k = 0; k < 10; k++) {
		w_run(w);
		w_run(w);
		reads = w_hcalls(w, H_READ_RDMA);
		writes = w_hcalls(w, H_WRITE_RDMA);
		request(w, 0);
		w_kick(w);
		w_run(w);
		take(w);
	}
	w_run(w);
	/* index, entry, descriptors, header, used_event, and the index once more when arming */
	assert_int_equal(w_hcalls(w, H_READ_RDMA) - reads, 6);
	/* status, used element, index, avail_event */
	assert_int_equal(w_hcalls(w, H_WRITE_RDMA) - writes, 4);
}

static void a_full_guest_queue_delays_a_notification_but_never_loses_it(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_DIRECT, VIO_NOTIFY_CRQ);
	const struct vio_msg filler = {.version = VIO_PROTO_V2, .op = VIO_OP_USED};
	uint64_t hi, lo;

	w_queue(w, &cfg);
	w_notifications(w);
	vio_msg_encode(&filler, &hi, &lo);
	while (h_send_crq(w->sv, w->su->unit, hi, lo) == H_SUCCESS)
		;
	request(w, 0);
	w_kick(w);
	vio_squeue_poll(w->q);
	assert_int_equal(w->q->stats.notifications, 0);
	assert_true(w->q->renotify);
	assert_true(vio_squeue_arm(w->q)); /* no sleep while it is owed */
	vio_squeue_poll(w->q);
	assert_true(w->q->renotify);
	assert_true(w_notifications(w) > 0);
	vio_squeue_poll(w->q);
	assert_int_equal(w->q->stats.notifications, 1);
	assert_int_equal(w_notifications(w), 1);
	assert_false(w->q->renotify);
}

static void a_held_queue_takes_nothing_new(void **state)
{
	struct world *w = *state;
	struct w_cfg cfg = cfg_of(VIO_RING_DIRECT, VIO_NOTIFY_POLL);

	cfg.at = false;
	w_queue(w, &cfg);
	w->b.async = true;
	request(w, 0);
	vio_squeue_poll(w->q);
	vio_store_release(&w->q->ctl, VIO_SQ_HOLD);
	request(w, 4);
	w->b.async = false;
	w_run(w);
	assert_int_equal(take(w), 1); /* what was in flight is answered */
	assert_int_equal(vio_load_acquire(&w->q->in_flight), 0);
	vio_store_release(&w->q->ctl, VIO_SQ_RUN);
	w_run(w);
	assert_int_equal(take(w), 1);
}

/* ------------------------------------------------------------------- two threads ---- */

struct duel {
	struct world *w;
	unsigned total;
	bool wake; /* the server's interrupt: set by the guest's kick */
	bool stop;
	unsigned sleeps;
};

/* Polls a while, then arms, then sleeps until a kick, as the server's loop does. */
static void *server_loop(void *arg)
{
	struct duel *d = arg;
	struct vio_squeue *q = d->w->q;
	unsigned idle = 0;

	while (!vio_load_acquire(&d->stop)) {
		if (vio_squeue_poll(q)) {
			idle = 0;
			continue;
		}
		if (++idle < 3)
			continue;
		idle = 0;
		if (vio_squeue_arm(q))
			continue;
		d->sleeps++;
		while (!vio_xchg_acq_rel(&d->wake, false) && !vio_load_acquire(&d->stop))
			sched_yield();
		vio_squeue_park(q);
	}
	return NULL;
}

static void kick(struct duel *d)
{
	vio_store_release(&d->w->q->kicked, true);
	vio_store_release(&d->wake, true);
}

/*
 * If a wake were lost, the guest would wait for ever: it gives up after a while. Returns what was
 * answered.
 */
static unsigned guest_loop(struct duel *d, unsigned *seed)
{
	struct world *w = d->w;
	unsigned sent = 0, got = 0;

	while (got < d->total) {
		unsigned n = 1 + (unsigned)rand_r(seed) % 4;
		uint16_t old = w->ring.next;
		uint64_t spins = 0;

		for (unsigned i = 0; i < n && sent < d->total; i++, sent++) {
			uint16_t head = (uint16_t)(sent % 64 * 4);

			w_blk(w, head, VIRTIO_BLK_T_IN, 0, HDR + 0x20ull * head, DATA, 512);
			w_avail(w, head);
		}
		if (vio_publish_and_check(
			    &w->avail->idx, w->ring.next, old,
			    (const uint16_t *)(const void *)&w->used->ring[w->cfg.size],
			    &w->used->flags, VRING_USED_F_NO_NOTIFY, w->cfg.event_idx) ||
		    w->cfg.notify == VIO_NOTIFY_CRQ)
			kick(d);
		while (got < sent) {
			got += take(w);
			w_notifications(w);
			if (++spins > 20000000ull)
				return got;
			if (spins % 64 == 0)
				sched_yield();
		}
		for (unsigned i = (unsigned)rand_r(seed) % 8; i > 0; i--)
			sched_yield(); /* let the server fall asleep, sometimes */
	}
	return got;
}

/* Returns how often the server slept. */
static unsigned duel(struct world *w, enum vio_ring_access ring, enum vio_notification notify,
		     bool event_idx)
{
	struct w_cfg cfg = cfg_of(ring, notify);
	struct duel d = {.w = w, .total = 2000};
	unsigned seed = 5, got;
	pthread_t t;

	cfg.event_idx = event_idx;
	cfg.start = 65000;
	w_queue(w, &cfg);
	assert_int_equal(pthread_create(&t, NULL, server_loop, &d), 0);
	got = guest_loop(&d, &seed);
	vio_store_release(&d.stop, true);
	pthread_join(t, NULL);
	assert_int_equal(got, d.total);
	assert_int_equal(w->q->stats.requests, d.total);
	assert_int_equal(w->q->fault, VIO_ST_OK);
	return d.sleeps;
}

static void no_wake_is_lost_between_two_threads(void **state)
{
	static const enum vio_ring_access rings[] = {VIO_RING_COPY, VIO_RING_COPY_DELTA,
						     VIO_RING_DIRECT};
	unsigned sleeps = 0;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(rings); i++) {
		sleeps += duel(*state, rings[i], VIO_NOTIFY_POLL, true);
		sleeps += duel(*state, rings[i], VIO_NOTIFY_POLL, false);
		sleeps += duel(*state, rings[i], VIO_NOTIFY_SUPPRESS, true);
		sleeps += duel(*state, rings[i], VIO_NOTIFY_SUPPRESS, false);
		sleeps += duel(*state, rings[i], VIO_NOTIFY_CRQ, true);
	}
	assert_true(sleeps > 0); /* else nothing was tested */
}

/* What one arm alone had would be counted as its design's advantage. */
static void every_level_has_the_short_way(void **state)
{
	static const uint64_t layouts[] = {
		0, 1ull << VIRTIO_F_RING_PACKED, 1ull << VIRTIO_F_IN_ORDER,
		1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_IN_ORDER};

	(void)state;
	for (unsigned i = 0; i < VIO_N_RING * VIO_ARRAY_SIZE(layouts); i++) {
		const struct vio_ring_ops *ring = vio_ring_level(
			(enum vio_ring_access)(i % VIO_N_RING), layouts[i / VIO_N_RING]);

		assert_non_null(ring);
		assert_true(ring->pop_plain && ring->push_plain);
	}
	for (unsigned i = 0; i < VIO_N_PAYLOAD; i++)
		assert_non_null(vio_payload_level((enum vio_payload)i)->plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			under_crq_nothing_is_looked_at_before_a_kick_and_each_push_notifies),
		cmocka_unit_test(a_request_in_the_zero_copy_arm_makes_no_call_at_all),
		cmocka_unit_test(idle_turns_under_suppress_make_no_call_once_armed),
		cmocka_unit_test(one_request_under_suppress_costs_no_wasted_look),
		cmocka_unit_test(a_full_guest_queue_delays_a_notification_but_never_loses_it),
		cmocka_unit_test(a_held_queue_takes_nothing_new),
		cmocka_unit_test(every_level_has_the_short_way),
		cmocka_unit_test(no_wake_is_lost_between_two_threads),
	};

	return cmocka_run_group_tests_name("server/squeue", tests, w_setup, w_teardown);
}
