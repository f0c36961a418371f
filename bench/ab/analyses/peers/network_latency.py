# SPDX-License-Identifier: BSD-3-Clause
"""Network: latency of a frame there and back, from its intended start, at shares of the highest rate and at about one rate for
all arms."""

import numpy as np

from ab import stats
from ab.drivers import peers
from ab.report import plots
from ab.report import parts
from ab.analyses.latency import KEPT_UP, name, of
from ab.instrument.model import Figure, Section, Table

NAME = "network_latency"
EXPERIMENT = "net-latency"
QS = (50, 99, 99.9)
METRIC = {50: "p50_ns", 99: "p99_ns", 99.9: "p999_ns"}  # of one process start
RIVALS = ("copy", "premapped")
NO_PEER = "not measurable"


def analyse(ctx):
    """Section, or None when the experiment was not run."""
    samples = ctx.of(EXPERIMENT)
    if not len(samples):
        return None
    out = Section(id="network-latency", title="Network: latency under load", lead="")
    points = sorted(samples.points(), key=lambda p: (p.bs, p.load_of, p.load, p.rate))
    closed, loaded = ([p for p in points if bool(p.load or p.rate) is yes] for yes in (False, True))
    floors = {q: floor(samples, loaded, METRIC[q]) for q in QS}
    rows, compared = latency_rows(samples, loaded), comparisons(samples, loaded, floors)
    out.verdicts = [c["verdict"] for c in compared]
    out.tables = [t for t in (latency_table(rows), highest_table(samples, closed), ratios_table(compared)) if t.rows]
    out.figures = [f for f in (figure(ctx, samples, rows, bs) for bs in sorted({p.bs for p in loaded})) if f]
    out.lead = lead(compared, rows)
    out.text = TEXT + [noise_text(samples, floors)]
    out.data = {"latency": [{"bs": r["point"].bs, "load": r["point"].load, "load_of": r["point"].load_of, "arm": r["arm"],
                             "offered": r["offered"], "kept_up": r["kept_up"], "lost": r["lost"],
                             **{name(q): parts.data(iv) for q, iv in r["percentiles"].items()}} for r in rows],
                "ratios": [{k: c[k] for k in ("bs", "load", "rival", "percentile")} |
                           {"interval": parts.data(c["verdict"].interval), "answer": c["verdict"].answer} for c in compared]}
    return out


TEXT = ["A frame goes from the guest through the switch to a port of DPDK that is a ring and gives it back, and through the "
        "switch to the guest again; its time begins when it should have started (open loop), so that a stall is not hidden by "
        "sending later. The highest rate is that of the closed loop, as many frames as come back when the guest sends all it "
        "can, measured first on the same machine. The switch sees the guest's address at both of its ports and moves it with "
        "each burst, in every arm alike.",
        "Shares of its own highest rate load every arm alike, at rates that differ; half of copy's highest rate is about one "
        "rate for all arms, and only there latencies of arms are compared."]


def load_text(p):
    if p.rate:
        return f"{p.rate:,.0f} frames/s"
    return f"{p.load:.0%} of {p.load_of + chr(39) + 's' if p.load_of else 'its own'} highest".replace("%", " %")


def kept_up(samples):
    """Median share of the offered frames that came back in time to count."""
    x = samples.values("requests") / samples.values("elapsed_ns") * 1e9 / samples.values("offered")
    return float(np.median(x)) if len(x) else 0.0


def latency_rows(samples, points):
    out = []
    for p in points:
        for arm in parts.arms_of(samples.at(p)):
            mine = samples.at(p, arm)
            out.append({"point": p, "arm": arm, "offered": float(np.median(mine.values("offered"))), "kept_up": kept_up(mine),
                        "lost": float(np.median(mine.values("lost"))), "percentiles": of(samples, p, arm, QS)})
    return out


def floor(samples, points, metric):
    """Largest |ln ratio| of a percentile between an arm and its twin; points in the open loop only."""
    return stats.noise_floor(type(samples)(s for s in samples if s.point in points), metric)


def comparisons(samples, points, floors):
    """Zero-copy against each rival at one rate for both: per process start, paired by block. Above 1: zero-copy is faster.
    floors: {percentile: of floor()}"""
    out = []
    for p in points:
        if not (p.load_of or p.rate):
            continue
        zc = samples.at(p, "zero-copy")
        for rival in RIVALS:
            other = samples.at(p, rival)
            for q in QS:
                if not len(zc) or not len(other) or min(kept_up(zc), kept_up(other)) < KEPT_UP:
                    continue
                x, y = zc.paired(other, METRIC[q])
                iv = parts.ratio(x, y)
                if iv is not None:
                    claim = f"{p.bs} B, {load_text(p)} rate: {name(q)} of {rival} over zero-copy's"
                    absolute = f"{plots.ns_text(np.median(y))} with {rival}, {plots.ns_text(np.median(x))} with zero-copy"
                    v = stats.verdict(claim, iv, floors[q], better="more", absolute=absolute)
                    out.append({"bs": p.bs, "load": load_text(p), "rival": rival, "percentile": q, "verdict": v})
    return out


def lead(compared, rows):
    told = []
    for rival in RIVALS:
        for answer, word in (("faster", "shorter than"), ("slower", "longer than"), (stats.NONE, "not shown to differ from")):
            mine = [f"{name(c['percentile'])} at {c['bs']} B" for c in compared
                    if (c["rival"], c["verdict"].answer) == (rival, answer) and c["percentile"] in (50, 99)]
            told += [f"{word} {rival}'s: {parts.listed(mine)}"] if mine else []
    if told:
        return "Latency of zero-copy there and back, at half of copy's highest rate: " + "; ".join(told) + "."
    behind = [f"{r['arm']} ({r['point'].bs} B, {load_text(r['point'])})" for r in rows if r["kept_up"] < KEPT_UP]
    return ("No two arms kept up with one rate in this run, so no latencies are compared"
            + (f"; behind were {parts.listed(behind)}" if behind else "") + ".")


def noise_text(samples, floors):
    if not parts.twins_of(samples):
        return "No A/A control was run, so there is no floor below which a difference is disbelieved."
    told = ", ".join(f"{name(q)} {np.expm1(v):.1%}".replace("%", " %") for q, v in floors.items())
    return f"A/A floor, the largest difference between identical twins under load: {told}."


# --- tables and figure --------------------------------------------------------------------------------------------------

def latency_table(rows):
    out = []
    for r in rows:
        p, got = r["point"], r["percentiles"]
        state = "kept up" if r["kept_up"] >= KEPT_UP else f"overload: {r['kept_up']:.0%} came back".replace("%", " %")
        out.append([f"{p.bs} B", load_text(p), r["arm"], f"{r['offered'] / 1e6:.3g}"] +
                   [parts.cell(got.get(q), fmt=plots.ns_text) if q in got else "too few" for q in QS] +
                   [f"{r['lost']:.2%}".replace("%", " %"), state])
    for peer in peers.PEERS if out else ():
        out.append(["all", "-", peer, "-"] + [NO_PEER] * len(QS) + ["-", "-"])
    return Table(title="Latency there and back, from the intended start", id="network-latency-table",
                 rows=out,
                 head=["frame", "load", "arm or peer", "M frames/s offered"] + [name(q) for q in QS] + ["lost", "state"],
                 note="Percentiles of all frames of an arm, histograms of its process starts merged; brackets: 99 % intervals "
                      "over process starts. Rates and losses: medians over starts. A lost frame found no room and has no "
                      "latency; in overload latency is a matter of how long the measurement lasts. Peers: testpmd's generator "
                      "stamps no frame, and its latency statistics time a frame inside one testpmd, not from one to the other.")


def highest_table(samples, points):
    rows = [[f"{p.bs} B", arm, parts.cell(frames, 1e-6), parts.cell(frames, 8e-9 * p.bs)]
            for p in points for arm in parts.arms_of(samples.at(p)) for frames in [parts.rate(parts.median(samples.at(p, arm)))]]
    return Table(title="Highest rate there and back, closed loop", id="network-latency-highest",
                 head=["frame", "arm", "M frames/s each way", "Gbit/s each way"], rows=rows, note=parts.note(samples))


def ratios_table(compared):
    return Table(title="Latencies at one rate: zero-copy's in those of its rivals", id="network-latency-ratios",
                 head=["frame", "load", "percentile", "rival", "rival's over zero-copy's", "absolute", "verdict"],
                 rows=[[f"{c['bs']} B", c["load"], name(c["percentile"]), c["rival"], parts.times(c["verdict"].interval),
                        c["verdict"].absolute, c["verdict"].answer] for c in compared],
                 note="Percentiles of single process starts, paired by block; so they differ a little from those of all frames.")


def figure(ctx, samples, rows, bs):
    """Latency against the offered rate, at shares of each arm's own highest."""
    rows = [r for r in rows if r["point"].bs == bs and not r["point"].load_of and r["kept_up"] >= KEPT_UP]
    if not any(r["percentiles"] for r in rows):
        return None
    fig, strip, axes = parts.panels(1, len(QS), height=360, legend_lines=1, sharey=True)
    for ax, q in zip(axes, QS):
        for arm in parts.arms_of(samples):
            mine = sorted((r["offered"] / 1e6, r["percentiles"][q]) for r in rows if r["arm"] == arm and q in r["percentiles"])
            parts.curve(ax, [x for x, _ in mine], [iv for _, iv in mine], arm)
        ax.set_title(name(q))
        ax.set_xlabel("M frames/s offered")
        ax.set_xscale("log")
        ax.set_yscale("log")
        plots.count_axis(ax.xaxis)
        if np.isfinite(ctx.r_ns):
            plots.bound(ax, ctx.r_ns, "R")
    axes[0].set_ylabel("from intended start to return")
    plots.ns_axis(axes[0].yaxis)
    parts.legend(strip, axes, 4)
    id, title = f"network-latency-{bs}", f"Latency there and back against the offered rate, {bs} B"
    return Figure(id=id, title=title, svg=plots.to_svg(fig, id, title), limits=parts.limits_line(ctx),
                  command=ctx.command(EXPERIMENT),
                  caption="Marks are shares of the arm's own highest rate; a line ends where the arm no longer kept up (95 % "
                          "of the offered frames came back). Bands: 99 % intervals over process starts. Both axes logarithmic.")
