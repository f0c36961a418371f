/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * File backend, inside: file.c opens, file_probe.c asks what a
 * file can, file_lock.c who else has it, file_queue.c has rings and fixed buffers,
 * file_io.c the data path.
 *
 * A disk in a file has blocks of 512 bytes wherever the file lies, unless others are asked for; one
 * on a block device has the device's. O_DIRECT is used where it can do blocks of that size: so no
 * write ever has to read, change and write back a block that another queue may be writing too. What is left is memory that the kernel can't use for O_DIRECT as it
 * lies; such a request goes through an aligned buffer as a whole. Nothing is ever done through the
 * page cache beside O_DIRECT: the kernel doesn't keep the two coherent while requests are in flight
 * (open(2), "Applications should avoid mixing").
 */
#ifndef VIO_SERVER_BACKENDS_FILE_H
#define VIO_SERVER_BACKENDS_FILE_H

#include <liburing.h>
#include <sys/stat.h>

#include "server/store/priv.h"
#include "vio/err.h"

enum vio_file_direct { VIO_FILE_AUTO, VIO_FILE_ON, VIO_FILE_OFF };

/* What the file system asks for O_DIRECT, bytes, powers of two. offset_align 0: it doesn't take O_DIRECT. */
struct vio_file_dio {
	uint32_t offset_align; /* of offset and length */
	uint32_t mem_align;    /* of memory */
};

struct vio_file_mode {
	bool direct;
	uint32_t block_size;
	const char *why; /* static: why not O_DIRECT, for `what`; "" when there is nothing to say */
};

/*
 * How to serve a file of `size` bytes: what was asked for (block 0: not said, 512 if possible), and
 * what the file system can. With `auto` the page cache serves what O_DIRECT can't, with `on` larger
 * blocks are used if none were said, else that is -EINVAL with a sentence.
 */
int vio_file_choose(enum vio_file_direct want, uint32_t block, struct vio_file_dio dio,
		    uint64_t size, struct vio_file_mode *mode, struct vio_err *err);

/* What O_DIRECT asks for on this file. Leaves the descriptor without O_DIRECT. */
struct vio_file_dio vio_file_find_dio(int fd, bool regular);
bool vio_file_can_punch(int fd, const struct stat *st, uint64_t size);
/*
 * What disk format of other programs the file begins as, or NULL. Before O_DIRECT is set. For a
 * remark only: a guest can write what it likes there.
 */
const char *vio_file_format(int fd);
/* struct vio_backend's `physical`. */
uint32_t vio_file_physical(int fd, const struct stat *st);
/*
 * Which file it is: the same number for the same one, whenever it is opened. *by_name: the system tells no more than a
 * number that is used again (of an inode, of a device) when the file is gone.
 */
uint64_t vio_file_hash(int fd, const struct stat *st, bool *by_name);

/*
 * file_lock.c. Be one of those that have the file open, for as long as the descriptor is, and keep
 * out whom that excludes: who writes excludes all others, who reads those who write. -EBUSY: *why
 * says who is in the way; -ENOLCK: the file system has no such locks. Nothing is locked then.
 */
int vio_file_lock(int fd, bool write, const char **why);
void vio_file_unlock(int fd);

/*
 * How to zero a range; each is tried when the one before has answered EOPNOTSUPP. The first gives
 * space back, and is only for those who may; the others keep or take it.
 */
enum vio_file_zero { VIO_FILE_PUNCH_HOLE, VIO_FILE_ZERO_RANGE, VIO_FILE_WRITE_ZEROES };

struct vio_file {
	struct vio_backend be; /* first */
	int fd;
	dev_t dev; /* which file it is */
	ino_t ino;
	bool direct;
	uint32_t mem_align; /* with O_DIRECT */
	bool regular;       /* a file, which others can cut short; else a block device */
	uint8_t no_zero;    /* bits of (1 << enum vio_file_zero) that need not be tried */
	void *zeroes; /* VIO_FILE_ZEROES bytes, read-only, page aligned: for disks that can't zero */
	unsigned flush_failed; /* flushes that did; relaxed */
	unsigned
		told; /* the line about fixed buffers has been said; by whichever queue comes first */
};
#define VIO_FILE_ZEROES VIO_MAX_DATA

/* So long the kernel may refuse to take requests before they fail, ns. */
#define VIO_FILE_PATIENCE_NS 1000000000ull

/* Windows of one queue are cut into pieces: the kernel's limit for one fixed buffer. */
#define VIO_FILE_FIXED_MAX (1ull << 30)
/* Fixed buffers of one queue: every window there can be, and the pieces of some large ones. */
#define VIO_FILE_FIXED 2048

struct vio_file_fixed {
	uint8_t *va;
	uint64_t len;
	uint16_t index; /* in the ring's table */
};

/* A request that the kernel has. */
struct vio_file_slot {
	struct vio_io *r;
	void *buffer;  /* the aligned one, or NULL */
	uint64_t done; /* bytes */
	uint32_t tries;
	unsigned flush_failed; /* FLUSH: of the file, when it began */
	uint8_t zero;          /* enum vio_file_zero that is being tried */
};

struct vio_file_queue {
	struct vio_backend_queue bq; /* first */
	struct vio_file *f;
	struct io_uring ring;
	unsigned depth, n_free;
	uint64_t fixed_max; /* VIO_FILE_FIXED_MAX; a test makes it small */
	/* Bits of (1 << enum vio_file_zero) that this file is known not to take. */
	uint8_t no_zero;
	bool fixed_file; /* the ring holds the file: no reference counting per request */
	bool fixed_bufs; /* the ring has a table for them */
	unsigned n_fixed, n_fixed_free, hint;
	struct vio_be_list waiting; /* for an aligned buffer */
	struct vio_be_list failed;  /* the kernel did not take them; poll gives them back */
	uint64_t refused_ns;        /* since when it takes nothing; 0: it does */
	bool said_refused;
	struct vio_file_slot *slot; /* depth of them */
	uint16_t *
		free; /* indices of those not in use; the last one given back is the next one taken */
	struct iovec (*rest)[VIO_IO_MAX_IOV]; /* one a slot: what is left after a short transfer */
	struct vio_file_fixed *fixed;         /* sorted by va */
	uint16_t *fixed_free;                 /* n_fixed_free indices of the ring's table */
	struct vio_be_buffers buffers;
	/* For tests and reports; written by the owning lcore. */
	uint64_t n_fixed_io, n_plain_io, n_buffered;
};

static inline struct vio_file_queue *vio_file_queue_of(struct vio_backend_queue *bq)
{
	return vio_container_of(bq, struct vio_file_queue, bq);
}

/* The slots of struct vio_backend_ops with these names (backend.h). */
int vio_file_queue_open(struct vio_backend *be, unsigned depth, struct vio_backend_queue **out,
			struct vio_err *err);
void vio_file_queue_close(struct vio_backend_queue *bq);
void vio_file_window_add(struct vio_backend_queue *bq, void *va, uint64_t len, bool writable);
void vio_file_window_del(struct vio_backend_queue *bq, void *va, uint64_t len);
/* The fixed buffer that [p, p+len) lies in, -1 when in none. */
int vio_file_find_fixed(struct vio_file_queue *q, const void *p, uint64_t len);
unsigned vio_file_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			 struct vio_io *done[]);
unsigned vio_file_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max);
/* A ring with `entries`, with the flags that this kernel knows. -errno. */
int vio_file_ring(unsigned entries, struct io_uring *ring);

#endif
