/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Uplinks: a DPDK port as a port of the switch (the shared Ethernet adapter of PowerVM). Frames of
 * guests leave from where they are, as external buffers of mbufs; their descriptors go back when
 * the port has let go of them. Frames that come in are copied once, into the guest's buffer, or
 * come in there (rx=in-place).
 */
#ifndef VIO_SERVER_PORTS_ETHDEV_H
#define VIO_SERVER_PORTS_ETHDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "server/core/device.h"
#include "server/switch/switch.h"

/* Bytes of a frame below which it is copied into an mbuf: that costs less than lending it. */
#define VIO_UPLINK_COPYBREAK 256u

struct vio_uplink;

/*
 * "DEVARGS[,vlan=N][,trunk=LIST][,mtu=N][,storm=N|off][,rx=in-place|copy]": these words are the switch's and ours, all others
 * DPDK's, e.g. "net_tap0,iface=vio0,vlan=10", "0000:03:00.0". Makes the device, starts it. After EAL has
 * started; main thread. -errno with a sentence.
 */
int vio_uplink_create(const char *spec, struct vio_uplink **out, struct vio_err *err);
/*
 * Stop and close the device, and take back all frames that it has in place, whether it lets go of
 * them or not: nobody looks at them any more. The port stays in the switch, without a link. When
 * the switch's lcore has ended, and with no vio_uplink_mem_*() under way; these may follow. Before
 * the adapters whose frames they are are destroyed.
 */
void vio_uplink_stop(struct vio_uplink *u);
/* The rest, and the stop if it has not been. Nobody uses the switch. */
void vio_uplink_destroy(struct vio_uplink *u);
struct vio_port *vio_uplink_port(struct vio_uplink *u);
const char *vio_uplink_what(const struct vio_uplink *u);
/* Frames could come in in a guest's buffers, but it is in the switch and there is not one guest alone that it leads to. */
bool vio_uplink_has_no_guest(const struct vio_uplink *u);
/* Frames that the port has not let go of. Any thread. */
unsigned vio_uplink_lent(const struct vio_uplink *u);
/* All of them together. The switch's lcore. */
struct vio_dev_uplinks vio_uplinks_are(struct vio_uplink *const u[], unsigned n);
/* A device that is only part of another (of a bond). */
int vio_uplink_vdev(const char *devargs, struct vio_err *err);
/* Do no two of these words name one device? DPDK would take the second for the first. -EINVAL with a sentence. */
int vio_uplinks_differ(const char *const uplink[], unsigned n_uplinks, const char *const vdev[],
		       unsigned n_vdevs, struct vio_err *err);
/* Is it a device on the PCI bus, that EAL has to look for when it starts? Copies its address. */
bool vio_uplink_is_pci(const char *spec, char *addr, size_t len);

/*
 * Memory of a guest from which frames may leave: known to DPDK, and to the devices that reach
 * memory by themselves. -errno: DPDK's table of memory is full (it has room for about a hundred
 * windows), and the caller need not take it away again. A device that can't have it gets copies
 * from then on. In both cases err has a sentence, which is the same each time: say it once.
 * Adapter's lcore; del when no frame is lent from there.
 */
int vio_uplink_mem_add(struct vio_uplink *const u[], unsigned n, void *va, uint64_t len,
		       struct vio_err *err);
void vio_uplink_mem_del(struct vio_uplink *const u[], unsigned n, void *va, uint64_t len);

#endif
