# SPDX-License-Identifier: BSD-3-Clause
"""The cost plane: which arm wins where, if a hypercall, a TCE update or an RDMA call cost what they may cost elsewhere.

For each arm and size ns(h, t, r) = T0 + k_h h + k_t t + k_r r is fitted to the sweeps of one cost at a time (relative errors,
least squares) and bootstrapped over blocks, arms of a pair together. What is injected where (phyp/core/hcall.c, tce.c, rdma.c):
h once for every hypercall of either partition, t for every TCE entry written, r for every RDMA call that reached its copy.
They add up: an RDMA call costs h + r, an H_PUT_TCE_INDIRECT of n entries h + n t. So k_h counts RDMA calls as well.
"""

import itertools

import numpy as np

from ab import stats
from ab.report import plots
from ab.stats import time_model
from ab.analyses import cycles_model
from ab.report import parts
from ab.instrument.model import Figure, Section, Table, size_name

NAME = "costs"
PRESETS = {"free": (0, 0, 0), "vmexit": (700, 0, 0), "ibmvnic": (2500, 0, 0), "ibmvnic-indirect": (3350, 0, 0)}
AXES = ("hcall", "tce", "rdma")
WORDS = ("hypercall", "TCE update", "RDMA call")
COUNTED = ("hcalls", "tce_updates", "rdma_calls")
MOST = 10000.0  # ns: end of the planes
GRID = np.concatenate([[0.0], np.geomspace(50, MOST, 30)])
FINE = np.concatenate([[0.0], np.geomspace(5, MOST, 400)])
PLANES = ((0, 1), (0, 2))  # hcall x tce, hcall x rdma; the third cost is 0
DRAWS = 800
ANCHORS = ((700.0, "VM exit 0.7 µs"), (2500.0, "CRQ call 2.5 µs"), (3350.0, "batched 3.35 µs"))
FIGURES = 6  # planes drawn at most


def parse_cost(text):
    """(hcall, tce, rdma) in ns of a --cost text, or None."""
    if text in PRESETS:
        return PRESETS[text]
    try:
        got = {k: float(v) for k, v in (p.split("=") for p in text.split(","))}
    except ValueError:
        return None
    return tuple(got.get(k, 0.0) for k in AXES) if set(got) <= set(AXES) else None


def in_fit(cost):
    """Is the point one of the sweeps of one cost at a time? Presets and corners are held out."""
    c = parse_cost(cost)
    return c is not None and (cost == "free" or cost not in PRESETS) and sum(v > 0 for v in c) <= 1


def group_of(point):
    return (point.backend, point.op, point.bs, point.depth)


def group_name(g):
    return f"{g[0]}: {g[1]} {size_name(g[2])}, depth {g[3]}"


def analyse(ctx):
    """Section, or None when no arm has enough of the sweeps for a fit."""
    samples = ctx.of("costs")
    groups = {}
    for p in samples.points():
        if parse_cost(p.cost) is not None:
            groups.setdefault(group_of(p), []).append(p)
    found = [f for f in (one_group(ctx, samples, g, ps) for g, ps in sorted(groups.items())) if f["arms"]]
    if not found:
        return None
    out = Section(id="costs", title="The cost plane: who wins at which price of a call", lead="")
    for i, f in enumerate(found):
        out.figures.append(lines_figure(ctx, samples, f, i))
        out.tables += [fit_table(f, i), held_table(f, i), pair_table(f, i)]
        out.verdicts += [v for p in f["pairs"] for v in p["verdicts"]]
    drawn = [(f, p) for f in found for p in f["pairs"] if p["drawn"]]
    out.figures += [plane_figure(ctx, f, p, k) for k, (f, p) in enumerate(drawn[:FIGURES])]
    out.lead = lead(found)
    out.text = texts(ctx, found, drawn)
    out.data = {"groups": [as_data(f) for f in found], "grid_ns": GRID.tolist()}
    return out


# --- fits ---------------------------------------------------------------------------------------------------------------

def fit_medians(costs, med):
    """Coefficients (draws x 4) from medians (draws x points) at costs (points x 3): least squares of relative errors."""
    x = np.column_stack([np.ones(len(costs)), costs])
    scale = np.array([1.0, 1e3, 1e3, 1e3])  # so that all columns are of one size
    a = (x / scale)[None, :, :] / med[:, :, None]
    return np.linalg.solve(np.swapaxes(a, 1, 2) @ a, a.sum(axis=1)[:, :, None])[:, :, 0] / scale


def identifiable(costs):
    return len(costs) >= 5 and np.linalg.matrix_rank(np.column_stack([np.ones(len(costs)), costs])) == 4


def fit_arm(samples, arm, points):
    """dict of one arm's fit, or None without a full sweep in at least one block."""
    fit = [p for p in points if in_fit(p.cost) and len(samples.at(p, arm))]
    costs = np.array([parse_cost(p.cost) for p in fit], dtype=float).reshape(len(fit), 3)
    if not identifiable(costs):
        return None
    table = stats.columns([samples.at(p, arm) for p in fit])
    if not len(table):
        return None
    k = stats.of_medians(table, lambda m: fit_medians(costs, m), stats.LEVEL, times=DRAWS)
    med = np.median(table, axis=0)
    coef = np.array([iv.estimate for iv in k])
    miss = (np.column_stack([np.ones(len(costs)), costs]) @ coef) / med - 1
    mine = [samples.at(p, arm) for p in points]
    counts = [np.concatenate([m.values(c) for m in mine]) for c in COUNTED]
    return {"arm": arm, "points": fit, "costs": costs, "table": table, "k": k, "coef": coef,
            "misfit": float(np.max(np.abs(miss))),
            "counts": [float(np.median(c)) if len(c) else None for c in counts]}


def one_group(ctx, samples, g, points):
    """Fits, held-out predictions and pairs of one size."""
    at = type(samples)(s for s in samples if group_of(s.point) == g)
    fits = [f for f in (fit_arm(at, arm, points) for arm in parts.arms_of(at)) if f]
    model = cycles_model.fitted(ctx, g[3])
    held = [h for f in fits for p in points if not in_fit(p.cost) for h in [predict(at, f, p, model)] if h]
    pairs = [p for a, b in itertools.combinations(fits, 2) for p in [pair(ctx, at, a, b, points, group_name(g))] if p]
    return {"group": g, "name": group_name(g), "arms": fits, "held": held, "pairs": pairs, "points": points}


def from_counts(model, at, arm, point):
    """ns by the time model of the other experiments and the counters alone: each counted call takes what is injected. None without."""
    configs = time_model.configurations(at.at(point, arm), injected=True) if model else []
    if not configs or not np.isfinite(configs[0].handover_ns):
        return None
    counted = [configs[0].counters[c] for c in COUNTED]
    return float(model.predict(configs[:1])[0] + np.dot(counted, parse_cost(point.cost)))


def predict(at, fit, point, model=None):
    """Prediction for a point that the fit has not seen, beside what was measured there, and the time model's."""
    mine = parts.median(at.at(point, fit["arm"]))
    if mine is None:
        return None
    c = np.array((1.0, *parse_cost(point.cost)))
    got = stats.of_medians(fit["table"], lambda m: (fit_medians(fit["costs"], m) @ c)[:, None], stats.LEVEL, log=True,
                           times=DRAWS)[0]
    return {"arm": fit["arm"], "cost": point.cost, "measured": mine, "predicted": got, "error": got.estimate / mine.estimate - 1,
            "by_model": from_counts(model, at, fit["arm"], point)}


# --- pairs --------------------------------------------------------------------------------------------------------------

def pair_draws(a, b, at):
    """(coefficients of A, of B, draws of A's, of B's, blocks) with blocks drawn for both at once; None without common blocks."""
    table = stats.columns([at.at(p, f["arm"]) for f in (a, b) for p in f["points"]])
    if len(table) < stats.MIN_INTERVAL:
        return None
    med, draws = stats.draws_of_medians(table, times=DRAWS)
    n = len(a["points"])
    return (fit_medians(a["costs"], med[None, :n])[0], fit_medians(b["costs"], med[None, n:])[0],
            fit_medians(a["costs"], draws[:, :n]), fit_medians(b["costs"], draws[:, n:]), len(table))


def log_ratio(d, costs):
    """ln(ns of B / ns of A) at costs (cells x 3): estimate, low, high; above 0, A wins."""
    ca, cb, da, db, n = d
    x = np.column_stack([np.ones(len(costs)), costs])

    def ln(ka, kb):
        return np.log(np.maximum(x @ kb.T, 1.0) / np.maximum(x @ ka.T, 1.0))
    estimate = ln(ca, cb)
    low, high = stats.ends(estimate, ln(da, db).T, n, stats.LEVEL)
    return estimate, low, high


def winner(d, costs, noise):
    """-1 where A wins, 1 where B wins, 0 where it is not decided: interval includes 1, or not beyond the A/A floor."""
    estimate, low, high = log_ratio(d, costs)
    if d[4] < stats.MIN_VERDICT:
        return np.zeros(len(costs), dtype=int)
    return np.where((low > 0) & (estimate > noise), -1, np.where((high < 0) & (estimate < -noise), 1, 0))


def plane_costs(axes):
    """(cells x 3) of the grid of two costs, the first along x, row by row."""
    out = np.zeros((len(GRID) ** 2, 3))
    out[:, axes[0]], out[:, axes[1]] = np.tile(GRID, len(GRID)), np.repeat(GRID, len(GRID))
    return out


def break_even(d, axis):
    """Cost along one axis (the others 0) at which A and B take the same time: dict(estimate, low, high) in ns, or None.

    low to high are all costs whose interval of the ratio includes 1; an end at 0 or 10 µs is open. None: they don't meet there.
    """
    costs = np.zeros((len(FINE), 3))
    costs[:, axis] = FINE
    estimate, low, high = log_ratio(d, costs)
    change = np.flatnonzero(np.sign(estimate[1:]) != np.sign(estimate[:-1]))
    if not len(change):
        return None
    diff = d[1] - d[0]
    at = float(-diff[0] / diff[1 + axis])
    same = FINE[(low <= 0) & (high >= 0)]
    return {"estimate": at, "low": float(min(same.min(initial=at), at)), "high": float(max(same.max(initial=at), at)),
            "open": bool(len(same) and (same.max() >= MOST or same.min() <= 0)), "n": d[4], "level": stats.LEVEL}


def pair(ctx, at, a, b, points, name):
    d = pair_draws(a, b, at)
    if d is None:
        return None
    planes = [winner(d, plane_costs(axes), ctx.noise).reshape(len(GRID), len(GRID)) for axes in PLANES]
    signs = np.concatenate([p.ravel() for p in planes])
    out = {"a": a["arm"], "b": b["arm"], "draws": d, "planes": planes, "break_even": [break_even(d, k) for k in range(3)],
           "drawn": bool((signs == -1).any() and (signs == 1).any()) or bool(0.05 < np.mean(signs == 0) < 0.95),
           "words": words(a, b, planes)}
    out["verdicts"] = []
    for cost in ("free", "vmexit", "ibmvnic"):
        p = next((p for p in points if p.cost == cost), None)
        x, y = (at.at(p, f["arm"]) for f in (a, b)) if p else ([], [])
        if len(x) and len(y):
            iv = parts.ratio(*y.paired(x, parts.NS))
            if iv is not None:
                out["verdicts"].append(stats.verdict(f"{name}, cost {cost}: {b['arm']} against {a['arm']}, requests per second",
                                                     iv, ctx.noise,
                                                     better="more", absolute=parts.absolute(x, y, a["arm"], b["arm"])))
    return out


def words(a, b, planes):
    """The region in words: who wins over both planes."""
    signs = np.concatenate([p.ravel() for p in planes])
    share = {s: float(np.mean(signs == s)) for s in (-1, 1, 0)}
    for s, name in ((-1, a["arm"]), (1, b["arm"])):
        if share[s] == 1:
            return f"{name} wins everywhere"
        if share[s] > 0 and share[-s] == 0:
            return f"{name} wins or it is not decided; nowhere does the other win"
    return "not decided anywhere" if share[0] == 1 else "either wins somewhere"


# --- texts and tables -----------------------------------------------------------------------------------------------------

def lead(found):
    f = found[0]
    every = [p for f in found for p in f["pairs"]]
    crossing = [p for p in every if p["words"].startswith("either")]
    text = (f"From 0 to 10 µs for a call, {len(crossing)} of {len(every)} pairs of arms (each size counted) change places "
            "somewhere")
    text += ": " + "; ".join(sorted({f"{p['a']} and {p['b']}" for p in crossing})[:4]) + "." if crossing else "."
    head = next((p for p in f["pairs"] if {p["a"], p["b"]} == {"copy", "zero-copy"}), None)
    if head:
        text += f" Copy against zero-copy, {f['name']}: {head['words']}."
    errors = [abs(h["error"]) for f in found for h in f["held"]]
    if errors:
        text += (f" The costs of one call at a time predict the {len(errors)} held-out settings with a median error of "
                 f"{np.median(errors):.1%}, "
                 f"{np.max(errors):.1%} at worst.").replace("%", " %")
    return text


def texts(ctx, found, drawn):
    out = ["Everything along the axes is injected, everything at their zero is measured. Injected is h for every hypercall of "
           "either partition, t for "
           "every TCE entry written, r for every RDMA call that reaches its copy, and they add up: an RDMA call costs h + r, a "
           "call that writes n TCEs "
           "h + n t. The fit is ns = T0 + k_h h + k_t t + k_r r, over the sweeps of one cost at a time; presets and corners were "
           "not in it. Slopes "
           "below the counters mean that a part of the injected time passes while the other partition works.",
           "Anchors: an interrupt-like (CRQ-class) hypercall about 2.5 µs, batched 3.35 µs (ibmvnic's flush by function trace: "
           "an upper bound, tracer "
           "and driver included); a VM exit about 0.7 µs (2010, x86). No cost of a TCE update or of an RDMA call's set-up on "
           "this hypervisor is "
           "published, so those axes have no anchor.",
           "Won means: the interval of the ratio of fitted times excludes 1, and the difference is beyond the A/A floor. "
           + parts.noise_text(ctx)]
    for f in found:
        told = [f"{p['a']} against {p['b']}: {p['words']}" for p in f["pairs"] if not p["drawn"]]
        if told:
            out.append(f"{f['name']}, pairs without a plane to draw: " + "; ".join(told) + ".")
    if len(drawn) > FIGURES:
        out.append(f"{len(drawn)} planes have a border; the first {FIGURES} are drawn, all are in the tables.")
    return out


def fit_table(f, i):
    rows = []
    for a in f["arms"]:
        slopes = [f"{parts.cell(a['k'][1 + k], fmt=slope)} "
                  f"({'not counted' if a['counts'][k] is None else slope(a['counts'][k])})" for k in range(3)]
        rows.append([a["arm"], parts.cell(a["k"][0], unit=" ns"), *slopes, f"{a['misfit']:.1%}".replace("%", " %")])
    return Table(title=f"Fitted costs, and the counters beside them: {f['name']}", id=f"costs-fit-{i}",
                 head=["arm", "T0", *(f"per {w}: fitted (counted)" for w in ("hypercall", "TCE update", "RDMA call")),
                       "worst misfit of the sweep"],
                 rows=rows, note=f"{stats.LEVEL:.0%} intervals, bootstrap over {f['arms'][0]['k'][0].n} blocks. Counted: calls "
                                 f"per request, both "
                                 "partitions, exact.".replace("%", " %"))


def slope(v):
    return f"{0.0 if abs(v) < 0.005 else v:.2f}"


def held_table(f, i):
    rows = [[h["arm"], h["cost"], parts.cell(h["measured"], unit=" ns"), parts.cell(h["predicted"], unit=" ns"),
             f"{h['error']:+.1%}".replace("%", " %"),
             *([f"{h['by_model']:,.0f} ns ({h['by_model'] / h['measured'].estimate - 1:+.1%})".replace("%", " %")] if h["by_model"]
               else ["-"])]
            for h in f["held"]]
    return Table(title=f"Held-out settings: {f['name']}", id=f"costs-held-{i}",
                 head=["arm", "injected", "measured", "predicted", "error", "by the time model and counters"], rows=rows,
                 note="None of these was in the fit. The time model (where the time goes) saw nothing of this experiment: its prediction "
                      "plus what is injected for each counted call. Presets: vmexit hcall=700, ibmvnic hcall=2500.")


def pair_table(f, i):
    rows = []
    for p in f["pairs"]:
        ca, cb = p["draws"][0][0], p["draws"][1][0]
        rows.append([p["a"], f"{ca:,.0f} ns", p["b"], f"{cb:,.0f} ns", p["words"], *(even_text(e) for e in p["break_even"])])
    return Table(title=f"Pairs: who wins where: {f['name']}", id=f"costs-pairs-{i}",
                 head=["A", "nothing injected", "B", "nothing injected", "over both planes",
                       *(f"same at a {w} of" for w in WORDS)], rows=rows,
                 note="Break-even with the other two costs at 0; brackets: all costs whose 99 % interval of the ratio includes "
                      "1. -: they don't meet "
                      "between 0 and 10 µs.")


def even_text(e):
    if e is None:
        return "-"
    return (f"{plots.ns_text(e['estimate'])} [{plots.ns_text(e['low'])}, {plots.ns_text(e['high'])}"
            f"{' or more' if e['high'] >= MOST else ''}]")


# --- figures --------------------------------------------------------------------------------------------------------------

def cost_axis(ax, which="x"):
    """symlog from 0 to 10 µs."""
    (ax.set_xscale if which == "x" else ax.set_yscale)("symlog", linthresh=100, linscale=0.6)
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(plots.ticker.FixedLocator([0, 100, 1000, 10000]))
    axis.set_minor_locator(plots.ticker.NullLocator())
    axis.set_major_formatter(plots.ticker.FixedFormatter(["0", "0.1", "1", "10"]))


def lines_figure(ctx, samples, f, i):
    """ns per request over each cost alone: measured points with intervals, fitted lines."""
    fig, axes = plots.new_figure("wide", 1, 3, height=330, sharey=True)
    for k, ax in enumerate(axes):
        for a in f["arms"]:
            use = [j for j, c in enumerate(a["costs"]) if c[k] > 0 or not c.any()]
            use.sort(key=lambda j: a["costs"][j][k])
            look = plots.style(a["arm"])
            plots.lines_with_band(ax, [a["costs"][j][k] for j in use], [stats.median(a["table"][:, j]) for j in use],
                                  arm=a["arm"], connect=False)
            ax.plot(FINE, a["coef"][0] + a["coef"][1 + k] * FINE, color=look["color"], linestyle=look["linestyle"], linewidth=1.3)
        ax.set_yscale("log")
        cost_axis(ax)
        ax.set_xlim(-20, MOST * 1.1)
        ax.set_xlabel(f"µs per {WORDS[k]}")
    for x, _ in ANCHORS[:2]:
        axes[0].axvline(x, color=plots.SOFT, linewidth=1, linestyle=(0, (1, 1.5)))
    plots.ns_axis(axes[0].yaxis)
    axes[0].set_ylabel("ns per request")
    axes[0].set_title("\n" * -(-len(f["arms"]) // 3))  # room for the legend, which is wider than one panel
    handles, labels = axes[0].get_legend_handles_labels()
    legend = axes[0].legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.02), ncol=3)
    legend.set_in_layout(False)
    title = f"Time per request when one kind of call costs more: {f['name']}"
    return Figure(id=f"costs-lines-{i}", title=title, svg=plots.to_svg(fig, f"costs-lines-{i}", title),
                  caption=(f"Points: medians with {stats.LEVEL:.0%} intervals; lines: the fit. Dotted: VM exit 0.7 µs and "
                           f"CRQ-class call 2.5 µs, an upper bound; "
                           f"nothing is published for the other two. Bootstrap over {f['arms'][0]['k'][0].n} blocks."
                           ).replace("%", " %"),
                  limits=parts.limits_line(ctx, f["group"][2], f["group"][0] == "memory") + " Injected costs: all but the left "
                      "ends.",
                  command=ctx.command(NAME))


def plane_figure(ctx, f, p, k):
    fig, axes = plots.new_figure("wide", 1, 2, height=330)
    for ax, (x, y), plane in zip(axes, PLANES, p["planes"]):
        cost_axis(ax)
        cost_axis(ax, "y")
        plots.region_plane(ax, GRID, GRID, plane, p["a"], p["b"])
        costs = plane_costs((x, y))
        for z, line in zip(log_ratio(p["draws"], costs), ("-", "--", "--")):
            z = z.reshape(len(GRID), len(GRID))
            if z.min() < 0 < z.max():
                ax.contour(GRID, GRID, z, levels=[0], colors=[plots.INK], linewidths=[1.8 if line == "-" else 1.0],
                           linestyles=[line])
        for (at, _), left in zip(ANCHORS, (-18, -20, 3)):
            plots.anchor(ax, at, 0, f"{at / 1e3:.3g}", offset=(left, 6))
        ax.set_xlabel(f"µs per {WORDS[x]}")
        ax.set_ylabel(f"µs per {WORDS[y]}")
    title = f"{p['a']} against {p['b']}: {f['name']}"
    return Figure(id=f"costs-plane-{k}", title=title, svg=plots.to_svg(fig, f"costs-plane-{k}", title),
                  caption=(f"Line: break-even; dashed: its {stats.LEVEL:.0%} interval, bootstrap over {p['draws'][4]} blocks. "
                           f"Circles at the bottom: published costs of "
                           "a hypercall in µs (VM exit 0.7; CRQ-class 2.5 and 3.35, upper bounds); no TCE or RDMA cost is "
                           "published. Third cost: 0. "
                           f"Nothing injected: {p['a']} {p['draws'][0][0]:,.0f} ns, {p['b']} {p['draws'][1][0]:,.0f} ns."
                           ).replace("%", " %"),
                  limits=parts.limits_line(ctx, f["group"][2], f["group"][0] == "memory") + " Injected costs on both axes.",
                  command=ctx.command(NAME))


def as_data(f):
    return {"point": f["name"],
            "fits": [{"arm": a["arm"], "t0": a["k"][0].data(), **{f"k_{n}": a["k"][1 + k].data() for k, n in enumerate(AXES)},
                      "counted": dict(zip(AXES, a["counts"])), "misfit": a["misfit"]} for a in f["arms"]],
            "held_out": [{"arm": h["arm"], "cost": h["cost"], "measured": h["measured"].data(),
                          "predicted": h["predicted"].data(),
                          "error": h["error"], "by_model": h["by_model"]} for h in f["held"]],
            "pairs": [{"a": p["a"], "b": p["b"], "words": p["words"], "break_even": dict(zip(AXES, p["break_even"])),
                       "planes": {f"{AXES[x]} x {AXES[y]}": plane.tolist() for (x, y),
                                  plane in zip(PLANES, p["planes"])}} for p in f["pairs"]]}
