# SPDX-License-Identifier: BSD-3-Clause
"""Plateaus of R, found from the data. No I/O here.

A host may move its virtual processors between core complexes; R, the round trip of one cache line, then stands at one of two or
three values for seconds, and everything that moves lines with it. R is measured in every round of the dance, so each window can be
told which plateau it was measured on, and results of different plateaus are never mixed.

The rule, fixed before any result is looked at:
1. ln R of all R-windows without a gap is a mixture of one to MOST normal components (EM from several starts) over a small uniform
   background that takes strays. Of the numbers of components whose neighbours are apart (at least APART in R, and their standard
   deviations do not meet), the one with the least BIC.
2. In order of time, in each block, the most likely sequence of components (Viterbi), where a change of component costs as much as
   one change in DWELL windows: one stray R-window is no change, it is on no plateau.
3. A component with less than LEAST of the R-windows is no plateau: its windows are set aside.
4. A window counts on a plateau when the R-windows next to it in time, before and after it and of the same dance, are all of that
   plateau. So what lies next to a change is set aside.

The rule sees R only, never an arm's time.
"""

import math
from dataclasses import dataclass

import numpy as np

MOST = 3  # plateaus
APART = 1.2  # ratio of two plateaus' R at least
DWELL = 200  # R-windows that a plateau is expected to last
LEAST = 0.02  # share of the R-windows below which a component is no plateau
NARROW, WIDE = 0.01, 0.10  # standard deviation of ln R within a plateau: at least, at most
STRAY = (0.01, 0.10)  # share of the background: at least, at most
ROUNDS, ENOUGH = 300, 1e-7  # of EM; gain of the mean log likelihood at which it ends
THIN = 4000  # values that the mixture is fitted to at most: every so many-th in order of size
NONE = -1  # label: on no plateau


@dataclass(frozen=True)
class Plateau:
    r_ns: float  # median of its R-windows
    low: float  # their quartiles
    high: float
    windows: int  # R-windows
    share: float  # of all R-windows that have a plateau

    def name(self):
        return f"R = {self.r_ns:.0f} ns"


@dataclass
class Mixture:
    mean: np.ndarray  # of ln R, ascending
    sd: np.ndarray
    weight: np.ndarray  # of the components; with stray they add up to 1
    stray: float
    range: float  # width of the background in ln R
    bic: float = math.inf

    def log_density(self, x):
        """(ln density of each component at x (values x components), each with the background behind it; is x rather a stray?)"""
        z = (x[:, None] - self.mean) / self.sd
        normal = -0.5 * z * z - np.log(self.sd) - 0.5 * math.log(2 * math.pi) + math.log1p(-self.stray)
        background = math.log(self.stray / self.range)
        return np.logaddexp(normal, background), normal < background

    def apart(self):
        """Are all neighbours different plateaus, and not the two halves of one?"""
        gap = np.diff(self.mean)
        return bool(np.all((gap >= math.log(APART)) & (gap > 2 * (self.sd[1:] + self.sd[:-1]))))


def _em(x, mean, span):
    """(Mixture, log likelihood) from starting means."""
    k = len(mean)
    sd, weight, stray = np.full(k, 0.05), np.full(k, (1 - STRAY[1]) / k), STRAY[1]
    before = -math.inf
    part = np.empty((k + 1, len(x)))  # ln of each component's share of the density, the background's last
    for _ in range(ROUNDS):
        z = (x - mean[:, None]) / sd[:, None]
        part[:k] = -0.5 * z * z + (np.log(weight / sd) - 0.5 * math.log(2 * math.pi))[:, None]
        part[k] = math.log(stray / span)
        top = part.max(axis=0)
        share = np.exp(part - top)
        total = share.sum(axis=0)
        like = float(np.log(total).sum() + top.sum())
        share /= total
        n = np.maximum(share.sum(axis=1), 1e-9)
        mean = share[:k] @ x / n[:k]
        sd = np.sqrt((share[:k] * (x - mean[:, None]) ** 2).sum(axis=1) / n[:k]).clip(NARROW, WIDE)
        stray = float(min(max(n[k] / len(x), STRAY[0]), STRAY[1]))
        weight = n[:k] / n[:k].sum() * (1 - stray)
        if like - before < ENOUGH * len(x):
            break
        before = like
    order = np.argsort(mean)
    return Mixture(mean[order], sd[order], weight[order], stray, span, 3 * k * math.log(len(x)) - 2 * like), like


def _starts(x, k):
    """Means to begin with: quantiles, and the middles of the widest holes' sides, which find small plateaus."""
    yield np.quantile(x, (np.arange(k) + 0.5) / k)
    yield np.linspace(*np.quantile(x, [0.005, 0.995]), k)
    s = np.quantile(x, np.linspace(0.005, 0.995, 400))
    cuts = np.sort(np.argsort(-np.diff(s))[:k - 1]) + 1
    yield np.array([part.mean() for part in np.split(s, cuts)])


def mixture(x):
    """Mixture of ln R that the rule chooses. x: finite values, at least one."""
    x = np.asarray(x, dtype=float)
    if len(x) > THIN:
        x = np.sort(x)[::-(-len(x) // THIN)]
    span = max(float(np.ptp(x)), 0.1)
    best = _em(x, np.array([np.median(x)]), span)[0]
    for k in range(2, MOST + 1):
        if len(x) < 10 * k:
            break
        found = max((_em(x, m, span) for m in _starts(x, k)), key=lambda f: f[1])[0]
        if found.apart() and found.bic < best.bic:
            best = found
    return best


def sequence(x, mix):
    """Component of each value of a series in order of time: the most likely sequence, changes as rare as DWELL says. A value that
    does not fit its component is on none (NONE)."""
    k, n = len(mix.mean), len(x)
    fit, stray = mix.log_density(np.asarray(x, dtype=float))
    if k == 1 or not n:
        return np.where(stray[:, 0], NONE, 0)
    stay, change = math.log1p(-1 / DWELL), math.log(1 / DWELL / (k - 1))
    step = np.full((k, k), change)
    np.fill_diagonal(step, stay)
    back, score = np.zeros((n, k), dtype=int), fit[0] + np.log(mix.weight)
    for i in range(1, n):
        via = score[:, None] + step
        back[i] = via.argmax(axis=0)
        score = via.max(axis=0) + fit[i]
    out = np.empty(n, dtype=int)
    out[-1] = int(score.argmax())
    for i in range(n - 1, 0, -1):
        out[i - 1] = back[i, out[i]]
    return np.where(stray[np.arange(n), out], NONE, out)


def find(r_ns, series):
    """(list of Plateau, ascending in R; label of each R-window, an index of the list or NONE).

    r_ns: R-windows without a gap, in order of time within each series; series: the number of the block of each.
    """
    r_ns, series = np.asarray(r_ns, dtype=float), np.asarray(series)
    if not len(r_ns):
        return [], np.zeros(0, dtype=int)
    x = np.log(r_ns)
    mix = mixture(x)
    label = np.full(len(x), NONE)
    for s in np.unique(series):
        label[series == s] = sequence(x[series == s], mix)
    count = np.bincount(label[label != NONE], minlength=len(mix.mean))
    kept = [k for k in range(len(mix.mean)) if count[k] >= max(1, LEAST * len(x))]
    number = np.full(len(mix.mean) + 1, NONE)  # the last is NONE's own
    number[kept] = np.arange(len(kept))
    label, total = number[label], count[kept].sum()
    out = []
    for k in range(len(kept)):
        own = r_ns[label == k]
        low, middle, high = np.quantile(own, [0.25, 0.5, 0.75])
        out.append(Plateau(float(middle), float(low), float(high), len(own), len(own) / float(total)))
    return out, label


def between(begin, group, r_begin, r_group, r_label):
    """Label of each window from the R-windows next to it in time, of the same group (block and dance): theirs when they agree,
    else NONE. Windows before the first or after the last R-window of their group have one neighbour."""
    out = np.full(len(begin), NONE)
    for g in np.unique(group):
        mine, theirs = np.flatnonzero(group == g), np.flatnonzero(r_group == g)
        if not len(theirs):
            continue
        order = theirs[np.argsort(r_begin[theirs], kind="stable")]
        at = np.searchsorted(r_begin[order], begin[mine], side="right")
        before, after = r_label[order[np.maximum(at - 1, 0)]], r_label[order[np.minimum(at, len(order) - 1)]]
        out[mine] = np.where(before == after, before, NONE)
    return out
