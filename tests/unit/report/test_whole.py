#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The whole way from samples to files, on simulated samples: A/A, a planted 10 %, and figures recomputed from samples.csv."""

import contextlib
import copy
import importlib.util
import io
import json
import os
import sys
import tempfile
import unittest

import simulate

ROOT = simulate.ROOT
sys.path.insert(0, os.path.join(ROOT, "bench"))
from ab.instrument import experiment, store  # noqa: E402
from ab.report import report_html, report_md, report_model, results, screen  # noqa: E402
from ab.instrument.model import Samples  # noqa: E402

spec = importlib.util.spec_from_file_location("recompute", os.path.join(ROOT, "tests", "report", "recompute.py"))
recompute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recompute)
recompute.DRAWS = 200
simulate.cheaply()

LIMITS = {"round_trip": {"samples_ns": [200.0] * 5, "median_ns": 200.0}, "syscall": {"median_ns": 90.0},
          "eventfd_wake": {"one_way_ns": 30000.0}, "memcpy_handover": [],
          "memcpy": [{"size_bytes": s, "footprint_bytes": 1 << 24, "level": level, "median_ns": s / g, "gb_per_s": g}
                     for level, g in (("L2", 40.0), ("L3", 14.0), ("large", 7.0)) for s in (64, 512, 4096, 65536, 1 << 20)]}


FEW = (64, 512, 4096, 65536, 1 << 20)  # of the sizes that `sizes` sweeps: the others are more of the same


def taken(names, truth=None, blocks=12):
    """What a folder with these experiments would hold, simulated at every slot and point that they ask for."""
    out = results.Taken()
    for n, name in enumerate(names):
        exp = experiment.find(name)
        per_point = {}
        for slot, arm in exp.slots.items():
            for p in (p for p in exp.points[slot] if name != "sizes" or p.bs in FEW):
                per_point.setdefault(p, []).append((slot, arm))
        for k, (p, slots) in enumerate(sorted(per_point.items())):
            arms = [a for s, a in slots if s == a]
            again = [a for s, a in slots if s != a]
            kw = {"truth": truth} if truth else {}
            out.samples += list(simulate.simulate(arms, [p], blocks, seed=100 * n + k, again=again, experiment=name, **kw))
        out.experiments[name] = {"experiment": exp, "events": {"wanted": blocks}, "finished": True,
                                 "trials": [{"seconds": 1.0, "failures": []}]}
    out.limits, out.cores = [LIMITS, LIMITS], {"guest_core": 0, "server_core": 1, "reason": "simulated"}
    out.environment = {"cpu": "simulated", "kernel": "0", "commit": "none", "dirty": False}
    return out


def write(taken_, folder):
    ctx, report = results.build(taken_)
    results.write_json(results.to_json(ctx, report, taken_), os.path.join(folder, "results.json"))
    store.write_csv(ctx.samples, os.path.join(folder, "samples.csv"))
    report_html.write_html(report, os.path.join(folder, "index.html"))
    report_md.write_md(report, os.path.join(folder, "report.md"))
    return ctx, report


def twins_only(arm, point):
    """Every arm costs the same: nothing is there to be found."""
    return 500.0 + 0.1 * point.bs / max(1, point.depth // 8)


def planted(arm, point):
    """premapped is 10 % slower than all others."""
    return twins_only(arm, point) * (1.10 if arm == "premapped" else 1.0)


def rows(report):
    """Every arm but copy at every point of quick: {"point", "arm", "ratio", "answer"}."""
    return [r for s in report.sections if s.id == "overview" for r in s.data["quick"] if r["ratio"]]


class Whole(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.taken = taken(["quick", "ladder", "sizes"])
        cls.ctx, cls.report = write(cls.taken, cls.dir.name)

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    def tampered(self, change, figure):
        """Disagreements of one of recompute's figures after change(results.json as a dict)."""
        rows_, obj = recompute.load(self.dir.name)
        change(obj)
        check = recompute.Check()
        figure(rows_, obj, check)
        return check.wrong

    def section(self, obj, name):
        return next(s for s in obj["sections"] if s["id"] == name)

    def test_three_figures_recomputed_from_the_raw_samples_agree_with_the_report(self):
        check, parts = recompute.recompute(self.dir.name)
        self.assertEqual(check.wrong, [])
        self.assertTrue(all(v for k, v in parts.items() if k != "raw samples"), f"a figure was not compared: {parts}")

    def test_a_number_that_the_samples_do_not_give_is_found(self):
        def two_percent(obj):
            row = next(r for r in self.section(obj, "overview")["data"]["quick"] if r["ratio"])
            row["ratio"]["estimate"] *= 1.02

        def narrow(obj):
            worth = self.section(obj, "ladder")["data"]["points"][0]["forward"][1]["worth"]
            middle = worth["estimate"]
            worth["low"], worth["high"] = middle * 0.99999, middle * 1.00001

        def bold(obj):
            row = next(r for r in self.section(obj, "overview")["data"]["quick"] if r["answer"] == "faster")
            row["answer"] = "slower"

        def elsewhere(obj):
            c = next(c for c in self.section(obj, "sizes")["data"]["crossovers"] if c["size"])
            c["smaller"], c["larger"] = c["larger"], c["smaller"]
        for change, figure in ((two_percent, recompute.arms_at_a_glance), (narrow, recompute.ladder),
                               (bold, recompute.arms_at_a_glance), (elsewhere, recompute.sizes)):
            self.assertTrue(self.tampered(change, figure), f"{change.__name__} went unnoticed")

    def test_the_report_keeps_its_own_rules_with_everything_in_it(self):
        self.assertEqual(report_model.problems(self.report), [])
        for wanted in ("overview", "ladder", "sizes"):
            self.assertIn(wanted, [s.id for s in self.report.sections])
        self.assertIn("premapped", screen.text(self.ctx, self.report))

    def test_results_json_has_the_documented_schema_and_no_number_that_json_lacks(self):
        with open(os.path.join(self.dir.name, "results.json")) as f:
            text = f.read()
        obj = json.loads(text, parse_constant=lambda c: self.fail(f"{c} is not JSON"))
        with open(os.path.join(ROOT, "docs", "results.md")) as f:
            docs = f.read()
        self.assertEqual(obj["schema"], results.SCHEMA)
        for key in obj:
            self.assertIn(f"`{key}`", docs, f"results.json's {key} is not documented")

    def test_an_a_a_run_reports_no_more_differences_than_chance_makes(self):
        """Of some forty 99 % intervals one or two may exclude 1; more than that and the intervals are too narrow."""
        _, report = results.build(taken(["quick"], twins_only))
        self.assertGreater(len(rows(report)), 30)
        bold = [(r["point"], r["arm"]) for r in rows(report) if r["answer"] != "no difference shown"]
        self.assertLessEqual(len(bold), 2, f"identical arms were told apart: {bold}")
        self.assertIn("not shown to differ", report.headline)

    def test_a_planted_slowdown_of_ten_per_cent_is_found_with_an_interval_around_it(self):
        _, report = results.build(taken(["quick"], planted, blocks=20))
        mine = [r for r in rows(report) if r["arm"] == "premapped"]
        self.assertTrue(mine)
        found = [r for r in mine if r["answer"] == "slower"]
        self.assertGreaterEqual(len(found), 0.8 * len(mine), "10 % went unnoticed")
        for r in found:
            self.assertTrue(r["ratio"]["low"] < 1 / 1.10 < r["ratio"]["high"], f"{r['point']}: {r['ratio']} is not around 1/1.10")
        others = [(r["point"], r["arm"]) for r in rows(report)
                  if r["arm"] != "premapped" and r["answer"] != "no difference shown"]
        self.assertEqual(others, [])

    def test_any_single_experiment_alone_makes_a_report(self):
        for name in experiment.names():
            if name == "anchors" or name.startswith("net"):
                continue  # slots that come from a program, and peers: test_analyses.py and test_network.py
            with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(io.StringIO()):
                ctx, report = write(taken([name], blocks=5), d)
                self.assertEqual(report_model.problems(report), [], name)
                screen.text(ctx, report)

    def test_discarded_samples_are_counted_and_change_no_estimate(self):
        spoiled = copy.copy(self.taken)
        spoiled.experiments = {"quick": self.taken.experiments["quick"]}
        quick = [s for s in self.taken.samples if s.experiment == "quick"]
        extra = [copy.copy(s) for s in quick[:50]]
        for s in extra:
            s.values = s.values | {"ns_per_request": 1e9}
            s.kept, s.why = False, "steal: 9 ticks in 0.10 s on 2 cores"
        spoiled.samples = quick + extra
        _, report = results.build(spoiled)
        self.assertEqual([r["ratio"] for r in rows(report)], [r["ratio"] for r in rows(self.report)])
        self.assertEqual(sum(int(r[2]) for r in report.discarded.rows), 50)
        self.assertEqual(len(Samples(spoiled.samples).kept()), len(quick))


if __name__ == "__main__":
    unittest.main()
