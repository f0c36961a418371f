/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole in-process machine with one server queue and a hand-driven guest ring, for the tests of
 * the server's data path. The guest's driver here is a handful of stores, so that it can also do
 * what a correct driver never does.
 */
#ifndef VIO_TEST_SERVER_WORLD_H
#define VIO_TEST_SERVER_WORLD_H

#include "server/head/adapter.h"
#include "server/dev/blk/blk.h"
#include "server/payload/payload.h"
#include "server/ring/ring.h"
#include "vq/mock.h"

/* The guest's memory, by guest-logical address. */
#define W_CRQ      0x1000ull
#define W_DESC     0x10000ull  /* TCE_READ */
#define W_AVAIL    0x20000ull  /* TCE_READ */
#define W_USED     0x30000ull  /* TCE_WRITE | TCE_READ */
#define W_EVENT    0x38000ull  /* with it */
#define W_BUF      0x100000ull /* TCE_READ | TCE_WRITE, up to W_RO */
#define W_RO       0x800000ull /* TCE_READ, 1 MiB */
#define W_HOLE     0x900000ull /* nothing mapped from here on */
#define W_DISK_LEN (4ull << 20)

struct w_backend {
	struct vio_backend be;
	uint8_t *disk;
	struct gla disk_gla;
	bool async;     /* finish in poll() */
	int fail;       /* result of every request */
	int fail_flush; /* ... of flushes */
	int fail_poll;  /* ... of those that finish in poll() */
	struct vio_io *held[1024];
	unsigned n_held;
	unsigned submits; /* requests that came */
	enum vio_io_op last_io;
	uint64_t last_off, last_len;
	bool last_unmap;
	enum vio_io_op seen[64]; /* what came, in order, as far as there is room */
};

struct w_cfg {
	enum vio_ring_access ring;
	enum vio_payload payload;
	enum vio_notification notify;
	uint16_t size;
	bool event_idx, indirect;
	bool at;        /* the backend's disk is server memory */
	uint64_t local; /* bytes of local memory; 0 = 4 MiB */
	uint16_t start; /* value of all indices at the start */
	uint64_t
		layout; /* features that choose it; a packed ring is at W_USED, its events at W_AVAIL (driver) and W_EVENT (device) */
};

struct world {
	struct phyp_machine *m;
	struct phyp_part *sp, *gp;
	struct phyp_vcpu *sv, *gv;
	const struct phyp_unit_info *su, *gu;
	struct phyp_crq crq; /* the guest's */
	uint8_t *gmem;
	const struct vio_wtable *windows;
	struct vio_squeue *q;
	struct w_backend b;
	struct vio_backend_queue bq;
	struct vio_disk_queue dq;
	struct w_cfg cfg;
	/* The guest's ring: its driver, and where a split one lies. */
	struct mock ring;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
};

/* cmocka setup/teardown: *state is a struct world with the machine up and no queue. */
int w_setup(void **state);
int w_teardown(void **state);

/* A device over this store, until the next call. */
struct vio_device *w_disk(struct vio_backend *be);

/* A fresh queue (an earlier one is dropped). */
void w_queue(struct world *w, const struct w_cfg *cfg);
void w_drop(struct world *w);

/* I/O bus address of a guest-logical address, in the guest's window. */
struct ioba w_at(const struct world *w, uint64_t gla);
void w_desc(struct world *w, unsigned i, uint64_t gla, uint32_t len, unsigned flags, unsigned next);
/* Put a head into the next available entry; visible after w_publish(). */
void w_avail(struct world *w, uint16_t head);
void w_publish(struct world *w);
/* Tell the server's queue that a KICK arrived. */
void w_kick(struct world *w);
/* Next used element, if any; of a queue in order, whose element may stand for more chains, see mock_used(). */
bool w_used(struct world *w, uint32_t *id, uint32_t *len);
/* USED messages that arrived in the guest's CRQ. */
unsigned w_notifications(struct world *w);
/* Poll until an idle turn, at most 1000 turns. Returns requests moved. */
unsigned w_run(struct world *w);

/*
 * A block request: header at `hdr`, one data segment, status right after the header; descriptors
 * head, head+1, head+2.
 */
void w_blk(struct world *w, uint16_t head, uint32_t type, uint64_t sector, uint64_t hdr,
	   uint64_t data, uint32_t len);

/* Counter `op` of the server's vcpu. */
uint64_t w_hcalls(const struct world *w, uint64_t op);
uint64_t w_rdma_bytes(const struct world *w);

#endif
