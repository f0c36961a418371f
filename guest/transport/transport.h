/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio transport over CRQ, guest side (what virtio_vio.c is in the slides): CRQ registration and
 * handshake, device configuration, queues, windows, kicks. The configuration calls block (they wait
 * for the server's answer, at most cfg.timeout_ms); running calls don't.
 *
 * Threads: configuration and windows from the thread of the transport's vcpu (vio_transport_open(),
 * vio_transport_run_on()). What takes a vcpu (kick, poll, exposures) may be called by several
 * threads at once, each with its own vcpu: the CRQ is drained by whoever comes first (a try-lock),
 * and what arrives is kept in atomics.
 */
#ifndef VIO_GUEST_TRANSPORT_H
#define VIO_GUEST_TRANSPORT_H

#include <stdio.h>

#include "guest/dma/mem.h"
#include "guest/ring/vring.h"
#include "proto/fsm.h"
#include "vio/arm.h"

struct vio_transport_cfg {
	unsigned unit; /* index for phyp_unit(); a client end */
	struct vio_arm arm;
	bool strict_arm; /* -ENOTSUP when the server does not offer the arm; else fall back to copy and say so */
	uint8_t proto;       /* highest version spoken, 1 or 2 */
	uint8_t type;        /* virtio device id that the unit must have, else -ENODEV; 0 = any */
	uint64_t features;   /* device and ring features wanted; used = wanted & offered */
	uint16_t num_queues; /* wanted; fewer when the server has fewer */
	uint16_t
		queue_size; /* wanted, power of two; 0 = the server's largest. v1 always uses the server's */
	unsigned timeout_ms; /* of each step; 0 = 5000 */
	/*
	 * Config space has changed (CONFIG): vio_transport_config() may be called, nothing else. By whichever
	 * thread drained the CRQ; one at a time. May be NULL.
	 */
	void (*config_changed)(void *ctx);
	void *config_ctx;
	FILE *trace; /* --trace: each message a line; NULL off */
	/* A line for the person (fallback, reconnect, NEEDS_RESET); may be NULL. */
	void (*say)(void *ctx, const char *line);
	void *say_ctx;
};

/* What was agreed; valid after vio_transport_start(). */
struct vio_transport_info {
	uint8_t identity[20]; /* which disk or card it is; zero: not known */
	bool unfenced;        /* what an earlier server had in flight may still be executed */
	bool by_name;         /* identity is a name's, under which there may be another */
	uint8_t version;
	uint8_t type;       /* virtio device id */
	struct vio_arm arm; /* in force, after any fallback */
	uint64_t features;
	uint16_t num_queues, queue_size;
	uint16_t config_len;
	uint8_t config[VIO_MAX_CONFIG];
};

enum vio_transport_state {
	VIO_T_DOWN, /* no server yet, or gone; its return is waited for */
	VIO_T_RUNNING,
	VIO_T_NEEDS_RESET, /* the server stopped the device; info in why */
	VIO_T_RESTARTED, /* the server is back: everything must be configured anew (vio_transport_start()) */
	VIO_T_FROZEN, /* the adapter is (docs/protocol.md, section 9): vio_transport_thaw(); info in why */
	VIO_T_DEAD, /* the hypervisor is gone */
};

struct vio_transport;

/* Bytes of the control memory (CRQ, header, config space) that stand in the DMA window while it is open. */
uint64_t vio_transport_control_bytes(const struct vio_transport *t);

/*
 * Carve the control memory, map it, register the CRQ. Waits for no one. -ENODEV (unit), -ENOMEM,
 * -EBUSY (CRQ).
 */
int vio_transport_open(struct phyp_vcpu *vcpu, struct vio_mem *mem,
		       const struct vio_transport_cfg *cfg, struct vio_transport **out,
		       struct vio_err *err);
/*
 * The first step of an end: RESET when something is configured, waiting at most a second, whatever
 * comes of it. After it the server touches nothing, or is about to lose it by force.
 */
void vio_transport_quiesce(struct vio_transport *t);
/* Resets the device if there is one, withdraws windows, frees the CRQ and the mappings. */
void vio_transport_close(struct vio_transport *t);

/*
 * The slides' sequence up to features: wait for the server (INIT), PROBE, ACKNOWLEDGE, DRIVER,
 * features [FEATURES_OK]. After it the caller adds windows and queues, then
 * vio_transport_driver_ok(). Again after RESTARTED or a reset. -ETIMEDOUT (no server, with the
 * step's name), -ENOTSUP (arm or features), -EPROTO.
 */
int vio_transport_start(struct vio_transport *t, struct vio_err *err);
const struct vio_transport_info *vio_transport_get_info(const struct vio_transport *t);

/*
 * A piece of guest memory made long-lived: TCE-mapped (each page with perm) and, when `grant`,
 * granted and registered as a window with the server. Kept until close; re-registered by
 * vio_transport_start()'s caller after a restart with vio_transport_window_again(). -ENOSPC (DMA
 * window), -EPERM/-ENOTSUP with the server's reason.
 */
struct vio_gwindow {
	struct vio_mem_piece mem;
	struct ioba at;
	uint8_t perm, role;
	bool granted;
	uint16_t id;
	uint64_t cookie;
};
int vio_transport_window(struct vio_transport *t, const struct vio_mem_piece *mem, uint8_t perm,
			 uint8_t role, bool grant, struct vio_gwindow *out, struct vio_err *err);
int vio_transport_window_again(struct vio_transport *t, struct vio_gwindow *w, struct vio_err *err);
/*
 * Withdraw: WINDOW_DEL, wait until the server can't touch it, rescind (by force if it does not
 * answer), unmap. -EBUSY: the server still has the pages; -EIO: the IOBAs still lead to them. Neither
 * pages nor IOBAs are free then before the transport is closed.
 */
int vio_transport_window_del(struct vio_transport *t, struct vio_gwindow *w, struct vio_err *err);
/*
 * For mapping levels with in-place payload: how one queue's struct vio_dma exposes what it maps.
 * `vcpu`: of the queue's thread. At most VIO_MAX_QUEUES of them; they live as long as the
 * transport. What they expose is void after a restart or a reset, like all windows. add: -EINVAL
 * when the range is not made of whole backing pages (phyp_backing_page()).
 */
int vio_transport_expose(struct vio_transport *t, struct phyp_vcpu *vcpu,
			 struct vio_dma_expose *out);

/* A free, page-aligned slice of the DMA window for a queue's struct vio_dma. -ENOSPC. Kept until close. */
int vio_transport_slice(struct vio_transport *t, uint64_t len, struct ioba *at,
			struct vio_err *err);
/* Bytes of the DMA window that are neither long-lived nor in a slice. */
uint64_t vio_transport_room(const struct vio_transport *t);

/* Announce one queue's place (QUEUE messages). */
int vio_transport_queue(struct vio_transport *t, uint16_t index, uint16_t size, struct ioba desc,
			struct ioba avail, struct ioba used, struct vio_err *err);
int vio_transport_driver_ok(struct vio_transport *t, struct vio_err *err);
/*
 * RESET and wait for the answer. The device is as after open; queues and windows are void on the
 * server. When there is no answer in time, the CRQ is freed and registered anew, which is a reset
 * too: the server is told by the hypervisor. Then -ETIMEDOUT, and the state is DOWN until the
 * server has initialised the connection again. -EALREADY: the CRQ can't be freed yet, because a stopped server may be in the middle
 * of a copy; the state is NEEDS_RESET, and the call is made again later.
 */
int vio_transport_reset(struct vio_transport *t, struct vio_err *err);

/*
 * Out of FROZEN: reset and thaw the adapter, and register the CRQ anew; the state is DOWN then, and the server's return is
 * waited for as after a restart. -EBUSY: something of before may still touch memory; call again later. Waits for 20 ms at most.
 */
int vio_transport_thaw(struct vio_transport *t, struct vio_err *err);

/*
 * Send KICK for one queue (one H_SEND_CRQ; a full queue is waited for a bounded time). -EAGAIN:
 * still full, try again later; -ENOTCONN: the device is not running. Data path.
 */
int vio_transport_kick(struct vio_transport *t, struct phyp_vcpu *vcpu, uint16_t queue);
/*
 * Handle what arrived (three loads when nothing did). *used: bit i set = USED came for queue i (i <
 * 64), handed out once. Data path as long as only USED arrives. While the server is away it is said
 * hello to now and then.
 */
enum vio_transport_state vio_transport_poll(struct vio_transport *t, struct phyp_vcpu *vcpu,
					    uint64_t *used);
/*
 * Block until something arrives for the transport's vcpu (see phyp_vcpu_wait()). Returns at once
 * when something waits.
 */
int vio_transport_wait(struct vio_transport *t, uint64_t spin_ns, uint64_t timeout_ns);
/*
 * From now on configuration is done by the thread of `vcpu`, and the interrupt goes there. Nobody
 * else calls meanwhile.
 */
void vio_transport_run_on(struct vio_transport *t, struct phyp_vcpu *vcpu);
/*
 * How often the server has said that config space changed (CONFIG). A caller that sees it move
 * reads config space again with vio_transport_config(), which returns what config space holds now:
 * len bytes at most, none of them older than the count it returns. One load; any thread.
 */
uint32_t vio_transport_config_changes(const struct vio_transport *t);
uint32_t vio_transport_config(const struct vio_transport *t, void *config, uint16_t len);
/*
 * Write `len` (1 to 8) bytes at `off` of config space, after vio_transport_start(). `vcpu`: the calling
 * thread's. -ENOTSUP: protocol 1 has no message for it; -EPERM: refused, and nothing has changed; and
 * what vio_transport_driver_ok() answers when there is no server. Waits for the answer.
 */
int vio_transport_config_set(struct vio_transport *t, struct phyp_vcpu *vcpu, uint16_t off,
			     uint8_t len, uint64_t value, struct vio_err *err);
/* The last NEEDS_RESET or refusal as a sentence. */
/*
 * The session is over for good: free the CRQ and take back, by force, every page that the server was
 * given. True: neither the server nor the kernel on its behalf reaches memory of this partition any
 * more. False: some of it may still be in use; call again later, nothing else but close is allowed.
 * The control path's thread. Waits up to timeout_ms the first time, about a millisecond a window then.
 */
bool vio_transport_abandon(struct vio_transport *t);
/*
 * What answers is not what was there before: reset it, and wait (VIO_T_DOWN) until it goes and
 * another one comes. 0, or what vio_transport_reset() answers.
 */
int vio_transport_park(struct vio_transport *t, struct vio_err *err);
const char *vio_transport_why(const struct vio_transport *t);

#endif
