/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checksum and segmentation offload: is what the sender claims true, and the work itself, in
 * software, for receivers that did not agree to do it. Pure functions over frames; any thread.
 */
#ifndef VIO_SERVER_OFFLOAD_H
#define VIO_SERVER_OFFLOAD_H

#include <stdbool.h>

#include "server/dev/net/frame.h"
#include "server/core/req.h"

/*
 * Bytes of data in a segment, at least (but for the last). Linux accepts no MSS below 88 from its
 * own users and devices (TCP_MIN_MSS: 60 + 60 bytes of headers and 8 of data, less the 40 that an
 * MSS does not count), of which options take 40 at most. A peer may announce less (tcp_min_snd_mss:
 * 48), which is an attack known as CVE-2019-11479; a sender that follows it gets through what it
 * sends one segment at a time.
 */
#define VIO_GSO_MIN 48u
/* Datagrams of one frame: what Linux's senders ask for at most (UDP_MAX_SEGMENTS). They may be of any length. */
#define VIO_UDP_SEGMENTS 128u

/*
 * Bytes of the frame that must be in the head for vio_offload_check(), where there are so many: the
 * checksum's place, and a TCP header of any length. At least VIO_FRAME_HEAD, which covers nearly all.
 */
uint32_t vio_offload_head(const struct virtio_net_hdr_v1 *h);

/*
 * The header's fields (any bits) against the head, which holds the frame's first vio_offload_head()
 * bytes or all of it. A checksum may be anywhere behind the Ethernet header and a tag, whatever the
 * protocol. What is to be cut is TCP or UDP over IPv4 or IPv6, behind up to two tags, IPv4's options, IPv6's
 * hop-by-hop, routing and destination options. True: f's offload fields are set, and true of the headers; with segmentation,
 * head_len (<= before) ends with the headers. False: a lie, or something that was not negotiated
 * (csum; gso: a set of kinds).
 */
bool vio_offload_check(struct vio_frame *f, const struct virtio_net_hdr_v1 *h, bool csum,
		       uint8_t gso);

/*
 * Of a frame whose sender said nothing: TCP or UDP whose checksum is just the pseudo header's sum, as
 * Linux leaves it to a device? (One in 65,536 right ones looks so; to finish it changes nothing.) The
 * head holds what it takes, else it is OTHER. UNFINISHED: flags, csum_start and csum_offset are set.
 */
enum vio_sum {
	VIO_SUM_OTHER,
	VIO_SUM_UNFINISHED,
	VIO_SUM_TRUNCATED /* IP says more than there is */
};
enum vio_sum vio_offload_look(struct vio_frame *f);

/* Finish the checksum: reads the body, writes the head, clears NEEDS_CSUM. No segmentation. */
void vio_offload_csum(struct vio_frame *f);

/* One segment: a frame of its own, whose body is pieces of the original's. */
struct vio_segment {
	struct vio_frame f;
	struct iovec iov[VIO_MAX_SEGS + 1];
	uint8_t room[VIO_HEAD_MAX]; /* of heads that f has no room for */
};
/* How many there are. */
uint32_t vio_offload_segments(const struct vio_frame *f);
/* The i-th, with NEEDS_CSUM. */
void vio_offload_segment(const struct vio_frame *f, uint32_t i, struct vio_segment *out);

/*
 * The ones' complement sum of `len` bytes added to `sum`, in memory order, not folded; `odd`: they
 * begin at an odd place.
 */
uint64_t vio_csum_add(uint64_t sum, const void *bytes, uint32_t len, bool odd);
uint16_t vio_csum_fold(uint64_t sum);

#endif
