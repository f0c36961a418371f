/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What CSUM and HOST_TSO promise: a checksum is finished wherever csum_start and csum_offset say it
 * is, TCP is cut behind whatever headers Linux hands over; and no field is judged that has no
 * meaning in a frame that is sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

#define ROOM 70000

static uint8_t out[ROOM], in[ROOM];

/* ------------------------------------------------------------------------ frames and sums ---- */

/* The ones' complement sum of big-endian words. */
static uint32_t sum_of(const uint8_t *p, uint32_t len)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < len; i += 2)
		sum += (uint32_t)p[i] << 8 | (i + 1 < len ? p[i + 1] : 0u);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* What stands before TCP. */
struct shape {
	const char *name;
	unsigned tags; /* 802.1Q in 802.1Q */
	bool v6;
	uint32_t
		extra; /* bytes of IPv4 options (a multiple of 4) or IPv6 destination options (of 8) */
	bool hop, routed; /* a hop-by-hop and a routing header more, 8 and 24 bytes */
};

static const struct shape shapes[] = {
	{"IPv4", 0, false, 0, false, false},
	{"IPv4 with options", 0, false, 40, false, false},
	{"IPv6", 0, true, 0, false, false},
	{"IPv6, destination options", 0, true, 8, false, false},
	{"IPv6, 128 bytes of them", 0, true, 128, false, false},
	{"IPv6, beyond the usual head", 0, true, 256, false, false},
	{"IPv6, as long as an MTU allows", 0, true, 1024, true, false},
	{"IPv6, hop by hop", 0, true, 16, true, false},
	{"IPv6, routed", 0, true, 8, true, true},
	{"a tag", 1, true, 128, true, false},
	{"two tags", 2, false, 0, false, false},
	{"two tags and IPv6", 2, true, 256, true, true},
};

static uint32_t l3_of(const struct shape *s)
{
	return 14 + 4 * s->tags;
}
static uint32_t l4_of(const struct shape *s)
{
	return l3_of(s) + (s->v6 ? 40u : 20u) + s->extra + (s->hop ? 8u : 0u) +
	       (s->routed ? 24u : 0u);
}

/* The pseudo header's sum: with a routing header its last address counts, not the header's. */
static uint32_t pseudo_of(const uint8_t *f, const struct shape *s, uint32_t len)
{
	uint32_t l3 = l3_of(s), sum = 6 + (len - l4_of(s));

	if (!s->v6)
		return fold(sum + sum_of(f + l3 + 12, 8));
	sum += sum_of(f + l3 + 8, 16);
	return fold(sum + sum_of(s->routed ? f + l4_of(s) - 16 : f + l3 + 24, 16));
}

/* Header i of IPv6's chain: of this kind, `len` bytes, before one of kind `next`. */
static void put_ext(uint8_t *at, uint8_t next, uint32_t len)
{
	memset(at, 0, len);
	at[0] = next;
	at[1] = (uint8_t)(len / 8 - 1);
	at[2] = 1; /* PadN over all of it */
	at[3] = (uint8_t)(len - 4 < 255 ? len - 4 : 255);
}

static void put_ipv6(uint8_t *ip, const struct shape *s, uint32_t len)
{
	uint8_t *at = ip + 40, *next = ip + 6;

	ip[0] = 0x60;
	vio_put_be16(ip + 4, (uint16_t)(len - l3_of(s) - 40));
	ip[7] = 64;
	ip[23] = 1;
	ip[39] = 2;
	*next = 6;
	if (s->hop) {
		*next = 0;
		put_ext(at, 6, 8);
		next = at;
		at += 8;
	}
	if (s->extra) {
		*next = 60;
		put_ext(at, 6, s->extra);
		next = at;
		at += s->extra;
	}
	if (s->routed) {
		*next = 43;
		put_ext(at, 6, 24);
		at[2] = 2; /* type, segments left, and the address that it goes to in the end */
		at[3] = 1;
		at[23] = 9;
	}
}

static void put_ipv4(uint8_t *ip, const struct shape *s, uint32_t len)
{
	uint32_t n = 20 + s->extra;

	ip[0] = (uint8_t)(0x40 | n / 4);
	vio_put_be16(ip + 2, (uint16_t)(len - l3_of(s)));
	ip[8] = 64;
	ip[9] = 6;
	ip[15] = 1;
	ip[19] = 2;
	memset(ip + 20, 1, s->extra); /* no operation */
	vio_put_be16(ip + 10, (uint16_t)~sum_of(ip, n));
}

/* `data` bytes of TCP in this shape, in out[], the pseudo header's sum in place; its length. */
static uint32_t tcp(const struct shape *s, uint32_t data)
{
	uint32_t l3 = l3_of(s), l4 = l4_of(s), len = l4 + 20 + data;

	nw_frame(out, len, 1, 0, 3);
	for (unsigned i = 0; i < s->tags; i++) {
		vio_put_be16(out + 12 + 4 * i, 0x8100);
		vio_put_be16(out + 14 + 4 * i, (uint16_t)(10 + i));
	}
	vio_put_be16(out + l3 - 2, s->v6 ? 0x86dd : 0x0800);
	memset(out + l3, 0, l4 + 20 - l3);
	if (s->v6)
		put_ipv6(out + l3, s, len);
	else
		put_ipv4(out + l3, s, len);
	vio_put_be16(out + l4, 5001);
	vio_put_be16(out + l4 + 2, 80);
	out[l4 + 12] = 0x50;
	out[l4 + 13] = 0x10;
	vio_put_be16(out + l4 + 16, (uint16_t)pseudo_of(out, s, len));
	return len;
}

static struct virtio_net_hdr_v1 wants(const struct shape *s, uint16_t size)
{
	return (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					  .gso_type = (uint8_t)(size == 0 ? VIRTIO_NET_HDR_GSO_NONE
								: s->v6   ? VIRTIO_NET_HDR_GSO_TCPV6
									: VIRTIO_NET_HDR_GSO_TCPV4),
					  .gso_size = size,
					  .csum_start = (uint16_t)l4_of(s),
					  .csum_offset = 16};
}

/* A whole frame of this shape: lengths and sums are right. */
static void assert_right(const uint8_t *f, const struct shape *s, uint32_t len)
{
	uint32_t l3 = l3_of(s), l4 = l4_of(s);

	if (s->v6)
		assert_int_equal(vio_get_be16(f + l3 + 4), len - l3 - 40);
	else
		assert_int_equal(vio_get_be16(f + l3 + 2), len - l3);
	if (!s->v6)
		assert_int_equal(sum_of(f + l3, l4 - l3), 0xffff);
	assert_int_equal(fold(pseudo_of(f, s, len) + sum_of(f + l4, len - l4)), 0xffff);
}

/* ---------------------------------------------------------------------------------- tests ---- */

static int trunks(void **state)
{
	static const char *const spec[NW_GUESTS] = {"trunk=10,vlan=1", "trunk=10,vlan=1",
						    "trunk=10,vlan=1"};

	return nw_setup_with(state, spec);
}

/* To guest 1, which takes it as it is, and guest 2, for which it is finished. */
static void every_header_before_tcp_is_cut_and_summed(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(shapes); i++) {
			const struct shape *s = &shapes[i];
			const uint16_t mss =
				(uint16_t)(1514u + (s->tags > 0 ? 4u : 0u) - l4_of(s) - 20u);
			struct virtio_net_hdr_v1 h = wants(s, mss);
			uint32_t len, got = 0, hdr = l4_of(s) + 20;
			struct nw *w;
			void *state_of;
			int n;

			trunks(&state_of);
			w = state_of;
			nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
			nw_up(w, &w->g[1], &nw_arms[a], NW_ALL);
			nw_up(w, &w->g[2], &nw_arms[a], NW_PLAIN | NW_F(MRG_RXBUF));
			nw_post(&w->g[1], 0, 100, 2048);
			nw_post(&w->g[2], 0, 100, 2048);
			len = tcp(s, 12000);
			nw_send_cut(&w->g[0], 0, &h, out, len, 12 + 7 * i);
			nw_run(w);
			assert_int_equal(nw_drops(&w->g[0], VIO_DROP_OFFLOAD), 0);
			assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
			assert_memory_equal(in, out, len);
			assert_int_equal(h.csum_start, l4_of(s));
			assert_int_equal(h.hdr_len, hdr);
			while ((n = nw_recv(&w->g[2], 0, in, &h)) >= 0) {
				assert_in_range(n, hdr + 1, hdr + mss);
				assert_right(in, s, (uint32_t)n);
				assert_memory_equal(in + hdr, out + hdr + got, (uint32_t)n - hdr);
				got += (uint32_t)n - hdr;
			}
			assert_int_equal(got, 12000);
			/* And not to be cut. */
			h = wants(s, 0);
			len = tcp(s, 101);
			nw_send_cut(&w->g[0], 0, &h, out, len, 0);
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[2], 0, in, &h), len);
			assert_int_equal(h.flags, 0);
			assert_right(in, s, len);
			nw_teardown(&state_of);
		}
	}
}

/* Of no protocol that anybody knows, up to the last two bytes of a jumbo frame. */
static void checksum_is_finished_wherever_it_is(void **state)
{
	static const char *const spec[NW_GUESTS] = {"mtu=9000", "mtu=9000", "mtu=9000"};
	static const struct {
		uint16_t start, offset;
		uint32_t len;
	} t[] = {{14, 0, 60},      {15, 3, 61},     {34, 16, 1000},  {191, 0, 1514},
		 {190, 16, 1514},  {1200, 6, 1514}, {1512, 0, 1514}, {14, 1498, 1514},
		 {14, 8998, 9014}, {9012, 0, 9014}};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct nw *w;
		void *s;

		nw_setup_with(&s, spec);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, &w->g[1], &nw_arms[a], NW_PLAIN | NW_F(MRG_RXBUF));
		nw_post(&w->g[1], 0, 200, 2048);
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
			struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						      .csum_start = t[i].start,
						      .csum_offset = t[i].offset};
			uint32_t at = (uint32_t)t[i].start + t[i].offset, begun;

			nw_frame(out, t[i].len, 1, 0, i);
			begun = vio_get_be16(out + at);
			nw_send_cut(&w->g[0], 0, &h, out, t[i].len, 12 + 20 * i);
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], 0, in, &h), t[i].len);
			assert_int_equal(h.flags, 0);
			assert_memory_equal(in, out, at);
			assert_memory_equal(in + at + 2, out + at + 2, t[i].len - at - 2);
			/* What was begun with and all that is covered, the finished sum among it. */
			if (t[i].offset % 2 == 0)
				assert_int_equal(fold(begun + sum_of(in + t[i].start,
								     t[i].len - t[i].start)),
						 0xffff);
		}
		nw_teardown(&s);
	}
}

/* Once in 65,536 frames: analysers report a TCP sum of 0xffff as a fault, and a UDP sum of 0 says that there is none. */
static void a_sum_of_nothing_is_0_for_tcp_and_0xffff_for_udp(void **state)
{
	static const struct {
		uint16_t offset, sum;
	} t[] = {{16, 0}, {6, 0xffff}};
	const uint32_t start = 34, len = 1000;
	struct nw *w;
	void *s;

	(void)state;
	nw_setup(&s);
	w = s;
	nw_up(w, &w->g[0], &nw_arms[0], NW_ALL);
	nw_up(w, &w->g[1], &nw_arms[0], NW_PLAIN | NW_F(MRG_RXBUF));
	nw_post(&w->g[1], 0, 20, 2048);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
		struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					      .csum_start = (uint16_t)start,
					      .csum_offset = t[i].offset};
		uint8_t *at = out + start + t[i].offset;
		uint16_t rest;

		nw_frame(out, len, 1, 0, i);
		memset(at, 0, 2);
		rest = (uint16_t)~sum_of(out + start, len - start);
		at[0] = (uint8_t)(rest >> 8);
		at[1] = (uint8_t)rest;
		nw_send_cut(&w->g[0], 0, &h, out, len, 200);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
		assert_int_equal(vio_get_be16(in + start + t[i].offset), t[i].sum);
	}
	nw_teardown(&s);
}

static void fields_without_a_meaning_are_not_looked_at(void **state)
{
	static const struct virtio_net_hdr_v1 t[] = {
		{.num_buffers = 1},
		{.num_buffers = 0xffff},
		{.hdr_len = 0xffff, .gso_size = 0xffff},
		{.csum_start = 0xffff, .csum_offset = 0xffff},
		{.flags = (uint8_t)~VIRTIO_NET_HDR_F_NEEDS_CSUM, .num_buffers = 3},
	};
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		const struct shape *sh = &shapes[0];
		struct virtio_net_hdr_v1 h;
		uint32_t len = tcp(sh, 3000);
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, &w->g[1], &nw_arms[a], NW_ALL);
		nw_post(&w->g[1], 0, 100, 2048);
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(t); i++) {
			nw_send_cut(&w->g[0], 0, &t[i], out, 100, i % 2 ? 20 : 0);
			nw_run(w);
			assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 100);
			assert_memory_equal(in, out, 100);
			assert_int_equal(h.flags, 0);
			assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
			assert_int_equal(h.num_buffers, 1);
		}
		/* hdr_len is a hint: what is true of the headers goes on to the receiver. */
		h = wants(sh, 1400);
		h.hdr_len = 7;
		h.num_buffers = 9;
		nw_send_cut(&w->g[0], 0, &h, out, len, 0);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
		assert_int_equal(h.hdr_len, 54);
		assert_int_equal(h.num_buffers, 2);
		nw_teardown(&s);
	}
}

/* Headers that lie about their own length end at the head's end at the latest. */
static void extension_headers_that_lie_are_dropped(void **state)
{
	const struct shape *s = &shapes[4];
	struct nw *w = *state;
	unsigned drops = 0;

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, &w->g[1], NW_ZERO_COPY, NW_PLAIN);
	for (unsigned i = 0; i < 6; i++) {
		struct virtio_net_hdr_v1 h = wants(s, 1000);
		uint32_t len = tcp(s, 3000);

		if (i == 0)
			out[55] = 255; /* beyond TCP */
		else if (i == 1)
			out[55] = 3; /* into its own middle */
		else if (i == 2)
			out[54] = 44; /* a fragment */
		else if (i == 3)
			out[20] = 50; /* ESP */
		else if (i == 4)
			h.csum_start = (uint16_t)(h.csum_start - 8);
		else
			h.csum_start = 9100;
		nw_send_cut(&w->g[0], 0, &h, out, len, 0);
		nw_run(w);
		assert_int_equal(nw_drops(&w->g[0], VIO_DROP_OFFLOAD), ++drops);
	}
	assert_int_equal(w->g[0].needs_resets, 0);
}

/* Frames of nobody who says anything: a socket on an interface whose kernel leaves sums to a device. */
static void sums_that_were_left_undone_are_found_and_cut_frames_too(void **state)
{
	static struct vio_frame f;

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(shapes); i++) {
		const struct shape *s = &shapes[i];
		bool found = !s->v6 || l4_of(s) - l3_of(s) == 40;
		uint32_t len = tcp(s, 100), at = l4_of(s) + 16;

		for (unsigned how = 0; how < 4; how++) {
			enum vio_sum want = found ? VIO_SUM_UNFINISHED : VIO_SUM_OTHER;

			memset(&f, 0, sizeof(f));
			f.head = f.buf;
			f.len = len;
			if (how == 1 && found) { /* finished */
				vio_put_be16(out + at,
					     (uint16_t)~sum_of(out + l4_of(s), len - l4_of(s)));
				want = VIO_SUM_OTHER;
			} else if (how == 2) { /* padded: what is left undone never is */
				f.len = len + 2;
				want = VIO_SUM_OTHER;
			} else if (how == 3) {
				f.len = len - 1;
				want = VIO_SUM_TRUNCATED;
			}
			f.head_len = (uint16_t)(f.len < VIO_FRAME_HEAD ? f.len : VIO_FRAME_HEAD);
			memcpy(f.buf, out, f.head_len);
			assert_int_equal(vio_offload_look(&f), want);
			assert_int_equal(f.flags, want == VIO_SUM_UNFINISHED
							  ? VIRTIO_NET_HDR_F_NEEDS_CSUM
							  : 0);
			if (want == VIO_SUM_UNFINISHED) {
				assert_int_equal(f.csum_start, l4_of(s));
				assert_int_equal(f.csum_offset, 16);
			}
		}
	}
	/* Whatever stands there, and however little of it. */
	for (uint32_t n = 0; n < 100; n++) {
		memset(&f, 0xff, sizeof(f));
		f.head = f.buf;
		f.len = f.head_len = (uint16_t)n;
		vio_put_be16(f.buf + 12, n % 2 ? 0x0800 : 0x86dd);
		vio_offload_look(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_header_before_tcp_is_cut_and_summed),
		cmocka_unit_test(checksum_is_finished_wherever_it_is),
		cmocka_unit_test(a_sum_of_nothing_is_0_for_tcp_and_0xffff_for_udp),
		cmocka_unit_test(fields_without_a_meaning_are_not_looked_at),
		cmocka_unit_test(sums_that_were_left_undone_are_found_and_cut_frames_too),
		cmocka_unit_test_setup_teardown(extension_headers_that_lie_are_dropped, nw_setup,
						nw_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
