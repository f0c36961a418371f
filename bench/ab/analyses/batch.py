# SPDX-License-Identifier: BSD-3-Clause
"""Batch and queue size: what batching gives back to the copy design, and the bytes of rings that a kick costs."""

import numpy as np

from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Section, Table

NAME = "batch"
HEADER_AND_STATUS = 17  # bytes of RDMA that a request costs besides its payload
COPIES_RINGS = ("copy",)  # arms for which the formula is meant


def analyse(ctx):
    """Section, or None when neither the batch nor the queue size was varied."""
    samples = ctx.of("batch")
    by_batch = sorted((p for p in samples.points() if p.batch), key=lambda p: p.batch)
    by_queue = sorted((p for p in samples.points() if not p.batch), key=lambda p: p.queue_size)
    if max(len(by_batch), len(by_queue)) < 2:
        return None
    out = Section(id="batch", title="Batch and queue size", lead="")
    for points, key, title in ((by_batch, "batch", "requests made available per publish"),
                               (by_queue, "queue_size", "queue size N")):
        if len(points) >= 2:
            out.figures.append(figure(ctx, samples, points, key, title))
            out.tables.append(table(samples, points, key, title))
    rings = ring_rows(samples)
    if rings:
        out.tables.append(ring_table(rings))
    out.data = {"gain": gains(samples, by_batch), "rings": rings}
    out.lead = " ".join(x for x in (gain_text(samples, by_batch, ctx), ring_text(rings))
                        if x) or "No arm was measured at two settings."
    return out


def table(samples, points, key, title):
    mine = type(samples)(s for s in samples if s.point in set(points))
    arms = parts.arms_of(mine)
    rows = []
    for p in points:
        r = parts.speed(mine, p, "zero-copy", "copy")
        rows.append([f"{getattr(p, key):,}"] + [parts.cell(parts.median(mine.at(p, a))) for a in arms]
                    + [parts.times(r) if r else "-"])
    return Table(title=f"Nanoseconds a request by {title}, depth {points[0].depth}", id=f"batch-{key}",
                 head=[title] + arms + ["zero-copy / copy, requests/s"], rows=rows, note=parts.note(mine))


def figure(ctx, samples, points, key, title):
    fig, ax = plots.new_figure("wide")
    xs = [getattr(p, key) for p in points]
    for arm in parts.arms_of(samples):
        parts.curve(ax, xs, [parts.median(samples.at(p, arm)) for p in points], arm)
    ax.set_yscale("log")
    plots.size_axis(ax, xs)
    if np.isfinite(ctx.r_ns):
        plots.bound(ax, ctx.r_ns, "R")
    ax.set_xlabel(title)
    ax.set_ylabel("time a request")
    plots.ns_axis(ax.yaxis)
    plots.legend_above(ax, 4)
    id = f"batch-{key}-figure"
    return Figure(id=id, title=f"Time a request by {title}", svg=plots.to_svg(fig, id, f"Time a request by {title}"),
                  caption=f"{points[0].label().split(':')[0]} backend, depth {points[0].depth}. Bands: 99 % intervals over "
                  "process starts. One R a "
                          "request bounds depth 1 only; at depth 32 many requests share a round trip.",
                  limits=parts.limits_line(ctx), command=ctx.command(NAME))


def gains(samples, points):
    """For each arm: what the largest batch earns over the smallest, paired by block."""
    out = []
    for arm in parts.arms_of(samples) if len(points) >= 2 else []:
        first, last = (samples.at(p, arm) for p in (points[0], points[-1]))
        r = parts.ratio(*last.paired(first, parts.NS))
        if r is not None:
            out.append({"arm": arm, "from": points[0].batch, "to": points[-1].batch, "ratio": r.estimate, "low": r.low,
                        "high": r.high,
                        "n": r.n, "ns_from": float(np.median(first.values(parts.NS))),
                        "ns_to": float(np.median(last.values(parts.NS)))})
    return out


def gain_text(samples, points, ctx):
    """How much of the distance from copy to zero-copy batching alone covers."""
    by = {g["arm"]: g for g in gains(samples, points)}
    if "copy" not in by or "zero-copy" not in by:
        return ""
    g, z = by["copy"], by["zero-copy"]
    r1, r2 = (parts.speed(samples, p, "zero-copy", "copy") for p in (points[0], points[-1]))
    if r1 is None or r2 is None:
        return ""
    ends = [f"{parts.times(r)} ({parts.answer(r, ctx.noise)})" for r in (r1, r2)]
    return (f"With batches of {g['to']} instead of {g['from']} copy does {g['ratio']:.2f} times the requests per second "
            f"({parts.num(g['ns_from'])} to {parts.num(g['ns_to'])} ns a request), zero-copy {z['ratio']:.2f} times; "
            f"zero-copy against copy goes from {ends[0]} to {ends[1]}.")


def ring_rows(samples):
    """Ring bytes a kick from the counters, against 26N + 12, for each point and arm that copies whole rings."""
    out = []
    for p in samples.points():
        for arm in COPIES_RINGS:
            mine = [s for s in samples.at(p, arm) if s.values.get("kicks", 0) > 0 and "rdma_bytes" in s.values]
            if mine:
                got = [(s.values["rdma_bytes"] - p.bs - HEADER_AND_STATUS) / s.values["kicks"] for s in mine]
                out.append({"point": p.label(), "arm": arm, "n": p.queue_size, "batch": p.batch, "formula": 26 * p.queue_size
                            + 12,
                            "low": float(min(got)), "high": float(max(got)), "median": float(np.median(got)),
                            "kicks": float(np.median([s.values["kicks"] for s in mine])), "starts": len(mine)})
    return out


def ring_table(rows):
    return Table(title="Bytes of rings a kick", id="batch-rings",
                 head=["point", "arm", "kicks a request", "26N + 12", "counted", "range", "process starts"],
                 rows=[[r["point"], r["arm"], parts.num(r["kicks"]), f"{r['formula']:,}", f"{r['median']:,.1f}",
                        f"{r['low']:,.1f} to {r['high']:,.1f}", str(r["starts"])] for r in rows],
                 note=f"Counted: bytes by RDMA less payload and {HEADER_AND_STATUS} bytes of header and status a request, "
                 "divided by kicks. The formula is for a pass of the server over the rings: a kick that comes while it is at "
                 "work "
                 "shares a pass (less), a pass without a kick of its own adds one (more).")


def ring_text(rows):
    if not rows:
        return ""
    exact = [r for r in rows if max(abs(r["low"] - r["formula"]), abs(r["high"] - r["formula"])) <= 0.005 * r["formula"]]
    if len(exact) == len(rows):
        return f"Ring bytes a kick are 26N + 12, whatever the batch, at all {parts.plural(len(rows), 'point')} (within 0.5 %)."
    one = [r for r in rows if not r["batch"]]
    right = sum(r in exact for r in one)
    many = "all" if right == len(one) else f"{right} of the"
    held = f", {many} {len(one)} at depth 1 among them" if one else ""
    off = max(rows, key=lambda r: abs(r["median"] / r["formula"] - 1))
    why = "a kick that comes while the server is at work is served by the same pass" if off["median"] < off["formula"] else \
        "the server made passes without a kick of their own"
    return (f"Ring bytes a kick are 26N + 12 at {len(exact)} of {parts.plural(len(rows), 'point')}{held}; furthest off: "
            f"{off['median']:,.0f} against {off['formula']:,} ({off['point']}), as when {why}.")
