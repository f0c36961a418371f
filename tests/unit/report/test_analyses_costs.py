#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Ladder, mapping, costs and model on simulated samples: what was planted is found, and what is missing is not made up."""

import json
import unittest

import numpy as np

from simulate import context, counters, simulate
from vioab import plots
from vioab.analyses import costs, cycles_model, ladder, mapping
from vioab.model import METRICS, Point, Samples

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
    ARMS = ["copy", "copy-tuned", "premapped", "zero-copy", "unprotected"]
    POINTS = [Point(backend="memory", bs=b, depth=d) for b in (512, 4096, 16384, 65536, 262144) for d in (1, 32)]

    def taken(self, truth):
        return context(simulate(self.ARMS, self.POINTS, 6, truth=truth, experiment="sizes", noise=0.005, spikes=0))

    def test_times_made_of_counters_are_predicted(self):
        def truth(arm, point):
            c = counters(arm, point)
            return 300 + 110 * c["rdma_calls"] + 0.06 * c["rdma_bytes"] + 0.08 * (c["guest_bytes"] + c["server_bytes"])
        section = cycles_model.analyse(self.taken(truth))
        sound(self, section)
        for depth in section.data["depths"]:
            self.assertLess(depth["median_error"], 0.05)
            self.assertEqual(len(depth["fit"]), 8)
            self.assertFalse({(x["arm"], x["point"]) for x in depth["fit"]} & {(x["arm"], x["point"]) for x in depth["held_out"]})
        self.assertNotIn("no model to rely on", section.lead)

    def test_fitted_constants_reach_the_data_path_by_the_names_of_counters(self):
        def truth(arm, point):
            c = counters(arm, point)
            return 300 + 110 * c["rdma_calls"] + 0.06 * c["rdma_bytes"] + 0.08 * (c["guest_bytes"] + c["server_bytes"])
        got = cycles_model.constants([cycles_model.analyse(self.taken(truth))], 1)
        self.assertAlmostEqual(got["server_bytes"]["estimate"] / 0.08, 1, delta=0.1)
        self.assertEqual(got["guest_bytes"], got["server_bytes"])
        self.assertFalse(set(got) - set(METRICS), "the picture looks constants up by names of metrics")

    def test_times_that_counters_do_not_explain_are_called_so(self):
        def truth(arm, point):
            return 1000.0 * (1 + 9 * (point.bs in (16384, 262144)))
        section = cycles_model.analyse(self.taken(truth))
        self.assertIn("no model to rely on", section.lead)
        self.assertEqual(cycles_model.constants([section], 1), {}, "a bad model prices steps")

    def test_too_few_configurations_give_no_model(self):
        self.assertIsNone(cycles_model.analyse(context(simulate(["copy"], self.POINTS, 5, experiment="sizes"))))
        self.assertIsNone(cycles_model.analyse(context(Samples([]))))


if __name__ == "__main__":
    unittest.main()
