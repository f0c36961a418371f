/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames between one queue of a tap and one pair of the card. One thread a pump. */
#ifndef VIO_GUEST_PROG_TAP_PUMP_H
#define VIO_GUEST_PROG_TAP_PUMP_H

#include "guest/dev/net/net.h"

#define VIO_PUMP_BURST 32u

struct vio_pump_stats {
	uint64_t to_tap, from_tap;             /* frames */
	uint64_t to_tap_bytes, from_tap_bytes; /* without header */
	uint64_t
		refused; /* that the tap did not take: it is down, or the header makes no sense to the kernel */
	uint64_t too_long; /* from the tap: longer than the card's MTU allows, dropped whole */
	uint64_t tx_full;  /* the card's queue was full */
	uint64_t sleeps;
};

struct vio_pump {
	struct vio_net *n;
	unsigned pair;
	int fd;
	unsigned need;  /* buffers for the largest frame that the card takes */
	uint8_t beyond; /* where the tap puts the first byte of what does not fit into them */
	int tap_errno;  /* why the tap can't be used any more, 0: it can */
	struct vio_net_buf *spare[VIO_NET_MAX_BUFS]; /* where the next frame is read to */
	unsigned n_spare;
	struct vio_net_buf *ready[VIO_PUMP_BURST]; /* read and not yet taken by the card */
	unsigned n_ready;
	struct vio_pump_stats s;
};

/* -EINVAL with a sentence when the largest frame does not fit the card's buffers. */
int vio_pump_init(struct vio_pump *p, struct vio_net *n, unsigned pair, int fd,
		  struct vio_err *err);
/*
 * What there is to do now, both ways, or sleep for at most timeout_ns. -EIO: the machine is gone;
 * -EPIPE: the tap is (tap_errno: why; the interface was deleted, mostly), and will not come back.
 */
int vio_pump_turn(struct vio_pump *p, uint64_t timeout_ns);
/* Give all buffers back to the card. */
void vio_pump_fini(struct vio_pump *p);

#endif
