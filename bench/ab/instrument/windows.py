# SPDX-License-Identifier: BSD-3-Clause
"""Raw windows of the duet: what one arm did while the two cores were its own, some half millisecond, one row a window.

They lie beside raw/NAME.jsonl as raw/NAME.windows/BLOCK.npy, one file a block, whole or not there. docs/results.md has the
fields. An example, the median time of a request by slot in the windows without a gap:

    from ab.instrument import windows
    w, header = windows.load("report", "quick")
    w = w[windows.undisturbed(w, header)]
    for i, name in enumerate(header["slots"]):
        for k, point in enumerate(header["points"]):
            own = w[(w["slot"] == i) & (w["point"] == k)]
            if len(own):
                print(name, point, np.median(windows.ns_per_request(own, header)), "ns,", len(own), "windows")
"""

import os

import numpy as np

from ab.instrument import store

# Slots that are no arms: a line to and fro, a copy of the point's block on one core, and one handed to the other core.
ROUND_TRIP, MEMCPY, HANDOVER = SPECIALS = ("R", "memcpy", "handover")
TIMES, QUANTILE, NEAR, LEAST_US = 1.5, 0.2, 20, 3.0  # the rule of undisturbed()
NOT_SEEN = 0xffffffff  # guest_max, server_max: that side left no record of the window

WINDOW = np.dtype([
    ("block", "<u2"),     # number of the start: fresh processes
    ("dance", "<u2"),     # of the block
    ("round", "<u4"),     # of the dance: one turn through all slots; windows of a round are neighbours in time
    ("seq", "<u4"),       # of the dance: the order in which windows were played
    ("slot", "<u2"),      # index into header["slots"]
    ("point", "<u2"),     # index into header["points"]; of a special: the point of the arms that it danced with
    ("begin", "<u8"),     # tick at which both sides were there
    ("ticks", "<u4"),     # the counted part, from a completion to a completion
    ("warm", "<u4"),      # ticks from begin to the counted part
    ("requests", "<u4"),  # completed in the counted part: requests, frames, round trips, blocks
    ("guest_max", "<u4"),     # longest turn of the guest's loop in the counted part, ticks
    ("server_max", "<u4"),    # of the server's loop, ticks; NOT_SEEN
    ("guest_gaps", "<u2"),    # turns above the threshold
    ("server_gaps", "<u2"),
    ("threshold", "<u4"),     # ticks; of the side that has the larger one
    ("guest_switches", "<u2"),   # involuntary context switches of that thread in the window
    ("server_switches", "<u2"),
])


def folder(out, name):
    return os.path.join(out, "raw", name + ".windows")


def path(out, name, block):
    return os.path.join(folder(out, name), f"{block}.npy")


def write(out, name, block, rows):
    """All windows of one block, synced; a file of that block is replaced. Nothing else sees half a file."""
    rows = np.asarray(rows, WINDOW)
    os.makedirs(folder(out, name), exist_ok=True)
    part = path(out, name, block) + ".part"
    with open(part, "wb") as f:
        np.save(f, rows, allow_pickle=False)
        f.flush()
        os.fsync(f.fileno())
    os.replace(part, path(out, name, block))


def load(out, name, blocks=None):
    """(windows of all blocks, or of those given, in order of block, dance, seq; header of the raw file)."""
    header = store.read(os.path.join(out, "raw", name + ".jsonl"))[0]
    have = blocks_of(out, name)
    parts = [read(path(out, name, b)) for b in have if blocks is None or b in blocks]
    rows = np.concatenate(parts) if parts else np.empty(0, WINDOW)
    return rows[np.lexsort((rows["seq"], rows["dance"], rows["block"]))], header


def blocks_of(out, name):
    """Numbers of the blocks whose windows are on disk."""
    try:
        files = os.listdir(folder(out, name))
    except FileNotFoundError:
        return []
    return sorted(int(f[:-4]) for f in files if f.endswith(".npy") and f[:-4].isdigit())


def read(file):
    try:
        rows = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise store.StoreError(f"{file}: {e}; move the file away and measure again") from None
    if rows.dtype != WINDOW:
        raise store.StoreError(f"{file}: its fields are not those that this program reads; move the file away and measure again")
    return rows


def undisturbed(rows, header):
    """Windows in which neither side saw a gap, both left a record, and something was counted.

    A gap is a turn longer than TIMES what is usual for that side of that slot just then (the QUANTILE of the longest turns of
    the NEAR windows around it in its dance, of which most are disturbed only when nothing can be measured at all), and longer
    than LEAST_US. Just then, because a turn takes several times as long when the two cores are far apart. Only lengths of turns
    are looked at, and never what was counted: the rule is blind to the result. `rows` are in the order of load().
    """
    seen = ((rows["server_max"] != NOT_SEEN) & (rows["guest_max"] != NOT_SEEN) & (rows["requests"] > 0) & (rows["ticks"] > 0))
    least = LEAST_US * header["tick_hz"] / 1e6
    good = seen.copy()
    index = np.flatnonzero(seen)
    group = np.unique(rows[["block", "dance", "slot"]][index], return_inverse=True)[1]
    by_group = np.argsort(group, kind="stable")
    for part in np.split(by_group, np.flatnonzero(np.diff(group[by_group])) + 1) if len(index) else []:
        mine = index[part]
        for side in ("guest_max", "server_max"):
            longest = rows[side][mine].astype(float)
            good[mine] &= longest <= np.maximum(TIMES * usual(longest), least)
    return good


def usual(longest):
    """The QUANTILE of the NEAR values around each one (fewer at the ends, where the nearest NEAR are taken)."""
    n = len(longest)
    if n <= NEAR:
        return np.full(n, np.quantile(longest, QUANTILE))
    inner = np.quantile(np.lib.stride_tricks.sliding_window_view(longest, NEAR), QUANTILE, axis=1)
    return inner[np.clip(np.arange(n) - NEAR // 2, 0, len(inner) - 1)]


def ns_per_request(rows, header):
    return rows["ticks"] * (1e9 / header["tick_hz"]) / np.maximum(rows["requests"], 1)
