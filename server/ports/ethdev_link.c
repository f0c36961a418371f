/* SPDX-License-Identifier: BSD-3-Clause */
/* Links of uplinks: up or down, how fast, which part of a bond is in use. The switch's lcore. */
#include <net/if.h>
#include <sys/ioctl.h>

#include <rte_eth_bond.h>

#include "server/ports/ethdev_priv.h"

/* Has the interface a carrier? One that has gone has none. */
static bool kernel_has_link(int control, int ifindex)
{
	const int want = IFF_UP | IFF_RUNNING;
	struct ifreq r = {.ifr_ifindex = ifindex};

	return ioctl(control, SIOCGIFNAME, &r) == 0 && ioctl(control, SIOCGIFFLAGS, &r) == 0 &&
	       (r.ifr_flags & want) == want;
}

static bool has_link(const struct vio_uplink *u, uint16_t id)
{
	struct rte_eth_link link;

	for (unsigned i = 0; i < u->n_kernel; i++) {
		if (u->kernel[i].id == id)
			return kernel_has_link(u->control, u->kernel[i].ifindex);
	}
	return rte_eth_link_get_nowait(id, &link) < 0 || link.link_status == RTE_ETH_LINK_UP;
}

/* Mb/s, 0: nobody knows. Software ports say something that their authors liked. */
static uint32_t speed_of(uint16_t id)
{
	struct rte_eth_link link;

	return rte_eth_link_get_nowait(id, &link) < 0 ||
			       link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN
		       ? 0
		       : link.link_speed;
}

/*
 * A bond changes over by itself when its parts' drivers tell it of their links. Those of software
 * ports (tap) only answer when they are asked, so it is done here. True: one of its parts has a
 * link.
 */
static bool look_after_bond(struct vio_uplink *u)
{
	uint16_t part[MAX_PARTS];
	int n = rte_eth_bond_slaves_get(u->id, part, MAX_PARTS);
	int primary = rte_eth_bond_primary_get(u->id);
	bool backup = rte_eth_bond_mode_get(u->id) == BONDING_MODE_ACTIVE_BACKUP, up = false;

	for (int i = -1; i < n && !up; i++) { /* the active one first */
		int id = i < 0 ? primary : part[i];

		if (id < 0 || !has_link(u, (uint16_t)id))
			continue;
		up = true;
		if (backup && id != primary && rte_eth_bond_primary_set(u->id, (uint16_t)id) == 0)
			primary = id;
	}
	/* By us or by itself: what is behind it learns where the guests are from whoever speaks. */
	if (backup && up && primary != u->active) {
		if (u->active >= 0 && u->port.sw)
			vio_switch_announce(&u->port);
		u->active = primary;
	}
	return up;
}

bool vio_uplink_link(struct vio_uplink *u)
{
	return u->bond ? look_after_bond(u) : has_link(u, u->id);
}

void vio_uplink_tick(struct vio_port *p)
{
	struct vio_uplink *u = of(p);

	vio_uplink_reap(p);
	if (!u->stopped) {
		bool up = vio_uplink_link(u), back = up && !p->up;

		vio_switch_link(p, up);
		vio_store_relaxed(&p->speed, up ? speed_of(u->id) : 0);
		if (back)
			vio_switch_announce(p);
	}
}

struct vio_dev_uplinks vio_uplinks_are(struct vio_uplink *const u[], unsigned n)
{
	struct vio_dev_uplinks is = {0};

	for (unsigned i = 0; i < n; i++) {
		is.up |= u[i]->port.up;
		if (u[i]->port.up && u[i]->port.speed > is.speed)
			is.speed = u[i]->port.speed;
	}
	return is;
}
