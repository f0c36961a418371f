/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_ids.h>

#include "fake_server_priv.h"
#include "vio/cycles.h"

#define IDLE_NS 200000

/* ---------------------------------------------------------------------------- CRQ ---- */

static void fs_send_raw(struct fake_server *s, uint64_t hi, uint64_t lo)
{
	while (h_send_crq(s->vcpu, s->u->unit, hi, lo) == H_DROPPED && !vio_load_relaxed(&s->quit))
		phyp_vcpu_wait(s->vcpu, 0, 10000);
}

void fs_send(struct fake_server *s, const struct vio_msg *m)
{
	uint64_t hi, lo;

	vio_msg_encode(m, &hi, &lo);
	fs_send_raw(s, hi, lo);
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

		return fs_rdma_write(s, s->header, &h, sizeof(h)) ? VIO_ST_OK : VIO_ST_NO_DMA;
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

	return fs_rdma_write(s, s->header, &h, sizeof(h)) &&
			       fs_rdma_write(s, ioba_add(s->header, sizeof(h)), &tail, sizeof(tail))
		       ? VIO_ST_OK
		       : VIO_ST_NO_DMA;
}

static uint8_t write_config(struct fake_server *s, const struct vio_msg *m)
{
	uint8_t c[VIO_MAX_CONFIG];
	const uint32_t len = config_of(s, c);

	for (uint32_t done = 0; done < len; done += 8) {
		uint32_t n = len - done < 8 ? len - done : 8;

		if (!fs_rdma_write(s, (struct ioba){m->arg + done}, c + done, n))
			return VIO_ST_NO_DMA;
	}
	return VIO_ST_OK;
}

static uint8_t read_choice(struct fake_server *s)
{
	struct vio_dev_header_v1 v1;
	struct vio_dev_header_v2 v2;

	if (s->fsm.version == VIO_PROTO_V1) {
		if (!fs_rdma_read(s, s->header, &v1, sizeof(v1)))
			return VIO_ST_NO_DMA;
		s->features = vio_from_be32(v1.guest_features);
		s->ring = s->payload = s->notify = 0;
	} else {
		if (!fs_rdma_read(s, s->header, &v2, sizeof(v2)))
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
		fs_ring_init(s, q);
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
	if (why == VIO_ST_OK && !fs_rdma_read(s, (struct ioba){m->arg}, &w->d, sizeof(w->d)))
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
	case VIO_TODO_CONFIG_SET: /* it offers no field that could be written */
		why = VIO_ST_BAD_MESSAGE;
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
		fs_send(s, &reply);
}

static void drain(struct fake_server *s)
{
	uint64_t hi, lo, rhi, rlo;
	struct vio_msg m;
	bool reply;

	/* So many at a time: guests that kick faster than this thread answers keep it neither from their rings nor from its end. */
	for (unsigned n = 0; n < 64; n++) {
		if (vio_load_acquire(&s->k.deaf) || !phyp_crq_pop(&s->crq, &hi, &lo))
			return;
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
				fs_send_raw(s, rhi, rlo);
		}
	}
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
	fs_send(s, &m);
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
			n += fs_serve(s, i);
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
			h_put_tce(s->vcpu, s->u->liobn, fs_local(s, a), a | TCE_READ | TCE_WRITE),
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
	rc = h_reg_crq(s->vcpu, s->u->unit, fs_local(s, M_CRQ), CRQ_PAGE_BYTES);
	assert_true(rc == H_SUCCESS || rc == H_CLOSED);
	h_vio_signal(s->vcpu, s->u->unit, VIO_SIGNAL_ON);
	if (rc == H_SUCCESS) {
		uint64_t hi, lo;

		vio_link_hello(&s->link, &hi, &lo);
		fs_send_raw(s, hi, lo);
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
