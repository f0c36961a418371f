/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch alone, between ports that write down what they get; options of ports; checks of
 * offload fields.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

#define PORTS 5
#define S     1000000000ull
#define TSO                                                                                        \
	(uint8_t)(VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_NONE) | VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV4) |   \
		  VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV6))

struct tap {
	struct vio_port port;
	unsigned n;
	struct {
		uint16_t vid;
		bool tagged;
		uint8_t head[64];
		uint32_t len;
	} got[64];
};

struct bench {
	struct vio_switch *sw;
	struct tap tap[PORTS];
};

static void deliver(struct vio_port *p, struct vio_frame *const f[], unsigned n)
{
	struct tap *t = vio_container_of(p, struct tap, port);

	for (unsigned i = 0; i < n; i++) {
		unsigned k = t->n++;

		t->got[k].vid = f[i]->vid;
		t->got[k].tagged = vio_port_tags(p, f[i]->vid);
		t->got[k].len = f[i]->len;
		vio_frame_put_head(f[i], t->got[k].tagged, t->got[k].head);
	}
}

#define GUEST 10u /* addresses of taps 0 to 3; tap 4 has the rest, as an uplink */
static const struct vio_port_ops guest_ops = {.kind = "guest",
					      .addresses = GUEST,
					      .deliver = deliver},
				 ops = {.kind = "uplink", .outside = true, .deliver = deliver};

/* 0 to 2 are in VLAN 1; 3 is access to 10; 4 a trunk of 10 to 12 without a native VLAN. */
static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct vio_err err;

	assert_non_null(b);
	assert_int_equal(vio_switch_create(nw_fdb(), &b->sw, &err), 0);
	for (unsigned i = 0; i < PORTS; i++) {
		struct vio_port *p = &b->tap[i].port;

		p->ops = i < 4 ? &guest_ops : &ops;
		vio_port_defaults(p);
		if (i == 3)
			assert_int_equal(vio_port_option(p, "vlan", "10", &err), 1);
		if (i == 4)
			assert_int_equal(vio_port_option(p, "trunk", "10-12", &err), 1);
		assert_int_equal(vio_port_options_end(p, i == 3, &err), 0);
		assert_int_equal(vio_switch_add(b->sw, p, &err), 0);
	}
	vio_switch_poll(b->sw, 1000 * S);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	vio_switch_destroy(b->sw);
	free(b);
	return 0;
}

/* tci 0xffff: untagged. */
static void send_len(struct bench *b, unsigned from, unsigned to, unsigned src, unsigned tci,
		     uint32_t len)
{
	struct vio_frame f;
	uint8_t raw[32];

	nw_frame(raw, sizeof(raw), to, src, 0);
	memset(&f, 0, sizeof(f));
	f.head = f.buf;
	memcpy(f.buf, raw, 18);
	if (tci != 0xffff) {
		memcpy(f.buf + 16, raw + 12, 2);
		vio_put_be16(f.buf + 12, 0x8100);
		vio_put_be16(f.buf + 14, (uint16_t)tci);
	}
	f.len = len;
	f.head_len = len < 18 ? (uint16_t)len : 18;
	f.body_len = f.len - f.head_len;
	for (unsigned i = 0; i < PORTS; i++)
		b->tap[i].n = 0;
	vio_switch_forward(&b->tap[from].port, &f, 1);
}

static void send(struct bench *b, unsigned from, unsigned to, unsigned src, unsigned tci)
{
	send_len(b, from, to, src, tci, 100);
}

/* Mask of the ports that got exactly one frame; none may have got two. */
static unsigned who(const struct bench *b)
{
	unsigned mask = 0;

	for (unsigned i = 0; i < PORTS; i++) {
		assert_in_range(b->tap[i].n, 0, 1);
		mask |= b->tap[i].n << i;
	}
	return mask;
}

#define UNTAGGED 0xffffu

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

static void port_that_made_up_too_many_addresses_floods_alone(void **state)
{
	struct bench *b = *state;
	struct vio_switch_info info;

	uint64_t looked_up;

	send(b, 1, 200, 150, UNTAGGED);
	send(b, 2, 150, 151, UNTAGGED);
	looked_up = b->tap[2].port.dst_key;
	assert_int_not_equal(looked_up, 0);
	for (unsigned i = 1; i < 100; i++) {
		send(b, 0, 200, i, UNTAGGED);
		assert_int_equal(who(b), 0x6);
		if (i == GUEST) /* the last one that changed the table */
			send(b, 2, 150, 151, UNTAGGED);
	}
	vio_switch_get_info(b->sw, &info);
	assert_int_equal(info.addresses, 2 + GUEST);
	assert_int_equal(info.refused, 99 - GUEST);
	assert_int_equal(b->tap[0].port.stats.refused, 99 - GUEST);
	assert_int_equal(b->tap[2].port.dst_key, looked_up); /* refusals cost nobody a lookup */
	send(b, 1, 5, 150, UNTAGGED);
	assert_int_equal(who(b), 0x1);
	/* The others' addresses are still known, and they may have new ones. */
	send(b, 2, 150, 151, UNTAGGED);
	assert_int_equal(who(b), 0x2);
	send(b, 1, 99, 152, UNTAGGED);
	send(b, 2, 152, 151, UNTAGGED);
	assert_int_equal(who(b), 0x2);
	/* An address that appears at the full port stays where it was learnt. */
	send(b, 0, 99, 150, UNTAGGED);
	send(b, 2, 150, 151, UNTAGGED);
	assert_int_equal(who(b), 0x2);
	/* Silence makes room. */
	for (unsigned t = 1; t <= VIO_FDB_AGE_S; t++)
		vio_switch_poll(b->sw, (1000 + t) * S);
	send(b, 0, 99, 77, UNTAGGED);
	send(b, 2, 77, 151, UNTAGGED);
	assert_int_equal(who(b), 0x1);
}

static void uplink_has_the_rest_of_the_table_and_no_more(void **state)
{
	const unsigned rest = NW_FDB_ROOM - 4 * GUEST;
	struct bench *b = *state;

	static_assert(NW_FDB_ROOM - 4 * GUEST < 3 * 256,
		      "as many as there are stations in its VLANs");
	for (unsigned i = 0; i < 3 * 256; i++)
		send(b, 4, 99, i % 256, 10 + i / 256);
	assert_int_equal(b->tap[4].port.stats.refused, 3 * 256 - rest);
	for (unsigned p = 0; p < 4; p++) { /* and no guest has lost its room */
		for (unsigned i = 0; i < GUEST; i++)
			send(b, p, 99, p * GUEST + i, UNTAGGED);
		assert_int_equal(b->tap[p].port.stats.refused, 0);
	}
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

/* ---------------------------------------------------------------------------- offload ---- */

/* An IPv4 TCP head of 54 bytes in a frame of 3,054. */
static void tcp_head(struct vio_frame *f)
{
	memset(f, 0, sizeof(*f));
	f->head = f->buf;
	f->len = 3054;
	f->head_len = VIO_FRAME_HEAD;
	vio_put_be16(f->buf + 12, 0x0800);
	f->buf[14] = 0x45;
	vio_put_be16(f->buf + 16, 3040);
	f->buf[23] = 6;
	f->buf[46] = 0x50;
}

static void lies_about_offload_are_found(void **state)
{
	const struct virtio_net_hdr_v1 good = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					       .gso_size = 1000,
					       .csum_start = 34,
					       .csum_offset = 16};
	/* Each changes one thing: a byte of the headers, or a field. */
	static const struct {
		uint8_t at, value;
	} head[] = {{12, 0x86}, {13, 1}, {14, 0x55}, {14, 0x44}, {14, 0x4f}, {17, 0},
		    {20, 0x20}, {21, 1}, {23, 17},   {46, 0x40}, {12, 0x81}};
	struct virtio_net_hdr_v1 h;
	struct vio_frame f;

	(void)state;
	tcp_head(&f);
	assert_true(vio_offload_check(&f, &good, true, TSO));
	assert_int_equal(f.head_len, 54);
	assert_int_equal(vio_offload_segments(&f), 3);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(head); i++) {
		tcp_head(&f);
		f.buf[head[i].at] = head[i].value;
		assert_false(vio_offload_check(&f, &good, true, TSO));
	}
#define LIE(field, v)                                                                              \
	do {                                                                                       \
		h = good;                                                                          \
		h.field = (v);                                                                     \
		tcp_head(&f);                                                                      \
		assert_false(vio_offload_check(&f, &h, true, TSO));                                \
	} while (0)
	LIE(flags, 0);
	LIE(gso_type, VIRTIO_NET_HDR_GSO_TCPV6);
	LIE(gso_type, VIRTIO_NET_HDR_GSO_UDP);
	LIE(gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN);
	LIE(gso_type, 77);
	LIE(gso_size, 0);
	LIE(gso_size, 1);
	LIE(gso_size, VIO_GSO_MIN - 1);
	LIE(csum_start, 33);
	LIE(csum_start, 13);
	LIE(csum_start, 0xffff);
	LIE(csum_offset, 6);
	LIE(csum_offset, 0xffff);
	h = good;
	h.gso_size = VIO_GSO_MIN;
	tcp_head(&f);
	assert_true(vio_offload_check(&f, &h, true, TSO));
	tcp_head(&f);
	assert_false(vio_offload_check(&f, &good, true,
				       (uint8_t)(TSO & ~VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV4))));
	assert_false(vio_offload_check(&f, &good, false, TSO));
	/* Headers that end beyond the frame. */
	tcp_head(&f);
	f.len = f.head_len = 53;
	vio_put_be16(f.buf + 16, 39);
	assert_false(vio_offload_check(&f, &good, true, TSO));
	f.len = f.head_len = 54; /* no data: nothing to cut */
	vio_put_be16(f.buf + 16, 40);
	assert_false(vio_offload_check(&f, &good, true, TSO));
}

/* A frame of 65,535 + 14 bytes from tap 0, to be cut into segments of `size` bytes; drops of it. */
static unsigned send_large(struct bench *b, uint16_t size)
{
	uint64_t before = b->tap[0].port.stats.drop[VIO_DROP_OFFLOAD];
	struct vio_frame f;

	tcp_head(&f);
	nw_frame(f.buf, 18, 101, 100, 0);
	f.len = 65535 + 14;
	f.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	f.gso_size = size;
	f.l4_end = f.head_len = 54;
	f.body_len = f.len - f.head_len;
	for (unsigned i = 0; i < PORTS; i++)
		b->tap[i].n = 0;
	vio_switch_forward(&b->tap[0].port, &f, 1);
	assert_int_equal(b->tap[1].n, b->tap[0].port.stats.drop[VIO_DROP_OFFLOAD] == before);
	return (unsigned)(b->tap[0].port.stats.drop[VIO_DROP_OFFLOAD] - before);
}

static void small_segments_of_one_turn_are_bounded_by_port(void **state)
{
	const uint32_t data = 65535 + 14 - 54;
	struct bench *b = *state;
	unsigned drops = 0;

	/* Of usual size: a whole burst, in however many queues. */
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(send_large(b, VIO_SMALL_SEGMENT), 0);
	/* Of the smallest: what is allowed for a turn, the rest not; other frames are none the worse. */
	for (unsigned i = 0; i < 32; i++)
		drops += send_large(b, VIO_GSO_MIN);
	assert_int_equal(32 - drops, VIO_SMALL_SEGMENTS / ((data + VIO_GSO_MIN - 1) / VIO_GSO_MIN));
	assert_int_equal(send_large(b, 1448), 0);
	assert_int_equal(send_large(b, VIO_GSO_MIN), 1);
	send(b, 1, 100, 101, UNTAGGED);
	assert_int_equal(who(b), 0x1);
	/* Each turn anew. */
	vio_switch_poll(b->sw, 1000 * S);
	assert_int_equal(send_large(b, VIO_GSO_MIN), 0);
}

static void sums_are_the_same_however_the_bytes_are_cut(void **state)
{
	uint8_t bytes[101];
	uint16_t whole;

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + 200);
	whole = vio_csum_fold(vio_csum_add(0, bytes, sizeof(bytes), false));
	for (uint32_t cut = 0; cut <= sizeof(bytes); cut++) {
		uint64_t sum = vio_csum_add(0, bytes, cut, false);

		sum = vio_csum_add(sum, bytes + cut, (uint32_t)sizeof(bytes) - cut, cut & 1);
		assert_int_equal(vio_csum_fold(sum), whole);
	}
}

/* ------------------------------------------------------ what goes nowhere, storms, moves ---- */

/* From tap `from` to this address. */
static void send_to(struct bench *b, unsigned from, const uint8_t dst[6], unsigned src)
{
	struct vio_frame f;

	memset(&f, 0, sizeof(f));
	f.head = f.buf;
	nw_frame(f.buf, 18, 0, src, 0);
	memcpy(f.buf, dst, 6);
	f.len = 100;
	f.head_len = 18;
	f.body_len = 82;
	for (unsigned i = 0; i < PORTS; i++)
		b->tap[i].n = 0;
	vio_switch_forward(&b->tap[from].port, &f, 1);
}

static void addresses_for_the_neighbour_only_pass_no_bridge(void **state)
{
	struct bench *b = *state;
	uint8_t dst[6] = {0x01, 0x80, 0xc2, 0, 0, 0};

	for (unsigned i = 0; i < 0x30; i++) {
		dst[5] = (uint8_t)i;
		send_to(b, 0, dst, 100);
		assert_int_equal(who(b), i >= 1 && i <= 0xf ? 0 : 0x6);
	}
	assert_int_equal(b->tap[0].port.stats.drop[VIO_DROP_RESERVED], 15);
	send_to(b, 4, (const uint8_t[]){0x01, 0x80, 0xc2, 0, 1, 3},
		104); /* in no VLAN: another reason */
	assert_int_equal(b->tap[4].port.stats.drop[VIO_DROP_RESERVED], 0);
	/* Behind a tag too. */
	b->tap[4].port.vlan.pvid = 1;
	dst[5] = 2;
	send_to(b, 4, dst, 104);
	assert_int_equal(who(b), 0);
	assert_int_equal(b->tap[4].port.stats.drop[VIO_DROP_RESERVED], 1);
}

static void frames_that_go_nowhere_are_counted(void **state)
{
	struct bench *b = *state;

	send(b, 1, 99, 101, UNTAGGED);
	send(b, 1, 101, 102, UNTAGGED);
	assert_int_equal(who(b), 0);
	assert_int_equal(b->tap[1].port.stats.drop[VIO_DROP_OWN_SEGMENT], 1);
	send(b, 4, 99, 104, 12); /* a VLAN that only this trunk is in */
	assert_int_equal(who(b), 0);
	assert_int_equal(b->tap[4].port.stats.drop[VIO_DROP_NO_PORT], 1);
	assert_int_equal(b->tap[4].port.stats.flooded, 0);
}

/* Not a test of its own: what the switch says. */
static char said[2000];

static void say(void *ctx, const char *fmt, ...)
{
	size_t at = strlen(said);
	va_list ap;

	(void)ctx;
	va_start(ap, fmt);
	vsnprintf(said + at, sizeof(said) - at, fmt, ap);
	va_end(ap);
}

static unsigned times(const char *what)
{
	unsigned n = 0;

	for (const char *at = said; (at = strstr(at, what)) != NULL; at++)
		n++;
	return n;
}

static void storm_of_one_port_is_bounded_counted_and_said(void **state)
{
	static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const unsigned share = VIO_STORM_DEFAULT / VIO_SWITCH_TICKS;
	struct bench *b = *state;
	const uint64_t *drops = &b->tap[0].port.stats.drop[VIO_DROP_STORM];
	struct vio_err err;

	said[0] = '\0';
	vio_switch_set_say(b->sw, say, NULL);
	send(b, 1, 100, 101, UNTAGGED);
	for (unsigned i = 0; i < share; i++) {
		send_to(b, 0, all, 100);
		assert_int_equal(who(b), 0x6);
	}
	for (unsigned i = 0; i < 10; i++) {
		send_to(b, 0, all, 99); /* a source that the loop brings back */
		assert_int_equal(who(b), 0);
		send(b, 0, 98, 100, UNTAGGED); /* unknown, and two ways */
		assert_int_equal(who(b), 0);
	}
	assert_int_equal(*drops, 20);
	send(b, 0, 101, 100, UNTAGGED); /* to a station that is known */
	assert_int_equal(who(b), 0x2);
	send_to(b, 1, all, 101); /* others */
	assert_int_equal(who(b), 0x5);
	send(b, 1, 99, 101, UNTAGGED); /* nothing was learnt from what was dropped */
	assert_int_equal(who(b), 0x5);
	for (unsigned i = 1; i <= 12; i++)
		vio_switch_poll(b->sw, 1000 * S + i * S / 10);
	assert_int_equal(times("port "), 1);
	assert_non_null(strstr(said, "20 were dropped"));
	send_to(b, 0, all, 100);
	assert_int_equal(who(b), 0x6);
	/* With one way only nothing is multiplied, however much there is. */
	for (unsigned i = 0; i < share + 10; i++) {
		send(b, 3, 99, 103, UNTAGGED);
		assert_int_equal(who(b), 0x10);
	}
	for (unsigned i = 0; i < share + 10; i++)
		send_to(b, 3, all, 103);
	assert_int_equal(b->tap[3].port.stats.drop[VIO_DROP_STORM], 0);
	b->tap[4].port.vlan.pvid = 10; /* but a loop outside may be behind a single way */
	for (unsigned i = 0; i < share + 10; i++)
		send_to(b, 4, all, 104);
	assert_int_equal(b->tap[4].port.stats.drop[VIO_DROP_STORM], 10);
	assert_int_equal(vio_port_option(&b->tap[0].port, "storm", "off", &err), 1);
	for (unsigned i = 0; i < share + 10; i++) {
		send_to(b, 0, all, 100);
		assert_int_equal(who(b), 0x6);
	}
	assert_int_equal(*drops, 20);
}

static void address_that_moves_is_counted_and_said_now_and_then(void **state)
{
	struct bench *b = *state;
	struct vio_switch_info info;

	said[0] = '\0';
	vio_switch_set_say(b->sw, say, NULL);
	for (unsigned s = 1; s <= 15; s++) {
		send(b, 0, 99, 100, UNTAGGED);
		send(b, 1, 99, 100, UNTAGGED);
		vio_switch_poll(b->sw, (1000 + s) * S);
	}
	vio_switch_get_info(b->sw, &info);
	assert_int_equal(info.moved, 29);
	assert_int_equal(b->tap[1].port.stats.moved, 15);
	assert_int_equal(b->tap[0].port.stats.moved, 14);
	assert_int_equal(times("address "), 2);
	assert_non_null(strstr(said, "02:00:00:00:00:64 (VLAN 1)"));
	assert_non_null(strstr(said, "there is a loop"));
}

static void stations_are_announced_where_a_port_leads_elsewhere_now(void **state)
{
	struct bench *b = *state;
	struct tap *up = &b->tap[4];

	send(b, 3, 99, 103, UNTAGGED);
	send(b, 0, 99, 100, UNTAGGED); /* not in a VLAN of the uplink */
	send(b, 4, 99, 104, 10);       /* its own */
	vio_store_relaxed(&b->tap[2].port.own, 0x000b000000000002ull); /* says nothing, VLAN 11 */
	for (unsigned i = 0; i < PORTS; i++)
		b->tap[i].n = 0;
	vio_switch_announce(&up->port);
	assert_int_equal(vio_switch_announcements(b->sw), 1);
	for (unsigned i = 0; i < 4; i++)
		vio_switch_poll(b->sw, 1000 * S);
	assert_int_equal(up->n, 2);
	for (unsigned i = 0; i < PORTS; i++)
		assert_int_equal(b->tap[i].n, i == 4 ? 2 : 0);
	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *f = up->got[i].head;

		assert_memory_equal(f, "\xff\xff\xff\xff\xff\xff", 6);
		assert_int_equal(vio_get_be16(f + 12), 0x8100);
		assert_int_equal(vio_get_be16(f + 14), 10 + i);
		assert_memory_equal(f + 16, "\x80\x35\0\1\x08\0\6\4\0\3", 10);
		assert_memory_equal(f + 26, f + 6, 6);
		assert_memory_equal(f + 36, f + 6, 6);
		assert_int_equal(f[11], i == 0 ? 103 : 0);
		assert_int_equal(up->got[i].len, 60);
	}
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
		cmocka_unit_test_setup_teardown(port_that_made_up_too_many_addresses_floods_alone,
						setup, teardown),
		cmocka_unit_test_setup_teardown(uplink_has_the_rest_of_the_table_and_no_more, setup,
						teardown),
		cmocka_unit_test_setup_teardown(addresses_for_the_neighbour_only_pass_no_bridge,
						setup, teardown),
		cmocka_unit_test_setup_teardown(frames_that_go_nowhere_are_counted, setup,
						teardown),
		cmocka_unit_test_setup_teardown(storm_of_one_port_is_bounded_counted_and_said,
						setup, teardown),
		cmocka_unit_test_setup_teardown(address_that_moves_is_counted_and_said_now_and_then,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			stations_are_announced_where_a_port_leads_elsewhere_now, setup, teardown),
		cmocka_unit_test(options_that_make_no_sense_are_refused),
		cmocka_unit_test(lies_about_offload_are_found),
		cmocka_unit_test_setup_teardown(small_segments_of_one_turn_are_bounded_by_port,
						setup, teardown),
		cmocka_unit_test(sums_are_the_same_however_the_bytes_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
