/* SPDX-License-Identifier: BSD-3-Clause */
/* Who tells whom when: kicks, sleep and wake-ups, and several queues with threads of their own. */
#include "blk_trips.h"

/* ---------------------------------------------------------------------- notification ---- */

static uint64_t hcalls(struct bt *x, uint64_t op)
{
	return vio_blk_counters(x->b, 0)->hcall[phyp_op_index(op)];
}

static void zero_copy_makes_no_call_while_both_poll(void **state)
{
	struct bt *x = *state;
	struct phyp_counters *c;
	uint64_t before = 0;

	bt_open(x, "zero-copy");
	round_trips(x);
	c = vio_blk_counters(x->b, 0);
	for (unsigned i = 0; i < PHYP_N_OPS; i++)
		before += c->hcall[i];
	round_trips(x);
	bursts(x);
	for (unsigned i = 0; i < PHYP_N_OPS; i++)
		before -= c->hcall[i];
	assert_true(before == 0);
}

static void crq_kicks_once_for_each_publish(void **state)
{
	struct bt *x = *state;
	uint64_t before;

	bt_open(x, "copy");
	before = hcalls(x, H_SEND_CRQ);
	bursts(x);
	assert_true(hcalls(x, H_SEND_CRQ) - before == 40);
	assert_true(vio_blk_counters(x->b, 0)->kicks == 40);
}

static void copy_arm_maps_and_unmaps_with_one_call_each(void **state)
{
	struct bt *x = *state;
	uint64_t put, stuff;

	bt_open(x, "copy");
	put = hcalls(x, H_PUT_TCE_INDIRECT);
	stuff = hcalls(x, H_STUFF_TCE);
	for (unsigned i = 0; i < 10; i++)
		must(x, bt_do(x, VIRTIO_BLK_T_IN, 0, 4096, 0));
	assert_true(hcalls(x, H_PUT_TCE_INDIRECT) - put == 10);
	assert_true(hcalls(x, H_STUFF_TCE) - stuff == 10);
}

static void sleeping_server_is_kicked_awake_by_a_polling_guest(void **state)
{
	struct bt *x = *state;

	fs_set(&x->w.s, sleepy, 1);
	bt_open(x, "zero-copy");
	round_trips(x);
	bursts(x);
	assert_true(fs_get(&x->w.s, kicks) > 0);
}

static void guest_that_went_to_sleep_is_woken(void **state)
{
	struct bt *x = *state;
	uint64_t sleeps;

	x->cfg.idle_ns = 0; /* level poll: sleep at once */
	bt_open(x, "zero-copy");
	sleeps = vio_blk_counters(x->b, 0)->sleeps;
	for (unsigned i = 0; i < 20; i++) {
		struct vio_blk_req r = {.type = VIRTIO_BLK_T_IN,
					.sector = i,
					.len = 512,
					.buf = x->buf[0]},
				   *d;
		uint64_t end = vio_now_ns() + 20000000000ull;

		fs_set(&x->w.s, hold, 1);
		bt_submit(x, 0, &r);
		vio_blk_idle(x->b, 0, 1000000); /* nothing comes: sleeps out its time */
		fs_set(&x->w.s, hold, 0);
		while (vio_blk_poll(x->b, 0, &d, 1) == 0) {
			assert_true(vio_now_ns() < end);
			vio_blk_idle(x->b, 0, 30000000000ull); /* no time-out to hide behind */
		}
		assert_true(vio_now_ns() < end);
	}
	assert_true(vio_blk_counters(x->b, 0)->sleeps > sleeps);
	assert_true(fs_get(&x->w.s, used_sent) > 0);
}

static void *prod_later(void *arg)
{
	struct bt *x = arg;

	vio_blk_prod(x->b, 0);
	return NULL;
}

static void prod_ends_an_idle_that_has_begun_or_not(void **state)
{
	static const char *const arms[] = {"copy", "copy-tuned"};
	struct bt *x = *state;

	for (unsigned a = 0; a < 2; a++) {
		struct vio_blk_req *none;
		pthread_t t;

		bt_open(x, arms[a]);
		assert_int_equal(vio_blk_poll(x->b, 0, &none, 1), 0);
		vio_blk_prod(x->b, 0);
		vio_blk_idle(x->b, 0, UINT64_MAX); /* for ever, should the prod be lost */
		pthread_create(&t, NULL, prod_later, x);
		vio_blk_idle(x->b, 0, UINT64_MAX);
		pthread_join(t, NULL);
		vio_blk_close(x->b);
		x->b = NULL;
		vio_mem_init(&x->w.mem, x->w.gp);
	}
}

/* ------------------------------------------------------------------------- two queues ---- */

struct worker {
	struct bt *x;
	unsigned q, rounds;
	bool failed;
	pthread_t t;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct bt *x = w->x;
	unsigned buf = w->q * 8;

	for (unsigned i = 0; i < w->rounds && !w->failed; i++) {
		struct vio_blk_req r = {.type = VIRTIO_BLK_T_OUT,
					.sector = w->q * 1024 + i % 64 * 8,
					.len = BT_BS,
					.buf = x->buf[buf]};
		struct vio_blk_req *p = &r;

		bt_fill(x->va[buf], BT_BS, w->q * 1000 + i);
		while (vio_blk_submit(x->b, w->q, &p, 1) == 0)
			vio_blk_idle(x->b, w->q, 1000000);
		w->failed |= bt_next(x, w->q) != &r || r.result;
		r = (struct vio_blk_req){.type = VIRTIO_BLK_T_IN,
					 .sector = r.sector,
					 .len = BT_BS,
					 .buf = x->buf[buf + 1]};
		while (!w->failed && vio_blk_submit(x->b, w->q, &p, 1) == 0)
			vio_blk_idle(x->b, w->q, 1000000);
		w->failed |= bt_next(x, w->q) != &r || r.result ||
			     !bt_filled(x->va[buf + 1], BT_BS, w->q * 1000 + i);
	}
	return NULL;
}

static void threads(struct bt *x, const char *arm, unsigned rounds)
{
	struct worker w[3];

	x->cfg.transport.num_queues = 3;
	bt_open(x, arm);
	assert_int_equal(vio_blk_get_info(x->b)->num_queues, 3);
	for (unsigned i = 0; i < 3; i++) {
		w[i] = (struct worker){.x = x, .q = i, .rounds = rounds};
		pthread_create(&w[i].t, NULL, work, &w[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(w[i].t, NULL);
	for (unsigned i = 0; i < 3; i++)
		assert_false(w[i].failed);
}

static void queues_with_threads_of_their_own_share_the_crq(void **state)
{
	threads(*state, "copy", 100);
}

static void queues_with_threads_of_their_own_suppress(void **state)
{
	threads(*state, "copy-tuned", 100);
}

static void queues_with_threads_of_their_own_expose_windows(void **state)
{
	threads(*state, "zero-copy,mapping=single-use,notify=suppress", 20);
}

static void one_thread_drives_all_queues(void **state)
{
	struct bt *x = *state;
	struct vio_blk_req r[4], *p;
	unsigned back = 0;

	x->cfg.transport.num_queues = 9; /* the server has 4 */
	bt_open(x, "copy-tuned");
	assert_int_equal(vio_blk_get_info(x->b)->num_queues, 4);
	for (unsigned i = 0; i < 4; i++) {
		r[i] = (struct vio_blk_req){.type = VIRTIO_BLK_T_IN,
					    .sector = i,
					    .len = 512,
					    .buf = x->buf[i],
					    .result = 1};
		p = &r[i];
		assert_int_equal(vio_blk_submit(x->b, i, &p, 1), 1);
	}
	while (back < 4) {
		for (unsigned i = 0; i < 4; i++)
			back += (unsigned)vio_blk_poll(x->b, i, &p, 1);
		if (back < 4)
			vio_blk_idle(x->b, 0, 1000000);
	}
	fs_stand_still(&x->w.s);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(r[i].result, 0);
		assert_int_equal(x->w.s.q[i].ring.used, 1);
	}
}

static void single_queue_device_without_mq_gives_one(void **state)
{
	struct bt *x = *state;

	x->w.s.k.drop_features = 1ull << VIRTIO_BLK_F_MQ;
	x->cfg.transport.num_queues = 4;
	bt_open(x, "copy");
	assert_int_equal(vio_blk_get_info(x->b)->num_queues, 1);
	round_trips(x);
}

#define T(f) cmocka_unit_test_setup_teardown(f, bt_setup, bt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(zero_copy_makes_no_call_while_both_poll),
		T(crq_kicks_once_for_each_publish),
		T(copy_arm_maps_and_unmaps_with_one_call_each),
		T(sleeping_server_is_kicked_awake_by_a_polling_guest),
		T(guest_that_went_to_sleep_is_woken),
		T(prod_ends_an_idle_that_has_begun_or_not),
		T(queues_with_threads_of_their_own_share_the_crq),
		T(queues_with_threads_of_their_own_suppress),
		T(queues_with_threads_of_their_own_expose_windows),
		T(one_thread_drives_all_queues),
		T(single_queue_device_without_mq_gives_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
