# SPDX-License-Identifier: BSD-3-Clause
"""Network: frames and bits per second by size, direction, arm and peer, at equal touching; counts of a frame; the ladder; copies
from guest to guest."""

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Section, Table

NAME = "network"
EXPERIMENT, PAIR = "net", "net-pair"
EXPERIMENTS = (EXPERIMENT, "net-sizes", "net-both")  # whose points are rates; no point is in two of them
PEERS = ("vhost-user", "memif", "memif zero-copy")
RIVALS = ("copy", "vhost-user", "memif zero-copy")
LADDER = (("copy", "copy"), ("copy,mapping=pool", "mapping pool"), ("copy,mapping=pool,payload=direct", "payload direct"),
          ("copy,mapping=pool,payload=direct,ring=direct", "ring direct"), ("zero-copy", "notify poll: zero-copy"))
WAYS = {"tx": "guest to port", "rx": "port to guest", "both": "both ways at once"}
# op -> what is a rate of its own: (metric, direction)
LANES = {"tx": ((parts.NS, "guest to port"),), "rx": ((parts.NS, "port to guest"),),
         "both": (("tx_ns", "both at once: guest to port"), ("rx_ns", "both at once: port to guest"))}
TOUCHED = {"headers": "headers only", "all": "all bytes", "": "headers only"}
COUNTS = (("hcalls", "hypercalls"), ("tce_updates", "TCE updates"), ("rdma_bytes", "bytes by RDMA"),
          ("guest_bytes", "bytes copied by the guest's CPU"), ("server_bytes", "bytes copied by the server's CPU"))


def analyse(ctx):
    """Section of the network's experiments, or None when none of them was run."""
    samples, pair = ctx.of(EXPERIMENTS), ctx.of(PAIR)
    if not len(samples) and not len(pair):
        return None
    points = sorted(samples.points(), key=lambda p: (p.touch == "all", list(WAYS).index(p.op), p.bs))
    out = Section(id=NAME, title="Network: frames between a guest and a port", lead="")
    rows, compared = rate_rows(samples, points), comparisons(ctx, samples, points)
    rungs = [(p, steps) for p in points for steps in [ladder_rows(samples, p)] if steps]
    copied = pair_rows(pair)
    out.verdicts = [c["verdict"] for c in compared if c["arm"] == "zero-copy"]
    out.tables = [t for t in (rates_table(rows, samples), ratios_table(compared, samples), counts_table(samples, points),
                              pair_table(copied), ladder_table(rungs), control_table(samples, points)) if t.rows]
    out.figures = figures(ctx, samples, points)
    out.lead = " ".join(x for x in (lead(samples, compared, rows) if rows else "", pair_lead(copied)) if x)
    out.text = texts(ctx, samples, points) if rows else []
    out.data = {"rates": [{k: r[k] for k in ("op", "way", "bs", "touch", "arm", "ns")} | {"interval": parts.data(r["frames"])}
                          for r in rows],
                "ratios": [{k: c[k] for k in ("op", "bs", "touch", "arm", "rival")} |
                           {"interval": parts.data(c["verdict"].interval), "answer": c["verdict"].answer} for c in compared],
                "ladder": [{"op": p.op, "bs": p.bs, "touch": p.touch, "steps": [{"arm": arm, "worth": parts.data(worth)}
                           for arm, _, _, worth in steps]} for p, steps in rungs],
                "pair": copied}
    return out


def order(samples):
    """Named arms, then the peers, then the ladder's."""
    have = parts.arms_of(samples)
    own = [a for a in have if a in parts.ORDER]
    return own + [p for p in PEERS if p in have] + [a for a in have if a not in own and a not in PEERS]


def rate_rows(samples, points):
    out = []
    for p in points:
        here = samples.at(p)
        for metric, way in LANES[p.op]:
            for arm in order(here):
                ns = parts.median(here.where(slot=arm), metric)
                if ns is not None:
                    out.append({"op": p.op, "way": way, "bs": p.bs, "touch": p.touch or "headers", "arm": arm,
                                "ns": ns.estimate, "frames": parts.rate(ns)})
    return out


def comparisons(ctx, samples, points, rivals=RIVALS):
    """Every named arm against each rival at the same point, so at equal touching. Both ways at once: the sum of both."""
    out = []
    for p in points:
        here = samples.at(p)
        noise = ctx.noise_in(here.items[0].experiment)
        for arm in [a for a in order(here) if a in parts.ORDER]:
            for rival in [r for r in rivals if r != arm]:
                mine, other = here.where(slot=arm), here.where(slot=rival)
                iv = parts.speed(samples, p, arm, rival)
                if iv is not None:
                    claim = f"{where(p)}: {arm} against {rival}, frames per second"
                    v = stats.verdict(claim, iv, noise, better="more", absolute=absolute(other, mine, rival, arm))
                    out.append({"op": p.op, "bs": p.bs, "touch": p.touch or "headers", "arm": arm, "rival": rival,
                                "verdict": v})
    return out


def where(p):
    return f"{p.bs} B, {WAYS[p.op]}, {TOUCHED[p.touch]}"


def absolute(a, b, name_a, name_b):
    return "; ".join(f"{n} {1e3 / np.median(s.values(parts.NS)):.3g} M frames/s" for n, s in ((name_a, a), (name_b, b)))


def ladder_rows(samples, point):
    """[(arm, label, ns Interval, worth of the step or None)]; [] unless two neighbouring rungs were measured."""
    out, here = [], samples.at(point)
    for i, (arm, label) in enumerate(LADDER):
        ns = parts.median(here.where(slot=arm))
        if ns is not None:
            out.append((arm, label, ns, parts.speed(samples, point, arm, LADDER[i - 1][0]) if i else None))
    return out if any(worth for *_, worth in out) else []


# --- from guest to guest ------------------------------------------------------------------------------------------------

def pair_rows(samples):
    """[{bs, arm, frames, starts, server, guests, rdma, sum: sorted lists of the bytes of one frame over the starts}]"""
    out = []
    for p in samples.points():
        for arm in order(samples.at(p)):
            mine = samples.at(p, arm)
            by = {k: mine.values(m) for k, m in (("server", "server_bytes"), ("guests", "guest_bytes"), ("rdma", "rdma_bytes"))}
            if all(len(v) == len(mine) for v in by.values()):
                by["sum"] = sum(by.values())
                out.append({"bs": p.bs, "arm": arm, "starts": len(mine), "frames": int(mine.values("requests").sum())} |
                           {k: sorted(set(v.tolist())) for k, v in by.items()})
    return out


def exact(values):
    """One number to the last digit when all starts agree, else the least and the most, rounded."""
    return f"{values[0]:,.10g}" if values[0] == values[-1] else f"{parts.num(values[0])} to {parts.num(values[-1])}"


def pair_lead(rows):
    told = [f"{exact(r['sum'])} bytes of {r['bs']}" for r in rows if r["arm"] == "zero-copy"]
    return f"From guest to guest zero-copy copies {parts.listed(told)} a frame, all by the server's CPU." if told and not any(
        r[k][-1] for r in rows if r["arm"] == "zero-copy" for k in ("guests", "rdma")) else (
        f"From guest to guest zero-copy copies {parts.listed(told)} a frame." if told else "")


def pair_table(rows):
    return Table(title="From guest to guest: bytes copied for one frame, by counters", id="network-pair",
                 head=["frame", "arm", "by the server's CPU", "by the guests' CPUs", "by RDMA", "in all", "copies of the frame",
                       "frames counted", "starts"],
                 rows=[[f"{r['bs']} B", r["arm"], *(exact(r[k]) for k in ("server", "guests", "rdma", "sum")),
                        " to ".join(sorted({f"{v / r['bs']:.4g}" for v in (r["sum"][0], r["sum"][-1])}, key=float)),
                        f"{r['frames']:,}", str(r["starts"])] for r in rows],
                 note="Counters of three partitions over all frames of the sender, which were written and checked to the last "
                      "byte; two numbers are the least and the most of the starts. By RDMA holds the rings too where an arm "
                      "copies them (with ring=direct none), and RDMA and bounces carry the 12 bytes of header with their frame. "
                      "There are two cores: the server has one, both guests share the other and take turns, so that no rate is "
                      "given.")


# --- texts --------------------------------------------------------------------------------------------------------------

def lead(samples, compared, rows):
    mine = [c for c in compared if (c["arm"], c["touch"]) == ("zero-copy", "headers")]
    if any(c["rival"] in PEERS for c in mine):
        n = len({(c["op"], c["bs"]) for c in mine})
        told = [tally(r, [c["verdict"] for c in mine if c["rival"] == r]) for r in RIVALS if any(c["rival"] == r for c in mine)]
        places = parts.plural(n, "size and direction", "sizes and directions")
        return f"Zero-copy, frames per second with headers touched, at {places}: {'; '.join(told)}."
    best = max(rows, key=lambda r: r["frames"].estimate)
    return (f"No peer was measured with zero-copy in this run. The highest rate is {best['frames'].estimate / 1e6:.3g} M frames/s"
            f": {best['arm']}, {best['bs']} B, {best['way']}.")


def tally(rival, verdicts):
    """against vhost-user faster at 2 (1.31 to 1.52 times), slower at 1 (0.68 times), where vhost-user wins"""
    told = []
    for answer, word in (("faster", "faster"), ("slower", "slower"), (stats.NONE, "not shown to differ")):
        r = [f"{x:.2f}" for x in sorted(v.interval.estimate for v in verdicts if v.answer == answer)]
        if r:
            told.append(f"{word} at {len(r)} ({r[0] if r[0] == r[-1] else f'{r[0]} to {r[-1]}'} times)"
                        + (f", where {rival} wins" if answer == "slower" else ""))
    return f"against {rival} {parts.listed(told)}"


def missing(samples, points):
    """["vhost-user (9000 B, guest to port)", ...]: peers that a point at headers only has no samples of."""
    out = []
    for peer in PEERS:
        gone = [p for p in points if p.touch != "all" and not len(samples.at(p, peer))]
        have = [p for p in points if len(samples.at(p, peer))]
        if gone:
            out.append(peer if not have else f"{peer} ({'; '.join(f'{p.bs} B, {WAYS[p.op]}' for p in gone)})")
    return out


def texts(ctx, samples, points):
    out = ["A frame's bytes are without FCS: 1514 is Ethernet's 1518. Gbit/s are of these bytes, without preamble and "
           "gap. From guest to port ends in DPDK's null port; from port to guest comes out of a pcap port, which copies "
           "each frame into a buffer once, as a card would. Both ways at once the pcap port is source and sink, and the guest "
           "sends and takes all it can; ratios there are of the sum.",
           "A peer is two testpmd programs on the same two cores: its generator writes headers only and its sink frees what "
           "comes, so peers stand only beside arms that touch headers only, and have neither a switch nor a port behind them. "
           "Here a learning switch and a port are in the path. vhost-user is tuned: a packed ring, in order, without "
           "mergeable buffers, vectorised; by pilots the best of three settings in either direction. vhost-user and "
           "memif copy a frame once between the two; with memif's zero-copy the client's buffers are the shared memory, and "
           "only the server's side copies. Frames of 2 KiB and more are one larger mbuf in testpmd, as its generator makes no "
           "others; memif without zero-copy carries them in several descriptors of 2 KiB, and our guests in several buffers of "
           "2 KiB.",
           "Both ways at once the work is not the same. Each testpmd gives back what it gets with new addresses (mac): up to "
           "two rings of frames circulate, none is made, allocated or dropped, and the rates of the ways are one rate. This was "
           "faster for every peer than testpmd's generator for both ways (flowgen). Here the guest makes a header for every "
           "frame it sends and frees every frame it gets, and the port copies. That goes against us.",
           "Who touches the payload at 1514 bytes: with zero-copy nobody does from guest to port, as headers are written, the "
           "frame is lent to the port, and the null port frees it; vhost-user copies it once. That is the design's gain and not "
           "a faster copy; what a card behind the port would read is the same in both. From port to guest our pcap port "
           "copies a frame once more than vhost-user's generator, which goes against us.",
           "A frame towards the port counts as passed when the card took it; a trial fails unless the port has sent as many, "
           "but for a ring's worth. A peer's frames are counted where they arrive.",
           parts.noise_text(ctx)]
    gone = missing(samples, points)
    return out + ([f"Not measured in this run: {parts.listed(gone)}."] if gone else [])


# --- tables -------------------------------------------------------------------------------------------------------------

def touched(row):
    how = " (testpmd, frames circulate)" if row["op"] == "both" else " (testpmd)"
    return TOUCHED[row["touch"]] + (how if row["arm"] in PEERS else "")


def rates_table(rows, samples):
    return Table(title="Frames and bits per second", id="network-rates",
                 head=["direction", "frame", "touched", "arm or peer", "M frames/s", "Gbit/s", "ns a frame"],
                 rows=[[r["way"], f"{r['bs']} B", touched(r), r["arm"], parts.cell(r["frames"], 1e-6),
                        parts.cell(r["frames"], 8e-9 * r["bs"]), parts.num(r["ns"])] for r in rows], note=parts.note(samples))


def ratios_table(compared, samples):
    rows = []
    for c in compared:
        v = c["verdict"]
        rows.append([WAYS[c["op"]], f"{c['bs']} B", TOUCHED[c["touch"]], c["arm"], c["rival"], parts.times(v.interval),
                     v.absolute, v.answer])
    return Table(title="Ratios of frames per second, at equal touching", id="network-ratios", rows=rows,
                 head=["direction", "frame", "touched", "arm", "against", "ratio", "absolute", "verdict"],
                 note=parts.note(samples))


def counts_table(samples, points):
    rows = []
    for p in points:
        here = samples.at(p)
        for arm in [a for a in order(here) if a not in PEERS]:
            mine = here.where(slot=arm)
            if len(mine.values("hcalls")):
                rows.append([WAYS[p.op], f"{p.bs} B", TOUCHED[p.touch], arm] +
                            [parts.num(np.median(mine.values(k))) if len(mine.values(k)) else "-" for k, _ in COUNTS])
    return Table(title="Counts of one frame", id="network-counts", rows=rows,
                 head=["direction", "frame", "touched", "arm"] + [t for _, t in COUNTS],
                 note="Counts of both partitions over the measurement, divided by frames; medians. Peers have no such counters.")


def ladder_table(rungs):
    rows = [[WAYS[p.op], f"{p.bs} B", TOUCHED[p.touch], label, parts.cell(ns, unit=" ns"), parts.times(worth) if worth else "-"]
            for p, steps in rungs for _, label, ns, worth in steps]
    return Table(title="The network's ladder: one factor changed from rung to rung", id="network-ladder", rows=rows,
                 head=["direction", "frame", "touched", "rung", "ns a frame", "worth of the step"],
                 note="Worth: ns of the rung before over ns of this one, paired by block.")


def control_table(samples, points):
    rows = []
    for p in points:
        here = samples.at(p)
        for twin in parts.twins_of(here):
            arm = plots.bare(twin)
            iv = parts.speed(samples, p, twin, arm)
            if iv is not None:
                rows.append([where(p), arm, parts.times(iv),
                             absolute(here.where(slot=arm), here.where(slot=twin), arm, "again")])
    return Table(title="A/A control: identical twins", id="network-control", rows=rows,
                 head=["point", "arm", "twin over arm", "absolute"])


# --- figures ------------------------------------------------------------------------------------------------------------

def limits_line(ctx, samples, points):
    free = [f"{p.bs} B {WAYS[p.op]} {1e3 / np.median(v):.3g} M/s" for p in points
            for v in [samples.at(p, "unprotected").values(parts.NS)] if len(v) and p.touch != "all"]
    return parts.limits_line(ctx) + (f" Unprotected (no address check): {', '.join(free)}." if free else "")


def figures(ctx, samples, points):
    points = [p for p in points if p.touch != "all"]
    out = []
    for bs in sorted({p.bs for p in points}):
        for name, ops in (("", ("tx", "rx")), ("both-", ("both",))):
            here = [p for p in points if p.bs == bs and p.op in ops]
            if any(set(order(samples.at(p))) & set(PEERS) for p in here):
                out.append(bars(ctx, samples, f"network-bars-{name}{bs}", here))
    one_way = [p for p in points if p.op != "both"]
    return out + ([sizes(ctx, samples, one_way)] if len({p.bs for p in one_way}) > 1 else [])


def command(ctx, samples, points):
    """Of the experiments that these points come from."""
    names = {samples.at(p).items[0].experiment for p in points}
    return ctx.command(" ".join(n for n in EXPERIMENTS if n in names))


def bars(ctx, samples, id, points):
    here = samples.where(bs=points[0].bs, op={p.op for p in points}, touch=("", "headers"))
    names = [a for a in order(here) if a in parts.ORDER or a in PEERS]
    lanes = [(p, metric, way) for p in points for metric, way in LANES[p.op]]
    fig, axes = plots.new_figure("wide", 1, len(lanes), height=60 + 28 * len(names), squeeze=False)
    for ax, (p, metric, way) in zip(axes[0], lanes):
        intervals = [parts.rate(parts.median(samples.at(p, a), metric), 1e3) for a in names]
        plots.bars_with_intervals(ax, names, intervals, arms=names)
        ax.set_title(way)
        ax.set_xlabel("M frames/s")
    title = f"Frames per second, {points[0].bs} B, headers touched: arms and peers on the same cores"
    title += ", both ways at once" if points[0].op == "both" else ""
    return Figure(id=id, title=title, svg=plots.to_svg(fig, id, title), command=command(ctx, samples, points),
                  limits=limits_line(ctx, samples, points),
                  caption="Medians over process starts. " + parts.note(here))


def sizes(ctx, samples, points):
    fig, strip, axes = parts.panels(1, 2, height=340, sharey=True)
    for ax, op in zip(axes, ("tx", "rx")):
        here = [p for p in points if p.op == op]
        for arm in [a for a in order(samples) if a in parts.ORDER or a in PEERS]:
            parts.curve(ax, [p.bs for p in here], [parts.rate(parts.median(samples.at(p, arm)), 1e3) for p in here], arm)
        ax.set_yscale("log")
        plots.size_axis(ax, [p.bs for p in points])
        ax.set_xticks(*[[f(p.bs) for p in here] for f in (int, str)])
        ax.set_title(WAYS[op])
        ax.set_xlabel("bytes of a frame")
    axes[0].set_ylabel("M frames/s")
    plots.count_axis(axes[0].yaxis)
    parts.legend(strip, axes, 4)
    title = "Frames per second by size, headers touched"
    return Figure(id="network-sizes", title=title, svg=plots.to_svg(fig, "network-sizes", title),
                  caption="Both axes logarithmic. " + parts.note(samples),
                  limits=limits_line(ctx, samples, points), command=command(ctx, samples, points))
