/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/*
 * The configuration state machines of both sides, without I/O: entries and commands go in, messages
 * to send and work to do come out. Both programs and the tests share them. Nothing here touches
 * memory of a partition.
 *
 * Connection (both sides, PAPR): after H_REG_CRQ a side sends INIT; INIT is answered by INIT
 * COMPLETE; either may come first; a second INIT, or a transport event, means that the partner
 * (re)started or went away, and everything negotiated is void.
 *
 * Device (docs/protocol.md section 3): the steps of the slides in order. A step out of order is
 * refused.
 */
#ifndef VIO_PROTO_FSM_H
#define VIO_PROTO_FSM_H

#include "proto/msg.h"

/* ------------------------------------------------------------------- connection ---- */

enum vio_link_state {
	VIO_LINK_DOWN, /* our CRQ is registered, the partner has not initialised */
	VIO_LINK_UP,
};

struct vio_link {
	enum vio_link_state state;
	uint64_t era; /* of our last INIT; its answer has the same */
};

enum vio_link_event {
	VIO_LINK_NOTHING, /* handled, nothing changed */
	VIO_LINK_CAME_UP, /* now up; was down */
	VIO_LINK_RESTARTED, /* was up, the partner initialised anew: drop all device state, link is up */
	VIO_LINK_LOST, /* partner failed, deregistered or suspended: drop all device state, link is down */
	VIO_LINK_RESUMED, /* after a suspend: H_ENABLE_CRQ, then send INIT */
	VIO_LINK_MESSAGE, /* a command/response entry while up: decode it */
	VIO_LINK_IGNORED, /* an entry that makes no sense in this state (counted and traced by the caller) */
};

/*
 * era: larger than of any INIT that this end has sent, whichever program it was (the time in
 * nanoseconds since the host's start is), so that an answer to an earlier one is known.
 */
void vio_link_init(struct vio_link *l, uint64_t era);
/* The entry that opens the handshake (INIT), as numbers for h_send_crq(); each has the next era. */
void vio_link_hello(struct vio_link *l, uint64_t *hi, uint64_t *lo);
/*
 * One entry arrived. If *reply is set true, send (*rhi, *rlo) (INIT COMPLETE) before anything else.
 */
enum vio_link_event vio_link_rx(struct vio_link *l, uint64_t hi, uint64_t lo, bool *reply,
				uint64_t *rhi, uint64_t *rlo);

/* ------------------------------------------------------------------------ guest ---- */

enum vio_gstate {
	VIO_G_IDLE,        /* link up, nothing sent */
	VIO_G_PROBING,     /* PROBE sent */
	VIO_G_PROBED,      /* header valid, version agreed */
	VIO_G_ACKING,      /* ACKNOWLEDGE sent */
	VIO_G_ACKED,       /* config valid */
	VIO_G_DRIVER,      /* DRIVER sent */
	VIO_G_NEGOTIATING, /* FEATURES_OK sent (v2) */
	VIO_G_FEATURES,    /* features agreed (v1: at once); windows and queues may follow */
	VIO_G_STARTING,    /* DRIVER_OK sent */
	VIO_G_RUNNING,
	VIO_G_RESETTING, /* RESET sent */
	VIO_G_BROKEN,    /* refused, or NEEDS_RESET: only RESET is allowed */
	VIO_N_GSTATE,
};

struct vio_gfsm {
	enum vio_gstate state;
	uint8_t max_version; /* highest that this guest speaks */
	uint8_t version;     /* agreed, valid from VIO_G_PROBED; 0 before */
	bool window_pending; /* a WINDOW_ADD, WINDOW_DEL or CONFIG_SET is unanswered; one at a time */
	uint8_t pending_op;
	uint8_t why; /* enum vio_status of the last refusal */
};

/* max_version: 1 or 2. */
void vio_gfsm_init(struct vio_gfsm *f, uint8_t max_version);
/*
 * May `m->op` be sent now? Fills m->version, moves the state, 0; or -EPROTO and nothing changes.
 * The caller fills the args. KICK is allowed in RUNNING only.
 */
int vio_gfsm_tx(struct vio_gfsm *f, struct vio_msg *m);

enum vio_gevent {
	VIO_GE_STEP_DONE, /* the pending step was answered OK: see f->state */
	VIO_GE_STEP_REFUSED, /* ... refused; f->why. State is BROKEN, but for a refused window: unchanged */
	VIO_GE_WINDOW_DONE,    /* reply to WINDOW_ADD (m->arg16 = id) or WINDOW_DEL */
	VIO_GE_WINDOW_REFUSED, /* f->why; state unchanged */
	VIO_GE_WINDOW_LOST,    /* m->arg16 */
	VIO_GE_USED,           /* m->arg16 = queue */
	VIO_GE_CONFIG,
	VIO_GE_NEEDS_RESET, /* f->why; state is BROKEN */
	VIO_GE_BAD, /* protocol violation by the server; state is BROKEN (RESETTING stays: its answer is due) */
	VIO_GE_LATE, /* crossed our RESET or the server's NEEDS_RESET on the wire, or a spurious USED: nothing to do */
};
enum vio_gevent vio_gfsm_rx(struct vio_gfsm *f, const struct vio_msg *m);
/* For messages; "?" out of range. */
const char *vio_gstate_name(enum vio_gstate s);

/* ----------------------------------------------------------------------- server ---- */

enum vio_sstate {
	VIO_S_IDLE,
	VIO_S_PROBED,
	VIO_S_ACKED,
	VIO_S_DRIVER,
	VIO_S_FEATURES, /* v2: FEATURES_OK accepted; v1: entered with DRIVER */
	VIO_S_RUNNING,
	VIO_S_NEEDS_RESET,
	VIO_S_RESETTING, /* quiescing, reply outstanding */
	VIO_N_SSTATE,
};

struct vio_sfsm {
	enum vio_sstate state;
	uint8_t max_version;
	uint8_t version; /* agreed, set when PROBE arrives; 0 before and after a reset */
};

/* What the adapter has to do for a message; it then calls vio_sfsm_done(), for NOTHING too (with VIO_ST_OK). */
enum vio_stodo {
	VIO_TODO_NOTHING, /* DRIVER; or a message that crossed NEEDS_RESET or a reset on the wire */
	VIO_TODO_WRITE_HEADER, /* PROBE: RDMA-write type, num_vqs, vqs_size, features, config size to m->arg */
	VIO_TODO_WRITE_CONFIG, /* ACKNOWLEDGE: RDMA-write config to m->arg */
	VIO_TODO_READ_CHOICE,  /* FEATURES_OK: RDMA-read guest_features and levels, judge them */
	VIO_TODO_QUEUE,        /* note one part of a queue's place */
	VIO_TODO_START,        /* DRIVER_OK: RDMA-read guest_features, set up the queues */
	VIO_TODO_WINDOW_ADD,
	VIO_TODO_WINDOW_DEL,
	VIO_TODO_RESET,
	VIO_TODO_CONFIG_SET, /* give m->arg8 bytes at m->arg16 of config space to the device */
	VIO_TODO_KICK,
	VIO_TODO_REFUSE, /* the message is not allowed here: done() with the status in *why makes the reply or NEEDS_RESET */
};

/* As before a guest's first message. max_version: the highest that the server speaks. */
void vio_sfsm_init(struct vio_sfsm *f, uint8_t max_version);
/* *why is set for VIO_TODO_REFUSE. Moves no state but for entering RESETTING. PROBE settles the version: the lower. */
enum vio_stodo vio_sfsm_rx(struct vio_sfsm *f, const struct vio_msg *m, uint8_t *why);
/*
 * The work for `m` is done with `status` (VIO_ST_OK or the reason). Moves the state and fills
 * *reply; returns true when *reply must be sent (a reply, or NEEDS_RESET for a refused message that
 * has no reply). May be called later than the rx (RESET, WINDOW_DEL: after quiescence). Work that
 * ends well after its session is gone answers false; on a lost link the caller drops what is
 * outstanding, so that a failure is not answered to a later session. The reply to WINDOW_ADD still
 * lacks the id: the caller sets reply->arg16.
 */
bool vio_sfsm_done(struct vio_sfsm *f, const struct vio_msg *m, uint8_t status,
		   struct vio_msg *reply);
/* The guest's driver did wrong on a queue: state NEEDS_RESET and the message to send. */
void vio_sfsm_needs_reset(struct vio_sfsm *f, uint8_t why, uint16_t queue, uint64_t detail,
			  struct vio_msg *out);
const char *vio_sstate_name(enum vio_sstate s);

#endif
