# SPDX-License-Identifier: BSD-3-Clause
"""The conductor of a duet: all arms' machines of a setting alive at once, on the same two cores, taking turns of about half a
millisecond (docs/method.md, the duet). It writes the score, starts the programs, says when a dance begins, and collects; no
process of its own runs while they dance."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass

import numpy as np

from machine import Machine, MachineError, WrongResult, die_with_parent
from ab.instrument import environment, score, windows
from ab.drivers.trial import batch_of

READY_SECONDS = 60  # until a guest is set up, on a machine that others use
# A dance that others keep from the processors is cut when it has taken so much; one that does not end then has lost somebody.
LATE, LATE_SECONDS, PATIENCE_SECONDS = 3, 1, 10
# Lengths of windows, by the pilot: at least the experiment's, at least so many completions of a batch, at most so much: a window
# that is longer than a scheduler's slice hardly ever passes without a gap on a machine that others use.
BATCHES, MOST_US = 8, 2000
# The warm-up: at least the experiment's; so many times all that is in flight; twice the experiment's where there is data, whose
# lines other arms have driven out of the caches (docs/method.md has the measurement); at most so much.
WARM_FLIGHTS, DATA_TIMES, MOST_WARM_US = 2, 2, 1000
# The threshold of gaps that the programs count by, from the pilot: so many times the shortest of its windows' longest turns, at
# least so much. windows.undisturbed() judges by the longest turns themselves.
GAP_TIMES, GAP_LEAST_US = 4, 3
HANDOVER_US = 25  # from one window to the next, for estimates


@dataclass(frozen=True)
class Player:
    """A slot of an ensemble. start(value of --duet) -> machine.Program of its guest's side; result(program) -> what it reported,
    once it has ended."""

    slot: str
    start: object
    result: object
    alone: bool = False  # its server has no side in the duet: it sleeps by itself when nobody asks it


class Special:
    """bench-duet: the slots that are no arms. The first of them begins each dance."""

    def __init__(self, build, sheet, slots, cores, point, span):
        names = {windows.ROUND_TRIP: "--round-trip", windows.MEMCPY: "--memcpy", windows.HANDOVER: "--handover"}
        argv = [os.path.join(os.path.abspath(build), "bench/bench-duet"), "--score", sheet.path, "--cores",
                f"{cores['guest_core']},{cores['server_core']}", "--size", str(max(8, point.bs // 8 * 8)), "--depth",
                str(point.depth), "--span", str(max(span, point.bs))]
        for name, slot in slots.items():
            argv += [names[name], str(slot)]
        self.argv = argv
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                                     preexec_fn=die_with_parent)

    def go(self):
        try:
            self.proc.stdin.write(b"g")
        except OSError:
            pass  # it has ended: said by wait_end()

    def wait_end(self, seconds):
        """True: the dance is over."""
        ok, _, _ = select.select([self.proc.stdout], [], [], seconds)
        return bool(ok) and self.proc.stdout.read(1) == b"E"

    def finish(self, seconds):
        """MachineError unless it ended well."""
        try:
            rc = self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            rc = None
        if rc != 0:
            raise MachineError(f"bench-duet: {'did not end' if rc is None else f'exit {rc}'}: {self.stop()}")

    def stop(self):
        """Ends it if it still runs; what it said."""
        if self.proc.poll() is None:
            self.proc.kill()
        if not self.proc.stdin.closed:
            self.proc.stdin.close()
            self.said = self.proc.stderr.read().decode(errors="replace").strip()
            self.proc.stdout.close()
            self.proc.stderr.close()
        self.proc.wait()
        return self.said


@dataclass
class Tuning:
    """Of one point's dances, in ticks: warm-up and counted part of each window; by slot, thresholds of the two sides."""

    warm: int
    ticks: int
    threshold: dict


def tune(pilot, point, duet, hz):
    """Tuning from a pilot's windows (windows.WINDOW, slot as in the score): blind to which arm is faster. One length for all, so
    that all have the same share of the time; the slowest arm decides."""
    us = hz / 1e6
    arms = pilot[pilot["requests"] > 0]
    per = arms["ticks"] / np.maximum(arms["requests"], 1)
    slowest = max((float(np.quantile(per[arms["slot"] == s], 0.25)) for s in np.unique(arms["slot"])), default=0.0)
    ticks = min(max(duet.window_us * us, slowest * batch_of(point) * BATCHES), max(duet.window_us, MOST_US) * us)
    least = duet.warm_us * us * (DATA_TIMES if point.backend != "null" else 1)
    warm = min(max(least, slowest * point.depth * WARM_FLIGHTS), max(least, MOST_WARM_US * us))
    threshold = {}
    for s in np.unique(pilot["slot"]):
        own = pilot[pilot["slot"] == s]
        threshold[int(s)] = [gap_threshold(own[side], us) for side in ("guest_max", "server_max")]
    return Tuning(int(warm), int(ticks), threshold)


def gap_threshold(longest, us):
    seen = longest[longest != windows.NOT_SEEN]
    typical = float(seen.min()) if len(seen) else 0.0
    return int(max(GAP_TIMES * typical, GAP_LEAST_US * us))


class Dances:
    """The dances of one point: guests started one after the other, a pilot, then as many dances as are asked for."""

    def __init__(self, sheet, players, specials, special, hz, duet, rng):
        """players: {slot of the score: Player}; specials: {name: slot of the score}; special() -> Special."""
        self.sheet, self.players, self.specials, self.special = sheet, players, specials, special
        self.hz, self.duet, self.rng = hz, duet, rng
        self.slots = [*players, *specials.values()]

    def run(self, point, block, first, slot_of, point_of):
        """([windows of each dance], Tuning, {slot: result}); first: number of the first dance."""
        alone = [self.specials[windows.MEMCPY]] if windows.MEMCPY in self.specials else []
        alone += [slot for slot, p in self.players.items() if p.alone]
        self.sheet.open(self.slots, alone)
        guests, out = {}, []
        with contextlib.ExitStack() as stack:
            for n, slot in enumerate(self.rng.sample(list(self.players), len(self.players)), 1):
                guests[slot] = self.players[slot].start(self.sheet.option(slot))
                stack.callback(self.end, guests[slot])
                self.wait_ready(n, guests)
            leader = self.special()
            stack.callback(leader.stop)
            pilot = self.dance(leader, guests, self.pilot_rows(), True, (block, 0, self.slots_as_they_are(), point_of))
            tuning = tune(pilot, point, self.duet, self.hz)
            for k in range(self.duet.dances):
                rows = self.rows(tuning)
                out.append(self.dance(leader, guests, rows, k + 1 < self.duet.dances, (block, first + k, slot_of, point_of)))
            leader.finish(READY_SECONDS)
            results = {slot: self.players[slot].result(guests[slot]) for slot in self.players}
        return out, tuning, results

    def slots_as_they_are(self):
        return {s: s for s in self.slots}

    def pilot_rows(self):
        us = self.hz / 1e6
        turn = (int(self.duet.warm_us * us), int(self.duet.window_us * us), *[int(GAP_LEAST_US * us)] * 2)
        return [[(s, *turn) for s in row] for row in score.order(self.slots, self.duet.pilot_rounds, self.rng)]

    def rows(self, tuning):
        each = (tuning.warm + tuning.ticks) / self.hz + HANDOVER_US / 1e6
        most = self.sheet.max_turns // len(self.slots)
        rounds = min(max(self.duet.rounds, round(self.duet.seconds / (each * len(self.slots)))), most)
        least = [int(GAP_LEAST_US * self.hz / 1e6)] * 2  # of a slot that a cut pilot left out
        return [[(s, tuning.warm, tuning.ticks, *tuning.threshold.get(s, least)) for s in row]
                for row in score.order(self.slots, rounds, self.rng)]

    def dance(self, leader, guests, rows, more, names):
        self.wait_ready(len(self.slots) - 1, guests)  # all but the one that leads: none still reads the score of before
        self.sheet.write(rows, more)
        expected = sum(turn[1] + turn[2] for row in rows for turn in row) / self.hz
        leader.go()
        ended = leader.wait_end(LATE_SECONDS + LATE * expected)
        if not ended:
            self.sheet.cut()
            ended = leader.wait_end(PATIENCE_SECONDS)
        if not ended:
            raise MachineError(f"a dance of {expected:.2f} s did not end:\n" + self.who_is_gone(leader, guests))
        self.handovers = self.sheet.handovers()
        return self.sheet.windows(names[0], names[1], names[2], names[3])

    def wait_ready(self, n, guests):
        end = time.monotonic() + READY_SECONDS
        while self.sheet.ready < n:
            gone = [s for s, g in guests.items() if not g.alive()]
            if gone or time.monotonic() > end:
                raise MachineError(f"{n - self.sheet.ready} guest(s) not ready for the dance:\n" + self.who_is_gone(None, guests))
            time.sleep(0.001)

    def who_is_gone(self, leader, guests):
        said = [f"{self.players[s].slot}: {'alive' if g.alive() else f'exit {g.proc.returncode}'} {g.log()[-500:]}"
                for s, g in guests.items()]
        return "\n".join(said + ([f"bench-duet: {leader.stop()}"] if leader else []))

    @staticmethod
    def end(program):
        if program.proc.poll() is None:
            program.kill()
        else:
            program.stop()


class Ensemble:
    """Machines of several arms at once, all of one kind of setting."""

    def __init__(self, make, arms, sheet):
        """make(slot, arm, --duet's value) -> machine.Machine, not entered. arms: {slot: arm}."""
        self.sheet, self.slots = sheet, list(arms)
        self.machines = {slot: make(slot, arm, sheet.option(n)) for n, (slot, arm) in enumerate(arms.items())}

    def __enter__(self):
        t0 = time.monotonic()
        try:
            for m in self.machines.values():
                m.begin()
            for m in self.machines.values():
                m.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.seconds = time.monotonic() - t0
        return self

    def __exit__(self, *exc):
        for m in self.machines.values():
            if m.vios:
                m.vios.signal(signal.SIGTERM)
        for m in self.machines.values():
            m.__exit__(*exc)


def guest_player(slot, machine, args, check):
    """A Player whose guest is machine's program with these options."""
    path = os.path.join(machine.dir, "duet.json")

    def start(value):
        if os.path.exists(path):
            os.unlink(path)
        return machine.start_guest([*args, "--duet", value, "--json", path])

    def result(program):
        try:
            rc = program.proc.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            raise MachineError(f"{slot}: {program.name} did not end after the dance") from None
        text = program.log()
        got = None
        if os.path.exists(path):
            with open(path) as f:
                got = json.load(f)
        if rc:
            kind = WrongResult if got and (got["run"].get("mismatches") or got["run"].get("errors")) else MachineError
            raise kind(f"{slot}: {program.name} {' '.join(args)}: exit {rc}\n{text}--- vios:\n{machine.vios.log()[-2000:]}")
        check(got)
        return got
    return Player(slot, start, result, getattr(machine, "alone", False))


def pages_for(machines, mib_each):
    """"2m" when the free hugepages are enough for all of them, else "4k": one kind for all arms of an ensemble, or the pages
    would be part of what is compared."""
    free = int(environment.read_text("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0") or 0)
    return "2m" if free >= machines * (mib_each // 2 + 4) else "4k"
