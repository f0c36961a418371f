/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk in the server partition's own memory. The payload level moves the data between it and the
 * guest (at()); what comes through submit() is the rest, and read and write of a caller that has
 * iovs of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "server/store/priv.h"
#include "vio/cycles.h"

struct memory {
	struct vio_backend be; /* first */
	uint8_t *mem;          /* the partition's: nothing to free */
	struct gla at;
};

static struct memory *of(struct vio_backend *be)
{
	return vio_container_of(be, struct memory, be);
}

/* The same bytes for the same size, so that two servers started alike hold equal disks (xorshift64*). */
static void fill_random(void *mem, uint64_t len)
{
	uint64_t x = 0x9e3779b97f4a7c15ull, v;

	for (uint64_t off = 0; off < len; off += sizeof(v)) {
		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		v = x * 0x2545f4914f6cdd1dull;
		memcpy((uint8_t *)mem + off, &v, sizeof(v)); /* len is a multiple of 512 */
	}
}

static void memory_close(struct vio_backend *be)
{
	free(of(be));
}

static int memory_open(const char *spec, const struct vio_backend_env *env,
		       struct vio_backend **out, struct vio_err *err)
{
	static const char *const keys[] = {"size", "fill", "short", "serial", NULL},
				 *const fills[] = {"zero", "random", NULL};
	struct memory *m;
	unsigned random;
	uint64_t size, made;
	uint32_t block;
	char id[VIO_ID_LEN];
	void *mem = NULL;
	int rc = vio_spec_check("memory", spec, keys, err);

	if (rc == 0)
		rc = vio_spec_size("memory", spec, 0, &size, err);
	if (rc == 0)
		rc = vio_spec_word("memory", spec, "fill", fills, 0, &random, err);
	if (rc == 0)
		rc = vio_spec_short("memory", spec, &block, err);
	if (rc == 0)
		rc = vio_spec_serial("memory", spec, id, err);
	if (rc)
		return rc;
	if (!env || !env->server_memory)
		return vio_err_set(
			err, -EOPNOTSUPP,
			"backend memory: this program has no partition memory for a disk");
	m = calloc(1, sizeof(*m));
	if (!m)
		return vio_err_set(err, -ENOMEM, "backend memory: no memory");
	rc = env->server_memory(env->ctx, size, &mem, &m->at, err);
	if (rc) {
		free(m);
		return rc;
	}
	m->mem = mem;
	m->be = (struct vio_backend){
		.ops = &vio_backend_memory,
		.size = size,
		.block_size = block,
		.touches_data = true,
		.can_discard = true,
		.can_zero = true,
		.can_flush = true,
	};
	/* Either way every page is touched now, not by the first request. */
	if (random)
		fill_random(mem, size);
	else
		memset(mem, 0, size);
	if (!id[0])
		memcpy(id, "vio-memory", strlen("vio-memory"));
	vio_backend_make_id(&m->be, id, 0);
	made = vio_now_ns(); /* what it holds ends with it: the next one is another disk */
	vio_backend_identify(&m->be, &made, sizeof(made));
	snprintf(m->be.what, sizeof(m->be.what), "memory, %llu bytes, filled with %s%s",
		 (unsigned long long)size, random ? "random bytes" : "zeroes",
		 block < VIO_DISK_UNIT ? ", short requests (not VIRTIO)" : "");
	*out = &m->be;
	return 0;
}

static int memory_queue_open(struct vio_backend *be, unsigned depth, struct vio_backend_queue **out,
			     struct vio_err *err)
{
	struct vio_backend_queue *bq = calloc(1, sizeof(*bq));

	(void)depth;
	if (!bq)
		return vio_err_set(err, -ENOMEM, "backend memory: no memory");
	bq->be = be;
	*out = bq;
	return 0;
}

static void memory_queue_close(struct vio_backend_queue *bq)
{
	free(bq);
}

static void *memory_at(struct vio_backend *be, uint64_t off, uint64_t len, struct gla *logical)
{
	struct memory *m = of(be);

	if (vio_unlikely(!vio_range_ok(off, len, be->size)))
		return NULL;
	*logical = gla_add(m->at, off);
	return m->mem + off;
}

static int run(struct memory *m, struct vio_io *r)
{
	if (r->op == VIO_IO_FLUSH)
		return 0; /* as durable as it gets */
	if (!vio_range_ok(r->offset, r->length, m->be.size))
		return -EIO;
	switch (r->op) {
	case VIO_IO_READ:
		vio_be_scatter(r, m->mem + r->offset);
		return 0;
	case VIO_IO_WRITE:
		vio_be_gather(r, m->mem + r->offset);
		return 0;
	case VIO_IO_DISCARD:
	case VIO_IO_ZERO:
		memset(m->mem + r->offset, 0, r->length);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static unsigned memory_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			      struct vio_io *done[])
{
	for (unsigned i = 0; i < n; i++) {
		r[i]->result = run(of(bq->be), r[i]);
		done[i] = r[i];
	}
	return n;
}

static unsigned memory_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max)
{
	(void)bq;
	(void)done;
	(void)max;
	return 0;
}

const struct vio_backend_ops vio_backend_memory = {
	.name = "memory",
	.usage =
		"memory,size=64M[,fill=zero|random][,short=on][,serial=ID]    in the server partition's memory",
	.open = memory_open,
	.close = memory_close,
	.queue_open = memory_queue_open,
	.queue_close = memory_queue_close,
	.at = memory_at,
	.submit = memory_submit,
	.poll = memory_poll,
};
