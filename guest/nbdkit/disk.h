/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's disk inside nbdkit, without nbdkit's side of it: queues with their threads, and
 * requests of any offset and length. Private to guest/nbdkit/.
 */
#ifndef VIO_GUEST_NBDKIT_DISK_H
#define VIO_GUEST_NBDKIT_DISK_H

#include <pthread.h>

#include "guest/dev/blk/blk.h"

#define VDISK_MAX_LEN (1u << 20) /* one virtio request's data, bytes; longer NBD requests are cut */
#define VDISK_DEPTH   16         /* requests in flight a queue; nbdkit has 16 threads by default */

struct reactor;

struct vdisk_cfg {
	const char *socket, *partition, *fault;
	struct vio_arm arm;
	unsigned unit, queues;
	uint8_t proto;
	bool trace;
	enum vio_blk_cache cache;
};

struct vdisk {
	struct phyp_part *part;
	struct vio_mem mem;
	struct vio_blk *blk;
	struct reactor *reactor;
	unsigned n_reactors;
	unsigned next; /* round robin over queues */
	struct phyp_filter *trace, *fault;
	/*
	 * Held for reading by what writes whole blocks, for writing by what reads a block, changes
	 * a part of it and writes it back: nothing may come between.
	 */
	pthread_rwlock_t whole;
	/* Requests that change the disk, were given up by who waited, and have not ended; under `lock`. */
	int unsettled;
	pthread_mutex_t lock; /* may be taken with a reactor's held */
	pthread_cond_t settled;
	bool has_lock; /* all of these are made */
};

/* Is the machine there, and the partition free? Before a fork: nothing stays open. -errno with a sentence. */
int vdisk_check(const struct vdisk_cfg *cfg, struct vio_err *err);
/* Connect, open the disk, start the threads. `d` is zeroed. After a failure too: vdisk_stop(). */
int vdisk_start(struct vdisk *d, const struct vdisk_cfg *cfg, struct vio_err *err);
/*
 * No client thread is in a call. Bounded: requests that were given up are left to the server, at
 * once when it is away, and how many is said on standard error.
 */
void vdisk_stop(struct vdisk *d);

/*
 * request.c: whole blocks of the disk; a thread of nbdkit's. 0, or -1 with nbdkit's errno and message
 * set. Each waits, also while the VIO server is away, but no longer than somebody wants the answer:
 * ESHUTDOWN when nbdkit ends or the client has gone. What was asked may then still be done, later;
 * no other request is begun before.
 * vdisk_transfer: `in` for VIRTIO_BLK_T_IN, `out` for _OUT, the other NULL. vdisk_range: DISCARD or
 * WRITE_ZEROES, `unmap` of the latter.
 */
int vdisk_transfer(struct vdisk *d, uint32_t type, void *in, const void *out, uint32_t count,
		   uint64_t offset);
int vdisk_range(struct vdisk *d, uint32_t type, bool unmap, uint32_t count, uint64_t offset);
int vdisk_flush(struct vdisk *d);
/* `whole`, for reading or (alone) for writing. */
int vdisk_lock(struct vdisk *d, bool alone);
void vdisk_unlock(struct vdisk *d);

/*
 * exact.c: the same for any offset and length inside of the disk, down to single bytes. Where a
 * block is written in part, the rest of it is kept, also against other threads of this disk. A trim
 * forgets whole blocks only.
 */
uint32_t vdisk_block(const struct vdisk *d); /* bytes: what the disk itself does in one piece */
int vdisk_read(struct vdisk *d, void *buf, uint32_t count, uint64_t offset);
int vdisk_write(struct vdisk *d, const void *buf, uint32_t count, uint64_t offset);
int vdisk_zero(struct vdisk *d, uint32_t count, uint64_t offset, bool unmap);
int vdisk_trim(struct vdisk *d, uint32_t count, uint64_t offset);

#endif
