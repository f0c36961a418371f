# SPDX-License-Identifier: BSD-3-Clause
"""Where zero-copy loses, looked for on purpose: small and cold pools, tiny buffers, shared cores, short-lived disks."""

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Point, Section, Table, size_name

NAME = "losses"
SUBJECT = "zero-copy"
SLEEPER = "zero-copy,notify=suppress"  # the same without polling: what it does where polling hurts
RIVALS = ("copy", "copy-tuned", "premapped")
CORES = {"shared": "guest and server on one core", "hog": "a busy process on the server's core"}
COLD = 1024  # buffers from which the load walks through more memory than the caches keep


def analyse(ctx):
    """Section, or None when nothing was measured in which zero-copy might lose."""
    rows = conditions(ctx)
    starts = start_up(ctx)
    if not rows and not starts:
        return None
    out = Section(id="losses", title="Where zero-copy loses", lead="")
    if rows:
        out.figures = [figure(ctx, [r for r in rows if r["subject"] == SUBJECT] or rows)]
        out.tables.append(Table(title="Every condition that was tried", id="losses-conditions",
                                head=["condition", "arm", "rival", "requests/s", "rival's", "ratio", "verdict"],
                                rows=[[r["condition"], r["subject"], r["rival"], parts.num(1e9 / r["ns"]),
                                       parts.num(1e9 / r["rival_ns"]),
                                       parts.times(r["iv"]), r["answer"]] for r in rows],
                                note="Ratio of requests per second; below 1 the arm loses. Medians and 99 % intervals over "
                                "pairs of process starts of the "
                                     "same block. Arms without a pool have the same value at every pool size."))
    if starts:
        out.tables.append(start_table(starts))
    lost = [r for r in rows if r["answer"] == "slower"]
    out.verdicts = [stats.verdict(f"{r['condition']}: {r['subject']} against {r['rival']}, requests per second", r["iv"],
                                  ctx.noise, "more",
                                  f"{r['subject']} {parts.num(r['ns'])} ns; {r['rival']} {parts.num(r['rival_ns'])} ns")
                    for r in lost if r["subject"] == SUBJECT]
    out.lead = lead(rows, starts)
    out.text = ["A loss is counted when the whole interval lies below 1 and the difference exceeds the A/A floor. "
                + parts.noise_text(ctx),
                "With one core for guest and server neither can poll for the other without keeping it from running; a polling "
                "server gives its core "
                "up when it finds nothing, and what that costs is measured, not avoided."]
    out.data = {"conditions": [{k: v for k, v in r.items() if k != "iv"} | {"ratio": r["iv"].estimate, "low": r["iv"].low,
            "high": r["iv"].high,
                                                                           "n": r["iv"].n} for r in rows], "start_up": starts}
    return out


def conditions(ctx):
    """One dict for each condition, subject and rival that has both."""
    losses, sizes, out = ctx.of("losses"), ctx.of("sizes", backend="memory"), []
    for p in sorted(losses.points(), key=kind):
        for subject in (SUBJECT, SLEEPER) if p.cores in CORES else (SUBJECT,):
            for rival in RIVALS:
                out += compare(ctx, losses, p, subject, rival, condition(p))
    for p in sorted(sizes.points(), key=lambda p: (p.depth, p.bs)):
        if p.bs not in {q.bs for q in losses.points() if q.depth == p.depth and q.bs < 4096}:
            for rival in RIVALS:
                out += [r for r in compare(ctx, sizes, p, SUBJECT, rival, f"{size_name(p.bs)}, depth {p.depth}")
                        if r["answer"] == "slower"]
    return out


def compare(ctx, samples, point, subject, rival, text):
    """[] or one row. A rival without samples at a pool's size has none because it has no pool: then its usual point counts."""
    a = samples.at(point, subject)
    there = [point] + ([usual(samples, point)] if point.pool_kib and rival != "premapped" else [])
    b = next((x for x in (samples.at(p, rival) for p in there if p is not None) if len(x)), None)
    r = parts.ratio(*a.paired(b, parts.NS)) if len(a) and b is not None else None
    if r is None:
        return []
    return [{"condition": text, "subject": subject, "rival": rival, "ns": float(np.median(a.values(parts.NS))),
             "rival_ns": float(np.median(b.values(parts.NS))), "iv": r, "answer": parts.answer(r, ctx.noise)}]


def usual(samples, point):
    """The same load with a pool as large as it needs, warm, on cores of its own: one that was measured, or None."""
    def fits(p):
        return p.pool_kib == 0 and p.buffers in (0, 128) and all(
            getattr(p, k) == getattr(point, k) for k in vars(Point()) if k not in ("pool_kib", "buffers"))
    return next((p for p in sorted(samples.points()) if fits(p)), None)


def kind(p):
    """Order of the conditions: pools, cold, tiny, cores, the usual."""
    return (0 if p.pool_kib else 1 if p.buffers >= COLD else 2 if p.bs < 4096 else 3 if p.cores != "split" else 4, p.pool_kib,
            p.bs, p.cores, p.depth)


def condition(p):
    what = [f"{p.op} {size_name(p.bs)}", f"depth {p.depth}"]
    if p.pool_kib:
        what.insert(0, f"pool of {size_name(p.pool_kib << 10)}")
    if p.buffers >= COLD:
        what.insert(0, f"cold: {size_name(p.buffers * p.bs)} of buffers in turn")
    elif p.buffers:
        what.insert(0, f"warm: {size_name(p.buffers * p.bs)} of buffers")
    if p.cores in CORES:
        what.insert(0, CORES[p.cores])
    return ", ".join(what)


# --- short-lived disks --------------------------------------------------------------------------------------------------

def requests_to_win(ready_a, ns_a, ready_b, ns_b):
    """Requests after which start-up plus requests of a are done sooner than those of b: 0 from the start, inf never."""
    head, gain = ready_a - ready_b, ns_b - ns_a
    if head <= 0:
        return 0.0 if gain >= 0 else float("nan")
    return head / gain if gain > 0 else float("inf")


def start_up(ctx):
    """For each rival: start-up of both and the break-even number of requests, where quick has them."""
    quick, out = ctx.of("quick", backend="memory", op="read", bs=4096), []
    for p in quick.points():
        for rival in RIVALS:
            a, b = quick.at(p, SUBJECT), quick.at(p, rival)
            four = [x.by_block(m) for x in (a, b) for m in ("ready_ns", parts.NS)]
            blocks = sorted(set.intersection(*map(set, four)))
            if not blocks:
                continue
            ra, na, rb, nb = (np.array([f[k] for k in blocks]) for f in four)
            out.append(break_even(p, rival, ra, na, rb, nb))
    return out


def break_even(point, rival, ra, na, rb, nb):
    """One row, as JSON. Ends that are infinite or undefined are None."""
    n = len(ra)
    estimate = requests_to_win(*(np.median(x) for x in (ra, na, rb, nb)))
    draws = [requests_to_win(*(np.median(x[i]) for x in (ra, na, rb, nb))) for i in stats.resample(n,
            1)] if n >= stats.MIN_INTERVAL else []
    sure = bool(draws) and not np.isnan(draws).any()
    # Of a quotient that may be infinite only the percentiles are sound, whatever n.
    low, high = np.quantile(draws, [(1 - stats.LEVEL) / 2, (1 + stats.LEVEL) / 2], method="nearest") if sure else (parts.NAN,
            parts.NAN)
    ready = {arm: stats.median(x, stats.LEVEL) for arm, x in ((SUBJECT, ra), (rival, rb))}
    return {"point": point.label(), "rival": rival, "n": n, "requests": finite(estimate), "low": finite(low),
            "high": finite(high),
            "sooner": bool(estimate == 0), "never": bool(np.isinf(estimate)), "undecided": not sure,
            **{k: finite(v) for k, v in (("ready_ns", ready[SUBJECT].estimate), ("rival_ready_ns", ready[rival].estimate),
                                        ("ns", np.median(na)), ("rival_ns", np.median(nb)))},
            "ready_text": parts.cell(ready[SUBJECT], fmt=plots.ns_text), "rival_ready_text": parts.cell(ready[rival],
                    fmt=plots.ns_text)}


def finite(v):
    return float(v) if np.isfinite(v) else None


def requests_text(s):
    if s["undecided"]:
        return "not decided"
    if s["never"]:
        return "never" if s["low"] is None else f"never shown; from {parts.num(s['low'])}"
    end = "none" if s["high"] is None else parts.num(s["high"])
    return f"{parts.num(s['requests'])} [{parts.num(s['low'])}, {end}]"


def start_table(starts):
    return Table(title="Short-lived disks: requests until start-up is paid for", id="losses-start",
                 head=["point", "rival", f"{SUBJECT} ready after", "rival ready after", f"{SUBJECT}, ns a request", "rival's",
                       "break-even N*"],
                 rows=[[s["point"], s["rival"], s["ready_text"], s["rival_ready_text"], parts.num(s["ns"]),
                        parts.num(s["rival_ns"]),
                        requests_text(s)] for s in starts],
                 note="Ready: from the start of the guest's process to DRIVER_OK; it includes mapping and granting the pool. "
                 "N*: the number of requests from "
                      "which start-up and requests together are done sooner than the rival's; 0 when start-up is no longer "
                 "either. In a short time the "
                      "requests may be slower than in the steady state that was measured. 99 % intervals, percentiles of the "
                 "bootstrap over pairs.")


# --- words and picture --------------------------------------------------------------------------------------------------

def lead(rows, starts):
    mine = [r for r in rows if r["subject"] == SUBJECT]
    lost, tried = [r for r in mine if r["answer"] == "slower"], len({r["condition"] for r in mine})
    even = [r for r in mine if r["answer"] == stats.NONE]
    if lost:
        worst = sorted(lost, key=lambda r: r["iv"].estimate)
        text = (f"Zero-copy loses in {len(lost)} of {parts.plural(len(mine), 'comparison')}: "
                + "; ".join(f"{r['condition']}, to {r['rival']} ({parts.times(r['iv'])})" for r in worst[:4])
                + (f"; and {len(lost) - 4} more below" if len(lost) > 4 else "") + ".")
    elif len(even) == len(mine) and mine:
        text = (f"Nothing is shown either way in {parts.plural(len(mine), 'comparison')} under "
                f"{parts.plural(tried, 'condition')} in which "
                "zero-copy might lose.")
    elif mine:
        text = (f"Where we looked for a loss on purpose ({parts.plural(tried, 'condition')}, "
                f"{parts.plural(len(mine), 'comparison')}), "
                f"zero-copy did not lose: it is faster in {len(mine) - len(even)}, and no difference is shown in {len(even)}.")
    else:
        text = ""
    paid = [s for s in starts if not s["sooner"] and not s["undecided"]]
    if paid:
        s = max(paid, key=lambda s: (s["never"], s["requests"] or 0))
        text += (f" A short-lived disk pays for its start-up: against {s['rival']} zero-copy is ahead "
                 + ("at no number of requests" if s["never"] else f"from request {requests_text(s)} on") + f" ({s['point']}).")
    elif starts and all(s["sooner"] for s in starts):
        text += " Start-up is no loss either: zero-copy is ready no later than its rivals."
    return text.strip() or "Start-up was measured, and not decided."


def figure(ctx, rows):
    """Every ratio with its interval, a row a condition, a colour a rival."""
    names = list(dict.fromkeys(r["condition"] for r in rows))
    fig, strip, axes = parts.panels(cols=1, height=95 + 27 * len(names), legend_lines=1)
    ax = axes[0]
    for i, rival in enumerate(RIVALS):
        look = plots.style(rival)
        for r in (r for r in rows if r["rival"] == rival):
            y, iv = len(names) - names.index(r["condition"]) + 0.22 * (1 - i), r["iv"]
            if np.isfinite([iv.low, iv.high]).all():
                ax.plot([iv.low, iv.high], [y, y], color=look["color"], linewidth=1.4)
            ax.plot([iv.estimate], [y], color=look["color"], marker=look["marker"], linestyle="none", label=f"against {rival}")
    ax.set_xscale("log")
    plots.bound(ax, 1, "equal", horizontal=False)
    ax.set_yticks([len(names) - k for k in range(len(names))], names)
    ax.set_ylim(0.4, len(names) + 0.6)
    ax.set_xlabel("requests/s of zero-copy over the rival's: left of 1 zero-copy loses")
    ax.grid(False, axis="y")
    plots.ratio_axis(ax.xaxis)
    ratio_ticks(ax)
    parts.legend(strip, axes)
    title = "Zero-copy against its rivals, where it might lose"
    return Figure(id="losses-figure", title=title, svg=plots.to_svg(fig, "losses-figure", title),
                  caption="Dots: ratios of medians; lines: 99 % intervals over pairs of process starts.",
                  limits=parts.limits_line(ctx, 4096, memory=True), command=ctx.command(NAME))


def ratio_ticks(ax):
    """Round ratios that lie in view, 1 always."""
    lo, hi = ax.get_xlim()
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if lo <= t <= hi]
    ax.set_xticks(ticks or [1])
    ax.minorticks_off()
