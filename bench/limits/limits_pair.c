/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two pinned threads that answer each other. Barriers: pair H, a value handed from one core to the
 * other; the release store and the acquire load of a line.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench/limits/limits_measure.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/*
 * A batch looks at the clock once in this many round trips: often enough to end on time, too seldom
 * to be seen.
 */
#define LOOK_EVERY 256u
/* Uncounted round trips at the start of a batch: the other thread arrives, lines and clocks settle. */
#define WARM_ROUNDS 1000u
#define STOP        UINT64_MAX

/* A set with one CPU, of any number. Freed with CPU_FREE. */
static cpu_set_t *one_cpu(unsigned cpu, size_t *bytes)
{
	cpu_set_t *set = CPU_ALLOC(cpu + 1);

	*bytes = CPU_ALLOC_SIZE(cpu + 1);
	if (!set)
		return NULL;
	CPU_ZERO_S(*bytes, set);
	CPU_SET_S(cpu, *bytes, set);
	return set;
}

static int pin_error(unsigned cpu, int e, struct vio_err *err)
{
	return vio_err_set(
		err, -e,
		"can't pin a thread to CPU %u (%s): this process may not run there, or the machine has no such CPU; see the list with `taskset -cp $$`",
		cpu, strerror(e));
}

int bench_pin(unsigned cpu, struct vio_err *err)
{
	size_t bytes;
	cpu_set_t *set = one_cpu(cpu, &bytes);
	int rc;

	if (!set)
		return vio_err_set(err, -ENOMEM, "no memory to pin a thread");
	rc = pthread_setaffinity_np(pthread_self(), bytes, set);
	CPU_FREE(set);
	return rc ? pin_error(cpu, rc, err) : 0;
}

struct thread_arg {
	void (*fn)(void *ctx);
	void *ctx;
};

static void *thread_main(void *arg)
{
	struct thread_arg *a = arg;

	a->fn(a->ctx);
	return NULL;
}

int bench_pair_run(unsigned server_cpu, void (*guest)(void *ctx), void (*server)(void *ctx),
		   void *ctx, struct vio_err *err)
{
	struct thread_arg arg = {.fn = server, .ctx = ctx};
	pthread_attr_t attr;
	pthread_t t;
	size_t bytes;
	cpu_set_t *set = one_cpu(server_cpu, &bytes);
	int rc;

	if (!set || pthread_attr_init(&attr)) {
		if (set)
			CPU_FREE(set);
		return vio_err_set(err, -ENOMEM, "no memory for a second thread");
	}
	rc = pthread_attr_setaffinity_np(&attr, bytes, set);
	if (!rc)
		rc = pthread_create(&t, &attr, thread_main, &arg);
	pthread_attr_destroy(&attr);
	CPU_FREE(set);
	if (rc)
		return pin_error(server_cpu, rc, err);
	guest(ctx);
	pthread_join(t, NULL);
	return 0;
}

/* ------------------------------------------------------------------ round trip ---- */

/* Each line is written by one core only. */
struct lines {
	_Alignas(BENCH_BLOCK) uint64_t ping; /* guest */
	_Alignas(BENCH_BLOCK) uint64_t pong; /* server */
};

struct round_trip {
	struct lines *lines[2]; /* private, shared */
	struct bench_series *out[2];
	unsigned batches;
	uint64_t rounds, batch_ns;
};

static inline void one_round_trip(struct lines *l, uint64_t i)
{
	vio_store_release(&l->ping, i);         /* pair H */
	while (vio_load_acquire(&l->pong) != i) /* pair H; no pause: it costs more than the line */
		;
}

static double round_trip_batch(const struct round_trip *r, struct lines *l)
{
	uint64_t i = 0, t0, now, deadline;

	while (i < WARM_ROUNDS)
		one_round_trip(l, ++i);
	t0 = now = vio_now_ns();
	deadline = t0 + r->batch_ns;
	while (i < WARM_ROUNDS + r->rounds && now < deadline) {
		for (unsigned k = 0; k < LOOK_EVERY; k++)
			one_round_trip(l, ++i);
		now = vio_now_ns();
	}
	one_round_trip(l, STOP);
	vio_store_release(
		&l->ping,
		0); /* pair H: the server comes back to these lines after the other ones */
	return (double)(now - t0) / (double)(i - WARM_ROUNDS);
}

static void round_trip_guest(void *ctx)
{
	struct round_trip *r = ctx;

	for (unsigned b = 0; b < r->batches; b++)
		for (unsigned k = 0; k < 2; k++)
			bench_series_add(r->out[k], round_trip_batch(r, r->lines[k]));
}

static void round_trip_server(void *ctx)
{
	struct round_trip *r = ctx;

	for (unsigned b = 0; b < r->batches; b++)
		for (unsigned k = 0; k < 2; k++) {
			struct lines *l = r->lines[k];
			uint64_t v, last = 0;

			do {
				while ((v = vio_load_acquire(&l->ping)) == last) /* pair H */
					;
				last = v;
				vio_store_release(&l->pong, v); /* pair H */
			} while (v != STOP);
		}
}

int limits_round_trip(unsigned server_cpu, uint64_t budget_ns, unsigned batches, uint64_t rounds,
		      struct bench_series *private_mem, struct bench_series *shared_mem,
		      bool *shared_huge, struct vio_err *err)
{
	struct bench_mem priv, shared;
	struct round_trip r = {
		.out = {private_mem, shared_mem},
		.batches = batches,
		.rounds = rounds,
		.batch_ns = budget_ns / (2 * batches),
	};
	int rc = bench_mem_get(BENCH_MEM_PRIVATE, sizeof(struct lines), &priv, err);

	if (rc)
		return rc;
	rc = bench_mem_get(BENCH_MEM_SHARED, sizeof(struct lines), &shared, err);
	if (!rc) {
		r.lines[0] = (struct lines *)priv.base;
		r.lines[1] = (struct lines *)shared.base;
		*shared_huge = shared.huge;
		rc = bench_pair_run(server_cpu, round_trip_guest, round_trip_server, &r, err);
		bench_mem_put(&shared);
	}
	bench_mem_put(&priv);
	return rc;
}

/* ---------------------------------------------------------------- eventfd wake ---- */

struct wake {
	int to_server, to_guest;
	struct bench_series *out;
	unsigned batches;
	uint64_t rounds, batch_ns;
	int rc; /* the guest's: 0 or -errno */
};

/*
 * The largest value that an eventfd takes tells the other end to stop: the guest at the end, the
 * server on failure.
 */
#define WAKE_STOP (UINT64_MAX - 1)

static bool pair_put(int fd, uint64_t v)
{
	return write(fd, &v, sizeof(v)) == sizeof(v);
}

static bool pair_get(int fd, uint64_t *v)
{
	return read(fd, v, sizeof(*v)) == sizeof(*v);
}

static void wake_server(void *ctx)
{
	struct wake *w = ctx;
	uint64_t v;

	while (pair_get(w->to_server, &v) && v != WAKE_STOP)
		if (!pair_put(w->to_guest, 1))
			break;
	pair_put(w->to_guest, WAKE_STOP);
}

static int wake_rounds(struct wake *w, unsigned n)
{
	uint64_t v;

	for (unsigned k = 0; k < n; k++) {
		if (!pair_put(w->to_server, 1) || !pair_get(w->to_guest, &v))
			return -errno;
		if (v == WAKE_STOP)
			return -EIO;
	}
	return 0;
}

static void wake_guest(void *ctx)
{
	struct wake *w = ctx;

	for (unsigned b = 0; b < w->batches && !w->rc; b++) {
		uint64_t n = 0, t0, now;

		w->rc = wake_rounds(w, 4);
		t0 = now = vio_now_ns();
		while (!w->rc && (n == 0 || (n < w->rounds && now - t0 < w->batch_ns))) {
			w->rc = wake_rounds(w, 16);
			n += 16;
			now = vio_now_ns();
		}
		if (!w->rc)
			bench_series_add(w->out, (double)(now - t0) / (double)n);
	}
	pair_put(w->to_server, WAKE_STOP);
}

int limits_eventfd_wake(unsigned server_cpu, uint64_t budget_ns, unsigned batches, uint64_t rounds,
			struct bench_series *out, struct vio_err *err)
{
	struct wake w = {
		.to_server = eventfd(0, EFD_CLOEXEC),
		.to_guest = eventfd(0, EFD_CLOEXEC),
		.out = out,
		.batches = batches,
		.rounds = rounds,
		.batch_ns = budget_ns / batches,
	};
	int rc;

	if (w.to_server < 0 || w.to_guest < 0) {
		rc = vio_err_set(err, -errno, "no eventfd: %s", strerror(errno));
	} else {
		rc = bench_pair_run(server_cpu, wake_guest, wake_server, &w, err);
		if (!rc && w.rc)
			rc = vio_err_set(err, w.rc, "the wake through an eventfd failed: %s",
					 strerror(-w.rc));
	}
	if (w.to_server >= 0)
		close(w.to_server);
	if (w.to_guest >= 0)
		close(w.to_guest);
	return rc;
}
