/* SPDX-License-Identifier: BSD-3-Clause */
/* io_uring reads at random places of one file: READ_FIXED into buffers registered once, against READ. */
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/anchors/anchors.h"

#define MAX_DEPTH 32u
#define NOT_READ  UINT64_MAX

struct uring {
	const struct anchors_env *env;
	const struct anchors_case *c;
	struct io_uring ring;
	int fd;
	uint8_t *buffers;       /* depth * size */
	uint64_t at[MAX_DEPTH]; /* the place in the file that a buffer holds, or NOT_READ */
	uint64_t random;
};

static void start_read(struct uring *u, unsigned i)
{
	struct io_uring_sqe *sqe =
		io_uring_get_sqe(&u->ring); /* as many as the depth: there is one */
	uint8_t *to = u->buffers + i * u->c->size;

	u->random = u->random * 6364136223846793005ull + 1442695040888963407ull;
	u->at[i] = (u->random >> 33) % (ANCHORS_FILE_BYTES / u->c->size) * u->c->size;
	if (u->c->level == ANCHORS_REGISTERED)
		io_uring_prep_read_fixed(sqe, u->fd, to, (unsigned)u->c->size, u->at[i], (int)i);
	else
		io_uring_prep_read(sqe, u->fd, to, (unsigned)u->c->size, u->at[i]);
	io_uring_sqe_set_data64(sqe, i);
}

/* Take every completion that is there; start another read for each while `*to_start`. How many, or -errno. */
static int uring_reap(struct uring *u, uint64_t *to_start)
{
	struct io_uring_cqe *cqe[MAX_DEPTH];
	unsigned n = io_uring_peek_batch_cqe(&u->ring, cqe, MAX_DEPTH);
	int rc = (int)n;

	for (unsigned i = 0; i < n; i++) {
		if (cqe[i]->res != (int)u->c->size)
			rc = cqe[i]->res < 0 ? cqe[i]->res : -EIO;
		else if (rc >= 0 && *to_start) {
			start_read(u, (unsigned)io_uring_cqe_get_data64(cqe[i]));
			(*to_start)--;
		}
	}
	io_uring_cq_advance(&u->ring, n);
	return rc;
}

static int op_read(void *ctx, uint64_t n)
{
	struct uring *u = ctx;
	uint64_t in_flight = n < u->c->depth ? n : u->c->depth, left = n, to_start = n - in_flight;
	int rc = 0;

	for (unsigned i = 0; i < in_flight; i++)
		start_read(u, i);
	while (left) {
		rc = io_uring_submit_and_wait(&u->ring, 1);
		if (rc < 0 && rc != -EINTR)
			return rc;
		rc = uring_reap(u, &to_start);
		if (rc < 0)
			return rc;
		left -= (uint64_t)rc;
	}
	return 0;
}

static int uring_check(void *ctx, uint64_t n)
{
	struct uring *u = ctx;
	int rc = 0;

	(void)n;
	for (unsigned i = 0; i < u->c->depth; i++) {
		if (u->at[i] == NOT_READ)
			continue;
		if (!anchors_matches(u->buffers + i * u->c->size, u->c->size, u->env->expected,
				     u->at[i]))
			rc = -EBADMSG;
		anchors_poison(u->buffers + i * u->c->size, u->c->size);
		u->at[i] = NOT_READ;
	}
	return rc;
}

static int register_buffers(struct uring *u, struct anchors_outcome *out)
{
	struct iovec iov[MAX_DEPTH];
	int rc;

	for (unsigned i = 0; i < u->c->depth; i++)
		iov[i] = (struct iovec){u->buffers + i * u->c->size, u->c->size};
	rc = io_uring_register_buffers(&u->ring, iov, u->c->depth);
	if (!rc)
		return 0;
	vio_err_set(&out->why, 0,
		    "buffers can't be registered: %s (the limit of locked memory, ulimit -l)",
		    strerror(-rc));
	return ANCHORS_FORBIDDEN;
}

static int with_ring(struct uring *u, struct anchors_outcome *out)
{
	int rc = io_uring_queue_init(u->c->depth, &u->ring, 0);

	if (rc) {
		vio_err_set(
			&out->why, 0,
			"io_uring is not available: %s (/proc/sys/kernel/io_uring_disabled, or a seccomp filter)",
			strerror(-rc));
		return ANCHORS_FORBIDDEN;
	}
	if (u->c->level == ANCHORS_REGISTERED)
		rc = register_buffers(u, out);
	if (!rc)
		rc = anchors_sample(u->env, op_read, uring_check, u, out);
	io_uring_queue_exit(&u->ring);
	return rc;
}

int anchors_uring(const struct anchors_env *env, const struct anchors_case *c,
		  struct anchors_outcome *out)
{
	struct uring u = {.env = env, .c = c, .random = env->written};
	struct bench_mem m;
	int rc;

	u.fd = c->point == ANCHORS_URING_DIRECT ? env->direct_fd : env->buffered_fd;
	if (u.fd < 0) {
		vio_err_set(&out->why, 0, "%s", env->no_direct);
		return ANCHORS_FORBIDDEN;
	}
	rc = bench_pin(env->cores.server_core, &out->why);
	if (!rc)
		rc = bench_mem_get(BENCH_MEM_PRIVATE, c->size * c->depth, &m, &out->why);
	if (rc)
		return rc;
	u.buffers = m.base;
	memset(u.at, 0xff, sizeof(u.at)); /* NOT_READ */
	rc = with_ring(&u, out);
	bench_mem_put(&m);
	return rc;
}

/* --------------------------------------------------------------------- files ---- */

/* A file in `dir` that has no name, or -errno. */
static int nameless(const char *dir)
{
	char name[4096];
	sigset_t all, old;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), e;

	/* These are what file systems and kernels without O_TMPFILE say. */
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd < 0 ? -errno : fd;
	if (snprintf(name, sizeof(name), "%s/bench-anchors-XXXXXX", dir) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	sigfillset(&all); /* no Ctrl-C between the file's making and its name's removal */
	sigprocmask(SIG_BLOCK, &all, &old);
	fd = mkostemp(name, O_CLOEXEC);
	e = errno;
	if (fd >= 0)
		unlink(name);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return fd < 0 ? -e : fd;
}

/*
 * The pattern, written through to the disk: dirty pages would be written back in the middle of a
 * measurement.
 */
static int fill_file(int fd, uint64_t seed)
{
	static const size_t chunk = 1u << 20;
	uint64_t *p = malloc(chunk);
	int rc = p ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < ANCHORS_FILE_BYTES && !rc; at += chunk) {
		ssize_t n;

		anchors_fill(p, chunk, seed, at);
		n = pwrite(fd, p, chunk, (off_t)at);
		if (n != (ssize_t)chunk)
			rc = n < 0 ? -errno : -ENOSPC;
	}
	free(p);
	if (!rc && fdatasync(fd))
		rc = -errno;
	return rc;
}

/* The same file once more with O_DIRECT and out of the page cache; takes fd over. */
static void make_direct(struct anchors_env *env, int fd, const char *dir)
{
	char self[64];

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	env->direct_fd = open(self, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (env->direct_fd < 0)
		snprintf(env->no_direct, sizeof(env->no_direct),
			 "the file system of %.80s does not take O_DIRECT: %s", dir,
			 strerror(errno));
	close(fd);
}

int anchors_files_open(struct anchors_env *env, const char *dir, struct vio_err *err)
{
	int fd[2] = {-1, -1}, rc = 0;

	env->buffered_fd = env->direct_fd = -1;
	for (unsigned i = 0; i < 2 && !rc; i++) {
		fd[i] = nameless(dir);
		rc = fd[i] < 0 ? fd[i] : fill_file(fd[i], env->written);
	}
	if (rc) {
		for (unsigned i = 0; i < 2; i++)
			if (fd[i] >= 0)
				close(fd[i]);
		return vio_err_set(err, rc, "--dir %.200s: no temporary file of %u MiB: %s", dir,
				   ANCHORS_FILE_BYTES >> 20, strerror(-rc));
	}
	env->buffered_fd = fd[0];
	make_direct(env, fd[1], dir);
	return 0;
}

void anchors_files_close(struct anchors_env *env)
{
	if (env->buffered_fd >= 0)
		close(env->buffered_fd);
	if (env->direct_fd >= 0)
		close(env->direct_fd);
	env->buffered_fd = env->direct_fd = -1;
}
