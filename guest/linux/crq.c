// SPDX-License-Identifier: GPL-2.0
/* The CRQ of an adapter: entries in and out, the connection, questions and answers. */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/sched.h>

#include "virtio_vio.h"

#define VV_CRQ_ENTRIES (CRQ_PAGE_BYTES / CRQ_ENTRY_BYTES)

/* ---------------------------------------------------------------------------- entries */

/* Take one entry; with the lock. */
static bool vv_pop(struct vv *vv, u64 *hi, u64 *lo)
{
	__be64 *e = vv->crq + 2 * vv->crq_next;
	__be64 first = smp_load_acquire(&e[0]), second; /* pair C */

	if (be64_to_cpu(first) >> 56 == CRQ_FREE)
		return false;
	/*
	 * Not a plain store: the hypervisor may write a transport event over the last entry of a full
	 * queue. Pair C: the second word is read before the slot is free again.
	 */
	for (;;) {
		__be64 old;

		second = READ_ONCE(e[1]);
		old = cmpxchg(&e[0], first, (__force __be64)0);
		if (old == first)
			break;
		first = old;
	}
	vv->crq_next = (vv->crq_next + 1) % VV_CRQ_ENTRIES;
	*hi = be64_to_cpu(first);
	*lo = be64_to_cpu(second);
	return true;
}

static s64 vv_send_entry(struct vv *vv, u64 hi, u64 lo)
{
	return vio_hv_call3(H_SEND_CRQ, vv->u->unit, hi, lo);
}

/* An entry of the handshake; any context. One that can't be sent now is made up for by the next hello. */
static bool vv_send_init(struct vv *vv, u64 hi, u64 lo)
{
	u64 end = ktime_get_mono_fast_ns() + VV_KICK_NS;
	s64 rc;

	do {
		rc = vv_send_entry(vv, hi, lo);
	} while ((vio_hv_busy(rc) || rc == H_DROPPED) && ktime_get_mono_fast_ns() < end);
	return rc == H_SUCCESS;
}

/* With the lock. What was agreed is void. */
static void vv_new_session(struct vv *vv, enum vv_state state)
{
	vio_gfsm_init(&vv->fsm, VIO_PROTO_LATEST);
	vv->session++;
	WRITE_ONCE(vv->state, state);
	if (!(READ_ONCE(vv->status) & VIRTIO_CONFIG_S_DRIVER_OK))
		WRITE_ONCE(vv->lost, true);
	mod_delayed_work(system_long_wq, &vv->work, 0);
	wake_up(&vv->wait);
}

/* With the lock. */
static void vv_link_lost(struct vv *vv)
{
	vio_link_init(&vv->link, ktime_get_real_ns());
	vv_new_session(vv, VV_DOWN);
}

/* With the lock. The first reason stays. */
static void vv_stop(struct vv *vv, u8 why)
{
	if (vv->state == VV_STOPPED)
		return;
	vv->why = why;
	WRITE_ONCE(vv->state, VV_STOPPED);
	mod_delayed_work(system_long_wq, &vv->work, 0);
	wake_up(&vv->wait);
}

static void vv_answered(struct vv *vv, enum vv_answer answer, const struct vio_msg *m)
{
	vv->answer_id = m->arg16;
	vv->answer_why = m->status;
	vv->answer = answer;
	wake_up(&vv->wait);
}

/* With the lock. Queues that are to be looked at are added to *used. */
static void vv_rx_message(struct vv *vv, const struct vio_msg *m, u64 *used)
{
	switch (vio_gfsm_rx(&vv->fsm, m)) {
	case VIO_GE_STEP_DONE:
	case VIO_GE_WINDOW_DONE:
		vv_answered(vv, VV_YES, m);
		break;
	case VIO_GE_STEP_REFUSED:
	case VIO_GE_WINDOW_REFUSED:
		vv_answered(vv, VV_NO, m);
		break;
	case VIO_GE_USED:
		*used |= 1ull << m->arg16;
		break;
	case VIO_GE_CONFIG:
		vv->config_changes++;
		vv->config_told = true;
		mod_delayed_work(system_long_wq, &vv->work, 0);
		break;
	case VIO_GE_WINDOW_LOST:
		/* A server that ends closes its CRQ next. */
		if (m->status != VIO_ST_SHUTDOWN)
			vv_stop(vv, m->status);
		break;
	case VIO_GE_NEEDS_RESET:
		vv_stop(vv, m->status);
		break;
	case VIO_GE_BAD:
		vv_stop(vv, vv->fsm.why);
		break;
	case VIO_GE_LATE:
		break;
	}
}

/* One entry, with the lock. */
static void vv_rx(struct vv *vv, u64 hi, u64 lo, u64 *used)
{
	bool reply = false;
	u64 rhi = 0, rlo = 0;
	struct vio_msg m;
	enum vio_link_event ev = vio_link_rx(&vv->link, hi, lo, &reply, &rhi, &rlo);

	if (reply && !vv_send_init(vv, rhi, rlo)) {
		vv_link_lost(vv); /* the server does not know that we are here: hello again later */
		return;
	}
	switch (ev) {
	case VIO_LINK_CAME_UP:
	case VIO_LINK_RESTARTED:
		vv_new_session(vv, VV_UP);
		break;
	case VIO_LINK_LOST:
		vv_new_session(vv, VV_DOWN);
		break;
	case VIO_LINK_RESUMED:
		vio_hv_call3(H_ENABLE_CRQ, vv->u->unit, 0, 0);
		vio_link_hello(&vv->link, &hi, &lo);
		vv_send_init(vv, hi, lo);
		break;
	case VIO_LINK_MESSAGE:
		if (!vio_msg_decode(hi, lo, &m))
			vv_rx_message(vv, &m, used);
		break;
	case VIO_LINK_NOTHING:
	case VIO_LINK_IGNORED:
		break;
	}
}

void vv_drain(struct vv *vv)
{
	u64 hi, lo, used = 0;
	unsigned long flags;

	spin_lock_irqsave(&vv->lock, flags);
	while (vv->registered && vv_pop(vv, &hi, &lo))
		vv_rx(vv, hi, lo, &used);
	spin_unlock_irqrestore(&vv->lock, flags);
	if (used)
		vv->used(vv, used);
}

static void vv_event(void *data)
{
	struct vv *vv = data;

	vv_drain(vv);
	if (vio_hv_dead())
		mod_delayed_work(system_long_wq, &vv->work, 0);
}

void vv_hello(struct vv *vv)
{
	unsigned long flags;
	u64 hi, lo;

	vv_drain(vv); /* the server's own INIT may be there */
	spin_lock_irqsave(&vv->lock, flags);
	if (vv->registered && vv->link.state == VIO_LINK_DOWN) {
		vio_link_hello(&vv->link, &hi, &lo);
		vv_send_init(vv, hi, lo);
	}
	spin_unlock_irqrestore(&vv->lock, flags);
}

enum vio_gstate vv_gstate(struct vv *vv)
{
	enum vio_gstate s;
	unsigned long flags;

	spin_lock_irqsave(&vv->lock, flags);
	s = vv->fsm.state;
	spin_unlock_irqrestore(&vv->lock, flags);
	return s;
}

/* ------------------------------------------------------------------------ open, close */

int vv_crq_open(struct vv *vv)
{
	unsigned long flags;
	int tries = 0;
	s64 rc;

	vv->crq = vv_page(vv, VV_CRQ);
	memset(vv->crq, 0, CRQ_PAGE_BYTES);
	spin_lock_irqsave(&vv->lock, flags);
	vv->crq_next = 0;
	vio_link_init(&vv->link, ktime_get_real_ns());
	vio_gfsm_init(&vv->fsm, VIO_PROTO_LATEST);
	vv->session++;
	WRITE_ONCE(vv->state, VV_DOWN);
	spin_unlock_irqrestore(&vv->lock, flags);
	while (vio_hv_busy(rc = vio_hv_call3(H_REG_CRQ, vv->u->unit, vv->page_at[VV_CRQ],
					     CRQ_PAGE_BYTES)) &&
	       tries++ < 1000)
		usleep_range(1000, 2000);
	if (rc != H_SUCCESS && rc != H_CLOSED) {
		dev_err(vv->dev, "registering the CRQ failed: H_REG_CRQ: %lld\n", rc);
		return rc == H_RESOURCE || vio_hv_busy(rc) ? -EBUSY : -EIO;
	}
	spin_lock_irqsave(&vv->lock, flags);
	vv->registered = true;
	spin_unlock_irqrestore(&vv->lock, flags);
	vio_hv_listen(vv->hdev, vv_event, vv);
	vio_hv_call3(H_VIO_SIGNAL, vv->u->unit, VIO_SIGNAL_ON, 0);
	vv_hello(vv); /* after a look at what arrived before; H_CLOSED: the server's INIT will come */
	queue_delayed_work(system_long_wq, &vv->work, msecs_to_jiffies(VV_HELLO_MS)); /* or was lost */
	return 0;
}

void vv_crq_close(struct vv *vv)
{
	unsigned long flags;

	if (!vv->registered)
		return;
	vio_hv_listen(vv->hdev, NULL, NULL);
	spin_lock_irqsave(&vv->lock, flags);
	vv->registered = false;
	spin_unlock_irqrestore(&vv->lock, flags);
	/* Until it is: the hypervisor writes into its page. */
	while (vio_hv_busy(vio_hv_call3(H_FREE_CRQ, vv->u->unit, 0, 0)) && !vio_hv_dead())
		usleep_range(1000, 2000);
}

/* ------------------------------------------------------------------------ ask and say */

int vv_send(struct vv *vv, struct vio_msg *m)
{
	unsigned long end = jiffies + msecs_to_jiffies(VV_ANSWER_MS), flags;
	u32 session;
	u64 hi, lo;
	int bad;
	s64 rc;

	spin_lock_irqsave(&vv->lock, flags);
	session = vv->session;
	bad = vv->link.state == VIO_LINK_UP ? vio_gfsm_tx(&vv->fsm, m) : -ENOTCONN;
	spin_unlock_irqrestore(&vv->lock, flags);
	if (bad)
		return bad;
	vio_msg_encode(m, &hi, &lo);
	while ((rc = vv_send_entry(vv, hi, lo)) == H_DROPPED || vio_hv_busy(rc)) {
		vv_drain(vv); /* it may wait for room in ours */
		if (READ_ONCE(vv->session) != session)
			return -ENOTCONN;
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		usleep_range(50, 100);
	}
	if (rc == H_SUCCESS)
		return 0;
	spin_lock_irqsave(&vv->lock, flags);
	if (vv->session == session)
		vv_link_lost(vv);
	spin_unlock_irqrestore(&vv->lock, flags);
	return rc == H_CLOSED ? -ENOTCONN : -EIO;
}

/* No answer is neither yes nor no: both sides agree again only after a reset. */
static void vv_unknown_outcome(struct vv *vv, u32 session)
{
	unsigned long flags;

	spin_lock_irqsave(&vv->lock, flags);
	if (vv->session == session && vv->fsm.state != VIO_G_RESETTING) {
		vv->fsm.state = VIO_G_BROKEN;
		vv_stop(vv, VIO_ST_NO_ANSWER);
	}
	spin_unlock_irqrestore(&vv->lock, flags);
}

static bool vv_settled(struct vv *vv, u32 session, bool patient)
{
	return READ_ONCE(vv->answer) != VV_NO_ANSWER || READ_ONCE(vv->session) != session ||
	       (!patient && READ_ONCE(vv->state) == VV_STOPPED) || vio_hv_dead();
}

static int vv_wait_answer(struct vv *vv, u32 session, bool patient)
{
	unsigned long end = jiffies + msecs_to_jiffies(VV_ANSWER_MS);

	while (!vv_settled(vv, session, patient)) {
		if (time_after(jiffies, end)) {
			vv_unknown_outcome(vv, session);
			return -ETIMEDOUT;
		}
		wait_event_timeout(vv->wait, vv_settled(vv, session, patient),
				   msecs_to_jiffies(VV_LOOK_MS));
		vv_drain(vv);
	}
	if (READ_ONCE(vv->session) != session || vio_hv_dead())
		return -ENOTCONN;
	return vv->answer == VV_YES ? 0 : vv->answer == VV_NO ? -EPERM : -EPROTO;
}

int vv_ask(struct vv *vv, struct vio_msg *m)
{
	/* These are answered by a stopped device too. */
	bool patient = m->op == VIO_OP_RESET || m->op == VIO_OP_WINDOW_ADD;
	u8 op = m->op;
	u32 session;
	int rc;

	mutex_lock(&vv->ask);
	vv->answer = VV_NO_ANSWER;
	session = READ_ONCE(vv->session);
	rc = vv_send(vv, m);
	if (!rc)
		rc = vv_wait_answer(vv, session, patient);
	mutex_unlock(&vv->ask);
	if (rc == -EPERM)
		dev_err(vv->dev, "the server refused %s: %s\n", vio_op_name(op),
			vio_status_text(vv->answer_why));
	else if (rc && rc != -ENOTCONN)
		dev_err(vv->dev, "%s: no answer of the server that makes sense (%d)\n",
			vio_op_name(op), rc);
	return rc;
}

bool vv_kick(struct vv *vv, u16 queue)
{
	u64 end = 0;
	s64 rc;

	/* No session: the server looks at the queues by itself when there is one. */
	while (READ_ONCE(vv->state) == VV_RUNNING) {
		rc = vv_send_entry(vv, READ_ONCE(vv->kick_hi) | queue, 0);
		if (rc != H_DROPPED && !vio_hv_busy(rc))
			return true; /* or closed: the event will come */
		if (!end)
			end = ktime_get_mono_fast_ns() + VV_KICK_NS;
		if (ktime_get_mono_fast_ns() > end)
			return false;
		cpu_relax();
	}
	return true;
}
