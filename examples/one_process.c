/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The smallest guest and the smallest VIO server, in one process on the in-process machine: a null
 * disk, one queue, 1,000 reads in each of the two designs, and what the hypervisor counted for it.
 * No daemon, no root, no DPDK.
 *
 *	one-process [ARM...]		arms as `vio-blk --arm` takes them; default: copy zero-copy
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "guest/dev/blk/blk.h"
#include "server/head/adapter.h"
#include "server/dev/blk/blk.h"

#define READS 1000u
#define BYTES 4096u

/* ---- the server: one lcore, one adapter, at most one queue ---- */

struct server {
	struct phyp_part *part;
	struct phyp_vcpu *vcpu;
	struct vio_adapter *adapter;
	struct vio_backend *disk;
	struct vio_disk device;
	struct vio_squeue *queue; /* NULL until the guest says DRIVER_OK */
	uint64_t turn;
	int stop; /* written by the guest's thread */
};

static void assign(void *ctx, struct vio_squeue *q)
{
	struct server *s = ctx;

	q->vcpu = s->vcpu;
	s->queue = q;
}

static void unassign(void *ctx, struct vio_squeue *q)
{
	(void)q;
	((struct server *)ctx)->queue = NULL;
}

/* Nothing of a turn outlives it here, so every turn is a quiescent state. */
static uint64_t quiesce_start(void *ctx)
{
	return ((struct server *)ctx)->turn;
}

static bool quiesce_done(void *ctx, uint64_t token)
{
	return ((struct server *)ctx)->turn > token;
}

static void say(void *ctx, const char *fmt, ...)
{
	(void)ctx;
	(void)fmt;
}

/* server/dpdk/lcore.c is this loop with sleeping, several adapters and several lcores. */
static void *serve(void *arg)
{
	struct server *s = arg;

	vio_adapter_crq(s->adapter);
	while (!vio_load_acquire(&s->stop)) {
		s->turn++;
		if (phyp_irq_take(s->vcpu))
			vio_adapter_crq(s->adapter); /* messages: the handshake, and kicks */
		if (s->queue)
			vio_squeue_poll(s->queue); /* the data path */
		if (vio_adapter_busy(s->adapter))
			vio_adapter_service(s->adapter);
		if (s->turn % 64 == 0)
			sched_yield(); /* the guest may share this core */
	}
	return NULL;
}

static int server_open(struct server *s, struct phyp_machine *m, struct vio_err *err)
{
	const struct vio_env env = {assign, unassign, quiesce_start, quiesce_done, say, NULL, s};
	struct vio_adapter_cfg cfg = {.num_queues = 1,
				      .queue_size = 256,
				      .proto = VIO_PROTO_V2,
				      .ring_levels = (1u << VIO_N_RING) - 1,
				      .payload_levels = (1u << VIO_N_PAYLOAD) - 1,
				      .notify_levels = (1u << VIO_N_NOTIFY) - 1,
				      .mem_len = 16u << 20};
	int rc = phyp_local_open(m, "vios", &s->part, err);

	if (rc == 0)
		rc = phyp_vcpu_create(s->part, &s->vcpu, err);
	if (rc == 0)
		rc = vio_backend_open("null,size=64M", &(struct vio_backend_env){0}, &s->disk, err);
	if (rc)
		return rc;
	vio_disk_init(&s->device, s->disk);
	cfg.dev = &s->device.dev;
	cfg.mem = phyp_mem(s->part, cfg.mem_gla, cfg.mem_len);
	return vio_adapter_create(s->vcpu, &cfg, &env, &s->adapter, err);
}

/* ---- the guest ---- */

static int read_disk(struct vio_blk *b, struct vio_err *err)
{
	struct vio_blk_req r = {.type = VIRTIO_BLK_T_IN, .len = BYTES}, *submit = &r, *done;
	int rc = vio_blk_alloc(b, BYTES, &r.buf, err);

	for (unsigned i = 0; rc == 0 && i < READS; i++) {
		int n = 0;

		r.sector = i * (BYTES / VIO_SECTOR);
		vio_blk_submit(b, 0, &submit, 1);
		while (n == 0) {
			n = vio_blk_poll(b, 0, &done, 1);
			if (n == 0)
				vio_blk_idle(b, 0, 100000);
		}
		rc = n < 0 ? n : r.result;
	}
	return rc;
}

static uint64_t calls(const struct phyp_counters *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(c->hcall); i++)
		n += c->hcall[i];
	return n;
}

static int run(const char *arm, struct vio_err *err)
{
	struct vio_blk_cfg cfg = {
		.transport = {.strict_arm = true, .proto = VIO_PROTO_V2, .num_queues = 1},
		.buffers_len = 1u << 20,
		.spin_ns = 50000,
		.idle_ns = UINT64_MAX};
	struct server s = {0};
	struct phyp_profile profile;
	struct phyp_machine *m;
	struct phyp_part *guest;
	struct vio_blk *b;
	struct vio_mem mem;
	pthread_t lcore;
	uint64_t before;
	int rc = vio_arm_parse(arm, &cfg.transport.arm, err);

	if (rc)
		return rc;
	phyp_profile_default(&profile, 1, 32, 32);
	rc = phyp_local_create(&profile, &m, err);
	if (rc == 0)
		rc = server_open(&s, m, err);
	if (rc == 0)
		rc = phyp_local_open(m, "guest0", &guest, err);
	if (rc == 0)
		rc = -pthread_create(&lcore, NULL, serve, &s);
	if (rc)
		return rc; /* the process ends */
	vio_mem_init(&mem, guest);
	rc = vio_blk_open(guest, &mem, &cfg, &b, err); /* the slides' sequence */
	if (rc == 0) {
		before = calls(vio_blk_counters(b, 0));
		rc = read_disk(b, err);
		printf("%-12s %u reads of %u bytes: %llu hypercalls of the guest\n", arm, READS,
		       BYTES, (unsigned long long)(calls(vio_blk_counters(b, 0)) - before));
		vio_blk_close(b);
	}
	vio_store_release(&s.stop, 1);
	pthread_join(lcore, NULL);
	phyp_close(guest);
	vio_adapter_destroy(s.adapter);
	vio_backend_close(s.disk);
	phyp_close(s.part);
	phyp_local_destroy(m);
	return rc;
}

int main(int argc, char **argv)
{
	static char *both[] = {"copy", "zero-copy"};
	char **arm = argc > 1 ? argv + 1 : both;
	struct vio_err err = {""};

	for (int i = 0; i < (argc > 1 ? argc - 1 : 2); i++) {
		int rc = run(arm[i], &err);

		if (rc) {
			fprintf(stderr, "one-process: %s: %s\n", arm[i],
				err.msg[0] ? err.msg : "a read failed");
			return EXIT_FAILURE;
		}
	}
	return EXIT_SUCCESS;
}
