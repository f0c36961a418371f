/* SPDX-License-Identifier: BSD-3-Clause */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <string.h>

#include "guest/prog/net/net_frame.h"
#include "guest/prog/pattern.h"

#define MAGIC      0x5649u /* "VI": the source port */
#define PORT       9       /* discard; of stream 0 */
#define VLAN_LEN   4u
#define IP_LEN     20u
#define UDP_LEN    8u
#define TTL        64
#define FIRST_FLOW 2 /* last byte of the first destination address */

/*
 * Two more things that it says of itself are in the headers: the source port is ours, the IP
 * identification is the stream.
 */
struct tag {
	uint32_t seq; /* big-endian, as all of a frame's fields */
	uint16_t tick_front;
	uint32_t tick_back;
} __attribute__((packed));

#define HEADS (ETH_HLEN + IP_LEN + UDP_LEN)
_Static_assert(HEADS + VLAN_LEN + sizeof(struct tag) <= VIO_NF_MIN,
	       "the smallest frame has it all");
_Static_assert(VIO_NET_HDR + HEADS + sizeof(struct tag) <= VIO_CACHE_LINE,
	       "one line of a buffer has it all");
/* Copied for every frame: up to the tag, with a VLAN tag or without. */
#define COPIED 48u
_Static_assert(COPIED >= HEADS + VLAN_LEN && COPIED <= HEADS + sizeof(struct tag), "constant");

static void put16(uint8_t *p, uint16_t v)
{
	v = htons(v);
	memcpy(p, &v, sizeof(v));
}

/* Of an IPv4 header whose checksum field is 0: the sum, not yet folded. */
static uint32_t ip_sum(const uint8_t *h)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < IP_LEN; i += 2)
		sum += (uint32_t)h[i] << 8 | h[i + 1];
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

void vio_nf_init(struct vio_nf *f, const struct vio_nf_cfg *cfg, uint16_t stream)
{
	static const uint8_t ip[IP_LEN] = {0x45, 0, 0,   0,  0, 0, 0x40, 0,  TTL, IPPROTO_UDP,
					   0,    0, 198, 18, 0, 1, 198,  18, 0,   2};
	uint8_t *p = f->head;

	memset(f, 0, sizeof(*f));
	f->cfg = *cfg;
	f->stream = stream;
	memcpy(p, cfg->dst, 6);
	memcpy(p + 6, cfg->src, 6);
	p += 12;
	if (cfg->vlan) {
		put16(p, ETH_P_8021Q);
		put16(p + 2, cfg->vlan);
		p += VLAN_LEN;
	}
	put16(p, ETH_P_IP);
	p += 2;
	memcpy(p, ip, IP_LEN);
	put16(p + 4, stream);
	f->ip_at = (uint32_t)(p - f->head);
	f->ip_sum = ip_sum(p);
	p += IP_LEN;
	put16(p, MAGIC);
	put16(p + 2,
	      (uint16_t)(PORT +
			 stream)); /* each stream a flow, which has its own queue everywhere */
	f->head_len = (uint32_t)(p + UDP_LEN - f->head);
}

/* What depends on length and flow. */
static void adapt_head(struct vio_nf *f, uint32_t len, uint32_t flow)
{
	const uint32_t ip_len = len - f->ip_at;
	uint8_t *ip = f->head + f->ip_at;

	put16(ip + 2, (uint16_t)ip_len);
	put16(ip + 10, fold(f->ip_sum + ip_len + flow));
	put16(ip + 18, (uint16_t)(FIRST_FLOW + flow));
	put16(ip + IP_LEN + 4, (uint16_t)(ip_len - IP_LEN));
	f->head_is_for = len;
}

/*
 * Stores only, and few: the lines are in the server's cache, and a load would wait for them to come
 * over, where a store does not.
 */
void vio_nf_build(struct vio_nf *f, struct vio_net_buf *b, uint32_t len, uint64_t tick)
{
	const struct tag t = {htonl(f->seq), htons((uint16_t)(tick >> 32)), htonl((uint32_t)tick)};

	if (vio_unlikely(f->cfg.flows > 1))
		adapt_head(f, len, f->seq % f->cfg.flows);
	else if (vio_unlikely(f->head_is_for != len))
		adapt_head(f, len, 0);
	memcpy(b->data, f->head, COPIED);
	memcpy(b->data + f->head_len, &t, sizeof(t));
	if (f->cfg.payload) {
		const uint64_t key = vio_pattern_key(f->cfg.seed, f->stream, f->seq);
		uint32_t at = 0, skip = f->head_len + (uint32_t)sizeof(t);

		/* Counted from the tag on: a VLAN tag may come or go on the way. */
		for (; b; b = b->next, skip = 0) {
			vio_pattern_fill_at(b->data + skip, b->len - skip, key, at);
			at += b->len - skip;
		}
	}
	f->seq++;
}

bool vio_nf_look(const struct vio_net_buf *b, uint64_t seed, bool payload, struct vio_nf_seen *s)
{
	uint32_t at = ETH_HLEN, skip;
	const uint8_t *d = b->data, *ip;
	struct tag t;
	uint64_t key;

	if (b->len < VIO_NF_MIN)
		return false;
	if (d[12] == ETH_P_8021Q >> 8 && d[13] == (ETH_P_8021Q & 0xff))
		at += VLAN_LEN;
	if (d[at - 2] != ETH_P_IP >> 8 || d[at - 1] != (ETH_P_IP & 0xff) ||
	    d[at + 9] != IPPROTO_UDP)
		return false;
	if (d[at + IP_LEN] != MAGIC >> 8 || d[at + IP_LEN + 1] != (MAGIC & 0xff))
		return false;
	ip = d + at;
	at += IP_LEN + UDP_LEN;
	memcpy(&t, d + at, sizeof(t));
	*s = (struct vio_nf_seen){
		.stream = (uint16_t)(ip[4] << 8 | ip[5]),
		.seq = ntohl(t.seq),
		.tick = (uint64_t)ntohs(t.tick_front) << 32 | ntohl(t.tick_back),
	};
	/* Cut short or padded? The IP header says how long it was. */
	s->wrong = ((uint32_t)ip[2] << 8 | ip[3]) + (uint32_t)(ip - d) != b->total;
	if (!payload)
		return true;
	key = vio_pattern_key(seed, s->stream, s->seq);
	skip = at + (uint32_t)sizeof(t);
	at = 0;
	for (; b; b = b->next, skip = 0) {
		s->wrong += vio_pattern_check_at(b->data + skip, b->len - skip, key, at);
		at += b->len - skip;
	}
	return true;
}
