/* SPDX-License-Identifier: BSD-3-Clause */
/* The levels: a new one is a file and a row here. */
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
