/* SPDX-License-Identifier: BSD-3-Clause */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/limits/limits_measure.h"
#include "vio/cycles.h"
#include "vio/shared_mutex.h"

#define PAGE 4096u

struct op_ctx {
	int fd;
	pthread_mutex_t *mutex;
};

/* The value counts as used, so that the loop that made it stays. */
#define KEEP(v) __asm__ volatile("" ::"r"(v))

static int op_syscall(void *ctx, uint64_t n)
{
	(void)ctx;
	for (uint64_t i = 0; i < n; i++)
		KEEP(syscall(SYS_getppid));
	return 0;
}

static int op_eventfd(void *ctx, uint64_t n)
{
	const struct op_ctx *c = ctx;
	uint64_t v = 1;

	for (uint64_t i = 0; i < n; i++)
		if (write(c->fd, &v, sizeof(v)) != sizeof(v) ||
		    read(c->fd, &v, sizeof(v)) != sizeof(v))
			return -errno;
	return v == 1 ? 0 : -EIO;
}

static int op_clock(void *ctx, uint64_t n)
{
	(void)ctx;
	for (uint64_t i = 0; i < n; i++)
		KEEP(vio_now_ns());
	return 0;
}

static int op_ticks(void *ctx, uint64_t n)
{
	(void)ctx;
	for (uint64_t i = 0; i < n; i++)
		KEEP(vio_ticks());
	return 0;
}

static int op_map_page(void *ctx, uint64_t n)
{
	const struct op_ctx *c = ctx;

	for (uint64_t i = 0; i < n; i++) {
		void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);

		if (p == MAP_FAILED)
			return -errno;
		*(volatile uint8_t *)p = (uint8_t)i;
		if (munmap(p, PAGE))
			return -errno;
	}
	return 0;
}

static int op_mutex(void *ctx, uint64_t n)
{
	const struct op_ctx *c = ctx;
	int rc = 0;

	for (uint64_t i = 0; i < n && !rc; i++) {
		rc = pthread_mutex_lock(c->mutex);
		if (!rc)
			rc = pthread_mutex_unlock(c->mutex);
	}
	return -rc;
}

static const struct {
	bench_op run;
	const char *name, *text;
} ops[LIMITS_N_OPS] = {
	[LIMITS_SYSCALL] = {op_syscall, "syscall", "system call (getppid)"},
	[LIMITS_EVENTFD_WRITE_READ] = {op_eventfd, "eventfd_write_read",
				       "eventfd write + read, one thread"},
	[LIMITS_CLOCK_GETTIME] = {op_clock, "clock_gettime", "clock_gettime"},
	[LIMITS_TICK_READ] = {op_ticks, "tick_read", "tick counter"},
	[LIMITS_MAP_PAGE] = {op_map_page, "map_touch_unmap", "map, touch, unmap a 4 KiB page"},
	[LIMITS_ROBUST_MUTEX] = {op_mutex, "robust_mutex", "robust shared mutex, uncontended"},
};

const char *limits_op_name(enum limits_op op)
{
	return op < LIMITS_N_OPS ? ops[op].name : "?";
}

const char *limits_op_text(enum limits_op op)
{
	return op < LIMITS_N_OPS ? ops[op].text : "?";
}

static int page_fd(void)
{
	int fd = memfd_create("bench-limits", MFD_CLOEXEC);

	if (fd >= 0 && fallocate(fd, 0, 0, PAGE)) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

int limits_op_run(enum limits_op op, uint64_t budget_ns, unsigned samples, struct bench_series *out,
		  struct vio_err *err)
{
	struct op_ctx c = {.fd = -1};
	struct bench_mem m = {0};
	int rc = 0;

	if (op == LIMITS_EVENTFD_WRITE_READ || op == LIMITS_MAP_PAGE) {
		c.fd = op == LIMITS_MAP_PAGE ? page_fd() : eventfd(0, EFD_CLOEXEC);
		if (c.fd < 0)
			rc = -errno;
	} else if (op == LIMITS_ROBUST_MUTEX) {
		rc = bench_mem_get(BENCH_MEM_SHARED, sizeof(*c.mutex), &m, err);
		if (rc)
			return rc;
		c.mutex = (pthread_mutex_t *)(void *)m.base;
		rc = vio_shared_mutex_init(c.mutex);
	}
	if (!rc)
		rc = bench_sample(ops[op].run, &c, budget_ns, samples, out);
	if (rc)
		vio_err_set(err, rc, "%s: %s", ops[op].text, strerror(-rc));
	if (c.fd >= 0)
		close(c.fd);
	if (c.mutex)
		pthread_mutex_destroy(c.mutex);
	bench_mem_put(&m);
	return rc;
}
