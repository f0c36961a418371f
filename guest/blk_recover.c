/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server goes, comes back, or stops the device. Requests stay in their slots and are sent again in their
 * order: reads and writes may be done twice without harm, and nobody was told yet that they are done.
 */
#include <inttypes.h>
#include <sched.h>
#include <string.h>

#include "guest/blk_priv.h"

void blk_say(const struct vio_blk *b, const char *fmt, ...)
{
	char line[420];
	va_list ap;

	if (!b->cfg.transport.say)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	b->cfg.transport.say(b->cfg.transport.say_ctx, line);
}

/* ------------------------------------------------------- for all queues, gate closed ---- */

static unsigned held(const struct vio_blk *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->info.num_queues; i++)
		n += b->info.depth - b->q[i].n_free;
	return n;
}

static void die(struct vio_blk *b, const char *why)
{
	blk_say(b, "%s; %u outstanding request(s) end with an error", why, held(b));
	vio_store_release(&b->dead, true); /* owners give up their own: pair G's close has let them out */
}

/* Did any request complete since the last time that the device had to be reset? */
static bool progress(struct vio_blk *b)
{
	bool any = false;

	for (unsigned i = 0; i < b->info.num_queues; i++) {
		any |= b->q[i].done != b->q[i].done_at_reset;
		b->q[i].done_at_reset = b->q[i].done;
	}
	return any;
}

/* A disk that came back must be the one that went. */
static int same_disk(struct vio_blk *b, struct vio_err *err)
{
	const struct vio_transport_info *ti = vio_transport_get_info(b->t);
	const struct vio_blk_info *is = &b->info;
	struct vio_blk_info now = *is;
	uint32_t size_max;
	int rc;

	if (ti->version != is->version || ti->features != is->features ||
	    memcmp(&ti->arm, &is->arm, sizeof(ti->arm)) != 0 || ti->num_queues < is->num_queues ||
	    ti->queue_size != is->queue_size)
		return vio_err_set(err, -ENOTSUP,
				   "the VIO server came back with other abilities (protocol %u, arm %s, "
				   "features 0x%" PRIx64 ", %u queue(s) of %u); open the disk anew",
				   ti->version, ti->arm.name, ti->features, ti->num_queues, ti->queue_size);
	rc = blk_read_config(b, &now, &size_max, err);
	if (rc)
		return rc;
	if (now.sectors != is->sectors || now.block_size != is->block_size ||
	    now.read_only != is->read_only || now.num_queues < is->num_queues || size_max < b->size_max)
		return vio_err_set(err, -ENOTSUP,
				   "the VIO server came back with another disk (%" PRIu64
				   " sectors, before %" PRIu64 "); open it anew",
				   now.sectors, is->sectors);
	return 0;
}

/* The slides' sequence again, with the memory that is already carved and mapped. */
static int configure(struct vio_blk *b, struct vio_err *err)
{
	int rc = vio_transport_start(b->t, err);

	if (rc == 0)
		rc = same_disk(b, err);
	for (unsigned i = 0; rc == 0 && i < b->n_win; i++)
		rc = vio_transport_window_again(b->t, &b->win[i], err);
	for (unsigned i = 0; rc == 0 && i < b->info.num_queues; i++) {
		vio_vring_reset(b->q[i].vr);
		if (b->notify == VIO_NOTIFY_POLL)
			vio_vring_park(b->q[i].vr);
		b->q[i].armed = false;
		b->q[i].kick_due = false;
		vio_store_relaxed(&b->q[i].pending, 1); /* look once */
	}
	return rc ? rc : blk_go(b, err);
}

/* Configured: the owners do the rest. */
static void reopen(struct vio_blk *b, const struct blk_queue *me)
{
	b->epoch++;
	vio_store_relaxed(&b->broken, 0);
	b->waiting = false;
	b->timeouts = 0;
	vio_gate_open(&b->gate);
	for (unsigned i = 0; i < b->info.num_queues; i++)
		if (&b->q[i] != me)
			phyp_vcpu_prod(b->q[i].vcpu);
}

static void reset_device(struct vio_blk *b)
{
	struct vio_err err = {""};
	int rc = vio_transport_reset(b->t, &err);

	if (rc == -ETIMEDOUT)
		blk_say(b, "%s; the CRQ was registered anew", err.msg);
	else if (rc && rc != -ENOTCONN && rc != -EPIPE)
		die(b, err.msg);
}

static void restart(struct vio_blk *b, const struct blk_queue *me)
{
	struct vio_err err = {""};
	unsigned n = held(b);
	bool give_up = b->strikes > BLK_MAX_STRIKES;
	int rc = configure(b, &err);

	switch (rc) {
	case 0:
		break;
	case -ENOTCONN: /* gone again: wait again */
	case -EPIPE:
		return;
	case -ETIMEDOUT:
	case -EPROTO:
	case -EPERM: /* a window or DRIVER_OK was refused; a second look at the same server may find it
			recovered */
		blk_say(b, "configuring the disk again failed: %s", err.msg);
		if (++b->timeouts > BLK_MAX_STRIKES)
			die(b, "the disk can't be configured again");
		else
			reset_device(b);
		return;
	default:
		die(b, err.msg);
		return;
	}
	if (give_up) {
		b->strikes = 0;
		b->give_up = b->epoch + 1;
		blk_say(b,
			"the device was stopped %u times without completing one request (%s); %u request(s) "
			"given up",
			BLK_MAX_STRIKES + 1, vio_transport_why(b->t), n);
	} else {
		blk_say(b, "the VIO server is back; %u request(s) sent again", n);
	}
	reopen(b, me);
}

static void stopped(struct vio_blk *b)
{
	const char *why = vio_load_relaxed(&b->broken)
				  ? "the server returned a request that is not outstanding"
				  : vio_transport_why(b->t);

	b->strikes = progress(b) ? 1 : b->strikes + 1;
	blk_say(b, "the VIO server stopped the device: %s; resetting it (%u request(s) held)", why, held(b));
	vio_store_relaxed(&b->broken, 0);
	reset_device(b);
}

static void gone(struct vio_blk *b)
{
	if (b->waiting)
		return;
	b->waiting = true;
	blk_say(b, "the VIO server has gone; waiting for it to return (%u requests held)", held(b));
}

/* One step, with everybody out. The state may change under way: at most a few times in a row. */
static void step(struct vio_blk *b, struct blk_queue *me)
{
	for (unsigned i = 0; i < 4 && !b->dead && vio_load_relaxed(&b->gate.closed); i++) {
		uint64_t used;
		enum vio_transport_state s = vio_transport_poll(b->t, me->vcpu, &used);

		switch (s) {
		case VIO_T_RUNNING:
			if (!vio_load_relaxed(&b->broken)) {
				vio_gate_open(&b->gate); /* another thread has done it all */
				return;
			}
			stopped(b);
			break;
		case VIO_T_NEEDS_RESET:
			stopped(b);
			break;
		case VIO_T_RESTARTED:
			restart(b, me);
			break;
		case VIO_T_DOWN:
			gone(b);
			return;
		case VIO_T_DEAD:
			die(b, "the hypervisor (phypd) has gone");
			return;
		}
	}
}

void blk_recover(struct vio_blk *b, struct blk_queue *q)
{
	if (vio_load_acquire(&b->dead) || vio_xchg_acq_rel(&b->recovering, 1))
		return; /* another thread is at it */
	if (!vio_load_relaxed(&b->gate.closed))
		vio_gate_close(&b->gate);
	/* The data path is short; in it nobody waits for anybody but, with exposures, for the server, and
	 * that ends. */
	for (unsigned i = 0; i < b->info.num_queues; i++)
		while (!vio_gate_left(&b->q[i].pass))
			sched_yield();
	vio_transport_run_on(b->t, q->vcpu);
	step(b, q);
	if (q->index != 0)
		vio_transport_run_on(b->t, b->q[0].vcpu);
	vio_xchg_acq_rel(&b->recovering, 0);
}

/* ---------------------------------------------------------- by the owner of a queue ---- */

static void sort_by_seq(const struct blk_queue *q, uint16_t *index, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		uint16_t x = index[i];
		unsigned j = i;

		/* Differences, so that a wrap of the counter keeps the order. */
		for (; j > 0 && (int32_t)(q->slot[index[j - 1]].seq - q->slot[x].seq) > 0; j--)
			index[j] = index[j - 1];
		index[j] = x;
	}
}

static void release(struct blk_queue *q, struct blk_slot *s, int result)
{
	struct vio_gbuf *buf = &s->buf;

	if (s->has_data) {
		buf->dev_writes = false; /* nothing to copy back */
		q->payload->ops->put(q->payload, &buf, 1);
	}
	blk_ret_push(q, s->req, result);
	blk_slot_free(q, s);
}

void blk_revive(struct blk_queue *q)
{
	struct vio_blk *b = q->b;
	struct vio_dma_map *m;
	unsigned n = 0;

	q->dma->ops->lost(q->dma);
	/* Those that an earlier restart had not sent yet are not mapped. */
	for (unsigned i = q->redo_next; i < q->n_redo; i++)
		q->slot[q->redo[i]].map.n_seg = 0;
	for (unsigned i = 0; i < b->info.depth; i++) {
		struct blk_slot *s = &q->slot[i];

		if (!s->req)
			continue;
		m = &s->map;
		if (m->n_seg > 0)
			q->dma->ops->unmap(q->dma, &m, 1);
		m->n_seg = 0;
		q->redo[n++] = (uint16_t)i;
	}
	sort_by_seq(q, q->redo, n);
	q->n_redo = n;
	q->redo_next = 0;
	q->epoch = b->epoch;
	q->idle_tick = 0;
	if (b->give_up != b->epoch)
		return;
	for (unsigned i = 0; i < n; i++)
		release(q, &q->slot[q->redo[i]], -EIO);
	q->n_redo = 0;
}

void blk_redo(struct blk_queue *q)
{
	unsigned sent = 0;

	while (q->redo_next < q->n_redo) {
		struct blk_slot *s = &q->slot[q->redo[q->redo_next]];
		struct vio_dma_map *m = &s->map;
		int rc;

		if (vio_vring_room(q->vr, blk_segs(q->b, s->req)) == 0)
			break;
		blk_fill(q->b, s);
		rc = q->dma->ops->map(q->dma, &m, 1);
		if (rc == 1 && vio_vring_add(q->vr, m->seg, m->n_seg, s) == 0) {
			sent++; /* its seq stays: should the server go again, the order is still the first one
				 */
		} else {
			if (rc == 1)
				q->dma->ops->unmap(q->dma, &m, 1);
			m->n_seg = 0;
			if (rc >= 0 || !blk_look_at_crq(q))
				break; /* no room now, or no server: at a later poll */
			release(q, s, -EIO);
		}
		q->redo_next++;
	}
	if (sent)
		blk_publish(q);
}

void blk_give_up(struct blk_queue *q)
{
	for (unsigned i = 0; i < q->b->info.depth; i++) {
		struct blk_slot *s = &q->slot[i];

		/* Neither unmapped nor copied: the machine may be gone, and close unmaps what is left. */
		if (s->req) {
			blk_ret_push(q, s->req, -EIO);
			blk_slot_free(q, s);
		}
	}
	q->n_redo = q->redo_next = 0;
}
