// SPDX-License-Identifier: GPL-2.0
/* Windows: stretches of the DMA window that stand, and that the server may work on in place when they are granted to it. */
#include <linux/delay.h>

#include "virtio_vio.h"

#define VV_RESCIND_TRIES 5000
#define VV_RESCIND_PAUSE_MS 1000

int vv_window_add(struct vv *vv, unsigned long at, phys_addr_t phys, u64 bytes)
{
	struct vv_window *w = &vv->window[vv->n_windows];
	int rc;

	if (vv->n_windows == VV_MAX_WINDOWS)
		return -ENOSPC;
	rc = vv_tce_map(&vv->iommu, at, phys, bytes >> vv->iommu.shift, TCE_READ | TCE_WRITE);
	if (rc)
		return rc;
	*w = (struct vv_window){
		.ioba = vv->iommu.base + ((u64)at << vv->iommu.shift),
		.bytes = bytes,
		.phys = phys,
	};
	vv->n_windows++;
	return 0;
}

static int vv_grant(struct vv *vv, struct vv_window *w)
{
	u64 r[PHYP_REGS] = { GRANT_SYSTEM_MEMORY, 0, w->phys, w->bytes, vv->u->unit };
	int tries = 0;
	s64 rc;

	while (vio_hv_busy(rc = vio_hv_call(H_GRANT_LOGICAL, r, r)) && tries++ < 1000) {
		r[0] = GRANT_SYSTEM_MEMORY;
		usleep_range(1000, 2000);
	}
	if (rc != H_SUCCESS) {
		dev_err(vv->dev, "granting %llu bytes at %pa to %s failed: H_GRANT_LOGICAL: %lld\n",
			w->bytes, &w->phys, vv->u->partner, rc);
		return -EIO;
	}
	w->cookie = r[0];
	w->granted = true;
	return 0;
}

static int vv_window_announce(struct vv *vv, struct vv_window *w)
{
	struct vio_window_desc *d = vv_page(vv, VV_WDESC);
	struct vio_msg m = { .op = VIO_OP_WINDOW_ADD, .arg = vv->page_at[VV_WDESC] };
	int rc = vv_grant(vv, w);

	if (rc)
		return rc;
	*d = (struct vio_window_desc){
		.liobn = vio_to_be32(vv->iommu.liobn),
		.perm = TCE_READ | TCE_WRITE,
		.role = VIO_WINDOW_BUFFERS,
		.ioba = vio_to_be64(w->ioba),
		.len = vio_to_be64(w->bytes),
		.cookie = vio_to_be64(w->cookie),
	};
	return vv_ask(vv, &m);
}

int vv_windows_announce(struct vv *vv)
{
	unsigned int i;
	int rc;

	if (!vv->arm->grants)
		return 0;
	rc = vv_windows_void(vv); /* of a session before this */
	for (i = 0; i < vv->n_windows && !rc; i++)
		rc = vv_window_announce(vv, &vv->window[i]);
	return rc;
}

/* The pages are nobody else's. Normal succeeds once the server has returned them. */
static bool vv_rescind(struct vv_window *w)
{
	u64 flags = RESCIND_NORMAL;
	int tries;

	for (tries = 0; tries < VV_RESCIND_TRIES; tries++) {
		s64 rc = vio_hv_call3(H_RESCIND_LOGICAL, flags, w->cookie, 0);

		if (vio_hv_dead())
			return false; /* nobody says that it was taken back */
		if (rc == H_RESOURCE)
			flags = RESCIND_FORCED;
		else if (rc != H_PARTIAL && !vio_hv_busy(rc))
			return true;
		usleep_range(500, 1000);
	}
	return false;
}

int vv_windows_void(struct vv *vv)
{
	unsigned int i;
	int rc = 0;

	for (i = 0; i < vv->n_windows; i++) {
		struct vv_window *w = &vv->window[i];

		if (!w->granted)
			continue;
		w->granted = !vv_rescind(w);
		if (w->granted)
			rc = -EBUSY;
	}
	if (rc)
		dev_err(vv->dev, "partition %s still uses pages that were taken back\n",
			vv->u->partner);
	return rc;
}

void vv_windows_void_all(struct vv *vv)
{
	while (vv_windows_void(vv) && !vio_hv_dead())
		msleep(VV_RESCIND_PAUSE_MS);
}
