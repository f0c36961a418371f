/* SPDX-License-Identifier: BSD-3-Clause */
/* The control queue: one command at a time, waited for. Not the data path. */
#include <string.h>

#include "guest/dev/net/net_priv.h"
#include "vio/cycles.h"

#define NAP_NS    100000u
#define NO_ANSWER 0xffu /* of no meaning in the specification */

/* Where the answer lies: behind command, class and the largest data. */
#define ACK_OFF (VIO_CACHE_LINE * 17u)
static_assert(ACK_OFF >= NET_CTRL_DATA + 2 && ACK_OFF < NET_PAGE, "one page");

static int post(struct net_ctrl *c, uint32_t len)
{
	struct vio_dma_map *m = &c->map;

	m->n_seg = 2;
	m->seg[0] = (struct vio_dma_seg){.addr = c->at, .len = len};
	m->seg[1] =
		(struct vio_dma_seg){.addr = gla_add(c->at, ACK_OFF), .len = 1, .dev_writes = true};
	vio_store_relaxed(c->va + ACK_OFF, (uint8_t)NO_ANSWER);
	if (c->v.dma->ops->map(c->v.dma, &m, 1) != 1)
		return -EAGAIN;
	if (vio_vring_add(c->v.vr, m->seg, m->n_seg, c)) {
		c->v.dma->ops->unmap(c->v.dma, &m, 1);
		return -EAGAIN;
	}
	c->busy = true;
	vio_fq_publish(&c->v);
	return 0;
}

/* 1 answered, 0 not yet, -errno. */
static int answered(struct net_ctrl *c)
{
	struct vio_dma_map *m = &c->map;
	struct vio_used u;
	int rc = vio_vring_take(c->v.vr, &u, 1);

	if (rc < 0) {
		vio_fq_broken(&c->v);
		return rc;
	}
	if (rc == 0)
		return vio_fq_look_at_crq(&c->v) ? 0 : -ENOTCONN;
	c->v.dma->ops->unmap(c->v.dma, &m, 1);
	c->busy = false;
	vio_fq_worked(&c->v, 1);
	return 1;
}

static const char *command_name(uint8_t class, uint8_t cmd)
{
	static const struct {
		uint8_t class, cmd;
		const char *name;
	} list[] = {
		{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "promiscuous mode"},
		{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, "all-multicast mode"},
		{VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, "a new address"},
		{VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "a number of queue pairs"},
		{VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, "frames of a VLAN"},
		{VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, "no frames of a VLAN"},
		{VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK,
		 "nothing more to announce"},
		{VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
		 "other offloads"},
	};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(list); i++) {
		if (list[i].class == class && list[i].cmd == cmd)
			return list[i].name;
	}
	return "a command";
}

int net_command(struct vio_net *n, uint8_t class, uint8_t cmd, const void *data, uint32_t len,
		struct vio_err *err)
{
	struct net_ctrl *c = n->ctrl;
	uint64_t since = vio_now_ns(),
		 limit = (n->cfg.transport.timeout_ms ? n->cfg.transport.timeout_ms : 5000) *
			 1000000ull;
	int rc;

	if (!c || len > NET_CTRL_DATA)
		return vio_err_set(err, -EOPNOTSUPP, "the device takes no commands, and so not %s",
				   command_name(class, cmd));
	if (c->busy)
		return vio_err_set(err, -ETIMEDOUT,
				   "%s can't be asked for: an earlier command was not answered",
				   command_name(class, cmd));
	c->va[0] = class;
	c->va[1] = cmd;
	if (len > 0)
		memcpy(c->va + 2, data, len);
	rc = post(c, len + 2);
	if (rc)
		return vio_err_set(err, rc, "no room to ask for %s now", command_name(class, cmd));
	while ((rc = answered(c)) == 0) {
		if (c->v.kick_due)
			vio_fq_kick(&c->v);
		if (vio_now_ns() - since > limit)
			return vio_err_set(err, -ETIMEDOUT,
					   "the device did not answer in time when asked for %s",
					   command_name(class, cmd));
		phyp_irq_take(c->v.vcpu);
		phyp_vcpu_wait(c->v.vcpu, NAP_NS / 4, NAP_NS);
	}
	/* A frame that arrived meanwhile is found by the next poll: USED for it is kept as `pending`. */
	if (rc < 0)
		return vio_err_set(err, rc, "the VIO server went away when asked for %s",
				   command_name(class, cmd));
	if (vio_load_relaxed(c->va + ACK_OFF) != VIRTIO_NET_OK)
		return vio_err_set(
			err, -EINVAL, "the device refused %s%s", command_name(class, cmd),
			class == VIRTIO_NET_CTRL_MAC ? "; does the server have lock-mac=on for it?"
						     : "");
	return 0;
}

void net_ctrl_lost(struct vio_net *n)
{
	struct net_ctrl *c = n->ctrl;
	struct vio_dma_map *m;

	if (!c)
		return;
	m = &c->map;
	c->v.dma->ops->lost(c->v.dma);
	if (c->busy)
		c->v.dma->ops->unmap(c->v.dma, &m, 1);
	c->busy = false;
	c->v.epoch = n->f.epoch;
}

static int set_flag(struct vio_net *n, uint8_t cmd, bool on, struct vio_err *err)
{
	const uint8_t v = on;

	return net_command(n, VIRTIO_NET_CTRL_RX, cmd, &v, 1, err);
}

/* The VLANs that were named. */
static int tell_vlans(struct vio_net *n, struct vio_err *err)
{
	int rc = 0;

	for (uint16_t vid = 0; rc == 0 && vid < 4096; vid++) {
		const uint16_t le = vio_le16(vid);

		if (n->wishes.vlan[vid / 64] >> vid % 64 & 1)
			rc = net_command(n, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &le,
					 sizeof(le), err);
	}
	return rc;
}

int net_tell(struct vio_net *n, struct vio_err *err)
{
	const struct net_wishes *w = &n->wishes;
	int rc = 0;

	if (n->info.pairs > 1) {
		const struct virtio_net_ctrl_mq mq = {.virtqueue_pairs = vio_le16(n->info.pairs)};

		rc = net_command(n, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &mq,
				 sizeof(mq), err);
	}
	if (rc == 0 && w->mac_said)
		rc = net_command(n, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, w->mac,
				 sizeof(w->mac), err);
	if (rc == 0 && w->allmulti_said)
		rc = set_flag(n, VIRTIO_NET_CTRL_RX_ALLMULTI, w->allmulti, err);
	if (rc == 0)
		rc = tell_vlans(n, err);
	if (rc == 0 && w->offloads_said)
		rc = net_command(n, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				 VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
				 &(const uint64_t){vio_le64(w->offloads)}, 8, err);
	if (rc == 0 && w->promisc_said)
		rc = set_flag(n, VIRTIO_NET_CTRL_RX_PROMISC, w->promisc, err);
	return rc;
}

/* A command of the program's; pair 0's owner. */
static int ask(struct vio_net *n, bool able, uint8_t class, uint8_t cmd, const void *data,
	       uint32_t len, struct vio_err *err)
{
	struct net_pair *p = n->p;
	int rc;

	if (!able)
		return vio_err_set(err, -EOPNOTSUPP, "the device does not offer %s",
				   command_name(class, cmd));
	if (!vio_gate_enter(&n->f.gate, &p->rx.pass))
		return vio_err_set(err, -ENOTCONN, "the VIO server is away");
	if (p->rx.epoch != n->f.epoch)
		rc = vio_err_set(err, -ENOTCONN, "the VIO server has only just come back");
	else
		rc = net_command(n, class, cmd, data, len, err);
	vio_gate_leave(&p->rx.pass);
	return rc;
}

int vio_net_promisc(struct vio_net *n, bool on, struct vio_err *err)
{
	const uint8_t v = on;

	n->wishes.promisc_said = n->info.can_rx_mode;
	n->wishes.promisc = on;
	return ask(n, n->info.can_rx_mode, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &v, 1,
		   err);
}

int vio_net_allmulti(struct vio_net *n, bool on, struct vio_err *err)
{
	const uint8_t v = on;

	n->wishes.allmulti_said = n->info.can_rx_mode;
	n->wishes.allmulti = on;
	return ask(n, n->info.can_rx_mode, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &v, 1,
		   err);
}

int vio_net_set_mac(struct vio_net *n, const uint8_t mac[6], struct vio_err *err)
{
	int rc;

	if ((mac[0] & 1) || !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]))
		return vio_err_set(
			err, -EINVAL,
			"%02x:%02x:%02x:%02x:%02x:%02x: %s; a card's own must be one station's, like 02:00:00:00:00:01",
			mac[0], mac[1], mac[2], mac[3], mac[4], mac[5],
			mac[0] & 1 ? "a group's address" : "no address");
	rc = ask(n, n->info.can_set_mac, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6,
		 err);

	if (rc == 0 || rc == -ENOTCONN) {
		n->wishes.mac_said = true;
		memcpy(n->wishes.mac, mac, 6);
		memcpy(n->info.mac, mac, 6);
	}
	return rc;
}

int vio_net_vlan(struct vio_net *n, uint16_t vid, bool on, struct vio_err *err)
{
	const uint16_t le = vio_le16(vid);
	const uint64_t bit = 1ull << vid % 64;

	if (vid >= 4096)
		return vio_err_set(err, -EINVAL, "VLAN %u: they are 0 to 4095", vid);
	if (n->info.can_vlan && on)
		n->wishes.vlan[vid / 64] |= bit;
	else
		n->wishes.vlan[vid / 64] &= ~bit;
	return ask(n, n->info.can_vlan, VIRTIO_NET_CTRL_VLAN,
		   on ? VIRTIO_NET_CTRL_VLAN_ADD : VIRTIO_NET_CTRL_VLAN_DEL, &le, sizeof(le), err);
}

int vio_net_set_offloads(struct vio_net *n, uint64_t offloads, struct vio_err *err)
{
	const uint64_t le = vio_le64(offloads);
	int rc = ask(n, n->info.can_set_offloads, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
		     VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &le, sizeof(le), err);

	if (rc == 0 || rc == -ENOTCONN) {
		n->wishes.offloads_said = true;
		n->wishes.offloads = offloads;
	}
	return rc;
}

int vio_net_announced(struct vio_net *n, struct vio_err *err)
{
	int rc = ask(n, n->info.features >> VIRTIO_NET_F_GUEST_ANNOUNCE & 1,
		     VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0, err);

	if (rc == 0)
		n->info.announce = false;
	return rc;
}
