#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The network's sections and targets find what was planted, say so when a peer wins, and shrink when arms are missing."""

import unittest

import simulate as sim
from ab.report import targets
from ab.analyses.peers import network, network_arms, network_latency
from ab.instrument.model import Point, Samples
from ab.report.report_model import Report, problems

sim.cheaply(3000)  # of many comparisons of identical arms none may be told apart
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
        lead = self.section(taken()).lead
        self.assertRegex(lead, r"at 4 sizes and directions: against copy faster at 4 \(\d\.\d\d to \d\.\d\d times\)")
        self.assertRegex(lead, r"against memif zero-copy slower at 4 \(0\.[\d to.]+ times\), where memif zero-copy wins")
        self.assertIn("against copy not shown to differ at 4", self.section(taken(lambda a, p: 100)).lead)

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


BOTH = [Point(backend="net", op="both", bs=bs, touch="headers") for bs in (64, 1514)]
PAIR = [Point(backend="net", op="pair", bs=bs, touch="all") for bs in (64, 1514)]


def both(truth, blocks=10):
    """Both ways at once: three of four frames go to the guest."""
    rest = sim.simulate([a for a in ARMS if a in truth], BOTH, blocks=blocks, experiment="net-both", truth=lambda a, p: truth[a],
                        count=count, again=["zero-copy"], noise=0.01)
    for s in rest:
        ns = s.values["ns_per_request"]
        s.values.update(tx_ns=4 * ns, rx_ns=ns / 0.75)
    return rest


def pair(copied, blocks=3):
    """copied(arm, point, block) -> (server, guests, rdma) bytes of one frame."""
    out = sim.simulate(["copy", "zero-copy"], PAIR, blocks=blocks, experiment="net-pair", count=count)
    for s in out:
        s.values.update(zip(("server_bytes", "guest_bytes", "rdma_bytes"), copied(s.arm, s.point, s.block)), requests=240)
    return out


class BothWays(unittest.TestCase):
    section = Network.section

    def test_each_direction_has_a_rate_of_its_own_and_arms_are_compared_by_the_sum(self):
        got = self.section(both({"copy": 400, "zero-copy": 100, "memif zero-copy": 50}))
        rate = {r["way"]: r["interval"]["estimate"] for r in got.data["rates"] if r["arm"] == "zero-copy" and r["bs"] == 64}
        self.assertAlmostEqual(rate["both at once: guest to port"] / 2.5e6, 1, delta=0.05)
        self.assertAlmostEqual(rate["both at once: port to guest"] / 7.5e6, 1, delta=0.05)
        ratios = {r["rival"]: (r["interval"]["estimate"], r["answer"]) for r in got.data["ratios"]
                  if r["arm"] == "zero-copy" and r["bs"] == 64}
        self.assertAlmostEqual(ratios["copy"][0] / 4, 1, delta=0.05)
        self.assertEqual([ratios[k][1] for k in ("copy", "memif zero-copy")], ["faster", "slower"])

    def test_identical_arms_are_not_told_apart(self):
        got = self.section(both(dict.fromkeys(ARMS, 100)))
        self.assertEqual({r["answer"] for r in got.data["ratios"]}, {"no difference shown"})

    def test_one_way_and_both_ways_stand_in_one_table_and_are_never_compared_with_each_other(self):
        samples = Samples(list(taken()) + list(both(NS)))
        got = self.section(samples)
        ways = {row[0] for row in got.tables[0].rows}
        self.assertEqual(ways, {way for lanes in network.LANES.values() for _, way in lanes})
        peers = {row[3] for row in got.tables[0].rows}
        self.assertTrue(set(network.PEERS) < peers)
        at = {(r["op"], r["rival"]): r["interval"]["n"] for r in got.data["ratios"] if r["arm"] == "zero-copy" and r["bs"] == 64
              and r["touch"] == "headers"}
        self.assertEqual(set(at.values()), {10}, "pairs of another experiment came in")

    def test_a_peer_that_is_missing_at_one_size_is_named_with_it(self):
        samples = Samples(s for s in taken() if s.arm != "memif" or s.point.bs != 1514)
        self.assertIn("memif (1514 B, guest to port; 1514 B, port to guest)", " ".join(self.section(samples).text))


class Arms(unittest.TestCase):
    def test_the_danced_arms_have_a_section_of_their_own_although_no_peer_and_no_other_experiment_ran(self):
        arms = ["copy", "premapped", "zero-copy"]
        samples = sim.simulate(arms, POINTS, blocks=10, experiment="net-arms", truth=lambda a, p: NS[a], count=count, noise=0.01)
        got = network_arms.analyse(sim.context(samples))
        self.assertEqual(problems(Report(title="t", when="w", headline="h", sections=[got])), [])
        self.assertEqual(len(got.verdicts), 2 * len(POINTS))
        r = next(r for r in got.data["ratios"] if (r["arm"], r["rival"], r["op"], r["bs"]) == ("zero-copy", "copy", "rx", 1514))
        self.assertAlmostEqual(r["interval"]["estimate"] / 4, 1, delta=0.05)
        self.assertIsNone(network_arms.analyse(sim.context(taken())))


class FromGuestToGuest(unittest.TestCase):
    section = Network.section

    def test_bytes_are_shown_to_the_last_one_and_differing_starts_as_a_range(self):
        def copied(arm, point, block):
            return (point.bs, 0, 0) if arm == "zero-copy" else (0, 0, 3052 + 100 * block)
        got = self.section(pair(copied))
        table = next(t for t in got.tables if t.id == "network-pair")
        rows = {(r[0], r[1]): r for r in table.rows}
        self.assertEqual(rows["1514 B", "zero-copy"][2:7], ["1,514", "0", "0", "1,514", "1"])
        self.assertEqual(rows["1514 B", "copy"][5], "3,052 to 3,252")
        self.assertEqual(rows["1514 B", "copy"][7:], ["720", "3"])
        self.assertIn("1,514 bytes of 1514", got.lead)
        self.assertIn("all by the server's CPU", got.lead)

    def test_a_byte_of_anybody_else_is_not_called_the_servers(self):
        got = self.section(pair(lambda arm, point, block: (point.bs, 1 / 240, 0)))
        self.assertNotIn("all by the server's CPU", got.lead)
        table = next(t for t in got.tables if t.id == "network-pair")
        self.assertIn("1,514.004167", [r[5] for r in table.rows])

    def test_a_pair_gives_no_rate(self):
        got = self.section(pair(lambda arm, point, block: (point.bs, 0, 0)))
        self.assertEqual([t.id for t in got.tables], ["network-pair"])
        self.assertEqual(got.figures, [])


LOADS = [Point(backend="net", op="echo", bs=64, touch="headers", load=x, load_of=of)
         for x, of in ((0.1, ""), (0.5, ""), (0.95, ""), (0.5, "copy"))]
CLOSED = Point(backend="net", op="echo", bs=64, touch="headers")
HIGHEST = {"copy": 1e6, "premapped": 2e6, "zero-copy": 4e6}


def latencies(truth, served=lambda arm, point: 1.0, blocks=10):
    """truth(arm, point): p50 in ns. served: share of the offered frames that came back."""
    def values(arm, point):
        rate = point.load * HIGHEST[point.load_of or arm] if point.load else HIGHEST[arm]
        got = {"elapsed_ns": 1e5 / (served(arm, point) * rate) * 1e9, "ns_per_request": 1e9 / (served(arm, point) * rate),
               "lost": 0.0}
        return got | ({"offered": rate} if point.load else {})
    return sim.simulate(list(HIGHEST), [CLOSED, *LOADS], blocks=blocks, experiment="net-latency", truth=truth, count=values,
                        again=["zero-copy"], noise=0.01)


class Latency(unittest.TestCase):
    def section(self, samples):
        got = network_latency.analyse(sim.context(samples))
        self.assertEqual(problems(Report(title="t", when="w", headline="h", sections=[got])), [])
        return got

    def test_planted_latencies_are_found_at_one_rate(self):
        planted = {"copy": 3000, "premapped": 1000, "zero-copy": 2000}
        got = self.section(latencies(lambda a, p: planted[a]))
        answers = {(r["rival"], r["percentile"]): (r["interval"]["estimate"], r["answer"]) for r in got.data["ratios"]}
        for q in network_latency.QS:
            self.assertAlmostEqual(answers["copy", q][0] / 1.5, 1, delta=0.05)
            self.assertEqual((answers["copy", q][1], answers["premapped", q][1]), ("faster", "slower"))
        self.assertIn("shorter than copy's: p50 at 64 B and p99 at 64 B", got.lead)
        self.assertIn("longer than premapped's: p50 at 64 B and p99 at 64 B", got.lead)

    def test_identical_latencies_are_not_told_apart(self):
        got = self.section(latencies(lambda a, p: 2000))
        self.assertEqual({r["answer"] for r in got.data["ratios"]}, {"no difference shown"})

    def test_shares_of_different_rates_are_never_compared(self):
        got = self.section(latencies(lambda a, p: 1000))
        self.assertEqual({r["load"] for r in got.data["ratios"]}, {"50 % of copy's highest"})

    def test_an_arm_that_fell_behind_is_neither_compared_nor_drawn(self):
        got = self.section(latencies(lambda a, p: 1000, served=lambda a, p: 0.7 if a == "copy" and p.load else 1.0))
        self.assertEqual({r["rival"] for r in got.data["ratios"]}, {"premapped"})
        table = next(t for t in got.tables if t.id == "network-latency-table")
        self.assertEqual({r[-1] for r in table.rows if r[2] == "copy"}, {"overload: 70 % came back"})
        all_behind = self.section(latencies(lambda a, p: 1000, served=lambda a, p: 0.5 if p.load else 1.0))
        self.assertEqual((all_behind.data["ratios"], all_behind.figures), ([], []))
        self.assertIn("No two arms kept up", all_behind.lead)

    def test_the_table_says_that_testpmd_has_no_latency_to_offer(self):
        got = self.section(latencies(lambda a, p: 1000))
        table = next(t for t in got.tables if t.id == "network-latency-table")
        self.assertEqual({r[4] for r in table.rows if r[2] in network.PEERS}, {network_latency.NO_PEER})
        self.assertIn("testpmd", table.note)

    def test_without_samples_there_is_no_section(self):
        self.assertIsNone(network_latency.analyse(sim.context(Samples([]))))


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
