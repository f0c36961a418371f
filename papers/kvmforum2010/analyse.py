# SPDX-License-Identifier: BSD-3-Clause
"""The slides' sequence from real traces; bytes of a kick by counters; time of a kick against ring bytes."""

import numpy as np

from ab.papers import papers, slides
from ab.report import plots
from ab.instrument.model import Interval, Table

COPY, DIRECT = "copy", "copy,ring=direct"
HEADER, STATUS = 16, 1  # bytes of a request that are not rings: virtio_blk's


def ring_bytes(n):
    """Of one kick with copied rings of n entries: descriptor table, available and used ring."""
    return 16 * n + (2 * n + 6) + (8 * n + 6)


def gather(build):
    """Traces of one configuration in each protocol version, as the steps and the lines where they were found."""
    out = {}
    for proto in ("1", "2"):
        lines = slides.record(build, proto)
        steps = (slides.guest_steps(proto), slides.SERVER)
        out[proto] = [{"who": who, "steps": s, "lines": [ln[i].strip() if i is not None else None
                                                         for i in slides.found(ln, s)]}
                      for who, s, ln in zip(("guest", "server"), steps, lines)]
    return {"traces": out}


def whole(x):
    """Not a sample of anything: smallest and largest of exact values."""
    return Interval(float(np.median(x)), float(np.min(x)), float(np.max(x)), len(x), 1.0) if len(x) else None


def sequence(checker, extra, proto):
    sides = extra.get("traces", {}).get(proto, [])
    seen = [line is not None for side in sides for line in side["lines"]]
    share = whole([sum(seen) / len(seen)]) if seen else None
    checker.check(f"sequence-{proto}", share, f"{sum(seen)} of {len(seen)} steps" if seen else "no trace was recorded")


def copied_per_kick(samples):
    """Ring bytes of each kick, one number a sample: all RDMA bytes less payload, header and status."""
    return np.array([(s.values["rdma_bytes"] - s.point.bs - HEADER - STATUS) / s.values["kicks"] for s in samples
                     if s.values.get("kicks")])


def check_bytes(checker, samples):
    both = {}
    for slot in (COPY, DIRECT):
        here = papers.pick(samples, slot)
        both[slot] = [(s.point.queue_size, b) for p in here.points()
                      for s in [x for x in here if x.point == p] for b in copied_per_kick([s])]
    checker.check("bytes", whole([b / ring_bytes(n) for n, b in both[COPY]]), f"{len(both[COPY])} samples, " + ", ".join(
        f"N = {n}: {np.median([b for m, b in both[COPY] if m == n]):,.0f} B" for n in sorted({n for n, _ in both[COPY]})))
    checker.check("in-place-bytes", whole([b for _, b in both[DIRECT]]), f"{len(both[DIRECT])} samples")


def kick_times(samples, slot, batch):
    """{N: {block: ns a kick}}"""
    here = papers.pick(samples, slot, batch=batch, depth=batch)
    return {n: {k: v * batch for k, v in here.where(queue_size=n).by_block("ns_per_request").items()}
            for n in sorted({p.queue_size for p in here.points()})}


def slopes(samples, batch):
    """Of each block that has all rings: ns of a kick a ring byte, copied less in place."""
    copy, direct = (kick_times(samples, slot, batch) for slot in (COPY, DIRECT))
    sizes = sorted(set(copy) & set(direct))
    if len(sizes) < 2:
        return []
    blocks = set.intersection(*[set(t[n]) for t in (copy, direct) for n in sizes])
    x = [ring_bytes(n) for n in sizes]
    return [np.polyfit(x, [copy[n][b] - direct[n][b] for n in sizes], 1)[0] for b in sorted(blocks)]


def check_times(checker, samples, limits):
    a = checker.claim["analysis"]
    s = papers.median_of(slopes(samples, a["batch"]))
    memcpy = papers.memcpy_ns(limits, 65536)
    checker.check("slope", s, f"memcpy beyond the caches: {memcpy / 65536:.3f} ns/B" if memcpy else "")
    direct, copy = (kick_times(samples, slot, a["batch"]) for slot in (DIRECT, COPY))
    low, high = direct.get(a["low_entries"], {}), direct.get(a["high_entries"], {})
    blocks = sorted(set(low) & set(high))
    x, y = np.array([low[b] for b in blocks]), np.array([high[b] for b in blocks])
    checker.check("flat", papers.ratio_of(x, y),
                  f"{np.median(x):,.0f} ns and {np.median(y):,.0f} ns a kick" if blocks else "not measured")
    small = [n for n in copy if n < a["fit_below"]]
    target = copy.get(a["high_entries"], {})
    blocks = sorted(set.intersection(*[set(copy[n]) for n in small], set(target))) if len(small) > 1 else []
    fitted = np.array([np.polyval(np.polyfit([ring_bytes(n) for n in small], [copy[n][b] for n in small], 1),
                                  ring_bytes(a["high_entries"])) for b in blocks])
    measured = np.array([target[b] for b in blocks])
    checker.check("predicted", papers.ratio_of(measured, fitted),
                  f"{np.median(fitted):,.0f} ns predicted, {np.median(measured):,.0f} ns measured" if blocks else "")


def figure(samples):
    fig, axes = plots.new_figure("wide", cols=2)
    batches = sorted({p.batch for p in samples.kept().points()})
    for i, batch in enumerate(batches):
        for slot, line in ((COPY, "-"), (DIRECT, (0, (2, 1)))):
            times = kick_times(samples, slot, batch)
            got = [(n, papers.median_of(list(t.values()))) for n, t in times.items()]
            got = [(n, iv) for n, iv in got if iv]
            if got:
                plots.lines_with_band(axes[0], [ring_bytes(n) for n, _ in got], [iv for _, iv in got],
                                      label=f"batch {batch}, {'in place' if slot == DIRECT else 'copied'}",
                                      **{**plots.sequence(i), "linestyle": line})
        here = papers.pick(samples, COPY, batch=batch, depth=batch)
        rings = sorted({p.queue_size for p in here.points()})
        b = [float(np.median(copied_per_kick(here.where(queue_size=n)))) for n in rings]
        axes[1].plot(rings, b, linestyle="none", marker=plots.sequence(i)["marker"], color=plots.sequence(i)["color"],
                     label=f"batch {batch}", markersize=7 + 2 * (len(batches) - i), fillstyle="none")
    rings = sorted({p.queue_size for p in samples.kept().points()})
    axes[1].plot(rings, [ring_bytes(n) for n in rings], color=plots.SOFT, linewidth=1, label="26N + 12")
    axes[0].set_xlabel("ring bytes of a copied kick")
    axes[0].set_ylabel("time of a kick")
    plots.ns_axis(axes[0].yaxis)
    plots.bytes_axis(axes[0].xaxis)
    if rings:
        axes[0].set_xticks(range(0, ring_bytes(max(rings)) + 1, 8192))
        plots.size_axis(axes[1], rings)
        plots.size_axis(axes[1], [512 << (2 * i) for i in range(4)], "y")
    axes[1].set_xlabel("entries of the ring, N")
    axes[1].set_ylabel("ring bytes a kick, by counters")
    papers.legend(axes[0], fontsize=8)
    papers.legend(axes[1], fontsize=9)
    return plots.to_svg(fig, "paper-kvmforum2010")


def sequence_table(extra, proto):
    sides = extra.get("traces", {}).get(proto, [])
    rows = [[side["who"], step.strip().replace("|", "\\|"), (line or "**missing**").replace("|", "\\|")]
            for side in sides for step, line in zip(side["steps"], side["lines"])]
    return Table(f"The configuration as traced, protocol version {proto}", ["trace of", "step looked for", "line found"], rows,
                 "Step: a regular expression, searched after the line of the step before it.")


def analyse(samples, limits, claim, extra):
    checker = papers.Checker(claim, extra)
    for proto in ("1", "2"):
        sequence(checker, extra, proto)
    check_bytes(checker, samples)
    check_times(checker, samples, limits)
    return papers.Result(
        tests=checker.finish(), svg=figure(samples) if len(samples.kept()) else "", tables=[sequence_table(extra, "1")],
        paragraphs=["Bytes are counted by the hypervisor model and exact; their interval is smallest to largest, not a "
                    "confidence interval. The slope takes the difference between copied rings and rings in place in the same "
                    "block, because a larger ring also spreads its entries over more cache lines."],
        caption="Left: time of a kick (batch requests) against the bytes that copied rings cost it. Right: ring bytes of a kick "
                "by counters, with the formula.")
