/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Windows of an adapter: announced, accepted or refused with the reason, withdrawn. Nothing in the
 * announcement is believed that can be checked: the extent and the restrictions are the grant's, as
 * the hypervisor tells them.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "server/head/adapter_priv.h"
#include "server/payload/snapshot.h"

/* A grant as H_ACCEPT_LOGICAL describes it. */
struct grant {
	struct gla at;
	uint64_t len, flags;
};

static int64_t give_back(struct vio_adapter *a, uint64_t cookie)
{
	int64_t rc;

	rc = PHYP_RETRY(VIO_ADAPTER_RETRIES, h_return_logical(a->vcpu, cookie));
	return rc;
}

/* What the guest wrote; w: in host order. */
static uint8_t load_announcement(struct vio_adapter *a, const struct vio_msg *m,
				 struct vio_window_desc *d, struct vio_window *w)
{
	uint64_t buf[PHYP_REGS];
	uint8_t why = vio_aread(a, (struct ioba){m->arg}, sizeof(*d), buf);

	if (why != VIO_ST_OK)
		return why;
	memcpy(d, buf, sizeof(*d));
	*w = (struct vio_window){
		.at = {vio_from_be64(d->ioba)},
		.len = vio_from_be64(d->len),
		.perm = d->perm,
		.role = d->role,
		.cookie = vio_from_be64(d->cookie),
	};
	return VIO_ST_OK;
}

/* The announcement, in host order and judged as far as it can be alone. */
static uint8_t read_announcement(struct vio_adapter *a, const struct vio_msg *m,
				 struct vio_window *w)
{
	const struct phyp_unit_info *u = a->u;
	struct vio_window_desc d;
	uint8_t why = load_announcement(a, m, &d, w);

	if (why != VIO_ST_OK)
		return why;
	if (w->role != VIO_WINDOW_RINGS && w->role != VIO_WINDOW_BUFFERS)
		return VIO_ST_BAD_MESSAGE;
	if (w->perm == 0 || (w->perm & ~TCE_PERM))
		return VIO_ST_WINDOW_PERM;
	if (vio_from_be32(d.liobn) != u->remote_liobn || w->len == 0 ||
	    (w->at.v | w->len) % CRQ_PAGE_BYTES || w->at.v < u->remote_window.v ||
	    !vio_range_ok(w->at.v - u->remote_window.v, w->len, u->remote_window_bytes))
		return VIO_ST_WINDOW_RANGE;
	return VIO_SNAPSHOTS ? VIO_ST_OK : load_announcement(a, m, &d, w);
}

/* Before the grant is taken: room, overlap, and whether it is taken already. */
static uint8_t judge_place(const struct vio_adapter *a, const struct vio_window *w)
{
	const struct vio_wtable *t = a->windows;

	if (!t)
		return VIO_ST_OK;
	if (t->n >= VIO_MAX_WINDOWS)
		return VIO_ST_WINDOW_FULL;
	for (unsigned i = 0; i < t->n; i++) {
		const struct vio_window *o = &t->w[i];

		if (o->cookie == w->cookie)
			return VIO_ST_WINDOW_COOKIE;
		if (w->at.v < o->at.v + o->len && o->at.v < w->at.v + w->len)
			return VIO_ST_WINDOW_RANGE;
	}
	return VIO_ST_OK;
}

/* Only a grant that was made for this adapter: the cookie of another guest's has no effect. */
static uint8_t take(struct vio_adapter *a, uint64_t cookie, struct grant *g)
{
	const uint64_t args[PHYP_REGS] = {cookie, a->u->unit};
	uint64_t ret[PHYP_REGS] = {0};
	int64_t rc;

	rc = PHYP_RETRY(VIO_ADAPTER_RETRIES, phyp_hcall(a->vcpu, H_ACCEPT_LOGICAL, args, ret));
	if (rc != H_SUCCESS) {
		vio_asay(a, "%s: H_ACCEPT_LOGICAL of grant 0x%" PRIx64 ": %s", a->u->partner,
			 cookie, phyp_rc_name(rc));
		return rc == H_NOT_ENOUGH_RESOURCES || rc == H_NO_MEM ? VIO_ST_WINDOW_FULL
								      : VIO_ST_WINDOW_COOKIE;
	}
	*g = (struct grant){{ret[0]}, ret[1], ret[2]};
	return VIO_ST_OK;
}

/* Is the announcement exactly what was granted? */
static uint8_t judge_grant(const struct vio_window *w, const struct grant *g)
{
	uint8_t perm = (uint8_t)((g->flags & GRANT_NO_READ ? 0 : TCE_READ) |
				 (g->flags & GRANT_NO_WRITE ? 0 : TCE_WRITE));

	if (g->len != w->len)
		return VIO_ST_WINDOW_RANGE;
	return w->perm == perm ? VIO_ST_OK : VIO_ST_WINDOW_PERM;
}

static uint16_t new_id(struct vio_adapter *a)
{
	bool taken = true;

	/* Ends: there are more ids than windows. */
	while (taken) {
		a->next_window++;
		taken = false;
		for (unsigned i = 0; a->windows && i < a->windows->n; i++)
			taken |= a->windows->w[i].id == a->next_window;
	}
	return a->next_window;
}

static void retire(struct vio_adapter *a, const struct vio_wtable *t)
{
	struct vio_wtable *old =
		(void *)(uintptr_t)t; /* we made it, and nobody reads these fields */

	if (!old)
		return;
	old->token = a->env.quiesce_start(a->env.ctx);
	old->next_retired = a->retired;
	a->retired = old;
	vio_aattend(a);
}

/*
 * Publish `t`; the old table is freed once no lcore can hold it. Also without queues: an lcore that
 * faults on another adapter's window looks through the tables of all.
 */
static void publish(struct vio_adapter *a, const struct vio_wtable *t)
{
	const struct vio_wtable *old = a->windows;

	vio_store_release(&a->windows, t); /* pair R: what the table says, before the table */
	retire(a, old);
}

void vio_areap(struct vio_adapter *a, bool all)
{
	struct vio_wtable **at = &a->retired;

	while (*at) {
		struct vio_wtable *old = *at;

		if (!all && !a->env.quiesce_done(a->env.ctx, old->token)) {
			at = &old->next_retired;
			continue;
		}
		*at = old->next_retired;
		free(old);
	}
}

bool vio_awindow_live(const struct vio_adapter *a)
{
	return a->cfg.dev->live_windows;
}

void vio_awindow_tell(const struct vio_adapter *a, struct vio_squeue *q, const struct vio_window *w,
		      bool there)
{
	const struct vio_dev_kind *kind = a->cfg.dev->kind;

	if (w->role != VIO_WINDOW_BUFFERS || !a->cfg.dev->told_windows)
		return;
	if (there)
		kind->window_add(q->dq, w->va, w->len, w->perm & TCE_WRITE);
	else
		kind->window_del(q->dq, w->va, w->len);
}

static void tell_device(struct vio_adapter *a, const struct vio_window *w, bool there)
{
	struct vio_squeue *q;

	vio_aqueues(a, i, q) vio_awindow_tell(a, q, w, there);
}

/* Take the grant and put the window into the table. */
static uint8_t add(struct vio_adapter *a, struct vio_window *w)
{
	struct vio_wtable *t = NULL;
	struct grant g = {{0}, 0, 0};
	uint8_t why = take(a, w->cookie, &g);

	if (why != VIO_ST_OK)
		return why;
	why = judge_grant(w, &g);
	if (why == VIO_ST_OK) {
		w->logical = g.at;
		w->va = phyp_mem(a->part, g.at, g.len);
		w->id = new_id(a);
		if (!w->va)
			why = VIO_ST_WINDOW_COOKIE;
		else if (vio_wtable_add(a->windows, w, &t) < 0)
			why = VIO_ST_WINDOW_FULL;
	}
	if (why != VIO_ST_OK) {
		give_back(a, w->cookie);
		return why;
	}
	if (vio_awindow_live(a))
		tell_device(a, w, true);
	publish(a, t);
	return VIO_ST_OK;
}

static bool device_cares(const struct vio_adapter *a, const struct vio_window *w)
{
	return a->active && w->role == VIO_WINDOW_BUFFERS && a->cfg.dev->told_windows &&
	       !vio_awindow_live(a);
}

bool vio_awindow_add(struct vio_adapter *a, const struct vio_msg *m, struct vio_msg *answer)
{
	struct vio_window w;
	uint8_t why = read_announcement(a, m, &w);

	if (why == VIO_ST_OK)
		why = judge_place(a, &w);
	if (why == VIO_ST_OK)
		why = add(a, &w);
	if (why != VIO_ST_OK) {
		vio_adone(a, m, why);
		return false;
	}
	*answer = *m;
	answer->arg16 = w.id;
	if (!device_cares(a, &w)) {
		vio_adone(a, answer, VIO_ST_OK);
		return false;
	}
	a->op_window = w;
	return true;
}

/* Rings that are worked on in place live as long as their queue. */
static bool holds_rings(const struct vio_adapter *a, const struct vio_window *w)
{
	struct vio_squeue *q;

	if (!vio_ring_in_place(a->ring))
		return false;
	vio_aqueues(a, i, q)
	{
		const struct ioba part[] = {q->place.desc, q->place.avail, q->place.used};

		for (unsigned k = 0; k < VIO_ARRAY_SIZE(part); k++) {
			if (part[k].v - w->at.v < w->len)
				return true;
		}
	}
	return false;
}

/*
 * Nothing new may use it. It stays in the table until what uses it has ended, because the guest may
 * take its pages back by force meanwhile, and vio_adapter_window_fault() must know them then.
 * False: no memory.
 */
static bool close_window(struct vio_adapter *a, uint16_t id)
{
	struct vio_wtable *t = NULL;

	if (vio_wtable_close(a->windows, id, &t) < 0)
		return false;
	publish(a, t);
	return true;
}

bool vio_awindow_del(struct vio_adapter *a, const struct vio_msg *m)
{
	const struct vio_window *w = vio_wtable_by_id(a->windows, m->arg16);
	struct vio_wtable *t = NULL;

	if (!w || holds_rings(a, w)) {
		vio_adone(a, m, w ? VIO_ST_QUEUE : VIO_ST_WINDOW_ID);
		return false;
	}
	/* All memory that it takes, before anything is changed: a closed window could not be opened again. */
	if (vio_wtable_del(a->windows, m->arg16, &t, &a->op_window) < 0 ||
	    (vio_awindow_live(a) && !close_window(a, m->arg16))) {
		free(t);
		vio_adone(a, m, VIO_ST_WINDOW_FULL);
		return false;
	}
	a->op_table = t;
	return true;
}

bool vio_awindow_busy(const struct vio_adapter *a)
{
	const struct vio_window *w = vio_wtable_by_id(a->windows, a->op_msg.arg16);
	struct vio_squeue *q;

	vio_aqueues(a, i, q)
	{
		if (w && a->cfg.dev->kind->window_busy(q->dq, w->va, w->len))
			return true;
	}
	return false;
}

void vio_awindow_drained(struct vio_adapter *a)
{
	bool add_it = a->op == VIO_AOP_WINDOW_ADD;

	if (!add_it) {
		/* No other message has changed the table meanwhile. */
		publish(a, a->op_table);
		a->op_table = NULL;
	}
	/* Held and with nothing in flight, a queue's owner does not touch its backend; or it is live. */
	tell_device(a, &a->op_window, add_it);
}

void vio_awindow_quiesced(struct vio_adapter *a)
{
	struct vio_msg m = a->op_msg;
	bool held = a->op == VIO_AOP_WINDOW_ADD || !vio_awindow_live(a);

	if (a->op == VIO_AOP_WINDOW_DEL)
		give_back(
			a,
			a->op_window
				.cookie); /* rescinded or gone meanwhile: then it is not ours either */
	memset(&a->op_window, 0, sizeof(a->op_window));
	a->op = VIO_AOP_NONE;
	if (!a->halted && held)
		vio_actl(a, VIO_SQ_RUN);
	vio_adone(a, &m, VIO_ST_OK);
}

bool vio_adapter_window_fault(struct vio_adapter *a, void *addr, bool gone)
{
	/*
	 * Whatever adapter's it is, the table can't go away: the thread polls and passes no
	 * quiescent state meanwhile (pair R), and a table that is replaced waits for that.
	 */
	const struct vio_wtable *t = vio_load_acquire(&a->windows);
	const uint8_t *at = addr;

	for (unsigned i = 0; t && i < t->n; i++) {
		const struct vio_window *w = &t->w[i];

		if (at < w->va || at >= w->va + w->len)
			continue;
		/*
		 * libphyp keeps the place of a lost grant empty until it is returned: nothing else
		 * can be here. A live grant's pages can still be missing: their owner has punched
		 * a hole into its memory, and there is no page to fill it.
		 */
		if ((!gone && phyp_mem(a->part, w->logical, w->len)) ||
		    mmap(w->va, w->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			 0) == MAP_FAILED)
			return false;
		vio_store_release(&a->rescinded, true);
		vio_store_release(&a->attention, true); /* pair Q */
		return true;
	}
	return false;
}

bool vio_awindows_return(struct vio_adapter *a, unsigned most)
{
	const struct vio_wtable *t;

	/* First of all, because others may have these addresses next; the table can still be read after. */
	if (!a->returning && a->windows) {
		a->returning = a->windows;
		a->returned = 0;
		vio_store_release(&a->windows, NULL); /* pair R */
	}
	t = a->returning;
	while (t && a->returned < t->n && most-- > 0)
		give_back(a, t->w[a->returned++].cookie);
	if (t && a->returned < t->n)
		return false;
	a->returning = NULL;
	retire(a, t);
	return true;
}

void vio_awindows_lost(struct vio_adapter *a, uint8_t why)
{
	struct vio_msg m = {.version = a->fsm.version, .op = VIO_OP_WINDOW_LOST, .status = why};

	/* As many as the guest's queue takes: it will see the closed connection too. */
	for (unsigned i = 0; a->windows && i < a->windows->n && a->out_n == 0; i++) {
		m.arg16 = a->windows->w[i].id;
		vio_asend_msg(a, &m);
	}
}
