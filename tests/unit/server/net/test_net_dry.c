/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests that run out of buffers, come and go, and links that do: who loses what, and that nobody waits. */
#include "tests/unit/server/net/net_bad.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
