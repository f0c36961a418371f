# SPDX-License-Identifier: BSD-3-Clause
"""The one model of time: ns of a request = constants x counters + lines x R + bytes x hand-over. No I/O here.

R and the cost of handing a block to the other core are measured in the same rounds of the dance as the times, and R stands at values
that differ by up to five: a natural experiment, which tells lines moved (their time grows with R) from work done (its does not).
What a request does is counted (hypercalls, TCEs, bytes) or follows from the point (bytes handed over, bytes checked); the prices are
fitted: none negative, least squares of relative errors. The error that counts is that of settings that the fit did not see.

Requests one at a time and many in flight are two regimes with prices of their own. One at a time the partitions work in turn, so
that their times add up. With many in flight they overlap and the slower one binds, which a sum follows only roughly. There the server's
copy is in the hand-over, whose rate was measured with as many in flight, and what is left is the guest's own copying and checking.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import nnls

from ab import stats
from ab.instrument.model import Samples

NS = "ns_per_request"
NEEDED = ("hcalls", "tce_updates", "rdma_calls", "rdma_bytes", "guest_bytes", "server_bytes")
VARIED = 1.3  # largest over smallest R of the fit from which lines can be told from constants
DRAWS = 200
REGIMES = {"one at a time": lambda p: p.depth == 1, "many in flight": lambda p: p.depth > 1}


@dataclass
class Config:
    """One arm at one point on one plateau: medians over process starts."""

    experiment: str
    arm: str
    point: object  # model.Point
    plateau: int
    ns: float
    r_ns: float  # NaN: not measured beside it
    handover_ns: float  # of the point's block; NaN
    memcpy_ns: float  # of the point's block by one core; NaN
    counters: dict  # NEEDED -> per request
    starts: np.ndarray = field(repr=False, default=None)  # ns of each process start

    @property
    def handed(self):
        """Payload bytes that pass from one core to the other."""
        return self.point.bs if self.point.backend in ("memory", "file") else 0

    @property
    def handover(self):
        """ns to hand the payload over beyond the round trip that asks for it; bytes where the hand-over was not measured."""
        if not np.isfinite(self.handover_ns):
            return float(self.handed)
        return max(self.handover_ns - self.r_ns / self.point.depth, 0.0) if self.handed else 0.0

    @property
    def bounced(self):
        """ns of memcpy that the guest's bounce copies would take; bytes where memcpy was not measured."""
        per_byte = self.memcpy_ns / self.point.bs if np.isfinite(self.memcpy_ns) else 1.0
        return self.counters["guest_bytes"] * per_byte


@dataclass(frozen=True)
class Feature:
    name: str
    kind: str  # work (ns each), lines (of R each), handover and memcpy (of what was measured)
    of: object  # Config -> amount
    metrics: tuple = ()  # counters that the price is one of
    regimes: tuple = tuple(REGIMES)


def _count(name):
    return lambda c: c.counters[name]


ONE, MANY = (("one at a time",), ("many in flight",))
FEATURES = (
    Feature("request", "work", lambda c: 1.0),
    Feature("hypercall", "work", _count("hcalls"), ("hcalls",)),
    Feature("TCE update", "work", _count("tce_updates"), ("tce_updates",), ONE),
    Feature("byte by RDMA", "work", _count("rdma_bytes"), ("rdma_bytes",), ONE),
    Feature("byte by a CPU", "work", lambda c: c.counters["guest_bytes"] + c.counters["server_bytes"], ("guest_bytes", "server_bytes"),
            ONE),
    Feature("byte checked by the guest", "work", lambda c: float(c.handed if c.point.op == "read" else 0)),
    Feature("request", "lines", lambda c: c.r_ns),
    Feature("RDMA call", "lines", lambda c: c.r_ns * c.counters["rdma_calls"]),
    Feature("request with data", "lines", lambda c: c.r_ns * (c.handed > 0), (), ONE),
    Feature("payload handed over", "handover", lambda c: c.handover),
    Feature("payload bounced by the guest", "memcpy", lambda c: c.bounced, (), MANY),
)


def configurations(samples, injected=False):
    """[Config] of samples that count: closed loop, a core each, no twins, nothing injected unless injected."""
    groups = {}
    for s in samples:
        p = s.point
        if s.kept and s.slot == s.arm and (injected or p.cost == "free") and not p.rate and p.cores == "split" and NS in s.values and all(
                k in s.values for k in NEEDED):
            groups.setdefault((s.experiment, s.arm, p, s.plateau), []).append(s)
    out = []
    for (name, arm, point, plateau), items in sorted(groups.items(), key=lambda g: g[0]):
        mine = Samples(items)

        def middle(metric):
            x = mine.values(metric)
            return float(np.median(x)) if len(x) else np.nan
        out.append(Config(name, arm, point, plateau, middle(NS), middle("r_ns"), middle("handover_ns"),
                          middle("memcpy_ns"), {k: middle(k) for k in NEEDED}, mine.values(NS)))
    return out


@dataclass
class Fit:
    regime: str
    configs: list  # of Config
    features: list  # of Feature that are in the fit
    price: np.ndarray
    intervals: list  # of model.Interval or None

    def predict(self, configs):
        return amounts(configs, self.features) @ self.price

    def of(self, kind):
        """[(Feature, price, interval)]"""
        return [(f, float(k), iv) for f, k, iv in zip(self.features, self.price, self.intervals) if f.kind == kind]


def amounts(configs, features):
    return np.array([[f.of(c) for f in features] for c in configs], dtype=float).reshape(len(configs), len(features))


def solve(x, ns):
    """Prices, none negative: least squares of relative errors. Columns are scaled, so that bytes and calls weigh alike."""
    scale = np.maximum(np.abs(x).max(axis=0), 1e-30)
    k, _ = nnls(x / scale / ns[:, None], np.ones(len(ns)))
    return k / scale


def usable(configs, regime):
    """Features of a regime that these configurations can price: lines only where R was measured and varied."""
    r = np.array([c.r_ns for c in configs])
    lines = bool(np.isfinite(r).all() and r.max() > VARIED * r.min())
    some = [f for f in FEATURES if regime in f.regimes and (lines or f.kind != "lines")]
    x = amounts(configs, some)
    return [f for f, column in zip(some, x.T) if np.abs(column).max() > 1e-6]


def fit(configs, regime, seed=1):
    """Fit of a regime's configurations, with bootstrap intervals over process starts of each."""
    features = usable(configs, regime)
    x, ns = amounts(configs, features), np.array([c.ns for c in configs])
    price, n = solve(x, ns), int(np.median([len(c.starts) for c in configs]))
    intervals = [None] * len(features)
    if n >= stats.MIN_INTERVAL:
        rng = np.random.default_rng(seed)
        drawn = np.array([solve(x, np.array([np.median(rng.choice(c.starts, len(c.starts))) for c in configs])) for _ in range(DRAWS)])
        found = [stats.interval(k, column, n) for k, column in zip(price, drawn.T)]
        intervals = [replace(iv, low=max(0.0, iv.low)) for iv in found]
    return Fit(regime, configs, features, price, intervals)


def held_out(configs, regime, setting):
    """Relative errors of configurations predicted by fits that saw none of the same setting(config); NaN where the rest can't fit."""
    out = np.full(len(configs), np.nan)
    keys = [setting(c) for c in configs]
    for key in set(keys):
        gone = np.array([k == key for k in keys])
        rest = [c for c, g in zip(configs, gone) if not g]
        if len({c.point for c in rest}) < 2:
            continue
        features = usable(rest, regime)
        if len(rest) <= len(features):
            continue
        price = solve(amounts(rest, features), np.array([c.ns for c in rest]))
        mine = [c for c, g in zip(configs, gone) if g]
        out[gone] = amounts(mine, features) @ price / np.array([c.ns for c in mine]) - 1
    return out


def by_setting(config):
    """An arm at a point, on all plateaus."""
    return config.arm, config.point


def by_point(config):
    """A point with all its arms and plateaus: harder, as the rest may not reach so far."""
    return config.point


def by_arm(config):
    """An arm at all points."""
    return config.arm


def missing(fitted, configs):
    """{(arm, point): (ns, lines)}: what would have to be added to the fit's prediction: so much work, and so many lines (NaN where
    one plateau can't tell them)."""
    out, groups = {}, {}
    for c, p in zip(configs, fitted.predict(configs)):
        groups.setdefault((c.arm, c.point), []).append((c.r_ns, c.ns - p))
    for key, rows in groups.items():
        r, d = (np.array(v) for v in zip(*rows))
        if len(r) > 1 and np.isfinite(r).all() and r.max() > VARIED * r.min():
            lines, ns = np.polyfit(r, d, 1)
            out[key] = (float(ns), float(lines))
        else:
            out[key] = (float(np.mean(d)), np.nan)
    return out
