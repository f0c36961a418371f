/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server goes, comes back, or stops the device: what is done once for all queues, with the gate
 * closed. What a queue's owner does with what it has in flight is the device's affair
 * (blk_recover.c, net_recover.c).
 */
#include <inttypes.h>
#include <sched.h>

#include "guest/front/front.h"

void vio_front_say(const struct vio_front *f, const char *fmt, ...)
{
	char line[420];
	va_list ap;

	if (!f->say)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	f->say(f->say_ctx, line);
}

static unsigned front_held(const struct vio_front *f)
{
	return f->ops->held(f);
}

/* Nobody moves anything of what is outstanding any more. */
static void front_ends(struct vio_front *f, const char *why)
{
	vio_front_say(f, "%s; %u outstanding %s(s) end with an error", why, front_held(f),
		      f->ops->item);
	vio_store_release(&f->dead,
			  true); /* owners give up their own: pair G's close has let them out */
}

/*
 * Given up while the server's process may be alive, and hang: what is outstanding stays the device's
 * until it is shown that the server, and the kernel on its behalf, reach none of it. Called again by
 * each step until then.
 */
static void front_abandon(struct vio_front *f)
{
	if (vio_transport_abandon(f->t)) {
		front_ends(f, f->why);
		return;
	}
	/* Who looks next sees a machine that has gone. */
	if (!f->kept && phyp_alive(f->part))
		vio_front_say(
			f,
			"%s; %u outstanding %s(s) are kept: the VIO server may still use their memory; they end with an error when it lets go or its process ends",
			f->why, front_held(f), f->ops->item);
	f->kept = true;
}

static void die(struct vio_front *f, const char *why)
{
	snprintf(f->why, sizeof(f->why), "%s", why);
	f->kept = false;
	f->dying = true;
	front_abandon(f);
}

/* Did anything complete since the last time that the device had to be reset? */
static bool progress(struct vio_front *f)
{
	bool any = false;

	for (unsigned i = 0; i < f->n_queues; i++) {
		struct vio_fq *q = f->q[i];

		if (!q)
			continue;
		any |= q->done != q->done_at_reset;
		q->done_at_reset = q->done;
	}
	return any;
}

/* The slides' sequence again, with the memory that is already carved and mapped. */
static int configure(struct vio_front *f, struct vio_err *err)
{
	int rc = vio_transport_start(f->t, err);

	if (rc == 0)
		rc = f->ops->same(f, err);
	for (unsigned i = 0; rc == 0 && i < f->n_win; i++) {
		rc = vio_transport_window_again(f->t, &f->win[i], err);
		if (rc == -EBUSY)
			rc = -EAGAIN; /* a call that stayed busy; -EBUSY is start's: pages of before */
	}
	for (unsigned i = 0; rc == 0 && i < f->n_queues; i++) {
		struct vio_fq *q = f->q[i];

		if (!q)
			continue;
		vio_vring_reset(q->vr);
		q->notify.ask = VIO_ASK_NOTHING;
		if (f->notify->looks)
			vio_fq_park(q);
		q->kick_due = false;
		vio_store_relaxed(&q->pending, 1); /* look once */
	}
	return rc ? rc : vio_front_go(f, err);
}

/* Configured: the owners do the rest. */
static void reopen(struct vio_front *f, const struct vio_fq *me)
{
	f->epoch++;
	vio_store_relaxed(&f->broken, 0);
	vio_store_relaxed(&f->waiting, false);
	f->timeouts = 0;
	vio_gate_open(&f->gate);
	for (unsigned i = 0; i < f->n_queues; i++)
		if (f->q[i] && f->q[i]->vcpu != me->vcpu)
			phyp_vcpu_prod(f->q[i]->vcpu);
}

/* The server still has pages of the last session, or the kernel on its behalf: nothing of it ends before that does. */
static void pages_kept(struct vio_front *f, const char *why)
{
	if (!f->kept)
		vio_front_say(f, "%s; %u outstanding %s(s) are kept until it lets go", why,
			      front_held(f), f->ops->item);
	f->kept = true;
}

static void reset_device(struct vio_front *f)
{
	struct vio_err err = {""};
	int rc = vio_transport_reset(f->t, &err);

	if (rc == -EALREADY) {
		pages_kept(f, err.msg);
		return;
	}
	f->kept = false;
	f->drained = rc == 0;
	if (rc == -ETIMEDOUT)
		vio_front_say(f, "%s; the CRQ was registered anew", err.msg);
	else if (rc && rc != -ENOTCONN && rc != -EPIPE)
		die(f, err.msg);
}

static void cannot_configure(struct vio_front *f, const char *why)
{
	vio_front_say(f, "configuring the %s again failed: %s", f->ops->device, why);
	if (++f->timeouts > VIO_FRONT_MAX_STRIKES) {
		char line[64];

		snprintf(line, sizeof(line), "the %s can't be configured again", f->ops->device);
		die(f, line);
	} else {
		reset_device(f);
	}
}

/* Wait for the right one: what is held is of that one only. */
static void stranger(struct vio_front *f, const char *why)
{
	struct vio_err err = {""};

	vio_front_say(f, "%s; %u %s(s) are kept until it is back", why, front_held(f),
		      f->ops->item);
	f->waiting = true;
	vio_transport_park(f->t, &err);
}

static void restart(struct vio_front *f, const struct vio_fq *me)
{
	struct vio_err err = {""};
	unsigned n = front_held(f);
	bool give_up = f->strikes > VIO_FRONT_MAX_STRIKES;
	int rc = configure(f, &err);

	f->kept &= rc == -EBUSY;
	switch (rc) {
	case 0:
		break;
	case -EBUSY:
		pages_kept(f, err.msg);
		return;
	case -ENOTCONN: /* gone again: wait again */
	case -EPIPE:
		return;
	case -ETIMEDOUT:
	case -EPROTO:
	case -EAGAIN:
	case -EPERM: /* a window or DRIVER_OK was refused; a second look at the same server may find it recovered */
		cannot_configure(f, err.msg);
		return;
	case -ESTALE:
		stranger(f, err.msg);
		return;
	default:
		die(f, err.msg);
		return;
	}
	if (vio_transport_get_info(f->t)->unfenced && !f->drained)
		f->in_doubt = f->epoch + 1;
	f->drained = false;
	if (give_up) {
		f->strikes = 0;
		f->give_up = f->epoch + 1;
		vio_front_say(
			f,
			"the device was stopped %u times without completing one %s (%s); %u %s(s) given up",
			VIO_FRONT_MAX_STRIKES + 1, f->ops->item, vio_transport_why(f->t), n,
			f->ops->item);
	} else {
		vio_front_say(f, "the VIO server is back; %u %s(s) %s", n, f->ops->item,
			      f->ops->fate);
	}
	reopen(f, me);
}

static void stopped(struct vio_front *f)
{
	static const char *const found[] = {
		[VIO_FRONT_NONSENSE] = "the server returned a request that is not outstanding",
		[VIO_FRONT_STUCK] = "pages of what it has completed can't be taken back from it",
	};
	uint32_t broken = vio_load_relaxed(&f->broken);
	const char *why = broken ? found[broken] : vio_transport_why(f->t);

	if (!f->kept) { /* else it is the same reset, tried again */
		f->strikes = progress(f) ? 1 : f->strikes + 1;
		vio_front_say(f,
			      "the VIO server stopped the device: %s; resetting it (%u %s(s) held)",
			      why, front_held(f), f->ops->item);
	}
	vio_store_relaxed(&f->broken, 0);
	reset_device(f);
}

/* The adapter is frozen: the driver's way out of it. False: not yet. */
static bool thaw(struct vio_front *f)
{
	struct vio_err err = {""};
	int rc;

	if (!f->frozen) {
		f->strikes = progress(f) ? 1 : f->strikes + 1;
		vio_front_say(f, "%s; resetting it (%u %s(s) held)", vio_transport_why(f->t),
			      front_held(f), f->ops->item);
	}
	f->frozen = true;
	rc = vio_transport_thaw(f->t, &err);
	if (rc == -EBUSY)
		return false;
	f->frozen = false;
	if (rc) {
		die(f, err.msg);
		return false;
	}
	vio_front_say(f, "the adapter is reset and thawed; waiting for the VIO server");
	vio_store_relaxed(&f->broken, 0);
	vio_store_relaxed(&f->waiting, true);
	return true;
}

static void front_gone(struct vio_front *f)
{
	if (f->waiting)
		return;
	vio_store_relaxed(&f->waiting, true);
	vio_front_say(f, "the VIO server has gone; waiting for it to return (%u %ss held)",
		      front_held(f), f->ops->item);
}

/*
 * The server is a process of its own: until it has ended, requests in it, or in the kernel on its
 * behalf, still move data. What is outstanding is the device's until then.
 */
static void machine_gone(struct vio_front *f)
{
	if (phyp_partner_ended(f->part, phyp_unit(f->part, f->unit)->unit)) {
		front_ends(f, "the hypervisor (phypd) has gone");
		return;
	}
	if (!f->lingering)
		vio_front_say(
			f,
			"the hypervisor (phypd) has gone; waiting for the VIO server's process to end, which may still use the memory of %u %s(s)",
			front_held(f), f->ops->item);
	f->lingering = true;
}

/* One step, with everybody out. The state may change under way: at most a few times in a row. */
static void step(struct vio_front *f, struct vio_fq *me)
{
	for (unsigned i = 0; i < 4 && !f->dead && vio_load_relaxed(&f->gate.closed); i++) {
		uint64_t used;
		enum vio_transport_state s;

		if (f->dying && phyp_alive(f->part)) {
			front_abandon(f);
			return;
		}
		s = vio_transport_poll(f->t, me->vcpu, &used);
		if (f->dying && s != VIO_T_DEAD)
			return; /* it dies just now */
		switch (s) {
		case VIO_T_RUNNING:
			if (!vio_load_relaxed(&f->broken)) {
				vio_gate_open(&f->gate); /* another thread has done it all */
				return;
			}
			/* fall through */
		case VIO_T_NEEDS_RESET:
			stopped(f);
			if (f->kept)
				return;
			break;
		case VIO_T_RESTARTED:
			restart(f, me);
			if (f->kept)
				return; /* asked again by the next step: each is a wait */
			break;
		case VIO_T_FROZEN:
			if (!thaw(f))
				return;
			break;
		case VIO_T_DOWN:
			front_gone(f);
			return;
		case VIO_T_DEAD:
			machine_gone(f);
			return;
		}
	}
}

void vio_front_recover(struct vio_front *f, struct vio_fq *q)
{
	if (vio_load_acquire(&f->dead) || vio_xchg_acq_rel(&f->recovering, 1))
		return; /* another thread is at it */
	if (!vio_load_relaxed(&f->gate.closed))
		vio_gate_close(&f->gate);
	/*
	 * The data path is short; in it nobody waits for anybody but, with exposures, for the
	 * server, and that ends.
	 */
	for (unsigned i = 0; i < f->n_queues; i++)
		while (f->q[i] && !vio_gate_left(&f->q[i]->pass))
			sched_yield();
	vio_transport_run_on(f->t, q->vcpu);
	step(f, q);
	if (q->vcpu != f->q[0]->vcpu)
		vio_transport_run_on(f->t, f->q[0]->vcpu);
	vio_xchg_acq_rel(&f->recovering, 0);
}
