/* SPDX-License-Identifier: BSD-3-Clause */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_blk.h>

#include "adapter_world.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* ------------------------------------------------------------------------ the loop ---- */

static void e_assign(void *ctx, struct vio_squeue *q)
{
	struct aw *w = ctx;

	assert_null(w->polled[q->index]);
	if (w->second)
		q->vcpu = w->sv2;
	vio_store_release(&w->polled[q->index], q); /* pair L */
}

static void e_unassign(void *ctx, struct vio_squeue *q)
{
	struct aw *w = ctx;

	assert_ptr_equal(w->polled[q->index], q);
	vio_store_release(&w->polled[q->index], NULL);
}

static uint64_t e_start(void *ctx)
{
	struct aw *w = ctx;

	return w->second ? vio_fetch_add(&w->token, 1) + 1 : w->turn + 1;
}

static bool e_done(void *ctx, uint64_t token)
{
	struct aw *w = ctx;

	if (w->second)
		return vio_load_acquire(&w->passed) >= token;
	return !w->lcores_stuck && w->turn >= token;
}

__attribute__((format(printf, 2, 3))) static void e_say(void *ctx, const char *fmt, ...)
{
	struct aw *w = ctx;
	size_t at = strlen(w->said);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->said + at, sizeof(w->said) - at, fmt, ap);
	va_end(ap);
	strncat(w->said, "\n", sizeof(w->said) - strlen(w->said) - 1);
}

bool aw_said(const struct aw *w, const char *text)
{
	return strstr(w->said, text) != NULL;
}

void aw_turn(struct aw *w)
{
	if (w->a && phyp_irq_take(w->sv))
		vio_adapter_crq(w->a);
	for (unsigned i = 0; !w->second && i < AW_QUEUES; i++) {
		if (w->polled[i])
			vio_squeue_poll(w->polled[i]);
	}
	if (w->a && vio_adapter_busy(w->a))
		vio_adapter_service(w->a);
	w->turn++;
}

static void *second(void *arg)
{
	struct aw *w = arg;

	while (!vio_load_relaxed(&w->second_stop)) {
		for (unsigned i = 0; i < AW_QUEUES; i++) {
			struct vio_squeue *q = vio_load_acquire(&w->polled[i]); /* pair L */

			if (q)
				vio_squeue_poll(q);
		}
		vio_store_release(&w->passed, vio_load_acquire(&w->token));
		sched_yield();
	}
	return NULL;
}

void aw_second_lcore(struct aw *w)
{
	struct vio_err err;

	assert_int_equal(phyp_vcpu_create(w->sp, &w->sv2, &err), 0);
	w->second = true;
	assert_int_equal(pthread_create(&w->thread, NULL, second, w), 0);
}

bool aw_take(struct aw *w)
{
	uint64_t hi, lo, rhi, rlo;
	enum vio_link_event e;
	struct vio_msg m;
	bool reply;

	if (!w->crq.entry || !phyp_crq_pop(&w->crq, &hi, &lo))
		return false;
	e = vio_link_rx(&w->link, hi, lo, &reply, &rhi, &rlo);
	if (e != VIO_LINK_NOTHING)
		w->link_event = e;
	if (reply)
		h_send_crq(w->gv, w->gu->unit, rhi, rlo);
	if (e != VIO_LINK_MESSAGE)
		return true;
	assert_int_equal(vio_msg_decode(hi, lo, &m), 0);
	if (m.op == VIO_OP_USED) {
		w->used_messages++;
		return true;
	}
	vio_gfsm_rx(&w->fsm, &m);
	w->last = m;
	w->messages++;
	return true;
}

void aw_run(struct aw *w)
{
	unsigned idle = 0;

	for (unsigned i = 0; i < 200 && idle < 6; i++) {
		bool moved = i < 100 && w->a && vio_adapter_busy(w->a); /* bounded steps */

		aw_turn(w);
		while (aw_take(w))
			moved = true;
		idle = moved ? 0 : idle + 1;
	}
}

/* --------------------------------------------------------------------------- machine ---- */

static void open_guest(struct aw *w)
{
	struct vio_err err = {""};
	uint64_t size;

	if (phyp_local_open(w->m, "guest0", &w->gp, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(phyp_vcpu_create(w->gp, &w->gv, &err), 0);
	w->gu = phyp_unit(w->gp, 0);
	size = phyp_mem_size(w->gp);
	w->gmem = phyp_mem(w->gp, (struct gla){0}, size);
	for (uint64_t at = 0; at < size; at += 4096)
		assert_int_equal(h_put_tce(w->gv, w->gu->liobn, ioba_add(w->gu->window, at),
					   at | TCE_READ | TCE_WRITE),
				 0);
	memset(&w->crq, 0, sizeof(w->crq));
	memset(w->ring, 0, sizeof(w->ring));
}

void aw_server(struct aw *w, uint8_t proto, uint8_t ring_levels, uint8_t payload_levels)
{
	const struct vio_env env = {
		.assign = e_assign,
		.unassign = e_unassign,
		.quiesce_start = e_start,
		.quiesce_done = e_done,
		.say = e_say,
		.ctx = w,
	};
	struct vio_err err = {""};

	if (phyp_local_open(w->m, "vios", &w->sp, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(phyp_vcpu_create(w->sp, &w->sv, &err), 0);
	w->su = phyp_unit(w->sp, 0);
	vio_disk_init(&w->disk, &w->b.be);
	w->cfg = (struct vio_adapter_cfg){
		.unit = 0,
		.dev = &w->disk.dev,
		.num_queues = AW_QUEUES,
		.queue_size = AW_SIZE,
		.proto = proto,
		.ring_levels = ring_levels,
		.payload_levels = payload_levels,
		.notify_levels = 7,
		.mem = phyp_mem(w->sp, (struct gla){0}, 8 << 20),
		.mem_len = w->cfg.mem_len ? w->cfg.mem_len : 8 << 20,
	};
	if (vio_adapter_create(w->sv, &w->cfg, &env, &w->a, &err) < 0)
		fail_msg("%s", err.msg);
}

void aw_server_gone(struct aw *w)
{
	vio_adapter_destroy(w->a);
	w->a = NULL;
	phyp_vcpu_destroy(w->sv);
	phyp_close(w->sp);
	w->sp = NULL;
}

int aw_setup(void **state)
{
	struct aw *w = calloc(1, sizeof(*w));
	struct phyp_profile p;
	struct vio_err err = {""};

	assert_non_null(w);
	w->b.be = (struct vio_backend){.ops = &aw_backend_ops,
				       .size = sizeof(w->b.disk),
				       .block_size = 512,
				       .touches_data = true,
				       .can_flush = true,
				       .id = "adapter-test",
				       .what = "test disk"};
	memset(w->b.disk, 0xa5, sizeof(w->b.disk));
	phyp_profile_default(&p, 2, 16, 16);
	for (unsigned i = 0; i < p.n_parts; i++)
		p.part[i].pages = PHYP_PAGES_4K;
	if (phyp_local_create(&p, &w->m, &err) < 0)
		fail_msg("%s", err.msg);
	open_guest(w);
	aw_server(w, 2, 7, 0xf);
	*state = w;
	return 0;
}

int aw_teardown(void **state)
{
	struct aw *w = *state;

	vio_store_relaxed(&w->b.slow, false);
	w->lcores_stuck = false;
	if (w->a) {
		vio_adapter_stop(w->a);
		aw_run(w);
		for (unsigned i = 0; w->second && i < 100000 && vio_adapter_busy(w->a); i++) {
			aw_turn(w);
			sched_yield();
		}
		assert_false(vio_adapter_busy(w->a));
		if (w->second) {
			vio_store_relaxed(&w->second_stop, true);
			pthread_join(w->thread, NULL);
			phyp_vcpu_destroy(w->sv2);
		}
		aw_server_gone(w);
	}
	assert_int_equal(w->b.queues_open, 0);
	assert_int_equal(w->b.adds_in_flight, 0);
	if (w->other) {
		phyp_vcpu_destroy(w->ov);
		phyp_close(w->other);
	}
	phyp_vcpu_destroy(w->gv);
	phyp_close(w->gp);
	phyp_local_destroy(w->m);
	free(w);
	return 0;
}

/* ----------------------------------------------------------------------------- guest ---- */

struct ioba aw_at(const struct aw *w, uint64_t gla)
{
	return ioba_add(w->gu->window, gla);
}

void aw_guest(struct aw *w, uint8_t proto)
{
	uint64_t hi, lo;
	int64_t rc;

	memset(w->gmem + AW_CRQ, 0, 4096);
	vio_link_init(&w->link, vio_now_ns());
	vio_gfsm_init(&w->fsm, proto);
	rc = h_reg_crq(w->gv, w->gu->unit, aw_at(w, AW_CRQ), 4096);
	assert_true(rc == H_SUCCESS || rc == H_CLOSED);
	w->crq = (struct phyp_crq){.entry = (uint64_t *)(void *)(w->gmem + AW_CRQ),
				   .n = 4096 / CRQ_ENTRY_BYTES};
	vio_link_hello(&w->link, &hi, &lo);
	h_send_crq(w->gv, w->gu->unit, hi, lo);
	aw_run(w);
	assert_int_equal(w->link.state, VIO_LINK_UP);
}

void aw_guest_gone(struct aw *w)
{
	phyp_local_kill(w->m, "guest0");
	memset(&w->crq, 0, sizeof(w->crq));
	aw_run(w);
	phyp_vcpu_destroy(w->gv);
	phyp_close(w->gp);
	open_guest(w);
}

void aw_send_raw(struct aw *w, struct vio_msg m)
{
	uint64_t hi, lo;

	vio_msg_encode(&m, &hi, &lo);
	assert_int_equal(h_send_crq(w->gv, w->gu->unit, hi, lo), H_SUCCESS);
}

uint8_t aw_step(struct aw *w, struct vio_msg m)
{
	unsigned before = w->messages;

	assert_int_equal(vio_gfsm_tx(&w->fsm, &m), 0);
	aw_send_raw(w, m);
	aw_run(w);
	return w->messages == before ? 0xff : w->last.status;
}

uint8_t aw_probe(struct aw *w)
{
	struct vio_msg m = {
		.op = VIO_OP_PROBE, .arg = aw_at(w, AW_HEADER).v, .arg16 = VIO_DEV_HEADER_BYTES};
	uint8_t st;

	memset(w->gmem + AW_HEADER, 0xee, VIO_DEV_HEADER_BYTES);
	st = aw_step(w, m);
	if (st != VIO_ST_OK)
		return st;
	return aw_step(w, (struct vio_msg){.op = VIO_OP_ACKNOWLEDGE,
					   .arg = aw_at(w, AW_CONFIG).v,
					   .arg16 = VIO_MAX_CONFIG});
}

uint8_t aw_features(struct aw *w, uint64_t features, enum vio_ring_access ring,
		    enum vio_payload payload, enum vio_notification notify)
{
	uint8_t st = aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER});

	assert_int_equal(st, 0xff); /* DRIVER has no answer */
	if (w->fsm.version == VIO_PROTO_V1) {
		struct vio_dev_header_v1 *h = (void *)(w->gmem + AW_HEADER);

		h->guest_features = vio_to_be32((uint32_t)features);
		return VIO_ST_OK;
	}
	struct vio_dev_header_v2 *h = (void *)(w->gmem + AW_HEADER);

	h->guest_features = vio_to_be64(features);
	h->ring = (uint8_t)ring;
	h->payload = (uint8_t)payload;
	h->notify = (uint8_t)notify;
	return aw_step(w, (struct vio_msg){.op = VIO_OP_FEATURES_OK});
}

uint64_t aw_grant(struct aw *w, uint64_t flags, uint64_t gla, uint64_t len)
{
	uint64_t cookie = 0;

	assert_int_equal(h_grant_logical(w->gv, GRANT_SYSTEM_MEMORY | flags, (struct gla){gla}, len,
					 w->gu->unit, &cookie),
			 H_SUCCESS);
	return cookie;
}

struct vio_window_desc aw_wdesc(const struct aw *w, uint64_t gla, uint64_t len, uint8_t perm,
				uint8_t role, uint64_t cookie)
{
	return (struct vio_window_desc){
		.liobn = vio_to_be32(w->gu->liobn),
		.perm = perm,
		.role = role,
		.ioba = vio_to_be64(aw_at(w, gla).v),
		.len = vio_to_be64(len),
		.cookie = vio_to_be64(cookie),
	};
}

uint8_t aw_announce(struct aw *w, const struct vio_window_desc *d)
{
	memcpy(w->gmem + AW_WDESC, d, sizeof(*d));
	return aw_step(w, (struct vio_msg){.op = VIO_OP_WINDOW_ADD, .arg = aw_at(w, AW_WDESC).v});
}

uint8_t aw_window(struct aw *w, uint64_t gla, uint64_t len, uint8_t perm, uint8_t role,
		  uint64_t *cookie)
{
	uint64_t flags =
		(perm & TCE_READ ? 0 : GRANT_NO_READ) | (perm & TCE_WRITE ? 0 : GRANT_NO_WRITE);
	struct vio_window_desc d;

	*cookie = aw_grant(w, flags, gla, len);
	d = aw_wdesc(w, gla, len, perm, role, *cookie);
	return aw_announce(w, &d);
}

void aw_windows(struct aw *w)
{
	static const struct {
		uint64_t at, len;
		uint8_t perm, role;
	} want[] = {
		{AW_DESC, 0x2000, TCE_READ, VIO_WINDOW_RINGS},
		{AW_USED, 0x1000, TCE_READ | TCE_WRITE, VIO_WINDOW_RINGS},
		{AW_BUF, AW_BUFLEN, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS},
	};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(want); i++) {
		assert_int_equal(aw_window(w, want[i].at, want[i].len, want[i].perm, want[i].role,
					   &w->cookie[i]),
				 VIO_ST_OK);
		w->window_id[i] = w->last.arg16;
	}
}

void aw_queue(struct aw *w, uint16_t q)
{
	const uint64_t at[] = {AW_DESC, AW_AVAIL, AW_USED};

	memset(w->gmem + AW_DESC + q * AW_QUEUE, 0, 0x3000);
	for (uint8_t part = 0; part < VIO_ARRAY_SIZE(at); part++)
		assert_int_equal(
			aw_step(w, (struct vio_msg){.op = VIO_OP_QUEUE,
						    .arg8 = part,
						    .arg16 = q,
						    .arg = aw_at(w, at[part] + q * AW_QUEUE).v}),
			0xff);
	mock_init(&w->ring[q], AW_SIZE, 0, w->gmem + AW_DESC + q * AW_QUEUE,
		  w->gmem + AW_AVAIL + q * AW_QUEUE, w->gmem + AW_USED + q * AW_QUEUE);
}

void aw_bring_up(struct aw *w, enum vio_ring_access ring, enum vio_payload payload,
		 enum vio_notification notify)
{
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w,
				     1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM,
				     ring, payload, notify),
			 VIO_ST_OK);
	if (ring == VIO_RING_DIRECT || payload != VIO_PAYLOAD_RDMA)
		aw_windows(w);
	aw_queue(w, 0);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_OK);
	assert_int_equal(w->fsm.state, VIO_G_RUNNING);
}

void aw_request(struct aw *w, uint16_t q)
{
	const uint16_t slot = w->ring[q].next % AW_SIZE;
	const uint64_t buf = AW_BUF + slot % 4 * 0x1000;
	const struct virtio_blk_outhdr hdr = {.type = vio_le32(VIRTIO_BLK_T_IN)};
	const struct mock_seg seg[] = {{.at = aw_at(w, buf).v, .len = 16},
				       {aw_at(w, buf + 0x200).v, 512, .dev_writes = true},
				       {aw_at(w, buf + 16).v, 1, .dev_writes = true}};

	memcpy(w->gmem + buf, &hdr, sizeof(hdr));
	mock_add(&w->ring[q], (uint16_t)(slot % 4 * 4), seg, VIO_ARRAY_SIZE(seg));
	mock_publish(&w->ring[q]);
	aw_send_raw(w, (struct vio_msg){.version = w->fsm.version, .op = VIO_OP_KICK, .arg16 = q});
}

unsigned aw_used(struct aw *w, uint16_t q)
{
	uint32_t id, len;
	unsigned n = 0;

	while (mock_used(&w->ring[q], &id, &len))
		n++;
	return n;
}
