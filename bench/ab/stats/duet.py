# SPDX-License-Identifier: BSD-3-Clause
"""From windows of the duet to one number for each start, arm, point and plateau of R. No I/O here.

1. Windows in which either side saw a gap, or left no record, are set aside (windows.undisturbed): blind to the result.
2. Windows are kept apart by plateau of R (stats/plateaus.py); what lies next to a change is set aside.
3. Of one start (block), at one point and on one plateau, the logarithm of a window's time is a part of its round and a part of its
   arm, fitted by alternating midmeans: what a round did to all its neighbours cancels, as with pairs, and the arms' ratios agree
   with each other (with two arms it is the midmean of the rounds' ratios). The start's value of an arm is its part, at the middle
   round. A midmean is the mean of the middle half: as deaf to strays as a median, at a quarter less variance.
4. From there on the start is the unit (stats/__init__.py): a ratio is the median of the starts' ratios.

Both rates are kept: *undisturbed* as above, which comparisons use, and *as experienced*: total time over total requests in all
windows of the plateau, gaps included, since what the design itself makes slow must not be filtered away.
"""

from dataclasses import dataclass, field

import numpy as np

from ab.instrument import windows
from ab.stats import plateaus

LEAST = 8  # windows of an arm, of a start, at a point, on a plateau: the midmean of fewer varies more than starts do
TURNS, SETTLED = 30, 1e-5  # of the alternating fit; largest move at which it ends


def midmean(x, axis=-1):
    """Mean of the middle half along an axis; NaN is left out, NaN where nothing is left."""
    x = np.sort(np.moveaxis(np.asarray(x, dtype=float), axis, -1), axis=-1)  # NaN at the end
    n = np.isfinite(x).sum(axis=-1, keepdims=True)
    k, many = np.arange(x.shape[-1]), np.maximum(n, 1)
    weight = 2 * np.clip(np.minimum((k + 1) / many, 0.75) - np.maximum(k / many, 0.25), 0, None)
    total = (np.where(np.isfinite(x), x, 0.0) * weight).sum(axis=-1)
    return np.where(n[..., 0] > 0, total, np.nan)


def two_way(x):
    """Parts of the columns of x (rounds x arms of logarithms, NaN: no window), at the middle round; NaN for an empty column."""
    x = x[np.isfinite(x).sum(axis=1) >= 2] if x.shape[1] > 1 else x
    if not len(x):
        return np.full(x.shape[1], np.nan)
    arm = midmean(x, axis=0)
    for _ in range(TURNS):
        row = midmean(x - arm, axis=1)
        new = midmean(x - row[:, None], axis=0)
        moved = np.nanmax(np.abs(new - arm), initial=0.0)
        arm = new
        if moved < SETTLED:
            break
    return arm + midmean(midmean(x - arm, axis=1))


def joined(tables):
    """two_way of arms that danced in groups (one table a group, all with the same columns): each group on its own, then moved to
    the mean level of the arms that it shares with the groups before it. A group that shares none stays as it is."""
    out = two_way(tables[0])
    for table in tables[1:]:
        more = two_way(table)
        shared = np.isfinite(out) & np.isfinite(more)
        apart = float(np.mean(more[shared] - out[shared])) if shared.any() else 0.0
        out, more = out + apart / 2, more - apart / 2  # both half way: no group's time is the one that counts
        out = np.where(shared, (out + more) / 2, np.where(np.isfinite(out), out, more))
    return out


@dataclass
class Measured:
    """The windows of an experiment with what was found about each. Arrays have an entry a window, in order of time."""

    rows: np.ndarray  # windows.WINDOW
    header: dict  # of the raw file: slots, points, tick_hz
    ns: np.ndarray  # time of a request
    clean: np.ndarray  # neither side saw a gap
    plateau: np.ndarray  # index into plateaus, or plateaus.NONE
    plateaus: list = field(default_factory=list)

    def counts(self):
        """(clean and on a plateau, mask)"""
        return self.clean & (self.plateau != plateaus.NONE)

    def slot(self, name):
        return self.header["slots"].index(name) if name in self.header["slots"] else -1

    def set_aside(self):
        """{reason: windows}; "windows" is all of them."""
        rows, lost = self.rows, (self.rows["guest_max"] == windows.NOT_SEEN) | (self.rows["server_max"] == windows.NOT_SEEN)
        idle = ~lost & ((rows["requests"] == 0) | (rows["ticks"] == 0))
        return {"windows": len(rows), "a side left no record": int(lost.sum()), "nothing completed": int(idle.sum()),
                "a side saw a gap": int((~self.clean & ~lost & ~idle).sum()),
                "next to a change of R": int((self.clean & (self.plateau == plateaus.NONE)).sum())}


def measure(rows, header):
    """Measured of one experiment's windows."""
    return measure_all({"": (rows, header)})[""]


def measure_all(taken):
    """{name: Measured} of experiments {name: (rows, header)} of one machine, with one list of plateaus for all: R is the machine's.
    Without R-windows all is one plateau whose R is not known (NaN)."""
    out, series, trips = {}, [], []
    for n, (name, (rows, header)) in enumerate(taken.items()):
        rows = rows[np.lexsort((rows["seq"], rows["dance"], rows["block"]))]
        out[name] = m = Measured(rows, header, windows.ns_per_request(rows, header), windows.undisturbed(rows, header),
                                 np.zeros(len(rows), dtype=int))
        trips.append(np.flatnonzero(m.clean & (rows["slot"] == m.slot(windows.ROUND_TRIP))))
        series.append(n * 65536 + rows["block"][trips[-1]].astype(np.int64))
    if not sum(map(len, trips)):
        for m in out.values():
            m.plateaus = [plateaus.Plateau(np.nan, np.nan, np.nan, 0, 1.0)]
        return out
    found, label = plateaus.find(np.concatenate([m.ns[r] for m, r in zip(out.values(), trips)]), np.concatenate(series))
    for m, r, own in zip(out.values(), trips, np.split(label, np.cumsum([len(r) for r in trips])[:-1])):
        group = m.rows["block"].astype(np.int64) * 65536 + m.rows["dance"]
        m.plateaus = found
        m.plateau = plateaus.between(m.rows["begin"], group, m.rows["begin"][r], group[r], own)
    return out


@dataclass(frozen=True)
class Value:
    """One arm of one start at one point on one plateau."""

    block: int
    point: int  # index into header["points"]
    plateau: int
    slot: int  # index into header["slots"]
    ns: float  # of a request, undisturbed; NaN with fewer than LEAST windows
    experienced: float  # in all windows
    windows: int  # all
    clean: int  # that ns is made of
    r_ns: float  # R of the same windows' rounds; NaN: not measured
    memcpy_ns: float  # of the point's block on one core
    handover_ns: float  # of the point's block handed to the other core


def _split(keys):
    """[index array] of equal rows of keys, a tuple of arrays."""
    order = np.lexsort(keys[::-1])
    same = np.ones(len(order), dtype=bool)
    for k in keys:
        same[1:] &= k[order][1:] == k[order][:-1]
    same[:1] = False
    return np.split(order, np.flatnonzero(~same)[1:]) if len(order) else []


def _table(m, own):
    """(array rounds x slots of ln ns of the windows own, several of a slot in a round: their mean; the dance of each round)"""
    rounds, at = np.unique(m.rows["dance"][own].astype(np.int64) << 32 | m.rows["round"][own], return_inverse=True)
    total = np.zeros((len(rounds), len(m.header["slots"])))
    many = np.zeros_like(total)
    np.add.at(total, (at, m.rows["slot"][own]), np.log(m.ns[own]))
    np.add.at(many, (at, m.rows["slot"][own]), 1)
    return np.where(many > 0, total / np.maximum(many, 1), np.nan), rounds >> 32


def _groups(table, dance):
    """Tables of the dances that had the same slots: slots that are too many to be alive together dance in groups."""
    with_slots = {}
    for d in np.unique(dance):
        mine = table[dance == d]
        with_slots.setdefault(tuple(np.isfinite(mine).any(axis=0)), []).append(mine)
    return [np.concatenate(v) for v in with_slots.values()]


def values(m):
    """[Value] of every start, point, plateau and arm that has a window there. Specials are not among them."""
    rows, out = m.rows, []
    special = [m.slot(s) for s in windows.SPECIALS]
    arms = [i for i in range(len(m.header["slots"])) if i not in special]
    on = np.flatnonzero(m.plateau != plateaus.NONE)
    for cell in _split((rows["block"][on], rows["point"][on], m.plateau[on])):
        cell = on[cell]
        own = cell[m.clean[cell]]
        first = rows[cell[0]]
        table, dance = _table(m, own)
        many = np.isfinite(table).sum(axis=0)
        enough = [a for a in arms if many[a] >= LEAST]
        ns = dict(zip(enough, np.exp(joined(_groups(table[:, enough], dance))))) if enough else {}
        bounds = [float(np.exp(midmean(table[:, s]))) if s >= 0 and many[s] else np.nan for s in special]
        for a in arms:
            mine = cell[rows["slot"][cell] == a]
            if not len(mine):
                continue
            ticks, requests = int(rows["ticks"][mine].sum(dtype=np.int64)), int(rows["requests"][mine].sum(dtype=np.int64))
            out.append(Value(int(first["block"]), int(first["point"]), int(m.plateau[cell[0]]), a, float(ns.get(a, np.nan)),
                             ticks * 1e9 / m.header["tick_hz"] / requests if requests else np.nan, len(mine),
                             int(m.clean[mine].sum()), *bounds))
    return out
