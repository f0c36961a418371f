/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest does wrong, or not at all: it costs a counted drop or its own device, never
 * another's, and no buffer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

#define ROOM 80000

static uint8_t out[ROOM], in[ROOM];

/* Guest 2 and 1 still talk to each other, in both directions. */
static void others_go_on(struct nw *w)
{
	struct virtio_net_hdr_v1 h;

	for (unsigned i = 0; i < 4; i++) {
		struct nw_guest *from = &w->g[1 + i % 2], *to = &w->g[2 - i % 2];

		while (nw_recv(to, 0, in, &h) >= 0) /* floods of before */
			;
		nw_frame(out, 300, to->index + 10, from->index + 10, i);
		nw_send(from, out, 300);
		nw_run(w);
		assert_int_equal(nw_recv(to, 0, in, &h), 300);
		assert_memory_equal(in, out, 300);
	}
}

static void all_up(struct nw *w, const struct nw_arm *bad)
{
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		nw_up(w, &w->g[i], i == 0 ? bad : NW_ZERO_COPY, NW_ALL);
		nw_post(&w->g[i], 0, 200, 2048);
	}
}

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
 * A guest that stops refilling loses its own frames; nobody waits for it; when it refills, it gets
 * the next ones.
 */
static void guest_that_does_not_refill_loses_frames_and_nobody_waits(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct virtio_net_hdr_v1 h;
		uint32_t id, len;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, &w->g[1], NW_ZERO_COPY, NW_ALL);
		nw_post(&w->g[0], 0, 3, 2048);
		nw_frame(out, 60, 11, 10, 0);
		nw_send(&w->g[0], out, 60); /* so that it is known */
		for (unsigned i = 0; i < 10; i++) {
			nw_frame(out, 500, 10, 11, i);
			nw_send(&w->g[1], out, 500);
		}
		nw_run(w);
		assert_int_equal(nw_drops(&w->g[0], VIO_DROP_NO_BUFFERS), 7);
		for (unsigned i = 0; i < 10; i++)
			assert_true(nw_used(&w->g[1], 1, &id, &len));
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(nw_recv(&w->g[0], 0, in, &h), 500);
		nw_post(&w->g[0], 0, 1, 2048);
		nw_send(&w->g[1], out, 500);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[0], 0, in, &h), 500);
		assert_memory_equal(in, out, 500);
		nw_teardown(&s);
	}
}

/* `n` frames of `len` bytes from guest 1 to guest 0, numbered from `seed` on. */
static void send_to_0(struct nw *w, unsigned n, uint32_t len, unsigned seed)
{
	uint32_t id, used;

	for (unsigned i = 0; i < n; i++) {
		nw_frame(out, len, 10, 11, seed + i);
		nw_send(&w->g[1], out, len);
	}
	nw_run(w);
	for (unsigned i = 0; i < n; i++) /* all come back, wherever the frames went */
		assert_true(nw_used(&w->g[1], 1, &id, &used));
	assert_false(nw_used(&w->g[1], 1, &id, &used));
}

/* Exactly these arrive at guest 0, in order, and nothing else. */
static void arrive_at_0(struct nw *w, unsigned n, uint32_t len, unsigned seed)
{
	struct virtio_net_hdr_v1 h;

	for (unsigned i = 0; i < n; i++) {
		nw_frame(out, len, 10, 11, seed + i);
		assert_int_equal(nw_recv(&w->g[0], 0, in, &h), len);
		assert_memory_equal(in, out, len);
	}
	assert_int_equal(nw_recv(&w->g[0], 0, in, &h), -1);
}

/*
 * Stop refilling and go on, again and again: every frame is delivered or counted, none twice; the
 * guest still sends meanwhile; frames in one buffer, and in three.
 */
static void stop_and_resume(struct nw *w, uint32_t len, unsigned chains)
{
	struct nw_guest *g = &w->g[0];
	const uint64_t *drops = &g->net->port.stats.drop[VIO_DROP_NO_BUFFERS],
		       *taken = &g->net->port.stats.out_frames;
	struct virtio_net_hdr_v1 h;
	uint64_t sent = 0, came = 0;

	for (unsigned round = 0; round < 20; round++) {
		unsigned room = round % 7, seed = round * 64;

		nw_post(g, 0, room * chains, 512);
		send_to_0(w, 50, len, seed); /* more than there is room for */
		arrive_at_0(w, room, len, seed);
		send_to_0(w, 3, len, seed); /* none at all */
		arrive_at_0(w, 0, len, seed);
		sent += 53;
		came += room;
		assert_int_equal(*drops, sent - came);
		assert_int_equal(*taken, came);
		nw_check_leaks(w);
		nw_frame(out, 100, 11, 10, round);
		nw_send(g, out, 100);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 100);
		/* Enough buffers: all of the next frames. */
		nw_post(g, 0, 40 * chains, 512);
		send_to_0(w, 40, len, seed + 1);
		arrive_at_0(w, 40, len, seed + 1);
		sent += 40;
		came += 40;
		assert_int_equal(*drops, sent - came);
		assert_int_equal(*taken, came);
	}
	assert_int_equal(g->needs_resets, 0);
}

static void guest_that_stops_refilling_and_resumes_gets_all_that_fits(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (unsigned large = 0; large < 2; large++) {
			struct nw *w;
			void *s;

			nw_setup(&s);
			w = s;
			nw_up(w, &w->g[0], &nw_arms[a], large ? NW_ALL : NW_PLAIN);
			nw_up(w, &w->g[1], NW_ZERO_COPY, NW_ALL);
			nw_post(&w->g[1], 0, 30, 2048);
			nw_frame(out, 60, 99, 10, 0);
			nw_send(&w->g[0], out, 60); /* so that it is known */
			nw_run(w);
			nw_recv(&w->g[1], 0, in, &(struct virtio_net_hdr_v1){0});
			stop_and_resume(w, large ? 1514 : 500, large ? 3 : 1);
			nw_teardown(&s);
		}
	}
}

/*
 * Half of the buffers that a merged frame needs are there: it is dropped whole, and they serve the
 * next frame.
 */
static void merged_frame_that_finds_too_few_buffers_takes_none(void **state)
{
	struct nw *w = *state;
	struct virtio_net_hdr_v1 h;

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, &w->g[1], NW_ZERO_COPY, NW_ALL);
	nw_post(&w->g[1], 0, 2, 512);
	nw_frame(out, 1514, 11, 10, 0);
	nw_send(&w->g[0], out, 1514);
	nw_run(w);
	assert_int_equal(nw_drops(&w->g[1], VIO_DROP_NO_BUFFERS), 1);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), -1);
	nw_send(&w->g[0], out, 900);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 900);
	assert_int_equal(h.num_buffers, 2);
	assert_memory_equal(in, out, 900);
}

static void ring_full_of_frames_is_worked_off(void **state)
{
	struct virtio_net_hdr_v1 h;

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		unsigned got = 0;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, &w->g[1], &nw_arms[a], NW_ALL);
		nw_post(&w->g[1], 0, 256, 2048);
		for (unsigned i = 0; i < 64; i++) {
			nw_frame(out, 1514, 11, 10, i);
			nw_send(&w->g[0], out, 1514);
		}
		nw_run(w);
		for (; nw_recv(&w->g[1], 0, in, &h) == 1514; got++) {
			nw_frame(out, 1514, 11, 10, got);
			assert_memory_equal(in, out, 1514); /* in order */
		}
		assert_int_equal(got, 64);
		nw_teardown(&s);
	}
}

/* A guest that dies with buffers posted and frames on the way; the next one in its place begins anew. */
static void guest_that_dies_is_forgotten_and_comes_back(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct virtio_net_hdr_v1 h;
		struct nw_guest *g;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[0];
		all_up(w, &nw_arms[a]);
		nw_frame(out, 100, 11, 10, 0);
		nw_send(g, out, 100);
		nw_reopen(w, g);
		nw_frame(out, 100, 10, 11, 0);
		nw_send(&w->g[1], out, 100);
		nw_run(w);
		assert_in_range(nw_drops(g, VIO_DROP_STOPPED), 1, 2);
		others_go_on(w);
		nw_up(w, g, &nw_arms[a], NW_ALL);
		nw_post(g, 0, 10, 2048);
		nw_frame(out, 100, 10, 11, 5);
		nw_send(&w->g[1], out, 100);
		nw_run(w);
		assert_int_equal(nw_recv(g, 0, in, &h), 100);
		assert_memory_equal(in, out, 100);
		nw_teardown(&s);
	}
}

/* It was for five minutes: frames for it went where nobody was. */
static void address_of_a_guest_that_has_gone_is_flooded_again(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 2; how++) {
		struct virtio_net_hdr_v1 h;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		all_up(w, NW_ZERO_COPY);
		nw_frame(out, 100, 11, 10, 0);
		nw_send(&w->g[0], out, 100);
		nw_run(w);
		while (nw_recv(&w->g[2], 0, in, &h) >= 0)
			;
		nw_frame(out, 100, 10, 11, 0);
		nw_send(&w->g[1], out, 100);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[2], 0, in, &h), -1);
		if (how == 0)
			nw_reopen(w, &w->g[0]);
		else
			assert_int_equal(nw_step(w, &w->g[0], (struct vio_msg){.op = VIO_OP_RESET}),
					 VIO_ST_OK);
		nw_run(w);
		nw_send(&w->g[1], out, 100);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[2], 0, in, &h), 100);
		nw_teardown(&s);
	}
}

static int down(void **state)
{
	static const char *const spec[NW_GUESTS] = {"link=down", "", ""};

	return nw_setup_with(state, spec);
}

static void link_down_is_said_and_counted(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];
	uint32_t id, len;

	all_up(w, NW_ZERO_COPY);
	assert_int_equal(
		((const struct virtio_net_config *)(const void *)(g->mem + 0x3000))->status, 0);
	nw_frame(out, 100, 11, 10, 0);
	nw_send(g, out, 100);
	nw_run(w);
	assert_true(nw_used(g, 1, &id, &len));
	assert_int_equal(nw_drops(g, VIO_DROP_LINK_DOWN), 1);
	nw_frame(out, 100, 10, 11, 0);
	nw_send(&w->g[1], out, 100);
	nw_run(w);
	assert_int_equal(nw_drops(g, VIO_DROP_LINK_DOWN), 2);
}

static int follow(void **state)
{
	static const char *const spec[NW_GUESTS] = {"link=uplink", "", ""};

	return nw_setup_with(state, spec);
}

static void guest_is_told_when_its_link_follows_the_uplink(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];
	const struct virtio_net_config *c = (const void *)(g->mem + 0x3000);

	assert_true(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){false, 0},
					false));
	vio_adapter_config_changed(g->a); /* nobody is there yet: nothing happens */
	nw_run(w);
	assert_int_equal(g->messages, 0);
	all_up(w, NW_ZERO_COPY);
	assert_int_equal(c->status, 0);
	assert_true(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){true, 0},
					false));
	assert_false(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){true, 0},
					 false));
	assert_false(vio_kind_net.follow(vio_net_device(w->g[1].net),
					 (struct vio_dev_uplinks){false, 0}, false));
	vio_adapter_config_changed(g->a);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_CONFIG);
	assert_int_equal(vio_le16(c->status), VIRTIO_NET_S_LINK_UP);
	others_go_on(w);
}

static void set_link(struct nw *w, bool up)
{
	struct nw_guest *g = &w->g[0];
	const struct virtio_net_config *c = (const void *)(g->mem + 0x3000);

	assert_true(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){up, 0},
					false));
	vio_adapter_config_changed(g->a);
	nw_run(w);
	assert_int_equal(vio_le16(c->status), up ? VIRTIO_NET_S_LINK_UP : 0);
}

/*
 * The link goes down and up under traffic: what is sent meanwhile is counted, in both directions,
 * and what comes after arrives, in the buffers that were posted before.
 */
static void link_that_goes_and_comes_loses_only_what_is_sent_meanwhile(void **state)
{
	static const char *const spec[NW_GUESTS] = {"link=uplink", "", ""};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct virtio_net_hdr_v1 h;
		uint64_t lost = 0;
		struct nw_guest *g;
		uint32_t id, len;
		struct nw *w;
		void *s;

		nw_setup_with(&s, spec);
		w = s;
		g = &w->g[0];
		all_up(w, &nw_arms[a]);
		for (unsigned round = 0; round < 4; round++) {
			send_to_0(w, 20, 700, round);
			arrive_at_0(w, 20, 700, round);
			/* These are in the ring when it goes. */
			for (unsigned i = 0; i < 10; i++) {
				nw_frame(out, 700, 10, 11, i);
				nw_send(&w->g[1], out, 700);
				nw_frame(out, 700, 11, 10, i);
				nw_send(g, out, 700);
			}
			set_link(w, false);
			for (unsigned i = 0; i < 10; i++) {
				assert_true(nw_used(&w->g[1], 1, &id, &len));
				assert_true(nw_used(g, 1, &id, &len));
			}
			send_to_0(w, 5, 700, round);
			arrive_at_0(w, 0, 700, round);
			lost += 10 + 10 + 5;
			assert_int_equal(nw_drops(g, VIO_DROP_LINK_DOWN), lost);
			assert_int_equal(nw_recv(&w->g[1], 0, in, &h), -1);
			nw_check_leaks(w);
			set_link(w, true);
		}
		send_to_0(w, 20, 700, 77);
		arrive_at_0(w, 20, 700, 77);
		nw_frame(out, 700, 11, 10, 5);
		nw_send(g, out, 700);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 700);
		assert_int_equal(nw_drops(g, VIO_DROP_LINK_DOWN), lost);
		for (unsigned i = 0; i < VIO_N_DROP; i++)
			assert_int_equal(nw_drops(g, i), i == VIO_DROP_LINK_DOWN ? lost : 0);
		assert_int_equal(g->net->port.stats.out_frames, 5 * 20);
		assert_int_equal(g->needs_resets, 0);
		nw_teardown(&s);
	}
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
		cmocka_unit_test(guest_that_does_not_refill_loses_frames_and_nobody_waits),
		cmocka_unit_test(guest_that_stops_refilling_and_resumes_gets_all_that_fits),
		cmocka_unit_test_setup_teardown(merged_frame_that_finds_too_few_buffers_takes_none,
						nw_setup, nw_teardown),
		cmocka_unit_test(ring_full_of_frames_is_worked_off),
		cmocka_unit_test(guest_that_dies_is_forgotten_and_comes_back),
		cmocka_unit_test(address_of_a_guest_that_has_gone_is_flooded_again),
		cmocka_unit_test_setup_teardown(link_down_is_said_and_counted, down, nw_teardown),
		cmocka_unit_test_setup_teardown(guest_is_told_when_its_link_follows_the_uplink,
						follow, nw_teardown),
		cmocka_unit_test(link_that_goes_and_comes_loses_only_what_is_sent_meanwhile),
		cmocka_unit_test_setup_teardown(frames_overwritten_with_rubbish_are_all_dropped,
						nw_setup, nw_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
