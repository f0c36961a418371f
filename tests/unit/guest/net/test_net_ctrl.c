/* SPDX-License-Identifier: BSD-3-Clause */
/* The network front end beside its frames: pairs of queues, commands, the link, refusals, sleep and wake-ups. */
#include <poll.h>
#include <unistd.h>

#include "guest/dev/blk/blk.h"
#include "net_test.h"

/* ------------------------------------------------------------- configuration, control ---- */

static void every_pair_of_queues_works_and_the_device_is_told_how_many(void **state)
{
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		if (a)
			nt_again(x);
		x->fn.max_pairs = 4;
		x->cfg.pairs = 3;
		nt_open(x, nt_arms[a]);
		assert_int_equal(vio_net_get_info(x->n)->pairs, 3);
		assert_int_equal(nt_seen(x, n_cmds), 1);
		assert_int_equal(x->fn.cmd[0].class, VIRTIO_NET_CTRL_MQ);
		assert_int_equal(x->fn.cmd[0].data[0], 3);
		for (unsigned k = 0; k < 60; k++)
			nt_echo(x, k % 3, 100 + k, k);
		nt_all_back(x);
	}
}

static void commands_reach_the_device_and_refusals_the_program(void **state)
{
	const uint8_t mac[6] = {2, 1, 2, 3, 4, 5};
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(nt_arms); a++) {
		nt_arm(x, a);
		assert_int_equal(vio_net_get_info(x->n)->mac[5], 7);
		ok(x, vio_net_promisc(x->n, false, &x->err));
		ok(x, vio_net_allmulti(x->n, true, &x->err));
		ok(x, vio_net_set_mac(x->n, mac, &x->err));
		assert_int_equal(nt_seen(x, n_cmds), 3);
		assert_int_equal(x->fn.cmd[0].cmd, VIRTIO_NET_CTRL_RX_PROMISC);
		assert_int_equal(x->fn.cmd[0].data[0], 0);
		assert_int_equal(x->fn.cmd[1].data[0], 1);
		assert_int_equal(x->fn.cmd[2].class, VIRTIO_NET_CTRL_MAC);
		assert_memory_equal(x->fn.cmd[2].data, mac, 6);
		assert_memory_equal(vio_net_get_info(x->n)->mac, mac, 6);
		vio_store_release(&x->fn.refuse, 1u);
		assert_int_equal(vio_net_promisc(x->n, true, &x->err), -EINVAL);
		says(x->err.msg, "refused");
		nt_echo(x, 0, 64, 1);
		nt_all_back(x);
	}
}

static void a_command_that_is_never_answered_ends_with_a_timeout(void **state)
{
	struct nt *x = *state;

	x->cfg.transport.timeout_ms = 300;
	nt_open(x, "zero-copy");
	vio_store_release(&x->fn.deaf, 1u);
	assert_int_equal(vio_net_promisc(x->n, false, &x->err), -ETIMEDOUT);
	nt_echo(x, 0, 64, 1);
	nt_all_back(x);
}

static void a_device_without_control_queue_or_address_is_usable(void **state)
{
	struct nt *x = *state;

	x->w.s.k.drop_features = 1ull << VIRTIO_NET_F_CTRL_VQ | 1ull << VIRTIO_NET_F_MAC |
				 1ull << VIRTIO_NET_F_MTU | 1ull << VIRTIO_NET_F_STATUS;
	nt_open(x, "zero-copy");
	assert_int_equal(vio_net_get_info(x->n)->mtu, 1500);
	assert_int_equal(vio_net_get_info(x->n)->mac[0] & 3, 2);
	assert_true(vio_net_get_info(x->n)->link_up);
	assert_int_equal(vio_net_promisc(x->n, true, &x->err), -EOPNOTSUPP);
	nt_echo(x, 0, 64, 1);
	nt_all_back(x);
}

static void link_changes_are_seen(void **state)
{
	struct nt *x = *state;

	nt_open(x, "zero-copy");
	assert_true(vio_net_get_info(x->n)->link_up);
	assert_false(vio_net_look_at_config(x->n));
	for (unsigned turn = 0; turn < 4; turn++) {
		uint64_t end = vio_now_ns() + 20000000000ull;
		bool seen = false, down = turn % 2 == 0;

		vio_store_release(&x->fn.link_down, down);
		fs_say(&x->w.s, VIO_OP_CONFIG, 0, 0);
		while (!seen && vio_now_ns() < end) {
			struct vio_net_buf *none;

			assert_int_equal(vio_net_rx_burst(x->n, 0, &none, 1), 0);
			seen = vio_net_look_at_config(x->n);
		}
		assert_true(seen);
		assert_int_equal(vio_net_get_info(x->n)->link_up, !down);
	}
	nt_echo(x, 0, 64, 1);
}

static void a_configuration_that_makes_no_sense_is_refused(void **state)
{
	struct nt *x = *state;

	assert_int_equal(vio_arm_parse("zero-copy", &x->cfg.transport.arm, &x->err), 0);
	x->fn.mtu = 20;
	fs_start(&x->w.s);
	assert_int_equal(vio_net_open(x->w.gp, &x->w.mem, &x->cfg, &x->n, &x->err), -EPROTO);
	says(x->err.msg, "MTU 20");
	x->fn.mtu = 1500;
	x->fn.max_pairs = 20; /* of which the device has no queues */
	x->cfg.pairs = 2;
	assert_int_equal(vio_net_open(x->w.gp, &x->w.mem, &x->cfg, &x->n, &x->err), -EPROTO);
	says(x->err.msg, "20 pairs");
	x->cfg.buf_len = 3000;
	assert_int_equal(vio_net_open(x->w.gp, &x->w.mem, &x->cfg, &x->n, &x->err), -EINVAL);
}

static void a_disk_is_not_taken_for_a_network_card(void **state)
{
	struct nt *x = *state;

	x->w.s.k.dev = NULL;
	assert_int_equal(vio_arm_parse("zero-copy", &x->cfg.transport.arm, &x->err), 0);
	fs_start(&x->w.s);
	assert_int_equal(vio_net_open(x->w.gp, &x->w.mem, &x->cfg, &x->n, &x->err), -ENODEV);
	says(x->err.msg, "not a network card");
}

static void a_network_card_is_not_taken_for_a_disk(void **state)
{
	struct nt *x = *state;
	struct vio_blk_cfg cfg = {.transport = x->cfg.transport, .max_len = 4096, .depth = 1};
	struct vio_blk *b;

	assert_int_equal(vio_arm_parse("zero-copy", &cfg.transport.arm, &x->err), 0);
	fs_start(&x->w.s);
	assert_int_equal(vio_blk_open(x->w.gp, &x->w.mem, &cfg, &b, &x->err), -ENODEV);
	says(x->err.msg, "not a disk");
}

/* -------------------------------------------------------------------------- sleeping ---- */

struct later {
	struct nt *x;
	int fd;
};

static void *prod_later(void *arg)
{
	struct later *l = arg;

	usleep(100000);
	if (l->fd >= 0)
		assert_int_equal(write(l->fd, "x", 1), 1);
	else
		vio_net_prod(l->x->n, 0);
	return NULL;
}

static void a_sleeper_wakes_by_a_frame_a_prod_or_a_descriptor(void **state)
{
	const char *const arms[] = {"copy", "copy-tuned", "zero-copy"};
	struct nt *x = *state;

	for (unsigned a = 0; a < VIO_ARRAY_SIZE(arms); a++) {
		struct later l = {.x = x, .fd = -1};
		struct pollfd p = {.events = POLLIN};
		uint64_t t0;
		pthread_t t;
		int pipefd[2];

		if (a)
			nt_again(x);
		x->cfg.idle_ns = 0;
		nt_open(x, arms[a]);
		nt_echo(x, 0, 64, 1);
		nt_all_back(x);
		assert_int_equal(pipe(pipefd), 0);
		for (unsigned k = 0; k < 2; k++) {
			struct vio_net_buf *none;
			bool ready = false;

			l.fd = k ? pipefd[1] : -1;
			p.fd = pipefd[0];
			pthread_create(&t, NULL, prod_later, &l);
			t0 = vio_now_ns();
			while (vio_now_ns() - t0 < 90000000ull || (k && !ready)) {
				assert_int_equal(vio_net_rx_burst(x->n, 0, &none, 1), 0);
				vio_net_idle_fds(x->n, 0, false, &p, 1, 20000000000ull);
				ready = p.revents & POLLIN;
				assert_true(vio_now_ns() - t0 < 15000000000ull);
			}
			pthread_join(t, NULL);
		}
		/* A frame. */
		fs_set(&x->w.s, hold, 1);
		nt_send(x, 0, nt_make(x, 0, 64, 2));
		fs_set(&x->w.s, hold, 0);
		t0 = vio_now_ns();
		{
			struct vio_net_buf *f = nt_next(x, 0);

			assert_non_null(f);
			nt_check(f, 64, 2);
			vio_net_free(x->n, 0, &f, 1);
		}
		nt_all_back(x);
		close(pipefd[0]);
		close(pipefd[1]);
	}
}

/* Of this feature and no other that fake_net has not always. */
static void open_with(struct nt *x, uint64_t more)
{
	x->fn.more = more;
	x->cfg.announce = x->cfg.filter_vlans = x->cfg.offload = true;
	nt_open(x, "zero-copy");
}

static void what_the_device_does_not_offer_is_refused_here(void **state)
{
	struct nt *x = *state;

	open_with(x, 0);
	assert_int_equal(vio_net_vlan(x->n, 5, true, &x->err), -EOPNOTSUPP);
	says(x->err.msg, "VLAN");
	assert_int_equal(vio_net_set_offloads(x->n, 0, &x->err), -EOPNOTSUPP);
	assert_int_equal(vio_net_announced(x->n, &x->err), -EOPNOTSUPP);
	assert_int_equal(vio_net_vlan(x->n, 4096, true, &x->err), -EINVAL);
	assert_int_equal(nt_seen(x, n_cmds), 0);
	assert_int_equal(vio_net_get_info(x->n)->speed, 0);
	nt_all_back(x);
}

static void vlans_and_offloads_are_told_and_told_again(void **state)
{
	const uint64_t off = 1ull << VIRTIO_NET_F_GUEST_CSUM;
	struct nt *x = *state;
	uint32_t n;

	x->fn.speed = 40000;
	open_with(x, 1ull << VIRTIO_NET_F_CTRL_VLAN | 1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS |
			     1ull << VIRTIO_NET_F_SPEED_DUPLEX);
	assert_int_equal(vio_net_get_info(x->n)->speed, 40000);
	ok(x, vio_net_vlan(x->n, 5, true, &x->err));
	ok(x, vio_net_vlan(x->n, 4095, true, &x->err));
	ok(x, vio_net_vlan(x->n, 300, true, &x->err));
	ok(x, vio_net_vlan(x->n, 300, false, &x->err));
	ok(x, vio_net_set_offloads(x->n, off, &x->err));
	ok(x, vio_net_promisc(x->n, false, &x->err));
	n = nt_seen(x, n_cmds); /* and what they were */
	assert_int_equal(x->fn.cmd[3].class, VIRTIO_NET_CTRL_VLAN);
	assert_int_equal(x->fn.cmd[3].cmd, VIRTIO_NET_CTRL_VLAN_DEL);
	assert_int_equal(x->fn.cmd[3].data[0] | x->fn.cmd[3].data[1] << 8, 300);
	assert_int_equal(x->fn.cmd[4].class, VIRTIO_NET_CTRL_GUEST_OFFLOADS);
	assert_int_equal(x->fn.cmd[4].data[0], off);
	fs_kill(&x->w.s);
	nt_until(x, false, "server has gone");
	fs_start(&x->w.s);
	nt_until(x, false, "is back");
	vio_net_refill(x->n, 0);
	nt_echo(x, 0, 64, 1);
	assert_int_equal(nt_seen(x, n_cmds), n + 4);
	assert_int_equal(x->fn.cmd[n].data[0], 5);
	assert_int_equal(x->fn.cmd[n + 1].data[0] | x->fn.cmd[n + 1].data[1] << 8, 4095);
	assert_int_equal(x->fn.cmd[n + 2].class, VIRTIO_NET_CTRL_GUEST_OFFLOADS);
	assert_int_equal(x->fn.cmd[n + 3].cmd, VIRTIO_NET_CTRL_RX_PROMISC); /* the filter last */
	nt_all_back(x);
}

static void a_device_that_wants_to_be_announced_is_told_when_it_is(void **state)
{
	struct nt *x = *state;

	x->fn.announce = true; /* as it is configured, already */
	open_with(x, 1ull << VIRTIO_NET_F_GUEST_ANNOUNCE);
	assert_true(vio_net_get_info(x->n)->announce);
	ok(x, vio_net_announced(x->n, &x->err));
	assert_false(vio_net_get_info(x->n)->announce);
	assert_int_equal(nt_seen(x, n_cmds), 1);
	assert_int_equal(x->fn.cmd[0].class, VIRTIO_NET_CTRL_ANNOUNCE);
	assert_int_equal(x->fn.cmd[0].cmd, VIRTIO_NET_CTRL_ANNOUNCE_ACK);
	assert_int_equal(x->fn.cmd[0].len, 0);
	nt_all_back(x);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, nt_setup, nt_teardown)
	const struct CMUnitTest tests[] = {
		T(what_the_device_does_not_offer_is_refused_here),
		T(vlans_and_offloads_are_told_and_told_again),
		T(a_device_that_wants_to_be_announced_is_told_when_it_is),
		T(every_pair_of_queues_works_and_the_device_is_told_how_many),
		T(commands_reach_the_device_and_refusals_the_program),
		T(a_command_that_is_never_answered_ends_with_a_timeout),
		T(a_device_without_control_queue_or_address_is_usable),
		T(link_changes_are_seen),
		T(a_configuration_that_makes_no_sense_is_refused),
		T(a_disk_is_not_taken_for_a_network_card),
		T(a_network_card_is_not_taken_for_a_disk),
		T(a_sleeper_wakes_by_a_frame_a_prod_or_a_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
