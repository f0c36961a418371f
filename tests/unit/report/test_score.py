#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The score of a duet: its order of turns, its file, and what a pilot makes of it. test_duet.py of the system tests plays it."""

import collections
import os
import random
import sys
import tempfile
import unittest
import unittest.mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
import numpy as np  # noqa: E402
from ab.drivers import duet_trial  # noqa: E402
from ab.instrument import duet, experiment, runner, score, store, windows  # noqa: E402
from ab.instrument.model import Point  # noqa: E402

HZ = 2e9


class Order(unittest.TestCase):
    def test_in_a_square_each_stands_everywhere_and_is_followed_by_each_other_equally_often(self):
        for n in range(2, 14):
            rows = score.square(n)
            times = 1 if n % 2 == 0 else 2
            self.assertEqual(len(rows), n * times)
            for place in zip(*rows):
                self.assertEqual(set(collections.Counter(place).values()), {times})
            pairs = collections.Counter((a, b) for row in rows for a, b in zip(row, row[1:]))
            self.assertEqual((len(pairs), set(pairs.values())), (n * (n - 1), {times}))

    def test_no_slot_follows_itself_and_the_seed_decides(self):
        for n in range(3, 13):
            for seed in range(5):
                rows = score.order(range(n), 70, random.Random(seed))
                flat = [s for row in rows for s in row]
                self.assertEqual((len(rows), len(flat)), (70, 70 * n))
                self.assertFalse(any(a == b for a, b in zip(flat, flat[1:])), f"{n} slots, seed {seed}")
                self.assertEqual(rows, score.order(range(n), 70, random.Random(seed)))
                self.assertNotEqual(rows, score.order(range(n), 70, random.Random(seed + 100)))


class File(unittest.TestCase):
    def test_two_slots_get_their_order_at_the_first_try_as_none_could_be_better(self):
        rng = random.Random(1)
        rng.shuffle = unittest.mock.Mock(side_effect=rng.shuffle)
        rows = score.order(["arm", "R"], 40, rng)
        self.assertEqual(rng.shuffle.call_count, 20)  # one a square of two rows
        self.assertEqual([sum(r[0] == s for r in rows) for s in ("arm", "R")], [20, 20])

    def test_the_sizes_are_those_of_the_header_in_c(self):
        self.assertEqual([d.itemsize for d in (score.HEAD, score.LINE, score.TURN, score.GUEST_RECORD, score.SERVER_RECORD)],
                         [256, 256, 20, 64, 32])

    def test_what_was_played_becomes_windows_and_what_left_no_record_is_marked(self):
        with tempfile.TemporaryDirectory() as folder, score.Score(8, folder) as sheet:
            sheet.open([0, 1, 2], alone=[2])
            self.assertTrue((sheet.lines["word"] == score.PARKED).all())
            with self.assertRaises(ValueError):
                sheet.write([[(0, 1, 2, 3, 4)] * 9])
            sheet.write([[(0, 10, 20, 3, 4), (1, 10, 20, 6, 5)], [(2, 10, 20, 3, 4), (0, 10, 20, 3, 4)]])
            for k in (0, 1, 2):
                sheet.guests[k] = (1, 100 + k, 3, 11, 22 + k, 5, 7, 9, k, 1, 8, 1, 0)
            sheet.servers[0] = (1, 13, 70000, 2, 3, 1, 0)
            w = sheet.windows(4, 6, {0: 30, 1: 31, 2: 32}, {0: 7, 1: 7, 2: 7})
            self.assertEqual(w.dtype, windows.WINDOW)
            self.assertEqual(list(w["slot"]), [30, 31, 32, 30])
            self.assertEqual(list(w["round"]), [0, 0, 1, 1])
            self.assertEqual(list(w["seq"]), [0, 1, 2, 3])
            self.assertEqual(list(w["ticks"]), [22, 23, 24, 0])
            self.assertEqual(list(w["threshold"]), [4, 6, 4, 4])
            self.assertEqual(list(w["guest_max"]), [9, 9, 9, windows.NOT_SEEN])
            self.assertEqual(list(w["server_max"]), [13, windows.NOT_SEEN, 0, windows.NOT_SEEN])
            self.assertEqual(w["server_gaps"][0], 0xffff)
            self.assertEqual(list(windows.undisturbed(w, {"tick_hz": HZ})), [True, False, True, False])

    def test_windows_come_back_as_they_were_written_and_a_strange_file_is_refused(self):
        with tempfile.TemporaryDirectory() as out:
            exp = experiment.parse({"title": "t", "arms": ["copy"], "sweep": [{"bs": 512}]}, "x", "x.toml")
            store.RawLog(out, exp, {}, {}, more={"tick_hz": 5, "slots": ["copy"], "points": [{}]}).close()
            for block in (1, 0):
                rows = np.zeros(3, windows.WINDOW)
                rows["block"], rows["seq"] = block, [2, 0, 1]
                windows.write(out, "x", block, rows)
            got, header = windows.load(out, "x")
            self.assertEqual(list(got["block"]), [0, 0, 0, 1, 1, 1])
            self.assertEqual(list(got["seq"]), [0, 1, 2] * 2)
            self.assertEqual(header["tick_hz"], 5)
            self.assertEqual(len(windows.load(out, "x", {1})[0]), 3)
            np.save(windows.path(out, "x", 2), np.zeros(3))
            with self.assertRaisesRegex(store.StoreError, "fields"):
                windows.load(out, "x")
            with open(windows.path(out, "x", 2), "wb") as f:
                f.write(b"half a fi")
            with self.assertRaisesRegex(store.StoreError, "move the file"):
                windows.load(out, "x")


class Tuning(unittest.TestCase):
    """What a pilot decides."""

    @staticmethod
    def pilot(ns, longest_us, windows_each=8, disturbed=3):
        rows = np.zeros(windows_each * len(ns), windows.WINDOW)
        for k, (slot, time) in enumerate(ns.items()):
            own = slice(k * windows_each, (k + 1) * windows_each)
            rows["slot"][own], rows["ticks"][own] = slot, 400e-6 * HZ
            rows["requests"][own] = 400e3 / time
            rows["guest_max"][own] = rows["server_max"][own] = longest_us * HZ / 1e6
            rows["requests"][own][:disturbed] //= 20
            rows["guest_max"][own][:disturbed] = 4e-3 * HZ
        return rows

    def test_windows_hold_batches_of_the_slowest_arm_and_a_disturbed_pilot_changes_nothing(self):
        d = experiment.Duet(seconds=1)
        short = duet.tune(self.pilot({0: 500, 1: 2000}, 0.5), Point("null"), d, HZ)
        self.assertEqual((short.ticks, short.warm), (400e-6 * HZ, 100e-6 * HZ))
        self.assertEqual(short.threshold[0], [3e-6 * HZ] * 2)
        long = duet.tune(self.pilot({0: 5000, 1: 10000}, 10), Point("memory", bs=65536, depth=16), d, HZ)
        self.assertAlmostEqual(long.ticks / HZ, 8 * 8 * 10e-6, delta=30e-6)
        self.assertAlmostEqual(long.warm / HZ, 2 * 16 * 10e-6, delta=20e-6)
        self.assertEqual(long.threshold[1], [40e-6 * HZ] * 2)
        worst = duet.tune(self.pilot({0: 90000}, 10), Point("memory", bs=1 << 20, depth=64), d, HZ)
        self.assertEqual((worst.ticks, worst.warm), (2e-3 * HZ, 1e-3 * HZ))


class Slots(unittest.TestCase):
    def test_groups_share_the_first_slot_and_leave_nobody_out(self):
        slots = [f"s{k}" for k in range(30)]
        groups = duet_trial.groups(slots)
        self.assertTrue(all(g[0] == "s0" and len(g) <= duet_trial.ALIVE for g in groups))
        self.assertEqual(sorted(s for g in groups for s in g[1:]), sorted(slots[1:]))
        self.assertEqual(duet_trial.groups(slots[:12]), [slots[:12]])

    def test_an_arms_words_go_to_its_guest_and_to_its_server(self):
        self.assertEqual(duet_trial.machine_words("copy"), ("copy", [], []))
        self.assertEqual(duet_trial.machine_words("copy --delay-ns 5 vios: --gap-look off"),
                         ("copy", ["--delay-ns", "5"], ["--gap-look", "off"]))

    def test_what_cannot_be_danced_keeps_trials_of_its_own_beside_what_can(self):
        e = experiment.parse({"title": "t", "arms": ["copy", "vhost-user"], "duet": {"seconds": 1.0}, "sweep": [
            {"arms": ["copy"], "bs": 512, "rate": [0.0, 1000.0]}, {"backend": "net", "op": "tx"},
            {"arms": ["copy"], "backend": "net", "op": "echo"}, {"arms": ["copy"], "backend": "net", "op": ["rx"], "bs": [64, 128]},
            {"arms": ["copy"], "cores": "shared"}]}, "x", "x.toml")
        keys = runner.danced_keys(e)
        self.assertEqual(sorted((p.backend, p.op, p.bs) for k in keys.values() for ps in k.values() for p in ps),
                         [("net", "rx", 64), ("net", "rx", 128), ("net", "tx", 4096), ("null", "read", 512)])
        self.assertEqual(len(keys), 4, "a port belongs to a machine")
        self.assertTrue(all(list(k) == ["copy"] for k in keys.values()))
        off = experiment.parse({"title": "t", "arms": ["copy"], "sweep": [{"bs": 512}]}, "x", "x.toml")
        self.assertEqual((runner.danced_keys(off), runner.window_header(off, "build")), ({}, {}))


if __name__ == "__main__":
    unittest.main()
