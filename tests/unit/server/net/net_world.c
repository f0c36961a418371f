/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"
#include "proto/fsm.h"
#include "vio/atomics.h"

#define CRQ    0x1000ull
#define HEADER 0x2000ull
#define CONFIG 0x3000ull
#define WDESC  0x4000ull
#define MEM    (8ull << 20) /* of the server, for each adapter */

const struct nw_arm nw_arms[] = {
	{"copy", VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ},
	{"copy-tuned", VIO_RING_COPY_DELTA, VIO_PAYLOAD_RDMA, VIO_NOTIFY_SUPPRESS},
	{"premapped", VIO_RING_DIRECT, VIO_PAYLOAD_BOUNCE, VIO_NOTIFY_POLL},
	{"zero-copy", VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL},
	{"unprotected", VIO_RING_DIRECT, VIO_PAYLOAD_UNCHECKED, VIO_NOTIFY_POLL},
};
const unsigned nw_n_arms = VIO_ARRAY_SIZE(nw_arms);

/* -------------------------------------------------------------------------------- server ---- */

static struct nw_guest *owner(struct nw *w, const struct vio_squeue *q)
{
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		if (w->g[i].a == q->adapter)
			return &w->g[i];
	}
	fail_msg("a queue of no adapter");
	return NULL;
}

static void e_assign(void *ctx, struct vio_squeue *q)
{
	owner(ctx, q)->polled[q->index] = q;
}
static void e_unassign(void *ctx, struct vio_squeue *q)
{
	owner(ctx, q)->polled[q->index] = NULL;
}
static uint64_t e_start(void *ctx)
{
	return ((struct nw *)ctx)->turn + 1;
}
static bool e_done(void *ctx, uint64_t token)
{
	return ((struct nw *)ctx)->turn >= token;
}

__attribute__((format(printf, 2, 3))) static void e_say(void *ctx, const char *fmt, ...)
{
	struct nw *w = ctx;
	size_t at = strlen(w->said);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->said + at, sizeof(w->said) - at, fmt, ap);
	va_end(ap);
}

bool nw_said(const struct nw *w, const char *text)
{
	return strstr(w->said, text) != NULL;
}

static bool guest_messages(struct nw_guest *g)
{
	uint64_t hi, lo;
	struct vio_msg m;
	bool any = false;

	while (g->crq.entry && phyp_crq_pop(&g->crq, &hi, &lo)) {
		any = true;
		if (vio_msg_decode(hi, lo, &m) < 0)
			continue; /* INIT and the like */
		if (m.op == VIO_OP_USED) {
			g->used_messages++;
			continue;
		}
		g->needs_resets += m.op == VIO_OP_NEEDS_RESET;
		g->last = m;
		g->messages++;
	}
	return any;
}

static bool turn(struct nw *w)
{
	uint64_t irq = phyp_irq_take(w->sv);
	bool moved = false;

	for (unsigned i = 0; i < NW_GUESTS; i++) {
		struct nw_guest *g = &w->g[i];

		if (irq >> i & 1)
			moved |= vio_adapter_crq(g->a) > 0;
		for (unsigned q = 0; q < NW_QUEUES; q++) {
			if (g->polled[q])
				moved |= vio_squeue_poll(g->polled[q]) > 0;
		}
		if (vio_adapter_busy(g->a)) {
			vio_adapter_service(g->a);
			moved = true;
		}
		moved |= guest_messages(g);
	}
	moved |= vio_switch_poll(w->sw, w->now) > 0;
	w->turn++;
	return moved;
}

void nw_run(struct nw *w)
{
	unsigned idle = 0;

	for (unsigned i = 0; i < 2000 && idle < 4; i++)
		idle = turn(w) ? 0 : idle + 1;
}

/* -------------------------------------------------------------------------------- machine ---- */

static void open_guest(struct nw *w, unsigned i)
{
	struct nw_guest *g = &w->g[i];
	struct vio_err err = {""};
	char name[16];

	g->index = i;
	snprintf(name, sizeof(name), "guest%u", i);
	if (phyp_local_open(w->m, name, &g->part, &err) < 0 ||
	    phyp_vcpu_create(g->part, &g->vcpu, &err) < 0)
		fail_msg("%s", err.msg);
	g->u = phyp_unit(g->part, 0);
	g->mem = phyp_mem(g->part, (struct gla){0}, phyp_mem_size(g->part));
	for (uint64_t at = 0; at < NW_END; at += 4096)
		assert_int_equal(h_put_tce(g->vcpu, g->u->liobn, ioba_add(g->u->window, at),
					   at | TCE_READ | TCE_WRITE),
				 H_SUCCESS);
}

static void open_adapter(struct nw *w, unsigned i, const char *spec)
{
	const struct vio_env env = {.assign = e_assign,
				    .unassign = e_unassign,
				    .quiesce_start = e_start,
				    .quiesce_done = e_done,
				    .say = e_say,
				    .ctx = w};
	struct nw_guest *g = &w->g[i];
	struct vio_err err = {""};
	struct vio_adapter_cfg cfg = {.unit = i,
				      .queue_size = NW_SIZE,
				      .proto = VIO_PROTO_V2,
				      .ring_levels = 7,
				      .payload_levels = 0x1f,
				      .notify_levels = 7,
				      .mem = phyp_mem(w->sp, (struct gla){i * MEM}, MEM),
				      .mem_gla = {i * MEM},
				      .mem_len = MEM};

	if (vio_net_create(spec, i, &nw_env, &g->net, &err) < 0 ||
	    vio_switch_add(w->sw, vio_net_port(g->net), &err) < 0)
		fail_msg("%s", err.msg);
	cfg.dev = vio_net_device(g->net);
	cfg.num_queues = vio_kind_net.queues(cfg.dev, 0);
	assert_in_range(cfg.num_queues, 3, NW_QUEUES);
	if (vio_adapter_create(w->sv, &cfg, &env, &g->a, &err) < 0)
		fail_msg("%s", err.msg);
}

int nw_setup_with(void **state, const char *const spec[NW_GUESTS])
{
	struct nw *w = calloc(1, sizeof(*w));
	struct phyp_profile p;
	struct vio_err err = {""};

	assert_non_null(w);
	phyp_profile_default(&p, NW_GUESTS, 32, 16);
	for (unsigned i = 0; i < p.n_parts; i++)
		p.part[i].pages = PHYP_PAGES_4K;
	if (phyp_local_create(&p, &w->m, &err) < 0 ||
	    phyp_local_open(w->m, "vios", &w->sp, &err) < 0 ||
	    phyp_vcpu_create(w->sp, &w->sv, &err) < 0 ||
	    vio_switch_create(nw_fdb(), &w->sw, &err) < 0)
		fail_msg("%s", err.msg);
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		open_guest(w, i);
		open_adapter(w, i, spec[i]);
	}
	for (unsigned i = 0; i < NW_GUESTS; i++)
		nw_crq(w, &w->g[i]);
	*state = w;
	return 0;
}

int nw_setup(void **state)
{
	static const char *const plain[NW_GUESTS] = {"", "", ""};

	return nw_setup_with(state, plain);
}

void nw_check_leaks(struct nw *w)
{
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		struct nw_guest *g = &w->g[i];

		for (unsigned k = 0; k < NW_QUEUES; k++) {
			struct vio_squeue *q = g->polled[k];
			unsigned busy = 0, noted = 0;

			if (!q || q->fault != VIO_ST_OK)
				continue;
			for (unsigned r = 0; r < q->size; r++)
				busy += q->req[r].state != VIO_REQ_FREE;
			if (q->pull)
				noted = vio_nq_of(q)->held_n - vio_nq_of(q)->held_at;
			assert_int_equal(busy, noted);
			assert_int_equal((uint16_t)(q->last_avail - q->used_idx), noted);
			assert_int_equal(q->in_flight, 0);
			if (!q->pull)
				assert_int_equal(q->used_idx, g->ring[k].next);
		}
	}
}

int nw_teardown(void **state)
{
	struct nw *w = *state;

	nw_run(w);
	nw_check_leaks(w);
	for (unsigned i = 0; i < NW_GUESTS; i++)
		vio_adapter_stop(w->g[i].a);
	nw_run(w);
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		assert_false(vio_adapter_busy(w->g[i].a));
		vio_adapter_destroy(w->g[i].a);
		assert_int_equal(w->g[i].net->n_regions, 0);
		vio_net_destroy(w->g[i].net);
		phyp_vcpu_destroy(w->g[i].vcpu);
		phyp_close(w->g[i].part);
	}
	vio_switch_destroy(w->sw);
	phyp_vcpu_destroy(w->sv);
	phyp_close(w->sp);
	phyp_local_destroy(w->m);
	free(w);
	return 0;
}

/* --------------------------------------------------------------------------- configuration ---- */

struct ioba nw_at(const struct nw_guest *g, uint64_t gla)
{
	return ioba_add(g->u->window, gla);
}

void nw_crq(struct nw *w, struct nw_guest *g)
{
	struct vio_link link = {VIO_LINK_DOWN, 0};
	uint64_t hi, lo;
	int64_t rc;

	memset(g->mem + CRQ, 0, 4096);
	rc = h_reg_crq(g->vcpu, g->u->unit, nw_at(g, CRQ), 4096);
	assert_true(rc == H_SUCCESS || rc == H_CLOSED);
	g->crq = (struct phyp_crq){.entry = (uint64_t *)(void *)(g->mem + CRQ),
				   .n = 4096 / CRQ_ENTRY_BYTES};
	vio_link_hello(&link, &hi, &lo);
	h_send_crq(g->vcpu, g->u->unit, hi, lo);
	nw_run(w);
}

uint8_t nw_step(struct nw *w, struct nw_guest *g, struct vio_msg m)
{
	unsigned before = g->messages;
	uint64_t hi, lo;

	if (!m.version)
		m.version = VIO_PROTO_V2;
	vio_msg_encode(&m, &hi, &lo);
	assert_int_equal(h_send_crq(g->vcpu, g->u->unit, hi, lo), H_SUCCESS);
	nw_run(w);
	return g->messages == before ? 0xff : g->last.status;
}

const struct virtio_net_config *nw_config(const struct nw_guest *g)
{
	return (const void *)(g->mem + CONFIG);
}

uint8_t nw_features(struct nw *w, struct nw_guest *g, const struct nw_arm *arm, uint64_t features)
{
	struct vio_dev_header_v2 *h = (void *)(g->mem + HEADER);
	uint8_t st = nw_step(w, g,
			     (struct vio_msg){.op = VIO_OP_PROBE,
					      .arg = nw_at(g, HEADER).v,
					      .arg16 = VIO_DEV_HEADER_BYTES});

	if (st == VIO_ST_OK)
		st = nw_step(w, g,
			     (struct vio_msg){.op = VIO_OP_ACKNOWLEDGE,
					      .arg = nw_at(g, CONFIG).v,
					      .arg16 = VIO_MAX_CONFIG});
	if (st != VIO_ST_OK)
		return st;
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_DRIVER}), 0xff);
	g->arm = arm;
	g->features = features | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM;
	h->guest_features = vio_to_be64(g->features);
	h->ring = (uint8_t)arm->ring;
	h->payload = (uint8_t)arm->payload;
	h->notify = (uint8_t)arm->notify;
	return nw_step(w, g, (struct vio_msg){.op = VIO_OP_FEATURES_OK});
}

uint8_t nw_window(struct nw *w, struct nw_guest *g, uint64_t gla, uint64_t len, uint8_t role,
		  uint16_t *id)
{
	struct vio_window_desc d = {.liobn = vio_to_be32(g->u->liobn),
				    .perm = TCE_READ | TCE_WRITE,
				    .role = role,
				    .ioba = vio_to_be64(nw_at(g, gla).v),
				    .len = vio_to_be64(len)};
	uint64_t cookie = 0;
	uint8_t st;

	assert_int_equal(h_grant_logical(g->vcpu, GRANT_SYSTEM_MEMORY, (struct gla){gla}, len,
					 g->u->unit, &cookie),
			 H_SUCCESS);
	d.cookie = vio_to_be64(cookie);
	memcpy(g->mem + WDESC, &d, sizeof(d));
	st = nw_step(w, g, (struct vio_msg){.op = VIO_OP_WINDOW_ADD, .arg = nw_at(g, WDESC).v});
	*id = g->last.arg16;
	return st;
}

void nw_queue(struct nw *w, struct nw_guest *g, uint16_t q)
{
	uint64_t at = NW_RINGS + q * 0x10000ull;

	memset(g->mem + at, 0, 0x3000);
	if (g->arm->notify == VIO_NOTIFY_POLL) /* this guest polls too */
		((struct vring_avail *)(void *)(g->mem + at + 0x1000))->flags =
			vio_le16(VRING_AVAIL_F_NO_INTERRUPT);
	for (uint8_t part = 0; part < 3; part++)
		assert_int_equal(nw_step(w, g,
					 (struct vio_msg){.op = VIO_OP_QUEUE,
							  .arg8 = part,
							  .arg16 = q,
							  .arg = nw_at(g, at + part * 0x1000).v}),
				 0xff);
	mock_init(&g->ring[q], NW_SIZE, 0, g->mem + at, g->mem + at + 0x1000, g->mem + at + 0x2000);
}

void nw_up(struct nw *w, struct nw_guest *g, const struct nw_arm *arm, uint64_t features)
{
	uint16_t n = features & NW_F(MQ) ? 4 : 2;

	if (features & NW_F(CTRL_VQ))
		n++;
	assert_int_equal(nw_features(w, g, arm, features), VIO_ST_OK);
	if (arm->ring == VIO_RING_DIRECT || arm->payload != VIO_PAYLOAD_RDMA) {
		assert_int_equal(
			nw_window(w, g, NW_RINGS, 0x60000, VIO_WINDOW_RINGS, &g->window[0]),
			VIO_ST_OK);
		assert_int_equal(
			nw_window(w, g, NW_RX, NW_END - NW_RX, VIO_WINDOW_BUFFERS, &g->window[1]),
			VIO_ST_OK);
	}
	for (uint16_t q = 0; q < n; q++)
		nw_queue(w, g, q);
	if (nw_step(w, g, (struct vio_msg){.op = VIO_OP_DRIVER_OK}) != VIO_ST_OK)
		fail_msg("%s", w->said);
}

void nw_reopen(struct nw *w, struct nw_guest *g)
{
	char name[16];

	snprintf(name, sizeof(name), "guest%u", g->index);
	phyp_local_kill(w->m, name);
	memset(&g->crq, 0, sizeof(g->crq));
	nw_run(w);
	phyp_vcpu_destroy(g->vcpu);
	phyp_close(g->part);
	memset(g->ring, 0, sizeof(g->ring));
	open_guest(w, g->index);
	nw_crq(w, g);
}
