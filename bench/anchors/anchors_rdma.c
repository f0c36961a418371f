/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copy out of another process, which sits on the guest's core: process_vm_readv, where the kernel
 * finds and pins the pages at each call, against memcpy out of memory that both processes map.
 */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/anchors/anchors.h"

struct rdma {
	const struct anchors_env *env;
	const struct anchors_case *c;
	uint8_t *src, *dst; /* src: at the same address in both processes */
	pid_t owner;
	int sock;
	uint64_t batch; /* each has its own pattern */
};

/*
 * The owner of the memory: fills it with the pattern of the seed that it is sent, answers, and
 * sleeps again.
 */
static _Noreturn void rdma_own(pid_t parent, int sock, uint8_t *mem, size_t bytes, unsigned cpu)
{
	uint64_t seed;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent || bench_pin(cpu, NULL))
		_exit(1);
	while (read(sock, &seed, sizeof(seed)) == sizeof(seed)) {
		anchors_fill(mem, bytes, seed, 0);
		if (write(sock, &seed, sizeof(seed)) != sizeof(seed))
			_exit(1);
	}
	_exit(0);
}

static int rdma_refill(struct rdma *r)
{
	uint64_t seed = r->env->written + ++r->batch;

	anchors_poison(r->dst, r->c->size);
	errno = EIO;
	if (send(r->sock, &seed, sizeof(seed), MSG_NOSIGNAL) != sizeof(seed) ||
	    read(r->sock, &seed, sizeof(seed)) != sizeof(seed))
		return -errno;
	return 0;
}

static int op_memcpy(void *ctx, uint64_t n)
{
	struct rdma *r = ctx;

	for (uint64_t i = 0; i < n; i++) {
		memcpy(r->dst, r->src, r->c->size);
		__asm__ volatile("" ::"r"(r->dst), "r"(r->src)
				 : "memory"); /* the owner may have written it */
	}
	return 0;
}

static int op_readv(void *ctx, uint64_t n)
{
	struct rdma *r = ctx;
	const struct iovec to = {r->dst, r->c->size}, from = {r->src, r->c->size};

	for (uint64_t i = 0; i < n; i++) {
		ssize_t got = process_vm_readv(r->owner, &to, 1, &from, 1, 0);

		if (got != (ssize_t)r->c->size)
			return got < 0 ? -errno : -EIO;
	}
	return 0;
}

static int rdma_check(void *ctx, uint64_t n)
{
	struct rdma *r = ctx;

	(void)n;
	if (!anchors_matches(r->dst, r->c->size, r->env->expected + r->batch, 0))
		return -EBADMSG;
	return rdma_refill(r);
}

static int rdma_measure(struct rdma *r, struct anchors_outcome *out)
{
	const bench_op op = r->c->level == ANCHORS_READV ? op_readv : op_memcpy;
	int rc = rdma_refill(r);

	if (rc)
		return vio_err_set(&out->why, rc, "the process that owns the memory ended early");
	rc = op(r, 1);
	if (rc == -EPERM || rc == -ENOSYS) {
		vio_err_set(
			&out->why, 0,
			"process_vm_readv of a child is forbidden here: %s (Yama: /proc/sys/kernel/yama/ptrace_scope above 1, or a seccomp filter)",
			strerror(-rc));
		return ANCHORS_FORBIDDEN;
	}
	return anchors_sample(r->env, op, rdma_check, r, out);
}

/* With the owner started; ends it. */
static int with_owner(struct rdma *r, int ends[2], struct anchors_outcome *out)
{
	pid_t self = getpid();
	int rc;

	r->owner = fork();
	if (r->owner == 0) {
		close(ends[0]);
		rdma_own(self, ends[1], r->src, r->c->size, r->env->cores.guest_core);
	}
	close(ends[1]);
	if (r->owner < 0)
		return vio_err_set(&out->why, -errno, "no process: %s", strerror(errno));
	r->sock = ends[0];
	rc = rdma_measure(r, out);
	shutdown(ends[0], SHUT_RDWR); /* ends rdma_own() */
	while (waitpid(r->owner, NULL, 0) < 0 && errno == EINTR)
		;
	return rc;
}

int anchors_rdma(const struct anchors_env *env, const struct anchors_case *c,
		 struct anchors_outcome *out)
{
	struct rdma r = {.env = env, .c = c};
	struct bench_mem src = {0}, dst = {0};
	int ends[2], rc = bench_pin(env->cores.server_core, &out->why);

	if (!rc)
		rc = bench_mem_get(BENCH_MEM_SHARED, c->size, &src, &out->why);
	if (!rc)
		rc = bench_mem_get(BENCH_MEM_PRIVATE, c->size, &dst, &out->why);
	if (!rc && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		rc = vio_err_set(&out->why, -errno, "no socket: %s", strerror(errno));
	if (!rc) {
		r.src = src.base;
		r.dst = dst.base;
		out->huge = src.huge;
		rc = with_owner(&r, ends, out);
		close(ends[0]);
	}
	bench_mem_put(&dst);
	bench_mem_put(&src);
	return rc;
}
