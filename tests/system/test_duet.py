#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Real dances with tiny numbers: who plays, who sleeps, what the records say, and what happens when somebody dies."""

import collections
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

from common import BUILD, ROOT, SLOW, main, until
from machine import MachineError
from ab.drivers import disk_peers, duet_trial
from ab.instrument import duet, environment, experiment, runner, score, store, windows

CORES = sorted(os.sched_getaffinity(0))[:2]
DOC = {"title": "tiny", "question": "?", "arms": ["copy", "copy-tuned", "premapped", "zero-copy"], "again": ["zero-copy"],
       "blocks": {"pilot": 1, "min": 1, "max": 1}, "duet": {"seconds": 0.2, "pilot_rounds": 2},
       "machine": {"guest_memory": 32, "server_memory": 96}, "sweep": [{"backend": "memory", "bs": 512, "depth": 4}]}


def tiny(**change):
    return experiment.parse(DOC | change, "tiny", "tiny.toml")


class Watched(duet.Dances):
    """Dances whose records are kept, pilot included."""

    seen = []

    def dance(self, leader, guests, rows, more, names):
        out = super().dance(leader, guests, rows, more, names)
        Watched.seen.append((rows, self.players, *self.sheet.records()))
        return out


def dance(exp, folder, dances=Watched):
    """({slot: samples}, windows of each dance, notes, DuetTrial) of one block; all dances of Watched are in Watched.seen."""
    Watched.seen = []
    keys = runner.danced_keys(exp)
    header = runner.window_header(exp, BUILD)
    cores = {"guest_core": CORES[0], "server_core": CORES[1]}
    make = duet_trial.DuetTrial(BUILD, cores, exp, duet_trial.Images(folder), header["tick_hz"], (header["slots"], header["points"]))
    key, points_of = next(iter(keys.items()))
    results = {}

    class Kept(dances):
        def run(self, *args):
            out = super().run(*args)
            results.update(out[2])
            return out
    with mock.patch.object(duet, "Dances", Kept):
        samples, rows, notes = make.run(0, key, points_of, random.Random(1), 0)
    return samples, rows, notes, results


@unittest.skipIf(len(CORES) < 2, "a duet needs two processors")
class Dance(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        late = mock.patch.object(duet, "LATE_SECONDS", 60)  # whole dances, whoever else uses the machine
        late.start()
        self.addCleanup(late.stop)

    def test_all_arms_play_all_their_turns_and_records_agree_with_the_programs_totals(self):
        samples, rows, _, results = dance(tiny(), self.folder.name)
        self.assertEqual(len(samples), 5)
        self.assertEqual(len(Watched.seen), 2, "a pilot and a dance")
        total = collections.Counter()
        for written, players, turns, guests, servers in Watched.seen:
            self.assertEqual([t[0] for row in written for t in row], list(turns["slot"]))
            self.assertTrue((guests["done"] == 1).all(), "a turn was not played")
            self.assertTrue((guests["woken"] <= guests["begin"]).all() and (guests["begin"] < guests["passed"]).all())
            self.assertTrue((guests["passed"][:-1] <= guests["begin"][1:]).all(), "two played at once")
            with_server = turns["slot"] != max(players) + 1 + windows.SPECIALS.index(windows.MEMCPY)
            self.assertGreater((servers["done"][with_server] == 1).mean(), 0.9)
            for slot in players:
                total[slot] += int(guests["all"][turns["slot"] == slot].sum())
        for slot, result in results.items():
            self.assertEqual(total[slot], result["run"]["requests"], f"slot {slot}")
            self.assertEqual(result["run"]["bytes_verified"] % 512, 0)
        self.assertTrue((rows[0]["requests"] > 0).mean() > 0.5)
        self.assertTrue((rows[0]["requests"] <= Watched.seen[1][3]["all"]).all())

    def test_places_and_neighbours_are_counterbalanced(self):
        dance(tiny(duet={"seconds": 0.3, "window_us": 50, "warm_us": 10, "pilot_rounds": 2}), self.folder.name)
        turns = list(Watched.seen[1][2]["slot"])
        n = len(set(turns))
        rounds = [turns[k:k + n] for k in range(0, len(turns), n)]
        self.assertTrue(all(sorted(r) == sorted(rounds[0]) for r in rounds))
        self.assertTrue(all(a != b for a, b in zip(turns, turns[1:])), "a slot follows itself")
        square = rounds[:n]
        self.assertEqual(len(square), n, "not even one whole square")
        self.assertEqual({tuple(sorted(place)) for place in zip(*square)}, {tuple(sorted(rounds[0]))})
        pairs = collections.Counter((a, b) for r in square for a, b in zip(r, r[1:]))
        self.assertEqual(set(pairs.values()), {1})
        self.assertEqual(len(pairs), n * (n - 1))

    def test_an_arm_without_a_turn_takes_no_processor_time(self):
        took = {}

        def cpu_ns(pid):
            """Of each thread, nanoseconds on a processor so far."""
            return {t: int(environment.read_text(f"/proc/{pid}/task/{t}/schedstat").split()[0]) for t in os.listdir(f"/proc/{pid}/task")}

        class Idle(Watched):
            """In the last dance the first player has no turn."""

            def rows(self, tuning):
                out = super().rows(tuning)
                return [[t for t in row if t[0] != min(self.players)] for row in out]

            def dance(self, leader, guests, rows, more, names):
                self.wait_ready(len(self.slots) - 1, guests)
                idle = guests[min(self.players)].proc.pid
                server = next(p for p in children(os.getpid()) if "--duet" in command(p) and "vios" in command(p)[0]
                              and self.sheet.option(min(self.players)) in command(p))
                until(lambda: environment.read_text(f"/proc/{idle}/task/{idle}/stat").rsplit(")", 1)[1].split()[0] == "S", "its sleep")
                before = cpu_ns(idle) | cpu_ns(server)
                stop, halfway = threading.Event(), []

                def watch():
                    while not stop.wait(0.01):
                        if (self.sheet.guests["done"][:self.sheet.n_turns()] == 1).mean() > 0.8 and not halfway:
                            halfway.append(cpu_ns(idle) | cpu_ns(server))
                watcher = threading.Thread(target=watch)
                watcher.start()
                try:
                    out = super().dance(leader, guests, rows, more, names)
                finally:
                    stop.set()
                    watcher.join()
                if not more:
                    took["idle"] = before, halfway[0] if halfway else None
                return out
        dance(tiny(duet={"seconds": 0.5, "pilot_rounds": 2}), self.folder.name, Idle)
        before, halfway = took["idle"]
        self.assertIsNotNone(halfway, "the dance ended before it was looked at")
        print(f"an arm without a turn for most of a dance: {sum(halfway.values()) - sum(before.values())} ns on a processor, "
              f"{len(before)} threads", file=sys.stderr)
        self.assertTrue(all(before.values()), "this kernel does not count what its threads take")
        # Exactly 0 but for what a thread took between the look at it and its sleep: a polling one would take some 100 ms.
        self.assertEqual(halfway.keys(), before.keys())
        self.assertLess(max(halfway[t] - before[t] for t in before), 500_000, f"ns on a processor of an arm that had no turn: {before} {halfway}")

    def test_a_guest_that_dies_in_the_dance_is_named_and_nobody_waits_for_ever(self):
        class Deadly(Watched):
            def dance(self, leader, guests, rows, more, names):
                if not more:
                    victim = guests[max(self.players)]
                    threading.Timer(0.1, lambda: victim.signal(signal.SIGKILL)).start()
                return super().dance(leader, guests, rows, more, names)
        with mock.patch.object(duet, "PATIENCE_SECONDS", 1), mock.patch.object(duet, "LATE_SECONDS", 3), \
                self.assertRaisesRegex(MachineError, "exit -9"):
            dance(tiny(duet={"seconds": 2.0, "pilot_rounds": 2}), self.folder.name, Deadly)
        self.assertEqual([p for p in children(os.getpid()) if "--duet" in command(p)], [])

    def test_a_dance_that_takes_too_long_is_cut_and_what_was_played_counts(self):
        with mock.patch.object(duet, "LATE", 0), mock.patch.object(duet, "LATE_SECONDS", 0.3):
            _, rows, _, results = dance(tiny(duet={"seconds": 8.0, "pilot_rounds": 2}), self.folder.name)
        written, _, turns, guests, _ = Watched.seen[-1]
        self.assertLess(len(turns), sum(len(row) for row in written))
        self.assertEqual(len(rows[0]), len(turns))
        self.assertGreaterEqual((guests["done"] == 1).sum(), len(turns) - 1)
        self.assertEqual(len(results), 5)

    @unittest.skipIf(SLOW, "DPDK's ports under a sanitizer are the network's tests' matter")
    def test_networks_dance_and_every_frame_sent_has_left(self):
        exp = tiny(arms=["copy", "zero-copy"], machine={}, sweep=[{"backend": "net", "op": ["tx", "both"], "bs": 64}])
        for key in list(runner.danced_keys(exp)):
            with mock.patch.object(runner, "danced_keys", lambda e, k=key: {k: keys_of(e)[k]}):
                _, rows, _, results = dance(exp, self.folder.name)
            self.assertTrue((rows[0]["requests"] > 0).mean() > 0.5)
            for slot, result in results.items():
                frames = sum(int(g["all"][t["slot"] == slot].sum()) for _, _, t, g, _ in Watched.seen)
                run = result["run"]
                self.assertEqual(frames, run["tx_frames"] + (run["rx_frames"] if key[-2] == "both" else 0))

    def test_the_disks_peers_dance_and_every_byte_is_checked(self):
        arms = [a for a in disk_peers.PEERS if not disk_peers.available(a, BUILD)]
        if not arms:
            self.skipTest("no peer is installed")
        exp = tiny(arms=["zero-copy", *arms], again=[], machine={}, sweep=[{"backend": "memory", "bs": 4096, "depth": 4, "touch": "all"}])
        _, rows, _, results = dance(exp, self.folder.name)
        for slot, result in results.items():
            run = result["run"]
            self.assertEqual(sum(int(g["all"][t["slot"] == slot].sum()) for _, _, t, g, _ in Watched.seen), run["requests"])
            self.assertGreaterEqual(run["bytes_verified"], run["bytes_read"])
            self.assertGreater(run["requests"], 0)
        for n in range(len(arms) + 1):
            self.assertTrue((rows[0]["requests"][rows[0]["slot"] == n] > 0).any(), exp.slots)

    def test_a_run_interrupted_between_windows_and_samples_goes_on_without_losing_or_doubling_a_block(self):
        exp = tiny(arms=["copy", "zero-copy"], again=[], blocks={"pilot": 1, "min": 2, "max": 2},
                   duet={"seconds": 0.05, "pilot_rounds": 2})
        cores = {"guest_core": CORES[0], "server_core": CORES[1]}
        quiet, real = runner.Progress(quiet=True), store.RawLog.add_block

        def once(log, trials, events):
            if trials[0]["block"] == 1:
                raise KeyboardInterrupt
            real(log, trials, events)
        limits = {"round_trip": None, "memcpy": []}
        with mock.patch.object(environment, "limits", return_value=limits):
            with mock.patch.object(store.RawLog, "add_block", once), self.assertRaises(KeyboardInterrupt):
                runner.run(exp, self.folder.name, BUILD, cores, progress=quiet)
            runner.run(exp, self.folder.name, BUILD, cores, progress=quiet)
        _, trials, events = store.read(os.path.join(self.folder.name, "raw", "tiny.jsonl"))
        mine = collections.Counter((t["block"], t["slot"]) for t in trials if t["experiment"] == "tiny")
        self.assertEqual(mine, {(b, s): 1 for b in (0, 1) for s in ("copy", "zero-copy")})
        rows, header = windows.load(self.folder.name, "tiny")
        self.assertEqual(sorted(set(rows["block"])), [0, 1])
        self.assertEqual(header["slots"], ["copy", "zero-copy", *windows.SPECIALS])
        self.assertTrue(any(e["kind"] == "finished" for e in events))


    def test_who_leads_plays_the_next_dance_however_soon_it_is_written(self):
        """On the leader's own processor this program runs as soon as the end is told, before the leader has looked at anything."""
        before = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, before)
        os.sched_setaffinity(0, CORES[:1])
        argv = [os.path.join(BUILD, "bench/bench-duet"), "--cores", f"{CORES[0]},{CORES[1]}", "--size", "64", "--depth", "1", "--span", "4096",
                "--round-trip", "0"]
        for _ in range(20):
            with score.Score(8) as sheet, subprocess.Popen([*argv, "--score", sheet.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                           bufsize=0) as p:
                self.addCleanup(p.kill)
                sheet.open([0])
                for more in (True, False):
                    sheet.write([[(0, 1000, 20000, 10 ** 6, 10 ** 6)]], more)
                    p.stdin.write(b"g")
                    self.assertTrue(select.select([p.stdout], [], [], 20)[0], "it does not play")
                    self.assertEqual(p.stdout.read(1), b"E")

    def test_a_run_killed_at_random_points_goes_on_each_time_and_leaves_nothing_running(self):
        """kill -9 of the conductor alone: its programs must go with it, and what was whole must count once."""
        folder, rng, kills = self.folder.name, random.Random(8), 0
        toml = os.path.join(folder, "tiny.toml")
        with open(toml, "w", encoding="ascii") as f:
            f.write(KILLED)
        while True:
            with open(os.path.join(folder, "log"), "w+", encoding="utf-8") as log:
                p = subprocess.Popen([sys.executable, "-c", RUN, BENCH, toml, folder, BUILD, *map(str, CORES)], stdout=log, stderr=log)
                try:
                    rc = p.wait(rng.uniform(0.5, 3.0) if kills < 5 else 120)
                except subprocess.TimeoutExpired:
                    p.kill()
                    rc = p.wait()
                    kills += 1
                log.seek(0)
                self.assertIn(rc, (0, -signal.SIGKILL), log.read())
            if not rc:
                break
            self.assertLess(kills, 6, "it did not end in two minutes")
            end = time.monotonic() + 5
            while (left := [c for c in map(command, processes()) if any(f"/proc/{p.pid}/fd/" in word for word in c)]) and \
                    time.monotonic() < end:
                time.sleep(0.02)
            self.assertEqual(left, [], "programs of a killed run still live")
        self.assertGreaterEqual(kills, 3)
        _, trials, events = store.read(os.path.join(folder, "raw", "tiny.jsonl"))
        mine = collections.Counter((t["block"], t["slot"]) for t in trials if t["experiment"] == "tiny")
        self.assertEqual(mine, {(b, s): 1 for b in range(6) for s in ("copy", "zero-copy")})
        self.assertEqual(sorted(set(windows.load(folder, "tiny")[0]["block"])), list(range(6)))
        self.assertEqual(sum(e["kind"] == "finished" for e in events), 1)


# A run in a process of its own: bench/, experiment, folder of the report, build, cores.
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from ab.instrument import environment, experiment, runner
environment.limits = lambda *_: {"round_trip": None, "memcpy": []}
runner.run(experiment.load(sys.argv[2]), sys.argv[3], sys.argv[4], {"guest_core": int(sys.argv[5]), "server_core": int(sys.argv[6])},
           progress=runner.Progress(quiet=True))
"""
KILLED = """
title = "tiny"
question = "?"
arms = ["copy", "zero-copy"]
[blocks]
pilot = 1
min = 6
max = 6
[duet]
seconds = 0.2
pilot_rounds = 2
[machine]
guest_memory = 32
server_memory = 96
[[sweep]]
backend = "memory"
bs = 512
depth = 4
"""
BENCH = os.path.join(ROOT, "bench")
keys_of = runner.danced_keys


def processes():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def children(pid):
    out = []
    for task in os.listdir(f"/proc/{pid}/task"):
        out += [int(p) for p in environment.read_text(f"/proc/{pid}/task/{task}/children").split()]
    return out


def command(pid):
    return environment.read_text(f"/proc/{pid}/cmdline").split("\0") + [""]


if __name__ == "__main__":
    main()
