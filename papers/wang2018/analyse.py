# SPDX-License-Identifier: BSD-3-Clause
"""One factor, ring access, exchanged in two surroundings: small requests and bulk."""

from ab.papers import papers
from ab.report import plots
from ab.instrument.model import size_name

# surroundings -> (copied ring, copy-delta, in place)
STEPS = {"copy": ("copy", "copy,ring=copy-delta", "copy,ring=direct"),
         "zero": ("zero-copy,ring=copy", "zero-copy,ring=copy-delta", "zero-copy")}


def step(samples, to, of, **point):
    return papers.rate_ratio(papers.pick(samples, of, **point), papers.pick(samples, to, **point))


def points(claim):
    """(label, what of Point) of everything that is compared: small requests first."""
    a = claim["analysis"]
    small = {"backend": "null", "bs": a["small"], "depth": a["depth"]}
    return small, [{"backend": "memory", "bs": bs, "depth": a["depth"]} for bs in a["bulk"]]


def figure(samples, claim):
    small, bulk = points(claim)
    labels, intervals, arms = [], [], []
    for around, (copied, delta, direct) in STEPS.items():
        for name, base in (("copied", copied), ("copy-delta", delta)):
            for p in [small, *bulk]:
                labels.append(f"{name} to in place, as in {'zero-copy' if around == 'zero' else 'copy'}, {size_name(p['bs'])}")
                intervals.append(step(samples, base, direct, **p)[0])
                arms.append("zero-copy" if around == "zero" else "copy")
    fig, ax = plots.new_figure("wide")
    plots.bars_with_intervals(ax, labels, intervals, arms, reference=1)
    ax.set_xlabel("rate with rings in place / rate before the step")
    return plots.to_svg(fig, "paper-wang2018")


def analyse(samples, limits, claim, extra):
    checker = papers.Checker(claim, extra)
    small, bulk = points(claim)
    for around, (copied, delta, direct) in STEPS.items():
        checker.check(f"small-{around}", *step(samples, copied, direct, **small))
        checker.check(f"delta-{around}", *step(samples, delta, direct, **small))
        for p in bulk:
            checker.check(f"bulk-{around}", *step(samples, copied, direct, **p), where=size_name(p["bs"]))
    return papers.Result(
        tests=checker.finish(), svg=figure(samples, claim) if len(samples.kept()) else "",
        paragraphs=["One factor changes in each ratio; mapping, payload and notification stay. A gain in the copy surroundings "
                    "has to show beside mapping, payload copies and hypercalls of the same request, so its size depends on "
                    "them."],
        caption="Rate after the step divided by the rate before it, with 99 % intervals; 1 is no change. The published change is "
                "1.23 to 1.24 for small packets and none for bulk.")
