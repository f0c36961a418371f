/* SPDX-License-Identifier: BSD-3-Clause */
/* Deaths, stops and bad answers while several threads or calls are in the middle of something: no request is lost. */
#include <sched.h>

#include "blk_recover_test.h"

/* --------------------------------------------------------------------- many queues ---- */

struct worker {
	struct bt *x;
	unsigned q, done;
	bool stop, failed;
	char why[128];
	pthread_t t;
};

static bool failed(struct worker *w, const char *what, const struct vio_blk_req *r, int result)
{
	snprintf(w->why, sizeof(w->why), "queue %u, request %u: %s: %p, result %d", w->q, w->done,
		 what, (const void *)r, result);
	vio_store_release(&w->failed, true);
	return false;
}

/* One request to its end. */
static bool one(struct worker *w, struct vio_blk_req *r)
{
	struct bt *x = w->x;
	struct vio_blk_req *p = r, *d;

	while (vio_blk_submit(x->b, w->q, &p, 1) == 0)
		if (vio_blk_poll(x->b, w->q, &d, 0) == 0)
			vio_blk_idle(x->b, w->q, 1000000);
	d = bt_next(x, w->q);
	return d == r && r->result == 0 ? true : failed(w, "request", d, r->result);
}

/* One block at a time, write and read back, until told to stop. */
static void *work(void *arg)
{
	struct worker *w = arg;
	struct bt *x = w->x;
	unsigned buf = w->q * N, i = 0;

	while (!vio_load_acquire(&w->stop)) {
		struct vio_blk_req out = {.type = VIRTIO_BLK_T_OUT,
					  .sector = w->q * 1024ull + i % 64 * 8,
					  .len = BT_BS,
					  .buf = x->buf[buf]};
		struct vio_blk_req in = {.type = VIRTIO_BLK_T_IN,
					 .sector = out.sector,
					 .len = BT_BS,
					 .buf = x->buf[buf + 1]};

		bt_fill(x->va[buf], BT_BS, w->q * 1000 + i);
		if (!one(w, &out) || !one(w, &in))
			break;
		if (!bt_filled(x->va[buf + 1], BT_BS, w->q * 1000 + i)) {
			failed(w, "data", &in, 0);
			break;
		}
		vio_store_release(&w->done, ++i);
	}
	return NULL;
}

static void await_progress(struct worker *w, unsigned n)
{
	uint64_t end = vio_now_ns() + 30000000000ull;

	for (unsigned i = 0; i < n; i++) {
		unsigned from = vio_load_acquire(&w[i].done);

		while (vio_load_acquire(&w[i].done) < from + 3 && !vio_load_acquire(&w[i].failed)) {
			struct timespec ms = {0, 1000000};

			if (vio_now_ns() > end)
				fail_msg("queue %u stands still; said: %s", i, w[i].x->said.text);
			nanosleep(&ms, NULL);
		}
		if (vio_load_acquire(&w[i].failed))
			fail_msg("%s; said: %s", w[i].why, w[i].x->said.text);
	}
}

static void threads_survive(void **state, const char *arm)
{
	struct bt *x = *state;
	struct worker w[3];

	x->cfg.transport.num_queues = 3;
	x->cfg.idle_ns = 100000;
	bt_open(x, arm);
	for (unsigned i = 0; i < 3; i++) {
		w[i] = (struct worker){.x = x, .q = i};
		pthread_create(&w[i].t, NULL, work, &w[i]);
	}
	for (unsigned round = 0; round < 4; round++) {
		await_progress(w, 3);
		if (round % 2) {
			fs_kill(&x->w.s);
			fs_start(&x->w.s);
		} else {
			fs_set(&x->w.s, stop_device, 1);
		}
	}
	await_progress(w, 3);
	for (unsigned i = 0; i < 3; i++)
		vio_store_release(&w[i].stop, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(w[i].t, NULL);
	for (unsigned i = 0; i < 3; i++)
		assert_false(w[i].failed);
	says(x->said.text, "is back");
}

static void three_threads_survive_deaths_and_stops_zero_copy(void **state)
{
	threads_survive(state, "zero-copy");
}

static void three_threads_survive_deaths_and_stops_copy(void **state)
{
	threads_survive(state, "copy");
}

static void three_threads_survive_deaths_and_stops_with_exposures(void **state)
{
	threads_survive(state, "zero-copy,mapping=cached,notify=suppress");
}

/* ----------------------------------------------------------------------------- faults ---- */

/* Requests with one fault in the calls that they make; every one comes back. */
static void traffic_with(struct bt *x, const char *spec)
{
	struct vio_blk_req r[N];
	struct phyp_filter *f;

	ok(x, phyp_fault_create(spec, &f, &x->err));
	phyp_filter_push(x->w.gp, f);
	for (unsigned i = 0; i < 4; i++) {
		struct vio_blk_req *p[N];
		unsigned taken = 0, back = 0;
		uint64_t end = vio_now_ns() + 20000000000ull;

		for (unsigned k = 0; k < N; k++) {
			r[k] = (struct vio_blk_req){.type = VIRTIO_BLK_T_OUT,
						    .sector = 8 * k,
						    .len = BT_BS,
						    .buf = x->buf[k],
						    .result = 77};
			bt_fill(x->va[k], BT_BS, i + k);
			p[k] = &r[k];
		}
		while (back < N) {
			struct vio_blk_req *d[N];
			int n;

			taken += vio_blk_submit(x->b, 0, p + taken, N - taken);
			n = vio_blk_poll(x->b, 0, d, N);
			if (n < 0 || vio_now_ns() > end)
				fail_msg("%s: %d, %u of %u back; said: %s", spec, n, back, N,
					 x->said.text);
			back += (unsigned)n;
			if (n == 0)
				vio_blk_idle(x->b, 0, 1000000);
		}
	}
	phyp_filter_pop(x->w.gp);
	phyp_fault_free(f);
	check_disk(x, 0, 3);
}

static void one_bad_answer_anywhere_in_traffic_loses_no_request(void **state)
{
	static const char *const calls[] = {"H_SEND_CRQ", "H_PUT_TCE_INDIRECT", "H_STUFF_TCE",
					    "H_PUT_TCE"};
	static const char *const answers[] = {"H_BUSYx3", "H_DROPPEDx2000", "H_CLOSED"};
	struct bt *x = *state;
	char spec[64];

	bt_open(x, "copy-tuned");
	for (unsigned c = 0; c < VIO_ARRAY_SIZE(calls); c++)
		for (unsigned a = 0; a < (c == 0 ? VIO_ARRAY_SIZE(answers) : 1); a++)
			for (unsigned n = 1; n <= 3; n++) {
				snprintf(spec, sizeof(spec), "%s@%u=%s", calls[c], n, answers[a]);
				traffic_with(x, spec);
			}
}

static void bad_answers_while_the_server_returns_are_survived(void **state)
{
	static const char *const spec[] = {"H_SEND_CRQ@2=H_BUSYx5,H_GRANT_LOGICAL@1=H_BUSYx2",
					   "H_SEND_CRQ@4=H_DROPPEDx5",
					   "H_SEND_CRQ@5=H_CLOSED",
					   "H_RESCIND_LOGICAL@1=H_BUSYx3",
					   "H_RESCIND_LOGICAL@1=H_RESOURCE",
					   "H_GRANT_LOGICAL@2=H_BUSYx20"};
	struct bt *x = *state;
	struct vio_blk_req r[N];

	bt_open(x, "zero-copy");
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(spec); i++) {
		struct phyp_filter *f;

		fs_set(&x->w.s, hold, 1);
		put_out(x, r, 0, i);
		ok(x, phyp_fault_create(spec[i], &f, &x->err));
		phyp_filter_push(x->w.gp, f);
		fs_kill(&x->w.s);
		fs_set(&x->w.s, hold, 0);
		fs_start(&x->w.s);
		all_back(x, 0, 0);
		phyp_filter_pop(x->w.gp);
		phyp_fault_free(f);
		check_disk(x, 0, i);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, bt_setup, bt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(three_threads_survive_deaths_and_stops_zero_copy),
		T(three_threads_survive_deaths_and_stops_copy),
		T(three_threads_survive_deaths_and_stops_with_exposures),
		T(one_bad_answer_anywhere_in_traffic_loses_no_request),
		T(bad_answers_while_the_server_returns_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
