/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Level suppress: messages only for who asked for them (event index, or flags), and asked only when
 * a ring was found empty.
 */
#include "notify/notify.h"

/*
 * Right after work the device has two ways to go on, and each is wasted in the other's case: look
 * (worth it while the driver keeps publishing), or arm, which looks too. It does what would have
 * been right the last time.
 */
static bool suppress_may_look(struct vio_notify *n, const struct vio_notify_end *e, void *q,
			      bool free_look)
{
	if (n->ask == VIO_ASK_ARMED)
		return free_look; /* else the message is waited for: a look costs a call */
	if (!n->worked || n->look_pays)
		return true;
	n->worked = false;
	if (!vio_notify_ask(n, e, q))
		return false;
	n->ask = VIO_ASK_NOTHING;
	n->look_pays = true;
	return true;
}

static bool suppress_device_dry(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	if (n->ask == VIO_ASK_ARMED)
		return false;
	if (n->worked)
		n->look_pays = false;
	n->worked = false;
	if (!vio_notify_ask(n, e, q))
		return false;
	n->ask = VIO_ASK_NOTHING;
	return true;
}

static void suppress_device_found(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	/* Flags stay on until they are put out; an event index is left behind. */
	if (n->ask == VIO_ASK_ARMED && !n->event_idx)
		e->park(q);
	else if (n->ask == VIO_ASK_ARMED)
		n->ask = VIO_ASK_NOTHING;
	if (n->worked)
		n->look_pays = true;
	n->worked = true;
}

static bool suppress_device_sleep(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	if (n->ask == VIO_ASK_ARMED || !vio_notify_ask(n, e, q))
		return false;
	n->ask = VIO_ASK_NOTHING;
	return true;
}

/* The driver stays armed when something came in between: it takes it at once, and is told again. */
static bool suppress_driver_ask(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	return n->ask != VIO_ASK_ARMED && vio_notify_ask(n, e, q);
}

const struct vio_notify_level vio_notify_suppress = {
	.level = VIO_NOTIFY_SUPPRESS,
	.may_look = suppress_may_look,
	.device = {suppress_device_dry, suppress_device_found, suppress_device_sleep},
	.driver = {suppress_driver_ask, vio_notify_nothing, suppress_driver_ask},
};
