/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole machine for a fuzzer: hypervisor, VIO server with two disks, an honest guest and one that does what the
 * input says. One process and one thread; a turn of the server's lcores is a call. The machine is made once and lives for all
 * inputs; its partitions are opened and closed for each, after which it has to be as new.
 */
#ifndef VIO_TESTS_FUZZ_WORLD_H
#define VIO_TESTS_FUZZ_WORLD_H

#include <signal.h>
#include <string.h>

#include <linux/virtio_blk.h>

#include "proto/fsm.h"
#include "server/head/adapter.h"
#include "server/dev/blk/blk.h"
#include "tests/fuzz/fuzz.h"
#include "vio/cycles.h"
#include "vq/mock.h"

/* A guest's memory, by logical address. Up to FW_MAPPED it has TCEs, 1:1. */
#define FW_CRQ    0x1000ull
#define FW_HEADER 0x2000ull
#define FW_CONFIG 0x3000ull
#define FW_WDESC  0x4000ull
#define FW_LIST   0x5000ull /* of TCEs */
#define FW_DESC                                                                                    \
	0x10000ull /* descriptor table and available ring, with the packed ring's driver's word */
#define FW_AVAIL       0x11000ull
#define FW_USED        0x12000ull /* and the packed ring's device's word */
#define FW_BUF         0x100000ull
#define FW_BUFLEN      0x40000ull
#define FW_MAPPED      0x200000ull
#define FW_PRIVATE     0x300000ull /* nobody else's, FW_PRIVATE_LEN bytes */
#define FW_PRIVATE_LEN 0x10000ull
#define FW_ENTRIES     16u
#define FW_QUEUES      2u
#define FW_SHARE       (2ull << 20) /* server memory of an adapter */
#define FW_DISK        65536u

enum { FW_HONEST, FW_HOSTILE, FW_GUESTS };

struct fw_world;

/* One guest, and the server's end of its adapter. */
struct fw_side {
	struct fw_world *w;
	const char *name;
	struct phyp_part *part;
	struct phyp_vcpu *vcpu;
	const struct phyp_unit_info *u, *far; /* its unit; the server's */
	uint8_t *mem;
	struct phyp_crq crq;
	struct vio_link link;
	struct vio_gfsm fsm;
	struct vio_msg last; /* that came */
	unsigned messages;
	unsigned step; /* of the way up: fw_step() */
	uint8_t ring, payload, notify;
	bool packed, in_order;
	uint64_t cookie[8];
	unsigned n_cookies;
	struct mock queue;
	/* The server's. */
	struct vio_adapter *adapter;
	struct vio_backend *store;
	struct vio_disk disk;
	struct vio_squeue *polled[FW_QUEUES];
};

struct fw_world {
	struct phyp_machine *m;
	struct phyp_part *server;
	struct phyp_vcpu *vcpu;
	uint8_t *mem;     /* the server's */
	uint64_t mem_top; /* above: disks */
	uint64_t turn;
	struct fw_side side[FW_GUESTS];
};

/* All partitions are open and the server waits for its guests. The handler of faults is the server program's. */
struct fw_world *fw_open(void);
/* Everything ended, checked. */
void fw_close(struct fw_world *w);

void fw_turn(struct fw_world *w);
/* Turns until nobody has anything to do, and both guests have taken their messages. */
void fw_settle(struct fw_world *w);
void fw_server_open(struct fw_side *s);
void fw_server_close(struct fw_side *s);
void fw_guest_open(struct fw_side *s);
/* Its partition dies and another begins. */
void fw_guest_die(struct fw_side *s);

/* A message as it is. */
int64_t fw_send(struct fw_side *s, struct vio_msg m);
/* The next thing that a correct driver does on its way up. False: it is up. */
bool fw_step(struct fw_side *s);
bool fw_up(const struct fw_side *s);
/* Header, one segment, status; made available, not published. slot < 4 */
void fw_request(struct fw_side *s, uint32_t type, uint64_t sector, unsigned slot);
void fw_publish(struct fw_side *s);
/* Of a side that is up and honest: a sector is written and read again. */
void fw_verify(struct fw_side *s, uint8_t pattern);

#endif
