/* SPDX-License-Identifier: BSD-3-Clause */
/* The disk inside nbdkit, from start to end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest/nbdkit/reactor.h"
#include "vio/cycles.h"

#define IDLE_NS 200000ull /* level poll: spin this long after the last request, then sleep */
/* phypd learns of vdisk_check()'s end after the process does: so long may the partition look taken, ns. */
#define BUSY_NS 2000000000ull

/* ------------------------------------------------------------------- start and end ---- */

static void disk_say(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "nbdkit-vio: %s\n", line);
}

int vdisk_check(const struct vdisk_cfg *cfg, struct vio_err *err)
{
	struct phyp_part *part;
	int rc = phyp_connect(cfg->socket, cfg->partition, &part, err);

	if (rc == 0)
		phyp_close(part);
	return rc;
}

static int connect_again(struct vdisk *d, const struct vdisk_cfg *cfg, struct vio_err *err)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000000};
	uint64_t end = vio_now_ns() + BUSY_NS;
	int rc;

	while ((rc = phyp_connect(cfg->socket, cfg->partition, &d->part, err)) == -EBUSY &&
	       vio_now_ns() < end)
		nanosleep(&pause, NULL);
	return rc;
}

static int make_lock(struct vdisk *d)
{
	pthread_rwlockattr_t a;
	int rc = pthread_rwlockattr_init(&a);

	if (rc)
		return -rc;
	/* Else a stream of whole blocks would keep a part of one waiting for ever. */
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	rc = pthread_rwlock_init(&d->whole, &a);
	pthread_rwlockattr_destroy(&a);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->settled, NULL);
	d->has_lock = rc == 0;
	return -rc;
}

static int start_disk(struct vdisk *d, const struct vdisk_cfg *cfg, struct vio_err *err)
{
	struct vio_blk_cfg b = {
		.transport = {.unit = cfg->unit,
			      .arm = cfg->arm,
			      .strict_arm = cfg->proto != VIO_PROTO_V1,
			      .proto = cfg->proto,
			      .num_queues = (uint16_t)cfg->queues,
			      .queue_size = 256,
			      .timeout_ms = 5000,
			      .say = disk_say,
			      .trace = cfg->trace ? stderr : NULL},
		.cache = cfg->cache,
		.max_len = VDISK_MAX_LEN,
		.depth = VDISK_DEPTH,
		.buffers_len = (uint64_t)VDISK_MAX_LEN * VDISK_DEPTH * cfg->queues,
		.spin_ns = 50000,
		.idle_ns = IDLE_NS,
		.give_way = vio_blk_one_core(),
	};
	unsigned n;
	int rc = connect_again(d, cfg, err);

	if (rc)
		return rc;
	if (cfg->fault) {
		rc = phyp_fault_create(cfg->fault, &d->fault, err);
		if (rc)
			return rc;
		phyp_filter_push(d->part, d->fault);
	}
	if (cfg->trace && (d->trace = phyp_trace_create(stderr, cfg->partition)))
		phyp_filter_push(d->part, d->trace);
	vio_mem_init(&d->mem, d->part);
	rc = vio_blk_open(d->part, &d->mem, &b, &d->blk, err);
	if (rc)
		return rc;
	n = vio_blk_get_info(d->blk)->num_queues;
	d->reactor = calloc(n, sizeof(*d->reactor));
	if (!d->reactor)
		return vio_err_set(err, -ENOMEM, "no memory for %u queues", n);
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		d->reactor[i].index = i;
		d->reactor[i].d = d;
		rc = reactor_start(&d->reactor[i], err);
		if (rc == 0)
			d->n_reactors++;
	}
	return rc;
}

int vdisk_start(struct vdisk *d, const struct vdisk_cfg *cfg, struct vio_err *err)
{
	int rc = make_lock(d);

	return rc ? vio_err_set(err, rc, "no lock for the disk") : start_disk(d, cfg, err);
}

void vdisk_stop(struct vdisk *d)
{
	unsigned left = 0;

	for (unsigned i = 0; i < d->n_reactors; i++)
		left += reactor_stop(&d->reactor[i]);
	if (left)
		fprintf(stderr,
			"nbdkit-vio: ends with %u request(s) that the VIO server has not finished; whether they are done is not known\n",
			left);
	if (d->blk)
		vio_blk_close(d->blk);
	if (d->part)
		phyp_close(d->part);
	phyp_trace_free(d->trace);
	phyp_fault_free(d->fault);
	free(d->reactor);
	if (d->has_lock) {
		pthread_rwlock_destroy(&d->whole);
		pthread_mutex_destroy(&d->lock);
		pthread_cond_destroy(&d->settled);
	}
	memset(d, 0, sizeof(*d));
}
