/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A server-side virtual adapter: one unit of the server partition, its CRQ, its device and queues.
 * The control path: everything here runs on one lcore (the adapter's), except what is marked.
 *
 * The adapter quiesces in steps, never waiting inside a call: stop the queues, let the backends
 * finish, let every lcore pass a quiescent state, unmap, answer. vio_adapter_service() makes
 * progress on it.
 */
#ifndef VIO_SERVER_ADAPTER_H
#define VIO_SERVER_ADAPTER_H

#include "proto/fsm.h"
#include "server/core/device.h"
#include "server/core/req.h"
#include "server/core/squeue.h"
#include "server/core/windows.h"

/* What the adapter needs of whoever runs the lcores (the DPDK program; a test's loop). */
struct vio_env {
	/*
	 * Give a queue to an lcore: set q->vcpu to the lcore's, then let it call vio_squeue_poll()
	 * from then on (pair L). Can't fail; wakes the lcore.
	 */
	void (*assign)(void *ctx, struct vio_squeue *q);
	/* Take it back: after the next quiescent state the lcore does not touch it. */
	void (*unassign)(void *ctx, struct vio_squeue *q);
	/* Has every lcore passed a quiescent state since `start` returned its token? Never blocks. */
	uint64_t (*quiesce_start)(void *ctx);
	bool (*quiesce_done)(void *ctx, uint64_t token);
	/* A line for the person (start, stop, refusal, NEEDS_RESET). Not the data path. */
	__attribute__((format(printf, 2, 3))) void (*say)(void *ctx, const char *fmt, ...);
	/* --trace: one line a message; NULL = off. */
	void (*trace)(void *ctx, const char *line);
	void *ctx;
};

struct vio_adapter_cfg {
	unsigned unit; /* index for phyp_unit() */
	struct vio_device *dev;
	uint16_t num_queues; /* 1..VIO_MAX_QUEUES offered */
	uint16_t queue_size; /* power of two */
	uint8_t proto;       /* highest version: 1 or 2 */
	/* Offered levels, bit masks of (1 << enum). Payload `unchecked` only when it is in the mask. */
	uint8_t ring_levels, payload_levels, notify_levels;
	/*
	 * Server partition memory [mem, mem+len) for CRQ, shadow rings and bounce buffers:
	 * TCE-mapped at `at`.
	 */
	void *mem;
	struct gla mem_gla;
	uint64_t mem_len;
};

/* State for reports; read with relaxed loads by telemetry. */
struct vio_adapter_info {
	uint32_t unit;
	char partner[PHYP_NAME_LEN];
	enum vio_sstate state;
	uint8_t version;
	uint8_t last_fault; /* enum vio_status of the last NEEDS_RESET */
	struct vio_arm arm; /* levels in force; mapping is the guest's affair and not known here */
	uint64_t features;
	uint16_t queues; /* active */
	unsigned windows;
	uint64_t window_bytes;
	uint64_t resets, needs_resets, link_losses;
};

/*
 * Make the adapter: map the local window 1:1 over the server partition's memory (TCEs), register
 * the CRQ, say INIT. -errno with a sentence. `vcpu`: of the adapter's lcore.
 */
int vio_adapter_create(struct phyp_vcpu *vcpu, const struct vio_adapter_cfg *cfg,
		       const struct vio_env *env, struct vio_adapter **out, struct vio_err *err);
/*
 * Start the end: tell the guest (windows lost: shutdown), quiesce. Then service until it returns 0,
 * then destroy.
 */
void vio_adapter_stop(struct vio_adapter *a);
/*
 * Frees everything; frees the CRQ (the guest sees "partner deregistered"). Quiesced, or the process
 * is ending.
 */
void vio_adapter_destroy(struct vio_adapter *a);

/* Drain the CRQ: call when the unit's interrupt was taken, and once after start. Messages handled. */
unsigned vio_adapter_crq(struct vio_adapter *a);
/*
 * Progress of quiescence, faults of queues -> NEEDS_RESET. Call each turn of the loop when
 * vio_adapter_busy(). Returns whether anything is outstanding.
 */
bool vio_adapter_service(struct vio_adapter *a);
/* Is there something to service? One load. */
bool vio_adapter_busy(const struct vio_adapter *a);
/* Config space is not what it was: it is written again and the guest is told, if it has any. Any thread. */
void vio_adapter_config_changed(struct vio_adapter *a);
/* Its queues have something to do of which no guest tells them: their lcores look. Any thread. */
void vio_adapter_wake(struct vio_adapter *a);
void vio_adapter_get_info(const struct vio_adapter *a, struct vio_adapter_info *info);
/*
 * This process touched `addr` and has no translation for it. True when `addr` is in a window whose
 * grant the guest took back by force: there is a page of nothing in its place now, the access may
 * go on, and the device will be stopped (NEEDS_RESET, VIO_ST_RESCINDED). gone (SIGBUS): the same when
 * the grant stands but its pages are not there. False: not our affair (a write to a read-only pane
 * is a mistake of this program). Async-signal-safe; on a thread that polls.
 */
bool vio_adapter_window_fault(struct vio_adapter *a, void *addr, bool gone);
/*
 * Active queues, for telemetry; NULL past the end. Any thread: the struct lives as long as the
 * adapter, and may be made anew while it is looked at, so only `index`, `size`, `in_flight`,
 * `fault` and `stats` may be read, with relaxed loads.
 */
const struct vio_squeue *vio_adapter_queue(const struct vio_adapter *a, unsigned i);

#endif
