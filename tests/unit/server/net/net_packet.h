/* SPDX-License-Identifier: BSD-3-Clause */
/* Packets to be cut, summed and hashed, and commands on the control queue; for tests with net_world.h. Includes come before. */
#ifndef VIO_TEST_SERVER_NET_PACKET_H
#define VIO_TEST_SERVER_NET_PACKET_H

#include "net_world.h"

#define ROOM   70000
#define USO    (NW_F(GUEST_USO4) | NW_F(GUEST_USO6) | NW_F(HOST_USO))
#define ECN    (NW_F(GUEST_ECN) | NW_F(HOST_ECN))
#define MERGED (NW_PLAIN | NW_F(MRG_RXBUF))

static uint8_t out[ROOM], in[ROOM];

/* 0xff: no answer. Of a guest with one pair the control queue is 2, else 4. */
static inline uint8_t control(struct nw *w, struct nw_guest *g, uint8_t class, uint8_t cmd,
			      const void *data, uint32_t len)
{
	uint16_t q = g->features & NW_F(MQ) ? 4 : 2;
	uint32_t id, used;

	g->mem[NW_CTRL] = class;
	g->mem[NW_CTRL + 1] = cmd;
	memcpy(g->mem + NW_CTRL + 2, data, len);
	g->mem[NW_CTRL + 0x2000] = 0xff;
	nw_desc(g, q, 0, NW_CTRL, len + 2, VRING_DESC_F_NEXT, 1);
	nw_desc(g, q, 1, NW_CTRL + 0x2000, 1, VRING_DESC_F_WRITE, 0);
	nw_publish(g, q, 0);
	nw_run(w);
	if (!nw_used(g, q, &id, &used))
		return 0xff;
	return g->mem[NW_CTRL + 0x2000];
}

static inline uint32_t sum_of(const uint8_t *p, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i += 2)
		sum += (uint32_t)p[i] << 8 | (i + 1 < len ? p[i + 1] : 0u);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* ------------------------------------------------------------------------------ segmentation ---- */

struct shape {
	const char *name;
	uint8_t proto; /* 6, 17 */
	bool v6;
	uint32_t ext; /* bytes of destination options */
};

static inline uint32_t l4_of(const struct shape *s)
{
	return 14u + (s->v6 ? 40u : 20u) + s->ext;
}
static inline uint32_t end_of(const struct shape *s)
{
	return l4_of(s) + (s->proto == 6 ? 20u : 8u);
}
static inline uint32_t csum_at(const struct shape *s)
{
	return l4_of(s) + (s->proto == 6 ? 16u : 6u);
}

static inline uint32_t pseudo_of(const uint8_t *f, const struct shape *s, uint32_t len)
{
	return sum_of(f + (s->v6 ? 22 : 26), s->v6 ? 32 : 8, s->proto + (len - l4_of(s)));
}

/* `data` bytes behind headers of this shape in out[]; the frame's length. */
static inline uint32_t packet(const struct shape *s, uint32_t data)
{
	uint32_t l4 = l4_of(s), len = end_of(s) + data;
	uint8_t *ip = out + 14;

	nw_frame(out, len, 1, 0, 3);
	memset(ip, 0, end_of(s) - 14);
	vio_put_be16(out + 12, s->v6 ? 0x86dd : 0x0800);
	if (s->v6) {
		ip[0] = 0x60;
		vio_put_be16(ip + 4, (uint16_t)(len - 54));
		ip[6] = s->ext ? 60 : s->proto;
		ip[23] = 1;
		ip[39] = 2;
		if (s->ext) {
			ip[40] = s->proto;
			ip[41] = (uint8_t)(s->ext / 8 - 1);
			ip[42] = 1;
			ip[43] = (uint8_t)(s->ext - 4);
		}
	} else {
		ip[0] = 0x45;
		vio_put_be16(ip + 2, (uint16_t)(len - 14));
		ip[9] = s->proto;
		ip[15] = 1;
		ip[19] = 2;
		vio_put_be16(ip + 10, (uint16_t)~sum_of(ip, 20, 0));
	}
	vio_put_be16(out + l4, 5001);
	vio_put_be16(out + l4 + 2, 80);
	if (s->proto == 17)
		vio_put_be16(out + l4 + 4, (uint16_t)(len - l4));
	else
		out[l4 + 12] = 0x50;
	vio_put_be16(out + csum_at(s), (uint16_t)pseudo_of(out, s, len));
	return len;
}

static inline struct virtio_net_hdr_v1 wants(const struct shape *s, uint16_t size)
{
	return (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					  .gso_type = (uint8_t)(s->proto == 17
									? VIRTIO_NET_HDR_GSO_UDP_L4
								: s->v6 ? VIRTIO_NET_HDR_GSO_TCPV6
									: VIRTIO_NET_HDR_GSO_TCPV4),
					  .gso_size = size,
					  .csum_start = (uint16_t)l4_of(s),
					  .csum_offset = (uint16_t)(csum_at(s) - l4_of(s))};
}

static inline void assert_right(const uint8_t *f, const struct shape *s, uint32_t len)
{
	uint32_t l4 = l4_of(s);

	if (s->v6)
		assert_int_equal(vio_get_be16(f + 18), len - 54);
	else
		assert_int_equal(vio_get_be16(f + 16), len - 14);
	if (!s->v6)
		assert_int_equal(sum_of(f + 14, 20, 0), 0xffff);
	if (s->proto == 17)
		assert_int_equal(vio_get_be16(f + l4 + 4), len - l4);
	assert_int_equal(sum_of(f + l4, len - l4, pseudo_of(f, s, len)), 0xffff);
}

/* What guest g got, cut: every piece right, and together what was sent. Pieces. */
static inline unsigned assert_cut(struct nw_guest *g, const struct shape *s, uint32_t size,
				  uint32_t data)
{
	struct virtio_net_hdr_v1 h;
	uint32_t got = 0, hdr = end_of(s);
	unsigned pieces = 0;
	int n;

	while ((n = nw_recv(g, 0, in, &h)) >= 0) {
		assert_in_range(n, hdr + 1, hdr + size);
		assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
		assert_right(in, s, (uint32_t)n);
		assert_memory_equal(in + hdr, out + hdr + got, (uint32_t)n - hdr);
		got += (uint32_t)n - hdr;
		pieces++;
	}
	assert_int_equal(got, data);
	return pieces;
}

#endif
