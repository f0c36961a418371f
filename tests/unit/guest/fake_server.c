/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_ids.h>

#include "fake_server.h"
#include "vio/cycles.h"

/* Server memory by logical address. */
#define M_CRQ   0x1000ull
#define M_STAGE 0x10000ull
#define M_DISK  0x100000ull

#define IDLE_NS 200000

/* cmocka's assertions belong to the test's thread; a server that can't go on ends the program. */
#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: fake server: %s\n", __FILE__, __LINE__, #x);       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---------------------------------------------------------------------------- RDMA ---- */

static struct ioba local(const struct fake_server *s, uint64_t logical)
{
	return ioba_add(s->u->window, logical);
}

static bool get(struct fake_server *s, struct ioba at, void *dst, uint32_t len)
{
	uint64_t buf[PHYP_REGS];

	if (h_read_rdma(s->vcpu, len, s->u->remote_liobn, at, buf) != H_SUCCESS)
		return false;
	memcpy(dst, buf, len);
	return true;
}

static bool put(struct fake_server *s, struct ioba at, const void *src, uint32_t len)
{
	uint64_t buf[6] = {0};

	memcpy(buf, src, len);
	return h_write_rdma(s->vcpu, len, s->u->remote_liobn, at, buf) == H_SUCCESS;
}

static bool copy(struct fake_server *s, struct ioba guest, uint64_t logical, uint32_t len,
		 bool to_guest)
{
	if (to_guest)
		return h_copy_rdma(s->vcpu, len, s->u->liobn, local(s, logical), s->u->remote_liobn,
				   guest) == H_SUCCESS;
	return h_copy_rdma(s->vcpu, len, s->u->remote_liobn, guest, s->u->liobn,
			   local(s, logical)) == H_SUCCESS;
}

/* ---------------------------------------------------------------------------- CRQ ---- */

static void send_raw(struct fake_server *s, uint64_t hi, uint64_t lo)
{
	while (h_send_crq(s->vcpu, s->u->unit, hi, lo) == H_DROPPED && !vio_load_relaxed(&s->quit))
		phyp_vcpu_wait(s->vcpu, 0, 10000);
}

static void send_msg(struct fake_server *s, const struct vio_msg *m)
{
	uint64_t hi, lo;

	vio_msg_encode(m, &hi, &lo);
	send_raw(s, hi, lo);
}

/* -------------------------------------------------------------------- configuration ---- */

static uint16_t queues(const struct fake_server *s)
{
	return s->k.queues ? s->k.queues : 4;
}

static uint16_t size(const struct fake_server *s)
{
	return s->k.size ? s->k.size : 64;
}

static uint64_t offer_disk(const struct fake_server *s)
{
	uint64_t f = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_SIZE_MAX |
		     1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH |
		     1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES |
		     1ull << VIRTIO_BLK_F_MQ | 1ull << VIRTIO_RING_F_EVENT_IDX |
		     1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_F_VERSION_1 |
		     1ull << VIRTIO_F_ACCESS_PLATFORM;

	if (s->k.read_only)
		f |= 1ull << VIRTIO_BLK_F_RO;
	return f;
}

static uint64_t offer(const struct fake_server *s)
{
	uint64_t f = (s->k.dev ? s->k.dev->offer(s) : offer_disk(s)) & ~s->k.drop_features;

	return s->fsm.version == VIO_PROTO_V1 ? f & UINT32_MAX : f;
}

static uint8_t device_type(const struct fake_server *s)
{
	return s->k.dev ? s->k.dev->type : VIRTIO_ID_BLOCK;
}

static uint16_t config_of(const struct fake_server *s, uint8_t *config)
{
	const struct virtio_blk_config c = {
		.capacity = vio_le64(s->k.sectors ? s->k.sectors : FS_SECTORS),
		.size_max = vio_le32(s->k.size_max ? s->k.size_max : 32768),
		.seg_max = vio_le32(s->k.seg_max ? s->k.seg_max : 32),
		.blk_size = vio_le32(s->k.block_size ? s->k.block_size : 512),
		.num_queues = vio_le16(queues(s)),
		.max_discard_sectors = vio_le32(FS_SECTORS),
		.max_write_zeroes_sectors = vio_le32(FS_SECTORS),
	};

	if (s->k.dev)
		return s->k.dev->config(s, config);
	memcpy(config, &c, sizeof(c));
	return sizeof(c);
}

static uint8_t mask(uint8_t knob, unsigned n)
{
	if (knob)
		return knob;
	return (uint8_t)((1u << n) - 1);
}

static uint8_t write_header(struct fake_server *s, const struct vio_msg *m)
{
	uint8_t config[VIO_MAX_CONFIG];
	const uint16_t config_len = config_of(s, config);

	s->header = (struct ioba){m->arg};
	if (s->fsm.version == VIO_PROTO_V1) {
		const struct vio_dev_header_v1 h = {.type = device_type(s),
						    .num_vqs = (uint8_t)queues(s),
						    .vqs_size = (uint8_t)__builtin_ctz(size(s)),
						    .device_features =
							    vio_to_be32((uint32_t)offer(s)),
						    .config_len = (uint8_t)config_len};

		return put(s, s->header, &h, sizeof(h)) ? VIO_ST_OK : VIO_ST_NO_DMA;
	}
	const struct vio_dev_header_v2 h = {.type = device_type(s),
					    .num_vqs = vio_to_be16(queues(s)),
					    .vqs_size = vio_to_be16(size(s)),
					    .config_len = vio_to_be16(config_len),
					    .device_features = vio_to_be64(offer(s)),
					    .ring_levels = mask(s->k.ring, VIO_N_RING),
					    .payload_levels = mask(s->k.payload, VIO_N_PAYLOAD),
					    .notify_levels = mask(s->k.notify, VIO_N_NOTIFY)};

	const struct vio_dev_header_tail tail = {.identity = {s->k.identity}, .flags = s->k.flags};

	return put(s, s->header, &h, sizeof(h)) &&
			       put(s, ioba_add(s->header, sizeof(h)), &tail, sizeof(tail))
		       ? VIO_ST_OK
		       : VIO_ST_NO_DMA;
}

static uint8_t write_config(struct fake_server *s, const struct vio_msg *m)
{
	uint8_t c[VIO_MAX_CONFIG];
	const uint32_t len = config_of(s, c);

	for (uint32_t done = 0; done < len; done += 8) {
		uint32_t n = len - done < 8 ? len - done : 8;

		if (!put(s, (struct ioba){m->arg + done}, c + done, n))
			return VIO_ST_NO_DMA;
	}
	return VIO_ST_OK;
}

static uint8_t read_choice(struct fake_server *s)
{
	struct vio_dev_header_v1 v1;
	struct vio_dev_header_v2 v2;

	if (s->fsm.version == VIO_PROTO_V1) {
		if (!get(s, s->header, &v1, sizeof(v1)))
			return VIO_ST_NO_DMA;
		s->features = vio_from_be32(v1.guest_features);
		s->ring = s->payload = s->notify = 0;
	} else {
		if (!get(s, s->header, &v2, sizeof(v2)))
			return VIO_ST_NO_DMA;
		s->features = vio_from_be64(v2.guest_features);
		s->ring = v2.ring;
		s->payload = v2.payload;
		s->notify = v2.notify;
		if (!(mask(s->k.ring, VIO_N_RING) >> s->ring & 1) ||
		    !(mask(s->k.payload, VIO_N_PAYLOAD) >> s->payload & 1) ||
		    !(mask(s->k.notify, VIO_N_NOTIFY) >> s->notify & 1))
			return VIO_ST_LEVELS;
	}
	return s->features & ~offer(s) ? VIO_ST_FEATURES : VIO_ST_OK;
}

static uint8_t queue_part(struct fake_server *s, const struct vio_msg *m)
{
	struct fs_queue *q = &s->q[m->arg16];

	if (m->arg16 >= queues(s))
		return VIO_ST_QUEUE;
	if (m->arg8 == VIO_QUEUE_SIZE) {
		q->size = (uint16_t)m->arg;
		return VIO_ST_OK;
	}
	q->part[m->arg8] = (struct ioba){m->arg};
	q->have |= (uint8_t)(1u << m->arg8);
	return VIO_ST_OK;
}

static uint8_t start_queues(struct fake_server *s)
{
	for (unsigned i = 0; i < queues(s); i++) {
		struct fs_queue *q = &s->q[i];

		if (q->have == 0)
			continue;
		if (q->have != 7)
			return VIO_ST_QUEUE;
		q->size = q->size ? q->size : size(s);
		q->last_avail = q->used_idx = 0;
		q->kicked = false;
		q->ready = true;
	}
	return VIO_ST_OK;
}

/* ------------------------------------------------------------------------- windows ---- */

static void window_add(struct fake_server *s, const struct vio_msg *m, struct vio_msg *reply,
		       bool *send)
{
	struct fs_window *w = s->w;
	uint8_t why = (uint8_t)vio_load_acquire(&s->k.refuse_windows);
	uint64_t len, flags;
	struct gla at;

	while (w->used)
		must(++w < s->w + VIO_ARRAY_SIZE(s->w));
	if (why == VIO_ST_OK && !get(s, (struct ioba){m->arg}, &w->d, sizeof(w->d)))
		why = VIO_ST_NO_DMA;
	w->cookie = vio_from_be64(w->d.cookie);
	if (why == VIO_ST_OK &&
	    h_accept_logical(s->vcpu, w->cookie, &at, &len, &flags) != H_SUCCESS)
		why = VIO_ST_WINDOW_COOKIE;
	if (why == VIO_ST_OK) {
		must(len == vio_from_be64(w->d.len));
		must(vio_from_be32(w->d.liobn) == s->u->remote_liobn);
		w->at = at;
		w->used = true;
		vio_counter_add(&s->windows_ok, 1);
	}
	*send = vio_sfsm_done(&s->fsm, m, why, reply);
	reply->arg16 = s->next_window;
	w->id = s->next_window;
	if (why == VIO_ST_OK)
		s->next_window++; /* ids are not used again soon, and wrap */
}

static void give_back(struct fake_server *s, struct fs_window *w)
{
	if (w->used && !vio_load_acquire(&s->k.keep_grants))
		h_return_logical(s->vcpu, w->cookie);
	w->used = false;
}

static void forget(struct fake_server *s)
{
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(s->w); i++)
		give_back(s, &s->w[i]);
	s->next_window = 0;
	memset(s->q, 0, sizeof(s->q));
	if (s->k.dev)
		s->k.dev->reset(s);
	vio_counter_add(&s->sessions, 1);
}

static uint8_t window_del(struct fake_server *s, const struct vio_msg *m)
{
	for (struct fs_window *w = s->w; w < s->w + VIO_ARRAY_SIZE(s->w); w++) {
		if (w->used && w->id == m->arg16) {
			give_back(s, w);
			return VIO_ST_OK;
		}
	}
	return VIO_ST_WINDOW_ID;
}

/* ------------------------------------------------------------------------ messages ---- */

static void message(struct fake_server *s, const struct vio_msg *m)
{
	uint8_t why = VIO_ST_OK;
	struct vio_msg reply;
	bool send = false;

	if (s->n_ops < FS_MAX_LOG) {
		s->ops[s->n_ops] = m->op;
		vio_store_release(&s->n_ops, s->n_ops + 1);
	}
	switch (vio_sfsm_rx(&s->fsm, m, &why)) {
	case VIO_TODO_WRITE_HEADER:
		why = write_header(s, m);
		break;
	case VIO_TODO_WRITE_CONFIG:
		why = write_config(s, m);
		s->config_at = (struct ioba){m->arg};
		break;
	case VIO_TODO_READ_CHOICE:
		why = read_choice(s);
		break;
	case VIO_TODO_QUEUE:
		why = queue_part(s, m);
		break;
	case VIO_TODO_START:
		why = read_choice(s);
		why = why ? why : start_queues(s);
		break;
	case VIO_TODO_WINDOW_ADD:
		window_add(s, m, &reply, &send);
		goto answer;
	case VIO_TODO_WINDOW_DEL:
		why = window_del(s, m);
		break;
	case VIO_TODO_RESET:
		forget(s);
		break;
	case VIO_TODO_KICK:
		vio_counter_add(&s->kicks, 1);
		s->q[m->arg16].kicked = true;
		break;
	case VIO_TODO_NOTHING:
	case VIO_TODO_REFUSE:
		break;
	}
	send = vio_sfsm_done(&s->fsm, m, why, &reply);
answer:
	if (send && vio_load_acquire(&s->k.mute) != m->op)
		send_msg(s, &reply);
}

static void drain(struct fake_server *s)
{
	uint64_t hi, lo, rhi, rlo;
	struct vio_msg m;
	bool reply;

	while (!vio_load_acquire(&s->k.deaf) && phyp_crq_pop(&s->crq, &hi, &lo)) {
		switch (vio_link_rx(&s->link, hi, lo, &reply, &rhi, &rlo)) {
		case VIO_LINK_CAME_UP:
		case VIO_LINK_RESTARTED:
		case VIO_LINK_LOST:
			forget(s);
			vio_sfsm_init(&s->fsm, s->k.version ? s->k.version : VIO_PROTO_LATEST);
			break;
		case VIO_LINK_MESSAGE:
			must(vio_msg_decode(hi, lo, &m) == 0);
			message(s, &m);
			break;
		default:
			break;
		}
		if (reply) {
			vio_counter_add(&s->inits, 1);
			if (!vio_load_acquire(&s->k.mute_init))
				send_raw(s, rhi, rlo);
		}
	}
}

/* --------------------------------------------------------------------------- rings ---- */

/* The whole chain; indirect tables followed. */
static unsigned chain(struct fake_server *s, struct fs_queue *q, uint16_t head,
		      struct vring_desc *d, unsigned max)
{
	struct ioba table = q->part[VIO_QUEUE_DESC];
	uint16_t i = head;
	unsigned n = 0;

	for (;;) {
		must(n < max);
		must(get(s, ioba_add(table, 16ull * i), &d[n], sizeof(d[n])));
		if (vio_le16(d[n].flags) & VRING_DESC_F_INDIRECT) {
			must(s->features >> VIRTIO_RING_F_INDIRECT_DESC & 1);
			table = (struct ioba){vio_le64(d[n].addr)};
			i = 0;
			continue;
		}
		if (!(vio_le16(d[n].flags) & VRING_DESC_F_NEXT))
			return n + 1;
		i = vio_le16(d[n++].next);
	}
}

static bool take_one(uint32_t *knob)
{
	uint32_t n = vio_load_acquire(knob);

	if (n)
		vio_store_release(knob, n - 1);
	return n > 0;
}

static uint8_t range(struct fake_server *s, const struct vring_desc *d, bool zero)
{
	struct virtio_blk_discard_write_zeroes r;
	uint64_t sector;

	if (vio_le32(d->len) != sizeof(r) ||
	    !get(s, (struct ioba){vio_le64(d->addr)}, &r, sizeof(r)))
		return VIRTIO_BLK_S_IOERR;
	sector = vio_le64(r.sector);
	if (!vio_range_ok(sector, vio_le32(r.num_sectors), FS_SECTORS))
		return VIRTIO_BLK_S_IOERR;
	if (zero)
		memset(s->disk + sector * 512, 0, vio_le32(r.num_sectors) * 512ull);
	return VIRTIO_BLK_S_OK;
}

static uint8_t data(struct fake_server *s, const struct vring_desc *d, unsigned n, uint32_t type,
		    uint64_t sector)
{
	static const char id[VIRTIO_BLK_ID_BYTES] = "fake-disk";
	uint64_t at = sector * 512;

	if (type == VIRTIO_BLK_T_GET_ID)
		return n == 1 && put(s, (struct ioba){vio_le64(d->addr)}, id, sizeof(id))
			       ? VIRTIO_BLK_S_OK
			       : VIRTIO_BLK_S_IOERR;
	for (unsigned i = 0; i < n; i++) {
		uint32_t len = vio_le32(d[i].len);

		if (!vio_range_ok(at, len, FS_DISK_BYTES) ||
		    !copy(s, (struct ioba){vio_le64(d[i].addr)}, M_DISK + at, len,
			  type == VIRTIO_BLK_T_IN))
			return VIRTIO_BLK_S_IOERR;
		at += len;
	}
	return VIRTIO_BLK_S_OK;
}

static uint8_t execute(struct fake_server *s, unsigned qi, const struct vring_desc *d, unsigned n)
{
	struct virtio_blk_outhdr h;
	struct fs_seen *seen = &s->log[s->n_log];

	must(n >= 2 && vio_le32(d[0].len) == sizeof(h) && vio_le32(d[n - 1].len) == 1);
	must(get(s, (struct ioba){vio_le64(d[0].addr)}, &h, sizeof(h)));
	if (s->n_log < FS_MAX_LOG) {
		*seen = (struct fs_seen){.type = vio_le32(h.type),
					 .sector = vio_le64(h.sector),
					 .session = (uint32_t)s->sessions,
					 .queue = (uint8_t)qi,
					 .n_data = (uint8_t)(n - 2)};
		for (unsigned i = 1; i + 1 < n; i++)
			seen->len += vio_le32(d[i].len);
		vio_store_release(&s->n_log, s->n_log + 1);
	}
	if (take_one(&s->k.fail_io))
		return VIRTIO_BLK_S_IOERR;
	switch (vio_le32(h.type)) {
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return n == 3 ? range(s, d + 1, vio_le32(h.type) == VIRTIO_BLK_T_WRITE_ZEROES)
			      : VIRTIO_BLK_S_IOERR;
	default:
		return data(s, d + 1, n - 2, vio_le32(h.type), vio_le64(h.sector));
	}
}

static bool wants_used(struct fake_server *s, struct fs_queue *q, uint16_t old)
{
	uint16_t event;

	if (s->notify == VIO_NOTIFY_CRQ)
		return true;
	if (s->features >> VIRTIO_RING_F_EVENT_IDX & 1) {
		must(get(s, ioba_add(q->part[VIO_QUEUE_AVAIL], 4ull + 2ull * q->size), &event, 2));
		return vring_need_event(vio_le16(event), q->used_idx, old);
	}
	must(get(s, q->part[VIO_QUEUE_AVAIL], &event, 2));
	return !(vio_le16(event) & VRING_AVAIL_F_NO_INTERRUPT);
}

/* Used elements, then one index for all. */
static void push_all(struct fake_server *s, unsigned qi, const uint16_t *head, const uint32_t *len,
		     unsigned n)
{
	struct fs_queue *q = &s->q[qi];
	uint16_t idx, old = q->used_idx;

	for (unsigned i = 0; i < n; i++) {
		struct vring_used_elem e = {
			.id = vio_le32(take_one(&s->k.bad_used) ? head[i] + 1u : head[i]),
			.len = vio_le32(len[i])};

		must(put(s,
			 ioba_add(q->part[VIO_QUEUE_USED],
				  4 + 8ull * (q->used_idx++ & (q->size - 1))),
			 &e, sizeof(e)));
	}
	idx = vio_le16(q->used_idx);
	vio_fence_release();
	must(put(s, ioba_add(q->part[VIO_QUEUE_USED], 2), &idx, 2));
	vio_fence_full();
	vio_counter_add(&s->done, n);
	if (wants_used(s, q, old)) {
		struct vio_msg m = {
			.version = s->fsm.version, .op = VIO_OP_USED, .arg16 = (uint16_t)qi};

		vio_counter_add(&s->used_sent, 1);
		send_msg(s, &m);
	}
}

static void push(struct fake_server *s, unsigned qi, uint16_t head, uint32_t len)
{
	push_all(s, qi, &head, &len, 1);
}

/* One chain. False: the device was stopped. */
static bool one(struct fake_server *s, unsigned qi)
{
	struct fs_queue *q = &s->q[qi];
	struct vring_desc d[64];
	uint16_t head;
	uint8_t status;
	unsigned n;

	if (take_one(&s->k.stop_device)) {
		struct vio_msg m;

		vio_sfsm_needs_reset(&s->fsm, VIO_ST_DESC_CHAIN, (uint16_t)qi, 0x77, &m);
		send_msg(s, &m);
		return false;
	}
	must(get(s, ioba_add(q->part[VIO_QUEUE_AVAIL], 4 + 2ull * (q->last_avail & (q->size - 1))),
		 &head, 2));
	head = vio_le16(head);
	must(head < q->size);
	n = chain(s, q, head, d, VIO_ARRAY_SIZE(d));
	if (s->k.dev) {
		uint32_t len = s->k.dev->chain(s, qi, d, n);

		q->last_avail++;
		push(s, qi, head, len);
		return true;
	}
	status = execute(s, qi, d, n);
	q->last_avail++;
	if (!take_one(&s->k.no_status))
		must(put(s, (struct ioba){vio_le64(d[n - 1].addr)}, &status, 1));
	push(s, qi, head, 1);
	return true;
}

/* What the driver is told about kicks: after every look, at exactly where we are; parked while polling. */
static void set_avail_event(struct fake_server *s, struct fs_queue *q)
{
	bool polls = s->notify == VIO_NOTIFY_POLL && !vio_load_acquire(&s->k.sleepy);
	uint16_t event = vio_le16((uint16_t)(q->last_avail + (polls ? 0x8000 : 0)));

	if (s->notify != VIO_NOTIFY_CRQ && s->features >> VIRTIO_RING_F_EVENT_IDX & 1)
		must(put(s, ioba_add(q->part[VIO_QUEUE_USED], 4 + 8ull * q->size), &event, 2));
	vio_fence_full();
}

static unsigned serve(struct fake_server *s, unsigned qi)
{
	struct fs_queue *q = &s->q[qi];
	bool polls = s->notify == VIO_NOTIFY_POLL && !vio_load_acquire(&s->k.sleepy);
	unsigned n = 0;
	uint16_t idx;

	/* Not without a kick: one that gets lost must show. */
	if (!q->ready || s->fsm.state != VIO_S_RUNNING || vio_load_acquire(&s->k.hold) ||
	    (s->k.dev && !s->k.dev->serves(s, qi)) || (!polls && !q->kicked))
		return 0;
	q->kicked = false;
	for (;;) {
		if (!get(s, ioba_add(q->part[VIO_QUEUE_AVAIL], 2), &idx, 2))
			return n; /* the guest is being torn down */
		vio_fence_acquire();
		must((uint16_t)(vio_le16(idx) - q->last_avail) <= q->size);
		if (vio_le16(idx) == q->last_avail) {
			set_avail_event(s, q);
			if (!get(s, ioba_add(q->part[VIO_QUEUE_AVAIL], 2), &idx, 2) ||
			    vio_le16(idx) == q->last_avail)
				return n;
		}
		if (!one(s, qi))
			return n;
		n++;
		if (vio_load_acquire(&s->k.hold)) {
			q->kicked = true; /* the rest when the hold ends */
			return n;
		}
	}
}

/* ------------------------------------------------------------------------- devices ---- */

struct ioba fs_addr(const struct vring_desc *d)
{
	return (struct ioba){vio_le64(d->addr)};
}

bool fs_rdma_read(struct fake_server *s, struct ioba at, void *dst, uint32_t len)
{
	return get(s, at, dst, len);
}

bool fs_rdma_write(struct fake_server *s, struct ioba at, const void *src, uint32_t len)
{
	return put(s, at, src, len);
}

bool fs_rdma_copy(struct fake_server *s, struct ioba guest, uint32_t stage, uint32_t len,
		  bool to_guest)
{
	return copy(s, guest, M_STAGE + stage, len, to_guest);
}

uint8_t *fs_stage(struct fake_server *s)
{
	return s->mem + M_STAGE;
}

unsigned fs_peek(struct fake_server *s, unsigned qi, unsigned ahead, struct vring_desc *d,
		 unsigned max, uint16_t *head)
{
	struct fs_queue *q = &s->q[qi];
	uint16_t idx, at = (uint16_t)(q->last_avail + ahead);

	if (!q->ready || !get(s, ioba_add(q->part[VIO_QUEUE_AVAIL], 2), &idx, 2))
		return 0;
	vio_fence_acquire();
	if ((uint16_t)(vio_le16(idx) - q->last_avail) <= ahead)
		return 0;
	must(get(s, ioba_add(q->part[VIO_QUEUE_AVAIL], 4 + 2ull * (at & (q->size - 1))), head, 2));
	*head = vio_le16(*head);
	must(*head < q->size);
	return chain(s, q, *head, d, max);
}

void fs_complete(struct fake_server *s, unsigned qi, const uint16_t *head, const uint32_t *len,
		 unsigned n)
{
	s->q[qi].last_avail = (uint16_t)(s->q[qi].last_avail + n);
	push_all(s, qi, head, len, n);
}

/* -------------------------------------------------------------------------- thread ---- */

static void say(struct fake_server *s)
{
	struct vio_msg m = {.op = (uint8_t)vio_load_acquire(&s->k.say)};

	if (!m.op)
		return;
	m.version = s->fsm.version;
	m.arg16 = s->k.say_arg;
	m.status = s->k.say_status;
	vio_store_release(&s->k.say, 0);
	if (m.op == VIO_OP_CONFIG) {
		const struct vio_msg at = {.arg = s->config_at.v};

		must(write_config(s, &at) == VIO_ST_OK);
	}
	send_msg(s, &m);
}

static void *run(void *arg)
{
	struct fake_server *s = arg;

	while (!vio_load_acquire(&s->quit)) {
		unsigned n = 0;

		phyp_irq_take(s->vcpu);
		drain(s);
		say(s);
		for (unsigned i = 0; i < queues(s); i++)
			n += serve(s, i);
		if (n == 0)
			phyp_vcpu_wait(s->vcpu, 0, IDLE_NS);
	}
	return NULL;
}

void fs_start(struct fake_server *s)
{
	struct vio_err err = {""};
	int64_t rc;

	assert_null(s->part);
	if (phyp_local_open(s->m, "vios", &s->part, &err) ||
	    phyp_vcpu_create(s->part, &s->vcpu, &err))
		fail_msg("%s", err.msg);
	s->u = phyp_unit(s->part, 0);
	s->mem = phyp_mem(s->part, (struct gla){0}, phyp_mem_size(s->part));
	s->disk = s->mem + M_DISK;
	if (!s->store)
		s->store = calloc(1, FS_DISK_BYTES);
	assert_non_null(s->store);
	memcpy(s->disk, s->store, FS_DISK_BYTES);
	for (uint64_t a = 0; a < phyp_mem_size(s->part); a += 1ull << s->u->page_shift)
		assert_int_equal(
			h_put_tce(s->vcpu, s->u->liobn, local(s, a), a | TCE_READ | TCE_WRITE),
			H_SUCCESS);
	assert_int_equal(phyp_alias_set(s->part, s->u->unit, PHYP_ALIAS_RDMA, &err), 0);
	memset(s->mem + M_CRQ, 0, CRQ_PAGE_BYTES);
	s->crq = (struct phyp_crq){.entry = (uint64_t *)(void *)(s->mem + M_CRQ),
				   .n = CRQ_PAGE_BYTES / CRQ_ENTRY_BYTES};
	vio_link_init(&s->link, vio_now_ns());
	vio_sfsm_init(&s->fsm, s->k.version ? s->k.version : VIO_PROTO_LATEST);
	memset(s->q, 0, sizeof(s->q));
	memset(s->w, 0, sizeof(s->w));
	s->next_window = 0;
	s->quit = 0;
	rc = h_reg_crq(s->vcpu, s->u->unit, local(s, M_CRQ), CRQ_PAGE_BYTES);
	assert_true(rc == H_SUCCESS || rc == H_CLOSED);
	h_vio_signal(s->vcpu, s->u->unit, VIO_SIGNAL_ON);
	if (rc == H_SUCCESS) {
		uint64_t hi, lo;

		vio_link_hello(&s->link, &hi, &lo);
		send_raw(s, hi, lo);
	}
	s->running = true;
	assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
}

static void join(struct fake_server *s)
{
	vio_store_release(&s->quit, 1);
	phyp_vcpu_prod(s->vcpu);
	pthread_join(s->thread, NULL);
	s->running = false;
}

void fs_stand_still(struct fake_server *s)
{
	if (!s->running)
		return;
	join(s);
	memcpy(s->store, s->disk, FS_DISK_BYTES);
}

void fs_say(struct fake_server *s, uint8_t op, uint16_t arg, uint8_t status)
{
	while (vio_load_acquire(&s->k.say))
		vio_cpu_relax(); /* an earlier one is not said yet */
	s->k.say_arg = arg;
	s->k.say_status = status;
	vio_store_release(&s->k.say, op);
}

void fs_stop(struct fake_server *s)
{
	if (!s->part)
		return;
	fs_stand_still(s);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(s->w); i++)
		give_back(s, &s->w[i]);
	h_free_crq(s->vcpu, s->u->unit);
	phyp_vcpu_destroy(s->vcpu);
	phyp_close(s->part);
	s->part = NULL;
}

void fs_kill(struct fake_server *s)
{
	fs_stand_still(s);
	phyp_local_kill(s->m, "vios");
	phyp_vcpu_destroy(s->vcpu);
	phyp_close(s->part);
	s->part = NULL;
}

/* --------------------------------------------------------------------------- world ---- */

void fw_setup(struct fs_world *w, uint32_t guest_mib)
{
	fw_setup_tce(w, guest_mib, 12);
}

void fw_setup_tce(struct fs_world *w, uint32_t guest_mib, uint8_t page_shift)
{
	struct phyp_profile p;
	struct vio_err err = {""};

	memset(w, 0, sizeof(*w));
	phyp_profile_default(&p, 1, 16, guest_mib);
	for (unsigned i = 0; i < p.n_parts; i++)
		p.part[i].pages = PHYP_PAGES_4K;
	p.adapter[0].page_shift = page_shift;
	if (phyp_local_create(&p, &w->m, &err) || phyp_local_open(w->m, "guest0", &w->gp, &err))
		fail_msg("%s", err.msg);
	vio_mem_init(&w->mem, w->gp);
	w->s.m = w->m;
}

unsigned fw_tces(struct fs_world *w, struct phyp_vcpu *v)
{
	const struct phyp_unit_info *u = phyp_unit(w->gp, 0);
	unsigned n = 0;
	uint64_t tce = 0;

	for (uint64_t off = 0; off < u->window_bytes; off += 1ull << u->page_shift) {
		assert_int_equal(h_get_tce(v, u->liobn, ioba_add(u->window, off), &tce), H_SUCCESS);
		n += tce != 0;
	}
	return n;
}

void fw_teardown(struct fs_world *w)
{
	struct phyp_vcpu *v;

	fs_stop(&w->s);
	if (phyp_alive(w->gp) && phyp_vcpu_create(w->gp, &v, NULL) == 0) {
		assert_int_equal(fw_tces(w, v), 0);
		phyp_vcpu_destroy(v);
	}
	phyp_close(w->gp);
	phyp_local_destroy(w->m);
	free(w->s.store);
}
