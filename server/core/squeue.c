/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One turn of one queue: the server's whole data path, over the tables of ring, payload, device and
 * backend.
 */
#include "server/core/device.h"
#include "server/core/squeue.h"
#include "server/payload/payload.h"
#include "server/ring/ring.h"
#include "vio/notify.h"

/* Empty turns are kept in the hot line and added up only when something happens, or this often. */
#define IDLE_FLUSH (1u << 16)

static void flush_idle(struct vio_squeue *q)
{
	vio_counter_add(&q->stats.polls_empty, q->idle);
	if (q->vcpu)
		vio_counter_add(&phyp_vcpu_counters(q->vcpu)->polls_empty, q->idle);
	q->idle = 0;
}

/*
 * Tell the guest that there are used buffers. A full queue at the guest's end is no reason to lose
 * it: the turn after this one tries again, until it is taken or the guest is gone.
 */
static void notify(struct vio_squeue *q)
{
	const struct vio_msg m = {.version = q->version, .op = VIO_OP_USED, .arg16 = q->index};
	uint64_t hi, lo;
	int64_t rc;

	vio_msg_encode(&m, &hi, &lo);
	rc = h_send_crq(q->vcpu, q->unit, hi, lo);
	q->renotify = rc == H_DROPPED || rc == H_RESOURCE || rc == H_NO_MEM ||
		      rc == H_NOT_ENOUGH_RESOURCES || phyp_rc_busy(rc);
	if (rc != H_SUCCESS)
		return;
	vio_counter_add(&q->stats.notifications, 1);
	vio_counter_add(&phyp_vcpu_counters(q->vcpu)->used_notifications, 1);
}

static bool sq_arm(void *p)
{
	struct vio_squeue *q = p;

	return q->ring->arm(q);
}

static void sq_park(void *p)
{
	struct vio_squeue *q = p;

	q->ring->park(q);
}

static const struct vio_notify_end sq_end = {.arm = sq_arm, .park = sq_park};

/* A parked event index must not be overtaken. */
static inline void keep_parked(struct vio_squeue *q)
{
	if (q->event_idx && q->notify.ask == VIO_ASK_PARKED &&
	    (uint16_t)(q->last_avail - q->parked_at) >= VIO_EVENT_REPARK)
		q->ring->park(q);
}

/* May this turn look at the available ring? */
static inline bool may_look(struct vio_squeue *q)
{
	if (vio_likely(q->notify.looks) || q->more)
		return true;
	if (vio_load_relaxed(&q->kicked) && vio_xchg_acq_rel(&q->kicked, false)) { /* pair K */
		vio_counter_add(&q->stats.kicks_seen, 1);
		return true;
	}
	return vio_notify_row(&q->notify)->may_look(&q->notify, &sq_end, q, q->ring->free_look);
}

/* What follows from having found `n` chains, for the notifications that we ask for. */
static inline void after_look(struct vio_squeue *q, unsigned n)
{
	if (n == 0) {
		/*
		 * No store when there is nothing to change: it would make the loads of its
		 * neighbours wait.
		 */
		if (q->more)
			q->more = false;
		if (!q->notify.looks && q->fault == VIO_ST_OK)
			q->more = vio_notify_row(&q->notify)->device.dry(&q->notify, &sq_end, q);
		return;
	}
	keep_parked(q);
	/* A level that looks anyway asks for something only before it sleeps. */
	if (!q->notify.looks || q->notify.ask == VIO_ASK_ARMED)
		vio_notify_row(&q->notify)->device.found(&q->notify, &sq_end, q);
}

static void count_burst(struct vio_squeue *q, unsigned n)
{
	unsigned log = 31u - (unsigned)__builtin_clz(n);

	vio_counter_add(&q->stats.batch[log < VIO_ARRAY_SIZE(q->stats.batch)
						? log
						: VIO_ARRAY_SIZE(q->stats.batch) - 1],
			1);
}

/* `n` requests were given to the ring, which was at `used` before; of an in-order queue it may have held them back. */
static inline void given(struct vio_squeue *q, unsigned n, uint16_t used, bool wanted)
{
	vio_counter_add(&q->stats.requests, n);
	if (wanted || (q->used_idx != used && vio_notify_row(&q->notify)->always))
		notify(q);
	else
		vio_counter_add(&q->stats.notifications_suppressed, 1);
}

/*
 * Requests that are done: data and status to the guest, used elements, one publish, the decision to
 * notify.
 */
static inline void give_back(struct vio_squeue *q, struct vio_req *done[], unsigned n)
{
	const uint16_t used = q->used_idx;
	uint8_t why = VIO_ST_OK;
	uint16_t head = 0;
	unsigned ok = 0;

	q->payload->put(q, done, n);
	if (vio_likely(q->dev->has_status))
		q->payload->status(q, done, n);
	for (unsigned i = 0; i < n; i++) {
		if (vio_likely(done[i]->fault == VIO_ST_OK)) {
			done[ok++] = done[i];
		} else if (why == VIO_ST_OK) {
			why = done[i]->fault;
			head = done[i]->head;
		}
	}
	if (ok > 0)
		given(q, ok, used, q->ring->push(q, done, ok));
	/* A request with a fault is not given back and its head stays taken: only a reset helps the guest. */
	if (vio_unlikely(why != VIO_ST_OK))
		vio_sq_fault(q, why, head);
}

/* The queue is stopped: let the backend finish, touch nothing of the guest. */
static unsigned drain(struct vio_squeue *q)
{
	struct vio_req *done[VIO_BURST];
	unsigned n = 0, waiting = 0;

	for (; q->wait_head; waiting++)
		vio_sq_unwait(q);
	vio_store_relaxed(&q->parked, 0);
	if (q->in_flight > waiting)
		n = q->dev->complete(q, done, VIO_BURST);
	for (unsigned i = 0; i < n; i++)
		done[i]->fault = VIO_ST_SHUTDOWN; /* so that nothing is copied out */
	if (n > 0)
		q->payload->put(q, done, n);
	vio_store_release(&q->in_flight, (uint16_t)(q->in_flight - n - waiting)); /* pair Q */
	q->renotify = false;
	return n + waiting;
}

static inline void count_turn(struct vio_squeue *q, uint64_t requests, uint64_t copied)
{
	vio_counter_add(&q->stats.polls_busy, 1);
	if (q->vcpu) {
		struct phyp_counters *c = phyp_vcpu_counters(q->vcpu);

		vio_counter_add(&c->polls_busy, 1);
		vio_counter_add(&c->requests, requests);
		vio_counter_add(&c->cpu_bytes, copied);
	}
	if (q->idle > 0)
		flush_idle(q);
}

/* New chains: plain ones first, then, if there is one of another kind, whatever comes. */
static inline unsigned look(struct vio_squeue *q, struct vio_plain plain[], unsigned *n_plain,
			    struct vio_req *fresh[])
{
	bool rest = true;
	unsigned n = 0;

	if (q->dev->plain && vio_likely(!q->wait_head)) /* nothing passes those that wait */
		*n_plain = q->ring->pop_plain(q, plain, VIO_BURST, &rest);
	if (rest)
		n = q->ring->pop(q, fresh, VIO_BURST - *n_plain);
	after_look(q, n + *n_plain);
	return n;
}

/* The number that was given back. */
static inline unsigned serve_plain(struct vio_squeue *q, struct vio_plain v[], unsigned n)
{
	unsigned done = q->dev->plain(q, v, n);
	const uint16_t used = q->used_idx;

	if (q->payload->plain_put)
		q->payload->plain_put(q, v, done);
	if (done > 0)
		given(q, done, used, q->ring->push_plain(q, v, NULL, done));
	return done;
}

static unsigned idle_turn(struct vio_squeue *q)
{
	if (++q->idle >= IDLE_FLUSH)
		flush_idle(q);
	return 0;
}

/* Work, so that nobody sleeps meanwhile. */
static unsigned paying_turn(struct vio_squeue *q)
{
	vio_sq_refill(q);
	return 1;
}

/* A queue from which the device takes when it has use for chains. Nothing of it is ever in flight between turns. */
static unsigned pull_turn(struct vio_squeue *q)
{
	unsigned n;

	/* Without a turn somebody else takes them (a port of the switch). */
	if (!q->dev->turn || !q->dev->wants(q) || !may_look(q))
		return idle_turn(q);
	q->windows = vio_load_acquire(q->windows_src); /* pair R */
	n = q->dev->turn(q);
	after_look(q, n);
	if (n == 0)
		return idle_turn(q);
	q->more = true; /* perhaps: it stopped for reasons of its own */
	count_turn(q, 0, 0);
	return n;
}

/* A turn in which no request came or went, and that had `budget`: was a part of one done, or a debt paid? */
static inline bool worked(const struct vio_squeue *q, int64_t budget)
{
	return q->budget != budget || (budget <= 0 && q->n_wait > q->parked);
}

unsigned vio_squeue_poll(struct vio_squeue *q)
{
	struct vio_req *fresh[VIO_BURST], *done[2 * VIO_BURST];
	struct vio_plain plain[VIO_BURST];
	unsigned n_fresh = 0, n_plain = 0, n_done = 0, n_back = 0;
	uint8_t ctl = vio_load_acquire(&q->ctl); /* pair K */
	uint64_t requests, copied;
	int64_t budget;
	bool owes = false;

	if (vio_unlikely(q->fault != VIO_ST_OK || ctl == VIO_SQ_STOP))
		return q->in_flight ? drain(q) : 0;
	if (vio_unlikely(q->renotify))
		notify(q);
	if (vio_unlikely(q->pull))
		return ctl == VIO_SQ_RUN ? pull_turn(q) : 0;
	if (vio_likely(ctl == VIO_SQ_RUN) && may_look(q)) {
		owes = vio_sq_owes(q);
		if (vio_likely(!owes))
			n_fresh = look(q, plain, &n_plain, fresh);
		else
			q->more = true; /* the next ones stay in the ring until it does not */
	}
	if (n_fresh + n_plain == 0 && q->in_flight == 0)
		return vio_likely(!owes) ? idle_turn(q) : paying_turn(q);
	requests = q->stats.requests;
	copied = q->stats.cpu_bytes;
	vio_sq_refill(q);
	budget = q->budget;
	if (q->in_flight > 0) {
		/*
		 * Windows may have changed since; those that requests in flight use are still in
		 * the table.
		 */
		q->windows = vio_load_acquire(q->windows_src); /* pair R */
		n_done = q->dev->complete(q, done, VIO_BURST);
	}
	if (n_fresh + n_plain > 0)
		count_burst(q, n_fresh + n_plain);
	if (n_plain > 0)
		n_back = serve_plain(q, plain, n_plain);
	if (n_fresh > 0) {
		if (vio_likely(q->dev->hdr_len > 0))
			q->payload->fetch(q, fresh, n_fresh, q->dev->hdr_len);
		n_done += q->dev->submit(q, fresh, n_fresh, done + n_done);
	}
	if (n_done > 0)
		give_back(q, done, n_done);
	n_fresh += n_plain;
	n_done += n_back;
	vio_store_release(&q->in_flight, (uint16_t)(q->in_flight + n_fresh - n_done)); /* pair Q */
	if (n_fresh + n_done == 0 && !worked(q, budget)) {
		q->idle++;
		return 0;
	}
	count_turn(q, q->stats.requests - requests, q->stats.cpu_bytes - copied);
	return n_fresh + n_done + (n_fresh + n_done == 0);
}

unsigned vio_squeue_take(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	unsigned n;

	keep_parked(q);
	n = q->ring->pop(q, out, max);
	if (n > 0)
		count_burst(q, n);
	return n;
}

unsigned vio_squeue_take_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max)
{
	unsigned n;
	bool rest;

	keep_parked(q);
	n = q->ring->pop_plain(q, out, max, &rest);
	if (n > 0)
		count_burst(q, n);
	return n;
}

void vio_squeue_give_plain(struct vio_squeue *q, const struct vio_plain v[],
			   const uint32_t used_len[], unsigned n, uint64_t copied)
{
	const uint16_t used = q->used_idx;

	given(q, n, used, q->ring->push_plain(q, v, used_len, n));
	vio_counter_add(&phyp_vcpu_counters(q->vcpu)->requests, n);
	vio_counter_add(&phyp_vcpu_counters(q->vcpu)->cpu_bytes, copied);
}

void vio_squeue_give(struct vio_squeue *q, struct vio_req *done[], unsigned n, uint64_t copied)
{
	uint64_t before = q->stats.requests;

	give_back(q, done, n);
	vio_counter_add(&phyp_vcpu_counters(q->vcpu)->requests, q->stats.requests - before);
	vio_counter_add(&phyp_vcpu_counters(q->vcpu)->cpu_bytes, copied);
}

bool vio_squeue_arm(struct vio_squeue *q)
{
	flush_idle(q);
	if (q->pull && (!q->dev->turn || !q->dev->wants(q)))
		return q->renotify; /* who changes that wakes the lcore */
	if (q->fault != VIO_ST_OK || vio_load_acquire(&q->ctl) == VIO_SQ_STOP)
		return q->in_flight > 0;
	if (vio_load_acquire(&q->ctl) != VIO_SQ_RUN)
		return vio_sq_busy(q);
	if (q->notify.looks && q->notify.ask != VIO_ASK_ARMED)
		/* A late one, from before it was parked; arming looks anyway. */
		vio_store_relaxed(&q->kicked, false);
	if (q->renotify || q->more || vio_sq_busy(q) || vio_load_acquire(&q->kicked)) /* pair K */
		return true;
	q->more = vio_notify_row(&q->notify)->device.sleep(&q->notify, &sq_end, q);
	return q->more;
}

void vio_squeue_park(struct vio_squeue *q)
{
	if (!q->notify.looks || q->notify.ask != VIO_ASK_ARMED || (q->pull && !q->dev->turn))
		return;
	q->notify.ask = VIO_ASK_NOTHING;
	vio_store_relaxed(&q->kicked, false);
	if (q->fault == VIO_ST_OK && vio_load_acquire(&q->ctl) == VIO_SQ_RUN)
		q->ring->park(q);
}
