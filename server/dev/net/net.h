/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's port of the switch: what is behind its virtio-net device (VIRTIO 1.2, section 5.1). To
 * the adapter it is a device (vio_kind_net), to the switch a port.
 *
 *   net_kind.c  features, configuration, life
 *   net.c       transmit: guest to switch
 *   net_rx.c    receive: switch to guest; net_rx_plain.c: into chains of one descriptor
 *   net_ctrl.c  control queue
 *   net_change.c  what is changed while it runs
 *   net_options.c  the words of --net
 */
#ifndef VIO_SERVER_NET_H
#define VIO_SERVER_NET_H

#include "server/core/device.h"
#include "server/switch/switch.h"

/* Receive and transmit pairs; with the control queue they fit VIO_MAX_QUEUES. */
#define VIO_NET_MAX_PAIRS 31

struct vio_net;

/*
 * "MAC=AA:BB:CC:DD:EE:FF,vlan=1,trunk=10+20-30,mtu=1500,queues=1,link=up,lock-mac=off", each
 * optional. `number`: makes the default MAC, unique in this server. env may be NULL: no uplinks. -EINVAL
 * with a sentence.
 */
int vio_net_create(const char *spec, unsigned number, const struct vio_dev_env *env,
		   struct vio_net **out, struct vio_err *err);
/* All its queues are closed, the switch is not used any more. */
void vio_net_destroy(struct vio_net *n);
/* Behind an adapter; and to be added to the switch. */
struct vio_device *vio_net_device(struct vio_net *n);
struct vio_port *vio_net_port(struct vio_net *n);

#endif
