/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net front end: a network card for programs in the guest partition. Frames are received and
 * sent in bursts, per pair of queues (a receive and a transmit queue); a pair is used by one thread
 * at a time and has its own virtual processor. The control functions belong to the thread of pair
 * 0.
 *
 * All buffers of a pair are carved once. A buffer is free, posted for receiving, given to the
 * program (by rx_burst or tx_alloc) or being sent; the program ends its turn by tx_burst or
 * vio_net_free(). A buffer that was received can be sent as it is.
 *
 * When the server goes away, frames in flight are lost, and so counted; buffers are not. Sending
 * and receiving go on when it is back.
 *
 * Lengths of frames are without FCS, as testpmd counts them.
 */
#ifndef VIO_GUEST_NET_H
#define VIO_GUEST_NET_H

#include "guest/transport/transport.h"
#include "vio/virtio_net.h"

#define VIO_NET_MAX_PAIRS 15u /* a virtual processor each */
#define VIO_NET_HDR       12u /* struct virtio_net_hdr_v1, in front of every frame */
#define VIO_NET_HEADROOM                                                                           \
	12u /* of a buffer: the header; it and the frame's first 52 bytes share a line */
#define VIO_NET_MAX_BUFS 34u /* buffers of one frame that is sent */
#define VIO_NET_MAX_FRAME                                                                          \
	65553u /* with segmentation offload: an IP packet, Ethernet header, VLAN tag */

struct vio_net_cfg {
	struct vio_transport_cfg transport; /* queue_size, arm ...; num_queues is not looked at */
	uint16_t pairs;   /* of queues wanted; fewer when the device has fewer; 0 = 1 */
	uint32_t buffers; /* of each pair; 0 = enough for both queues and two bursts */
	uint32_t
		buf_len; /* of one buffer, with headroom, bytes; power of two, 256 to 131072; 0 = 2048 */
	uint32_t posted; /* receive buffers kept posted; 0 = as many as the queue has entries */
	bool offload;    /* take checksum and segmentation offload, both ways, when offered */
	bool announce;   /* the program announces itself when it is asked to (info.announce) */
	bool filter_vlans; /* tagged frames only of VLANs that vio_net_vlan() named, unless promiscuous */
	bool no_merge;      /* do without mergeable receive buffers */
	uint32_t copybreak; /* payload copybreak: 0 = 256 */
	unsigned defer_batch, quota_pages;
	uint64_t spin_ns; /* as in struct vio_blk_cfg */
	uint64_t idle_ns;
	bool give_way;
};

struct vio_net_info {
	uint8_t mac[6];
	uint16_t mtu; /* bytes, without Ethernet header; 1500 when the device does not say */
	bool link_up;
	uint32_t speed; /* of the link, Mb/s; 0: not known */
	bool announce; /* the program is to say where its stations are, and then vio_net_announced() */
	bool merge;    /* mergeable receive buffers */
	bool csum, guest_csum, tso4, tso6, guest_tso4, guest_tso6;
	bool ecn, uso, guest_uso; /* with TSO: CWR too; datagrams, of IPv4 and IPv6 */
	bool can_control, can_rx_mode, can_set_mac, can_vlan, can_set_offloads;
	uint16_t pairs, max_pairs, queue_size;
	uint32_t buffers, buf_len; /* of each pair; of each buffer */
	uint32_t room;             /* bytes of a frame that fit one buffer */
	uint32_t posted;
	uint8_t version;
	struct vio_arm arm; /* in force */
	uint64_t features;
	uint64_t window_bytes, granted_bytes;
};

/*
 * One buffer; the first one of a frame stands for the frame. The program may change len, next and
 * what data and hdr point to, not the pointers.
 */
struct vio_net_buf {
	struct vio_net_buf *next; /* of the same frame; NULL: the last */
	uint8_t *data;            /* the frame's bytes in this buffer */
	uint32_t len;             /* ... how many */
	uint32_t total;           /* first buffer of a received frame: bytes of the frame */
	struct virtio_net_hdr_v1
		*hdr; /* first buffer: offloads, little-endian; zeroed by tx_alloc */
};

/* Frames, bytes without header and FCS. */
struct vio_net_stats {
	uint64_t rx_frames, rx_bytes, rx_bufs;
	uint64_t tx_frames, tx_bytes, tx_bufs;
	uint64_t
		rx_bad; /* received and dropped here: shorter than a header, longer than the buffer, wrong count */
	uint64_t
		tx_lost; /* given to the device and not returned when the server went or stopped the device */
	uint64_t
		tx_bad; /* refused here: empty, too long, too many buffers, no memory of this arm */
	uint64_t refills, tx_publishes;
};

/* Where a pair's buffers are; the four add up to info.buffers. */
struct vio_net_count {
	uint32_t free, posted, sending, held;
};

struct vio_net;

/*
 * Opens the card: transport, windows, queues, DRIVER_OK, pairs. Receives nothing before
 * vio_net_refill(). Blocks. A sentence for each failure.
 */
int vio_net_open(struct phyp_part *part, struct vio_mem *mem, const struct vio_net_cfg *cfg,
		 struct vio_net **out, struct vio_err *err);
void vio_net_close(struct vio_net *n);
const struct vio_net_info *vio_net_get_info(const struct vio_net *n);
struct phyp_counters *vio_net_counters(struct vio_net *n, unsigned pair);
void vio_net_get_stats(const struct vio_net *n, unsigned pair, struct vio_net_stats *s);
void vio_net_get_count(const struct vio_net *n, unsigned pair, struct vio_net_count *c);

/*
 * Post free buffers for receiving, as many as there is room for (none while there is room for few
 * only). Returns how many. Data path.
 */
unsigned vio_net_refill(struct vio_net *n, unsigned pair);
/*
 * Frames that have arrived, at most max; 0 when there are none. They are the program's then. Also
 * drives reconnection. -EIO: the machine is gone, and so is what was in flight. Data path.
 */
int vio_net_rx_burst(struct vio_net *n, unsigned pair, struct vio_net_buf *frame[], unsigned max);
/*
 * Up to count free buffers for frames to be sent: data set, len 0, next NULL, header zeroed.
 * Returns how many. Data path.
 */
unsigned vio_net_tx_alloc(struct vio_net *n, unsigned pair, struct vio_net_buf *buf[],
			  unsigned count);
/*
 * Give frames to the device and publish them together. Returns how many were taken, in order: fewer
 * when the queue is full or the server is away (look again after rx_burst or vio_net_idle()). Taken
 * frames are free again when the device is done with them; one that can't be sent at all is taken,
 * counted (tx_bad) and freed. num_buffers of the header is set to 0. Data path.
 */
unsigned vio_net_tx_burst(struct vio_net *n, unsigned pair, struct vio_net_buf *const frame[],
			  unsigned count);
/* Give back frames that were received or allocated, and not sent. Data path. */
void vio_net_free(struct vio_net *n, unsigned pair, struct vio_net_buf *const frame[],
		  unsigned count);
/*
 * Collect what the device has sent, without sending: so that buffers come back to a pair that only
 * receives.
 */
void vio_net_tx_reclaim(struct vio_net *n, unsigned pair);
/*
 * Called when there is nothing to do: spins or sleeps as the notification level says, until a frame
 * may have arrived (wait_tx: or a frame was sent), at most timeout_ns. Level poll returns at once
 * until idle_ns have passed without work.
 */
void vio_net_idle(struct vio_net *n, unsigned pair, bool wait_tx, uint64_t timeout_ns);
/* The same, also ending when one of the file descriptors is ready (revents is filled in as poll(2) does). */
struct pollfd;
void vio_net_idle_fds(struct vio_net *n, unsigned pair, bool wait_tx, struct pollfd *fds,
		      unsigned n_fds, uint64_t timeout_ns);
/* End vio_net_idle() early, also one that has not begun. Any thread of the partition. */
void vio_net_prod(struct vio_net *n, unsigned pair);

/*
 * Did link status, MTU or speed change, or is the program to announce itself? info is up to date then. The link is
 * down while the server is away. Call now and then; three loads when nothing did.
 */
bool vio_net_look_at_config(struct vio_net *n);
/*
 * Commands to the device, told again after a restart. -EOPNOTSUPP: the device has no such command;
 * -EINVAL: it refused; -ENOTCONN: the server is away (what was asked is told when it is back).
 */
int vio_net_promisc(struct vio_net *n, bool on, struct vio_err *err);
int vio_net_allmulti(struct vio_net *n, bool on, struct vio_err *err);
int vio_net_set_mac(struct vio_net *n, const uint8_t mac[6], struct vio_err *err);
/* Frames of this VLAN (0 to 4095), with cfg.filter_vlans. */
int vio_net_vlan(struct vio_net *n, uint16_t vid, bool on, struct vio_err *err);
/*
 * Which of the offloads that were agreed on are made use of in frames from the device, from now on: their feature
 * bits (GUEST_CSUM, _TSO4, _TSO6, _ECN, _USO4, _USO6).
 */
int vio_net_set_offloads(struct vio_net *n, uint64_t offloads, struct vio_err *err);
/* The program has announced itself. Not told again. */
int vio_net_announced(struct vio_net *n, struct vio_err *err);

#endif
