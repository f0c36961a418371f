/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of ethdev*.c.
 *
 *   ethdev.c        memory, life
 *   ethdev_probe.c  what a port is
 *   ethdev_tx.c     frames that leave
 *   ethdev_rx.c     frames that come in
 *   ethdev_place.c  frames that come in where they stay: mbufs in guests' buffers
 *   ethdev_link.c   links, bonds
 */
#ifndef VIO_SERVER_PORTS_ETHDEV_PRIV_H
#define VIO_SERVER_PORTS_ETHDEV_PRIV_H

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "server/dev/net/offload.h"
#include "server/ports/ethdev.h"

#define MAX_PARTS 8u /* of a bond */
#define RX_SEGS   8u /* mbufs in one frame that comes in */
/*
 * Pieces that are lent at once, and so frames. Each frame needs an mbuf for its head too, and those
 * that are copied must find some.
 */
#define POOL_LENT 1535u

/*
 * A frame that is lent to the port: behind the struct of the mbuf of its one piece, or shared by the mbufs of several. One line, and
 * what is the same for all frames is written once.
 */
struct lent {
	struct rte_mbuf_ext_shared_info info;
	struct vio_hold *hold; /* NULL: it is back, or on the way */
	struct vio_uplink *u;
	struct lent *next; /* in u->away: the next one, and its hold */
	struct vio_hold *back;
	uint16_t from, pieces; /* index of the port that it came in at */
	bool shared;           /* of u->lent_pool; else behind its mbuf */
};
static_assert(sizeof(struct lent) <= VIO_CACHE_LINE, "one line");

struct vio_uplink {
	struct vio_port port;
	uint16_t id; /* of ethdev */
	struct rte_device *dev;
	uint64_t capa;
	bool in_place; /* may lend; cleared for good by an adapter's lcore, before the window that it is for */
	bool bond;
	bool known;    /* its driver, or its parts': reads_our_memory(), or hardware */
	bool rx_place; /* rx=in-place was asked for; and it can be */
	bool places;
	bool unfinished_sums; /* may bring in frames whose checksum the kernel left to a device (af_packet) */
	int active;           /* bond: the part in use, as far as we know; -1 */
	/*
	 * The port, or parts of it, whose drivers always say that there is a link (af_packet): the interface's kernel is asked,
	 * through a socket of its namespace.
	 */
	int control;
	unsigned n_kernel;
	struct {
		uint16_t id;
		int ifindex;
	} kernel[MAX_PARTS];
	bool started;
	bool stopped; /* vio_uplink_stop(): nobody but us has to do with it any more */
	/*
	 * It, or those of its parts, that reach memory by themselves: guest memory must be mapped
	 * for them.
	 */
	unsigned n_dma;
	struct rte_device *dma[MAX_PARTS];
	char name[RTE_ETH_NAME_MAX_LEN];
	char what[320];
	uint32_t room; /* bytes of a frame in an mbuf of rx_pool, with `places` */
	struct rte_mempool *rx_pool, *tx_pool, *ext_pool, *lent_pool;
	unsigned turns;
	uint32_t share; /* 0: not known yet; all ports are there before frames flow */
	/*
	 * Pieces that are lent, by the port that they came in at, and frames (port.stats.lent):
	 * by the switch's lcore, `home`, alone. Those that the port lets go of on another thread wait in `away` until it looks
	 * (pair X).
	 */
	unsigned home;
	uint32_t pieces[VIO_SWITCH_PORTS];
	struct lent *away;
	struct rte_mbuf *tx[VIO_FRAME_BURST];
	unsigned n_tx;
	struct rte_mbuf
		*ext[VIO_FRAME_BURST]; /* taken from ext_pool together, for pieces to come */
	unsigned n_ext;
	uint64_t copied; /* bytes of the burst, not yet counted */
	uint64_t fresh;  /* rearm_data of an mbuf that was just taken */
	struct vio_frame frame[VIO_FRAME_BURST];
	struct iovec iov[VIO_FRAME_BURST][RX_SEGS];
	struct vio_segment segment;
};

static inline struct vio_uplink *of(struct vio_port *p)
{
	return vio_container_of(p, struct vio_uplink, port);
}

/*
 * ethdev_probe.c: make the device, or find it where EAL has done so already; what it is and can do. A negative
 * errno with a sentence.
 */
int vio_uplink_probe(struct vio_uplink *u, const char *devargs, struct vio_err *err);

/* ethdev_tx.c: struct vio_port_ops' deliver and reap. */
void vio_uplink_deliver(struct vio_port *p, struct vio_frame *const f[], unsigned n);
void vio_uplink_reap(struct vio_port *p);
/* u->ext_pool and u->lent_pool; false: no memory. */
bool vio_uplink_lent_pools(struct vio_uplink *u);
/* Has the port, or who has its frames now, let go of all mbufs of them? */
bool vio_uplink_all_back(const struct vio_uplink *u);
/* Of a port that is closed: what it has not given back. */
void vio_uplink_take_back(struct vio_uplink *u);

/* ethdev_rx.c: struct vio_port_ops' poll. */
unsigned vio_uplink_poll(struct vio_port *p);

/*
 * ethdev_place.c. For u->rx_pool where u->places: mbufs of u->room bytes each behind the headroom, in a guest's buffers while there are
 * some; NULL: no memory.
 */
struct rte_mempool *vio_uplink_place_pool(struct vio_uplink *u, unsigned n);
/* Where the frame in m lies, if that is a guest's buffer and all of it is in the right place there; else NULL. */
struct vio_place *vio_uplink_placed(const struct vio_uplink *u, struct rte_mbuf *m);
/* What was freed on other threads. The switch's lcore. */
void vio_uplink_place_collect(struct vio_uplink *u);
/* All that is out, whether the port lets go of it or not: the device is closed, and no lcore runs. */
void vio_uplink_place_end(struct vio_uplink *u);
/* ethdev_link.c: is the link up? And struct vio_port_ops' tick. */
bool vio_uplink_link(struct vio_uplink *u);
void vio_uplink_tick(struct vio_port *p);

#endif
