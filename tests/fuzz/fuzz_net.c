/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One guest sends what the fuzzer likes, header and frame and framing, through the switch to another guest
 * whose features and buffers the fuzzer chooses too. Every frame and every buffer is an allocation and a
 * window of its own, so that an access outside of one is the sanitizer's finding; what a receiver may rely on
 * is checked here.
 */
#include <stdlib.h>
#include <string.h>

#include "server/adapter.h"
#include "server/net_priv.h"
#include "server/payload/payload.h"
#include "server/ring/ring.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/fuzz.h"

#define SIZE    64u
#define BUFFERS 48u
#define FRAMES  12u
#define RINGS   0x200000ull /* IOBA of the three parts: + 0x10000 each */
#define DATA    0x400000ull /* of buffer or frame i: + i * 0x20000 */
#define F(name) (1ull << VIRTIO_NET_F_##name)
#define FEATURES                                                                                             \
	(F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(MRG_RXBUF))

/* ---------------------------------------------------------------------- the switch's table ---- */

static int no_learn(struct vio_fdb *t, uint64_t key, unsigned port, unsigned limit, uint32_t now)
{
	(void)t, (void)key, (void)port, (void)limit, (void)now;
	return -ENOSPC;
}
static int no_lookup(struct vio_fdb *t, uint64_t key)
{
	(void)t, (void)key;
	return -1; /* all is flooded: every frame that is let in reaches the other guest */
}
static unsigned no_age(struct vio_fdb *t, uint32_t now, uint32_t age)
{
	(void)t, (void)now, (void)age;
	return 0;
}
static void no_forget(struct vio_fdb *t, unsigned port)
{
	(void)t, (void)port;
}
static unsigned no_count(const struct vio_fdb *t)
{
	(void)t;
	return 0;
}
static void no_free(struct vio_fdb *t)
{
	(void)t;
}

static const struct vio_fdb_ops fdb_ops = {no_learn, no_lookup, no_age, no_forget, no_count, no_free};

/* ------------------------------------------------------------------------------ two guests ---- */

struct end {
	struct vio_net *net;
	struct vio_squeue *q;
	struct vio_backend_queue *bq;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct vio_wtable *table;
	const struct vio_wtable *published;
	uint16_t used_seen;
	uint8_t *mem[BUFFERS];
	uint32_t len[BUFFERS];
};

static void window(struct end *e, uint64_t at, uint64_t len, void *va, uint8_t perm, uint16_t id)
{
	struct vio_window w = {
		.at = {at}, .len = len, .va = va, .perm = perm, .role = VIO_WINDOW_BUFFERS, .id = id};
	struct vio_wtable *t;

	FUZZ_CHECK(vio_wtable_add(e->table, &w, &t) == 0);
	free(e->table);
	e->published = e->table = t;
}

static struct phyp_vcpu *vcpu_of_machine(uint32_t *unit)
{
	static struct phyp_vcpu *vcpu;
	static uint32_t the_unit;
	struct phyp_profile p;
	struct phyp_machine *m;
	struct phyp_part *part;
	struct vio_err err;

	if (!vcpu) {
		phyp_profile_default(&p, 1, 16, 16);
		FUZZ_CHECK(phyp_local_create(&p, &m, &err) == 0);
		FUZZ_CHECK(phyp_local_open(m, "vios", &part, &err) == 0);
		FUZZ_CHECK(phyp_vcpu_create(part, &vcpu, &err) == 0);
		the_unit = phyp_unit(part, 0)->unit;
	}
	*unit = the_unit;
	return vcpu;
}

/* index: 0 receives, 1 transmits. */
static void open_end(struct end *e, struct vio_switch *sw, const char *spec, uint64_t features,
		     uint16_t index)
{
	struct vio_squeue *q = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*q), VIO_CACHE_LINE));
	struct vio_backend *be;
	struct vio_err err;

	FUZZ_CHECK(q && vio_net_create(spec, index, NULL, &e->net, &err) == 0);
	FUZZ_CHECK(vio_switch_add(sw, vio_net_port(e->net), &err) == 0);
	be = vio_net_backend(e->net);
	FUZZ_CHECK(vio_dev_net.start(be, features, 3) == VIO_ST_OK);
	FUZZ_CHECK(be->ops->queue_open(be, SIZE, &e->bq, &err) == 0);
	e->desc = calloc(SIZE, 16);
	e->avail = calloc(1, 6 + 2 * SIZE);
	e->used = calloc(1, 6 + 8 * SIZE);
	FUZZ_CHECK(e->desc && e->avail && e->used);
	window(e, RINGS, 16 * SIZE, e->desc, TCE_READ, 1);
	window(e, RINGS + 0x10000, 6 + 2 * SIZE, e->avail, TCE_READ, 2);
	window(e, RINGS + 0x20000, 6 + 8 * SIZE, e->used, TCE_WRITE, 3);
	memset(q, 0, sizeof(*q));
	e->q = q;
	q->ring = &vio_ring_direct;
	q->payload = &vio_payload_direct;
	q->dev = &vio_dev_net;
	q->backend = e->bq;
	q->size = SIZE;
	q->notify = VIO_NOTIFY_POLL;
	q->index = index;
	q->vcpu = vcpu_of_machine(&q->unit);
	q->version = VIO_PROTO_V2;
	q->windows_src = &e->published;
	q->place = (struct vio_sq_place){SIZE, {RINGS}, {RINGS + 0x10000}, {RINGS + 0x20000}};
	q->req = aligned_alloc(VIO_CACHE_LINE, SIZE * sizeof(struct vio_req));
	FUZZ_CHECK(q->req);
	memset(q->req, 0, SIZE * sizeof(struct vio_req));
	FUZZ_CHECK(q->ring->attach(q, &err) == 0 && q->payload->attach(q, &err) == 0);
	vio_dev_net.queue_open(q);
	vio_dev_net.queue_on(q);
}

static void close_end(struct end *e)
{
	vio_dev_net.queue_off(e->q);
	e->q->payload->detach(e->q);
	e->q->ring->detach(e->q);
	vio_net_backend(e->net)->ops->queue_close(e->bq);
	vio_net_destroy(e->net);
	free(e->q->req);
	free(e->q);
	free(e->desc);
	free(e->avail);
	free(e->used);
	free(e->table);
	for (unsigned i = 0; i < BUFFERS; i++)
		free(e->mem[i]);
}

/* ------------------------------------------------------------------------------ the traffic ---- */

static void post(struct end *e, struct bytes *b, unsigned i)
{
	uint8_t how = take8(b);

	/* Mostly usual buffers, some that are too small for anything. */
	e->len[i] = how < 8 ? 1u + how * 4u : how < 200 ? 64u + how * 16u : 4096;
	e->mem[i] = malloc(e->len[i]);
	FUZZ_CHECK(e->mem[i]);
	window(e, DATA + i * 0x20000ull, e->len[i], e->mem[i], TCE_WRITE, (uint16_t)(10 + i));
	e->desc[i] = (struct vring_desc){vio_le64(DATA + i * 0x20000ull), vio_le32(e->len[i]),
					 vio_le16(how == 255 ? 0 : VRING_DESC_F_WRITE), 0};
	e->avail->ring[i] = vio_le16((uint16_t)i);
	e->avail->idx = vio_le16((uint16_t)(i + 1));
}

/* Header and frame i: bytes of the input, repeated to the length that they want, cut into descriptors. */
static void send(struct end *e, struct bytes *b, unsigned i)
{
	uint8_t given = take8(b), cuts = take8(b);
	uint32_t len = take16(b), at = 0, left;
	uint8_t raw[256];
	unsigned d = 4 * i, n = 1 + cuts % 4;

	if (len % 4)
		len %= 2000;
	if (len == 0)
		len = 1;
	take(b, raw, given);
	e->len[i] = len;
	e->mem[i] = malloc(len);
	FUZZ_CHECK(e->mem[i]);
	for (uint32_t k = 0; k < len; k++)
		e->mem[i][k] = given ? raw[k % given] : 0;
	memcpy(e->mem[i], raw, given < len ? given : len);
	window(e, DATA + i * 0x20000ull, len, e->mem[i], TCE_READ, (uint16_t)(10 + i));
	for (left = len; left > 0; d++) {
		uint32_t part = --n && left > 1 ? 1 + cuts * 3u % left : left;
		bool last = part == left;

		e->desc[d] = (struct vring_desc){vio_le64(DATA + i * 0x20000ull + at), vio_le32(part),
						 vio_le16(last ? 0 : VRING_DESC_F_NEXT),
						 vio_le16((uint16_t)(d + 1))};
		at += part;
		left -= part;
	}
	e->avail->ring[i] = vio_le16((uint16_t)(4 * i));
	e->avail->idx = vio_le16((uint16_t)(i + 1));
}

/* What the receiver may rely on, of each frame that came. Frames. */
static unsigned check_received(struct end *e)
{
	unsigned frames = 0;

	while (vio_le16(e->used->idx) != e->used_seen) {
		const struct vring_used_elem *u = &e->used->ring[e->used_seen % SIZE];
		struct virtio_net_hdr_v1 h;
		uint32_t len = vio_le32(u->len);
		unsigned n;

		memcpy(&h, e->mem[u->id], sizeof(h));
		n = vio_le16(h.num_buffers);
		FUZZ_CHECK(len >= sizeof(h) + VIO_ETH_LEN || n > 1);
		FUZZ_CHECK(n >= 1 && n <= (uint16_t)(vio_le16(e->used->idx) - e->used_seen));
		FUZZ_CHECK(n == 1 || e->net->mrg);
		for (unsigned k = 1; k < n; k++) {
			const struct vring_used_elem *v = &e->used->ring[(e->used_seen + k) % SIZE];

			FUZZ_CHECK(v->len > 0 && v->len <= e->len[v->id]);
			len += v->len;
		}
		len -= (uint32_t)sizeof(h);
		FUZZ_CHECK(!(h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
			   (e->net->guest_csum && h.csum_start + h.csum_offset + 2u <= len));
		FUZZ_CHECK(h.gso_type != VIRTIO_NET_HDR_GSO_TCPV4 || e->net->guest_tso4);
		FUZZ_CHECK(h.gso_type != VIRTIO_NET_HDR_GSO_TCPV6 || e->net->guest_tso6);
		FUZZ_CHECK(h.gso_type != VIRTIO_NET_HDR_GSO_NONE ? h.hdr_len < len && h.gso_size > 0
								 : len <= 1518);
		e->used_seen = (uint16_t)(e->used_seen + n);
		frames++;
	}
	return frames;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {data, size};
	struct vio_fdb fdb = {.ops = &fdb_ops};
	struct end *tx = calloc(1, sizeof(*tx)), *rx = calloc(1, sizeof(*rx));
	uint8_t how_tx = take8(&b), how_rx = take8(&b), vlan = take8(&b);
	struct vio_switch *sw;
	struct vio_err err;
	unsigned sent = 0, got = 0;

	FUZZ_CHECK(tx && rx && vio_switch_create(&fdb, &sw, &err) == 0);
	/* Most of what makes sense; two bits take things away. */
	open_end(tx, sw, vlan & 1 ? "trunk=all,vlan=1" : "", how_tx & 1 ? 0 : FEATURES, 1);
	open_end(rx, sw, vlan & 2 ? "trunk=all" : "",
		 (how_rx & 1 ? 0 : F(MRG_RXBUF)) | (how_rx & 2 ? 0 : F(GUEST_CSUM)) |
			 (how_rx & 6 ? 0 : F(GUEST_TSO4) | F(GUEST_TSO6)),
		 0);
	for (unsigned i = 0; i < BUFFERS; i++)
		post(rx, &b, i);
	for (; sent < FRAMES && tx->q->fault == VIO_ST_OK; sent++) {
		send(tx, &b, sent);
		vio_squeue_poll(tx->q);
		got += check_received(rx);
		FUZZ_CHECK(tx->q->in_flight == 0);
		FUZZ_CHECK(tx->q->fault != VIO_ST_OK || tx->q->used_idx == sent + 1);
	}
	FUZZ_CHECK(rx->net->port.stats.out_frames == got);
	close_end(tx);
	close_end(rx);
	vio_switch_destroy(sw);
	free(tx);
	free(rx);
	return 0;
}

/* ---------------------------------------------------------------------------------- seeds ---- */

/* A TCP frame's header bytes, with offload; the fuzzer changes them. */
static size_t seed_frame(uint8_t *p, bool v6, uint16_t len, uint8_t cuts)
{
	uint32_t l4 = v6 ? 54 : 34, frame = len - 12u;
	struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				      .gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
				      .gso_size = vio_le16(536),
				      .csum_start = vio_le16((uint16_t)l4),
				      .csum_offset = vio_le16(16)};
	uint8_t *f = p + 4 + sizeof(h);
	uint8_t given = (uint8_t)(sizeof(h) + l4 + 20);

	memset(p, 0, 4u + given);
	p[0] = given;
	p[1] = cuts;
	p[2] = (uint8_t)len;
	p[3] = (uint8_t)(len >> 8);
	memcpy(p + 4, &h, sizeof(h));
	f[0] = f[6] = 2;
	vio_put_be16(f + 12, v6 ? VIO_ETHERTYPE_IPV6 : VIO_ETHERTYPE_IPV4);
	f[14] = v6 ? 0x60 : 0x45;
	vio_put_be16(f + (v6 ? 18 : 16), (uint16_t)(frame - (v6 ? l4 : 14)));
	f[v6 ? 20 : 23] = 6;
	f[l4 + 12] = 0x50;
	return 4u + given;
}

size_t vio_fuzz_seed(unsigned i, uint8_t *buf, size_t max)
{
	static const uint16_t len[] = {200, 1000, 4096, 20000, 60000};
	size_t n = 0;

	if (i >= 16)
		return 0;
	FUZZ_CHECK(max >= 3 + BUFFERS + FRAMES * 120);
	buf[n++] = 0;
	buf[n++] = (uint8_t)(i % 8);
	buf[n++] = (uint8_t)(i / 8 * 2);
	for (unsigned k = 0; k < BUFFERS; k++)
		buf[n++] = i % 3 ? 210 : 100;
	for (unsigned k = 0; k < FRAMES; k++)
		n += seed_frame(buf + n, (i + k) % 2, len[(i + k) % VIO_ARRAY_SIZE(len)], (uint8_t)(17 * k));
	return n;
}
