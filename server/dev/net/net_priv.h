/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of net*.c. */
#ifndef VIO_SERVER_NET_PRIV_H
#define VIO_SERVER_NET_PRIV_H

#include "server/dev/net/net.h"
#include "server/dev/net/offload.h"
#include "server/payload/payload.h"

#define VIO_NET_HDR sizeof(struct virtio_net_hdr_v1)
/* Addresses a guest may list in each of its two filters; a longer list means all. */
#define VIO_NET_MACS 64
/* Receive chains for one burst, at most; those that are out for frames to come; and room for both beside a pop. */
#define VIO_NET_BATCH 128u
#define VIO_NET_OUT   96u
#define VIO_NET_HELD  (VIO_NET_BATCH + VIO_BURST + VIO_NET_OUT)
/*
 * Bytes in one burst to a guest: with VIO_NET_BATCH chains rounded up to pages, what payload rdma's
 * bounce room has at least (VIO_MAX_DATA), so that it never has to wait in the middle of a frame.
 */
#define VIO_NET_BATCH_BYTES (VIO_MAX_DATA - VIO_NET_BATCH * 4096u)
#define VIO_NET_SEGMENTS    8u
#define VIO_NET_REGIONS     VIO_MAX_WINDOWS
/* Flows whose queue is remembered, by hash: power of two; a byte each. */
#define VIO_NET_FLOWS 4096u

#define VIO_NET_GUEST_OFFLOADS                                                                     \
	(1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 |                       \
	 1ull << VIRTIO_NET_F_GUEST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_ECN |                        \
	 1ull << VIRTIO_NET_F_GUEST_USO4 | 1ull << VIRTIO_NET_F_GUEST_USO6)

struct vio_net_queue;

/* One transmit chain whose body is somewhere else still. */
struct vio_net_hold {
	struct vio_hold hold;
	struct vio_net_queue *nq;
	struct vio_req *r;
	/*
	 * While a port has the body, or of a receive queue the buffer: the addresses between which all its pieces lie. to 0: none
	 * has (pair Y).
	 */
	uintptr_t from, to;
};

struct vio_net_queue {
	struct vio_dev_queue dq;
	struct vio_squeue *q; /* set when it is opened */
	/* Transmit. */
	struct vio_net_hold *hold; /* by chain head */
	unsigned depth;            /* of hold[] */
	struct vio_req *finished;  /* stack, through next: those that nobody holds any more */
	/* Receive: chains taken from the ring, in order, from held_at on. */
	unsigned held_at, held_n;
	struct vio_req *held[VIO_NET_HELD];
};

/* What the guest wants to get (net_filter.c). */
struct vio_net_filter {
	uint8_t mac[6];
	bool promisc;
	bool no_multi, no_uni, no_broadcast; /* CTRL_RX_EXTRA */
	/* ALLMULTI and ALLUNI; the last TABLE_SET listed more than we keep; one of the two. */
	bool asked_allmulti, many_multi, allmulti;
	bool asked_alluni, many_uni, alluni;
	bool vlans; /* CTRL_VLAN was agreed: of those with a tag only the VLANs in vlan[] */
	unsigned n_uni, n_multi;
	uint8_t uni[VIO_NET_MACS][6], multi[VIO_NET_MACS][6];
	uint64_t vlan[64]; /* bit per VLAN */
};

/* Receive-side scaling, as the guest asked for it (net_rss.c). */
#define VIO_RSS_KEY   40u
#define VIO_RSS_TABLE 128u
struct vio_net_rss {
	bool on;
	uint32_t types; /* VIRTIO_NET_RSS_HASH_TYPE_* */
	uint16_t mask, unclassified;
	uint16_t table[VIO_RSS_TABLE]; /* pairs */
	uint32_t key[VIO_RSS_KEY / 4]; /* as it came */
};

struct vio_net_region {
	void *va;
	uint64_t len;
	unsigned users; /* queues that were told */
	bool known;     /* to the uplinks */
};

struct vio_net {
	struct vio_device dev;
	struct vio_port port;
	struct vio_dev_env env;
	uint8_t mac[6];
	uint64_t shown_mac; /* in the config space: this one until ADDR_SET; any lcore, relaxed */
	unsigned number;    /* as vio_net_create() was told */
	uint16_t max_pairs;
	/*
	 * In the config space; any lcore, relaxed. It stays until the guest resets the device whatever the port's
	 * becomes (5.1.4.1: "MUST NOT modify mtu once it has been set").
	 */
	uint16_t shown_mtu;
	uint32_t shown_speed; /* Mb/s, 0: unknown; in the config space; any lcore, relaxed */
	bool fixed_speed;     /* speed= */
	bool announce; /* the guest is to announce itself and has not said that it did; any lcore, relaxed */
	bool follows; /* link=uplink */
	bool locked;  /* lock-mac=on */
	/* This session: set by start, then the switch's lcore's. */
	uint64_t features;
	uint64_t queues; /* announced */
	uint16_t ctrl;   /* index of the control queue, or UINT16_MAX */
	uint16_t pairs;  /* in use */
	bool mrg;
	/* What is sent as it is; may change while it runs (GUEST_OFFLOADS). */
	bool guest_csum;
	uint8_t takes; /* kinds of segmentation that the guest gets uncut */
	uint8_t sends; /* those that it may ask for */
	struct vio_net_filter filter;
	/* Running receive queues; set and cleared by the adapter's lcore (pair L). */
	struct vio_squeue *rx[VIO_NET_MAX_PAIRS];
	unsigned n_regions;
	struct vio_net_region region[VIO_NET_REGIONS];
	/* With several pairs, by flow: 1 + the pair on which the guest sent it last; 0: it has not. */
	uint8_t steer[VIO_NET_FLOWS];
	struct vio_net_rss rss;
	bool cut; /* among frame[] is one that asks for segmentation, perhaps */
	/* Room for a burst in each direction. */
	struct vio_frame frame[VIO_FRAME_BURST];
	struct iovec body[VIO_FRAME_BURST]; /* of frames in one descriptor */
	struct vio_segment segment[VIO_NET_SEGMENTS];
};

static inline struct vio_net *vio_net_of(const struct vio_squeue *q)
{
	return vio_container_of(q->dq->dev, struct vio_net, dev);
}
static inline struct vio_net_queue *vio_nq_of(const struct vio_squeue *q)
{
	return vio_container_of(q->dq, struct vio_net_queue, dq);
}
static inline bool vio_net_has(const struct vio_net *n, unsigned feature)
{
	return n->features >> feature & 1;
}

/* net_rss.c: VIRTIO 1.2, 5.1.6.5.7. The hash types that are known: all that need no home address option. */
#define VIO_RSS_TYPES 0x3fu
/* What is behind class and command; false: refused, and nothing is changed. */
bool vio_net_rss_set(struct vio_net *n, const uint8_t *data, uint32_t len);
/* The pair on which the guest gets the frame. */
unsigned vio_net_rss_pair(const struct vio_net *n, const struct vio_frame *f);

/* net_steer.c: VIRTIO 1.2, 5.1.6.5.6 (automatic receive steering). The switch's lcore. */
/* The first n of n->frame[] were sent on this pair. */
void vio_net_learn_flows(struct vio_net *n, unsigned pair, unsigned frames);
/* The frame's first bytes, head and the first piece of the body, at most VIO_NET_LOOK: how many. */
#define VIO_NET_LOOK 96u /* two tags, IPv6, ports */
uint32_t vio_net_look(const struct vio_frame *f, uint8_t *b);
/* Where the network header is in the first n bytes, behind all tags, and of what type; n >= VIO_ETH_LEN. */
uint32_t vio_net_find_l3(const uint8_t *b, uint32_t n, uint16_t *type);
/* The pair on which the guest gets the frame: where it sent that flow last, else by the flow's hash. */
unsigned vio_net_choose_pair(struct vio_net *n, struct vio_frame *f);
static inline void vio_net_note_flows(const struct vio_squeue *q, struct vio_net *n,
				      unsigned frames)
{
	if (vio_unlikely(n->pairs > 1))
		vio_net_learn_flows(n, q->index / 2u, frames);
}
static inline unsigned vio_net_pair(struct vio_net *n, struct vio_frame *f)
{
	if (vio_likely(n->pairs == 1))
		return 0;
	return n->rss.on ? vio_net_rss_pair(n, f) : vio_net_choose_pair(n, f);
}

/* net_options.c: a spec of vio_net_create(), cut up; -EINVAL with a sentence. */
int vio_net_parse(struct vio_net *n, char *text, struct vio_err *err);
/* net_change.c: vio_port_ops of a guest's port. */
int vio_net_may_change(const struct vio_port *p, const struct vio_port_change *to,
		       struct vio_err *err);
void vio_net_changed(struct vio_port *p);
/* net.c: what a queue is, by its index; when it is given to its lcore and taken away (struct vio_dev_kind). */
extern const struct vio_dev_ops vio_net_tx_ops;
void vio_net_queue_ready(struct vio_squeue *q);
void vio_net_queue_on(struct vio_squeue *q);
void vio_net_queue_off(struct vio_squeue *q);

/* net_share.c */
/*
 * Bytes that one turn of a queue that owes nothing may move, whatever its share: a burst of frames of the usual size, fetched by
 * RDMA. What it is more than the share is paid in the next turns.
 */
#define VIO_NET_PIECE (128u << 10)
/*
 * The first `frames` of n->frame[], `bytes` in all, to the switch, as far as that goes: how many. What is flooded or cut counts
 * as often as it is.
 */
unsigned vio_net_forward_some(struct vio_squeue *q, struct vio_net *n, unsigned frames);
static inline unsigned vio_net_forward(struct vio_squeue *q, struct vio_net *n, unsigned frames,
				       uint64_t bytes)
{
	/* Fetched by RDMA it was copied once more. */
	const uint64_t cost =
		(bytes << (q->payload->plain_put != NULL)) + (uint64_t)frames * VIO_FRAME_COST;

	if (vio_unlikely(n->cut || q->budget <= 0 || cost * n->port.others > VIO_NET_PIECE))
		return vio_net_forward_some(q, n, frames);
	vio_net_note_flows(q, n, frames);
	vio_switch_forward(&n->port, n->frame, frames);
	q->budget -= (int64_t)(cost + n->port.spread);
	n->port.spread = 0;
	return frames;
}
/* How many of these judged requests are to be begun now; one at least, but for a queue that owes. */
unsigned vio_net_begin(const struct vio_squeue *q, struct vio_req *const r[], unsigned n);
/*
 * Chains v[at[0..k)], in order, wait for the queue's next turns: as requests, behind those that wait. The others are moved to the
 * front of v[]: their number; *bytes is less by those that wait.
 */
unsigned vio_net_aside(struct vio_squeue *q, struct vio_plain v[], unsigned n, const uint8_t at[],
		       unsigned k, uint64_t *bytes);

/* net_rx.c */
/* vio_dev_ops.complete of queues that keep nothing back: 0. */
unsigned vio_net_no_complete(struct vio_squeue *q, struct vio_req *done[], unsigned max);
extern const struct vio_dev_ops vio_net_rx_ops;
void vio_net_deliver(struct vio_port *p, struct vio_frame *const f[], unsigned n);
/* net_place.c: struct vio_port_ops' post and unpost. */
unsigned vio_net_post(struct vio_port *p, struct vio_place *const place[], unsigned n,
		      uint32_t room);
void vio_net_unpost(struct vio_place *const place[], unsigned n);
/* net_filter.c */
bool vio_net_rx_mode(struct vio_net *n, uint8_t cmd, const uint8_t *data, uint32_t len);
bool vio_net_mac_table(struct vio_net *n, const uint8_t *data, uint32_t len);
bool vio_net_vlan(struct vio_net *n, uint8_t cmd, const uint8_t *data, uint32_t len);
/* Is it, where not everything is? */
bool vio_net_wanted(const struct vio_net *n, const struct vio_frame *f);
/* net_ctrl.c */
/* What of these features (their bits) is sent to the guest unfinished and uncut. */
void vio_net_take(struct vio_net *n, uint64_t offloads);
unsigned vio_net_ctrl_submit(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			     struct vio_req *done[]);
void vio_net_filter_reset(struct vio_net *n);
/* The address that the config space shows from now on. Who calls it sees to it that the guest hears of it. */
void vio_net_show_mac(struct vio_net *n, const uint8_t mac[6]);
/* The same address as the port's own station, while the guest is there. */
void vio_net_show_station(struct vio_net *n);

#endif
