# SPDX-License-Identifier: BSD-3-Clause
"""What a mapping's lifetime costs: single-use, deferred, cached and pool, all else the same, payload copied or in place."""

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Section, Table

NAME = "mapping"
LIFETIMES = ("single-use", "deferred", "cached", "pool")  # shortest first
ZERO = "zero-copy"
# (transport in words, {lifetime: arm})
GROUPS = (("payload by RDMA (copy-tuned)", {m: f"copy-tuned,mapping={m}" for m in LIFETIMES}),
          ("payload in place (zero-copy)", {m: ZERO if m == "pool" else f"zero-copy,mapping={m}" for m in LIFETIMES}))
COUNTED = (("tce_updates", "TCE updates"), ("hcalls", "hypercalls"))


def analyse(ctx):
    """Section, or None when no point has two lifetimes of one transport."""
    samples = ctx.of("mapping")
    points = [p for p in samples.points() if any(len(of_group(samples, p, g)) >= 2 for _, g in GROUPS)]
    if not points:
        return None
    out = Section(id="mapping", title="What a mapping's lifetime costs", lead="")
    found = []
    for i, point in enumerate(points):
        rows = [row(samples, point, words, g, m) for words, g in GROUPS for m in of_group(samples, point, g)]
        found.append((point, rows))
        out.figures.append(figure(ctx, samples, point, rows, i))
        out.tables.append(table(samples, point, rows, i))
        out.verdicts += verdicts(ctx, samples, point)
    out.lead = lead(ctx, found)
    out.text = texts(ctx, samples)
    out.data = {"points": [{"point": p.label(), "arms": [as_data(r) for r in rows]} for p, rows in found]}
    return out


def of_group(samples, point, group):
    """Lifetimes of a transport that were measured at a point."""
    have = set(samples.at(point).slots())
    return [m for m in LIFETIMES if group[m] in have]


def row(samples, point, words, group, lifetime):
    """All about one arm at one point. Ratios are ns over ns: above 1, this arm needs more time."""
    at = samples.at(point)
    mine = at.where(slot=group[lifetime])

    def over(arm):
        base = at.where(slot=arm)
        return parts.ratio(*base.paired(mine, parts.NS)) if arm != group[lifetime] else None
    return {"transport": words, "lifetime": lifetime, "arm": group[lifetime], "ns": parts.median(mine), "over_zero": over(ZERO),
            "over_single": over(group["single-use"]), "over_pool": over(group["pool"]),
            "counts": {k: float(np.median(mine.values(k))) for k, _ in COUNTED if len(mine.values(k))}}


def verdicts(ctx, samples, point):
    """Each lifetime against the next longer one of the same transport, and single-use against pool."""
    at, out = samples.at(point), []
    for words, g in GROUPS:
        have = of_group(samples, point, g)
        pairs = list(zip(have, have[1:]))
        if len(have) > 2 and have[0] == "single-use" and have[-1] == "pool":
            pairs.append(("single-use", "pool"))
        for short, long in pairs:
            a, b = at.where(slot=g[short]), at.where(slot=g[long])
            iv = parts.ratio(*b.paired(a, parts.NS))
            if iv is not None:
                out.append(stats.verdict(f"{point.label()}, {words}: {long} against {short}, requests per second", iv, ctx.noise,
                                         better="more", absolute=parts.absolute(a, b, short, long)))
    return out


def lead(ctx, found):
    """Single-use against pool for both transports at the first point, and whether cached reaches pool."""
    point, rows = found[0]
    told = []
    for words, g in GROUPS:
        mine = {r["lifetime"]: r for r in rows if r["transport"] == words}
        if not {"single-use", "pool"} <= set(mine):
            continue
        iv = mine["single-use"]["over_pool"]
        short = "with payload in place" if g["pool"] == ZERO else "with payload by RDMA"
        change = {"slower": f"mapping for each request takes {iv.estimate:.2f} times the time of a pool",
                  "faster": f"mapping for each request takes only {iv.estimate:.2f} times the time of a pool"}.get(
            stats.verdict("", iv, ctx.noise).answer, "no difference shown between mapping for each request and a pool")
        text = (f"{short} {change} ({parts.num(mine['single-use']['ns'].estimate)} against "
                f"{parts.num(mine['pool']['ns'].estimate)} ns, "
                f"{parts.cell(iv, fmt=lambda v: f'{v:.2f}')})")
        if "cached" in mine:
            v = stats.verdict("", mine["cached"]["over_pool"], ctx.noise)
            text += ("; a cache of mappings is not told apart from the pool" if v.answer == stats.NONE else
                     f"; a cache of mappings takes {v.interval.estimate:.2f} times the pool's")
        told.append(text)
    if not told:
        return f"{point.label()}: single-use and pool were not measured on one transport, see the table."
    return f"{point.label()}: " + ". ".join(t[0].upper() + t[1:] if i else t for i, t in enumerate(told)) + "."


def texts(ctx, samples):
    out = ["Same transport, only the lifetime differs: single-use maps and unmaps for each request; deferred unmaps in batches; "
           "cached keeps mappings "
           "and finds them again; pool maps its buffers once. A longer life leaves more of the guest's memory reachable: see the "
           "section on exposure. "
           "Ratios here are of time: above 1 means slower than what is compared with.", parts.noise_text(ctx)]
    inject = parts.injected(samples)
    return out + [inject or "Nothing is injected for TCE updates and hypercalls: on a machine where they cost more, short "
                            "lifetimes lose more "
                            "(the section on costs says how much)."]


def figure(ctx, samples, point, rows, i):
    groups = [words for words, _ in GROUPS if any(r["transport"] == words for r in rows)]
    fig, axes = plots.new_figure("wide", 1, len(groups), height=250, squeeze=False)
    for ax, words in zip(axes[0], groups):
        mine = [r for r in rows if r["transport"] == words]
        plots.bars_with_intervals(ax, [f"{r['lifetime']}\n{counts_text(r)}" for r in mine], [r["ns"] for r in mine],
                                  arms=[r["arm"] if r["arm"] == ZERO else "" for r in mine], fmt="{:,.0f}")
        ax.set_title(words.split(" (")[0], fontsize=11)
        ax.set_xlabel("ns per request")
    title = f"Mapping lifetimes: {point.label()}"
    return Figure(id=f"mapping-{i}", title=title, svg=plots.to_svg(fig, f"mapping-{i}", title),
                  caption="Under each lifetime: TCE updates and hypercalls per request. The panels have their own scales. "
                          + parts.note(samples.at(point)),
                  limits=parts.limits_line(ctx, point.bs, point.backend == "memory") + " Upper bound on this plot: the pool, "
                      "which maps nothing per request.",
                  command=ctx.command("mapping"))


def counts_text(r):
    return ", ".join(f"{parts.num(v)} {'TCE' if k == 'tce_updates' else 'hcalls'}" for k,
                     v in r["counts"].items()) or "not counted"


def table(samples, point, rows, i):
    body = [[r["arm"], parts.cell(r["ns"], unit=" ns"), same(r["over_zero"], r["arm"] == ZERO),
             same(r["over_single"], r["lifetime"] == "single-use"),
             *(parts.num(r["counts"].get(k)) for k, _ in COUNTED)] for r in rows]
    return Table(title=f"Lifetimes: {point.label()}", id=f"mapping-table-{i}",
                 head=["arm", "ns a request", "time over zero-copy's", "time over single-use's",
                       *(t + " a request" for _, t in COUNTED)],
                 rows=body, note=parts.note(samples.at(point)))


def same(iv, itself):
    return "1" if itself else parts.times(iv)


def as_data(r):
    return {k: (parts.data(v) if k in ("ns", "over_zero", "over_single", "over_pool") else v) for k, v in r.items()}
