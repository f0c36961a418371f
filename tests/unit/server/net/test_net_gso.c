/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segmentation that a driver may ask for beyond TCP's of every driver: datagrams, CWR; and offloads that are
 * switched off while it runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_packet.h"

static const struct shape udp[] = {
	{"IPv4", 17, false, 0}, {"IPv6", 17, true, 0}, {"IPv6 with options", 17, true, 64}};

static void datagrams_are_cut_for_who_did_not_agree_and_whole_for_who_did(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(udp); i++) {
			const struct shape *s = &udp[i];
			struct virtio_net_hdr_v1 h = wants(s, 1200);
			uint32_t len;
			struct nw *w;
			void *st;

			nw_setup(&st);
			w = st;
			nw_up(w, &w->g[0], &nw_arms[a], NW_ALL | USO);
			nw_up(w, &w->g[1], &nw_arms[a], NW_ALL | USO);
			nw_up(w, &w->g[2], &nw_arms[a], NW_ALL); /* TSO, not USO */
			nw_post(&w->g[1], 0, 100, 2048);
			nw_post(&w->g[2], 0, 100, 2048);
			len = packet(s, 10000);
			nw_send_cut(&w->g[0], 0, &h, out, len, 12 + 9 * i);
			nw_run(w);
			assert_int_equal(nw_drops(&w->g[0], VIO_DROP_OFFLOAD), 0);
			assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
			assert_memory_equal(in, out, len);
			assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_UDP_L4);
			assert_int_equal(h.gso_size, 1200);
			assert_int_equal(h.hdr_len, end_of(s));
			/* Its pieces may have sums to be finished: it agreed to GUEST_CSUM. */
			for (unsigned got = 0, n = 0; got < 10000; n++) {
				int l = nw_recv(&w->g[2], 0, in, &h);

				assert_in_range(l, end_of(s) + 1, end_of(s) + 1200);
				assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
				assert_int_equal(vio_get_be16(in + l4_of(s) + 4),
						 (unsigned)l - l4_of(s));
				assert_memory_equal(in + end_of(s), out + end_of(s) + got,
						    (unsigned)l - end_of(s));
				got += (unsigned)l - end_of(s);
				assert_true(n < 9);
			}
			nw_teardown(&st);
		}
	}
}

static void datagrams_that_are_cut_have_sums_and_lengths_of_their_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(udp); i++) {
		const struct shape *s = &udp[i];
		const uint32_t size[] = {1200, 100, 1, 999};

		for (unsigned k = 0; k < VIO_ARRAY_SIZE(size); k++) {
			struct virtio_net_hdr_v1 h = wants(s, (uint16_t)size[k]);
			uint32_t data = size[k] * 20 + size[k] / 2;
			struct nw *w;
			void *st;

			nw_setup(&st);
			w = st;
			nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL | USO);
			nw_up(w, &w->g[1], NW_ZERO_COPY, MERGED);
			nw_post(&w->g[1], 0, 200, 2048);
			nw_send_cut(&w->g[0], 0, &h, out, packet(s, data), 0);
			nw_run(w);
			assert_int_equal(assert_cut(&w->g[1], s, size[k], data),
					 20u + (size[k] > 1));
			nw_teardown(&st);
		}
	}
}

static void datagrams_that_lie_are_dropped_and_counted(void **state)
{
	const struct shape *s = &udp[0];
	struct nw *w = *state;
	unsigned drops = 0;

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL | USO);
	nw_up(w, &w->g[1], NW_ZERO_COPY, MERGED);
	nw_up(w, &w->g[2], NW_ZERO_COPY, NW_ALL); /* who did not agree to send such */
	for (unsigned i = 0; i < 9; i++) {
		struct virtio_net_hdr_v1 h = wants(s, 1000);
		uint32_t len = packet(s, 5000);

		switch (i) {
		case 0:
			h.gso_size = 0;
			break;
		case 1:
			h.gso_size = 39; /* 129 of them */
			break;
		case 2:
			out[38]++; /* UDP's length */
			break;
		case 3:
			out[23] = 6;
			break;
		case 4:
			h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
			break;
		case 5:
			h.csum_offset = 16;
			break;
		case 6:
			h.flags = 0;
			break;
		case 7:
			out[20] = 0x20; /* a fragment */
			break;
		case 8:
			h.gso_type = VIRTIO_NET_HDR_GSO_UDP; /* the old kind: of fragments */
			break;
		}
		nw_send_cut(&w->g[0], 0, &h, out, len, 0);
		nw_run(w);
		assert_int_equal(nw_drops(&w->g[0], VIO_DROP_OFFLOAD), ++drops);
	}
	{
		struct virtio_net_hdr_v1 h = wants(s, 1000);

		nw_send_cut(&w->g[2], 0, &h, out, packet(s, 5000), 0);
		nw_run(w);
		assert_int_equal(nw_drops(&w->g[2], VIO_DROP_OFFLOAD), 1);
	}
	assert_int_equal(w->g[0].needs_resets + w->g[2].needs_resets, 0);
}

/* RFC 3168, 6.1.2: once. */
static void the_window_is_said_to_be_reduced_in_the_first_segment_only(void **state)
{
	static const struct shape tcp[] = {{"IPv4", 6, false, 0}, {"IPv6", 6, true, 0}};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(tcp); i++) {
			const struct shape *s = &tcp[i];
			struct virtio_net_hdr_v1 h = wants(s, 1000);
			uint32_t len;
			struct nw *w;
			void *st;

			h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
			nw_setup(&st);
			w = st;
			nw_up(w, &w->g[0], &nw_arms[a], NW_ALL | ECN);
			nw_up(w, &w->g[1], &nw_arms[a], NW_ALL | ECN);
			nw_up(w, &w->g[2], &nw_arms[a], NW_ALL); /* TSO, not ECN */
			nw_post(&w->g[1], 0, 50, 2048);
			nw_post(&w->g[2], 0, 50, 2048);
			len = packet(s, 5000);
			out[l4_of(s) + 13] = 0x90; /* CWR, ACK */
			nw_send_cut(&w->g[0], 0, &h, out, len, 0);
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
			assert_true(h.gso_type & VIRTIO_NET_HDR_GSO_ECN);
			for (unsigned k = 0; k < 5; k++) {
				assert_int_equal(nw_recv(&w->g[2], 0, in, &h), end_of(s) + 1000);
				assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
				assert_int_equal(in[l4_of(s) + 13], k == 0 ? 0x90 : 0x10);
			}
			/* Who has not agreed to it must not ask for it. */
			h = wants(s, 1000);
			h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
			nw_send_cut(&w->g[2], 0, &h, out, len, 0);
			nw_run(w);
			assert_int_equal(nw_drops(&w->g[2], VIO_DROP_OFFLOAD), 1);
			nw_teardown(&st);
		}
	}
}

static void features_that_need_others_are_refused_without_them(void **state)
{
	static const uint64_t bad[] = {
		NW_F(HOST_USO),
		NW_F(GUEST_USO4) | NW_F(CSUM),
		NW_F(GUEST_USO6),
		NW_F(HOST_ECN) | NW_F(CSUM),
		NW_F(GUEST_ECN) | NW_F(GUEST_CSUM),
		NW_F(CTRL_VLAN),
		NW_F(CTRL_RX_EXTRA),
		NW_F(CTRL_GUEST_OFFLOADS),
	};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		assert_int_not_equal(nw_features(w, &w->g[0], NW_COPY, NW_PLAIN | bad[i]),
				     VIO_ST_OK);
		nw_teardown(&s);
	}
}

/* ----------------------------------------------------------------- offloads while it runs ---- */

static uint8_t set_offloads(struct nw *w, struct nw_guest *g, uint64_t v, uint32_t len)
{
	v = vio_le64(v);
	return control(w, g, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &v,
		       len);
}

static void offloads_that_the_guest_switches_off_are_done_for_it_from_then_on(void **state)
{
	static const struct shape tcp = {"IPv4", 6, false, 0};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		const uint64_t all = NW_F(GUEST_CSUM) | NW_F(GUEST_TSO4) | NW_F(GUEST_TSO6);
		const struct {
			uint64_t set;
			int whole, unfinished;
		} t[] = {{all, 1, 1},
			 {0, 0, 0},
			 {NW_F(GUEST_CSUM), 0, 1},
			 {NW_F(GUEST_CSUM) | NW_F(GUEST_TSO6), 0, 1},
			 {NW_F(GUEST_TSO4), 0, 0}, /* sums are wanted right: it can't be whole */
			 {all, 1, 1}};
		struct nw_guest *g;
		struct nw *w;
		void *st;

		nw_setup(&st);
		w = st;
		g = &w->g[1];
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, g, &nw_arms[a], NW_ALL | NW_F(CTRL_GUEST_OFFLOADS));
		nw_post(g, 0, 200, 2048);
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
			struct virtio_net_hdr_v1 h = wants(&tcp, 1000);
			uint32_t len = packet(&tcp, 3000);

			assert_int_equal(set_offloads(w, g, t[i].set, 8), VIRTIO_NET_OK);
			nw_send_cut(&w->g[0], 0, &h, out, len, 0);
			nw_run(w);
			if (t[i].whole) {
				assert_int_equal(nw_recv(g, 0, in, &h), len);
				assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
			} else if (t[i].unfinished) {
				for (unsigned k = 0; k < 3; k++) {
					assert_int_equal(nw_recv(g, 0, in, &h), 1054);
					assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
				}
			} else {
				assert_int_equal(assert_cut(g, &tcp, 1000, 3000), 3);
			}
			assert_int_equal(nw_recv(g, 0, in, &h), -1);
		}
		/* Refused, and nothing is changed: not agreed on, no offload, another length, another command. */
		assert_int_equal(set_offloads(w, g, all | NW_F(GUEST_USO4), 8), VIRTIO_NET_ERR);
		assert_int_equal(set_offloads(w, g, NW_F(CSUM), 8), VIRTIO_NET_ERR);
		assert_int_equal(set_offloads(w, g, UINT64_MAX, 8), VIRTIO_NET_ERR);
		assert_int_equal(set_offloads(w, g, 0, 7), VIRTIO_NET_ERR);
		assert_int_equal(
			control(w, g, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 1, (uint64_t[]){0}, 8),
			VIRTIO_NET_ERR);
		assert_true(g->net->guest_csum);
		assert_int_not_equal(g->net->takes, 1);
		/* A reset takes it back. */
		assert_int_equal(set_offloads(w, g, 0, 8), VIRTIO_NET_OK);
		assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		nw_up(w, g, &nw_arms[a], NW_ALL);
		assert_true(g->net->guest_csum);
		assert_int_equal(set_offloads(w, g, 0, 8), VIRTIO_NET_ERR); /* not agreed on now */
		nw_teardown(&st);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(datagrams_are_cut_for_who_did_not_agree_and_whole_for_who_did),
		cmocka_unit_test(datagrams_that_are_cut_have_sums_and_lengths_of_their_own),
		cmocka_unit_test_setup_teardown(datagrams_that_lie_are_dropped_and_counted,
						nw_setup, nw_teardown),
		cmocka_unit_test(the_window_is_said_to_be_reduced_in_the_first_segment_only),
		cmocka_unit_test(features_that_need_others_are_refused_without_them),
		cmocka_unit_test(offloads_that_the_guest_switches_off_are_done_for_it_from_then_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
