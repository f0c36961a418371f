/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A scripted VIO server for tests of the guest's side: one thread in the server partition of an
 * in-process machine. It speaks the protocol through proto's server state machine and reaches the
 * guest by RDMA only. What it does wrong, and when, is set by the test. The disk survives a death
 * of the server, as a disk does.
 */
#ifndef VIO_TEST_GUEST_FAKE_SERVER_H
#define VIO_TEST_GUEST_FAKE_SERVER_H

#include <pthread.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "guest/dma/mem.h"
#include "proto/fsm.h"
#include "vio/arm.h"
#include "vio/atomics.h"
#include "vq/mock.h"

#define FS_DISK_BYTES (2ull << 20)
#define FS_SECTORS    (FS_DISK_BYTES / 512)
#define FS_MAX_LOG    4096

struct fake_server;

/* A device other than the disk: what the scripted server asks of it. Each call is made by the server's thread. */
struct fs_device {
	uint8_t type;
	uint64_t (*offer)(const struct fake_server *s);
	uint16_t (*config)(const struct fake_server *s, uint8_t *config); /* its bytes */
	bool (*serves)(const struct fake_server *s,
		       unsigned queue); /* chains are handled as they come */
	/* A chain of such a queue: the device's bytes in it; returns used length. */
	uint32_t (*chain)(struct fake_server *s, unsigned queue, const struct vring_desc *d,
			  unsigned n);
	void (*reset)(struct fake_server *s);
};

/* The test's knobs: set before fs_start(), or while it runs through vio_store_relaxed(). */
struct fs_knobs {
	const struct fs_device *dev; /* NULL: the disk */
	void *dev_state;
	uint8_t version;               /* 0 = 2 */
	uint8_t ring, payload, notify; /* masks; 0 = all but unchecked */
	uint64_t drop_features;        /* not offered */
	uint16_t queues, size;         /* 0 = 4 queues of 64 */
	uint64_t sectors;              /* 0 = FS_SECTORS */
	uint32_t size_max, seg_max, block_size;
	bool read_only;
	uint8_t identity, flags; /* of struct vio_dev_header_tail: its first byte; 0: not known */
	uint32_t mute;           /* this op is not answered */
	uint32_t mute_init;      /* nor INIT */
	uint32_t refuse_windows; /* enum vio_status for each WINDOW_ADD */
	uint32_t keep_grants;    /* never returned: a server that does not let go */
	uint32_t hold;           /* takes no chain */
	uint32_t sleepy;         /* level poll: asleep between kicks, as after an idle time */
	uint32_t no_status;      /* the next n requests are completed without a status byte */
	uint32_t bad_used;       /* the next n used elements carry an id that is not outstanding */
	uint32_t
		stop_device; /* the next n chains are answered with NEEDS_RESET instead of being done */
	uint32_t fail_io; /* status IOERR for the next n */
	uint32_t deaf;    /* does not look at its CRQ */
	uint32_t say;     /* fs_say() */
	uint16_t say_arg;
	uint8_t say_status;
};

struct fs_queue {
	bool ready, kicked;
	bool gone; /* a read failed: the guest is being torn down */
	uint16_t size;
	struct mock ring; /* reached by RDMA */
	struct fake_server *s;
	struct ioba part[3];
	uint8_t have;
};

struct fs_window {
	bool used;
	uint16_t id;
	struct vio_window_desc d;
	uint64_t cookie;
	struct gla at;
};

/* One request as the server saw it, in the order of the available ring. */
struct fs_seen {
	uint32_t type, len, session;
	uint64_t sector;
	uint8_t queue, n_data;
};

struct fake_server {
	struct phyp_machine *m;
	struct phyp_part *part;
	struct phyp_vcpu *vcpu;
	const struct phyp_unit_info *u;
	pthread_t thread;
	bool running;
	uint32_t quit;
	struct fs_knobs k;
	uint8_t *mem, *disk;
	uint8_t *
		store; /* the disk while there is no server: a partition's memory does not outlive it */

	struct phyp_crq crq;
	struct vio_link link;
	struct vio_sfsm fsm;
	struct ioba header, config_at;
	struct fs_queue q[VIO_MAX_QUEUES];
	struct fs_window w[512];
	uint16_t next_window;
	uint8_t ring, payload, notify;
	uint64_t features;

	/* For the test; counters are relaxed atomics, the log is read when the server stands still. */
	uint64_t kicks, used_sent, done, sessions, windows_ok, inits;
	uint32_t n_log, n_ops;
	struct fs_seen log[FS_MAX_LOG];
	uint8_t ops[FS_MAX_LOG]; /* what arrived, for the sequence of the slides */
};

/* Machine with partitions "vios" and "guest0"; the guest's is opened too. */
struct fs_world {
	struct phyp_machine *m;
	struct phyp_part *gp;
	struct vio_mem mem;
	struct fake_server s;
};
void fw_setup(struct fs_world *w, uint32_t guest_mib);
/* The same with larger TCE pages: 12, 16 or 21. */
void fw_setup_tce(struct fs_world *w, uint32_t guest_mib, uint8_t page_shift);
/*
 * Guest and server are closed by it when they still are open; every TCE of the guest's window must
 * be 0 then.
 */
void fw_teardown(struct fs_world *w);
/* TCEs of the guest's window that are not 0. */
unsigned fw_tces(struct fs_world *w, struct phyp_vcpu *v);

/* Opens partition "vios", starts the thread. */
void fs_start(struct fake_server *s);
/* The thread ends, the partition stays: everything can be looked at. */
void fs_stand_still(struct fake_server *s);
/* Send one message out of the blue. */
void fs_say(struct fake_server *s, uint8_t op, uint16_t arg, uint8_t status);

/* For devices: the server's thread only. */
struct ioba fs_addr(const struct vring_desc *d);
bool fs_rdma_read(struct fake_server *s, struct ioba at, void *dst, uint32_t len);
bool fs_rdma_write(struct fake_server *s, struct ioba at, const void *src, uint32_t len);
/* Between guest memory and [stage, +len) of 512 KiB of the server's. */
bool fs_rdma_copy(struct fake_server *s, struct ioba guest, uint32_t stage, uint32_t len,
		  bool to_guest);
uint8_t *fs_stage(struct fake_server *s);
/* The next available chain without taking it: descriptors, 0 when there is none. */
unsigned fs_peek(struct fake_server *s, unsigned queue, unsigned ahead, struct vring_desc *d,
		 unsigned max, uint16_t *head);
/* Take `n` chains that were peeked at, in order, and publish them together. */
void fs_complete(struct fake_server *s, unsigned queue, const uint16_t *head, const uint32_t *len,
		 unsigned n);

/* As a process that ends well: CRQ freed. */
void fs_stop(struct fake_server *s);
/* As a process that is killed. */
void fs_kill(struct fake_server *s);

#define fs_set(s, knob, v) vio_store_release(&(s)->k.knob, (v))
#define fs_get(s, field)   vio_load_acquire(&(s)->field)

#endif
