# SPDX-License-Identifier: BSD-3-Clause
"""Exposure: guest memory that the server could touch while no request needed it, and performance against it.
docs/exposure.md has the definitions; the arithmetic is in derive()."""

import numpy as np

from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Interval, Sample, Samples, Section, Table

NAME = "exposure"
FRAME = 17  # bytes of header and status of a request
PAGE = 4096
STANDING = 0.01  # TCE updates a request below which a mapping is taken for standing
FLOOR = 64.0  # bytes: less than this is drawn here, since 0 has no logarithm
MAPPINGS = {"copy": "single-use", "copy-tuned": "deferred", "premapped": "pool", "zero-copy": "pool", "unprotected": "pool"}
BOUNDS = [
    ["single-use", "the unmap that the guest makes before it looks at the request's result", "0", "none: a guest that never "
     "looks never unmaps"],
    ["deferred", "the flush: at 64 requests waiting, or sooner when the window is full", "63 requests", "none: there is no "
     "timer, so the "
     "last ones stay while the disk is idle"],
    ["cached", "eviction, oldest first, when the quota (4,096 pages) or the window is full", "the quota", "none; what the load "
     "uses again "
     "and again never goes"],
    ["pool", "the end of the device", "the whole pool", "the device's life"],
]


def mapping_of(arm):
    """Mapping lifetime of an arm's text."""
    given = [x.split("=")[1] for x in arm.split(",") if x.startswith("mapping=")]
    return given[-1] if given else MAPPINGS.get(arm.split(",")[0], "?")


def derive(s):
    """A sample with exposure_bytes (time-averaged), exposure_s (seconds a byte moved), write_share, stale_s (seconds a mapping
    outlives its request; missing for standing mappings). None without the counters."""
    v = s.values
    if not {"reach_bytes", "need_bytes"} <= set(v) or not v.get("requests") or not v.get("elapsed_ns"):
        return None
    seconds, size = v["elapsed_ns"] / 1e9, s.point.bs + FRAME
    standing = max(0.0, v["reach_bytes"] - v.get("ring_bytes", 0.0))
    excess = max(0.0, standing - v["need_bytes"])
    out = {"exposure_bytes": excess, "exposure_s": excess * seconds / max(1.0, v.get("bytes") or v["requests"] * s.point.bs)}
    if v["reach_bytes"] > 0 and "reach_write_bytes" in v:
        out["write_share"] = v["reach_write_bytes"] / v["reach_bytes"]
    mapped = v.get("tce_updates", 0.0) / 2  # each is set once and cleared once
    if mapped > STANDING:
        rate = v["requests"] / seconds
        out["stale_s"] = max(0.0, standing / PAGE / (mapped * rate) - v["need_bytes"] / size / rate)
    return Sample(**{**vars(s), "values": {**v, **out}})


def analyse(ctx):
    """Section, or None when reach was not counted."""
    samples = Samples(d for d in map(derive, ctx.of(NAME)) if d is not None)
    if not len(samples):
        return None
    out = Section(id="exposure", title="Exposure against performance", lead="")
    rows = [row(samples, p, arm) for p in samples.points() for arm in parts.arms_of(samples.at(p))]
    out.figures = [figure(ctx, samples)]
    out.tables = [table(samples, rows), Table(
        title="How late reach may end", id="exposure-bounds",
        head=["mapping lifetime", "a request's pages stay reachable until", "more at most", "bound in time"],
        rows=[list(r) for r in BOUNDS])]
    out.lead = lead(ctx, samples)
    free = {p.label(): undominated(ctx, samples, p) for p in samples.points()}
    out.text = texts(free)
    out.data = {"arms": [{k: v.data() if isinstance(v, Interval) else v for k, v in r.items()} for r in rows],
                "undominated": free}
    return out


def row(samples, point, arm):
    mine = samples.at(point, arm)
    return {"point": point.label(), "arm": arm, "rate": parts.rate(parts.median(mine)), **{
        k: parts.median(mine, k) for k in ("reach_bytes", "need_bytes", "exposure_bytes", "exposure_s", "write_share",
                                           "stale_s")}}


def seconds_text(v):
    return plots.ns_text(v * 1e9)


def share(v):
    return f"{v:.0%}".replace("%", " %")


def table(samples, rows):
    return Table(title="Reach, need and exposure, averaged over the measurement", id="exposure-arms",
                 head=["point", "arm", "requests/s", "reach", "writable", "need", "exposure", "exposure time a byte moved",
                       "a mapping outlives its request by"],
                 rows=[[r["point"], r["arm"], parts.cell(r["rate"]), parts.cell(r["reach_bytes"], fmt=plots.bytes_text),
                        parts.cell(r["write_share"], fmt=share) if r["write_share"] else "-",
                        parts.cell(r["need_bytes"], fmt=plots.bytes_text),
                        parts.cell(r["exposure_bytes"], fmt=plots.bytes_text), parts.cell(r["exposure_s"], fmt=seconds_text),
                        parts.cell(r["stale_s"], fmt=seconds_text) if r["stale_s"] else "standing"] for r in rows],
                 note="Reach includes the rings, exposure does not. Medians. " + parts.note(samples))


def dominated(ctx, samples, point, arm, by):
    """`by` is shown faster and its interval of exposure lies below."""
    r = parts.speed(samples, point, by, arm)
    mine, its = (parts.median(samples.at(point, a), "exposure_bytes") for a in (arm, by))
    return r is not None and parts.faster(r, ctx.noise) > 0 and mine and its and (its.high < mine.low
            or its.estimate == mine.estimate == 0)


def undominated(ctx, samples, point):
    """Arms for which no other is both shown faster and shown less exposed."""
    arms = parts.arms_of(samples.at(point))
    return [a for a in arms if not any(dominated(ctx, samples, point, a, b) for b in arms if b != a)]


def main_point(samples):
    return sorted(samples.points(), key=lambda p: (p.op != "read", p.bs != 4096, -p.depth))[0]


def lead(ctx, samples):
    """What the pool costs in exposure, and what taking it back costs in speed."""
    p = main_point(samples)
    arms = parts.arms_of(samples.at(p))
    by = {a: parts.median(samples.at(p, a), "exposure_bytes") for a in arms}
    least = min(arms, key=lambda a: by[a].estimate)
    most = max(arms, key=lambda a: by[a].estimate)
    ns = {a: float(np.median(samples.at(p, a).values(parts.NS))) for a in arms}
    best = min(arms, key=ns.get)
    if len(arms) == 1:
        return f"{p.label()}: {best} leaves {plots.bytes_text(by[best].estimate)} within reach that no request needs."
    text = (f"{p.label()}: the server can reach between {plots.bytes_text(by[least].estimate)} ({least}) and "
            f"{plots.bytes_text(by[most].estimate)} ({most}) that no request needs. ")
    if best == least:
        return text + f"The fastest arm, {best} ({1e9 / ns[best]:,.0f} requests/s), is also the least exposed."
    r = parts.speed(samples, p, best, least)
    return text + (f"The fastest, {best} ({1e9 / ns[best]:,.0f} requests/s), is exposed by "
                   f"{plots.bytes_text(by[best].estimate)}; the least exposed "
                   f"does {1e9 / ns[least]:,.0f} requests/s" + (f", so that protection costs {parts.times(r)} in speed"
                                                               if r is not None and parts.faster(r, ctx.noise) > 0 else
                                                               ": no difference in speed is shown") + ".")


def figure(ctx, samples):
    points = samples.points()
    fig, strip, axes = parts.panels(rows=-(-len(points) // 2), cols=min(2, len(points)), height=110 + 235 * -(-len(points) // 2),
                                    legend_lines=5)
    for ax, p in zip(axes, points):
        for arm in parts.arms_of(samples.at(p)):
            x, y = parts.median(samples.at(p, arm), "exposure_bytes"), parts.rate(parts.median(samples.at(p, arm)))
            plots.scatter_with_intervals(ax, Interval(*(max(FLOOR, v) if np.isfinite(v) else v
                                                        for v in (x.estimate, x.low, x.high)), x.n), y,
                                         arm, annotate=False, scale_y=1e-3)
        ax.set_xscale("log")
        ax.set_ylim(bottom=0)
        ax.set_title(p.label())
        ax.set_xlabel("exposure, bytes")
        ax.set_ylabel("thousand requests/s")
        plots.bytes_axis(ax.xaxis)
    for ax in axes[len(points):]:
        ax.set_axis_off()
    parts.legend(strip, axes, 2)
    title = "Requests per second against exposure"
    return Figure(id="exposure-figure", title=title, svg=plots.to_svg(fig, "exposure-figure", title),
                  caption="Up and left is better. Exposure: bytes that the server can reach and no request needs, averaged over "
                  "time. Crosses: 99 % "
                          f"intervals. Less than {FLOOR:.0f} B is drawn at {FLOOR:.0f} B.",
                  limits=parts.limits_line(ctx, 4096, memory=True), command=ctx.command(NAME))


def texts(free):
    front = "; ".join(f"{label}: {parts.listed(arms)}" for label, arms in free.items())
    return [
        "Reach(t) is the set of bytes of the guest's memory that the server can read or write at time t: those under a valid "
        "TCE of the guest's "
        "windows. Need(t) is the bytes (payload, 16 of header, 1 of status) of requests from the call that publishes them to "
        "their "
        "completion. Rings and "
        "configuration are needed for the device's whole life and are taken out of both. Exposure is the time average of "
        "|Reach| - |Need|, in bytes. "
        "By Little's law, exposure times elapsed time over bytes moved is the time for which a byte moved stayed reachable "
        "without need.",
        "Counted: the rest of a page that a request uses in part, since a TCE is the smallest thing that can be granted. Not "
        "counted: pages that the "
        "server's kernel has pinned for a disk read under way (docs/decisions/0007). Stale translations after a revocation: "
        "none, every access "
        "looks at the TCE or goes through a window that is unmapped first. docs/exposure.md has all of it.",
        "In place, a mapping covers whole pages of the guest's backing memory, 2 MiB where hugepages back it, because the "
        "server's CPU "
        "maps no less. So an in-place mapping for one request can expose more bytes than a pool that was laid out for the "
        "purpose.",
        "Counting costs tens of nanoseconds a TCE call, so the speeds here are of machines that count, all arms alike; the "
        "other experiments' "
        "machines don't.",
        f"Worth choosing, because no other arm is shown both faster and less exposed. {front}.",
    ]
