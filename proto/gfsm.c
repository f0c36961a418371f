/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/* The guest's side of device configuration: two tables, what may be sent when and what may arrive when. */
#include <errno.h>

#include "proto/fsm.h"

#define IN(s)      (1u << (s))
#define ANY        (IN(VIO_N_GSTATE) - 1)
#define STAY       VIO_N_GSTATE
#define CONFIGURED (IN(VIO_G_FEATURES) | IN(VIO_G_STARTING) | IN(VIO_G_RUNNING))
/* The session is over but for RESET and its answer; the server may not know it yet. */
#define OVER (IN(VIO_G_BROKEN) | IN(VIO_G_RESETTING))

/* What may be sent: in which states, from which version on, and the state after it in version 1 and 2. */
static const struct tx_rule {
	uint8_t op, min_version;
	uint16_t from;
	uint8_t to_v1, to_v2;
} tx_rules[] = {
	{VIO_OP_PROBE, 1, IN(VIO_G_IDLE), VIO_G_PROBING, VIO_G_PROBING},
	{VIO_OP_ACKNOWLEDGE, 1, IN(VIO_G_PROBED), VIO_G_ACKING, VIO_G_ACKING},
	{VIO_OP_DRIVER, 1, IN(VIO_G_ACKED), VIO_G_FEATURES, VIO_G_DRIVER},
	{VIO_OP_FEATURES_OK, 2, IN(VIO_G_DRIVER), STAY, VIO_G_NEGOTIATING},
	{VIO_OP_QUEUE, 1, IN(VIO_G_FEATURES), STAY, STAY},
	{VIO_OP_DRIVER_OK, 1, IN(VIO_G_FEATURES), VIO_G_STARTING, VIO_G_STARTING},
	{VIO_OP_RESET, 1, ANY & ~IN(VIO_G_RESETTING), VIO_G_RESETTING, VIO_G_RESETTING},
	{VIO_OP_WINDOW_ADD, 2, IN(VIO_G_FEATURES) | IN(VIO_G_RUNNING), STAY, STAY},
	{VIO_OP_WINDOW_DEL, 2, IN(VIO_G_FEATURES) | IN(VIO_G_RUNNING), STAY, STAY},
	{VIO_OP_CONFIG_SET, 2, IN(VIO_G_FEATURES) | IN(VIO_G_RUNNING), STAY, STAY},
	{VIO_OP_KICK, 1, IN(VIO_G_RUNNING), STAY, STAY},
};

/*
 * What may arrive: the event it means in the states `in`; elsewhere it is late in the states `late`
 * and a violation in all others. A step's answer moves the state to `to`.
 */
static const struct rx_rule {
	uint8_t op, min_version;
	uint16_t in, late;
	enum vio_gevent event;
	uint8_t to;
} rx_rules[] = {
	{VIO_OP_PROBE | VIO_OP_REPLY, 1, IN(VIO_G_PROBING), OVER, VIO_GE_STEP_DONE, VIO_G_PROBED},
	{VIO_OP_ACKNOWLEDGE | VIO_OP_REPLY, 1, IN(VIO_G_ACKING), OVER, VIO_GE_STEP_DONE,
	 VIO_G_ACKED},
	{VIO_OP_FEATURES_OK | VIO_OP_REPLY, 2, IN(VIO_G_NEGOTIATING), OVER, VIO_GE_STEP_DONE,
	 VIO_G_FEATURES},
	{VIO_OP_DRIVER_OK | VIO_OP_REPLY, 1, IN(VIO_G_STARTING), OVER, VIO_GE_STEP_DONE,
	 VIO_G_RUNNING},
	{VIO_OP_RESET | VIO_OP_REPLY, 1, IN(VIO_G_RESETTING), 0, VIO_GE_STEP_DONE, VIO_G_IDLE},
	/* In OVER too: a withdrawal that crossed NEEDS_RESET is still waited for. */
	{VIO_OP_WINDOW_ADD | VIO_OP_REPLY, 2, CONFIGURED | OVER, 0, VIO_GE_WINDOW_DONE, STAY},
	{VIO_OP_WINDOW_DEL | VIO_OP_REPLY, 2, CONFIGURED | OVER, 0, VIO_GE_WINDOW_DONE, STAY},
	{VIO_OP_CONFIG_SET | VIO_OP_REPLY, 2, CONFIGURED | OVER, 0, VIO_GE_WINDOW_DONE, STAY},
	{VIO_OP_WINDOW_LOST, 2, CONFIGURED | OVER, 0, VIO_GE_WINDOW_LOST, STAY},
	/* A queue's own lcore sends USED: it may overtake DRIVER_OK's answer, or come after a restart. */
	{VIO_OP_USED, 1, IN(VIO_G_STARTING) | IN(VIO_G_RUNNING), ANY, VIO_GE_USED, STAY},
	{VIO_OP_CONFIG, 1,
	 ANY & ~(OVER | IN(VIO_G_IDLE) | IN(VIO_G_PROBING) | IN(VIO_G_PROBED) | IN(VIO_G_ACKING)),
	 OVER, VIO_GE_CONFIG, STAY},
	{VIO_OP_NEEDS_RESET, 1, ANY & ~(OVER | IN(VIO_G_IDLE)), OVER, VIO_GE_NEEDS_RESET,
	 VIO_G_BROKEN},
};

static const char *const names[VIO_N_GSTATE] = {
	[VIO_G_IDLE] = "IDLE",
	[VIO_G_PROBING] = "PROBING",
	[VIO_G_PROBED] = "PROBED",
	[VIO_G_ACKING] = "ACKING",
	[VIO_G_ACKED] = "ACKED",
	[VIO_G_DRIVER] = "DRIVER",
	[VIO_G_NEGOTIATING] = "NEGOTIATING",
	[VIO_G_FEATURES] = "FEATURES",
	[VIO_G_STARTING] = "STARTING",
	[VIO_G_RUNNING] = "RUNNING",
	[VIO_G_RESETTING] = "RESETTING",
	[VIO_G_BROKEN] = "BROKEN",
};

const char *vio_gstate_name(enum vio_gstate s)
{
	return (unsigned)s < VIO_N_GSTATE ? names[s] : "?";
}

void vio_gfsm_init(struct vio_gfsm *f, uint8_t max_version)
{
	if (max_version < VIO_PROTO_V1)
		max_version = VIO_PROTO_V1;
	if (max_version > VIO_PROTO_LATEST)
		max_version = VIO_PROTO_LATEST;
	*f = (struct vio_gfsm){.state = VIO_G_IDLE, .max_version = max_version};
}

/* Those that a running device answers: one at a time, and a refusal leaves the device as it was. */
static bool is_window_op(uint8_t op)
{
	return op == VIO_OP_WINDOW_ADD || op == VIO_OP_WINDOW_DEL || op == VIO_OP_CONFIG_SET;
}

static bool tx_fields_ok(const struct vio_gfsm *f, const struct vio_msg *m)
{
	switch (m->op) {
	case VIO_OP_QUEUE:
		return m->arg8 <= (f->version >= VIO_PROTO_V2 ? VIO_QUEUE_BASE : VIO_QUEUE_USED);
	case VIO_OP_WINDOW_ADD:
	case VIO_OP_WINDOW_DEL:
	case VIO_OP_CONFIG_SET:
		return !f->window_pending;
	default:
		return true;
	}
}

int vio_gfsm_tx(struct vio_gfsm *f, struct vio_msg *m)
{
	/* Before PROBE's answer there is no agreed version: say the highest that we know. */
	uint8_t version = f->version ? f->version : f->max_version;

	for (const struct tx_rule *r = tx_rules; r < tx_rules + VIO_ARRAY_SIZE(tx_rules); r++) {
		if (r->op != m->op)
			continue;
		if (!(r->from & IN(f->state)) || version < r->min_version || !tx_fields_ok(f, m))
			return -EPROTO;
		uint8_t to = version == VIO_PROTO_V1 ? r->to_v1 : r->to_v2;

		if (to != STAY)
			f->state = to;
		if (is_window_op(m->op)) {
			f->window_pending = true;
			f->pending_op = m->op;
		}
		m->version = version;
		return 0;
	}
	return -EPROTO;
}

static enum vio_gevent gfsm_bad(struct vio_gfsm *f, uint8_t why)
{
	f->why = why;
	/*
	 * The answer to RESET is still due; broken now, a second RESET would take the first one's
	 * answer for its own.
	 */
	if (f->state != VIO_G_RESETTING)
		f->state = VIO_G_BROKEN;
	return VIO_GE_BAD;
}

static bool version_ok(const struct vio_gfsm *f, const struct vio_msg *m)
{
	if (m->op == (VIO_OP_PROBE | VIO_OP_REPLY) && m->status != VIO_ST_OK)
		return true; /* a refusal: the server may not speak any version of ours */
	if (f->version)
		return m->version == f->version;
	return m->version >= VIO_PROTO_V1 && m->version <= f->max_version;
}

static enum vio_gevent step_answered(struct vio_gfsm *f, const struct rx_rule *r,
				     const struct vio_msg *m)
{
	if (m->status != VIO_ST_OK) {
		f->why = m->status;
		f->state = VIO_G_BROKEN;
		return VIO_GE_STEP_REFUSED;
	}
	f->state = r->to;
	if (f->state == VIO_G_PROBED)
		f->version = m->version;
	if (f->state == VIO_G_IDLE)
		vio_gfsm_init(f, f->max_version);
	return VIO_GE_STEP_DONE;
}

static enum vio_gevent window_answered(struct vio_gfsm *f, const struct vio_msg *m)
{
	if (!f->window_pending || m->op != (f->pending_op | VIO_OP_REPLY))
		return gfsm_bad(f, VIO_ST_BAD_MESSAGE);
	f->window_pending = false;
	if (m->status == VIO_ST_OK)
		return VIO_GE_WINDOW_DONE;
	if (!(OVER & IN(f->state)))
		f->why = m->status; /* in OVER the first reason stays */
	return VIO_GE_WINDOW_REFUSED;
}

enum vio_gevent vio_gfsm_rx(struct vio_gfsm *f, const struct vio_msg *m)
{
	const struct rx_rule *r = rx_rules, *end = rx_rules + VIO_ARRAY_SIZE(rx_rules);

	while (r < end && r->op != m->op)
		r++;
	if (r == end)
		return gfsm_bad(f, VIO_ST_BAD_MESSAGE);
	if (m->op == VIO_OP_USED && m->arg16 >= VIO_MAX_QUEUES)
		return gfsm_bad(f, VIO_ST_QUEUE);
	/* Late messages are of an earlier session, perhaps of another version. */
	if (!(r->in & IN(f->state)) && r->late & IN(f->state))
		return VIO_GE_LATE;
	if (!version_ok(f, m))
		return gfsm_bad(f, VIO_ST_BAD_VERSION);
	if (!(r->in & IN(f->state)) || (f->version && f->version < r->min_version))
		return gfsm_bad(f, VIO_ST_BAD_MESSAGE);
	switch (r->event) {
	case VIO_GE_STEP_DONE:
		return step_answered(f, r, m);
	case VIO_GE_WINDOW_DONE:
		return window_answered(f, m);
	case VIO_GE_NEEDS_RESET:
		f->why = m->status;
		f->state = r->to;
		return r->event;
	default:
		return r->event;
	}
}
