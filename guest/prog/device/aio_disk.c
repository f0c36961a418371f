/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A block device of the kernel behind the disk front end's calls (guest/dev/blk/blk.h), so that the load of vio-blk, not a copy of it, runs on
 * whatever disk a Linux guest has. Linux AIO by system calls, O_DIRECT: a request reaches the driver as it was given. One queue,
 * one thread; a guest-logical address is a pointer here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/prog/device/aio_disk.h"
#include "vio/cycles.h"

#define MAX_DEPTH 1024u

struct vio_blk {
	int fd;
	aio_context_t ctx;
	struct vio_blk_info info;
	struct iocb cb[MAX_DEPTH];
	struct vio_blk_req *in[MAX_DEPTH]; /* of each iocb; NULL: free */
	struct vio_blk_req
		*done[MAX_DEPTH]; /* finished, not yet taken by poll: oldest first from `first` */
	unsigned n_done, first, outstanding;
};

/* ------------------------------------------------------------ what the load asks of a partition ---- */

void *phyp_mem(const struct phyp_part *part, struct gla a, uint64_t len)
{
	(void)part;
	(void)len;
	return (void *)(uintptr_t)a.v;
}

uint64_t phyp_tick_hz(const struct phyp_part *part)
{
	(void)part;
	return vio_measure_tick_hz(20000000);
}

void phyp_watch_gaps(struct phyp_part *part, struct vio_gaps *gaps)
{
	(void)part;
	(void)gaps;
}

/* ------------------------------------------------------------------------------- the disk ---- */

static int size_of(int fd, const char *path, struct vio_blk_info *info, struct vio_err *err)
{
	uint64_t bytes = 0;
	struct stat st;
	int block = 512;

	if (fstat(fd, &st))
		return vio_err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (S_ISREG(st.st_mode))
		bytes = (uint64_t)st.st_size;
	else if (ioctl(fd, BLKGETSIZE64, &bytes) || ioctl(fd, BLKSSZGET, &block))
		return vio_err_set(err, -ENOTBLK, "%s: neither a block device nor a file", path);
	info->sectors = bytes / VIO_SECTOR;
	info->block_size = (uint32_t)block;
	return 0;
}

int vio_aio_disk_open(const char *path, uint32_t depth, bool write, struct vio_blk **out,
		      struct vio_err *err)
{
	struct vio_blk *b;
	int rc;

	if (depth == 0 || depth > MAX_DEPTH)
		return vio_err_set(err, -EINVAL, "--depth %u: 1 to %u", depth, MAX_DEPTH);
	b = calloc(1, sizeof(*b));
	if (!b)
		return vio_err_set(err, -ENOMEM, "no memory for the disk");
	b->fd = open(path, O_DIRECT | O_CLOEXEC | (write ? O_RDWR : O_RDONLY));
	if (b->fd < 0) {
		rc = vio_err_set(err, -errno, "%s can't be opened for direct I/O: %s", path,
				 strerror(errno));
		free(b);
		return rc;
	}
	rc = size_of(b->fd, path, &b->info, err);
	if (rc == 0 && syscall(SYS_io_setup, MAX_DEPTH, &b->ctx))
		rc = vio_err_set(err, -errno, "no AIO context: %s", strerror(errno));
	if (rc) {
		vio_aio_disk_close(b);
		return rc;
	}
	b->info.max_len = 1u << 20;
	b->info.num_queues = 1;
	b->info.depth = depth;
	b->info.queue_size = MAX_DEPTH;
	b->info.read_only = !write;
	b->info.can_flush = write;
	*out = b;
	return 0;
}

void vio_aio_disk_close(struct vio_blk *b)
{
	if (!b)
		return;
	if (b->ctx)
		syscall(SYS_io_destroy, b->ctx);
	close(b->fd);
	free(b);
}

const struct vio_blk_info *vio_blk_get_info(const struct vio_blk *b)
{
	return &b->info;
}

int vio_blk_alloc(struct vio_blk *b, uint32_t len, struct gla *at, struct vio_err *err)
{
	void *p;

	(void)b;
	if (posix_memalign(&p, 4096, len))
		return vio_err_set(err, -ENOMEM, "no memory for a buffer of %u bytes", len);
	*at = (struct gla){(uintptr_t)p};
	return 0;
}

/* ------------------------------------------------------------------------------- requests ---- */

static void put_done(struct vio_blk *b, struct vio_blk_req *r, int result)
{
	r->result = result;
	b->done[(b->first + b->n_done++) % MAX_DEPTH] = r;
}

static bool aio_fill(struct iocb *cb, int fd, const struct vio_blk_req *r)
{
	memset(cb, 0, sizeof(*cb));
	cb->aio_fildes = (uint32_t)fd;
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		cb->aio_lio_opcode = IOCB_CMD_PREAD;
		break;
	case VIRTIO_BLK_T_OUT:
		cb->aio_lio_opcode = IOCB_CMD_PWRITE;
		break;
	case VIRTIO_BLK_T_FLUSH:
		cb->aio_lio_opcode = IOCB_CMD_FDSYNC;
		return true;
	default:
		return false;
	}
	cb->aio_buf = r->buf.v;
	cb->aio_nbytes = r->len;
	cb->aio_offset = (int64_t)(r->sector * VIO_SECTOR);
	return true;
}

unsigned vio_blk_submit(struct vio_blk *b, unsigned q, struct vio_blk_req *const r[], unsigned n)
{
	struct iocb *list[MAX_DEPTH];
	unsigned taken = 0, n_list = 0;
	long rc;

	(void)q;
	for (unsigned slot = 0; taken < n && b->outstanding < b->info.depth; taken++) {
		while (b->in[slot])
			slot++;
		b->outstanding++;
		if (!aio_fill(&b->cb[slot], b->fd, r[taken])) {
			put_done(b, r[taken], -EINVAL);
			continue;
		}
		b->in[slot] = r[taken];
		b->cb[slot].aio_data = slot;
		list[n_list++] = &b->cb[slot];
	}
	for (unsigned k = 0; k < n_list; k += (unsigned)rc) {
		rc = syscall(SYS_io_submit, b->ctx, (long)(n_list - k), list + k);
		if (rc > 0)
			continue;
		if (errno != EAGAIN) { /* this one is refused, those after it may not be */
			put_done(b, b->in[list[k]->aio_data], -errno);
			b->in[list[k]->aio_data] = NULL;
			rc = 1;
		} else {
			rc = 0;
		}
	}
	return taken;
}

static void collect(struct vio_blk *b, long at_least, uint64_t timeout_ns)
{
	struct timespec wait = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
				.tv_nsec = (long)(timeout_ns % 1000000000u)};
	struct io_event ev[64];
	long n = syscall(SYS_io_getevents, b->ctx, at_least, 64L, ev, &wait);

	for (long i = 0; i < n; i++) {
		struct vio_blk_req *r = b->in[ev[i].data];

		b->in[ev[i].data] = NULL;
		put_done(b, r, ev[i].res == (int64_t)r->len ? 0 : -EIO);
	}
}

int vio_blk_poll(struct vio_blk *b, unsigned q, struct vio_blk_req *done[], unsigned max)
{
	unsigned n = 0;

	(void)q;
	if (b->n_done == 0 && b->outstanding)
		collect(b, 0, 0);
	while (n < max && b->n_done) {
		done[n++] = b->done[b->first];
		b->first = (b->first + 1) % MAX_DEPTH;
		b->n_done--;
		b->outstanding--;
	}
	return (int)n;
}

void vio_blk_idle(struct vio_blk *b, unsigned q, uint64_t timeout_ns)
{
	(void)q;
	if (b->n_done == 0 && b->outstanding)
		collect(b, 1, timeout_ns);
}

bool vio_blk_away(const struct vio_blk *b)
{
	(void)b;
	return false;
}

unsigned vio_blk_outstanding(const struct vio_blk *b, unsigned q)
{
	(void)q;
	return b->outstanding;
}
