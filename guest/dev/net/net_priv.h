/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the virtio-net front end, shared by net*.c and nobody else.
 *
 *   net.c          open, close, information
 *   net_setup.c    features, memory, queues
 *   net_path.c     what receiving and sending share
 *   net_rx.c       receive
 *   net_tx.c       send
 *   net_ctrl.c     control queue
 *   net_recover.c  what becomes of buffers when the server goes, comes back, stops the device
 *
 * What it shares with other devices' front ends, the threads and the gate among it, is in front.h.
 * A pair's two queues share its virtual processor.
 */
#ifndef VIO_GUEST_NET_PRIV_H
#define VIO_GUEST_NET_PRIV_H

#include <assert.h>
#include <linux/virtio_config.h>

#include "guest/front/front.h"
#include "guest/dev/net/net.h"

#define NET_BURST     32u
#define NET_PAGE      4096u
#define NET_CTRL_DATA 1024u /* bytes of a command's data at most */

static_assert(sizeof(struct virtio_net_hdr_v1) == VIO_NET_HDR, "VIRTIO 1.2 5.1.6");

enum net_buf_state { NET_FREE, NET_POSTED, NET_HELD, NET_SENDING };

/*
 * Line 0 is all that is needed where payload and mapping have nothing to do for a buffer, line 1 begins
 * with the mapping of a buffer that is alone in its chain. The size is an odd number of lines, so
 * that line 0 of all buffers are spread over the cache.
 */
struct net_buf {
	struct vio_net_buf b; /* first */
	struct gla at;        /* of the header, where the device begins */
	uint8_t state;        /* enum net_buf_state */
	uint8_t n;            /* sending, first buffer: buffers of the frame */
	struct vio_dma_map map __attribute__((aligned(VIO_CACHE_LINE)));
	struct vio_gbuf g;
} __attribute__((aligned(VIO_CACHE_LINE)));

static_assert(offsetof(struct net_buf, map) == VIO_CACHE_LINE, "all that is hot in line 0");
static_assert(offsetof(struct vio_dma_map, seg) + sizeof(struct vio_dma_seg) <= VIO_CACHE_LINE,
	      "a single segment's mapping in line 1");
static_assert(sizeof(struct net_buf) / VIO_CACHE_LINE % 2 == 1, "an odd stride");

struct net_pair {
	struct vio_fq rx, tx;
	/* Touched by its owner on every call. */
	struct vio_net *n;
	struct net_buf *buf;
	struct net_buf **
		free; /* the warmest on top; taken in bursts, each in the order in which it was freed */
	uint32_t n_free, n_posted, n_sending;
	/* A frame of which not all buffers have been taken from the ring. */
	struct net_buf *part, *part_tail;
	unsigned part_left;
	bool part_bad;
	uint32_t posted_max;
	struct vio_net_stats s;
};

/* The control queue; pair 0's owner. */
struct net_ctrl {
	struct vio_fq v;
	struct gla at; /* command and data, then the answer in a line of its own */
	uint8_t *va;
	struct vio_dma_map map;
	bool busy; /* a command that was not answered */
};

/* What the device was told, to be told again. */
struct net_wishes {
	bool promisc_said, promisc, allmulti_said, allmulti, mac_said, offloads_said;
	uint8_t mac[6];
	uint64_t offloads;
	uint64_t vlan[64]; /* bit per VLAN */
};

struct vio_net {
	struct vio_front f;
	struct net_pair *p;
	uint32_t cap;        /* bytes that the device may write into one buffer */
	uint32_t refill_min; /* no refill for less room */
	uint32_t max_merge;  /* buffers that one received frame may take */
	struct vio_net_info info;

	/* The rest is for set-up and recovery. */
	struct vio_net_cfg cfg;
	struct net_ctrl *ctrl; /* NULL: the device has none */
	struct net_wishes wishes;
	uint32_t config_changes;
	bool card_up; /* the link, as the config space said last; atomic */
	struct vio_mem_piece
		area; /* control page, bounce buffers, and buffers when the device sees them */
	struct ioba area_at;
	uint64_t bounce_off, slot_len;
	struct vio_mem_piece buffers;
	uint64_t stride,
		next_buffer; /* from one buffer to the next; guest-logical address of the next one */
};

static inline struct net_buf *net_buf_of(struct vio_net_buf *b)
{
	return vio_container_of(b, struct net_buf, b);
}

static inline void net_buf_free(struct net_pair *p, struct net_buf *b)
{
	b->state = NET_FREE;
	p->free[p->n_free++] = b;
}

/* ---- net_setup.c ---- */
void net_want_features(struct vio_net *n);
/* Of the link, Mb/s; 0: not known. */
uint32_t net_speed(uint64_t features, const struct virtio_net_config *c);
/* From config space into *info; -EPROTO when it makes no sense. */
int net_read_config(struct vio_net *n, struct vio_net_info *info, struct vio_err *err);
int net_setup(struct vio_net *n, struct vio_err *err);
void net_teardown(struct vio_net *n);

static inline void net_free_chain(struct net_pair *p, struct vio_net_buf *b)
{
	while (b) {
		struct vio_net_buf *next = b->next;

		net_buf_free(p, net_buf_of(b));
		b = next;
	}
}

/* ---- net_path.c ---- */
/*
 * Where buffers of one chain each are for the device: through payload and mapping, as far as these levels have anything to do.
 * one[i]: length and token (a struct net_buf) are set, app[i] is its address; out: its IOBA. How many, in order.
 */
unsigned net_ready(struct vio_fq *q, struct vio_vring_one one[], struct gla app[], unsigned n,
		   bool dev_writes);

/* ---- net_tx.c ---- */
/* Used elements of the transmit queue into free buffers. -EPROTO: nonsense. */
int net_reclaim(struct net_pair *p);

/* ---- net_ctrl.c ---- */
/*
 * One command to its answer, by pair 0's owner, inside the gate. 0, -EINVAL refused, -ENOTCONN,
 * -ETIMEDOUT.
 */
int net_command(struct vio_net *n, uint8_t class, uint8_t cmd, const void *data, uint32_t len,
		struct vio_err *err);
/* Tell the device, configured a first time or anew, about pairs, filter, address. */
int net_tell(struct vio_net *n, struct vio_err *err);
/* After a restart: nothing is outstanding any more. */
void net_ctrl_lost(struct vio_net *n);

/* ---- net_recover.c ---- */
extern const struct vio_front_ops net_front_ops;
/* The pair's own part of a restart: inside the gate, when its epoch is not the device's. */
void net_revive(struct net_pair *p);
/* The device will not come back: everything in flight is free. By the pair's owner. */
void net_give_up(struct net_pair *p);

#endif
