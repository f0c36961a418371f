# SPDX-License-Identifier: BSD-3-Clause
"""In place, bounce and copy from 64 B to 1 MiB: time and bytes per second by size, and where the better one changes."""

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Section, Table, size_name

NAME = "sizes"
SINGLE = "zero-copy,mapping=single-use"
# (first, second, what the pair asks)
PAIRS = (("zero-copy", "premapped", "in place against a copy by the guest into its pool"),
         ("premapped", "copy", "a copy by the guest against mapping and RDMA"),
         (SINGLE, "premapped", "mapping for each request against a copy by the guest"),
         ("copy", "copy-tuned", "the 2010 design against itself tuned"))
SHORT = 512  # below: outside the virtio-blk specification


def analyse(ctx):
    """Section, or None without samples of at least two sizes."""
    samples = ctx.of("sizes")
    panels = [(backend, depth, points) for backend in ("memory", "null") for depth in sorted({s.point.depth for s in samples})
              if len(points := points_of(samples, backend, depth)) >= 2]
    if not panels:
        return None
    out = Section(id="sizes", title="In place, bounce, copy: which at which size", lead="")
    found = []
    for backend, depth, points in panels:
        found += crossover_rows(ctx, samples, backend, depth, points)
        out.figures.append(figure(ctx, samples, backend, depth, points))
    out.tables = [crossover_table(found, samples), *(size_table(samples, *p) for p in panels)]
    out.data = {"crossovers": [{k: v for k, v in f.items() if k != "iv"} for f in found]}
    out.lead = lead(found)
    out.text = texts(ctx, samples)
    return out


def points_of(samples, backend, depth):
    return sorted((p for p in samples.where(backend=backend, depth=depth, op="read").points()), key=lambda p: p.bs)


def crossover_rows(ctx, samples, backend, depth, points):
    """One dict for each crossing, or one for a pair that has none."""
    out = []
    for first, second, what in PAIRS:
        a, b = parts.paired_matrices(samples, first, second, points)
        use = [j for j in range(len(points)) if (np.isfinite(a[:, j]) & np.isfinite(b[:, j])).any()]
        if len(use) < 2:
            continue
        xs = [points[j].bs for j in use]
        found, signs = parts.crossings(xs, a[:, use], b[:, use], ctx.noise)
        row = {"backend": backend, "depth": depth, "first": first, "second": second, "what": what,
               "from_bytes": xs[0], "to_bytes": xs[-1], "signs": dict(zip(map(str, xs), signs)), "absolute":
               ends(points, use, a, b, first, second)}
        out += [row | {"size": c.at.estimate, "low": c.at.low, "high": c.at.high, "n": c.at.n, "level": c.at.level, "iv": c.at,
                       "smaller": first if c.below == "a" else second, "larger": first if c.above == "a" else second,
                       "text": f"{first if c.below == 'a' else second} below, {first if c.above == 'a' else second} above"}
                for c in found] or [row | {"size": None, "text": none_text(xs, signs, first, second, len(a))}]
    return out


def ends(points, use, a, b, first, second):
    """Medians at the smallest and largest size."""
    return "; ".join(f"{size_name(points[j].bs)}: {parts.num(np.nanmedian(a[:, j]))} and {parts.num(np.nanmedian(b[:, j]))} ns"
                     for j in (use[0], use[-1])) + f" ({first} and {second})"


def none_text(xs, signs, first, second, n):
    if n < stats.MIN_VERDICT:
        return f"not decided: {parts.plural(n, 'pair')} of process starts, {stats.MIN_VERDICT} are needed"
    shown = {s for s in signs if s}
    text = f"no crossover between {size_name(xs[0])} and {size_name(xs[-1])}"
    if not shown:
        return text + ", no difference shown at any size"
    at = [size_name(x) for x, s in zip(xs, signs) if not s]
    return (f"{text}, {first if shown == {1} else second} is faster at "
            + (f"{sum(map(bool, signs))} of {len(xs)} sizes (none shown at {parts.listed(at)})" if at else "every size"))


def crossover_table(found, samples):
    rows = [[f"{f['backend']}, depth {f['depth']}", f"{f['first']} / {f['second']}",
             "none" if f["size"] is None else parts.cell(f["iv"], fmt=plots.bytes_text), f["text"], f["absolute"]] for f in found]
    return Table(title="Crossover sizes", id="sizes-crossover", head=["where", "pair", "crossover s*", "which wins",
                                                                      "absolute values"],
                 rows=rows, note="s* is interpolated in log size and log ratio between two sizes at which opposite differences "
                 "are shown; its interval is of the measurement, not of the interpolation. "
                 + parts.note(samples))


def size_table(samples, backend, depth, points):
    mine = samples.where(backend=backend, depth=depth, op="read")
    arms = parts.arms_of(mine)
    rows = []
    for p in points:
        row = [size_name(p.bs)]
        for a in arms:
            row.append(parts.cell(parts.median(mine.at(p, a))))
        r = parts.speed(mine, p, "zero-copy", "premapped")
        rows.append(row + [parts.times(r) if r else "-"])
    return Table(title=f"Nanoseconds a request, {backend} backend, depth {depth}", id=f"sizes-{backend}-{depth}",
                 head=["size"] + arms + ["zero-copy / premapped, requests/s"], rows=rows, note=parts.note(mine))


def figure(ctx, samples, backend, depth, points):
    """ns per request and GB/s over the size."""
    mine = samples.where(backend=backend, depth=depth, op="read")
    fig, strip, axes = parts.panels(height=430, legend_lines=3)
    sizes = [p.bs for p in points]
    for arm in parts.arms_of(mine):
        ivs = [parts.median(mine.at(p, arm)) for p in points]
        parts.curve(axes[0], sizes, ivs, arm)
        parts.curve(axes[1], sizes, [gigabytes(p.bs, iv) for p, iv in zip(points, ivs)], arm)
    near, far = parts.memcpy(ctx.limits)
    for ax, unit in ((axes[0], lambda s, g: s / g), (axes[1], lambda s, g: g)):
        for roof, line in ((near, "-"), (far, (0, (1, 1.5)))) if backend == "memory" else ():
            x = [s for s in sorted(roof) if sizes[0] <= s <= sizes[-1]]
            ax.plot(x, [unit(s, roof[s]) for s in x], color=plots.SOFT, linewidth=1.1, linestyle=line, zorder=1,
                    label="memcpy, last cache" if roof is near else "memcpy, beyond the caches")
        ax.set_yscale("log")
        ax.set_xlabel("bytes a request")
        plots.size_axis(ax, sizes)
    axes[0].set_title("time a request")
    axes[1].set_title("GB/s of payload")
    plots.ns_axis(axes[0].yaxis)
    plots.count_axis(axes[1].yaxis)
    parts.legend(strip, axes)
    id = f"sizes-{backend}-depth{depth}"
    title = f"Size of a request, {backend} backend, depth {depth}"
    roof = ("Grey: one core's memcpy of the same size, the roofline of any design that moves each byte once. "
            if backend == "memory" else "")
    return Figure(id=id, title=title, svg=plots.to_svg(fig, id, title),
                  caption="Lines: medians over process starts, bands: 99 % intervals. " + roof +
                  ("Below 512 B the disk is started with short=on, outside the virtio-blk specification." if sizes[0] < SHORT
                   else ""),
                  limits=parts.limits_line(ctx, 65536, memory=backend == "memory"), command=ctx.command(NAME))


def gigabytes(size, iv):
    return parts.rate(iv, per=float(size))  # a byte per ns is 10^9 bytes per second


def lead(found):
    """The first pair in words, then where the others cross."""
    main = [f for f in found if (f["first"], f["second"]) == ("zero-copy", "premapped")]
    out = [sentence(f) for f in main[:2]]
    crossed = [f for f in found if f["size"] is not None and f not in main]
    if crossed:
        out.append("Elsewhere: " + "; ".join(sentence(f).rstrip(".") for f in crossed[:2]) + ".")
    elif len(found) > len(main):
        out.append(f"No other pair crosses in {parts.plural(len(found) - len(main), 'comparison')}.")
    return " ".join(out) or "No pair of arms was measured at two sizes."


def sentence(f):
    where = f"{f['backend']} backend, depth {f['depth']}"
    if f["size"] is None:
        return f"{f['first']} and {f['second']} ({where}): {f['text']}."
    return (f"{f['smaller']} is faster than {f['larger']} below {plots.bytes_text(f['size'])} "
            f"[{plots.bytes_text(f['low'])}, {plots.bytes_text(f['high'])}], slower above ({where}).")


def texts(ctx, samples):
    out = [parts.noise_text(ctx)]
    missing = [a for a in (SINGLE, "copy-tuned", "unprotected") if a not in parts.arms_of(samples)]
    if missing:
        out.append(f"Not measured: {parts.listed(missing)}.")
    out.append("Every byte of the memory backend's reads is moved by the server and checked by the guest; the null backend "
               "touches no data, but RDMA and bouncing still move it: with it the comparison is of moving with not moving.")
    return out
