#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Ladder, mapping, costs and model on simulated samples: what was planted is found, and what is missing is not made up."""

import dataclasses
import json
import unittest

import numpy as np

from simulate import cheaply, context, counters, simulate
from ab.report import plots
from ab.stats import time_model
from ab.analyses import costs, cycles_model, ladder, layout, mapping
from ab.instrument.model import METRICS, Point, Samples
from ab.stats.plateaus import Plateau

cheaply()
POINT = Point(backend="memory")
WORTH = {"mapping": 1.3, "payload": 1.1, "ring": 2.0, "notify": 1.5}
ARMS16 = [ladder.arm_name(c) for c in ladder.CELLS]
COSTS = ["free", "vmexit", "ibmvnic", "hcall=1000,tce=100,rdma=1000", "hcall=3000,tce=1000,rdma=500"] + [
    ",".join(f"{n}={v if k == j else 0}" for j, n in enumerate(costs.AXES)) for k in range(3) for v in (500, 2000, 10000)]
LINES = {"copy": (1000, 4, 3, 5), "copy-tuned": (3000, 2, 1, 0), "zero-copy": (500, 0, 0, 0)}


def independent(arm, _):
    """Each factor is worth the same in every context."""
    cell = ladder.CELLS[ARMS16.index(arm)] if arm in ARMS16 else (1, 1, 1, 1)
    ns = 5000.0
    for f, on in zip(ladder.FACTORS, cell):
        ns /= WORTH[f[0]] if on else 1
    return ns


def only_together(arm, point):
    """Polling is worth nothing unless the ring is read in place."""
    cell = ladder.CELLS[ARMS16.index(arm)]
    return 1000.0 if cell[2] and cell[3] else 2000.0


def linear(arm, point):
    k = LINES[arm]
    return k[0] + float(np.dot(k[1:], costs.parse_cost(point.cost)))


def sound(test, section):
    """What every section owes: JSON, figures that follow the theme, a limits line and a command."""
    json.dumps(section.data, allow_nan=False)
    for f in section.figures:
        test.assertEqual(plots.fixed_colours(f.svg), [], f.id)
        test.assertTrue(f.limits and f.command and f.caption, f.id)
    test.assertEqual(len({f.id for f in section.figures}), len(section.figures))
    for v in section.verdicts:
        test.assertTrue(v.absolute, v.claim)


class Ladder(unittest.TestCase):
    def test_planted_worth_of_each_factor_is_found(self):
        s = simulate(ARMS16, [POINT], 12, truth=independent, again=["copy"], experiment="ladder", noise=0.01, spikes=0)
        section = ladder.analyse(context(s))
        sound(self, section)
        got = section.data["points"][0]
        for name, worth in WORTH.items():
            e = got["effects"][name]
            self.assertTrue(e["low"] < worth < e["high"] and e["high"] / e["low"] < 1.1, f"{name}: {e}")
            self.assertAlmostEqual(got["forward_over_reverse"][name]["estimate"], 1, delta=0.05)
        self.assertIn("Most is earned by ring", section.lead)
        self.assertIn("does not matter", section.lead)

    def test_planted_interaction_shows_as_order(self):
        s = simulate(ARMS16, [POINT], 12, truth=only_together, again=["copy"], experiment="ladder", noise=0.01, spikes=0)
        section = ladder.analyse(context(s))
        got = section.data["points"][0]["effects"]
        self.assertAlmostEqual(got["ring x notify"]["estimate"], 2, delta=0.1)
        self.assertAlmostEqual(got["mapping x payload"]["estimate"], 1, delta=0.05)
        self.assertIn("The order matters", section.lead)

    def test_ladders_share_only_their_ends(self):
        self.assertEqual(set(ladder.forward()) & set(ladder.reverse()), {(0,) * 4, (1,) * 4})

    def test_missing_arms_leave_gaps_not_numbers(self):
        s = simulate([a for a in ARMS16 if "notify=poll" not in a], [POINT], 5, truth=independent, experiment="ladder")
        section = ladder.analyse(context(s))
        self.assertIsNone(section.data["points"][0]["effects"])
        self.assertTrue(any("not computed" in t for t in section.text))
        sound(self, section)
        self.assertIsNone(ladder.analyse(context(simulate(["copy"], [POINT], 5, experiment="ladder"))))
        self.assertIsNone(ladder.analyse(context(Samples([]))))


class Mapping(unittest.TestCase):
    def test_planted_lifetimes_are_told_apart(self):
        times = {"single-use": 2000, "deferred": 1600, "cached": 1000, "pool": 1000}
        arms = [a for _, g in mapping.GROUPS for a in g.values()]

        def truth(arm, _):
            return times[arm.split("mapping=")[1] if "mapping=" in arm else "pool"]
        s = simulate(arms, [POINT], 12, truth=truth, again=["zero-copy"], experiment="mapping", noise=0.01, spikes=0)
        section = mapping.analyse(context(s, noise=0.03))
        sound(self, section)
        answers = {v.claim.split(": ")[-1]: v.answer for v in section.verdicts if "in place" in v.claim}
        self.assertEqual([v.answer for v in section.verdicts if "in place" in v.claim],
                         ["faster", "faster", "no difference shown", "faster"], answers)
        self.assertIsNone(mapping.analyse(context(s.where(slot="zero-copy"))))
        sound(self, mapping.analyse(context(s.where(slot=("zero-copy", "zero-copy,mapping=cached")))))


class Layout(unittest.TestCase):
    def test_planted_layouts_are_told_apart_within_an_arm(self):
        times = {"split": 1000, "packed": 900, "split-in-order": 1000, "packed-in-order": 700}
        arms = [layout.arm_of(b, x) for b in ("zero-copy", "copy") for x in layout.LAYOUTS]

        def truth(arm, _):
            return times[arm.split("layout=")[1] if "layout=" in arm else "split"] * (4 if arm.startswith("copy") else 1)
        s = simulate(arms, [POINT], 12, truth=truth, again=["zero-copy"], experiment="layout", noise=0.01, spikes=0)
        section = layout.analyse(context(s, noise=0.03))
        sound(self, section)
        self.assertEqual([v.answer for v in section.verdicts], 2 * ["faster", "no difference shown", "faster"])
        self.assertRegex(section.lead, r"(packed takes 0\.(89|9.) times the time of split \(faster\).*){2}")
        self.assertIsNone(layout.analyse(context(s.where(slot="zero-copy"))))
        sound(self, layout.analyse(context(s.where(slot=("copy", "copy,layout=packed-in-order")))))


class Costs(unittest.TestCase):
    def section(self, arms=tuple(LINES), points=COSTS):
        s = simulate(arms, [Point(backend="memory", cost=c) for c in points], 10, truth=linear, experiment="costs", noise=0.01,
                     spikes=0, block_noise=0)
        return costs.analyse(context(s, noise=0.01))

    def test_planted_slopes_break_even_and_regions_are_found(self):
        section = self.section()
        sound(self, section)
        got = section.data["groups"][0]
        for fit in got["fits"]:
            for name, true in zip(("t0", "k_hcall", "k_tce", "k_rdma"), LINES[fit["arm"]]):
                self.assertAlmostEqual(fit[name]["estimate"], true, delta=0.04 * true + 0.02, msg=f"{fit['arm']} {name}")
        pair = next(p for p in got["pairs"] if (p["a"], p["b"]) == ("copy", "copy-tuned"))
        for axis, true in (("hcall", 1000), ("tce", 1000), ("rdma", 400)):
            e = pair["break_even"][axis]
            self.assertTrue(e["low"] <= true <= e["high"] and e["high"] - e["low"] < 0.3 * true, f"{axis}: {e}")
        plane = np.array(pair["planes"]["hcall x tce"])
        self.assertEqual((plane[0, 0], plane[-1, -1]), (-1, 1))
        self.assertEqual([p["words"] for p in got["pairs"] if p["b"] == "zero-copy"], ["zero-copy wins everywhere"] * 2)
        self.assertLess(max(abs(h["error"]) for h in got["held_out"]), 0.05)
        self.assertEqual(len([f for f in section.figures if "plane" in f.id]), 1)

    def test_incomplete_sweeps_give_no_fit(self):
        self.assertIsNone(self.section(points=["free", "vmexit", "hcall=500,tce=0,rdma=0"]))
        self.assertIsNone(costs.analyse(context(Samples([]))))
        sound(self, self.section(arms=("copy",)))

    def test_cost_texts(self):
        self.assertEqual(costs.parse_cost("hcall=1,tce=2,rdma=3"), (1, 2, 3))
        self.assertIsNone(costs.parse_cost("nonsense"))
        self.assertEqual([costs.in_fit(c) for c in ("free", "vmexit", "hcall=1,tce=2,rdma=0", "hcall=0,tce=2,rdma=0")],
                         [True, False, False, True])


class Model(unittest.TestCase):
    """Times are made of known prices; windows of two plateaus of R, or samples without windows."""

    ARMS = ["copy", "copy-tuned", "premapped", "zero-copy", "unprotected"]
    POINTS = [Point(backend=k, bs=b, depth=d) for k in ("memory", "null") for b in (512, 4096, 65536) for d in (1, 32)]

    def taken(self, truth):
        return context(simulate(self.ARMS, self.POINTS, 6, truth=truth, experiment="sizes", noise=0.005, spikes=0))

    def danced(self, truth, arms=ARMS, points=POINTS):
        """A context of samples as danced.py makes them: truth(arm, point, counters, R, hand-over)."""
        out = []
        for q, r in ((0, 104.0), (1, 500.0)):
            def ns(arm, p, r=r):
                return truth(arm, p, counters(arm, p), r, handover(p, r))
            for s in simulate(arms, points, 6, seed=q, truth=ns, experiment="quick", noise=0.005, spikes=0):
                s.plateau = q
                s.values |= {"r_ns": r, "handover_ns": handover(s.point, r), "memcpy_ns": 0.1 * s.point.bs}
                out.append(s)
        known = [Plateau(r, r, r, 100, 0.5) for r in (104.0, 500.0)]
        return dataclasses.replace(context(Samples(out)), plateaus=known, plateau=0)

    @staticmethod
    def truth(arm, p, c, r, h):
        moved = h - r / p.depth if p.backend == "memory" else 0.0
        if p.depth > 1:
            return 100 + 40 * c["hcalls"] + 0.9 * moved + 0.3 * r + 0.8 * 0.1 * c["guest_bytes"]
        return (250 + 40 * c["hcalls"] + 0.05 * c["rdma_bytes"] + 0.06 * (c["guest_bytes"] + c["server_bytes"]) + 0.9 * moved
                + 1.5 * r + 0.2 * r * c["rdma_calls"])

    def test_planted_constants_lines_and_bytes_are_found_and_predict_settings_held_out(self):
        section = cycles_model.analyse(self.danced(self.truth))
        sound(self, section)
        self.assertEqual([r["regime"] for r in section.data["regimes"]], ["one at a time", "many in flight"])
        for regime, lines in zip(section.data["regimes"], (1.5, 0.3)):
            self.assertLess(regime["median_error"], 0.05, regime["regime"])
            price = {(p["kind"], p["of"]): p["price"] for p in regime["prices"]}
            self.assertAlmostEqual(price["lines", "request"] / lines, 1, delta=0.1)
            self.assertAlmostEqual(price["handover", "payload handed over"] / 0.9, 1, delta=0.05)
            self.assertAlmostEqual(*((price["work", "byte by RDMA"] / 0.05, 1) if lines == 1.5 else
                                     (price["memcpy", "payload bounced by the guest"] / 0.8, 1)), delta=0.2)
            self.assertLess(regime["median_error_held_out"]["arm"], 0.05)
        self.assertNotIn("no model to rely on", section.lead)

    def test_a_setting_is_held_out_with_all_its_arms_and_plateaus(self):
        """Times of one point are doubled: a fit that had seen it would follow; held out, its error must be near a half."""
        def odd(arm, p, c, r, h):
            return self.truth(arm, p, c, r, h) * (2 if (p.backend, p.bs, p.depth) == ("memory", 4096, 1) else 1)
        section = cycles_model.analyse(self.danced(odd))
        mine = [s["error"] for r in section.data["regimes"] for s in r["settings"] if s["point"] == "memory: read 4 KiB, depth 1"]
        self.assertEqual(len(mine), 2 * len(self.ARMS))
        self.assertTrue(all(e < -0.4 for e in mine), mine)

    def test_what_is_missing_is_told_in_work_and_in_lines(self):
        """Two lines and 300 ns that no counter shows, in one arm at one setting."""
        def odd(arm, p, c, r, h):
            return self.truth(arm, p, c, r, h) + (300 + 2 * r if (arm, p.backend, p.bs, p.depth) == ("zero-copy", "null", 4096, 1)
                                                  else 0)
        ctx = self.danced(odd)
        mine = [c for c in time_model.configurations(ctx.samples) if c.point.depth == 1]
        rest = [c for c in mine if c.point != Point(backend="null", bs=4096)]
        ns, lines = time_model.missing(time_model.fit(rest, "one at a time"), mine)["zero-copy", Point(backend="null", bs=4096)]
        self.assertAlmostEqual(ns, 300, delta=40)
        self.assertAlmostEqual(lines, 2, delta=0.2)

    def test_samples_that_did_not_dance_take_no_lines_from_those_that_did(self):
        """An experiment measured sample by sample, with no R of its own, in the same report."""
        ctx = self.danced(self.truth)
        other = self.taken(lambda arm, p: 5000.0)
        both = dataclasses.replace(ctx, samples=Samples([*ctx.samples, *other.samples]))
        prices = [[r["prices"] for r in cycles_model.analyse(c).data["regimes"]] for c in (ctx, both)]
        self.assertEqual(prices[0], prices[1])

    def test_without_two_values_of_r_no_lines_are_priced(self):
        ctx = self.taken(lambda arm, p: 300 + 60 * counters(arm, p)["hcalls"])
        section = cycles_model.analyse(ctx)
        for r in section.data["regimes"]:
            self.assertFalse([p for p in r["prices"] if p["kind"] == "lines"])
            self.assertLess(r["median_error"], 0.05)
        self.assertTrue(any("can't be told" in t for t in section.text))

    def test_fitted_constants_reach_the_data_path_by_the_names_of_counters(self):
        got = cycles_model.constants([cycles_model.analyse(self.danced(self.truth))], 1)
        self.assertAlmostEqual(got["server_bytes"]["estimate"] / 0.06, 1, delta=0.1)
        self.assertEqual(got["guest_bytes"], got["server_bytes"])
        self.assertFalse(set(got) - set(METRICS), "the picture looks constants up by names of metrics")

    def test_times_that_the_terms_do_not_explain_are_called_so(self):
        def odd(arm, p, c, r, h):
            return 1000.0 * (1 + 9 * (p.bs == 4096) + 3 * (p.backend == "null") * (arm == "copy"))
        section = cycles_model.analyse(self.danced(odd))
        self.assertIn("no model to rely on", section.lead)
        self.assertTrue(any("was wanted" in t for t in section.text), "what is missing is not said")
        self.assertEqual(cycles_model.constants([section], 1), {}, "a bad model prices steps")

    def test_the_cost_plane_is_predicted_from_counters_and_the_model_of_other_experiments(self):
        ctx = self.danced(self.truth)
        model = cycles_model.fitted(ctx, 1)
        p = Point(backend="memory", bs=4096, cost="hcall=1000,tce=100,rdma=1000")
        at = self.danced(lambda arm, q, c, r, h: self.truth(arm, q, c, r, h) + 1000 * c["hcalls"] + 100 * c["tce_updates"]
                         + 1000 * c["rdma_calls"], arms=["copy"], points=[p]).samples.where(plateau=0)
        measured = np.median(at.values("ns_per_request"))
        self.assertAlmostEqual(costs.from_counts(model, at, "copy", p) / measured, 1, delta=0.03)

    def test_too_few_configurations_give_no_model(self):
        self.assertIsNone(cycles_model.analyse(context(simulate(["copy"], self.POINTS, 5, experiment="sizes"))))
        self.assertIsNone(cycles_model.analyse(context(Samples([]))))


def handover(p, r):
    """ns to hand a block over, asked for by the reader."""
    return r / p.depth + p.bs * (0.1 if r < 200 else 0.3)


if __name__ == "__main__":
    unittest.main()
