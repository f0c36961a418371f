# SPDX-License-Identifier: BSD-3-Clause
"""Windows of a duet whose truth is known: plateaus of R, gaps, drift, starts that differ. Deterministic by seed."""

import dataclasses

import numpy as np

import simulate  # noqa: F401 (puts bench/ on the path)
from ab.instrument import windows
from ab.instrument.model import Point

HZ = 2_500_000_000
WINDOW_NS = 500_000.0
HANDOVER_NS = 60_000.0


@dataclasses.dataclass
class World:
    """What is planted. Times in ns."""

    r: tuple = (104.0, 500.0)  # plateaus of R
    dwell: float = 80.0  # rounds that a plateau lasts, mean
    gaps: float = 0.10  # share of the windows with a gap that a side saw
    strays: float = 0.01  # share of the windows that are slow without a gap
    drift: float = 0.05  # sd of the machine's speed over a block (a random walk), shared by all arms
    starts: float = 0.006  # sd of a start of an arm
    dances_sd: float = 0.0  # sd of an arm in a dance
    noise: float = 0.02  # sd of a window
    handover: tuple = (1.0, 2.0)  # the plateaus' ns a byte of the hand-over, in units of 0.1 ns
    memcpy: float = 0.1  # ns a byte


def header(slots, points):
    return {"tick_hz": HZ, "slots": [*slots, *windows.SPECIALS], "points": [dataclasses.asdict(p) for p in points]}


def simulate_windows(slots, points=(Point(),), world=None, blocks=8, dances=3, rounds=80, seed=1, special=True):
    """(rows, header, truth). slots: {slot: f(point, r_ns, handover_ns_per_byte) -> ns of a request, undisturbed}.

    A block has `dances` dances at each point, a dance `rounds` rounds, each with all slots in an order that turns round. The plateau
    may change within a round. truth: plateau (index into world.r) and gap of each row.
    """
    w, rng = world or World(), np.random.default_rng(seed)
    head = header(slots, points)
    names = head["slots"] if special else list(slots)
    arms, per_block = [n not in windows.SPECIALS for n in names], dances * len(points)
    shape = (blocks, per_block, rounds, len(names))
    n = int(np.prod(shape))
    slot = np.argsort(rng.random(shape), axis=-1)  # orders of the rounds; every second one is the one before, turned round
    slot[:, :, 1::2] = slot[:, :, :2 * (rounds // 2):2, ::-1]
    # Plateaus: in some rounds, at some place, the machine moves.
    many = len(w.r)
    moves = np.zeros(shape, dtype=int)
    if many > 1:
        changed = rng.random(shape[:3]) < 1 / w.dwell
        at = rng.integers(0, len(names), shape[:3])
        np.put_along_axis(moves, at[..., None], (changed * rng.integers(1, many, shape[:3]))[..., None], axis=-1)
    state = ((rng.integers(0, many, blocks)[:, None] + moves.reshape(blocks, -1).cumsum(axis=1)) % many).reshape(shape)
    point = np.stack([np.concatenate([rng.permutation(len(points)) for _ in range(dances)]) for _ in range(blocks)])
    per_byte = [0.1 * w.handover[q % len(w.handover)] for q in range(many)]
    special_ns = {windows.ROUND_TRIP: lambda p, r, h: r, windows.MEMCPY: lambda p, r, h: w.memcpy * p.bs,
                  windows.HANDOVER: lambda p, r, h: h * p.bs}
    true = np.array([[[{**special_ns, **slots}[s](p, w.r[q], per_byte[q]) for q in range(many)] for p in points] for s in names])
    point_of = np.broadcast_to(point[:, :, None, None], shape)
    speed = rng.normal(0, 1, (blocks, per_block)).cumsum(axis=1) / np.sqrt(per_block) * w.drift
    own = (rng.normal(0, w.starts, (blocks, len(names))) * arms)[:, None] + \
        rng.normal(0, w.dances_sd, (blocks, per_block, len(names))) * arms
    log = speed[:, :, None, None] + np.take_along_axis(np.broadcast_to(own[:, :, None, :], shape), slot, axis=-1)
    log = log + rng.normal(0, w.noise, shape) + (rng.random(shape) < w.strays) * rng.exponential(0.5, shape)
    ns = true[slot, point_of, state] * np.exp(log)
    requests = np.maximum(1, (WINDOW_NS / ns).astype(int))
    gap = rng.random(shape) < w.gaps
    extra = gap * (rng.exponential(400_000.0, shape) + 10_000.0)
    side = rng.integers(0, 2, shape)
    rows = np.zeros(n, windows.WINDOW)
    block, dance, turn, place = (np.broadcast_to(x, shape).ravel() for x in np.ogrid[tuple(slice(k) for k in shape)])
    ticks = ((requests * ns + extra) * HZ / 1e9).astype(np.int64)
    step = ticks + int(HANDOVER_NS * HZ / 1e9)
    begin = np.cumsum(step.ravel()) - step.ravel() + 1_000_000 + block * int(0.3 * HZ)
    for name, value in {"block": block, "dance": dance, "round": turn, "seq": turn * len(names) + place, "slot": slot, "warm": 50_000,
                        "point": point_of, "begin": begin, "ticks": ticks, "requests": requests, "server_max": 700,
                        "guest_max": extra * 2.5 + 900, "guest_gaps": gap & (side == 0), "server_gaps": gap & (side == 1),
                        "threshold": 7500}.items():
        rows[name] = np.broadcast_to(value, shape).ravel() if np.ndim(value) != 1 else value
    return rows, head, {"plateau": state.ravel(), "gap": gap.ravel()}


def linear(constant, lines, bytes_moved=0.0, factor=1.0):
    """An arm: constant + lines x R + bytes x hand-over, all times factor."""
    return lambda point, r, per_byte: factor * (constant + lines * r + bytes_moved * per_byte)
