/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/fuzz/world.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

/* Little, because it is made anew for each input. */
#define SERVER_MIB 6u
#define GUEST_MIB  4u
#define CANARY     0x5a /* server memory that is nobody's */
#define SECRET     0xc3 /* of each guest */

/* For the handler of faults, which gets no argument. */
static struct fw_world world;
static struct sigaction was[NSIG];

static void on_fault(int sig, siginfo_t *info, void *context)
{
	for (unsigned i = 0; i < FW_GUESTS; i++) {
		if (world.side[i].adapter &&
		    vio_adapter_window_fault(world.side[i].adapter, info->si_addr, sig == SIGBUS))
			return;
	}
	/* A finding: whoever had the signal before (an engine that keeps the input), else the end. */
	if (was[sig].sa_flags & SA_SIGINFO)
		was[sig].sa_sigaction(sig, info, context);
	else if (was[sig].sa_handler != SIG_DFL && was[sig].sa_handler != SIG_IGN)
		was[sig].sa_handler(sig);
	else
		signal(sig, SIG_DFL);
}

/* -------------------------------------------------------------------------- server ---- */

static void world_assign(void *ctx, struct vio_squeue *q)
{
	struct fw_side *s = ctx;

	FUZZ_CHECK(q->index < FW_QUEUES && !s->polled[q->index]);
	q->vcpu = s->w->vcpu;
	s->polled[q->index] = q;
}

static void world_unassign(void *ctx, struct vio_squeue *q)
{
	struct fw_side *s = ctx;

	FUZZ_CHECK(s->polled[q->index] == q);
	s->polled[q->index] = NULL;
}

static uint64_t world_start(void *ctx)
{
	return ((struct fw_side *)ctx)->w->turn;
}

static bool world_done(void *ctx, uint64_t token)
{
	return ((struct fw_side *)ctx)->w->turn > token;
}

static void world_say(void *ctx, const char *fmt, ...)
{
	(void)ctx;
	(void)fmt;
}

static void world_say_line(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

static int world_memory(void *ctx, uint64_t len, void **mem, struct gla *at, struct vio_err *err)
{
	struct fw_world *w = ctx;

	(void)err;
	w->mem_top -= VIO_ALIGN_UP(len, 4096);
	*at = (struct gla){w->mem_top};
	*mem = w->mem + w->mem_top;
	return 0;
}

void fw_server_open(struct fw_side *s)
{
	const struct vio_env env = {.assign = world_assign,
				    .unassign = world_unassign,
				    .quiesce_start = world_start,
				    .quiesce_done = world_done,
				    .say = world_say,
				    .ctx = s};
	const unsigned i = (unsigned)(s - s->w->side);
	const struct vio_adapter_cfg cfg = {.unit = i,
					    .dev = &s->disk.dev,
					    .num_queues = FW_QUEUES,
					    .queue_size = FW_ENTRIES,
					    .proto = VIO_PROTO_V2,
					    .ring_levels = (1u << VIO_N_RING) - 1,
					    .payload_levels = (1u << VIO_PAYLOAD_RDMA) |
							      (1u << VIO_PAYLOAD_DIRECT),
					    .notify_levels = (1u << VIO_N_NOTIFY) - 1,
					    .mem = s->w->mem + i * FW_SHARE,
					    .mem_gla = {i * FW_SHARE},
					    .mem_len = FW_SHARE};
	struct vio_err err = {""};

	FUZZ_CHECK(vio_adapter_create(s->w->vcpu, &cfg, &env, &s->adapter, &err) == 0);
	vio_adapter_crq(s->adapter);
}

void fw_server_close(struct fw_side *s)
{
	vio_adapter_stop(s->adapter);
	for (unsigned i = 0; i < 1000 && vio_adapter_busy(s->adapter); i++)
		fw_turn(s->w);
	FUZZ_CHECK(!vio_adapter_busy(s->adapter));
	vio_adapter_destroy(s->adapter);
	s->adapter = NULL;
	for (unsigned i = 0; i < FW_QUEUES; i++)
		FUZZ_CHECK(!s->polled[i]);
}

void fw_turn(struct fw_world *w)
{
	const bool irq = phyp_irq_take(w->vcpu);

	for (unsigned i = 0; i < FW_GUESTS; i++) {
		struct fw_side *s = &w->side[i];

		if (!s->adapter)
			continue;
		if (irq)
			vio_adapter_crq(s->adapter);
		for (unsigned k = 0; k < FW_QUEUES; k++) {
			if (s->polled[k])
				vio_squeue_poll(s->polled[k]);
			FUZZ_CHECK(!s->polled[k] || s->polled[k]->in_flight <= FW_ENTRIES);
		}
		if (vio_adapter_busy(s->adapter))
			vio_adapter_service(s->adapter);
	}
	w->turn++;
}

/* --------------------------------------------------------------------------- guests ---- */

static bool take_message(struct fw_side *s)
{
	uint64_t hi, lo, rhi, rlo;
	struct vio_msg m;
	bool reply = false;

	if (!s->crq.entry || !phyp_crq_pop(&s->crq, &hi, &lo))
		return false;
	if (vio_link_rx(&s->link, hi, lo, &reply, &rhi, &rlo) == VIO_LINK_MESSAGE &&
	    vio_msg_decode(hi, lo, &m) == 0 && m.op != VIO_OP_USED) {
		vio_gfsm_rx(&s->fsm, &m);
		s->last = m;
		s->messages++;
	}
	if (reply)
		h_send_crq(s->vcpu, s->u->unit, rhi, rlo);
	return true;
}

void fw_settle(struct fw_world *w)
{
	unsigned idle = 0;

	for (unsigned i = 0; i < 200 && idle < 4; i++) {
		bool moved = false;

		fw_turn(w);
		for (unsigned k = 0; k < FW_GUESTS; k++) {
			const struct vio_adapter *a = w->side[k].adapter;

			/* In bounded steps; one that can't go on is left alone. */
			moved |= i < 100 && a && vio_adapter_busy(a);
			while (take_message(&w->side[k]))
				moved = true;
		}
		idle = moved ? 0 : idle + 1;
	}
}

static struct ioba at(const struct fw_side *s, uint64_t gla)
{
	return ioba_add(s->u->window, gla);
}

void fw_guest_open(struct fw_side *s)
{
	struct vio_err err = {""};

	FUZZ_CHECK(phyp_local_open(s->w->m, s->name, &s->part, &err) == 0);
	FUZZ_CHECK(phyp_vcpu_create(s->part, &s->vcpu, &err) == 0);
	s->u = phyp_unit(s->part, 0);
	s->mem = phyp_mem(s->part, (struct gla){0}, phyp_mem_size(s->part));
	memset(s->mem, 0, FW_DESC + 0x10000);
	memset(s->mem + FW_PRIVATE, SECRET, FW_PRIVATE_LEN);
	for (uint64_t a = 0; a < FW_MAPPED; a += 4096)
		FUZZ_CHECK(h_put_tce(s->vcpu, s->u->liobn, at(s, a), a | TCE_READ | TCE_WRITE) ==
			   H_SUCCESS);
	memset(&s->crq, 0, sizeof(s->crq));
	s->step = s->n_cookies = 0;
}

static void guest_close(struct fw_side *s)
{
	for (uint64_t i = 0; i < FW_PRIVATE_LEN; i++)
		FUZZ_CHECK(s->mem[FW_PRIVATE + i] == SECRET);
	phyp_vcpu_destroy(s->vcpu);
	phyp_close(s->part);
}

void fw_guest_die(struct fw_side *s)
{
	phyp_local_kill(s->w->m, s->name);
	memset(&s->crq, 0, sizeof(s->crq));
	fw_settle(s->w);
	guest_close(s);
	fw_guest_open(s);
}

int64_t fw_send(struct fw_side *s, struct vio_msg m)
{
	uint64_t hi, lo;

	vio_msg_encode(&m, &hi, &lo);
	return h_send_crq(s->vcpu, s->u->unit, hi, lo);
}

static void send_step(struct fw_side *s, struct vio_msg m)
{
	if (vio_gfsm_tx(&s->fsm, &m) == 0)
		fw_send(s, m);
}

static void hello(struct fw_side *s)
{
	uint64_t hi, lo;
	int64_t rc;

	memset(s->mem + FW_CRQ, 0, 4096);
	vio_link_init(&s->link, vio_now_ns());
	vio_gfsm_init(&s->fsm, VIO_PROTO_V2);
	rc = h_reg_crq(s->vcpu, s->u->unit, at(s, FW_CRQ), 4096);
	if (rc != H_SUCCESS && rc != H_CLOSED)
		return;
	s->crq = (struct phyp_crq){.entry = (uint64_t *)(void *)(s->mem + FW_CRQ),
				   .n = 4096 / CRQ_ENTRY_BYTES};
	vio_link_hello(&s->link, &hi, &lo);
	h_send_crq(s->vcpu, s->u->unit, hi, lo);
}

static void choose(struct fw_side *s)
{
	struct vio_dev_header_v2 *h = (void *)(s->mem + FW_HEADER);
	const uint64_t features = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM |
				  1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_DISCARD |
				  1ull << VIRTIO_BLK_F_WRITE_ZEROES |
				  1ull << VIRTIO_RING_F_INDIRECT_DESC |
				  (s->packed ? 1ull << VIRTIO_F_RING_PACKED : 0) |
				  (s->in_order ? 1ull << VIRTIO_F_IN_ORDER : 0);

	h->guest_features = vio_to_be64(features & vio_from_be64(h->device_features));
	h->ring = s->ring;
	h->payload = s->payload;
	h->notify = s->notify;
	send_step(s, (struct vio_msg){.op = VIO_OP_FEATURES_OK});
}

static const struct {
	uint64_t at, len;
	uint8_t perm, role;
} windows[] = {
	{FW_DESC, 0x2000, TCE_READ, VIO_WINDOW_RINGS},
	{FW_USED, 0x1000, TCE_READ | TCE_WRITE, VIO_WINDOW_RINGS},
	{FW_BUF, FW_BUFLEN, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS},
};

static void announce(struct fw_side *s, unsigned i)
{
	uint8_t perm = windows[i].perm;
	struct vio_window_desc d = {.liobn = vio_to_be32(s->u->liobn),
				    .role = windows[i].role,
				    .ioba = vio_to_be64(at(s, windows[i].at).v),
				    .len = vio_to_be64(windows[i].len)};
	uint64_t cookie = 0;

	/* A packed ring is written by the device. */
	if (s->packed)
		perm = TCE_READ | TCE_WRITE;
	d.perm = perm;
	if (h_grant_logical(s->vcpu, GRANT_SYSTEM_MEMORY | (perm & TCE_WRITE ? 0 : GRANT_NO_WRITE),
			    (struct gla){windows[i].at}, windows[i].len, s->u->unit,
			    &cookie) == H_SUCCESS &&
	    s->n_cookies < VIO_ARRAY_SIZE(s->cookie))
		s->cookie[s->n_cookies++] = cookie;
	d.cookie = vio_to_be64(cookie);
	memcpy(s->mem + FW_WDESC, &d, sizeof(d));
	send_step(s, (struct vio_msg){.op = VIO_OP_WINDOW_ADD, .arg = at(s, FW_WDESC).v});
}

static void place_queue(struct fw_side *s)
{
	const uint64_t part[] = {FW_DESC, FW_AVAIL, FW_USED};

	memset(s->mem + FW_DESC, 0, 0x3000);
	for (uint8_t i = 0; i < VIO_ARRAY_SIZE(part); i++)
		send_step(s,
			  (struct vio_msg){.op = VIO_OP_QUEUE, .arg8 = i, .arg = at(s, part[i]).v});
	mock_init(&s->queue, FW_ENTRIES,
		  (s->packed ? 1ull << VIRTIO_F_RING_PACKED : 0) |
			  (s->in_order ? 1ull << VIRTIO_F_IN_ORDER : 0),
		  s->mem + FW_DESC, s->mem + FW_AVAIL, s->mem + FW_USED);
}

bool fw_step(struct fw_side *s)
{
	const bool wants_windows = s->ring == VIO_RING_DIRECT || s->payload != VIO_PAYLOAD_RDMA;

	switch (s->step++) {
	case 0:
		hello(s);
		return true;
	case 1:
		send_step(s, (struct vio_msg){.op = VIO_OP_PROBE,
					      .arg = at(s, FW_HEADER).v,
					      .arg16 = VIO_DEV_HEADER_BYTES});
		return true;
	case 2:
		send_step(s, (struct vio_msg){.op = VIO_OP_ACKNOWLEDGE,
					      .arg = at(s, FW_CONFIG).v,
					      .arg16 = VIO_MAX_CONFIG});
		return true;
	case 3:
		send_step(s, (struct vio_msg){.op = VIO_OP_DRIVER});
		choose(s);
		return true;
	case 4:
	case 5:
	case 6:
		if (wants_windows)
			announce(s, s->step - 5);
		return true;
	case 7:
		place_queue(s);
		return true;
	case 8:
		send_step(s, (struct vio_msg){.op = VIO_OP_DRIVER_OK});
		return true;
	default:
		s->step = 9;
		return false;
	}
}

bool fw_up(const struct fw_side *s)
{
	return s->fsm.state == VIO_G_RUNNING;
}

void fw_request(struct fw_side *s, uint32_t type, uint64_t sector, unsigned slot)
{
	const uint64_t buf = FW_BUF + slot * 0x1000ull;
	const struct virtio_blk_outhdr hdr = {.type = vio_le32(type), .sector = vio_le64(sector)};
	const struct mock_seg seg[] = {
		{.at = at(s, buf).v, .len = 16},
		{at(s, buf + 0x200).v, 512, .dev_writes = type == VIRTIO_BLK_T_IN},
		{at(s, buf + 16).v, 1, .dev_writes = true}};

	memcpy(s->mem + buf, &hdr, sizeof(hdr));
	s->mem[buf + 16] = 0xff;
	mock_add(&s->queue, (uint16_t)(slot * 4), seg, VIO_ARRAY_SIZE(seg));
}

void fw_publish(struct fw_side *s)
{
	mock_publish(&s->queue);
	fw_send(s, (struct vio_msg){.version = s->fsm.version, .op = VIO_OP_KICK});
}

static void wait_used(struct fw_side *s)
{
	uint32_t id, len;

	for (unsigned i = 0; i < 1000; i++) {
		if (mock_used(&s->queue, &id, &len) > 0)
			return;
		fw_turn(s->w);
		while (take_message(s))
			;
	}
	FUZZ_CHECK(false && "an honest guest's request is answered, whatever its neighbour does");
}

void fw_verify(struct fw_side *s, uint8_t pattern)
{
	uint8_t *data = s->mem + FW_BUF + 0x200;

	FUZZ_CHECK(fw_up(s));
	memset(data, pattern, 512);
	fw_request(s, VIRTIO_BLK_T_OUT, 1, 0);
	fw_publish(s);
	wait_used(s);
	FUZZ_CHECK(s->mem[FW_BUF + 16] == VIRTIO_BLK_S_OK);
	memset(data, (uint8_t)~pattern, 512);
	fw_request(s, VIRTIO_BLK_T_IN, 1, 0);
	fw_publish(s);
	wait_used(s);
	FUZZ_CHECK(s->mem[FW_BUF + 16] == VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 512; i++)
		FUZZ_CHECK(data[i] == pattern);
}

/* ------------------------------------------------------------------------- the machine ---- */

static void make_machine(struct fw_world *w)
{
	const struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct phyp_profile p;
	struct vio_err err = {""};

	phyp_profile_default(&p, FW_GUESTS, SERVER_MIB, GUEST_MIB);
	for (unsigned i = 0; i < p.n_parts; i++) {
		p.part[i].pages = PHYP_PAGES_4K;
		p.part[i].lmb_mib = 2;
	}
	FUZZ_CHECK(phyp_local_create(&p, &w->m, &err) == 0);
	sigaction(SIGSEGV, &sa, &was[SIGSEGV]);
	sigaction(SIGBUS, &sa, &was[SIGBUS]);
}

struct fw_world *fw_open(void)
{
	static const char *const name[] = {"guest0", "guest1"};
	struct fw_world *w = &world;
	struct vio_err err = {""};

	if (!w->m)
		make_machine(w);
	w->turn = 0;
	FUZZ_CHECK(phyp_local_open(w->m, "vios", &w->server, &err) == 0);
	FUZZ_CHECK(phyp_vcpu_create(w->server, &w->vcpu, &err) == 0);
	w->mem = phyp_mem(w->server, (struct gla){0}, phyp_mem_size(w->server));
	w->mem_top = phyp_mem_size(w->server);
	for (unsigned i = 0; i < FW_GUESTS; i++) {
		struct fw_side *s = &w->side[i];
		const struct vio_backend_env env = {
			.server_memory = world_memory, .say = world_say_line, .ctx = w};

		memset(s, 0, sizeof(*s));
		s->w = w;
		s->name = name[i];
		s->far = phyp_unit(w->server, i);
		FUZZ_CHECK(vio_backend_open("memory,size=64k", &env, &s->store, &err) == 0);
		vio_disk_init(&s->disk, s->store);
		fw_server_open(s);
		fw_guest_open(s);
	}
	memset(w->mem + FW_GUESTS * FW_SHARE, CANARY, w->mem_top - FW_GUESTS * FW_SHARE);
	return w;
}

void fw_close(struct fw_world *w)
{
	for (unsigned i = 0; i < FW_GUESTS; i++) {
		if (w->side[i].adapter)
			fw_server_close(&w->side[i]);
	}
	for (uint64_t a = FW_GUESTS * FW_SHARE; a < w->mem_top; a++)
		FUZZ_CHECK(w->mem[a] == CANARY);
	for (unsigned i = 0; i < FW_GUESTS; i++) {
		guest_close(&w->side[i]);
		vio_backend_close(w->side[i].store);
	}
	phyp_vcpu_destroy(w->vcpu);
	phyp_close(w->server);
}
