/* SPDX-License-Identifier: BSD-3-Clause */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dev_world.h"

const char *const dw_arms[] = {
	"copy",
	"copy-tuned",
	"premapped",
	"zero-copy",
	"zero-copy,layout=packed",
	"copy,layout=packed",
	"zero-copy,notify=crq",
	"zero-copy,notify=suppress",
	"premapped,payload=copybreak",
	"copy,mapping=cached,ring=direct",
	"copy-tuned,mapping=single-use,payload=direct",
	"zero-copy,layout=split-in-order",
	"copy,layout=packed-in-order",
};
const unsigned dw_n_arms = VIO_ARRAY_SIZE(dw_arms);

static void e_assign(void *ctx, struct vio_squeue *q)
{
	struct dev_world *w = ctx;

	q->vcpu = w->sv;
	w->q[w->n_q++] = q;
}

static void e_unassign(void *ctx, struct vio_squeue *q)
{
	struct dev_world *w = ctx;

	for (unsigned i = 0; i < w->n_q; i++)
		if (w->q[i] == q)
			w->q[i] = w->q[--w->n_q];
}

/* One thread runs adapter and queues: the next turn is quiescent. */
static uint64_t e_start(void *ctx)
{
	return ((struct dev_world *)ctx)->turn;
}

static bool e_done(void *ctx, uint64_t token)
{
	return ((struct dev_world *)ctx)->turn > token;
}

__attribute__((format(printf, 2, 3))) static void e_say(void *ctx, const char *fmt, ...)
{
	(void)ctx, (void)fmt;
}

static void *server_main(void *arg)
{
	struct dev_world *w = arg;

	vio_adapter_crq(w->a);
	while (!vio_load_acquire(&w->stop)) {
		w->turn++;
		if (phyp_irq_take(w->sv))
			vio_adapter_crq(w->a);
		for (unsigned i = 0; i < w->n_q; i++)
			vio_squeue_poll(w->q[i]);
		if (vio_adapter_busy(w->a))
			vio_adapter_service(w->a);
		if (w->turn % 64 == 0)
			sched_yield(); /* may run on one core */
	}
	return NULL;
}

static void start_server(struct dev_world *w, const char *spec)
{
	const struct vio_env env = {e_assign, e_unassign, e_start, e_done, e_say, NULL, w};
	const struct vio_dev_env dev_env = {.ctx = w};
	struct vio_adapter_cfg cfg = {.queue_size = DW_QUEUE_SIZE,
				      .proto = VIO_PROTO_V2,
				      .ring_levels = (1u << VIO_N_RING) - 1,
				      .payload_levels = (1u << VIO_N_PAYLOAD) - 1,
				      .notify_levels = (1u << VIO_N_NOTIFY) - 1,
				      .mem_len = 16u << 20};
	struct vio_err err = {""};

	if (phyp_local_open(w->m, "vios", &w->sp, &err) || phyp_vcpu_create(w->sp, &w->sv, &err) ||
	    w->kind->open(spec, &dev_env, &w->dev, &err))
		fail_msg("%s", err.msg);
	cfg.dev = w->dev;
	cfg.num_queues = w->kind->queues(w->dev, 4);
	cfg.mem = phyp_mem(w->sp, cfg.mem_gla, cfg.mem_len);
	if (vio_adapter_create(w->sv, &cfg, &env, &w->a, &err))
		fail_msg("%s", err.msg);
	w->stop = 0;
	assert_int_equal(pthread_create(&w->thread, NULL, server_main, w), 0);
}

static void stop_server(struct dev_world *w)
{
	vio_store_release(&w->stop, 1);
	pthread_join(w->thread, NULL);
	vio_adapter_destroy(w->a);
	w->kind->close(w->dev);
	phyp_vcpu_destroy(w->sv);
	phyp_close(w->sp);
	w->n_q = 0;
}

void dw_start(struct dev_world *w, const struct vio_dev_kind *kind, const char *spec)
{
	struct phyp_profile p;
	struct vio_err err = {""};

	memset(w, 0, sizeof(*w));
	w->kind = kind;
	phyp_profile_default(&p, 1, 32, 16);
	for (unsigned i = 0; i < p.n_parts; i++)
		p.part[i].pages = PHYP_PAGES_4K;
	if (phyp_local_create(&p, &w->m, &err) || phyp_local_open(w->m, "guest0", &w->gp, &err))
		fail_msg("%s", err.msg);
	snprintf(w->dir, sizeof(w->dir), "/tmp/vio-dev-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/console", w->dir);
	vio_mem_init(&w->mem, w->gp);
	if (spec)
		start_server(w, spec);
}

void dw_stop(struct dev_world *w)
{
	stop_server(w);
	phyp_close(w->gp);
	phyp_local_destroy(w->m);
	rmdir(w->dir);
}

void dw_server_again(struct dev_world *w, const char *spec)
{
	if (w->a)
		stop_server(w);
	start_server(w, spec);
}

struct vio_buffered_cfg dw_cfg(const char *arm)
{
	struct vio_buffered_cfg c = {
		.transport = {.strict_arm = true,
			      .proto = VIO_PROTO_V2,
			      .queue_size = DW_QUEUE_SIZE,
			      .timeout_ms = 20000},
		.waits = {.spin_ns = 20000, .idle_ns = 1000000, .give_way = true},
		.copybreak = 200};
	struct vio_err err = {""};

	if (vio_arm_parse(arm, &c.transport.arm, &err))
		fail_msg("%s: %s", arm, err.msg);
	return c;
}

struct seek {
	struct vio_show show;
	const char *name;
	uint64_t v;
};

static void seek_num(struct vio_show *s, const char *name, uint64_t v)
{
	struct seek *k = vio_container_of(s, struct seek, show);

	if (!strcmp(k->name, name))
		k->v = v;
}

static void seek_text(struct vio_show *s, const char *name, const char *v)
{
	(void)s, (void)name, (void)v;
}

uint64_t dw_shown(const struct dev_world *w, const char *name)
{
	struct seek k = {{seek_num, seek_text}, name, 0};

	w->kind->show(w->dev, &k.show);
	return k.v;
}
