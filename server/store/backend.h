/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Backends: what a disk is made of. One file each: null.c, memory.c, file.c, nbd.c, and one line in
 * table.c. They take work as struct vio_io and know neither queues of a guest nor virtio.
 */
#ifndef VIO_SERVER_BACKEND_H
#define VIO_SERVER_BACKEND_H

#include "server/store/io.h"
#include "vio/err.h"
#include "vio/number.h"
#include "vio/types.h"

struct vio_backend_ops;

/* rerror=, werror=: what the device does when the store fails a request (server/dev/blk/blk_stop.c). */
enum vio_on_error {
	VIO_ON_ERROR_REPORT,
	VIO_ON_ERROR_STOP,
	VIO_ON_ERROR_ENOSPC, /* stop at ENOSPC, report others */
};

/*
 * What requests have failed of, by errno: how often, and what was said of it. Atomics; written by
 * the queues' lcores, read by telemetry.
 */
#define VIO_BACKEND_ERRNOS 134 /* Linux's last is 133; one that is not known counts as EIO */
struct vio_backend_errors {
	struct vio_backend_error {
		uint64_t n, said; /* failures, and how many of them a line has told of */
		uint64_t next;    /* ns: no other line before */
	} of[VIO_BACKEND_ERRNOS];
};

/*
 * A disk. Embedded first in each backend's own struct. Shared by its queues; immutable while queues
 * are open.
 */
struct vio_backend {
	const struct vio_backend_ops *ops;
	uint64_t
		size; /* bytes, multiple of 512; relaxed: vio_backend_resize() lets it grow at any time */
	uint32_t
		block_size; /* logical block, bytes: requests must be multiples. 512 or more; less: vio_spec_short() */
	uint32_t
		physical; /* what it works in itself, bytes, a power of two; 0: block_size. A hint only */
	bool read_only;
	bool touches_data; /* false: null, and reports say so */
	bool can_discard, can_zero, can_flush;
	bool can_unmap;     /* a ZERO with r->unmap may give space back */
	bool write_through; /* the device's; relaxed: a write is answered when it is flushed */
	bool cache_off; /* cache=writethrough: what write_through is until the driver says otherwise */
	uint8_t rerror, werror; /* enum vio_on_error: the device's, of reads and of all else */
	uint16_t max_queues;    /* at once; 0: any number */
	/* What an earlier server had in flight may still be executed: guests must not send it again. */
	bool unfenced;
	/* Which disk it is: another one of the same shape has another. Zero: not known. */
	uint8_t identity[20];
	bool by_name; /* ... and is a name's only: that a larger one under it is the same does not follow */
	char id[20];    /* GET_ID string, zero-padded */
	char what[160]; /* for messages and reports: "file /tmp/x.img, O_DIRECT" */
	/* Lines for people, without the newline. Any thread; must not wait. NULL: standard error. */
	void (*say)(void *ctx, const char *line);
	void *say_ctx;
	/* The store has seen by itself that it is larger, and size says so. Any thread; may be NULL. */
	void (*grown)(void *ctx);
	void *grown_ctx;
	struct vio_backend_errors errors;
};

/* One queue's handle on a disk: embedded first. Used by one lcore at a time. */
struct vio_backend_queue {
	struct vio_backend *be;
};

struct vio_backend_env {
	/*
	 * Memory backend: room for `len` bytes in the server partition's memory, TCE-mapped in
	 * `adapter`'s local window; -ENOMEM when the partition is too small (the sentence says how
	 * much it needs). NULL for other embodiments.
	 */
	int (*server_memory)(void *ctx, uint64_t len, void **mem, struct gla *at,
			     struct vio_err *err);
	void *ctx;
	/* struct vio_backend's; NULL: standard error. */
	void (*say)(void *ctx, const char *line);
	void *say_ctx;
	/* Disks of this server that are open already; entries may be NULL. */
	struct vio_backend *const *others;
	unsigned n_others;
};

struct vio_backend_ops {
	const char *name;  /* word on the command line: NAME[,key=value...] */
	const char *usage; /* its keys, one line */
	/* `spec`: what follows the name. -ENOENT, -EINVAL, -ENOSPC ... with a sentence. Not the data path. */
	int (*open)(const char *spec, const struct vio_backend_env *env, struct vio_backend **out,
		    struct vio_err *err);
	void (*close)(struct vio_backend *be); /* every queue is closed */
	int (*queue_open)(struct vio_backend *be, unsigned depth, struct vio_backend_queue **out,
			  struct vio_err *err);
	void (*queue_close)(struct vio_backend_queue *bq); /* nothing in flight */
	/*
	 * Optional: this range of server-visible guest memory will be in iovs until window_del
	 * (register it as a fixed buffer). Called on the queue's lcore with nothing in flight. A
	 * failure only means the slow way; say it once.
	 */
	void (*window_add)(struct vio_backend_queue *bq, void *va, uint64_t len, bool writable);
	void (*window_del)(struct vio_backend_queue *bq, void *va, uint64_t len);
	/*
	 * Optional: does a request in flight use the range? Any thread; asked when no new one can.
	 * A backend that has it gets window_add and window_del on the adapter's lcore with other
	 * requests in flight: the first before the range is used, the second when it is no more.
	 * For requests that may be away for long (pair Y).
	 */
	bool (*window_busy)(struct vio_backend_queue *bq, const void *va, uint64_t len);
	/*
	 * Memory-like backends: address of the disk's bytes [off, off+len) in server memory and its
	 * offset in the server partition's logical space; the payload level then moves the data
	 * itself and submit is not called for read and write. NULL op for others.
	 */
	void *(*at)(struct vio_backend *be, uint64_t off, uint64_t len, struct gla *logical);
	/*
	 * Optional: what size would be if the disk were opened now. -errno. May wait. Any thread, one at a
	 * time.
	 */
	int (*look_size)(struct vio_backend *be, uint64_t *size);
	/*
	 * Start `n` requests. A ZERO answers 0 only when a read gives zeroes afterwards; without
	 * r->unmap the range keeps its space, with it the disk gives space back where it can. A
	 * DISCARD promises nothing about the bytes. Those finished at once go to
	 * done[]; returns their number; r->result is set for them. Others come from poll(). Takes
	 * all of them always (in flight is bounded by `depth`).
	 */
	unsigned (*submit)(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			   struct vio_io *done[]);
	/* Optional: the queue ends; what waits in the store for better times is to end in the next polls. */
	void (*give_up)(struct vio_backend_queue *bq);
	unsigned (*poll)(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max);
};

extern const struct vio_backend_ops vio_backend_null, vio_backend_memory, vio_backend_file,
	vio_backend_nbd;

/* "NAME[,key=value...]", e.g. "memory,size=256M", "file,path=/x.img", "nbd,uri=nbd+unix:///?socket=/s". */
int vio_backend_open(const char *text, const struct vio_backend_env *env, struct vio_backend **out,
		     struct vio_err *err);
void vio_backend_close(struct vio_backend *be);
/*
 * Look how large the disk is. 1: it has grown, and be->size says so (the guest is still to be told); 0: it is
 * as it was. -ENOSPC: it has become smaller, which is said; be->size stays, for the guest counts on
 * it: what lies behind the end fails. -EOPNOTSUPP: its size can't change. May wait; any thread, one at a
 * time; queues may be polled.
 */
int vio_backend_resize(struct vio_backend *be);
/*
 * The disk has answered r with r->result, a negative errno: counted, and said, once in 10 s for each
 * errno, with how many others there were. Owning lcore; no system call but a clock's.
 */
void vio_backend_failed(struct vio_backend *be, const struct vio_io *r);
/* Only counted; the number of them now. */
uint64_t vio_backend_count(struct vio_backend *be, int result);
/* One line for the person who runs the server. For what happens once, never once a request. */
void vio_backend_say(const struct vio_backend *be, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* "read", "write", "flush", "discard", "write zeroes" of an enum vio_io_op. */
const char *vio_io_op_name(uint8_t op);
/* One line a backend, for --help. NULL past the end. */
const char *vio_backend_usage(unsigned i);

/*
 * For backends: take the value of `key` out of "a=1,b=2" into buf. 1 found, 0 not, -EINVAL (too
 * long). And: refuse keys not in the NULL-terminated list, -EINVAL with a sentence that names the
 * bad one and the good ones.
 */
int vio_spec_get(const char *spec, const char *key, char *buf, size_t len);
int vio_spec_check(const char *backend, const char *spec, const char *const keys[],
		   struct vio_err *err);

#endif
