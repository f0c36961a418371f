/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest wants to get (VIRTIO 1.2, 5.1.6.5.1 to 3): modes, lists of addresses, VLANs. The order in
 * which they count is QEMU's: promiscuous mode is above all else, VLANs among it.
 */
#include <string.h>

#include "server/dev/net/net_priv.h"

void vio_net_filter_reset(struct vio_net *n)
{
	memset(&n->filter, 0, sizeof(n->filter));
	memcpy(n->filter.mac, n->mac, sizeof(n->mac));
	n->filter.promisc = true; /* until the guest says what it wants */
	n->filter.vlans = vio_net_has(n, VIRTIO_NET_F_CTRL_VLAN);
}

static void sum_up(struct vio_net_filter *w)
{
	w->allmulti = w->asked_allmulti || w->many_multi;
	w->alluni = w->asked_alluni || w->many_uni;
}

/*
 * One of the two lists of MAC_TABLE_SET. All: it lists more than we keep, so that everything of its
 * kind is let through until the next one (5.1.6.5.2 allows that). False: malformed.
 */
static bool take_table(const uint8_t **at, uint32_t *left, uint8_t (*list)[6], unsigned *n,
		       bool *all)
{
	uint32_t count;

	if (*left < 4)
		return false;
	memcpy(&count, *at, 4);
	count = vio_le32(count);
	*at += 4;
	*left -= 4;
	if (count > *left / 6)
		return false;
	*all = count > VIO_NET_MACS;
	*n = *all ? 0 : count;
	memcpy(list, *at, *n * 6);
	*at += count * 6;
	*left -= count * 6;
	return true;
}

bool vio_net_mac_table(struct vio_net *n, const uint8_t *data, uint32_t len)
{
	struct vio_net_filter w = n->filter;

	if (!take_table(&data, &len, w.uni, &w.n_uni, &w.many_uni) ||
	    !take_table(&data, &len, w.multi, &w.n_multi, &w.many_multi) || len != 0)
		return false;
	sum_up(&w);
	n->filter = w;
	return true;
}

/* The flag that a mode's command sets; NULL: there is no such mode, or it was not agreed on. */
static bool *flag_of(struct vio_net *n, uint8_t cmd)
{
	struct vio_net_filter *w = &n->filter;
	bool *const flag[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &w->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &w->asked_allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &w->asked_alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &w->no_multi,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &w->no_uni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &w->no_broadcast,
	};

	const unsigned extra = cmd > VIRTIO_NET_CTRL_RX_ALLMULTI;

	return cmd < VIO_ARRAY_SIZE(flag) && vio_net_has(n, extra ? VIRTIO_NET_F_CTRL_RX_EXTRA
								  : VIRTIO_NET_F_CTRL_RX)
		       ? flag[cmd]
		       : NULL;
}

bool vio_net_rx_mode(struct vio_net *n, uint8_t cmd, const uint8_t *data, uint32_t len)
{
	bool *flag = flag_of(n, cmd);

	if (!flag || len != 1 || data[0] > 1)
		return false;
	*flag = data[0];
	sum_up(&n->filter);
	return true;
}

bool vio_net_vlan(struct vio_net *n, uint8_t cmd, const uint8_t *data, uint32_t len)
{
	uint64_t *word, bit;
	uint16_t vid;

	if (len != sizeof(vid))
		return false;
	memcpy(&vid, data, sizeof(vid));
	vid = vio_le16(vid);
	if (vid >= 4096)
		return false;
	word = &n->filter.vlan[vid / 64];
	bit = 1ull << vid % 64;
	if (cmd == VIRTIO_NET_CTRL_VLAN_ADD)
		*word |= bit;
	else if (cmd == VIRTIO_NET_CTRL_VLAN_DEL)
		*word &= ~bit;
	else
		return false;
	return true;
}

static bool listed(const uint8_t (*list)[6], unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++) {
		if (!memcmp(list[i], mac, 6))
			return true;
	}
	return false;
}

bool vio_net_wanted(const struct vio_net *n, const struct vio_frame *f)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const struct vio_net_filter *w = &n->filter;
	const uint8_t *dst = vio_frame_head(f);

	if (w->vlans && vio_port_tags(&n->port, f->vid) &&
	    !(w->vlan[f->vid / 64] >> f->vid % 64 & 1))
		return false;
	if (!memcmp(dst, broadcast, 6))
		return !w->no_broadcast;
	if (dst[0] & 1)
		return !w->no_multi && (w->allmulti || listed(w->multi, w->n_multi, dst));
	return !w->no_uni &&
	       (w->alluni || !memcmp(dst, w->mac, 6) || listed(w->uni, w->n_uni, dst));
}
