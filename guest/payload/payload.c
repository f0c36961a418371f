/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/payload/payload.h"

const struct vio_gpayload_ops *vio_gpayload_level(enum vio_payload level)
{
	static const struct vio_gpayload_ops *const levels[VIO_N_PAYLOAD] = {
		[VIO_PAYLOAD_RDMA] = &vio_gpayload_in_place,
		[VIO_PAYLOAD_BOUNCE] = &vio_gpayload_bounce,
		[VIO_PAYLOAD_DIRECT] = &vio_gpayload_in_place,
		[VIO_PAYLOAD_COPYBREAK] = &vio_gpayload_copybreak,
		[VIO_PAYLOAD_UNCHECKED] = &vio_gpayload_in_place,
	};

	return (unsigned)level < VIO_N_PAYLOAD ? levels[level] : NULL;
}
