# SPDX-License-Identifier: BSD-3-Clause
"""The demo: scripts of inside/ in one boot of the guest, printed as they go, judged at the end."""

import contextlib
import os

from vm import qemu

INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside")
PARTS = ["disk", "net", "share", "rng", "fio", "restart", "cycles"]


def programs(a):
    """What the demo's initramfs has besides."""
    parts = a.only.split(",") if a.only else PARTS
    return [p for p, part in (("iperf3", "net"), ("fio", "fio")) if part in parts]


def text(parts):
    out = []
    for p in parts:
        with open(os.path.join(INSIDE, p + ".sh"), encoding="utf-8") as f:
            out.append(f"say '--- {p}'\n{f.read()}")
    return "\n".join(out)


def show(line):
    if line.startswith("@@say "):
        print("  " + line[6:], flush=True)
    elif line.startswith("@@ok "):
        print("  ok: " + line[5:], flush=True)
    elif line.startswith("@@bad "):
        print("  BAD: " + line[6:], flush=True)


def run(vm, has, a, say):
    """0 when everything held."""
    can = has.parts()
    wanted = a.only.split(",") if a.only else [p for p in PARTS if p in can]
    for p in wanted:
        if p not in can:
            raise qemu.GuestError(f"{p} can't be shown on these devices; there are {', '.join(can)}")
    more = dict(has.variables())
    with contextlib.ExitStack() as stack:
        if "net" in wanted:
            more.update(IPERF=1, IPERF_PORT=stack.enter_context(has.iperf()).port)
        lines = vm.run(text(wanted), a.seconds, has.asked, show, **more)
    good, bad = qemu.results(lines)
    say(f"{len(good)} held, {len(bad)} did not" + (f": {'; '.join(bad)}" if bad else ""))
    if bad:
        print(has.trouble())
    return 1 if bad or not good else 0
