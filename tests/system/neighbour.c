/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that asks its server for much at once, until it is ended: a neighbour for bench/ab/neighbours.py.
 *
 *     neighbour SOCKET PARTITION ARM zeroes      4 MiB of a disk to be zeroed in each request, as many as there is room for
 *     neighbour SOCKET PARTITION ARM segments    datagrams for everybody, to be cut into 44 pieces each
 */
#include <stdio.h>
#include <string.h>

#include "guest/dev/blk/blk.h"
#include "guest/dev/net/net.h"
#include "vio/types.h"

#define DEPTH  32u
#define ZEROES (4u << 20)

/* Ethernet, IPv4, UDP. */
#define UDP_AT  34u
#define HEADERS 42u
#define PIECE   1448u
#define PIECES  44u
#define DATA    (PIECE * PIECES)

static int zeroes(struct phyp_part *part, struct vio_mem *mem, const struct vio_arm *arm,
		  struct vio_err *err)
{
	const struct vio_blk_cfg cfg = {
		.transport = {.arm = *arm, .strict_arm = true, .num_queues = 1},
		.depth = DEPTH,
		.buffers_len = 4096,
		.idle_ns = UINT64_MAX};
	struct vio_blk_req req[DEPTH], *r[DEPTH];
	struct vio_blk *b;
	int rc = vio_blk_open(part, mem, &cfg, &b, err), n = DEPTH;

	if (rc)
		return rc;
	for (unsigned i = 0; i < DEPTH; i++) {
		req[i] = (struct vio_blk_req){.type = VIRTIO_BLK_T_WRITE_ZEROES, .len = ZEROES};
		r[i] = &req[i];
	}
	puts("running");
	fflush(stdout);
	while (n >= 0) {
		for (unsigned at = 0; at < (unsigned)n;)
			at += vio_blk_submit(b, 0, r + at, (unsigned)n - at);
		n = vio_blk_poll(b, 0, r, DEPTH);
	}
	return vio_err_set(err, n, "the machine is gone");
}

static void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static void datagrams(struct vio_net_buf *f, const uint8_t mac[6])
{
	uint8_t *p = f->data;

	memset(p, 0xff, 6);
	memcpy(p + 6, mac, 6);
	memcpy(p + 12, (const uint8_t[]){8, 0, 0x45, 0}, 4);
	put16(p + 16, 28 + DATA);
	memset(p + 18, 0, 4);
	memcpy(p + 22, (const uint8_t[]){64, 17, 0, 0, 10, 0, 0, 1, 10, 255, 255, 255}, 12);
	put16(p + UDP_AT, 9);
	put16(p + UDP_AT + 2, 9);
	put16(p + UDP_AT + 4, 8 + DATA);
	put16(p + UDP_AT + 6, 0);
	f->len = HEADERS + DATA;
	*f->hdr = (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					     .gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
					     .hdr_len = vio_le16(HEADERS),
					     .gso_size = vio_le16(PIECE),
					     .csum_start = vio_le16(UDP_AT),
					     .csum_offset = vio_le16(6)};
}

static int segments(struct phyp_part *part, struct vio_mem *mem, const struct vio_arm *arm,
		    struct vio_err *err)
{
	const struct vio_net_cfg cfg = {.transport = {.arm = *arm, .strict_arm = true},
					.buffers = 160,
					.buf_len = 131072,
					.posted = 4,
					.offload = true,
					.idle_ns = UINT64_MAX};
	const struct vio_net_info *info;
	struct vio_net_buf *f[DEPTH];
	struct vio_net *n;
	int rc = vio_net_open(part, mem, &cfg, &n, err);

	if (rc)
		return rc;
	info = vio_net_get_info(n);
	if (!info->uso)
		return vio_err_set(err, -ENOTSUP, "the server cuts no datagrams");
	puts("running");
	fflush(stdout);
	while (rc >= 0) {
		unsigned k = vio_net_tx_alloc(n, 0, f, DEPTH), sent;

		for (unsigned i = 0; i < k; i++)
			datagrams(f[i], info->mac);
		sent = vio_net_tx_burst(n, 0, f, k);
		vio_net_free(n, 0, f + sent, k - sent);
		vio_net_tx_reclaim(n, 0);
		rc = vio_net_rx_burst(n, 0, f, DEPTH);
		if (rc > 0)
			vio_net_free(n, 0, f, (unsigned)rc);
	}
	return vio_err_set(err, rc, "the machine is gone");
}

int main(int argc, char **argv)
{
	struct phyp_part *part;
	struct vio_err err = {""};
	struct vio_mem mem;
	struct vio_arm arm;
	int rc;

	if (argc != 5)
		return 2;
	rc = vio_arm_parse(argv[3], &arm, &err);
	if (rc == 0)
		rc = phyp_connect(argv[1], argv[2], &part, &err);
	if (rc == 0) {
		vio_mem_init(&mem, part);
		rc = (strcmp(argv[4], "zeroes") ? segments : zeroes)(part, &mem, &arm, &err);
	}
	fprintf(stderr, "neighbour: %s\n", err.msg);
	return rc ? 1 : 0;
}
