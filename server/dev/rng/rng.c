/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-rng (VIRTIO 1.2, section 5.4): entropy of this machine's kernel for guests. getrandom() is called by a thread
 * of the device's own, which keeps a pool filled, no faster than rate= allows; the queue's lcore copies from the pool,
 * VIO_PULL_BYTES a turn at most. With an empty pool chains stay with the guest until there is something again.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "server/dev/pull.h"
#include "vio/cycles.h"
#include "vio/number.h"
#include "vio/thread.h"

/* Kept ready for one guest, bytes. */
#define RNG_POOL 16384u
/* One chain gets no more at once, bytes: who wants more asks again (5.4.6). */
#define RNG_MOST 4096u
/* getrandom() is not interrupted by signals up to this, bytes (getrandom(2)). */
#define RNG_CALL 256u
#define RNG_RATE (1ull << 20) /* bytes/s, when nothing is said */
/* So long the thread sleeps when it has used up its rate, ms. */
#define RNG_NAP_MS 10

struct vio_rng {
	struct vio_device dev;
	uint64_t rate; /* bytes/s */
	struct vio_bytes pool;
	struct vio_bell bell;
	pthread_t thread;
	bool running;
	bool stop;              /* atomic */
	struct phyp_vcpu *vcpu; /* of the queue's lcore while it runs, or NULL; atomic (pair L) */
	uint64_t given, drawn;  /* bytes; relaxed, each with one writer */
};

static struct vio_rng *rng_of(const struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_rng, dev);
}

/* ------------------------------------------------------------------------- the thread ---- */

/* Up to `may` bytes into the pool; how many. */
static uint32_t rng_draw(struct vio_rng *g, uint64_t may)
{
	uint32_t n, want;
	uint8_t *to = vio_bytes_free(&g->pool, &n);
	ssize_t got;

	want = n < RNG_CALL ? n : RNG_CALL;
	want = may < want ? (uint32_t)may : want;
	if (want == 0)
		return 0;
	got = getrandom(to, want, 0);
	if (got <= 0)
		return 0;
	vio_bytes_done_writing(&g->pool, (uint32_t)got);
	vio_counter_add(&g->drawn, (uint64_t)got);
	return (uint32_t)got;
}

static void rng_sleep(struct vio_rng *g, int ms)
{
	struct pollfd p = {.fd = g->bell.fd, .events = POLLIN};

	vio_bell_listen(&g->bell);
	if (!vio_load_relaxed(&g->stop) && (ms >= 0 || vio_bytes_room(&g->pool) == 0))
		poll(&p, 1, ms);
	vio_bell_awake(&g->bell);
}

static void *rng_main(void *arg)
{
	struct vio_rng *g = arg;
	uint64_t since = vio_now_ns(), used = 0; /* bytes drawn since then */

	while (!vio_load_relaxed(&g->stop)) {
		uint64_t now = vio_now_ns(), may = vio_muldiv(now - since, g->rate, 1000000000);
		struct phyp_vcpu *v;
		uint32_t n;

		if (may > RNG_POOL + used) { /* what was not asked for is not saved up */
			since = now;
			used = 0;
			may = RNG_POOL;
		}
		n = rng_draw(g, may > used ? may - used : 0);
		used += n;
		v = vio_load_acquire(&g->vcpu); /* pair L */
		if (n > 0 && v)
			phyp_vcpu_prod(v);
		if (vio_bytes_room(&g->pool) == 0)
			rng_sleep(g, -1);
		else if (n == 0)
			rng_sleep(g, RNG_NAP_MS);
	}
	return NULL;
}

static int rng_start(struct vio_rng *g)
{
	int rc = vio_thread_start(&g->thread, rng_main, g);

	g->running = rc == 0;
	return rc;
}

/* ------------------------------------------------------------------------------- life ---- */

static void rng_close(struct vio_device *dev)
{
	struct vio_rng *g = rng_of(dev);

	if (g->running) {
		vio_store_relaxed(&g->stop, true);
		vio_bell_ring(&g->bell);
		pthread_join(g->thread, NULL);
	}
	vio_bell_close(&g->bell);
	vio_bytes_close(&g->pool);
	free(g);
}

static int parse_rate(const char *spec, uint64_t *rate, struct vio_err *err)
{
	static const char *const keys[] = {"rate", NULL};
	char text[32];
	int rc = vio_spec_check("rng", spec, keys, err);

	*rate = RNG_RATE;
	if (rc)
		return rc;
	rc = vio_spec_get(spec, "rate", text, sizeof(text));
	if (rc == 0)
		return 0;
	if (rc < 0 || vio_parse_size(text, rate) || *rate < 1 || *rate > 1ull << 40)
		return vio_err_set(
			err, -EINVAL,
			"rate=%s: bytes a second, 1 to 1T, with k, M, G or T after it if wanted",
			rc < 0 ? "(too long)" : text);
	return 0;
}

static int rng_open(const char *spec, const struct vio_dev_env *env, struct vio_device **out,
		    struct vio_err *err)
{
	struct vio_rng *g;
	uint64_t rate;
	int rc = parse_rate(spec, &rate, err);

	(void)env;
	if (rc)
		return rc;
	g = aligned_alloc(VIO_APART, VIO_ALIGN_UP(sizeof(*g), (size_t)VIO_APART));
	if (!g)
		return vio_err_set(err, -ENOMEM, "no memory");
	memset(g, 0, sizeof(*g));
	g->dev.kind = &vio_kind_rng;
	g->rate = rate;
	g->bell.fd = -1;
	rc = vio_bytes_open(&g->pool, RNG_POOL);
	if (rc == 0)
		rc = vio_bell_open(&g->bell);
	if (rc == 0)
		rc = rng_start(g);
	if (rc) {
		rng_close(&g->dev);
		return vio_err_set(err, rc, "its thread can't be started: %s", strerror(-rc));
	}
	snprintf(g->dev.what, sizeof(g->dev.what), "getrandom, %llu bytes/s at most",
		 (unsigned long long)rate);
	*out = &g->dev;
	return 0;
}

static uint16_t rng_queues(const struct vio_device *dev, uint16_t most)
{
	(void)dev, (void)most;
	return 1; /* requestq */
}

static void rng_show(const struct vio_device *dev, struct vio_show *s)
{
	const struct vio_rng *g = rng_of(dev);

	s->text(s, "kind", "rng");
	s->text(s, "what", dev->what);
	s->num(s, "rate", g->rate);
	s->num(s, "bytes_given", vio_load_relaxed(&g->given));
	s->num(s, "bytes_drawn", vio_load_relaxed(&g->drawn));
}

/* ---------------------------------------------------------------------- configuration ---- */

static uint64_t rng_features(const struct vio_device *dev)
{
	(void)dev;
	return 0; /* 5.4.3: none are defined */
}

static uint16_t rng_config(const struct vio_device *dev, uint16_t num_queues, uint8_t *out)
{
	(void)dev, (void)num_queues, (void)out;
	return 0; /* 5.4.4 */
}

static void rng_queue_ready(struct vio_squeue *q)
{
	vio_pull_queue_ready(q, (struct vio_pull){.bytes = &rng_of(q->dq->dev)->pool,
						  .to_guest = true,
						  .per_chain = RNG_MOST});
}

static void rng_queue_on(struct vio_squeue *q)
{
	vio_store_release(&rng_of(q->dq->dev)->vcpu, q->vcpu); /* pair L */
}

static void rng_queue_off(struct vio_squeue *q)
{
	vio_store_release(&rng_of(q->dq->dev)->vcpu, NULL);
}

static unsigned rng_turn(struct vio_squeue *q)
{
	struct vio_rng *g = rng_of(q->dq->dev);
	uint32_t n = vio_pull_turn(q, vio_pull_of(q));

	if (n > 0) {
		vio_counter_add(&g->given, n);
		vio_bell_ring(&g->bell);
	}
	return n;
}

static const struct vio_dev_ops rng_queue_ops = {
	.name = "rng", .long_chains = true, .wants = vio_pull_queue_wants, .turn = rng_turn};

const struct vio_dev_kind vio_kind_rng = {
	.row = {"rng", "[rate=1M]",
		"random bytes of this machine's kernel, at most so many a second; --rng= for the default",
		VIO_OPTION_CALL, .set = vio_dev_option},
	.noun = "random numbers",
	.type = VIRTIO_ID_RNG,
	.min_proto = VIO_PROTO_V1,
	.queue = &rng_queue_ops,
	.open = rng_open,
	.close = rng_close,
	.queues = rng_queues,
	.show = rng_show,
	.features = rng_features,
	.config = rng_config,
	.queue_open = vio_pull_queue_open,
	.queue_close = vio_pull_queue_close,
	.queue_ready = rng_queue_ready,
	.queue_on = rng_queue_on,
	.queue_off = rng_queue_off,
};
