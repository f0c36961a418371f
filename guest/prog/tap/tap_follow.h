/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tap must be told of the card, and the card of the tap, while frames flow. Pair 0's thread. */
#ifndef VIO_GUEST_PROG_TAP_FOLLOW_H
#define VIO_GUEST_PROG_TAP_FOLLOW_H

#include "guest/prog/tap/tap.h"

struct vio_follow {
	struct vio_net *n;
	struct vio_tap *tap;
	bool filtered;     /* the card passes the tap's address only */
	uint8_t mac[6];    /* that the card was told of */
	uint64_t offloads; /* likewise */
	bool link_up;      /* that the tap was told of */
	uint32_t speed;    /* likewise; 0: of none */
};

/* The card is open; the tap may be opened later. */
void vio_follow_init(struct vio_follow *f, struct vio_net *n, struct vio_tap *tap, bool filtered);
/*
 * The card's config space has changed: link, and whether to announce the tap's stations, which is done. -errno: the
 * tap is gone.
 */
int vio_follow_card(struct vio_follow *f);
/* A few times a second: has somebody changed the tap's address, or what it wants put together (ethtool -K TAP gro)? */
void vio_follow_tap(struct vio_follow *f);

#endif
