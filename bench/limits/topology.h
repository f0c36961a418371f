/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which two cores an experiment runs on, chosen by hwloc. One function for all programs of bench/,
 * so that limits and workloads are measured on the same pair. No state; any thread.
 *
 * "CPU" is one hardware thread, numbered as the operating system does (what taskset and
 * pthread_setaffinity_np take). "Core" is a physical core, which has one or more CPUs.
 */
#ifndef VIO_BENCH_TOPOLOGY_H
#define VIO_BENCH_TOPOLOGY_H

#include <hwloc.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vio/err.h"

/* The answer. Sizes in bytes. */
struct bench_cores {
	unsigned guest_core; /* CPU of the guest partition */
	unsigned
		server_core; /* CPU of the VIO server; equal to guest_core when one CPU is all there is */
	unsigned n_cpus;  /* CPUs that this process may use */
	unsigned n_cores; /* physical cores they belong to */
	bool smt;         /* some of these cores has more than one CPU */
	bool smt_siblings; /* the two chosen CPUs are threads of one core: a bad pair, only when there is no other */
	bool l3_visible;  /* the topology shows an L3 (virtual machines may hide it) */
	bool l3_shared;   /* the two chosen CPUs are under one L3; false when l3_visible is */
	bool numa_shared; /* the two chosen CPUs are of one NUMA node */
	int numa_node;    /* node of the guest CPU; -1 when the topology has none */
	uint64_t l1_bytes, l2_bytes,
		l3_bytes; /* data or unified caches above the guest CPU; 0 when not visible */
	char reason[256]; /* one sentence: why this pair */
};

/*
 * Load this machine's topology and the set of CPUs on which the calling thread may run. The caller
 * releases both with bench_topology_free(). -ENODEV when hwloc can't read the machine.
 */
int bench_topology_load(hwloc_topology_t *topo, hwloc_bitmap_t *allowed, struct vio_err *err);
void bench_topology_free(hwloc_topology_t topo, hwloc_bitmap_t allowed);

/*
 * Choose two CPUs among `allowed` (NULL: all of the topology). In this order: different physical
 * cores, one NUMA node, one L3, not CPU 0 and then not a thread of its core (Linux puts interrupts
 * and housekeeping there) when there are more than two CPUs, lowest numbers.
 *
 * 0: two CPUs. 1: only one CPU is allowed; guest_core == server_core. -ENODEV: none of `allowed` is
 * in the topology.
 */
int bench_topology_choose(hwloc_topology_t topo, hwloc_const_cpuset_t allowed,
			  struct bench_cores *out, struct vio_err *err);

/*
 * Describe a pair that a person asked for (--cores). Returns as bench_topology_choose() does (1:
 * both are the same CPU), -EINVAL when this process may not run on one of them.
 */
int bench_topology_describe(hwloc_topology_t topo, hwloc_const_cpuset_t allowed, unsigned guest_cpu,
			    unsigned server_cpu, struct bench_cores *out, struct vio_err *err);

/* The JSON object that bench-topology prints; a new reference, NULL without memory. */
json_t *bench_cores_json(const struct bench_cores *c);

#endif
