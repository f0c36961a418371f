# SPDX-License-Identifier: BSD-3-Clause
"""One trial of the network: vio-net in a guest partition against the server's switch and a DPDK null port, or a peer's pair of
testpmd programs on the same cores. One way: tx is from the guest to the port, rx from the port to the guest.
"""

import os
import struct
import tempfile
import time

from machine import Machine, MachineError, WrongResult
from vioab import environment, peers
from vioab.trial import GUEST, RDMA_CALLS, SERVER, CpuClock, padded, point_dict

FORWARD = {"tx": "txonly", "rx": "rxonly"}


GUEST_MAC, SENDER_MAC = "02:56:49:4f:00:00", "02:00:00:00:00:99"
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


def server_args(arm, point, folder):
    """tx ends in DPDK's null port; rx comes from its pcap port, which copies each frame into an mbuf, as a card would."""
    if point.op == "rx":
        capture = os.path.join(folder, "frames.pcap")
        write_capture(capture, point.bs)
        uplink = f"net_pcap0,rx_pcap={capture},infinite_rx=1,mtu=9000"
    else:
        uplink = "net_null0,no-rx=1,mtu=9000"
    args = [f"--net=MAC={GUEST_MAC},mtu=9000", "--uplink", uplink]
    return args + (["--unprotected"] if "unprotected" in arm or "unchecked" in arm else [])


def guest_args(arm, point, measure):
    args = ["--arm", arm, "--forward", FORWARD[point.op], "--size", str(point.bs), "--seconds", str(measure.seconds),
            "--warm-seconds", str(measure.warm_seconds), "--drain-seconds", "0", "--touch", point.touch or "headers",
            "--burst", str(point.batch or 32), "--queue-size", str(point.queue_size)]
    if point.rate:
        args += ["--rate", f"{point.rate:g}"]
    return args + point.extra.split()


def values_of(result, op):
    """Metrics of model.METRICS from a vio-net result; a request is a frame."""
    run = result["run"]
    frames = run["tx_frames"] - run["tx_lost"] if op == "tx" else run["rx_frames"]
    if not frames:
        raise MachineError(f"no frame passed ({op})")
    server, guest = result["partitions"].get(SERVER, {}), result["partitions"].get(GUEST, {})

    def both(key):
        return (server.get(key, 0) + guest.get(key, 0)) / frames
    hcalls = [sum(part.get("hcalls", {}).values()) / frames for part in (guest, server)]
    return {"requests": frames, "elapsed_ns": run["elapsed_ns"], "ns_per_request": run["elapsed_ns"] / frames,
            "bytes": run["tx_bytes"] if op == "tx" else run["rx_bytes"], "hcalls": sum(hcalls), "hcalls_guest": hcalls[0],
            "hcalls_server": hcalls[1], "tce_updates": both("tce_updates"), "rdma_bytes": both("rdma_bytes"),
            "rdma_calls": sum(part.get("hcalls", {}).get(c, 0) for part in (server, guest) for c in RDMA_CALLS) / frames,
            "guest_bytes": guest.get("cpu_bytes", 0) / frames, "server_bytes": server.get("cpu_bytes", 0) / frames,
            "kicks": guest.get("kicks", 0) / frames, "irqs": both("irq_raised"), "wakes": both("irq_wakes"),
            "ready_ns": result["ready_ns"], "switches": run["involuntary_switches"]}


def check(arm, result):
    run = result["run"]
    if result["arm"] != result["arm_wanted"]:
        raise WrongResult(f"{arm}: in force was {result['arm']}, asked was {result['arm_wanted']}")
    if run["mismatches"] or run["rx_bad"] or run["tx_bad"]:
        raise WrongResult(f"{arm}: {run['mismatches']} wrong words, {run['rx_bad']} bad frames received, {run['tx_bad']} refused: "
                           f"{run['first_mismatch']}")


class NetTrial:
    """As trial.Trial, for points of backend net."""

    def __init__(self, build, cores, experiment):
        self.build, self.cores, self.experiment = build, cores, experiment

    def run(self, arm, points, rng):
        """Every point has a machine of its own: the port's frame size is part of it."""
        out = []
        for point in rng.sample(points, len(points)):
            used = (self.cores["guest_core"], self.cores["server_core"])
            before, t0 = environment.steal_ticks(used), time.monotonic()
            values = self.peer(arm, point) if arm in peers.PEERS else self.own(arm, point, rng)
            values["steal_ticks"] = environment.steal_ticks(used) - before
            why = environment.stolen(values["steal_ticks"], time.monotonic() - t0, used)
            out.append({"point": point_dict(point), "values": values, "kept": not why, "why": why, "histogram": []})
        return out

    def peer(self, arm, point):
        if point.touch not in ("", "headers") or point.rate:
            raise MachineError(f"{arm} touches headers only and has no open loop: restrict the sweep to other arms")
        with peers.Pair(arm, point.op, point.bs, self.cores) as pair:
            time.sleep(self.experiment.measure.warm_seconds)
            frames, ns = pair.measure(self.experiment.measure.seconds)
        return {"requests": frames, "elapsed_ns": ns, "ns_per_request": ns / max(1, frames), "bytes": frames * point.bs}

    def own(self, arm, point, rng):
        size = self.experiment.machine
        phypd = ["--cost", point.cost, "--pages", size.pages, "--server-memory", str(size.server_memory), "--guest-memory",
                 str(size.guest_memory)]
        with tempfile.TemporaryDirectory(prefix="vio-") as folder:
            with Machine(self.build, self.cores["guest_core"], self.cores["server_core"], phypd, server_args(arm, point, folder),
                         env=padded(rng), program="guest/vio-net") as m:
                clock = CpuClock(m.vios.proc.pid)
                result = m.guest(guest_args(arm, point, self.experiment.measure),
                                 on_stage=clock.stage if self.experiment.measure.cpu else None)
                check(arm, result)
                return values_of(result, point.op) | clock.values(result["run"]["elapsed_ns"]) | {
                    "start_seconds": m.phypd_seconds + m.vios_seconds + result["ready_ns"] / 1e9}
