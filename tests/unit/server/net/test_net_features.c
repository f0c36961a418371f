/* SPDX-License-Identifier: BSD-3-Clause */
/* Filters by VLAN and by kind of address, and the speed of the link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_packet.h"

/* --------------------------------------------------------------------------------- filters ---- */

static int trunks(void **state)
{
	static const char *const spec[NW_GUESTS] = {"trunk=all,vlan=1", "trunk=all,vlan=1",
						    "vlan=10"};

	return nw_setup_with(state, spec);
}

/* From guest 0 to guest 1 with this tag (0: none): did it arrive? */
static bool tagged_arrives(struct nw *w, uint16_t vid)
{
	struct virtio_net_hdr_v1 h;
	uint32_t len = 100;

	nw_frame(out, len, 1, 0, vid);
	if (vid) {
		vio_put_be16(out + 12, 0x8100);
		vio_put_be16(out + 14, vid);
	}
	nw_post(&w->g[1], 0, 1, 2048);
	nw_send(&w->g[0], out, len);
	nw_run(w);
	return nw_recv(&w->g[1], 0, in, &h) == (int)len;
}

static uint8_t flag(struct nw *w, struct nw_guest *g, uint8_t cmd, uint8_t v)
{
	return control(w, g, VIRTIO_NET_CTRL_RX, cmd, &v, 1);
}

static uint8_t vlan(struct nw *w, struct nw_guest *g, uint8_t cmd, uint16_t vid, uint32_t len)
{
	const uint16_t le[2] = {vio_le16(vid), 0};

	return control(w, g, VIRTIO_NET_CTRL_VLAN, cmd, le, len);
}

static void only_vlans_in_the_guests_table_reach_it_but_in_promiscuous_mode(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
		struct nw_guest *g;
		uint64_t filtered;
		struct nw *w;
		void *st;

		trunks(&st);
		w = st;
		g = &w->g[1];
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, g, &nw_arms[a], NW_ALL | NW_F(CTRL_VLAN));
		assert_int_equal(
			control(w, g, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
			VIRTIO_NET_OK);
		assert_true(tagged_arrives(w, 10)); /* as long as it has said nothing */
		assert_int_equal(flag(w, g, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
		filtered = nw_drops(g, VIO_DROP_FILTERED);
		assert_false(tagged_arrives(w, 10));
		assert_int_equal(nw_drops(g, VIO_DROP_FILTERED), filtered + 1);
		assert_true(tagged_arrives(w, 0)); /* without a tag there is nothing to filter by */
		for (unsigned i = 0; i < 3; i++) {
			const uint16_t vid[] = {10, 4094, 64};

			assert_int_equal(vlan(w, g, VIRTIO_NET_CTRL_VLAN_ADD, vid[i], 2),
					 VIRTIO_NET_OK);
			assert_true(tagged_arrives(w, vid[i]));
			assert_false(tagged_arrives(w, (uint16_t)(vid[i] - 1)));
		}
		assert_int_equal(vlan(w, g, VIRTIO_NET_CTRL_VLAN_DEL, 10, 2), VIRTIO_NET_OK);
		assert_int_equal(vlan(w, g, VIRTIO_NET_CTRL_VLAN_DEL, 10, 2), VIRTIO_NET_OK);
		assert_false(tagged_arrives(w, 10));
		assert_true(tagged_arrives(w, 64));
		assert_int_equal(flag(w, g, VIRTIO_NET_CTRL_RX_PROMISC, 1), VIRTIO_NET_OK);
		assert_true(tagged_arrives(w, 10));
		/* Refused. */
		assert_int_equal(vlan(w, g, VIRTIO_NET_CTRL_VLAN_ADD, 4096, 2), VIRTIO_NET_ERR);
		assert_int_equal(vlan(w, g, VIRTIO_NET_CTRL_VLAN_ADD, 0xffff, 2), VIRTIO_NET_ERR);
		assert_int_equal(vlan(w, g, VIRTIO_NET_CTRL_VLAN_ADD, 5, 1), VIRTIO_NET_ERR);
		assert_int_equal(vlan(w, g, VIRTIO_NET_CTRL_VLAN_ADD, 5, 4), VIRTIO_NET_ERR);
		assert_int_equal(vlan(w, g, 2, 5, 2), VIRTIO_NET_ERR);
		/* The table is of a session. */
		assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		nw_up(w, g, &nw_arms[a], NW_ALL);
		assert_int_equal(flag(w, g, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
		assert_int_equal(vlan(w, g, VIRTIO_NET_CTRL_VLAN_ADD, 5, 2), VIRTIO_NET_ERR);
		nw_teardown(&st);
	}
}

/* A frame to this address from guest 0: does guest 1 get it? */
static bool addressed_arrives(struct nw *w, const uint8_t dst[6])
{
	struct virtio_net_hdr_v1 h;

	nw_frame(out, 100, 1, 0, dst[5]);
	memcpy(out, dst, 6);
	nw_post(&w->g[1], 0, 1, 2048);
	nw_send(&w->g[0], out, 100);
	nw_run(w);
	return nw_recv(&w->g[1], 0, in, &h) == 100;
}

static void modes_for_kinds_of_addresses_count_in_their_order(void **state)
{
	static const uint8_t own[6] = {2, 'V', 'I', 'O', 0, 1}, other[6] = {2, 0, 0, 0, 0, 99},
			     all[6] = {255, 255, 255, 255, 255, 255},
			     group[6] = {1, 0, 0x5e, 0, 0, 5};
	static const struct {
		uint8_t cmd, v;
		bool own, other, all, group;
	} t[] = {
		{VIRTIO_NET_CTRL_RX_PROMISC, 0, true, false, true, false},
		{VIRTIO_NET_CTRL_RX_ALLUNI, 1, true, true, true, false},
		{VIRTIO_NET_CTRL_RX_ALLMULTI, 1, true, true, true, true},
		{VIRTIO_NET_CTRL_RX_NOUNI, 1, false, false, true, true},
		{VIRTIO_NET_CTRL_RX_NOMULTI, 1, false, false, true, false},
		{VIRTIO_NET_CTRL_RX_NOBCAST, 1, false, false, false, false},
		{VIRTIO_NET_CTRL_RX_PROMISC, 1, true, true, true, true},
		{VIRTIO_NET_CTRL_RX_PROMISC, 0, false, false, false, false},
		{VIRTIO_NET_CTRL_RX_NOUNI, 0, true, true, false, false},
		{VIRTIO_NET_CTRL_RX_ALLUNI, 0, true, false, false, false},
		{VIRTIO_NET_CTRL_RX_NOBCAST, 0, true, false, true, false},
		{VIRTIO_NET_CTRL_RX_NOMULTI, 0, true, false, true, true},
	};
	struct nw *w = *state;
	struct nw_guest *g = &w->g[1];

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL | NW_F(CTRL_RX_EXTRA));
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		assert_int_equal(flag(w, g, t[i].cmd, t[i].v), VIRTIO_NET_OK);
		assert_int_equal(addressed_arrives(w, own), t[i].own);
		assert_int_equal(addressed_arrives(w, other), t[i].other);
		assert_int_equal(addressed_arrives(w, all), t[i].all);
		assert_int_equal(addressed_arrives(w, group), t[i].group);
	}
	assert_int_equal(flag(w, g, VIRTIO_NET_CTRL_RX_NOBCAST, 2), VIRTIO_NET_ERR);
	assert_int_equal(flag(w, g, VIRTIO_NET_CTRL_RX_NOBCAST + 1, 1), VIRTIO_NET_ERR);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL);
	assert_int_equal(flag(w, g, VIRTIO_NET_CTRL_RX_NOBCAST, 1), VIRTIO_NET_ERR);
	assert_int_equal(flag(w, g, VIRTIO_NET_CTRL_RX_ALLMULTI, 1), VIRTIO_NET_OK);
}

/* ----------------------------------------------------------------------------------- speed ---- */

static void the_links_speed_is_what_was_given_or_the_uplinks_or_not_known(void **state)
{
	static const char *const spec[NW_GUESTS] = {"speed=25000", "link=uplink",
						    "link=uplink,speed=100"};
	struct nw_guest *g;
	struct nw *w;
	void *s;

	(void)state;
	nw_setup_with(&s, spec);
	w = s;
	g = w->g;
	for (unsigned i = 0; i < NW_GUESTS; i++)
		nw_up(w, &g[i], NW_ZERO_COPY, NW_ALL | NW_F(SPEED_DUPLEX));
	assert_int_equal(nw_config(&g[0])->speed, 25000);
	assert_int_equal(nw_config(&g[0])->duplex, 1);
	assert_int_equal(nw_config(&g[1])->speed, UINT32_MAX);
	assert_int_equal(nw_config(&g[1])->duplex, 0xff);
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		assert_int_equal(vio_kind_net.follow(vio_net_device(g[i].net),
						     (struct vio_dev_uplinks){true, 10000}, false),
				 i == 1);
		vio_adapter_config_changed(g[i].a);
	}
	nw_run(w);
	assert_int_equal(nw_config(&g[0])->speed, 25000);
	assert_int_equal(nw_config(&g[1])->speed, 10000);
	assert_int_equal(nw_config(&g[1])->duplex, 1);
	assert_int_equal(nw_config(&g[2])->speed, 100);
	assert_true(vio_kind_net.follow(vio_net_device(g[1].net), (struct vio_dev_uplinks){true, 0},
					false));
	nw_teardown(&s);
}

static void a_speed_that_is_none_is_refused(void **state)
{
	static const char *const bad[] = {"speed=",   "speed=0",          "speed=fast",
					  "speed=-1", "speed=2147483648", "speed=10G"};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		struct vio_err err = {""};
		struct vio_net *n;

		assert_int_equal(vio_net_create(bad[i], 0, NULL, &n, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "Mb/s"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_vlans_in_the_guests_table_reach_it_but_in_promiscuous_mode),
		cmocka_unit_test_setup_teardown(modes_for_kinds_of_addresses_count_in_their_order,
						nw_setup, nw_teardown),
		cmocka_unit_test(the_links_speed_is_what_was_given_or_the_uplinks_or_not_known),
		cmocka_unit_test(a_speed_that_is_none_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
