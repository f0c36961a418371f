/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Level crq, the 2010 design: a hypercall and an interrupt for each publish, in both directions.
 * Wishes are neither written nor read, and a ring is looked at only when a message says so.
 */
#include "notify/notify.h"

static bool crq_may_look(struct vio_notify *n, const struct vio_notify_end *e, void *q,
			 bool free_look)
{
	(void)n;
	(void)e;
	(void)q;
	(void)free_look;
	return false;
}

const struct vio_notify_level vio_notify_crq = {
	.level = VIO_NOTIFY_CRQ,
	.always = true,
	.may_look = crq_may_look,
	.device = {vio_notify_never, vio_notify_nothing, vio_notify_never},
	.driver = {vio_notify_never, vio_notify_nothing, vio_notify_never},
};
