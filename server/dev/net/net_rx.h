/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of net_rx*.c: what stands before a frame in a guest's buffer. The switch's lcore. */
#ifndef VIO_SERVER_NET_RX_H
#define VIO_SERVER_NET_RX_H

#include <string.h>

#include "server/dev/net/net_priv.h"

/* The usual header, without offload, in two stores: the counterpart of vio_net_header(). */
static inline void vio_net_put_plain_header(uint8_t *to, unsigned n)
{
	const uint64_t front = 0;
	const uint32_t back = vio_le32((uint32_t)n << 16);

	static_assert(offsetof(struct virtio_net_hdr_v1, num_buffers) == 10, "the last two bytes");
	memcpy(to, &front, 8);
	memcpy(to + 8, &back, 4);
}

static inline struct virtio_net_hdr_v1
vio_net_header(const struct vio_net *net, const struct vio_frame *f, bool tagged, unsigned n)
{
	struct virtio_net_hdr_v1 h = {.num_buffers = vio_le16((uint16_t)n)};
	uint16_t tag = tagged ? VIO_TAG_LEN : 0;

	if (f->flags == 0)
		return h;
	if (net->guest_csum)
		h.flags = f->flags;
	if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		h.csum_start = vio_le16((uint16_t)(f->csum_start + tag));
		h.csum_offset = vio_le16(f->csum_offset);
	}
	if (f->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		h.gso_type = (uint8_t)(f->gso_type == VIO_GSO_UDP6 ? VIRTIO_NET_HDR_GSO_UDP_L4
								   : f->gso_type | f->ecn);
		h.gso_size = vio_le16(f->gso_size);
		h.hdr_len = vio_le16((uint16_t)(f->l4_end + tag));
	}
	return h;
}

/* Does it lie in one piece in the server's memory, with room before it for what it gets there? */
static inline bool vio_net_in_one_piece(const struct vio_frame *f, bool tagged)
{
	return f->local && f->local_room >= VIO_NET_HDR + vio_frame_head_out(f, tagged);
}

/* Then put that there: header and new head. Bytes. */
static inline uint32_t vio_net_put_before(const struct vio_net *net, struct vio_frame *f,
					  bool tagged, unsigned n)
{
	struct virtio_net_hdr_v1 h = vio_net_header(net, f, tagged, n);
	uint32_t before = (uint32_t)VIO_NET_HDR + vio_frame_head_out(f, tagged);
	uint8_t *from = f->local - before;

	memcpy(from, &h, sizeof(h));
	vio_frame_put_head(f, tagged, from + sizeof(h));
	return before;
}

/* Can it lie in a chain of one descriptor, without being cut, and is it wanted? */
static inline bool vio_net_simple(const struct vio_net *net, struct vio_frame *f)
{
	if (vio_unlikely(f->gso_type != VIRTIO_NET_HDR_GSO_NONE && !vio_gso_in(f, net->takes)))
		return false;
	if (vio_unlikely((f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !net->guest_csum))
		return false;
	return vio_likely(net->filter.promisc) || vio_net_wanted(net, f);
}

/*
 * net_place.c: those at the beginning of a burst that lie where the guest is to find them. How many. The first one's `place` is
 * there.
 */
unsigned vio_net_deliver_placed(struct vio_net *net, struct vio_frame *const f[], unsigned n);
/* net_rx_plain.c. Chains that were taken and not used: they are noted, and used first from now on. */
void vio_net_hold_plain(struct vio_squeue *q, struct vio_net_queue *nq, const struct vio_plain v[],
			unsigned n);
/* Frames that went out in such chains, and of them the bytes that the CPU copied. */
void vio_net_count_plain(struct vio_net *net, struct vio_squeue *q, unsigned n, uint64_t bytes,
			 uint64_t copied);
/*
 * The first frames of a burst, as far as each fits one chain of one descriptor. How many; the rest,
 * and what is to be said of it, is left for the long way.
 */
unsigned vio_net_deliver_plain(struct vio_net *net, struct vio_frame *const f[], unsigned n);

#endif
