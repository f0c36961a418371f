#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Real dances with tiny numbers: who plays, who sleeps, what the records say, and what happens when somebody dies."""

import collections
import os
import random
import signal
import tempfile
import threading
import unittest
from unittest import mock

from common import BUILD, SLOW, main
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
        ticks = {}

        def cpu_ticks(pid):
            fields = environment.read_text(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])

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
                before = cpu_ticks(idle), cpu_ticks(server)
                stop, halfway = threading.Event(), []

                def watch():
                    while not stop.wait(0.01):
                        if (self.sheet.guests["done"][:self.sheet.n_turns()] == 1).mean() > 0.8 and not halfway:
                            halfway.append((cpu_ticks(idle), cpu_ticks(server)))
                watcher = threading.Thread(target=watch)
                watcher.start()
                try:
                    out = super().dance(leader, guests, rows, more, names)
                finally:
                    stop.set()
                    watcher.join()
                if not more:
                    ticks["idle"] = before, halfway[0] if halfway else None
                return out
        dance(tiny(duet={"seconds": 0.5, "pilot_rounds": 2}), self.folder.name, Idle)
        before, halfway = ticks["idle"]
        self.assertIsNotNone(halfway, "the dance ended before it was looked at")
        self.assertEqual(halfway, before, "clock ticks of the guest and of the server of an arm that had no turn")

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


keys_of = runner.danced_keys


def children(pid):
    out = []
    for task in os.listdir(f"/proc/{pid}/task"):
        out += [int(p) for p in environment.read_text(f"/proc/{pid}/task/{task}/children").split()]
    return out


def command(pid):
    return environment.read_text(f"/proc/{pid}/cmdline").split("\0") + [""]


if __name__ == "__main__":
    main()
