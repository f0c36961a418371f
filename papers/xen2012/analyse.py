# SPDX-License-Identifier: BSD-3-Clause
"""Frames per second of copying through premapped memory over a mapping for each frame, by frame size and direction."""

import numpy as np

from ab.papers import papers
from ab.report import plots
from ab.instrument.model import Table

PERSISTENT, COPY, MAP = "premapped", "mapping=single-use,payload=rdma,ring=direct,notify=poll", "zero-copy,mapping=single-use"
NAMES = {PERSISTENT: "copy, mapped once", COPY: "single-use, payload by RDMA", MAP: "single-use, in place"}
WAYS = {"tx": "transmit", "rx": "receive"}


def at(samples, slot, a, op, bs):
    return papers.pick(samples, slot, backend=a["backend"], cost="free", op=op, bs=bs)


def gain(samples, a, op, bs, rival=COPY):
    """(Interval, absolute values, points): frames/s of the copy through memory mapped once over the rival's."""
    return papers.rate_ratio(at(samples, PERSISTENT, a, op, bs), at(samples, rival, a, op, bs))


def shrinks(samples, a):
    """Gain at the small size over gain at the large one, receive, in the same block: (Interval or None, text)."""
    got = [at(samples, slot, a, "rx", bs).by_block("ns_per_request")
           for bs in (a["small"], a["large"]) for slot in (PERSISTENT, COPY)]
    blocks = sorted(set.intersection(*map(set, got)))
    if len(blocks) < papers.MIN_PAIRS:
        return None, f"too few complete blocks: {len(blocks)} of {papers.MIN_PAIRS}"
    small, large = (np.array([got[i + 1][b] / got[i][b] for b in blocks]) for i in (0, 2))
    return papers.ratio_of(large, small), \
        f"gain {np.median(small):.2f} at {a['small']} B, {np.median(large):.2f} at {a['large']} B"


def sizes_of(samples):
    return sorted({p.bs for p in samples.kept().points()})


def table(samples, a):
    rows = []
    for op, way in WAYS.items():
        for bs in sizes_of(samples):
            for rival in (COPY, MAP):
                iv, absolute, _ = gain(samples, a, op, bs, rival)
                if iv:
                    rows.append([way, f"{bs} B", NAMES[rival], papers.interval_text(iv), absolute])
    return Table("Frames per second of copying through memory mapped once, over a mapping for each frame",
                 ["direction", "frame", "against", "ratio, 99 % interval", "absolute values"], rows)


def figure(samples, a):
    fig, axes = plots.new_figure("wide", cols=2, sharey=True)
    sizes = sizes_of(samples)
    for ax, (op, way) in zip(axes, WAYS.items()):
        for i, rival in enumerate((COPY, MAP)):
            got = [(bs, gain(samples, a, op, bs, rival)[0]) for bs in sizes]
            got = [(bs, iv) for bs, iv in got if iv]
            if got:
                plots.lines_with_band(ax, [bs for bs, _ in got], [iv for _, iv in got], label=f"against {NAMES[rival]}",
                                      **plots.sequence(i))
        ax.axhline(1, color=plots.SOFT, linewidth=1)
        plots.size_axis(ax, sizes)
        ax.set_xticks(sizes, [str(bs) for bs in sizes])
        ax.set_yscale("log")
        ax.set_title(way)
        ax.set_xlabel("bytes of a frame")
        papers.legend(ax, fontsize=8)
    axes[0].set_ylabel("frames/s: copying / mapping each")
    plots.ratio_axis(axes[0].yaxis)
    return plots.to_svg(fig, "paper-xen2012")


def analyse(samples, limits, claim, extra):
    checker, a = papers.Checker(claim, extra), claim["analysis"]
    for test, op, size in (("gain-tx", "tx", "small"), ("gain-rx", "rx", "small"), ("frame-tx", "tx", "frame"),
                           ("frame-rx", "rx", "frame"), ("loses", "rx", "large"), ("bulk-tx", "tx", "large")):
        checker.check(test, *gain(samples, a, op, a[size]))
    checker.check("shrinks", *shrinks(samples, a))
    checker.check("in-place-tx", *gain(samples, a, "tx", a["small"], MAP))
    return papers.Result(
        tests=checker.finish(), svg=figure(samples, a) if len(samples.kept()) else "", tables=[table(samples, a)],
        paragraphs=["A frame counts once it was taken by the far end: the port (transmit) or the guest's load (receive). The "
                    "losing region was named beforehand, so that no least of many ratios decides."],
        caption="Above 1, copying through memory that stays mapped does more frames per second than a mapping for each frame. "
                "Bands: 99 % intervals; nothing injected.")
