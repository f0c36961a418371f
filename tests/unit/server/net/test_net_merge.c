/* SPDX-License-Identifier: BSD-3-Clause */
/* Large frames between guests: merged into buffers, cut and summed for guests that don't do it, through changes of tags. */
#include "tests/unit/server/net/net_talk.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
