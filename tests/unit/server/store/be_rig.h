/* SPDX-License-Identifier: BSD-3-Clause */
/* A backend on the bench: one queue, memory that plays the guest's, and requests made by hand. */
#ifndef VIO_TEST_BE_RIG_H
#define VIO_TEST_BE_RIG_H

#include "server/store/backend.h"

#define RIG_DEPTH 32
/* Each request has its own piece of the guest's memory: the largest request, and room to lie askew in it. */
#define RIG_PIECE (VIO_MAX_DATA + 65536u)

struct rig {
	struct vio_backend *be;
	struct vio_backend_queue *bq;
	uint8_t *mem; /* RIG_DEPTH * RIG_PIECE, shared memory as a guest's */
	struct vio_io *req;
	struct iovec iov[RIG_DEPTH][VIO_IO_MAX_IOV]; /* req[i]'s */
	uint64_t rng;
	char dir[64]; /* of this rig alone; removed with it */
};

/* Sanitizers make each request ten times as long, and one queue has one thread: fewer of the random ones. */
#if defined(__SANITIZE_THREAD__)
#define RIG_FEWER 8
#elif defined(__SANITIZE_ADDRESS__)
#define RIG_FEWER 2
#else
#define RIG_FEWER 1
#endif

/* How to lay the data of random requests into memory. */
struct rig_mix {
	unsigned ops;
	unsigned max_iov;
	unsigned
		askew; /* memory starts at a multiple of this plus something odd; 0: page aligned */
	unsigned cut;  /* iovs are multiples of this */
	uint32_t longest; /* bytes */
	bool ranges;      /* discard (must read as zeroes) and write-zeroes too */
};

void rig_start(struct rig *g); /* directory, memory, requests */
void rig_stop(struct rig *g);  /* all of it, and what rig_open opened */
/* At the end of the program: directories that failed tests have left. */
void rig_sweep(void);
/* Open backend and queue; fails the test when it can't. */
void rig_open(struct rig *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void rig_close(struct rig *g);
/* The backend must refuse, with `rc` and a sentence that has `part` in it. rc 0: any error. */
void rig_refused(const char *spec, int rc, const char *part);
/* An env whose server memory is the heap: at most `limit` bytes. Freed by rig_env_free. */
struct rig_env {
	struct vio_backend_env env;
	uint64_t limit;
	void *mem;
};
void rig_env_init(struct rig_env *e, uint64_t limit);
void rig_env_free(struct rig_env *e);

uint64_t rig_random(struct rig *g);
/* Request i: its data is `len` bytes of its piece of memory, in one iov, from `askew` on. */
struct vio_io *rig_req(struct rig *g, unsigned i, enum vio_io_op io, uint64_t off, uint64_t len,
		       unsigned askew);
uint8_t *rig_piece(struct rig *g, unsigned i);
/* Run n requests (at once) to their end; fails the test when that doesn't come. */
void rig_run(struct rig *g, struct vio_io *const r[], unsigned n);
/* One request, and its result. */
int rig_one(struct rig *g, enum vio_io_op io, uint64_t off, uint64_t len);
/* Random requests, RIG_DEPTH at a time and not overlapping, against a copy in memory; then the whole disk. */
void rig_shadow(struct rig *g, const struct rig_mix *mix);

#endif
