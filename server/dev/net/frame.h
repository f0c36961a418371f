/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An Ethernet frame on its way through the server: from one port of the switch to others.
 *
 * A frame is a *head* and a *body*. The head is the server's own copy of the first bytes, taken
 * once: all that is judged or changed lies in it, so nobody can change it after it was looked at.
 * The body is the rest, where it is: in the sender's window, in bounce pages, in a port's buffer;
 * nobody looks into it, it is only copied or sent. A VLAN tag is not in the head: the switch takes
 * it off at the entrance (vid, pcp) and the leaving port puts it on again where it wants one.
 * Offsets count from the first byte of the untagged frame. A second tag behind it (QinQ) is part of
 * the frame, which then leaves only where the first is put on again.
 *
 * Frames live for one call of vio_switch_forward(). A port that needs the body for longer takes a
 * hold.
 */
#ifndef VIO_SERVER_FRAME_H
#define VIO_SERVER_FRAME_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

#include "vio/atomics.h"
#include "vio/types.h"
#include "vio/virtio_net.h"

/* A frame's own room: Ethernet and VLAN tag (18), IPv6 (40), TCP with all options (60), and some extension headers. */
#define VIO_FRAME_HEAD 192u
#define VIO_ETH_LEN    14u
#define VIO_TAG_LEN    4u
#define VIO_FRAME_MACS 12u /* the two addresses, before a tag or the type */
/* Of a frame that is cut into segments later. */
#define VIO_FRAME_MAX (65535u + VIO_ETH_LEN + VIO_TAG_LEN)
/*
 * Bytes from a head's first on that may be read, and are written to where there is room: a copy of
 * constant length.
 */
#define VIO_HEAD_COPY  32u
#define VIO_COPY_SHORT 128u
/* Bytes of a body below which it can't be held, but is copied by whoever needs it for longer. */
#define VIO_HOLD_MIN 256u
#define VIO_MTU_MIN  68u
#define VIO_MTU_MAX  9000u

/*
 * Longest head: the first bytes of what an MTU allows. Heads beyond VIO_FRAME_HEAD, of frames whose
 * checksum's place lies so far behind (IPv6 with long extension headers), are in the switch's room.
 */
#define VIO_HEAD_MAX (VIO_MTU_MAX + VIO_ETH_LEN + VIO_TAG_LEN)

#define VIO_ETHERTYPE_VLAN 0x8100u
#define VIO_ETHERTYPE_QINQ 0x88a8u /* 802.1ad: a provider's tag */
#define VIO_ETHERTYPE_IPV4 0x0800u
#define VIO_ETHERTYPE_IPV6 0x86ddu

/*
 * Kinds of segmentation: values of gso_type, of which the wire has one for UDP over either IP, and here they are
 * two. Sets of them, of what is sent and taken, have a bit for each; that of "none" is always there, and the
 * highest says that the first segment's TCP may have CWR set (ECN).
 */
#define VIO_GSO_UDP4      5u
#define VIO_GSO_UDP6      6u
#define VIO_GSO_BIT(kind) (uint8_t)(1u << (kind))
#define VIO_GSO_ECN       0x80u

struct vio_port;

/*
 * Whoever needs a frame's body after the call: the last one to let go calls done(). Plain counts: all on the switch's lcore (or when it
 * has ended). A port that is told on another thread that a frame has gone brings that there first.
 */
struct vio_hold {
	uint32_t refs;
	void (*done)(struct vio_hold *h);
};

static inline void vio_hold_get(struct vio_hold *h)
{
	vio_store_relaxed(&h->refs, h->refs + 1);
}
static inline void vio_hold_put(struct vio_hold *h)
{
	vio_store_relaxed(&h->refs, h->refs - 1);
	if (h->refs == 0)
		h->done(h);
}

/*
 * A buffer that a port's receiver has posted, given out by the port (vio_port_ops.post) so that a frame can be written there before
 * anybody has seen it. Private memory of the server's: what the receiver writes later changes nothing of it.
 */
struct vio_place {
	uint8_t *at;   /* for the frame's first byte */
	uint32_t room; /* bytes from there on */
	/* The port's own. of: NULL: nothing is given out, or the frame in it was taken. */
	uint32_t len;
	uint16_t head;
	struct ioba addr;
	void *of;
	struct vio_port *port;
};

struct vio_frame {
	uint32_t len; /* head_len + body_len */
	uint32_t body_len;
	uint8_t *head;     /* in buf, or in the switch's room */
	uint32_t flow;     /* vio_flow_hash()'s, 0: not known yet */
	uint16_t head_len; /* <= VIO_HEAD_MAX */
	uint16_t vid;      /* 1..4094: set at the entrance */
	uint16_t pcp;      /* priority and DEI as they stand in a tag (the upper four bits) */
	/* Offload, checked: virtio_net_hdr_v1's fields in host order. */
	uint8_t flags;    /* VIRTIO_NET_HDR_F_NEEDS_CSUM, _DATA_VALID */
	uint8_t gso_type; /* VIRTIO_NET_HDR_GSO_NONE, _TCPV4, _TCPV6; VIO_GSO_UDP4, _UDP6 */
	uint8_t ecn;      /* of TCP's kinds: VIO_GSO_ECN or 0; not looked at of none */
	uint16_t gso_size, csum_start, csum_offset;
	uint16_t l3_at, l4_at,
		l4_end; /* with gso_type: where the headers are; l4_end: first byte of data */
	uint16_t n_body;
	struct iovec *body;
	/*
	 * Body in the server partition's own memory, in one piece, with local_room writable bytes
	 * before it; NULL: it isn't. local_at: its logical address.
	 */
	uint8_t *local;
	struct gla local_at;
	uint32_t local_room;
	struct vio_place *
		place; /* the whole frame, as it came, lies in a receiver's buffer; NULL: it does not */
	struct vio_hold *hold; /* NULL: the body can't be had for longer than the call */
	/* A guest's header as it came, directly before the head, because both are copied at once. */
	struct virtio_net_hdr_v1 wire __attribute__((aligned(8)));
	uint8_t buf[VIO_TAG_LEN + VIO_FRAME_HEAD];
};
static_assert(offsetof(struct vio_frame, buf) ==
		      offsetof(struct vio_frame, wire) + sizeof(struct virtio_net_hdr_v1),
	      "header and head in one piece");

static inline uint8_t *vio_frame_head(const struct vio_frame *f)
{
	return f->head;
}
/* Is it of a kind that is in the set? */
static inline bool vio_gso_in(const struct vio_frame *f, uint8_t set)
{
	return f->gso_type == VIRTIO_NET_HDR_GSO_NONE ||
	       ((set >> f->gso_type & 1) && !(f->ecn & ~set));
}
static inline uint16_t vio_get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline void vio_put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
/* Bytes of the head when it leaves. */
static inline uint32_t vio_frame_head_out(const struct vio_frame *f, bool tagged)
{
	return f->head_len + (tagged ? VIO_TAG_LEN : 0u);
}

/* At most VIO_COPY_SHORT bytes: spelt out, as a call would cost more than the copy. */
static inline void vio_copy_short(uint8_t *to, const uint8_t *from, size_t len)
{
	if (len > 64) {
		memcpy(to, from, 64);
		memcpy(to + len - 64, from + len - 64, 64);
	} else if (len >= 32) {
		memcpy(to, from, 32);
		memcpy(to + len - 32, from + len - 32, 32);
	} else if (len >= 16) {
		memcpy(to, from, 16);
		memcpy(to + len - 16, from + len - 16, 16);
	} else if (len >= 8) {
		memcpy(to, from, 8);
		memcpy(to + len - 8, from + len - 8, 8);
	} else {
		for (size_t i = 0; i < len; i++)
			to[i] = from[i];
	}
}

/* The addresses, and the tag if there is one. Bytes. */
static inline uint32_t vio_frame_put_front(const struct vio_frame *f, bool tagged, uint8_t *dst)
{
	memcpy(dst, vio_frame_head(f), VIO_FRAME_MACS);
	if (!tagged)
		return VIO_FRAME_MACS;
	vio_put_be16(dst + 12, VIO_ETHERTYPE_VLAN);
	vio_put_be16(dst + 14, (uint16_t)(f->pcp << 12 | f->vid));
	return VIO_FRAME_MACS + VIO_TAG_LEN;
}

/* The head as it leaves, with its tag or without, to dst. */
static inline void vio_frame_put_head(const struct vio_frame *f, bool tagged, uint8_t *dst)
{
	if (!tagged)
		memcpy(dst, vio_frame_head(f), f->head_len);
	else
		memcpy(dst + vio_frame_put_front(f, true, dst), vio_frame_head(f) + VIO_FRAME_MACS,
		       f->head_len - VIO_FRAME_MACS);
}

#endif
