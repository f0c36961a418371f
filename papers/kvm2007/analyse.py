# SPDX-License-Identifier: BSD-3-Clause
"""Register accesses and calls of a packet, counted while Linux guests send them."""

import os
import sys

import numpy as np

from ab.instrument.model import Interval, Table
from ab.papers import papers
from ab.report import plots

LOADS = {"ping": "one packet at a time", "send": "TCP out", "receive": "TCP in"}


def gather(build):
    """The guests' counts, card by card; why there are none of some."""
    sys.path.insert(0, os.path.join(papers.ROOT, "guest"))
    from vm import packets
    got, why = packets.gather(build, lambda text: print(f"kvm2007: {text}", flush=True))
    return {"guests": got, "why": why}


def a_packet(extra, card, load="ping"):
    n = extra.get("guests", {}).get(card, {}).get(load)
    return n["accesses"] / n["packets"] if n and n["packets"] else None


def exact(x):
    """One count of many packets, exact: no interval but itself."""
    return None if x is None else Interval(x, x, x, 1, 1.0)


def divided(a, b):
    return None if a is None or not b else a / b


def said(extra, *cards, load="ping"):
    return ", ".join(f"{c}: {a_packet(extra, c, load):.2f}" if a_packet(extra, c, load) is not None else
                     f"{c}: {extra.get('why', {}).get(c, 'not measured')[:120]}" for c in cards)


def figure(extra):
    got = extra.get("guests", {})
    if not got:
        return ""
    fig, axes = plots.new_figure("wide", cols=1)
    ax = axes[0] if isinstance(axes, (list, np.ndarray)) else axes
    for i, load in enumerate(LOADS):
        ax.bar(np.arange(len(got)) + 0.27 * (i - 1), [a_packet(extra, c, load) or 0 for c in got], 0.25, label=LOADS[load],
               color=plots.sequence(i)["color"])
    ax.set_xticks(range(len(got)), list(got))
    ax.set_ylabel("register accesses or calls a packet")
    papers.legend(ax, fontsize=9)
    return plots.to_svg(fig, "paper-kvm2007")


def analyse(samples, limits, claim, extra):
    checker = papers.Checker(claim, extra)
    e1000 = a_packet(extra, "e1000")
    checker.check("e1000", exact(e1000), said(extra, "e1000"))
    checker.check("rtl", exact(divided(a_packet(extra, "rtl8139"), e1000)), said(extra, "rtl8139", "e1000"))
    checker.check("virtio", exact(divided(a_packet(extra, "virtio-net-pci"), e1000)), said(extra, "virtio-net-pci", "e1000"))
    checker.check("stream-e1000", exact(a_packet(extra, "e1000", "send")), said(extra, "e1000", load="send"))
    checker.check("stream-virtio", exact(a_packet(extra, "virtio-net-pci", "send")), said(extra, "virtio-net-pci", load="send"))
    for arm in ("copy", "zero-copy"):
        checker.check(arm, exact(divided(a_packet(extra, arm), e1000)), said(extra, arm, "e1000"))
    rows = [[c, *[f"{a_packet(extra, c, load):.2f}" if a_packet(extra, c, load) is not None else "-" for load in LOADS]]
            for c in extra.get("guests", {})]
    return papers.Result(
        tests=checker.finish(), svg=figure(extra),
        tables=[Table("Register accesses or hypervisor calls of the guest, a packet", ["card or arm", *LOADS.values()], rows,
                      "A packet: of those that the guest's card has counted, sent and received.")],
        paragraphs=["Counts of one run each, exact. They hold accesses of the card's registers and of its MSI-X table; those of the interrupt "
                    "controller are left out on all cards."],
        caption="Register accesses (QEMU's cards) or hypervisor calls (this transport) of a packet, from inside a Linux guest.")
