# SPDX-License-Identifier: BSD-3-Clause
"""Plots: matplotlib without a display, written as inline SVG that takes its colours and its font from the page.

Every colour drawn is a token's light value; to_svg() replaces it by the CSS custom property of that token, so that one plot
reads in light, in dark and on paper. Text stays text. Lengths of figures are in SVG units, which are points of matplotlib
and CSS pixels at full width. Draw with the colours of INK and friends, ARM_COLOUR or style(), never with names such as
"black": fixed_colours() lists what would not follow the theme.
"""

import io
import re
import zlib

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import ticker  # noqa: E402
from matplotlib.figure import Figure as MplFigure  # noqa: E402
from matplotlib.patches import PathPatch  # noqa: E402
from matplotlib.path import Path  # noqa: E402

# token -> (light, dark). Light values are all different: they are how to_svg() recognises a token.
# Arms: Okabe and Ito's colour-blind-safe hues, moved to at least 3:1 against both backgrounds.
PALETTE = {
    "paper": ("#fcfcfb", "#14171b"),
    "panel": ("#f2f3f1", "#1d2126"),
    "ink": ("#1c2024", "#e6e8ea"),
    "soft": ("#555c63", "#a9b1b9"),
    "rule": ("#c9cdd1", "#3c434b"),
    "arm-copy": ("#c24a00", "#ff8f57"),
    "arm-copy-tuned": ("#a86f00", "#f0b93a"),
    "arm-premapped": ("#00805c", "#3fcf9f"),
    "arm-zero-copy": ("#0064a8", "#63b5f4"),
    "arm-unprotected": ("#697077", "#a2abb3"),
    "x1": ("#9c3c77", "#e08fc0"),
    "x2": ("#2b83a3", "#78d0ea"),
    "x3": ("#6c7a00", "#c2cf52"),
    "x4": ("#6a4fb3", "#b3a0f2"),
    "x5": ("#8c5a3c", "#d1a384"),
    "x6": ("#b03040", "#f58a94"),
    "a-wins": ("#f3cdb4", "#5e3217"),
    "b-wins": ("#bcd9ef", "#173f5e"),
    "undecided": ("#e4e5e3", "#2b3036"),
}
INK, SOFT, RULE, PAPER, PANEL = (PALETTE[k][0] for k in ("ink", "soft", "rule", "paper", "panel"))
A_WINS, B_WINS, UNDECIDED = (PALETTE[k][0] for k in ("a-wins", "b-wins", "undecided"))
NAMED = {"copy": ("o", "-"), "copy-tuned": ("s", (0, (5, 1.5))), "premapped": ("^", (0, (3, 1, 1, 1))),
         "zero-copy": ("D", "-"), "unprotected": ("x", (0, (1, 1.2)))}
ARM_COLOUR = {arm: PALETTE["arm-" + arm][0] for arm in NAMED}
EXTRA = [PALETTE[f"x{i}"][0] for i in range(1, 7)]
EXTRA_MARKERS = ["v", "P", "<", ">", "X", "h", "*"]
EXTRA_LINES = [(0, (4, 1)), (0, (2, 1)), (0, (6, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1))]
# Arms that the experiments name, in an order that keeps those which appear in one plot apart.
VARIANTS = ["copy,mapping=deferred", "copy,mapping=cached", "copy,mapping=pool", "copy-tuned,mapping=pool",
            "zero-copy,mapping=single-use", "zero-copy,mapping=deferred", "zero-copy,mapping=cached",
            "zero-copy,notify=suppress", "copy,ring=copy-delta", "copy,notify=suppress", "copy,ring=direct",
            "copy-tuned,mapping=single-use", "copy-tuned,mapping=cached", "vhost-user", "memif", "memif zero-copy"]
SIZES = {"wide": (620, 360), "narrow": (400, 320), "square": (520, 500)}  # SVG units
SEQUENCE = ["-", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1, 1, 1))]

matplotlib.rcParams.update({
    "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 12, "axes.titlesize": 12.5, "axes.labelsize": 12,
    "xtick.labelsize": 11, "ytick.labelsize": 11, "legend.fontsize": 11, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "text.color": INK, "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.edgecolor": RULE, "axes.linewidth": 1.0, "axes.spines.top": False, "axes.spines.right": False,
    "axes.axisbelow": True, "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.6, "grid.alpha": 0.7,
    "xtick.major.size": 3, "ytick.major.size": 3, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "legend.frameon": False, "legend.borderaxespad": 0.0, "legend.handlelength": 2.2, "lines.linewidth": 1.8,
    "lines.markersize": 5.5, "hatch.linewidth": 0.6, "hatch.color": SOFT, "patch.edgecolor": RULE,
    "axes.prop_cycle": matplotlib.cycler(color=list(ARM_COLOUR.values()) + EXTRA), "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none", "axes.unicode_minus": True, "mathtext.default": "regular",
})


# --- figures ------------------------------------------------------------------------------------------------------------

def new_figure(width="wide", rows=1, cols=1, height=None, **subplots):
    """(fig, ax), or (fig, array of axes) with more than one. width: a key of SIZES or SVG units; height in SVG units."""
    w, h = SIZES[width] if isinstance(width, str) else (width, 0.56 * width)
    if height is None:
        height = h if rows == 1 else h * 0.78 * rows
    fig = MplFigure(figsize=(w / 72, height / 72), dpi=72, layout="constrained")
    axes = fig.subplots(rows, cols, **subplots)
    return fig, axes


def bare(arm):
    """Name of the arm of a slot: its A/A twin looks like it."""
    return arm[:-len(" (again)")] if arm.endswith(" (again)") else arm


def style(arm):
    """dict(color, marker, linestyle) of an arm: the same in every figure, told apart in grey by marker and line."""
    arm = bare(arm)
    if arm in NAMED:
        return {"color": ARM_COLOUR[arm], "marker": NAMED[arm][0], "linestyle": NAMED[arm][1]}
    i = VARIANTS.index(arm) if arm in VARIANTS else len(VARIANTS) + zlib.crc32(arm.encode()) % 84
    return {"color": EXTRA[i % len(EXTRA)], "marker": EXTRA_MARKERS[i % len(EXTRA_MARKERS)],
            "linestyle": EXTRA_LINES[i % len(EXTRA_LINES)]}


def colour(arm):
    return style(arm)["color"]


def sequence(i):
    """dict(color, marker, linestyle) for series that are not arms (levels, depths): i counts from 0."""
    return {"color": EXTRA[i % len(EXTRA)], "marker": EXTRA_MARKERS[i % len(EXTRA_MARKERS)],
            "linestyle": SEQUENCE[i % len(SEQUENCE)]}


# --- helpers to draw ----------------------------------------------------------------------------------------------------

def bars_with_intervals(ax, labels, intervals, arms=None, fmt="{:.3g}", scale=1.0, reference=None, hatch=None):
    """Horizontal bars, first label on top, with the interval as a line and the estimate as text.

    intervals: list of Interval or None (not measured); arms: list of names, for the colours; scale multiplies values;
    reference: a vertical line (1 for ratios); hatch: list, for what is not measured or injected.
    """
    arms = arms or [""] * len(labels)
    y = np.arange(len(labels))[::-1]
    top = max([iv.high * scale for iv in intervals if iv is not None and np.isfinite(iv.high)] + [0.0])
    for i, iv in enumerate(intervals):
        if iv is None:
            ax.text(0, y[i], " not measured", va="center", color=SOFT, fontsize=10.5)
            continue
        face = style(arms[i])["color"] if arms[i] else SOFT
        ax.barh(y[i], iv.estimate * scale, height=0.62, color=face, linewidth=0,
                hatch=hatch[i] if hatch else None)
        end = iv.estimate * scale
        if np.isfinite(iv.low) and np.isfinite(iv.high):
            ax.plot([iv.low * scale, iv.high * scale], [y[i], y[i]], color=INK, linewidth=1.3, marker="|", markersize=7)
            end = max(end, iv.high * scale)
        ax.annotate(fmt.format(iv.estimate * scale), (end, y[i]), textcoords="offset points", xytext=(6, 0), va="center",
                    fontsize=11, color=INK)
    if reference is not None:
        ax.axvline(reference, color=SOFT, linewidth=1, linestyle=(0, (4, 2)))
    ax.set_yticks(y, labels)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.set_xlim(0, max(top * 1.2, 1e-12))
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.grid(False, axis="y")


def lines_with_band(ax, x, intervals, arm=None, label=None, connect=True, scale=1.0, **looks):
    """One series with its interval as a band; connect=False where interpolation means nothing: then as bars of error.

    looks overrides style(arm): pass **sequence(i) for series that are not arms.
    """
    x = np.asarray(x, dtype=float)
    est, low, high = (scale * np.array([getattr(iv, k) for iv in intervals], dtype=float)
                      for k in ("estimate", "low", "high"))
    s = {**(style(arm) if arm else sequence(0)), **looks}
    if connect:
        ax.fill_between(x, low, high, color=s["color"], alpha=0.18, linewidth=0)
        ax.plot(x, est, label=label or arm, **s)
        return
    s.pop("linestyle")
    err = np.vstack([np.where(np.isfinite(low), est - low, 0), np.where(np.isfinite(high), high - est, 0)]).clip(0)
    ax.errorbar(x, est, yerr=err, fmt="none", ecolor=s["color"], elinewidth=1.4, capsize=2.5)
    ax.plot(x, est, linestyle="none", label=label or arm, **s)


def scatter_with_intervals(ax, x, y, arm, label=None, annotate=True, scale_x=1.0, scale_y=1.0, offset=(7, 5)):
    """One point of two Intervals, with both intervals as a cross; its name beside it unless annotate is False."""
    s = style(arm)
    px, py = x.estimate * scale_x, y.estimate * scale_y
    for iv, scale, horizontal in ((x, scale_x, True), (y, scale_y, False)):
        if np.isfinite(iv.low) and np.isfinite(iv.high):
            ends = [iv.low * scale, iv.high * scale]
            ax.plot(ends if horizontal else [px, px], [py, py] if horizontal else ends, color=s["color"], linewidth=1.3)
    ax.plot([px], [py], linestyle="none", color=s["color"], marker=s["marker"], markersize=8, label=label or arm)
    if annotate:
        ax.annotate(label or arm, (px, py), textcoords="offset points", xytext=offset, fontsize=10.5, color=INK)


def _cells(edges_x, edges_y, where):
    """One path of the cells (row, column) that are True: rows of a run are one rectangle."""
    verts, codes = [], []
    for r in range(where.shape[0]):
        c = 0
        while c < where.shape[1]:
            if not where[r, c]:
                c += 1
                continue
            first = c
            while c < where.shape[1] and where[r, c]:
                c += 1
            x0, x1, y0, y1 = edges_x[first], edges_x[c], edges_y[r], edges_y[r + 1]
            verts += [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
            codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(verts, codes) if verts else None


def _edges(centres):
    c = np.asarray(centres, dtype=float)
    mid = (c[1:] + c[:-1]) / 2
    return np.concatenate([[c[0]], mid, [c[-1]]])


def region_plane(ax, xs, ys, winner, name_a, name_b, labels=True):
    """Three-valued map: winner[row of ys][column of xs] is -1 where A wins, 1 where B wins, 0 where it is not decided.

    xs, ys: ascending values of the axes, at least two each. Colour and hatch both tell the regions apart; the names are
    written in the middle of each region that has room.
    """
    w = np.asarray(winner)
    ex, ey = _edges(xs), _edges(ys)
    for value, face, hatch, name in ((-1, A_WINS, "//", f"{name_a} wins"), (1, B_WINS, "\\\\", f"{name_b} wins"),
                                     (0, UNDECIDED, None, "not decided")):
        path = _cells(ex, ey, w == value)
        if path is None:
            continue
        ax.add_patch(PathPatch(path, facecolor=face, edgecolor=SOFT if hatch else face, linewidth=0, hatch=hatch,
                               label=name))
        rows = (w == value).sum(axis=1)
        if labels and rows.max() >= 0.2 * w.shape[1] and rows.sum() >= 0.04 * w.size:
            r = int(round(np.average(np.arange(len(rows)), weights=rows)))
            c = np.flatnonzero(w[r] == value)
            if len(c):
                ax.text(np.median(np.asarray(xs, dtype=float)[c]), ys[r], name, ha="center", va="center", color=INK,
                        fontsize=11, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 2.5, "alpha": 0.85})
    ax.set_xlim(ex[0], ex[-1])
    ax.set_ylim(ey[0], ey[-1])
    ax.grid(False)


def anchor(ax, x, y, text, offset=(6, 4)):
    """A published or calibrated point on a plane."""
    ax.plot([x], [y], marker="o", markersize=6, color=INK, markerfacecolor=PAPER, linestyle="none", clip_on=False, zorder=5)
    ax.annotate(text, (x, y), textcoords="offset points", xytext=offset, fontsize=10, color=INK, zorder=6,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1, "alpha": 0.75})


def bound(ax, value, text, horizontal=True):
    """A limit of this machine (R, memcpy, unprotected) as a thin line with its name."""
    (ax.axhline if horizontal else ax.axvline)(value, color=SOFT, linewidth=1.1, linestyle=(0, (1, 1.5)))
    if horizontal:
        ax.text(0.995, value, text, transform=ax.get_yaxis_transform(), ha="right", va="bottom", fontsize=10, color=SOFT)
    else:
        ax.text(value, 0.995, " " + text, transform=ax.get_xaxis_transform(), ha="left", va="top", fontsize=10, color=SOFT)


def legend_above(ax, columns=3):
    """Legend over the axes, where it hides nothing; fewer columns when the names are long."""
    handles, labels = ax.get_legend_handles_labels()
    seen = dict(zip(labels, handles))
    if seen:
        room = 72 * ax.figure.get_figwidth() - 60
        fits = int(room // (6.3 * max(map(len, seen)) + 48))
        ax.legend(list(seen.values()), list(seen), loc="lower left", bbox_to_anchor=(0, 1.02), ncol=max(1, min(columns, fits)),
                  columnspacing=1.4, handletextpad=0.5)


# --- axes and numbers ---------------------------------------------------------------------------------------------------

def _short(v):
    return f"{v:.0f}" if abs(v) >= 100 else f"{v:.3g}"


def ns_text(ns):
    """A time in its natural unit: 212 ns, 3.4 µs, 12 ms, 1.2 s."""
    a = abs(ns)
    if a >= 999.5e6:
        return f"{_short(ns / 1e9)} s"
    if a >= 999.5e3:
        return f"{_short(ns / 1e6)} ms"
    if a >= 999.5:
        return f"{_short(ns / 1e3)} µs"
    return f"{_short(ns)} ns"


def bytes_text(n):
    """A size: 0 B, 512 B, 4 KiB, 1.5 MiB."""
    a = abs(n)
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if a >= 1 << shift:
            return f"{_short(n / (1 << shift))} {unit}"
    return f"{_short(n)} B"


def count_text(v):
    """A count or a rate: 950, 12 k, 3.4 M."""
    a = abs(v)
    for scale, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if a >= scale * 0.9995:
            return _short(v / scale) + unit
    return _short(v)


def _format(axis, text):
    axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: text(v)))
    axis.set_minor_formatter(ticker.NullFormatter())


def ns_axis(axis):
    """axis: ax.xaxis or ax.yaxis, values in nanoseconds."""
    _format(axis, ns_text)
    _log_ticks(axis)


def count_axis(axis):
    """Counts or rates."""
    _format(axis, count_text)
    _log_ticks(axis)


def bytes_axis(axis):
    """Bytes that are not powers of two of a sweep (exposure, rates); a logarithmic axis gets ticks at powers of two."""
    _format(axis, bytes_text)
    if axis.get_scale() == "log":
        low, high = np.log2(np.maximum(sorted(axis.get_view_interval()), 1))
        step = max(1, int(np.ceil((high - low) / 5)))
        axis.set_major_locator(ticker.LogLocator(base=2.0 ** step, numticks=12))
        axis.set_minor_locator(ticker.NullLocator())


def ratio_axis(axis):
    """Ratios: plain numbers with a multiplication sign."""
    _format(axis, lambda v: f"{_short(v)}×")


def _log_ticks(axis):
    if axis.get_scale() == "log":
        lo, hi = sorted(axis.get_view_interval())
        decades = np.log10(hi / lo) if lo > 0 else 9
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.5 else (1,)))
        axis.set_minor_locator(ticker.NullLocator())


def size_axis(ax, sizes, which="x"):
    """log2 axis of request sizes in bytes, labelled 64, 512, 4K, 64K, 1M; at most eight labels."""
    (ax.set_xscale if which == "x" else ax.set_yscale)("log", base=2)
    sizes = sorted(set(sizes))
    step = max(1, int(np.ceil(len(sizes) / 8)))
    shown = sizes[::step]
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(ticker.FixedLocator(shown))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FixedFormatter([_size(s) for s in shown]))


def _size(n):
    if n >= 1 << 20:
        return f"{n / (1 << 20):g}M"
    return f"{n / (1 << 10):g}K" if n >= 1 << 10 else f"{n:g}"


# --- SVG ----------------------------------------------------------------------------------------------------------------

def _variables(text):
    """Every token's light colour becomes var(--p-TOKEN, light)."""
    by_value = {light: token for token, (light, _) in PALETTE.items()}
    by_value.update({"#000000": "ink", "#ffffff": "paper"})

    def sub(m):
        token = by_value.get(m.group(0).lower())
        return f"var(--p-{token}, {PALETTE[token][0]})" if token else m.group(0)
    return re.sub(r"#[0-9a-fA-F]{6}\b", sub, text)


def _own_ids(text, prefix):
    """Ids that are referred to get the figure's prefix, all others go."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}-{m.group(1)}"' if m.group(1) in used else "", text)
    return re.sub(r'(href="#|url\(#)([^")]+)', lambda m: f"{m.group(1)}{prefix}-{m.group(2)}", text)


def _own_font(text):
    """font: 12px 'DejaVu Sans' becomes the page's font in that size and weight."""
    def sub(m):
        head = m.group(1).split()
        size = next(w for w in head if w.endswith("px"))
        weight = "; font-weight: 600" if any(w in ("bold", "600", "700") for w in head) else ""
        slant = "; font-style: italic" if "italic" in head or "oblique" in head else ""
        return f"font-size: {size}{weight}{slant}"
    return re.sub(r"font: ([^;\"]*?px)[^;\"]*", sub, text)


def to_svg(fig, id, title="", description=""):
    """Inline SVG of a matplotlib figure. id is unique in the report; title and description are for screen readers."""
    matplotlib.rcParams["svg.hashsalt"] = id
    buf = io.StringIO()
    fig.savefig(buf, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buf.getvalue()
    text = text[text.index("<svg"):].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = text.replace("xlink:href", "href")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    text = text[text.index(">") + 1:]
    text = _own_font(_own_ids(_variables(text), id))
    text = re.sub(r"\n\s*", "\n", text).replace("\n\n", "\n").strip()
    return svg_head(id, float(box.group(1)), float(box.group(2)), title, description) + text


def svg_head(id, width, height, title="", description=""):
    """Opening tag, title and desc of an inline SVG of the report; its units are CSS pixels at full width."""
    esc = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}

    def safe(t):
        return "".join(esc.get(c, c) for c in t)
    names = [n for n, t in (("t", title), ("d", description)) if t]
    label = f' aria-labelledby="{" ".join(f"{id}-{n}" for n in names)}"' if names else ""
    out = (f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" viewBox="0 0 {width:g} {height:g}"'
           f' style="--w: {width:g}px"{label} stroke-linejoin="round" font-family="var(--font, sans-serif)">\n')
    if title:
        out += f'<title id="{id}-t">{safe(title)}</title>\n'
    if description:
        out += f'<desc id="{id}-d">{safe(description)}</desc>\n'
    return out


def fixed_colours(svg):
    """Colours in an SVG that do not follow the theme: a sorted list, empty when all is well."""
    text = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)
    found = re.findall(r"(?:fill|stroke|color)\s*[:=]\s*\"?\s*(#[0-9a-fA-F]{3,8}|black|white|rgba?\([^)]*\))", text)
    return sorted(set(found))


def css_variables():
    """The tokens as CSS: light, dark by the reader's preference, light on paper."""
    def block(i):
        return " ".join(f"--p-{t}: {v[i]};" for t, v in PALETTE.items())
    return (f":root {{ {block(0)} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {block(1)} }} }}\n")


def standalone(svg):
    """An SVG of to_svg() as a file of its own: readable in light and dark by itself, at its natural size."""
    w, h = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    style_ = (css_variables().replace(":root", "svg") +
              "svg { --font: system-ui, sans-serif; font-family: system-ui, sans-serif; background: var(--p-paper); }")
    head = svg.index(">") + 1
    start = svg[:head].replace('class="plot"', f'class="plot" width="{w}" height="{h}"', 1)
    return f"{start}\n<style>{style_}</style>{svg[head:]}\n"
