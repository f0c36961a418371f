/* SPDX-License-Identifier: BSD-3-Clause */
/* Command line of the server program. No DPDK here. */
#ifndef VIO_SERVER_OPTIONS_H
#define VIO_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/sandbox.h"
#include "server/core/device.h"
#include "vio/err.h"
#include "vio/phyp.h"

#define VIO_SERVER_MAX_LCORES  PHYP_MAX_VCPUS
#define VIO_SERVER_MAX_UPLINKS 8

struct vio_server_opts {
	const char *socket, *partition;
	unsigned core[VIO_SERVER_MAX_LCORES];       /* processor numbers, no one twice */
	unsigned n_cores;                           /* 0: choose one */
	struct vio_dev_list devices;                /* in the order of the adapters */
	const char *uplink[VIO_SERVER_MAX_UPLINKS]; /* DEVARGS[,port options] */
	unsigned n_uplinks;
	const char *
		vdev[VIO_SERVER_MAX_UPLINKS]; /* DPDK devices that an uplink is made of (bonding) */
	unsigned n_vdevs;
	uint16_t queues, queue_size;
	uint8_t ring_levels, payload_levels, notify_levels; /* masks of (1 << level) */
	uint8_t proto;
	uint64_t spin_ns;
	uint64_t idle_ns; /* UINT64_MAX: never sleep while a queue is polled */
	bool unprotected, no_huge, trace;
	const char *prefix; /* of DPDK's files: where telemetry is found */
	const char *duet;   /* FILE,slot=N of a score, or NULL */
	bool gap_look;
	const char *fault; /* NULL: none */
	int ready_fd;      /* -1: none */
	struct vio_sandbox sandbox;
};

/*
 * 0; 1: --help or --version was printed; -EINVAL with a sentence. Strings point into argv. Called
 * once, before any thread exists.
 */
int vio_server_opts_parse(struct vio_server_opts *o, int argc, char **argv, struct vio_err *err);

/* "0,2-4" to processor numbers. -EINVAL with a sentence. */
int vio_parse_cores(const char *text, unsigned core[], unsigned max, unsigned *n,
		    struct vio_err *err);
/* "ring=copy+direct,payload=rdma": the factors that are named get exactly these levels; the others stay. */
int vio_parse_allow(const char *text, struct vio_server_opts *o, struct vio_err *err);

#endif
