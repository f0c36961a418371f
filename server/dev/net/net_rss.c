/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive-side scaling: the guest says by which fields a frame's queue is found, with which key, and in which
 * table. VIRTIO 1.2, 5.1.6.4.3 (what is hashed) and 5.1.6.5.7 (the command). The hash itself is the program's
 * (struct vio_dev_env), from a library.
 */
#include <string.h>

#include "server/dev/net/net_priv.h"

#define TCP       6
#define UDP       17
#define HOPOPTS   0
#define ROUTING   43
#define FRAGMENT  44
#define DSTOPTS   60
#define FRAGMENTS 0x3fffu /* of IPv4: more fragments, or an offset */
#define TYPE(t)   VIRTIO_NET_RSS_HASH_TYPE_##t

static_assert(VIO_RSS_TYPES == (TYPE(IPv4) | TYPE(TCPv4) | TYPE(UDPv4) | TYPE(IPv6) | TYPE(TCPv6) |
				TYPE(UDPv6)),
	      "all that need no home address option");

/* ------------------------------------------------------------------------------ command ---- */

/* Little-endian field of the command; *left is what there is. False: it ends before. */
static bool get(const uint8_t **at, uint32_t *left, void *to, uint32_t len)
{
	if (*left < len)
		return false;
	memcpy(to, *at, len);
	*at += len;
	*left -= len;
	return true;
}

static bool get16(const uint8_t **at, uint32_t *left, uint16_t *v)
{
	if (!get(at, left, v, sizeof(*v)))
		return false;
	*v = vio_le16(*v);
	return true;
}

/* Has the guest announced both queues of the pair? */
static bool there(const struct vio_net *n, uint16_t pair)
{
	return pair < n->max_pairs && (n->queues >> 2 * pair & 3) == 3;
}

/* The table, and how many pairs it and what goes before it are about. */
static bool get_table(const struct vio_net *n, const uint8_t **at, uint32_t *left,
		      struct vio_net_rss *r, uint16_t *pairs)
{
	if (!get16(at, left, &r->mask) || !get16(at, left, &r->unclassified) ||
	    r->mask >= VIO_RSS_TABLE || (r->mask & (r->mask + 1)) || !there(n, r->unclassified))
		return false;
	*pairs = (uint16_t)(r->unclassified + 1);
	for (unsigned i = 0; i <= r->mask; i++) {
		if (!get16(at, left, &r->table[i]) || !there(n, r->table[i]))
			return false;
		if (r->table[i] >= *pairs)
			*pairs = (uint16_t)(r->table[i] + 1);
	}
	return true;
}

bool vio_net_rss_set(struct vio_net *n, const uint8_t *data, uint32_t len)
{
	struct vio_net_rss r = {.on = true};
	uint16_t pairs, tx;
	uint8_t key;

	if (!get(&data, &len, &r.types, sizeof(r.types)))
		return false;
	r.types = vio_le32(r.types);
	if ((r.types & ~VIO_RSS_TYPES) || !get_table(n, &data, &len, &r, &pairs) ||
	    !get16(&data, &len, &tx) || !get(&data, &len, &key, 1))
		return false;
	if (tx < 1 || !there(n, (uint16_t)(tx - 1)) || key > VIO_RSS_KEY ||
	    !get(&data, &len, r.key, key) || len != 0)
		return false;
	n->rss = r;
	n->pairs = pairs > tx ? pairs : tx;
	return true;
}

/* -------------------------------------------------------------------------------- hash ---- */

/* Of the addresses and perhaps the ports, in the order in which they stand in the frame. */
static uint32_t hash(const struct vio_net *n, const uint8_t *ip, unsigned bytes,
		     const uint8_t *ports)
{
	uint32_t word[9], k = bytes / 4;

	memcpy(word, ip, bytes);
	if (ports)
		memcpy(&word[k++], ports, 4);
	for (unsigned i = 0; i < k; i++)
		word[i] = be32toh(word[i]);
	return n->env.toeplitz(word, k, n->rss.key);
}

/* Does the guest want the ports of such a frame counted? */
static bool by_ports(uint32_t types, uint8_t proto, uint32_t tcp, uint32_t udp)
{
	return (proto == TCP && (types & tcp)) || (proto == UDP && (types & udp));
}

/* False: by no type that the guest has named. */
static bool hash_v4(const struct vio_net *n, const uint8_t *ip, uint32_t len, uint32_t *h)
{
	uint32_t l4 = (ip[0] & 0xfu) * 4, types = n->rss.types;
	const uint8_t *ports = NULL;

	/* A packet's fragments have no ports, all but the first: all go the same way. */
	if (by_ports(types, ip[9], TYPE(TCPv4), TYPE(UDPv4)) &&
	    !(vio_get_be16(ip + 6) & FRAGMENTS) && l4 >= 20 && l4 + 4 <= len)
		ports = ip + l4;
	if (!ports && !(types & TYPE(IPv4)))
		return false;
	*h = hash(n, ip + 12, 8, ports);
	return true;
}

static bool hash_v6(const struct vio_net *n, const uint8_t *ip, uint32_t len, uint32_t *h)
{
	uint32_t at = 40, types = n->rss.types;
	const uint8_t *ports = NULL;
	uint8_t next = ip[6];

	/* Extension headers are skipped, and are no addresses here: none of the types with EX is known. */
	while ((next == HOPOPTS || next == ROUTING || next == DSTOPTS) && at + 8 <= len) {
		next = ip[at];
		at += (ip[at + 1] + 1u) * 8;
	}
	if (by_ports(types, next, TYPE(TCPv6), TYPE(UDPv6)) && at + 4 <= len)
		ports = ip + at;
	if (!ports && !(types & TYPE(IPv6)))
		return false;
	*h = hash(n, ip + 8, 32, ports);
	return true;
}

unsigned vio_net_rss_pair(const struct vio_net *n, const struct vio_frame *f)
{
	uint8_t b[VIO_NET_LOOK];
	uint32_t len = vio_net_look(f, b), l3, h = 0;
	bool found = false;
	uint16_t type;

	if (len >= VIO_ETH_LEN) {
		l3 = vio_net_find_l3(b, len, &type);
		if (type == VIO_ETHERTYPE_IPV4 && len >= l3 + 20)
			found = hash_v4(n, b + l3, len - l3, &h);
		else if (type == VIO_ETHERTYPE_IPV6 && len >= l3 + 40)
			found = hash_v6(n, b + l3, len - l3, &h);
	}
	return found ? n->rss.table[h & n->rss.mask] : n->rss.unclassified;
}
