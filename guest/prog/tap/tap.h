/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A Linux tap whose frames carry a struct virtio_net_hdr_v1, little-endian, as the card's do. Needs
 * CAP_NET_ADMIN in the network namespace.
 */
#ifndef VIO_GUEST_PROG_TAP_H
#define VIO_GUEST_PROG_TAP_H

#include <net/if.h>

#include "guest/dev/net/net.h"

struct vio_tap {
	char name[IFNAMSIZ]; /* that it was made with */
	int control;         /* a socket of the namespace */
	int fd[VIO_NET_MAX_PAIRS];
	unsigned n_fds;
	bool uso; /* the kernel knows datagrams that are to be cut, and leaves them to the card */
};

/* The calling thread into the namespace that `ip netns add NAME` made. -errno with a sentence. */
int vio_netns_enter(const char *name, struct vio_err *err);
/*
 * Make the tap with a queue for each pair of the card, the card's address, offloads for what the
 * card can take, and set its MTU; it is down. -errno with a sentence; *t can be closed in any case.
 */
int vio_tap_open(struct vio_tap *t, const char *name, const struct vio_net_info *card, unsigned mtu,
		 struct vio_err *err);
void vio_tap_close(struct vio_tap *t);
/* The interface's name now: somebody may have changed it. That which it was made with when it is gone. */
void vio_tap_name(const struct vio_tap *t, char name[IFNAMSIZ]);
/* Interface up or down; cable in or out. */
int vio_tap_up(const struct vio_tap *t, bool up, struct vio_err *err);
/* The interface's address now; somebody may have changed it. -errno. */
int vio_tap_mac(const struct vio_tap *t, uint8_t mac[6]);
/* Does the kernel want frames put together (ethtool's gro)? True also when it does not say. */
bool vio_tap_gro(const struct vio_tap *t);
/* The speed that ethtool shows, Mb/s, full duplex; 0: not known. Kernels that can't (before 5.3) are left alone. */
void vio_tap_speed(const struct vio_tap *t, uint32_t mbps);
/*
 * Bounds of what the kernel leaves to be cut. A TCP segment may be so long that with IPv6's extension headers it is more than a
 * packet's length can say; Linux then puts a jumbo header before them (RFC 2675), cuts the segment itself, as it is longer than the
 * interface takes, and leaves the jumbo header in each piece: longer than the MTU, and refused by whoever gets it. So there is room for
 * those headers in the longest segment, and segments with long headers are fewer, so that they stay shorter than that. IPv4 has no such
 * headers. -errno; kernels that can't (before 4.16) are left alone.
 */
int vio_tap_limits(const struct vio_tap *t, unsigned mtu);
int vio_tap_carrier(const struct vio_tap *t, bool on, struct vio_err *err);

#endif
