# SPDX-License-Identifier: BSD-3-Clause
"""What a request costs in calls, TCE updates, register accesses, copied bytes and interrupts, the same load over several disks.

Counts only: an emulated processor's times mean nothing. QEMU's own devices are counted by its trace events, this project's by the
hypervisor's counters; interrupts are the guest's /proc/interrupts.
"""

import json
import os
import re
import subprocess
import tempfile

from vm import demo, initramfs, qemu
from ab.report import guest_counts  # vm.qemu has bench/ on the path

CASES = {"read-4k": "--rw randread --bs 4k --count 400", "write-4k": "--rw randwrite --bs 4k --count 400",
         "read-64k": "--rw randread --bs 64k --count 200", "read-4k-deep": "--rw randread --bs 4k --count 800 --depth 16"}
# Of QEMU, by kind of device; memory_region_ops_*: accesses of registers, with the region's name.
EVENTS = {"vio": ["spapr_iommu_put", "spapr_iommu_indirect", "spapr_iommu_stuff", "spapr_vscsi_do_crq", "spapr_vscsi_transfer_data"],
          "pci": ["memory_region_ops_read", "memory_region_ops_write", "spapr_iommu_pci_put", "spapr_iommu_pci_indirect",
                  "spapr_iommu_pci_stuff"]}
CALLS = {"spapr_iommu_put": "H_PUT_TCE", "spapr_iommu_indirect": "H_PUT_TCE_INDIRECT", "spapr_iommu_stuff": "H_STUFF_TCE",
         "spapr_iommu_pci_put": "H_PUT_TCE", "spapr_iommu_pci_indirect": "H_PUT_TCE_INDIRECT", "spapr_iommu_pci_stuff": "H_STUFF_TCE",
         "spapr_vscsi_do_crq": "H_SEND_CRQ"}


class Trace:
    """QEMU's log of trace events; since() is what came after the last look."""

    def __init__(self, folder, events):
        self.events, self.path, self.at = os.path.join(folder, "events"), os.path.join(folder, "trace.log"), 0
        with open(self.events, "w", encoding="ascii") as f:
            f.write("".join(e + "\n" for e in events))

    def qemu(self):
        return ["-trace", f"events={self.events},file={self.path}", "-D", self.path]

    def since(self):
        with open(self.path, "rb") as f:
            f.seek(self.at)
            text = f.read()
            self.at = f.tell()
        return text.decode(errors="replace").splitlines()


def hexes(line):
    return {k: int(v, 16) for k, v in re.findall(r"(\w+)=0x([0-9a-f]+)", line)}


def stock_counts(lines):
    """Counters of QEMU's trace lines."""
    n = {"calls": {}, "tce_updates": 0, "registers": 0, "bytes_copied": 0}
    for line in lines:
        event = line.split(" ", 1)[0].rsplit(":", 1)[-1]
        if event in CALLS:
            n["calls"][CALLS[event]] = n["calls"].get(CALLS[event], 0) + 1
            h = hexes(line)
            if event.endswith("indirect"):
                n["tce_updates"] += h["iobaN"] + 1  # the last one's index, whatever the name says: H_STUFF_TCE takes away as many
            elif event.endswith("stuff"):
                n["tce_updates"] += int(re.search(r"npages=(\d+)", line).group(1))
            elif event.endswith("put"):
                n["tce_updates"] += 1
        elif event.startswith("memory_region_ops_") and re.search(r"name '(virtio|rtl8139|e1000|msix)", line):
            n["registers"] += 1
        elif event == "spapr_vscsi_transfer_data":
            n["bytes_copied"] += hexes(line)["len"]
    return n


class Counted:
    """Devices, with marks: what was counted between begin and end of each load."""

    def __init__(self, has, now):
        self.has, self.now, self.cases, self.name = has, now, {}, None

    def asked(self, words):
        if words[:1] == ["mark"]:
            if words[1] == "begin":
                self.before = self.now()
            else:
                self.cases[self.name].update(difference(self.before, self.now()))
            return "ok"
        return self.has.asked(words)

    def line(self, line):
        demo.show(line)
        if line.startswith("@@case "):
            self.name = line.split()[1]
            self.cases[self.name] = {}
        elif line.startswith("@@interrupts "):
            self.cases[self.name]["interrupts"] = int(line.split()[1])
        elif m := re.match(r"vio-load: (\d+) requests", line):
            if self.name:
                self.cases[self.name]["requests"] = int(m.group(1))


def difference(a, b):
    """Of nested numbers."""
    return {k: difference(a.get(k, {}), v) if isinstance(v, dict) else v - a.get(k, 0) for k, v in b.items()}


def total(a, b):
    return {k: total(a.get(k, {}), b.get(k, {})) if isinstance(a.get(k, b.get(k)), dict) else a.get(k, 0) + b.get(k, 0)
            for k in {**a, **b}}


def measure(has, k, a, load, say, trace=None):
    """Cases of one kind of disk: name -> counters. Devices are up when this is called."""
    so_far = stock_counts([])

    def stock_now():
        nonlocal so_far
        so_far = total(so_far, stock_counts(trace.since()))
        return so_far

    with tempfile.TemporaryDirectory(prefix="vio-guest-") as folder:
        initrd = initramfs.base(k.root, k.ordered(has.modules, has.own_modules), ["mke2fs"], [("bin/vio-load", load)], has.params())
        vm = qemu.Vm(a.arch, k.image, initrd, folder, a.memory, a.cpus, "tcg", has.qemu() + (trace.qemu() if trace else []), has.ram)
        counted = Counted(has, stock_now if trace else has.counted)
        cases = " ".join(f"{n}:{','.join(o.split())}" for n, o in CASES.items())
        lines = vm.run(demo.text(["counts"]), a.seconds, counted.asked, counted.line, **{**has.variables(), "CASES": cases, "IRQS": has.irqs})
    if bad := qemu.results(lines)[1]:
        raise qemu.GuestError(f"{'; '.join(bad)}{has.trouble()}")
    return counted.cases


def table(result):
    """Markdown: a row for each disk and load."""
    rows = [guest_counts.HEAD, ["---"] * len(guest_counts.HEAD), *guest_counts.rows(result)]
    return "".join("| " + " | ".join(r) + " |\n" for r in rows)


def write(result, folder):
    """For the report, which has a section of it, and for people."""
    commit = subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "rev-parse", "--short", "HEAD"], capture_output=True,
                            text=True, check=False).stdout.strip()
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, guest_counts.FILE)
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**result, "loads": CASES, "commit": commit}, f, indent=1)
    with open(path.replace(".json", ".md"), "w", encoding="utf-8") as f:
        f.write(f"{result['arch']}, kernel {result['kernel']}, commit {commit}, QEMU's TCG: counts, no times.\n\n"
                + "".join(f"{n}: `vio-load {o}`\n" for n, o in CASES.items()) + f"\n{guest_counts.NOTE}\n\n" + table({**result, "loads": CASES}))
