/* SPDX-License-Identifier: BSD-3-Clause */
/* The levels of payload access. The guest's levels bounce and copybreak are direct to the server. */
#include "server/payload/payload.h"

static const struct vio_payload_ops *const levels[VIO_N_PAYLOAD] = {
	[VIO_PAYLOAD_RDMA] = &vio_payload_rdma,
	[VIO_PAYLOAD_BOUNCE] = &vio_payload_direct,
	[VIO_PAYLOAD_DIRECT] = &vio_payload_direct,
	[VIO_PAYLOAD_COPYBREAK] = &vio_payload_direct,
	[VIO_PAYLOAD_UNCHECKED] = &vio_payload_unchecked,
};

const struct vio_payload_ops *vio_payload_level(enum vio_payload level)
{
	return (unsigned)level < VIO_N_PAYLOAD ? levels[level] : NULL;
}
