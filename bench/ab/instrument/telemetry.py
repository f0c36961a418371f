# SPDX-License-Identifier: BSD-3-Clause
"""Counters of a running program of DPDK, straight from the socket that dpdk-telemetry.py uses."""

import json
import os
import socket


def runtime_folder():
    """Where DPDK keeps its sockets, as its own scripts look for it."""
    if os.geteuid() == 0:
        return "/var/run/dpdk"
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR", "/tmp"), "dpdk")


def path(prefix):
    """Of the socket of the program with this --file-prefix; with --in-memory DPDK adds a number to the name. None before it is
    there."""
    folder = os.path.join(runtime_folder(), prefix)
    found = [f for f in os.listdir(folder) if f.startswith("dpdk_telemetry.v2")] if os.path.isdir(folder) else []
    return os.path.join(folder, found[0]) if found else None


def ask_within(seconds, prefix, commands):
    """Answers to commands, in order, each within so many seconds. OSError when the program has no socket yet, or no longer."""
    where = path(prefix)
    if not where:
        raise OSError(f"{prefix}: no telemetry socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(seconds)
        s.connect(where)
        s.recv(65536)
        answers = []
        for c in commands:
            s.send(c.encode())
            answers.append(next(iter(json.loads(s.recv(65536)).values())))
    return answers


def ask(prefix, *commands):
    """ask_within() five seconds."""
    return ask_within(5, prefix, commands)
