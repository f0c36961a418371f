# SPDX-License-Identifier: BSD-3-Clause
"""./run guest: a real Linux guest (Debian's kernel, unmodified QEMU) with a disk, a network and a shared folder."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from vm import counts, cross, demo, devices, initramfs, kernel, ours, packages, qemu  # noqa: E402


def say(text):
    print(f"guest: {text}", flush=True)


def parse(argv):
    p = argparse.ArgumentParser(prog="./run guest", description=__doc__)
    p.add_argument("arch", nargs="?", choices=sorted(packages.ARCHES), default="ppc64le", help="ppc64le boots faster (default)")
    p.add_argument("--build", default=os.path.join(HERE, "..", "..", "build"), help=argparse.SUPPRESS)
    p.add_argument("--stock", choices=["pci", "vio"], help="QEMU's own devices instead of this project's: virtio-pci, or PAPR's vscsi and LAN")
    p.add_argument("--arm", default="zero-copy", help="copy, copy-tuned, premapped or zero-copy (default)")
    p.add_argument("--demo", action="store_true", help="run a script in the guest and print what it did")
    p.add_argument("--counts", action="store_true", help="count what a request costs on each disk, arm by arm; report/guest-counts.{json,md}")
    p.add_argument("--only", metavar="PART,...", help="parts of the demo: " + ", ".join(demo.PARTS))
    p.add_argument("--fetch", action="store_true", help="fetch and build everything, boot nothing")
    p.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="auto: kvm where a trial boot really works")
    p.add_argument("--cpus", type=int, default=1, help="processors of the guest (1)")
    p.add_argument("--memory", type=int, default=512, metavar="MIB", help="of the guest, 256 to 1024 (512)")
    p.add_argument("--seconds", type=int, default=300, help="the demo is over after so long, done or not (300)")
    a = p.parse_args(argv)
    if not 1 <= a.cpus <= 8 or not 256 <= a.memory <= 1024:
        p.error("--cpus is 1 to 8, --memory 256 to 1024")
    return a


def prepare(a, has):
    """(kernel, initramfs) for devices `has`."""
    root = packages.Root(a.arch, say)
    k = kernel.Kernel(root)
    say(f"kernel {k.abi} of Debian, cached in {root.dir}")
    programs = ["mke2fs", "e2fsck"] + (demo.programs(a) if a.demo or a.fetch else [])
    has.build_modules(k)
    return k, initramfs.base(root, k.ordered(has.modules, has.own_modules), programs, params=has.params())


def run(a, folder):
    has = devices.Stock(a.arch, a.stock, folder) if a.stock else ours.Ours(a.build, folder, a.arch, a.arm, a.memory, say=say)
    k, initrd = prepare(a, has)
    if a.fetch:
        return 0
    with has:
        accel = qemu.choose_accel(a.arch, k.image, initrd, folder, say) if a.accel == "auto" else a.accel
        vm = qemu.Vm(a.arch, k.image, initrd, folder, a.memory, a.cpus, accel, has.qemu(), has.ram)
        say(f"{a.arch}, {'QEMU devices: ' + a.stock if a.stock else 'arm ' + a.arm}, {accel}, {a.cpus} processor(s), {a.memory} MiB")
        if not a.demo:
            say("a shell; `poweroff -f` or Ctrl-A X ends it")
            return vm.shell()
        try:
            return demo.run(vm, has, a, say)
        except qemu.GuestError as e:
            raise qemu.GuestError(f"{e}{has.trouble()}") from None


def load_program(a):
    """vio-load for the guest: static, of its architecture."""
    build = os.path.abspath(a.build)
    if a.arch == "ppc64le":
        build = os.path.join(build, "ppc64le")
        cross.setup(build, say)
    cross.compile_(build, "guest/vio-load")
    return os.path.join(build, "guest", "vio-load")


def count(a):
    """./run guest --counts. Each disk in turn: QEMU's, and this project's in each arm."""
    k, load = kernel.Kernel(packages.Root(a.arch, say)), load_program(a)
    result = {"arch": a.arch, "kernel": k.abi, "disks": {}}
    where = os.path.abspath(os.path.join(HERE, "..", "..", "report"))
    kinds = [a.stock] if a.stock else (["vio"] if a.arch == "ppc64le" else []) + ["pci"]
    for kind in kinds:
        say(f"QEMU's disk {kind}")
        with tempfile.TemporaryDirectory(prefix="vio-guest-") as folder, devices.Stock(a.arch, kind, folder, counted=True) as has:
            trace = counts.Trace(folder, counts.EVENTS[kind])
            result["disks"][{"vio": "ibmvscsi on spapr-vscsi", "pci": "virtio_blk on virtio-blk-pci"}[kind]] = counts.measure(has, k, a, load, say, trace)
        counts.write(result, where)  # after each: what follows may not end
    for arm in [] if a.stock else a.arm.split(",") if a.arm != "zero-copy" else ["copy", "copy-tuned", "premapped", "zero-copy"]:
        say(f"this project's disk, arm {arm}")
        with tempfile.TemporaryDirectory(prefix="vio-guest-") as folder:
            has = ours.Ours(a.build, folder, a.arch, arm, a.memory, peer=False, more=False, say=say)
            has.build_modules(k)
            with has:
                result["disks"][f"virtio_blk on virtio_vio, {arm}"] = counts.measure(has, k, a, load, say)
        counts.write(result, where)
    print(counts.table({**result, "loads": counts.CASES}), end="")
    say(f"{where}/guest-counts.json, guest-counts.md; ./run ab report shows them")
    return 0


def main(argv):
    a = parse(argv)
    for s in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(s) != signal.SIG_IGN:  # nohup
            signal.signal(s, lambda n, _: sys.exit(128 + n))
    folder = tempfile.mkdtemp(prefix="vio-guest-")
    t0 = time.monotonic()
    try:
        rc = count(a) if a.counts else run(a, folder)
        if a.demo:
            say(f"done in {time.monotonic() - t0:.0f} s")
        return rc
    except (packages.Missing, packages.Broken) as e:
        print(f"guest: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("guest: ended by Ctrl-C", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
