/* SPDX-License-Identifier: BSD-3-Clause */
/* DPDK's environment, started with arguments of our own making. Main thread only. */
#ifndef VIO_SERVER_EAL_H
#define VIO_SERVER_EAL_H

#include <stdbool.h>
#include <stdio.h>

#include "vio/err.h"

struct vio_eal_cfg {
	const char *prefix;   /* of the runtime directory */
	const unsigned *core; /* processors; lcore i runs on core[i], lcore 0 is this thread */
	unsigned n_cores;
	bool no_huge;
	unsigned mib; /* plain pages: how much; hugepages are taken when they are needed */
	bool one_file; /* hugepages in one file: what shares them with another process has few files to name */
	const char *const *pci; /* addresses of devices on the PCI bus; none: it is not looked at */
	unsigned n_pci;
	FILE *log; /* for DPDK's messages; NULL: standard error */
};

#define VIO_EAL_MIB 8 /* enough for telemetry and the switch's addresses */

/* Free 2 MiB pages on this machine, 0 when there are none or they can't be counted. */
unsigned long vio_eal_free_hugepages(void);
/* -errno with a sentence. Once in a process. Its runtime directory is removed at exit. */
int vio_eal_start(const struct vio_eal_cfg *cfg, struct vio_err *err);
/* Where DPDK's messages go from now on; NULL: standard error. */
void vio_eal_log(FILE *log);

#endif
