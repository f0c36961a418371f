/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/*
 * The second carrier of hypervisor calls: memory that a virtual machine and the hypervisor's process
 * share (BAR 2 of QEMU's ivshmem-doorbell). Bytes only. docs/linux-guest.md describes it, guest/carrier/
 * is the hypervisor's side, guest/linux/vio_hv.c the virtual machine's.
 *
 *   0x0000  struct vio_mb_head      written by the hypervisor
 *   0x1000  struct vio_mb_unit[]    written by the hypervisor, once
 *   0x4000  struct vio_mailbox[]    one a virtual processor
 *
 * All fields are little-endian. Each has one writer, and nothing is read, changed and written back: an
 * emulated processor's read-modify-write need not be one for the other process.
 *
 * A call: the caller writes op and args, then request = its last request + 1, then, after a full fence,
 * looks at `asleep` and rings doorbell 0 of peer VIO_MB_PEER if that is not 0. It has been answered when
 * answer == request; rc and ret are valid then. One call a mailbox at a time.
 *
 * Events: the hypervisor raises interrupt vector 0 when a CRQ has something new, or `up` changed. An
 * interrupt says "look", no more.
 */
#ifndef VIO_PROTO_MAILBOX_H
#define VIO_PROTO_MAILBOX_H

#include <assert.h>
#include <stdint.h>

#include "vio/papr.h"

#define VIO_MB_MAGIC   0x31786f626d6f6976ull /* "viombox1" */
#define VIO_MB_VERSION 1u
#define VIO_MB_BYTES   (1u << 20)
#define VIO_MB_UNITS   0x1000u
#define VIO_MB_BOXES   0x4000u
/* ivshmem's numbers of the two ends. */
#define VIO_MB_GUEST 0u
#define VIO_MB_PEER  1u

/*
 * Besides PAPR's calls, whose numbers are multiples of 4: the partition begins anew (its kernel booted,
 * or a driver takes the mailbox over). CRQs are freed, TCEs cleared, grants taken back by force; H_PARTIAL
 * as long as some of that is not done. No arguments.
 */
#define VIO_MB_OP_ANEW 1u

struct vio_mb_head {
	uint64_t magic; /* written last, when all else is there */
	uint32_t version;
	uint32_t n_boxes;
	uint32_t n_units;
	uint32_t pad;
	uint64_t mem_bytes;  /* of the partition; guest-logical address = guest-physical address */
	uint64_t lmb_bytes;  /* no grant may cross a multiple of it */
	uint64_t page_bytes; /* grants are multiples of it */
	/* Changes while the machine runs; each on a line of its own. */
	uint32_t up __attribute__((
		aligned(64))); /* 0: the hypervisor has gone, no call will be answered */
	uint32_t asleep __attribute__((aligned(64))); /* not 0: it has to be rung */
};

struct vio_mb_unit {
	uint32_t unit; /* unit address */
	uint32_t liobn;
	uint64_t window; /* first IOBA of its DMA window */
	uint64_t window_bytes;
	uint32_t page_shift; /* of TCEs */
	uint32_t client;     /* 1: a client end; 0: a server end */
	char partner[32];    /* terminated */
};
static_assert(sizeof(struct vio_mb_unit) == 64, "no padding");

struct vio_mailbox {
	/* The caller's. */
	uint32_t request;
	uint32_t pad0;
	uint64_t op;
	uint64_t args[PHYP_REGS];
	uint64_t pad1[5];
	/* The hypervisor's. */
	uint32_t answer;
	uint32_t pad2;
	int64_t rc;
	uint64_t ret[PHYP_REGS];
	uint64_t pad3[5];
};
static_assert(sizeof(struct vio_mailbox) == 256, "two halves of two lines");

#endif
