#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Experiment files, the order of runs, resuming, discards: what decides which numbers are taken at all."""

import contextlib
import csv
import io
import json
import os
import random
import sys
import tempfile
import unittest
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
import numpy as np  # noqa: E402
from machine import MachineError, WrongResult  # noqa: E402
from ab.drivers import trial  # noqa: E402
from ab.instrument import cli, environment, experiment, runner, store  # noqa: E402
from ab.report import compare, results  # noqa: E402
from ab.instrument.model import AGAIN, Point  # noqa: E402

GOOD = {"title": "t", "arms": ["copy", "zero-copy"], "again": ["copy"], "sweep": [{"bs": ["4k", 512], "depth": [1, 32]}]}


def parsed(**change):
    return experiment.parse({**GOOD, **change}, "x", "x.toml")


class Files(unittest.TestCase):
    def test_every_committed_experiment_is_valid_and_its_analyses_exist(self):
        for name in experiment.names():
            e = experiment.find(name)
            self.assertTrue(e.samples_per_block() and e.question, name)
            for a in e.analyses:
                self.assertIn(a, results.ANALYSES, f"{name} names an analysis that nobody runs")

    def test_a_sweep_is_the_product_of_its_lists_and_sweeps_add_up_without_repeats(self):
        e = parsed(sweep=[{"bs": ["4k", 512], "depth": [1, 32]}, {"bs": 512, "depth": 1}, {"arms": ["copy"], "bs": "1m"}])
        self.assertEqual(len(e.points["zero-copy"]), 4)
        self.assertEqual(len(e.points["copy"]), 5)
        self.assertEqual(e.points["copy" + AGAIN], e.points["copy"], "the twin runs other points than its arm")
        self.assertEqual(e.slots["copy" + AGAIN], "copy")

    def test_what_is_wrong_in_a_file_is_named(self):
        cases = [({"arm": []}, "arm"), ({"arms": []}, "arms"), ({"sweep": []}, "sweep"), ({"again": ["premapped"]}, "premapped"),
                 ({"sweep": [{"sizes": 1}]}, "sizes"), ({"sweep": [{"bs": "4q"}]}, "4q"), ({"sweep": [{"depth": 0}]}, "depth"),
                 ({"sweep": [{"backend": "disc"}]}, "disc"), ({"sweep": [{"depth": "1"}]}, "depth"),
                 ({"sweep": [{"bs": []}]}, "empty"), ({"blocks": {"pilot": 9, "max": 5}}, "pilot"),
                 ({"blocks": {"blocks": 5}}, "blocks"), ({"measure": {"seconds": -1}}, "negative"),
                 ({"measure": {"seconds": True}}, "seconds"), ({"arms": ["copy", "copy"]}, "twice"),
                 ({"sweep": [{"arms": ["copy"], "bs": 512}]}, "zero-copy"), ({"seed": "x"}, "seed")]
        for change, word in cases:
            with self.assertRaises(experiment.ExperimentError, msg=str(change)) as caught:
                parsed(**change)
            self.assertIn(word, str(caught.exception), change)
            self.assertIn("x.toml", str(caught.exception))

    def test_unknown_experiment_and_broken_toml_end_with_exit_2_and_the_names_there_are(self):
        with tempfile.TemporaryDirectory() as d:
            broken = os.path.join(d, "b.toml")
            with open(broken, "w") as f:
                f.write("arms = [")
            for what, word in (("nosuch", "quick"), (broken, "TOML"), (os.path.join(d, "none.toml"), "No such file")):
                err = io.StringIO()
                with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                    self.assertEqual(cli.main([what, "--out", d]), 2, what)
                self.assertIn(word, err.getvalue())

    def test_what_changes_the_samples_changes_the_digest_and_the_title_does_not(self):
        base = parsed().digest()
        self.assertEqual(parsed(title="other").digest(), base)
        self.assertEqual(parsed(blocks={"max": 9}).digest(), base, "more blocks of the same are the same experiment")
        for change in ({"seed": 2}, {"measure": {"seconds": 0.2}}, {"sweep": [{"bs": 512}]}, {"arms": ["copy"], "again": []}):
            self.assertNotEqual(parsed(**change).digest(), base, change)


CORES = {"guest_core": 0, "server_core": 1}
LIMITS = {"round_trip": {"median_ns": 200.0, "samples_ns": [200.0]}, "memcpy": []}


class FakeTrial:
    """Stands in for a machine: every sample costs what the arm says; may fail or be interrupted at a chosen trial."""

    made, stop_at, fail_at, wrong_at = 0, None, None, None

    def __init__(self, *args):
        pass

    def run(self, arm, key, points, rng):
        FakeTrial.made += 1
        if FakeTrial.made == FakeTrial.stop_at:
            raise KeyboardInterrupt
        if FakeTrial.made in (FakeTrial.fail_at or ()):
            raise MachineError("vios did not start")
        if FakeTrial.made == FakeTrial.wrong_at:
            raise WrongResult("7 wrong words")
        ns = {"copy": 2000, "zero-copy": 1000}[arm] * (1 + 0.01 * rng.random())
        return [{"point": trial.point_dict(p), "values": {"ns_per_request": ns, "requests": 10}, "kept": True, "why": ""}
                for p in points]


def run(out, exp, **kw):
    with mock.patch.object(trial, "Trial", FakeTrial), mock.patch.object(environment, "limits", lambda *a: LIMITS):
        return runner.run(exp, out, cores=CORES, progress=runner.Progress(quiet=True), env={"commit": "c"}, **kw)


class Runs(unittest.TestCase):
    def setUp(self):
        FakeTrial.made, FakeTrial.stop_at, FakeTrial.fail_at, FakeTrial.wrong_at = 0, None, None, None
        self.dir = tempfile.TemporaryDirectory()
        self.out = self.dir.name
        self.exp = parsed(blocks={"pilot": 3, "min": 5, "max": 8}, measure={"limits_seconds": 0.3})

    def tearDown(self):
        self.dir.cleanup()

    def trials(self):
        return store.read(os.path.join(self.out, "raw", "x.jsonl"))[1]

    def test_each_block_runs_every_slot_once_and_the_order_is_random_but_repeatable(self):
        samples, _, _, events = run(self.out, self.exp)
        blocks = next(e for e in events if e["kind"] == "blocks")["blocks"]
        orders = []
        for b in range(blocks):
            mine = [t["slot"] for t in self.trials() if t["block"] == b]
            self.assertEqual(sorted(mine), sorted([*self.exp.slots, runner.LIMITS]), f"block {b}")
            orders.append(tuple(mine))
        self.assertGreater(len(set(orders)), 1, "every block has the same order: an arm is always first")
        again = runner.Run(self.exp, mock.Mock(trials=[]), "", CORES, None, "")
        self.assertEqual([s for _, s in again.order(0)], list(orders[0]))
        self.assertEqual({s.point for s in samples.where(experiment="x")}, set(self.exp.points["copy"]))

    def test_a_run_whose_processors_others_take_keeps_its_budget_and_the_least_number_of_blocks(self):
        exp = parsed(blocks={"pilot": 3, "min": 5, "max": 8, "precision": 0.0001, "budget_seconds": 100}, measure={"limits_seconds": 0.3})
        with mock.patch.object(runner.Progress, "spent", return_value=99.0):
            run(self.out, exp)
        self.assertEqual({t["block"] for t in self.trials()}, set(range(8)))
        with mock.patch.object(runner.Progress, "spent", return_value=101.0):
            events = run(self.out, exp, fresh=True)[3]
        self.assertEqual({t["block"] for t in self.trials()}, set(range(5)))
        self.assertEqual([e["blocks"] for e in events if e["kind"] == "out_of_time"], [5])

    def test_an_interrupted_run_goes_on_where_it_was_and_loses_nothing(self):
        FakeTrial.stop_at = 11
        with self.assertRaises(KeyboardInterrupt):
            run(self.out, self.exp)
        before = self.trials()
        self.assertEqual(len([t for t in before if t["slot"] != runner.LIMITS]), 10)
        with open(os.path.join(self.out, "raw", "x.jsonl"), "a") as f:
            f.write('{"trial": {"half a li')  # the power went while it was writing
        FakeTrial.stop_at = None
        run(self.out, self.exp)
        after = self.trials()
        self.assertEqual(after[:len(before)], before)
        seen = [(t["block"], t["slot"]) for t in after]
        self.assertEqual(len(seen), len(set(seen)), "a trial was measured twice")

        whole = tempfile.mkdtemp(dir=self.out)
        run(whole, self.exp)
        self.assertEqual([(t["block"], t["slot"], t["position"]) for t in store.read(os.path.join(whole, "raw", "x.jsonl"))[1]],
                         [(t["block"], t["slot"], t["position"]) for t in after], "interrupting changed the order")

    def test_a_changed_experiment_commit_or_core_is_not_mixed_into_old_samples(self):
        run(self.out, self.exp)
        for change in ({"exp": parsed(seed=9)}, {"env": {"commit": "d"}}, {"cores": {"guest_core": 1, "server_core": 0}}):
            exp, env, cores = change.get("exp", self.exp), change.get("env", {"commit": "c"}), change.get("cores", CORES)
            with self.assertRaises(store.StoreError, msg=str(change)) as caught:
                store.RawLog(self.out, exp, env, cores)
            self.assertIn("--fresh", str(caught.exception))

    def test_a_program_that_fails_is_started_again_and_ends_the_run_only_the_third_time(self):
        FakeTrial.fail_at = (2, 3)
        run(self.out, self.exp)
        self.assertEqual([len(t["failures"]) for t in self.trials() if t["failures"]], [2], "failures are not on record")
        FakeTrial.made, FakeTrial.fail_at = 0, (2, 3, 4)
        with self.assertRaises(MachineError):
            run(tempfile.mkdtemp(dir=self.out), self.exp)

    def test_one_wrong_byte_ends_the_run_and_is_never_tried_again(self):
        FakeTrial.wrong_at = 4
        with self.assertRaises(WrongResult):
            run(self.out, self.exp)
        self.assertEqual(FakeTrial.made, 4)

    def test_a_damaged_raw_file_is_named_with_its_line(self):
        run(self.out, self.exp)
        path = os.path.join(self.out, "raw", "x.jsonl")
        with open(path) as f:
            good = f.read()
        for text, word in ((good.replace('"trial"', '"tri', 1), "line 3"), ("", "header"), (good.split("\n", 1)[1], "header")):
            with open(path, "w") as f:
                f.write(text)
            with self.assertRaises(store.StoreError, msg=word) as caught:
                store.read(path)
            self.assertIn(word, str(caught.exception))
        with open(path, "wb") as f:
            f.write(b"\xff\xfe\x00binary\n")
        with self.assertRaises(store.StoreError):
            store.read(path)

    def test_the_pilot_decides_once_from_the_spread_and_not_from_the_effect(self):
        _, _, _, events = run(self.out, self.exp)
        decided = [e for e in events if e["kind"] == "blocks"]
        self.assertEqual(len(decided), 1)
        self.assertEqual(decided[0]["blocks"], 5, "a spread of 1 % and an effect of 100 % need no more than the least")

    def test_full_keeps_what_is_measured_while_something_is_open_and_starts_again_when_nothing_is(self):
        a, b = parsed(), parsed()
        a.name, b.name = "a", "b"
        run(self.out, a)
        def todo(experiments, commit="c"):
            with contextlib.redirect_stdout(io.StringIO()):
                return [(e.name, f) for e, f in cli.to_run(experiments, self.out, False, commit)]
        self.assertEqual(todo([a, b]), [("b", True)])
        run(self.out, b)
        self.assertEqual(todo([a, b]), [("a", True), ("b", True)])
        self.assertEqual(todo([a]), [("a", True)])
        self.assertEqual(todo([a, b], "d"), [("a", True), ("b", True)], "samples of another commit were kept for this report")
        b.seed = 77
        self.assertEqual(todo([a, b]), [("b", True)], "samples of another experiment file were kept")


class Steal(unittest.TestCase):
    def test_the_discard_rule_is_one_per_cent_of_the_cores_that_were_used(self):
        self.assertEqual(environment.stolen(0, 0.1, (0, 1)), "")
        limit = 0.01 * environment.TICKS_PER_SECOND * 2
        self.assertEqual(environment.stolen(limit, 1.0, (0, 1)), "", "at the limit a sample counts")
        self.assertIn("steal", environment.stolen(limit, 1.0, (1, 1)), "on one shared core the same ticks are twice the share")
        self.assertIn("steal", environment.stolen(1, 0.1, (0, 1)), "a tick in a tenth of a second is 5 %")
        self.assertEqual(environment.stolen(1, 10, (0, 1)), "", "a tick in ten seconds is 0.05 %")

    def test_discarded_samples_stay_in_the_file_and_out_of_the_statistics(self):
        one = {"point": {}, "values": {"ns_per_request": 9.0}, "kept": False, "why": "steal: 3 ticks"}
        t = {"experiment": "x", "block": 0, "phase": "main", "position": 0, "slot": "copy", "arm": "copy", "samples": [one]}
        with tempfile.TemporaryDirectory() as d:
            store.write_csv(store.to_samples([t]), os.path.join(d, "s.csv"))
            back = store.read_csv(os.path.join(d, "s.csv"), "m")
        self.assertEqual([(s.kept, s.why, s.values) for s in back], [(False, "steal: 3 ticks", {"ns_per_request": 9.0})])
        self.assertEqual(len(back.kept()), 0)


class Values(unittest.TestCase):
    def test_points_and_values_survive_the_files_unchanged(self):
        p = Point(backend="memory", op="write", bs=65536, depth=32, rate=1e5, cost="hcall=1,tce=2,rdma=3", indirect=True)
        t = {"experiment": "x", "block": 3, "phase": "pilot", "position": 2, "slot": "copy" + AGAIN, "arm": "copy",
             "samples": [{"point": trial.point_dict(p), "values": {"ns_per_request": 1 / 3}, "kept": True, "why": ""}]}
        with tempfile.TemporaryDirectory() as d:
            store.write_csv(store.to_samples(json.loads(json.dumps([t]))), os.path.join(d, "s.csv"))
            back = store.read_csv(os.path.join(d, "s.csv")).items[0]
        self.assertEqual((back.point, back.values["ns_per_request"], back.block, back.slot), (p, 1 / 3, 3, "copy" + AGAIN))

    def test_a_sample_of_another_arm_or_with_wrong_data_never_counts(self):
        good = {"arm": {"ring": "direct"}, "arm_wanted": {"ring": "direct"}, "load": {"touch": "all"},
                "run": {"errors": 0, "mismatches": 0, "first_mismatch": "", "reads": 5, "bytes_verified": 5}}
        trial.check("zero-copy", good)
        for where, key, value in (("run", "errors", 1), ("run", "mismatches", 1), ("run", "bytes_verified", 0),
                                  ("arm", "ring", "copy")):
            bad = json.loads(json.dumps(good))
            bad[where][key] = value
            with self.assertRaises(WrongResult, msg=key):
                trial.check("zero-copy", bad)

    def test_what_needs_another_machine_is_not_measured_on_the_same_one(self):
        base = Point(backend="memory")
        for change in ({"backend": "null"}, {"cost": "vmexit"}, {"cores": "shared"}, {"idle_ms": "never"}, {"queue_size": 1024},
                       {"bs": 64}):
            self.assertNotEqual(trial.machine_key(base), trial.machine_key(Point(**{"backend": "memory", **change})), change)
        self.assertEqual(trial.machine_key(base), trial.machine_key(Point(backend="memory", bs=512, depth=32)))


class Compare(unittest.TestCase):
    def folder(self, d, name, factor, seed):
        rng = random.Random(seed)
        trials = []
        for b in range(12):
            for slot, ns in (("copy", 2000.0), ("zero-copy", 1000.0 * factor)):
                values = {"ns_per_request": ns * (1 + 0.01 * rng.random())}
                trials.append({"experiment": "quick", "block": b, "phase": "main", "position": 0, "slot": slot, "arm": slot,
                               "samples": [{"point": {}, "values": values, "kept": True, "why": ""}]})
        path = os.path.join(d, name)
        os.makedirs(path)
        store.write_csv(store.to_samples(trials), os.path.join(path, "samples.csv"))
        with open(os.path.join(path, "results.json"), "w") as f:
            json.dump({"schema": results.SCHEMA, "environment": {"cpu": name}, "r_ns": 200.0, "aa_floor_ln": 0.01,
                       "main_plateau": 0}, f)
        return path

    def compared(self, factor):
        with tempfile.TemporaryDirectory() as d:
            a, b = self.folder(d, "one", 1.0, 1), self.folder(d, "two", factor, 2)
            out = os.path.join(d, "out")
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(compare.main([a, f"other={b}", "--out", out]), 0)
            with open(os.path.join(out, "report.md")) as f:
                return f.read(), store.read_csv(os.path.join(out, "samples.csv"))

    def test_machines_whose_ratio_differs_are_told_apart_and_equal_ones_are_not(self):
        self.assertIn("1 of 1 ratios to copy differ", self.compared(1.3)[0])
        text, merged = self.compared(1.0)
        self.assertIn("0 of 1 ratios to copy differ", text)
        self.assertEqual({s.machine for s in merged}, {"one", "other"}, "a sample lost its machine")

    def test_few_blocks_of_two_equal_machines_are_rarely_told_apart(self):
        rng, told, runs = np.random.default_rng(5), 0, 400
        for _ in range(runs):
            pairs = [tuple(np.exp(rng.normal(0, 0.05, 6)) for _ in "ab") for _ in range(2)]
            told += compare.differ(pairs).excludes(1)
        self.assertLessEqual(told, 0.01 * runs, "the interval is narrower than its 99 % say")

    def test_a_planted_difference_between_machines_is_inside_its_interval(self):
        rng = np.random.default_rng(6)
        one = [np.exp(rng.normal(0, 0.01, 12)) for _ in "ab"]
        iv = compare.differ([one, (one[0], 1.3 * one[1])])
        self.assertTrue(1 < iv.low < 1.3 < iv.high, iv)
        self.assertGreater(iv.high / iv.low, 1.001, "the same draws for both machines cancelled their noise")

    def test_a_report_from_before_a_column_was_added_can_still_be_compared(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(self.folder(d, "one", 1.0, 1), "samples.csv")
            with open(path, newline="") as f:
                table = list(csv.reader(f))
            at = table[0].index("touch")
            with open(path, "w", newline="") as f:
                csv.writer(f).writerows(r[:at] + r[at + 1:] for r in table)
            self.assertEqual(store.read_csv(path).items[0].point, Point())

    def test_results_of_an_older_schema_are_refused_with_a_sentence(self):
        with tempfile.TemporaryDirectory() as d:
            a, b = self.folder(d, "one", 1.0, 1), self.folder(d, "two", 1.0, 2)
            with open(os.path.join(b, "results.json"), "w") as f:
                json.dump({"schema": "virtio-vio-ab/2", "r_ns": 200.0}, f)
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                self.assertEqual(compare.main([a, b, "--out", os.path.join(d, "o")]), 1)
            self.assertIn("schema 'virtio-vio-ab/2', this program reads virtio-vio-ab/3", err.getvalue())
            self.assertIn("measure again", err.getvalue())

    def test_a_folder_that_is_no_report_is_refused_in_words(self):
        with tempfile.TemporaryDirectory() as d:
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                self.assertEqual(compare.main([d, "x=" + d, "--out", os.path.join(d, "o")]), 1)
            self.assertIn("results.json", err.getvalue())


if __name__ == "__main__":
    unittest.main()
