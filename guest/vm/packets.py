# SPDX-License-Identifier: BSD-3-Clause
"""Register accesses and hypervisor calls of a packet, for QEMU's network cards and this project's: for papers/kvm2007."""

import tempfile

from vm import counts, demo, devices, initramfs, kernel, ours, packages, qemu

ARCH = "ppc64le"
# Ours by arm: name of the card: QEMU's device.
CARDS = {"rtl8139": "rtl8139", "e1000": "e1000", "virtio-net-pci": None}
ARMS = ["copy", "zero-copy"]


def accesses(n):
    """One number: what left the guest for its card."""
    return sum(n["calls"].values()) + n["registers"]


class Packets(counts.Counted):
    def line(self, line):
        super().line(line)
        if line.startswith("@@packets "):
            self.cases[self.name]["packets"] = int(line.split()[1])


def measure(has, k, trace=None):
    """{load: {"packets", "accesses"}} of devices that are up."""
    seen = counts.stock_counts([])

    def now():
        nonlocal seen
        if not trace:
            return has.counted()
        seen = counts.total(seen, counts.stock_counts(trace.since()))
        return seen

    with tempfile.TemporaryDirectory(prefix="vio-guest-") as folder, has.iperf() as iperf:
        initrd = initramfs.base(k.root, k.ordered(has.modules, has.own_modules), ["iperf3"], params=has.params())
        vm = qemu.Vm(ARCH, k.image, initrd, folder, devices=has.qemu() + (trace.qemu() if trace else []), ram=has.ram)
        p = Packets(has, now)
        lines = vm.run(demo.text(["packets"]), 200, p.asked, p.line, **{**has.variables(), "IPERF_PORT": iperf.port})
    if bad := qemu.results(lines)[1]:
        raise qemu.GuestError("; ".join(bad) + has.trouble())
    return {name: {"packets": c["packets"], "accesses": accesses(c)} for name, c in p.cases.items()}


def gather(build, say):
    """{card: {load: ...}} of all cards that can be had here, {card: why not} of the others."""
    got, why = {}, {}
    try:
        k = kernel.Kernel(packages.Root(ARCH, say))
    except packages.Missing as e:
        return {}, {c: str(e) for c in [*CARDS, *ARMS]}
    for card, device in CARDS.items():
        try:
            with tempfile.TemporaryDirectory(prefix="vio-guest-") as folder, devices.Stock(ARCH, "pci", folder, nic=device, counted=True) as has:
                got[card] = measure(has, k, counts.Trace(folder, counts.EVENTS["pci"]))
        except (packages.Missing, packages.Broken) as e:
            why[card] = str(e)
    for arm in ARMS:
        try:
            with tempfile.TemporaryDirectory(prefix="vio-guest-") as folder:
                has = ours.Ours(build, folder, ARCH, arm, 512, more=False, say=say)
                has.build_modules(k)
                with has:
                    if not has.want_peer:
                        raise packages.Missing(f"no peer on the network: {has.namespace.why}")
                    got[arm] = measure(has, k)
        except (packages.Missing, packages.Broken) as e:
            why[arm] = str(e)
    return got, why
