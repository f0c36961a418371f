/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A partition's door to the hypervisor: calls, interrupts, virtual adapters.
 *
 * vio_hv.ko carries calls through a mailbox in memory shared with the hypervisor's process (proto/mailbox.h).
 * Callers see PAPR's calls only; another carrier, such as plpar_hcall9() on a machine whose firmware is
 * this hypervisor, would provide struct vio_hv_ops and the adapters.
 */
#ifndef _VIO_HV_H
#define _VIO_HV_H

#include <linux/device.h>

#include <vio/papr.h>

/* A virtual adapter: one end of a CRQ, and a DMA window. */
struct vio_hv_unit {
	u32 unit;
	u32 liobn;
	u64 window; /* first IOBA */
	u64 window_bytes;
	u32 page_shift; /* of TCEs */
	char partner[32]; /* partition at the other end */
};

/* What the hypervisor said of the partition. */
struct vio_hv_info {
	u64 mem_bytes; /* from address 0 */
	u64 lmb_bytes; /* no grant crosses a multiple of it */
	u64 page_bytes; /* grants are multiples of it */
};

struct vio_hv_device {
	struct device dev;
	struct vio_hv_unit u;
	/* Called with interrupts off when the adapter's CRQ may have something; see vio_hv_listen(). */
	void (*event)(void *data);
	void *data;
};

#define to_vio_hv_device(d) container_of(d, struct vio_hv_device, dev)

struct vio_hv_driver {
	struct device_driver driver;
	int (*probe)(struct vio_hv_device *hdev);
	void (*remove)(struct vio_hv_device *hdev);
};

#define to_vio_hv_driver(d) container_of(d, struct vio_hv_driver, driver)

/*
 * One call: args[PHYP_REGS] in, ret[PHYP_REGS] out (may be the same). A code of PAPR's; H_HARDWARE from the
 * moment on that the hypervisor did not answer in time. Any context; spins.
 */
s64 vio_hv_call(u64 op, const u64 *args, u64 *ret);
/* The hypervisor has gone: all calls fail at once, for good. */
bool vio_hv_dead(void);
const struct vio_hv_info *vio_hv_info(void);

/* Have `event` called from now on; NULL: no more, and when this returns it runs nowhere. May sleep. */
void vio_hv_listen(struct vio_hv_device *hdev, void (*event)(void *data), void *data);
/* Wait until no event() runs. May sleep. */
void vio_hv_synchronize(void);

/* The adapter of this unit address, to be put_device()d; NULL: none. */
struct vio_hv_device *vio_hv_find(u32 unit);
/* Until one does not answer 0. */
int vio_hv_for_each(int (*fn)(struct vio_hv_device *hdev, void *data), void *data);

int vio_hv_register_driver(struct vio_hv_driver *drv, struct module *owner);
void vio_hv_unregister_driver(struct vio_hv_driver *drv);

/* Calls by name; R4... as PAPR has them. */
static inline s64 vio_hv_call3(u64 op, u64 a, u64 b, u64 c)
{
	u64 r[PHYP_REGS] = { a, b, c };

	return vio_hv_call(op, r, r);
}

static inline s64 vio_hv_call4(u64 op, u64 a, u64 b, u64 c, u64 d)
{
	u64 r[PHYP_REGS] = { a, b, c, d };

	return vio_hv_call(op, r, r);
}

/* "Not now": nothing was done, and the same call may succeed later. */
static inline bool vio_hv_busy(s64 rc)
{
	return rc == H_BUSY || (rc >= H_LONG_BUSY_ORDER_1_MSEC && rc <= H_LONG_BUSY_ORDER_100_SEC);
}

#endif
