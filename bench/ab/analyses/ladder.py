# SPDX-License-Identifier: BSD-3-Clause
"""Which factor earned it: the ladder from copy to zero-copy one factor at a time, the ladder back, and the factorial behind both.

Worth of a factor, everywhere here: ns per request without it over ns with it, in one context (the levels of the other three).
Above 1, zero-copy's level of that factor is the faster one.
"""

import itertools

import numpy as np
from matplotlib import ticker

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Section, Table

NAME = "ladder"
# (factor, copy's level, zero-copy's level), in the order of the forward ladder. A window that stands comes first: payload in
# place over a mapping that ends with each request would have to be re-opened for it. The ring follows the payload, because the
# server reads both through the same window. Polling comes last: polling a ring that must be copied to be seen is calls without
# end.
FACTORS = (("mapping", "single-use", "pool"), ("payload", "rdma", "direct"), ("ring", "copy", "direct"),
           ("notify", "crq", "poll"))
ORDER = " then ".join(f[0] for f in FACTORS)
# What stands beside the factorial: (arm, what it is compared with).
EXTRA = (("copy,mapping=deferred", "copy"), ("copy,mapping=cached", "copy"), ("copy,ring=copy-delta", "copy"),
         ("copy,notify=suppress", "copy"), ("premapped", "zero-copy"), ("unprotected", "zero-copy"))
CELLS = list(itertools.product((0, 1), repeat=len(FACTORS)))  # 0: copy's level, 1: zero-copy's


def arm_name(cell):
    """Slot of a cell of the factorial: the corners go by their names."""
    if sum(cell) in (0, len(FACTORS)):
        return "zero-copy" if sum(cell) else "copy"
    return ",".join(f"{f[0]}={f[1 + on]}" for f, on in zip(FACTORS, cell))


def forward():
    """Cells from copy to zero-copy, factors in the order of FACTORS."""
    return [tuple(int(k < i) for k in range(len(FACTORS))) for i in range(len(FACTORS) + 1)]


def reverse():
    """Cells from zero-copy to copy, undone in the same order of factors: so no cell between the ends is on both ladders."""
    return [tuple(int(k >= i) for k in range(len(FACTORS))) for i in range(len(FACTORS) + 1)]


def analyse(ctx):
    """Section, or None when no point has both corners."""
    samples = ctx.of("ladder")
    points = [p for p in samples.points() if {"copy", "zero-copy"} <= set(samples.at(p).slots())]
    if not points:
        return None
    out = Section(id="ladder", title="Which factor earned it", lead="")
    found = []
    for i, point in enumerate(points):
        at = samples.at(point)
        one = {"point": point.label(), "copy": parts.median(at.where(slot="copy")),
               "zero-copy": parts.median(at.where(slot="zero-copy")),
               "forward": steps(at, forward()), "reverse": steps(at, reverse()), "effects": effects(at)}
        one["order"] = order_effects(at)
        found.append(one)
        out.figures.append(ladder_figure(ctx, point, one, at, i))
        out.tables += [steps_table(one, i), extra_table(ctx, at, point, i, out.verdicts)]
        out.verdicts += step_verdicts(ctx, one)
    out.figures += effects_figure(ctx, found)
    out.tables += [t for i, one in enumerate(found) for t in effects_tables(one, i)]
    out.data = {"order": [f[0] for f in FACTORS], "points": [as_data(one) for one in found]}
    out.lead = lead(ctx, found)
    out.text = texts(ctx, found)
    return out


def steps(at, cells):
    """One dict for each rung: factor (None on the first), arm, its ns, the factor's worth in this step (None: not measured)."""
    out = []
    for i, cell in enumerate(cells):
        mine, row = at.where(slot=arm_name(cell)), {"factor": None, "level": "", "arm": arm_name(cell), "worth": None,
                                                    "absolute": ""}
        row["ns"] = parts.median(mine)
        if i:
            k = i - 1
            row |= {"factor": FACTORS[k][0], "level": FACTORS[k][1 + cell[k]]}
            before = at.where(slot=arm_name(cells[i - 1]))
            without, with_it = (before, mine) if cell[k] else (mine, before)
            row["worth"] = parts.ratio(*with_it.paired(without, parts.NS))
            row["absolute"] = parts.absolute(without, with_it, "without", "with")
        out.append(row)
    return out


def factorial(at):
    """Table blocks x 16 of ns, or None when a cell is missing in all blocks."""
    table = stats.columns([at.where(slot=arm_name(c)) for c in CELLS])
    return table if len(table) else None


def contrasts():
    """{name: weights over CELLS}: applied to ln(ns) they give ln of a worth, or for a pair ln of how one's worth changes."""
    x = np.array(CELLS) * 2 - 1
    n = len(FACTORS)
    out = {(k,): -x[:, k] / 2 ** (n - 1) for k in range(n)}
    out.update({(j, k): -x[:, j] * x[:, k] / 2 ** (n - 2) for j, k in itertools.combinations(range(n), 2)})
    return out


def effects(at):
    """Main effects and two-factor interactions: {"mapping": Interval, ..., "mapping x payload": Interval}, or None.

    Main: the factor's worth, averaged over its eight contexts on the scale of logarithms. Interaction: worth of one when the
    other is at zero-copy's level over its worth when the other is at copy's; 1: they don't depend on each other.
    """
    table = factorial(at)
    if table is None:
        return None
    names = contrasts()
    weights = np.array(list(names.values())).T
    got = stats.of_blocks(table, lambda m: np.exp(np.log(m) @ weights), log=True)
    return {" x ".join(FACTORS[k][0] for k in key): iv for key, iv in zip(names, got)}


def order_effects(at):
    """{factor: Interval of its worth in the forward ladder over its worth in the reverse ladder} for those that were measured."""
    out = {}
    for k, f in enumerate(FACTORS):
        one, two = forward()[k:k + 2], reverse()[k:k + 2]
        table = stats.columns([at.where(slot=arm_name(c)) for c in (one[0], one[1], two[1], two[0])])
        got = stats.of_blocks(table, lambda m: (m[:, :1] / m[:, 1:2]) / (m[:, 2:3] / m[:, 3:4]), log=True)
        if got:
            out[f[0]] = got[0]
    return out


def contexts(at):
    """{factor: (least, most) worth over the contexts in which it was measured}."""
    out = {}
    for k, f in enumerate(FACTORS):
        worth = []
        for c in CELLS:
            if not c[k]:
                a, b = at.where(slot=arm_name(c[:k] + (1,) + c[k + 1:])).paired(at.where(slot=arm_name(c)), parts.NS)
                if len(a):
                    worth.append(float(np.median(b) / np.median(a)))
        if worth:
            out[f[0]] = (min(worth), max(worth))
    return out


# --- verdicts and texts ---------------------------------------------------------------------------------------------------

def step_verdicts(ctx, one):
    out = []
    for way in ("forward", "reverse"):
        for row in one[way][1:]:
            if row["worth"] is not None:
                f = next(f for f in FACTORS if f[0] == row["factor"])
                out.append(stats.verdict(f"{one['point']}, {way} ladder: {f[0]}={f[2]} against {f[0]}={f[1]}, rest as on the "
                    f"ladder",
                                         row["worth"], ctx.noise, better="more", absolute=row["absolute"]))
    return out


def depends(ctx, iv):
    """Is a quotient of two worths an effect: its interval excludes 1, and it is beyond what two twins may differ by."""
    return stats.verdict("", iv, ctx.noise).answer != stats.NONE


def lead(ctx, found):
    one = found[0]
    total = f"{one['point']}: {ns(one['copy'])} with copy, {ns(one['zero-copy'])} with zero-copy."
    worth = one["effects"] and {f[0]: one["effects"][f[0]] for f in FACTORS}
    if not worth:
        worth = {r["factor"]: r["worth"] for r in one["forward"][1:] if r["worth"] is not None}
    shown = {k: v for k, v in worth.items() if stats.verdict("", v, ctx.noise, better="more").answer == "faster"}
    if not shown:
        return total + " No single factor was shown to earn anything."
    best = max(shown, key=lambda k: shown[k].estimate)
    how = "over its eight contexts" if one["effects"] else "on the forward ladder"
    text = f"{total} Most is earned by {best}: {parts.times(shown[best])} {how}"
    rivals = [k for k in shown if k != best and shown[k].high >= shown[best].low]
    text += f" (not told apart from {parts.listed(rivals)})." if rivals else "."
    changed = [k for k, iv in one["order"].items() if depends(ctx, iv)]
    if not one["order"]:
        return text
    if not changed:
        return text + (" The order does not matter as far as this run can show: each factor is worth the same on the way there "
                       "and back.")
    k = max(changed, key=lambda f: abs(np.log(one["order"][f].estimate)))
    there, back = (next(r["worth"] for r in one[w][1:] if r["factor"] == k) for w in ("forward", "reverse"))
    return text + (f" The order matters: {k} is worth {there.estimate:.2f}× on the way to zero-copy and {back.estimate:.2f}× on "
                   f"the way back, "
                   "so no factor has one price of its own.")


def texts(ctx, found):
    out = ["Worth of a factor: ns per request with copy's level over ns with zero-copy's level of it, the other three unchanged; "
           "above 1, "
           f"zero-copy's level is faster. The forward ladder starts at copy and changes {ORDER}: in place needs a window that "
           f"stands, ring and "
           "payload go through the same window, and polling a ring that has to be copied to be seen would be calls without end. "
           "The reverse "
           "ladder starts at zero-copy and undoes the factors in the same order, so that it meets each factor in the opposite "
           "company.",
           parts.noise_text(ctx)]
    missing = [one["point"] for one in found if one["effects"] is None]
    if missing:
        out.append(f"Main effects and interactions need all sixteen arms in the same blocks: not computed for "
                   f"{parts.listed(missing)}.")
    weak = [one["point"] for one in found if one["effects"] and one["effects"]["mapping"].n < stats.MIN_VERDICT]
    if weak:
        out.append(f"Fewer than {stats.MIN_VERDICT} complete blocks for {parts.listed(weak)}: no verdicts there.")
    return out


def ns(iv):
    return "not measured" if iv is None else f"{parts.num(iv.estimate)} ns"


def as_data(one):
    def rungs(rows):
        return [{"factor": r["factor"], "arm": r["arm"], "ns": parts.data(r["ns"]), "worth": parts.data(r["worth"])}
                for r in rows]
    return {"point": one["point"], "forward": rungs(one["forward"]), "reverse": rungs(one["reverse"]),
            "effects": one["effects"] and {k: parts.data(v) for k, v in one["effects"].items()},
            "forward_over_reverse": {k: parts.data(v) for k, v in one["order"].items()}}


# --- figures ----------------------------------------------------------------------------------------------------------------

def ladder_figure(ctx, point, one, at, i):
    fig, axes = plots.new_figure("wide", 1, 2, height=300, sharex=True)
    free = parts.median(at.where(slot="unprotected"))
    top = max([r["ns"].high if np.isfinite(r["ns"].high) else r["ns"].estimate
               for w in ("forward", "reverse") for r in one[w] if r["ns"] is not None])
    for ax, way, title in zip(axes, ("forward", "reverse"), ("Forward: copy to zero-copy", "Reverse: undone again")):
        rows = one[way]
        labels = [r["arm"] if r["factor"] is None else f"{r['factor']} {r['level']}\n{worth_text(r['worth'])}" for r in rows]
        plots.bars_with_intervals(ax, labels, [r["ns"] for r in rows], fmt="{:,.0f}",
                                  arms=[r["arm"] if r["arm"] in plots.ARM_COLOUR else "" for r in rows])
        ax.set_xlim(0, top * 1.28)
        ax.set_title(title)
        ax.set_xlabel("ns per request")
        if free is not None:
            plots.bound(ax, free.estimate, "unprotected", horizontal=False)
    title = f"From copy to zero-copy and back: {point.label()}"
    return Figure(id=f"ladder-{i}", title=title, svg=plots.to_svg(fig, f"ladder-{i}", title),
                  caption=("Medians over process starts with 99 % intervals, one factor changed from bar to bar. Under each "
                           "factor: what it is worth in "
                           "this step, as ns without it over ns with it. " + parts.note(at)),
                  limits=parts.limits_line(ctx, point.bs, point.backend == "memory") +
                  (f" Unprotected (no address check): {parts.num(free.estimate)} ns." if free else " Unprotected was not "
                      "measured."),
                  command=ctx.command("ladder"))


def worth_text(iv):
    return "not measured" if iv is None else parts.times(iv)


def effects_figure(ctx, found):
    """Main effects and interactions of all points that have the factorial, as one figure; [] without any."""
    have = [one for one in found if one["effects"]]
    if not have:
        return []
    names = list(have[0]["effects"])
    fig, axes = plots.new_figure("wide", 1, len(have), height=330, sharey=True, sharex=True, squeeze=False)
    y = np.arange(len(names))[::-1]
    for ax, one in zip(axes[0], have):
        for k, name in enumerate(names):
            iv, main = one["effects"][name], " x " not in name
            s = plots.sequence(0 if main else 3)
            if np.isfinite(iv.low) and np.isfinite(iv.high):
                ax.plot([iv.low, iv.high], [y[k], y[k]], color=s["color"], linewidth=2)
            ax.plot([iv.estimate], [y[k]], linestyle="none", marker="o" if main else "D", color=s["color"])
        ax.set_xscale("log")
        ax.axvline(1, color=plots.SOFT, linewidth=1, linestyle=(0, (4, 2)))
        ax.set_title(one["point"].replace("memory: ", "").replace("read ", ""), fontsize=11)
        ax.set_yticks(y, names)
    ratio_ticks(axes[0][0])
    title = "Worth of each factor over all contexts, and how factors depend on each other"
    return [Figure(id="ladder-effects", title=title, svg=plots.to_svg(fig, "ladder-effects", title),
                   caption=("Circles: a factor's worth over its eight contexts (2^4 factorial, on ln ns). Diamonds: worth of the "
                            "one when the other is at "
                            "zero-copy's level over its worth at copy's level; 1 means that they don't depend on each other, "
                            "below 1 that they "
                            f"earn the same thing twice. 99 % intervals, bootstrap over {have[0]['effects'][names[0]].n} "
                            "blocks."),
                   limits=parts.limits_line(ctx, 4096, True) + " The bars of unprotected are in the ladders.",
                   command=ctx.command("ladder"))]


def ratio_ticks(ax):
    """At least half an octave on either side of 1, so that tiny effects look tiny; few ticks."""
    lo, hi = ax.get_xlim()
    lo, hi = min(lo, 0.7), max(hi, 1.42)
    ax.set_xlim(lo, hi)
    marks = [1 / 30, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30] if hi / lo > 4 else [0.5, 0.7, 1, 1.4, 2]
    plots.ratio_axis(ax.xaxis)
    ax.xaxis.set_major_locator(ticker.FixedLocator([m for m in marks if lo <= m <= hi]))
    ax.xaxis.set_minor_locator(ticker.NullLocator())


# --- tables -----------------------------------------------------------------------------------------------------------------

def steps_table(one, i):
    rows = []
    for way in ("forward", "reverse"):
        for r in one[way]:
            rows.append([way if r["factor"] is None else "", r["arm"] if r["factor"] is None else f"{r['factor']} {r['level']}",
                         parts.cell(r["ns"], unit=" ns"), "" if r["factor"] is None else worth_text(r["worth"]),
                         parts.times(one["order"].get(r["factor"])) if way == "reverse" and r["factor"] in one["order"] else ""])
    return Table(title=f"Both ladders: {one['point']}", id=f"ladder-steps-{i}",
                 head=["ladder", "rung", "ns a request", "worth of the step", "worth forward / worth reverse"], rows=rows,
                 note="Worth: ns without / ns with. The last column is the order effect: 1 means that the factor is worth the "
                      "same on both ladders.")


def extra_table(ctx, at, point, i, verdicts):
    """Levels that are not corners, and the bound: each against the arm that it differs from in one factor."""
    rows = []
    for arm, base in EXTRA:
        mine, other = at.where(slot=arm), at.where(slot=base)
        iv = parts.ratio(*mine.paired(other, parts.NS)) if len(mine) and len(other) else None
        if iv is None:
            continue
        v = stats.verdict(f"{point.label()}: {arm} against {base}, requests per second", iv, ctx.noise, better="more",
                          absolute=parts.absolute(other, mine, base, arm))
        verdicts.append(v)
        rows.append([arm, parts.cell(parts.median(mine), unit=" ns"), base, parts.cell(parts.median(other), unit=" ns"),
                     parts.times(iv), v.answer])
    return Table(title=f"Levels between and beyond: {point.label()}", id=f"ladder-extra-{i}",
                 head=["arm", "ns a request", "against", "ns a request", "times as fast", "verdict"], rows=rows,
                 note=parts.note(at))


def effects_tables(one, i):
    if not one["effects"]:
        return []
    rows = [[k, "interaction" if " x " in k else "main", parts.times(v)] for k, v in one["effects"].items()]
    n = one["effects"]["mapping"].n
    return [Table(title=f"Factorial effects: {one['point']}", id=f"ladder-effects-{i}",
                  head=["effect", "kind", "worth, or change of worth"],
                  rows=rows, note=f"Absolute values: {ns(one['copy'])} with copy, {ns(one['zero-copy'])} with zero-copy. 99 % "
                                  f"intervals, bootstrap over "
                                  f"{n} blocks in which all sixteen arms were measured; main effects are means on the scale of "
                                  f"logarithms.")]
