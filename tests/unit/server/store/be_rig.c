/* SPDX-License-Identifier: BSD-3-Clause */
#include <ftw.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "be_rig.h"
#include "vio/cycles.h"

/* A request that takes longer hangs. */
#define PATIENCE_NS (60 * 1000000000ull)

void rig_start(struct rig *g)
{
	size_t bytes = (size_t)RIG_DEPTH * RIG_PIECE;
	int fd = memfd_create("guest", MFD_CLOEXEC);

	memset(g, 0, sizeof(*g));
	g->rng = 88172645463325252ull;
	snprintf(g->dir, sizeof(g->dir), "/var/tmp/vio-backend-%d-XXXXXX", (int)getpid());
	assert_non_null(mkdtemp(g->dir));
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	g->mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(g->mem != MAP_FAILED);
	close(fd);
	g->req = calloc(RIG_DEPTH, sizeof(g->req[0]));
	assert_non_null(g->req);
}

void rig_stop(struct rig *g)
{
	rig_close(g);
	munmap(g->mem, (size_t)RIG_DEPTH * RIG_PIECE);
	free(g->req);
	rmdir(g->dir); /* the test has emptied it */
}

static int sweep_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void rig_sweep(void)
{
	char pattern[64];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "/var/tmp/vio-backend-%d-*", (int)getpid());
	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		nftw(found.gl_pathv[i], sweep_one, 8, FTW_DEPTH | FTW_PHYS);
	globfree(&found);
}

void rig_open(struct rig *g, const char *fmt, ...)
{
	struct vio_err err = {""};
	char spec[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(spec, sizeof(spec), fmt, ap);
	va_end(ap);
	if (vio_backend_open(spec, NULL, &g->be, &err))
		fail_msg("%s: %s", spec, err.msg);
	if (g->be->ops->queue_open(g->be, RIG_DEPTH, &g->bq, &err))
		fail_msg("%s: %s", spec, err.msg);
}

void rig_close(struct rig *g)
{
	if (g->bq)
		g->be->ops->queue_close(g->bq);
	vio_backend_close(g->be);
	g->bq = NULL;
	g->be = NULL;
}

void rig_refused(const char *spec, int rc, const char *part)
{
	struct vio_err err = {""};
	struct vio_backend *be = NULL;
	int got = vio_backend_open(spec, NULL, &be, &err);

	if (got >= 0)
		fail_msg("'%s' was taken", spec);
	if (rc && got != rc)
		fail_msg("'%s': %d in place of %d (%s)", spec, got, rc, err.msg);
	if (!strstr(err.msg, part))
		fail_msg("'%s': '%s' doesn't say '%s'", spec, err.msg, part);
	assert_null(be);
}

static int heap(void *ctx, uint64_t len, void **mem, struct gla *at, struct vio_err *err)
{
	struct rig_env *e = ctx;

	if (len > e->limit)
		return vio_err_set(err, -ENOMEM, "needs %llu bytes", (unsigned long long)len);
	e->mem = malloc(len);
	assert_non_null(e->mem);
	*mem = e->mem;
	*at = (struct gla){0x100000};
	return 0;
}

void rig_env_init(struct rig_env *e, uint64_t limit)
{
	*e = (struct rig_env){.env = {heap, e}, .limit = limit};
}

void rig_env_free(struct rig_env *e)
{
	free(e->mem);
	e->mem = NULL;
}

uint64_t rig_random(struct rig *g)
{
	g->rng ^= g->rng << 13;
	g->rng ^= g->rng >> 7;
	g->rng ^= g->rng << 17;
	return g->rng;
}

uint8_t *rig_piece(struct rig *g, unsigned i)
{
	return g->mem + (size_t)i * RIG_PIECE;
}

struct vio_io *rig_req(struct rig *g, unsigned i, enum vio_io_op io, uint64_t off, uint64_t len,
		       unsigned askew)
{
	struct vio_io *r = &g->req[i];

	memset(r, 0, sizeof(*r));
	r->iov = g->iov[i];
	r->op = (uint8_t)io;
	r->offset = off;
	r->length = len;
	r->result = 12345; /* the backend has to set it */
	if (io == VIO_IO_READ || io == VIO_IO_WRITE) {
		r->n_iov = 1;
		r->iov[0] = (struct iovec){rig_piece(g, i) + askew, len};
	}
	return r;
}

void rig_run(struct rig *g, struct vio_io *const r[], unsigned n)
{
	uint64_t end = vio_now_ns() + PATIENCE_NS;
	struct vio_io *done[RIG_DEPTH];
	unsigned got = g->be->ops->submit(g->bq, r, n, done);

	assert_true(got <= n);
	while (got < n) {
		unsigned more = g->be->ops->poll(g->bq, done, n - got);

		assert_true(more <= n - got);
		got += more;
		if (more == 0 && vio_now_ns() > end)
			fail_msg("%u of %u requests don't come back", n - got, n);
	}
	for (unsigned i = 0; i < n; i++)
		assert_int_not_equal(r[i]->result, 12345);
	assert_int_equal(g->be->ops->poll(g->bq, done, RIG_DEPTH), 0);
}

int rig_one(struct rig *g, enum vio_io_op io, uint64_t off, uint64_t len)
{
	struct vio_io *r = rig_req(g, 0, io, off, len, 0);

	rig_run(g, &r, 1);
	return r->result;
}

/* Cut the request's memory into several iovs, with gaps between them. */
static void scatter(struct rig *g, unsigned i, const struct rig_mix *mix)
{
	struct vio_io *r = &g->req[i];
	uint64_t left = r->length, want = 1 + rig_random(g) % mix->max_iov, pos = 0;
	unsigned n = 0;

	if (mix->askew)
		pos = mix->askew + rig_random(g) % 8 * mix->askew;
	while (left > 0) {
		uint64_t len = left / mix->cut;

		len = n + 1 < want && len > 1 ? (1 + rig_random(g) % (len - 1)) * mix->cut : left;
		r->iov[n++] = (struct iovec){rig_piece(g, i) + pos, len};
		left -= len;
		pos += len;
		if (pos + left + 4096 <= RIG_PIECE && rig_random(g) % 2)
			pos += mix->askew ? mix->askew : 4096 - pos % 4096;
	}
	r->n_iov = (uint8_t)n;
}

/* A random request inside region i of the disk. */
static void make(struct rig *g, unsigned i, const struct rig_mix *mix)
{
	uint64_t region = g->be->size / RIG_DEPTH / g->be->block_size,
		 max = mix->longest / g->be->block_size;
	uint64_t first = rig_random(g) % region, len = 1 + rig_random(g) % (region - first);
	unsigned dice = (unsigned)(rig_random(g) % 20);
	enum vio_io_op io = dice < 9 ? VIO_IO_READ : dice < 18 ? VIO_IO_WRITE : VIO_IO_FLUSH;

	if (mix->ranges && dice == 17)
		io = g->be->can_discard ? VIO_IO_DISCARD : VIO_IO_WRITE;
	if (mix->ranges && dice == 16)
		io = g->be->can_zero ? VIO_IO_ZERO : VIO_IO_WRITE;
	if (len > max)
		len = max;
	rig_req(g, i, io, (i * region + first) * g->be->block_size, len * g->be->block_size, 0);
	if (io == VIO_IO_FLUSH)
		g->req[i].offset = g->req[i].length = 0;
	if (io == VIO_IO_READ || io == VIO_IO_WRITE)
		scatter(g, i, mix);
}

/* Fill the memory of a write, or dirty that of a read; tell the shadow. */
static void prepare(struct rig *g, struct vio_io *r, uint8_t *shadow)
{
	uint8_t *at = shadow + r->offset;

	for (unsigned k = 0; k < r->n_iov; k++) {
		uint8_t *p = r->iov[k].iov_base;
		uint64_t x = rig_random(g);

		for (size_t b = 0; b < r->iov[k].iov_len; b++)
			p[b] = (uint8_t)((x >> b % 57) + b * 3);
		if (r->op == VIO_IO_WRITE)
			memcpy(at, p, r->iov[k].iov_len);
		at += r->iov[k].iov_len;
	}
	if (r->op == VIO_IO_DISCARD || r->op == VIO_IO_ZERO)
		memset(shadow + r->offset, 0, r->length);
}

static void check(const struct rig *g, const struct vio_io *r, const uint8_t *shadow)
{
	const uint8_t *at = shadow + r->offset;
	const unsigned i = (unsigned)(r - g->req);

	if (r->result)
		fail_msg("request %u (io %u, %llu+%llu): %d", i, r->op,
			 (unsigned long long)r->offset, (unsigned long long)r->length, r->result);
	for (unsigned k = 0; k < r->n_iov; k++) {
		if (memcmp(at, r->iov[k].iov_base, r->iov[k].iov_len) != 0)
			fail_msg("request %u (io %u, %llu+%llu): iov %u of %u differs", i, r->op,
				 (unsigned long long)r->offset, (unsigned long long)r->length, k,
				 r->n_iov);
		at += r->iov[k].iov_len;
	}
}

void rig_shadow(struct rig *g, const struct rig_mix *mix)
{
	uint8_t *shadow = calloc(1, g->be->size);
	struct vio_io *r[RIG_DEPTH];
	uint64_t off, len;

	assert_non_null(shadow);
	for (off = 0; off < g->be->size; off += len) {
		len = g->be->size - off < VIO_MAX_DATA ? g->be->size - off : VIO_MAX_DATA;
		assert_int_equal(rig_one(g, VIO_IO_READ, off, len), 0);
		memcpy(shadow + off, rig_piece(g, 0), len);
	}
	for (unsigned done = 0; done < mix->ops / RIG_FEWER; done += RIG_DEPTH) {
		for (unsigned i = 0; i < RIG_DEPTH; i++) {
			make(g, i, mix);
			prepare(g, &g->req[i], shadow);
			r[i] = &g->req[i];
		}
		rig_run(g, r, RIG_DEPTH);
		for (unsigned i = 0; i < RIG_DEPTH; i++)
			check(g, r[i], shadow);
	}
	for (off = 0; off < g->be->size; off += len) {
		len = g->be->size - off < VIO_MAX_DATA ? g->be->size - off : VIO_MAX_DATA;
		assert_int_equal(rig_one(g, VIO_IO_READ, off, len), 0);
		if (memcmp(shadow + off, rig_piece(g, 0), len) != 0)
			fail_msg("the disk differs behind %llu", (unsigned long long)off);
	}
	free(shadow);
}
