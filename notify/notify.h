/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The factor *notification*: who tells whom that a ring has something new, and when. A level is one
 * file (crq.c, suppress.c, poll.c) with what both sides of a queue do, and one row in table.c;
 * nobody else compares levels.
 *
 * A side of a queue reads what its peer publishes: the device the available ring, the driver the
 * used ring. It *asks* the peer to be told (armed), asks for silence (parked), or leaves what it
 * asked last behind, which is silence too once the indices have passed it. How a wish is written
 * is the ring's business (vio/notify.h, pair N); when it is written is this file's.
 *
 * Nothing here touches shared memory by itself, and nothing fails. All functions: the thread or
 * lcore that owns the queue.
 */
#ifndef VIO_NOTIFY_LEVEL_H
#define VIO_NOTIFY_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

#include "vio/arm.h"

enum vio_ask {
	VIO_ASK_NOTHING, /* the last wish was left behind, or none was ever written */
	VIO_ASK_PARKED, /* silence was asked for; an event index has to be kept ahead of the ring's */
	VIO_ASK_ARMED, /* the peer tells of its next publish */
};

/* What one side of one queue knows. Four bytes, in the hot line of both sides. */
struct vio_notify {
	uint8_t level;      /* enum vio_notification */
	uint8_t ask;        /* enum vio_ask */
	bool looks;         /* the row's, here because a turn that finds nothing asks for it */
	bool event_idx : 1; /* a wish is an index, and is left behind by itself */
	/* Level suppress, device side: what the last look after work was worth. */
	bool worked : 1;    /* the last look found something */
	bool look_pays : 1; /* ... and so did the one right after it, the last time */
};

/* How a wish is written, by whoever knows the ring. q: the side's queue. */
struct vio_notify_end {
	/* Ask to be told, then look once more: true = there is something already. */
	bool (*arm)(void *q);
	/* Ask for silence; sets n->ask to VIO_ASK_PARKED. */
	void (*park)(void *q);
};

struct vio_notify_side {
	/* A look found nothing. True: it was asked to be told, and something has come: look again. */
	bool (*dry)(struct vio_notify *n, const struct vio_notify_end *e, void *q);
	/* A look found something. */
	void (*found)(struct vio_notify *n, const struct vio_notify_end *e, void *q);
	/* Before sleeping: make sure to be told. True: there is something, don't sleep. */
	bool (*sleep)(struct vio_notify *n, const struct vio_notify_end *e, void *q);
};

/* The row of a level. */
struct vio_notify_level {
	enum vio_notification level;
	/* Each publish is told by a message, whatever the peer wishes: nobody asks, nobody looks unasked. */
	bool always;
	/* Looks every turn without being told, and asks only before it sleeps, after an idle time. */
	bool looks;
	/*
	 * Device side, where `looks` is false and no message came: may this turn look?
	 * free_look: a look at the ring costs no hypervisor call.
	 */
	bool (*may_look)(struct vio_notify *n, const struct vio_notify_end *e, void *q,
			 bool free_look);
	struct vio_notify_side device, driver;
};

/* One a level. */
extern const struct vio_notify_level vio_notify_crq, vio_notify_suppress, vio_notify_poll;

/* By level; NULL out of range. */
const struct vio_notify_level *vio_notify_level(enum vio_notification level);

/* A queue that asked for nothing yet. event_idx: VIRTIO_RING_F_EVENT_IDX was negotiated. */
void vio_notify_init(struct vio_notify *n, const struct vio_notify_level *row, bool event_idx);

/* The row of this queue's level. */
static inline const struct vio_notify_level *vio_notify_row(const struct vio_notify *n)
{
	extern const struct vio_notify_level *const vio_notify_table[VIO_N_NOTIFY];

	return vio_notify_table[n->level];
}

/* For levels that never ask. */
bool vio_notify_never(struct vio_notify *n, const struct vio_notify_end *e, void *q);
void vio_notify_nothing(struct vio_notify *n, const struct vio_notify_end *e, void *q);
/* Ask to be told. True: there is something already. */
static inline bool vio_notify_ask(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	n->ask = VIO_ASK_ARMED;
	return e->arm(q);
}

#endif
