# SPDX-License-Identifier: BSD-3-Clause
"""The device configuration sequence of the 2010 slides, and how to see it in the traces of two real programs."""

import re

from machine import Machine, MachineError

# The slides' steps in order: a pattern that must appear after the one before it. G: guest's trace, S: server's.
GUEST = ["PROBE  ", "PROBE reply", "ACKNOWLEDGE  ", "ACKNOWLEDGE reply", "DRIVER", "QUEUE.*desc", "QUEUE.*avail",
         "QUEUE.*used", "DRIVER_OK", "DRIVER_OK reply"]
SERVER = ["PROBE  ", r"H_(COPY|WRITE)_RDMA", "PROBE reply", "ACKNOWLEDGE  ", r"H_(COPY|WRITE)_RDMA",
          "ACKNOWLEDGE reply", "DRIVER", "QUEUE.*desc", "QUEUE.*avail", "QUEUE.*used", "DRIVER_OK",
          r"H_(COPY|READ)_RDMA", "DRIVER_OK reply"]


def guest_steps(proto):
    """The guest's steps in a protocol version, "1" (the slides' own) or "2" (adds FEATURES_OK)."""
    extra = ["FEATURES_OK", "FEATURES_OK reply"] if proto == "2" else []
    return GUEST[:5] + extra + GUEST[5:]


def found(lines, steps):
    """For each step the index of its line, searched after the step before; None for the first that is missing and all later."""
    out, at = [], 0
    for s in steps:
        pattern = re.compile(r"(^|\s)" + s + r"(\W|$)")
        while at is not None and at < len(lines) and not pattern.search(lines[at]):
            at += 1
        if at is None or at >= len(lines):
            at = None
            out.append(None)
            continue
        out.append(at)
        at += 1
    return out


def in_order(lines, steps):
    """The first step that is not found after the ones before it, or None."""
    at = found(lines, steps)
    return steps[at.index(None)] if None in at else None


def record(build, proto):
    """(guest's lines, server's lines): the traces of one configuration and one request in the copy arm."""
    with Machine(build, vios_args=["--disk", "memory,size=16M", "--trace", "--proto", proto]) as m:
        g = m.start_guest(["--trace", "--arm", "copy", "--fallback", "--count", "1", "--warm-seconds", "0", "--touch", "none",
                           "--span", "1M"])
        try:
            g.proc.wait(60)
        finally:
            g.stop()
        if g.proc.returncode:
            raise MachineError(f"vio-blk with --trace: exit {g.proc.returncode}\n{g.log()}")
        return g.log().splitlines(), m.vios.log().splitlines()
