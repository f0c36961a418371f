/* SPDX-License-Identifier: BSD-3-Clause */
/* Sources: RFC 791, 1071, 8200, 9293; VIRTIO 1.2, section 5.1.6.2. */
#include "server/dev/net/offload.h"

#define IPPROTO_TCP_V  6
#define IPV6_HOPOPTS   0
#define IPV6_ROUTING   43
#define IPV6_DSTOPTS   60
#define IPPROTO_UDP_V  17
#define TCP_CSUM_AT    16
#define UDP_CSUM_AT    6
#define IPV4_MIN       20u
#define IPV6_LEN       40u
#define TCP_MIN        20u
#define TCP_MAX        60u
#define TCP_FIN_PSH    0x09u
#define TCP_CWR        0x80u
#define UDP_LEN        8u
#define UDP_LEN_AT     4
#define TCP_FLAGS_AT   13
#define IPV4_FRAGMENTS 0x3fffu /* more fragments, or an offset */

/* --------------------------------------------------------------------------- checksum ---- */

uint64_t vio_csum_add(uint64_t sum, const void *bytes, uint32_t len, bool odd)
{
	const uint8_t *p = bytes;
	uint64_t s = 0;
	uint16_t last = 0;

	/* 32-bit words into 64 bits: carries can't be lost in any frame's length. */
	for (; len >= 4; len -= 4, p += 4) {
		uint32_t w;

		memcpy(&w, p, 4);
		s += w;
	}
	if (len >= 2) {
		uint16_t w;

		memcpy(&w, p, 2);
		s += w;
		p += 2;
		len -= 2;
	}
	if (len) {
		memcpy(&last, p, 1);
		s += last;
	}
	if (odd) {
		uint16_t f = (uint16_t)~vio_csum_fold(s);

		s = (uint16_t)(f << 8 | f >> 8);
	}
	return sum + (s & UINT32_MAX) + (s >> 32);
}

uint16_t vio_csum_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

void vio_offload_csum(struct vio_frame *f)
{
	uint8_t *head = vio_frame_head(f), *at = head + f->csum_start + f->csum_offset;
	uint32_t done = (uint32_t)f->head_len - f->csum_start;
	uint64_t sum = vio_csum_add(0, head + f->csum_start, done, false);
	uint16_t csum;

	/* The field holds the pseudo header's sum, and counts. */
	for (unsigned i = 0; i < f->n_body; i++) {
		uint32_t len = (uint32_t)f->body[i].iov_len;

		sum = vio_csum_add(sum, f->body[i].iov_base, len, done & 1);
		done += len;
	}
	csum = vio_csum_fold(sum);
	if (csum == 0 && f->csum_offset == UDP_CSUM_AT)
		csum = 0xffff; /* UDP's 0 means "none"; TCP's 0xffff is a sum that nobody computes (RFC 1624) */
	memcpy(at, &csum, 2);
	f->flags &= (uint8_t)~VIRTIO_NET_HDR_F_NEEDS_CSUM;
}

/* ------------------------------------------------------------------------------ check ---- */

/* First byte that a checksum may cover. */
static uint32_t headers_end(struct vio_frame *f)
{
	bool tag = vio_get_be16(vio_frame_head(f) + 12) == VIO_ETHERTYPE_VLAN;

	return VIO_ETH_LEN + (tag ? VIO_TAG_LEN : 0u);
}

/* Where the network header begins, behind up to two tags, and of what type it is. */
static uint32_t find_l3(const struct vio_frame *f, uint16_t *type)
{
	const uint8_t *head = vio_frame_head(f);
	uint32_t l3 = VIO_ETH_LEN;

	*type = vio_get_be16(head + 12);
	for (unsigned i = 0;
	     i < 2 && (*type == VIO_ETHERTYPE_VLAN || *type == VIO_ETHERTYPE_QINQ) &&
	     f->head_len >= l3 + VIO_TAG_LEN;
	     i++) {
		*type = vio_get_be16(head + l3 + 2);
		l3 += VIO_TAG_LEN;
	}
	return l3;
}

/* First byte of `proto` behind the IPv4 header at l3; 0: it isn't there, or not whole. */
static uint32_t find_l4_v4(const struct vio_frame *f, uint32_t l3, uint8_t proto)
{
	const uint8_t *ip = vio_frame_head(f) + l3;
	uint32_t len;

	if (f->head_len < l3 + IPV4_MIN)
		return 0;
	len = (ip[0] & 0xfu) * 4;
	if (ip[0] >> 4 != 4 || len < IPV4_MIN || ip[9] != proto ||
	    (vio_get_be16(ip + 6) & IPV4_FRAGMENTS) || vio_get_be16(ip + 2) != f->len - l3)
		return 0;
	return l3 + len;
}

/* The same for IPv6, behind those extension headers that every segment can have. */
static uint32_t find_l4_v6(const struct vio_frame *f, uint32_t l3, uint8_t proto)
{
	const uint8_t *head = vio_frame_head(f);
	uint32_t at = l3 + IPV6_LEN;
	uint8_t next;

	if (f->head_len < at || head[l3] >> 4 != 6 || vio_get_be16(head + l3 + 4) != f->len - at)
		return 0;
	for (next = head[l3 + 6]; next != proto; next = head[at], at += (head[at + 1] + 1u) * 8) {
		if (next != IPV6_HOPOPTS && next != IPV6_ROUTING && next != IPV6_DSTOPTS)
			return 0;
		if (at + 8 > f->head_len)
			return 0;
	}
	return at;
}

static bool is_udp(uint8_t kind)
{
	return kind == VIO_GSO_UDP4 || kind == VIO_GSO_UDP6;
}

static uint16_t csum_at(const struct vio_frame *f)
{
	return is_udp(f->gso_type) ? UDP_CSUM_AT : TCP_CSUM_AT;
}

/* Where the headers end whose last one, of just the kind that is to be cut, is at l4; 0: not in the head. */
static uint32_t find_end(const struct vio_frame *f, uint32_t l4)
{
	const uint8_t *head = vio_frame_head(f);
	uint32_t end;

	if (is_udp(f->gso_type))
		return f->head_len >= l4 + UDP_LEN &&
				       vio_get_be16(head + l4 + UDP_LEN_AT) == f->len - l4
			       ? l4 + UDP_LEN
			       : 0;
	if (f->head_len < l4 + TCP_MIN)
		return 0;
	end = l4 + (head[l4 + 12] >> 4) * 4u;
	return end < l4 + TCP_MIN || end > f->head_len ? 0 : end;
}

/* Headers of just the kind that gso_type says, complete in the head; fills where they are. */
static bool find_headers(struct vio_frame *f)
{
	uint8_t proto = is_udp(f->gso_type) ? IPPROTO_UDP_V : IPPROTO_TCP_V;
	bool v4 = f->gso_type == VIRTIO_NET_HDR_GSO_TCPV4 || f->gso_type == VIO_GSO_UDP4;
	uint16_t type;
	uint32_t l3 = find_l3(f, &type), l4, end;

	if (type != (v4 ? VIO_ETHERTYPE_IPV4 : VIO_ETHERTYPE_IPV6))
		return false;
	l4 = v4 ? find_l4_v4(f, l3, proto) : find_l4_v6(f, l3, proto);
	end = l4 ? find_end(f, l4) : 0;
	if (end == 0 || end >= f->len)
		return false;
	f->l3_at = (uint16_t)l3;
	f->l4_at = (uint16_t)l4;
	f->l4_end = (uint16_t)end;
	return true;
}

uint32_t vio_offload_head(const struct virtio_net_hdr_v1 *h)
{
	uint32_t start = vio_le16(h->csum_start), field = vio_le16(h->csum_offset) + 2u;
	uint32_t need = start + (field > TCP_MAX ? field : TCP_MAX);

	return need > VIO_FRAME_HEAD ? need : VIO_FRAME_HEAD;
}

/* The kind, and whether CWR is the first segment's only. False: there is no such kind. */
static bool take_kind(struct vio_frame *f, uint8_t wire)
{
	uint8_t kind = (uint8_t)(wire & ~VIRTIO_NET_HDR_GSO_ECN);
	uint16_t type;

	f->ecn = wire & VIRTIO_NET_HDR_GSO_ECN ? VIO_GSO_ECN : 0;
	if (kind == VIRTIO_NET_HDR_GSO_UDP_L4 && f->head_len >= VIO_ETH_LEN) {
		find_l3(f, &type);
		kind = type == VIO_ETHERTYPE_IPV6 ? VIO_GSO_UDP6 : VIO_GSO_UDP4;
	} else if (kind != VIRTIO_NET_HDR_GSO_NONE && kind != VIRTIO_NET_HDR_GSO_TCPV4 &&
		   kind != VIRTIO_NET_HDR_GSO_TCPV6) {
		return false;
	}
	f->gso_type = kind;
	return !f->ecn || kind == VIRTIO_NET_HDR_GSO_TCPV4 || kind == VIRTIO_NET_HDR_GSO_TCPV6;
}

/* Are the pieces of a size that somebody may ask for? */
static bool right_size(const struct vio_frame *f)
{
	return is_udp(f->gso_type) ? f->gso_size > 0 && vio_offload_segments(f) <= VIO_UDP_SEGMENTS
				   : f->gso_size >= VIO_GSO_MIN;
}

bool vio_offload_check(struct vio_frame *f, const struct virtio_net_hdr_v1 *h, bool csum,
		       uint8_t gso)
{
	static_assert(VIO_GSO_UDP4 == VIRTIO_NET_HDR_GSO_UDP_L4 &&
			      VIO_GSO_ECN == VIRTIO_NET_HDR_GSO_ECN,
		      "what the wire says, but for IPv6");
	f->flags = h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
	if (!take_kind(f, h->gso_type))
		return false;
	f->gso_size = vio_le16(h->gso_size);
	f->csum_start = vio_le16(h->csum_start);
	f->csum_offset = vio_le16(h->csum_offset);
	if (f->flags && (!csum || f->csum_start < headers_end(f) ||
			 (uint32_t)f->csum_start + f->csum_offset + 2 > f->head_len))
		return false;
	if (f->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (!vio_gso_in(f, gso) || !f->flags || !find_headers(f) || !right_size(f))
		return false;
	if (f->csum_start != f->l4_at || f->csum_offset != csum_at(f))
		return false;
	f->head_len = f->l4_end;
	return true;
}

/* ----------------------------------------------------------------------- segmentation ---- */

uint32_t vio_offload_segments(const struct vio_frame *f)
{
	return (f->len - f->l4_end + f->gso_size - 1) / f->gso_size;
}

/* The i-th piece of the body into out's own list. */
static void slice(const struct vio_frame *f, uint32_t off, uint32_t len, struct vio_segment *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->n_body && len > 0; i++) {
		uint32_t have = (uint32_t)f->body[i].iov_len, part;

		if (off >= have) {
			off -= have;
			continue;
		}
		part = have - off < len ? have - off : len;
		out->iov[n++] = (struct iovec){(uint8_t *)f->body[i].iov_base + off, part};
		len -= part;
		off = 0;
	}
	out->f.body = out->iov;
	out->f.n_body = (uint16_t)n;
}

static uint16_t unfolded(uint64_t sum)
{
	return (uint16_t)~vio_csum_fold(sum);
}

/* The pseudo header's sum for `len` bytes of a protocol, from the addresses at `at`. */
static uint16_t pseudo(const uint8_t *at, uint32_t bytes, uint8_t proto, uint16_t len)
{
	uint8_t tail[4] = {0, proto, 0, 0};

	vio_put_be16(tail + 2, len);
	return unfolded(vio_csum_add(vio_csum_add(0, at, bytes, false), tail, sizeof(tail), false));
}

/* The same sum, for another length: the addresses that count may be others than the header's (routing). */
static uint16_t pseudo_changed(uint16_t sum, uint32_t was, uint32_t is)
{
	uint8_t len[4];

	vio_put_be16(len, (uint16_t)~was);
	vio_put_be16(len + 2, (uint16_t)is);
	return unfolded(vio_csum_add(sum, len, sizeof(len), false));
}

/*
 * Lengths, identification and checksum of the IP header, and the pseudo header's sum for TCP or UDP. `was`:
 * bytes of it before it was cut.
 */
static uint16_t fix_ip(struct vio_frame *s, uint32_t i, uint32_t was)
{
	uint8_t *ip = vio_frame_head(s) + s->l3_at;
	uint8_t proto = is_udp(s->gso_type) ? IPPROTO_UDP_V : IPPROTO_TCP_V;
	uint32_t l4_len = s->len - s->l4_at;
	uint16_t csum;

	if (ip[0] >> 4 == 4) {
		vio_put_be16(ip + 2, (uint16_t)(s->len - s->l3_at));
		vio_put_be16(ip + 4, (uint16_t)(vio_get_be16(ip + 4) + i));
		vio_put_be16(ip + 10, 0);
		csum = vio_csum_fold(vio_csum_add(0, ip, (uint32_t)s->l4_at - s->l3_at, false));
		memcpy(ip + 10, &csum, 2);
		return pseudo(ip + 12, 8, proto, (uint16_t)l4_len);
	}
	vio_put_be16(ip + 4, (uint16_t)(s->len - s->l3_at - IPV6_LEN));
	if (vio_likely(s->l4_at - s->l3_at == IPV6_LEN))
		return pseudo(ip + 8, 32, proto, (uint16_t)l4_len);
	memcpy(&csum, vio_frame_head(s) + s->l4_at + csum_at(s), 2);
	return pseudo_changed(csum, was, l4_len);
}

/* CWR is the first segment's (RFC 3168, 6.1.2), FIN and PSH the last one's. */
static void fix_tcp(uint8_t *tcp, uint32_t off, bool first, bool last)
{
	uint32_t seq;

	memcpy(&seq, tcp + 4, 4);
	seq = htobe32(be32toh(seq) + off);
	memcpy(tcp + 4, &seq, 4);
	if (!last)
		tcp[TCP_FLAGS_AT] &= (uint8_t)~TCP_FIN_PSH;
	if (!first)
		tcp[TCP_FLAGS_AT] &= (uint8_t)~TCP_CWR;
}

void vio_offload_segment(const struct vio_frame *f, uint32_t i, struct vio_segment *out)
{
	uint32_t off = i * f->gso_size, left = f->len - f->l4_end - off;
	uint32_t len = left < f->gso_size ? left : f->gso_size;
	struct vio_frame *s = &out->f;
	uint8_t *l4;
	uint16_t sum;

	memcpy(s, f, offsetof(struct vio_frame, buf));
	s->head = f->head_len <= sizeof(s->buf) ? s->buf : out->room;
	memcpy(s->head, vio_frame_head(f), f->head_len);
	s->len = f->l4_end + len;
	s->body_len = len;
	s->local = NULL;
	s->place = NULL;
	slice(f, off, len, out);
	l4 = vio_frame_head(s) + s->l4_at;
	if (is_udp(f->gso_type))
		vio_put_be16(l4 + UDP_LEN_AT, (uint16_t)(s->len - s->l4_at));
	else
		fix_tcp(l4, off, i == 0, len == left);
	sum = fix_ip(s, i, f->len - f->l4_at);
	memcpy(l4 + csum_at(f), &sum, 2);
	s->gso_type = VIRTIO_NET_HDR_GSO_NONE;
	s->ecn = 0;
	s->gso_size = 0;
}

/* ------------------------------------------------------------------------------- finding ---- */

enum vio_sum vio_offload_look(struct vio_frame *f)
{
	const uint8_t *head = vio_frame_head(f), *ip;
	uint32_t l3, l4, end;
	uint16_t type, field, want;
	uint8_t proto;
	bool v4;

	if (f->head_len < VIO_ETH_LEN)
		return VIO_SUM_OTHER;
	l3 = find_l3(f, &type);
	ip = head + l3;
	v4 = type == VIO_ETHERTYPE_IPV4;
	if ((!v4 && type != VIO_ETHERTYPE_IPV6) || f->head_len < l3 + (v4 ? IPV4_MIN : IPV6_LEN))
		return VIO_SUM_OTHER;
	l4 = l3 + (v4 ? (ip[0] & 0xfu) * 4 : IPV6_LEN);
	end = v4 ? l3 + vio_get_be16(ip + 2) : l4 + vio_get_be16(ip + 4);
	if (end > f->len)
		return VIO_SUM_TRUNCATED;
	proto = v4 ? ip[9] : ip[6];
	/* Behind padding nothing can be left to a device, which sums to the frame's end. */
	if ((proto != IPPROTO_TCP_V && proto != IPPROTO_UDP_V) || end != f->len ||
	    l4 < l3 + IPV4_MIN || (v4 && vio_get_be16(ip + 6) & IPV4_FRAGMENTS))
		return VIO_SUM_OTHER;
	f->csum_offset = proto == IPPROTO_TCP_V ? TCP_CSUM_AT : UDP_CSUM_AT;
	if (f->head_len < l4 + f->csum_offset + 2)
		return VIO_SUM_OTHER;
	memcpy(&field, head + l4 + f->csum_offset, 2);
	want = v4 ? pseudo(ip + 12, 8, proto, (uint16_t)(end - l4))
		  : pseudo(ip + 8, 32, proto, (uint16_t)(end - l4));
	if (field != want)
		return VIO_SUM_OTHER;
	f->csum_start = (uint16_t)l4;
	f->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	return VIO_SUM_UNFINISHED;
}
