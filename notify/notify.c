/* SPDX-License-Identifier: BSD-3-Clause */
#include "notify/notify.h"

void vio_notify_init(struct vio_notify *n, const struct vio_notify_level *row, bool event_idx)
{
	*n = (struct vio_notify){
		.level = (uint8_t)row->level,
		.ask = VIO_ASK_NOTHING,
		.event_idx = event_idx,
		.looks = row->looks,
	};
}

bool vio_notify_never(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	(void)n;
	(void)e;
	(void)q;
	return false;
}

void vio_notify_nothing(struct vio_notify *n, const struct vio_notify_end *e, void *q)
{
	(void)n;
	(void)e;
	(void)q;
}
