/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Operations: what has to wait until the queues hold still. Each is the same walk (settle, drain,
 * take away, quiesce, finish) with its own middle and end. Nothing here waits: each turn goes as
 * far as it can.
 */
#include "server/head/adapter_priv.h"
#include "vio/cycles.h"

static bool window_op(enum vio_aop op)
{
	return op == VIO_AOP_WINDOW_ADD || op == VIO_AOP_WINDOW_DEL;
}

static bool live_del(const struct vio_adapter *a)
{
	return a->op == VIO_AOP_WINDOW_DEL && vio_awindow_live(a);
}

static void start_step(struct vio_adapter *a)
{
	struct vio_msg m = a->op_msg;
	bool done = false;
	uint8_t why = vio_astart_step(a, &done);

	if (why == VIO_ST_OK && !done)
		return;
	a->op = VIO_AOP_NONE;
	vio_adone(a, &m, why);
}

void vio_aop_begin(struct vio_adapter *a, enum vio_aop op, const struct vio_msg *m)
{
	a->op = op;
	if (m)
		a->op_msg = *m;
	/*
	 * A live withdrawal holds no queue: the window is closed, and what uses it ends by itself.
	 * (The CRQ waits, as with every operation: later announcements and withdrawals, and KICKs
	 * where they are messages.) Otherwise: held queues give back what is in flight: the guest
	 * is there and waits for it. A guest that has asked for a reset, or is gone, must find
	 * nothing touched from here on.
	 */
	if (op == VIO_AOP_START) {
		a->step = VIO_ASTEP_REACH;
		vio_aattend(a);
		start_step(a);
		return;
	}
	if (!a->halted && !live_del(a))
		vio_actl(a, window_op(op) || op == VIO_AOP_STOP ? VIO_SQ_HOLD : VIO_SQ_STOP);
	a->step = VIO_ASTEP_SETTLE;
	a->token = a->active ? a->env.quiesce_start(a->env.ctx) : 0;
	vio_aop_step(a);
	vio_aattend(a);
}

/* The queues are gone: give everything back and be as before PROBE, some in each turn. True: all is done. */
static bool clear_some(struct vio_adapter *a)
{
	if (!vio_afree_queue(a) || !vio_awindows_return(a, VIO_ADAPTER_RETURNS))
		return false;
	phyp_alias_set(a->part, a->u->unit, PHYP_ALIAS_TRANSIENT, NULL);
	if (phyp_alias_step(a->part, a->u->unit, VIO_ADAPTER_MAP_BYTES) > 0)
		return false;
	vio_aforget(a);
	return true;
}

static void finish(struct vio_adapter *a)
{
	enum vio_aop op = a->op;
	struct vio_msg m = a->op_msg;

	a->op = VIO_AOP_NONE;
	if (op == VIO_AOP_RESET) {
		vio_adone(a, &m, VIO_ST_OK);
		return;
	}
	vio_sfsm_init(&a->fsm, a->cfg.proto);
	if (op == VIO_AOP_RESTART && a->has_reply)
		vio_asend(a, a->reply_hi, a->reply_lo);
	a->has_reply = false;
	a->stopped = op == VIO_AOP_STOP;
	vio_aseen_update(a);
}

/* Has every lcore passed a quiescent state? With no queue there is nothing that one could hold. */
static bool quiet(struct vio_adapter *a)
{
	return !a->active || a->env.quiesce_done(a->env.ctx, a->token);
}

void vio_aop_step(struct vio_adapter *a)
{
	if (a->op == VIO_AOP_START) {
		start_step(a);
		return;
	}
	if (a->step == VIO_ASTEP_SETTLE) {
		if (!quiet(a))
			return;
		a->step = VIO_ASTEP_DRAIN;
	}
	if (a->step == VIO_ASTEP_DRAIN) {
		if (live_del(a) ? vio_awindow_busy(a) : !vio_adrained(a))
			return;
		if (window_op(a->op))
			vio_awindow_drained(a);
		else
			vio_aunassign(a);
		a->token = a->active ? a->env.quiesce_start(a->env.ctx) : 0;
		a->step = VIO_ASTEP_QUIESCE;
	}
	if (a->step == VIO_ASTEP_QUIESCE) {
		if (!quiet(a))
			return;
		if (window_op(a->op)) {
			vio_awindow_quiesced(a);
			return;
		}
		a->step = VIO_ASTEP_CLEAR;
	}
	if (clear_some(a))
		finish(a);
}

void vio_afrozen(struct vio_adapter *a)
{
	struct phyp_pe pe;

	a->event = false;
	if (h_read_pe_state(a->vcpu, a->u->unit, &pe) != H_SUCCESS ||
	    (pe.state == PE_NORMAL && pe.far == PE_NORMAL))
		return; /* and what came of it is in the queue */
	if (pe.state != PE_NORMAL)
		a->todo = VIO_ATODO_THAW;
	vio_counter_add(&a->seen.link_losses, 1);
	vio_asay(
		a,
		"%s: the adapter is frozen at %s end (IOBA 0x%llx); its device waits for its return",
		a->u->partner, pe.state != PE_NORMAL ? "this" : "its", (unsigned long long)pe.ioba);
	vio_link_init(&a->link, vio_now_ns());
	vio_aop_begin(a, VIO_AOP_LOST, NULL);
}

/*
 * Forced rescinds. The CPU's translation is gone when the agent asks, so nothing can pin the pages
 * any more; but the backend may have begun on them before. So the device stops, every lcore ends
 * its turn, and what is in flight ends. Not an operation: the guest that takes pages back may do so
 * because an operation does not end, and has asked for no answer.
 */
static uint64_t drain_start(void *ctx)
{
	struct vio_adapter *a = ctx;
	uint64_t number = vio_fetch_add(&a->drains_asked, 1) + 1; /* pair Z */

	vio_aattend(a); /* pair Q */
	phyp_vcpu_prod(a->vcpu);
	return number;
}

static bool drain_done(void *ctx, uint64_t number)
{
	const struct vio_adapter *a = ctx;

	return vio_load_acquire(&a->drains_done) >= number; /* pair Z */
}

static uint64_t never_start(void *ctx)
{
	(void)ctx;
	return 0;
}

static bool never_done(void *ctx, uint64_t number)
{
	(void)ctx, (void)number;
	return false;
}

void vio_adrain_watch(struct vio_adapter *a)
{
	const struct phyp_drain d = {drain_start, drain_done, a};

	phyp_on_rescind(a->part, a->u->unit, &d);
}

void vio_adrain_never(struct vio_adapter *a)
{
	const struct phyp_drain d = {never_start, never_done, NULL};

	phyp_on_rescind(a->part, a->u->unit, &d);
}

bool vio_adrain_due(const struct vio_adapter *a)
{
	return vio_load_acquire(&a->drains_asked) != a->drains_done; /* pair Z */
}

void vio_adrain_begin(struct vio_adapter *a)
{
	uint64_t asked = vio_load_acquire(&a->drains_asked); /* pair Z */

	/* One after another, or a guest that keeps asking would see no end. */
	if (a->draining != a->drains_done || asked == a->drains_done)
		return;
	a->draining = asked;
	vio_store_relaxed(&a->rescinded, true); /* the device stops in this turn, if it runs */
}

void vio_adrain_step(struct vio_adapter *a)
{
	/* Queues that are being opened are closed again in this turn. */
	if (a->draining == a->drains_done || a->op == VIO_AOP_START)
		return;
	/* The device has been stopped between begin and here. */
	if (a->drain_token == 0)
		a->drain_token = a->env.quiesce_start(a->env.ctx);
	if (!a->env.quiesce_done(a->env.ctx, a->drain_token) || !vio_adrained(a))
		return;
	a->drain_token = 0;
	vio_store_release(&a->drains_done, a->draining); /* pair Z */
}
