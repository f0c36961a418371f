// SPDX-License-Identifier: GPL-2.0
/* virtio_vio.ko: its drivers, on the bus of vio_hv and on the platform's. */
#include <linux/module.h>

#include "virtio_vio.h"

static int vv_hv_probe(struct vio_hv_device *hdev)
{
	/* -ENODEV: a device of the platform's bus is made of it. */
	return vv_platform_has(hdev->u.unit) ? -ENODEV : vv_open(&hdev->dev, hdev);
}

static void vv_hv_remove(struct vio_hv_device *hdev)
{
	vv_close(dev_get_drvdata(&hdev->dev));
}

static struct vio_hv_driver vv_driver = {
	.driver.name = "virtio_vio",
	.probe = vv_hv_probe,
	.remove = vv_hv_remove,
};

static int __init virtio_vio_init(void)
{
	int rc;

	rc = vv_arm_check();
	if (rc)
		return rc;
	rc = vv_lists_alloc();
	if (rc)
		return rc;
	rc = vio_hv_register_driver(&vv_driver, THIS_MODULE);
	if (rc)
		goto lists;
	rc = vv_platform_init();
	if (!rc)
		return 0;
	vio_hv_unregister_driver(&vv_driver);
lists:
	vv_lists_free();
	return rc;
}

static void __exit virtio_vio_exit(void)
{
	vv_platform_exit();
	vio_hv_unregister_driver(&vv_driver);
	vv_lists_free();
}

module_init(virtio_vio_init);
module_exit(virtio_vio_exit);
MODULE_DESCRIPTION("virtio over a PAPR command/response queue");
MODULE_LICENSE("GPL");
