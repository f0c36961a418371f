# SPDX-License-Identifier: BSD-3-Clause
"""One trial of the network, one slot in one block: vio-net in guest partitions against the server's switch and a port of DPDK, or
a peer's pair of testpmd programs on the same cores.

Directions (the op of a point): tx from the guest to the port, rx from the port to the guest, both of them at once; echo: to a
port that gives each frame back, latency included; pair: from one guest to another, where only counters count.
"""

import json
import os
import select
import struct
import subprocess
import tempfile
import time

from machine import Machine, MachineError, WrongResult, die_with_parent
from ab.drivers import peers
from ab.instrument import telemetry
from ab.drivers.trial import GUEST, PATIENCE, SERVER, CpuClock, counts, padded, point_dict, until_kept

FORWARD = {"tx": "txonly", "rx": "rxonly", "both": "txonly", "echo": "flowgen"}  # txonly takes what comes, and frees it
RECEIVER = "guest1"  # of a pair
PAIR_FRAMES = 240  # no more than a ring of 256 has buffers for: none is dropped, however the two guests take turns
PAIR_RATE = 20000  # frames a second
PAIR_SECONDS = 5  # then the receiver gives up
ECHO_DRAIN = "0.02"  # seconds; frames on the way belong to the measurement
PAIR_DRAIN = "0.5"  # seconds without news after which the sender ends: longer than a busy machine keeps the server from its core
# For estimates, seconds: to start and end a machine; a guest's start; all of a pair's load.
MACHINE_SECONDS, GUEST_SECONDS, PAIR_SECONDS_USED = 0.3, 0.1, 0.6

GUEST_MAC, SECOND_MAC, SENDER_MAC = "02:56:49:4f:00:00", "02:56:49:4f:00:01", "02:00:00:00:00:99"
ETHERTYPE_LOCAL = 0x88b5  # IEEE 802: local experiments
CAPTURE_FRAMES = 64


def write_capture(path, size):
    """A pcap file of frames for the guest, for net_pcap's endless receive."""
    def mac(text):
        return bytes(int(x, 16) for x in text.split(":"))
    frame = (mac(GUEST_MAC) + mac(SENDER_MAC) + struct.pack(">H", ETHERTYPE_LOCAL)).ljust(size, b"\0")
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for i in range(CAPTURE_FRAMES):
            f.write(struct.pack("<IIII", 0, i, size, size) + frame)


def uplink(point, folder):
    """The port at the other end. The pcap port copies each frame into a buffer once, as a card would, and frees what it is sent;
    the ring gives back what it is sent; the null port frees it."""
    if point.op in ("rx", "both"):
        capture = os.path.join(folder, "frames.pcap")
        write_capture(capture, point.bs)
        return f"net_pcap0,rx_pcap={capture},infinite_rx=1,mtu=9000"
    # vio-net sends to everybody, and the ring brings that in again: nothing that the switch should bound here.
    return "net_ring0,mtu=9000,storm=off" if point.op == "echo" else "net_null0,no-rx=1,mtu=9000"


def server_args(arm, point, folder):
    args = [f"--net=MAC={GUEST_MAC},mtu=9000"]
    args += [f"--net=MAC={SECOND_MAC},mtu=9000"] if point.op == "pair" else ["--uplink", uplink(point, folder)]
    return args + (["--unprotected"] if "unprotected" in arm or "unchecked" in arm else [])


def load_args(arm, point):
    return ["--arm", arm, "--size", str(point.bs), "--touch", point.touch or "headers", "--burst", str(point.batch or 32),
            "--queue-size", str(point.queue_size), *PATIENCE, *point.extra.split()]


def guest_args(arm, point, measure, rate=0.0):
    args = load_args(arm, point) + ["--forward", FORWARD[point.op], "--seconds", str(measure.seconds), "--warm-seconds",
                                    str(measure.warm_seconds), "--drain-seconds", ECHO_DRAIN if point.op == "echo" else "0"]
    return args + (["--rate", f"{rate:.0f}"] if rate else [])


def frames_of(run, op):
    """Frames that passed in the direction of a point."""
    out, back = run["tx_frames"] - run["tx_lost"], run["rx_frames"]
    return {"tx": out, "both": out + back}.get(op, back)


def values_of(result, op):
    """Metrics of model.METRICS from a vio-net result; a request is a frame."""
    run = result["run"]
    frames, ns = frames_of(run, op), run["elapsed_ns"]
    if not frames or (op == "both" and not (run["tx_frames"] and run["rx_frames"])):
        raise MachineError(f"no frame passed ({op})")
    sent, got = run["tx_bytes"], run["rx_bytes"]
    out = {"requests": frames, "elapsed_ns": ns, "ns_per_request": ns / frames,
           "bytes": {"tx": sent, "both": sent + got}.get(op, got), "ready_ns": result["ready_ns"],
           "switches": run["involuntary_switches"]} | counts(result, frames)
    if op == "both":
        out |= {"tx_ns": ns / (run["tx_frames"] - run["tx_lost"]), "rx_ns": ns / run["rx_frames"]}
    return out


def echo_values(result, rate):
    """values_of() and latency from the intended start; rate: frames a second that were to be started (0: closed loop)."""
    run, latency = result["run"], result["run"]["latency_ns"]
    out = values_of(result, "echo") | {"mean_latency_ns": latency["mean"], "max_ns": latency["max"], "late": run["late"],
                                       "lost": run["missing"] / max(1, run["missing"] + run["own"])}
    out |= {metric: latency[q] for metric, q in (("p50_ns", "p50"), ("p90_ns", "p90"), ("p99_ns", "p99"), ("p999_ns", "p99.9"))}
    if rate:
        wanted = rate * run["elapsed_ns"] / 1e9
        out |= {"offered": rate, "unstarted": max(0, round(wanted) - run["tx_frames"])}
    return out


def check_left(run, guest, uplink, ring):
    """MachineError unless what the guest sent has left through the port, but for a ring's worth on the way: a frame that the
    server dropped was taken by the card, and would read as speed. run: of vio-net's result; guest, uplink: counters of the two
    ports over the machine's life."""
    sent, left = run["tx_before"] + run["tx_frames"] - run["tx_lost"], uplink["out_frames"]
    if abs(sent - left) > ring:
        drops = [f"{p['name']}: {n} {key}" for p in (guest, uplink) for key, n in sorted(p.items())
                 if key.startswith("drop_") and n]
        raise MachineError(f"the guest sent {sent} frames, {left} left through {uplink['name']} ({guest['in_frames']} reached "
                           f"the switch); dropped, both ways: {', '.join(drops) or 'none by the counters'}")


def check(arm, result):
    run = result["run"]
    if result["arm"] != result["arm_wanted"]:
        raise WrongResult(f"{arm}: in force was {result['arm']}, asked was {result['arm_wanted']}")
    if run["mismatches"] or run["rx_bad"] or run["tx_bad"]:
        raise WrongResult(f"{arm}: {run['mismatches']} wrong words, {run['rx_bad']} bad frames received, {run['tx_bad']} "
                          f"refused: {run['first_mismatch']}")


class Sender:
    """The first guest of a pair. It is set up, and then held at the beginning of its measurement, whose mark it writes to a pipe
    that is full: so the receiver's counters hold all of its frames and nothing of its set-up."""

    def __init__(self, m, args):
        self.path = os.path.join(m.dir, "sender.json")
        self.held, stage = os.pipe()
        ready, told = os.pipe()
        self.fill(stage)
        argv = m.guest_argv([*args, "--ready-fd", str(told), "--stage-fd", str(stage), "--json", self.path])
        with open(os.path.join(m.dir, "sender.log"), "wb") as log:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(told, stage),
                                         preexec_fn=die_with_parent, env=m.env)
        os.close(told)
        os.close(stage)
        with os.fdopen(ready, "rb", buffering=0) as f:
            if not (select.select([f], [], [], 10)[0] and f.read(1)):
                self.stop()
                raise MachineError(f"the sending guest did not start: {self.said(m)}")

    @staticmethod
    def fill(fd):
        os.set_blocking(fd, False)
        try:
            while True:
                os.write(fd, bytes(4096))
        except BlockingIOError:
            os.set_blocking(fd, True)

    @staticmethod
    def said(m):
        with open(os.path.join(m.dir, "sender.log"), errors="replace") as f:
            return f.read()[-2000:]

    def go(self):
        os.set_blocking(self.held, False)
        try:
            while os.read(self.held, 65536):
                pass
        except BlockingIOError:
            pass

    def result(self, m):
        if self.proc.wait(20):
            raise MachineError(f"the sending guest failed: {self.said(m)}")
        with open(self.path) as f:
            return json.load(f)

    def stop(self):
        self.proc.kill()
        self.proc.wait()
        os.close(self.held)


def pair_values(sent, got):
    """Metrics of a pair from the two guests' results: counters of the three partitions, the server's as the receiver saw them.
    Its guests take turns on one core, so its times say nothing."""
    frames = got["run"]["rx_frames"]
    if frames != PAIR_FRAMES or sent["run"]["tx_frames"] != PAIR_FRAMES:
        raise MachineError(f"{frames} of {PAIR_FRAMES} frames arrived in {got['run']['elapsed_ns'] / 1e9:.2f} s, "
                           f"{sent['run']['tx_frames']} were sent")
    everyone = {"partitions": {**got["partitions"], GUEST: sent["partitions"].get(GUEST, {})}}
    return {"requests": frames, "elapsed_ns": got["run"]["elapsed_ns"], "ns_per_request": got["run"]["elapsed_ns"] / frames,
            "bytes": got["run"]["rx_bytes"], "ready_ns": got["ready_ns"], "lost": 0.0} | \
        counts(everyone, frames, (SERVER, GUEST, RECEIVER))


def machines(points):
    """Lists of points that share a machine: the shares of one closed loop's highest rate; all others stand alone, as the port's
    frame size is part of a machine. The closed loop comes first."""
    out, echo = [], {}
    for p in points:
        if p.op == "echo":
            echo.setdefault((p.bs, p.touch, p.cost, p.queue_size, p.extra), []).append(p)
        else:
            out.append([p])
    return out + [sorted(group, key=lambda p: bool(p.load or p.rate)) for group in echo.values()]


def seconds(arm, points, measure):
    """What a trial takes, roughly."""
    sample = measure.seconds + measure.warm_seconds + GUEST_SECONDS
    if arm in peers.PEERS:
        return len(points) * (peers.START[arm] + measure.seconds + measure.warm_seconds)
    total = 0.0
    for group in machines(points):
        pair = group[0].op == "pair"
        total += MACHINE_SECONDS + (PAIR_SECONDS_USED if pair else sample * (len(group) + len(unmeasured(arm, group))))
    return total


def unmeasured(arm, group):
    """Arms whose highest rate a group of points needs and does not measure itself."""
    return {p.load_of or arm for p in group if p.load} - {arm for p in group if p.op == "echo" and not (p.load or p.rate)}


class NetTrial:
    """As trial.Trial, for points of backend net."""

    def __init__(self, build, cores, experiment):
        self.build, self.cores, self.experiment = build, cores, experiment
        self.measure = experiment.measure

    def run(self, arm, points, rng):
        out = []
        try:
            for group in machines(rng.sample(points, len(points))):
                self.group(arm, group, rng, out)
        except MachineError as e:
            e.samples = out  # what was taken before is kept on record, and does not count
            raise
        return out

    def group(self, arm, group, rng, out):
        if arm in peers.PEERS:
            for point in group:
                self.judged(point, out, lambda p=point: self.peer(arm, p))
            return
        with tempfile.TemporaryDirectory(prefix="vio-") as folder:
            with self.machine(arm, group[0], folder, rng) as m:
                highest, start, first = {}, m.phypd_seconds + m.vios_seconds, len(out)
                for point in group:
                    one = {"pair": self.pair, "echo": self.echo}.get(point.op, self.one)
                    self.judged(point, out, lambda p=point, f=one: f(m, arm, p, highest))
                out[first]["values"]["start_seconds"] = start + out[first]["values"]["ready_ns"] / 1e9

    def machine(self, arm, point, folder, rng):
        size = self.experiment.machine
        phypd = ["--cost", point.cost, "--pages", size.pages, "--server-memory", str(size.server_memory), "--guest-memory",
                 str(size.guest_memory), *(["--guests", "2"] if point.op == "pair" else [])]
        return Machine(self.build, self.cores["guest_core"], self.cores["server_core"], phypd, server_args(arm, point, folder),
                       env=padded(rng), program="guest/vio-net")

    def judged(self, point, out, measure):
        """Samples of a point by the discard rule. measure() -> (values, histogram)."""
        used = (self.cores["guest_core"], self.cores["server_core"])
        for (values, histogram), ticks, why in until_kept(used, measure):
            values["steal_ticks"] = ticks
            out.append({"point": point_dict(point), "values": values, "kept": not why, "why": why, "histogram": histogram})

    def peer(self, arm, point):
        if point.touch not in ("", "headers") or point.rate or point.op not in peers.MODES:
            raise MachineError(f"{arm} touches headers only, goes one way or both, and has no open loop: restrict the sweep to "
                               "other arms")
        with peers.Pair(arm, point.op, point.bs, self.cores) as pair:
            time.sleep(self.measure.warm_seconds)
            got = pair.measure(self.measure.seconds)
        ns, frames = got.pop("ns"), sum(got[way] for way in ("tx", "rx") if way in got)
        values = {"requests": frames, "elapsed_ns": ns, "ns_per_request": ns / max(1, frames), "bytes": frames * point.bs}
        if point.op == "both":
            values |= {way + "_ns": ns / max(1, got[way]) for way in ("tx", "rx")}
        return values, []

    def one(self, m, arm, point, _):
        clock = CpuClock(m.vios.proc.pid)
        result = m.guest(guest_args(arm, point, self.measure, point.rate), on_stage=clock.stage if self.measure.cpu else None)
        check(arm, result)
        if point.op in ("tx", "both"):
            check_left(result["run"], *telemetry.ask(os.path.basename(m.dir), "/vio/port,0", "/vio/port,1"), point.queue_size)
        return values_of(result, point.op) | clock.values(result["run"]["elapsed_ns"]), []

    def echo(self, m, arm, point, highest):
        """highest: frames a second in the closed loop by arm, as far as this machine has measured them."""
        rate = point.rate
        if point.load:
            who = point.load_of or arm
            if who not in highest:
                highest[who] = self.highest(m, who, point)
            rate = point.load * highest[who]
        result = m.guest(guest_args(arm, point, self.measure, rate))
        check(arm, result)
        values = echo_values(result, rate)
        if not rate:
            highest[arm] = 1e9 / values["ns_per_request"]
        return values, result["run"]["latency_ns"]["histogram"]

    def highest(self, m, arm, point):
        result = m.guest(guest_args(arm, point, self.measure))
        check(arm, result)
        return 1e9 / values_of(result, "echo")["ns_per_request"]

    def pair(self, m, arm, point, _):
        load = [*load_args(arm, point), "--count", str(PAIR_FRAMES), "--warm-seconds", "0"]
        sender = Sender(m, [*load, "--partition", GUEST, "--forward", "txonly", "--peer", SECOND_MAC, "--rate", str(PAIR_RATE),
                            "--drain-seconds", PAIR_DRAIN])
        try:
            got = m.guest([*load, "--partition", RECEIVER, "--forward", "rxonly", "--seconds", str(PAIR_SECONDS),
                           "--drain-seconds", "0"], on_stage=lambda letter, _: sender.go() if letter == "M" else None)
            sent = sender.result(m)
        finally:
            sender.stop()
        for result in (sent, got):
            check(arm, result)
        return pair_values(sent, got), []
