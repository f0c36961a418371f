/* SPDX-License-Identifier: BSD-3-Clause */
/* The server's side of device configuration: one table, what may arrive when and what is then to be done. */
#include "proto/fsm.h"

#define IN(s) (1u << (s))
#define ANY   (IN(VIO_N_SSTATE) - 1)
#define STAY  VIO_N_SSTATE
/* The guest has been or will be told that the session is over; what it sent before it knew is ignored. */
#define OVER   (IN(VIO_S_NEEDS_RESET) | IN(VIO_S_RESETTING))
#define ACTIVE (IN(VIO_S_FEATURES) | IN(VIO_S_RUNNING))

/*
 * rx: states in which it may arrive; late: states in which it is ignored; done: states in which its
 * work may end, and the state after it in version 1 and 2.
 */
static const struct rule {
	uint8_t op, min_version;
	bool reply;
	uint16_t rx, late, done;
	enum vio_stodo todo;
	uint8_t to_v1, to_v2;
} rules[] = {
	{VIO_OP_PROBE, 1, true, IN(VIO_S_IDLE), 0, IN(VIO_S_IDLE), VIO_TODO_WRITE_HEADER,
	 VIO_S_PROBED, VIO_S_PROBED},
	{VIO_OP_ACKNOWLEDGE, 1, true, IN(VIO_S_PROBED), 0, IN(VIO_S_PROBED), VIO_TODO_WRITE_CONFIG,
	 VIO_S_ACKED, VIO_S_ACKED},
	{VIO_OP_DRIVER, 1, false, IN(VIO_S_ACKED), OVER, IN(VIO_S_ACKED), VIO_TODO_NOTHING,
	 VIO_S_FEATURES, VIO_S_DRIVER},
	{VIO_OP_FEATURES_OK, 2, true, IN(VIO_S_DRIVER), 0, IN(VIO_S_DRIVER), VIO_TODO_READ_CHOICE,
	 STAY, VIO_S_FEATURES},
	{VIO_OP_QUEUE, 1, false, IN(VIO_S_FEATURES), OVER, IN(VIO_S_FEATURES), VIO_TODO_QUEUE, STAY,
	 STAY},
	{VIO_OP_DRIVER_OK, 1, true, IN(VIO_S_FEATURES), 0, IN(VIO_S_FEATURES), VIO_TODO_START,
	 VIO_S_RUNNING, VIO_S_RUNNING},
	{VIO_OP_RESET, 1, true, ANY & ~IN(VIO_S_RESETTING), 0, IN(VIO_S_RESETTING), VIO_TODO_RESET,
	 VIO_S_IDLE, VIO_S_IDLE},
	{VIO_OP_WINDOW_ADD, 2, true, ACTIVE, 0, ACTIVE | OVER, VIO_TODO_WINDOW_ADD, STAY, STAY},
	{VIO_OP_WINDOW_DEL, 2, true, ACTIVE, 0, ACTIVE | OVER, VIO_TODO_WINDOW_DEL, STAY, STAY},
	{VIO_OP_CONFIG_SET, 2, true, ACTIVE, 0, ACTIVE | OVER, VIO_TODO_CONFIG_SET, STAY, STAY},
	/* In IDLE too: another thread of the guest may kick just after its control thread has sent RESET. */
	{VIO_OP_KICK, 1, false, IN(VIO_S_RUNNING), OVER | IN(VIO_S_IDLE), IN(VIO_S_RUNNING),
	 VIO_TODO_KICK, STAY, STAY},
};

static const char *const names[VIO_N_SSTATE] = {
	[VIO_S_IDLE] = "IDLE",
	[VIO_S_PROBED] = "PROBED",
	[VIO_S_ACKED] = "ACKED",
	[VIO_S_DRIVER] = "DRIVER",
	[VIO_S_FEATURES] = "FEATURES",
	[VIO_S_RUNNING] = "RUNNING",
	[VIO_S_NEEDS_RESET] = "NEEDS_RESET",
	[VIO_S_RESETTING] = "RESETTING",
};

const char *vio_sstate_name(enum vio_sstate s)
{
	return (unsigned)s < VIO_N_SSTATE ? names[s] : "?";
}

static uint8_t clamp_version(uint8_t v, uint8_t max)
{
	return v < VIO_PROTO_V1 ? VIO_PROTO_V1 : v > max ? max : v;
}

void vio_sfsm_init(struct vio_sfsm *f, uint8_t max_version)
{
	*f = (struct vio_sfsm){.state = VIO_S_IDLE,
			       .max_version = clamp_version(max_version, VIO_PROTO_LATEST)};
}

static const struct rule *find(uint8_t op)
{
	for (const struct rule *r = rules; r < rules + VIO_ARRAY_SIZE(rules); r++)
		if (r->op == op)
			return r;
	return NULL;
}

/* Fields that can be judged without knowing the device. */
static uint8_t check_fields(uint8_t version, const struct vio_msg *m)
{
	switch (m->op) {
	case VIO_OP_PROBE:
		return m->arg16 < (version == VIO_PROTO_V1 ? sizeof(struct vio_dev_header_v1)
							   : sizeof(struct vio_dev_header_v2))
			       ? VIO_ST_BAD_MESSAGE
			       : VIO_ST_OK;
	case VIO_OP_QUEUE:
		if (m->arg8 > (version == VIO_PROTO_V1 ? VIO_QUEUE_USED : VIO_QUEUE_BASE))
			return VIO_ST_BAD_MESSAGE;
		return m->arg16 < VIO_MAX_QUEUES ? VIO_ST_OK : VIO_ST_QUEUE;
	case VIO_OP_CONFIG_SET:
		return m->arg8 >= 1 && m->arg8 <= sizeof(m->arg) &&
				       m->arg16 + m->arg8 <= VIO_MAX_CONFIG &&
				       (m->arg8 == sizeof(m->arg) || m->arg >> 8 * m->arg8 == 0)
			       ? VIO_ST_OK
			       : VIO_ST_BAD_MESSAGE;
	case VIO_OP_KICK:
		return m->arg16 < VIO_MAX_QUEUES ? VIO_ST_OK : VIO_ST_QUEUE;
	default:
		return VIO_ST_OK;
	}
}

/* VIO_ST_OK, or why `m` can't be taken now. */
static uint8_t sfsm_judge(const struct vio_sfsm *f, const struct rule *r, const struct vio_msg *m)
{
	uint8_t version = f->version;

	if (!r)
		return VIO_ST_BAD_MESSAGE;
	if (m->op == VIO_OP_PROBE) {
		if (m->version < VIO_PROTO_V1)
			return VIO_ST_BAD_VERSION;
		version = clamp_version(m->version, f->max_version);
	} else if (m->op != VIO_OP_RESET && f->version && m->version != f->version) {
		/* RESET is understood in any version: the guest may not have seen PROBE's answer. */
		return VIO_ST_BAD_VERSION;
	}
	if (!(r->rx & IN(f->state)))
		return VIO_ST_BAD_MESSAGE;
	if (m->op == VIO_OP_RESET)
		return VIO_ST_OK;
	return version < r->min_version ? VIO_ST_BAD_MESSAGE : check_fields(version, m);
}

enum vio_stodo vio_sfsm_rx(struct vio_sfsm *f, const struct vio_msg *m, uint8_t *why)
{
	const struct rule *r = find(m->op);
	uint16_t late =
		r ? r->late : OVER; /* one NEEDS_RESET is enough for a guest that sends garbage */

	if (late & IN(f->state))
		return VIO_TODO_NOTHING;
	*why = sfsm_judge(f, r, m);
	if (*why != VIO_ST_OK)
		return VIO_TODO_REFUSE;
	if (m->op == VIO_OP_PROBE)
		f->version = clamp_version(m->version, f->max_version);
	if (m->op == VIO_OP_RESET)
		f->state = VIO_S_RESETTING;
	return r->todo;
}

static void fill_reply(const struct vio_sfsm *f, const struct vio_msg *m, uint8_t status,
		       struct vio_msg *reply)
{
	*reply = (struct vio_msg){
		.version = f->version ? f->version : clamp_version(m->version, f->max_version),
		.op = m->op | VIO_OP_REPLY,
		.status = status,
		.arg16 = m->op == VIO_OP_WINDOW_DEL ? m->arg16 : 0,
	};
}

/* `m` was refused, or its work failed: a reply says why, or NEEDS_RESET where there is none. */
static bool sfsm_refuse(struct vio_sfsm *f, const struct rule *r, const struct vio_msg *m,
			uint8_t status, struct vio_msg *reply)
{
	if (r && r->reply) {
		fill_reply(f, m, status, reply);
		if (f->state == VIO_S_IDLE)
			f->version = 0; /* a refused PROBE agreed on nothing */
		return true;
	}
	if (OVER & IN(f->state))
		return false;
	vio_sfsm_needs_reset(f, status,
			     m->op == VIO_OP_QUEUE || m->op == VIO_OP_KICK ? m->arg16
									   : (uint16_t)0xffff,
			     m->op, reply);
	return true;
}

bool vio_sfsm_done(struct vio_sfsm *f, const struct vio_msg *m, uint8_t status,
		   struct vio_msg *reply)
{
	const struct rule *r = find(m->op);
	uint8_t to;

	if (status != VIO_ST_OK)
		return sfsm_refuse(f, r, m, status, reply);
	if (!r)
		return false;
	if (!(r->done & IN(f->state))) {
		/*
		 * The session ended while the work was done: its guest may still wait, a later
		 * guest must not hear of it.
		 */
		return r->reply && OVER & IN(f->state) &&
		       sfsm_refuse(f, r, m, VIO_ST_BAD_MESSAGE, reply);
	}
	if (r->reply)
		fill_reply(f, m, VIO_ST_OK, reply);
	to = f->version == VIO_PROTO_V1 ? r->to_v1 : r->to_v2;
	if (to != STAY)
		f->state = to;
	if (f->state == VIO_S_IDLE)
		f->version = 0;
	return r->reply;
}

void vio_sfsm_needs_reset(struct vio_sfsm *f, uint8_t why, uint16_t queue, uint64_t detail,
			  struct vio_msg *out)
{
	*out = (struct vio_msg){
		.version = f->version ? f->version : f->max_version,
		.op = VIO_OP_NEEDS_RESET,
		.status = why,
		.arg16 = queue,
		.arg = detail,
	};
	if (f->state != VIO_S_RESETTING) /* the guest asked for a reset already */
		f->state = VIO_S_NEEDS_RESET;
}
