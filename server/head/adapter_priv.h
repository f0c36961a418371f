/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of an adapter, shared by adapter*.c and nobody else.
 *
 * The CRQ is handled strictly in order. A message whose work can't be finished at once (a window
 * that must no longer be touched, a reset, a partner that went away) becomes the adapter's
 * *operation*; while there is one, or a reply waits for room in the guest's queue, the CRQ is left
 * alone and its entries wait there. So there is never more than one thing going on, and an
 * operation always ends: it waits only for the backend and for the lcores.
 *
 *   adapter.c          life, CRQ, dispatch, service
 *   adapter_state.c    what each part tells the others
 *   adapter_send.c     messages and small transfers to and from the guest
 *   adapter_config.c   the configuration steps
 *   adapter_queues.c   queues from DRIVER_OK to the end
 *   adapter_windows.c  windows
 *   adapter_quiesce.c  operations
 */
#ifndef VIO_SERVER_ADAPTER_PRIV_H
#define VIO_SERVER_ADAPTER_PRIV_H

#include "server/head/adapter.h"

/* Of the CRQ in the server's memory: one page, as ibmvscsi's. */
#define VIO_ADAPTER_CRQ_BYTES CRQ_PAGE_BYTES
/*
 * Entries handled in one call, so that a guest that floods its CRQ does not starve the queues of
 * others; of announcements of windows, which take longest, one.
 */
#define VIO_ADAPTER_CRQ_BURST 64
/*
 * Messages that wait for room in the guest's CRQ: one reply, NEEDS_RESET, INIT COMPLETE, and room
 * to spare.
 */
#define VIO_ADAPTER_OUTBOX 8
/*
 * A busy hypervisor is asked again this often at once on the control path. Busy is what a call says when
 * another partition holds what it needs, and that one may stand still: what can't go without the call is
 * taken up again in a later turn (enum vio_atodo).
 */
#define VIO_ADAPTER_RETRIES 16
/*
 * What an operation does in one turn, at most, because other guests' queues wait for it: bytes of the guest's memory
 * whose pages are mapped or unmapped; windows that are returned. Queues are opened and closed one by one.
 */
#define VIO_ADAPTER_MAP_BYTES (256u << 10)
#define VIO_ADAPTER_RETURNS   16u

/* A call on the adapter's CRQ that is still to be made. */
enum vio_atodo { VIO_ATODO_NOTHING, VIO_ATODO_REGISTER, VIO_ATODO_ENABLE, VIO_ATODO_THAW };

enum vio_aop {
	VIO_AOP_NONE,
	VIO_AOP_START, /* DRIVER_OK: answer when the queues run */
	VIO_AOP_WINDOW_ADD, /* a backend wants to know of the window, and not in the middle of its work */
	VIO_AOP_WINDOW_DEL,
	VIO_AOP_RESET,   /* the guest asked: answer when done */
	VIO_AOP_RESTART, /* the partner came again: INIT COMPLETE when done */
	VIO_AOP_LOST,    /* the partner went away */
	VIO_AOP_STOP,    /* vio_adapter_stop() */
};

/*
 * Steps of an operation. A queue's owner may be in the middle of a turn that began before it was
 * told to hold, with requests that in_flight does not show yet: so first every lcore ends its turn,
 * then in_flight means what it says.
 */
enum vio_astep {
	VIO_ASTEP_SETTLE, /* until every lcore has seen the new `ctl` */
	VIO_ASTEP_DRAIN, /* until no queue has a request in flight (live withdrawal: in the window) */
	VIO_ASTEP_QUIESCE, /* until no lcore can hold what was taken away */
	VIO_ASTEP_CLEAR,   /* until all of it is given back, some in each turn */
	/* START: */
	VIO_ASTEP_REACH, /* until the guest's memory can be reached, where that stands */
	VIO_ASTEP_OPEN,  /* until all queues are open, one in each turn */
};

/* Where a queue is, as announced so far. */
struct vio_aplace {
	struct ioba part[3]; /* enum vio_queue_part */
	uint16_t size;
	uint16_t base; /* index at which the rings go on */
	uint8_t have;  /* bit per part */
};

/* What telemetry reads from other threads: each field with a relaxed store by the adapter's lcore. */
struct vio_aseen {
	uint8_t state, version, last_fault, ring, payload, notify;
	uint16_t queues;
	unsigned windows;
	uint64_t features, window_bytes, resets, needs_resets, link_losses;
};

struct vio_adapter {
	/*
	 * Something to service: set by the adapter's lcore, and by a queue's owner when the queue
	 * faults (pair Q). The only field that another lcore writes, so it has a line of its own.
	 */
	bool attention;
	bool config_changed; /* config space has to be written again; set by any thread (pair Q) */
	bool rescinded;      /* a queue's owner met a window that was taken back by force */
	bool wake; /* queues have something to do that no guest tells them of; set by any thread (pair Q) */
	/*
	 * Forced rescinds of grants of this unit, counted by the hypervisor's agent; and how many of
	 * them nothing that is in flight can be of any more (pair Z).
	 */
	uint64_t drains_asked, drains_done;
	/*
	 * The published window table: loaded by every queue in every busy turn, changed on the
	 * control path only.
	 */
	const struct vio_wtable *windows __attribute__((aligned(VIO_CACHE_LINE)));

	struct phyp_vcpu *vcpu;
	struct phyp_part *part;
	const struct phyp_unit_info *u;
	struct vio_adapter_cfg cfg;
	struct vio_env env;
	struct phyp_crq crq;
	struct vio_link link;
	struct vio_sfsm fsm;
	bool stopping, stopped; /* vio_adapter_stop() was called; and is done */

	/* Configuration as agreed so far. */
	uint64_t offered, features;
	uint16_t config_len;
	struct ioba header, config;    /* config: 0 until ACKNOWLEDGE */
	uint8_t todo;                  /* enum vio_atodo */
	uint8_t ring, payload, notify; /* levels */
	struct vio_aplace *place;      /* num_queues */
	struct vio_squeue **q; /* num_queues, allocated once; in use when its bit is in `active` */
	uint64_t active;
	uint64_t opening,
		closing; /* of an operation: those that are open but not active; the wanted ones' and old ones' rest */
	uint64_t wanted;
	bool event;  /* the hypervisor has stopped this end or the other: see which */
	bool halted; /* queues are stopped because of NEEDS_RESET */

	uint16_t next_window;
	struct vio_wtable
		*retired; /* tables that were replaced; freed when no lcore can hold them */

	/* The operation. */
	uint64_t
		draining; /* drains_asked when the drain began that is under way; drains_done: none */
	uint64_t drain_token;

	enum vio_aop op;
	enum vio_astep step;
	uint64_t token;
	struct vio_msg op_msg;
	int op_errno; /* positive: why the store refused a queue, for the answer to DRIVER_OK */
	bool has_reply; /* RESTART: INIT COMPLETE, sent when nothing of the past is touched any more */
	uint64_t reply_hi, reply_lo;
	struct vio_window op_window; /* ADD: the new one; DEL: the one to be returned */
	struct vio_wtable *op_table; /* DEL: the table without it, to be published */
	const struct vio_wtable
		*returning; /* whose grants are given back, from which on; NULL: none */
	unsigned returned;

	unsigned out_n;
	struct {
		uint64_t hi, lo;
	} out[VIO_ADAPTER_OUTBOX];

	struct vio_aseen seen;
};

#define vio_aqueues(a, i, sq)                                                                      \
	for (uint16_t i = 0; i < (a)->cfg.num_queues; i++)                                         \
		if (((a)->active >> i & 1) && ((sq) = (a)->q[i]) != NULL)

/* ---- adapter_state.c ---- */
/* Look again at the adapter in the next turn. */
void vio_aattend(struct vio_adapter *a);
/* Copy what telemetry may want to a->seen. */
void vio_aseen_update(struct vio_adapter *a);
/* A queue's lcore may be asleep. */
void vio_awake(struct vio_adapter *a, struct vio_squeue *q);
/* What all queues' lcores are to do from their next turn on. */
void vio_actl(struct vio_adapter *a, enum vio_sq_ctl ctl);

/* ---- adapter_send.c ---- */
/* --trace: one CRQ entry. */
void vio_atrace(struct vio_adapter *a, uint64_t hi, uint64_t lo, bool to_server);
/* Try again what found the guest's queue full. */
void vio_aflush(struct vio_adapter *a);
/*
 * One entry to the guest; waits in the outbox when the guest's queue is full; dropped when the
 * guest is gone.
 */
void vio_asend(struct vio_adapter *a, uint64_t hi, uint64_t lo);
void vio_asend_msg(struct vio_adapter *a, const struct vio_msg *m);
/* The work for `m` is done: state, reply, and what a refusal means for the queues. */
void vio_adone(struct vio_adapter *a, const struct vio_msg *m, uint8_t status);
/* h_read_rdma / h_write_rdma of the guest's memory on the adapter's vcpu; an enum vio_status. */
uint8_t vio_aread(struct vio_adapter *a, struct ioba at, uint32_t len, uint64_t buf[PHYP_REGS]);
uint8_t vio_awrite(struct vio_adapter *a, struct ioba at, const void *bytes, uint32_t len);
#define vio_asay(a, ...) (a)->env.say((a)->env.ctx, __VA_ARGS__)

/* ---- adapter_config.c: each returns an enum vio_status ---- */
uint64_t vio_aoffer(const struct vio_adapter *a);
uint8_t vio_aprobe(struct vio_adapter *a, const struct vio_msg *m);
uint8_t vio_aconfig(struct vio_adapter *a, const struct vio_msg *m);
/* Config space has changed: write it again and tell the guest. */
void vio_aconfig_again(struct vio_adapter *a);
/* The driver writes a field of it. A refusal leaves the device as it was. */
uint8_t vio_aconfig_set(struct vio_adapter *a, const struct vio_msg *m);
uint8_t vio_achoice(struct vio_adapter *a);
uint8_t vio_aqueue_part(struct vio_adapter *a, const struct vio_msg *m);
/* DRIVER_OK: the features again, which must not have changed (v2), or for the first time (v1). */
uint8_t vio_achoice_again(struct vio_adapter *a);
/* Forget everything that was agreed. */
void vio_aforget(struct vio_adapter *a);

/* ---- adapter_queues.c ---- */
/*
 * Make and assign the queues that were announced, all or nothing: begin; then some more in each turn, until *done. An enum
 * vio_status; refused: nothing is left of it.
 */
uint8_t vio_astart(struct vio_adapter *a);
uint8_t vio_astart_step(struct vio_adapter *a, bool *done);
bool vio_adrained(const struct vio_adapter *a);
/* Take the queues from their lcores; after the next quiescence they may be freed. */
void vio_aunassign(struct vio_adapter *a);
/* Not polled any more: close and free, one of them; true: it was the last. */
bool vio_afree_queue(struct vio_adapter *a);
/* All of them, also those that are not polled yet. */
void vio_afree_queues(struct vio_adapter *a);
/* Queues that faulted on their own: NEEDS_RESET. */
void vio_afaults(struct vio_adapter *a);
void vio_akick(struct vio_adapter *a, const struct vio_msg *m);

/* ---- adapter_windows.c ---- */
/* True: the operation VIO_AOP_WINDOW_ADD is to begin, for *answer. False: answered. */
bool vio_awindow_add(struct vio_adapter *a, const struct vio_msg *m, struct vio_msg *answer);
/* True: the operation VIO_AOP_WINDOW_DEL is to begin, for m. False: answered. */
bool vio_awindow_del(struct vio_adapter *a, const struct vio_msg *m);
/* May windows come and go with requests in flight? Then nothing is held for them. */
bool vio_awindow_live(const struct vio_adapter *a);
/* So: does a request in flight use the window that is being withdrawn? */
bool vio_awindow_busy(const struct vio_adapter *a);
/* Steps of the operations, with nothing in flight (live: in the window); and after quiescence. */
void vio_awindow_drained(struct vio_adapter *a);
void vio_awindow_quiesced(struct vio_adapter *a);
/*
 * Tell the backend of a queue that a window of buffers is there, or is no more; of other roles it
 * need not know.
 */
void vio_awindow_tell(const struct vio_adapter *a, struct vio_squeue *q, const struct vio_window *w,
		      bool there);
/*
 * Return grants, `most` of them; true: all are. No queue exists, but another lcore may search the table for an address
 * (on_fault).
 */
bool vio_awindows_return(struct vio_adapter *a, unsigned most);
/* Free replaced tables that no lcore can hold any more (all: no lcore runs). */
void vio_areap(struct vio_adapter *a, bool all);
/* Tell the guest that all its windows are lost. */
void vio_awindows_lost(struct vio_adapter *a, uint8_t why);

/* ---- adapter_quiesce.c ---- */
/* `m`: the message it is for, or NULL. May finish at once. */
void vio_aop_begin(struct vio_adapter *a, enum vio_aop op, const struct vio_msg *m);
/* Make progress. */
void vio_aop_step(struct vio_adapter *a);
/* The adapter may be frozen, at either end: then its device is as after the partner's loss. No operation is under way. */
void vio_afrozen(struct vio_adapter *a);
/* Ask libphyp to let forced rescinds wait for this adapter; never: for ever, because requests stay behind. */
void vio_adrain_watch(struct vio_adapter *a);
void vio_adrain_never(struct vio_adapter *a);
/* Progress of a drain for forced rescinds: before the faults are looked at, and after. */
void vio_adrain_begin(struct vio_adapter *a);
void vio_adrain_step(struct vio_adapter *a);
/* Is there one? */
bool vio_adrain_due(const struct vio_adapter *a);

#endif
