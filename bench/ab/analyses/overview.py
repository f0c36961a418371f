# SPDX-License-Identifier: BSD-3-Clause
"""The arms at a glance: requests per second of each, ratio to copy, the A/A control beside it, and the counters behind it."""

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import AGAIN, Figure, Section, Table

NAME = "overview"
EXPERIMENTS = ("quick", "file")
FIGURE_POINTS = 4  # at most; all points are in the table


def analyse(ctx):
    """Section with the arms' rates, or None when neither experiment was run with copy and another arm."""
    taken = [(name, ctx.of(name)) for name in EXPERIMENTS]
    taken = [(name, s) for name, s in taken if len(s.where(slot="copy")) and len(parts.arms_of(s)) > 1]
    if not taken:
        return None
    out = Section(id="overview", title="The arms at a glance", lead="")
    for name, samples in taken:
        rows, verdicts = rates(samples, ctx.noise)
        out.verdicts += verdicts
        out.tables += [rate_table(name, rows, samples), control_table(name, samples)]
        out.figures += figures(ctx, name, samples)
        out.data[name] = rows
        point = next((p for p in samples.points() if (p.backend, p.op, p.bs, p.depth) == ("memory", "read", 4096, 1)),
                     samples.points()[0])
        out.tables.append(parts.counters_table(samples, point, f"Counts of one request: {point.label()}", f"counters-{name}"))
    out.tables = [t for t in out.tables if t]
    out.lead = lead(taken[0][1], out.data[taken[0][0]])
    out.text = ["Ratios are of requests per second: more than 1 means that the arm does more of them than copy. "
                + parts.noise_text(ctx)]
    inject = parts.injected(s for _, samples in taken for s in samples)
    out.text += [inject] if inject else ["Nothing is injected for hypercalls, TCE updates and RDMA calls, which favours the "
                                         "copy arms."]
    return out


def rates(samples, noise):
    """One dict for each point and arm, and the verdicts."""
    rows, verdicts = [], []
    for point in samples.points():
        for arm in parts.arms_of(samples.at(point)):
            mine, base = samples.at(point, arm), samples.at(point, "copy")
            iv = parts.rate(parts.median(mine))
            row = {"point": point.label(), "arm": arm, "rate": parts.data(iv), "ns": float(np.median(mine.values(parts.NS))),
                   "ratio": None, "answer": ""}
            r = parts.speed(samples, point, arm, "copy") if arm != "copy" else None
            if r is not None:
                claim = f"{point.label()}: {arm} against copy, requests per second"
                v = stats.verdict(claim, r, noise, better="more", absolute=parts.absolute(base, mine, "copy", arm))
                row |= {"ratio": parts.data(r), "answer": v.answer}
                verdicts += [v] if arm == "zero-copy" else []
            rows.append(row)
    return rows, verdicts


def text(d, fmt):
    if d is None:
        return "-"
    return f"{fmt(d['estimate'])} [{fmt(d['low'])}, {fmt(d['high'])}]" if np.isfinite([d["low"],
            d["high"]]).all() else fmt(d["estimate"])


def rate_table(name, rows, samples):
    return Table(title="Requests per second, and ratio to copy", id=f"rates-{name}",
                 head=["point", "arm", "requests/s", "ns a request", "ratio to copy", "verdict"],
                 rows=[[r["point"], r["arm"], text(r["rate"], parts.num), parts.num(r["ns"]),
                        text(r["ratio"], lambda v: f"{v:.2f}×"),
                        r["answer"] or "-"] for r in rows],
                 note=parts.note(samples))


def control_table(name, samples):
    """Each twin against its arm at every point: what the instrument calls a difference between two identical things."""
    rows = []
    for twin in parts.twins_of(samples):
        arm = twin[:-len(AGAIN)]
        for point in samples.points():
            r = parts.speed(samples, point, twin, arm)
            if r is None:
                continue
            a, b = samples.at(point, arm), samples.at(point, twin)
            rows.append([point.label(), arm, parts.cell(parts.rate(parts.median(a))), parts.cell(parts.rate(parts.median(b))),
                         parts.times(r), "yes" if r.excludes(1) else "no"])
    if not rows:
        return None
    return Table(title="A/A control: the same arm twice", id=f"control-{name}",
                 head=["point", "arm", "requests/s", "its twin", "ratio", "interval excludes 1"], rows=rows,
                 note="Both columns are the same design, run as if they were two. The largest ratio here is the floor for every "
                 "verdict. "
                      "At 99 %, one interval in a hundred excludes 1 by chance.")


def figures(ctx, name, samples):
    points = [p for p in samples.points() if p.op == "read"] or samples.points()
    points = sorted(points, key=lambda p: (p.backend == "null", p.bs != 4096, p.depth))[:FIGURE_POINTS]
    if not points:
        return []
    cols = min(2, len(points))
    grid = -(-len(points) // cols)
    fig, axes = plots.new_figure("wide", rows=grid, cols=cols, height=60 + 175 * grid)
    axes = np.atleast_1d(axes).ravel()
    for ax, point in zip(axes, points):
        arms = parts.arms_of(samples.at(point))
        ivs = [parts.rate(parts.median(samples.at(point, a))) for a in arms]
        plots.bars_with_intervals(ax, arms, ivs, arms=arms, scale=1e-3, fmt="{:,.0f}")
        ax.set_title(point.label())
        ax.set_xlabel("thousand requests/s")
    for ax in axes[len(points):]:
        ax.set_axis_off()
    id = f"overview-{name}"
    return [Figure(id=id, title="Requests per second of each arm", svg=plots.to_svg(fig, id, "Requests per second of each arm"),
                   caption="Bars: median over process starts; lines: its 99 % interval. Every panel has its own scale.",
                   limits=parts.limits_line(ctx, 4096, memory=any(p.backend == "memory" for p in points)),
                   command=ctx.command(name))]


def lead(samples, rows):
    """What zero-copy does against copy, from the smallest to the largest ratio, and against its nearest rival."""
    mine = [r for r in rows if r["arm"] == "zero-copy" and r["ratio"]]
    if not mine:
        return f"Zero-copy was not among the arms; {parts.plural(len(rows), 'rate')} of the others are below."
    sure = [r for r in mine if r["answer"] == "faster"]
    lost = [r for r in mine if r["answer"] == "slower"]
    span = [min(mine, key=lambda r: r["ratio"]["estimate"]), max(mine, key=lambda r: r["ratio"]["estimate"])]
    head = (f"Zero-copy does {span[0]['ratio']['estimate']:.2f} to {span[1]['ratio']['estimate']:.2f} times the requests per "
            "second of "
            f"copy: faster at {len(sure)} of {parts.plural(len(mine), 'point')}" if len(mine) > 1 else
            f"Zero-copy does {span[0]['ratio']['estimate']:.2f} times the requests per second of copy ({mine[0]['answer']})")
    tail = f", slower at {len(lost)} ({'; '.join(r['point'] for r in lost)})" if lost and len(mine) > 1 else ""
    tail += f"; no difference shown at {len(mine) - len(sure) - len(lost)}" if len(mine) > max(len(sure) + len(lost), 1) else ""
    return head + tail + "."
