/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames between guests: every arm both ways, merging, copies by counters, offload, control queue, holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

#define ROOM 70000

static uint8_t out[ROOM], in[ROOM];

static void assert_arrives(struct nw *w, struct nw_guest *to, uint32_t len)
{
	struct virtio_net_hdr_v1 h;

	nw_run(w);
	assert_int_equal(nw_recv(to, 0, in, &h), len);
	assert_memory_equal(in, out, len);
	assert_int_equal(h.flags, 0);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
}

static void two_up(struct nw *w, const struct nw_arm *a, const struct nw_arm *b, uint64_t features)
{
	nw_up(w, &w->g[0], a, features);
	nw_up(w, &w->g[1], b, features);
	nw_post(&w->g[0], 0, 100, 2048);
	nw_post(&w->g[1], 0, 100, 2048);
}

/* Each arm with each arm, both ways, in one descriptor and cut anywhere. */
static void pair_of_arms(unsigned a, unsigned b)
{
	static const uint32_t sizes[] = {14, 15, 18, 60, 64, 1513, 1514};
	static const uint32_t cuts[] = {0, 5, 12, 13, 26, 29, 31};
	void *state;
	struct nw *w;

	nw_setup(&state);
	w = state;
	two_up(w, &nw_arms[a], &nw_arms[b], NW_ALL);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(sizes); i++) {
		for (unsigned c = 0; c < VIO_ARRAY_SIZE(cuts); c++) {
			uint32_t cut = cuts[c] < sizes[i] + 12 ? cuts[c] : 0;

			nw_frame(out, sizes[i], 1, 0, i + c);
			nw_send_cut(&w->g[0], 0, NULL, out, sizes[i], cut);
			assert_arrives(w, &w->g[1], sizes[i]);
			nw_frame(out, sizes[i], 0, 1, i + c);
			nw_send_cut(&w->g[1], 0, NULL, out, sizes[i], cut);
			assert_arrives(w, &w->g[0], sizes[i]);
		}
	}
	nw_teardown(&state);
}

static void every_arm_moves_frames_to_every_arm(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (unsigned b = 0; b < nw_n_arms; b++)
			pair_of_arms(a, b);
	}
}

static void device_header_and_config_are_those_of_the_agreement(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[1];
	const struct vio_dev_header_v2 *h = (const void *)(g->mem + 0x2000);
	const struct virtio_net_config *c = (const void *)(g->mem + 0x3000);

	assert_int_equal(nw_features(w, g, NW_COPY, NW_ALL), VIO_ST_OK);
	assert_int_equal(h->type, 1);
	assert_int_equal(vio_from_be16(h->num_vqs), 3);
	assert_int_equal(vio_from_be16(h->config_len), 24);
	assert_true((vio_from_be64(h->device_features) & NW_ALL) == NW_ALL);
	assert_int_equal(c->mac[0], 2);
	assert_int_equal(c->mac[5], 1);
	assert_int_equal(vio_le16(c->status), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(vio_le16(c->max_virtqueue_pairs), 1);
	assert_int_equal(vio_le16(c->mtu), 1500);
}

static void version_1_is_refused_and_told(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];

	g->mem[0x2000] = 0x77;
	assert_int_equal(nw_step(w, g,
				 (struct vio_msg){.version = VIO_PROTO_V1,
						  .op = VIO_OP_PROBE,
						  .arg = nw_at(g, 0x2000).v,
						  .arg16 = 64}),
			 VIO_ST_BAD_VERSION);
	assert_int_equal(g->mem[0x2000], 0x77);
	assert_true(nw_said(w, "needs version 2"));
}

static void features_that_need_others_are_refused_alone(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];
	static const uint64_t bad[] = {NW_F(HOST_TSO4), NW_F(GUEST_TSO6), NW_F(CTRL_RX),
				       NW_F(GUEST_CSUM) | NW_F(MQ)};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		assert_int_equal(nw_features(w, g, NW_COPY, bad[i]), VIO_ST_FEATURES);
		assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	}
	assert_int_equal(nw_features(w, g, NW_COPY, NW_F(HOST_TSO4) | NW_F(CSUM)), VIO_ST_OK);
}

static void queues_that_are_not_there_are_refused(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];

	/* Without receive queue; and a control queue that was not agreed on. */
	assert_int_equal(nw_features(w, g, NW_COPY, NW_PLAIN), VIO_ST_OK);
	nw_queue(w, g, 1);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_QUEUE);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	assert_int_equal(nw_features(w, g, NW_COPY, NW_PLAIN), VIO_ST_OK);
	for (uint16_t q = 0; q < 3; q++)
		nw_queue(w, g, q);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_QUEUE);
}

/* ---------------------------------------------------------------------------------- copies ---- */

static void zero_copy_is_one_copy_and_no_call_a_frame(void **state)
{
	struct nw *w = *state;
	struct phyp_counters before, after;
	uint64_t copied;
	const unsigned frames = 40;
	struct virtio_net_hdr_v1 h;

	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	nw_frame(out, 1514, 1, 0, 0);
	nw_send(&w->g[0], out, 1514); /* learns; what is rare is behind us */
	nw_frame(out, 60, 0, 1, 0);
	nw_send(&w->g[1], out, 60);
	nw_run(w);
	nw_recv(&w->g[1], 0, in, &h);
	nw_frame(out, 1514, 1, 0, 7);
	copied = nw_cpu_bytes(&w->g[0]) + nw_cpu_bytes(&w->g[1]) + nw_cpu_bytes(&w->g[2]);
	phyp_part_counters(w->sp, &before);
	for (unsigned i = 0; i < frames; i++)
		nw_send(&w->g[0], out, 1514);
	nw_run(w);
	phyp_part_counters(w->sp, &after);
	copied = nw_cpu_bytes(&w->g[0]) + nw_cpu_bytes(&w->g[1]) + nw_cpu_bytes(&w->g[2]) - copied;
	assert_int_equal(copied, frames * 1514);
	assert_int_equal(after.cpu_bytes - before.cpu_bytes, frames * 1514);
	assert_int_equal(after.rdma_bytes, before.rdma_bytes);
	assert_int_equal(after.tce_updates, before.tce_updates);
	assert_memory_equal(after.hcall, before.hcall, sizeof(after.hcall));
	for (unsigned i = 0; i < frames; i++)
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 1514);
	assert_memory_equal(in, out, 1514);
}

static void copy_arm_is_one_rdma_in_and_one_out_a_frame(void **state)
{
	struct nw *w = *state;
	struct phyp_counters before, after;
	const unsigned frames = 20;
	int copy = phyp_op_index(H_COPY_RDMA);
	uint64_t rings;

	two_up(w, NW_COPY, NW_COPY, NW_ALL);
	nw_frame(out, 60, 0, 1, 0);
	nw_send(&w->g[1], out, 60);
	nw_run(w);
	nw_frame(out, 1514, 1, 0, 7);
	phyp_part_counters(w->sp, &before);
	for (unsigned i = 0; i < frames; i++)
		nw_send(&w->g[0], out, 1514);
	nw_run(w);
	phyp_part_counters(w->sp, &after);
	assert_int_equal(after.cpu_bytes, before.cpu_bytes); /* all copies are the hypervisor's */
	/*
	 * Transmit ring in (2) and back (1) once; receive ring back once: the chains were noted
	 * before, or it comes in too.
	 */
	rings = after.hcall[copy] - before.hcall[copy] - 2 * frames;
	assert_in_range(rings, 4, 6);
}

/* ---------------------------------------------------------------------------------- merging ---- */

/* An IPv4 TCP frame with `data` bytes after 54 of headers, its pseudo header's sum in place. */
static uint32_t tcp_frame(uint32_t data, unsigned to, unsigned from)
{
	uint32_t len = 54 + data;
	uint8_t pseudo[12];
	uint16_t csum;

	nw_frame(out, len, to, from, 3);
	vio_put_be16(out + 12, 0x0800);
	memset(out + 14, 0, 40);
	out[14] = 0x45;
	vio_put_be16(out + 16, (uint16_t)(len - 14));
	vio_put_be16(out + 18, 0x1234);
	out[22] = 64;
	out[23] = 6;
	memcpy(out + 26, "\x0a\0\0\1\x0a\0\0\2", 8);
	csum = vio_csum_fold(vio_csum_add(0, out + 14, 20, false));
	memcpy(out + 24, &csum, 2);
	vio_put_be16(out + 34, 5001);
	vio_put_be16(out + 36, 80);
	vio_put_be16(out + 40, 1000); /* low half of the sequence number */
	out[46] = 0x50;
	out[47] = 0x99; /* CWR, ACK, PSH, FIN */
	memcpy(pseudo, out + 26, 8);
	pseudo[8] = 0;
	pseudo[9] = 6;
	vio_put_be16(pseudo + 10, (uint16_t)(len - 34));
	csum = (uint16_t)~vio_csum_fold(vio_csum_add(0, pseudo, 12, false));
	memcpy(out + 50, &csum, 2);
	return len;
}

static const struct virtio_net_hdr_v1 tso4 = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					      .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					      .hdr_len = 54,
					      .gso_size = 1460,
					      .csum_start = 34,
					      .csum_offset = 16};

/* Of an IPv4 TCP frame, computed from nothing but its bytes. */
static bool tcp_checks_out(const uint8_t *f, uint32_t len)
{
	uint32_t sum = 6 + (len - 34);

	for (uint32_t i = 26; i < len; i += 2)
		sum += (uint32_t)f[i] << 8 | (i + 1 < len ? f[i + 1] : 0u);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	if (sum != 0xffff)
		return false;
	sum = 0;
	for (unsigned i = 14; i < 34; i += 2)
		sum += (uint32_t)f[i] << 8 | f[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static void large_frame_is_merged_with_its_offload_fields(void **state)
{
	struct virtio_net_hdr_v1 h;

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		void *s;
		struct nw *w;
		uint32_t len = tcp_frame(60000, 1, 0);

		nw_setup(&s);
		w = s;
		two_up(w, &nw_arms[a], NW_ZERO_COPY, NW_ALL);
		nw_send_cut(&w->g[0], 0, &tso4, out, len, 20);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
		assert_memory_equal(in, out, len);
		assert_int_equal(h.num_buffers, (len + 12 + 2047) / 2048);
		assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
		assert_int_equal(h.gso_size, 1460);
		assert_int_equal(h.csum_start, 34);
		assert_int_equal(h.csum_offset, 16);
		assert_int_equal(h.hdr_len, 54);
		/* The same into the copy arm. */
		len = tcp_frame(60000, 0, 1);
		nw_send_cut(&w->g[1], 0, &tso4, out, len, 0);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[0], 0, in, &h), len);
		assert_memory_equal(in, out, len);
		nw_teardown(&s);
	}
}

static uint64_t plain(const struct nw_guest *g)
{
	return g->net->port.stats.out_plain;
}

/* No arm is left without it, or a comparison of arms would compare two programs. */
static void frames_of_one_descriptor_go_the_short_way_in_every_arm(void **state)
{
	static const uint32_t sizes[] = {18, 60, 64, 128, 1514};
	struct virtio_net_hdr_v1 h;

	for (unsigned i = 0; i < nw_n_arms * nw_n_arms; i++) {
		struct nw_guest *g;
		struct nw *w;

		nw_setup(state);
		w = *state;
		g = &w->g[1];
		two_up(w, &nw_arms[i % nw_n_arms], &nw_arms[i / nw_n_arms], NW_ALL);
		for (unsigned k = 0; k < VIO_ARRAY_SIZE(sizes); k++) {
			for (unsigned n = 0; n < 3; n++) {
				nw_frame(out + n * 8192, sizes[k], 1, 0, n);
				nw_send(&w->g[0], out + n * 8192, sizes[k]);
			}
			nw_run(w);
			for (unsigned n = 0; n < 3; n++) {
				assert_int_equal(nw_recv(g, 0, in, &h), sizes[k]);
				assert_memory_equal(in, out + n * 8192, sizes[k]);
			}
		}
		assert_int_equal(plain(g), 3 * VIO_ARRAY_SIZE(sizes));
		for (unsigned r = 0; r < NW_SIZE; r++) { /* and no full request was made of them */
			assert_int_equal(g->polled[0]->req[r].n_seg, 0);
			assert_int_equal(w->g[0].polled[1]->req[r].n_seg, 0);
		}
		nw_teardown(state);
	}
}

/* It did: chains were taken in bursts, and while some were left over everything went the long way. */
static void
one_long_frame_or_a_dry_ring_does_not_keep_the_next_frames_from_the_short_way(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[1];
	struct virtio_net_hdr_v1 h;
	uint32_t len = tcp_frame(4000, 1, 0);

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL);
	nw_frame(out + 8192, 100, 1, 0, 0);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t before = plain(g);

		nw_post(g, 0, 12, 2048);
		nw_send_cut(&w->g[0], 0, &tso4, out, len, 0);
		nw_run(w);
		assert_int_equal(nw_recv(g, 0, in, &h), len);
		assert_int_equal(plain(g), before); /* it needs two chains */
		for (unsigned k = 0; k < 10; k++) {
			nw_send(&w->g[0], out + 8192, 100);
			nw_run(w);
			assert_int_equal(nw_recv(g, 0, in, &h), 100);
		}
		assert_int_equal(plain(g), before + 10);
		nw_send(&w->g[0], out + 8192, 100);
		nw_run(w);
		assert_int_equal(nw_recv(g, 0, in, &h), -1); /* dry */
	}
}

static void without_merging_a_large_frame_is_dropped_and_the_buffer_stays(void **state)
{
	struct nw *w = *state;
	struct virtio_net_hdr_v1 h;
	uint32_t len = tcp_frame(4000, 1, 0);

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, &w->g[1], NW_ZERO_COPY, NW_ALL & ~NW_F(MRG_RXBUF));
	nw_post(&w->g[1], 0, 1, 2048);
	nw_send_cut(&w->g[0], 0, &tso4, out, len, 0);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), -1);
	assert_int_equal(nw_drops(&w->g[1], VIO_DROP_TOO_SMALL), 1);
	nw_frame(out, 1000, 1, 0, 0);
	nw_send(&w->g[0], out, 1000);
	assert_arrives(w, &w->g[1], 1000);
}

/* ---------------------------------------------------------------------------------- offload ---- */

static void guest_without_tso_gets_segments_with_right_checksums(void **state)
{
	const uint32_t data = 4000;
	uint32_t len = tcp_frame(data, 1, 0), got = 0;
	struct virtio_net_hdr_v1 h;
	int n;

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		void *s;
		struct nw *w;
		unsigned count = 0;

		nw_setup(&s);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, &w->g[1], &nw_arms[a], NW_PLAIN | NW_F(MRG_RXBUF));
		nw_post(&w->g[1], 0, 20, 2048);
		nw_send_cut(&w->g[0], 0, &tso4, out, len, 100);
		nw_run(w);
		for (got = 0; (n = nw_recv(&w->g[1], 0, in, &h)) >= 0; count++) {
			bool last = got + (uint32_t)n - 54 == data;

			assert_int_equal(h.flags, 0);
			assert_int_equal(h.gso_type, 0);
			assert_true(tcp_checks_out(in, (uint32_t)n));
			assert_memory_equal(in, out, 12);
			assert_int_equal(vio_get_be16(in + 16), n - 14);
			assert_int_equal(vio_get_be16(in + 18), 0x1234 + count);
			assert_int_equal(vio_get_be16(in + 38) * 65536u + vio_get_be16(in + 40),
					 1000 + got);
			assert_int_equal(in[47], (last ? 0x19 : 0x10) | (count == 0 ? 0x80 : 0));
			assert_memory_equal(in + 54, out + 54 + got, (size_t)n - 54);
			got += (uint32_t)n - 54;
		}
		assert_int_equal(got, data);
		assert_int_equal(count, 3);
		assert_int_equal(w->g[1].net->port.stats.segmented, 1);
		nw_teardown(&s);
	}
}

static void guest_without_csum_gets_it_finished(void **state)
{
	struct nw *w = *state;
	struct virtio_net_hdr_v1 h = tso4, got;
	uint32_t len = tcp_frame(1001, 1, 0);

	h.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	h.gso_size = 0;
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, &w->g[1], NW_ZERO_COPY, NW_PLAIN);
	nw_post(&w->g[1], 0, 4, 2048);
	nw_send_cut(&w->g[0], 0, &h, out, len, 77);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &got), len);
	assert_int_equal(got.flags, 0);
	assert_true(tcp_checks_out(in, len));
	assert_int_equal(w->g[1].net->port.stats.checksummed, 1);
}

static int jumbo(void **state)
{
	static const char *const spec[NW_GUESTS] = {"mtu=9000", "mtu=1500", "mtu=1500"};

	return nw_setup_with(state, spec);
}

/*
 * What is too long is the segment, not the frame that is cut: at the port where it leaves, with or
 * without its help.
 */
static void segments_too_long_for_the_exit_are_dropped_there(void **state)
{
	static const struct {
		uint32_t data;
		uint16_t gso_size;
		bool fits;
	} t[] = {{20000, 8000, false}, {20000, 1461, false}, {20000, 1460, true},
		 {1461, 8000, false},  {1460, 8000, true},   {100, 8000, true}};
	struct nw *w = *state;

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, &w->g[1], NW_ZERO_COPY, NW_ALL);
	nw_up(w, &w->g[2], NW_ZERO_COPY, NW_PLAIN | NW_F(MRG_RXBUF)); /* cut for it */
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		for (unsigned r = 1; r < 3; r++) {
			struct nw_guest *to = &w->g[r];
			uint32_t len = tcp_frame(t[i].data, r, 0), got = 0, id, used;
			uint64_t drops = nw_drops(to, VIO_DROP_OVERSIZED);
			struct virtio_net_hdr_v1 h = tso4;
			int n;

			nw_post(to, 0, 20, 2048);
			nw_frame(in, 60, 0, r,
				 0); /* so that it is known, and the frame goes nowhere else */
			nw_send(to, in, 60);
			nw_run(w);
			h.gso_size = t[i].gso_size;
			nw_send_cut(&w->g[0], 0, &h, out, len, 0);
			nw_run(w);
			assert_true(nw_used(&w->g[0], 1, &id, &used));
			while ((n = nw_recv(to, 0, in, &h)) >= 0)
				got += (uint32_t)n - 54;
			assert_int_equal(got, t[i].fits ? t[i].data : 0);
			assert_int_equal(nw_drops(to, VIO_DROP_OVERSIZED), drops + !t[i].fits);
			assert_int_equal(nw_drops(&w->g[0], VIO_DROP_OVERSIZED), 0);
		}
	}
	/* Too long for the sender's own port: dropped at the entrance. */
	for (unsigned i = 0; i < 2; i++) {
		struct virtio_net_hdr_v1 h = tso4;
		uint32_t len = tcp_frame(20000, 0, 1);

		h.gso_size = (uint16_t)(1461 - i);
		nw_send_cut(&w->g[1], 0, &h, out, len, 0);
		nw_run(w);
		assert_int_equal(w->g[1].net->port.stats.drop[VIO_DROP_OVERSIZED], 3 + 1);
	}
}

/* The frame in out[] with a tag of VLAN 10 after its addresses; its length. */
static uint32_t tagged(uint8_t *to, uint32_t len)
{
	memcpy(to, out, 12);
	vio_put_be16(to + 12, 0x8100);
	vio_put_be16(to + 14, 10);
	memcpy(to + 16, out + 12, len - 12);
	return len + 4;
}

/* Guest 0 is on a trunk, guest 1 in VLAN 10: a tag comes and goes, and every offset with it. */
static void offload_follows_the_frame_through_a_change_of_tags(void **state)
{
	static const char *const spec[NW_GUESTS] = {"trunk=10", "vlan=10", ""};
	static uint8_t raw[ROOM];

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct virtio_net_hdr_v1 h = tso4;
		uint32_t len = tcp_frame(3000, 1, 0), n = tagged(raw, len), got = 0;
		struct nw *w;
		void *s;
		int part;

		nw_setup_with(&s, spec);
		w = s;
		two_up(w, &nw_arms[a], &nw_arms[a], NW_ALL);
		h.csum_start = 38;
		nw_send_cut(&w->g[0], 0, &h, raw, n, 25);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
		assert_memory_equal(in, out, len);
		assert_int_equal(h.csum_start, 34);
		assert_int_equal(h.hdr_len, 54);
		/* And back. */
		len = tcp_frame(3000, 0, 1);
		n = tagged(raw, len);
		nw_send_cut(&w->g[1], 0, &tso4, out, len, 0);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[0], 0, in, &h), n);
		assert_memory_equal(in, raw, n);
		assert_int_equal(h.csum_start, 38);
		assert_int_equal(h.hdr_len, 58);
		/* The sender's checksum field was meant for the untagged offset: a lie is still found. */
		h = tso4;
		nw_send_cut(&w->g[0], 0, &h, raw, n, 0);
		nw_run(w);
		assert_int_equal(nw_drops(&w->g[0], VIO_DROP_OFFLOAD), 1);
		nw_teardown(&s);

		/* Cut for a receiver that wants tags and no offload. */
		nw_setup_with(&s, spec);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_PLAIN);
		nw_up(w, &w->g[1], &nw_arms[a], NW_ALL);
		nw_post(&w->g[0], 0, 10, 2048);
		nw_send_cut(&w->g[1], 0, &tso4, out, len, 60);
		nw_run(w);
		while ((part = nw_recv(&w->g[0], 0, in, &h)) >= 0) {
			assert_memory_equal(in + 12, "\x81\0\0\x0a", 4);
			memmove(in + 4, in, 12);
			assert_true(tcp_checks_out(in + 4, (uint32_t)part - 4));
			assert_memory_equal(in + 4 + 54, out + 54 + got, (size_t)part - 58);
			got += (uint32_t)part - 58;
		}
		assert_int_equal(got, 3000);
		nw_teardown(&s);
	}
}

/* --------------------------------------------------------------------------------- control ---- */

/* 0xff: no answer. */
static uint8_t control(struct nw *w, struct nw_guest *g, uint16_t q, uint8_t class, uint8_t cmd,
		       const void *data, uint32_t len)
{
	uint32_t id, used;

	g->mem[NW_CTRL] = class;
	g->mem[NW_CTRL + 1] = cmd;
	memcpy(g->mem + NW_CTRL + 2, data, len);
	g->mem[NW_CTRL + 0x2000] = 0xff;
	nw_desc(g, q, 0, NW_CTRL, 2, VRING_DESC_F_NEXT, len ? 1 : 2); /* some have no data */
	nw_desc(g, q, 1, NW_CTRL + 2, len, VRING_DESC_F_NEXT, 2);
	nw_desc(g, q, 2, NW_CTRL + 0x2000, 1, VRING_DESC_F_WRITE, 0);
	nw_publish(g, q, 0);
	nw_run(w);
	if (!nw_used(g, q, &id, &used))
		return 0xff;
	assert_int_equal(id, 0);
	assert_int_equal(used, 1);
	return g->mem[NW_CTRL + 0x2000];
}

static void an_address_that_the_guest_sets_is_in_its_config_space_until_a_reset(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};
		uint8_t configured[6];
		struct nw_guest *g;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[1];
		two_up(w, &nw_arms[a], &nw_arms[a], NW_ALL);
		memcpy(configured, nw_config(g)->mac, 6);
		assert_memory_not_equal(configured, mac, 6);
		assert_int_equal(
			control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
			VIRTIO_NET_OK);
		nw_run(w);
		assert_memory_equal(nw_config(g)->mac, mac, 6);
		assert_int_equal(g->last.op, VIO_OP_CONFIG);
		assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		assert_int_equal(nw_features(w, g, &nw_arms[a], NW_ALL), VIO_ST_OK);
		assert_memory_equal(nw_config(g)->mac, configured, 6);
		nw_teardown(&s);
	}
}

static void filters_let_through_what_was_asked_for(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		const uint8_t mac[6] = {2, 0, 0, 0, 0, 9}, off = 0, on = 1;
		uint8_t tables[4 + 6 + 4 + 6] = {1, 0, 0, 0, 2, 0, 0,    0, 0, 5,
						 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1};
		struct virtio_net_hdr_v1 h;
		struct nw_guest *g;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		g = &w->g[1];
		two_up(w, &nw_arms[a], &nw_arms[a], NW_ALL);
		assert_int_equal(
			control(w, g, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
			0);
		assert_int_equal(
			control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
			0);
		assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_MAC,
					 VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables)),
				 0);
		nw_frame(out, 60, 9, 0, 1);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60); /* its address */
		nw_frame(out, 60, 5, 0, 1);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60); /* in its table */
		memcpy(out, "\1\0\x5e\0\0\1", 6);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60); /* in its multicast table */
		memset(out, 0xff, 6);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60); /* broadcast */
		memcpy(out, "\1\0\x5e\0\0\2", 6);
		nw_send(&w->g[0], out, 60);
		nw_frame(out + 100, 60, 1, 0, 1);
		nw_send(&w->g[0], out + 100, 60);
		nw_run(w);
		assert_int_equal(nw_recv(g, 0, in, &h), -1);
		assert_int_equal(nw_drops(g, VIO_DROP_FILTERED), 2);
		assert_int_equal(
			control(w, g, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1),
			0);
		nw_send(&w->g[0], out, 60);
		assert_arrives(w, g, 60);
		nw_teardown(&s);
	}
}

static int locked(void **state)
{
	/* The order of the words does not matter. */
	static const char *const spec[NW_GUESTS] = {"lock-mac=on,MAC=02:00:00:00:00:0a",
						    "lock-mac=off,MAC=02:00:00:00:00:0b", ""};

	return nw_setup_with(state, spec);
}

static void locked_guest_sends_from_its_own_address_only(void **state)
{
	const uint8_t own[6] = {2, 0, 0, 0, 0, 10}, other[6] = {2, 0, 0, 0, 0, 11};
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];
	struct virtio_net_hdr_v1 h;
	uint32_t id, len;

	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	nw_up(w, &w->g[2], NW_ZERO_COPY, NW_ALL);
	nw_post(&w->g[2], 0, 10, 2048);
	nw_frame(out, 60, 12, 11, 1);
	nw_send(&w->g[1], out, 60);
	nw_run(w);
	assert_int_equal(nw_recv(g, 0, in, &h), 60);
	assert_int_equal(nw_recv(&w->g[2], 0, in, &h), 60);
	nw_frame(out, 60, 11, 10, 1);
	nw_send(g, out, 60);
	assert_arrives(w, &w->g[1], 60);
	/* As guest 1: dropped, and guest 1's frames do not come to it. The chain is returned. */
	nw_frame(out, 60, 12, 11, 1);
	nw_send(g, out, 60);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[2], 0, in, &h), -1);
	assert_int_equal(nw_drops(g, VIO_DROP_SOURCE), 1);
	assert_true(nw_used(g, 1, &id, &len) && nw_used(g, 1, &id, &len));
	nw_frame(out, 60, 11, 12, 1);
	nw_send(&w->g[2], out, 60);
	assert_arrives(w, &w->g[1], 60);
	assert_int_equal(nw_recv(g, 0, in, &h), -1);
	/* It can't take another address, which would be the same by another way. */
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, other, 6),
		VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, own, 6),
		VIRTIO_NET_OK);
	nw_frame(out, 60, 12, 11, 1);
	nw_send(g, out, 60);
	nw_run(w);
	assert_int_equal(nw_drops(g, VIO_DROP_SOURCE), 2);
	/* Who is not locked may send from any address, as on a Linux bridge, and is found there. */
	nw_frame(out, 60, 12, 33, 1);
	nw_send(&w->g[1], out, 60);
	assert_arrives(w, &w->g[2], 60);
	nw_frame(out, 60, 33, 12, 1);
	nw_send(&w->g[2], out, 60);
	assert_arrives(w, &w->g[1], 60);
	assert_int_equal(nw_drops(&w->g[1], VIO_DROP_SOURCE), 0);
}

/* MAC_TABLE_SET with so many addresses, 02 00 00 00 01 xx and 01 00 5e 00 00 xx. */
static uint8_t set_tables(struct nw *w, struct nw_guest *g, unsigned n_uni, unsigned n_multi)
{
	uint8_t data[8 + 6 * 200] = {(uint8_t)n_uni}, *at = data + 4;

	for (unsigned i = 0; i < n_uni; i++, at += 6)
		memcpy(at, (uint8_t[6]){2, 0, 0, 0, 1, (uint8_t)i}, 6);
	memcpy(at, (uint8_t[4]){(uint8_t)n_multi}, 4);
	at += 4;
	for (unsigned i = 0; i < n_multi; i++, at += 6)
		memcpy(at, (uint8_t[6]){1, 0, 0x5e, 0, 0, (uint8_t)i}, 6);
	return control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data,
		       (uint32_t)(at - data));
}

/* Does a frame of guest 0 to that address reach guest 1? */
static bool reaches(struct nw *w, const uint8_t dst[6])
{
	struct virtio_net_hdr_v1 h;

	nw_frame(out, 60, 0, 0, 1);
	memcpy(out, dst, 6);
	nw_send(&w->g[0], out, 60);
	nw_run(w);
	return nw_recv(&w->g[1], 0, in, &h) == 60;
}

/* Too many of a kind let all of it through: for as long as that table is set, whatever ALLMULTI says. */
static void table_that_is_too_long_lets_its_kind_through_until_the_next(void **state)
{
	static const uint8_t listed[6] = {1, 0, 0x5e, 0, 0, 3}, group[6] = {1, 0, 0x5e, 9, 9, 9},
			     uni[6] = {2, 0, 0, 0, 1, 3}, other[6] = {2, 9, 9, 9, 9, 9}, off = 0,
			     on = 1;
	struct nw *w = *state;
	struct nw_guest *g = &w->g[1];

#define RX(cmd, v)                                                                                 \
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_##cmd, &(v), 1),  \
			 VIRTIO_NET_OK)
	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	RX(PROMISC, off);
	assert_int_equal(set_tables(w, g, 0, VIO_NET_MACS), VIRTIO_NET_OK);
	assert_true(reaches(w, listed));
	assert_false(reaches(w, group));
	assert_int_equal(set_tables(w, g, 0, VIO_NET_MACS + 1), VIRTIO_NET_OK);
	assert_true(reaches(w, listed));
	assert_true(reaches(w, group));
	assert_false(reaches(w, uni));
	RX(ALLMULTI, off); /* the table is still the one that must be let through */
	assert_true(reaches(w, listed));
	assert_int_equal(set_tables(w, g, 1, 1),
			 VIRTIO_NET_OK); /* one that fits: exactly that again */
	assert_false(reaches(w, listed));
	assert_false(reaches(w, group));
	RX(ALLMULTI, on);
	assert_int_equal(set_tables(w, g, 0, 1),
			 VIRTIO_NET_OK); /* what was asked for is not taken back */
	assert_true(reaches(w, group));
	RX(ALLMULTI, off);
	assert_false(reaches(w, group));
	/* Unicast likewise; groups are not concerned. */
	assert_int_equal(set_tables(w, g, VIO_NET_MACS + 1, 0), VIRTIO_NET_OK);
	assert_true(reaches(w, uni));
	assert_true(reaches(w, other));
	assert_false(reaches(w, group));
	assert_int_equal(set_tables(w, g, VIO_NET_MACS, 0), VIRTIO_NET_OK);
	assert_true(reaches(w, uni));
	assert_false(reaches(w, other));
	/* Promiscuous is what the guest says, not what its tables are: Linux says it first. */
	RX(PROMISC, on);
	assert_int_equal(set_tables(w, g, 0, 0), VIRTIO_NET_OK);
	assert_true(reaches(w, other));
	assert_true(reaches(w, group));
	/* RESET forgets. */
	RX(PROMISC, off);
	assert_int_equal(set_tables(w, g, 0, VIO_NET_MACS + 1), VIRTIO_NET_OK);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL);
	nw_post(g, 0, 20, 2048);
	RX(PROMISC, off);
	assert_false(reaches(w, listed));
#undef RX
}

static void control_commands_that_make_no_sense_get_an_error(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];
	uint8_t data[1200] = {0};
	const uint8_t two = 2, group[6] = {1, 2, 3, 4, 5, 6}, pairs[2] = {2, 0},
		      liar[8] = {255, 255, 255, 255};

	nw_up(w, g, NW_ZERO_COPY, NW_ALL);
	assert_int_equal(control(w, g, 2, 99, 0, data, 4), VIRTIO_NET_ERR);
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &two, 1),
			 VIRTIO_NET_ERR);
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_RX, 77, data, 1), VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, group, 6),
		VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, data, 5),
		VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, liar, 8),
		VIRTIO_NET_ERR);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, pairs, 2),
		VIRTIO_NET_ERR);
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data,
				 sizeof(data)),
			 VIRTIO_NET_ERR);
	assert_int_equal(g->needs_resets, 0);
}

static int two_pairs(void **state)
{
	static const char *const spec[NW_GUESTS] = {"queues=2", "queues=2", ""};

	return nw_setup_with(state, spec);
}

static void second_pair_is_used_once_it_is_switched_on(void **state)
{
	struct nw *w = *state;
	const uint8_t two[2] = {2, 0}, three[2] = {3, 0};
	struct virtio_net_hdr_v1 h;

	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL | NW_F(MQ));
	nw_post(&w->g[1], 1, 10, 2048);
	nw_frame(out, 200, 1, 0, 1);
	nw_send_cut(&w->g[0], 1, NULL, out, 200, 0);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[1], 1, in, &h), -1);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 200);
	assert_int_equal(control(w, &w->g[1], 4, VIRTIO_NET_CTRL_MQ,
				 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, three, 2),
			 VIRTIO_NET_ERR);
	assert_int_equal(control(w, &w->g[1], 4, VIRTIO_NET_CTRL_MQ,
				 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, two, 2),
			 VIRTIO_NET_OK);
	for (unsigned pair = 0; pair < 2; pair++) { /* where it sends is where it gets */
		nw_frame(in, 100, 0, 1, 1);
		nw_send_cut(&w->g[1], pair, NULL, in, 100, 0);
		nw_run(w);
		for (unsigned from = 0; from < 2; from++) {
			nw_send_cut(&w->g[0], from, NULL, out, 200, 0);
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], pair, in, &h), 200);
			assert_memory_equal(in, out, 200);
			assert_int_equal(nw_recv(&w->g[1], !pair, in, &h), -1);
		}
	}
}

/* Flow i of guest `from` to guest `to`, IPv4 or IPv6, TCP or UDP, in out[]; its length. */
static uint32_t flow(unsigned i, unsigned to, unsigned from)
{
	const uint8_t proto = i & 1 ? 6 : 17;
	uint8_t *l4;

	nw_frame(out, 200, to, from, i);
	memset(out + 14, 0, 60);
	if (i & 2) {
		vio_put_be16(out + 12, 0x86dd);
		out[14] = 0x60;
		vio_put_be16(out + 18, 200 - 54);
		out[20] = proto;
		out[37] = (uint8_t)(from + 1);
		out[53] = (uint8_t)(to + 1);
		l4 = out + 54;
	} else {
		vio_put_be16(out + 12, 0x0800);
		out[14] = 0x45;
		vio_put_be16(out + 16, 200 - 14);
		out[23] = proto;
		out[29] = (uint8_t)(from + 1);
		out[33] = (uint8_t)(to + 1);
		l4 = out + 34;
	}
	vio_put_be16(l4 + (from ? 2 : 0), (uint16_t)(40000 + i)); /* guest 0's port */
	vio_put_be16(l4 + (from ? 0 : 2), 5201);
	return 200;
}

static void flows_of_one_queue_are_spread_and_follow_the_receiver(void **state)
{
	enum { FLOWS = 64 };
	struct virtio_net_hdr_v1 h;
	const uint8_t two[2] = {2, 0};
	unsigned first = 0;

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		static const char *const spec[NW_GUESTS] = {"", "queues=2", ""};
		struct nw *w;
		void *s;

		nw_setup_with(&s, spec);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, &w->g[1], &nw_arms[a], NW_ALL | NW_F(MQ));
		assert_int_equal(control(w, &w->g[1], 4, VIRTIO_NET_CTRL_MQ,
					 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, two, 2),
				 VIRTIO_NET_OK);
		nw_post(&w->g[0], 0, 2 * FLOWS, 2048);
		for (unsigned p = 0; p < 2; p++)
			nw_post(&w->g[1], p, 2 * FLOWS, 2048);
		for (unsigned i = 0; i < FLOWS; i++) {
			nw_send(&w->g[0], out, flow(i, 1, 0));
			nw_run(w);
		}
		for (first = 0; nw_recv(&w->g[1], 0, in, &h) >= 0;)
			first++;
		assert_in_range(first, FLOWS / 4, 3 * FLOWS / 4);
		for (unsigned i = 0; i < FLOWS - first; i++)
			assert_int_equal(nw_recv(&w->g[1], 1, in, &h), 200);
		/* It answers each on a queue of its choice, and has the flow there from then on. */
		for (unsigned i = 0; i < FLOWS; i++) {
			nw_send_cut(&w->g[1], i / 4 % 2, NULL, out, flow(i, 0, 1), 0);
			nw_run(w);
		}
		for (unsigned i = 0; i < FLOWS; i++) {
			nw_send(&w->g[0], out, flow(i, 1, 0));
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], i / 4 % 2, in, &h), 200);
			assert_memory_equal(in, out, 200);
		}
		nw_teardown(&s);
	}
}

static void guest_that_agreed_is_asked_to_announce_itself_until_it_has(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];

	assert_false(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){true, 0},
					 true)); /* it is not there yet */
	nw_up(w, g, NW_ZERO_COPY, NW_ALL | NW_F(GUEST_ANNOUNCE));
	nw_up(w, &w->g[1], NW_ZERO_COPY, NW_ALL);
	assert_false(vio_kind_net.follow(vio_net_device(w->g[1].net),
					 (struct vio_dev_uplinks){true, 0},
					 true)); /* it would not understand */
	assert_true(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){true, 0},
					true));
	vio_adapter_config_changed(g->a);
	nw_run(w);
	assert_int_equal(vio_le16(nw_config(g)->status),
			 VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(
		control(w, g, 2, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, "", 0),
		VIRTIO_NET_OK);
	nw_run(w);
	assert_int_equal(vio_le16(nw_config(g)->status), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(control(w, g, 2, VIRTIO_NET_CTRL_ANNOUNCE, 1, "", 0), VIRTIO_NET_ERR);
	/* A session that ended before it had is not carried over. */
	assert_true(vio_kind_net.follow(vio_net_device(g->net), (struct vio_dev_uplinks){true, 0},
					true));
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL | NW_F(GUEST_ANNOUNCE));
	assert_int_equal(vio_le16(nw_config(g)->status), VIRTIO_NET_S_LINK_UP);
}

/* ------------------------------------------------------------------------------------- holds ---- */

/* A port that keeps what it gets until it is told to let go. */
struct keeper {
	struct vio_port port;
	struct vio_hold *held[64];
	unsigned n;
	const uint8_t *body;
	size_t body_len;
};

static void keep(struct vio_port *p, struct vio_frame *const f[], unsigned n)
{
	struct keeper *k = vio_container_of(p, struct keeper, port);

	for (unsigned i = 0; i < n; i++) {
		assert_non_null(f[i]->hold);
		vio_hold_get(f[i]->hold);
		k->held[k->n++] = f[i]->hold;
		k->body = f[i]->body[0].iov_base;
		k->body_len = f[i]->body[0].iov_len;
	}
}

static const struct vio_port_ops keeper_ops = {.kind = "keeper", .deliver = keep};

static void held_frame_is_returned_when_it_is_let_go_of(void **state)
{
	struct nw *w = *state;
	static struct keeper k; /* the switch has it until the tear-down */
	struct vio_err err;
	struct nw_guest *g = &w->g[0];
	uint32_t id, len;

	k = (struct keeper){.port = {.ops = &keeper_ops, .name = "keeper"}};
	vio_port_defaults(&k.port);
	assert_int_equal(vio_switch_add(w->sw, &k.port, &err), 0);
	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	for (unsigned i = 0; i < 3; i++) {
		nw_frame(out, 500, 77, 0, i);
		nw_send(g, out, 500); /* flooded: the keeper's copy and the other guest's */
	}
	nw_run(w);
	assert_int_equal(k.n, 3);
	assert_false(nw_used(g, 1, &id, &len));
	assert_int_equal(g->polled[1]->in_flight, 3);
	/* In place: what the keeper has is the guest's own memory. */
	assert_memory_equal(k.body, out + 18, k.body_len);
	g->mem[NW_TX + 2 * NW_TX_ROOM + 12 + 18] ^= 0xff;
	assert_int_equal(k.body[0], out[18] ^ 0xff);
	vio_hold_put(k.held[1]);
	nw_run(w);
	assert_true(nw_used(g, 1, &id, &len));
	assert_int_equal(id, 2);
	/* A window that a port still reads from is not given back before it has let go. */
	assert_int_equal(
		nw_step(w, g, (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = g->window[1]}),
		0xff);
	vio_hold_put(k.held[0]);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_DRIVER_OK | VIO_OP_REPLY); /* no answer yet */
	vio_hold_put(k.held[2]);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_WINDOW_DEL | VIO_OP_REPLY);
	assert_int_equal(g->last.status, VIO_ST_OK);
}

static void held_frames_survive_the_guest(void **state)
{
	struct nw *w = *state;
	static struct keeper k; /* the switch has it until the tear-down */
	struct vio_err err;
	struct nw_guest *g = &w->g[0];

	k = (struct keeper){.port = {.ops = &keeper_ops, .name = "keeper"}};
	vio_port_defaults(&k.port);
	assert_int_equal(vio_switch_add(w->sw, &k.port, &err), 0);
	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	nw_frame(out, 500, 77, 0, 0);
	nw_send(g, out, 500);
	nw_run(w);
	assert_int_equal(k.n, 1);
	/* Reset is not answered, nothing is unmapped, while the port has the frame. */
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), 0xff);
	assert_memory_equal(k.body, out + 18, k.body_len);
	vio_hold_put(k.held[0]);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_RESET | VIO_OP_REPLY);
	assert_int_equal(g->last.status, VIO_ST_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_arm_moves_frames_to_every_arm),
		cmocka_unit_test(frames_of_one_descriptor_go_the_short_way_in_every_arm),
		cmocka_unit_test_setup_teardown(device_header_and_config_are_those_of_the_agreement,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(version_1_is_refused_and_told, nw_setup,
						nw_teardown),
		cmocka_unit_test_setup_teardown(features_that_need_others_are_refused_alone,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(queues_that_are_not_there_are_refused, nw_setup,
						nw_teardown),
		cmocka_unit_test_setup_teardown(zero_copy_is_one_copy_and_no_call_a_frame, nw_setup,
						nw_teardown),
		cmocka_unit_test_setup_teardown(copy_arm_is_one_rdma_in_and_one_out_a_frame,
						nw_setup, nw_teardown),
		cmocka_unit_test(large_frame_is_merged_with_its_offload_fields),
		cmocka_unit_test_setup_teardown(
			one_long_frame_or_a_dry_ring_does_not_keep_the_next_frames_from_the_short_way,
			nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(
			without_merging_a_large_frame_is_dropped_and_the_buffer_stays, nw_setup,
			nw_teardown),
		cmocka_unit_test(guest_without_tso_gets_segments_with_right_checksums),
		cmocka_unit_test_setup_teardown(guest_without_csum_gets_it_finished, nw_setup,
						nw_teardown),
		cmocka_unit_test(offload_follows_the_frame_through_a_change_of_tags),
		cmocka_unit_test_setup_teardown(segments_too_long_for_the_exit_are_dropped_there,
						jumbo, nw_teardown),
		cmocka_unit_test(
			an_address_that_the_guest_sets_is_in_its_config_space_until_a_reset),
		cmocka_unit_test(filters_let_through_what_was_asked_for),
		cmocka_unit_test_setup_teardown(locked_guest_sends_from_its_own_address_only,
						locked, nw_teardown),
		cmocka_unit_test_setup_teardown(
			table_that_is_too_long_lets_its_kind_through_until_the_next, nw_setup,
			nw_teardown),
		cmocka_unit_test_setup_teardown(control_commands_that_make_no_sense_get_an_error,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(second_pair_is_used_once_it_is_switched_on,
						two_pairs, nw_teardown),
		cmocka_unit_test_setup_teardown(
			guest_that_agreed_is_asked_to_announce_itself_until_it_has, nw_setup,
			nw_teardown),
		cmocka_unit_test(flows_of_one_queue_are_spread_and_follow_the_receiver),
		cmocka_unit_test_setup_teardown(held_frame_is_returned_when_it_is_let_go_of,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(held_frames_survive_the_guest, nw_setup,
						nw_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
