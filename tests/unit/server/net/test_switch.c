/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch alone, between ports that write down what they get; options of ports; checks of
 * offload fields.
 */
#include "tests/unit/server/net/switch_bench.h"

static void unknown_address_is_flooded_and_a_learnt_one_is_not(void **state)
{
	struct bench *b = *state;

	send(b, 0, 101, 100, UNTAGGED);
	assert_int_equal(who(b), 0x6);
	send(b, 1, 100, 101, UNTAGGED); /* 100 was learnt at 0 */
	assert_int_equal(who(b), 0x1);
	send(b, 0, 101, 100, UNTAGGED);
	assert_int_equal(who(b), 0x2);
	send(b, 1, 101, 101, UNTAGGED); /* on its own segment */
	assert_int_equal(who(b), 0);
}

static void address_that_moves_is_followed(void **state)
{
	struct bench *b = *state;

	send(b, 0, 99, 100, UNTAGGED);
	send(b, 1, 100, 101, UNTAGGED);
	assert_int_equal(who(b), 0x1);
	send(b, 2, 99, 100, UNTAGGED); /* now here */
	send(b, 1, 100, 101, UNTAGGED);
	assert_int_equal(who(b), 0x4);
	send(b, 0, 99, 100, UNTAGGED); /* and back, though port 0 has learnt it before */
	send(b, 1, 100, 101, UNTAGGED);
	assert_int_equal(who(b), 0x1);
}

static void silent_address_is_forgotten_and_a_talking_one_is_not(void **state)
{
	struct bench *b = *state;

	send(b, 0, 99, 100, UNTAGGED);
	send(b, 2, 99, 102, UNTAGGED);
	for (unsigned t = 1; t <= VIO_FDB_AGE_S; t++) {
		vio_switch_poll(b->sw, (1000 + t) * S);
		if (t % 100 == 50)
			send(b, 2, 99, 102, UNTAGGED);
	}
	send(b, 1, 100, 101, UNTAGGED);
	assert_int_equal(who(b), 0x5);
	send(b, 1, 102, 101, UNTAGGED);
	assert_int_equal(who(b), 0x4);
}

static void port_that_lost_its_link_is_forgotten_and_gets_nothing(void **state)
{
	struct bench *b = *state;

	send(b, 0, 99, 100, UNTAGGED);
	vio_switch_link(&b->tap[0].port, false);
	send(b, 1, 100, 101, UNTAGGED);
	assert_int_equal(who(b), 0x4); /* flooded */
	assert_int_equal(b->tap[0].port.stats.drop[VIO_DROP_LINK_DOWN], 1);
	send(b, 0, 101, 100, UNTAGGED);
	assert_int_equal(who(b), 0);
	assert_int_equal(b->tap[0].port.stats.drop[VIO_DROP_LINK_DOWN], 2);
	vio_switch_link(&b->tap[0].port, true);
	send(b, 0, 101, 100, UNTAGGED);
	assert_int_equal(who(b), 0x2);
}

static void vlans_do_not_see_each_other(void **state)
{
	struct bench *b = *state;

	send(b, 0, 99, 100, UNTAGGED); /* VLAN 1 */
	assert_int_equal(who(b), 0x6);
	send(b, 3, 100, 103, UNTAGGED); /* VLAN 10 does not know 100 of VLAN 1 */
	assert_int_equal(who(b), 0x10);
	assert_true(b->tap[4].got[0].tagged);
	assert_int_equal(vio_get_be16(b->tap[4].got[0].head + 12), 0x8100);
	assert_int_equal(vio_get_be16(b->tap[4].got[0].head + 14), 10);
	send(b, 4, 103, 104, 10); /* back through the trunk: the tag comes off */
	assert_int_equal(who(b), 0x8);
	assert_false(b->tap[3].got[0].tagged);
	assert_int_equal(vio_get_be16(b->tap[3].got[0].head + 12), 0x88b5);
	assert_int_equal(b->tap[3].got[0].len, 96);
	send(b, 4, 103, 104, 11); /* the same address in another VLAN is another station */
	assert_int_equal(who(b), 0);
}

static void tags_that_a_port_may_not_send_are_dropped(void **state)
{
	struct bench *b = *state;
	const struct {
		unsigned port, tci;
	} bad[] = {{0, 10}, {0, 1}, {3, 10}, {4, 13}, {4, 1}, {4, 4095}, {4, UNTAGGED}, {4, 0}};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		uint64_t before = b->tap[bad[i].port].port.stats.drop[VIO_DROP_VLAN];

		send(b, bad[i].port, 99, 100, bad[i].tci);
		assert_int_equal(who(b), 0);
		assert_int_equal(b->tap[bad[i].port].port.stats.drop[VIO_DROP_VLAN], before + 1);
	}
}

/* A tag of this kind, and after it (without one: in its place) this type. */
static void send_type(struct bench *b, unsigned from, uint16_t tpid, uint16_t tci, uint16_t type)
{
	struct vio_frame f;
	uint8_t raw[32];

	nw_frame(raw, sizeof(raw), 99, 100 + from, 0);
	memset(&f, 0, sizeof(f));
	f.head = f.buf;
	memcpy(f.buf, raw, 18);
	vio_put_be16(f.buf + 12, tpid ? tpid : type);
	if (tpid) {
		vio_put_be16(f.buf + 14, tci);
		vio_put_be16(f.buf + 16, type);
	}
	f.len = 100;
	f.head_len = 18;
	f.body_len = 82;
	for (unsigned i = 0; i < PORTS; i++)
		b->tap[i].n = 0;
	vio_switch_forward(&b->tap[from].port, &f, 1);
}

static void second_tag_reaches_no_other_vlan(void **state)
{
	static const uint16_t tag[] = {0x8100, 0x88a8};
	struct bench *b = *state;

	b->tap[4].port.vlan.pvid =
		1; /* the trunk's native VLAN: the first tag would come off there */
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(tag); i++) {
		const uint64_t *access = &b->tap[0].port.stats.drop[VIO_DROP_VLAN],
			       *trunk = &b->tap[4].port.stats.drop[VIO_DROP_VLAN], before = *access,
			       before_trunk = *trunk,
			       before_3 = b->tap[3].port.stats.drop[VIO_DROP_VLAN];

		send_type(b, 0, 0x8100, 0, tag[i]); /* behind a tag that is a priority only */
		assert_int_equal(who(b), 0);
		send_type(b, 0, 0x88a8, 0, tag[i]);
		assert_int_equal(who(b), 0);
		send_type(b, 0, 0x88a8, 10, 0x88b5);
		assert_int_equal(who(b), 0);
		assert_int_equal(*access, before + 3);
		/* The same from a trunk into its native VLAN. */
		send_type(b, 4, 0x8100, 5 << 13, tag[i]);
		assert_int_equal(who(b), 0);
		send_type(b, 4, 0x88a8, 10, tag[i]);
		assert_int_equal(who(b), 0);
		assert_int_equal(*trunk, before_trunk + 2);
		/* Allowed on the trunk; but it may not leave where its first tag is not put on again. */
		send_type(b, 4, 0x8100, 10, tag[i]);
		assert_int_equal(who(b), 0);
		assert_int_equal(b->tap[3].port.stats.drop[VIO_DROP_VLAN], before_3 + 1);
		assert_int_equal(*trunk, before_trunk + 2);
		send_type(b, 4, 0x8100, 1, tag[i]); /* its native VLAN by name: ports 0 to 2 */
		assert_int_equal(who(b), 0);
		assert_int_equal(*access, before + 4);
	}
}

static void frame_with_two_tags_stays_as_it_is_between_trunks(void **state)
{
	static const uint16_t tag[] = {0x8100, 0x88a8};
	struct bench *b = *state;
	struct vio_err err;

	b->tap[2].port.vlan.pvid = 0;
	assert_int_equal(vio_port_option(&b->tap[2].port, "trunk", "10+13", &err), 1);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(tag); i++) {
		send_type(b, 4, 0x8100, 3 << 13 | 10, tag[i]);
		assert_int_equal(who(b), 0x4);
		assert_true(b->tap[2].got[0].tagged);
		assert_int_equal(vio_get_be16(b->tap[2].got[0].head + 12), 0x8100);
		assert_int_equal(vio_get_be16(b->tap[2].got[0].head + 14), 3 << 13 | 10);
		assert_int_equal(vio_get_be16(b->tap[2].got[0].head + 16), tag[i]);
		assert_int_equal(b->tap[2].got[0].len, 96);
		send_type(b, 4, 0x8100, 11, tag[i]); /* not a VLAN of the other trunk */
		assert_int_equal(who(b), 0);
		send_type(b, 4, 0x8100, 13, tag[i]); /* nor of this one */
		assert_int_equal(who(b), 0);
		assert_int_equal(b->tap[4].port.stats.drop[VIO_DROP_VLAN], i + 1);
	}
	assert_int_equal(b->tap[2].port.stats.drop[VIO_DROP_VLAN], 0);
}

static void priority_survives_the_switch(void **state)
{
	struct bench *b = *state;

	send(b, 3, 99, 100, 5u << 13); /* VLAN 0: a priority only */
	assert_int_equal(who(b), 0x10);
	assert_int_equal(vio_get_be16(b->tap[4].got[0].head + 14), 5 << 13 | 10);
}

static void trunk_with_a_native_vlan_sends_it_untagged(void **state)
{
	struct bench *b = *state;

	b->tap[4].port.vlan.pvid = 1;
	send(b, 0, 99, 100, UNTAGGED);
	assert_int_equal(who(b), 0x16);
	assert_false(b->tap[4].got[0].tagged);
	send(b, 4, 100, 104, UNTAGGED);
	assert_int_equal(who(b), 0x1);
}

static void frames_of_wrong_length_or_source_are_dropped_with_the_reason(void **state)
{
	struct bench *b = *state;
	struct vio_port *p = &b->tap[0].port;
	struct vio_frame f;

	send_len(b, 0, 99, 100, UNTAGGED, 13);
	assert_int_equal(p->stats.drop[VIO_DROP_RUNT], 1);
	send_len(b, 0, 99, 100, UNTAGGED, 1515);
	assert_int_equal(p->stats.drop[VIO_DROP_OVERSIZED], 1);
	send_len(b, 0, 99, 100, UNTAGGED, 1514);
	assert_int_equal(who(b), 0x6);
	/* A tag does not count against the MTU; one byte more does. */
	send_len(b, 4, 99, 100, 10, 1518);
	assert_int_equal(who(b), 0x8);
	send_len(b, 4, 99, 100, 10, 1519);
	assert_int_equal(b->tap[4].port.stats.drop[VIO_DROP_OVERSIZED], 1);
	/* Too long for the port where it would leave. */
	p->mtu = 9000;
	send_len(b, 0, 99, 100, UNTAGGED, 9014);
	assert_int_equal(who(b), 0);
	assert_int_equal(b->tap[1].port.stats.drop[VIO_DROP_OVERSIZED], 1);
	memset(&f, 0, sizeof(f));
	f.head = f.buf;
	f.len = f.head_len = 18;
	vio_switch_forward(p, &f, 1); /* source 0 */
	f.buf[6] = 1;
	f.buf[11] = 7;
	f.head = f.buf;
	vio_switch_forward(p, &f, 1); /* source is a group */
	assert_int_equal(p->stats.drop[VIO_DROP_SOURCE], 2);
	assert_int_equal(p->stats.in_frames, 2);
}

static void options_that_make_no_sense_are_refused(void **state)
{
	static const char *const bad[][2] = {
		{"vlan", "0"},     {"vlan", "4095"}, {"vlan", "x"},  {"vlan", ""},
		{"trunk", "5-3"},  {"trunk", "5+"},  {"trunk", ""},  {"trunk", "1-4095"},
		{"mtu", "67"},     {"mtu", "9001"},  {"mtu", "1e3"}, {"vlan", "10x"},
		{"trunk", "10,11"}};
	struct vio_err err;
	struct vio_net *n;

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		struct vio_port p = {0};

		vio_port_defaults(&p);
		assert_int_equal(vio_port_option(&p, bad[i][0], bad[i][1], &err), -EINVAL);
		assert_non_null(strstr(err.msg, bad[i][0]));
	}
	assert_int_equal(vio_net_create("queues=32", 0, NULL, &n, &err), -EINVAL);
	assert_int_equal(vio_net_create("MAC=01:00:00:00:00:01", 0, NULL, &n, &err), -EINVAL);
	assert_int_equal(vio_net_create("mac=2:0:0:0:0:1:1", 0, NULL, &n, &err), -EINVAL);
	assert_int_equal(vio_net_create("colour=red", 0, NULL, &n, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "colour"));
	assert_int_equal(vio_net_create("link=maybe", 0, NULL, &n, &err), -EINVAL);
	assert_int_equal(vio_net_create("lock-mac=yes", 0, NULL, &n, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "lock-mac"));
	assert_int_equal(vio_net_create("MAC=02:00:00:00:00:09,trunk=all,vlan=4,mtu=9000,queues=3",
					0, NULL, &n, &err),
			 0);
	assert_int_equal(vio_kind_net.queues(vio_net_device(n), 0), 7);
	assert_true(vio_port_in_vlan(vio_net_port(n), 4094));
	assert_false(vio_port_tags(vio_net_port(n), 4));
	vio_net_destroy(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(unknown_address_is_flooded_and_a_learnt_one_is_not,
						setup, teardown),
		cmocka_unit_test_setup_teardown(address_that_moves_is_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			silent_address_is_forgotten_and_a_talking_one_is_not, setup, teardown),
		cmocka_unit_test_setup_teardown(
			port_that_lost_its_link_is_forgotten_and_gets_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(vlans_do_not_see_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(tags_that_a_port_may_not_send_are_dropped, setup,
						teardown),
		cmocka_unit_test_setup_teardown(second_tag_reaches_no_other_vlan, setup, teardown),
		cmocka_unit_test_setup_teardown(frame_with_two_tags_stays_as_it_is_between_trunks,
						setup, teardown),
		cmocka_unit_test_setup_teardown(priority_survives_the_switch, setup, teardown),
		cmocka_unit_test_setup_teardown(trunk_with_a_native_vlan_sends_it_untagged, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			frames_of_wrong_length_or_source_are_dropped_with_the_reason, setup,
			teardown),
		cmocka_unit_test(options_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
