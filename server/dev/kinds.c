/* SPDX-License-Identifier: BSD-3-Clause */
/* The kinds of devices. --help lists them in this order. */
#include "server/core/device.h"

const struct vio_dev_kind *const vio_dev_kinds[] = {
	&vio_kind_disk, &vio_kind_net, &vio_kind_rng, &vio_kind_console, &vio_kind_9p, NULL,
};
