/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of switch*.c.
 *
 *   switch.c         frames and ports
 *   switch_options.c a port's options and names
 *   switch_watch.c   what is done by the clock, and what is said
 *   switch_fdb.c     the table in DPDK's rte_hash
 */
#ifndef VIO_SERVER_SWITCH_PRIV_H
#define VIO_SERVER_SWITCH_PRIV_H

#include <string.h>

#include "server/switch/switch.h"

#define NS_PER_S    1000000000ull
#define NS_PER_TICK (NS_PER_S / VIO_SWITCH_TICKS)
#define VIO_FDB_MAC 0xffffffffffffull /* of a key */

struct vio_switch {
	struct vio_fdb *fdb;
	unsigned n;
	uint32_t now; /* seconds, of the poll loop's clock */
	uint64_t ticked, turn;
	struct vio_port *port[VIO_SWITCH_PORTS];
	uint64_t polls; /* bit per port that wants to be polled */
	uint64_t gone;  /* bit per port whose addresses are to be forgotten; any thread sets them */
	uint64_t learnt, refused, aged, moved;
	/* One burst on its way out, by port. */
	const struct vio_port *from;
	uint64_t out_ports;
	unsigned out_n[VIO_SWITCH_PORTS];
	struct vio_frame *out[VIO_SWITCH_PORTS][VIO_FRAME_BURST];
	/* Being announced: to the network behind which port (NULL: nothing), how far. */
	struct vio_port *announce;
	bool learnt_done; /* those in the table; next the ports' own */
	uint32_t walk;    /* over the table, then over the ports */
	unsigned announcements;
	struct vio_frame told[VIO_FRAME_BURST];
	/* What is to be said. */
	void (*say)(void *ctx, const char *fmt, ...);
	void *say_ctx;
	uint32_t storm_at, moved_at; /* seconds: when it was said last */
	uint64_t moved_said;
	struct {
		uint64_t key;
		unsigned from, to; /* ports */
	} last_move;
	uint8_t room[VIO_FRAME_BURST][VIO_HEAD_MAX];
};

static inline uint64_t vio_fdb_key(const uint8_t mac[6], uint16_t vid)
{
	uint32_t front;
	uint16_t back;

	/* In pieces that are parts of what was just stored: a load across two stores has to wait for both. */
	memcpy(&front, mac, 4);
	memcpy(&back, mac + 4, 2);
	return vio_le32(front) | (uint64_t)vio_le16(back) << 32 | (uint64_t)vid << 48;
}

/* switch.c */
void vio_switch_forget_lookups(struct vio_switch *sw);
/* Ports or VLANs are others: find every port's `only`. */
void vio_switch_find_only(struct vio_switch *sw);
/* The switch's own frames, n <= VIO_FRAME_BURST, out of port i. */
void vio_switch_send(struct vio_switch *sw, unsigned i, struct vio_frame *f, unsigned n);

#endif
