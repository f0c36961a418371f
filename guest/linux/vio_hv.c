// SPDX-License-Identifier: GPL-2.0
/*
 * Hypervisor calls through a mailbox: the virtual machine's side of proto/mailbox.h, over QEMU's
 * ivshmem-doorbell (PCI 1af4:1110). The partition's virtual adapters become devices of the bus "vio_hv".
 *
 * A call spins, because it is made from where nothing may sleep (a driver maps a page with interrupts
 * off). It is bounded: a hypervisor that did not answer one call within hcall_timeout_ms is dead for all
 * later ones, which fail at once.
 */
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "proto/mailbox.h"
#include "vio_hv.h"

#define IVSHMEM_VENDOR 0x1af4
#define IVSHMEM_DEVICE 0x1110
/* BAR 0. */
#define IVSHMEM_DOORBELL 12
#define IVSHMEM_VECTORS 1

/* Waited between two tries while the partition's past is cleared away, and how often. */
#define VIO_HV_ANEW_MS 20
#define VIO_HV_ANEW_TRIES 250

static unsigned int hcall_timeout_ms = 5000;
module_param(hcall_timeout_ms, uint, 0644);
MODULE_PARM_DESC(hcall_timeout_ms, "A hypervisor that does not answer a call so long is taken for dead");

/* How a call reaches the hypervisor. */
struct vio_hv_ops {
	s64 (*hcall)(u64 op, const u64 *args, u64 *ret);
};

struct vio_hv_box {
	spinlock_t lock; /* one call at a time */
	struct vio_mailbox __iomem *mb;
	u32 request;
};

struct vio_hv {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct vio_mb_head __iomem *head;
	u32 n_boxes;
	struct vio_hv_box *box;
	struct vio_hv_info info;
	spinlock_t devices_lock; /* devices, and their event and data */
	struct vio_hv_device **devices;
	u32 n_devices;
	bool dead;
};

/* The machine has one hypervisor. */
static struct vio_hv *vio_hv;
static const struct vio_hv_ops *vio_hv_ops;

/* ------------------------------------------------------------------------------ calls */

static void vio_hv_die(struct vio_hv *hv, const char *why)
{
	if (!xchg(&hv->dead, true))
		dev_err(&hv->pdev->dev, "%s; all calls fail from now on\n", why);
}

static void vio_hv_take_answer(struct vio_mailbox __iomem *mb, u64 *ret)
{
	int i;

	for (i = 0; i < PHYP_REGS; i++)
		ret[i] = readq(&mb->ret[i]);
}

static s64 vio_hv_mailbox_call(u64 op, const u64 *args, u64 *ret)
{
	struct vio_hv *hv = READ_ONCE(vio_hv);
	struct vio_hv_box *b;
	unsigned long flags;
	s64 rc = H_HARDWARE;
	u64 end = 0;
	int i, spins;

	if (!hv || READ_ONCE(hv->dead))
		return H_HARDWARE;
	b = &hv->box[raw_smp_processor_id() % hv->n_boxes];
	spin_lock_irqsave(&b->lock, flags);
	writeq(op, &b->mb->op);
	for (i = 0; i < PHYP_REGS; i++)
		writeq(args[i], &b->mb->args[i]);
	b->request++;
	smp_wmb(); /* pair MA: the call before its number */
	writel(b->request, &b->mb->request);
	smp_mb(); /* pair MD: the number before the look whether to ring */
	if (readl(&hv->head->asleep))
		writel(VIO_MB_PEER << 16, hv->regs + IVSHMEM_DOORBELL);
	for (spins = 0; readl(&b->mb->answer) != b->request; spins++) {
		cpu_relax();
		if (spins % 64)
			continue;
		if (!end)
			end = ktime_get_mono_fast_ns() + hcall_timeout_ms * (u64)NSEC_PER_MSEC;
		if (READ_ONCE(hv->dead) || !readl(&hv->head->up))
			goto gone;
		if (ktime_get_mono_fast_ns() > end) {
			vio_hv_die(hv, "the hypervisor did not answer in time");
			goto gone;
		}
	}
	smp_rmb(); /* pair MA: the answer's number before the answer */
	rc = readq(&b->mb->rc);
	vio_hv_take_answer(b->mb, ret);
gone:
	spin_unlock_irqrestore(&b->lock, flags);
	return rc;
}

static const struct vio_hv_ops vio_hv_mailbox = {
	.hcall = vio_hv_mailbox_call,
};

s64 vio_hv_call(u64 op, const u64 *args, u64 *ret)
{
	return vio_hv_ops->hcall(op, args, ret);
}
EXPORT_SYMBOL_GPL(vio_hv_call);

bool vio_hv_dead(void)
{
	return !vio_hv || READ_ONCE(vio_hv->dead);
}
EXPORT_SYMBOL_GPL(vio_hv_dead);

const struct vio_hv_info *vio_hv_info(void)
{
	return &vio_hv->info;
}
EXPORT_SYMBOL_GPL(vio_hv_info);

/* ----------------------------------------------------------------------------- events */

static irqreturn_t vio_hv_interrupt(int irq, void *data)
{
	struct vio_hv *hv = data;
	unsigned long flags;
	u32 i;

	if (!readl(&hv->head->up))
		vio_hv_die(hv, "the hypervisor has ended");
	spin_lock_irqsave(&hv->devices_lock, flags);
	for (i = 0; i < hv->n_devices; i++) {
		struct vio_hv_device *hdev = hv->devices[i];

		if (hdev && hdev->event)
			hdev->event(hdev->data);
	}
	spin_unlock_irqrestore(&hv->devices_lock, flags);
	return IRQ_HANDLED;
}

void vio_hv_listen(struct vio_hv_device *hdev, void (*event)(void *data), void *data)
{
	struct vio_hv *hv = vio_hv;
	unsigned long flags;

	spin_lock_irqsave(&hv->devices_lock, flags);
	hdev->event = event;
	hdev->data = data;
	spin_unlock_irqrestore(&hv->devices_lock, flags);
}
EXPORT_SYMBOL_GPL(vio_hv_listen);

void vio_hv_synchronize(void)
{
	synchronize_irq(pci_irq_vector(vio_hv->pdev, 0));
}
EXPORT_SYMBOL_GPL(vio_hv_synchronize);

/* -------------------------------------------------------------------------------- bus */

static int vio_hv_bus_probe(struct device *dev)
{
	return to_vio_hv_driver(dev->driver)->probe(to_vio_hv_device(dev));
}

static void vio_hv_bus_remove(struct device *dev)
{
	struct vio_hv_driver *drv = to_vio_hv_driver(dev->driver);

	if (drv->remove)
		drv->remove(to_vio_hv_device(dev));
}

static struct bus_type vio_hv_bus = {
	.name = "vio_hv",
	.probe = vio_hv_bus_probe,
	.remove = vio_hv_bus_remove,
};

static int vio_hv_is_unit(struct device *dev, const void *unit)
{
	return to_vio_hv_device(dev)->u.unit == *(const u32 *)unit;
}

struct vio_hv_device *vio_hv_find(u32 unit)
{
	struct device *dev = bus_find_device(&vio_hv_bus, NULL, &unit, vio_hv_is_unit);

	return dev ? to_vio_hv_device(dev) : NULL;
}
EXPORT_SYMBOL_GPL(vio_hv_find);

struct vio_hv_each {
	int (*fn)(struct vio_hv_device *hdev, void *data);
	void *data;
};

static int vio_hv_one(struct device *dev, void *each)
{
	struct vio_hv_each *e = each;

	return e->fn(to_vio_hv_device(dev), e->data);
}

int vio_hv_for_each(int (*fn)(struct vio_hv_device *hdev, void *data), void *data)
{
	struct vio_hv_each e = { fn, data };

	return bus_for_each_dev(&vio_hv_bus, NULL, &e, vio_hv_one);
}
EXPORT_SYMBOL_GPL(vio_hv_for_each);

int vio_hv_register_driver(struct vio_hv_driver *drv, struct module *owner)
{
	drv->driver.bus = &vio_hv_bus;
	drv->driver.owner = owner;
	return driver_register(&drv->driver);
}
EXPORT_SYMBOL_GPL(vio_hv_register_driver);

void vio_hv_unregister_driver(struct vio_hv_driver *drv)
{
	driver_unregister(&drv->driver);
}
EXPORT_SYMBOL_GPL(vio_hv_unregister_driver);

static void vio_hv_device_release(struct device *dev)
{
	kfree(to_vio_hv_device(dev));
}

static int vio_hv_add_device(struct vio_hv *hv, struct vio_mb_unit __iomem *u)
{
	struct vio_hv_device *hdev = kzalloc(sizeof(*hdev), GFP_KERNEL);
	int rc;

	if (!hdev)
		return -ENOMEM;
	hdev->u.unit = readl(&u->unit);
	hdev->u.liobn = readl(&u->liobn);
	hdev->u.window = readq(&u->window);
	hdev->u.window_bytes = readq(&u->window_bytes);
	hdev->u.page_shift = readl(&u->page_shift);
	memcpy_fromio(hdev->u.partner, u->partner, sizeof(hdev->u.partner));
	hdev->u.partner[sizeof(hdev->u.partner) - 1] = 0;
	hdev->dev.bus = &vio_hv_bus;
	hdev->dev.parent = &hv->pdev->dev;
	hdev->dev.release = vio_hv_device_release;
	dev_set_name(&hdev->dev, "vio@%x", hdev->u.unit);
	spin_lock_irq(&hv->devices_lock);
	hv->devices[hv->n_devices++] = hdev;
	spin_unlock_irq(&hv->devices_lock);
	rc = device_register(&hdev->dev);
	if (rc) {
		spin_lock_irq(&hv->devices_lock);
		hv->n_devices--;
		spin_unlock_irq(&hv->devices_lock);
		put_device(&hdev->dev);
	}
	return rc;
}

static void vio_hv_remove_devices(struct vio_hv *hv)
{
	while (hv->n_devices) {
		struct vio_hv_device *hdev = hv->devices[hv->n_devices - 1];

		get_device(&hdev->dev);
		device_unregister(&hdev->dev);
		spin_lock_irq(&hv->devices_lock);
		hv->devices[--hv->n_devices] = NULL;
		spin_unlock_irq(&hv->devices_lock);
		put_device(&hdev->dev);
	}
}

/* -------------------------------------------------------------------------------- PCI */

/* The hypervisor's process starts before the virtual machine, so all is there at once or never. */
static int vio_hv_read_head(struct vio_hv *hv, resource_size_t bytes)
{
	struct device *dev = &hv->pdev->dev;
	u32 i;

	if (bytes < VIO_MB_BYTES || readq(&hv->head->magic) != VIO_MB_MAGIC)
		return dev_err_probe(dev, -ENODEV, "shared memory of another kind\n");
	smp_rmb(); /* pair MB: magic before what it says is there */
	if (readl(&hv->head->version) != VIO_MB_VERSION)
		return dev_err_probe(dev, -ENODEV, "mailboxes of version %u, this driver knows %u\n",
				     readl(&hv->head->version), VIO_MB_VERSION);
	hv->n_boxes = readl(&hv->head->n_boxes);
	hv->info.mem_bytes = readq(&hv->head->mem_bytes);
	hv->info.lmb_bytes = readq(&hv->head->lmb_bytes);
	hv->info.page_bytes = readq(&hv->head->page_bytes);
	if (!hv->n_boxes ||
	    VIO_MB_BOXES + hv->n_boxes * sizeof(struct vio_mailbox) > bytes ||
	    VIO_MB_UNITS + readl(&hv->head->n_units) * sizeof(struct vio_mb_unit) > VIO_MB_BOXES)
		return dev_err_probe(dev, -ENODEV, "mailboxes that make no sense\n");
	hv->n_boxes = min_t(u32, hv->n_boxes, nr_cpu_ids);
	hv->box = devm_kcalloc(dev, hv->n_boxes, sizeof(*hv->box), GFP_KERNEL);
	if (!hv->box)
		return -ENOMEM;
	for (i = 0; i < hv->n_boxes; i++) {
		struct vio_hv_box *b = &hv->box[i];

		spin_lock_init(&b->lock);
		b->mb = (void __iomem *)hv->head + VIO_MB_BOXES + i * sizeof(*b->mb);
		b->request = readl(&b->mb->request); /* of the kernel or driver before; its answer may be due yet */
	}
	return 0;
}

/* Nothing of an earlier kernel, or of an earlier load of this driver, is left at the hypervisor. */
static int vio_hv_anew(struct vio_hv *hv)
{
	u64 r[PHYP_REGS] = { 0 };
	int tries;
	s64 rc;

	for (tries = 0; tries < VIO_HV_ANEW_TRIES; tries++) {
		rc = vio_hv_call(VIO_MB_OP_ANEW, r, r);
		if (rc != H_PARTIAL)
			break;
		msleep(VIO_HV_ANEW_MS);
	}
	if (rc == H_SUCCESS)
		return 0;
	return dev_err_probe(&hv->pdev->dev, -EBUSY,
			     rc == H_PARTIAL ? "a server still uses memory of the kernel before this\n" :
					       "the hypervisor does not answer\n");
}

static int vio_hv_add_devices(struct vio_hv *hv)
{
	struct vio_mb_unit __iomem *u = (void __iomem *)hv->head + VIO_MB_UNITS;
	u32 n = readl(&hv->head->n_units), i;
	int rc = 0;

	hv->devices = devm_kcalloc(&hv->pdev->dev, n ?: 1, sizeof(*hv->devices), GFP_KERNEL);
	if (!hv->devices)
		return -ENOMEM;
	for (i = 0; i < n && !rc; i++)
		if (readl(&u[i].client))
			rc = vio_hv_add_device(hv, &u[i]);
	if (rc)
		vio_hv_remove_devices(hv);
	return rc;
}

static int vio_hv_irq_setup(struct vio_hv *hv)
{
	int rc = pci_alloc_irq_vectors(hv->pdev, IVSHMEM_VECTORS, IVSHMEM_VECTORS, PCI_IRQ_MSIX);

	if (rc < 0)
		return dev_err_probe(&hv->pdev->dev, rc, "no interrupt\n");
	rc = request_irq(pci_irq_vector(hv->pdev, 0), vio_hv_interrupt, 0, "vio_hv", hv);
	if (rc)
		pci_free_irq_vectors(hv->pdev);
	return rc;
}

static void vio_hv_irq_remove(struct vio_hv *hv)
{
	free_irq(pci_irq_vector(hv->pdev, 0), hv);
	pci_free_irq_vectors(hv->pdev);
}

static int vio_hv_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct vio_hv *hv;
	int rc;

	if (vio_hv)
		return dev_err_probe(&pdev->dev, -EBUSY, "there is one hypervisor already\n");
	hv = devm_kzalloc(&pdev->dev, sizeof(*hv), GFP_KERNEL);
	if (!hv)
		return -ENOMEM;
	hv->pdev = pdev;
	spin_lock_init(&hv->devices_lock);
	rc = pcim_enable_device(pdev);
	if (rc)
		return rc;
	pci_set_master(pdev); /* MSI-X */
	rc = pcim_iomap_regions(pdev, BIT(0) | BIT(2), "vio_hv");
	if (rc)
		return dev_err_probe(&pdev->dev, rc, "no BAR 0 or 2: QEMU's ivshmem-doorbell is needed\n");
	hv->regs = pcim_iomap_table(pdev)[0];
	hv->head = pcim_iomap_table(pdev)[2];
	rc = vio_hv_read_head(hv, pci_resource_len(pdev, 2));
	if (rc)
		return rc;
	vio_hv_ops = &vio_hv_mailbox;
	WRITE_ONCE(vio_hv, hv);
	rc = vio_hv_anew(hv);
	if (!rc)
		rc = vio_hv_irq_setup(hv);
	if (rc)
		goto forget;
	pci_set_drvdata(pdev, hv);
	rc = vio_hv_add_devices(hv);
	if (!rc)
		return 0;
	vio_hv_irq_remove(hv);
forget:
	WRITE_ONCE(vio_hv, NULL);
	return rc;
}

static void vio_hv_remove(struct pci_dev *pdev)
{
	struct vio_hv *hv = pci_get_drvdata(pdev);

	vio_hv_remove_devices(hv);
	vio_hv_irq_remove(hv);
	WRITE_ONCE(vio_hv, NULL);
}

static const struct pci_device_id vio_hv_ids[] = {
	{ PCI_DEVICE(IVSHMEM_VENDOR, IVSHMEM_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, vio_hv_ids);

static struct pci_driver vio_hv_driver = {
	.name = "vio_hv",
	/* Adapters on the platform's bus outlive an unbind, and call through it. */
	.driver.suppress_bind_attrs = true,
	.id_table = vio_hv_ids,
	.probe = vio_hv_probe,
	.remove = vio_hv_remove,
};

static int __init vio_hv_init(void)
{
	int rc = bus_register(&vio_hv_bus);

	if (rc)
		return rc;
	rc = pci_register_driver(&vio_hv_driver);
	if (rc)
		bus_unregister(&vio_hv_bus);
	return rc;
}

static void __exit vio_hv_exit(void)
{
	pci_unregister_driver(&vio_hv_driver);
	bus_unregister(&vio_hv_bus);
}

module_init(vio_hv_init);
module_exit(vio_hv_exit);
MODULE_DESCRIPTION("Hypervisor calls through a mailbox in shared memory (ivshmem)");
MODULE_LICENSE("GPL");
