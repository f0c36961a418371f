# SPDX-License-Identifier: BSD-3-Clause
"""./run assurance soak [MINUTES]: each arm in turn for so long, under a load that verifies, while guests come and go beside it.

Watched of phypd and vios, once a second: private memory, open descriptors, threads. What a program has after a tenth of an arm's time
it may not have much more of at the end: descriptors and threads the same, private memory GROWTH bytes more at most.
"""

import json
import os
import subprocess
import tempfile
import time

from common import ARMS, BUILD, Machine, MachineError, until

LAYOUT = "zero-copy,layout=packed"
GROWTH = 2 << 20  # an allocator's own ups and downs
LOAD = ["--rw", "randmixed", "--bs", "4k", "--depth", "16", "--span", "4M", "--warm-seconds", "0"]


def usage(pid):
    """Private bytes, descriptors, threads."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        private = sum(int(line.split()[1]) for line in f if line.startswith(("Private_Clean:", "Private_Dirty:"))) * 1024
    return {"private_bytes": private, "fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task"))}


def leaks(first, last):
    """In words, "" if there is none."""
    found = [f"{what} {first[what]} -> {last[what]}" for what in ("fds", "threads") if last[what] > first[what]]
    if last["private_bytes"] > first["private_bytes"] + GROWTH:
        found.append(f"private memory {first['private_bytes']} -> {last['private_bytes']} bytes")
    return ", ".join(found)


def watch(m, until, rest):
    """Usage of both programs once a second, of moments at which guest1 is not there."""
    seen = []
    while time.monotonic() < until:
        if not rest():
            return seen
        seen.append({p.name: usage(p.proc.pid) for p in (m.phypd, m.vios)})
        time.sleep(1)
    return seen


def one_arm(arm, seconds):
    """{requests, guests, first, last, lost}: lost is a list of sentences."""
    lost, guests, requests = [], 0, 0
    with tempfile.NamedTemporaryFile(suffix=".img", dir="/var/tmp") as image:
        image.truncate(32 << 20)
        with Machine(BUILD, phypd_args=["--guests", "2", "--server-memory", "160"],
                     vios_args=["--disk", f"file,path={image.name}", "--disk", "memory,size=16M"]) as m:
            end = time.monotonic() + seconds
            out = os.path.join(m.dir, "long.json")
            load = m.start_guest(["--partition", "guest0", "--arm", arm, *LOAD, "--seconds", str(int(seconds)), "--json", out])
            until(lambda: "guest0: running" in m.vios.log(), "the long load to begin", 60)

            def visit():
                """guest1 comes, works, goes."""
                nonlocal guests, requests
                try:
                    r = m.guest(["--partition", "guest1", "--arm", arm, *LOAD, "--count", "500"])
                    requests += r["run"]["requests"]
                    guests += 1
                except (MachineError, subprocess.TimeoutExpired) as e:
                    lost.append(f"a guest that came: {e}")
                return not lost and load.alive()

            seen = watch(m, end, visit)
            try:
                load.proc.wait(seconds + 60)
            except subprocess.TimeoutExpired:
                lost.append("the long load does not end")
            if load.kill():
                lost.append(f"the long load: exit {load.proc.returncode}: {load.log()[-800:]}")
            else:
                with open(out, encoding="utf-8") as f:
                    requests += json.load(f)["run"]["requests"]
            first, last = (seen[len(seen) // 10], seen[-1]) if seen else ({}, {})
            lost += [f"{name}: {text}" for name in first if (text := leaks(first[name], last[name]))]
    return {"arm": arm, "seconds": round(seconds), "guests": guests, "requests": requests, "first": first, "last": last, "lost": lost}


def run(minutes, say=lambda text: None):
    arms = []
    for arm in [*ARMS, LAYOUT]:
        r = one_arm(arm, 60 * minutes)
        arms.append(r)
        say(f"{arm}: {r['seconds']} s, {r['requests']} requests verified, {r['guests']} guests came and went, "
            + ("; ".join(r["lost"]) or f"vios {r['first']['vios']} -> {r['last']['vios']}"))
    lost = [f"{r['arm']}: {text}" for r in arms for text in r["lost"]]
    return {"arms": arms, "hours": round(sum(r["seconds"] for r in arms) / 3600, 3), "losses": len(lost), "first_losses": lost[:3]}
