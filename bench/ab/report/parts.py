# SPDX-License-Identifier: BSD-3-Clause
"""What several analyses need: picking samples, ratios of paired blocks, crossings of two curves, limits lines, texts."""

from dataclasses import dataclass

import numpy as np

from ab import stats
from ab.report import plots
from ab.instrument.model import Interval, Table, size_name

NS = "ns_per_request"
COUNTERS = (("hcalls", "hypercalls"), ("tce_updates", "TCE updates"), ("rdma_bytes", "bytes by RDMA"),
            ("guest_bytes", "bytes by the guest's CPU"), ("server_bytes", "bytes by the server's CPU"), ("kicks", "kicks"),
            ("irqs", "interrupts"), ("wakes", "wake-ups"))
ORDER = ("copy", "copy-tuned", "premapped", "zero-copy", "unprotected")
NAN = float("nan")


# --- picking ------------------------------------------------------------------------------------------------------------

def data(interval):
    """Interval.data(), or None where nothing was measured."""
    return None if interval is None else interval.data()


def arms_of(samples):
    """Arms that have samples (no twins), named ones first in the order of the ladder, then by name."""
    have = {s.slot for s in samples if s.slot == s.arm}
    return [a for a in ORDER if a in have] + sorted(have - set(ORDER))


def twins_of(samples):
    """Slots that are an arm's identical twin."""
    return sorted({s.slot for s in samples if s.slot != s.arm})


def median(samples, metric=NS):
    """Interval of the median over process starts, or None without samples."""
    x = samples.values(metric)
    return stats.median(x) if np.isfinite(x).any() else None


def rate(interval, per=1e9):
    """An interval of ns per request as requests per second (per=1e9), or None."""
    if interval is None:
        return None
    return Interval(per / interval.estimate, per / interval.high, per / interval.low, interval.n, interval.level)


def speed(samples, point, arm, rival, metric=NS):
    """Requests/s of arm over those of rival, paired by block: an Interval (more than 1: arm is faster), or None."""
    a, b = samples.at(point, arm).paired(samples.at(point, rival), metric)
    return ratio(a, b)


def ratio(a, b):
    """stats.ratio (b over a) that is None without a pair of positive values."""
    out = stats.ratio(a, b)
    return out if out.n else None


def answer(interval, noise):
    """For a speed (more is better): faster, slower, no difference shown; what stats.verdict says."""
    if interval is None:
        return "not measured"
    return stats.verdict("", interval, noise, better="more").answer


def faster(interval, noise):
    """1, -1 or 0: difference shown, and its sign."""
    return {"faster": 1, "slower": -1}.get(answer(interval, noise), 0)


# --- texts --------------------------------------------------------------------------------------------------------------

def num(v):
    return "-" if v is None or not np.isfinite(v) else f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.3g}"


def cell(interval, scale=1.0, unit="", fmt=num):
    """Estimate and interval for a table."""
    if interval is None:
        return "not measured"
    e, lo, hi = (fmt(getattr(interval, k) * scale) for k in ("estimate", "low", "high"))
    return f"{e}{unit}" if not np.isfinite([interval.low, interval.high]).all() else f"{e}{unit} [{lo}, {hi}]"


def times(interval):
    return cell(interval, fmt=lambda v: f"{num(v)}×" if v < 0.1 or v >= 100 else f"{v:.2f}×")


def listed(items):
    """a, b and c"""
    items = list(items)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def plural(n, one, many=None):
    return f"{n} {one if n == 1 else many or one + 's'}"


def note(samples, slots=2):
    """The sentence under a table: level, kind, n."""
    n = sorted({len({s.block for s in samples.at(p, slot)}) for p in samples.points() for slot in samples.slots()} - {0})
    span = " to ".join(str(k) for k in sorted({n[0], n[-1]})) if n else "no"
    return (f"Brackets: {stats.LEVEL:.0%} intervals by bootstrap over {span} process starts; ratios over pairs of the same block."
            .replace("%", " %"))


def absolute(a, b, name_a, name_b):
    """Absolute values beside a ratio: medians in ns of two selections of samples."""
    return "; ".join(f"{n} {num(np.median(s.values(NS)))} ns" for n, s in ((name_a, a), (name_b, b)) if len(s.values(NS)))


def counters_table(samples, point, title, id):
    """Exact counts per request, medians over process starts."""
    shown = [(k, t) for k, t in COUNTERS if len(samples.at(point).values(k))]
    rows = []
    for arm in arms_of(samples.at(point)):
        mine = samples.at(point, arm)
        rows.append([arm] + [num(np.median(mine.values(k))) if len(mine.values(k)) else "-" for k, _ in shown])
    return Table(title=title, id=id, head=["arm"] + [t for _, t in shown], rows=rows,
                 note="Counts of both partitions over exactly the measurement, divided by requests.")


# --- limits -------------------------------------------------------------------------------------------------------------

def memcpy(limits):
    """{size: GB/s of one core's memcpy} where the load's memory lies (L3, or the best level without one), and {size: GB/s} beyond
    the caches. Medians over the results of bench-limits."""
    levels, near, far = {}, {}, {}
    for r in limits:
        for m in r.get("memcpy") or []:
            levels.setdefault(m["size_bytes"], {}).setdefault(m["level"], []).append(m["gb_per_s"])
    for size, got in levels.items():
        med = {k: float(np.median(v)) for k, v in got.items()}
        near[size] = med.get("L3", max(med.values()))
        if "memory" in med or "large" in med:
            far[size] = med.get("memory", med.get("large"))
    return near, far


def limits_line(ctx, bs=0, memory=False, first=""):
    """What bounds requests of bs bytes here: R, and memcpy when payload moves."""
    parts = [first] if first else []
    parts += [f"R (a cache line's round trip between the two cores) {ctx.r_ns:.0f} ns"] if np.isfinite(ctx.r_ns) else []
    near, _ = memcpy(ctx.limits)
    if memory and bs in near:
        parts.append(f"one core's memcpy of {size_name(bs)} in the last cache {near[bs]:.1f} GB/s ({bs / near[bs]:.0f} ns)")
    return ("Limits of this machine: " + "; ".join(parts) if parts else "Limits of this machine: not measured in this run") + "."


def noise_text(ctx):
    return (f"No difference below the A/A floor of {np.expm1(ctx.noise):.1%} counts.".replace("%", " %") if ctx.noise > 0
            else "No A/A control was run, so there is no floor below which a difference is disbelieved.")


def injected(samples):
    """What was injected, for the text; "" when nothing was."""
    costs = sorted({s.point.cost for s in samples} - {"free"})
    return f"Injected costs: {', '.join(costs)}." if costs else ""


# --- crossings ----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Crossing:
    """Between two curves over x: `below` wins left of it, `above` right of it ("a" or "b")."""

    at: Interval
    below: str
    above: str


def matrix(samples, slot, points, metric=NS):
    """{block: {point: value}} as (blocks, array blocks x points with NaN where a block has no value)."""
    per = [samples.at(p, slot).by_block(metric) for p in points]
    blocks = sorted(set().union(*per)) if per else []
    return blocks, np.array([[p.get(b, NAN) for p in per] for b in blocks], dtype=float).reshape(len(blocks), len(points))


def paired_matrices(samples, slot_a, slot_b, points, metric=NS):
    """Two arrays (blocks x points) of the blocks that both slots have."""
    (ka, a), (kb, b) = matrix(samples, slot_a, points, metric), matrix(samples, slot_b, points, metric)
    both = sorted(set(ka) & set(kb))
    return a[[ka.index(k) for k in both]], b[[kb.index(k) for k in both]]


def zero_between(lx, d):
    """Where d changes its sign over lx: the change that splits the curve best (largest area of one sign left of it). A curve of
    one sign is clamped to the end where it is nearer to zero."""
    area = np.concatenate([[0.0], np.cumsum(0.5 * (d[1:] + d[:-1]) * np.diff(lx))])
    changes = np.flatnonzero(np.sign(d[1:]) * np.sign(d[:-1]) <= 0)
    if not len(changes):
        return lx[np.argmin(np.abs(d))]
    i = max(changes, key=lambda k: abs(2 * area[k] - area[-1]))
    return lx[i] if d[i] == d[i + 1] else lx[i] + (lx[i + 1] - lx[i]) * d[i] / (d[i] - d[i + 1])


def crossings(xs, a, b, noise, seed=1):
    """Crossings of two cost curves over xs (ascending, positive), interpolated in log x and log ratio.

    a, b: arrays (blocks x points) of costs, paired by row. A crossing lies between two points at which opposite differences are
    shown (interval excludes 1, and beyond the noise), so that no wiggle counts. Its interval is a bootstrap over blocks.
    Returns (list of Crossing, list with the sign at each x: 1 b costs more (a wins), -1, 0 not shown).
    """
    ok = np.isfinite(a) & np.isfinite(b)
    signs = []
    for j in range(len(xs)):
        iv = ratio(a[ok[:, j], j], b[ok[:, j], j])
        signs.append(faster(iv, noise))
    shown = [j for j, s in enumerate(signs) if s]
    full = ok[:, shown[0]:shown[-1] + 1].all(axis=1) if shown else np.zeros(0, dtype=bool)
    n, out = int(full.sum()), []
    for i, j in zip(shown, shown[1:]):
        if signs[i] == signs[j] or n < stats.MIN_INTERVAL:
            continue
        lx = np.log(np.asarray(xs[i:j + 1], dtype=float))
        pa, pb = a[full, i:j + 1], b[full, i:j + 1]

        def find(rows):
            return float(np.exp(zero_between(lx, np.log(np.median(pb[rows], axis=0)) - np.log(np.median(pa[rows], axis=0)))))
        where = stats.interval(find(np.arange(n)), [find(rows) for rows in stats.resample(n, seed)], n, log=True)
        where = Interval(where.estimate, max(where.low, xs[i]), min(where.high, xs[j]), n)
        out.append(Crossing(where, "a" if signs[i] > 0 else "b", "a" if signs[j] > 0 else "b"))
    return out, signs


# --- plots --------------------------------------------------------------------------------------------------------------

def curve(ax, xs, intervals, arm, scale=1.0, connect=True):
    """A series with its intervals, leaving out what was not measured."""
    have = [(x, iv) for x, iv in zip(xs, intervals) if iv is not None]
    if have:
        plots.lines_with_band(ax, [x for x, _ in have], [iv for _, iv in have], arm=arm, connect=connect, scale=scale)


def panels(rows=1, cols=2, height=400, legend_lines=2, width="wide", **subplots):
    """(fig, axis of the legend, array of axes in reading order): a strip for one legend above all panels."""
    strip = 22 * legend_lines
    body = (height - strip) / rows
    fig, axes = plots.new_figure(width, rows=rows + 1, cols=cols, height=height, squeeze=False,
                                 gridspec_kw={"height_ratios": [strip] + [body] * rows}, **subplots)
    for ax in axes[0]:
        ax.set_axis_off()
    return fig, axes[0, 0], axes[1:].ravel()


def legend(strip, axes, columns=3):
    """One entry for each name that any of the axes has."""
    seen = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels()):
            seen.setdefault(name, handle)
    if seen:
        strip.legend(list(seen.values()), list(seen), loc="upper left", ncol=columns, columnspacing=1.4, handletextpad=0.5,
                     bbox_to_anchor=(0.02, 0.995), bbox_transform=strip.figure.transFigure).set_in_layout(False)
