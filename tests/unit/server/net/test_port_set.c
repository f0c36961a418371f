/* SPDX-License-Identifier: BSD-3-Clause */
/* A port is changed while frames flow, and the table of addresses is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"
#include "server/switch/port_set.h"

static uint8_t out[2048], in[80000];

/* This test is the switch's lcore. */
static int call(void *ctx, vio_control_fn *fn, void *arg, struct vio_err *err)
{
	(void)ctx;
	return fn(arg, err);
}

static int set(struct nw *w, const char *params, const char *why)
{
	const struct vio_port_set s = {.sw = w->sw, .call = call};
	struct vio_err err = {""};
	int rc = vio_port_set(&s, params, &err);

	if (rc < 0 && (!why || !strstr(err.msg, why)))
		fail_msg("%s: \"%s\"", params, err.msg);
	if (rc == 0 && why)
		fail_msg("%s: taken", params);
	return rc;
}

static int passes(struct nw *w, uint32_t len)
{
	struct virtio_net_hdr_v1 h;

	nw_frame(out, len, 12, 11, 1);
	nw_send(&w->g[1], out, len);
	nw_run(w);
	return nw_recv(&w->g[2], 0, in, &h);
}

static int both_up(void **state)
{
	struct nw *w;

	nw_setup(state);
	w = *state;
	for (unsigned i = 1; i < NW_GUESTS; i++) {
		nw_up(w, &w->g[i], NW_ZERO_COPY, NW_ALL);
		nw_post(&w->g[i], 0, 100, 4096);
	}
	return 0;
}

static void link_vlan_and_mtu_change_under_running_guests(void **state)
{
	struct nw *w = *state;

	assert_int_equal(passes(w, 100), 100);
	set(w, "2,link=down", NULL);
	assert_int_equal(passes(w, 100), -1);
	assert_int_equal(nw_drops(&w->g[2], VIO_DROP_LINK_DOWN), 1);
	set(w, "2,link=up,vlan=7", NULL);
	assert_int_equal(passes(w, 100), -1);
	set(w, "1,vlan=7", NULL);
	assert_int_equal(passes(w, 100), 100);
	assert_int_equal(passes(w, 1800), -1);
	set(w, "1,mtu=1800", NULL);
	set(w, "2,mtu=1800", NULL);
	assert_int_equal(passes(w, 1800), 1800);
	/* 5.1.4.1: what the guest was told of the MTU stays. */
	assert_int_equal(vio_load_relaxed(&w->g[2].net->shown_mtu), 1500);
}

static void what_is_refused_changes_nothing_and_says_why(void **state)
{
	static const struct {
		const char *params, *why;
	} t[] = {
		{"", "wants PORT"},
		{"x,link=up", "wants PORT"},
		{"9,link=up", "no port 9"},
		{"4294967297,link=up", "no port"},
		{"2", "nothing is to be changed"},
		{"2,link=sideways", "wants up or down"},
		{"2,link", "wants KEY=VALUE"},
		{"2,link=down,vlan=0", "wants a VLAN"},
		{"2,link=down,vlan=4095", "wants a VLAN"},
		{"2,link=down,trunk=", "wants VLANs"},
		{"2,link=down,mtu=1", "wants"},
		{"2,link=down,storm=1", "wants"},
		{"2,link=down,colour=red", "no such key"},
	};
	struct nw *w = *state;
	char large[2000];

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++)
		set(w, t[i].params, t[i].why);
	memset(large, 'x', sizeof(large));
	memcpy(large, "2,", 2);
	large[sizeof(large) - 1] = '\0';
	set(w, large, "characters");
	assert_int_equal(passes(w, 100), 100);
}

static void addresses_are_shown_in_pieces_with_vlan_port_and_age(void **state)
{
	struct nw *w = *state;
	const struct vio_port_set s = {.sw = w->sw, .call = call};
	const struct vio_port_set none = {.sw = NULL, .call = call};
	struct vio_fdb_row row[64];
	struct vio_err err = {""};
	uint32_t at = 0;
	unsigned n = 0;
	int got;

	for (unsigned i = 0; i < 100; i++) {
		nw_frame(out, 100, 12, 100 + i, 1);
		nw_send(&w->g[1], out, 100);
		nw_run(w);
	}
	do {
		got = vio_port_rows(&s, &at, row, 64, &err);
		assert_in_range(got, 1, 64);
		for (unsigned i = 0; i < (unsigned)got; i++) {
			assert_int_equal(row[i].port, 1);
			assert_int_equal(row[i].key >> 48, 1);
			assert_true(row[i].seen < VIO_FDB_AGE_S);
		}
		n += (unsigned)got;
	} while (at != 0);
	assert_int_equal(n, 100);
	assert_int_equal(vio_port_rows(&none, &at, row, 64, &err), -ENODEV);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test_setup_teardown(link_vlan_and_mtu_change_under_running_guests,
						both_up, nw_teardown),
		cmocka_unit_test_setup_teardown(what_is_refused_changes_nothing_and_says_why,
						both_up, nw_teardown),
		cmocka_unit_test_setup_teardown(
			addresses_are_shown_in_pieces_with_vlan_port_and_age, both_up, nw_teardown),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
