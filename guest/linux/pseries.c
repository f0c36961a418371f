// SPDX-License-Identifier: GPL-2.0
/*
 * POWER: adapters on the kernel's own vio bus. A unit that has a node below /vdevice (compatible "vio,virtio",
 * reg = unit address; see docs/linux-guest.md) becomes a device there, as those of the platform's firmware do, and its
 * virtio device has that for a parent; units without a node stay on the bus of vio_hv.
 */
#include <linux/of.h>

#include <asm/vio.h>

#include "virtio_vio.h"

#define VV_COMPATIBLE "vio,virtio"

static int vv_vio_probe(struct vio_dev *vdev, const struct vio_device_id *id)
{
	struct vio_hv_device *hdev = vio_hv_find(vdev->unit_address);
	int rc;

	if (!hdev)
		return -ENODEV;
	rc = vv_open(&vdev->dev, hdev);
	if (rc)
		put_device(&hdev->dev);
	return rc;
}

static void vv_vio_remove(struct vio_dev *vdev)
{
	struct vv *vv = dev_get_drvdata(&vdev->dev);
	struct vio_hv_device *hdev = vv->hdev;

	vv_close(vv);
	put_device(&hdev->dev);
}

/* The bus asks how much of the machine's I/O entitlement a driver wants; this one has a window of its own. */
static unsigned long vv_vio_entitlement(struct vio_dev *vdev)
{
	return 0;
}

static const struct vio_device_id vv_vio_ids[] = {
	{ "virtio", VV_COMPATIBLE },
	{ "", "" }
};

static struct vio_driver vv_vio_driver = {
	.id_table = vv_vio_ids,
	.probe = vv_vio_probe,
	.remove = vv_vio_remove,
	.get_desired_dma = vv_vio_entitlement,
	.name = "virtio_vio",
};

static struct device_node *vv_node(u32 unit)
{
	struct device_node *np;
	u32 reg;

	for_each_compatible_node(np, NULL, VV_COMPATIBLE)
		if (!of_property_read_u32(np, "reg", &reg) && reg == unit)
			return np;
	return NULL;
}

bool vv_platform_has(u32 unit)
{
	struct device_node *np = vv_node(unit);

	of_node_put(np);
	return np;
}

static int vv_platform_add(struct vio_hv_device *hdev, void *data)
{
	struct device_node *np = vv_node(hdev->u.unit);

	if (np && !vio_register_device_node(np))
		dev_warn(&hdev->dev, "%pOF does not become a device of the vio bus\n", np);
	of_node_put(np);
	return 0;
}

static int vv_platform_drop(struct vio_hv_device *hdev, void *data)
{
	struct device_node *np = vv_node(hdev->u.unit);
	struct vio_dev *vdev = np ? vio_find_node(np) : NULL;

	if (vdev) {
		vio_unregister_device(vdev);
		put_device(&vdev->dev);
	}
	of_node_put(np);
	return 0;
}

int vv_platform_init(void)
{
	int rc = vio_register_driver(&vv_vio_driver);

	if (!rc)
		vio_hv_for_each(vv_platform_add, NULL);
	return rc;
}

void vv_platform_exit(void)
{
	vio_hv_for_each(vv_platform_drop, NULL);
	vio_unregister_driver(&vv_vio_driver);
}
