#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Windows of a duet whose truth is known: gaps, plateaus of R, drift and effects are planted, and must be found or not."""

import math
import unittest

import numpy as np

from simulate_windows import World, linear, simulate_windows
from ab import planted, stats
from ab.instrument import windows
from ab.instrument.model import AGAIN, Point, Sample, Samples
from ab.stats import duet, plateaus, variance

R = windows.ROUND_TRIP


def starts(m, slot, plateau, values=None):
    """{block: ns} of a slot's values at the first point."""
    s = m.header["slots"].index(slot)
    return {v.block: v.ns for v in values or duet.values(m) if (v.slot, v.plateau, v.point) == (s, plateau, 0) and np.isfinite(v.ns)}


def ratio(m, a, b, plateau, values=None):
    x, y = starts(m, a, plateau, values), starts(m, b, plateau, values)
    both = sorted(set(x) & set(y))
    return stats.ratio([x[k] for k in both], [y[k] for k in both])


def measured(slots, seed=1, **kw):
    rows, header, truth = simulate_windows(slots, seed=seed, **kw)
    order = np.lexsort((rows["begin"], rows["block"]))
    return duet.measure(rows, header), {k: v[order] for k, v in truth.items()}


ARMS = {"copy": linear(900, 8), "zero-copy": linear(70, 2.7)}


class Gaps(unittest.TestCase):
    def test_exactly_the_windows_with_a_planted_gap_are_set_aside_for_it(self):
        m, truth = measured(ARMS)
        self.assertGreater(truth["gap"].sum(), 200)
        np.testing.assert_array_equal(m.clean, ~truth["gap"])
        self.assertEqual(m.set_aside()["a side saw a gap"], truth["gap"].sum())

    def test_a_window_without_a_record_of_a_side_does_not_count(self):
        rows, header, _ = simulate_windows(ARMS, blocks=2)
        rows["server_max"][::7] = windows.NOT_SEEN
        m = duet.measure(rows, header)
        self.assertEqual(m.set_aside()["a side left no record"], len(rows[::7]))
        self.assertFalse(m.clean[m.rows["server_max"] == windows.NOT_SEEN].any())

    def test_gaps_move_what_was_experienced_and_not_what_is_compared(self):
        quiet, _ = measured(ARMS, world=World(gaps=0.0, starts=0, drift=0, strays=0))
        noisy, _ = measured(ARMS, world=World(gaps=0.4, starts=0, drift=0, strays=0))
        for slot in ARMS:
            a, b = (np.median(list(starts(m, slot, 0).values())) for m in (quiet, noisy))
            self.assertLess(abs(math.log(b / a)), 0.01)
            s = noisy.header["slots"].index(slot)
            felt = np.nanmedian([v.experienced / v.ns for v in duet.values(noisy) if v.slot == s])
            self.assertGreater(felt, 1.15, "40 % of the windows lost 0.4 ms of 0.9: the rate as experienced must say so")

    def test_the_windows_that_count_do_not_depend_on_an_arms_time(self):
        """A rule that looks at the result: an arm three times as slow keeps the same windows."""
        kept = [measured({"copy": linear(900, 8, factor=f)})[0].counts() for f in (1.0, 3.0)]
        np.testing.assert_array_equal(*kept)


class Plateaus(unittest.TestCase):
    def test_planted_plateaus_are_found_with_their_r(self):
        for r in ((104.0,), (104.0, 500.0), (60.0, 104.0, 500.0), (100.0, 135.0)):
            m, truth = measured(ARMS, world=World(r=r, dwell=40, drift=0.02))
            self.assertEqual(len(m.plateaus), len(r), r)
            for p, want in zip(m.plateaus, r):
                self.assertLess(abs(math.log(p.r_ns / want)), 0.03)
            on = m.plateau != plateaus.NONE
            wrong = (truth["plateau"][on] != m.plateau[on]).mean()
            self.assertLess(wrong, 0.001, "windows that count on the wrong plateau: more than visits between two R-windows")
            self.assertGreater(on.mean(), 0.9)

    def test_a_short_visit_to_another_plateau_is_found(self):
        """One block in eight on the other plateau, for a few rounds: pooled, it would spoil every median of that block."""
        m, truth = measured(ARMS, world=World(dwell=1e9), blocks=6, seed=4)
        self.assertGreater(len(set(truth["plateau"])), 1)
        on = m.plateau != plateaus.NONE
        self.assertEqual((truth["plateau"][on] != m.plateau[on]).sum(), 0)

    def test_one_plateau_is_not_split_whatever_its_shape(self):
        rng = np.random.default_rng(5)
        shapes = {"normal": rng.normal(0, 0.02, 3000), "wide": rng.normal(0, 0.08, 3000),
                  "skewed": rng.exponential(0.03, 3000), "slow drift": np.linspace(0, 0.12, 3000) + rng.normal(0, 0.01, 3000),
                  "strays": rng.normal(0, 0.01, 3000) + (rng.random(3000) < 0.05) * rng.exponential(1.0, 3000),
                  "steps of a clock": np.round(rng.normal(0, 0.02, 3000), 2), "constant": np.zeros(3000)}
        for name, x in shapes.items():
            found, label = plateaus.find(104 * np.exp(x), np.repeat([0, 1, 2], 1000))
            self.assertEqual(len(found), 1, name)
            self.assertGreater((label == 0).mean(), 0.9, name)

    def test_a_single_stray_r_window_is_no_change(self):
        r = np.full(200, 104.0) * np.exp(np.random.default_rng(1).normal(0, 0.01, 200))
        r[100:150] *= 5
        r[30], r[120] = 520.0, 104.0
        found, label = plateaus.find(r, np.zeros(200))
        self.assertEqual(len(found), 2)
        want = np.repeat([0, 1, 0], [100, 50, 50])
        want[[30, 120]] = plateaus.NONE  # nor is what lies beside it taken for either
        np.testing.assert_array_equal(label, want)

    def test_what_lies_next_to_a_change_is_set_aside(self):
        m, truth = measured(ARMS, world=World(gaps=0, dwell=20))
        rows, r, seen = m.rows, m.rows["slot"] == m.slot(R), 0
        for i in np.flatnonzero(np.diff(truth["plateau"]) != 0):
            if rows["block"][i] != rows["block"][i + 1] or rows["dance"][i] != rows["dance"][i + 1]:
                continue
            before, after = np.flatnonzero(r[:i + 1])[-1], i + 1 + np.flatnonzero(r[i + 1:])[0]
            if (rows["dance"][before] == rows["dance"][i] == rows["dance"][after]
                    and truth["plateau"][before] != truth["plateau"][after]):
                seen += 1
                self.assertTrue((m.plateau[before + 1:after] == plateaus.NONE).all())
        self.assertGreater(seen, 20)

    def test_a_plateau_of_few_windows_is_none(self):
        r = np.full(2000, 104.0) * np.exp(np.random.default_rng(1).normal(0, 0.01, 2000))
        r[500:515] *= 5
        found, label = plateaus.find(r, np.zeros(2000))
        self.assertEqual(len(found), 1)
        self.assertTrue((label[500:515] == plateaus.NONE).all())
        self.assertTrue((np.delete(label, slice(500, 515)) == 0).all())

    def test_without_r_all_is_one_plateau_whose_r_is_not_known(self):
        rows, header, _ = simulate_windows(ARMS, special=False, blocks=2)
        m = duet.measure(rows, header)
        self.assertEqual(len(m.plateaus), 1)
        self.assertTrue(math.isnan(m.plateaus[0].r_ns))
        self.assertTrue((m.plateau == 0).all())

    def test_labels_that_are_wrong_give_wrong_times(self):
        """The other tests would not see labels that mean nothing if the times did not depend on them."""
        m, _ = measured(ARMS, world=World(starts=0, drift=0))
        right = np.median(list(starts(m, "zero-copy", 0).values()))
        m.plateau = np.where(m.plateau >= 0, np.random.default_rng(1).integers(0, 2, len(m.plateau)), m.plateau)
        wrong = np.median(list(starts(m, "zero-copy", 0).values()))
        self.assertLess(abs(math.log(right / (70 + 2.7 * 104))), 0.01)
        self.assertGreater(abs(math.log(wrong / (70 + 2.7 * 104))), 0.1)


class Effects(unittest.TestCase):
    def answers(self, seed):
        """{arm: [verdict on each plateau]} of an arm 3 % slower than copy and of one that is alike, with the floor of copy and its twin."""
        m, _ = measured({"copy": linear(900, 8), "copy" + AGAIN: linear(900, 8), "slow": linear(900, 8, factor=1.03),
                         "alike": linear(900, 8)}, seed=seed, dances=4, world=World(starts=0.005))
        each, values = range(len(m.plateaus)), duet.values(m)
        floor = max(abs(math.log(ratio(m, "copy", "copy" + AGAIN, q, values).estimate)) for q in each)
        return {arm: [stats.verdict("", ratio(m, "copy", arm, q, values), floor).answer for q in each] for arm in ("slow", "alike")}

    def test_planted_three_per_cent_are_found_in_twenty_of_twenty_and_planted_nothing_in_none(self):
        found = [self.answers(seed) for seed in range(20)]
        self.assertEqual([f["slow"] for f in found], [["slower", "slower"]] * 20)
        self.assertEqual([f["alike"] for f in found], [[stats.NONE, stats.NONE]] * 20)

    def test_the_ratio_of_each_plateau_is_its_own(self):
        """A constant delay is another share of each plateau: pooled, it would be neither."""
        m, _ = measured({"copy": linear(100, 2), "x": linear(114, 2)}, world=World(starts=0.002))
        for q, r in ((0, 104), (1, 500)):
            want = (114 + 2 * r) / (100 + 2 * r)
            iv = ratio(m, "copy", "x", q)
            self.assertTrue(iv.low <= want <= iv.high and abs(iv.estimate - want) < 0.006, f"{iv.text()} is not {want:.3f}")

    def test_drift_within_a_block_does_not_widen_a_ratio(self):
        half = []
        for drift in (0.0, 0.3):
            m, _ = measured(ARMS, world=World(drift=drift, r=(104.0,), starts=0.002))
            iv = ratio(m, "copy", "zero-copy", 0)
            half.append(math.log(iv.high / iv.low))
        self.assertLess(half[1], 1.5 * half[0])

    def test_intervals_of_a_few_starts_cover_what_they_say(self):
        """Windows in, intervals out: of 120 99 % intervals at 5 to 8 starts at most 4 miss the truth."""
        missed, want = 0, math.log(1.05)
        for seed in range(60):
            m, _ = measured({"copy": linear(900, 8), "x": linear(900, 8, factor=1.05)}, seed=seed, blocks=5 + seed % 4, dances=1,
                            rounds=50, world=World(starts=0.015, r=(104.0, 500.0), dwell=25))
            values = duet.values(m)
            for q in range(len(m.plateaus)):
                iv = ratio(m, "copy", "x", q, values)
                missed += iv.n >= 3 and iv.excludes(math.exp(want))
        self.assertLessEqual(missed, 4)


class Planted(unittest.TestCase):
    """What bench/ab/planted.py calls found in a real run."""

    def found(self, seed, **factors):
        arms = {"zero-copy": 1.0, "zero-copy" + AGAIN: 1.0, "zero-copy --delay-ns 0": 1.0, "zero-copy --delay-ns 17": 1.034,
                "zero-copy --delay-ns 35": 1.07} | {k.replace("_", " "): v for k, v in factors.items()}
        m, _ = measured({s: linear(230, 2.6, factor=f) for s, f in arms.items()}, seed=seed, blocks=10, dances=2,
                        world=World(r=(104.0,), starts=0.004))
        return planted.judge(Samples(
            Sample("instrument", v.block, "main", 0, m.header["slots"][v.slot], "zero-copy", Point(), {"ns_per_request": v.ns}, plateau=0)
            for v in duet.values(m) if np.isfinite(v.ns)))

    def test_the_delay_nearest_to_three_per_cent_is_looked_at_and_is_found(self):
        found = self.found(1)
        self.assertEqual([f["slot"] for f in found], ["zero-copy --delay-ns 17", "zero-copy --delay-ns 0"])
        self.assertTrue(planted.right(found))

    def test_a_delay_that_was_not_felt_and_an_effect_where_none_was_planted_are_not_called_right(self):
        self.assertFalse(planted.right(self.found(1, **{"zero-copy --delay-ns 17": 1.0})))
        self.assertFalse(planted.right(self.found(1, **{"zero-copy --delay-ns 0": 1.03})))

    def test_too_few_starts_are_no_answer(self):
        few = Samples(Sample("instrument", b, "main", 0, s, "zero-copy", Point(), {"ns_per_request": ns}, plateau=0) for b in range(4)
                      for s, ns in {"zero-copy": 500.0, "zero-copy --delay-ns 0": 500.0, "zero-copy --delay-ns 17": 517.0}.items())
        self.assertIsNone(planted.judge(few))


class Parts(unittest.TestCase):
    def test_with_two_arms_it_is_the_midmean_of_the_rounds_ratios(self):
        x = np.random.default_rng(1).normal(0, 1, (40, 2))
        got = duet.two_way(x)
        self.assertAlmostEqual(got[1] - got[0], float(duet.midmean(x[:, 1] - x[:, 0])), places=5)

    def test_what_a_round_does_to_all_cancels_though_windows_are_missing(self):
        rng = np.random.default_rng(2)
        arm, row = np.array([1.0, 2.0, 5.0]), rng.normal(0, 3, 200)
        x = row[:, None] + arm + rng.normal(0, 0.001, (200, 3))
        x[rng.random((200, 3)) < 0.4] = np.nan
        np.testing.assert_allclose(np.diff(duet.two_way(x)), np.diff(arm), atol=0.002)

    def test_arms_that_danced_in_groups_are_compared_through_the_arm_that_they_share(self):
        """Too many arms to be alive together: groups minutes apart, while the machine's speed changed by a fifth."""
        slots = {"copy": linear(900, 8), "x": linear(900, 8, factor=1.3), "y": linear(900, 8, factor=0.7)}
        rows, header, _ = simulate_windows(slots, dances=2, world=World(r=(104.0,), drift=0, starts=0))
        index = {s: i for i, s in enumerate(header["slots"])}
        rows = rows[(rows["dance"] == 0) & (rows["slot"] != index["y"]) | (rows["dance"] == 1) & (rows["slot"] != index["x"])]
        slow = (rows["dance"] == 1) & (rows["slot"] < 3)
        rows["ticks"][slow] = (rows["ticks"][slow] * 1.2).astype(rows["ticks"].dtype)
        m = duet.measure(rows, header)
        for a, b, want in (("copy", "x", 1.3), ("copy", "y", 0.7), ("x", "y", 0.7 / 1.3)):
            self.assertLess(abs(math.log(ratio(m, a, b, 0).estimate / want)), 0.01, f"{b} against {a}")

    def test_midmean_is_the_mean_of_the_middle_half(self):
        self.assertEqual(float(duet.midmean([1, 2, 3, 1000])), 2.5)
        self.assertEqual(float(duet.midmean([5.0, np.nan])), 5.0)
        self.assertTrue(np.isnan(duet.midmean([np.nan])))
        x = np.random.default_rng(3).normal(0, 1, 1000)
        self.assertAlmostEqual(float(duet.midmean(x)), float(np.mean(np.sort(x)[250:750])), places=9)

    def test_too_few_windows_give_no_time(self):
        m, _ = measured(ARMS, blocks=2, dances=1, rounds=duet.LEAST - 1)
        self.assertTrue(all(math.isnan(v.ns) for v in duet.values(m)))


class Variance(unittest.TestCase):
    def found(self, **world):
        m, _ = measured(ARMS, blocks=14, dances=6, rounds=60, world=World(r=(104.0,), drift=0.0, gaps=0.05, **world))
        return variance.of_ratio(m, 0, 0, m.slot("copy"), m.slot("zero-copy"))

    def test_what_varies_more_is_told(self):
        of_starts, of_time = self.found(starts=0.03, dances_sd=0.0), self.found(starts=0.0, dances_sd=0.03)
        self.assertEqual((of_starts.more(), of_time.more()), ("starts", "time"))
        self.assertLess(abs(math.log(of_starts.starts / (0.03 * math.sqrt(2)))), math.log(2))
        self.assertLess(abs(math.log(of_time.times / (0.03 * math.sqrt(2)))), math.log(1.6))
        self.assertLess(of_starts.times, 0.01)
        self.assertLess(of_time.starts, 0.025)
        self.assertLess(abs(math.log(of_starts.rounds / (0.02 * math.sqrt(2)))), math.log(1.3))

    def test_one_dance_a_start_cannot_tell_starts_from_time(self):
        m, _ = measured(ARMS, blocks=6, dances=1, world=World(r=(104.0,)))
        self.assertEqual(variance.of_ratio(m, 0, 0, m.slot("copy"), m.slot("zero-copy")).more(), "")


class Points(unittest.TestCase):
    def test_points_are_kept_apart_and_carry_their_bounds(self):
        points = (Point(backend="memory", bs=4096), Point(backend="memory", bs=65536))
        m, _ = measured({"copy": lambda p, r, h: 500 + 3 * r + p.bs * h, "zero-copy": lambda p, r, h: 2 * r + p.bs * h}, points=points,
                        blocks=4, dances=2, world=World(starts=0, drift=0))
        for v in duet.values(m):
            if np.isfinite(v.ns) and v.clean > 20:
                r, per_byte = ((104, 0.1), (500, 0.2))[v.plateau]
                want = points[v.point].bs * per_byte + ((500 + 3 * r) if m.header["slots"][v.slot] == "copy" else 2 * r)
                self.assertLess(abs(math.log(v.ns / want)), 0.02)
                self.assertLess(abs(math.log(v.r_ns / r)), 0.02)
                self.assertLess(abs(math.log(v.handover_ns / (points[v.point].bs * per_byte))), 0.02)


if __name__ == "__main__":
    unittest.main()
