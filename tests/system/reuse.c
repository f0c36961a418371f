/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that uses its buffers for something else in the moment when it gets them back, however it gets
 * them back: bytes 0xEE, which no request of it ever carries, must then never reach the disk.
 *
 *     reuse SOCKET ARM death       writes until the machine goes: each buffer whose request ends in an error
 *     reuse SOCKET ARM rescind MS  after so many ms all pages are taken back by force: each, when that has succeeded
 *
 * Exit code 0: buffers were reused; 3: the machine went before anything was outstanding; 1: failed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <linux/virtio_blk.h>

#include "guest/dev/blk/blk.h"
#include "vio/cycles.h"

#define DEPTH   32u
#define LEN     (64u << 10)
#define FOREIGN 0xee
#define GRANTS  256u

struct recorder {
	struct phyp_filter filter;
	uint64_t cookie[GRANTS];
	unsigned n;
};

struct reuse {
	struct phyp_part *part;
	struct phyp_vcpu *vcpu; /* for calls beside the disk's */
	struct vio_blk *b;
	struct recorder grants;
	struct vio_blk_req req[DEPTH];
	bool due[DEPTH]; /* to be submitted */
	unsigned reused;
};

static int64_t record(struct phyp_filter *self, struct phyp_vcpu *vcpu, uint64_t op,
		      const uint64_t args[PHYP_REGS], uint64_t ret[PHYP_REGS])
{
	struct recorder *r = (struct recorder *)(void *)self;
	int64_t rc = phyp_filter_next(self, vcpu, op, args, ret);

	if (op == H_GRANT_LOGICAL && rc == H_SUCCESS && r->n < GRANTS)
		r->cookie[r->n++] = ret[0];
	return rc;
}

static uint8_t *bytes_of(struct reuse *u, const struct vio_blk_req *r)
{
	return phyp_mem(u->part, r->buf, LEN);
}

/* Request i anew, with bytes that say which. */
static void again(struct reuse *u, unsigned i)
{
	struct vio_blk_req *r = &u->req[i];

	memset(bytes_of(u, r), (int)(1 + i), LEN);
	r->type = VIRTIO_BLK_T_OUT;
	r->len = LEN;
	r->sector = (uint64_t)i * (LEN / 512);
	u->due[i] = true;
}

/* Those that are due, as far as they are taken: none by a disk whose server has gone, which the next poll finds out. */
static void submit_due(struct reuse *u)
{
	for (unsigned i = 0; i < DEPTH; i++) {
		struct vio_blk_req *r = &u->req[i];

		if (u->due[i])
			u->due[i] = vio_blk_submit(u->b, 0, &r, 1) == 0;
	}
}

static void foreign(struct reuse *u, const struct vio_blk_req *r)
{
	memset(bytes_of(u, r), FOREIGN, LEN);
	u->reused++;
}

static int reuse_open(struct reuse *u, const char *arm, struct vio_mem *mem, struct vio_err *err)
{
	struct vio_blk_cfg cfg = {.transport = {.strict_arm = true, .num_queues = 1},
				  .max_len = LEN,
				  .depth = DEPTH,
				  .buffers_len = DEPTH * (uint64_t)LEN,
				  .spin_ns = 50000,
				  .idle_ns = UINT64_MAX};
	int rc = vio_arm_parse(arm, &cfg.transport.arm, err);

	if (rc == 0)
		rc = phyp_vcpu_create(u->part, &u->vcpu, err);
	u->grants.filter.hcall = record;
	phyp_filter_push(u->part, &u->grants.filter);
	vio_mem_init(mem, u->part);
	if (rc == 0)
		rc = vio_blk_open(u->part, mem, &cfg, &u->b, err);
	for (unsigned i = 0; i < DEPTH && rc == 0; i++)
		rc = vio_blk_alloc(u->b, LEN, &u->req[i].buf, err);
	return rc;
}

/* Until a request ends in an error, or `end`. */
static void write_until(struct reuse *u, uint64_t end)
{
	struct vio_blk_req *done[DEPTH];
	int n;

	for (unsigned i = 0; i < DEPTH; i++)
		again(u, i);
	for (;;) {
		submit_due(u);
		n = vio_blk_poll(u->b, 0, done, DEPTH);
		if (n < 0 || vio_now_ns() >= end)
			return;
		for (int i = 0; i < n; i++) {
			if (done[i]->result == 0)
				again(u, (unsigned)(done[i] - u->req));
			else
				foreign(u, done[i]);
		}
		if (n == 0)
			vio_blk_idle(u->b, 0, 1000000);
	}
}

static void take_all(struct reuse *u)
{
	for (unsigned i = 0; i < u->grants.n; i++) {
		int64_t rc;

		do
			rc = h_rescind_logical(u->vcpu, RESCIND_FORCED, u->grants.cookie[i]);
		while (rc == H_PARTIAL || phyp_rc_busy(rc));
	}
	for (unsigned i = 0; i < DEPTH; i++)
		foreign(u, &u->req[i]);
}

int main(int argc, char **argv)
{
	const struct timespec while_it_would_land = {.tv_nsec = 300000000};
	static struct reuse u;
	struct vio_err err = {{0}};
	struct vio_mem mem;

	if (argc < 4)
		return 2;
	if (phyp_connect(argv[1], "guest0", &u.part, &err) || reuse_open(&u, argv[2], &mem, &err)) {
		fprintf(stderr, "reuse: %s\n", err.msg);
		return 1;
	}
	puts("writing");
	fflush(stdout);
	if (argc > 4) {
		write_until(&u, vio_now_ns() + strtoull(argv[4], NULL, 10) * 1000000ull);
		take_all(&u);
	} else {
		write_until(&u, UINT64_MAX);
	}
	nanosleep(&while_it_would_land, NULL);
	printf("%u reused\n", u.reused);
	return u.reused ? 0 : 3;
}
