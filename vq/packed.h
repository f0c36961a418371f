/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What both sides of a packed virtqueue know (VIRTIO 1.2, section 2.8): a ring of descriptors that driver and device write in turn,
 * and a word for each side in which it says when it wants to be told.
 *
 * Position and wrap counter are one free-running 16-bit index here: of a ring of `size` (a power of two up to 32,768) its low bits
 * are the slot, and the next bit is the wrap counter, inverted (it begins as 1). Pure functions, no state.
 */
#ifndef VIO_VQ_PACKED_H
#define VIO_VQ_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

#include "vio/atomics.h"
#include "vio/types.h"

#define VIO_PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define VIO_PACKED_USED  (1u << VRING_PACKED_DESC_F_USED)

/* A descriptor as two doublewords: the address; length, buffer id, flags. Each is loaded and stored untorn. */
struct vio_packed_desc {
	uint64_t addr, tail;
};
_Static_assert(sizeof(struct vio_packed_desc) == sizeof(struct vring_packed_desc),
	       "VIRTIO 1.2 2.8.13");

static inline bool vio_packed_wrap(uint16_t idx, uint16_t size)
{
	return !(idx & size);
}

static inline uint64_t vio_packed_tail(uint32_t len, uint16_t id, uint16_t flags)
{
	return vio_le64((uint64_t)len | (uint64_t)id << 32 | (uint64_t)flags << 48);
}
static inline uint32_t vio_packed_len(uint64_t tail)
{
	return (uint32_t)vio_le64(tail);
}
static inline uint16_t vio_packed_id(uint64_t tail)
{
	return (uint16_t)(vio_le64(tail) >> 32);
}
static inline uint16_t vio_packed_flags(uint64_t tail)
{
	return (uint16_t)(vio_le64(tail) >> 48);
}

/* The two bits that make the descriptor at `idx` available, and used. */
static inline uint16_t vio_packed_avail_bits(uint16_t idx, uint16_t size)
{
	return vio_packed_wrap(idx, size) ? VIO_PACKED_AVAIL : VIO_PACKED_USED;
}
static inline uint16_t vio_packed_used_bits(uint16_t idx, uint16_t size)
{
	return vio_packed_wrap(idx, size) ? VIO_PACKED_AVAIL | VIO_PACKED_USED : 0;
}
static inline bool vio_packed_is_avail(uint64_t tail, uint16_t idx, uint16_t size)
{
	return (vio_packed_flags(tail) & (VIO_PACKED_AVAIL | VIO_PACKED_USED)) ==
	       vio_packed_avail_bits(idx, size);
}
static inline bool vio_packed_is_used(uint64_t tail, uint16_t idx, uint16_t size)
{
	return (vio_packed_flags(tail) & (VIO_PACKED_AVAIL | VIO_PACKED_USED)) ==
	       vio_packed_used_bits(idx, size);
}

/* Event suppression: offset and wrap counter in the low half, flags in the high one; a little-endian word. */
static inline uint32_t vio_packed_ask_at(uint16_t idx, uint16_t size)
{
	uint32_t off = (uint32_t)(idx & (size - 1)) | (uint32_t)vio_packed_wrap(idx, size)
							      << VRING_PACKED_EVENT_F_WRAP_CTR;

	return vio_le32(off | (uint32_t)VRING_PACKED_EVENT_FLAG_DESC << 16);
}
static inline uint32_t vio_packed_ask(void)
{
	return vio_le32((uint32_t)VRING_PACKED_EVENT_FLAG_ENABLE << 16);
}
static inline uint32_t vio_packed_silence(void)
{
	return vio_le32((uint32_t)VRING_PACKED_EVENT_FLAG_DISABLE << 16);
}
/* Does a peer whose word this is want to be told of what was published from `old` to `now`? */
static inline bool vio_packed_wants(uint32_t word, uint16_t now, uint16_t old, uint16_t size,
				    bool event_idx)
{
	const uint32_t w = vio_le32(word), flags = w >> 16 & 3, round = 2u * size - 1;
	const uint32_t at = (w & (size - 1u)) | (w >> VRING_PACKED_EVENT_F_WRAP_CTR & 1 ? 0 : size);

	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !event_idx)
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	return ((now - at - 1u) & round) < ((uint32_t)(now - old) & round);
}

#endif
