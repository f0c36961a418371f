# SPDX-License-Identifier: BSD-3-Clause
"""Latency: distributions at depth 1, percentiles with intervals over process starts, and latency from the intended start
against the offered load."""

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import AGAIN, STARTS_OF, Figure, Section, Table, Verdict

NAME = "latency"
QS = (50, 90, 99, 99.9)
ALL = "all plateaus of R together"
ENOUGH = 10  # requests beyond a percentile, else it says nothing
KEPT_UP = 0.95  # of the offered rate; below, the queue grows for as long as the measurement lasts
MACHINE = "the machine alone"
POINTS_SHOWN = 300  # of a distribution, in its plot


# --- percentiles --------------------------------------------------------------------------------------------------------

def percentiles(histograms, qs=QS):
    """{q: Interval} of the merged histograms, one histogram a process start. A percentile with fewer than ENOUGH requests beyond
    it is left out."""
    total = sum(n for h in histograms for _, n in h)
    return {q: stats.percentile(histograms, q, stats.LEVEL) for q in qs if total * (1 - q / 100) >= ENOUGH - 1e-9}


def of(samples, point, arm, qs=QS):
    return percentiles([s.histogram for s in samples.at(point, arm)], qs)


def name(q):
    return f"p{q:g}"


# --- the section --------------------------------------------------------------------------------------------------------

def analyse(ctx):
    """Section of what there is: depth 1 of quick, open loop of load; None without any histogram."""
    quick, load = ctx.whole("quick", depth=1, rate=0.0), ctx.of("load")
    quick, load = (type(x)(s for s in x if s.histogram) for x in (quick, load))
    if not len(quick) and not len(load):
        return None
    out = Section(id="latency", title="Latency", lead="")
    leads = []
    if len(quick):
        leads.append(depth_one(ctx, quick, out))
        if len(ctx.plateaus) > 1 and any(s.experiment.endswith(STARTS_OF) for s in quick):
            for v in out.verdicts:
                v.plateau = ALL
    if len(load):
        leads += open_loop(ctx, load, out)
    out.lead = " ".join(x for x in leads if x) or "Too few requests were measured for any percentile."
    out.text = ["Latency ends when the guest has taken the answer, before it checks the bytes. That favours reads in place: a "
                "bounce has pulled the data into the guest's cache by then, in place the first touch comes after the clock. The "
                "time a request, which holds both, is in the other sections.",
                "Percentiles are of all requests of an arm, the histograms of its process starts merged; their intervals "
                "resample process starts, "
                "not requests. Buckets are the load generator's: a percentile is the upper end of its bucket. A percentile with "
                "fewer than "
                f"{ENOUGH} requests beyond it is not shown."]
    if any(v.plateau == ALL for v in out.verdicts):
        out.text.append("Where arms danced, latencies are of all windows on all plateaus of R, gaps of the machine among them: a tail must "
                        "not be filtered away.")
    return out


def depth_one(ctx, samples, out):
    """Table of all points, tail plot of the main one; returns the lead sentence."""
    rows, found = [], {}
    for p in samples.points():
        for arm in parts.arms_of(samples.at(p)):
            got = found[p, arm] = of(samples, p, arm)
            requests = sum(n for s in samples.at(p, arm) for _, n in s.histogram)
            rows.append([p.label(), arm] + [parts.cell(got.get(q), fmt=plots.ns_text) if q in got else "too few" for q in QS] +
                        [f"{requests:,.0f}"])
    out.tables.append(Table(title="Latency at depth 1, submit to completion", id="latency-depth1",
                            head=["point", "arm"] + [name(q) for q in QS] + ["requests"], rows=rows,
                            note="99 % intervals over process starts."))
    out.data["depth1"] = [{"point": p.label(), "arm": a, **{name(q): [iv.estimate, iv.low, iv.high, iv.n] for q,
                                                            iv in got.items()}}
                          for (p, a), got in found.items()]
    main = sorted(samples.points(), key=lambda p: (p.backend != "memory", p.op != "read", abs(np.log(p.bs / 4096))))[0]
    out.figures.append(tails(ctx, samples, main))
    a, b = found.get((main, "copy"), {}), found.get((main, "zero-copy"), {})
    texts = []
    for q in (50, 99, 99.9):
        if q in a and q in b:
            texts.append(f"{name(q)} {plots.ns_text(b[q].estimate)} against {plots.ns_text(a[q].estimate)}")
            out.verdicts.append(verdict(samples, main, q, a[q], b[q]))
    return (f"One {main.op} of {main.bs:,} bytes at a time ({main.backend} backend), zero-copy against copy: "
            f"{parts.listed(texts)}."
            + tail_note(a, b) if texts else "")


def tail_note(a, b):
    """Honest about the tail: whether the advantage of the median holds at the last percentile that both have."""
    both = [q for q in QS if q in a and q in b]
    q = both[-1]
    if b[q].low > a[q].high:
        return f" In the tail ({name(q)}) zero-copy is slower."
    if b[q].high < a[q].low:
        return ""
    return f" In the tail ({name(q)}) the intervals overlap: no difference shown there."


def verdict(samples, point, q, a, b):
    """Disjoint intervals, and a difference beyond what identical twins show at this percentile: else nothing is claimed."""
    known = np.isfinite([a.low, b.low]).all() and abs(np.log(b.estimate / a.estimate)) > floor(samples, point, q)
    answer = "faster" if known and b.high < a.low else "slower" if known and b.low > a.high else stats.NONE
    return Verdict(claim=f"{point.label()}: {name(q)} of zero-copy, against copy's {plots.ns_text(a.estimate)}", answer=answer,
                   interval=b, absolute=f"zero-copy {parts.cell(b)} ns; copy {parts.cell(a)} ns", unit="ns")


def floor(samples, point, q):
    """Largest |ln ratio| of a percentile between an arm and its twin; 0 without twins."""
    got = [0.0]
    for twin in parts.twins_of(samples):
        a, b = (stats.percentile_of_histograms([s.histogram for s in samples.at(point, slot)], q)
                for slot in (twin[:-len(AGAIN)], twin))
        got += [abs(float(np.log(b / a)))] if a > 0 and b > 0 else []
    return max(got)


def tail_curve(histograms):
    """(latency, share of requests that took longer), thinned to what a plot can show."""
    count = {}
    for h in histograms:
        for upper, n in h:
            count[upper] = count.get(upper, 0) + n
    x = np.array(sorted(u for u, n in count.items() if n), dtype=float)
    n = np.array([count[u] for u in x], dtype=float)
    y = 1 - np.cumsum(n) / n.sum()
    y[-1] = 0.5 / n.sum()  # the slowest request has none beyond it
    if len(x) > POINTS_SHOWN:
        levels = np.log(np.maximum(y, 1e-12))
        pick = np.unique(np.searchsorted(-levels, np.linspace(-levels[0], -levels[-1], POINTS_SHOWN)).clip(0, len(x) - 1))
        x, y = x[pick], y[pick]
    return x, y


def tails(ctx, samples, point):
    fig, ax = plots.new_figure("wide")
    for arm in parts.arms_of(samples.at(point)):
        x, y = tail_curve([s.histogram for s in samples.at(point, arm)])
        look = plots.style(arm)
        ax.step(x, y, where="post", color=look["color"], linestyle=look["linestyle"], label=arm, linewidth=1.6)
    ax.set_xscale("log")
    ax.set_yscale("log")
    if np.isfinite(ctx.r_ns):
        plots.bound(ax, ctx.r_ns, "R", horizontal=False)
    ax.set_xlabel("latency")
    ax.set_ylabel("share of requests slower than that")
    plots.ns_axis(ax.xaxis)
    plots.legend_above(ax, 5)
    title = f"Latency of one request at a time: {point.label()}"
    return Figure(id="latency-tail", title=title, svg=plots.to_svg(fig, "latency-tail", title),
                  caption="Every request of every process start. 0.5 is the median, 0.01 the 99th percentile. Steps: buckets of "
                  "the histogram.",
                  limits=parts.limits_line(ctx, point.bs, memory=point.backend == "memory"), command=ctx.command("quick"))


# --- open loop ----------------------------------------------------------------------------------------------------------

def kept_up(samples):
    """Median share of the offered rate that was served, of one arm at one point."""
    x = samples.values("requests") / samples.values("elapsed_ns") * 1e9
    return float(np.median(x)) / samples.items[0].point.rate if len(x) else 0.0


def open_loop(ctx, load, out):
    """Table and figure of latency against offered load; returns lead sentences."""
    points = sorted((p for p in load.points() if p.rate > 0), key=lambda p: p.rate)
    rows, found = [], {}
    for p in points:
        for arm in parts.arms_of(load.at(p)):
            mine = load.at(p, arm)
            got = found[p, arm] = of(load, p, arm)
            share = kept_up(mine)
            idle = sum(s.values["requests"] for s in mine) < 2 * ENOUGH
            state = "idle" if idle else "kept up" if share >= KEPT_UP else f"overload: {share:.0%} served".replace("%", " %")
            rows.append([f"{p.rate:,.0f}", arm] + [parts.cell(got.get(q), fmt=plots.ns_text) if q in got else "too few"
                                                   for q in QS] + [gap_text(mine), state])
        rows += machine_row(p, load.at(p))
    if not rows:
        return []
    out.tables.append(Table(title="Open loop: latency from the intended start", id="latency-load",
                            head=["offered, requests/s", "arm"] + [name(q) for q in QS] + ["in a gap", "load"], rows=rows,
                            note="A request that waits because an earlier one was slow counts its waiting (no coordinated "
                            "omission). In overload the "
                                 "latency is a matter of how long the measurement lasts, and is not compared. In a gap: requests that "
                                 "were due or in flight while something else had the guest's processor for more than 10 us; they "
                                 "count like all others. " + MACHINE + ": the same open loop, same cores, right after each sample, whose "
                                 "request is one line's round trip: a tail that it has too is not the design's."))
    out.data["open_loop"] = [{"rate": p.rate, "arm": a, "share": kept_up(load.at(p, a)),
                              **{name(q): [iv.estimate, iv.low, iv.high, iv.n] for q, iv in got.items()}} for (p, a),
                             got in found.items()]
    fig = load_figure(ctx, load, points, found)
    out.figures += [fig] if fig else []
    return [highest(load, points)]


def gap_text(samples):
    """Median share of requests that a gap of the guest's processor met."""
    x = samples.values("gap_share")
    return f"{100 * np.nanmedian(x):.2g} %" if np.isfinite(x).any() else "-"


def machine_row(point, samples):
    """What the machine itself does to an open loop at this rate, medians over all samples there: [row], or [] where it was not
    measured."""
    got = {q: parts.median(samples, f"machine_p{q:g}_ns".replace(".", "")) for q in QS}
    if not any(got.values()):
        return []
    asked = point.rate * np.nanmedian(samples.values("elapsed_ns")) / 1e9
    return [[f"{point.rate:,.0f}", MACHINE] + [plots.ns_text(got[q].estimate) if got[q] and asked * (1 - q / 100) >= ENOUGH
                                               else "too few" for q in QS] + ["-", "-"]]


def highest(load, points):
    """The highest offered rate that each arm kept up with."""
    top = {}
    for arm in parts.arms_of(load):
        rates = [p.rate for p in points if len(load.at(p, arm)) and kept_up(load.at(p, arm)) >= KEPT_UP]
        if rates:
            top.setdefault(max(rates), []).append(arm)
    return ("Of the rates tried, " + parts.listed(f"{parts.listed(arms)} kept up with {r:,.0f} a second" for r,
                                                  arms in sorted(top.items()))
            + "." if top else "")


def load_figure(ctx, load, points, found):
    fig, strip, axes = parts.panels(height=400, sharey="row")
    drawn = False
    for ax, q in zip(axes, (50, 99)):
        for arm in parts.arms_of(load):
            use = [p for p in points if q in found.get((p, arm), {}) and kept_up(load.at(p, arm)) >= KEPT_UP]
            if use:
                parts.curve(ax, [p.rate for p in use], [found[p, arm][q] for p in use], arm)
                drawn = True
        ax.set_title(name(q))
        ax.set_xlabel("offered requests/s")
        ax.set_xscale("log")
        ax.set_yscale("log")
        if np.isfinite(ctx.r_ns):
            plots.bound(ax, ctx.r_ns, "R")
    if not drawn:
        return None
    axes[0].set_ylabel("latency from intended start")
    plots.ns_axis(axes[0].yaxis)
    for ax in axes:
        plots.count_axis(ax.xaxis)
    parts.legend(strip, axes)
    title = "Latency from the intended start against offered load"
    return Figure(id="latency-load-figure", title=title, svg=plots.to_svg(fig, "latency-load-figure", title),
                  caption="Only loads that an arm kept up with (95 % of the offered rate); its line ends there. Bands: 99 % "
                  "intervals over process starts.",
                  limits=parts.limits_line(ctx, 4096, memory=True), command=ctx.command("load"))
