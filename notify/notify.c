/* SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>

#include "notify/notify.h"

extern const struct vio_notify_level *const vio_notify_table[VIO_N_NOTIFY];
const struct vio_notify_level *const vio_notify_table[VIO_N_NOTIFY] = {
	[VIO_NOTIFY_CRQ] = &vio_notify_crq,
	[VIO_NOTIFY_SUPPRESS] = &vio_notify_suppress,
	[VIO_NOTIFY_POLL] = &vio_notify_poll,
};

const struct vio_notify_level *vio_notify_level(enum vio_notification level)
{
	return (unsigned)level < VIO_N_NOTIFY ? vio_notify_table[level] : NULL;
}

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
