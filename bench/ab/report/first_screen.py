# SPDX-License-Identifier: BSD-3-Clause
"""The first screen: one sentence, one picture, four numbers, and a few points. Everything is computed."""

import math
from dataclasses import dataclass, field

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, size_name
from ab.report.report_model import Big, interval_text

NAME = "quick"
HEAD_POINTS = (("memory", "read", 4096, 1), ("memory", "read", 4096, 32), ("memory", "read", 65536, 32),
               ("null", "read", 4096, 1))
HEAD_WORDS = ("4 KiB reads from memory, one at a time, every byte checked", "the same with 32 in flight",
              "64 KiB reads, 32 in flight: moving bytes is the work", "4 KiB reads from a null disk, one at a time: no byte touched")
ARMS = ("copy-tuned", "premapped", "zero-copy")  # drawn against copy
TOP = 30  # of the picture's scale; what is above is written
WIDTH = 900  # of the picture, SVG units
# Of the picture's points.
GROUP = {("null", "read"): "null disk", ("memory", "read"): "memory disk, reads", ("memory", "write"): "writes"}
N = 256  # entries of the ring that the copy arm fetches and puts back whole for each kick


@dataclass
class First:
    sentence: str
    numbers: list = field(default_factory=list)  # of report_model.Big
    picture: object = None  # model.Figure
    points: list = field(default_factory=list)  # of str


def build(ctx, sections, at_plateaus, precision):
    """First of a report. at_plateaus: the context at each plateau; precision: the sentence about it."""
    numbers = [n for n in (number(ctx, *p) for p in zip(HEAD_POINTS, HEAD_WORDS)) if n]
    if not numbers:
        return First("The experiment quick, from which the answer is made, was not run with both arms: what was measured is below.",
                     points=[precision] if precision else [])
    return First(sentence(ctx, at_plateaus), [big for big, _ in numbers], picture(ctx, at_plateaus),
                 points(ctx, at_plateaus, sections, precision))


def against(ctx, point, arm, rival):
    """Verdict on requests per second of arm over those of rival at a point of quick, or None."""
    at = ctx.of(NAME).at(point)
    mine, other = at.where(slot=arm), at.where(slot=rival)
    x, y = mine.paired(other, parts.NS)
    if len(x) < stats.MIN_INTERVAL:
        return None
    v = stats.verdict(f"{point.label()}: {arm} against {rival}", stats.ratio(x, y), ctx.noise, better="more",
                      absolute=f"{np.median(y):,.0f} ns with {rival}, {np.median(x):,.0f} ns with {arm}")
    v.plateau = ctx.plateau_name()
    return v


def head_point(ctx, key):
    return next(iter(ctx.of(NAME, backend=key[0], op=key[1], bs=key[2], depth=key[3]).points()), None)


def number(ctx, key, words):
    """(Big, Verdict) of one of the four, or None where it was not measured with both arms."""
    point = head_point(ctx, key)
    v = against(ctx, point, "zero-copy", "copy") if point else None
    if v is None:
        return None
    tuned = against(ctx, point, "zero-copy", "copy-tuned")
    return Big(value=f"{v.interval.estimate:.2f}×", claim=words, interval=interval_text(v.interval), absolute=v.absolute,
               answer=v.answer, plateau=v.plateau,
               second="as many requests as copy" + (f"; {tuned.interval.estimate:.2f}× copy-tuned ({tuned.interval.low:.2f} to "
                                                    f"{tuned.interval.high:.2f})" if tuned else "")), v


def told(found):
    """[Verdict] of zero-copy at all points -> "1.10 to 4.49 times ... (faster at 8 of 9 points)"."""
    r = sorted(v.interval.estimate for v in found)
    many = {a: sum(v.answer == a for v in found) for a in ("faster", "slower")}
    out = f"{r[0]:.2f} to {r[-1]:.2f} times" if len(r) > 1 else f"{r[0]:.2f} times"
    return out, many


def all_points(ctx, arm="zero-copy", rival="copy"):
    found = [against(ctx, p, arm, rival) for p in ctx.of(NAME).points()]
    return [v for v in found if v is not None]


def sentence(ctx, at_plateaus):
    """The answer, in words."""
    mine = all_points(ctx)
    span, many = told(mine)
    where = f" while {ctx.plateau_name()}" if ctx.plateau_name() else ""
    elsewhere = [(c.plateau_name(), told(f)[0]) for c in at_plateaus if c.plateau != ctx.plateau and (f := all_points(c))]
    text = f"Zero-copy does {span} the requests of the 2010 copy design{where}"
    text += "".join(f", {s} while {name}" for name, s in elsewhere)
    text += f": faster at {many['faster']} of {len(mine)} points"
    text += f", slower at {many['slower']}" if many["slower"] else ""
    undecided = len(mine) - many["faster"] - many["slower"]
    text += f", not shown to differ at {undecided}." if undecided else "."
    return text + (" R: the round trip of a cache line between the two cores." if where else "")


# --- points ---------------------------------------------------------------------------------------------------------------

def points(ctx, at_plateaus, sections, precision):
    out = [tuned(ctx), rival(ctx)]
    out += [s.lead for wanted in ("ladder", "losses") for s in sections if s.id == wanted]
    if len(ctx.plateaus) > 1:
        out.append("R, the round trip of a line between the two cores, stood at " + " or ".join(f"{p.r_ns:.0f} ns" for p in ctx.plateaus)
                   + f" by turns as the host moved them. Numbers are for {ctx.plateau_name()} unless they say otherwise.")
    out += [precision, "Nothing is injected here for hypercalls, TCE updates and RDMA set-up, which favours the copy design."]
    return [p for p in out if p]


def tuned(ctx):
    """What the 2010 arm's whole-ring copies are worth: copy beside copy-tuned."""
    found = [v for p in ctx.of(NAME).points() if (v := against(ctx, p, "copy-tuned", "copy"))]
    text = (f"The 2010 design (copy) fetches and puts back its whole ring of N = {N} for each kick ({26 * N + 12:,} bytes); copy-tuned "
            "copies only what is new (copy-delta), unmaps lazily and suppresses notifications")
    if not found:
        return text + "."
    r = [v.interval.estimate for v in found]
    mine = [v.interval.estimate for v in all_points(ctx, "zero-copy", "copy-tuned")]
    return (f"{text}: {min(r):.2f} to {max(r):.2f} times the requests of copy"
            + (f", and zero-copy does {min(mine):.2f} to {max(mine):.2f} times those of copy-tuned." if mine else "."))


def rival(ctx):
    """The sentence about the nearest rival: where zero-copy is ahead, behind and level."""
    found = [(p, v) for p in ctx.of(NAME, backend="memory").points() if (v := against(ctx, p, "zero-copy", "premapped"))]
    if not found:
        return ""

    def at(answer):
        mine = sorted((v.interval.estimate, p) for p, v in found if v.answer == answer)
        return "; ".join(f"{p.label().split(': ')[1]} ({r:.2f}×)" for r, p in mine)
    said = [f"{word} at {at(answer)}" for answer, word in (("faster", "faster"), ("slower", "slower"),
                                                           (stats.NONE, "not decided")) if at(answer)]
    return ("Against its real rival, premapped (copies into buffers mapped once, as IBM's ibmveth has done since 2022), zero-copy is "
            + ", ".join(said) + ".")


# --- picture --------------------------------------------------------------------------------------------------------------

def least_ns(samples, point):
    """ns that no design can go below here: the block asked for, handed from core to core and read, as many in flight as requests;
    where no byte is moved a line there and back, shared by the requests in flight. NaN where it was not measured."""
    ns = samples.at(point).values("handover_ns" if point.backend == "memory" else "r_ns")
    return float(np.median(ns)) / (1 if point.backend == "memory" else point.depth) if len(ns) else math.nan


def order(point):
    return (point.backend != "null", point.op != "read", point.bs, point.depth)


def short(point, wide):
    """Of the axis; wide: there is room for size and unit, else 4K for 4 KiB."""
    size = size_name(point.bs)
    size = size if wide else size.replace(" KiB", "K").replace(" MiB", "M").replace(" B", "")
    return size + (f"\n×{point.depth}" if point.depth > 1 else "\n")


def panel(ax, ctx, points, wide):
    """Ratio to copy of the arms at each point, and the most that R and the hand-over of the bytes allow."""
    samples = ctx.of(NAME)
    for i, p in enumerate(points):
        base = samples.at(p, "copy")
        for k, arm in enumerate(ARMS):
            r = parts.speed(samples, p, arm, "copy")
            if r is None:
                continue
            x, look = i + 0.2 * (k - (len(ARMS) - 1) / 2), plots.style(arm)
            if np.isfinite([r.low, r.high]).all():
                ax.plot([x, x], [r.low, r.high], color=look["color"], linewidth=1.6)
            ax.plot([x], [r.estimate], marker=look["marker"], color=look["color"], linestyle="none", markersize=6.5,
                    label=arm, zorder=4)
        ns, least = base.values(parts.NS), least_ns(samples, p)
        if len(ns) and math.isfinite(least):
            most = float(np.median(ns)) / least
            if most > TOP:
                ax.text(i, 0.985, f"↑ {most:.0f}×", transform=ax.get_xaxis_transform(), ha="center", va="top", fontsize=9)
            else:
                ax.plot([i - 0.42, i + 0.42], [most, most], color=plots.INK, linewidth=2.6, label="the machine's bound")
    ax.axhline(1, color=plots.ARM_COLOUR["copy"], linewidth=1.4, label="copy (2010)")
    ax.set_yscale("log")
    ax.set_xlim(-0.6, len(points) - 0.4)
    cut = [i for i in range(1, len(points)) if (points[i - 1].backend, points[i - 1].op) != (points[i].backend, points[i].op)]
    for i in cut:
        ax.axvline(i - 0.5, color=plots.RULE, linewidth=0.8)
    for i in [0, *cut]:  # above the axes: a bound may lie anywhere in them
        name = GROUP.get((points[i].backend, points[i].op), f"{points[i].backend}, {points[i].op}s")
        ax.text(i - 0.45, 1.015, name, transform=ax.get_xaxis_transform(), va="bottom", fontsize=10, color=plots.SOFT)
    ax.set_xticks(range(len(points)), [short(p, wide) for p in points])
    ax.grid(False, axis="x")
    ax.set_title(ctx.plateau_name() or "R not measured in the same windows", fontsize=12, pad=20)


def picture(ctx, at_plateaus):
    """Figure of all plateaus that have enough starts, the main one first."""
    shown = [ctx] + [c for c in at_plateaus if c.plateau != ctx.plateau and all_points(c)]
    points = sorted({p for c in shown for p in c.of(NAME).points()}, key=order)
    fig, strip, axes = parts.panels(rows=1, cols=len(shown), height=340, legend_lines=1, width=WIDTH, sharey="row")
    for ax, c in zip(axes, shown):
        panel(ax, c, points, len(shown) == 1)
        ax.set_xlabel("bytes of a request; ×32: 32 in flight, else one at a time")
    axes[0].set_ylabel("requests/s, times those of copy")
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(min(low, 0.8), min(max(high, 8), TOP))
    axes[0].yaxis.set_major_locator(plots.ticker.FixedLocator([0.5, 1, 2, 3, 5, 10, 20, 40]))
    axes[0].yaxis.set_major_formatter(plots.ticker.FuncFormatter(lambda v, _: f"{v:g}×"))
    axes[0].yaxis.set_minor_locator(plots.ticker.NullLocator())
    parts.legend(strip, axes, columns=5)
    title = "How many times as fast as the 2010 copy design, by size, depth and arm"
    return Figure(id="first", title=title, svg=plots.to_svg(fig, "first", title),
                  caption=f"Marks: medians over process starts of the ratio of requests per second to copy; lines: {stats.LEVEL:.0%} "
                          "intervals. Black: the most that this machine allows any design: the block asked for, handed to the other "
                          "core and read, as many in flight; on a null disk a line there and back."
                  .replace("%", " %"),
                  limits=parts.limits_line(ctx), command=ctx.command(NAME))

