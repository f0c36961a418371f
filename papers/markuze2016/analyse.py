# SPDX-License-Identifier: BSD-3-Clause
"""Time of a request over sizes: copying into premapped buffers, mapping each request in two ways, unprotected; crossovers."""

import math

import numpy as np

from ab.papers import papers
from ab.report import plots
from ab.instrument.model import Table, size_name

BOUNCE, RDMA, IN_PLACE, TOP = ("premapped", "mapping=single-use,payload=rdma,ring=direct,notify=poll",
                               "zero-copy,mapping=single-use", "unprotected")
NAMES = {BOUNCE: "copy into premapped", RDMA: "single-use, payload by RDMA", IN_PLACE: "single-use, in place", TOP: "unprotected"}


def at(samples, slot, a, **point):
    return papers.pick(samples, slot, **{"backend": a["backend"], "depth": a["depth"], "cost": "free", **point})


def crossing(sizes, gain):
    """Size at which ln(single-use / bounce) falls through 0, between the sizes measured; (size, censored).

    Censored "low": mapping wins at every size; "high": copying wins at every size; the size is then the end of the range. The
    last fall counts: copying wins below, mapping above.
    """
    for i in range(len(sizes) - 1, 0, -1):
        if gain[i] <= 0 < gain[i - 1]:
            share = gain[i - 1] / (gain[i - 1] - gain[i])
            return math.exp(math.log(sizes[i - 1]) + share * math.log(sizes[i] / sizes[i - 1])), ""
    return (sizes[-1], "high") if gain[-1] > 0 else (sizes[0], "low")


def crossings(samples, rival, cost, a):
    """{block: (size, censored)} of blocks that have all sizes in both arms."""
    times = {}
    for slot in (BOUNCE, rival):
        here = at(samples, slot, a, cost=cost)
        for size in sorted({p.bs for p in here.points()}):
            times[slot, size] = here.where(bs=size).by_block("ns_per_request")
    sizes = sorted({s for slot, s in times if slot == BOUNCE} & {s for slot, s in times if slot == rival})
    if len(sizes) < 2:
        return {}
    blocks = set.intersection(*[set(times[slot, s]) for slot in (BOUNCE, rival) for s in sizes])
    return {b: crossing(sizes, [math.log(times[rival, s][b] / times[BOUNCE, s][b]) for s in sizes]) for b in sorted(blocks)}


def mostly(found, end):
    return sum(c == end for _, c in found.values()) * 2 > len(found)


def crossing_text(found):
    if not found:
        return "not measured"
    if mostly(found, "high"):
        return f"copying wins at every size up to {size_name(int(max(s for s, _ in found.values())))}"
    if mostly(found, "low"):
        return f"mapping wins at every size from {size_name(int(min(s for s, _ in found.values())))}"
    return f"{np.median([s for s, _ in found.values()]):,.0f} B"


def check_moves(checker, samples, a):
    low, high = (crossings(samples, RDMA, a[c], a) for c in ("cost_low", "cost_high"))
    text = f"{crossing_text(low)}; {crossing_text(high)}"
    blocks = sorted(set(low) & set(high))
    # A crossover beyond the range at the low cost, or below it at the high one, says nothing about how far it moves.
    if not blocks or mostly(low, "high") or mostly(high, "low"):
        checker.check("moves", None, text)
        return
    checker.check("moves", papers.ratio_of(np.array([low[b][0] for b in blocks]), np.array([high[b][0] for b in blocks])), text)


def memory_bound(limits, size, top, a):
    """Whether memcpy of a request's bytes takes so much of unprotected's time that nothing else counts."""
    took, best = top.values("ns_per_request"), papers.memcpy_ns(limits, size)
    return bool(len(took)) and best is not None and best >= a["memory_bound_share"] * float(np.median(took))


def check_bound(checker, samples, limits, a):
    """At every size; it decides only where unprotected is not bound by memory. Returns the sizes where it is."""
    skipped = []
    for size in sorted({p.bs for p in at(samples, TOP, a, depth=a["deep"]).points()}):
        mine, top = (at(samples, slot, a, depth=a["deep"], bs=size) for slot in (BOUNCE, TOP))
        bound = memory_bound(limits, size, top, a)
        skipped += [size] if bound else []
        checker.check("bound-by-memory" if bound else "bound", *papers.rate_ratio(mine, top), where=size_name(size))
    return skipped


def sizes_table(samples, a):
    rows = []
    for cost in ("free", a["cost_low"], a["cost_high"], a["cost_tce"]):
        for rival in (RDMA, IN_PLACE):
            found = crossings(samples, rival, cost, a)
            if found:
                inside = [s for s, c in found.values() if not c]
                iv = papers.median_of(inside) if len(inside) == len(found) else None
                rows.append(["nothing" if cost == "free" else cost, NAMES[rival], crossing_text(found),
                             papers.interval_text(iv) if iv else "outside the range in some blocks or too few blocks"])
    return Table("Crossover: copying is cheaper below, mapping above", ["injected", "rival", "median of the blocks",
                                                                       "99 % interval, bytes"], rows)


def figure(samples, a):
    fig, axes = plots.new_figure("wide", cols=2)
    sizes = sorted({p.bs for p in at(samples, BOUNCE, a).points()})
    for slot in (BOUNCE, RDMA, IN_PLACE, TOP):
        got = [(s, papers.ns(at(samples, slot, a, bs=s))) for s in sizes]
        got = [(s, iv) for s, iv in got if iv]
        if got:
            plots.lines_with_band(axes[0], [s for s, _ in got], [iv for _, iv in got], arm=slot, label=NAMES[slot])
    for i, cost in enumerate(("free", a["cost_low"], a["cost_high"], a["cost_tce"])):
        got = [(s, papers.rate_ratio(at(samples, BOUNCE, a, bs=s, cost=cost), at(samples, RDMA, a, bs=s, cost=cost))[0])
               for s in sizes]
        got = [(s, iv) for s, iv in got if iv]
        if got:
            plots.lines_with_band(axes[1], [s for s, _ in got], [iv for _, iv in got],
                                  label="nothing injected" if cost == "free" else cost, **plots.sequence(i))
    axes[1].axhline(1, color=plots.SOFT, linewidth=1)
    for ax, what in ((axes[0], "time of a request, depth 1"), (axes[1], "rate: premapped / single-use by RDMA")):
        plots.size_axis(ax, sizes)
        ax.set_yscale("log")
        ax.set_xlabel("bytes of a request")
        ax.set_ylabel(what)
        papers.legend(ax, fontsize=8)
    plots.ns_axis(axes[0].yaxis)
    plots.ratio_axis(axes[1].yaxis)
    return plots.to_svg(fig, "paper-markuze2016")


def analyse(samples, limits, claim, extra):
    checker, a = papers.Checker(claim, extra), claim["analysis"]

    def against(rival, size, cost="free"):
        return papers.rate_ratio(at(samples, BOUNCE, a, bs=size, cost=cost), at(samples, rival, a, bs=size, cost=cost))
    checker.check("small", *against(RDMA, a["small"]))
    checker.check("small-in-place", *against(IN_PLACE, a["page"]))
    check_moves(checker, samples, a)
    skipped = check_bound(checker, samples, limits, a)
    largest = max((p.bs for p in at(samples, BOUNCE, a, cost=a["cost_tce"]).points()), default=0)
    checker.check("no-crossover", *against(RDMA, largest, a["cost_tce"]))
    left_out = f" Reported only, because bound by memory: {', '.join(size_name(s) for s in skipped)}." if skipped else ""
    return papers.Result(
        tests=checker.finish(), svg=figure(samples, a) if len(samples.kept()) else "", tables=[sizes_table(samples, a)],
        paragraphs=["The crossover is found in each block by interpolation between the sizes measured, in logarithms of both; "
                    "its movement is the ratio of two crossovers of the same block. That it moves when a cost is injected is a "
                    "shape, not a magnitude: where it lies with nothing injected is the finding (table below).",
                    f"Copying against unprotected is judged at sizes where memcpy of the bytes takes less than "
                    f"{a['memory_bound_share']:.0%} of unprotected's time.{left_out}"],
        caption="Left: nothing injected. Right: rate of copying into premapped buffers over single-use with payload by RDMA, "
                "for each injected cost; above 1 copying wins. Bands: 99 % intervals.")
