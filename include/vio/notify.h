/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The two places that decide whether a notification can be lost, one helper each. Nobody open-codes
 * them.
 *
 *   sender:	publish the index	full fence	look whether the peer wants to be told	  -> kick or not
 *   sleeper:	arm notifications	full fence	look whether an index has moved		  -> sleep or not
 *
 * Each side stores, fences, then loads what the other side stores. At least one of the two loads
 * sees the other's store, so either the sender kicks or the sleeper stays awake. Pair N of
 * docs/memory-order.md. Source: VIRTIO 1.2, sections 2.7.7, 2.7.10, 2.7.13.
 */
#ifndef VIO_NOTIFY_H
#define VIO_NOTIFY_H

#include <linux/virtio_ring.h>

#include "vio/atomics.h"
#include "vio/types.h"

/* While a side polls with event index it parks its event this far ahead, so that no publish ever crosses it. */
#define VIO_EVENT_PARKED 0x8000u
/* ... and moves it on at least this often, so that it never falls behind the indices (they wrap at 65,536). */
#define VIO_EVENT_REPARK 0x2000u

/*
 * Publish `new_idx` (host order) in *idx, then say whether the peer must be notified.
 *
 * idx:	     the published index field, little-endian in shared memory.
 * old_idx:  the index value at the previous publish.
 * event_slot: the peer's event field (avail_event for a driver, used_event for a device), shared memory.
 * flags:    the peer's flags field; looked at only without event index.
 * no_notify: the bit in flags by which the peer asks for silence.
 *
 * Called by the thread that owns the queue on its side. Never fails.
 */
static inline bool vio_publish_and_check(uint16_t *idx, uint16_t new_idx, uint16_t old_idx,
					 const uint16_t *event_slot, const uint16_t *flags,
					 uint16_t no_notify, bool event_idx)
{
	vio_store_release(
		idx, vio_le16(new_idx)); /* pair A (driver) or B (device): entries before index */
	vio_fence_full(); /* pair N: index store before the load of the peer's wish */
	if (event_idx)
		return vring_need_event(vio_le16(vio_load_relaxed(event_slot)), new_idx, old_idx);
	return !(vio_le16(vio_load_relaxed(flags)) & no_notify);
}

/*
 * Ask the peer for a notification at its next publish, then look once more.
 *
 * event_slot: our event field, or NULL without event index; flags: our flags field (cleared of
 * no_notify then). peer_idx: the peer's published index in shared memory; seen_idx: how far we have
 * consumed (host order).
 *
 * Returns true when the peer has published more in the meantime: the caller must not sleep.
 */
static inline bool vio_arm_and_recheck(uint16_t *event_slot, uint16_t *flags, uint16_t no_notify,
				       const uint16_t *peer_idx, uint16_t seen_idx)
{
	if (event_slot)
		vio_store_relaxed(event_slot, vio_le16(seen_idx));
	else
		vio_store_relaxed(flags, vio_le16((uint16_t)(vio_le16(vio_load_relaxed(flags)) &
							     (uint16_t)~no_notify)));
	vio_fence_full(); /* pair N: our wish before the load of the peer's index */
	return vio_le16(vio_load_acquire(peer_idx)) != seen_idx; /* pair A or B */
}

/* The opposite of arming, while polling. No fence: a late notification is only spurious. */
static inline void vio_park(uint16_t *event_slot, uint16_t *flags, uint16_t no_notify,
			    uint16_t seen_idx)
{
	if (event_slot)
		vio_store_relaxed(event_slot, vio_le16((uint16_t)(seen_idx + VIO_EVENT_PARKED)));
	else
		vio_store_relaxed(flags, vio_le16(no_notify));
}

#endif
