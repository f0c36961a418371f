/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/hostile/rig.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

#include "server/dev/net/offload.h"
#include "tests/fuzz/no_fdb.h"

#define SECRET_AT  (FUZZ_RINGS + FUZZ_RINGS_LEN) /* of the guest: nobody's but its own */
#define SECRET_LEN 0x40000ull
#define CANARY_AT  (FUZZ_LOCAL + FUZZ_LOCAL_LEN) /* of the server: no queue's */
#define DISK_AT    (FUZZ_LOCAL + FUZZ_LOCAL_LEN - RIG_DISK)
#define PAGE       4096ull

/* ------------------------------------------------------------------------------------ arms ---- */

static const struct {
	const char *name;
	uint64_t features;
} layouts[] = {{"split", 0},
	       {"packed", 1ull << VIRTIO_F_RING_PACKED},
	       {"split-in-order", 1ull << VIRTIO_F_IN_ORDER},
	       {"packed-in-order", 1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_IN_ORDER}};
static const enum vio_payload payloads[] = {VIO_PAYLOAD_DIRECT, VIO_PAYLOAD_RDMA};

bool rig_arm_at(unsigned i, struct rig_arm *arm)
{
	const unsigned n_layouts = VIO_ARRAY_SIZE(layouts), n_payloads = VIO_ARRAY_SIZE(payloads);

	arm->dev = i % RIG_DEVS;
	i /= RIG_DEVS;
	arm->layout = layouts[i % n_layouts].features;
	i /= n_layouts;
	arm->payload = payloads[i % n_payloads];
	i /= n_payloads;
	arm->ring = (enum vio_ring_access)i;
	return i < VIO_N_RING;
}

void rig_name(const struct rig_arm *arm, char *text, size_t len)
{
	static const char *const dev[] = {"disk", "disk in memory", "transmit", "receive"};
	unsigned i = 0;

	while (layouts[i].features != arm->layout)
		i++;
	snprintf(text, len, "ring %s, payload %s, %s, %s", vio_ring_level(arm->ring, 0)->name,
		 vio_payload_level(arm->payload)->name, layouts[i].name, dev[arm->dev]);
}

/* ------------------------------------------------------------------------ the guest's memory ---- */

static uint64_t ioba(uint64_t gla)
{
	return fuzz_machine()->guest_at.v + gla;
}

/* The same pages at another address, with a permission, and nothing around them. */
static uint8_t *pane(uint64_t gla, uint64_t len, uint8_t perm)
{
	uint8_t *room = mmap(NULL, len + 2 * PAGE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *va;

	FUZZ_CHECK(room != MAP_FAILED);
	va = mremap(fuzz_machine()->guest + gla, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED,
		    room + PAGE);
	FUZZ_CHECK(va == room + PAGE);
	FUZZ_CHECK(mprotect(va, len, (perm & TCE_WRITE ? PROT_WRITE | PROT_READ : PROT_READ)) == 0);
	return va;
}

static void add_window(struct rig *g, unsigned i, uint64_t gla, uint64_t len, uint8_t perm)
{
	const struct vio_window w = {.at = {ioba(gla)},
				     .len = len,
				     .va = pane(gla, len, perm),
				     .perm = perm,
				     .role = VIO_WINDOW_BUFFERS,
				     .id = (uint16_t)i};
	struct vio_wtable *t;

	g->window[i] = (struct rig_window){w.at.v, len, w.va, perm};
	FUZZ_CHECK(vio_wtable_add(g->table, &w, &t) == 0);
	free(g->table);
	g->published = g->table = t;
}

/* What RDMA may reach is what has TCEs (tests/fuzz/machine.h); in place, what was announced. */
static void make_windows(struct rig *g)
{
	const uint8_t rw = TCE_READ | TCE_WRITE;
	const bool packed = g->arm.layout & 1ull << VIRTIO_F_RING_PACKED;
	const bool rdma = g->arm.payload == VIO_PAYLOAD_RDMA;

	add_window(g, 0, FUZZ_BUF, RIG_BUFLEN, rw);
	add_window(g, 1, FUZZ_RO, RIG_BUFLEN, TCE_READ);
	add_window(g, 2, FUZZ_RINGS, PAGE, packed ? rw : TCE_READ);
	add_window(g, 3, FUZZ_RINGS + 0x10000, PAGE, TCE_READ);
	add_window(g, 4, FUZZ_RINGS + 0x20000, PAGE, rw);
	if (!rdma)
		return;
	g->window[0].len = FUZZ_RO - FUZZ_BUF;
	g->window[1].len = FUZZ_END - FUZZ_RO;
	g->window[2] = (struct rig_window){ioba(FUZZ_RINGS), FUZZ_RINGS_LEN, NULL, rw};
	g->window[3].len = g->window[4].len = 0;
}

static void put_desc(uint8_t *table, unsigned i, uint64_t gla, uint32_t len, unsigned flags,
		     unsigned next)
{
	struct vring_desc *d = (struct vring_desc *)(void *)table + i;

	vio_store_relaxed(&d->addr, vio_le64(ioba(gla)));
	vio_store_relaxed((uint64_t *)(void *)&d->len,
			  vio_le64((uint64_t)len | (uint64_t)flags << 32 | (uint64_t)next << 48));
}

/* A descriptor of a slot's chain, by place in the slot. */
struct piece {
	uint32_t off, len;
	bool dev_writes;
};

struct form {
	unsigned n, via_table; /* pieces; the first so many are in an indirect table */
	struct piece p[4];
};

/* Disk: a read, a write in a table, a range to be zeroed, an id with a split header. */
static const struct form disk_forms[RIG_SLOTS] = {
	{3, 0, {{RIG_HDR, 16, false}, {RIG_DATA, 512, true}, {RIG_STATUS, 1, true}}},
	{3, 3, {{RIG_HDR, 16, false}, {RIG_DATA, 512, false}, {RIG_STATUS, 1, true}}},
	{3, 0, {{RIG_HDR, 16, false}, {RIG_RANGES, 16, false}, {RIG_STATUS, 1, true}}},
	{4,
	 0,
	 {{RIG_HDR, 8, false},
	  {RIG_HDR + 8, 8, false},
	  {RIG_DATA, 20, true},
	  {RIG_STATUS, 1, true}}}};
/* Net: a plain frame, one to be cut, one in pieces with a checksum to finish, one in a table. */
static const struct form net_forms[RIG_SLOTS] = {
	{1, 0, {{RIG_FRAME, RIG_FRAME_LEN, false}}},
	{1, 0, {{RIG_FRAME, RIG_FRAME_LEN, false}}},
	{3,
	 0,
	 {{RIG_FRAME, 12, false},
	  {RIG_FRAME + 12, 100, false},
	  {RIG_FRAME + 112, RIG_FRAME_LEN - 112, false}}},
	{2, 2, {{RIG_FRAME, 60, false}, {RIG_FRAME + 60, RIG_FRAME_LEN - 60, false}}}};

/* Buffers for frames that come. */
static const struct form rx_forms[RIG_SLOTS] = {
	{1, 0, {{RIG_DATA, 1526, true}}},
	{1, 0, {{RIG_DATA, 600, true}}},
	{2, 0, {{RIG_DATA, 12, true}, {RIG_DATA + 12, 1500, true}}},
	{2, 2, {{RIG_DATA, 100, true}, {RIG_DATA + 100, 500, true}}}};

static const struct form *form_of(const struct rig *g, unsigned slot)
{
	return g->arm.dev == RIG_TX   ? &net_forms[slot]
	       : g->arm.dev == RIG_RX ? &rx_forms[slot]
				      : &disk_forms[slot];
}

static bool is_net(const struct rig *g)
{
	return g->arm.dev == RIG_TX || g->arm.dev == RIG_RX;
}

static uint64_t slot_at(unsigned slot)
{
	return FUZZ_BUF + slot * RIG_SLOT;
}

static unsigned flags_of(const struct piece *p, bool last)
{
	return (p->dev_writes ? VRING_DESC_F_WRITE : 0u) | (last ? 0u : VRING_DESC_F_NEXT);
}

/* Headers, and tables of those that have one. */
static void fill_slot(struct rig *g, unsigned k)
{
	static const uint32_t type[RIG_SLOTS] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
						 VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_GET_ID};
	const struct virtio_blk_outhdr hdr = {.type = vio_le32(type[k]), .sector = vio_le64(3 + k)};
	const struct virtio_blk_discard_write_zeroes range = {.sector = vio_le64(5),
							      .num_sectors = vio_le32(2)};
	struct virtio_net_hdr_v1 net = {0};
	uint8_t *at = g->buf + k * RIG_SLOT, *f = at + RIG_FRAME + sizeof(net);
	const struct form *m = form_of(g, k);

	memset(at, 0, RIG_SLOT);
	memcpy(at + RIG_HDR, &hdr, sizeof(hdr));
	memcpy(at + RIG_RANGES, &range, sizeof(range));
	if (k > 0) {
		net.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		net.csum_start = vio_le16(34);
		net.csum_offset = vio_le16(16);
	}
	if (k == 1) {
		net.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		net.gso_size = vio_le16(100);
		net.hdr_len = vio_le16(54);
	}
	memcpy(at + RIG_FRAME, &net, sizeof(net));
	f[0] = f[6] = 2; /* to and from 02:00:..., TCP over IPv4 */
	f[5] = 9;
	vio_put_be16(f + 12, VIO_ETHERTYPE_IPV4);
	f[14] = 0x45;
	vio_put_be16(f + 16, RIG_FRAME_LEN - 12 - 14);
	f[23] = 6;
	f[46] = 0x50;
	for (unsigned i = 0; i < m->via_table; i++)
		put_desc(at + RIG_TABLE, i, slot_at(k) + m->p[i].off, m->p[i].len,
			 g->arm.layout & 1ull << VIRTIO_F_RING_PACKED
				 ? 0u
				 : flags_of(&m->p[i], i + 1 == m->via_table),
			 g->arm.layout & 1ull << VIRTIO_F_RING_PACKED
				 ? flags_of(&m->p[i], true) /* where that layout has its flags */
				 : i + 1);
}

static void fill_memory(struct rig *g)
{
	memset(g->desc, 0, PAGE);
	memset(g->avail, 0, PAGE);
	memset(g->used, 0, PAGE);
	for (unsigned k = 0; k < RIG_SLOTS; k++) {
		const struct form *m = form_of(g, k);

		fill_slot(g, k);
		if (g->arm.layout & 1ull << VIRTIO_F_RING_PACKED)
			continue;
		for (unsigned i = 0; i < m->n && !m->via_table; i++)
			put_desc(g->desc, 4 * k + i, slot_at(k) + m->p[i].off, m->p[i].len,
				 flags_of(&m->p[i], i + 1 == m->n), 4 * k + i + 1);
		if (m->via_table)
			put_desc(g->desc, 4 * k, slot_at(k) + RIG_TABLE, 16 * m->n,
				 VRING_DESC_F_INDIRECT, 0);
	}
}

/* ------------------------------------------------------------------------- the guest's ring ---- */

/* Packed: the chain's descriptors; the first one's tail is what makes them visible. */
static void publish_packed(struct rig *g, unsigned k)
{
	const struct form *m = form_of(g, k);
	const unsigned n = m->via_table ? 1 : m->n;
	struct vio_packed_desc *ring = (void *)g->desc;
	uint64_t head = 0;

	for (unsigned i = 0; i < n; i++) {
		const uint16_t idx = (uint16_t)(g->next + i);
		struct vio_packed_desc *d = &ring[idx & (RIG_SIZE - 1)];
		const unsigned flags =
			m->via_table ? VRING_DESC_F_INDIRECT : flags_of(&m->p[i], i + 1 == n);
		const uint64_t tail =
			vio_packed_tail(m->via_table ? 16 * m->n : m->p[i].len, (uint16_t)(4 * k),
					(uint16_t)(flags | vio_packed_avail_bits(idx, RIG_SIZE)));

		vio_store_relaxed(
			&d->addr,
			vio_le64(ioba(slot_at(k) + (m->via_table ? RIG_TABLE : m->p[i].off))));
		if (i == 0)
			head = tail;
		else
			vio_store_relaxed(&d->tail, tail);
	}
	vio_store_release(&ring[g->next & (RIG_SIZE - 1)].tail, head); /* pair A */
	g->next = (uint16_t)(g->next + n);
}

void rig_publish(struct rig *g)
{
	struct vring_avail *a = (void *)g->avail;

	for (unsigned k = 0; k < RIG_SLOTS; k++) {
		if (g->shadow[4 * k].in_flight)
			continue;
		if (g->arm.layout & 1ull << VIRTIO_F_RING_PACKED) {
			publish_packed(g, k);
			continue;
		}
		vio_store_relaxed(&a->ring[g->next & (RIG_SIZE - 1)], vio_le16((uint16_t)(4 * k)));
		g->next++;
	}
	if (!(g->arm.layout & 1ull << VIRTIO_F_RING_PACKED))
		vio_store_release(&a->idx, vio_le16(g->next)); /* pair A */
}

bool rig_taken(const struct rig *g)
{
	return g->q.last_avail == g->next;
}

/* ------------------------------------------------------------------------------ the server ---- */

static void set_queue(struct rig *g)
{
	const struct fuzz_machine *m = fuzz_machine();
	struct vio_squeue *q = &g->q;

	memset(q, 0, sizeof(*q));
	q->size = RIG_SIZE;
	vio_notify_init(&q->notify, &vio_notify_poll, false);
	q->indirect = true;
	q->in_order = g->arm.layout >> VIRTIO_F_IN_ORDER & 1;
	q->vcpu = m->vcpu;
	q->unit = m->u->unit;
	q->liobn = m->u->liobn;
	q->remote_liobn = m->u->remote_liobn;
	q->local_mem = m->server + FUZZ_LOCAL;
	q->local_at = ioba_add(m->server_at, FUZZ_LOCAL);
	q->local_len = FUZZ_LOCAL_LEN - RIG_DISK;
	q->local_base = m->server_at;
	q->version = VIO_PROTO_V2;
	q->place = (struct vio_sq_place){RIG_SIZE,
					 {ioba(FUZZ_RINGS)},
					 {ioba(FUZZ_RINGS + 0x10000)},
					 {ioba(FUZZ_RINGS + 0x20000)}};
	q->windows_src = &g->published;
	q->req = g->req;
	memset(g->req, 0, RIG_SIZE * sizeof(g->req[0]));
	q->dev = &vio_disk_queue_ops;
	q->dq = &g->dq.dq;
	if (is_net(g)) {
		q->dev = vio_kind_net.queue;
		q->dq = g->net_dq;
		q->index = g->arm.dev == RIG_TX;
	}
	oracle_tables(g);
}

static void attach(struct rig *g)
{
	struct vio_err err;

	memset(g->shadow, 0, sizeof(g->shadow));
	memset(fuzz_machine()->guest + FUZZ_CRQ, 0, 4096);
	g->next = 0;
	fill_memory(g);
	if (is_net(g))
		FUZZ_CHECK(vio_kind_net.queue_open(vio_net_device(g->net), RIG_SIZE, &g->net_dq,
						   &err) == 0);
	set_queue(g);
	FUZZ_CHECK(g->q.ring->attach(&g->q, &err) == 0 && g->q.payload->attach(&g->q, &err) == 0);
	if (!is_net(g))
		return;
	vio_kind_net.queue_ready(&g->q);
	vio_kind_net.queue_on(&g->q);
}

static void detach(struct rig *g)
{
	if (is_net(g))
		vio_kind_net.queue_off(&g->q);
	g->q.payload->detach(&g->q);
	g->q.ring->detach(&g->q);
	if (is_net(g))
		vio_kind_net.queue_close(g->net_dq);
}

void rig_reset(struct rig *g)
{
	detach(g);
	attach(g);
}

static void open_net(struct rig *g)
{
	static struct vio_fdb fdb = {.ops = &no_fdb_ops};
	const uint64_t features = 1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4 |
				  1ull << VIRTIO_NET_F_HOST_TSO6 | 1ull << VIRTIO_NET_F_HOST_ECN |
				  1ull << VIRTIO_NET_F_HOST_USO;
	struct vio_err err;

	FUZZ_CHECK(vio_switch_create(&fdb, &g->sw, &err) == 0);
	FUZZ_CHECK(vio_net_create("MAC=02:00:00:00:00:00,mtu=9000", 0, NULL, &g->net, &err) == 0);
	FUZZ_CHECK(vio_switch_add(g->sw, vio_net_port(g->net), &err) == 0);
	FUZZ_CHECK(vio_switch_add(g->sw, &g->port, &err) == 0);
	FUZZ_CHECK(vio_kind_net.start(vio_net_device(g->net), features, 3) == VIO_ST_OK);
	/* All frames are flooded: as many as come. */
	vio_net_port(g->net)->storm = g->port.storm = 0;
}

/* A frame of 14 + 200 bytes in each slot's place. */
static void receive(struct rig *g)
{
	for (unsigned i = 0; i < RIG_SLOTS; i++) {
		struct vio_frame *f = &g->frame[i];

		memset(f, 0, offsetof(struct vio_frame, wire));
		memset(f->buf, 0, VIO_ETH_LEN);
		f->buf[0] = f->buf[6] = 2;
		f->buf[11] = 0x77;
		vio_put_be16(f->buf + 12, VIO_ETHERTYPE_IPV4);
		g->body[i] = (struct iovec){g->disk_mem, 200};
		f->head = f->buf;
		f->head_len = VIO_ETH_LEN;
		f->body = &g->body[i];
		f->n_body = 1;
		f->body_len = 200;
		f->len = VIO_ETH_LEN + 200;
	}
	vio_switch_forward(&g->port, g->frame, RIG_SLOTS);
}

void rig_work(struct rig *g)
{
	if (is_net(g) && ++g->turns % 8 == 0)
		vio_switch_poll(g->sw,
				0); /* the switch's turns, by which it counts small segments */
	if (g->arm.dev == RIG_RX)
		receive(g);
	else
		vio_squeue_poll(&g->q);
}

void rig_open(struct rig *g, const struct rig_arm *arm)
{
	const struct fuzz_machine *m = fuzz_machine();

	memset(g, 0, sizeof(*g));
	g->arm = *arm;
	g->ring = vio_ring_level(arm->ring, arm->layout);
	g->payload = vio_payload_level(arm->payload);
	g->buf = m->guest + FUZZ_BUF;
	g->desc = m->guest + FUZZ_RINGS;
	g->avail = g->desc + 0x10000;
	g->used = g->desc + 0x20000;
	memset(m->guest + SECRET_AT, 0xc3, SECRET_LEN);
	memset(m->server + CANARY_AT, 0x5a, PAGE);
	make_windows(g);
	g->req = aligned_alloc(VIO_CACHE_LINE, RIG_SIZE * sizeof(struct vio_req));
	FUZZ_CHECK(g->req);
	g->disk_mem = m->server + DISK_AT;
	g->disk_at.v = DISK_AT;
	oracle_open(g);
	g->be = (struct vio_backend){.ops = &g->be_ops,
				     .size = RIG_DISK,
				     .block_size = 512,
				     .can_discard = true,
				     .can_zero = true,
				     .can_flush = true};
	g->bq.be = &g->be;
	vio_disk_init(&g->disk, &g->be);
	g->dq = (struct vio_disk_queue){.dq = {&g->disk.dev}, .be = &g->be, .bq = &g->bq};
	if (is_net(g))
		open_net(g);
	attach(g);
}

void rig_check_canaries(struct rig *g)
{
	const struct fuzz_machine *m = fuzz_machine();

	for (uint64_t i = 0; i < SECRET_LEN; i++) {
		if (m->guest[SECRET_AT + i] != 0xc3) {
			oracle_violation(g, "memory that has no TCE was written", SECRET_AT + i, 0);
			return;
		}
	}
	for (uint64_t i = 0; i < PAGE; i++) {
		if (m->server[CANARY_AT + i] != 0x5a) {
			oracle_violation(g, "server memory of nobody was written", CANARY_AT + i,
					 0);
			return;
		}
	}
}

void rig_close(struct rig *g)
{
	detach(g);
	if (is_net(g)) {
		vio_net_destroy(g->net);
		vio_switch_destroy(g->sw);
	}
	for (unsigned i = 0; i < g->table->n; i++)
		munmap(g->table->w[i].va - PAGE, g->table->w[i].len + 2 * PAGE);
	free(g->table);
	free(g->req);
}
