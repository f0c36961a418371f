#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Paper reproductions: thresholds decide and nothing else, planted samples give each verdict, uncommitted thresholds none."""

import ast
import contextlib
import copy
import dataclasses
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import simulate

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
from ab.instrument import experiment  # noqa: E402
from ab.papers import paper_run, papers  # noqa: E402
from ab.instrument.model import Interval, Sample, Samples  # noqa: E402

simulate.cheaply()
PAPERS = ["kvm2007", "kvmforum2010", "markuze2016", "viommu2011", "wang2018", "xen2012"]
LIMITS = [{"round_trip": {"median_ns": 200.0}, "memcpy": [{"level": "memory", "size_bytes": 65536, "median_ns": 8000.0}]}]
BLOCKS = 8


def loaded(name):
    return experiment.load(os.path.join(papers.FOLDER, name, "experiment.toml"))


def plant(name, truth, noise=0.002, seed=1):
    """Samples of a paper's own experiment: truth(arm, point) is the time of a request, ns, or (ns, other values)."""
    rng, exp, out = np.random.default_rng(seed), loaded(name), []
    for block in range(BLOCKS):
        for position, (slot, arm) in enumerate(exp.slots.items()):
            for point in exp.points[slot]:
                got = truth(arm, point)
                ns, more = got if isinstance(got, tuple) else (got, {})
                values = {"ns_per_request": ns * float(np.exp(rng.normal(0, noise))), "tce_updates": 0.0, "hcalls": 0.0, **more}
                out.append(Sample(name, block, "main", position, slot, arm, point, values))
    return Samples(out)


def judged(name, truth, claim=None, extra=None, **kw):
    """(verdict, result) of planted samples."""
    samples = plant(name, truth, **kw)
    extra = {"floors": papers.noise_floors(samples), **(extra or {})}
    result = papers.load_analysis(name).analyse(samples, LIMITS, claim or papers.load_claim(name), extra)
    return papers.verdict(result.tests), result


def answers(result):
    return {(t.id, t.passed) for t in result.tests}


# --- worlds in which the claims hold ------------------------------------------------------------------------------------

TRACES = {"traces": {p: [{"who": w, "steps": ["PROBE"], "lines": ["... PROBE"]} for w in ("guest", "server")] for p in "12"}}


def kick(arm, p):
    n, copied = p.queue_size, arm == "copy"
    ring = 26 * n + 12 if copied else 0
    return (2000 + 0.2 * ring) / p.batch, {"kicks": 1 / p.batch, "rdma_bytes": p.bs + 17 + ring / p.batch}


def rings(arm, p):
    gain = {"copy": 1.3, "copy,ring=copy-delta": 1.1, "zero-copy,ring=copy": 1.4, "zero-copy,ring=copy-delta": 1.2}.get(arm, 1)
    return 600 * gain if p.bs == 512 else 0.2 * p.bs


def ladder(arm, p):
    if p.extra:
        return 2000 if int(p.extra.split()[-1]) > 64 else 30000
    in_place = arm.startswith(("zero-copy", "unprotected"))
    mapping = arm.split(",")[0].split("=")[1] if not in_place else \
        "single-use" if "single" in arm else "deferred" if "deferred" in arm else "pool"
    tce = float(p.cost.split("tce=")[1].split(",")[0]) if "tce=" in p.cost else 0
    extra = {"single-use": 40000 if in_place else 300, "deferred": 30000 if in_place else 150}.get(mapping, 0)
    return 2000 + extra + (6 * tce if extra else 0)


def sizes(arm, p):
    hcall = float(p.cost.split("hcall=")[1].split(",")[0]) if "hcall=" in p.cost else 0
    tce = float(p.cost.split("tce=")[1].split(",")[0]) if "tce=" in p.cost else 0
    base = 1000 + 0.15 * p.bs
    if arm == "premapped":
        return base + 0.04 * p.bs if p.depth == 1 else 1.2 * base
    if arm == "unprotected":
        return base
    pages = p.bs / 4096
    fixed = 50000 if arm.startswith("zero-copy") else 300
    return base + fixed + 5 * hcall + tce * (4 + 2 * pages)


def grants(arm, p):
    """Copying loses to a grant for each frame at 9000 bytes received, and nowhere else."""
    base = 100 + 0.01 * p.bs
    per_byte = 0.2 if p.op == "rx" and p.bs > 1496 else 0.02
    return base + {"premapped": per_byte * p.bs, "zero-copy,mapping=single-use": 5000}.get(arm, 200)


def cards(**accesses):
    """What kvm2007 counts in guests: accesses of 200 packets; 0: that card could not be had."""
    n = {"rtl8139": 900, "e1000": 500, "virtio-net-pci": 120, "copy": 400, "zero-copy": 100, **accesses}
    return {"guests": {c: {load: {"packets": 200, "accesses": a} for load in ("ping", "send", "receive")} for c, a in n.items() if a}}


FLAT = {"kvm2007": cards(**{"rtl8139": 500, "virtio-net-pci": 500})}  # of papers whose effect is not in the samples
WORLDS = {"kvmforum2010": (kick, TRACES), "kvm2007": (lambda a, p: 100, cards()), "wang2018": (rings, {}), "viommu2011": (ladder, {}), "markuze2016": (sizes, {}),
          "xen2012": (grants, {})}


class Verdicts(unittest.TestCase):
    def test_a_world_as_claimed_gives_the_same_shape_in_every_paper(self):
        for name, (truth, extra) in WORLDS.items():
            with self.subTest(name):
                verdict, result = judged(name, truth, extra=extra)
                self.assertEqual(verdict, papers.SAME, [(t.id, t.measured, t.passed) for t in result.tests if t.required])
                self.assertIn("<svg", result.svg)

    def test_no_effect_contradicts_or_is_inconclusive_but_is_never_the_same_shape(self):
        for name in WORLDS:
            with self.subTest(name):
                verdict, _ = judged(name, lambda a, p: (1000 + 0.2 * p.bs, {"kicks": 1 / max(1, p.batch), "rdma_bytes": 9999}), extra=FLAT.get(name))
                self.assertIn(verdict, (papers.CONTRADICTS, papers.INCONCLUSIVE))

    def test_noise_that_hides_the_effect_is_inconclusive(self):
        verdict, result = judged("wang2018", rings, noise=0.6)
        self.assertEqual(verdict, papers.INCONCLUSIVE, answers(result))

    def test_each_claim_fails_alone_when_its_own_part_of_the_world_is_changed(self):
        def bulk_gains(a, p):
            return rings(a, p) * (1.3 if p.bs > 512 and a == "copy" else 1)

        def fixed_crossover(a, p):
            return sizes(a, p) - (5 * float(p.cost.split("=")[1].split(",")[0]) if "hcall=" in p.cost and "rdma" in a else 0)

        def slow_bounce(a, p):
            return sizes(a, p) * (1.5 if a == "premapped" and p.depth == 32 else 1)

        def grows_in_place(a, p):
            ns, v = kick(a, p)
            return ns + p.queue_size / p.batch, v

        def wrong_bytes(a, p):
            ns, v = kick(a, p)
            return ns, {**v, "rdma_bytes": v["rdma_bytes"] + (2 if a == "copy" else 0)}

        def cached_slow(a, p):
            return ladder(a, p) + (5000 if "cached" in a and "rdma" in a else 0)

        def pool_feels_tce(a, p):
            return ladder(a, p) * (2 if "pool" in a and "tce=2000" in p.cost else 1)

        def never_loses(a, p):
            return grants(a, p) + (5000 if "rdma" in a and p.bs > 1496 else 0)

        def slow_send(a, p):
            return grants(a, p) + (500 if a == "premapped" and (p.op, p.bs) == ("tx", 64) else 0)

        def slow_frames(a, p):
            return grants(a, p) + (500 if a == "premapped" and (p.op, p.bs) == ("rx", 1496) else 0)

        def even_gain(a, p):
            return 100 if a == "premapped" else 200
        for name, truth, test in (("wang2018", bulk_gains, "bulk-copy"), ("markuze2016", fixed_crossover, "moves"),
                                  ("markuze2016", slow_bounce, "bound"), ("kvmforum2010", grows_in_place, "flat"),
                                  ("kvmforum2010", wrong_bytes, "bytes"), ("viommu2011", cached_slow, "cached-over-deferred"),
                                  ("viommu2011", pool_feels_tce, "flat-pool"), ("xen2012", never_loses, "loses"),
                                  ("xen2012", slow_send, "gain-tx"), ("xen2012", slow_frames, "frame-rx"),
                                  ("xen2012", even_gain, "shrinks")):
            with self.subTest(test):
                verdict, result = judged(name, truth, extra=WORLDS[name][1])
                self.assertEqual(verdict, papers.CONTRADICTS)
                self.assertIn((test, False), answers(result))

    def test_counts_of_cards_decide_about_kvm2007_each_alone(self):
        for accesses, verdict, test in (({}, papers.SAME, None), ({"e1000": 700}, papers.CONTRADICTS, "e1000"),
                                        ({"rtl8139": 500}, papers.CONTRADICTS, "rtl"), ({"virtio-net-pci": 501}, papers.CONTRADICTS, "virtio"),
                                        ({"rtl8139": 0}, papers.INCONCLUSIVE, None)):
            with self.subTest(accesses):
                got, result = judged("kvm2007", lambda a, p: 100, extra=cards(**accesses))
                self.assertEqual(got, verdict, answers(result))
                self.assertIn("<svg", result.svg)
                if test:
                    self.assertEqual([t.id for t in result.tests if t.required and t.passed is False], [test])
        self.assertEqual(judged("kvm2007", lambda a, p: 100, extra={"why": {"e1000": "no QEMU here"}})[0], papers.NOT_HERE)

    def test_a_step_missing_from_a_trace_contradicts(self):
        bad = copy.deepcopy(TRACES)
        bad["traces"]["1"][0]["lines"] = [None]
        self.assertEqual(judged("kvmforum2010", kick, extra=bad)[0], papers.CONTRADICTS)

    def test_without_samples_a_paper_is_not_testable_and_does_not_crash(self):
        for name in WORLDS:
            with self.subTest(name):
                result = papers.load_analysis(name).analyse(Samples([]), [], papers.load_claim(name), {})
                self.assertEqual(papers.verdict(result.tests), papers.NOT_HERE)

    def test_one_missing_arm_is_inconclusive_not_a_crash(self):
        for name, lost in (("kvmforum2010", "copy,ring=direct"), ("wang2018", "zero-copy"), ("viommu2011", "unprotected"),
                           ("markuze2016", "unprotected")):
            with self.subTest(name):
                truth, extra = WORLDS[name]
                samples = plant(name, truth)
                rest = Samples(s for s in samples if s.slot != lost)
                result = papers.load_analysis(name).analyse(rest, LIMITS, papers.load_claim(name), extra)
                self.assertEqual(papers.verdict(result.tests), papers.INCONCLUSIVE)

    def test_too_few_process_starts_give_no_interval(self):
        samples = plant("wang2018", rings)
        few = Samples(s for s in samples if s.block < papers.MIN_PAIRS - 1)
        result = papers.load_analysis("wang2018").analyse(few, LIMITS, papers.load_claim("wang2018"), {})
        self.assertEqual({t.measured for t in result.tests}, {None})

    def test_a_crossover_beyond_the_range_at_both_costs_is_not_measured(self):
        _, result = judged("markuze2016", lambda a, p: sizes(a, p) + (1e6 if "rdma" in a else 0))
        self.assertIn(("moves", None), answers(result))


class Rule(unittest.TestCase):
    def judge(self, low, high, noise=0.0, estimate=None, **rule):
        return papers.judge(Interval(estimate or (low + high) / 2, low, high, 9), {"kind": "ratio", **rule}, noise)

    def test_an_interval_decides_only_when_it_is_wholly_on_one_side(self):
        self.assertIs(self.judge(1.1, 1.2, at_least=1.05), True)
        self.assertIs(self.judge(1.0, 1.04, at_least=1.05), False)
        self.assertIsNone(self.judge(1.0, 1.2, at_least=1.05))
        self.assertIs(self.judge(0.3, 0.4, at_most=0.5), True)
        self.assertIs(self.judge(0.97, 1.03, within=[0.95, 1.05]), True)
        self.assertIs(self.judge(1.06, 1.09, within=[0.95, 1.05]), False)
        self.assertIsNone(self.judge(0.9, 1.2, within=[0.95, 1.05]))
        self.assertIsNone(papers.judge(None, {"kind": "ratio", "at_least": 1.0}))

    def test_what_identical_arms_differ_by_decides_nothing_but_does_not_blur_counts(self):
        self.assertIsNone(self.judge(1.06, 1.08, noise=0.05, at_least=1.05))
        self.assertIs(self.judge(1.20, 1.22, noise=0.05, at_least=1.05), True)
        self.assertIs(self.judge(1.00005, 1.00006, noise=0.05, kind="count", within=[0.9999, 1.0001]), True)

    def test_what_was_measured_with_nothing_injected_is_told_apart(self):
        free = papers.Test("a", "", Interval(2, 1.9, 2.1, 9), "", None, True)
        injected = papers.Test("b", "", Interval(2, 1.9, 2.1, 9), "", True, True, injected=True)
        self.assertIn("alone: inconclusive. With injected costs: 1 of 1 as claimed", papers.conditions_text([free, injected]))
        self.assertEqual(papers.conditions_text([free]), "")

    def test_a_reported_test_never_changes_the_verdict(self):
        t = papers.Test("a", "", Interval(2, 1.9, 2.1, 9), "", True, True)
        bad = papers.Test("b", "", Interval(2, 1.9, 2.1, 9), "", False, False)
        self.assertEqual(papers.verdict([t, bad]), papers.SAME)


class Thresholds(unittest.TestCase):
    def test_turning_the_thresholds_round_turns_every_answer_round(self):
        for name, (truth, extra) in WORLDS.items():
            with self.subTest(name):
                claim = copy.deepcopy(papers.load_claim(name))
                for rule in claim["test"].values():
                    up = "at_most" not in rule
                    for key in papers.RULES:
                        rule.pop(key, None)
                    rule.update({"at_least": 1e9} if up else {"at_most": 1e-9})
                _, result = judged(name, truth, claim=claim, extra=extra)
                self.assertEqual({t.id for t in result.tests}, set(claim["test"]))
                self.assertEqual({t.passed for t in result.tests}, {False})

    def test_analyses_read_no_file_and_hold_no_thresholds_of_their_own(self):
        for name in PAPERS:
            with open(os.path.join(papers.FOLDER, name, "analyse.py")) as f:
                tree = ast.parse(f.read())
            with self.subTest(name):
                calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
                self.assertFalse(calls & {"open", "Interval", "judge", "Test", "getenv", "input"} - {"Interval"}, calls)
                attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
                self.assertFalse(attributes & {"passed", "judge", "environ", "verdict", "threshold"})

    def test_a_claim_that_lacks_its_source_or_a_threshold_is_refused(self):
        for name in PAPERS:
            claim = papers.load_claim(name)
            for spoil in (lambda c: c.pop("source"), lambda c: c.pop("figures"), lambda c: c["figures"][0].pop("tag"),
                          lambda c: [t.update(required=False) for t in c["test"].values()],
                          lambda c: [c["test"][next(iter(c["test"]))].pop(r, None) for r in papers.RULES],
                          lambda c: c["test"][next(iter(c["test"]))].update(at_least=1, at_most=2)):
                bad = copy.deepcopy(claim)
                spoil(bad)
                with self.assertRaises(papers.PaperError):
                    papers.check_claim(bad, name)

    def test_what_decides_with_injected_costs_is_an_invariance_or_a_movement(self):
        for name in PAPERS:
            for test, rule in papers.load_claim(name)["test"].items():
                if rule.get("injected") and rule.get("required", True):
                    self.assertTrue("within" in rule or test == "moves", f"{name} {test}")

    def test_experiments_measure_every_slot_and_cost_that_the_analyses_ask_for(self):
        for name in PAPERS:
            exp, claim = loaded(name), papers.load_claim(name)
            costs = {p.cost for ps in exp.points.values() for p in ps}
            asked = {v for k, v in claim.get("analysis", {}).items() if k.startswith("cost_")}
            self.assertLessEqual(asked, costs)
            self.assertTrue(any(s.endswith("(again)") for s in exp.slots), name)


class Provenance(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="vio-papers-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.folder = os.path.join(self.dir, "papers")
        shutil.copytree(os.path.join(papers.FOLDER, "wang2018"), os.path.join(self.folder, "wang2018"))

    def git(self, *argv):
        subprocess.run(["git", "-C", self.dir, "-c", "user.name=t", "-c", "user.email=t@example.org", *argv], check=True,
                       capture_output=True)

    def lines(self):
        return "\n".join(papers.provenance_lines(papers.provenance("wang2018", self.folder), "now"))

    def change(self):
        with open(os.path.join(self.folder, "wang2018", "claim.toml"), "a") as f:
            f.write("# moved\n")

    def test_committed_thresholds_are_quoted_with_their_commit_and_changed_ones_give_no_verdict(self):
        self.git("init", "-q")
        prov = papers.provenance("wang2018", self.folder)
        self.assertIn("claim.toml", prov["dirty"], "never committed")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "thresholds")
        prov = papers.provenance("wang2018", self.folder)
        self.assertEqual(prov["dirty"], [])
        self.assertIn(prov["commit"], self.lines())
        self.change()
        prov = papers.provenance("wang2018", self.folder)
        self.assertEqual(prov["dirty"], ["claim.toml"])
        self.assertIn("Warning", self.lines())
        passed = [papers.Test("a", "", Interval(2, 1.9, 2.1, 9), "", True, True)]
        self.assertEqual(papers.final_verdict(passed, prov), papers.NO_VERDICT)

    def test_outside_a_git_checkout_the_result_says_that_nothing_shows_the_order(self):
        self.assertIn("not a git checkout", self.lines())


class Result(unittest.TestCase):
    def text(self, name="wang2018", dirty=(), **more):
        truth, extra = WORLDS[name]
        samples = plant(name, truth)
        extra = {**extra, "floors": papers.noise_floors(samples)}
        claim = papers.load_claim(name)
        result = papers.load_analysis(name).analyse(samples, LIMITS, claim, extra)
        meta = {"provenance": {"known": True, "dirty": list(dirty), "commit": "abc1234", "date": "then"}, "began": "now",
                "environment": {"cpu": "x"}, "events": [], "limits": LIMITS, "cores": {}, "seed": 1, "raw": "samples.csv",
                "sketch": False, "command": f"./run paper {name}", **{k: v(result) for k, v in more.items()}}
        return papers.result_markdown(name, claim, result, samples, meta)

    def test_a_result_has_everything_that_a_reader_needs_to_doubt_it(self):
        for name in PAPERS:
            text = self.text(name)
            for part in ("## Verdict: same shape", "abc1234", "absolute values", "A/A control", "(again)",
                         "What differs from the source", "## Environment", f"./run paper {name}", "[P]", "n = ", "figure.svg"):
                self.assertIn(part, text, name)
            self.assertNotIn("nan", text)

    def test_a_danced_result_says_the_plateau_of_its_verdict_and_what_the_tests_say_on_the_other(self):
        text = self.text(plateau=lambda _: "R = 104 ns", 
                         others=lambda r: {"R = 500 ns": [dataclasses.replace(t, passed=False) for t in r.tests]})
        self.assertIn("## Verdict: same shape", text)  # the other plateau has no part in it
        self.assertIn("everything here holds while R = 104 ns", text)
        other = text[text.index("## The same tests while R = 500 ns"):text.index("## Published figures")]
        self.assertIn("not as claimed", other)

    def test_the_floor_of_a_test_is_that_of_identical_arms_at_its_own_points(self):
        a, b = (dataclasses.replace(loaded("wang2018").points["copy"][0], bs=n) for n in (512, 1024))
        checker = papers.Checker(papers.load_claim("wang2018"), {"floors": {a: 0.01, b: 0.3}})
        self.assertEqual([checker.floor([a]), checker.floor([a, b]), checker.floor([])], [0.01, 0.3, 0.3])
        checker.check("small-copy", Interval(1.2, 1.15, 1.25, 9), points=[a])
        checker.check("small-zero", Interval(1.2, 1.15, 1.25, 9), points=[b])
        self.assertEqual([t.passed for t in checker.tests], [True, None])

    def test_a_result_of_uncommitted_thresholds_carries_the_warning_in_place_of_a_verdict(self):
        text = self.text(dirty=["claim.toml"])
        self.assertIn("**Warning: claim.toml has uncommitted changes", text)
        self.assertIn(f"## Verdict: {papers.NO_VERDICT}", text)
        self.assertNotIn("## Verdict: same shape", text)


class CommandLine(unittest.TestCase):
    def run_main(self, *argv):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            rc = paper_run.main(list(argv))
        return rc, out.getvalue(), err.getvalue()

    def test_an_unknown_paper_is_refused_with_the_names_of_those_that_exist(self):
        rc, _, err = self.run_main("amdahl1967")
        self.assertEqual(rc, 2)
        for name in PAPERS:
            self.assertIn(name, err)

    def test_without_a_name_all_papers_are_listed_with_their_claims(self):
        rc, out, _ = self.run_main()
        self.assertEqual(rc, 0)
        self.assertEqual([ln.split()[0] for ln in out.splitlines() if ln and ln[0] != " "], PAPERS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
