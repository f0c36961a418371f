# SPDX-License-Identifier: BSD-3-Clause
"""What varies more, starts or time: variance components of the duet's windows. No I/O here.

Windows are nested: rounds in a dance, dances in a block (a start). Of ln of a ratio of two arms in a round, or of ln of one arm's
time, the variance is the sum of that between starts, between the dances of a start (time), and between the rounds of a dance.
Methods of moments on midmeans, so that a stray round is not taken for spread.
"""

from dataclasses import dataclass

import numpy as np

from ab.instrument import windows
from ab.stats import duet, plateaus

MIDMEAN = 1.19  # variance of a midmean in that of a mean, normal noise
ROBUST = 1.4826  # median absolute deviation to standard deviation, normal noise


@dataclass(frozen=True)
class Components:
    """Standard deviations, relative (of ln), each 0 where the part below it explains all; NaN where it can't be told."""

    starts: float
    times: float  # between the dances of a start; NaN when no start has two
    rounds: float
    blocks: int
    dances: int
    windows: int

    def more(self):
        """"starts", "time", or "" when it can't be told."""
        if not np.isfinite([self.starts, self.times]).all():
            return ""
        return "starts" if self.starts >= self.times else "time"


def components(block, dance, value):
    """Components of values (ln) with the numbers of their block and dance; None with fewer than two blocks."""
    dances = []  # (block, midmean, rounds, sum of deviations)
    spread = []
    for b in np.unique(block):
        for d in np.unique(dance[block == b]):
            x = value[(block == b) & (dance == d)]
            if len(x) >= 4:
                middle = float(duet.midmean(x))
                dances.append((b, middle, len(x)))
                spread.append(np.abs(x - middle))
    of = {b: [(m, n) for k, m, n in dances if k == b] for b, _, _ in dances}
    if len(of) < 2:
        return None
    rounds = (ROBUST * float(np.median(np.concatenate(spread)))) ** 2
    inner = [(np.var([m for m, _ in v], ddof=1), len(v) - 1, MIDMEAN * rounds * np.mean([1 / n for _, n in v]))
             for v in of.values() if len(v) > 1]
    times = np.nan
    if inner:
        free = np.array([f for _, f, _ in inner], dtype=float)
        times = max(0.0, float(np.average([v - e for v, _, e in inner], weights=free)))
    means = [np.mean([m for m, _ in v]) for v in of.values()]
    error = np.mean([(np.nan_to_num(times) + MIDMEAN * rounds * np.mean([1 / n for _, n in v])) / len(v) for v in of.values()])
    starts = max(0.0, float(np.var(means, ddof=1) - error))
    return Components(starts ** 0.5, times ** 0.5, rounds ** 0.5, len(of), len(dances), sum(len(s) for s in spread))


def of_ratio(m, point, plateau, a, b):
    """Components of ln(ns of slot b / ns of slot a) in the rounds that have both, or None. Indices of the header; m: duet.Measured."""
    got = [_rounds(m, point, plateau, s) for s in (a, b)]
    both = np.intersect1d(got[0][0], got[1][0], return_indices=True)
    if not len(both[0]):
        return None
    return components(both[0] >> 48, both[0] >> 32 & 0xffff, got[1][1][both[2]] - got[0][1][both[1]])


def of_time(m, point, plateau, slot):
    """Components of ln ns of one slot, or None."""
    key, x = _rounds(m, point, plateau, slot)
    return components(key >> 48, key >> 32 & 0xffff, x) if len(key) else None


def _rounds(m, point, plateau, slot):
    """(keys of the rounds in which the slot has windows that count, mean ln ns of each)"""
    rows = m.rows
    own = np.flatnonzero(m.counts() & (rows["slot"] == slot) & (rows["point"] == point) & (m.plateau == plateau))
    key = rows["block"][own].astype(np.int64) << 48 | rows["dance"][own].astype(np.int64) << 32 | rows["round"][own]
    keys, at = np.unique(key, return_inverse=True)
    return keys, np.bincount(at, np.log(m.ns[own]), len(keys)) / np.maximum(np.bincount(at, minlength=len(keys)), 1)


def summary(m, base):
    """[(point, plateau, slot, Components of the ratio to base, of the slot's own time)] of all arms, points and plateaus."""
    out, special = [], {m.slot(s) for s in windows.SPECIALS}
    for point in range(len(m.header["points"])):
        for plateau in range(len(m.plateaus)):
            for slot in range(len(m.header["slots"])):
                if slot != base and slot not in special and plateau != plateaus.NONE:
                    pair = of_ratio(m, point, plateau, base, slot)
                    if pair:
                        out.append((point, plateau, slot, pair, of_time(m, point, plateau, slot)))
    return out
