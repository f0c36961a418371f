# SPDX-License-Identifier: BSD-3-Clause
"""Starts bench-anchors once and hands its points over as the runner takes them."""

import json
import os
import subprocess

from machine import MachineError

SCHEMA = "virtio-vio-anchors/1"
SLACK_SECONDS = 60  # files are written and every case is a process; longer than this beyond the budget is a hang


def measure(build, cores, seed, seconds, folder="."):
    """The JSON of one run (docs/results.md). cores: (guest, server); folder: of the temporary files. MachineError on failure."""
    argv = [os.path.join(build, "bench/bench-anchors"), "--cores", f"{cores[0]},{cores[1]}", "--seed", str(seed), "--seconds",
            f"{max(0.2, seconds):g}", "--dir", folder]
    try:
        r = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10 * seconds + SLACK_SECONDS)
    except subprocess.TimeoutExpired as e:
        raise MachineError(f"{argv[0]}: not done after {e.timeout:.0f} s with a budget of {seconds:g} s") from None
    except OSError as e:
        raise MachineError(f"{argv[0]}: {e.strerror}; build it with ninja") from None
    if r.returncode:
        raise MachineError(f"{argv[0]}: exit {r.returncode}: {r.stderr.strip()}")
    got = json.loads(r.stdout)
    if got.get("schema") != SCHEMA:
        raise MachineError(f"{argv[0]}: schema {got.get('schema')}, this reads {SCHEMA}; rebuild")
    return got


def samples(result):
    """[{op, arm, bs, depth, values}] of a result. bs in bytes (0: one word); values: ns_per_request, the median over
    batches, and requests, operations in them. What was not measured is left out."""
    return [{"op": p["point"], "arm": p["level"], "bs": p["size_bytes"], "depth": p["depth"],
             "values": {"ns_per_request": p["ns_per_op"], "requests": p["ops"]}} for p in result["points"]]


def run_anchors(build, cores, seed, seconds, folder="."):
    """One process start of bench-anchors as samples."""
    return samples(measure(build, cores, seed, seconds, folder))
