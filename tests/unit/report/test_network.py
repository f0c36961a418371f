#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The network section and its targets find what was planted, say so when a peer wins, and shrink when arms are missing."""

import unittest

import simulate as sim
from vioab import targets
from vioab.analyses import network
from vioab.model import Point, Samples
from vioab.report_model import Report, problems

ARMS = ["copy", "premapped", "zero-copy", "unprotected", *(a for a, _ in network.LADDER[1:-1]), *network.PEERS]
POINTS = [Point(backend="net", op=op, bs=bs, touch="headers") for op in ("tx", "rx") for bs in (64, 1514)]
ALL = Point(backend="net", op="tx", bs=64, touch="all")
NS = {"copy": 400, "premapped": 120, "zero-copy": 100, "unprotected": 95, "vhost-user": 200, "memif": 150, "memif zero-copy": 50}
NS.update({a: ns for (a, _), ns in zip(network.LADDER[1:-1], (300, 250, 160))})


def count(arm, point):
    return {} if arm in network.PEERS else {"hcalls": 0.0 if arm == "zero-copy" else 2.0, "tce_updates": 0.0, "rdma_bytes": 0.0,
                                            "guest_bytes": 0.0, "server_bytes": 0.0}


def taken(truth=lambda a, p: NS[a], arms=ARMS, blocks=10, **kw):
    rest = sim.simulate(arms, POINTS, blocks=blocks, experiment="net", truth=truth, count=count, again=["zero-copy"], noise=0.01,
                        **kw)
    own = [a for a in arms if a not in network.PEERS]
    full = sim.simulate(own, [ALL], blocks=blocks, experiment="net", truth=truth, count=count, noise=0.01)
    return Samples(list(rest) + list(full))


class Network(unittest.TestCase):
    def section(self, samples):
        got = network.analyse(sim.context(samples))
        self.assertEqual(problems(Report(title="t", when="w", headline="h", sections=[got])), [])
        return got

    def ratio(self, got, arm, rival, op="tx", bs=64):
        wanted = {"arm": arm, "rival": rival, "op": op, "bs": bs, "touch": "headers"}
        return next(r for r in got.data["ratios"] if wanted.items() <= r.items())

    def test_planted_ratios_and_steps_are_found(self):
        got = self.section(taken())
        for rival, times in (("copy", 4), ("vhost-user", 2), ("memif zero-copy", 0.5)):
            r = self.ratio(got, "zero-copy", rival)
            self.assertAlmostEqual(r["interval"]["estimate"] / times, 1, delta=0.05)
            self.assertEqual(r["answer"], "faster" if times > 1 else "slower")
        steps = next(x["steps"] for x in got.data["ladder"] if (x["op"], x["bs"]) == ("tx", 64))
        self.assertEqual([s["arm"] for s in steps], [a for a, _ in network.LADDER])
        for s, worth in zip(steps[1:], (400 / 300, 300 / 250, 250 / 160, 160 / 100)):
            self.assertAlmostEqual(s["worth"]["estimate"] / worth, 1, delta=0.05)

    def test_the_lead_says_that_a_peer_wins(self):
        self.assertRegex(self.section(taken()).lead, r"only 0\.\d\d times memif zero-copy, which wins")

    def test_no_difference_is_not_called_one(self):
        got = self.section(taken(lambda a, p: 100))
        self.assertEqual({r["answer"] for r in got.data["ratios"]}, {"no difference shown"})

    def test_peers_stand_only_beside_arms_that_touch_as_little(self):
        got = self.section(taken())
        self.assertFalse([r for r in got.data["ratios"] if r["touch"] == "all" and r["rival"] in network.PEERS])
        self.assertTrue([r for r in got.data["ratios"] if r["touch"] == "all" and r["rival"] == "copy"])

    def test_missing_peers_or_arms_make_a_shorter_section(self):
        got = self.section(taken(arms=[a for a in ARMS if a not in network.PEERS]))
        self.assertIn("No peer was measured", got.lead)
        self.assertIn("vhost-user", " ".join(got.text))
        for arms in (["zero-copy"], ["copy", "zero-copy", "vhost-user"]):
            self.section(taken(arms=arms, blocks=5))
        self.assertIsNone(network.analyse(sim.context(Samples([]))))


class Targets(unittest.TestCase):
    def test_planted_rates_decide_each_target(self):
        rows = targets.network(taken())
        self.assertEqual({r["answer"] for r in rows}, {"met", "reported"})
        slow = targets.network(taken(lambda a, p: 250 if a == "zero-copy" else NS[a]))
        self.assertEqual({r["answer"] for r in slow if "vhost-user" in r["name"]}, {"not met"})
        near = targets.network(taken(lambda a, p: 200 if a == "zero-copy" else NS[a]))
        self.assertEqual({r["answer"] for r in near if "64 B" in r["name"] and "vhost-user" in r["name"]}, {"undecided"})

    def test_one_hypercall_in_a_discarded_sample_misses_the_target(self):
        samples = taken()
        one = next(s for s in samples if s.arm == "zero-copy")
        one.values["hcalls"], one.kept = 1 / one.values["requests"], False
        self.assertEqual([r["answer"] for r in targets.network(samples) if "steady" in r["name"]], ["not met"])

    def test_without_network_samples_there_are_no_rows(self):
        self.assertEqual(targets.network(Samples([])), [])


if __name__ == "__main__":
    unittest.main()
