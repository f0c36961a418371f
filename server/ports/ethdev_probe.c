/* SPDX-License-Identifier: BSD-3-Clause */
/* What a port is: its driver, its parts if it is a bond, what may be asked of it. */
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eth_bond.h>

#include "server/ports/ethdev_priv.h"

#define TX_CAPA                                                                                    \
	(RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM |                           \
	 RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO)

int vio_uplink_vdev(const char *devargs, struct vio_err *err)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	uint16_t id;
	int rc;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(devargs, ","), devargs);
	if (rte_eth_dev_get_port_by_name(name, &id) == 0)
		return 0; /* EAL has found it on the bus */
	rc = rte_dev_probe(devargs);
	return rc < 0 ? vio_err_set(err, rc, "%s: DPDK can't make this device: %s%s", devargs,
				    strerror(-rc), geteuid() ? "; most devices need root" : "")
		      : 0;
}

/*
 * Software drivers whose transmit function needs no more of a frame's address than that this process can
 * read it (drivers/net of DPDK): af_packet and memif copy, pcap copies or hands it to libpcap, tap to
 * writev(), null drops the frame or copies its start, ring passes the mbuf on to who polls the ring, which
 * here is this process too. Others may hand the address to another process or a kernel that does not
 * have the page (net_virtio_user, net_memif with zero-copy, net_af_xdp): what is not known gets copies.
 */
static bool reads_our_memory(const struct rte_eth_dev_info *info)
{
	static const char *const known[] = {"net_af_packet", "net_memif", "net_null",
					    "net_pcap",      "net_ring",  "net_tap"};
	const struct rte_devargs *args = info->device ? rte_dev_devargs(info->device) : NULL;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(known); i++) {
		if (!strcmp(info->driver_name, known[i]))
			return !args || !args->args || !strstr(args->args, "zero-copy=yes");
	}
	return false;
}

/*
 * Of these, all whose receive function takes an mbuf when it has a frame for it, and writes from its data_off on, no more than its
 * length; ring gets them from this process. tap has told the kernel the address of one in advance. Hardware has many in advance, and
 * a port would have to be stopped to get them back when a guest withdraws their window: none of them here to try that.
 */
static bool writes_in_place(const struct rte_eth_dev_info *info)
{
	return reads_our_memory(info) && strcmp(info->driver_name, "net_tap") != 0;
}

/* Of af_packet: its interface's link is the kernel's to say. Without a socket or a name it is what the driver says. */
static void ask_kernel(struct vio_uplink *u, uint16_t id, const struct rte_eth_dev_info *info)
{
	const struct rte_devargs *args = info->device ? rte_dev_devargs(info->device) : NULL;
	const char *at = args && args->args ? strstr(args->args, "iface=") : NULL;
	char name[IFNAMSIZ];
	unsigned ifindex;

	if (!at)
		return;
	at += strlen("iface=");
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, ","), at);
	ifindex = if_nametoindex(name);
	if (u->control < 0)
		u->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ifindex == 0 || u->control < 0)
		return;
	u->kernel[u->n_kernel].id = id;
	u->kernel[u->n_kernel++].ifindex = (int)ifindex;
}

struct parts {
	bool hardware; /* all of it */
	bool reach; /* all of it can have frames in place: hardware, for which memory is mapped, or known */
	bool known;  /* all software among it is */
	bool places; /* all of it can have mbufs in guests' buffers */
};

/* What it is, or its parts are. Fills dma[]. */
static struct parts look_at_parts(struct vio_uplink *u)
{
	uint16_t part[MAX_PARTS] = {u->id};
	int n = u->bond ? rte_eth_bond_slaves_get(u->id, part, MAX_PARTS) : 1;
	char name[RTE_ETH_NAME_MAX_LEN], addr[32];
	struct parts p = {n > 0, n > 0, true, n > 0};
	struct rte_eth_dev_info info;

	for (int i = 0; i < n; i++) {
		bool ok = rte_eth_dev_get_name_by_port(part[i], name) == 0 &&
			  rte_eth_dev_info_get(part[i], &info) == 0;

		if (ok && vio_uplink_is_pci(name, addr, sizeof(addr))) {
			u->dma[u->n_dma++] = info.device;
			p.places = false;
			continue;
		}
		p.hardware = false;
		if (!ok || !reads_our_memory(&info))
			p.reach = p.known = false;
		if (!ok || !writes_in_place(&info))
			p.places = false;
		if (ok && !strcmp(info.driver_name, "net_af_packet")) {
			u->unfinished_sums = true;
			ask_kernel(u, part[i], &info);
		}
	}
	return p;
}

/* Make the device, or find it where EAL has done so already. */
int vio_uplink_probe(struct vio_uplink *u, const char *devargs, struct vio_err *err)
{
	struct rte_eth_dev_info info;
	struct parts parts;
	bool chains;
	int rc;

	snprintf(u->name, sizeof(u->name), "%.*s", (int)strcspn(devargs, ","), devargs);
	rc = vio_uplink_vdev(devargs, err);
	if (rc < 0)
		return rc;
	if (rte_eth_dev_get_port_by_name(u->name, &u->id) < 0)
		return vio_err_set(err, -ENODEV,
				   "%s: DPDK has made a device, but it is no Ethernet port",
				   u->name);
	rc = rte_eth_dev_info_get(u->id, &info);
	u->bond = rc == 0 && !strcmp(info.driver_name, "net_bonding");
	if (u->bond) {
		/* A bond knows its parts, and what they can do, only after this. */
		rc = rte_eth_dev_configure(u->id, 1, 1,
					   &(struct rte_eth_conf){.intr_conf = {.lsc = 1}});
		if (rc == 0)
			rc = rte_eth_dev_info_get(u->id, &info);
	}
	if (rc < 0)
		return vio_err_set(err, rc, "%s: %s", u->name, strerror(-rc));
	u->dev = info.device;
	u->capa = info.tx_offload_capa & TX_CAPA;
	parts = look_at_parts(u);
	u->known = parts.known;
	u->places = u->rx_place && parts.places;
	/* Software drivers (tap) cut with rte_gso: no IPv6, and not to full frames. We do both. */
	if (!parts.hardware || !(u->capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) ||
	    !(u->capa & RTE_ETH_TX_OFFLOAD_TCP_CKSUM))
		u->capa &= ~(uint64_t)RTE_ETH_TX_OFFLOAD_TCP_TSO;
	/* The null port does not say that it takes chained mbufs, and frees them like any. */
	chains = (u->capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) || !strcmp(info.driver_name, "net_null");
	u->in_place =
		chains && parts.reach && (u->n_dma == 0 || rte_eal_iova_mode() == RTE_IOVA_VA);
	snprintf(
		u->what, sizeof(u->what),
		"%s (%s), frames %s and %s, checksums %s, segmentation %s", u->name,
		info.driver_name, u->in_place ? "leave in place" : "are copied out",
		u->places ? "come in where they stay"
		: u->rx_place
			? "are copied in (not in place: this driver has buffers in advance, or is not known here)"
			: "are copied in",
		u->capa & RTE_ETH_TX_OFFLOAD_TCP_CKSUM ? "by the port" : "in software",
		u->capa & RTE_ETH_TX_OFFLOAD_TCP_TSO ? "by the port" : "in software");
	return 0;
}
