# SPDX-License-Identifier: BSD-3-Clause
"""Simulated samples whose truth is known: what an analysis should find is what was put in. Deterministic by seed."""

import os
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
from ab import stats  # noqa: E402
from ab.instrument.model import AGAIN, Context, Sample, Samples  # noqa: E402
from ab.analyses import costs  # noqa: E402
from ab.report import plots  # noqa: E402
from ab.stats import time_model  # noqa: E402

FACTORS = ("mapping", "payload", "ring", "notify")
NAMED = {"copy": ("single-use", "rdma", "copy", "crq"), "copy-tuned": ("deferred", "rdma", "copy-delta", "suppress"),
         "premapped": ("pool", "bounce", "direct", "poll"), "zero-copy": ("pool", "direct", "direct", "poll"),
         "unprotected": ("pool", "unchecked", "direct", "poll")}


def cheaply(draws=1000):
    """For tests of what a section says of what was planted: how well intervals cover is test_stats.py's, and a third of the draws is
    enough here; a figure is drawn when its name is first seen, which shows that it can be, and afterwards is that drawing."""
    stats.RESAMPLES, time_model.DRAWS, costs.DRAWS = draws, 30, 80
    draw, drawn = plots.to_svg, {}

    def to_svg(fig, name, *args, **kw):
        if name not in drawn:
            drawn[name] = draw(fig, name, *args, **kw)
        return drawn[name]
    plots.to_svg = to_svg


def levels(arm):
    """{factor: level} of an arm as vio-blk takes it: a name, levels, or both."""
    out = {}
    if arm.startswith("vhost-user-blk"):
        arm = "zero-copy"  # a peer in place: no call, no copy of rings
    for part in arm.split()[0].split(","):  # without further options of its programs
        if "=" in part:
            k, v = part.split("=", 1)
            out[k] = v
        else:
            out.update(zip(FACTORS, NAMED[part]))
    return out


def injected(cost):
    """(hcall, tce, rdma) ns of a --cost text."""
    presets = {"free": (0, 0, 0), "vmexit": (700, 0, 0), "ibmvnic": (2500, 0, 0), "ibmvnic-indirect": (3350, 0, 0)}
    if cost in presets:
        return presets[cost]
    got = dict(p.split("=") for p in cost.split(","))
    return tuple(int(got.get(k, 0)) for k in ("hcall", "tce", "rdma"))


def counters(arm, point):
    """Counts per request as docs/architecture.md, section 4, has them for the copy arm at depth 1; fewer where shared."""
    lv, pages = levels(arm), -(-point.bs // 4096)
    batch = point.batch or max(1, point.depth // 2)
    share = 1.0 / batch
    c = dict.fromkeys(("hcalls_guest", "hcalls_server", "tce_updates", "rdma_bytes", "rdma_calls", "guest_bytes", "server_bytes",
                       "kicks", "irqs", "wakes", "polls_empty"), 0.0)
    maps = {"single-use": 1.0, "deferred": 1.0, "cached": 0.05, "pool": 0.0}[lv["mapping"]]
    c["hcalls_guest"] += maps * (2 if lv["mapping"] == "single-use" else 1 + 1 / 32)
    c["tce_updates"] += maps * 2 * (pages + 2)
    if lv["payload"] == "rdma":
        c["rdma_calls"] += 2 + -(-point.bs // 131072)
        c["rdma_bytes"] += 17 + point.bs
    else:
        c["server_bytes"] += point.bs if point.backend == "memory" else 0
        c["guest_bytes"] += point.bs if lv["payload"] == "bounce" else 0
    if lv["ring"] == "copy":
        c["rdma_calls"] += 5 * share
        c["rdma_bytes"] += (26 * point.queue_size + 12) * share
    elif lv["ring"] == "copy-delta":
        c["rdma_calls"] += 5 * share
        c["rdma_bytes"] += 28 * share + 30
    c["hcalls_server"] += c["rdma_calls"]
    if lv["notify"] != "poll":
        rare = 0.5 if lv["notify"] == "suppress" else 1.0
        c["kicks"] = c["irqs"] = share * rare
        c["hcalls_guest"] += share * rare
        c["hcalls_server"] += share * rare
        c["irqs"] *= 2
        c["wakes"] = 0.2 * c["irqs"]
    else:
        c["polls_empty"] = 3.0
    c["hcalls"] = c["hcalls_guest"] + c["hcalls_server"]
    return c


def default_truth(arm, point):
    """ns per request, plausible: counts times made-up costs, injected costs on top."""
    h, t, r = injected(point.cost)
    c = counters(arm, point)
    return (300 / min(point.depth, 4) + c["hcalls"] * (60 + h) + c["tce_updates"] * (8 + t) + c["rdma_calls"] * (40 + r) +
            0.05 * (c["rdma_bytes"] + c["guest_bytes"] + c["server_bytes"]) + 900 * c["wakes"])


def simulate(arms, points, blocks=10, seed=1, noise=0.03, truth=default_truth, again=(), experiment="sim", count=counters,
             block_noise=0.02, spikes=0.05):
    """Samples of every slot at every point in every block. truth(arm, point) is the median ns per request (None: not taken).

    Noise is one-sided where machines' is: a normal part, a part shared by the block, and in a share `spikes` of the samples
    a long delay. count(arm, point) gives the counters.
    """
    rng = np.random.default_rng(seed)
    slots = [(a, a) for a in arms] + [(a + AGAIN, a) for a in again]
    out = []
    for block in range(blocks):
        shared = {p: rng.normal(0, block_noise) if noise else 0.0 for p in points}
        order = rng.permutation(len(slots))
        for position, k in enumerate(order):
            slot, arm = slots[k]
            for p in points:
                ns = truth(arm, p)
                e = rng.normal(0, noise) if noise else 0.0
                if noise and rng.random() < spikes:
                    e += rng.exponential(10 * noise)
                if ns is None:
                    continue
                ns = float(ns) * float(np.exp(e + shared[p]))
                v = {"requests": 100000, "elapsed_ns": ns * 1e5, "ns_per_request": ns, "bytes": p.bs * 100000,
                     "mean_latency_ns": ns * p.depth, "p50_ns": ns * p.depth, "p90_ns": 1.2 * ns * p.depth,
                     "p99_ns": 1.5 * ns * p.depth, "p999_ns": 3 * ns * p.depth, "max_ns": 20 * ns * p.depth,
                     "ready_ns": 2e6, **count(arm, p)}
                h = [[int(v["p50_ns"]), 50000], [int(v["p90_ns"]) + 1, 40000], [int(v["p99_ns"]) + 2, 9000],
                     [int(v["p999_ns"]) + 3, 1000]]
                out.append(Sample(experiment, block, "pilot" if block < 3 else "main", position, slot, arm, p, v, histogram=h))
    return Samples(out)


def context(samples, noise=None, r_ns=130.0):
    """A Context of simulated samples; noise: the A/A floor, by default that of the samples."""
    limits = [{"memcpy": [{"size_bytes": b, "level": "memory", "gb_per_s": 8.0, "median_ns": b / 8.0} for b in (4096, 65536)],
               "round_trip": {"median_ns": r_ns}}]
    return Context(samples=samples, limits=limits, environment={}, experiments={}, r_ns=r_ns,
                   noise=stats.noise_floor(samples) if noise is None else noise)
