# SPDX-License-Identifier: BSD-3-Clause
"""What nothing injected costs here: real mapping, registered buffers, wake-ups and copies between processes, each beside the
injected cost that it anchors."""

from dataclasses import dataclass

import numpy as np

from ab import stats
from ab.report import plots
from ab.report import parts
from ab.instrument.model import Figure, Section, Table, Verdict, size_name

NAME = "anchors"
BACKEND = "anchor"
SWEPT_NS = 10000.0  # the cost plane injects from 0 to this a call


@dataclass(frozen=True)
class Group:
    """Points whose op begins with one of `ops`; the first of `base` that was measured is what others are compared with."""

    ops: tuple
    title: str
    base: tuple
    anchors: str  # the cost that the difference stands for
    per: str = "a request"


GROUPS = (
    Group(("map-threads",),
          "Mapping for each request while another thread of the process runs on the other core (as in the server)",
          ("standing-window", "standing", "window"),
          "mapping: H_PUT_TCE and H_STUFF_TCE with their TCE updates (--cost hcall and tce)"),
    Group(("map",), "Mapping for each request against a standing window", ("standing-window", "standing", "window"),
          "mapping: H_PUT_TCE and H_STUFF_TCE with their TCE updates (--cost hcall and tce)"),
    Group(("io_uring", "io-uring", "uring"), "io_uring on one file, with and without registered buffers", ("registered",),
          "what registering buffers once saves a real kernel: the mapping lifetime pool, not simulated"),
    Group(("kick", "eventfd", "wake"), "A kick by eventfd against a polled flag", ("poll",),
          "notification: H_SEND_CRQ and its interrupt (--cost hcall)"),
    Group(("copy", "process_vm", "rdma"), "process_vm_readv against memcpy", ("memcpy",), "the set-up of an RDMA call (--cost "
          "rdma)"),
)


def analyse(ctx):
    """Section of the groups that were measured, or None."""
    samples = ctx.samples.kept().where(backend=BACKEND)
    samples = type(samples)(s for s in samples if s.values.get(parts.NS, 0) > 0)
    if not len(samples):
        return None
    out = Section(id="anchors", title="Anchors: what nothing injected costs here", lead="")
    rows, leads = [], []
    for group, points in grouped(samples):
        mine = [r for p in points for r in compare(samples, p, group)]
        if not mine:
            continue
        rows += mine
        out.tables.append(table(group, mine, samples))
        fig = figure(ctx, samples, group, points)
        out.figures += [fig] if fig else []
        out.verdicts += verdicts(ctx, mine)
        leads += sentence(group, mine, ctx.noise)
    out.data = {"rows": [{k: v for k, v in r.items() if k not in ("iv", "base_iv", "ratio", "extra")} | {
        k: parts.data(r[k]) for k in ("iv", "base_iv", "ratio", "extra")} for r in rows]}
    out.lead = " ".join(leads) or f"{parts.plural(len(rows), 'value')}, and none of them in pairs."
    out.text = ["These are real calls of this machine's kernel, with no hypervisor model and nothing injected. They say which "
                "injected costs are plausible on "
                "such a machine, not what a POWER hypervisor charges; the anchors published for that are on the cost plane."]
    return out


def grouped(samples):
    """[(group, points)] in the order of GROUPS, then a group for each further op."""
    points, out = samples.points(), []
    for g in GROUPS:
        mine = [p for p in points if p.op.startswith(g.ops)]
        points = [p for p in points if p not in mine]
        if mine:
            out.append((g, mine))
    for op in sorted({p.op for p in points}):
        out.append((Group((op,), op, (), "nothing that is injected"), [p for p in points if p.op == op]))
    return out


def compare(samples, point, group):
    """One dict for each arm: its interval, and ratio and difference to the base where there is one."""
    arms = parts.arms_of(samples.at(point))
    base = next((b for b in group.base if b in arms), None)
    out = []
    for arm in sorted(arms, key=lambda a: (a != base, a)):
        row = {"op": point.op, "bytes": point.bs, "depth": point.depth, "arm": arm, "base": base, "base_iv": None, "ratio": None,
               "extra": None,
               "iv": parts.median(samples.at(point, arm))}
        if base and arm != base:
            a, b = samples.at(point, base).paired(samples.at(point, arm), parts.NS)
            row |= {"ratio": parts.ratio(a, b), "extra": difference(a, b), "base_iv": parts.median(samples.at(point,
                    base))}
        out.append(row)
    return out


def difference(a, b):
    """Interval of median(b) - median(a) over pairs, or None."""
    n = len(a)
    if not n:
        return None
    i = stats.resample(n, 1)
    return stats.interval(np.median(b) - np.median(a), np.median(b[i], axis=1) - np.median(a[i], axis=1), n, stats.LEVEL)


def where(r):
    return r["op"] + (f", {size_name(r['bytes'])}" if r["bytes"] else "") + (f", depth {r['depth']}" if r["depth"] > 1 else "")


def table(group, rows, samples):
    return Table(title=group.title, id=f"anchors-{group.ops[0]}", head=["what", "how", "ns " + group.per, "times the base",
                                                                        "ns more than the base"],
                 rows=[[where(r), r["arm"], parts.cell(r["iv"]), parts.times(r["ratio"]) if r["ratio"] else "base"
                        if r["arm"] == r["base"] else "-",
                        parts.cell(r["extra"]) if r["extra"] else "-"] for r in rows],
                 note=f"Anchors {group.anchors}. " + parts.note(samples))


def verdicts(ctx, rows):
    """For each pair: more, less or nothing shown; as time, so a ratio above 1 is more."""
    answers = {"faster": "less", "slower": "more"}
    out = []
    for r in rows:
        if r["ratio"] is not None:
            v = stats.verdict("", r["ratio"], ctx.noise)
            out.append(Verdict(claim=f"{where(r)}: time of {r['arm']} against {r['base']}",
                               answer=answers.get(v.answer, v.answer),
                               interval=r["ratio"], absolute=f"{r['arm']} {parts.num(r['iv'].estimate)} ns; {r['base']} "
                                                             f"{parts.num(r['base_iv'].estimate)} ns"))
    return out


def sentence(group, rows, noise):
    """What the group says about its cost: the difference at the smallest size, and whether the cost plane covers it."""
    pairs = [r for r in rows if r["ratio"] is not None]
    out = []
    for arm in sorted({r["arm"] for r in pairs}):
        r = min((r for r in pairs if r["arm"] == arm), key=lambda r: (r["depth"], r["bytes"]))
        if stats.verdict("", r["ratio"], noise).answer == stats.NONE:
            out.append(f"{where(r)}: no difference between {r['arm']} and {r['base']} is shown ({parts.num(r['iv'].estimate)} "
                       "and "
                       f"{parts.num(r['base_iv'].estimate)} ns).")
            continue
        more = r["extra"].estimate
        text = (f"{where(r)}: {r['arm']} costs {plots.ns_text(abs(more))} {'more' if more > 0 else 'less'} than {r['base']} "
                f"({plots.ns_text(r['iv'].estimate)} against {plots.ns_text(r['base_iv'].estimate)})")
        if "--cost" in group.anchors:
            inside = 0 <= more <= SWEPT_NS
            cost = group.anchors.split(" (")[0]
            side = "inside" if inside else "outside"
            text += f", {side} the 0 to {SWEPT_NS / 1000:g} µs that the cost plane injects for {cost}"
        out.append(text + ".")
    return out[:2]


def figure(ctx, samples, group, points):
    """Bars at one size, lines over several."""
    by_op = {}
    for p in points:
        by_op.setdefault((p.op, p.depth), []).append(p)
    key = max(by_op, key=lambda k: len(by_op[k]))
    mine = sorted(by_op[key], key=lambda p: p.bs)
    arms = sorted({a for p in mine for a in parts.arms_of(samples.at(p))})
    if not arms:
        return None
    fig, ax = plots.new_figure("wide", height=330 if len(mine) > 1 else 90 + 40 * len(arms))
    if len(mine) > 1:
        for i, arm in enumerate(arms):
            have = [(p.bs, parts.median(samples.at(p, arm))) for p in mine if len(samples.at(p, arm))]
            plots.lines_with_band(ax, [b for b, _ in have], [iv for _, iv in have], label=arm, **plots.sequence(i))
        ax.set_yscale("log")
        plots.size_axis(ax, [p.bs for p in mine])
        plots.ns_axis(ax.yaxis)
        ax.set_xlabel("bytes")
        ax.set_ylabel("time " + group.per)
        plots.legend_above(ax)
    else:
        plots.bars_with_intervals(ax, arms, [parts.median(samples.at(mine[0], a)) for a in arms])
        ax.set_xlabel("ns " + group.per)
    id = f"anchors-{group.ops[0]}-figure"
    return Figure(id=id, title=group.title, svg=plots.to_svg(fig, id, group.title),
                  caption=f"{where({'op': key[0], 'bytes': mine[0].bs if len(mine) == 1 else 0, 'depth': key[1]})}. Medians "
                  "over process starts with "
                          "99 % intervals. Real calls, nothing injected.",
                  limits=parts.limits_line(ctx, 4096, memory=True), command=ctx.command(NAME))
