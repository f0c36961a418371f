# SPDX-License-Identifier: BSD-3-Clause
"""The score of a duet: the file that all its programs map (duet/score.h), and the order of turns."""

import mmap
import os
import tempfile

import numpy as np

from ab.instrument import windows

MAGIC = 0x5456554400323056
MAX_SLOTS, APART = 64, 128
FREE, PARKED, OVER, FIRST = 0, 1, 2, 16
GUEST, SERVER = 0, 1
TRIES = 2000  # of a square's rows in an order in which no slot follows itself: one in three is, with ten slots

HEAD = np.dtype([("magic", "<u8"), ("bytes", "<u8"), ("sides_at", "<u8"), ("turns_at", "<u8"), ("guests_at", "<u8"),
                 ("servers_at", "<u8"), ("max_turns", "<u4"), ("n_slots", "<u4"), ("n_turns", "<u4"), ("n_guests", "<u4"),
                 ("more", "<u4"), ("first", "<u4"), ("pad", "V56"), ("ready", "<u4"), ("pad2", "V124")])
LINE = np.dtype([("word", "<u4"), ("pad", "V124"), ("seen", "<u4"), ("alone", "<u4"), ("pad2", "V120")])
TURN = np.dtype([("slot", "<u4"), ("warm", "<u4"), ("ticks", "<u4"), ("threshold", "<u4", 2)])
GUEST_RECORD = np.dtype([("woken", "<u8"), ("begin", "<u8"), ("passed", "<u8"), ("warm", "<u4"), ("ticks", "<u4"),
                         ("requests", "<u4"), ("all", "<u4"), ("longest", "<u4"), ("gaps", "<u4"), ("switches", "<u4"),
                         ("cpu_ns", "<u4"), ("done", "<u4"), ("reserved", "<u4")])
SERVER_RECORD = np.dtype([("woken", "<u8"), ("longest", "<u4"), ("gaps", "<u4"), ("switches", "<u4"), ("cpu_ns", "<u4"),
                          ("done", "<u4"), ("reserved", "<u4")])


def up(n):
    return (n + APART - 1) // APART * APART


def square(n):
    """Williams' design: rows of the numbers 0 to n-1 in which each number stands once at each place (even n; twice when n is
    odd) and each is followed by each other one equally often, so that neither a drift nor what the one before leaves
    behind favours anybody. n rows, 2n when n is odd."""
    first = [0]
    for k in range(1, n):
        first.append((k + 1) // 2 if k % 2 else n - k // 2)
    rows = [[(x + r) % n for x in first] for r in range(n)]
    return rows if n % 2 == 0 else rows + [row[::-1] for row in rows]


def order(slots, rounds, rng):
    """[[slot, ...], ...]: `rounds` turns through all slots, as whole Williams squares (the last one may be cut), each with
    its names and rows shuffled; no slot follows itself where there are three or more."""
    out = []
    while len(out) < rounds:
        for _ in range(TRIES if len(slots) > 2 else 1):  # of two, whoever ends a row of the square begins its other one
            names = rng.sample(list(slots), len(slots))
            rows = [[names[x] for x in row] for row in square(len(names))]
            rng.shuffle(rows)
            if all(a[-1] != b[0] for a, b in zip(out[-1:] + rows, rows if out else rows[1:])):
                break
        out += rows[:rounds - len(out)]
    return out


class Score:
    """The file. One score serves several dances, one after the other. Without a folder it is memory that the programs open by way
    of this process's descriptor, so that nothing is left behind when it is killed."""

    def __init__(self, max_turns, folder=None):
        self.max_turns, self.written = max_turns, 0
        self.named = folder is not None
        if self.named:
            fd, self.path = tempfile.mkstemp(prefix="vio-score-", dir=folder)
        else:
            fd = os.memfd_create("vio-score", os.MFD_CLOEXEC)
            self.path = f"/proc/{os.getpid()}/fd/{fd}"
        self.fd = fd
        sides = HEAD.itemsize
        turns = up(sides + MAX_SLOTS * 2 * LINE.itemsize)
        guests = up(turns + max_turns * TURN.itemsize)
        servers = up(guests + max_turns * GUEST_RECORD.itemsize)
        size = up(servers + max_turns * SERVER_RECORD.itemsize)
        os.posix_fallocate(fd, 0, size)
        self.map = mmap.mmap(fd, size)
        self.head = np.frombuffer(self.map, HEAD, 1, 0)[0:1]
        self.lines = np.frombuffer(self.map, LINE, MAX_SLOTS * 2, sides).reshape(MAX_SLOTS, 2)
        self.turns = np.frombuffer(self.map, TURN, max_turns, turns)
        self.guests = np.frombuffer(self.map, GUEST_RECORD, max_turns, guests)
        self.servers = np.frombuffer(self.map, SERVER_RECORD, max_turns, servers)
        for key, value in (("magic", MAGIC), ("bytes", size), ("sides_at", sides), ("turns_at", turns), ("guests_at", guests),
                           ("servers_at", servers), ("max_turns", max_turns), ("first", FIRST)):
            self.head[key] = value

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        os.close(self.fd)
        if self.named:
            os.unlink(self.path)

    def option(self, slot):
        """Value of a program's --duet."""
        return f"{self.path},slot={slot}"

    def open(self, slots, alone=()):
        """Before any guest starts: guests will sleep when they are ready, servers until their guest starts. alone: slots
        without a server's side."""
        self.lines["word"] = PARKED
        self.lines["seen"] = FREE
        self.lines["alone"] = 0
        self.lines["alone"][list(alone), GUEST] = 1
        for key, value in (("n_slots", max(slots) + 1), ("n_turns", 0), ("n_guests", len(slots)), ("ready", 0)):
            self.head[key] = value

    def write(self, rows, more=False):
        """The next dance: rows of rounds, each of (slot, warm, ticks, threshold of the guest's side, of the server's), while all
        guests but the one that begins it are ready, and none runs. more: another one follows."""
        flat = [turn for row in rows for turn in row]
        n = len(flat)
        if n > self.max_turns:
            raise ValueError(f"{n} turns, room for {self.max_turns}")
        self.round = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        # First: a server that comes late with its record of the dance before finds that its turn is none any more.
        self.head["first"] += self.written
        self.written = n
        self.guests[:n] = np.zeros(n, GUEST_RECORD)
        self.servers[:n] = np.zeros(n, SERVER_RECORD)
        for k, (slot, warm, ticks, guest, server) in enumerate(flat):
            self.turns[k] = (slot, warm, ticks, (guest, server))
        for key, value in (("n_turns", n), ("more", int(more))):
            self.head[key] = value

    def cut(self):
        """The dance ends with the turn that is being played; later ones are left out. How many turns it has then."""
        n = self.n_turns()
        played = int((self.guests["done"][:n] == 1).sum())
        self.head["n_turns"] = min(n, played + 1)
        self.round = self.round[:self.n_turns()]
        return self.n_turns()

    @property
    def ready(self):
        return int(self.head["ready"][0])

    def n_turns(self):
        return int(self.head["n_turns"][0])

    def records(self):
        """(turns, records of the guests' sides, of the servers') of the dance, copied."""
        n = self.n_turns()
        return self.turns[:n].copy(), self.guests[:n].copy(), self.servers[:n].copy()

    def handovers(self):
        """Ticks from the end of a turn to both sides of the next being there, of turns that were played one after the other."""
        n = self.n_turns()
        g = self.guests[:n]
        both = (g["done"][1:] == 1) & (g["done"][:-1] == 1)
        return (g["begin"][1:] - g["passed"][:-1].astype(np.int64)).astype(np.int64)[both]

    def windows(self, block, dance, slot_of, point_of):
        """The dance's turns as windows.WINDOW. slot_of, point_of: index of the header's slots and points, by the score's slot."""
        turns, guests, servers = self.records()
        out = np.zeros(len(turns), windows.WINDOW)
        out["block"], out["dance"], out["round"], out["seq"] = block, dance, self.round, np.arange(len(turns))
        out["slot"] = [slot_of[s] for s in turns["slot"]]
        out["point"] = [point_of[s] for s in turns["slot"]]
        for key in ("begin", "ticks", "warm", "requests"):
            out[key] = guests[key]
        alone = self.lines["alone"][turns["slot"], GUEST] == 1
        out["guest_max"] = np.where(guests["done"] == 1, guests["longest"], windows.NOT_SEEN)
        out["server_max"] = np.where(alone, 0, np.where(servers["done"] == 1, servers["longest"], windows.NOT_SEEN))
        for side, records in (("guest", guests), ("server", servers)):
            out[side + "_gaps"] = np.minimum(records["gaps"], 0xffff)
            out[side + "_switches"] = np.minimum(records["switches"], 0xffff)
        out["threshold"] = turns["threshold"].max(axis=1)
        return out
