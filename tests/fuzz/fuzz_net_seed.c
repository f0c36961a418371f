/* SPDX-License-Identifier: BSD-3-Clause */
/* Inputs of fuzz_net to begin with: frames with offloads, tags and commands that make sense, or nearly. */
#include <string.h>

#include <linux/virtio_net.h>

#include "server/dev/net/frame.h"
#include "server/dev/net/offload.h"
#include "tests/fuzz/fuzz_net.h"

/*
 * A TCP frame's header bytes, with offload; the fuzzer changes them. `gso`: segment; `vid`: 0 is
 * without a tag.
 */
static size_t seed_tcp(uint8_t *p, bool v6, uint16_t len, uint8_t cuts, uint16_t gso, uint16_t vid)
{
	uint32_t l3 = vid ? 18 : 14, l4 = l3 + (v6 ? 40 : 20), frame = len - 12u;
	struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				      .gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6
						     : VIRTIO_NET_HDR_GSO_TCPV4,
				      .gso_size = vio_le16(gso),
				      .csum_start = vio_le16((uint16_t)l4),
				      .csum_offset = vio_le16(16)};
	uint8_t *f = p + 4 + sizeof(h);
	uint8_t given = (uint8_t)(sizeof(h) + l4 + 20);

	memset(p, 0, 4u + given);
	p[0] = given;
	p[1] = cuts;
	p[2] = (uint8_t)len;
	p[3] = (uint8_t)(len >> 8);
	memcpy(p + 4, &h, sizeof(h));
	f[0] = f[6] = 2;
	if (vid) {
		vio_put_be16(f + 12, VIO_ETHERTYPE_VLAN);
		vio_put_be16(f + 14, vid);
	}
	vio_put_be16(f + l3 - 2, v6 ? VIO_ETHERTYPE_IPV6 : VIO_ETHERTYPE_IPV4);
	f[l3] = v6 ? 0x60 : 0x45;
	vio_put_be16(f + l3 + (v6 ? 4 : 2), (uint16_t)(frame - (v6 ? l4 : l3)));
	f[l3 + (v6 ? 6 : 9)] = 6;
	f[l4 + 12] = 0x50;
	return 4u + given;
}

/* A plain frame to one of table_set()'s addresses, with up to two tags. */
static size_t seed_tagged(uint8_t *p, unsigned i)
{
	static const uint16_t tag[][2] = {{0, 0},           {0x8100, 0},      {0x8100, 0x8100},
					  {0x8100, 0x88a8}, {0x88a8, 0x8100}, {0x88a8, 0}};
	static const uint16_t vid[] = {5, 0, 1, 6, 0x2005, 4095};
	const unsigned given = 12 + 14 + 8;
	uint8_t *f = p + 4 + 12, *at = f + 12;

	memset(p, 0, 4u + given);
	p[0] = (uint8_t)given;
	p[1] = (uint8_t)(31 * i);
	p[2] = 200;
	f[0] = i / 2 % 2 ? 1 : 2;
	f[5] = (uint8_t)(1 + i % 80);
	f[6] = 2;
	for (unsigned k = 0; k < 2 && tag[i % 6][k]; k++, at += 4) {
		vio_put_be16(at, tag[i % 6][k]);
		vio_put_be16(at + 2, vid[(i / 6 + 3 * k) % 6]);
	}
	vio_put_be16(at, 0x88b5);
	return 4u + given;
}

/* What stands before a frame: nothing, another turn, or a command. */
static size_t seed_command(uint8_t *p, unsigned i)
{
	size_t n = 0;

	p[n++] = (uint8_t)(i % 4);
	if (!(p[0] & 2))
		return n;
	p[n++] = (uint8_t)(i / 4 % 3);
	if (i / 4 % 3 == 0) { /* tables: short, full, over-full */
		p[n++] = (uint8_t)(3 + 31 * (i % 3));
		p[n++] = (uint8_t)(2 + 32 * (i / 2 % 3));
	} else if (i / 4 % 3 == 2) { /* an address */
		memcpy(p + n,
		       (uint8_t[10]){7, 7, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2},
		       10);
		n += 10;
	} else { /* promiscuous, or all groups */
		p[n++] = VIRTIO_NET_CTRL_RX;
		p[n++] = (uint8_t)(i / 8 % 2);
		p[n++] = (uint8_t)(i / 16 % 2);
	}
	return n;
}

size_t vio_fuzz_seed(unsigned i, uint8_t *buf, size_t max)
{
	static const uint16_t len[] = {200, 1000, 4096, 20000, 60000},
			      gso[] = {536, 48, 1448, 47, 8000, 100};
	size_t n = 0;

	if (i >= 64)
		return 0;
	FUZZ_CHECK(max >= 3 + FUZZ_NET_BUFFERS + FUZZ_NET_FRAMES * 125);
	buf[n++] = 0;
	buf[n++] = (uint8_t)(i % 8);
	buf[n++] = (uint8_t)(i / 4);
	for (unsigned k = 0; k < FUZZ_NET_BUFFERS; k++)
		buf[n++] = i % 3 ? 210 : 100;
	for (unsigned k = 0; k < FUZZ_NET_FRAMES; k++) {
		unsigned j = i * FUZZ_NET_FRAMES + k;

		if (i % 8 == 7) { /* much work in one turn */
			buf[n++] = 0;
			n += seed_tcp(buf + n, k % 2, 60000, 0, VIO_GSO_MIN, i / 4 % 2 ? 5 : 0);
			continue;
		}
		n += seed_command(buf + n, j / 3);
		n += (i + k) % 3 == 0
			     ? seed_tagged(buf + n, j)
			     : seed_tcp(buf + n, j % 2, len[j % VIO_ARRAY_SIZE(len)],
					(uint8_t)(17 * k), gso[j / 7 % VIO_ARRAY_SIZE(gso)],
					i / 4 % 2 ? 5 : 0);
	}
	return n;
}
