/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/parity/pair.h"

static void env_assign(void *ctx, struct vio_squeue *q)
{
	struct server *s = ctx;

	q->vcpu = s->vcpu;
	s->q[s->n_q++] = q;
}

static void env_unassign(void *ctx, struct vio_squeue *q)
{
	struct server *s = ctx;

	for (unsigned i = 0; i < s->n_q; i++)
		if (s->q[i] == q)
			s->q[i] = s->q[--s->n_q];
}

/* One thread runs adapter and queues: the next turn is quiescent. */
static uint64_t env_quiesce_start(void *ctx)
{
	return ((struct server *)ctx)->turn;
}

static bool env_quiesce_done(void *ctx, uint64_t token)
{
	return ((struct server *)ctx)->turn > token;
}

__attribute__((format(printf, 2, 3))) static void env_say(void *ctx, const char *fmt, ...)
{
	(void)ctx;
	(void)fmt;
}

static int env_memory(void *ctx, uint64_t len, void **mem, struct gla *at, struct vio_err *err)
{
	struct server *s = ctx;

	s->mem_next = VIO_ALIGN_UP(s->mem_next, 4096);
	at->v = s->mem_next;
	*mem = phyp_mem(s->part, *at, len);
	s->mem_next += len;
	return *mem ? 0
		    : vio_err_set(err, -ENOMEM, "server partition too small for the test's disk");
}

static void *server_main(void *arg)
{
	struct server *s = arg;

	vio_adapter_crq(s->a);
	while (!vio_load_acquire(&s->stop)) {
		s->turn++;
		if (phyp_irq_take(s->vcpu))
			vio_adapter_crq(s->a);
		for (unsigned i = 0; i < s->n_q; i++)
			vio_squeue_poll(s->q[i]);
		if (vio_adapter_busy(s->a))
			vio_adapter_service(s->a);
		if (s->turn % 64 == 0)
			sched_yield(); /* may run on one core */
	}
	return NULL;
}

static void server_start(struct server *s, struct phyp_machine *m, const char *disk)
{
	static const struct vio_env env_ops = {.assign = env_assign,
					       .unassign = env_unassign,
					       .quiesce_start = env_quiesce_start,
					       .quiesce_done = env_quiesce_done,
					       .say = env_say};
	struct vio_env env = env_ops;
	struct vio_backend_env be_env = {.server_memory = env_memory, .ctx = s};
	struct vio_adapter_cfg cfg = {.unit = 0,
				      .num_queues = 1,
				      .queue_size = QUEUE_SIZE,
				      .proto = 2,
				      .ring_levels = 7,
				      .payload_levels = 31,
				      .notify_levels = 7};
	struct vio_err err = {{0}};

	memset(s, 0, sizeof(*s));
	env.ctx = s;
	assert_int_equal(phyp_local_open(m, "vios", &s->part, &err), 0);
	assert_int_equal(phyp_vcpu_create(s->part, &s->vcpu, &err), 0);
	cfg.mem_len = 24u << 20;
	cfg.mem = phyp_mem(s->part, cfg.mem_gla, cfg.mem_len);
	s->mem_next = cfg.mem_len;
	if (vio_backend_open(disk, &be_env, &s->be, &err))
		fail_msg("%s", err.msg);
	vio_disk_init(&s->disk, s->be);
	cfg.dev = &s->disk.dev;
	if (vio_adapter_create(s->vcpu, &cfg, &env, &s->a, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

/* Stop the thread, keep the used ring (by RDMA, as any server could read it), free everything. */
static void server_stop_thread(struct server *s)
{
	const struct vio_squeue *q;
	const struct phyp_unit_info *u = phyp_unit(s->part, 0);
	struct gla tmp = {s->mem_next + 4096};

	vio_store_release(&s->stop, 1);
	pthread_join(s->thread, NULL);
	q = vio_adapter_queue(s->a, 0);
	if (!q)
		return;
	tmp.v = VIO_ALIGN_UP(tmp.v, 4096);
	/* the local window is 1:1 over the server's memory */
	if (h_copy_rdma(s->vcpu, s->packed ? 16 * QUEUE_SIZE : sizeof(s->used), u->remote_liobn,
			s->packed ? q->place.desc : ioba_add(q->place.used, 4), u->liobn,
			ioba_add(u->window, tmp.v)) == H_SUCCESS) {
		const uint8_t *from = phyp_mem(s->part, tmp, 16 * QUEUE_SIZE);

		for (unsigned i = 0; i < QUEUE_SIZE;
		     i++) /* packed: length, id, flags; the addresses are each arm's own */
			memcpy(s->used + 8 * i, s->packed ? from + 16 * i + 8 : from + 8 * i, 8);
		s->have_used = true;
	}
}

static void server_end(struct server *s)
{
	vio_adapter_destroy(s->a);
	vio_backend_close(s->be);
	phyp_close(s->part);
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
	return x ^ (x >> 31);
}

static uint64_t sum_bytes(const uint8_t *p, size_t n)
{
	uint64_t h = 1469598103934665603ull;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 1099511628211ull;
	return h;
}

/* Request k of the trace: the same in every arm. Some are wrong on purpose. */
static void make_request(unsigned k, bool shorts, struct vio_blk_req *r, uint8_t *va)
{
	uint64_t h = mix(k * 7919 + 13);
	static const uint32_t lens[] = {512, 4096, 1536, 65536, 8192, 20480};
	static const uint32_t short_lens[] = {64, 128, 192, 256, 448, 576};
	uint32_t len = shorts ? short_lens[h % 6] : lens[h % 6];

	r->sector = (h >> 8) % ((DISK_BYTES - MAX_LEN) / 512);
	r->len = len;
	r->result = 1;
	r->unmap = h & 1;
	switch ((h >> 32) % 12) {
	case 0:
		r->type = VIRTIO_BLK_T_FLUSH;
		r->len = 0;
		r->sector = 0;
		break;
	case 1:
		r->type = VIRTIO_BLK_T_WRITE_ZEROES;
		break;
	case 2:
		r->type = VIRTIO_BLK_T_DISCARD;
		break;
	case 3:
		r->type = VIRTIO_BLK_T_GET_ID;
		r->len = 20;
		r->sector = 0;
		break;
	case 4: /* past the end of the disk */
		r->type = (h >> 40) & 1 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
		r->sector = DISK_BYTES / 512 - 1;
		r->len = 4096;
		break;
	case 5:
	case 6:
	case 7:
	case 8:
		r->type = VIRTIO_BLK_T_OUT;
		for (uint32_t i = 0; i < len; i += 8)
			memcpy(va + i, &(uint64_t){mix(h + i)}, 8);
		break;
	default:
		r->type = VIRTIO_BLK_T_IN;
		memset(va, 0xEE, len);
		break;
	}
}

void wait_one(struct vio_blk *b, struct vio_blk_req **done)
{
	uint64_t limit = vio_now_ns() + 20000000000ull;
	int n;

	while ((n = vio_blk_poll(b, 0, done, 1)) == 0) {
		vio_blk_idle(b, 0, 100000);
		sched_yield();
		assert_true(vio_now_ns() < limit);
	}
	assert_int_equal(n, 1);
}

static void run_trace(struct vio_blk *b, struct phyp_part *part, bool shorts, struct outcome *o)
{
	struct vio_err err;
	struct gla buf;
	uint8_t *va;

	assert_int_equal(vio_blk_alloc(b, MAX_LEN, &buf, &err), 0);
	va = phyp_mem(part, buf, MAX_LEN);
	for (unsigned k = 0; k < TRACE_LEN; k++) {
		struct vio_blk_req r = {.buf = buf}, *p = &r, *done = NULL;

		make_request(k, shorts, &r, va);
		assert_int_equal(vio_blk_submit(b, 0, &p, 1), 1);
		wait_one(b, &done);
		assert_ptr_equal(done, &r);
		o->result[k] = r.result;
		if (r.result == 0 && (r.type == VIRTIO_BLK_T_IN || r.type == VIRTIO_BLK_T_GET_ID))
			o->sum[k] = sum_bytes(va, r.len);
	}
}

/* "ARM" or "ARM/indirect": the arm, and the features that the rest asks for. */
static uint64_t features_of(const char *text, char arm[64])
{
	const size_t len = strcspn(text, "/");

	uint64_t f = 0;

	assert_true(len < 64);
	memcpy(arm, text, len);
	arm[len] = '\0';
	if (strstr(text, "/indirect"))
		f |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	return f;
}

void pair_up(struct pair *p, const char *text, const char *disk, uint64_t pool_len)
{
	char arm[64];

	struct phyp_profile profile;
	struct vio_err err = {{0}};

	memset(p, 0, sizeof(*p));
	p->s = calloc(1, sizeof(*p->s));
	p->cfg = (struct vio_blk_cfg){.max_len = MAX_LEN,
				      .depth = DEPTH,
				      .buffers_len = pool_len > 4u << 20 ? pool_len : 4u << 20,
				      .pool_len = pool_len,
				      .spin_ns = 20000,
				      .idle_ns = UINT64_MAX};
	phyp_profile_default(&profile, 1, 48, 32);
	profile.exposure = true;
	profile.part[0].pages = profile.part[1].pages = PHYP_PAGES_4K;
	assert_int_equal(phyp_local_create(&profile, &p->m, &err), 0);
	server_start(p->s, p->m, disk);
	assert_int_equal(phyp_local_open(p->m, "guest0", &p->gp, &err), 0);
	vio_mem_init(&p->mem, p->gp);
	p->cfg.transport.features = features_of(text, arm);
	if (vio_arm_parse(arm, &p->cfg.transport.arm, &err))
		fail_msg("%s: %s", text, err.msg);
	p->s->packed = vio_arm_features(&p->cfg.transport.arm) >> VIRTIO_F_RING_PACKED & 1;
	p->cfg.transport.strict_arm = true;
	p->cfg.transport.proto = 2;
	p->cfg.transport.num_queues = 1;
	p->cfg.transport.queue_size = QUEUE_SIZE;
	if (vio_blk_open(p->gp, &p->mem, &p->cfg, &p->b, &err))
		fail_msg("%s: %s", text, err.msg);
	assert_int_equal(vio_blk_get_info(p->b)->features & p->cfg.transport.features,
			 p->cfg.transport.features);
	assert_int_equal(vio_blk_get_info(p->b)->features & vio_layout_features(),
			 vio_arm_features(&p->cfg.transport.arm));
}

/* The server's thread runs. */
void pair_down(struct pair *p)
{
	vio_blk_close(p->b);
	vio_store_release(&p->s->stop, 1);
	pthread_join(p->s->thread, NULL);
	phyp_close(p->gp);
	server_end(p->s);
	phyp_local_destroy(p->m);
	free(p->s);
}

void run_arm(const char *text, bool shorts, struct outcome *o)
{
	struct pair p;

	memset(o, 0, sizeof(*o));
	pair_up(&p, text, shorts ? SHORT_DISK : "memory,size=4M", 0);
	run_trace(p.b, p.gp, shorts, o);
	server_stop_thread(p.s);
	assert_true(p.s->have_used);
	memcpy(o->used, p.s->used, sizeof(o->used));
	o->disk = sum_bytes(p.s->be->ops->at(p.s->be, 0, DISK_BYTES, &(struct gla){0}), DISK_BYTES);
	/* Without its server the guest can't reset the device politely: let it run again to the end. */
	p.s->stop = 0;
	assert_int_equal(pthread_create(&p.s->thread, NULL, server_main, p.s), 0);
	pair_down(&p);
}

void compare(const char *name, const struct outcome *want, const struct outcome *got)
{
	for (unsigned k = 0; k < TRACE_LEN; k++) {
		if (want->result[k] != got->result[k])
			fail_msg("%s: request %u: result %d, the copy arm had %d", name, k,
				 got->result[k], want->result[k]);
		if (want->sum[k] != got->sum[k])
			fail_msg("%s: request %u: other bytes than in the copy arm", name, k);
	}
	if (want->disk != got->disk)
		fail_msg("%s: the disk differs from the copy arm's", name);
	if (memcmp(want->used, got->used, sizeof(want->used)))
		fail_msg("%s: the used ring differs from the copy arm's", name);
}

struct outcome *reference(bool shorts)
{
	struct outcome *o = malloc(sizeof(*o));

	run_arm("copy", shorts, o);
	return o;
}

void one(struct pair *p, uint32_t type, uint64_t sector, struct gla buf, uint32_t len, int result)
{
	struct vio_blk_req r = {.type = type, .sector = sector, .buf = buf, .len = len}, *q = &r,
			   *done = NULL;

	assert_int_equal(vio_blk_submit(p->b, 0, &q, 1), 1);
	wait_one(p->b, &done);
	assert_int_equal(r.result, result);
}
