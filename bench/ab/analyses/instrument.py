# SPDX-License-Identifier: BSD-3-Clause
"""What the machine did while it was measured: R over time, windows set aside, what varies more, and rates as experienced."""

import numpy as np

from ab.instrument import windows
from ab.report import plots
from ab.report import parts
from ab.instrument.model import AGAIN, Figure, Point, Section, Table
from ab.stats import plateaus, variance

NAME = "instrument"
DRAWN = 4000  # R-windows in the figure at most


def analyse(ctx):
    """Section, or None where nothing danced."""
    if not ctx.windows:
        return None
    names = list(ctx.windows)
    parts_of = {n: variance.summary(m, base_slot(m)) for n, m in ctx.windows.items()}
    out = Section(id="instrument", title="What the machine did meanwhile", lead=lead(ctx, parts_of))
    out.figures = [f for n in names[:1] for f in [round_trips(ctx, n)] if f]
    out.tables = [plateau_table(ctx), aside_table(ctx), *(t for n in names for t in [variance_table(ctx, n, parts_of[n])] if t),
                  *(t for n in names for t in [experienced_table(ctx, n)] if t)]
    out.text = [*(t for n in names for t in [handover_text(ctx, n)] if t), "Undisturbed rates are what comparisons use. As experienced is total time over total requests in all windows of the "
                "plateau: what gaps cost each arm, those of the machine and those that a design makes itself.",
                "Spread is of ln of the ratio to the first arm (its own time beside it): between process starts, between the dances of a "
                "start (time), between the rounds of a dance. Where it is the starts, more starts help; where it is time, more dances."]
    out.data = {"handover": {n: handover_data(ctx, n) for n in names}, "variance": [as_data(ctx, n, *row) for n in names for row in parts_of[n]]}
    return out


def handovers(m):
    """(us from the end of each counted part to both sides of the next window being on their cores, as an array; share of the dances'
    time that was counted). What is outstanding is completed in it, so it is the hand-over and the drain."""
    rows, hz = m.rows, m.header["tick_hz"]
    played = rows["begin"] > 0
    a, b = rows[:-1], rows[1:]
    ends = a["begin"] + a["warm"] + a["ticks"]
    good = played[:-1] & played[1:] & (a["block"] == b["block"]) & (a["dance"] == b["dance"]) & (b["seq"] == a["seq"] + 1)
    took = (b["begin"].astype(np.int64) - ends.astype(np.int64))[good]
    span = (b["begin"].astype(np.int64) - a["begin"].astype(np.int64))[good]
    return took / hz * 1e6, float(a["ticks"][good].sum(dtype=np.int64) / max(1, span.sum()))


def handover_text(ctx, name):
    """A sentence: what handing the cores over costs."""
    took, counted = handovers(ctx.windows[name])
    if not len(took):
        return ""
    low, middle, high = np.quantile(took, (0.05, 0.5, 0.95))
    return (f"Experiment {name}: from the end of a window's counted part to both sides of the next one being on their cores {middle:.0f} µs "
            f"(median of {len(took):,}; 5th and 95th percentile {low:.0f} and {high:.0f} µs): what was in flight, and two wake-ups. "
            f"{100 * counted:.0f} % of the time is counted, the rest is hand-over and warm-up.")


def handover_data(ctx, name):
    took, counted = handovers(ctx.windows[name])
    return {"us": [float(q) for q in np.quantile(took, (0.05, 0.5, 0.95))] if len(took) else [], "counted": counted}


def base_slot(m):
    return m.header["slots"].index("copy") if "copy" in m.header["slots"] else 0


def share(a, b):
    return f"{100 * a / b:.1f} %" if b else "-"


def lead(ctx, parts_of):
    r = [p.r_ns for p in ctx.plateaus if np.isfinite(p.r_ns)]
    asides = [m.set_aside() for m in ctx.windows.values()]
    total, gaps = (sum(a[k] for a in asides) for k in ("windows", "a side saw a gap"))
    text = (f"R stood at {parts.listed(f'{v:.0f} ns' for v in r)}" if len(r) > 1 else f"R stood at {r[0]:.0f} ns throughout" if r else
            "R was not measured in the windows")
    text += f"; {share(gaps, total)} of {total:,} windows had a gap and were set aside."
    told = [row[3].more() for rows in parts_of.values() for row in rows if row[3].more()]
    if told:
        more = max(("starts", "time"), key=told.count)
        text += f" Ratios vary more between {'process starts' if more == 'starts' else 'times of one start'} " \
                f"({told.count(more)} of {len(told)} comparisons)."
    return text


def plateau_table(ctx):
    rows = [[p.name(), f"{p.low:.0f} to {p.high:.0f} ns", f"{p.windows:,}", share(p.share, 1)] for p in ctx.plateaus]
    return Table(title="Plateaus of R", id="instrument-plateaus", rows=rows,
                 head=["plateau", "quartiles", "R-windows", "share of the time"],
                 note="Found from the R-windows by a mixture of one to three components (BIC) and the most likely sequence in time; "
                      "docs/method.md has the rule.")


def aside_table(ctx):
    asides = {n: m.set_aside() for n, m in ctx.windows.items()}
    reasons = list(next(iter(asides.values())))
    rows = [[n, *(f"{a[k]:,}" if k == "windows" else f"{a[k]:,} ({share(a[k], a['windows'])})" for k in reasons)]
            for n, a in asides.items()]
    return Table(title="Windows set aside, by reason", id="instrument-aside", head=["experiment", *reasons], rows=rows,
                 note="The rules see gaps and R, never what an arm did in the window. All windows are in raw/.")


def variance_table(ctx, name, found):
    m, rows = ctx.windows[name], []
    for point, plateau, slot, pair, own in found:
        if pair.blocks < 3:
            continue
        rows.append([label(m, point), m.header["slots"][slot], ctx.plateau_name(plateau), sd(pair.starts), sd(pair.times), sd(pair.rounds),
                     sd(own.starts) if own else "-", str(pair.blocks)])
    if not rows:
        return None
    return Table(title=f"Spread of the ratio to {m.header['slots'][base_slot(m)]}, experiment {name}", id=f"instrument-spread-{name}",
                 head=["point", "arm", "plateau", "between starts", "between dances", "between rounds", "own time, between starts",
                       "starts"], rows=rows,
                 note="Standard deviations. A dash: one dance a start and plateau, so starts and time can't be told apart, and the spread "
                      "between starts holds both.")


def sd(v):
    return f"{100 * v:.2f} %" if np.isfinite(v) else "-"


def label(m, point):
    return Point(**m.header["points"][point]).label()


def experienced_table(ctx, name):
    samples, rows = ctx.of(name), []
    for point in samples.points():
        for arm in [a for a in parts.arms_of(samples.at(point)) if not a.endswith(AGAIN)]:
            mine = samples.at(point, arm)
            calm, felt = parts.median(mine), parts.median(mine, "ns_experienced")
            if calm is None or felt is None:
                continue
            rows.append([point.label(), arm, parts.cell(parts.rate(calm)), parts.cell(parts.rate(felt)),
                         f"{100 * (1 - calm.estimate / felt.estimate):.1f} %",
                         share(float(np.sum(mine.values("undisturbed"))), float(np.sum(mine.values("windows"))))])
    if not rows:
        return None
    return Table(title=f"Requests per second, undisturbed and as experienced, experiment {name}", id=f"instrument-felt-{name}",
                 head=["point", "arm", "undisturbed", "as experienced", "lost to gaps", "windows that count"], rows=rows,
                 note=f"While {ctx.plateau_name()}. " + parts.note(samples) if ctx.plateau_name() else parts.note(samples))


def round_trips(ctx, name):
    """R of the R-windows in order of time, block by block."""
    m = ctx.windows[name]
    own = np.flatnonzero(m.clean & (m.rows["slot"] == m.slot(windows.ROUND_TRIP)))
    if not len(own):
        return None
    at = np.arange(len(own))
    step = -(-len(own) // DRAWN)
    fig, ax = plots.new_figure("wide", height=240)
    for q in [*range(len(m.plateaus)), plateaus.NONE]:
        use = at[::step][m.plateau[own[::step]] == q]
        look = {"color": plots.SOFT, "marker": "x"} if q == plateaus.NONE else {k: plots.sequence(q)[k] for k in ("color", "marker")}
        ax.plot(use, m.ns[own[use]], linestyle="none", markersize=2.5, **look,
                label="set aside: near a change" if q == plateaus.NONE else m.plateaus[q].name())
    for b in np.flatnonzero(np.diff(m.rows["block"][own])):
        ax.axvline(b + 0.5, color=plots.RULE, linewidth=0.8)
    ax.set_yscale("log")
    ax.set_ylim(np.quantile(m.ns[own], 0.002) * 0.8, np.quantile(m.ns[own], 0.998) * 1.3)
    plots.ns_axis(ax.yaxis)
    ax.set_xlabel("R-windows in order of time; lines part process starts")
    ax.set_ylabel("R")
    plots.legend_above(ax)
    title = f"R while {name} was measured"
    return Figure(id=f"instrument-r-{name}", title=title, svg=plots.to_svg(fig, f"instrument-r-{name}", title),
                  caption=f"Each mark is one window of R without a gap (of {len(own):,}, every {step}). Results of different plateaus are "
                          "never mixed.", limits=parts.limits_line(ctx), command=ctx.command(name))


def as_data(ctx, name, point, plateau, slot, pair, own):
    m = ctx.windows[name]
    return {"experiment": name, "point": label(m, point), "plateau": ctx.plateau_name(plateau), "arm": m.header["slots"][slot],
            "ratio": vars(pair), "time": vars(own) if own else None}
