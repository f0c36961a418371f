/* SPDX-License-Identifier: BSD-3-Clause */
/* Linux's virtio_net.h, and what headers of Linux before 6.2 lack of VIRTIO 1.3: UDP segmentation. */
#ifndef VIO_VIRTIO_NET_H
#define VIO_VIRTIO_NET_H

#include <linux/virtio_net.h>

#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO   56
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#endif
