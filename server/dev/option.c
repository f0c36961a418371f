/* SPDX-License-Identifier: BSD-3-Clause */
/* What an option that names a device does: every kind's row calls it, so that it can't stand beside the list of rows. */
#include "server/core/device.h"

int vio_dev_option(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	struct vio_dev_list *list = to;

	if (list->n == VIO_ARRAY_SIZE(list->d))
		return vio_err_set(err, -EINVAL, "--%s %s: at most %zu devices", row->name, text,
				   VIO_ARRAY_SIZE(list->d));
	list->d[list->n].kind = vio_container_of(row, const struct vio_dev_kind, row);
	list->d[list->n++].spec = text;
	return 0;
}
