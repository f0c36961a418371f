/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's port of the switch: what is behind its virtio-net device (VIRTIO 1.2, section 5.1). To
 * the adapter it is a backend; to the switch a port; the device's table (vio_dev_net) is between
 * the two.
 *
 *   net.c       features, configuration, life; transmit: guest to switch
 *   net_rx.c    receive: switch to guest
 *   net_ctrl.c  control queue
 *   net_change.c  what is changed while it runs
 *   net_options.c  the words of --net
 */
#ifndef VIO_SERVER_NET_H
#define VIO_SERVER_NET_H

#include "server/device.h"
#include "server/switch.h"

/* Receive and transmit pairs; with the control queue they fit VIO_MAX_QUEUES. */
#define VIO_NET_MAX_PAIRS 31

struct vio_net;

/*
 * Tell uplinks of guest memory that frames may leave from in place, before any does; and that it
 * goes, when none is under way. -errno only means that it leaves as copies.
 */
struct vio_net_env {
	int (*mem_add)(void *ctx, void *va, uint64_t len);
	void (*mem_del)(void *ctx, void *va, uint64_t len);
	/* The config space of the adapter with this `number` is not what it was. */
	void (*config_changed)(void *ctx, unsigned number);
	void *ctx;
};

/*
 * "MAC=AA:BB:CC:DD:EE:FF,vlan=1,trunk=10+20-30,mtu=1500,queues=1,link=up,lock-mac=off", each
 * optional. `number`: makes the default MAC, unique in this server. env may be NULL. -EINVAL with a
 * sentence.
 */
int vio_net_create(const char *spec, unsigned number, const struct vio_net_env *env,
		   struct vio_net **out, struct vio_err *err);
/* All its queues are closed, the switch is not used any more. */
void vio_net_destroy(struct vio_net *n);
/* What an adapter's configuration needs: the backend, and the queues to offer. */
struct vio_backend *vio_net_backend(struct vio_net *n);
uint16_t vio_net_queues(const struct vio_net *n);
/*
 * With link=uplink: the uplinks are up or down, and so is this port from now on. True: that is a
 * change, and the guest should be told. The switch's lcore.
 */
bool vio_net_follow(struct vio_net *n, bool up);
/* link=uplink? */
bool vio_net_follows(const struct vio_net *n);
/*
 * The guest, if it agreed to GUEST_ANNOUNCE, is to announce itself (5.1.6.5.4). True: it should be told
 * of a change. The switch's lcore.
 */
bool vio_net_announce(struct vio_net *n);
/* To be added to the switch. */
struct vio_port *vio_net_port(struct vio_net *n);

#endif
