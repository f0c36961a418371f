# SPDX-License-Identifier: BSD-3-Clause
"""A client of the guest's disk that knows what was acknowledged, across the death of everything below it.

Each worker has blocks of its own and writes their generation into each sector of them. A block may then hold its last acknowledged
generation or one that was asked for later and never answered; an older one is a loss, also when it comes back later (a write
that was given up and lands after its successor), and so is anything else.
"""

import random
import struct
import threading
import time

import nbd

SECTOR = 512
BLOCK = 4096
BLOCKS = 256  # of the disk that are used
BYTES = BLOCK * BLOCKS


def sector(block, generation):
    """What a sector of the block holds; zeroes before it was written."""
    return struct.pack("<QQ", block, generation) * (SECTOR // 16) if generation else bytes(SECTOR)


class Stalls:
    """Has this whole process stood still (a machine that was suspended, or has more to do than it can)? Then no time-out means anything."""

    GAP = 2.0  # seconds between two looks that are 20 ms apart

    def __init__(self):
        self.last = 0.0  # when it last had
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        was = time.monotonic()
        while True:
            time.sleep(0.02)
            now = time.monotonic()
            if now - was > self.GAP:
                self.last = now
            was = now

    def since(self, when):
        return self.last > when


class Journal:
    def __init__(self):
        self.acked, self.issued = [0] * BLOCKS, [0] * BLOCKS
        self.lost = []   # sentences: what was acknowledged is not there
        self.stuck = []  # and: somebody gets no answer
        self.writes = self.reads = self.flushes = 0

    def check(self, first, data, least, where):
        """data: from block `first` on. least: what each block had acknowledged before it was read."""
        for i in range(len(data) // BLOCK):
            block, seen = first + i, data[i * BLOCK:(i + 1) * BLOCK]
            most = self.issued[block]
            for at in range(0, BLOCK, SECTOR):
                _, generation = struct.unpack_from("<QQ", seen, at)
                if not least[i] <= generation <= most or seen[at:at + SECTOR] != sector(block, generation):
                    self.lost.append(f"{where}: block {block}, sector {at // SECTOR}: generation {generation} "
                                     f"({seen[at:at + 16].hex()}), acknowledged {least[i]}, asked for {most}")
                    break

    def check_all(self, read, where):
        """read(offset, length) -> bytes."""
        least = list(self.acked)
        self.check(0, read(0, BYTES), least, where)


class Workers:
    """`n` threads over the disk at `uri`, each with every n-th block, until stop(); they connect again when it is away."""

    def __init__(self, uri, journal, n=4, seed=1):
        self.uri, self.journal, self.n = uri, journal, n
        self.ending = False
        self.done = [0] * n  # operations that were answered
        self.failed = 0      # and that failed, or whose connection did
        self.threads = [threading.Thread(target=self._run, args=(i, random.Random(seed * 1000 + i)), daemon=True) for i in range(n)]
        for t in self.threads:
            t.start()

    def _run(self, i, rng):
        while not self.ending:
            h = nbd.NBD()
            try:
                h.connect_uri(self.uri)
                while not self.ending:
                    self._step(h, i, rng)
                h.shutdown()
            except nbd.Error:
                self.failed += 1
                time.sleep(0.02)

    def _step(self, h, i, rng):
        j, block, what = self.journal, rng.randrange(i, BLOCKS, self.n), rng.random()
        if what < 0.7:
            j.issued[block] += 1
            generation = j.issued[block]
            h.pwrite(sector(block, generation) * (BLOCK // SECTOR), block * BLOCK)
            j.acked[block] = generation
            j.writes += 1
        elif what < 0.9:
            least = [j.acked[block]]
            j.check(block, h.pread(BLOCK, block * BLOCK), least, "read")
            j.reads += 1
        else:
            h.flush()
            j.flushes += 1
        self.done[i] += 1

    def progress(self, more, seconds, over=lambda: False):
        """Does each worker get `more` answers within the time, and before it is over?"""
        want, end = [d + more for d in self.done], time.monotonic() + seconds
        while any(d < w for d, w in zip(self.done, want)):
            if time.monotonic() > end or over():
                return False
            time.sleep(0.01)
        return True

    def stop(self):
        """False: one of them hangs in a request."""
        self.ending = True
        for t in self.threads:
            t.join(30)
        return not any(t.is_alive() for t in self.threads)
