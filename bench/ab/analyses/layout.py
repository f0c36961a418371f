# SPDX-License-Identifier: BSD-3-Clause
"""What a layout of rings costs: split, packed, and either in order, all else the same, rings in place or copied."""

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Section, Table

NAME = "layout"
LAYOUTS = ("split", "packed", "split-in-order", "packed-in-order")
BASES = ("zero-copy", "copy", "copy-tuned")
COUNTED = (("rdma_bytes", "bytes by RDMA"), ("rdma_calls", "RDMA calls"))


def arm_of(base, layout):
    """All named arms have split rings."""
    return base if layout == "split" else f"{base},layout={layout}"


def of_base(samples, point, base):
    """Layouts that were measured with everything else as in the arm `base`."""
    have = set(samples.at(point).slots())
    return [x for x in LAYOUTS if arm_of(base, x) in have]


def analyse(ctx):
    """Section, or None when no point has two layouts of one arm."""
    samples = ctx.of(NAME)
    points = [p for p in samples.points() if any(len(of_base(samples, p, b)) >= 2 for b in BASES)]
    if not points:
        return None
    out = Section(id=NAME, title="Layouts of rings", lead="")
    found = []
    for i, point in enumerate(points):
        rows = [row(samples, point, b, x) for b in BASES for x in of_base(samples, point, b)]
        found.append((point, rows))
        out.figures.append(figure(ctx, samples, point, rows, i))
        out.tables.append(table(samples, point, rows, i))
        out.verdicts += verdicts(ctx, samples, point)
    out.lead = " ".join(lead(ctx, point, rows) for point, rows in found)
    out.text = ["Only the layout differs within an arm: split rings, one packed ring, and either with used elements for whole "
                "batches (in order). Ratios are of time: above 1 means slower than split rings. docs/architecture.md, section 4, "
                "has the bytes a kick of each.", parts.noise_text(ctx)]
    out.data = {"points": [{"point": p.label(), "arms": [as_data(r) for r in rows]} for p, rows in found]}
    return out


def row(samples, point, base, layout):
    at = samples.at(point)
    mine, split = at.where(slot=arm_of(base, layout)), at.where(slot=arm_of(base, "split"))
    return {"base": base, "layout": layout, "arm": arm_of(base, layout), "ns": parts.median(mine),
            "over_split": parts.ratio(*split.paired(mine, parts.NS)) if layout != "split" else None,
            "counts": {k: float(np.median(mine.values(k))) for k, _ in COUNTED if len(mine.values(k))}}


def verdicts(ctx, samples, point):
    """Each layout against split, and in order against the same layout without."""
    at, out = samples.at(point), []
    for base in BASES:
        have = of_base(samples, point, base)
        for old, new in (("split", "packed"), ("split", "split-in-order"), ("packed", "packed-in-order")):
            if not {old, new} <= set(have):
                continue
            a, b = at.where(slot=arm_of(base, old)), at.where(slot=arm_of(base, new))
            iv = parts.ratio(*b.paired(a, parts.NS))
            if iv is not None:
                out.append(stats.verdict(f"{point.label()}, {base}: {new} against {old}, requests per second", iv, ctx.noise,
                                         better="more", absolute=parts.absolute(a, b, old, new)))
    return out


def lead(ctx, point, rows):
    told = []
    for base in BASES:
        mine = [f"{r['layout']} takes {r['over_split'].estimate:.2f} times the time of split "
                f"({stats.verdict('', r['over_split'], ctx.noise).answer})"
                for r in rows if r["base"] == base and r["over_split"] is not None]
        if mine:
            told.append(f"{base}: " + ", ".join(mine))
    return f"{point.label()}: " + ("; ".join(told) or "split rings were not measured beside others") + "."


def figure(ctx, samples, point, rows, i):
    bases = [b for b in BASES if any(r["base"] == b for r in rows)]
    fig, axes = plots.new_figure("wide", 1, len(bases), height=250, squeeze=False)
    for ax, base in zip(axes[0], bases):
        mine = [r for r in rows if r["base"] == base]
        plots.bars_with_intervals(ax, [r["layout"] for r in mine], [r["ns"] for r in mine],
                                  arms=[r["arm"] if r["layout"] == "split" else "" for r in mine], fmt="{:,.0f}")
        ax.set_title(base, fontsize=11)
        ax.set_xlabel("ns per request")
    title = f"Layouts of rings: {point.label()}"
    return Figure(id=f"layout-{i}", title=title, svg=plots.to_svg(fig, f"layout-{i}", title),
                  caption="The panels have their own scales. " + parts.note(samples.at(point)),
                  limits=parts.limits_line(ctx, point.bs, point.backend == "memory"), command=ctx.command(NAME))


def table(samples, point, rows, i):
    return Table(title=f"Layouts: {point.label()}", id=f"layout-table-{i}",
                 head=["arm", "ns a request", "time over split's", *(t + " a request" for _, t in COUNTED)],
                 rows=[[r["arm"], parts.cell(r["ns"], unit=" ns"), "1" if r["layout"] == "split" else parts.times(r["over_split"]),
                        *(parts.num(r["counts"].get(k)) for k, _ in COUNTED)] for r in rows],
                 note=parts.note(samples.at(point)))


def as_data(r):
    return {k: (parts.data(v) if k in ("ns", "over_split") else v) for k, v in r.items()}
