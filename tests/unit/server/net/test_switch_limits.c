/* SPDX-License-Identifier: BSD-3-Clause */
/* The switch's bounds: too many addresses, storms, frames that go nowhere, addresses that move. */
#include "tests/unit/server/net/switch_bench.h"

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

/* ---------------------------------------------------------------------------- offload ---- */

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

	send(b, 1, 100, 101, UNTAGGED); /* one way; usual sizes: a whole burst */
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
		cmocka_unit_test_setup_teardown(small_segments_of_one_turn_are_bounded_by_port,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
