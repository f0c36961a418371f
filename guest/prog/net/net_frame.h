/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The frames that vio-net makes and checks: Ethernet, a VLAN tag if wanted, IPv4 (its
 * identification says who sent it), UDP without checksum, then a tag of this program (which one it
 * is, when) and a pattern of bytes that depends on sender, number and place, so that a frame from
 * elsewhere, an older, torn or shifted one is found.
 *
 * Lengths are without FCS, as testpmd counts them.
 */
#ifndef VIO_GUEST_PROG_NET_FRAME_H
#define VIO_GUEST_PROG_NET_FRAME_H

#include "guest/dev/net/net.h"

#define VIO_NF_MIN 64u
#define VIO_NF_MAX 9018u

struct vio_nf_cfg {
	uint8_t src[6], dst[6];
	uint16_t vlan;  /* 0: untagged */
	uint16_t flows; /* destination addresses used in turn; 1: always the same */
	uint64_t seed;
	bool payload; /* touch every byte */
};

/* A maker of frames of one sender (stream); one thread. */
struct vio_nf {
	struct vio_nf_cfg cfg;
	uint16_t stream;
	uint32_t seq;             /* of the next frame */
	uint8_t head[VIO_NF_MIN]; /* of every frame, as for the last one */
	uint32_t head_is_for;     /* its length */
	uint32_t head_len;        /* up to the tag */
	uint32_t ip_at, ip_sum;
};

/* Frames of stream number `stream`, from its first on. cfg is copied. */
void vio_nf_init(struct vio_nf *f, const struct vio_nf_cfg *cfg, uint16_t stream);
/* Fill a chain of buffers whose len's add up to `len`, the first with room for headers and tag. Data path. */
void vio_nf_build(struct vio_nf *f, struct vio_net_buf *b, uint32_t len, uint64_t tick);

/* What a received frame says of itself. */
struct vio_nf_seen {
	uint16_t stream;
	uint32_t seq;
	uint64_t tick;  /* modulo 2^48 */
	uint64_t wrong; /* bytes, when payload is looked at */
};
/* False: not a frame of this program's. Data path. */
bool vio_nf_look(const struct vio_net_buf *b, uint64_t seed, bool payload, struct vio_nf_seen *s);

#endif
