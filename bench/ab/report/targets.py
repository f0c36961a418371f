# SPDX-License-Identifier: BSD-3-Clause
"""The project's targets, each with its measured value and interval: met or not met only when the whole interval says so."""

import dataclasses

import numpy as np

from ab import stats
from ab.instrument.model import STARTS_OF, Samples, size_name
from ab.instrument.runner import LIMITS_OF

COPY_SIZES = (512, 4096, 65536)
NS = "ns_per_request"


def pick(samples, slot, **want):
    return samples.where(slot=slot, order="rand", cost="free", cores="split", rate=0.0, **want)


def answer(interval, limit, most):
    """met, not met, or undecided; most: the limit is an upper bound."""
    if not np.isfinite([interval.low, interval.high]).all():
        return "undecided"
    if (interval.high if most else -interval.low) <= (limit if most else -limit):
        return "met"
    return "not met" if (interval.low if most else -interval.high) > (limit if most else -limit) else "undecided"


def row(name, wanted, measured, interval, verdict, absolute=""):
    return {"name": name, "wanted": wanted, "measured": measured, "interval": interval.text() if interval else "exact count",
            "answer": verdict, "absolute": absolute, "level": stats.LEVEL, "n": interval.n if interval else 0}


def limits_of(samples, experiment, op, **want):
    """bench-limits of the experiment's own blocks, under its name, so that they pair with its samples block by block."""
    return Samples(dataclasses.replace(s, experiment=experiment)
                   for s in samples.where(experiment=experiment + LIMITS_OF, op=op, **want))


def bound_pairs(samples, own, experiment, metric, op, **want):
    """(ns a request of own, ns of a bound) block by block: the bound of the same rounds where there are windows, else of the
    block's bench-limits."""
    if any(metric in s.values for s in own):
        ns, bound = own.by_block(NS), own.by_block(metric)
        both = sorted(set(ns) & set(bound))
        return np.array([ns[k] for k in both]), np.array([bound[k] for k in both])
    return own.paired(limits_of(samples, experiment, op, **want), NS)


def in_round_trips(samples, experiment):
    """ns a request of zero-copy in R, R measured in the same rounds or block."""
    out, own = [], samples.where(experiment=experiment)
    for depth, limit in ((1, 2.5), (32, 0.35)):
        y, x = bound_pairs(samples, pick(own, "zero-copy", backend="null", op="read", bs=4096, depth=depth), experiment, "r_ns",
                           "round_trip")
        if len(x):
            iv = stats.ratio(x, y)
            out.append(row(f"zero-copy, null backend, 4 KiB reads, depth {depth}", f"at most {limit} R a request",
                           f"{iv.estimate:.2f} R", iv, answer(iv, limit, True),
                           f"{np.median(y):.0f} ns; R = {np.median(x):.0f} ns (medians of {len(x)} process starts)"))
    return out


def steady_state(samples, of="", unit="requests"):
    """Exact counts over all samples of zero-copy under load, discarded ones too: a count has no noise. In the open loop, on
    shared cores and between guests the server may go to sleep, and then a kick is needed: that is no steady state."""
    zc = [s for s in samples if s.arm == "zero-copy" and s.point.rate == 0 and s.point.load == 0 and s.point.cores == "split"
          and s.point.op != "pair" and "hcalls" in s.values]
    if not zc:
        return []
    total = [sum(round(s.values[k] * s.values["requests"]) for s in zc) for k in ("hcalls", "tce_updates", "rdma_bytes")]
    n = int(sum(s.values["requests"] for s in zc))
    return [row(f"{of}zero-copy, steady state, every sample", "0 hypercalls, 0 TCE updates, 0 bytes by RDMA",
                "{} hypercalls, {} TCE updates, {} bytes by RDMA".format(*total), None, "not met" if any(total) else "met",
                f"in {n:,} {unit} of {len(zc)} process starts")]


def like_memcpy(samples, experiment):
    own = pick(samples.where(experiment=experiment), "zero-copy", backend="memory", op="read", bs=65536, depth=32)
    out = []
    # The disk's span (16 MiB) and the guest's buffers (8 MiB) lie in the cache level that "memcpy L3" measures.
    y, x = bound_pairs(samples, own, experiment, "memcpy_ns", "memcpy L3", bs=65536)
    if len(x):
        iv = stats.ratio(y, x)  # memcpy's ns over zero-copy's: the share of memcpy's throughput
        out.append(row("zero-copy, memory backend, 64 KiB reads, depth 32, every byte verified by the guest",
                       "at least 0.85 of one core's memcpy (same size and cache level)", f"{iv.estimate:.2f}", iv,
                       answer(iv, 0.85, False), f"{65536 / np.median(y):.2f} of {65536 / np.median(x):.2f} GB/s"))
    return out


def copy_formula(sample):
    """What docs/architecture.md derives for one request of the copy arm at depth 1: {metric: expected}."""
    n, bs = sample.point.queue_size, sample.point.bs
    pages = 2 + max(1, -(-bs // 4096))  # header, data, status: an entry each
    rdma = 2 + 3 + -(-bs // (128 << 10)) + 2
    return {"hcalls_guest": 3, "hcalls_server": rdma + 1, "tce_updates": 2 * pages, "kicks": 1, "rdma_calls": rdma,
            "rdma_bytes": 26 * n + 12 + 16 + bs + 1}


def formula(samples, experiment):
    out = []
    for bs in COPY_SIZES:
        got = pick(samples.where(experiment=experiment), "copy", backend="memory", op="read", bs=bs, depth=1)
        if not len(got):
            continue
        off = sorted({f"{k} {s.values[k]:.4f}, formula {v}" for s in got for k, v in copy_formula(s).items()
                      if abs(s.values[k] - v) > 1e-9})
        out.append(row(f"copy, {size_name(bs)} reads, depth 1: counters", "equal to the formula (26N + 12 ring bytes a kick)",
                       "; ".join(off) or "equal", None, "not met" if off else "met", f"{len(got)} process starts"))
    return out


def start_up(samples):
    got = Samples(s for s in samples if "start_seconds" in s.values and s.point.cores == "split")
    if not len(got):
        return []
    x = got.values("start_seconds")
    iv = stats.median(x)
    return [row("start-up of three programs, disk configured", "under 2 s", f"{x.max():.2f} s (slowest)", iv,
                "met" if x.max() < 2 else "not met", f"median {iv.estimate:.2f} s of {len(x)} machines")]


def server_memory(samples):
    got = samples.where(arm="zero-copy")
    x = got.values("server_rss_bytes")
    if not len(x):
        return []
    iv = stats.median(x / (1 << 20))
    return [row("memory of the VIO server, its partition's memory and the windows included", "reported", f"{iv.estimate:.0f} MiB",
                iv, "reported", f"{len(x)} samples, resident and hugepages")]


NETWORK = (  # (bytes of a frame, rival, at least so many times its frame rate; None: reported)
    (64, "vhost-user", 1.0), (64, "copy", 1.5), (1514, "vhost-user", 1.5), (64, "memif zero-copy", None),
    (1514, "memif zero-copy", None))


WAYS = {"tx": "guest to port", "rx": "port to guest"}
PAIR_BYTES = 1514  # of a frame, Ethernet's 1518


def network(samples, experiment="net"):
    """Frame rates of zero-copy over those of copy and of the peers, headers touched by both. samples: all; rates of the kept."""
    out, mine = [], samples.where(experiment=experiment, touch="headers", cost="free", rate=0.0)
    for op, way in WAYS.items():
        for bs, rival, least in NETWORK:
            here = mine.kept().where(op=op, bs=bs)
            x, y = here.where(slot="zero-copy").paired(here.where(slot=rival), NS)
            if len(x):
                iv = stats.ratio(x, y)  # ns of the rival over ns of zero-copy
                out.append(row(f"network, {bs} B, {way}, headers touched: zero-copy against {rival}",
                               f"at least {least:g} times its frames/s" if least else "reported: the peer to beat next",
                               f"{iv.estimate:.2f}", iv, answer(iv, least, False) if least else "reported",
                               f"{1e3 / np.median(x):.3g} against {1e3 / np.median(y):.3g} M frames/s"))
    return out + steady_state(samples.where(experiment=experiment), "network, ", "frames") + network_copies(samples)


def network_copies(samples, experiment="net-pair"):
    """Bytes copied between two guests by every counter that counts copies, discarded samples too. Each start must keep to it."""
    got = [s for s in samples.where(experiment=experiment, op="pair", bs=PAIR_BYTES) if s.arm == "zero-copy"]
    got = [(round(sum(s.values[k] for k in ("server_bytes", "guest_bytes", "rdma_bytes")) * s.values["requests"]),
            int(s.values["requests"])) for s in got if "rdma_bytes" in s.values]
    if not got:
        return []
    copied, frames = (sum(x) for x in zip(*got))
    return [row(f"network, from guest to guest, {PAIR_BYTES} B, zero-copy: bytes copied, by all counters, every sample",
                "at most one copy a frame",
                "1 copy a frame" if copied == frames * PAIR_BYTES else f"{copied / frames / PAIR_BYTES:.6g} copies a frame", None,
                "met" if all(c <= n * PAIR_BYTES for c, n in got) else "not met",
                f"{copied:,} bytes in {frames:,} frames of {len(got)} process starts")]


def timed(ctx, experiment):
    """Rows of the targets that are times of the experiment's, on the plateau of ctx."""
    kept = ctx.samples.kept().where(plateau=(-1, ctx.plateau))
    rows = in_round_trips(kept, experiment) + like_memcpy(kept, experiment)
    return [r | {"plateau": ctx.plateau_name()} for r in rows]


def all_targets(at_plateaus, experiment="quick"):
    """Rows of the target table. at_plateaus: the context at each plateau, the main one first. Counts are of whole starts."""
    ctx = at_plateaus[0]
    whole = Samples(s for s in ctx.samples if s.plateau < 0)
    starts = Samples(dataclasses.replace(s, experiment=s.experiment.removesuffix(STARTS_OF)) for s in whole)
    return ([r for c in at_plateaus for r in timed(c, experiment)] + steady_state(whole) + formula(starts.kept(), experiment)
            + start_up(whole.kept()) + server_memory(whole.kept())
            + network(Samples(s for s in ctx.samples if s.plateau in (-1, ctx.plateau))))
