# SPDX-License-Identifier: BSD-3-Clause
"""Intervals and verdicts. The unit is the process start, or a pair of them from the same block. No I/O here.

Which estimate. A ratio of two arms is the median over blocks of the block's own ratio: what both arms of a block share (the
minute, the neighbours, the machine's speed) cancels before a median is taken. A ratio of medians over blocks, used before, lets
it in again: simulated with a shared block effect of 3 % beside 1 % of noise its intervals are 1.3 to 1.8 times as wide from 8
blocks on.

Which interval. Bootstrap over blocks on the scale of logarithms; the ends were decided by coverage, not by name. Simulated: 99 %
intervals of the median of paired ratios; noise of 1 %, or with Student's t of 2 degrees, rare spikes of 30 %, two modes 5 %
apart, lognormal; 500 to 800 runs each (tests/unit/report/test_stats.py repeats a smaller one). Share of the intervals that hold
the truth, worst to best noise:

    n     percentile       t, used here below 25
    5     -                0.998 - 1.000
    8     -                0.992 - 1.000
    10    0.958 - 0.978    0.989 - 0.999
    20    0.968 - 0.992    0.983 - 0.995
    30    0.984 - 0.993    0.979 - 1.000

BCa, the usual recommendation, undercovers for medians (0.88 at 5, 0.97 at 20): its acceleration comes from a jackknife, which is
inconsistent for a median. So below 25 units: estimate +- t(n-1) times sqrt(n/(n-1)) times the bootstrap's standard error, which is
taken from the span of the middle 95 % of the draws, because their standard deviation is blown up by the few draws that repeat one
slow start. From 25 on the percentile interval. The mean of the logarithms with Student's t would be narrower by a fifth to a third
where the noise is normal, and four to eight times as wide where one start in seven is disturbed for its whole life: the machines
this is for do that. Fewer than 3 units give no interval (ends are NaN), fewer than 5 no verdict.
"""

import functools
import math

import numpy as np
from scipy import stats as st

from ab.instrument.model import AGAIN, LEVEL, Interval, Samples, Verdict

RESAMPLES = 3000
MIN_INTERVAL = 3  # units below which there is no interval
MIN_VERDICT = 5  # ... no verdict
SD_SHARES = (0.025, 0.975)  # of the draws, for their standard error: the middle 95 %
PERCENTILE_FROM = 25  # units from which the percentile interval covers what it says
NONE = "no difference shown"
MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)  # standard error of a median in those of a mean, normal noise


@functools.lru_cache(maxsize=64)
def _drawn(n, seed, times):
    return np.random.default_rng([seed, n]).integers(0, n, (times, n))


def resample(n, seed, times=None):
    """Indices of the bootstrap: times (RESAMPLES) rows of n draws with replacement. The same for the same n and seed."""
    return _drawn(n, seed, times or RESAMPLES)


@functools.cache
def _standard_errors(share, free=None):
    """Standard errors (Student's with so many degrees of freedom, else the normal distribution's) below which a share lies."""
    return float(st.norm.ppf(share) if free is None else st.t.ppf(share, free))


def ends(estimate, draws, n, level=LEVEL):
    """(low, high) from a statistic's bootstrap draws over n units; arrays of statistics in draws' last axes are welcome."""
    draws = np.asarray(draws, dtype=float)
    q = (1 - level) / 2
    if n < MIN_INTERVAL:
        return np.full_like(estimate, np.nan, dtype=float), np.full_like(estimate, np.nan, dtype=float)
    if n >= PERCENTILE_FROM:
        low, high = np.quantile(draws, [q, 1 - q], axis=0)
    else:
        below, above = np.quantile(draws, SD_SHARES, axis=0)
        error = (above - below) / (2 * _standard_errors(SD_SHARES[1]))
        half = _standard_errors(1 - q, n - 1) * math.sqrt(n / (n - 1)) * error
        low, high = estimate - half, estimate + half
    return low, high


def interval(value, draws, n, level=LEVEL, log=False):
    """Interval of a scalar statistic from its bootstrap draws; log: both are positive, and the scale is that of logarithms.

    NaN ends with too few units or when a draw is not finite. Draws that are all alike give an interval without width.
    """
    value, draws = float(value), np.asarray(draws, dtype=float)
    if not math.isfinite(value) or n < MIN_INTERVAL or not np.all(np.isfinite(draws)) or (log and draws.min() <= 0):
        return Interval(value, math.nan, math.nan, int(n), level)
    if np.ptp(draws) <= 1e-12 * abs(value):
        return Interval(value, value, value, int(n), level)
    low, high = (float(v) for v in ends(math.log(value) if log else value, np.log(draws) if log else draws, n, level))
    if log:
        low, high = math.exp(min(low, 700.0)), math.exp(min(high, 700.0))
    return Interval(value, min(low, value), max(high, value), int(n), level)


def _nothing(n, level):
    return Interval(math.nan, math.nan, math.nan, int(n), level)


def ratio(a, b, level=LEVEL, seed=1):
    """Median of b[i] / a[i] over paired arrays of positive numbers (a[i], b[i] from one block), bootstrap over the pairs.

    For times, a of arm A and b of arm B: above 1, B is slower. Pairs with a value that is not finite or not positive are
    left out; n is the number of pairs that were used.
    """
    a, b = np.asarray(a, dtype=float).ravel(), np.asarray(b, dtype=float).ravel()
    if len(a) != len(b):
        raise ValueError(f"pairs are needed: {len(a)} values against {len(b)}")
    good = np.isfinite(a) & np.isfinite(b)
    good[good] = (a[good] > 0) & (b[good] > 0)
    a, b = a[good], b[good]
    n = len(a)
    if n == 0:
        return _nothing(0, level)
    d = np.log(b / a)
    return interval(math.exp(np.median(d)), np.exp(np.median(d[resample(n, seed)], axis=1)), n, level, log=True)


def median(x, level=LEVEL, seed=1):
    """Median of independent values, with its interval. Values that are not finite are left out."""
    x = np.asarray(x, dtype=float).ravel()
    x = x[np.isfinite(x)]
    n = len(x)
    if n == 0:
        return _nothing(0, level)
    log = bool(np.all(x > 0))
    got = interval(np.median(x), np.median(x[resample(n, seed)], axis=1), n, level, log)
    if not log and x.min() >= 0 and got.low < 0:  # counts and bytes have no negative values
        got = Interval(got.estimate, 0.0, got.high, n, level)
    return got


def columns(selections, metric="ns_per_request"):
    """Array blocks x selections (lists of Samples) of the blocks that every selection has, in order of the blocks."""
    got = [s.by_block(metric) for s in selections]
    blocks = sorted(set.intersection(*(set(g) for g in got))) if got else []
    return np.array([[g[k] for g in got] for k in blocks], dtype=float).reshape(len(blocks), len(got))


def draws_of_medians(table, seed=1, times=None):
    """Medians of the columns of a table (blocks x columns), and of its bootstrap resamples (times x columns): whole blocks are
    drawn, so that what was measured together stays together."""
    table = np.asarray(table, dtype=float)
    i = resample(len(table), seed, times)
    return np.median(table, axis=0), np.stack([np.median(table[:, k][i], axis=1) for k in range(table.shape[1])], axis=1)


def of_medians(table, f, level=LEVEL, seed=1, log=False, times=None):
    """Intervals of f(medians of the columns). f maps an array (draws x columns) to (draws x outputs); log: outputs are
    positive, and the interval is made on the scale of logarithms. Without blocks: an empty list."""
    n = len(table)
    if n == 0:
        return []
    med, draws = draws_of_medians(table, seed, times)
    value, drawn = np.asarray(f(med[None, :]), dtype=float)[0], np.asarray(f(draws), dtype=float)
    return [interval(v, drawn[:, k], n, level, log) for k, v in enumerate(value)]


def of_blocks(table, f, level=LEVEL, seed=1, log=False):
    """Intervals of the median over blocks of f(the block's own row): what a block does to all its columns cancels in f, as in
    ratio(). f maps (rows x columns) to (rows x outputs). Without blocks: an empty list."""
    n = len(table)
    if n == 0:
        return []
    own = np.asarray(f(np.asarray(table, dtype=float)), dtype=float)
    own = np.log(own) if log else own
    med, draws = draws_of_medians(own, seed)
    back = np.exp if log else np.asarray
    return [interval(v, drawn, n, level, log) for v, drawn in zip(back(med), back(draws).T)]


def percentile_of_histograms(hists, q):
    """Percentile q (0 to 100) of merged histograms, each [[bucket's upper end in ns, count], ...]: upper end of the bucket
    that holds it, so never below the true one. NaN when nothing was counted."""
    total = {}
    for h in hists:
        for upper, count in h:
            total[upper] = total.get(upper, 0) + count
    n = sum(total.values())
    if n <= 0:
        return math.nan
    rank = max(1, math.ceil(q / 100 * n - 1e-9))
    seen = 0
    for upper in sorted(total):
        seen += total[upper]
        if seen >= rank:
            return float(upper)
    return float(max(total))


def percentile(hists, q, level=LEVEL, seed=1):
    """Percentile q (0 to 100) of the merged histograms of process starts, bootstrap over the starts: an Interval."""
    hists = [h for h in hists if h]
    uppers = sorted({u for h in hists for u, _ in h})
    n = len(hists)
    if not uppers:
        return _nothing(0, level)
    at = {u: k for k, u in enumerate(uppers)}
    counts = np.zeros((n, len(uppers)))
    for r, h in enumerate(hists):
        for u, c in h:
            counts[r, at[u]] += c
    cum, up = np.cumsum(counts, axis=1), np.asarray(uppers, dtype=float)

    def of(c):
        rank = np.maximum(1, np.ceil(q / 100 * c[:, -1] - 1e-9))
        return up[np.minimum((c < rank[:, None]).sum(axis=1), len(up) - 1)]
    weights = np.stack([np.bincount(row, minlength=n) for row in resample(n, seed, min(1000, RESAMPLES))])
    return interval(of(cum.sum(axis=0)[None, :])[0], of(weights @ cum), n, level, log=True)


def blocks_needed(pilot, precision, level=LEVEL, min_n=5, max_n=50):
    """Blocks that bring the interval of a median to +- precision (relative), from a pilot's spread alone.

    pilot: logarithms of the pilot's paired ratios (or of its samples), or a pair (a, b) of paired arrays of times. Only
    deviations from the pilot's own mean are used, so the size of the effect can't move the answer. Fewer than two finite
    values: max_n, because nothing is known.
    """
    if isinstance(pilot, tuple):
        with np.errstate(divide="ignore", invalid="ignore"):
            pilot = np.log(np.asarray(pilot[1], dtype=float) / np.asarray(pilot[0], dtype=float))
    x = np.asarray(pilot, dtype=float).ravel()
    x = x[np.isfinite(x)]
    if len(x) < 2:
        return max_n
    spread, goal = float(np.std(x, ddof=1)), math.log1p(precision)
    for n in range(max(min_n, 2), max_n):
        if _standard_errors(1 - (1 - level) / 2, n - 1) * MEDIAN_OVER_MEAN * spread / math.sqrt(n) <= goal:
            return n
    return max_n


def verdict(claim, iv, noise=0.0, better="less", absolute=""):
    """Whether a ratio is an effect: "faster", "slower" or "no difference shown".

    Both are asked for: the interval excludes 1, and the effect is larger than noise, the A/A floor as |ln ratio|.
    better: "less" when a smaller ratio is the better (times), "more" for speeds. An interval without width (constants) or
    from fewer than MIN_VERDICT units decides nothing.
    """
    if better not in ("less", "more"):
        raise ValueError(f"better is '{better}'; give less or more")
    answer = NONE
    sound = (iv is not None and iv.n >= MIN_VERDICT and math.isfinite(iv.estimate) and iv.estimate > 0 and
             math.isfinite(iv.low) and math.isfinite(iv.high) and iv.low < iv.high)
    if sound and iv.excludes(1.0) and abs(math.log(iv.estimate)) > noise:
        answer = "faster" if (iv.estimate < 1) == (better == "less") else "slower"
    return Verdict(claim, answer, iv, absolute)


def noise_floor(samples, metric="ns_per_request"):
    """Largest |ln ratio| between a slot and its identical twin over all points, plateaus and machines; 0 without twins. Twins of
    fewer than MIN_VERDICT pairs, on which no verdict rests, count only where there are no others."""
    groups, found = {}, []
    for s in samples:
        if s.kept and np.isfinite(s.values.get(metric, math.nan)):
            groups.setdefault((s.machine, s.experiment, s.plateau, s.point), {}).setdefault(s.slot, []).append(s)
    for slots in groups.values():
        for slot in slots:
            if slot + AGAIN in slots:
                a, b = Samples(slots[slot]).paired(Samples(slots[slot + AGAIN]), metric)
                both = (a > 0) & (b > 0)
                if both.any():
                    found.append((int(both.sum()), abs(float(np.median(np.log(b[both] / a[both]))))))
    sound = [f for n, f in found if n >= MIN_VERDICT] or [f for _, f in found]
    return max(sound, default=0.0)
