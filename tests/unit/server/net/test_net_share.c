/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What one card may have the switch do in one turn, counted in bytes that reach others: copies for all who get a frame, and the
 * pieces of what is cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_packet.h"

#define SHARE 16384u

static const uint32_t quantum = SHARE, beside = 1;
static const struct shape udp = {"IPv4", 17, false, 0};

static void bring_up(struct nw *w, const struct nw_arm *arm)
{
	nw_up(w, &w->g[0], arm, NW_ALL | USO);
	for (unsigned i = 1; i < NW_GUESTS; i++) {
		nw_up(w, &w->g[i], arm, MERGED);
		nw_post(&w->g[i], 0, 250, 2048);
	}
	w->g[0].polled[1]->quantum = &quantum;
	w->g[0].polled[1]->beside = &beside;
}

static uint64_t frames_out(const struct nw *w)
{
	return w->g[1].net->port.stats.out_frames + w->g[2].net->port.stats.out_frames;
}

static uint64_t bytes_out(const struct nw *w)
{
	return w->g[1].net->port.stats.out_bytes + w->g[2].net->port.stats.out_bytes;
}

/*
 * Turns of the sender's queue until all is done: bytes that one brings to others, and that all have brought so far, are bounded.
 * How many.
 */
static unsigned turns(struct nw *w, uint64_t most)
{
	struct vio_squeue *q = w->g[0].polled[1];
	const uint64_t all = bytes_out(w);
	unsigned n = 0;

	do {
		uint64_t bytes = bytes_out(w);

		assert_true(vio_squeue_poll(q) > 0 || q->in_flight == 0); /* paying is work */
		assert_true(bytes_out(w) - bytes <= most);
		n++;
		assert_true(bytes_out(w) - all <= (uint64_t)n * SHARE + most);
		assert_true(n < 2000);
	} while (q->in_flight > 0 || q->more);
	assert_int_equal(q->fault, VIO_ST_OK);
	return n;
}

/* Kicks, where they are messages. */
static void turn_of_messages(struct nw *w)
{
	if (phyp_irq_take(w->sv))
		vio_adapter_crq(w->g[0].a);
}

/* In the order in which they were sent, and every byte. */
static void all_came(struct nw *w, unsigned frames, uint32_t len)
{
	struct virtio_net_hdr_v1 h;

	for (unsigned g = 1; g < NW_GUESTS; g++) {
		for (unsigned i = 0; i < frames; i++) {
			nw_frame(out, len, 0, 100, i);
			assert_int_equal(nw_recv(&w->g[g], 0, in, &h), len);
			assert_memory_equal(in + 6, out + 6, len - 6);
		}
		assert_int_equal(nw_recv(&w->g[g], 0, in, &h), -1);
	}
}

static void frames_to_everybody_count_once_for_each_who_gets_them(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (uint32_t cut = 0; cut < 2; cut++) { /* one descriptor, or two */
			const unsigned frames = 60;
			const uint32_t len = 1514;
			struct nw *w;
			void *st;

			nw_setup(&st);
			w = st;
			bring_up(w, &nw_arms[a]);
			for (unsigned i = 0; i < frames; i++) {
				nw_frame(out, len, 0, 100, i);
				memset(out, 0xff, 6);
				nw_send_cut(&w->g[0], 0, NULL, out, len, cut * 700);
			}
			turn_of_messages(w);
			turns(w, 2 * VIO_NET_PIECE);
			all_came(w, frames, len);
			nw_teardown(&st);
		}
	}
}

/* Two guests get 20 pieces each of every frame: a few frames in a turn, and turns in which they are paid. */
static void what_is_cut_for_everybody_counts_for_each_piece_and_way(void **state)
{
	const struct shape *s = &udp;
	const unsigned frames = 8, pieces = 20;
	struct nw *w = *state;
	unsigned n;

	bring_up(w, NW_ZERO_COPY);
	for (unsigned i = 0; i < frames; i++) {
		struct virtio_net_hdr_v1 h = wants(s, 1000);
		uint32_t len = packet(s, pieces * 1000);

		memset(out, 0xff, 6);
		nw_send_cut(&w->g[0], 0, &h, out, len, 0);
	}
	n = turns(w, 2 * VIO_NET_PIECE);
	assert_true(n >= frames * 2 * pieces * 1000 / SHARE);
	assert_int_equal(frames_out(w), frames * 2 * pieces);
	assert_int_equal(nw_drops(&w->g[0], VIO_DROP_OFFLOAD), 0);
}

/* What a card asked for beyond its share in one turn it has less of in the next ones, whatever it sends then. */
static void a_debt_is_paid_before_the_next_frame(void **state)
{
	const struct shape *s = &udp;
	struct nw *w = *state;
	struct vio_squeue *q;
	struct virtio_net_hdr_v1 h = wants(s, 1000);
	uint32_t len = packet(s, 20000);
	unsigned n;

	bring_up(w, NW_ZERO_COPY);
	q = w->g[0].polled[1];
	memset(out, 0xff, 6);
	nw_send_cut(&w->g[0], 0, &h, out, len, 0);
	assert_true(vio_squeue_poll(q) > 0);
	assert_int_equal(frames_out(w), 40);
	nw_frame(out, 60, 1, 100, 0);
	nw_send(&w->g[0], out, 60);
	assert_int_equal(q->in_flight, 0);
	assert_true(vio_squeue_arm(q)); /* and nobody sleeps on it */
	for (n = 0; frames_out(w) == 40; n++)
		assert_true(vio_squeue_poll(q) > 0);
	assert_true(n >= 40 * 1000 / SHARE);
}

/* Tiny pieces, each for several: what would take the lcore milliseconds is not done at all. */
static void small_pieces_are_counted_on_all_their_ways(void **state)
{
	const struct shape *s = &udp;
	struct nw *w = *state;
	struct virtio_net_hdr_v1 h = wants(s, 100);

	bring_up(w, NW_ZERO_COPY);
	w->g[0].polled[1]->quantum = NULL;
	for (unsigned i = 0; i < 32; i++) {
		uint32_t len = packet(s, 10000);

		memset(out, 0xff, 6);
		nw_send_cut(&w->g[0], 0, &h, out, len, 0);
	}
	/* Turns of the queue, one of the switch. */
	turns(w, UINT32_MAX);
	assert_int_equal(32 - nw_drops(&w->g[0], VIO_DROP_OFFLOAD), VIO_SMALL_SEGMENTS / 200);
}

#define T(f) cmocka_unit_test_setup_teardown(f, nw_setup, nw_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_to_everybody_count_once_for_each_who_gets_them),
		T(what_is_cut_for_everybody_counts_for_each_piece_and_way),
		T(a_debt_is_paid_before_the_next_frame),
		T(small_pieces_are_counted_on_all_their_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
