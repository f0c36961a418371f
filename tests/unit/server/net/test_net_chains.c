/* SPDX-License-Identifier: BSD-3-Clause */
/* Chains of more descriptors than a request has room for, up to the queue's size (VIRTIO 1.2, 2.7.5.3.1): no reason to stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_packet.h"

/* `n` descriptors of `each` bytes from gla on, from number 0 on, and the chain made available. */
static void chain(struct nw_guest *g, uint16_t q, unsigned n, uint64_t gla, uint32_t each,
		  unsigned flags)
{
	for (unsigned i = 0; i < n; i++)
		nw_desc(g, q, i, gla + i * (uint64_t)each, each,
			flags | (i + 1 < n ? VRING_DESC_F_NEXT : 0), i + 1);
	nw_publish(g, q, 0);
}

static void a_frame_in_many_pieces_is_dropped_and_the_next_one_arrives(void **state)
{
	static const unsigned pieces[] = {33, VIO_MAX_SEGS, VIO_MAX_SEGS + 1, 64, NW_SIZE};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		unsigned drops = 0;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, &w->g[1], &nw_arms[a], NW_ALL);
		nw_post(&w->g[1], 0, 20, 2048);
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(pieces); i++) {
			uint32_t len = 5 * pieces[i] - 12, id, used;
			bool fits = pieces[i] <= VIO_MAX_SEGS;
			struct virtio_net_hdr_v1 h;

			nw_frame(out, len, 1, 0, i);
			memset(w->g[0].mem + NW_TX, 0, 12);
			memcpy(w->g[0].mem + NW_TX + 12, out, len);
			chain(&w->g[0], 1, pieces[i], NW_TX, 5, 0);
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], 0, in, &h), fits ? (int)len : -1);
			if (fits)
				assert_memory_equal(in, out, len);
			drops += !fits;
			assert_int_equal(nw_drops(&w->g[0], VIO_DROP_PIECES), drops);
			assert_true(nw_used(&w->g[0], 1, &id, &used));
			assert_int_equal(used, 0);
			w->g[0].tx_next = 60; /* elsewhere than the chain is */
			nw_send(&w->g[0], out, 60);
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 60);
			assert_true(nw_used(&w->g[0], 1, &id, &used));
		}
		assert_int_equal(w->g[0].needs_resets, 0);
		nw_teardown(&s);
	}
}

static void a_receive_buffer_in_many_pieces_is_used_as_far_as_it_goes(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct nw_guest *g;
		uint32_t id, used;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[1];
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, g, &nw_arms[a], NW_PLAIN);
		chain(g, 0, 200, NW_RX, 40, VRING_DESC_F_WRITE);
		nw_frame(out, 33 * 40 - 12, 1, 0, 1);
		nw_send(&w->g[0], out, 33 * 40 - 12);
		nw_run(w);
		assert_true(nw_used(g, 0, &id, &used));
		assert_int_equal(used, 33 * 40);
		assert_memory_equal(g->mem + NW_RX + 12, out, used - 12);
		/* One byte more than that is too long for it. */
		memset(g->mem + NW_RX, 0x55, 8000);
		chain(g, 0, 200, NW_RX, 40, VRING_DESC_F_WRITE);
		nw_send(&w->g[0], out, 33 * 40 - 11);
		nw_run(w);
		assert_false(nw_used(g, 0, &id, &used));
		assert_int_equal(nw_drops(g, VIO_DROP_TOO_SMALL), 1);
		nw_send(&w->g[0], out, 60);
		nw_run(w);
		assert_true(nw_used(g, 0, &id, &used));
		assert_int_equal(used, 72);
		for (unsigned i = 72; i < 8000; i++)
			assert_int_equal(g->mem[NW_RX + i], 0x55);
		assert_int_equal(g->needs_resets, 0);
		nw_teardown(&s);
	}
}

static void a_command_in_many_pieces_is_refused_in_its_own_last_byte(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct nw_guest *g;
		uint32_t id, used;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[0];
		nw_up(w, g, &nw_arms[a], NW_ALL);
		memset(g->mem + NW_CTRL, 0, 0x3000);
		g->mem[NW_CTRL + 0x2000] = 0xff;
		for (unsigned i = 0; i < 100; i++)
			nw_desc(g, 2, i, NW_CTRL + i * 3, 3, VRING_DESC_F_NEXT, i + 1);
		nw_desc(g, 2, 100, NW_CTRL + 0x2000, 1, VRING_DESC_F_WRITE, 0);
		nw_publish(g, 2, 0);
		nw_run(w);
		assert_true(nw_used(g, 2, &id, &used));
		assert_int_equal(used, 1);
		assert_int_equal(g->mem[NW_CTRL + 0x2000], VIRTIO_NET_ERR);
		assert_int_equal(g->needs_resets, 0);
		assert_int_equal(control(w, g, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI,
					 (uint8_t[]){1}, 1),
				 VIRTIO_NET_OK);
		nw_teardown(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_in_many_pieces_is_dropped_and_the_next_one_arrives),
		cmocka_unit_test(a_receive_buffer_in_many_pieces_is_used_as_far_as_it_goes),
		cmocka_unit_test(a_command_in_many_pieces_is_refused_in_its_own_last_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
