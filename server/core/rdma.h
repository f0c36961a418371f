/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RDMA calls of one queue: between its guest's window (remote) and the server partition's own
 * (local). What the copying levels of ring and payload share. Owning lcore only.
 */
#ifndef VIO_SERVER_RDMA_H
#define VIO_SERVER_RDMA_H

#include <string.h>

#include "server/core/req.h"
#include "vio/atomics.h"

/*
 * A busy hypervisor is asked again this often before the DMA counts as failed: nothing may wait
 * without bound here.
 */
#define VIO_RDMA_RETRIES 10000

/*
 * What a failed call means for the queue: the address was the guest's, so range and permission are
 * its doing.
 */
static inline uint8_t vio_rdma_status(int64_t rc)
{
	switch (rc) {
	case H_SUCCESS:
		return VIO_ST_OK;
	case H_PERMISSION:
		return VIO_ST_DESC_PERM;
	case H_SOURCE_PARM:
	case H_DEST_PARM:
		return VIO_ST_DESC_RANGE;
	case H_R_STATE:
		return VIO_ST_FROZEN;
	default: /* closed, gone, or the hypervisor's trouble */
		return VIO_ST_NO_DMA;
	}
}

/* `len` <= H_READ_RDMA_MAX bytes of the guest into buf, which needs room for H_READ_RDMA_MAX. */
static inline uint8_t vio_rdma_read(struct vio_squeue *q, struct ioba src, uint32_t len,
				    uint64_t buf[PHYP_REGS])
{
	int64_t rc;

	rc = PHYP_RETRY(VIO_RDMA_RETRIES, h_read_rdma(q->vcpu, len, q->remote_liobn, src, buf));
	return vio_rdma_status(rc);
}

/* `len` <= H_WRITE_RDMA_MAX bytes to the guest. */
static inline uint8_t vio_rdma_write(struct vio_squeue *q, struct ioba dst, uint32_t len,
				     const void *bytes)
{
	uint64_t data[H_WRITE_RDMA_MAX / 8] = {0};
	int64_t rc;

	memcpy(data, bytes, len);
	rc = PHYP_RETRY(VIO_RDMA_RETRIES, h_write_rdma(q->vcpu, len, q->remote_liobn, dst, data));
	return vio_rdma_status(rc);
}

/* Any length, in calls of at most H_COPY_RDMA_MAX. in: from the guest to local memory; else the other way. */
static inline uint8_t vio_rdma_copy(struct vio_squeue *q, struct ioba remote, struct ioba local,
				    uint64_t len, bool in)
{
	while (len > 0) {
		uint64_t part = len < H_COPY_RDMA_MAX ? len : H_COPY_RDMA_MAX;
		int64_t rc = PHYP_RETRY(
			VIO_RDMA_RETRIES,
			in ? h_copy_rdma(q->vcpu, part, q->remote_liobn, remote, q->liobn, local)
			   : h_copy_rdma(q->vcpu, part, q->liobn, local, q->remote_liobn, remote));

		if (rc != H_SUCCESS)
			return vio_rdma_status(rc);
		remote = ioba_add(remote, part);
		local = ioba_add(local, part);
		len -= part;
	}
	return VIO_ST_OK;
}

#endif
