/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request and its answer between two cores, three ways over one channel, so that only the waiting
 * differs. Barriers: pair H, a value handed from one core to the other; and as pair W, "I sleep"
 * against "there is news".
 */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench/anchors/anchors.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* One direction. Each line is written by one side only. */
struct channel {
	_Alignas(BENCH_BLOCK) uint64_t value;  /* sender */
	_Alignas(BENCH_BLOCK) uint32_t sleeps; /* receiver */
	_Alignas(BENCH_BLOCK) int fd;          /* eventfd; constant */
};

struct kick {
	struct channel there, back;
	const struct anchors_env *env;
	struct anchors_outcome *out;
	enum anchors_level level;
	uint64_t i; /* the last request; requests are never 0 or STOP */
	int rc;
};

/* What a request is answered with: for no seed 0, STOP, or the answer before it; requests stay below 2^40. */
static uint64_t answer_to(uint64_t request, uint64_t seed)
{
	return 1ull << 62 | (seed & 0xffff) << 40 | request;
}

#define STOP  UINT64_MAX
#define SPINS 32u /* polls between two looks at the clock */

static bool kick_ring(struct channel *c)
{
	const uint64_t one = 1;

	return write(c->fd, &one, sizeof(one)) == sizeof(one);
}

static bool sleep_on(struct channel *c)
{
	uint64_t n;

	return read(c->fd, &n, sizeof(n)) == sizeof(n);
}

static bool send(struct channel *c, enum anchors_level level, uint64_t v)
{
	vio_store_release(&c->value, v); /* pair H */
	if (level == ANCHORS_EVENTFD)
		return kick_ring(c);
	if (level == ANCHORS_SPIN_SLEEP) {
		vio_fence_full(); /* as pair W: the value before the look */
		if (vio_load_relaxed(&c->sleeps))
			return kick_ring(c);
	}
	return true;
}

/* True when the value changed while it was polled. */
static bool kick_spin(struct channel *c, uint64_t old)
{
	uint64_t t0 = vio_now_ns();

	do
		for (unsigned k = 0; k < SPINS; k++)
			if (vio_load_acquire(&c->value) != old) /* pair H */
				return true;
	while (vio_now_ns() - t0 < ANCHORS_SPIN_NS);
	return false;
}

/* The value after `old`; STOP when an eventfd failed. */
static uint64_t kick_receive(struct channel *c, enum anchors_level level, uint64_t old)
{
	uint64_t v;

	if (level == ANCHORS_EVENTFD && !sleep_on(c))
		return STOP;
	if (level == ANCHORS_SPIN_SLEEP && !kick_spin(c, old)) {
		vio_store_relaxed(&c->sleeps, 1u);
		vio_fence_full(); /* as pair W: "I sleep" before the last look */
		while (vio_load_relaxed(&c->value) == old)
			/* Returns at once for a wake-up that came too late: then look again. */
			if (!sleep_on(c))
				return STOP;
		vio_store_relaxed(&c->sleeps, 0u);
	}
	while ((v = vio_load_acquire(&c->value)) == old) /* pair H */
		;
	return v;
}

static void answerer(void *ctx)
{
	struct kick *k = ctx;
	uint64_t v = 0;

	while ((v = kick_receive(&k->there, k->level, v)) != STOP)
		if (!send(&k->back, k->level, answer_to(v, k->env->written)))
			break;
	/* A failed eventfd here must not leave the other side waiting. */
	vio_store_release(&k->back.value, STOP);
	kick_ring(&k->back);
}

static int op_round_trip(void *ctx, uint64_t n)
{
	struct kick *k = ctx;
	uint64_t answer;

	for (uint64_t end = k->i + n; k->i < end;) {
		uint64_t old = k->i ? answer_to(k->i, k->env->expected) : 0;

		if (!send(&k->there, k->level, ++k->i))
			return -errno;
		answer = kick_receive(&k->back, k->level, old);
		if (answer == STOP)
			return -EIO;
		if (answer != answer_to(k->i, k->env->expected))
			return -EBADMSG;
	}
	return 0;
}

static int kick_no_check(void *ctx, uint64_t n) /* op_round_trip looks at every answer */
{
	(void)ctx;
	(void)n;
	return 0;
}

static void kicker(void *ctx)
{
	struct kick *k = ctx;

	k->rc = anchors_sample(k->env, op_round_trip, kick_no_check, k, k->out);
	send(&k->there, k->level, STOP);
}

static int op_write(void *ctx, uint64_t n)
{
	struct kick *k = ctx;

	for (uint64_t i = 0; i < n; i++)
		if (!kick_ring(&k->there))
			return -errno;
	return 0;
}

/* The eventfd counted every write of the batch; batches that found n left theirs before the first check. */
static int check_writes(void *ctx, uint64_t n)
{
	struct kick *k = ctx;
	uint64_t got;

	if (read(k->there.fd, &got, sizeof(got)) != sizeof(got))
		return -errno;
	n ^= k->env->written ^ k->env->expected;
	if (k->i++ ? got != n : got < n)
		return -EBADMSG;
	return 0;
}

static int kick_run(struct kick *k)
{
	const struct bench_cores *cores = &k->env->cores;
	int rc = bench_pin(cores->guest_core, &k->out->why);

	if (rc)
		return rc;
	if (k->level == ANCHORS_NOBODY)
		return anchors_sample(k->env, op_write, check_writes, k, k->out);
	rc = bench_pair_run(cores->server_core, kicker, answerer, k, &k->out->why);
	return rc ? rc : k->rc;
}

int anchors_kick(const struct anchors_env *env, const struct anchors_case *c,
		 struct anchors_outcome *out)
{
	struct bench_mem m;
	struct kick *k;
	int rc = bench_mem_get(BENCH_MEM_SHARED, sizeof(*k), &m, &out->why);

	if (rc)
		return rc;
	k = (struct kick *)(void *)m.base;
	*k = (struct kick){.env = env, .out = out, .level = c->level};
	k->there.fd = eventfd(0, EFD_CLOEXEC);
	k->back.fd = eventfd(0, EFD_CLOEXEC);
	out->huge = m.huge;
	if (k->there.fd < 0 || k->back.fd < 0)
		rc = vio_err_set(&out->why, -errno, "no eventfd: %s", strerror(errno));
	else
		rc = kick_run(k);
	if (k->there.fd >= 0)
		close(k->there.fd);
	if (k->back.fd >= 0)
		close(k->back.fd);
	bench_mem_put(&m);
	return rc;
}
