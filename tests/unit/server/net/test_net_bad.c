/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest does wrong, or not at all: it costs a counted drop or its own device, never
 * another's, and no buffer.
 */
#include "tests/unit/server/net/net_bad.h"

/* Run `wrong` in every arm; the device stops with `why`, the others go on; after RESET it works again. */
static void stops_only_itself(void (*wrong)(struct nw *w, struct nw_guest *g), uint8_t why)
{
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct nw_guest *g;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[0];
		all_up(w, &nw_arms[a]);
		wrong(w, g);
		nw_run(w);
		assert_int_equal(g->needs_resets, 1);
		assert_int_equal(g->last.status, why);
		others_go_on(w);
		assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		others_go_on(w);
		nw_teardown(&s);
	}
}

static void tx_desc(struct nw_guest *g, uint64_t gla, uint32_t len, unsigned flags)
{
	nw_desc(g, 1, 0, gla, len, flags, 0);
	nw_publish(g, 1, 0);
}

static void send_writable(struct nw *w, struct nw_guest *g)
{
	(void)w;
	tx_desc(g, NW_TX, 100, VRING_DESC_F_WRITE);
}

static void send_half_a_header(struct nw *w, struct nw_guest *g)
{
	(void)w;
	tx_desc(g, NW_TX, 11, 0);
}

static void send_from_outside(struct nw *w, struct nw_guest *g)
{
	(void)w;
	tx_desc(g, NW_END + 4096, 100, 0);
}

static void transmit_chains_that_are_no_frames_stop_their_device(void **state)
{
	(void)state;
	stops_only_itself(send_writable, VIO_ST_REQUEST);
	stops_only_itself(send_half_a_header, VIO_ST_REQUEST);
}

/* Post one bad buffer behind the good ones; frames to it then come until it is its turn. */
static void post_bad(struct nw *w, struct nw_guest *g, uint64_t gla, uint32_t len, unsigned flags)
{
	struct virtio_net_hdr_v1 h;

	nw_frame(out, 64, 11, g->index + 10, 0);
	nw_send(g, out, 64); /* so that it is known, and frames to it go nowhere else */
	nw_run(w);
	nw_desc(g, 0, 250, gla, len, flags, 0);
	nw_publish(g, 0, 250);
	for (unsigned i = 0; i < 201 && g->needs_resets == 0; i++) {
		nw_frame(out, 64, g->index + 10, 11, i);
		nw_send(&w->g[1], out, 64);
		nw_run(w);
		nw_recv(g, 0, in, &h);
	}
}

static void post_readable(struct nw *w, struct nw_guest *g)
{
	post_bad(w, g, NW_RX, 2048, 0);
}

static void post_tiny(struct nw *w, struct nw_guest *g)
{
	post_bad(w, g, NW_RX, 11, VRING_DESC_F_WRITE);
}

static void post_outside(struct nw *w, struct nw_guest *g)
{
	post_bad(w, g, NW_END + 4096, 2048, VRING_DESC_F_WRITE);
}

static void receive_chains_that_are_no_buffers_stop_their_device(void **state)
{
	(void)state;
	stops_only_itself(post_readable, VIO_ST_REQUEST);
	stops_only_itself(post_tiny, VIO_ST_REQUEST);
}

static void addresses_outside_the_window_stop_their_device(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (unsigned k = 0; k < 2; k++) {
			struct nw_guest *g;
			struct nw *w;
			void *s;

			if (nw_arms[a].payload == VIO_PAYLOAD_UNCHECKED)
				continue; /* checks no address: that is its name */
			nw_setup(&s);
			w = s;
			g = &w->g[0];
			all_up(w, &nw_arms[a]);
			(k ? post_outside : send_from_outside)(w, g);
			nw_run(w);
			assert_int_equal(g->needs_resets, 1);
			assert_int_equal(g->last.status, nw_arms[a].payload == VIO_PAYLOAD_RDMA
								 ? VIO_ST_DESC_PERM /* no TCE */
								 : VIO_ST_DESC_RANGE);
			others_go_on(w);
			nw_teardown(&s);
		}
	}
}

static void control_chain_without_room_stops_its_device(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];

	all_up(w, NW_ZERO_COPY);
	nw_desc(g, 2, 0, NW_CTRL, 3, 0, 0);
	nw_publish(g, 2, 0);
	nw_run(w);
	assert_int_equal(g->needs_resets, 1);
	assert_int_equal(g->last.status, VIO_ST_REQUEST);
	others_go_on(w);
}

static void bad_frames_are_dropped_counted_and_returned(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct virtio_net_hdr_v1 h, got;
		uint32_t id, len;
		struct nw_guest *g;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[0];
		all_up(w, &nw_arms[a]);
		nw_frame(out, ROOM, 11, 10, 1);
		nw_send(g, out, 13);
		nw_send_cut(g, 0, NULL, out, 1, 0);
		nw_send(g, out, 1515);
		nw_send_cut(g, 0, NULL, out, 70000, 10);
		h = (struct virtio_net_hdr_v1){
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 99, .csum_offset = 2};
		nw_send_cut(g, 0, &h, out, 100, 0); /* checksum outside */
		h = (struct virtio_net_hdr_v1){.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					       .gso_size = 100};
		nw_send_cut(g, 0, &h, out, 1000, 50); /* no TCP */
		out[6] = 3;
		nw_send(g, out, 100);
		out[6] = 2;
		vio_put_be16(out + 12, 0x8100);
		vio_put_be16(out + 14, 7);
		nw_send(g, out, 100);
		nw_run(w);
		assert_int_equal(nw_drops(g, VIO_DROP_RUNT), 2);
		assert_int_equal(nw_drops(g, VIO_DROP_OVERSIZED), 2);
		assert_int_equal(nw_drops(g, VIO_DROP_OFFLOAD), 2);
		assert_int_equal(nw_drops(g, VIO_DROP_SOURCE), 1);
		assert_int_equal(nw_drops(g, VIO_DROP_VLAN), 1);
		for (unsigned i = 0; i < 8; i++)
			assert_true(nw_used(g, 1, &id, &len));
		assert_false(nw_used(g, 1, &id, &len));
		assert_int_equal(nw_recv(&w->g[1], 0, in, &got), -1);
		assert_int_equal(g->needs_resets, 0);
		others_go_on(w);
		nw_teardown(&s);
	}
}

static void offload_that_was_not_agreed_on_is_dropped(void **state)
{
	struct nw *w = *state;
	struct virtio_net_hdr_v1 h = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_PLAIN);
	nw_frame(out, 100, 11, 10, 1);
	nw_send_cut(&w->g[0], 0, &h, out, 100, 0);
	nw_run(w);
	assert_int_equal(nw_drops(&w->g[0], VIO_DROP_OFFLOAD), 1);
}

/*
 * Frames that were overwritten before the server looked: nothing of them gets through, and all are
 * counted.
 */
static void frames_overwritten_with_rubbish_are_all_dropped(void **state)
{
	struct nw *w = *state;
	struct virtio_net_hdr_v1 h;
	unsigned got = 0;

	all_up(w, NW_ZERO_COPY);
	for (unsigned i = 0; i < 32; i++) {
		nw_frame(out, 100, 11, 10, i);
		nw_send(&w->g[0], out, 100);
	}
	memset(w->g[0].mem + NW_TX, 0xff, 32 * NW_TX_ROOM);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), -1);
	for (unsigned i = 0; i < VIO_N_DROP; i++)
		got += (unsigned)nw_drops(&w->g[0], i);
	assert_int_equal(got, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transmit_chains_that_are_no_frames_stop_their_device),
		cmocka_unit_test(receive_chains_that_are_no_buffers_stop_their_device),
		cmocka_unit_test(addresses_outside_the_window_stop_their_device),
		cmocka_unit_test_setup_teardown(control_chain_without_room_stops_its_device,
						nw_setup, nw_teardown),
		cmocka_unit_test(bad_frames_are_dropped_counted_and_returned),
		cmocka_unit_test_setup_teardown(offload_that_was_not_agreed_on_is_dropped, nw_setup,
						nw_teardown),
		cmocka_unit_test_setup_teardown(frames_overwritten_with_rubbish_are_all_dropped,
						nw_setup, nw_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
