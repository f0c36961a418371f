/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parity: the same trace of requests through any two arms gives the same bytes, the same used ring and the
 * same errors. Whole guest and whole server in one process, a thread each, on the in-process machine; no
 * DPDK, no root.
 */
#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "guest/blk.h"
#include "server/adapter.h"
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
	struct vio_adapter *a;
	struct vio_squeue *q[VIO_MAX_QUEUES];
	unsigned n_q;
	uint64_t turn, mem_next;
	pthread_t thread;
	int stop; /* atomic */
	/* the used ring as the guest's memory has it at the end */
	uint8_t used[8 * QUEUE_SIZE];
	bool have_used;
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
	return *mem ? 0 : vio_err_set(err, -ENOMEM, "server partition too small for the test's disk");
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

static void server_start(struct server *s, struct phyp_machine *m)
{
	static const struct vio_env env_ops = {.assign = env_assign,
					       .unassign = env_unassign,
					       .quiesce_start = env_quiesce_start,
					       .quiesce_done = env_quiesce_done,
					       .say = env_say};
	struct vio_env env = env_ops;
	struct vio_backend_env be_env = {.server_memory = env_memory, .ctx = s};
	struct vio_adapter_cfg cfg = {.unit = 0,
				      .dev = &vio_dev_blk,
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
	if (vio_backend_open("memory,size=4M", &be_env, &s->be, &err))
		fail_msg("%s", err.msg);
	cfg.backend = s->be;
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
	if (h_copy_rdma(s->vcpu, sizeof(s->used), u->remote_liobn, ioba_add(q->place.used, 4), u->liobn,
			ioba_add(u->window, tmp.v)) == H_SUCCESS) {
		memcpy(s->used, phyp_mem(s->part, tmp, sizeof(s->used)), sizeof(s->used));
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
static void make_request(unsigned k, struct vio_blk_req *r, uint8_t *va)
{
	uint64_t h = mix(k * 7919 + 13);
	static const uint32_t lens[] = {512, 4096, 1536, 65536, 8192, 20480};
	uint32_t len = lens[h % 6];

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

static void run_trace(struct vio_blk *b, struct phyp_part *part, struct outcome *o)
{
	struct vio_err err;
	struct gla buf;
	uint8_t *va;

	assert_int_equal(vio_blk_alloc(b, MAX_LEN, &buf, &err), 0);
	va = phyp_mem(part, buf, MAX_LEN);
	for (unsigned k = 0; k < TRACE_LEN; k++) {
		struct vio_blk_req r = {.buf = buf}, *p = &r, *done = NULL;

		make_request(k, &r, va);
		assert_int_equal(vio_blk_submit(b, 0, &p, 1), 1);
		wait_one(b, &done);
		assert_ptr_equal(done, &r);
		o->result[k] = r.result;
		if (r.result == 0 && (r.type == VIRTIO_BLK_T_IN || r.type == VIRTIO_BLK_T_GET_ID))
			o->sum[k] = sum_bytes(va, r.len);
	}
}

static void run_arm(const char *text, struct outcome *o)
{
	struct phyp_profile profile;
	struct phyp_machine *m = NULL;
	struct phyp_part *gp = NULL;
	struct vio_mem mem;
	struct vio_blk *b = NULL;
	struct server *s = calloc(1, sizeof(*s));
	struct vio_blk_cfg cfg = {.max_len = MAX_LEN,
				  .depth = DEPTH,
				  .buffers_len = 4u << 20,
				  .spin_ns = 20000,
				  .idle_ns = UINT64_MAX};
	struct vio_err err = {{0}};

	memset(o, 0, sizeof(*o));
	phyp_profile_default(&profile, 1, 48, 32);
	profile.part[0].pages = profile.part[1].pages = PHYP_PAGES_4K;
	assert_int_equal(phyp_local_create(&profile, &m, &err), 0);
	server_start(s, m);
	assert_int_equal(phyp_local_open(m, "guest0", &gp, &err), 0);
	vio_mem_init(&mem, gp);
	if (vio_arm_parse(text, &cfg.transport.arm, &err))
		fail_msg("%s: %s", text, err.msg);
	cfg.transport.strict_arm = true;
	cfg.transport.proto = 2;
	cfg.transport.num_queues = 1;
	cfg.transport.queue_size = QUEUE_SIZE;
	if (vio_blk_open(gp, &mem, &cfg, &b, &err))
		fail_msg("%s: %s", text, err.msg);
	run_trace(b, gp, o);
	server_stop_thread(s);
	assert_true(s->have_used);
	memcpy(o->used, s->used, sizeof(o->used));
	o->disk = sum_bytes(s->be->ops->at(s->be, 0, DISK_BYTES, &(struct gla){0}), DISK_BYTES);
	/* Without its server the guest can't reset the device politely: let it run again to the end. */
	s->stop = 0;
	assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
	vio_blk_close(b);
	vio_store_release(&s->stop, 1);
	pthread_join(s->thread, NULL);
	phyp_close(gp);
	server_end(s);
	phyp_local_destroy(m);
	free(s);
}

/* --------------------------------------------------------------------------- tests ---- */

static void compare(const char *name, const struct outcome *want, const struct outcome *got)
{
	for (unsigned k = 0; k < TRACE_LEN; k++) {
		if (want->result[k] != got->result[k])
			fail_msg("%s: request %u: result %d, the copy arm had %d", name, k, got->result[k],
				 want->result[k]);
		if (want->sum[k] != got->sum[k])
			fail_msg("%s: request %u: other bytes than in the copy arm", name, k);
	}
	if (want->disk != got->disk)
		fail_msg("%s: the disk differs from the copy arm's", name);
	if (memcmp(want->used, got->used, sizeof(want->used)))
		fail_msg("%s: the used ring differs from the copy arm's", name);
}

static struct outcome *reference(void)
{
	struct outcome *o = malloc(sizeof(*o));

	run_arm("copy", o);
	return o;
}

static void any_named_arm_gives_the_bytes_used_ring_and_errors_of_the_copy_arm(void **state)
{
	struct outcome *want = reference(), *got = malloc(sizeof(*got));

	(void)state;
	for (unsigned i = 0; vio_arm_named(i); i++) {
		run_arm(vio_arm_named(i)->name, got);
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
	struct outcome *want = reference(), *got = malloc(sizeof(*got));

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(arms); i++) {
		run_arm(arms[i], got);
		compare(arms[i], want, got);
	}
	free(want);
	free(got);
}

static void the_trace_has_reads_writes_and_errors_so_that_equal_means_something(void **state)
{
	struct outcome *o = reference();
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_trace_has_reads_writes_and_errors_so_that_equal_means_something),
		cmocka_unit_test(any_named_arm_gives_the_bytes_used_ring_and_errors_of_the_copy_arm),
		cmocka_unit_test(any_level_of_any_factor_gives_the_same_as_the_copy_arm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
