/* SPDX-License-Identifier: BSD-3-Clause */
/* One guest and its server in one process, in any arm, and the trace that all arms are compared by. */
#ifndef VIO_TESTS_PARITY_PAIR_H
#define VIO_TESTS_PARITY_PAIR_H

#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "guest/dev/blk/blk.h"
#include "server/head/adapter.h"
#include "server/dev/blk/blk.h"
#include "vio/cycles.h"

#define DISK_BYTES (4u << 20)
#define TRACE_LEN  600
#define DEPTH      8
#define MAX_LEN    (64u << 10)
#define QUEUE_SIZE 64
#define SHORT_DISK "memory,size=4M,short=on"

struct server {
	struct phyp_part *part;
	struct phyp_vcpu *vcpu;
	struct vio_backend *be;
	struct vio_disk disk;
	struct vio_adapter *a;
	struct vio_squeue *q[VIO_MAX_QUEUES];
	unsigned n_q;
	uint64_t turn, mem_next;
	pthread_t thread;
	int stop; /* atomic */
	/* the used ring as the guest's memory has it at the end */
	uint8_t used[8 * QUEUE_SIZE];
	bool have_used, packed;
};

struct outcome {
	int result[TRACE_LEN];
	uint64_t sum[TRACE_LEN]; /* of what a read brought */
	uint64_t disk;           /* of the whole disk afterwards */
	uint8_t used[8 * QUEUE_SIZE];
};

/* One guest and its server. */
struct pair {
	struct phyp_machine *m;
	struct server *s;
	struct phyp_part *gp;
	struct vio_mem mem;
	struct vio_blk_cfg cfg;
	struct vio_blk *b;
};

/* text: "ARM" or "ARM/indirect", the arm and the features that the rest asks for; disk: as vios' --disk; pool_len: as struct vio_blk_cfg's. */
void pair_up(struct pair *p, const char *text, const char *disk, uint64_t pool_len);
/* The server's thread runs. */
void pair_down(struct pair *p);
/* The next completed request. */
void wait_one(struct vio_blk *b, struct vio_blk_req **done);
/* A request, alone, and its result. */
void one(struct pair *p, uint32_t type, uint64_t sector, struct gla buf, uint32_t len, int result);
/* The trace in an arm; shorts: of requests shorter than a sector. */
void run_arm(const char *text, bool shorts, struct outcome *o);
/* The copy arm's outcome; the caller's to free. */
struct outcome *reference(bool shorts);
/* Fails unless both are the same. */
void compare(const char *name, const struct outcome *want, const struct outcome *got);

#endif
