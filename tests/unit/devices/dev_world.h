/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole guest and a whole server in one process, on the in-process machine: the server's thread runs one adapter with
 * a device of any kind, the test is the guest.
 */
#ifndef VIO_TEST_DEV_WORLD_H
#define VIO_TEST_DEV_WORLD_H

#include <pthread.h>

#include "guest/dev/buffered.h"
#include "server/head/adapter.h"

#define DW_QUEUE_SIZE 64

struct dev_world {
	struct phyp_machine *m;
	struct phyp_part *sp, *gp;
	struct vio_mem mem; /* of the guest */
	struct phyp_vcpu *sv;
	const struct vio_dev_kind *kind;
	struct vio_device *dev;
	struct vio_adapter *a;
	struct vio_squeue *q[VIO_MAX_QUEUES];
	unsigned n_q;
	uint64_t turn;
	pthread_t thread;
	int stop;      /* atomic */
	char dir[64];  /* of this world */
	char path[96]; /* in it */
};

/* The arms in which everything is tried: each level of each factor at least once. */
extern const char *const dw_arms[];
extern const unsigned dw_n_arms;

/* Machine and server; spec: the device's. */
void dw_start(struct dev_world *w, const struct vio_dev_kind *kind, const char *spec);
void dw_stop(struct dev_world *w);
/* The server dies and comes back, with a new device of the same spec. The guest keeps what it has. */
void dw_server_again(struct dev_world *w, const char *spec);
/* What a front end wants, with this arm. */
struct vio_buffered_cfg dw_cfg(const char *arm);
/* Numbers that the device shows. 0 when it shows none of the name. */
uint64_t dw_shown(const struct dev_world *w, const char *name);

#endif
