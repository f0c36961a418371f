# SPDX-License-Identifier: BSD-3-Clause
"""Where does a request's time go, and is that enough to predict it? The time model (ab/stats/time_model.py) on windows of all plateaus."""

import numpy as np

from ab.report import plots
from ab.stats import time_model
from ab.report import parts
from ab.instrument.model import Figure, Section, Table

NAME = "cycles_model"
EXPERIMENTS = ("quick", "ladder", "sizes", "batch")
WANTED, GOOD = 0.10, 0.15  # median error on held-out settings: aimed at; above which the model is called bad
HELD = {"setting": time_model.by_setting, "point": time_model.by_point, "arm": time_model.by_arm}
LEAST = 8  # configurations of a regime
PARTS = {"work": ("work", "ns"), "lines": ("lines moved", "R"), "handover": ("bytes", "x hand-over"), "memcpy": ("bytes", "x memcpy")}


def analyse(ctx):
    """Section, or None when no regime has enough configurations for a fit and for settings to hold out."""
    found = [f for f in (one(configurations(ctx), regime) for regime in time_model.REGIMES) if f]
    if not found:
        return None
    out = Section(id="model", title="Where the time goes: constants, lines and bytes", lead=lead(found))
    for i, f in enumerate(found):
        out.figures.append(figure(ctx, f, i))
        out.tables += [price_table(f, i), error_table(ctx, f, i)]
    out.text = texts(found)
    out.data = {"regimes": [as_data(f) for f in found]}
    return out


def configurations(ctx):
    """Of all plateaus at once: R's values are what the model lives on. Beside danced settings those without R of their own are left
    out: they could not be told lines from work, nor anything fitted with them."""
    every = [c for c in time_model.configurations(ctx.samples) if c.experiment in EXPERIMENTS]
    with_r = [c for c in every if np.isfinite(c.r_ns)]
    return with_r or every


def one(every, regime):
    """dict of a regime's fit and its errors, or None."""
    mine = [c for c in every if time_model.REGIMES[regime](c.point)]
    if len(mine) < LEAST or len({c.point for c in mine}) < 2 or len({c.arm for c in mine}) < 2:
        return None
    errors = {name: time_model.held_out(mine, regime, setting) for name, setting in HELD.items()}
    if not np.isfinite(errors["point"]).any():
        return None
    fitted = time_model.fit(mine, regime)
    return {"regime": regime, "configs": mine, "fit": fitted, "errors": errors["point"],
            "held": {name: float(np.nanmedian(np.abs(e))) for name, e in errors.items()},
            "own": fitted.predict(mine) / np.array([c.ns for c in mine]) - 1, "missing": time_model.missing(fitted, mine)}


def median_error(f):
    """Of points that the fit did not see with any arm."""
    return f["held"]["point"]


# --- texts ------------------------------------------------------------------------------------------------------------------

def pct(v):
    return f"{v:.0%}".replace("%", " %") if abs(v) >= 0.1 else f"{v:.1%}".replace("%", " %")


def lead(found):
    told = []
    for f in found:
        e = np.abs(f["errors"][np.isfinite(f["errors"])])
        told.append(f"{f['regime']}, an arm at a point that the fit did not see is predicted with a median error of "
                    f"{pct(f['held']['setting'])}, a point not seen with any arm of {pct(f['held']['point'])} (nine in ten within "
                    f"{pct(np.quantile(e, 0.9))}), an arm not seen at any point of {pct(f['held']['arm'])}")
    text = "; ".join(told) + "."
    bad = [f["regime"] for f in found if median_error(f) > GOOD]
    if bad:
        text += f" With requests {parts.listed(bad)} that is no model to rely on: what is missing is in its table."
    return text[0].upper() + text[1:]


def texts(found):
    out = ["ns = constants x counters + lines x R + bytes x hand-over. R, and the time to hand a block of the point's size to the "
           "other core, were measured in the same rounds; where R took several values, what grows with it is lines moved and what "
           "does not is work. Held out: an arm at a point (backend, operation, size, depth), a point with all arms, or an arm at all "
           "points, each on all plateaus, is predicted from the rest. The figures and tables show the points.",
           "Prices are not negative and minimise relative errors; a price of 0 explained nothing beyond the others. Those of requests "
           "many in flight are a description more than prices: the partitions overlap, and the slower one binds."]
    for f in found:
        if not any(x.kind == "lines" for x in f["fit"].features):
            out.append(f"{f['regime'].capitalize()}: R was not measured in the windows or took one value only, so lines moved can't be "
                       "told from constants.")
        if median_error(f) > WANTED:
            out.append(f"{f['regime'].capitalize()}: {short_of(f)}")
    return out


def short_of(f):
    """What is missing where the model does not reach what was wanted."""
    e = f["errors"]
    groups = {}
    for c, x in zip(f["configs"], e):
        if np.isfinite(x):
            groups.setdefault(c.point, []).append(abs(x))
    worst = sorted(groups, key=lambda p: -np.median(groups[p]))[:2]
    return (f"median error {pct(median_error(f))} where {pct(WANTED)} was wanted. Most is at "
            + parts.listed(f"{p.label()} ({pct(float(np.median(groups[p])))})" for p in worst)
            + f". With all settings in the fit the median error is {pct(float(np.median(np.abs(f['own']))))}, and an arm that the fit "
            f"did not see is predicted within {pct(f['held']['arm'])}: "
            + ("the terms are there, but too few settings tell them apart." if np.median(np.abs(f["own"])) <= WANTED / 2 else
               "a sum can't say that two partitions overlap and that the slower one binds; the table says by how much each "
               "setting is off, in work and in lines."))


def price_text(f, price, iv):
    unit = PARTS[f.kind][1]
    return parts.cell(iv, unit=f" {unit}") if iv else f"{price:.3g} {unit}"


def price_table(f, i):
    rows = [[PARTS[kind][0], f"per {x.name}" if kind in ("work", "lines") else x.name, price_text(x, k, iv)]
            for kind in PARTS for x, k, iv in f["fit"].of(kind)]
    return Table(title=f"Prices, requests {f['regime']}", id=f"model-prices-{i}", head=["part", "of", "price"], rows=rows,
                 note="R: so many round trips of a line. Bytes: so many times the measured hand-over of the payload, beyond the round trip "
                      "that asks for it, or the measured memcpy. Brackets: 99 % intervals by bootstrap over process starts. Counters that rise together share "
                      f"their price. Median error on the fit's own settings: {pct(float(np.median(np.abs(f['own']))))}.")


def error_table(ctx, f, i):
    order = [j for j in np.argsort(-np.abs(np.nan_to_num(f["errors"]))) if np.isfinite(f["errors"][j])][:12]
    rows = []
    for j in order:
        c, e = f["configs"][j], f["errors"][j]
        ns, lines = f["missing"][c.arm, c.point]
        rows.append([c.arm, c.point.label(), ctx.plateau_name(c.plateau) or "-", f"{c.ns:,.0f} ns", f"{c.ns * (1 + e):,.0f} ns",
                     f"{'+' if e > 0 else ''}{pct(e)}", f"{ns:+,.0f} ns" + (f", {lines:+.2f} R" if np.isfinite(lines) else "")])
    return Table(title=f"Held-out settings where it is worst, requests {f['regime']}", id=f"model-errors-{i}",
                 head=["arm", "setting", "plateau", "measured", "predicted", "error", "missing in the whole fit"], rows=rows,
                 note="Missing: what would have to be added to the prediction of the fit of all settings, as work and as lines.")


def figure(ctx, f, i):
    fig, ax = plots.new_figure("square")
    seen = np.isfinite(f["errors"])
    for arm in sorted({c.arm for c in f["configs"]}):
        mine = [(c.ns, c.ns * (1 + e), c.plateau) for c, e, ok in zip(f["configs"], f["errors"], seen) if ok and c.arm == arm]
        s = plots.style(arm)
        for q in sorted({m[2] for m in mine}):
            x, y, _ = zip(*(m for m in mine if m[2] == q))
            ax.plot(x, y, linestyle="none", marker=s["marker"], color=s["color"], markersize=5.5,
                    markerfacecolor=s["color"] if q == ctx.plateau or q < 0 else "none",
                    label=arm if arm in plots.ARM_COLOUR and q in (ctx.plateau, -1) else None)
    every = [c.ns for c in f["configs"]]
    ends = np.array([min(every) * 0.8, max(every) * 1.25])
    ax.plot(ends, ends, color=plots.SOFT, linewidth=1)
    ax.fill_between(ends, ends / 1.1, ends * 1.1, color=plots.SOFT, alpha=0.15, linewidth=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    plots.ns_axis(ax.xaxis)
    plots.ns_axis(ax.yaxis)
    ax.set_xlabel("measured, ns a request")
    ax.set_ylabel("predicted without that setting")
    plots.legend_above(ax)
    title = f"Time predicted for settings that the fit did not see, requests {f['regime']}"
    return Figure(id=f"model-{i}", title=title, svg=plots.to_svg(fig, f"model-{i}", title),
                  caption="Each mark is one arm at one setting on one plateau of R (hollow: not the main one), predicted from all other "
                          "settings. Band: within 10 %.",
                  limits=parts.limits_line(ctx) + " Unprotected is among the arms.",
                  command=ctx.command(f["configs"][0].experiment))


# --- for others -------------------------------------------------------------------------------------------------------------

def regime_of(depth):
    return "one at a time" if depth == 1 else "many in flight"


def constants(sections, depth):
    """{metric: {"estimate", "low", "high"} in ns} of the work prices for one depth, among the sections of a report; {} without a
    model, or when its median error is above GOOD."""
    models = [r for s in sections if s.id == "model" for r in s.data["regimes"] if r["regime"] == regime_of(depth)]
    return {metric: {"estimate": p["price"], "low": p["low"], "high": p["high"]} for r in models if r["median_error"] <= GOOD
            for p in r["prices"] if p["kind"] == "work" and p["low"] is not None for metric in p["metrics"]}


def fitted(ctx, depth):
    """The fit of this run's windows for one depth, or None without one that is good enough or without windows."""
    f = one([c for c in configurations(ctx) if np.isfinite(c.handover_ns)], regime_of(depth))
    return f["fit"] if f and median_error(f) <= GOOD else None


def as_data(f):
    return {"regime": f["regime"],
            "prices": [{"kind": x.kind, "of": x.name, "metrics": list(x.metrics), "price": float(k), "low": iv.low if iv else None,
                        "high": iv.high if iv else None}
                       for x, k, iv in zip(f["fit"].features, f["fit"].price, f["fit"].intervals)],
            "settings": [{"experiment": c.experiment, "arm": c.arm, "point": c.point.label(), "plateau": c.plateau, "ns": c.ns,
                          "error": float(e) if np.isfinite(e) else None} for c, e in zip(f["configs"], f["errors"])],
            "median_error": median_error(f), "median_error_held_out": f["held"],
            "median_error_in_fit": float(np.median(np.abs(f["own"]))),
            "within_10_percent": float(np.nanmean(np.abs(f["errors"]) <= 0.1))}
