/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One guest sends what the fuzzer likes, header and frame and framing, through the switch to
 * another guest whose features, buffers and control commands the fuzzer chooses too, as well as the
 * VLANs of both. Every frame and every buffer is an allocation and a window of its own, so that an
 * access outside of one is the sanitizer's finding; what a receiver may rely on is checked here.
 */
#include <stdlib.h>
#include <string.h>

#include "server/head/adapter.h"
#include "server/dev/net/net_priv.h"
#include "server/payload/payload.h"
#include "server/ring/ring.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/fuzz_net.h"
#include "tests/fuzz/machine.h"
#include "tests/fuzz/no_fdb.h"
#include "vq/mock.h"

#define SIZE    64u
#define BUFFERS FUZZ_NET_BUFFERS
#define FRAMES  FUZZ_NET_FRAMES
#define RINGS   0x200000ull /* IOBA of the three parts: + 0x10000 each */
#define DATA    0x400000ull /* of buffer or frame i: + i * 0x20000 */
#define F(name) (1ull << VIRTIO_NET_F_##name)
#define FEATURES                                                                                   \
	(F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) |   \
	 F(GUEST_ECN) | F(HOST_ECN) | F(GUEST_USO4) | F(GUEST_USO6) | F(HOST_USO) | F(MRG_RXBUF))

/* ------------------------------------------------------------------------------ two guests ---- */

#define OWN_MAC "02:00:00:00:00:00" /* of the sender; that of the seeds' frames */

struct end {
	struct vio_net *net;
	struct vio_squeue *q;
	struct vio_dev_queue *dq;
	struct mock ring; /* the driver's side */
	struct vio_wtable *table;
	const struct vio_wtable *published;
	uint8_t *mem[BUFFERS];
	uint32_t len[BUFFERS];
};

static void window(struct end *e, uint64_t at, uint64_t len, void *va, uint8_t perm, uint16_t id)
{
	struct vio_window w = {.at = {at},
			       .len = len,
			       .va = va,
			       .perm = perm,
			       .role = VIO_WINDOW_BUFFERS,
			       .id = id};
	struct vio_wtable *t;

	FUZZ_CHECK(vio_wtable_add(e->table, &w, &t) == 0);
	free(e->table);
	e->published = e->table = t;
}

/* index: 0 receives, 1 transmits, 2 is the control queue; of e->net. */
static void open_queue(struct end *e, uint16_t index)
{
	struct vio_squeue *q =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*q), VIO_CACHE_LINE));
	struct vio_device *dev = vio_net_device(e->net);
	struct vio_err err;

	FUZZ_CHECK(q && vio_kind_net.queue_open(dev, SIZE, &e->dq, &err) == 0);
	mock_init(&e->ring, SIZE, 0, calloc(SIZE, 16), calloc(1, 6 + 2 * SIZE),
		  calloc(1, 6 + 8 * SIZE));
	FUZZ_CHECK(e->ring.part[MOCK_DESC] && e->ring.part[MOCK_AVAIL] && e->ring.part[MOCK_USED]);
	window(e, RINGS, 16 * SIZE, e->ring.part[MOCK_DESC], TCE_READ, 1);
	window(e, RINGS + 0x10000, 6 + 2 * SIZE, e->ring.part[MOCK_AVAIL], TCE_READ, 2);
	window(e, RINGS + 0x20000, 6 + 8 * SIZE, e->ring.part[MOCK_USED], TCE_WRITE, 3);
	memset(q, 0, sizeof(*q));
	e->q = q;
	q->ring = &vio_ring_direct;
	q->payload = &vio_payload_direct;
	q->dev = vio_kind_net.queue;
	q->dq = e->dq;
	q->size = SIZE;
	vio_notify_init(&q->notify, &vio_notify_poll, false);
	q->index = index;
	q->vcpu = fuzz_machine()->vcpu;
	q->unit = fuzz_machine()->u->unit;
	q->version = VIO_PROTO_V2;
	q->windows_src = &e->published;
	q->place = (struct vio_sq_place){SIZE, {RINGS}, {RINGS + 0x10000}, {RINGS + 0x20000}};
	q->req = aligned_alloc(VIO_CACHE_LINE, SIZE * sizeof(struct vio_req));
	FUZZ_CHECK(q->req);
	memset(q->req, 0, SIZE * sizeof(struct vio_req));
	FUZZ_CHECK(q->ring->attach(q, &err) == 0 && q->payload->attach(q, &err) == 0);
	vio_kind_net.queue_ready(q);
	vio_kind_net.queue_on(q);
}

static void open_end(struct end *e, struct vio_switch *sw, const char *spec, uint64_t features,
		     uint16_t index)
{
	struct vio_err err;

	FUZZ_CHECK(vio_net_create(spec, index, NULL, &e->net, &err) == 0);
	FUZZ_CHECK(vio_switch_add(sw, vio_net_port(e->net), &err) == 0);
	FUZZ_CHECK(vio_kind_net.start(vio_net_device(e->net), features,
				      features & F(CTRL_VQ) ? 7 : 3) == VIO_ST_OK);
	open_queue(e, index);
}

static void close_queue(struct end *e)
{
	vio_kind_net.queue_off(e->q);
	e->q->payload->detach(e->q);
	e->q->ring->detach(e->q);
	vio_kind_net.queue_close(e->dq);
	free(e->q->req);
	free(e->q);
	for (unsigned i = 0; i < MOCK_PARTS; i++)
		free(e->ring.part[i]);
	free(e->table);
	for (unsigned i = 0; i < BUFFERS; i++)
		free(e->mem[i]);
}

/* ------------------------------------------------------------------------------ the traffic ---- */

static void make_available(struct end *e, uint16_t head)
{
	mock_entry(&e->ring, head);
	mock_publish(&e->ring);
}

static void post(struct end *e, struct bytes *b, unsigned i)
{
	uint8_t how = take8(b);

	/* Mostly usual buffers, some that are too small for anything. */
	e->len[i] = how < 8 ? 1u + how * 4u : how < 200 ? 64u + how * 16u : 4096;
	e->mem[i] = malloc(e->len[i]);
	FUZZ_CHECK(e->mem[i]);
	window(e, DATA + i * 0x20000ull, e->len[i], e->mem[i], TCE_WRITE, (uint16_t)(10 + i));
	mock_desc(&e->ring, i, DATA + i * 0x20000ull, e->len[i],
		  how == 255 ? 0 : VRING_DESC_F_WRITE, 0);
	make_available(e, (uint16_t)i);
}

/* The first `given` bytes again and again, none: zeroes. */
static void repeat(uint8_t *to, uint32_t len, const uint8_t *raw, uint32_t given)
{
	uint32_t have = given < len ? given : len;

	memset(to, 0, given ? 0 : len);
	memcpy(to, raw, have);
	for (uint32_t n; have > 0 && have < len; have += n) {
		n = have < len - have ? have : len - have;
		memcpy(to + have, to, n);
	}
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
	repeat(e->mem[i], len, raw, given);
	window(e, DATA + i * 0x20000ull, len, e->mem[i], TCE_READ, (uint16_t)(10 + i));
	for (left = len; left > 0; d++) {
		uint32_t part = --n && left > 1 ? 1 + cuts * 3u % left : left;
		bool last = part == left;

		mock_desc(&e->ring, d, DATA + i * 0x20000ull + at, part,
			  last ? 0 : VRING_DESC_F_NEXT, d + 1);
		at += part;
		left -= part;
	}
	make_available(e, (uint16_t)(4 * i));
}

/* MAC_TABLE_SET with as many addresses as the fuzzer says, of which only the last bytes differ. */
static uint32_t table_set(struct bytes *b, uint8_t *to)
{
	uint32_t at = 2;

	to[0] = VIRTIO_NET_CTRL_MAC;
	to[1] = VIRTIO_NET_CTRL_MAC_TABLE_SET;
	for (unsigned kind = 0; kind < 2; kind++) {
		uint8_t n = take8(b);

		memcpy(to + at, (uint8_t[4]){n}, 4);
		at += 4;
		for (unsigned i = 0; i < n; i++, at += 6)
			memcpy(to + at, (uint8_t[6]){kind ? 1 : 2, 0, 0, 0, 0, (uint8_t)(i + 1)},
			       6);
	}
	return at;
}

/*
 * Command i: tables, a mode, or the fuzzer's own bytes; its length that of the chain, unless the
 * fuzzer cuts it.
 */
static void command(struct end *e, struct bytes *b, unsigned i)
{
	uint8_t how = take8(b), raw[2 + 2 * (4 + 6 * 255)];
	uint32_t len = how % 4 == 0 ? table_set(b, raw) : how % 4 == 1 ? 3 : 1u + take8(b);
	uint64_t at = DATA + i * 0x20000ull, ack = DATA + (FRAMES + i) * 0x20000ull;

	if (how % 4 != 0)
		take(b, raw, len);
	if (how & 0x40)
		len = 1 + take8(b);
	e->mem[i] = malloc(len);
	e->mem[FRAMES + i] = malloc(1);
	FUZZ_CHECK(len <= sizeof(raw) && e->mem[i] && e->mem[FRAMES + i]);
	memcpy(e->mem[i], raw, len);
	*e->mem[FRAMES + i] = 0xff;
	window(e, at, len, e->mem[i], TCE_READ, (uint16_t)(10 + i));
	window(e, ack, 1, e->mem[FRAMES + i], TCE_WRITE, (uint16_t)(10 + FRAMES + i));
	mock_desc(&e->ring, 2 * i, at, len, how & 0x80 ? 0 : VRING_DESC_F_NEXT, 2 * i + 1);
	mock_desc(&e->ring, 2 * i + 1, ack, 1, VRING_DESC_F_WRITE, 0);
	make_available(e, (uint16_t)(2 * i));
	vio_squeue_poll(e->q);
	if (e->q->fault == VIO_ST_OK) {
		FUZZ_CHECK(e->q->used_idx == i + 1 && *e->mem[FRAMES + i] <= VIRTIO_NET_ERR);
		FUZZ_CHECK(e->net->filter.n_uni <= VIO_NET_MACS &&
			   e->net->filter.n_multi <= VIO_NET_MACS);
	}
}

/* ------------------------------------------------------------------------------ the checks ---- */

struct element {
	uint32_t id, len;
};

/* The used element that is `k` behind the next one. */
static struct element element(const struct end *e, unsigned k)
{
	const uint64_t at = 4 + 8ull * mock_slot(&e->ring, (uint16_t)(e->ring.used + k));

	return (struct element){(uint32_t)mock_load(&e->ring, MOCK_USED, at, 4),
				(uint32_t)mock_load(&e->ring, MOCK_USED, at + 4, 4)};
}

/* The first bytes of the frame in the n buffers from the next used one on; how many there are of `max`. */
static uint32_t head_of(const struct end *e, unsigned n, uint8_t *to, uint32_t max)
{
	uint32_t skip = sizeof(struct virtio_net_hdr_v1), got = 0;

	for (unsigned k = 0; k < n && got < max; k++, skip = 0) {
		const struct element u = element(e, k);
		uint32_t len = u.len - skip;

		len = len < max - got ? len : max - got;
		memcpy(to + got, e->mem[u.id] + skip, len);
		got += len;
	}
	return got;
}

static bool in_table(const uint8_t (*list)[6], unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++) {
		if (memcmp(list[i], mac, 6) == 0)
			return true;
	}
	return false;
}

static void check_filter(const struct vio_net_filter *w, const uint8_t *dst, bool vlans)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};

	if (w->promisc)
		return;
	if (vlans && vio_get_be16(dst + 12) == 0x8100) {
		const uint16_t vid = vio_get_be16(dst + 14) & 0xfff;

		FUZZ_CHECK(w->vlan[vid / 64] >> vid % 64 & 1);
	}
	if (memcmp(dst, all, 6) == 0)
		FUZZ_CHECK(!w->no_broadcast);
	else if (dst[0] & 1)
		FUZZ_CHECK(!w->no_multi && (w->asked_allmulti || w->many_multi ||
					    in_table(w->multi, w->n_multi, dst)));
	else
		FUZZ_CHECK(!w->no_uni &&
			   (w->asked_alluni || w->many_uni || memcmp(dst, w->mac, 6) == 0 ||
			    in_table(w->uni, w->n_uni, dst)));
}

/* A frame is in a VLAN of both ports, and a tag that the sender made up is never the one that counts. */
static void check_tags(const struct end *from, const struct end *e, const uint8_t *head,
		       uint32_t len)
{
	const struct vio_vlan_cfg *tx = &from->net->port.vlan, *rx = &e->net->port.vlan;
	uint16_t type = vio_get_be16(head + 12), vid;

	if (type != 0x8100 && type != 0x88a8) {
		FUZZ_CHECK(rx->pvid != 0);
		return;
	}
	FUZZ_CHECK(type == 0x8100 && rx->trunk && len >= 18);
	vid = vio_get_be16(head + 14) & 0xfff;
	FUZZ_CHECK(vid != 0 && vid != rx->pvid && vid <= VIO_VLAN_MAX &&
		   (rx->member[vid / 64] >> vid % 64 & 1));
	type = vio_get_be16(head + 16);
	if (!tx->trunk)
		FUZZ_CHECK(vid == tx->pvid && type != 0x8100 && type != 0x88a8);
}

/* Is it of a kind that the guest takes? */
static bool gso_agreed(const struct vio_net *n, const struct virtio_net_hdr_v1 *h)
{
	const uint8_t kind = (uint8_t)(h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN),
		      udp = VIO_GSO_BIT(VIO_GSO_UDP4) | VIO_GSO_BIT(VIO_GSO_UDP6);

	if ((h->gso_type & VIRTIO_NET_HDR_GSO_ECN) && !(n->takes & VIO_GSO_ECN))
		return false;
	return kind < 8 &&
	       (kind == VIRTIO_NET_HDR_GSO_UDP_L4 ? n->takes & udp : n->takes >> kind & 1);
}

/* Used elements that have not been looked at. */
static uint16_t ready(const struct end *e)
{
	return (uint16_t)(mock_load_acquire(&e->ring, MOCK_USED, 2, 2) - e->ring.used);
}

/* What the receiver may rely on, of each frame that came. Frames. */
static unsigned check_received(const struct end *from, struct end *e)
{
	unsigned frames = 0;

	while (ready(e) > 0) {
		const struct element u = element(e, 0);
		uint32_t len = u.len, n_head;
		struct virtio_net_hdr_v1 h;
		uint8_t head[18];
		unsigned n;

		memcpy(&h, e->mem[u.id], sizeof(h));
		n = vio_le16(h.num_buffers);
		FUZZ_CHECK(len >= sizeof(h) + VIO_ETH_LEN || n > 1);
		FUZZ_CHECK(n >= 1 && n <= ready(e));
		FUZZ_CHECK(n == 1 || e->net->mrg);
		for (unsigned k = 1; k < n; k++) {
			const struct element v = element(e, k);

			FUZZ_CHECK(v.len > 0 && v.len <= e->len[v.id]);
			len += v.len;
		}
		len -= (uint32_t)sizeof(h);
		FUZZ_CHECK(!(h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
			   (e->net->guest_csum && h.csum_start + h.csum_offset + 2u <= len));
		FUZZ_CHECK(gso_agreed(e->net, &h));
		FUZZ_CHECK(h.gso_type == VIRTIO_NET_HDR_GSO_NONE ||
			   (h.hdr_len < len &&
			    h.gso_size >=
				    (h.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4 ? 1u : VIO_GSO_MIN)));
		FUZZ_CHECK(len <= 1518 || (h.gso_type != VIRTIO_NET_HDR_GSO_NONE &&
					   h.hdr_len + h.gso_size <= 1518u));
		n_head = head_of(e, n, head, sizeof(head));
		FUZZ_CHECK(n_head >= VIO_ETH_LEN);
		check_tags(from, e, head, n_head);
		check_filter(&e->net->filter, head,
			     e->net->features & F(CTRL_VLAN) && e->net->port.vlan.trunk);
		FUZZ_CHECK(!from->net->locked || memcmp(head + 6, from->net->mac, 6) == 0);
		e->ring.used = (uint16_t)(e->ring.used + n);
		frames++;
	}
	return frames;
}

/* Every frame that was sent is in one of the counters, and only in one. */
static void check_counts(const struct end *tx, unsigned sent)
{
	const struct vio_port_stats *s = &tx->net->port.stats;
	uint64_t sum = s->in_frames;

	for (unsigned i = 0; i < VIO_N_DROP; i++)
		sum += s->drop[i];
	FUZZ_CHECK(sum == sent - (tx->q->fault != VIO_ST_OK));
	FUZZ_CHECK(tx->net->port.small <= VIO_SMALL_SEGMENTS);
}

/* Frames, and control commands between them. */
static void run(struct end *tx, struct end *rx, struct end *ctrl, struct bytes *b,
		struct vio_switch *sw)
{
	unsigned sent = 0, commands = 0, got = 0;

	while (sent < FRAMES && tx->q->fault == VIO_ST_OK) {
		uint8_t between = take8(b);

		if (between & 1)
			vio_switch_poll(sw, 0); /* another turn */
		if (between & 2 && ctrl->q->fault == VIO_ST_OK)
			command(ctrl, b, commands++);
		send(tx, b, sent++);
		vio_squeue_poll(tx->q);
		got += check_received(tx, rx);
		FUZZ_CHECK(tx->q->in_flight == 0);
		FUZZ_CHECK(tx->q->fault != VIO_ST_OK || tx->q->used_idx == sent);
		check_counts(tx, sent);
	}
	FUZZ_CHECK(rx->net->port.stats.out_frames == got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const tx_spec[] = {"MAC=" OWN_MAC,
					      "MAC=" OWN_MAC ",trunk=all,vlan=1,mtu=9000",
					      "MAC=" OWN_MAC ",lock-mac=on,mtu=9000",
					      "MAC=" OWN_MAC ",lock-mac=on,trunk=5-7"},
				 *const rx_spec[] = {"", "trunk=all", "trunk=1+5,vlan=1", "vlan=5"};
	struct bytes b = {data, size};
	struct vio_fdb fdb = {.ops = &no_fdb_ops};
	struct end *tx = calloc(1, sizeof(*tx)), *rx = calloc(1, sizeof(*rx)),
		   *ctrl = calloc(1, sizeof(*ctrl));
	uint8_t how_tx = take8(&b), how_rx = take8(&b), vlan = take8(&b);
	struct vio_switch *sw;
	struct vio_err err;

	FUZZ_CHECK(tx && rx && ctrl && vio_switch_create(&fdb, &sw, &err) == 0);
	/* Most of what makes sense; two bits take things away. */
	open_end(tx, sw, tx_spec[vlan % 4], how_tx & 1 ? 0 : FEATURES, 1);
	open_end(rx, sw, rx_spec[vlan / 4 % 4],
		 F(CTRL_VQ) | F(CTRL_RX) | F(CTRL_MAC_ADDR) | F(CTRL_RX_EXTRA) |
			 (how_rx & 8 ? 0 : F(CTRL_VLAN)) |
			 (how_rx & 2 ? 0 : F(CTRL_GUEST_OFFLOADS)) |
			 (how_rx & 1 ? 0 : F(MRG_RXBUF)) | (how_rx & 2 ? 0 : F(GUEST_CSUM)) |
			 (how_rx & 6 ? 0 : F(GUEST_TSO4) | F(GUEST_TSO6)) |
			 (how_rx & 22 ? 0 : F(GUEST_ECN) | F(GUEST_USO4) | F(GUEST_USO6)),
		 0);
	ctrl->net = rx->net;
	open_queue(ctrl, 2);
	for (unsigned i = 0; i < BUFFERS; i++)
		post(rx, &b, i);
	run(tx, rx, ctrl, &b, sw);
	close_queue(ctrl);
	close_queue(rx);
	close_queue(tx);
	vio_net_destroy(rx->net);
	vio_net_destroy(tx->net);
	vio_switch_destroy(sw);
	free(tx);
	free(rx);
	free(ctrl);
	return 0;
}
