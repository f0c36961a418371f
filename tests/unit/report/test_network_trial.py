#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a network trial makes of its programs' answers: frames of each direction, counters of three partitions, shares of the
highest rate, sizes of a peer's frames, and how long a run is said to take."""

import os
import random
import sys
import tempfile
import unittest
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
from machine import MachineError, WrongResult  # noqa: E402
from ab.drivers import net_trial, peers  # noqa: E402
from ab.instrument import environment, experiment, runner  # noqa: E402
from ab.report import targets  # noqa: E402
from ab.instrument.model import METRICS, Point, Sample, Samples  # noqa: E402

CORES = {"guest_core": 0, "server_core": 1}


def result(tx=1000, rx=0, ns=1e6, own=0, missing=0, partitions=None, **run):
    latency = {"mean": 5.0, "max": 9.0, "p50": 1.0, "p90": 2.0, "p99": 3.0, "p99.9": 4.0, "histogram": [[1, own]]}
    return {"ready_ns": 1e6, "partitions": partitions or {}, "arm": "a", "arm_wanted": "a",
            "run": {"elapsed_ns": ns, "tx_before": 0, "tx_frames": tx, "tx_lost": 0, "rx_frames": rx, "tx_bytes": 64 * tx,
                    "rx_bytes": 64 * rx,
                    "own": own, "missing": missing, "late": 0, "involuntary_switches": 0, "mismatches": 0, "rx_bad": 0,
                    "tx_bad": 0, "first_mismatch": "", "latency_ns": latency, **run}}


def net(op, bs=64, **kw):
    return Point(backend="net", op=op, bs=bs, touch="headers", **kw)


class Values(unittest.TestCase):
    def test_both_ways_have_a_time_a_frame_of_their_own_and_the_sum(self):
        v = net_trial.values_of(result(tx=1000, rx=4000), "both")
        self.assertEqual((v["tx_ns"], v["rx_ns"], v["ns_per_request"], v["requests"]), (1000, 250, 200, 5000))
        self.assertEqual(v["bytes"], 64 * 5000)

    def test_a_direction_without_a_frame_is_no_sample(self):
        for op, tx, rx in (("tx", 0, 9), ("rx", 9, 0), ("both", 9, 0), ("both", 0, 9)):
            with self.assertRaises(MachineError, msg=(op, tx, rx)):
                net_trial.values_of(result(tx=tx, rx=rx), op)

    def test_what_did_not_come_back_and_what_never_started_is_told(self):
        v = net_trial.echo_values(result(tx=900, rx=880, own=880, missing=20, ns=1e6), rate=1e6)
        self.assertAlmostEqual(v["lost"], 20 / 900)
        self.assertEqual((v["offered"], v["unstarted"]), (1e6, 100))
        self.assertEqual((v["p50_ns"], v["p99_ns"], v["p999_ns"]), (1.0, 3.0, 4.0))
        self.assertNotIn("offered", net_trial.echo_values(result(tx=9, rx=9, own=9), 0), "the closed loop offers nothing")

    def test_counters_of_a_pair_are_summed_over_three_partitions_and_exact(self):
        n = net_trial.PAIR_FRAMES
        sent = result(tx=n, partitions={"guest0": {"cpu_bytes": 10 * n, "hcalls": {"H_PUT_TCE": n}}, "vios": {"cpu_bytes": 7}})
        got = result(tx=0, rx=n, partitions={"guest1": {"cpu_bytes": 5 * n},
                                               "vios": {"cpu_bytes": 1514 * n, "rdma_bytes": 3 * n}})
        v = net_trial.pair_values(sent, got)
        self.assertEqual((v["guest_bytes"], v["server_bytes"], v["rdma_bytes"], v["hcalls"]), (15, 1514, 3, 1),
                         "the server's counters are the receiver's reading, each guest's its own")
        with self.assertRaises(MachineError):
            net_trial.pair_values(sent, result(tx=0, rx=n - 1))

    def left(self, out, tx=9000, before=1000, lost=0, **drops):
        run = result(tx=tx, tx_before=before, tx_lost=lost)["run"]
        net_trial.check_left(run, {"name": "net0", "in_frames": out, **drops}, {"name": "null0", "out_frames": out}, 256)

    def test_frames_that_the_server_dropped_do_not_pass_as_sent(self):
        for out in (10000, 9744):  # the warm-up's are among them; a ring of them may be on the way
            self.left(out)
        self.left(9500, lost=500)
        for out in (9743, 0, 9000, 10257):
            with self.assertRaises(MachineError, msg=out):
                self.left(out)
        with self.assertRaisesRegex(MachineError, "10000 frames, 5000 left through null0.*net0: 5000 drop_source"):
            self.left(5000, drop_source=5000, drop_vlan=0)

    def trial(self, op, left):
        exp = experiment.parse({"arms": ["copy"], "sweep": [{"backend": "net", "op": op}]}, "x", "x.toml")
        trial, m = net_trial.NetTrial("build", CORES, exp), mock.MagicMock(dir="/tmp/vio-x", phypd_seconds=0.1, vios_seconds=0.1)
        m.guest.return_value, m.vios.proc.pid = result(tx=5000, rx=5000), os.getpid()
        m.__enter__.return_value = m
        m.__exit__.return_value = None
        ports = [{"name": "net0", "in_frames": left}, {"name": "null0", "out_frames": left}]
        with mock.patch.object(trial, "machine", lambda *_: m), mock.patch.object(net_trial.telemetry, "ask", lambda *_: ports), \
                mock.patch.object(environment, "stolen", lambda *_: ""):
            return trial.run("copy", [net(op)], random.Random(1))

    def test_a_trial_fails_when_the_port_saw_other_frames_than_the_guest_sent(self):
        for op in ("tx", "both"):
            self.assertEqual(len(self.trial(op, 5000)), 1)
            with self.assertRaises(MachineError, msg=op):
                self.trial(op, 4000)
        self.assertEqual(len(self.trial("rx", 0)), 1, "towards the guest frames are counted where they arrive")

    def test_wrong_bytes_are_never_a_sample(self):
        with self.assertRaises(WrongResult):
            net_trial.check("a", result(mismatches=1))

    def test_every_metric_is_a_column_of_the_samples(self):
        for v in (net_trial.values_of(result(rx=5), "both"), net_trial.echo_values(result(rx=5, own=5), 10.0)):
            self.assertFalse(set(v) - set(METRICS))


class Held(unittest.TestCase):
    def test_a_full_pipe_holds_its_writer_until_it_is_read(self):
        r, w = os.pipe()
        try:
            net_trial.Sender.fill(w)
            self.assertTrue(os.get_blocking(w))
            os.set_blocking(w, False)
            self.assertRaises(BlockingIOError, os.write, w, b"M")
            sender = net_trial.Sender.__new__(net_trial.Sender)
            sender.held = r
            sender.go()
            self.assertEqual(os.write(w, b"M"), 1)
        finally:
            os.close(r)
            os.close(w)


class FakeMachine:
    """Answers with the highest rate of the arm that is asked; remembers what was asked."""

    phypd_seconds = vios_seconds = 0.1

    def __init__(self, highest):
        self.highest, self.asked, self.vios = highest, [], mock.Mock()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def guest(self, args, on_stage=None):
        arm = args[args.index("--arm") + 1]
        rate = float(args[args.index("--rate") + 1]) if "--rate" in args else self.highest[arm]
        self.asked.append((arm, "--rate" in args, rate))
        return result(tx=int(rate / 1000), rx=int(rate / 1000), own=int(rate / 1000), ns=1e6)


class Shares(unittest.TestCase):
    def run_points(self, arm, points):
        m = FakeMachine({"copy": 1e6, "zero-copy": 4e6})
        exp = experiment.parse({"arms": [arm], "sweep": [{"backend": "net", "op": "echo"}]}, "x", "x.toml")
        trial = net_trial.NetTrial("build", CORES, exp)
        with mock.patch.object(trial, "machine", lambda *_: m), mock.patch.object(environment, "stolen", lambda *_: ""):
            return trial.run(arm, points, random.Random(1)), m.asked

    def test_a_share_is_of_what_the_same_machine_did_just_before(self):
        points = [net("echo"), net("echo", load=0.5), net("echo", load=0.5, load_of="copy")]
        out, asked = self.run_points("zero-copy", points)
        offered = {(s["point"].get("load"), s["point"].get("load_of")): s["values"].get("offered") for s in out}
        self.assertEqual(offered, {(None, None): None, (0.5, None): 2e6, (0.5, "copy"): 0.5e6})
        self.assertEqual(asked[0], ("zero-copy", False, 4e6), "the closed loop has to come first")
        self.assertEqual([a for a in asked if not a[1]], [("zero-copy", False, 4e6), ("copy", False, 1e6)])

    def test_points_of_one_frame_size_share_a_machine_and_others_do_not(self):
        groups = net_trial.machines([net("tx"), net("echo", load=0.5), net("rx"), net("echo", 1514), net("echo")])
        self.assertEqual(sorted(len(g) for g in groups), [1, 1, 1, 2])

    def test_a_stolen_sample_is_taken_again_and_kept_on_record(self):
        m = FakeMachine({"copy": 1e6})
        exp = experiment.parse({"arms": ["copy"], "sweep": [{"backend": "net", "op": "echo"}]}, "x", "x.toml")
        trial, answers = net_trial.NetTrial("build", CORES, exp), iter(["steal", ""])
        with mock.patch.object(trial, "machine", lambda *_: m), \
                mock.patch.object(environment, "stolen", lambda *_: next(answers)):
            out = trial.run("copy", [net("echo")], random.Random(1))
        self.assertEqual([s["kept"] for s in out], [False, True])


class Peers(unittest.TestCase):
    def test_a_peer_whose_frames_have_another_size_is_refused(self):
        def read(frames, size):
            return {"ipackets": frames, "ibytes": frames * size}
        self.assertEqual(peers.arrived("memif", read(0, 0), read(1000, 9000), 9000), 1000)
        for size in (64, 60):
            with self.assertRaises(MachineError, msg="testpmd kept to its default of 64 bytes"):
                peers.arrived("memif", read(0, 0), read(1000, size), 9000 if size == 64 else 64)
        with self.assertRaises(MachineError):
            peers.arrived("memif", read(5, 64), read(5, 64), 64)

    def argv(self, mode, size, first=False):
        with mock.patch.object(peers.subprocess, "Popen") as popen, tempfile.TemporaryDirectory() as d:
            peers.Testpmd(d, "x", 0, 1, "net_null0", mode, size, first)
            argv = popen.call_args[0][0]
            files = [a.split("=")[1] for a in argv if a.startswith("--cmdline-file=")]
            self.commands = ""
            for name in files:
                with open(name) as f:
                    self.commands += f.read()
            return argv

    def test_both_ways_each_end_gives_back_and_one_puts_frames_in(self):
        self.assertEqual(peers.MODES["both"], ("mac", "mac"))
        self.assertNotIn("--auto-start", self.argv("mac", 64, first=True), "it would start before the frames are in")
        self.assertEqual(self.commands, "start tx_first 32\n")
        self.assertIn("--auto-start", self.argv("mac", 64))
        self.assertEqual(self.commands, "")

    def test_vhost_user_runs_the_tuning_that_was_best(self):
        for wanted in ("packed_vq=1", "mrg_rxbuf=0", "in_order=1", "vectorized=1"):
            self.assertIn(wanted, peers.PEERS["vhost-user"][1].split(","))
        self.assertIn("--force-max-simd-bitwidth=512", self.argv("txonly", 64),
                      "DPDK falls back in silence to an unvectorised ring")

    def test_larger_mbufs_are_asked_for_before_the_size(self):
        argv = self.argv("txonly", 9000)
        self.assertLess(argv.index("--mbuf-size=9344"), argv.index("--txpkts"))
        self.assertEqual(argv[argv.index("--txpkts") + 1], "9000")
        argv = self.argv("mac", 64, first=True)
        self.assertEqual(argv[argv.index("--txpkts") + 1], "64")

    def test_a_peer_is_never_asked_for_what_it_can_not_do(self):
        exp = experiment.parse({"arms": ["memif"], "sweep": [{"backend": "net", "op": "tx"}]}, "x", "x.toml")
        for point in (net("echo"), net("pair"), Point(backend="net", op="tx", touch="all"), net("tx", rate=5.0)):
            with self.assertRaises(MachineError):
                net_trial.NetTrial("build", CORES, exp).peer("memif", point)


class Estimates(unittest.TestCase):
    def test_every_point_of_the_network_is_charged_with_its_machine(self):
        for name in ("net", "net-sizes", "net-both", "net-latency", "net-pair"):
            e = experiment.find(name)
            samples = e.measure.seconds + e.measure.warm_seconds
            least = sum((net_trial.MACHINE_SECONDS if p.op != "echo" else samples)
                        for points in e.points.values() for p in points)
            self.assertGreater(runner.block_seconds(e), least, name)
            self.assertLessEqual(runner.estimate_seconds(e)[1], 480, f"{name} takes longer than eight minutes")

    def test_the_highest_rate_of_another_arm_costs_a_run_of_its_own(self):
        m = experiment.Measure()
        own = [net("echo"), net("echo", load=0.5)]
        more = own + [net("echo", load=0.5, load_of="copy")]
        one = m.seconds + m.warm_seconds + net_trial.GUEST_SECONDS
        self.assertAlmostEqual(net_trial.seconds("zero-copy", more, m) - net_trial.seconds("zero-copy", own, m), 2 * one)
        self.assertAlmostEqual(net_trial.seconds("copy", more, m) - net_trial.seconds("copy", own, m), one)

    def test_a_share_of_a_rate_is_refused_where_there_is_none(self):
        for sweep in ({"op": "tx", "load": 0.5}, {"op": "echo", "load": 0.5, "rate": 5}, {"op": "echo", "load_of": "copy"}):
            with self.assertRaises(experiment.ExperimentError, msg=sweep):
                experiment.parse({"arms": ["copy"], "sweep": [{"backend": "net", **sweep}]}, "x", "x.toml")


class Copies(unittest.TestCase):
    """The target: at most one copy a frame between guests."""

    def rows(self, server, guest=0.0, rdma=0.0, kept=True):
        n = net_trial.PAIR_FRAMES
        values = {"requests": n, "server_bytes": 1514.0, "guest_bytes": 0.0, "rdma_bytes": 0.0}
        odd = {"requests": n, "server_bytes": server, "guest_bytes": guest, "rdma_bytes": rdma}
        samples = [Sample("net-pair", b, "main", 0, "zero-copy", "zero-copy", net("pair", 1514), v, kept=k)
                   for b, (v, k) in enumerate(((values, True), (odd, kept)))]
        return targets.network_copies(Samples(samples))

    def test_exactly_one_copy_meets_it_and_one_byte_more_does_not(self):
        self.assertEqual([(r["answer"], r["measured"]) for r in self.rows(1514.0)], [("met", "1 copy a frame")])
        n = net_trial.PAIR_FRAMES
        for more in ({"server": 1514 + 1 / n}, {"server": 1514.0, "guest": 1 / n}, {"server": 1514.0, "rdma": 1 / n}):
            self.assertEqual([r["answer"] for r in self.rows(**more)], ["not met"], more)
        self.assertEqual([r["answer"] for r in self.rows(1600.0, kept=False)], ["not met"],
                         "a count has no noise to be discarded for")
        self.assertEqual(targets.network_copies(Samples([])), [])


if __name__ == "__main__":
    unittest.main()
