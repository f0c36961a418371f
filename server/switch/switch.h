/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch: a learning bridge between the server's ports, by MAC address and VLAN. A port is a
 * guest's virtio-net (net.c) or an uplink (ports/). One lcore has the switch and all its ports;
 * only what is marked may be called from elsewhere.
 *
 * Nothing is queued here. Frames come in bursts, and a port takes each or drops it, for a reason
 * that it counts; so no port ever waits for another.
 */
#ifndef VIO_SERVER_SWITCH_H
#define VIO_SERVER_SWITCH_H

#include <stdbool.h>

#include "server/dev/net/frame.h"
#include "vio/err.h"

#define VIO_SWITCH_PORTS 64
#define VIO_VLAN_MAX     4094u
/* Seconds without a frame after which an address is forgotten (802.1D's default). */
#define VIO_FDB_AGE_S 300u
/*
 * Addresses kept: so many of a guest, and the uplinks share what no guest may take. A guest has its
 * room whatever the others do: it is there for every port that the switch can have.
 */
#define VIO_FDB_GUEST 256u
#define VIO_FDB_SIZE  (VIO_SWITCH_PORTS * VIO_FDB_GUEST)
/*
 * Segments of less than VIO_SMALL_SEGMENT bytes, on all ways that they go, that a port's frames may ask for in one
 * turn of the poll loop: some hundred microseconds of one who cuts them. What the smallest MSS of IPv4 asks for
 * (536, less 12 of a time stamp) is not small.
 */
#define VIO_SMALL_SEGMENT  512u
#define VIO_SMALL_SEGMENTS 2048u
/*
 * Frames a second that a port may send to everybody: to groups and to unknown addresses where there
 * are several ways, and from outside to groups in any case. What a loop sends is five times that and more; some hundred megabits of video
 * are less.
 */
#define VIO_STORM_DEFAULT 10000u
#define VIO_STORM_MAX     100000000u
/* Ticks of the switch in a second. */
#define VIO_SWITCH_TICKS 10u
/* What a frame costs besides its bytes, and each piece of one that is to be cut, as bytes. */
#define VIO_FRAME_COST   512u
#define VIO_SEGMENT_COST 256u
/* Addresses that a port gets from other ports between two ticks; after that they stay where they are. */
#define VIO_SWITCH_MOVES 32u
/* Frames in one call of forward and deliver. */
#define VIO_FRAME_BURST 32u

struct vio_switch;
struct vio_port;
struct vio_mirror;
struct vio_port_change;

/* Why a frame was dropped. Words: vio_drop_name(). */
enum vio_drop {
	/* At the entrance: what the sender did wrong. */
	VIO_DROP_RUNT, /* shorter than an Ethernet header */
	VIO_DROP_OVERSIZED, /* longer than the MTU allows, of the port where it came in or of the one where it
			       leaves */
	VIO_DROP_OFFLOAD, /* offload fields that don't fit the frame, or were not negotiated; too many small
			       segments in a turn */
	VIO_DROP_PIECES, /* in more descriptors than the server takes for one frame */
	VIO_DROP_VLAN, /* a VLAN that the port is not in, or a tag on an access port; at the exit: a second
			    tag that would become the first */
	VIO_DROP_SOURCE, /* the source is a group address, or none, or not the one that the port is locked to */
	VIO_DROP_TRUNCATED, /* IP says more bytes than came: the driver or the medium cut it off */
	/* At the entrance: where it would go. */
	VIO_DROP_RESERVED, /* to 01:80:c2:00:00:01 to 0f, which are for the neighbour only (802.1Q, 8.6.3) */
	VIO_DROP_STORM, /* more frames that go to everybody than the port may send in a second */
	VIO_DROP_OWN_SEGMENT, /* its receiver is behind the port where it came in */
	VIO_DROP_NO_PORT,     /* no other port is in its VLAN */
	/* At the exit. */
	VIO_DROP_NO_BUFFERS, /* the guest has posted none; the port's queue is full */
	VIO_DROP_TOO_SMALL, /* no merging agreed, and the buffer can't hold it; or the port can't */
	VIO_DROP_FILTERED,  /* the guest does not want it */
	VIO_DROP_LINK_DOWN,
	VIO_DROP_STOPPED, /* the device is not running */
	VIO_N_DROP,
};
const char *vio_drop_name(enum vio_drop why);

struct vio_port_ops {
	const char *kind;
	bool outside; /* a network of others is behind it */
	/*
	 * Addresses that may be learnt at such a port; 0: its share of what the others leave (see
	 * vio_switch_add()).
	 */
	unsigned addresses;
	/*
	 * `n` (<= VIO_FRAME_BURST) frames leave through this port. It copies them, or takes a hold
	 * on each that it needs for longer. What it can't take it drops and counts.
	 */
	void (*deliver)(struct vio_port *p, struct vio_frame *const f[], unsigned n);
	/*
	 * Optional: up to `n` (<= VIO_FRAME_BURST) of the buffers that the port's receiver has posted, each with `room` bytes or more for
	 * a frame, into place[]; their number. Each comes back by unpost, also when the receiver is gone meanwhile, which waits for it; or
	 * deliver gets it with a frame that lies in it (vio_frame.place), and if it takes the frame so, it sets place->of to NULL. unpost:
	 * all of this port.
	 */
	unsigned (*post)(struct vio_port *p, struct vio_place *const place[], unsigned n,
			 uint32_t room);
	void (*unpost)(struct vio_place *const place[], unsigned n);
	/* Optional: look for frames that came in, and give them to vio_switch_forward(). Their number. */
	unsigned (*poll)(struct vio_port *p);
	/* Optional: about ten times a second. Link state. */
	void (*tick)(struct vio_port *p);
	/*
	 * Optional: may the port be changed so (vio_switch_change())? 0, or -errno with a sentence. And: it
	 * was.
	 */
	int (*may_change)(const struct vio_port *p, const struct vio_port_change *to,
			  struct vio_err *err);
	void (*changed)(struct vio_port *p);
	/* Optional: let go of frames that have left, if it does not do so by itself. */
	void (*reap)(struct vio_port *p);
};

/* Written by the switch's lcore, read by telemetry. "in": from the port into the switch. */
struct vio_port_stats {
	uint64_t in_frames, in_bytes, out_frames,
		out_bytes; /* in: sent on; out: taken by the port */
	uint64_t flooded;  /* of those in: to all ports of the VLAN */
	uint64_t drop[VIO_N_DROP];
	uint64_t refused; /* addresses not learnt: the port has as many as it may have */
	uint64_t
		in_unfinished; /* of those in: with a checksum that was left to a device that isn't there */
	uint64_t moved; /* addresses that were learnt here and had been at another port */
	uint64_t
		not_moved; /* frames whose source stays at another port: too many had come from there */
	uint64_t segmented;   /* frames cut in software for this port */
	uint64_t checksummed; /* checksums finished in software for this port */
	uint64_t
		out_copied; /* of those out: bytes copied to hand them over, where the port could not have
				 them in place */
	uint64_t
		out_plain; /* of those out, to a guest: by the short way, in one chain of one descriptor */
	uint64_t
		in_place; /* of those out: frames whose body left from where it was, or that came in where they stay */
	uint64_t
		in_placed; /* of those that came: frames that were written into a receiver's buffer at once */
	uint64_t not_lent; /* of those out: frames copied because too much was lent already */
	uint64_t
		lent; /* now: frames that the port has in place and has not let go of; any thread */
	uint64_t mirrored,
		mirror_lost; /* frames copied to the port's mirror; that found no room there */
};

/* Which VLANs a port is in. */
struct vio_vlan_cfg {
	bool trunk;          /* tagged frames; else access: untagged only */
	uint16_t pvid;       /* access: its VLAN; trunk: that of untagged frames, 0: none */
	uint64_t member[64]; /* trunk: bit per VLAN */
};

/* Embedded in each kind of port. */
struct vio_port {
	const struct vio_port_ops *ops;
	struct vio_switch *sw;
	unsigned index;
	char name[64];
	struct vio_vlan_cfg vlan;
	uint16_t mtu;
	bool up;        /* link */
	uint32_t speed; /* of the link, Mb/s, 0: not known; an uplink's */
	uint64_t lock;  /* the source that frames must have, vio_port_lock()'s; 0: any */
	uint64_t own; /* vio_fdb_key() of the station that the port is made for, 0: none; relaxed */
	uint32_t storm; /* frames a second that may go to everybody, 0: any number */
	struct vio_port_stats stats;
	/* The switch's: what was last learnt and looked up here. */
	uint64_t src_key, dst_key;
	uint32_t src_at;
	int dst_port;
	/* NULL: none. The switch's lcore's, looked at once a burst. */
	struct vio_mirror *mirror_in, *mirror_out;
	unsigned addresses; /* that may be learnt here */
	unsigned others;    /* ports of the switch */
	/*
	 * What its frames have cost besides once their own bytes, as bytes: they went several ways. Who counts what its
	 * port asks for takes it from here.
	 */
	uint64_t spread;
	/* Where alone frames that come in here can go: the one other port in any of its VLANs. NULL: there are several, or none. */
	struct vio_port *only;
	uint64_t turn; /* when small segments were asked for last, and how many in it */
	uint32_t small;
	uint32_t storm_seen; /* since the last tick, as is the next: addresses that moved here */
	uint32_t moves_seen;
	uint64_t storm_said; /* of stats.drop[VIO_DROP_STORM] */
	bool said_truncated;
};

/*
 * Addresses by key (MAC and VLAN in one word, never 0). DPDK's rte_hash in the server
 * (switch_fdb.c); behind a table so that all else builds without.
 */
struct vio_fdb;
struct vio_fdb_row {
	uint64_t key;
	unsigned port;
	uint32_t seen; /* seconds: of the last frame from there */
};
struct vio_fdb_ops {
	/*
	 * 1: new, VIO_FDB_MOVED + the port where it was: moved, 0: known; -ENOSPC: no room, or the port has `limit` addresses already,
	 * and all is as it was. `now`: seconds.
	 */
	int (*learn)(struct vio_fdb *t, uint64_t key, unsigned port, unsigned limit, uint32_t now);
	int (*lookup)(struct vio_fdb *t, uint64_t key); /* port, or -1 */
	/*
	 * Go on with a walk over the table, forgetting what was not seen for `age` seconds; a
	 * bounded piece of it. Number forgotten.
	 */
	unsigned (*age)(struct vio_fdb *t, uint32_t now, uint32_t age);
	void (*forget)(struct vio_fdb *t, unsigned port); /* all that was learnt there */
	/*
	 * An entry of a walk that begins with *at = 0 and ends with false. What is learnt or forgotten
	 * meanwhile may be missed.
	 */
	bool (*walk)(struct vio_fdb *t, uint32_t *at, struct vio_fdb_row *row);
	unsigned (*count)(const struct vio_fdb *t);
	void (*free)(struct vio_fdb *t);
};
#define VIO_FDB_MOVED 2
struct vio_fdb {
	const struct vio_fdb_ops *ops;
	unsigned size; /* addresses */
};
/* switch_fdb.c; after EAL has started. -errno with a sentence. */
int vio_fdb_rte_create(struct vio_fdb **out, struct vio_err *err);

/* The switch owns the table from here on. -ENOMEM. */
int vio_switch_create(struct vio_fdb *fdb, struct vio_switch **out, struct vio_err *err);
/* Ports are the caller's, and gone already. */
void vio_switch_destroy(struct vio_switch *sw);
/*
 * Before frames flow. ops, name, vlan, mtu, up are set. Divides the table anew: ports whose kind
 * names no number of addresses share evenly what the others can't take. -ENOSPC.
 */
int vio_switch_add(struct vio_switch *sw, struct vio_port *p, struct vio_err *err);

/*
 * Frames that came in at `from`: head (14 bytes at least if len has them), len, offload fields are
 * set; a tag is still in the head. All are taken: when it returns they have been delivered, or
 * dropped and counted. n <= VIO_FRAME_BURST.
 */
void vio_switch_forward(struct vio_port *from, struct vio_frame *f, unsigned n);
/* What the frame costs on one way. */
uint64_t vio_frame_cost(const struct vio_frame *f);
/* Poll the ports that want it. Frames that came in. */
unsigned vio_switch_poll(struct vio_switch *sw, uint64_t now_ns);
void vio_switch_reap(struct vio_switch *sw);
/* While a port delivers: where its frames came in. */
const struct vio_port *vio_switch_from(const struct vio_switch *sw);
/* The port's link has changed: what was learnt there may be elsewhere now. */
void vio_switch_link(struct vio_port *p, bool up);
/*
 * Who was behind the port is gone: what was learnt there is forgotten at the switch's next turn. Any
 * thread.
 */
void vio_switch_gone(struct vio_port *p);
/*
 * The port leads elsewhere now (a bond changed over): tell the network behind it where all stations
 * of the other ports are, by a RARP request in each one's name, as other hosts of guests do. Some at
 * each turn, from the switch's next one on. What is to be done by those who announce themselves is
 * seen in vio_switch_announcements(). The switch's lcore.
 */
void vio_switch_announce(struct vio_port *p);
/* How often that was asked for. The switch's lcore. */
unsigned vio_switch_announcements(const struct vio_switch *sw);
/*
 * Room for VIO_HEAD_MAX bytes, of the i-th frame of a burst that is about to be forwarded: for heads
 * that the frame itself has no room for. One burst at a time. The switch's lcore.
 */
uint8_t *vio_switch_room(struct vio_switch *sw, unsigned i);
/* Where to say what somebody should look at: storms, addresses that move. At most a line of each in 10 s. */
void vio_switch_set_say(struct vio_switch *sw, void (*say)(void *ctx, const char *fmt, ...),
			void *ctx);

static inline void vio_port_drop(struct vio_port *p, enum vio_drop why, unsigned n)
{
	vio_counter_add(&p->stats.drop[why], n);
}
/* Does this port put a tag on frames of that VLAN? */
static inline bool vio_port_tags(const struct vio_port *p, uint16_t vid)
{
	return p->vlan.trunk && vid != p->vlan.pvid;
}
static inline bool vio_port_in_vlan(const struct vio_port *p, uint16_t vid)
{
	return vid == p->vlan.pvid || (p->vlan.trunk && (p->vlan.member[vid / 64] >> vid % 64 & 1));
}

/*
 * While frames flow: what is set there becomes the port's. What was learnt at a port that changes link or
 * VLAN is forgotten. -errno with a sentence, and nothing is changed: the port refuses. The switch's
 * lcore.
 */
struct vio_port_change {
	bool set_up, set_vlan, set_mtu, set_storm;
	bool up;
	uint16_t mtu;
	uint32_t storm;
	struct vio_vlan_cfg vlan;
};
int vio_switch_change(struct vio_port *p, const struct vio_port_change *to, struct vio_err *err);
/*
 * Up to `max` addresses of the table from *at on (0: its beginning), with their age in seconds in
 * `seen`; *at is where the next call goes on, 0 at the end. Their number. The switch's lcore.
 */
unsigned vio_switch_rows(struct vio_switch *sw, uint32_t *at, struct vio_fdb_row *row,
			 unsigned max);

/* Any thread: NULL past the end; for telemetry. */
const struct vio_port *vio_switch_port(const struct vio_switch *sw, unsigned i);
struct vio_switch_info {
	unsigned ports, addresses;
	uint64_t learnt, refused, aged,
		moved; /* refused, moved: of all ports; see struct vio_port_stats */
};
void vio_switch_get_info(const struct vio_switch *sw, struct vio_switch_info *info);

/*
 * Words of a port's options: "vlan=10", "trunk=10+20-30" or "trunk=all", "mtu=N",
 * "storm=N" or "storm=off". 1: taken, 0: another key; -EINVAL with a sentence. Defaults: access, VLAN
 * 1, 1500, VIO_STORM_DEFAULT.
 */
int vio_port_option(struct vio_port *p, const char *key, const char *value, struct vio_err *err);
void vio_port_defaults(struct vio_port *p);
/* From now on frames from another source than `mac` are dropped at the entrance. */
void vio_port_lock(struct vio_port *p, const uint8_t mac[6]);
/* After all options: is it in any VLAN? */
int vio_port_options_end(struct vio_port *p, bool vlan_given, struct vio_err *err);

#endif
