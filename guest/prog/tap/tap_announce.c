/* SPDX-License-Identifier: BSD-3-Clause */
/* Gratuitous ARP: RFC 5227, 3. Unsolicited neighbour advertisements: RFC 4861, 7.2.6. Sent as Linux sends them. */
#include <ifaddrs.h>
#include <linux/if_vlan.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guest/prog/tap/tap_announce.h"

#define MACS   12u
#define TAG    4u
#define NA_LEN 32u /* with the option that has the link's address */

static uint8_t *put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

static uint8_t *put_bytes(uint8_t *p, const void *from, size_t len)
{
	memcpy(p, from, len);
	return p + len;
}

/* Addresses, a tag if there is one, the type. */
static uint8_t *put_ethernet(uint8_t *p, const uint8_t dst[6], const uint8_t src[6], uint16_t vid,
			     uint16_t type)
{
	p = put_bytes(put_bytes(p, dst, 6), src, 6);
	if (vid)
		p = put_be16(put_be16(p, 0x8100), vid);
	return put_be16(p, type);
}

unsigned vio_announce_arp(uint8_t *to, const uint8_t mac[6], uint16_t vid, const uint8_t ip[4])
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255},
			     fixed[8] = {0, 1, 8, 0, 6, 4, 0, 1}; /* a request */
	uint8_t *p = put_ethernet(to, all, mac, vid, 0x0806);

	p = put_bytes(put_bytes(put_bytes(p, fixed, 8), mac, 6), ip, 4);
	p = put_bytes(put_bytes(p, (const uint8_t[6]){0}, 6), ip, 4);
	return (unsigned)(p - to);
}

static uint16_t icmpv6_sum(const uint8_t *ip)
{
	uint32_t sum = NA_LEN + IPPROTO_ICMPV6;

	for (unsigned i = 8; i < 40 + NA_LEN; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

unsigned vio_announce_na(uint8_t *to, const uint8_t mac[6], uint16_t vid, const uint8_t ip[16])
{
	static const uint8_t group[6] = {0x33, 0x33, 0, 0, 0, 1}, nodes[16] = {0xff, 2, [15] = 1},
			     fixed[8] = {0x60, 0, 0, 0, 0, NA_LEN, IPPROTO_ICMPV6, 255};
	uint8_t *l3 = put_ethernet(to, group, mac, vid, 0x86dd), *p, *icmp;

	icmp = p = put_bytes(put_bytes(put_bytes(l3, fixed, 8), ip, 16), nodes, 16);
	p = put_bytes(p, (const uint8_t[8]){136, [4] = 0x20}, 8); /* override */
	p = put_bytes(p, ip, 16);
	p = put_bytes(put_bytes(p, (const uint8_t[2]){2, 1}, 2), mac, 6);
	put_be16(icmp + 2, icmpv6_sum(l3));
	return (unsigned)(p - to);
}

/* The VLAN of an interface above the tap; 0: it is the tap; -1: it is none of ours. */
static int vlan_of(const struct vio_tap *t, const char *tap, const char *name)
{
	struct vlan_ioctl_args a = {.cmd = GET_VLAN_REALDEV_NAME_CMD};

	if (!strcmp(name, tap))
		return 0;
	if (strlen(name) >= sizeof(a.device1))
		return -1;
	strcpy(a.device1, name);
	if (ioctl(t->control, SIOCGIFVLAN, &a) || strcmp(a.u.device2, tap) != 0)
		return -1;
	a.cmd = GET_VLAN_VID_CMD;
	return ioctl(t->control, SIOCGIFVLAN, &a) ? -1 : a.u.VID;
}

/* One frame into buf; 0: nothing is to be said of that address. */
static unsigned announcement(const struct vio_tap *t, const char *tap, const uint8_t mac[6],
			     const struct ifaddrs *a, uint8_t *buf)
{
	int vid;

	if (!a->ifa_addr ||
	    (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6))
		return 0;
	vid = vlan_of(t, tap, a->ifa_name);
	if (vid < 0)
		return 0;
	if (a->ifa_addr->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, a->ifa_addr, sizeof(in));
		return vio_announce_arp(buf, mac, (uint16_t)vid, (const uint8_t *)&in.sin_addr);
	} else {
		struct sockaddr_in6 in6;

		memcpy(&in6, a->ifa_addr, sizeof(in6));
		return vio_announce_na(buf, mac, (uint16_t)vid, in6.sin6_addr.s6_addr);
	}
}

int vio_tap_announce(const struct vio_tap *t,
		     bool (*send)(void *ctx, const uint8_t *frame, unsigned len), void *ctx)
{
	uint8_t mac[6], frame[VIO_ANNOUNCE_MAX];
	char tap[IFNAMSIZ];
	struct ifaddrs *all;
	int n = 0, rc = vio_tap_mac(t, mac);

	static_assert(MACS + TAG + 2 + 40 + NA_LEN <= VIO_ANNOUNCE_MAX, "the longest");
	if (rc)
		return rc;
	if (getifaddrs(&all))
		return -errno;
	vio_tap_name(t, tap);
	for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
		unsigned len = announcement(t, tap, mac, a, frame);

		n += len > 0 && send(ctx, frame, len);
	}
	freeifaddrs(all);
	return n;
}
