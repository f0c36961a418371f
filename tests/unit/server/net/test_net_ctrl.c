/* SPDX-License-Identifier: BSD-3-Clause */
/* The control queue: addresses, filters, tables, pairs of queues, announcements. */
#include "tests/unit/server/net/net_talk.h"

/* --------------------------------------------------------------------------------- control ---- */

static void an_address_that_the_guest_sets_is_in_its_config_space_until_a_reset(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};
		uint8_t configured[6];
		struct nw_guest *g;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[1];
		two_up(w, &nw_arms[a], &nw_arms[a], NW_ALL);
		memcpy(configured, nw_config(g)->mac, 6);
		assert_memory_not_equal(configured, mac, 6);
		assert_int_equal(
			control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
			VIRTIO_NET_OK);
		nw_run(w);
		assert_memory_equal(nw_config(g)->mac, mac, 6);
		assert_int_equal(g->last.op, VIO_OP_CONFIG);
		assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		assert_int_equal(nw_features(w, g, &nw_arms[a], NW_ALL), VIO_ST_OK);
		assert_memory_equal(nw_config(g)->mac, configured, 6);
		nw_teardown(&s);
	}
}

static void filters_let_through_what_was_asked_for(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		const uint8_t mac[6] = {2, 0, 0, 0, 0, 9}, off = 0, on = 1;
		uint8_t tables[4 + 6 + 4 + 6] = {1, 0, 0, 0, 2, 0, 0,    0, 0, 5,
						 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1};
		struct virtio_net_hdr_v1 h;
		struct nw_guest *g;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[1];
		two_up(w, &nw_arms[a], &nw_arms[a], NW_ALL);
		assert_int_equal(
			control(w, g, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
			0);
		assert_int_equal(
			control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
			0);
		assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_MAC,
					 VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables)),
				 0);
		nw_frame(out, 60, 9, 0, 1);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60); /* its address */
		nw_frame(out, 60, 5, 0, 1);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60); /* in its table */
		memcpy(out, "\1\0\x5e\0\0\1", 6);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60); /* in its multicast table */
		memset(out, 0xff, 6);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60); /* broadcast */
		memcpy(out, "\1\0\x5e\0\0\2", 6);
		nw_send(&w->g[0], out, 60);
		nw_frame(out + 100, 60, 1, 0, 1);
		nw_send(&w->g[0], out + 100, 60);
		nw_run(w);
		assert_int_equal(nw_recv(g, 0, in, &h), -1);
		assert_int_equal(nw_drops(g, VIO_DROP_FILTERED), 2);
		assert_int_equal(
			control(w, g, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1),
			0);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60);
		nw_teardown(&s);
	}
}

static int locked(void **state)
{
	/* The order of the words does not matter. */
	static const char *const spec[NW_GUESTS] = {"lock-mac=on,MAC=02:00:00:00:00:0a",
						    "lock-mac=off,MAC=02:00:00:00:00:0b", ""};

	return nw_setup_with(state, spec);
}

static void locked_guest_sends_from_its_own_address_only(void **state)
{
	const uint8_t own[6] = {2, 0, 0, 0, 0, 10}, other[6] = {2, 0, 0, 0, 0, 11};
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];
	struct virtio_net_hdr_v1 h;
	uint32_t id, len;

	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	nw_up(w, &w->g[2], NW_ZERO_COPY, NW_ALL);
	nw_post(&w->g[2], 0, 10, 2048);
	nw_frame(out, 60, 12, 11, 1);
	nw_send(&w->g[1], out, 60);
	nw_run(w);
	assert_int_equal(nw_recv(g, 0, in, &h), 60);
	assert_int_equal(nw_recv(&w->g[2], 0, in, &h), 60);
	nw_frame(out, 60, 11, 10, 1);
	nw_send(g, out, 60);
	assert_arrives(w, &w->g[1], 60);
	/* As guest 1: dropped, and guest 1's frames do not come to it. The chain is returned. */
	nw_frame(out, 60, 12, 11, 1);
	nw_send(g, out, 60);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[2], 0, in, &h), -1);
	assert_int_equal(nw_drops(g, VIO_DROP_SOURCE), 1);
	assert_true(nw_used(g, 1, &id, &len) && nw_used(g, 1, &id, &len));
	nw_frame(out, 60, 11, 12, 1);
	nw_send(&w->g[2], out, 60);
	assert_arrives(w, &w->g[1], 60);
	assert_int_equal(nw_recv(g, 0, in, &h), -1);
	/* It can't take another address, which would be the same by another way. */
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, other, 6),
		VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, own, 6),
		VIRTIO_NET_OK);
	nw_frame(out, 60, 12, 11, 1);
	nw_send(g, out, 60);
	nw_run(w);
	assert_int_equal(nw_drops(g, VIO_DROP_SOURCE), 2);
	/* Who is not locked may send from any address, as on a Linux bridge, and is found there. */
	nw_frame(out, 60, 12, 33, 1);
	nw_send(&w->g[1], out, 60);
	assert_arrives(w, &w->g[2], 60);
	nw_frame(out, 60, 33, 12, 1);
	nw_send(&w->g[2], out, 60);
	assert_arrives(w, &w->g[1], 60);
	assert_int_equal(nw_drops(&w->g[1], VIO_DROP_SOURCE), 0);
}

/* MAC_TABLE_SET with so many addresses, 02 00 00 00 01 xx and 01 00 5e 00 00 xx. */
static uint8_t set_tables(struct nw *w, struct nw_guest *g, unsigned n_uni, unsigned n_multi)
{
	uint8_t data[8 + 6 * 200] = {(uint8_t)n_uni}, *at = data + 4;

	for (unsigned i = 0; i < n_uni; i++, at += 6)
		memcpy(at, (uint8_t[6]){2, 0, 0, 0, 1, (uint8_t)i}, 6);
	memcpy(at, (uint8_t[4]){(uint8_t)n_multi}, 4);
	at += 4;
	for (unsigned i = 0; i < n_multi; i++, at += 6)
		memcpy(at, (uint8_t[6]){1, 0, 0x5e, 0, 0, (uint8_t)i}, 6);
	return control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data,
		       (uint32_t)(at - data));
}

/* Does a frame of guest 0 to that address reach guest 1? */
static bool reaches(struct nw *w, const uint8_t dst[6])
{
	struct virtio_net_hdr_v1 h;

	nw_frame(out, 60, 0, 0, 1);
	memcpy(out, dst, 6);
	nw_send(&w->g[0], out, 60);
	nw_run(w);
	return nw_recv(&w->g[1], 0, in, &h) == 60;
}

/* Too many of a kind let all of it through: for as long as that table is set, whatever ALLMULTI says. */
static void table_that_is_too_long_lets_its_kind_through_until_the_next(void **state)
{
	static const uint8_t listed[6] = {1, 0, 0x5e, 0, 0, 3}, group[6] = {1, 0, 0x5e, 9, 9, 9},
			     uni[6] = {2, 0, 0, 0, 1, 3}, other[6] = {2, 9, 9, 9, 9, 9}, off = 0,
			     on = 1;
	struct nw *w = *state;
	struct nw_guest *g = &w->g[1];

#define RX(cmd, v)                                                                                 \
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_##cmd, &(v), 1),  \
			 VIRTIO_NET_OK)
	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	RX(PROMISC, off);
	assert_int_equal(set_tables(w, g, 0, VIO_NET_MACS), VIRTIO_NET_OK);
	assert_true(reaches(w, listed));
	assert_false(reaches(w, group));
	assert_int_equal(set_tables(w, g, 0, VIO_NET_MACS + 1), VIRTIO_NET_OK);
	assert_true(reaches(w, listed));
	assert_true(reaches(w, group));
	assert_false(reaches(w, uni));
	RX(ALLMULTI, off); /* the table is still the one that must be let through */
	assert_true(reaches(w, listed));
	assert_int_equal(set_tables(w, g, 1, 1),
			 VIRTIO_NET_OK); /* one that fits: exactly that again */
	assert_false(reaches(w, listed));
	assert_false(reaches(w, group));
	RX(ALLMULTI, on);
	assert_int_equal(set_tables(w, g, 0, 1),
			 VIRTIO_NET_OK); /* what was asked for is not taken back */
	assert_true(reaches(w, group));
	RX(ALLMULTI, off);
	assert_false(reaches(w, group));
	/* Unicast likewise; groups are not concerned. */
	assert_int_equal(set_tables(w, g, VIO_NET_MACS + 1, 0), VIRTIO_NET_OK);
	assert_true(reaches(w, uni));
	assert_true(reaches(w, other));
	assert_false(reaches(w, group));
	assert_int_equal(set_tables(w, g, VIO_NET_MACS, 0), VIRTIO_NET_OK);
	assert_true(reaches(w, uni));
	assert_false(reaches(w, other));
	/* Promiscuous is what the guest says, not what its tables are: Linux says it first. */
	RX(PROMISC, on);
	assert_int_equal(set_tables(w, g, 0, 0), VIRTIO_NET_OK);
	assert_true(reaches(w, other));
	assert_true(reaches(w, group));
	/* RESET forgets. */
	RX(PROMISC, off);
	assert_int_equal(set_tables(w, g, 0, VIO_NET_MACS + 1), VIRTIO_NET_OK);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL);
	nw_post(g, 0, 20, 2048);
	RX(PROMISC, off);
	assert_false(reaches(w, listed));
#undef RX
}

static void control_commands_that_make_no_sense_get_an_error(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];
	uint8_t data[1200] = {0};
	const uint8_t two = 2, group[6] = {1, 2, 3, 4, 5, 6}, pairs[2] = {2, 0},
		      liar[8] = {255, 255, 255, 255};

	nw_up(w, g, NW_ZERO_COPY, NW_ALL);
	assert_int_equal(control(w, g, 2, 99, 0, data, 4), VIRTIO_NET_ERR);
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &two, 1),
			 VIRTIO_NET_ERR);
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_RX, 77, data, 1), VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, group, 6),
		VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, data, 5),
		VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, liar, 8),
		VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, pairs, 2),
		VIRTIO_NET_ERR);
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data,
				 sizeof(data)),
			 VIRTIO_NET_ERR);
	assert_int_equal(g->needs_resets, 0);
}

static int two_pairs(void **state)
{
	static const char *const spec[NW_GUESTS] = {"queues=2", "queues=2", ""};

	return nw_setup_with(state, spec);
}

static void second_pair_is_used_once_it_is_switched_on(void **state)
{
	struct nw *w = *state;
	const uint8_t two[2] = {2, 0}, three[2] = {3, 0};
	struct virtio_net_hdr_v1 h;

	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL | NW_F(MQ));
	nw_post(&w->g[1], 1, 10, 2048);
	nw_frame(out, 200, 1, 0, 1);
	nw_send_cut(&w->g[0], 1, NULL, out, 200, 0);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[1], 1, in, &h), -1);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 200);
	assert_int_equal(control(w, &w->g[1], 4, VIRTIO_NET_CTRL_MQ,
				 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, three, 2),
			 VIRTIO_NET_ERR);
	assert_int_equal(control(w, &w->g[1], 4, VIRTIO_NET_CTRL_MQ,
				 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, two, 2),
			 VIRTIO_NET_OK);
	for (unsigned pair = 0; pair < 2; pair++) { /* where it sends is where it gets */
		nw_frame(in, 100, 0, 1, 1);
		nw_send_cut(&w->g[1], pair, NULL, in, 100, 0);
		nw_run(w);
		for (unsigned from = 0; from < 2; from++) {
			nw_send_cut(&w->g[0], from, NULL, out, 200, 0);
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], pair, in, &h), 200);
			assert_memory_equal(in, out, 200);
			assert_int_equal(nw_recv(&w->g[1], !pair, in, &h), -1);
		}
	}
}

/* Flow i of guest `from` to guest `to`, IPv4 or IPv6, TCP or UDP, in out[]; its length. */
static uint32_t flow(unsigned i, unsigned to, unsigned from)
{
	const uint8_t proto = i & 1 ? 6 : 17;
	uint8_t *l4;

	nw_frame(out, 200, to, from, i);
	memset(out + 14, 0, 60);
	if (i & 2) {
		vio_put_be16(out + 12, 0x86dd);
		out[14] = 0x60;
		vio_put_be16(out + 18, 200 - 54);
		out[20] = proto;
		out[37] = (uint8_t)(from + 1);
		out[53] = (uint8_t)(to + 1);
		l4 = out + 54;
	} else {
		vio_put_be16(out + 12, 0x0800);
		out[14] = 0x45;
		vio_put_be16(out + 16, 200 - 14);
		out[23] = proto;
		out[29] = (uint8_t)(from + 1);
		out[33] = (uint8_t)(to + 1);
		l4 = out + 34;
	}
	vio_put_be16(l4 + (from ? 2 : 0), (uint16_t)(40000 + i)); /* guest 0's port */
	vio_put_be16(l4 + (from ? 0 : 2), 5201);
	return 200;
}

static void flows_of_one_queue_are_spread_and_follow_the_receiver(void **state)
{
	enum { FLOWS = 64 };
	struct virtio_net_hdr_v1 h;
	const uint8_t two[2] = {2, 0};
	unsigned first = 0;

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		static const char *const spec[NW_GUESTS] = {"", "queues=2", ""};
		struct nw *w;
		void *s;

		nw_setup_with(&s, spec);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, &w->g[1], &nw_arms[a], NW_ALL | NW_F(MQ));
		assert_int_equal(control(w, &w->g[1], 4, VIRTIO_NET_CTRL_MQ,
					 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, two, 2),
				 VIRTIO_NET_OK);
		nw_post(&w->g[0], 0, 2 * FLOWS, 2048);
		for (unsigned p = 0; p < 2; p++)
			nw_post(&w->g[1], p, 2 * FLOWS, 2048);
		for (unsigned i = 0; i < FLOWS; i++) {
			nw_send(&w->g[0], out, flow(i, 1, 0));
			nw_run(w);
		}
		for (first = 0; nw_recv(&w->g[1], 0, in, &h) >= 0;)
			first++;
		assert_in_range(first, FLOWS / 4, 3 * FLOWS / 4);
		for (unsigned i = 0; i < FLOWS - first; i++)
			assert_int_equal(nw_recv(&w->g[1], 1, in, &h), 200);
		/* It answers each on a queue of its choice, and has the flow there from then on. */
		for (unsigned i = 0; i < FLOWS; i++) {
			nw_send_cut(&w->g[1], i / 4 % 2, NULL, out, flow(i, 0, 1), 0);
			nw_run(w);
		}
		for (unsigned i = 0; i < FLOWS; i++) {
			nw_send(&w->g[0], out, flow(i, 1, 0));
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], i / 4 % 2, in, &h), 200);
			assert_memory_equal(in, out, 200);
		}
		nw_teardown(&s);
	}
}

static void guest_that_agreed_is_asked_to_announce_itself_until_it_has(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];

	assert_false(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){true, 0},
					 true)); /* it is not there yet */
	nw_up(w, g, NW_ZERO_COPY, NW_ALL | NW_F(GUEST_ANNOUNCE));
	nw_up(w, &w->g[1], NW_ZERO_COPY, NW_ALL);
	assert_false(vio_kind_net.follow(vio_net_device(w->g[1].net),
					 (struct vio_dev_uplinks){true, 0},
					 true)); /* it would not understand */
	assert_true(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){true, 0},
					true));
	vio_adapter_config_changed(g->a);
	nw_run(w);
	assert_int_equal(vio_le16(nw_config(g)->status),
			 VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, "", 0),
		VIRTIO_NET_OK);
	nw_run(w);
	assert_int_equal(vio_le16(nw_config(g)->status), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_ANNOUNCE, 1, "", 0), VIRTIO_NET_ERR);
	/* A session that ended before it had is not carried over. */
	assert_true(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){true, 0},
					true));
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL | NW_F(GUEST_ANNOUNCE));
	assert_int_equal(vio_le16(nw_config(g)->status), VIRTIO_NET_S_LINK_UP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			an_address_that_the_guest_sets_is_in_its_config_space_until_a_reset),
		cmocka_unit_test(filters_let_through_what_was_asked_for),
		cmocka_unit_test_setup_teardown(locked_guest_sends_from_its_own_address_only,
						locked, nw_teardown),
		cmocka_unit_test_setup_teardown(
			table_that_is_too_long_lets_its_kind_through_until_the_next, nw_setup,
			nw_teardown),
		cmocka_unit_test_setup_teardown(control_commands_that_make_no_sense_get_an_error,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(second_pair_is_used_once_it_is_switched_on,
						two_pairs, nw_teardown),
		cmocka_unit_test_setup_teardown(
			guest_that_agreed_is_asked_to_announce_itself_until_it_has, nw_setup,
			nw_teardown),
		cmocka_unit_test(flows_of_one_queue_are_spread_and_follow_the_receiver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
