/* SPDX-License-Identifier: BSD-3-Clause */
/* Receive in place: frames of an uplink that belongs to one guest come in in that guest's buffers. */
#include "tests/unit/server/net/place_wire.h"

static void frames_come_in_in_the_guests_buffers_and_no_byte_is_copied(void **state)
{
	for (unsigned a = 2; a < nw_n_arms; a++) {
		struct wire r;
		struct nw *w = begin(state, &r, ",rx=in-place");

		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_post(&w->g[0], 0, 100, 2048);
		for (unsigned i = 0; i < 60; i++) {
			struct rte_mbuf *m = take(&r);

			assert_true(of_guest(&w->g[0], m));
			fill(m, 14 + i * 25, 0, i);
			comes_in(&r, m);
			if (i % 7 == 6)
				nw_run(w);
		}
		nw_run(w);
		for (unsigned i = 0; i < 60; i++)
			assert_gets(w, 14 + i * 25, 0, i);
		assert_int_equal(nw_cpu_bytes(&w->g[0]), 0);
		assert_int_equal(r.port->stats.in_placed, 60);
		assert_int_equal(w->g[0].net->port.stats.in_place, 60);
		assert_int_equal(w->g[0].net->port.stats.out_frames, 60);
		nw_teardown(state);
		wire_down(&r);
	}
}

/* A level that copies has nothing to give, nor has a port that several guests share. */
static void where_it_can_not_be_frames_are_copied_and_arrive(void **state)
{
	struct rte_mbuf *m;
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	const struct vio_port_change here = {.set_vlan = true, .vlan = {.pvid = 1}};
	struct vio_err err;

	nw_up(w, &w->g[0], NW_COPY, NW_ALL);
	nw_post(&w->g[0], 0, 20, 2048);
	m = take(&r);
	assert_false(of_guest(&w->g[0], m));
	fill(m, 500, 0, 1);
	comes_in(&r, m);
	nw_run(w);
	assert_gets(w, 500, 0, 1);
	assert_int_equal(nw_step(w, &w->g[0], (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	memset(w->g[0].ring, 0, sizeof(w->g[0].ring));
	guest_up(w, 20);
	assert_int_equal(vio_switch_change(&w->g[1].net->port, &here, &err), 0);
	m = take(&r);
	assert_false(of_guest(&w->g[0], m));
	fill(m, 600, 0, 2);
	comes_in(&r, m);
	nw_run(w);
	assert_gets(w, 600, 0, 2);
	assert_int_equal(r.port->stats.in_placed, 0);
	nw_teardown(state);
	wire_down(&r);
}

/* The port belongs to another guest while it has a buffer of this one: what comes in there is copied on. */
static void
frame_in_one_guests_buffer_that_is_anothers_is_copied_and_the_buffer_goes_back(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	struct vio_port_change to = {.set_vlan = true, .vlan = {.pvid = 3}};
	struct virtio_net_hdr_v1 h;
	struct vio_err err;
	struct rte_mbuf *m;

	guest_up(w, 1);
	nw_up(w, &w->g[1], NW_ZERO_COPY, NW_ALL);
	nw_post(&w->g[1], 0, 4, 2048);
	m = take(&r);
	assert_true(of_guest(&w->g[0], m));
	assert_int_equal(vio_switch_change(&w->g[0].net->port, &to, &err), 0);
	to.vlan.pvid = 1;
	assert_int_equal(vio_switch_change(&w->g[1].net->port, &to, &err), 0);
	fill(m, 900, 1, 5);
	comes_in(&r, m);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[0], 0, in, &h), -1);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 900);
	assert_memory_equal(in, out, 900);
	assert_int_equal(nw_cpu_bytes(&w->g[1]), 900);
	/* Guest 0 has one buffer only, and gets a frame. */
	assert_int_equal(vio_switch_change(&w->g[0].net->port, &to, &err), 0);
	nw_frame(out, 100, 0, 1, 3);
	nw_send(&w->g[1], out, 100);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[0], 0, in, &h), 100);
	nw_teardown(state);
	wire_down(&r);
}

/* Frames that nobody is to get cost no buffers. */
static void buffers_of_frames_that_are_dropped_are_used_for_the_next(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");

	guest_up(w, 4);
	for (unsigned i = 0; i < 30; i++) {
		struct rte_mbuf *m = take(&r);

		fill(m, 200, 0, i);
		if (i % 3 == 0)
			vio_put_be16(rte_pktmbuf_mtod_offset(m, uint8_t *, 12), 0x88a8);
		else if (i % 3 == 1)
			rte_pktmbuf_trim(m, 190); /* no whole header */
		else
			memcpy(rte_pktmbuf_mtod(m, uint8_t *), "\x01\x80\xc2\x00\x00\x02", 6);
		comes_in(&r, m);
		nw_run(w);
	}
	assert_int_equal(r.port->stats.drop[VIO_DROP_VLAN], 10);
	assert_int_equal(r.port->stats.drop[VIO_DROP_RUNT], 10);
	assert_int_equal(r.port->stats.drop[VIO_DROP_RESERVED], 10);
	for (unsigned i = 0; i < 4; i++) {
		struct rte_mbuf *m = take(&r);

		assert_true(of_guest(&w->g[0], m));
		fill(m, 300, 0, i);
		comes_in(&r, m);
	}
	nw_run(w);
	for (unsigned i = 0; i < 4; i++)
		assert_gets(w, 300, 0, i);
	nw_teardown(state);
	wire_down(&r);
}

/* A port gets whole buffers only; short ones and chains are for frames that are copied, and none is lost. */
static void buffers_that_are_short_or_in_pieces_are_left_to_frames_that_are_copied(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	struct nw_guest *g = &w->g[0];
	struct virtio_net_hdr_v1 h;
	struct rte_mbuf *m;

	guest_up(w, 1);
	nw_desc(g, 0, 100, NW_RX + 100 * 0x1000, 400, VRING_DESC_F_WRITE, 0);
	nw_publish(g, 0, 100);
	nw_desc(g, 0, 101, NW_RX + 101 * 0x1000, 12, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 102);
	nw_desc(g, 0, 102, NW_RX + 101 * 0x1000 + 12, 2036, VRING_DESC_F_WRITE, 0);
	nw_publish(g, 0, 101);
	for (unsigned i = 0; i < 3; i++) {
		m = take(&r);
		assert_int_equal(of_guest(g, m), i == 0);
		fill(m, 300, 0, i);
		comes_in(&r, m);
		nw_run(w);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_gets(w, 300, 0, i);
	assert_int_equal(nw_cpu_bytes(g), 600);
	assert_int_equal(nw_recv(g, 0, in, &h), -1);
	nw_teardown(state);
	wire_down(&r);
}

/* A buffer is what it was when it was taken, whatever the guest writes into its ring later. */
static void guest_that_changes_its_descriptors_moves_no_frame(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	struct nw_guest *g = &w->g[0];
	struct rte_mbuf *m;

	guest_up(w, 2);
	m = take(&r);
	nw_desc(g, 0, 0, 0xfffffffff000ull, 1, VRING_DESC_F_NEXT, 0);
	memset(g->mem + NW_RX, 0xee, 2048); /* and into the buffer */
	fill(m, 700, 0, 4);
	comes_in(&r, m);
	nw_run(w);
	assert_gets(w, 700, 0, 4);
	assert_int_equal(g->mem[NW_RX + 12 + 700], 0xee); /* not a byte more */
	assert_int_equal(g->needs_resets, 0);
	nw_teardown(state);
	wire_down(&r);
}

/* ------------------------------------------------------------------------------- a pcap ---- */

/* Frames of many kinds: for the guest, for others, tagged, short, longer than its MTU and than a buffer. */
static void write_pcap(const char *path)
{
	static const uint32_t head[] = {0xa1b2c3d4, 0x00040002, 0, 0, 65535, 1};
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fwrite(head, sizeof(head), 1, f);
	for (uint32_t i = 0; i < 150; i++) {
		uint32_t len = i % 10 == 9 ? 2036 + i : 14 + i * 37 % 1501,
			 rec[4] = {i, 0, len, len};

		nw_frame(out, len, i % 4 == 3 ? 77 : 0, 99, i);
		if (i % 13 == 5)
			vio_put_be16(out + 12, 0x8100);
		if (i % 17 == 5)
			memset(out, 0xff, 6);
		fwrite(rec, sizeof(rec), 1, f);
		fwrite(out, len, 1, f);
	}
	fclose(f);
}

struct got {
	unsigned n;
	uint64_t drops[VIO_N_DROP], copied, placed, bytes;
	uint32_t sum;
};

static struct got play(const char *path, const char *rx, const struct nw_arm *arm)
{
	struct virtio_net_hdr_v1 h;
	struct got g = {0};
	struct vio_uplink *u;
	char spec[128];
	struct nw *w;
	void *s;
	int n;

	nw_setup_with(&s, alone);
	w = s;
	nw_up(w, &w->g[0], arm, NW_ALL);
	nw_post(&w->g[0], 0, 200, 2048);
	snprintf(spec, sizeof(spec), "net_pcap0,rx_pcap=%s,rx=%s", path, rx);
	u = uplink(w, spec);
	nw_run(w);
	while ((n = nw_recv(&w->g[0], 0, in, &h)) >= 0) {
		g.n++;
		g.bytes += (unsigned)n;
		for (int i = 0; i < n; i++)
			g.sum = g.sum * 31 + in[i];
	}
	memcpy(g.drops, vio_uplink_port(u)->stats.drop, sizeof(g.drops));
	g.copied = nw_cpu_bytes(&w->g[0]);
	g.placed = vio_uplink_port(u)->stats.in_placed;
	assert_int_equal(w->g[0].needs_resets, 0);
	nw_teardown(&s);
	vio_uplink_destroy(u);
	return g;
}

static void what_the_guest_gets_is_the_same_in_place_and_copied(void **state)
{
	char path[] = "/tmp/vio-test-XXXXXX";
	struct got want;

	(void)state;
	close(mkstemp(path));
	write_pcap(path);
	want = play(path, "copy", NW_COPY);
	assert_in_range(want.n, 80, 149);
	assert_int_equal(want.placed, 0);
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct got copy = play(path, "copy", &nw_arms[a]),
			   place = play(path, "in-place", &nw_arms[a]);
		bool direct = nw_arms[a].payload != VIO_PAYLOAD_RDMA;

		assert_int_equal(copy.n, want.n);
		assert_int_equal(place.n, want.n);
		assert_int_equal(copy.sum, want.sum);
		assert_int_equal(place.sum, want.sum);
		assert_memory_equal(copy.drops, want.drops, sizeof(want.drops));
		assert_memory_equal(place.drops, want.drops, sizeof(want.drops));
		assert_int_equal(place.placed > 0, direct);
		/* A frame behind one that has filled its buffer is copied, all others are not. */
		assert_true(direct ? place.copied < copy.copied / 4 : place.copied == copy.copied);
	}
	unlink(path);
}

static void wrong_words_are_refused_and_a_driver_that_can_not_says_so(void **state)
{
	struct vio_err err = {""};
	struct vio_uplink *u;

	(void)state;
	assert_true(vio_uplink_create("net_null3,rx=fast", &u, &err) < 0);
	assert_non_null(strstr(err.msg, "rx=fast: wants in-place or copy"));
	assert_int_equal(vio_uplink_create("net_null3,rx=in-place", &u, &err), 0);
	assert_non_null(strstr(vio_uplink_what(u), "come in where they stay"));
	vio_uplink_destroy(u);
	assert_int_equal(vio_uplink_create("net_null3", &u, &err), 0);
	assert_non_null(strstr(vio_uplink_what(u), "and are copied in, "));
	vio_uplink_destroy(u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_in_in_the_guests_buffers_and_no_byte_is_copied),
		cmocka_unit_test(frame_in_one_guests_buffer_that_is_anothers_is_copied_and_the_buffer_goes_back),
		cmocka_unit_test(where_it_can_not_be_frames_are_copied_and_arrive),
		cmocka_unit_test(buffers_of_frames_that_are_dropped_are_used_for_the_next),
		cmocka_unit_test(
			buffers_that_are_short_or_in_pieces_are_left_to_frames_that_are_copied),
		cmocka_unit_test(guest_that_changes_its_descriptors_moves_no_frame),
		cmocka_unit_test(what_the_guest_gets_is_the_same_in_place_and_copied),
		cmocka_unit_test(wrong_words_are_refused_and_a_driver_that_can_not_says_so),
	};

	if (!eal_begin())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
