# SPDX-License-Identifier: BSD-3-Clause
"""The section of what `./run guest --counts` left: a request's counts from inside a Linux guest, disk by disk."""

import json
import os

from ab.instrument.model import Section, Table

FILE = "guest-counts.json"
HEAD = ["load", "disk", "hypervisor calls of the guest", "TCE updates", "register accesses", "calls of the server", "bytes copied", "interrupts"]
NOTE = ("Of a request. Register accesses leave the guest as hypervisor calls do. Bytes copied: by QEMU's device or by RDMA, payload and rings; the "
        "bounce copies of arm premapped are the guest's own and not among them. Interrupts: /proc/interrupts of the guest.")


def a_request(n, requests):
    """Two decimals as far as they say something; "-" without requests."""
    return f"{n / requests:.2f}".rstrip("0").rstrip(".") if requests else "-"


def calls(n, requests):
    """Those that there are, the most frequent first."""
    return ", ".join(f"{a_request(v, requests)} {name}" for name, v in sorted(n.items(), key=lambda x: -x[1]) if v / requests >= 0.005) or "0"


def rows(result):
    """Of the table: every load, every disk."""
    out = []
    for load in result["loads"]:
        for disk, cases in result["disks"].items():
            c = cases.get(load)
            if c and c.get("requests"):
                n = c["requests"]
                out.append([load, disk, calls(c["calls"], n), a_request(c["tce_updates"], n), a_request(c["registers"], n),
                            calls(c["server"], n) if "server" in c else "-", a_request(c["bytes_copied"], n), a_request(c["interrupts"], n)])
    return out


def section(out):
    """Section of the counts in a report's folder; None when there are none."""
    path = os.path.join(out, FILE)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as f:
        result = json.load(f)
    loads = "; ".join(f"{n}: vio-load {o}" for n, o in result["loads"].items())
    return Section(
        id="linux-guest", title="From inside a Linux guest",
        lead=f"What a request costs under the kernel's own drivers, counted: {result['arch']}, Debian's kernel {result['kernel']}, QEMU's TCG, whose times "
             "mean nothing and are not taken.",
        tables=[Table("Counts of a request", HEAD, rows(result), NOTE, id="guest-counts")],
        text=[f"Loads: {loads}. Made by ./run guest --counts at commit {result.get('commit') or 'unknown'} (docs/linux-guest.md)."])
