# SPDX-License-Identifier: BSD-3-Clause
"""The poller's price: processor time of both processes at no, some and full load, polled and interrupt-driven."""

import numpy as np

from ab.report import plots
from ab.report import parts
from ab.analyses.latency import KEPT_UP, kept_up
from ab.instrument.model import Figure, Sample, Samples, Section, Table, Verdict

NAME = "poller"
POLLED = "zero-copy"
IDLE = 1.0  # requests per second that stand for an idle disk
RIVALS = ("zero-copy,notify=suppress", "copy-tuned", "copy")  # interrupt-driven


def derive(s):
    """A sample with cores (busy, both processes), cpu_ns (a request), or None without CPU times."""
    v = s.values
    if not {"guest_cpu", "server_cpu"} <= set(v):
        return None
    cores = v["guest_cpu"] + v["server_cpu"]
    out = {"cores": cores}
    if v.get("requests", 0) > 0:
        out["cpu_ns"] = cores * v["elapsed_ns"] / v["requests"]
    return Sample(**{**vars(s), "values": {**v, **out}})


def analyse(ctx):
    """Section, or None when no sample has CPU times."""
    samples = Samples(d for d in map(derive, ctx.of("load")) if d is not None)
    if not len(samples):
        return None
    out = Section(id="poller", title="The poller's price", lead="")
    hz = float(ctx.environment.get("tick_hz") or 0)
    found = break_even(ctx, samples)
    out.tables = [load_table(samples, hz), rival_table(ctx, samples)]
    out.tables = [t for t in out.tables if t.rows]
    fig = figure(ctx, samples)
    out.figures = [fig] if fig else []
    out.verdicts = full_load(ctx, samples)
    out.data = {"break_even": [{k: v for k, v in f.items() if k != "iv"} for f in found]}
    out.lead = " ".join(x for x in (burn(samples), *(f["text"] for f in found[:2]), full_text(out.verdicts)) if x)
    out.lead = out.lead or "Processor time was measured, but not of two arms that could be compared."
    out.text = [
        "A core-second is a second for which one of the two cores was busy for the guest's or the server's process, from the "
        "kernel's own clock of each "
        "(/proc/PID/schedstat). The load generator is part of the guest: what it costs is in every arm alike.",
        ("Energy is not measured. " + (f"Cycles are core-seconds times the {hz / 1e9:.2f} GHz of the tick counter, a proxy."
                                       if hz else
                                       "Core-seconds stand for it, a proxy: a spinning core may draw less than a working one, "
                                       "and the clock may change.")),
        "The interrupt-driven arms spin for 50 µs before they sleep, and a polling server sleeps after its idle time "
        "(--idle-ms): at no load both "
        "may cost nothing. " + parts.noise_text(ctx),
    ]
    return out


def rates(samples):
    """Points of the open loop by rate."""
    return sorted((p for p in samples.points() if p.rate > 0), key=lambda p: p.rate)


def three(samples):
    """[(name, point)]: no load, the lowest rate above, closed loop; those that there are."""
    open_loop, full = rates(samples), [p for p in samples.points() if p.rate == 0]
    low = [p for p in open_loop if p.rate > IDLE]
    return ([("no load", p) for p in open_loop if p.rate == IDLE] + [(f"{p.rate:,.0f} requests/s", p) for p in low[:1]] +
            [("full load", p) for p in full[:1]])


def load_table(samples, hz):
    loads = three(samples)
    head = ["arm"] + [f"busy cores, {n}" for n, _ in loads] + [f"requests per core-second, {n}" for n, p in loads
                                                               if p.rate != IDLE]
    if hz:
        head += [f"10^9 cycles/s, {n}" for n, _ in loads]
    rows = []
    for arm in parts.arms_of(samples):
        busy = [parts.median(samples.at(p, arm), "cores") for _, p in loads]
        row = [arm] + [parts.cell(iv, fmt=lambda v: f"{v:.3f}") for iv in busy]
        row += [parts.cell(parts.rate(parts.median(samples.at(p, arm), "cpu_ns"))) for _, p in loads if p.rate != IDLE]
        rows.append(row + ([parts.cell(iv, scale=hz / 1e9) for iv in busy] if hz else []))
    return Table(title="Busy cores and requests per busy core-second", id="poller-loads", head=head, rows=rows,
                 note="Busy cores: of both processes together, at most 2. " + parts.note(samples))


def rival_table(ctx, samples):
    """CPU per request at every load that both arms kept up with, and at full load."""
    rows = []
    for p in sorted(samples.points(), key=lambda p: p.rate or 1e99):
        for rival in RIVALS:
            a, b = samples.at(p, POLLED), samples.at(p, rival)
            if p.rate == IDLE or not served(a) or not served(b):
                continue
            r = parts.ratio(*a.paired(b, "cpu_ns"))
            if r is not None:
                rows.append([f"{p.rate:,.0f}" if p.rate else "closed loop", rival,
                             parts.cell(parts.median(a, "cpu_ns"), unit=" ns"),
                             parts.cell(parts.median(b, "cpu_ns"), unit=" ns"), parts.times(r), parts.answer(r, ctx.noise)])
    return Table(title="CPU time a request: polling against interrupts", id="poller-rivals",
                 head=["offered requests/s", "rival", POLLED, "rival's", "requests per core-second, ratio", "verdict"], rows=rows,
                 note="Ratio above 1: polling does more requests for the same processor time. Loads that either arm did not "
                 "keep up with are left out.")


def served(samples):
    return len(samples) > 0 and (samples.items[0].point.rate == 0 or kept_up(samples) >= KEPT_UP)


def break_even(ctx, samples):
    """For each rival the offered loads at which polling becomes cheaper or dearer, by crossing of busy cores."""
    out = []
    for rival in RIVALS:
        points = [p for p in rates(samples) if served_or_idle(samples.at(p, POLLED))
                  and served_or_idle(samples.at(p, rival))]
        if len(points) < 2:
            continue
        a, b = parts.paired_matrices(samples, POLLED, rival, points, "cores")
        a, b = np.maximum(a, 1e-6), np.maximum(b, 1e-6)
        found, signs = parts.crossings([p.rate for p in points], a, b, ctx.noise)
        base = {"rival": rival, "rates": [p.rate for p in points], "signs": signs}
        for c in found:
            side = "less above" if c.above == "a" else "more above"
            out.append(base | {"rate": c.at.estimate, "low": c.at.low, "high": c.at.high, "n": c.at.n, "iv": c.at, "text":
                               f"Polling costs {side} {parts.num(c.at.estimate)} requests/s [{parts.num(c.at.low)}, "
                               f"{parts.num(c.at.high)}] than {rival}."})
        if not found:
            shown = {s for s in signs if s}
            what = {frozenset([1]): "less", frozenset([-1]): "more"}.get(frozenset(shown))
            at = [f"{p.rate:,.0f}" for p, s in zip(points, signs) if s]
            out.append(base | {"rate": None, "text": f"Against {rival}, the cost of polling is " + (
                f"{what} at {'every rate' if len(at) == len(points) else parts.listed(at) + ' requests/s'} tried, with no "
                "crossing."
                if what else f"not shown to differ at the {len(points)} rates tried" + ("" if not at else " in one direction")
                + ".")})
    return out


def served_or_idle(samples):
    return len(samples) > 0 and (samples.items[0].point.rate == IDLE or served(samples))


def burn(samples):
    """What an idle disk costs, polled and not."""
    idle = [p for p in rates(samples) if p.rate == IDLE]
    if not idle:
        return ""
    got = {a: parts.median(samples.at(idle[0], a), "cores") for a in (POLLED, *RIVALS)}
    have = [f"{a} {iv.estimate:.3f}" for a, iv in got.items() if iv is not None]
    return (f"A disk asked once a second keeps busy (cores): {', '.join(have)}; the polling server looks on for 100 ms after "
            "each request (--idle-ms), and a polling guest for ever (--idle-us)." if have else "")


def full_load(ctx, samples):
    """Verdicts at full load: requests per busy core-second of zero-copy against each rival."""
    out = []
    for p in (p for p in samples.points() if p.rate == 0):
        for rival in RIVALS:
            a, b = samples.at(p, POLLED), samples.at(p, rival)
            r = parts.ratio(*a.paired(b, "cpu_ns"))
            if r is not None:
                out.append(Verdict(claim=f"{p.label()}: {POLLED} against {rival}, requests per busy core-second",
                                   answer={1: "more", -1: "less", 0: "no difference shown"}[parts.faster(r, ctx.noise)],
                                   interval=r,
                                   absolute=f"{POLLED} {parts.num(np.median(a.values('cpu_ns')))} ns of CPU a request; {rival} "
                                            f"{parts.num(np.median(b.values('cpu_ns')))} ns"))
    return out


def full_text(verdicts):
    return ("At full load zero-copy does " + parts.listed(f"{parts.times(v.interval)} the requests per core-second of "
                                                          f"{v.claim.split(' against ')[1].rsplit(',', 1)[0]}"
                                                          for v in verdicts) + "." if verdicts else "")


def figure(ctx, samples):
    points = rates(samples)
    if len(points) < 2:
        return None
    fig, strip, axes = parts.panels(height=420, legend_lines=2)
    for arm in parts.arms_of(samples):
        good = [p for p in points if served_or_idle(samples.at(p, arm))]
        parts.curve(axes[0], [p.rate for p in good], [parts.median(samples.at(p, arm), "cores") for p in good], arm)
        good = [p for p in good if p.rate > IDLE]
        parts.curve(axes[1], [p.rate for p in good], [parts.rate(parts.median(samples.at(p, arm), "cpu_ns"))
                                                      for p in good], arm)
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel("offered requests/s")
        plots.count_axis(ax.xaxis)
    plots.bound(axes[0], 2, "both cores")
    axes[0].set_ylim(0, 2.2)
    axes[0].set_title("busy cores")
    axes[1].set_yscale("log")
    axes[1].set_title("requests per core-second")
    plots.count_axis(axes[1].yaxis)
    parts.legend(strip, axes)
    return Figure(id="poller-figure", title="Processor time against offered load",
                  svg=plots.to_svg(fig, "poller-figure", "Processor time against offered load"),
                  caption="Open loop. Bands: 99 % intervals over process starts. A line ends where its arm no longer kept up.",
                  limits=parts.limits_line(ctx, 4096, memory=True, first="two cores busy"), command=ctx.command("load"))
