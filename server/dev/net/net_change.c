/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's port is changed while it runs (vio_switch_change()). The switch's lcore. */
#include "server/dev/net/net_priv.h"

int vio_net_may_change(const struct vio_port *p, const struct vio_port_change *to,
		       struct vio_err *err)
{
	const struct vio_net *n = vio_container_of(p, struct vio_net, port);

	return to->set_up && n->follows
		       ? vio_err_set(err, -EINVAL,
				     "the port's link follows the uplinks' (link=uplink)")
		       : 0;
}

void vio_net_changed(struct vio_port *p)
{
	struct vio_net *n = vio_container_of(p, struct vio_net, port);

	vio_net_show_station(n);          /* it may be in another VLAN */
	if (!vio_load_acquire(&n->rx[0])) /* pair L */
		vio_store_relaxed(&n->shown_mtu, n->port.mtu);
	if (n->env.config_changed)
		n->env.config_changed(n->env.ctx, n->number);
}
