# SPDX-License-Identifier: BSD-3-Clause
"""One block's duet of one kind of machine: all slots' machines started afresh, each of its points danced by all of them. What is
made of it: samples as trial.Trial makes them, and the raw windows."""

import os
import tempfile
import time

import numpy as np

from machine import Machine, MachineError, WrongResult
from ab.drivers import disk_peers, net_trial, peers, trial
from ab.instrument import duet, environment, score, telemetry, windows
from ab.instrument.model import Point

ALIVE = 12  # machines at once, at most; more slots dance in groups, each with the first slot
MAX_TURNS = 24000
NET_OPS = ("tx", "rx", "both")
NET_SPAN = 1 << 20  # bytes that memcpy and hand-over go over beside a network: its buffers
SERVERS = "vios:"  # in an arm: what follows are options of the server
LEAST = 8  # undisturbed windows without which a sample does not count
NOTHING = "fewer than {} windows without a gap"


def dances(arm, point):
    """Can this arm's point be danced? Open loops, shared cores, pairs of guests and other projects' programs keep to trials of
    their own."""
    if arm in peers.PEERS or point.rate or point.load or point.cores != "split":
        return False
    return point.backend in ("null", "memory", "file") or (point.backend == "net" and point.op in NET_OPS)


def key_of(point):
    """What machines must be started with: points of one key are danced by the same machines. A port is part of a machine."""
    key = trial.machine_key(point)
    return key + (point.op, 0 if point.op == "tx" else point.bs) if point.backend == "net" else key


class Disk:
    """How disks take part."""

    program = "guest/vio-blk"

    def __init__(self, images):
        self.images = images

    def machine(self, make, slot, arm, key, value, where, rng):
        """Not entered yet. value: of --duet; where: (pages, folder)."""
        size, (pages, folder) = make.experiment.machine, where
        phypd = ["--cost", key[1], "--pages", pages, "--server-memory", str(size.server_memory), "--guest-memory",
                 str(size.guest_memory), *(["--exposure"] if size.exposure else [])]
        name, _, more = machine_words(arm)
        return Machine(make.build_of(slot), make.cores["guest_core"], make.cores["server_core"], phypd,
                       [*self.server(name, slot, key, folder), *more, "--duet", value], env=trial.padded(rng), program=self.program)

    def server(self, arm, slot, key, _folder):
        return trial.server_args(arm, key, self.images(slot) if key[0] == "file" else "")

    def guest(self, arm, point, measure):
        return trial.guest_args(arm, point, measure)

    def check(self, arm, _point, result, _machine):
        trial.check(arm, result)

    def values(self, result, _point):
        return trial.values_of(result)

    def span(self, point):
        return trial.span_of(point)


class DiskPeer(Disk):
    """How another project's server for disks takes part, driven by vhost-blk."""

    def machine(self, make, slot, arm, key, value, where, rng):
        return disk_peers.Peer(arm, key[0], make.build, make.cores, value)

    def guest(self, _arm, point, measure):
        return disk_peers.load_args(point, trial.batch_of(point), trial.span_of(point), trial.touch(point), measure)

    def check(self, arm, _point, result, _machine):
        run = result["run"]
        if run["errors"] or run["mismatches"]:
            raise WrongResult(f"{arm}: {run['errors']} errors, {run['mismatches']} wrong words")

    def values(self, result, _point):
        return disk_peers.values_of(result)


class Net(Disk):
    """How networks take part: a guest and a port of DPDK, in one direction or both."""

    program = "guest/vio-net"

    def server(self, arm, _slot, key, folder):
        return net_trial.server_args(arm, Point("net", key[-2], key[-1] or 64), folder)

    def guest(self, arm, point, measure):
        return net_trial.guest_args(arm, point, measure)

    def check(self, arm, point, result, machine):
        net_trial.check(arm, result)
        if point.op not in ("tx", "both"):
            return
        run, before = result["run"], getattr(machine, "sent", 0)  # by guests of this machine's earlier points
        ports = telemetry.ask(os.path.basename(machine.dir), "/vio/port,0", "/vio/port,1")
        net_trial.check_left(run | {"tx_before": run["tx_before"] + before}, *ports, point.queue_size)
        machine.sent = before + run["tx_before"] + run["tx_frames"] - run["tx_lost"]

    def values(self, result, point):
        return net_trial.values_of(result, point.op)

    def span(self, _point):
        return NET_SPAN


def machine_words(arm):
    """("zero-copy", ["--delay-ns", "20"], ["--gap-look", "off"]) of "zero-copy --delay-ns 20 vios: --gap-look off": an arm, further
    options of its guest, and of its server."""
    name, *guest = arm.split()
    at = guest.index(SERVERS) if SERVERS in guest else len(guest)
    return name, guest[:at], guest[at + 1:]


def groups(slots, most=ALIVE):
    """Slots that are alive together: all of them, or the first one with as many others as there is room for."""
    slots = list(slots)
    if len(slots) <= most:
        return [slots]
    return [[slots[0], *slots[k:k + most - 1]] for k in range(1, len(slots), most - 1)]


def seconds(points_of, settings):
    """What the duets of one kind of machine take, roughly. points_of: {slot: points}."""
    total = 0.0
    for slots in groups(points_of):
        points = {p for s in slots for p in points_of[s]}
        guests = sum(p in points_of[s] for p in points for s in slots)
        total += 0.4 + 0.22 * len(slots) + 0.05 * guests + len(points) * (0.25 + settings.seconds * settings.dances)
    return total


class DuetTrial:
    """Runs one machine key of one block. indices: (slots, points) of the raw file's header."""

    def __init__(self, build, cores, experiment, images, hz, indices):
        self.build, self.cores, self.experiment, self.images, self.hz = build, cores, experiment, images, hz
        self.slots, self.points = indices
        self.specials = windows.SPECIALS  # that dance too; the round trip always
        self.disk, self.net, self.peer = Disk(images), Net(images), DiskPeer(images)

    def kind(self, arm, backend):
        return self.peer if arm in disk_peers.PEERS else self.net if backend == "net" else self.disk

    def run(self, block, key, points_of, rng, first):
        """({slot: samples}, [windows], notes). points_of: {slot: its points of this key}; first: number of the next dance."""
        samples, rows, notes = {slot: [] for slot in points_of}, [], []
        for slots in groups(points_of):
            self.group(block, key, {s: points_of[s] for s in slots}, rng, first + len(rows), (samples, rows, notes))
        return samples, rows, notes

    def group(self, block, key, points_of, rng, first, into):
        samples, rows, notes = into
        arms = {s: self.experiment.slots[s] for s in rng.sample(list(points_of), len(points_of))}
        points = sorted({p for ps in points_of.values() for p in ps})
        rng.shuffle(points)
        pages = duet.pages_for(len(arms), self.experiment.machine.server_memory + self.experiment.machine.guest_memory)
        with tempfile.TemporaryDirectory(prefix="vio-") as folder, score.Score(MAX_TURNS) as sheet, \
                duet.Ensemble(lambda s, a, v: self.kind(a, key[0]).machine(self, s, a, key, v, (pages, folder), rng), arms,
                              sheet) as ensemble:
            for point in points:
                mine = [s for s in arms if point in points_of[s]]
                got, tuning, results = self.point(block, point, ensemble, mine, rng, first)
                first += len(got)
                rows += got
                notes.append(self.note(block, key, point, tuning, got, pages, ensemble.seconds))
                for slot in mine:
                    samples[slot].append(self.sample(slot, point, results[ensemble.slots.index(slot)], got))

    def used(self):
        return (self.cores["guest_core"], self.cores["server_core"])

    def build_of(self, slot):
        """The build directory of a slot's three programs."""
        return self.experiment.builds.get(slot, self.build)

    def point(self, block, point, ensemble, mine, rng, first):
        players = {}
        for slot in mine:
            arm, m = self.experiment.slots[slot], ensemble.machines[slot]
            kind = self.kind(arm, point.backend)
            name, more, _ = (arm, [], []) if kind is self.peer else machine_words(arm)
            args = kind.guest(name, point, self.experiment.measure) + more
            players[ensemble.slots.index(slot)] = duet.guest_player(slot, m, args,
                                                                    lambda got, a=name, m=m, k=kind: k.check(a, point, got, m))
        specials = {name: len(ensemble.slots) + k for k, name in enumerate(self.specials)}
        one = duet.Dances(ensemble.sheet, players, specials,
                          lambda: duet.Special(self.build, ensemble.sheet, specials, self.cores, point, self.kind("", point.backend).span(point)),
                          self.hz,
                          self.experiment.duet, rng)
        slot_of = {n: self.slots.index(s) for n, s in enumerate(ensemble.slots)}
        slot_of |= {n: self.slots.index(name) for name, n in specials.items()}
        index = self.points.index(trial.point_dict(point))
        got = one.run(point, block, first, slot_of, dict.fromkeys(slot_of, index))
        self.handover_us = [round(float(x), 1) for x in np.quantile(one.handovers, (0.05, 0.5, 0.95)) / self.hz * 1e6] \
            if len(one.handovers) else []
        return got

    def note(self, block, key, point, tuning, got, pages, seconds_to_start):
        """How a point was danced: an event of the raw file."""
        rows = np.concatenate(got)
        good = windows.undisturbed(rows, {"tick_hz": self.hz})
        trip = rows[(rows["slot"] == self.slots.index(windows.ROUND_TRIP)) & good]
        return {"kind": "dances", "block": block, "key": repr(key), "point": trial.point_dict(point),
                "warm_us": tuning.warm / self.hz * 1e6, "window_us": tuning.ticks / self.hz * 1e6, "pages": pages,
                "windows": len(rows), "undisturbed": float(good.mean()), "start_seconds": seconds_to_start,
                "handover_us": self.handover_us,
                "r_ns": float(np.median(trip["ticks"] / trip["requests"]) / self.hz * 1e9) if len(trip) else None}

    def sample(self, slot, point, result, got):
        rows = np.concatenate(got)
        own = rows[rows["slot"] == self.slots.index(slot)]
        good = own[windows.undisturbed(own, {"tick_hz": self.hz})]
        values = self.kind(self.experiment.slots[slot], point.backend).values(result, point)
        each = good if len(good) >= LEAST else own[own["requests"] > 0]
        if len(each):
            values["ns_per_request"] = float(np.median(each["ticks"] / each["requests"])) / self.hz * 1e9
        values |= {"windows": len(own), "undisturbed": len(good), "steal_ticks": 0}
        why = "" if len(good) >= LEAST else NOTHING.format(LEAST)
        return {"point": trial.point_dict(point), "values": values, "kept": not why, "why": why,
                "histogram": result["run"]["latency_ns"]["histogram"]}


class Images:
    """A disk image for each slot of the file backend, made when it is first asked for; they go with the run."""

    def __init__(self, folder):
        self.folder, self.made = folder, {}

    def __call__(self, slot):
        if slot not in self.made:
            self.made[slot] = trial.image_file(self.folder)
        return self.made[slot].name

    def close(self):
        for f in self.made.values():
            f.close()


def tick_hz(build):
    """Rate of the tick counter, as bench-duet measures it."""
    got = environment.command(os.path.join(build, "bench/bench-duet"), "--tick-hz")
    if not got.isdigit():
        raise MachineError("bench-duet --tick-hz did not answer")
    return int(got)


def measure_block(make, block, keys, rng, log_step):
    """All keys of a block: ([trial dicts without experiment and phase], windows, notes). keys: [(key, {slot: points})]."""
    trials, rows, notes = [], [], []
    for position, (key, points_of) in enumerate(keys):
        log_step(key, points_of)
        began, used = time.time(), make.used()
        steal0 = environment.steal_ticks(used)
        samples, got, said = make.run(block, key, points_of, rng, len(rows))
        steal = environment.steal_ticks(used) - steal0
        rows += got
        notes += said
        share = (time.time() - began) / max(1, len(samples))
        trials += [{"block": block, "position": position, "key": repr(key), "slot": slot, "arm": make.experiment.slots[slot],
                    "began": began, "seconds": share, "steal_ticks": steal, "failures": [], "samples": some}
                   for slot, some in samples.items()]
    return trials, np.concatenate(rows) if rows else np.empty(0, windows.WINDOW), notes
