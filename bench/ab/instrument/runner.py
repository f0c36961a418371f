# SPDX-License-Identifier: BSD-3-Clause
"""Runs an experiment: randomised interleaved blocks, a pilot that fixes their number, the discard rule; resumable.

A block visits every machine setting (backend, costs, cores) in random order; within a setting every slot, in random
order, from process start. What is compared is so measured within seconds of each other, and no arm is always first.
"""

import contextlib
import os
import random
import statistics
import sys
import time

from machine import MachineError
from ab import stats
from ab.drivers import anchors_run, duet_trial, net_trial, trial
from ab.instrument import environment, plateau_samples, store, windows
from ab.instrument.model import Samples

LIMITS_SECONDS = 3.0  # of bench-limits before and after a run
LIMITS = "limits"  # slot and backend of bench-limits in a block
LIMITS_OF = ":limits"  # experiment "quick:limits" holds quick's; so no analysis takes them for an arm
TRIAL_TRIES = 3  # of a trial that failed (a program did not start, say) before the run gives up
MOST = 0.9  # share of the comparisons that the pilot's number of blocks is to bring to the precision


class Progress:
    """One line: what is being done and the time left. On a terminal it is rewritten, elsewhere told now and then."""

    def __init__(self, quiet=False):
        self.total = self.done = 0.0
        self.t0 = time.monotonic()
        self.told = 0.0
        self.quiet = quiet

    def expect(self, seconds):
        self.total += seconds

    def left(self):
        pace = self.spent() / self.done if self.done > 5 else 1.0
        return max(0.0, (self.total - self.done) * pace)

    def spent(self):
        """Seconds since this was made."""
        return time.monotonic() - self.t0

    def step(self, text, seconds=0.0):
        self.done += seconds
        if self.quiet:
            return
        line = f"{text}   about {duration(self.left())} left"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.told > 15:
            print(line, file=sys.stderr, flush=True)
            self.told = time.monotonic()

    def lost(self, text):
        """Said in any case, on a line of its own, also by a quiet run: something failed and is tried again."""
        self.end()
        print(f"FAILED, and is tried again: {text}", file=sys.stderr, flush=True)

    def end(self):
        if not self.quiet and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def duration(seconds):
    s = int(seconds + 0.5)
    if s < 120:
        return f"{s} s"
    return f"{s // 60} min" if s < 7200 else f"{s // 3600} h {s % 3600 // 60} min"


def sample_seconds(experiment, point):
    """What one sample takes, roughly: for the first estimate; the pace of the run corrects it."""
    tail = experiment.measure.seconds + 0.15 if point.rate else 0.0  # bench-tail
    return experiment.measure.seconds + experiment.measure.warm_seconds + 0.06 + point.bs * 4e-8 + tail


def trial_seconds(experiment, slot, points):
    """What a trial, one slot at points of one machine key, takes, roughly. A machine's start and end take 0.35 s."""
    if points[0].backend == "net":
        return net_trial.seconds(experiment.slots[slot], points, experiment.measure)
    return 0.35 + sum(sample_seconds(experiment, p) for p in points)


def danced(experiment, slot, point):
    return experiment.duet.seconds > 0 and duet_trial.dances(experiment.slots[slot], point)


def danced_keys(experiment):
    """{machine key: {slot: points}} of the points that are danced."""
    keys = {}
    for slot, points in experiment.points.items():
        for p in points:
            if danced(experiment, slot, p):
                keys.setdefault(duet_trial.key_of(p), {}).setdefault(slot, []).append(p)
    return keys


def block_seconds(experiment):
    """What one block takes, roughly."""
    trials = {}
    for slot, points in experiment.points.items():
        for p in points:
            if not danced(experiment, slot, p):
                trials.setdefault((slot, trial.machine_key(p)), []).append(p)
    return experiment.measure.limits_seconds + sum(trial_seconds(experiment, slot, points)
                                                   for (slot, _), points in trials.items()) + \
        sum(duet_trial.seconds(points_of, experiment.duet) for points_of in danced_keys(experiment).values())


def window_header(experiment, build):
    """What the header of a raw file says of the windows beside it; nothing without a duet."""
    keys = danced_keys(experiment)
    if not keys:
        return {}
    points = []
    for points_of in keys.values():
        for p in (p for ps in points_of.values() for p in ps):
            if trial.point_dict(p) not in points:
                points.append(trial.point_dict(p))
    return {"tick_hz": duet_trial.tick_hz(build), "slots": [*experiment.slots, *windows.SPECIALS], "points": points}


class Run:
    """One experiment on one machine, from its raw file on disk to its last block."""

    def __init__(self, experiment, log, build, cores, progress, image):
        self.experiment, self.log, self.progress = experiment, log, progress
        self.cores, self.build = cores, build
        self.out = os.path.dirname(image) or "."  # temporary files go where the disk's image is
        self.trial = trial.Trial(build, cores, experiment, image)
        self.have = {(t["block"], t["key"], t["slot"]) for t in log.trials if not t.get("danced")}
        self.keys = danced_keys(experiment)
        self.images = duet_trial.Images(self.out)
        if self.keys:
            self.duet = duet_trial.DuetTrial(build, cores, experiment, self.images, log.header["tick_hz"],
                                             (log.header["slots"], log.header["points"]))

    def order(self, block):
        """[(key, slot)] of a block: the same for the same seed, so that a resumed run goes on where it was."""
        rng = random.Random(f"{self.experiment.seed}/{self.experiment.name}/{block}")
        slots_of = {}
        for slot, points in self.experiment.points.items():
            for p in points:
                if not danced(self.experiment, slot, p):
                    slots_of.setdefault(trial.machine_key(p), set()).add(slot)
        keys = sorted(slots_of)
        rng.shuffle(keys)
        order = [(key, slot) for key in keys for slot in rng.sample(sorted(slots_of[key]), len(slots_of[key]))]
        if self.experiment.measure.limits_seconds and order:
            order.insert(rng.randrange(len(order) + 1), ((LIMITS,), LIMITS))
        return order

    def dance(self, block, phase):
        """All that is danced in a block: windows on disk first, then its samples in one line."""
        if not self.keys or any(t["block"] == block and t.get("danced") for t in self.log.trials):
            return
        e = self.experiment
        rng = random.Random(f"{e.seed}/{e.name}/{block}/duet")
        keys = [(key, self.keys[key]) for key in rng.sample(sorted(self.keys), len(self.keys))]
        failures = []
        while True:
            try:
                trials, rows, notes = duet_trial.measure_block(self.duet, block, keys, rng, self.told(block))
                break
            except MachineError as err:
                failures.append(str(err))
                if len(failures) == TRIAL_TRIES:
                    raise
                self.progress.lost(f"{e.name}, block {block + 1}: {err}")
        windows.write(os.path.dirname(os.path.dirname(self.log.path)), e.name, block, rows)
        for t in trials:
            t |= {"experiment": e.name, "phase": phase, "danced": True, "failures": failures}
        self.log.add_block(trials + self.round_trip(trials, notes), notes)

    def told(self, block):
        return lambda key, points_of: self.progress.step(f"{self.experiment.name}: block {block + 1}, {trial.key_text(key)}",
                                                         duet_trial.seconds(points_of, self.experiment.duet))

    def round_trip(self, trials, notes):
        """R of the dances of a block, as bench-limits would say it."""
        r = [n["r_ns"] for n in notes if n["r_ns"]]
        if not r:
            return []
        got = [{"op": "round_trip", "bs": 64, "depth": 1, "backend": LIMITS, "arm": LIMITS,
                "values": {"ns_per_request": statistics.median(r)}}]
        return [trials[0] | {"experiment": self.experiment.name + LIMITS_OF, "slot": LIMITS, "arm": LIMITS,
                             "key": repr((LIMITS,)), "seconds": 0.0, "samples": self.as_samples(got, 0, "")}]

    def block(self, block, phase):
        self.dance(block, phase)
        for position, (key, slot) in enumerate(self.order(block)):
            if (block, repr(key), slot) in self.have:
                continue
            self.one(block, phase, position, key, slot)

    def one(self, block, phase, position, key, slot):
        e, limits = self.experiment, key[0] == LIMITS
        arm = LIMITS if limits else e.slots[slot]
        points = [] if limits else [p for p in e.points[slot] if trial.machine_key(p) == key and not danced(e, slot, p)]
        rng = random.Random(f"{e.seed}/{e.name}/{block}/{position}")
        self.progress.step(f"{e.name}: block {block + 1}, {slot}" + ("" if limits else f", {trial.key_text(key)}"),
                           e.measure.limits_seconds if limits else trial_seconds(e, slot, points))
        began, steal0, failures, spoiled = time.time(), environment.steal_ticks(self.used()), [], []
        while True:
            try:
                samples = self.samples(slot, arm, key, points, rng)
                break
            except MachineError as err:
                failures.append(str(err))
                spoiled += [s | {"kept": False, "why": "the trial failed later"} for s in getattr(err, "samples", [])]
                if len(failures) == TRIAL_TRIES:
                    raise
                self.progress.lost(f"{e.name}, block {block + 1}: {err}")
        self.log.add_trial({"experiment": e.name + (LIMITS_OF if limits else ""), "block": block, "phase": phase,
                            "position": position, "key": repr(key), "slot": slot, "arm": arm, "began": began,
                            "seconds": time.time() - began,
                            "steal_ticks": environment.steal_ticks(self.used()) - steal0, "failures": failures,
                            "samples": spoiled + samples})

    def used(self):
        return (self.cores["guest_core"], self.cores["server_core"])

    def samples(self, slot, arm, key, points, rng):
        if key[0] == LIMITS:
            seconds = self.experiment.measure.limits_seconds
            return self.whole(lambda: limit_samples(environment.limits(self.build, self.cores, seconds)))
        if key[0] == "net":
            return net_trial.NetTrial(self.build, self.cores, self.experiment).run(arm, points, rng)
        if key[0] != "anchor":
            return self.trial.run(arm, key, points, rng)
        return self.whole(lambda: anchors_run.run_anchors(self.build, self.used(), rng.randrange(1 << 30),
                                                          self.experiment.measure.seconds, self.out))

    def whole(self, measure):
        """Samples of a program that measures many points in one start: the discard rule looks at all of it."""
        out = []
        for got, ticks, why in trial.until_kept(self.used(), measure):
            out += self.as_samples(got, ticks, why)
        return out

    @staticmethod
    def as_samples(got, ticks, why):
        return [{"slot": g["arm"], "arm": g["arm"], "values": g["values"] | {"steal_ticks": ticks}, "kept": not why, "why": why,
                 "point": {"backend": g.get("backend", "anchor"), "op": g["op"], "bs": g["bs"], "depth": g["depth"]}}
                for g in got]

    def taken(self):
        """Samples so far; of windows, those of the plateau of R that most are on."""
        name, out = self.experiment.name, os.path.dirname(os.path.dirname(self.log.path))
        measured = plateau_samples.measure({name: (out, self.log.trials)})
        items = plateau_samples.samples(name, self.log.trials, measured.get(name))
        return Samples(items).where(experiment=name, plateau=(-1, plateau_samples.main_plateau(items)))

    def decide_blocks(self):
        """After the pilot, once: the number of blocks, from the spread only (the effect is not looked at)."""
        old = self.log.event("blocks")
        if old:
            return old["blocks"]
        b = self.experiment.blocks
        needed = sorted(blocks_needed(self.experiment, self.taken()))
        wanted = needed[min(len(needed) - 1, int(MOST * len(needed)))] if needed else b.min
        per_block = sum(t["seconds"] for t in self.log.trials) / b.pilot
        affordable = int(b.budget_seconds / per_block) if b.budget_seconds and per_block else b.max
        blocks = max(b.pilot, min(max(b.min, wanted), b.max, max(affordable, b.min)))
        self.log.add_event({"kind": "blocks", "blocks": blocks, "wanted": wanted, "affordable": affordable,
                            "seconds_per_block": per_block, "precision": b.precision, "level": stats.LEVEL})
        return blocks

    def go(self):
        b = self.experiment.blocks
        guess = block_seconds(self.experiment)
        done = sum(t["seconds"] for t in self.log.trials)
        expected = guess * (b.max if not b.budget_seconds else min(b.max, max(b.min, b.budget_seconds / guess)))
        self.progress.expect(max(0.0, expected - done))
        for block in range(b.pilot):
            self.block(block, "pilot")
        blocks = self.decide_blocks()
        per_block = self.log.event("blocks")["seconds_per_block"]
        self.progress.expect(blocks * per_block - expected)
        for block in range(b.pilot, blocks):
            if block >= b.min and b.budget_seconds and done + self.progress.spent() > b.budget_seconds:
                self.log.add_event({"kind": "out_of_time", "blocks": block})  # others took the processors; blind to what was found
                break
            self.block(block, "main")


def limit_samples(limits):
    """R and memcpy of one bench-limits as samples: backend "limits", op "round_trip" or "memcpy LEVEL"."""
    def one(op, bs, ns):
        return {"backend": LIMITS, "arm": LIMITS, "op": op, "bs": bs, "depth": 1, "values": {"ns_per_request": ns}}
    out = [one("memcpy " + m["level"], m["size_bytes"], m["median_ns"]) for m in limits["memcpy"]]
    if limits["round_trip"]:
        out.append(one("round_trip", 64, limits["round_trip"]["median_ns"]))
    return out


def reference(experiment):
    """The slot that precision is stated against: the first arm."""
    return next(iter(experiment.slots))


def comparisons(experiment, samples):
    """Every slot and point against the reference slot: (ns of the reference, ns of the slot), paired by block."""
    kept, base = samples.kept(), reference(experiment)
    for slot in kept.slots():
        for point in kept.where(slot=slot).points() if slot != base else []:
            yield kept.at(point, base).paired(kept.at(point, slot), "ns_per_request")


def blocks_needed(experiment, samples):
    """For every comparison with the reference slot: blocks that bring its interval to the precision."""
    b = experiment.blocks
    return [stats.blocks_needed((x, y), b.precision, stats.LEVEL, b.min, b.max) for x, y in comparisons(experiment, samples)
            if len(x) >= 2]


def estimate_seconds(experiment):
    """(least, most) seconds that the experiment takes."""
    b, per_block = experiment.blocks, block_seconds(experiment)
    most = b.max * per_block
    if b.budget_seconds:
        most = min(most, max(b.budget_seconds, b.min * per_block))
    return max(b.pilot, b.min) * per_block, most


def run(experiment, out, build="build", cores=None, fresh=False, progress=None, env=None):
    """Run or go on with an experiment in folder `out`; (Samples, [limits before, after], header, events).

    Every trial is on disk before the next begins. MachineError when a program fails three times; StoreError when
    the folder holds a run of something else.
    """
    cores = cores or environment.choose_cores(build)
    progress = progress or Progress()
    log = store.RawLog(out, experiment, env or environment.describe(build), cores, fresh,
                       window_header(experiment, build))
    try:
        with trial.image_file(out) as image:
            if not log.event("limits_before"):
                progress.step(f"{experiment.name}: what this machine can do")
                log.add_event({"kind": "limits_before", "limits": environment.limits(build, cores, LIMITS_SECONDS)})
            one = Run(experiment, log, build, cores, progress, image.name)
            with contextlib.closing(one.images):
                one.go()
            if not log.event("limits_after"):
                log.add_event({"kind": "limits_after", "limits": environment.limits(build, cores, LIMITS_SECONDS)})
            if not log.event("finished"):
                log.add_event({"kind": "finished"})
    finally:
        progress.end()
        log.close()
    both = [log.event(k)["limits"] for k in ("limits_before", "limits_after")]
    return store.to_samples(log.trials), both, log.header, log.events
