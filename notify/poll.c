/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Level poll: both sides look, and nobody tells anybody while the other looks. After an idle time a
 * side arms, looks once more and sleeps; when it wakes, it parks again.
 */
#include "notify/notify.h"

static bool poll_may_look(struct vio_notify *n, const struct vio_notify_end *e, void *q,
			  bool free_look)
{
	(void)n;
	(void)e;
	(void)q;
	(void)free_look;
	return true;
}

/* Called for a device only when it was armed: parked indices are kept ahead by the queue. */
static void poll_found(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	(void)n;
	e->park(q);
}

static bool poll_device_sleep(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	if (n->ask == VIO_ASK_ARMED || !vio_notify_ask(n, e, q))
		return false;
	e->park(q);
	return true;
}

const struct vio_notify_level vio_notify_poll = {
	.level = VIO_NOTIFY_POLL,
	.looks = true,
	.may_look = poll_may_look,
	.device = {vio_notify_never, poll_found, poll_device_sleep},
	.driver = {vio_notify_never, poll_found, vio_notify_ask},
};
