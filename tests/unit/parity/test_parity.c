/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parity: the same trace of requests through any two arms gives the same bytes, the same used ring
 * and the same errors. Whole guest and whole server in one process, a thread each, on the
 * in-process machine; no DPDK, no root.
 */
#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "guest/dev/blk/blk.h"
#include "server/head/adapter.h"
#include "server/dev/blk/blk.h"
#include "vio/cycles.h"

#define DISK_BYTES (4u << 20)
#define TRACE_LEN  600
#define DEPTH      8
#define MAX_LEN    (64u << 10)
#define QUEUE_SIZE 64

/* ------------------------------------------------------------------- server thread ---- */

struct server {
	struct phyp_part *part;
	struct phyp_vcpu *vcpu;
	struct vio_backend *be;
	struct vio_disk disk;
	struct vio_adapter *a;
	struct vio_squeue *q[VIO_MAX_QUEUES];
	unsigned n_q;
	uint64_t turn, mem_next;
	pthread_t thread;
	int stop; /* atomic */
	/* the used ring as the guest's memory has it at the end */
	uint8_t used[8 * QUEUE_SIZE];
	bool have_used, packed;
};

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

/* -------------------------------------------------------------------------- trace ---- */

struct outcome {
	int result[TRACE_LEN];
	uint64_t sum[TRACE_LEN]; /* of what a read brought */
	uint64_t disk;           /* of the whole disk afterwards */
	uint8_t used[8 * QUEUE_SIZE];
};

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

static void wait_one(struct vio_blk *b, struct vio_blk_req **done)
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

/* One guest and its server. */
struct pair {
	struct phyp_machine *m;
	struct server *s;
	struct phyp_part *gp;
	struct vio_mem mem;
	struct vio_blk_cfg cfg;
	struct vio_blk *b;
};

#define SHORT_DISK "memory,size=4M,short=on"

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

static void pair_up(struct pair *p, const char *text, const char *disk, uint64_t pool_len)
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
static void pair_down(struct pair *p)
{
	vio_blk_close(p->b);
	vio_store_release(&p->s->stop, 1);
	pthread_join(p->s->thread, NULL);
	phyp_close(p->gp);
	server_end(p->s);
	phyp_local_destroy(p->m);
	free(p->s);
}

static void run_arm(const char *text, bool shorts, struct outcome *o)
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

/* --------------------------------------------------------------------------- tests ---- */

static void compare(const char *name, const struct outcome *want, const struct outcome *got)
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

static struct outcome *reference(bool shorts)
{
	struct outcome *o = malloc(sizeof(*o));

	run_arm("copy", shorts, o);
	return o;
}

static void any_named_arm_gives_the_bytes_used_ring_and_errors_of_the_copy_arm(void **state)
{
	struct outcome *want = reference(false), *got = malloc(sizeof(*got));

	(void)state;
	for (unsigned i = 0; vio_arm_named(i); i++) {
		run_arm(vio_arm_named(i)->name, false, got);
		compare(vio_arm_named(i)->name, want, got);
	}
	free(want);
	free(got);
}

static void any_level_of_any_factor_gives_the_same_as_the_copy_arm(void **state)
{
	static const char *const arms[] = {
		"copy,mapping=deferred",
		"copy,mapping=cached",
		"copy,mapping=pool",
		"copy,ring=copy-delta",
		"copy,ring=direct",
		"copy,notify=suppress",
		"copy,notify=poll",
		"copy,payload=direct",
		"zero-copy,ring=copy",
		"zero-copy,ring=copy-delta",
		"zero-copy,notify=crq",
		"zero-copy,notify=suppress",
		"zero-copy,payload=rdma",
		"zero-copy,payload=bounce",
		"zero-copy,payload=copybreak",
		"zero-copy,mapping=single-use",
		"zero-copy,mapping=deferred",
		"zero-copy,mapping=cached",
		"zero-copy,mapping=cached,payload=copybreak",
		"copy-tuned,notify=poll",
	};
	struct outcome *want = reference(false), *got = malloc(sizeof(*got));

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(arms); i++) {
		run_arm(arms[i], false, got);
		compare(arms[i], want, got);
	}
	free(want);
	free(got);
}

/* In order, which chains have a used element is a matter of what is done when: the ring is nobody's but their driver's. */
static void any_arm_on_any_layout_gives_the_bytes_and_errors_of_the_copy_arm(void **state)
{
	static const char *const arms[] = {
		"copy",
		"copy,ring=copy-delta",
		"copy,ring=direct",
		"copy,notify=suppress",
		"copy,notify=poll",
		"copy-tuned",
		"copy-tuned,notify=poll",
		"premapped",
		"zero-copy",
		"zero-copy,notify=crq",
		"zero-copy,notify=suppress",
		"zero-copy,ring=copy",
		"unprotected",
		"copy/indirect",
		"zero-copy/indirect",
	};
	struct outcome *split = reference(false), *want = malloc(sizeof(*want)),
		       *got = malloc(sizeof(*got));

	(void)state;
	for (unsigned l = VIO_LAYOUT_SPLIT + 1; l < VIO_N_LAYOUT; l++) {
		const struct vio_arm any = {.layout = (enum vio_layout)l};
		const bool in_order = vio_arm_features(&any) >> VIRTIO_F_IN_ORDER & 1;

		for (unsigned i = 0; i < VIO_ARRAY_SIZE(arms); i++) {
			const size_t n = strcspn(arms[i], "/");
			char arm[96];

			snprintf(arm, sizeof(arm), "%.*s,layout=%s%s", (int)n, arms[i],
				 vio_layout_name(any.layout), arms[i] + n);
			run_arm(arm, false, got);
			if (i == 0)
				memcpy(want->used, got->used,
				       sizeof(want->used)); /* another ring */
			if (in_order || arms[i][n])         /* indirect: other descriptors */
				memcpy(got->used, want->used, sizeof(want->used));
			memcpy(split->used, want->used, sizeof(want->used));
			compare(arm, split, got);
		}
	}
	free(split);
	free(want);
	free(got);
}

static void the_trace_has_reads_writes_and_errors_so_that_equal_means_something(void **state)
{
	struct outcome *o = reference(false);
	unsigned ok = 0, failed = 0, sums = 0;

	(void)state;
	for (unsigned k = 0; k < TRACE_LEN; k++) {
		ok += o->result[k] == 0;
		failed += o->result[k] != 0;
		sums += o->sum[k] != 0;
	}
	assert_true(ok > TRACE_LEN / 2);
	assert_true(failed > 10);
	assert_true(sums > 100);
	free(o);
}

/* ------------------------------------------------------------------- short requests ---- */

static void any_named_arm_gives_the_same_for_requests_shorter_than_a_sector(void **state)
{
	struct outcome *want = reference(true), *got = malloc(sizeof(*got));
	unsigned good = 0;

	(void)state;
	for (unsigned k = 0; k < TRACE_LEN; k++)
		good += want->result[k] == 0 && want->sum[k] != 0;
	assert_true(good > 100);
	for (unsigned i = 1; vio_arm_named(i); i++) {
		run_arm(vio_arm_named(i)->name, true, got);
		compare(vio_arm_named(i)->name, want, got);
	}
	free(want);
	free(got);
}

static void one(struct pair *p, uint32_t type, uint64_t sector, struct gla buf, uint32_t len,
		int result)
{
	struct vio_blk_req r = {.type = type, .sector = sector, .buf = buf, .len = len}, *q = &r,
			   *done = NULL;

	assert_int_equal(vio_blk_submit(p->b, 0, &q, 1), 1);
	wait_one(p->b, &done);
	assert_int_equal(r.result, result);
}

static void a_short_request_moves_the_first_bytes_of_its_sector_and_no_others(void **state)
{
	struct vio_err err;

	(void)state;
	for (unsigned a = 0; vio_arm_named(a); a++) {
		struct pair p;
		struct gla buf;
		uint8_t *va;

		pair_up(&p, vio_arm_named(a)->name, SHORT_DISK, 0);
		assert_int_equal(vio_blk_get_info(p.b)->block_size, 64);
		assert_int_equal(vio_blk_alloc(p.b, 1024, &buf, &err), 0);
		va = phyp_mem(p.gp, buf, 1024);
		memset(va, 'a', 1024);
		one(&p, VIRTIO_BLK_T_OUT, 6, buf, 1024, 0);
		memset(va, 'b', 1024);
		one(&p, VIRTIO_BLK_T_OUT, 7, buf, 64, 0);
		memset(va, 0, 1024);
		one(&p, VIRTIO_BLK_T_IN, 7, buf, 128, 0);
		for (unsigned i = 0; i < 1024; i++)
			assert_int_equal(va[i], i < 64 ? 'b' : i < 128 ? 'a' : 0);
		one(&p, VIRTIO_BLK_T_IN, 6, buf, 1024, 0);
		for (unsigned i = 0; i < 1024; i++)
			assert_int_equal(va[i], i < 512 || i >= 576 ? 'a' : 'b');
		/* The last sector's beginning is the disk's; past its end nothing is, however short. */
		one(&p, VIRTIO_BLK_T_IN, DISK_BYTES / 512 - 1, buf, 64, 0);
		one(&p, VIRTIO_BLK_T_IN, DISK_BYTES / 512, buf, 64, -EINVAL);
		one(&p, VIRTIO_BLK_T_IN, 0, buf, 65, -EINVAL);
		one(&p, VIRTIO_BLK_T_WRITE_ZEROES, 0, buf, 64, -EINVAL);
		pair_down(&p);
	}
}

static void a_disk_without_short_refuses_short_requests(void **state)
{
	struct vio_err err;
	struct pair p;
	struct gla buf;

	(void)state;
	pair_up(&p, "zero-copy", "memory,size=4M", 0);
	assert_int_equal(vio_blk_alloc(p.b, 512, &buf, &err), 0);
	one(&p, VIRTIO_BLK_T_IN, 0, buf, 64, -EINVAL);
	pair_down(&p);
}

/* -------------------------------------------------------------------------- exposure ---- */

struct reach {
	uint64_t before, after; /* pages under valid TCEs, nothing in flight */
	uint64_t mean_x1000;    /* between the two, thousandths of a page */
	bool constant;          /* the integral is exactly before * time */
};

/* 300 reads of 4 KiB, one at a time. */
static struct reach reach_of(const char *arm)
{
	struct phyp_counters a, z;
	struct vio_err err;
	struct reach r;
	struct gla buf;
	struct pair p;
	uint64_t t0, t1, area;

	pair_up(&p, arm, "memory,size=4M", 0);
	assert_int_equal(vio_blk_alloc(p.b, 4096, &buf, &err), 0);
	phyp_part_counters(p.gp, &a);
	t0 = vio_ticks();
	for (unsigned i = 0; i < 300; i++)
		one(&p, VIRTIO_BLK_T_IN, i * 8, buf, 4096, 0);
	t1 = vio_ticks();
	phyp_part_counters(p.gp, &z);
	area = phyp_exposure(a.tce_pages, a.tce_page_ticks, t0, z.tce_pages, z.tce_page_ticks, t1);
	r = (struct reach){.before = a.tce_pages,
			   .after = z.tce_pages,
			   .mean_x1000 = vio_muldiv(area, 1000, t1 - t0),
			   .constant = area == a.tce_pages * (t1 - t0)};
	assert_true(a.tce_pages_write <= a.tce_pages);
	assert_true(a.tce_pages * 4096 >= vio_blk_get_info(p.b)->ring_bytes);
	if (vio_blk_get_info(p.b)->arm.mapping != VIO_MAP_POOL)
		assert_int_equal(a.tce_pages * 4096, vio_blk_get_info(p.b)->ring_bytes);
	pair_down(&p);
	return r;
}

static void each_mapping_lifetime_shows_its_exposure(void **state)
{
	struct reach r;

	(void)state;
	/*
	 * Header, data and status page, from the mapping to the unmapping: between none and all of
	 * the time.
	 */
	r = reach_of("copy");
	assert_int_equal(r.after, r.before);
	assert_false(r.constant);
	assert_in_range(r.mean_x1000, r.before * 1000, (r.before + 3) * 1000);
	/* Unmapped in batches of 64 requests: more stays, and no more than a batch and what is in flight. */
	r = reach_of("copy,mapping=deferred");
	assert_in_range(r.after, r.before + 1,
			r.before + 65 * 3); /* 300 is no multiple of a batch */
	assert_in_range(r.mean_x1000, r.before * 1000, (r.before + 65 * 3) * 1000);
	/* Mapped once, and kept: the three pages. */
	r = reach_of("copy,mapping=cached");
	assert_in_range(r.after, r.before + 1, r.before + 3);
	assert_in_range(r.mean_x1000, r.before * 1000, r.after * 1000);
	/* The pool stands all the while. */
	r = reach_of("copy,mapping=pool");
	assert_int_equal(r.after, r.before);
	assert_true(r.constant);
	r = reach_of("zero-copy");
	assert_int_equal(r.after, r.before);
	assert_true(r.constant);
}

/* ------------------------------------------------------------------------ small pools ---- */

static void a_small_pool_takes_fewer_requests_and_loses_none(void **state)
{
	struct vio_blk_req r[DEPTH], *in[DEPTH], *done;
	struct vio_err err;
	struct pair p;
	struct gla buf;
	unsigned taken = 0, back = 0;

	(void)state;
	/* Room for three requests of the largest length. */
	pair_up(&p, "premapped", "memory,size=4M", 3 * MAX_LEN + 4096);
	assert_int_equal(vio_blk_get_info(p.b)->pool_bytes, 3 * MAX_LEN);
	assert_int_equal(vio_blk_alloc(p.b, 4096, &buf, &err), 0);
	for (unsigned i = 0; i < DEPTH; i++) {
		r[i] = (struct vio_blk_req){
			.type = VIRTIO_BLK_T_IN, .sector = i * 8, .buf = buf, .len = 4096};
		in[i] = &r[i];
	}
	assert_int_equal(vio_blk_submit(p.b, 0, in, DEPTH), 3);
	taken = 3;
	while (back < DEPTH) {
		wait_one(p.b, &done);
		assert_int_equal(done->result, 0);
		back++;
		taken += vio_blk_submit(p.b, 0, in + taken, DEPTH - taken);
		assert_true(taken - back <= 3);
	}
	assert_int_equal(taken, DEPTH);
	pair_down(&p);
}

static void a_small_pool_in_place_is_what_buffers_are_taken_from(void **state)
{
	struct vio_err err;
	struct pair p;
	struct gla buf;
	unsigned n = 0;

	(void)state;
	pair_up(&p, "zero-copy", "memory,size=4M", 16384);
	assert_int_equal(vio_blk_get_info(p.b)->pool_bytes, 16384);
	assert_int_equal(vio_blk_get_info(p.b)->alloc_bytes, 16384);
	while (n < 100 && vio_blk_alloc(p.b, 4096, &buf, &err) == 0)
		n++;
	assert_in_range(n, 4, 6); /* its alignment may leave room for more, never for fewer */
	pair_down(&p);
}

static void buffers_on_both_sides_of_an_lmb_border_work_in_every_arm(void **state)
{
	struct vio_err err;

	(void)state;
	for (unsigned a = 0; vio_arm_named(a); a++) {
		struct pair p;
		struct gla first, next;

		pair_up(&p, vio_arm_named(a)->name, "memory,size=4M", 20u << 20);
		assert_int_equal(vio_blk_alloc(p.b, MAX_LEN, &first, &err), 0);
		memset(phyp_mem(p.gp, first, MAX_LEN), 'x', MAX_LEN);
		one(&p, VIRTIO_BLK_T_OUT, 0, first, MAX_LEN, 0);
		/*
		 * Every later buffer gets it back, in whichever LMB it is; one of them lies across
		 * the border.
		 */
		while (vio_blk_alloc(p.b, MAX_LEN, &next, &err) == 0) {
			uint8_t *va = phyp_mem(p.gp, next, MAX_LEN);

			one(&p, VIRTIO_BLK_T_IN, 0, next, MAX_LEN, 0);
			assert_memory_equal(va, phyp_mem(p.gp, first, MAX_LEN), MAX_LEN);
		}
		pair_down(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_trace_has_reads_writes_and_errors_so_that_equal_means_something),
		cmocka_unit_test(
			any_named_arm_gives_the_bytes_used_ring_and_errors_of_the_copy_arm),
		cmocka_unit_test(any_level_of_any_factor_gives_the_same_as_the_copy_arm),
		cmocka_unit_test(any_arm_on_any_layout_gives_the_bytes_and_errors_of_the_copy_arm),
		cmocka_unit_test(any_named_arm_gives_the_same_for_requests_shorter_than_a_sector),
		cmocka_unit_test(a_short_request_moves_the_first_bytes_of_its_sector_and_no_others),
		cmocka_unit_test(a_disk_without_short_refuses_short_requests),
		cmocka_unit_test(each_mapping_lifetime_shows_its_exposure),
		cmocka_unit_test(a_small_pool_takes_fewer_requests_and_loses_none),
		cmocka_unit_test(buffers_on_both_sides_of_an_lmb_border_work_in_every_arm),
		cmocka_unit_test(a_small_pool_in_place_is_what_buffers_are_taken_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
