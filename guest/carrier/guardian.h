/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who outlives a carrier that is killed: a process that waits for its end, and then tells the virtual machine (`up` of
 * proto/mailbox.h), which would wait for ever for what was in flight. It does so when the hypervisor gives the partition to somebody
 * else, which is when nothing of the dead one is touched any more.
 */
#ifndef VIO_GUEST_CARRIER_GUARDIAN_H
#define VIO_GUEST_CARRIER_GUARDIAN_H

#include "guest/carrier/ivshmem.h"
#include "vio/err.h"

/*
 * Before the carrier connects to phypd, and has threads. Ends with the carrier, or soon after. -errno with a sentence.
 */
int vio_guardian_start(const struct vio_ivshmem *iv, const char *phypd, const char *partition,
		       struct vio_err *err);

#endif
