# SPDX-License-Identifier: BSD-3-Clause
"""The network's arms where they danced: frames per second against copy and premapped, on a plateau of R. Peers can't dance, so they
stand in the section of samples of their own (network.py)."""

from ab.analyses.peers import network
from ab.instrument.model import Section
from ab.report import parts

NAME, EXPERIMENT = "network_arms", "net-arms"
RIVALS = ("copy", "premapped")


def analyse(ctx):
    """Section of net-arms, or None when it was not run."""
    samples = ctx.of(EXPERIMENT)
    points = sorted(samples.points(), key=lambda p: (list(network.WAYS).index(p.op), p.bs))
    compared = network.comparisons(ctx, samples, points, RIVALS)
    if not compared:
        return None
    out = Section(id=NAME, title="Network: the arms, danced", lead=lead(compared))
    out.verdicts = [c["verdict"] for c in compared if c["arm"] == "zero-copy"]
    out.tables = [t for t in (network.ratios_table(compared, samples), network.counts_table(samples, points),
                              network.control_table(samples, points)) if t.rows]
    for t in out.tables:
        t.id = t.id.replace("network-", "network-arms-")
    out.text = ["Both ways at once a frame of either direction counts.", parts.noise_text(ctx)]
    out.data = {"ratios": [{k: c[k] for k in ("op", "bs", "touch", "arm", "rival")} |
                           {"interval": parts.data(c["verdict"].interval), "answer": c["verdict"].answer} for c in compared]}
    return out


def lead(compared):
    """Zero-copy against copy at each point."""
    told = [f"{network.WAYS[c['op']]}, {c['bs']} B: {parts.times(c['verdict'].interval)}" for c in compared
            if (c["arm"], c["rival"]) == ("zero-copy", "copy")]
    return ("Frames per second of zero-copy over those of copy: " if told else "Zero-copy was not measured beside copy") + "; ".join(told) + "."
