/* SPDX-License-Identifier: BSD-3-Clause */
/* The server dies, comes back, is another; the machine dies: frames may be lost, buffers may not. */
#include <unistd.h>

#include "net_test.h"

/* The owner of a pair sees the restart at its next poll. */
static void poll_all(struct nt *x)
{
	for (unsigned p = 0; p < vio_net_get_info(x->n)->pairs; p++) {
		struct vio_net_buf *none;

		assert_int_equal(vio_net_rx_burst(x->n, p, &none, 0), 0);
		assert_true(vio_net_refill(x->n, p) > 0);
	}
}

static void a_killed_server_loses_frames_in_flight_and_no_buffer_in_every_arm(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		struct vio_net_stats s;

		if (a)
			nt_again(x);
		x->fn.mtu = 9000;
		nt_open(x, nt_arms[a]);
		nt_echo(x, 0, 1000, 1);
		nt_all_back(x);
		fs_set(&x->w.s, hold, 1);
		for (unsigned k = 0; k < 5; k++)
			nt_send(x, 0, nt_make(x, 0, k % 2 ? 5000 : 100, k));
		fs_kill(&x->w.s);
		nt_until(x, false, "server has gone");
		says(x->said.text, "5 frames held");
		fs_set(&x->w.s, hold, 0);
		fs_start(&x->w.s);
		nt_until(x, false, "is back");
		says(x->said.text, "5 frame(s) lost");
		poll_all(x);
		vio_net_get_stats(x->n, 0, &s);
		assert_int_equal(s.tx_lost, 5);
		for (unsigned k = 0; k < 50; k++)
			nt_echo(x, 0, 60 + k * 100, k);
		nt_all_back(x);
	}
}

static void a_server_that_ends_well_and_returns_twice_is_picked_up_again(void **state)
{
	struct nt *x = *state;

	nt_open(x, "zero-copy");
	for (unsigned turn = 0; turn < 2; turn++) {
		nt_echo(x, 0, 1000, turn);
		fs_stop(&x->w.s);
		nt_until(x, false, "server has gone");
		fs_start(&x->w.s);
		nt_until(x, false, "is back");
		poll_all(x);
		nt_echo(x, 0, 1001, turn);
		nt_all_back(x);
		x->said.text[0] = 0;
	}
}

static void what_the_device_was_told_is_told_again(void **state)
{
	const uint8_t mac[6] = {2, 9, 9, 9, 9, 9};
	struct nt *x = *state;
	uint32_t before;

	x->fn.max_pairs = 2;
	x->cfg.pairs = 2;
	nt_open(x, "zero-copy");
	ok(x, vio_net_promisc(x->n, false, &x->err));
	ok(x, vio_net_set_mac(x->n, mac, &x->err));
	before = nt_seen(x, n_cmds);
	fs_kill(&x->w.s);
	nt_until(x, false, "server has gone");
	assert_int_equal(vio_net_allmulti(x->n, true, &x->err), -ENOTCONN);
	fs_start(&x->w.s);
	nt_until(x, false, "is back");
	poll_all(x);
	assert_int_equal(nt_seen(x, n_cmds), before + 4);
	assert_int_equal(x->fn.cmd[before].class, VIRTIO_NET_CTRL_MQ);
	assert_memory_equal(x->fn.cmd[before + 1].data, mac, 6);
	assert_int_equal(x->fn.cmd[before + 2].cmd, VIRTIO_NET_CTRL_RX_ALLMULTI);
	assert_int_equal(x->fn.cmd[before + 3].cmd, VIRTIO_NET_CTRL_RX_PROMISC);
	for (unsigned p = 0; p < 2; p++)
		nt_echo(x, p, 500, p);
	nt_all_back(x);
}

static void a_stopped_device_is_reset_and_works_again_in_every_arm(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		nt_arm(x, a);
		nt_echo(x, 0, 100, 1);
		fs_set(&x->w.s, stop_device, 1);
		nt_send(x, 0, nt_make(x, 0, 100, 2));
		nt_until(x, false, "is back");
		says(x->said.text, "stopped the device");
		poll_all(x);
		nt_echo(x, 0, 100, 3);
		nt_all_back(x);
	}
}

static void a_server_that_comes_back_with_another_card_ends_the_card(void **state)
{
	struct nt *x = *state;
	struct vio_net_buf *none;
	uint64_t end = vio_now_ns() + 20000000000ull;
	int rc = 0;

	nt_open(x, "zero-copy");
	nt_echo(x, 0, 100, 1);
	fs_kill(&x->w.s);
	nt_until(x, false, "server has gone");
	x->fn.mtu = 9000;
	fs_start(&x->w.s);
	while ((rc = vio_net_rx_burst(x->n, 0, &none, 1)) == 0 && vio_now_ns() < end)
		vio_net_idle(x->n, 0, false, 1000000);
	assert_int_equal(rc, -EIO);
	says(x->said.text, "another card");
	nt_all_back(x);
}

static void a_server_that_moves_to_the_other_link_state_is_believed(void **state)
{
	struct nt *x = *state;

	nt_open(x, "copy");
	fs_kill(&x->w.s);
	nt_until(x, false, "server has gone");
	assert_true(vio_net_look_at_config(x->n)); /* no cable while there is no server */
	assert_false(vio_net_get_info(x->n)->link_up);
	vio_store_release(&x->fn.link_down, true);
	fs_start(&x->w.s);
	nt_until(x, false, "is back");
	poll_all(x);
	vio_net_look_at_config(x->n);
	assert_false(vio_net_get_info(x->n)->link_up);
}

/* Threads on several pairs while the server is killed and comes back: one configures, all go on. */
struct worker {
	struct nt *x;
	pthread_t t;
	unsigned pair;
	uint32_t stop;
	uint64_t frames;
	bool bad;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct vio_net *n = w->x->n;
	struct vio_net_buf *f[8];

	while (!vio_load_acquire(&w->stop)) {
		int got = vio_net_rx_burst(n, w->pair, f, 8);

		if (got < 0) {
			w->bad = true;
			break;
		}
		w->frames += (uint64_t)got;
		vio_net_free(n, w->pair, f, (unsigned)got);
		vio_net_refill(n, w->pair);
		if (vio_net_tx_alloc(n, w->pair, f, 1) == 1) {
			f[0]->len = 100;
			memset(f[0]->data, (int)w->pair, 100);
			if (vio_net_tx_burst(n, w->pair, f, 1) == 0)
				vio_net_free(n, w->pair, f, 1);
		}
		if (got == 0)
			vio_net_idle(n, w->pair, false, 2000000);
	}
	return NULL;
}

static void several_threads_survive_several_deaths(void **state)
{
	const char *const arms[] = {"copy", "copy-tuned", "zero-copy"};
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(arms); a++) {
		struct worker w[3] = {{0}};

		if (a)
			nt_again(x);
		x->fn.max_pairs = 4;
		x->cfg.pairs = 3;
		nt_open(x, arms[a]);
		for (unsigned i = 0; i < 3; i++) {
			w[i].x = x;
			w[i].pair = i;
			pthread_create(&w[i].t, NULL, work, &w[i]);
		}
		for (unsigned turn = 0; turn < 3; turn++) {
			uint64_t end = vio_now_ns() + 20000000000ull, done = fs_get(&x->w.s, done);

			while (fs_get(&x->w.s, done) < done + 200 && vio_now_ns() < end)
				usleep(1000);
			assert_true(fs_get(&x->w.s, done) >= done + 200);
			fs_kill(&x->w.s);
			fs_start(&x->w.s);
		}
		usleep(200000);
		for (unsigned i = 0; i < 3; i++) {
			vio_store_release(&w[i].stop, 1u);
			vio_net_prod(x->n, i);
			pthread_join(w[i].t, NULL);
			assert_false(w[i].bad);
			assert_true(w[i].frames > 0);
		}
		nt_until(x, false, "is back");
		for (unsigned i = 0; i < 3; i++) {
			struct vio_net_buf *f;

			while (vio_net_rx_burst(x->n, i, &f, 1) == 1)
				vio_net_free(x->n, i, &f, 1);
		}
		nt_all_back(x);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, nt_setup, nt_teardown)
	const struct CMUnitTest tests[] = {
		T(a_killed_server_loses_frames_in_flight_and_no_buffer_in_every_arm),
		T(a_server_that_ends_well_and_returns_twice_is_picked_up_again),
		T(what_the_device_was_told_is_told_again),
		T(a_stopped_device_is_reset_and_works_again_in_every_arm),
		T(a_server_that_comes_back_with_another_card_ends_the_card),
		T(a_server_that_moves_to_the_other_link_state_is_believed),
		T(several_threads_survive_several_deaths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
