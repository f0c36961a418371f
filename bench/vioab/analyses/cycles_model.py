# SPDX-License-Identifier: BSD-3-Clause
"""Do the counters predict the time? ns per request = constants x counters, fitted on few configurations, tried on all others.

Depth 1 and depth 32 have constants of their own. At depth 1 the two partitions work in turn, so that their costs add up; at depth
32 they work at the same time and the slower one binds, which a sum of costs can only follow as long as it is the same one.
"""

from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from vioab import plots, stats
from vioab.analyses import parts
from vioab.model import Figure, Section, Table

NAME = "cycles_model"
EXPERIMENTS = ("sizes", "quick", "ladder", "batch")  # the first that can fit does; the others are predicted as well
CORNERS = ("copy", "copy-tuned", "premapped", "zero-copy")
LARGEST = 65536  # bytes: largest size of the fit
RULE = ("the four arms copy, copy-tuned, premapped and zero-copy, reads, memory backend, at 4 KiB or else the smallest size and "
        "at the largest size up to 64 KiB")
# (name, unit of the constant, value from the medians of a configuration)
FEATURES = (("request", "ns", lambda v: 1.0), ("hypercall", "ns", lambda v: v["hcalls"]),
            ("TCE update", "ns", lambda v: v["tce_updates"]),
            ("RDMA call", "ns", lambda v: v["rdma_calls"]), ("byte by RDMA", "ns", lambda v: v["rdma_bytes"]),
            ("byte by a CPU", "ns", lambda v: v["guest_bytes"] + v["server_bytes"]), ("wake-up", "ns", lambda v: v["wakes"]))
# Metrics that a constant multiplies; a request itself is none.
COUNTERS_OF = {"hypercall": ("hcalls",), "TCE update": ("tce_updates",), "RDMA call": ("rdma_calls",),
               "byte by RDMA": ("rdma_bytes",), "byte by a CPU": ("guest_bytes", "server_bytes"), "wake-up": ("wakes",)}
NEEDED = ("hcalls", "tce_updates", "rdma_calls", "rdma_bytes", "guest_bytes", "server_bytes", "wakes")
DRAWS = 400
GOOD = 0.15  # median error above which the model is called bad


def analyse(ctx):
    """Section, or None when no depth has the configurations of the fit and others to predict."""
    every = [c for name in EXPERIMENTS for c in configurations(ctx.of(name), name)]
    found = [f for f in (one_depth(every, d) for d in sorted({c["point"].depth for c in every})) if f]
    if not found:
        return None
    out = Section(id="model", title="Do the counters predict the time?", lead=lead(found))
    for f in found:
        out.figures.append(figure(ctx, f))
        out.tables += [constants_table(f), errors_table(f)]
    out.text = texts(found)
    out.data = {"rule": RULE, "depths": [as_data(f) for f in found]}
    return out


def configurations(samples, name):
    """One dict for each arm and point with nothing injected, closed loop, a core each: medians of time and counters."""
    groups = {}
    for s in samples:
        p = s.point
        if s.slot == s.arm and p.cost == "free" and not p.rate and p.cores == "split" and parts.NS in s.values and all(
                k in s.values for k in NEEDED):
            groups.setdefault((s.arm, p), []).append(s)
    out = []
    for (arm, point), items in sorted(groups.items()):
        mine = type(samples)(items)
        med = {k: float(np.median(mine.values(k))) for k in NEEDED}
        out.append({"experiment": name, "arm": arm, "point": point, "samples": mine,
                    "ns": float(np.median(mine.values(parts.NS))),
                    "x": np.array([f(med) for _, _, f in FEATURES])})
    return out


def training(every, depth):
    """Configurations of RULE from one experiment; [] when none has two sizes of at least three of the arms."""
    for name in EXPERIMENTS:
        mine = [c for c in every if c["experiment"] == name and c["point"].depth == depth and c["arm"] in CORNERS and
                c["point"].op == "read" and c["point"].backend == "memory" and c["point"].bs <= LARGEST and
                plain_point(c["point"])]
        sizes = sorted({c["point"].bs for c in mine})
        if len(sizes) < 2:
            continue
        pick = {4096 if 4096 in sizes and sizes[-1] > 4096 else sizes[0], sizes[-1]}
        mine = [c for c in mine if c["point"].bs in pick]
        if len({c["arm"] for c in mine}) >= 3 and len(mine) >= 6:
            return mine
    return []


def plain_point(p):
    """Nothing but backend, operation, size and depth differs from the defaults."""
    return p == replace(type(p)(), backend=p.backend, op=p.op, bs=p.bs, depth=p.depth, extra=p.extra)


def solve(x, ns):
    """Constants, none negative: least squares of relative errors. Columns are scaled, so that bytes and calls weigh alike."""
    scale = np.maximum(np.abs(x).max(axis=0), 1e-30)
    k, _ = nnls(x / scale / ns[:, None], np.ones(len(ns)))
    return k / scale


def one_depth(every, depth):
    train = training(every, depth)
    if not train:
        return None
    x, ns = np.array([c["x"] for c in train]), np.array([c["ns"] for c in train])
    use = x.max(axis=0) > 1e-6
    k = np.zeros(len(FEATURES))
    k[use] = solve(x[:, use], ns)
    intervals = [None] * len(FEATURES)
    table = stats.columns([c["samples"] for c in train])
    if len(table) >= stats.MIN_INTERVAL:
        _, draws = stats.draws_of_medians(table, times=DRAWS)
        drawn = np.array([solve(x[:, use], d) for d in draws])
        for j, column in zip(np.flatnonzero(use), drawn.T):
            iv = stats.interval(k[j], column, len(table), stats.LEVEL)
            intervals[j] = replace(iv, low=max(0.0, iv.low))
    seen = {(c["arm"], c["point"]) for c in train}
    held = [c for c in every if c["point"].depth == depth and (c["arm"], c["point"]) not in seen]
    if not held:
        return None
    names = {(c["experiment"]) for c in train}
    errors = np.array([c["x"] @ k / c["ns"] - 1 for c in held])
    return {"depth": depth, "train": train, "held": held, "k": k, "intervals": intervals, "use": use, "from": names.pop(),
            "errors": errors,
            "own": x @ k / ns - 1,
            "unseen": sorted({FEATURES[j][0] for c in held for j in np.flatnonzero((c["x"] > 1e-6) & ~use)})}


# --- texts ------------------------------------------------------------------------------------------------------------------

def pct(v):
    return f"{v:.0%}".replace("%", " %") if abs(v) >= 0.1 else f"{v:.1%}".replace("%", " %")


def lead(found):
    told = []
    for f in found:
        e = np.abs(f["errors"])
        told.append(f"depth {f['depth']}: fitted on {len(f['train'])} configurations, the counters predict {len(e)} others with "
                    f"a median error of "
                    f"{pct(np.median(e))}; {pct(np.mean(e <= 0.1))} of them are within 10 %, the worst is off by {pct(e.max())}")
    bad = [f"depth {f['depth']}" for f in found if np.median(np.abs(f["errors"])) > GOOD]
    text = "; ".join(told) + "."
    if bad:
        text += f" At {parts.listed(bad)} that is no model to rely on: counters alone do not say where the time goes."
    return text[0].upper() + text[1:]


def texts(found):
    out = [f"Rule of the fit, fixed beforehand: {RULE}. All other arms, sizes, batches and backends with nothing injected are "
           f"predicted. "
           "Constants are not negative and minimise relative errors; a constant of 0 means that its counter explained nothing "
           "beyond the others.",
           "Depth 1 and depth 32 are fitted apart: at depth 1 the partitions work in turn and their costs add up; at depth 32 "
           "they overlap, the slower "
           "one binds, and a sum of costs holds only while it is the same one. Constants of depth 32 are therefore a "
           "description, not prices."]
    for f in found:
        if f["unseen"]:
            out.append(f"Depth {f['depth']}: {parts.listed(f['unseen'])} did not occur in the fit's configurations; predictions "
                       f"charge nothing for it.")
    return out


def constants_table(f):
    rows = []
    for j, (name, unit, _) in enumerate(FEATURES):
        iv = f["intervals"][j]
        rows.append([f"per {name}",
                     "not in the fit" if not f["use"][j] else parts.cell(iv,
                         unit=f" {unit}") if iv else f"{f['k'][j]:.3g} {unit}"])
    n = next((iv.n for iv in f["intervals"] if iv), 0)
    return Table(title=f"Fitted constants, depth {f['depth']}", id=f"model-constants-{f['depth']}", head=["cost", "ns"],
                 rows=rows,
                 note=f"From experiment {f['from']}; brackets: 99 % intervals, bootstrap over {n} blocks. Counters that rise "
                      f"together share their cost: an "
                      f"interval that starts at 0 is one that the fit can do without. Worst error on the fit's own "
                      f"configurations: {pct(np.abs(f['own']).max())}.")


def errors_table(f):
    worst = np.argsort(-np.abs(f["errors"]))[:12]
    rows = [[f["held"][i]["experiment"], f["held"][i]["arm"], f["held"][i]["point"].label(), f"{f['held'][i]['ns']:,.0f} ns",
             f"{f['held'][i]['ns'] * (1 + f['errors'][i]):,.0f} ns",
             f"{'+' if f['errors'][i] > 0 else ''}{pct(f['errors'][i])}"] for i in worst]
    e = np.abs(f["errors"])
    return Table(title=f"Where the model is worst, depth {f['depth']}", id=f"model-errors-{f['depth']}",
                 head=["experiment", "arm", "point", "measured", "predicted", "error"], rows=rows,
                 note=f"All {len(e)} held-out configurations: half within {pct(np.median(e))}, nine in ten within "
                      f"{pct(np.quantile(e, 0.9))}.")


def constants(sections, depth):
    """{metric: {"estimate", "low", "high"} in ns} of the model of one depth among the sections of a report; {} without one, or
    when its median error is above GOOD."""
    models = [d for s in sections for d in s.data.get("depths", ()) if s.id == "model" and d["depth"] == depth]
    return {metric: {"estimate": c["ns"], "low": c["low"], "high": c["high"]} for d in models if d["median_error"] <= GOOD
            for name, c in d["constants"].items() if c["low"] is not None for metric in COUNTERS_OF.get(name, ())}


def figure(ctx, f):
    fig, ax = plots.new_figure("square")
    for arm in sorted({c["arm"] for c in f["held"]}):
        mine = [(c["ns"], c["x"] @ f["k"]) for c in f["held"] if c["arm"] == arm]
        s = plots.style(arm)
        ax.plot(*zip(*mine), linestyle="none", marker=s["marker"], color=s["color"], markersize=5,
                label=arm if arm in plots.ARM_COLOUR else None)
    ax.plot([c["ns"] for c in f["train"]], [max(c["x"] @ f["k"], 1e-3) for c in f["train"]], linestyle="none", marker="o",
            markersize=10,
            markerfacecolor="none", color=plots.INK, label="in the fit")
    ends = np.array([min(c["ns"] for c in f["held"] + f["train"]), max(c["ns"] for c in f["held"] + f["train"])]) * [0.8, 1.25]
    ax.plot(ends, ends, color=plots.SOFT, linewidth=1)
    ax.fill_between(ends, ends / 1.1, ends * 1.1, color=plots.SOFT, alpha=0.15, linewidth=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    plots.ns_axis(ax.xaxis)
    plots.ns_axis(ax.yaxis)
    ax.set_xlabel("measured per request")
    ax.set_ylabel("predicted from the counters")
    plots.legend_above(ax)
    title = f"Time predicted from counters, depth {f['depth']}"
    return Figure(id=f"model-{f['depth']}", title=title, svg=plots.to_svg(fig, f"model-{f['depth']}", title),
                  caption="Each mark is one arm at one point, median over process starts. Rings: configurations of the fit; all "
                          "others are held out. Band: within 10 %.",
                  limits=parts.limits_line(ctx) + " Unprotected is among the arms.", command=ctx.command(f["from"]))


def as_data(f):
    return {"depth": f["depth"], "experiment": f["from"],
            "constants": {FEATURES[j][0]: {"ns": float(f["k"][j]), "low": iv.low if iv else None,
            "high": iv.high if iv else None} for j, iv in enumerate(f["intervals"]) if f["use"][j]},
            "fit": [{"arm": c["arm"], "point": c["point"].label()} for c in f["train"]],
            "held_out": [{"experiment": c["experiment"], "arm": c["arm"], "point": c["point"].label(), "ns": c["ns"],
                          "predicted": float(c["x"] @ f["k"])}
                         for c in f["held"]],
            "median_error": float(np.median(np.abs(f["errors"]))),
            "within_10_percent": float(np.mean(np.abs(f["errors"]) <= 0.1))}
