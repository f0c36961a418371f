/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which of a guest's receive queues a frame goes to. A flow's hash is the same in both directions,
 * so what the guest sends on a queue says where it wants the answers. Hashes may collide, and bytes
 * of a body are the sender's to change: either costs a frame its queue, nothing else.
 */
#include <string.h>

#include "server/dev/net/net_priv.h"

#define TCP        6
#define UDP        17
#define SCTP       132
#define FRAGMENT   0x3fffu /* of IPv4: more fragments, or an offset */
#define MULTIPLIER 0x9e3779b97f4a7c15ull

uint32_t vio_net_look(const struct vio_frame *f, uint8_t *b)
{
	uint32_t head = f->head_len < VIO_NET_LOOK ? f->head_len : VIO_NET_LOOK, more = 0;

	memcpy(b, vio_frame_head(f), head);
	if (head < VIO_NET_LOOK && f->n_body > 0) {
		more = VIO_NET_LOOK - head;
		more = f->body[0].iov_len < more ? (uint32_t)f->body[0].iov_len : more;
		memcpy(b + head, f->body[0].iov_base, more);
	}
	return head + more;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * MULTIPLIER;
	return h ^ h >> 29;
}

/* The XOR of two fields of n bytes, one behind the other: the same whichever is first. */
static uint64_t both(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++)
		v ^= (uint64_t)(p[i] ^ p[n + i]) << i % 8 * 8;
	return v;
}

static bool has_ports(uint8_t proto)
{
	return proto == TCP || proto == UDP || proto == SCTP;
}

static uint64_t hash_ipv4(const uint8_t *ip, uint32_t len)
{
	uint64_t h = mix(ip[9], both(ip + 12, 4));
	uint32_t l4 = (ip[0] & 0xfu) * 4;

	/* Later fragments have no ports: all of a packet's go the same way. */
	if (has_ports(ip[9]) && !(vio_get_be16(ip + 6) & FRAGMENT) && l4 >= 20 && l4 + 4 <= len)
		h = mix(h, both(ip + l4, 2));
	return h;
}

static uint64_t hash_ipv6(const uint8_t *ip, uint32_t len)
{
	uint64_t h = mix(ip[6], both(ip + 8, 16));

	if (has_ports(ip[6]) && len >= 44)
		h = mix(h, both(ip + 40, 2));
	return h;
}

uint32_t vio_net_find_l3(const uint8_t *b, uint32_t n, uint16_t *type)
{
	uint32_t l3 = VIO_ETH_LEN;

	*type = vio_get_be16(b + 12);
	while ((*type == VIO_ETHERTYPE_VLAN || *type == VIO_ETHERTYPE_QINQ) &&
	       n >= l3 + VIO_TAG_LEN) {
		*type = vio_get_be16(b + l3 + 2);
		l3 += VIO_TAG_LEN;
	}
	return l3;
}

static uint32_t flow_of(struct vio_frame *f)
{
	uint8_t b[VIO_NET_LOOK];
	uint32_t n, l3;
	uint16_t type;
	uint64_t h;

	if (f->flow)
		return f->flow;
	n = vio_net_look(f, b);
	if (n < VIO_ETH_LEN)
		return 1;
	l3 = vio_net_find_l3(b, n, &type);
	if (type == VIO_ETHERTYPE_IPV4 && n >= l3 + 20)
		h = hash_ipv4(b + l3, n - l3);
	else if (type == VIO_ETHERTYPE_IPV6 && n >= l3 + 40)
		h = hash_ipv6(b + l3, n - l3);
	else
		h = mix(type, both(b, 6));
	f->flow = (uint32_t)(h >> 32) | 1;
	return f->flow;
}

void vio_net_learn_flows(struct vio_net *n, unsigned pair, unsigned frames)
{
	static_assert(VIO_NET_MAX_PAIRS < UINT8_MAX, "a pair and one fit a byte");
	for (unsigned i = 0; i < frames; i++)
		n->steer[flow_of(&n->frame[i]) >> 1 & (VIO_NET_FLOWS - 1)] = (uint8_t)(pair + 1);
}

unsigned vio_net_choose_pair(struct vio_net *n, struct vio_frame *f)
{
	uint32_t h = flow_of(f) >> 1;
	unsigned said = n->steer[h & (VIO_NET_FLOWS - 1)];

	return said > 0 && said <= n->pairs ? said - 1 : (h >> 12) % n->pairs;
}
