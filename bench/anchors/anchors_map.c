/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapping for each request by real mmap and munmap, against a mapping that stands. The memfd is
 * sealed as a partition's LMBs are; requests walk through it, so that the standing window does not
 * sit in a few TLB entries.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/anchors/anchors.h"
#include "vio/atomics.h"

struct map {
	const struct anchors_env *env;
	const struct anchors_case *c;
	struct anchors_outcome *out;
	int fd, rc;
	const uint8_t *window; /* all of the memfd; read-only */
	uint8_t *dst;
	uint64_t at, last; /* offset of the next request, of the last one */
	_Alignas(BENCH_BLOCK) uint32_t neighbour;
};

enum neighbour { NEIGHBOUR_ABSENT, NEIGHBOUR_RUNS, NEIGHBOUR_STOP };

static int sealed_fd(uint64_t seed)
{
	int fd = memfd_create("bench-anchors", MFD_CLOEXEC | MFD_ALLOW_SEALING), e;
	void *p;

	if (fd < 0)
		return -errno;
	if (fallocate(fd, 0, 0, ANCHORS_WINDOW))
		goto fail;
	p = mmap(NULL, ANCHORS_WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		goto fail;
	anchors_fill(p, ANCHORS_WINDOW, seed, 0);
	munmap(p, ANCHORS_WINDOW);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		goto fail;
	return fd;
fail:
	e = errno;
	close(fd);
	return -e;
}

static void map_next(struct map *m)
{
	m->last = m->at;
	m->at = (m->at + m->c->size) % ANCHORS_WINDOW;
}

static int op_standing(void *ctx, uint64_t n)
{
	struct map *m = ctx;

	for (uint64_t i = 0; i < n; i++) {
		memcpy(m->dst, m->window + m->at, m->c->size);
		__asm__ volatile("" ::"r"(m->dst)
				 : "memory"); /* each copy counts, not only the last */
		map_next(m);
	}
	return 0;
}

static int op_per_request(void *ctx, uint64_t n)
{
	struct map *m = ctx;

	for (uint64_t i = 0; i < n; i++) {
		void *p = mmap(NULL, m->c->size, PROT_READ, MAP_SHARED, m->fd, (off_t)m->at);

		if (p == MAP_FAILED)
			return -errno;
		memcpy(m->dst, p, m->c->size);
		if (munmap(p, m->c->size))
			return -errno;
		map_next(m);
	}
	return 0;
}

static int op_map_only(void *ctx, uint64_t n)
{
	struct map *m = ctx;

	for (uint64_t i = 0; i < n; i++) {
		void *p = mmap(NULL, m->c->size, PROT_READ, MAP_SHARED | MAP_POPULATE, m->fd,
			       (off_t)m->at);

		if (p == MAP_FAILED)
			return -errno;
		if (munmap(p, m->c->size))
			return -errno;
		map_next(m);
	}
	return 0;
}

static int map_check(void *ctx, uint64_t n)
{
	struct map *m = ctx;
	int rc;

	(void)n;
	if (m->c->level == ANCHORS_MAP_ONLY) { /* moves nothing: what it maps is looked at once */
		rc = op_per_request(m, 1);
		if (rc)
			return rc;
	}
	rc = anchors_matches(m->dst, m->c->size, m->env->expected, m->last) ? 0 : -EBADMSG;
	anchors_poison(m->dst, m->c->size);
	return rc;
}

static void map_measure(void *ctx)
{
	static const bench_op ops[] = {
		[ANCHORS_STANDING] = op_standing,
		[ANCHORS_PER_REQUEST] = op_per_request,
		[ANCHORS_MAP_ONLY] = op_map_only,
	};
	struct map *m = ctx;

	m->rc = anchors_sample(m->env, ops[m->c->level], map_check, m, m->out);
}

/* A thread that runs in user mode on the other core: munmap has to interrupt it to flush its TLB. */
static void neighbour(void *ctx)
{
	struct map *m = ctx;

	vio_store_release(&m->neighbour, (uint32_t)NEIGHBOUR_RUNS);
	while (vio_load_relaxed(&m->neighbour) != NEIGHBOUR_STOP)
		vio_cpu_relax();
}

static void measure_with_neighbour(void *ctx)
{
	struct map *m = ctx;

	while (vio_load_acquire(&m->neighbour) == NEIGHBOUR_ABSENT)
		;
	map_measure(m);
	vio_store_release(&m->neighbour, (uint32_t)NEIGHBOUR_STOP);
}

int anchors_map(const struct anchors_env *env, const struct anchors_case *c,
		struct anchors_outcome *out)
{
	struct map m = {.env = env, .c = c, .out = out, .window = MAP_FAILED};
	struct bench_mem dst = {0};
	int rc = bench_pin(env->cores.server_core, &out->why);

	if (rc)
		return rc;
	m.fd = sealed_fd(env->written);
	if (m.fd < 0)
		return vio_err_set(&out->why, m.fd, "no sealed memfd: %s", strerror(-m.fd));
	m.window = mmap(NULL, ANCHORS_WINDOW, PROT_READ, MAP_SHARED | MAP_POPULATE, m.fd, 0);
	if (m.window == MAP_FAILED)
		rc = vio_err_set(&out->why, -errno, "can't map the window: %s", strerror(errno));
	else
		rc = bench_mem_get(BENCH_MEM_PRIVATE, c->size, &dst, &out->why);
	if (!rc) {
		m.dst = dst.base;
		if (c->point == ANCHORS_MAP_THREADS)
			rc = bench_pair_run(env->cores.guest_core, measure_with_neighbour,
					    neighbour, &m, &out->why);
		else
			map_measure(&m);
	}
	bench_mem_put(&dst);
	if (m.window != MAP_FAILED)
		munmap((void *)(uintptr_t)m.window, ANCHORS_WINDOW);
	close(m.fd);
	return rc ? rc : m.rc;
}
