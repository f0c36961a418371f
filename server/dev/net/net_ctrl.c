/* SPDX-License-Identifier: BSD-3-Clause */
/* The control queue (VIRTIO 1.2, 5.1.6.5): commands, the address, the pairs in use, what is taken unfinished. */
#include <string.h>

#include "server/head/adapter.h"
#include "server/dev/net/net_priv.h"
#include "server/payload/payload.h"

/* Class, command and the data of the longest command. */
#define MAX_COMMAND 1024u

static_assert(2 + 2 * (4 + 6 * VIO_NET_MACS) <= MAX_COMMAND, "two full tables fit");

void vio_net_show_mac(struct vio_net *n, const uint8_t mac[6])
{
	uint64_t v = 0;

	memcpy(&v, mac, 6);
	vio_store_relaxed(&n->shown_mac, v);
	vio_net_show_station(n);
}

/* Where the guest is, as a port's own station; 0: nobody knows. */
static uint64_t station_of(const struct vio_net *n)
{
	uint64_t vid = vio_load_relaxed(&n->port.vlan.pvid), mac = vio_load_relaxed(&n->shown_mac);
	/* On a trunk without a native VLAN nobody knows where it is until it has said something. */
	bool there = vid != 0 && vio_load_relaxed(&n->rx[0]) != NULL;

	return there ? vio_le64(mac) | vid << 48 : 0;
}

void vio_net_show_station(struct vio_net *n)
{
	uint64_t own;

	/*
	 * The queues' lcore and the one that changes the port may both be here, each after its own change:
	 * who stores last must have seen both.
	 */
	do {
		own = station_of(n);
		vio_store_relaxed(&n->port.own, own);
		vio_fence_full(); /* pair SN: the station before what it is made of is looked at again */
	} while (own != station_of(n));
}

void vio_net_take(struct vio_net *n, uint64_t offloads)
{
	static const struct {
		uint8_t feature, gso;
	} kind[] = {{VIRTIO_NET_F_GUEST_TSO4, VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV4)},
		    {VIRTIO_NET_F_GUEST_TSO6, VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV6)},
		    {VIRTIO_NET_F_GUEST_ECN, VIO_GSO_ECN},
		    {VIRTIO_NET_F_GUEST_USO4, VIO_GSO_BIT(VIO_GSO_UDP4)},
		    {VIRTIO_NET_F_GUEST_USO6, VIO_GSO_BIT(VIO_GSO_UDP6)}};

	n->guest_csum = offloads >> VIRTIO_NET_F_GUEST_CSUM & 1;
	n->takes = VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_NONE);
	/* What is not cut is not summed either. */
	for (unsigned i = 0; n->guest_csum && i < VIO_ARRAY_SIZE(kind); i++)
		n->takes |= offloads >> kind[i].feature & 1 ? kind[i].gso : 0;
}

/* From the next frame on (5.1.6.5.6.2): only what was agreed on can be switched on. */
static bool set_offloads(struct vio_net *n, uint8_t cmd, const uint8_t *data, uint32_t len)
{
	const uint64_t may = n->features & VIO_NET_GUEST_OFFLOADS;
	uint64_t want;

	if (cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || len != sizeof(want))
		return false;
	memcpy(&want, data, sizeof(want));
	want = vio_le64(want);
	if (want & ~may)
		return false;
	vio_net_take(n, want);
	return true;
}

static bool set_pairs(struct vio_net *n, const uint8_t *data, uint32_t len)
{
	uint16_t pairs;

	if (len != sizeof(pairs))
		return false;
	memcpy(&pairs, data, sizeof(pairs));
	pairs = vio_le16(pairs);
	if (pairs < 1 || pairs > n->max_pairs)
		return false;
	for (unsigned i = 0; i < pairs; i++) {
		if ((n->queues >> 2 * i & 3) != 3)
			return false; /* the guest has not announced them */
	}
	n->pairs = pairs;
	n->rss.on = false; /* 5.1.6.5.5: from now on by itself */
	return true;
}

static bool set_address(struct vio_squeue *q, struct vio_net *n, const uint8_t *mac, uint32_t len)
{
	if (len != 6 || (mac[0] & 1))
		return false;
	if (n->port.lock != 0 && memcmp(mac, n->mac, 6) != 0)
		return false; /* it could send nothing from there */
	memcpy(n->filter.mac, mac, 6);
	vio_net_show_mac(n, mac); /* 5.1.6.5.2: reflected in `mac` of the config space */
	if (q->adapter)
		vio_adapter_config_changed(q->adapter);
	return true;
}

/* It has announced itself: the config space no longer asks for it. */
static bool announced(struct vio_squeue *q, struct vio_net *n, uint8_t cmd)
{
	if (cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
		return false;
	vio_store_relaxed(&n->announce, false);
	if (q->adapter)
		vio_adapter_config_changed(q->adapter);
	return true;
}

static bool command(struct vio_squeue *q, const uint8_t *c, uint32_t len)
{
	struct vio_net *n = vio_net_of(q);
	const uint8_t *data = c + 2;

	len -= 2;
	if (c[0] == VIRTIO_NET_CTRL_RX)
		return vio_net_rx_mode(n, c[1], data, len);
	if (c[0] == VIRTIO_NET_CTRL_MAC && c[1] == VIRTIO_NET_CTRL_MAC_TABLE_SET &&
	    vio_net_has(n, VIRTIO_NET_F_CTRL_RX))
		return vio_net_mac_table(n, data, len);
	if (c[0] == VIRTIO_NET_CTRL_MAC && c[1] == VIRTIO_NET_CTRL_MAC_ADDR_SET &&
	    vio_net_has(n, VIRTIO_NET_F_CTRL_MAC_ADDR))
		return set_address(q, n, data, len);
	if (c[0] == VIRTIO_NET_CTRL_VLAN && vio_net_has(n, VIRTIO_NET_F_CTRL_VLAN))
		return vio_net_vlan(n, c[1], data, len);
	if (c[0] == VIRTIO_NET_CTRL_GUEST_OFFLOADS &&
	    vio_net_has(n, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
		return set_offloads(n, c[1], data, len);
	if (c[0] == VIRTIO_NET_CTRL_ANNOUNCE && vio_net_has(n, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return announced(q, n, c[1]);
	if (c[0] == VIRTIO_NET_CTRL_MQ && c[1] == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET &&
	    vio_net_has(n, VIRTIO_NET_F_MQ))
		return set_pairs(n, data, len);
	if (c[0] == VIRTIO_NET_CTRL_MQ && c[1] == VIRTIO_NET_CTRL_MQ_RSS_CONFIG &&
	    vio_net_has(n, VIRTIO_NET_F_RSS))
		return vio_net_rss_set(n, data, len);
	return false;
}

static void run(struct vio_squeue *q, struct vio_req *r)
{
	uint8_t c[MAX_COMMAND];
	uint64_t sum = 0, at = 0;
	struct vio_seg *last;

	for (unsigned i = 0; i < r->n_readable; i++)
		sum += r->seg[i].len;
	if (r->n_readable == r->n_seg || sum < 2) {
		r->fault = VIO_ST_REQUEST; /* nowhere to put the answer, or no command */
		return;
	}
	last = &r->seg[r->n_seg > VIO_MAX_SEGS ? VIO_MAX_SEGS - 1 : r->n_seg - 1];
	r->status_at = ioba_add(last->at, last->len - 1);
	r->dev_status = VIRTIO_NET_ERR;
	r->used_len = 1;
	if (r->n_seg > VIO_MAX_SEGS || sum > sizeof(c))
		return;
	for (unsigned i = 0; i < r->n_readable && r->fault == VIO_ST_OK; i++) {
		r->fault = q->payload->read(q, r->seg[i].at, c + at, r->seg[i].len);
		at += r->seg[i].len;
	}
	if (r->fault == VIO_ST_OK && command(q, c, (uint32_t)sum))
		r->dev_status = VIRTIO_NET_OK;
}

unsigned vio_net_ctrl_submit(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			     struct vio_req *done[])
{
	for (unsigned i = 0; i < n; i++) {
		r[i]->n_data = 0;
		r[i]->data_len = 0;
		r[i]->bounce = NULL;
		r[i]->to_guest = false;
		if (r[i]->fault == VIO_ST_OK)
			run(q, r[i]);
		r[i]->state = VIO_REQ_DONE;
		vio_counter_add(&q->stats.others, 1);
		done[i] = r[i];
	}
	return n;
}
