/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest transport: the CRQ, and what is made of what arrives in it. */
#include <string.h>

#include "guest/transport/transport_priv.h"
#include "vio/cycles.h"

/* -------------------------------------------------------------------- small things ---- */

void vio_t_get(void *dst, const void *shared, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)dst)[i] = vio_load_relaxed((const uint8_t *)shared + i);
}

void vio_t_put(void *shared, const void *src, size_t len)
{
	for (size_t i = 0; i < len; i++)
		vio_store_relaxed((uint8_t *)shared + i, ((const uint8_t *)src)[i]);
}

void vio_t_say(const struct vio_transport *t, const char *fmt, ...)
{
	char line[400];
	va_list ap;

	if (!t->cfg.say)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	t->cfg.say(t->cfg.say_ctx, line);
}

static void trace(const struct vio_transport *t, uint64_t hi, uint64_t lo, bool to_server)
{
	char line[200];

	if (vio_likely(!t->cfg.trace))
		return;
	vio_crq_trace(line, sizeof(line), hi, lo, to_server);
	fprintf(t->cfg.trace, "%s\n", line);
}

bool vio_t_again(struct phyp_vcpu *vcpu, uint64_t since, uint64_t limit_ns)
{
	uint64_t waited = vio_now_ns() - since;

	if (waited > limit_ns || !phyp_alive(phyp_vcpu_part(vcpu)))
		return false;
	if (waited < 50000)
		vio_cpu_relax();
	else
		phyp_vcpu_wait(vcpu, 0, 50000);
	return true;
}

void vio_t_set_state(struct vio_transport *t, enum vio_transport_state s)
{
	vio_store_release(&t->state, (uint32_t)s); /* pair S */
}

void vio_t_lock(struct vio_transport *t)
{
	while (vio_xchg_acq_rel(&t->lock, 1))
		vio_cpu_relax();
}

void vio_t_unlock(struct vio_transport *t)
{
	vio_xchg_acq_rel(&t->lock, 0);
}

enum vio_gstate vio_t_gstate(struct vio_transport *t)
{
	enum vio_gstate s;

	vio_t_lock(t);
	s = t->fsm.state;
	vio_t_unlock(t);
	return s;
}

/* ----------------------------------------------------------------------- receiving ---- */

/* With the lock. What was agreed is void. */
void vio_t_new_session(struct vio_transport *t, enum vio_transport_state s)
{
	vio_gfsm_init(&t->fsm, t->cfg.proto);
	vio_store_relaxed(&t->session, t->session + 1);
	vio_store_relaxed(&t->hello_wait, 0);
	vio_store_relaxed(&t->used, 0);
	vio_t_set_state(t, s);
}

/* With the lock. The server's queue answered H_CLOSED, or could not be reached. */
static void link_lost(struct vio_transport *t)
{
	vio_link_init(&t->link, vio_now_ns());
	vio_t_new_session(t, VIO_T_DOWN);
}

/* An entry of the handshake, with the lock. When it can't be sent now the next hello makes up for it. */
static bool send_init(struct vio_transport *t, struct phyp_vcpu *vcpu, uint64_t hi, uint64_t lo)
{
	uint64_t since = vio_now_ns();
	int64_t rc;

	do {
		rc = h_send_crq(vcpu, t->u->unit, hi, lo);
	} while ((phyp_rc_busy(rc) || rc == H_DROPPED) && vio_t_again(vcpu, since, VIO_T_KICK_NS));
	if (rc == H_SUCCESS)
		trace(t, hi, lo, true);
	return rc == H_SUCCESS;
}

void vio_t_hello(struct vio_transport *t, struct phyp_vcpu *vcpu)
{
	uint64_t hi, lo;

	vio_store_relaxed(&t->hello_ns, vio_now_ns());
	vio_link_hello(&t->link, &hi, &lo);
	send_init(t, vcpu, hi, lo);
}

/* The device can't go on: status text, and the detail. The first reason stays. */
__attribute__((format(printf, 4, 5))) static void
stop(struct vio_transport *t, enum vio_transport_state s, uint8_t why, const char *fmt, ...)
{
	char detail[96];
	va_list ap;

	if (t->state == VIO_T_NEEDS_RESET)
		return;
	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	snprintf(t->why, sizeof(t->why), "%s (%s)", vio_status_text(why), detail);
	vio_t_set_state(t, s);
}

static void transport_answer(struct vio_transport *t, uint32_t what, const struct vio_msg *m)
{
	vio_store_relaxed(&t->answer_id, m->arg16);
	vio_store_relaxed(&t->answer_why, m->status);
	vio_store_relaxed(&t->answer_arg, m->arg);
	vio_store_release(&t->answer, what); /* pair S */
}

static void rx_message(struct vio_transport *t, const struct vio_msg *m)
{
	switch (vio_gfsm_rx(&t->fsm, m)) {
	case VIO_GE_STEP_DONE:
	case VIO_GE_WINDOW_DONE:
		transport_answer(t, VIO_T_OK, m);
		break;
	case VIO_GE_STEP_REFUSED:
	case VIO_GE_WINDOW_REFUSED:
		transport_answer(t, VIO_T_REFUSED, m);
		break;
	case VIO_GE_USED:
		vio_fetch_or(&t->used, 1ull << m->arg16);
		break;
	case VIO_GE_WINDOW_LOST:
		/* A server that ends closes its CRQ next; resetting it would only delay that. */
		stop(t, m->status == VIO_ST_SHUTDOWN ? VIO_T_DOWN : VIO_T_NEEDS_RESET, m->status,
		     "window %u withdrawn by the server", m->arg16);
		break;
	case VIO_GE_NEEDS_RESET:
		if (m->arg16 == 0xffff)
			stop(t, VIO_T_NEEDS_RESET, m->status, "no queue, 0x%llx",
			     (unsigned long long)m->arg);
		else
			stop(t, VIO_T_NEEDS_RESET, m->status, "queue %u, 0x%llx", m->arg16,
			     (unsigned long long)m->arg);
		break;
	case VIO_GE_BAD:
		stop(t, VIO_T_NEEDS_RESET, t->fsm.why,
		     "the server sent %s, which is not allowed now", vio_op_name(m->op));
		break;
	case VIO_GE_CONFIG:
		vio_store_release(&t->config_changes, t->config_changes + 1); /* pair S */
		if (t->cfg.config_changed)
			t->cfg.config_changed(t->cfg.config_ctx);
		break;
	case VIO_GE_LATE:
		break;
	}
}

/* One entry, with the lock. */
static void rx(struct vio_transport *t, struct phyp_vcpu *vcpu, uint64_t hi, uint64_t lo)
{
	bool reply = false;
	uint64_t rhi = 0, rlo = 0;
	struct vio_msg m;
	enum vio_link_event ev = vio_link_rx(&t->link, hi, lo, &reply, &rhi, &rlo);

	trace(t, hi, lo, false);
	if (reply && !send_init(t, vcpu, rhi, rlo)) {
		link_lost(t); /* the server does not know that we are here: hello again later */
		return;
	}
	switch (ev) {
	case VIO_LINK_CAME_UP:
	case VIO_LINK_RESTARTED:
		vio_t_new_session(t, VIO_T_RESTARTED);
		break;
	case VIO_LINK_LOST:
		vio_t_new_session(t, VIO_T_DOWN);
		break;
	case VIO_LINK_RESUMED:
		for (uint64_t since = vio_now_ns(); phyp_rc_busy(h_enable_crq(vcpu, t->u->unit));)
			if (!vio_t_again(vcpu, since, VIO_T_BUSY_NS))
				break;
		vio_t_hello(t, vcpu);
		break;
	case VIO_LINK_MESSAGE:
		if (vio_msg_decode(hi, lo, &m) == 0)
			rx_message(t, &m);
		break;
	case VIO_LINK_NOTHING:
	case VIO_LINK_IGNORED:
		break;
	}
}

void vio_t_drain(struct vio_transport *t, struct phyp_vcpu *vcpu)
{
	uint64_t hi, lo;

	/*
	 * Who finds the lock taken leaves its entry to the holder. The holder lets go with a
	 * read-modify-write, which is ordered after that of the one who left, and then looks again:
	 * it sees the entry that the other one saw.
	 */
	do {
		if (vio_xchg_acq_rel(&t->lock, 1))
			return;
		/* What arrived before a freeze is void: the queue is registered anew. */
		while (t->state != VIO_T_FROZEN && phyp_crq_pop(&t->crq, &hi, &lo)) {
			vio_store_relaxed(&t->slot, t->crq.entry + 2ull * t->crq.next);
			rx(t, vcpu, hi, lo);
		}
		vio_t_unlock(t);
	} while (vio_t_waiting(t) && vio_load_relaxed(&t->state) != VIO_T_FROZEN);
}

/* The hypervisor says that the adapter, or the server's end of it, was stopped: see which. No lock is held. */
static void look_at_endpoint(struct vio_transport *t, struct phyp_vcpu *vcpu)
{
	static const char *const why[] = {
		[PE_NO_REASON] = "was stopped",
		[PE_ASKED] = "was frozen on request",
		[PE_BAD_READ] = "is frozen: the device read what it may not",
		[PE_BAD_WRITE] = "is frozen: the device wrote where it may not",
	};
	struct phyp_pe pe;

	if (h_read_pe_state(vcpu, t->u->unit, &pe) != H_SUCCESS)
		return;
	vio_t_lock(t);
	if (pe.state != PE_NORMAL && t->state != VIO_T_FROZEN) {
		snprintf(t->why, sizeof(t->why), "the adapter %s (IOBA 0x%llx)",
			 why[pe.reason < VIO_ARRAY_SIZE(why) ? pe.reason : 0],
			 (unsigned long long)pe.ioba);
		vio_link_init(&t->link, vio_now_ns());
		vio_t_new_session(t, VIO_T_FROZEN);
	} else if (pe.state == PE_NORMAL && pe.far != PE_NORMAL && t->link.state == VIO_LINK_UP) {
		/* The server's end: it comes back as after a restart. */
		vio_link_init(&t->link, vio_now_ns());
		vio_t_new_session(t, VIO_T_DOWN);
	}
	vio_t_unlock(t);
}

/* -------------------------------------------------------------- sending and waiting ---- */

static int closed(struct vio_transport *t, struct vio_err *err, uint8_t op)
{
	return vio_err_set(err, -ENOTCONN, "the VIO server (partition %s) went away at %s",
			   t->u->partner, vio_op_name(op));
}

int vio_t_send(struct vio_transport *t, struct phyp_vcpu *vcpu, struct vio_msg *m,
	       struct vio_err *err)
{
	uint64_t since = vio_now_ns(), hi, lo;
	uint32_t session;
	int64_t rc;
	int bad;

	vio_t_lock(t);
	session = t->session;
	bad = t->link.state == VIO_LINK_UP ? vio_gfsm_tx(&t->fsm, m) : -ENOTCONN;
	vio_t_unlock(t);
	if (bad == -ENOTCONN)
		return closed(t, err, m->op);
	if (bad)
		return vio_err_set(err, bad, "%s can't be sent in state %s", vio_op_name(m->op),
				   vio_gstate_name(vio_t_gstate(t)));
	vio_msg_encode(m, &hi, &lo);
	while ((rc = h_send_crq(vcpu, t->u->unit, hi, lo)) == H_DROPPED || phyp_rc_busy(rc)) {
		/* Its queue is full. It may be waiting for room in ours. */
		vio_t_drain(t, vcpu);
		if (vio_load_relaxed(&t->session) != session)
			return closed(t, err, m->op);
		if (!vio_t_again(vcpu, since, t->cfg.timeout_ms * 1000000ull))
			return vio_err_set(
				err, -ETIMEDOUT,
				"the VIO server (partition %s) takes no message: its queue was full for %u ms at %s",
				t->u->partner, t->cfg.timeout_ms, vio_op_name(m->op));
	}
	if (rc == H_SUCCESS) {
		trace(t, hi, lo, true);
		return 0;
	}
	if (rc == H_R_STATE)
		look_at_endpoint(t, vcpu);
	else if (rc != H_CLOSED)
		return vio_err_set(err, -EIO, "sending %s to the VIO server failed: %s",
				   vio_op_name(m->op), phyp_rc_name(rc));
	vio_t_lock(t);
	if (t->session == session)
		link_lost(t);
	vio_t_unlock(t);
	return closed(t, err, m->op);
}

/* Sleep until something may have arrived. */
static void nap(struct vio_transport *t, struct phyp_vcpu *vcpu)
{
	phyp_irq_take(vcpu); /* end of interrupt first, then look once more */
	if (!vio_t_waiting(t))
		phyp_vcpu_wait(vcpu, VIO_T_SPIN_NS, VIO_T_NAP_NS);
}

/*
 * No answer is not "no": the server may have done it, or may do it later. Both sides agree again
 * only after a reset.
 */
static void unknown_outcome(struct vio_transport *t, uint32_t session, uint8_t op)
{
	vio_t_lock(t);
	if (t->session == session && t->fsm.state != VIO_G_RESETTING) {
		t->fsm.state = VIO_G_BROKEN;
		stop(t, VIO_T_NEEDS_RESET, VIO_ST_NO_ANSWER, "%s", vio_op_name(op));
	}
	vio_t_unlock(t);
}

int vio_t_ask(struct vio_transport *t, struct phyp_vcpu *vcpu, struct vio_msg *m,
	      struct vio_err *err)
{
	uint64_t since = vio_now_ns();
	uint32_t session = vio_load_relaxed(&t->session), got;
	/* These are answered by a stopped device too. */
	bool patient =
		m->op == VIO_OP_RESET || m->op == VIO_OP_WINDOW_ADD || m->op == VIO_OP_WINDOW_DEL;
	int rc;

	vio_store_relaxed(&t->answer, VIO_T_NO_ANSWER);
	rc = vio_t_send(t, vcpu, m, err);
	if (rc)
		return rc;
	for (;;) {
		vio_t_drain(t, vcpu);
		got = vio_load_acquire(&t->answer); /* pair S */
		if (vio_load_relaxed(&t->session) != session)
			return closed(t, err, m->op);
		if (got == VIO_T_OK)
			return 0;
		if (got == VIO_T_REFUSED && t->answer_why == VIO_ST_STORE)
			return vio_err_set(
				err, -EPERM, "the VIO server refused %s: %s: %s",
				vio_op_name(m->op), vio_status_text(VIO_ST_STORE),
				strerror(t->answer_arg < 4096 ? (int)t->answer_arg : EIO));
		if (got == VIO_T_REFUSED)
			return vio_err_set(err, -EPERM, "the VIO server refused %s: %s",
					   vio_op_name(m->op), vio_status_text(t->answer_why));
		if (!patient && vio_t_state(t) == VIO_T_NEEDS_RESET)
			return vio_err_set(err, -EPROTO,
					   "the device stopped before it answered %s: %s",
					   vio_op_name(m->op), t->why);
		if (!phyp_alive(t->part))
			return vio_err_set(err, -EPIPE, "the hypervisor (phypd) went away at %s",
					   vio_op_name(m->op));
		if (vio_now_ns() - since > t->cfg.timeout_ms * 1000000ull) {
			unknown_outcome(t, session, m->op);
			return vio_err_set(
				err, -ETIMEDOUT,
				"the VIO server (partition %s) did not answer %s within %u ms",
				t->u->partner, vio_op_name(m->op), t->cfg.timeout_ms);
		}
		nap(t, vcpu);
	}
}

/* --------------------------------------------------------------------- running calls ---- */

int vio_transport_kick(struct vio_transport *t, struct phyp_vcpu *vcpu, uint16_t queue)
{
	uint64_t hi = vio_load_relaxed(&t->kick_hi) | queue;
	uint64_t since = 0;
	int64_t rc;

	if (vio_unlikely(vio_load_relaxed(&t->state) != VIO_T_RUNNING))
		return -ENOTCONN;
	while (vio_unlikely((rc = h_send_crq(vcpu, t->u->unit, hi, 0)) != H_SUCCESS)) {
		if (rc != H_DROPPED && !phyp_rc_busy(rc)) {
			uint32_t session = vio_load_relaxed(&t->session);

			if (rc == H_R_STATE)
				look_at_endpoint(t, vcpu);
			vio_t_lock(t);
			if (t->state == VIO_T_RUNNING && t->session == session)
				link_lost(t);
			vio_t_unlock(t);
			return -ENOTCONN;
		}
		since = since ? since : vio_now_ns();
		vio_t_drain(t, vcpu); /* the server may be waiting for room in our queue */
		if (vio_load_relaxed(&t->state) != VIO_T_RUNNING)
			return -ENOTCONN;
		if (vio_now_ns() - since > VIO_T_KICK_NS)
			return -EAGAIN;
		vio_cpu_relax();
	}
	trace(t, hi, 0, true);
	return 0;
}

/* The server is away: now and then ask whether it is back, should its INIT have been missed. */
static void look_for_server(struct vio_transport *t, struct phyp_vcpu *vcpu)
{
	const uint64_t set = vio_load_relaxed(&t->hello_wait), wait = set ? set : VIO_T_HELLO_NS;

	if (vio_now_ns() - vio_load_relaxed(&t->hello_ns) < wait)
		return;
	look_at_endpoint(t, vcpu);
	if (vio_load_relaxed(&t->state) != VIO_T_DOWN || vio_xchg_acq_rel(&t->lock, 1))
		return;
	/* Only on an empty queue: the server's own INIT may be in it. */
	if (t->link.state == VIO_LINK_DOWN && !vio_t_waiting(t)) {
		vio_t_hello(t, vcpu);
		vio_store_relaxed(&t->hello_wait,
				  2 * wait < VIO_T_HELLO_MOST_NS ? 2 * wait : VIO_T_HELLO_MOST_NS);
	}
	vio_t_unlock(t);
	if (vio_t_waiting(t))
		vio_t_drain(t, vcpu);
}

enum vio_transport_state vio_transport_poll(struct vio_transport *t, struct phyp_vcpu *vcpu,
					    uint64_t *used)
{
	if (vio_unlikely(vio_t_waiting(t)))
		vio_t_drain(t, vcpu);
	if (vio_unlikely(phyp_event_take(vcpu, t->u->unit)))
		look_at_endpoint(t, vcpu);
	*used = vio_load_relaxed(&t->used);
	if (vio_unlikely(*used))
		*used = vio_xchg_acq_rel(&t->used, 0);
	if (vio_unlikely(!phyp_alive(t->part)))
		vio_t_set_state(t, VIO_T_DEAD);
	else if (vio_unlikely(vio_load_relaxed(&t->state) == VIO_T_DOWN))
		look_for_server(t, vcpu);
	return vio_t_state(t);
}

int vio_transport_wait(struct vio_transport *t, uint64_t spin_ns, uint64_t timeout_ns)
{
	phyp_irq_take(t->vcpu); /* end of interrupt first, then look once more */
	if (vio_t_waiting(t) || vio_load_relaxed(&t->used))
		return 0;
	return phyp_vcpu_wait(t->vcpu, spin_ns, timeout_ns);
}

const char *vio_transport_why(const struct vio_transport *t)
{
	return t->why;
}

const struct vio_transport_info *vio_transport_get_info(const struct vio_transport *t)
{
	return &t->info;
}

void vio_transport_run_on(struct vio_transport *t, struct phyp_vcpu *vcpu)
{
	if (t->vcpu == vcpu)
		return;
	t->vcpu = vcpu;
	phyp_irq_route(vcpu, t->u->unit);
}
