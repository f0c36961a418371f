# SPDX-License-Identifier: BSD-3-Clause
"""The arms beside other projects' vhost-user-blk servers on the same cores, at equal touching."""

import numpy as np

from ab import stats
from ab.report import parts
from ab.drivers.disk_peers import PEERS
from ab.instrument.model import AGAIN, Section, Table

NAME = "disk_peers"
EXPERIMENT = "disk-peers"
MINE = "zero-copy"
TOUCHED = {"none": "no byte", "headers": "the first 64 bytes", "all": "every byte, checked"}


def touched(point):
    return TOUCHED[point.touch or ("none" if point.backend == "null" else "all")]


def analyse(ctx):
    """Section of experiment disk-peers; None without zero-copy and a peer in it."""
    samples = ctx.of(EXPERIMENT)
    here = [p for p in PEERS if len(samples.where(slot=p))]
    if not here or not len(samples.where(slot=MINE)):
        return None
    out = Section(id=NAME, title="Disk: beside other projects' vhost-user-blk", lead="")
    rows = []
    for point in samples.points():
        for slot in samples.at(point).slots():
            if slot.endswith(AGAIN):
                continue
            row = {"point": point.label(), "touched": touched(point), "arm": slot,
                   "ns": float(np.median(samples.at(point, slot).values(parts.NS))), "ratio": None, "answer": ""}
            r = parts.speed(samples, point, MINE, slot) if slot != MINE else None
            if r is not None:
                v = stats.verdict(f"{point.label()}: {MINE} against {slot}, requests per second", r, ctx.noise, better="more",
                                  absolute=parts.absolute(samples.at(point, slot),
                                                          samples.at(point, MINE), slot, MINE))
                row |= {"ratio": parts.data(r), "answer": v.answer}
                out.verdicts += [v] if slot in PEERS else []
            rows.append(row)
    out.data[EXPERIMENT] = rows
    out.tables = [Table(title=f"Time of a request, and how many more {MINE} does", id="disk-peers",
                        head=["point", "touched by the program", "arm", "ns a request", f"{MINE} : this", "answer"],
                        rows=[[r["point"], r["touched"], r["arm"], f"{r['ns']:,.0f}", ratio(r["ratio"]), r["answer"]] for r in rows],
                        note="Medians over process starts; ratios of requests per second, paired by block, with their 99 % interval.")]
    out.lead = lead(rows)
    out.text = ["Both kinds of driver poll, have as many buffers and pick blocks by the same rule; both programs touch the same "
                "bytes. "
                "QEMU's export is woken by an eventfd for every publish, whatever its iothread is allowed to poll. The server on "
                "DPDK's vhost library polls, is never kicked, and has no block layer between ring and store. Neither peer "
                "enforces where a server may reach: all memory of the driver is mapped."]
    return out


def ratio(d):
    if d is None:
        return ""
    known = np.isfinite([d["low"], d["high"]]).all()
    return f"{d['estimate']:.2f} " + (f"({d['low']:.2f} to {d['high']:.2f})" if known else f"(n = {d['n']}: too few for an interval)")


def lead(rows):
    peers = [r for r in rows if r["arm"] in PEERS and r["ratio"] is not None]
    ahead = sum(r["answer"] == "faster" for r in peers)
    return f"{MINE} does more requests per second than a peer in {ahead} of {len(peers)} comparisons."
