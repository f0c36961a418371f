#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""From the files of a danced experiment to the report: raw windows with two plateaus of R and counters beside them."""

import importlib.util
import json
import math
import os
import tempfile
import unittest
import unittest.mock

import numpy as np

import simulate
from simulate_windows import HANDOVER_NS, HZ, World, simulate_windows
from ab.instrument import experiment, plateau_samples, store, windows
from ab.papers import paper_run
from ab.report import first_screen, report_html, report_md, report_model, results, screen
from ab.instrument.model import AGAIN, STARTS_OF

spec = importlib.util.spec_from_file_location("recompute", os.path.join(simulate.ROOT, "tests", "report", "recompute.py"))
recompute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recompute)

recompute.DRAWS = 200
simulate.cheaply()

BLOCKS = 7
LINES = {"copy": 8.0, "copy-tuned": 7.0, "premapped": 3.2, "zero-copy": 2.5, "unprotected": 2.5}
WORK = {"copy": 900.0, "copy-tuned": 750.0, "premapped": 250.0, "zero-copy": 60.0, "unprotected": 55.0}


def truth(arm):
    """ns of a request: work, lines, and the block handed over where it is moved."""
    def ns(p, r, per_byte):
        share = 1.0 if p.depth == 1 else 0.25
        return share * (WORK[arm] + LINES[arm] * r) + (p.bs * (per_byte + 0.1) if p.backend == "memory" else 0.0)
    return ns


def write_run(folder, world=None, rounds=40):
    """raw/ of a run of quick, as the runner leaves it."""
    exp = experiment.find("quick")
    points = sorted({p for ps in exp.points.values() for p in ps})
    rows, header, _ = simulate_windows({slot: truth(arm) for slot, arm in exp.slots.items()}, points, world or World(dwell=150),
                                       blocks=BLOCKS, dances=1, rounds=rounds, seed=3)
    os.makedirs(os.path.join(folder, "raw"))
    head = {"schema": store.SCHEMA, "experiment": "quick", "digest": exp.digest(), "seed": exp.seed,
            "environment": {"cpu": "simulated", "kernel": "0", "commit": "none"}, "cores": {"guest_core": 0, "server_core": 1}, **header}
    with open(os.path.join(folder, "raw", "quick.jsonl"), "w") as f:
        f.write(json.dumps({"header": head}) + "\n")
        for b in range(BLOCKS):
            windows.write(folder, "quick", b, rows[rows["block"] == b])
            trials = [{"experiment": "quick", "block": b, "phase": "main", "position": 0, "key": "k", "slot": slot, "arm": arm,
                       "began": float(b), "seconds": 1.0, "steal_ticks": 0, "failures": [], "danced": True,
                       "samples": [{"point": vars(p), "kept": True, "why": "", "histogram": [[1000, 5000], [9000, 50]],
                                    "values": {"ns_per_request": 1e6, "requests": 1000, "p50_ns": 1.0, "ready_ns": 2e6,
                                               **simulate.counters(arm, p)}} for p in exp.points[slot]]}
                      for slot, arm in exp.slots.items()]
            f.write(json.dumps({"trials": trials, "events": []}) + "\n")
        f.write(json.dumps({"event": {"kind": "blocks", "blocks": BLOCKS, "wanted": BLOCKS}}) + "\n")
        f.write(json.dumps({"event": {"kind": "finished"}}) + "\n")


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        write_run(cls.dir.name)
        cls.taken = results.load_folder(cls.dir.name)
        cls.ctx, cls.report = results.build(cls.taken)
        results.write_json(results.to_json(cls.ctx, cls.report, cls.taken), os.path.join(cls.dir.name, "results.json"))
        store.write_csv(cls.ctx.samples, os.path.join(cls.dir.name, "samples.csv"))
        with open(os.path.join(cls.dir.name, "results.json")) as f:
            cls.json = json.load(f)

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    def section(self, name):
        return next(s for s in self.json["sections"] if s["id"] == name)

    def test_in_the_first_picture_no_word_lies_on_a_bound_or_on_another_word(self):
        with unittest.mock.patch.object(first_screen.plots, "to_svg", side_effect=lambda fig, *_: fig):
            fig = first_screen.picture(self.ctx, [self.ctx, *(results.at_plateau(self.ctx, q) for q in range(len(self.ctx.plateaus)))]).svg
        fig.draw_without_rendering()
        panels = [ax for ax in fig.axes if ax.texts]
        self.assertTrue(panels)
        for ax in panels:
            words = [(t.get_text(), t.get_window_extent()) for t in ax.texts]
            bounds = [("bound", ln.get_window_extent()) for ln in ax.lines if ln.get_label() == "the machine's bound"]
            self.assertTrue(bounds)
            for n, (text, box) in enumerate(words):
                for other, there in words[n + 1:] + bounds:
                    self.assertFalse(box.x0 < there.x1 and there.x0 < box.x1 and box.y0 < there.y1 and there.y0 < box.y1,
                                     f"{text!r} lies on {other!r}")

    def test_a_papers_samples_are_one_plateaus_and_whole_starts_are_not_among_them(self):
        trials = store.read(os.path.join(self.dir.name, "raw", "quick.jsonl"))[1]
        main, others, name = paper_run.by_plateau("quick", self.dir.name, trials, "plain")
        self.assertEqual({name, *others}, {p.name() for p in self.ctx.plateaus})
        for samples in (main, *others.values()):
            self.assertEqual(len({(s.experiment, s.plateau) for s in samples}), 1)
            self.assertFalse([s for s in samples if s.values.get("ns_per_request") == 1e6])  # what the whole start says
        danceless = [{**t, "danced": False} for t in trials]
        self.assertEqual(paper_run.by_plateau("quick", self.dir.name, danceless, "plain"), ("plain", {}, ""))

    def test_each_plateau_has_its_own_ratio_and_it_is_the_planted_one(self):
        """Pooled over plateaus, or with labels that mean nothing, no ratio would be near."""
        overview = self.section("overview")
        self.assertEqual(len(overview["others"]), 1)
        for section in (overview, overview["others"][0]):
            r = (104.0, 500.0)[round(float(section["plateau"].split()[2])) > 200]
            for row in section["data"]["quick"]:
                if row["arm"] == "zero-copy" and row["ratio"]:
                    p = next(p for p in self.ctx.of("quick").points() if p.label() == row["point"])
                    per_byte = 0.1 if r == 104.0 else 0.2
                    want = truth("copy")(p, r, per_byte) / truth("zero-copy")(p, r, per_byte)
                    self.assertLess(abs(math.log(row["ratio"]["estimate"] / want)), 0.03, f"{row['point']} at R = {r}")

    def test_every_number_of_a_comparison_says_its_plateau(self):
        names = {f"R = {p['r_ns']:.0f} ns" for p in self.json["plateaus"]}
        every = names | {"all plateaus of R together"}  # latencies as experienced
        self.assertEqual(len(names), 2)
        told = [v for s in self.json["sections"] for part in [s, *s["others"]] for v in part["verdicts"]]
        self.assertGreater(len(told), 10)
        self.assertEqual([v["claim"] for v in told if v["plateau"] not in every], [])
        self.assertEqual([b["claim"] for b in self.json["headline_numbers"] if b["plateau"] not in names], [])
        self.assertEqual([p for p in self.json["points"] if p["experiment"] == "quick" and p["plateau"] not in names], [])
        timed = [t for t in self.json["targets"] if t["measured"].endswith(" R")]
        self.assertEqual({t["plateau"] for t in timed}, names)

    def test_a_verdict_without_its_plateau_breaks_the_reports_rules(self):
        self.assertEqual(report_model.problems(self.report), [])
        v = self.report.sections[0].verdicts[0]
        v.plateau, old = "", v.plateau
        self.assertTrue(any("does not say its plateau" in p for p in report_model.problems(self.report)))
        v.plateau = old

    def test_the_first_screen_answers_with_a_sentence_a_picture_four_numbers_and_the_tuned_arm(self):
        self.assertRegex(self.report.headline, r"^Zero-copy does [\d.]+ to [\d.]+ times .* while R = \d+ ns, .* while R = \d+ ns: faster")
        self.assertEqual(len(self.report.headline_numbers), 4)
        self.assertTrue(all("copy-tuned" in b.second for b in self.report.headline_numbers))
        self.assertTrue(any("N = 256" in p and "copy-delta" in p for p in self.report.points))
        text = report_html.render(self.report).replace("\u00a0", " ")
        where = [text.index(x) for x in (self.report.headline, 'id="first"', 'class="bigs"', "N = 256", "Measured on")]
        self.assertEqual(where, sorted(where))
        self.assertIn("the machine's bound", self.report.picture.svg.replace("&#x27;", "'"))
        md = report_md.render(self.report)
        for p in (self.report.headline, "N = 256", "The same while R ="):
            self.assertIn(p, md)
        self.assertIn("plateau", screen.text(self.ctx, self.report))

    def test_no_arm_is_above_the_machines_bound_in_the_picture(self):
        """The floor drawn is one: with what was planted each arm takes longer than it."""
        for c in (self.ctx, results.at_plateau(self.ctx, 1 - self.ctx.plateau)):
            samples = c.of("quick")
            for p in samples.points():
                least = first_screen.least_ns(samples, p)
                self.assertTrue(0 < least <= 1.02 * np.min(samples.at(p).values("ns_per_request")), p.label())

    def test_counters_are_counted_once_however_many_plateaus_there_are(self):
        whole = self.ctx.samples.where(experiment="quick" + STARTS_OF, slot="copy")
        self.assertEqual(len(whole), BLOCKS * 10)
        row = next(t for t in self.json["targets"] if "steady state" in t["name"])
        self.assertIn(f"of {BLOCKS * 10 * 2} process starts", row["absolute"])

    def test_the_time_model_finds_lines_and_hand_over_in_the_windows(self):
        one = next(r for r in self.section("model")["data"]["regimes"] if r["regime"] == "one at a time")
        self.assertLess(one["median_error_held_out"]["setting"], 0.10)

    def test_what_was_set_aside_is_reported(self):
        lead = self.section("instrument")["lead"]
        self.assertRegex(lead, r"R stood at \d+ ns and \d+ ns; [\d.]+ % of [\d,]+ windows had a gap")
        aside = self.json["windows"]["quick"]["set_aside"]
        self.assertGreater(aside["a side saw a gap"], 0.05 * aside["windows"])

    def test_what_a_hand_over_takes_is_what_was_planted(self):
        planted = (HANDOVER_NS - 50_000 * 1e9 / HZ) / 1e3  # of it the warm-up's ticks
        got = self.section("instrument")["data"]["handover"]["quick"]["us"]
        self.assertAlmostEqual(got[1], planted, delta=1)

    def test_a_dance_that_was_lost_and_danced_again_is_in_the_report_once_with_its_reason(self):
        trials = [{"block": 3, "danced": True, "failures": ["a dance of 0.5 s did not end:\ncopy: alive"]} for _ in range(4)] + \
                 [{"block": 3, "failures": ["no server"]}, {"block": 2, "danced": True, "failures": []}]
        self.assertEqual(results.tried_again(trials), ["a dance of 0.5 s did not end:\ncopy: alive", "no server"])

    def test_figures_recomputed_from_samples_csv_agree(self):
        check, parts = recompute.recompute(self.dir.name)
        self.assertEqual(check.wrong, [])
        self.assertTrue(parts["arms at a glance"] and parts["raw samples"])

    def test_a_damaged_last_block_is_left_out_and_said(self):
        """A run killed between the windows of a block and its line: the windows are there, the block is not."""
        with tempfile.TemporaryDirectory() as d:
            write_run(d, rounds=12)
            path = os.path.join(d, "raw", "quick.jsonl")
            with open(path) as f:
                lines = f.readlines()
            with open(path, "w") as f:
                f.writelines(lines[:BLOCKS])  # header and all blocks but the last
            taken = results.load_folder(d)
            self.assertEqual({s.block for s in taken.samples}, set(range(BLOCKS - 1)))


class Bridge(unittest.TestCase):
    def test_experiments_that_did_not_dance_are_as_they_were(self):
        trials = [{"experiment": "load", "block": 0, "phase": "main", "position": 0, "slot": "copy", "arm": "copy",
                   "samples": [{"point": {}, "values": {"ns_per_request": 5.0}, "kept": True, "why": ""}]}]
        self.assertEqual(plateau_samples.measure({"load": ("/nonexistent", trials)}), {})
        got = plateau_samples.samples("load", trials)
        self.assertEqual([(s.plateau, s.values["ns_per_request"], s.experiment) for s in got], [(-1, 5.0, "load")])

    def test_a_twin_keeps_its_arm(self):
        with tempfile.TemporaryDirectory() as d:
            write_run(d, rounds=12)
            taken = results.load_folder(d)
            twins = [s for s in taken.samples if s.slot == "copy" + AGAIN]
            self.assertTrue(twins)
            self.assertEqual({s.arm for s in twins}, {"copy"})

    def test_the_main_plateau_is_that_with_most_samples_whatever_their_values(self):
        with tempfile.TemporaryDirectory() as d:
            write_run(d, rounds=12)
            items = results.load_folder(d).samples
            main = plateau_samples.main_plateau(items)
            for s in items:
                if "ns_per_request" in s.values:
                    s.values["ns_per_request"] *= 1 + 9 * s.plateau
            self.assertEqual(plateau_samples.main_plateau(items), main)
            many = [sum(s.kept and s.plateau == q for s in items) for q in (0, 1)]
            self.assertEqual(main, int(np.argmax(many)))


if __name__ == "__main__":
    unittest.main()
