# SPDX-License-Identifier: BSD-3-Clause
"""What a reader must know of the machine and the build, and the two cores that are used (chosen by hwloc)."""

import json
import os
import platform
import subprocess
import sys

from machine import MachineError

NOT_VISIBLE = "not visible"


def read_text(path, default=""):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return default


def command(*argv):
    """Standard output of a command, "" when it can't be run or fails."""
    try:
        r = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return r.stdout.strip() if r.returncode == 0 else ""


def run_json(argv):
    r = subprocess.run(argv, capture_output=True, text=True, check=False)
    if not r.stdout.strip():
        raise MachineError(f"{argv[0]}: exit {r.returncode}: {r.stderr.strip()}")
    return json.loads(r.stdout), r.returncode


def choose_cores(build, cores=None):
    """{"guest_core", "server_core", "reason", ...}; exit 3 on a machine with one core."""
    if cores:
        guest, server = (int(x) for x in cores.split(","))
        return {"guest_core": guest, "server_core": server, "reason": "given with --cores"}
    topology, rc = run_json([os.path.join(build, "bench/bench-topology")])
    if rc:
        print("only one core: guest and server would take turns on it, and no number here would mean anything.\n"
              f"  {topology.get('reason', '')}\n  Give this machine two cores; ./run test works on one.", file=sys.stderr)
        raise SystemExit(3)
    return topology


def limits(build, cores, seconds):
    out, _ = run_json([os.path.join(build, "bench/bench-limits"), "--cores",
                       f"{cores['guest_core']},{cores['server_core']}", "--seconds", str(seconds)])
    return out


def cpu_model():
    for line in read_text("/proc/cpuinfo").splitlines():
        if line.startswith(("model name", "cpu\t")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def governor():
    """Of the frequency, or why it can't be known."""
    return read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                     f"{NOT_VISIBLE} (a virtual machine's host decides)" if hypervisor() else NOT_VISIBLE)


def hypervisor():
    return "hypervisor" in read_text("/proc/cpuinfo").split("flags", 1)[-1].split("\n", 1)[0].split()


def tick_hz():
    """Rate of the tick counter, roughly, where it is that of the clock that /proc/cpuinfo shows; None where it can't be known."""
    text = read_text("/proc/cpuinfo")
    if "constant_tsc" not in text or "cpu MHz" not in text:
        return None
    return round(float(text.split("cpu MHz", 1)[1].split(":", 1)[1].split("\n", 1)[0]) * 1e6)


def build_options(build):
    """Compiler flags as meson was told, from its own record."""
    text = command("meson", "introspect", "--buildoptions", build)
    wanted = ("buildtype", "optimization", "debug", "c_args", "b_lto", "b_ndebug", "b_sanitize")
    return {o["name"]: o["value"] for o in json.loads(text) if o["name"] in wanted} if text else {}


def describe(build):
    vulnerabilities = "/sys/devices/system/cpu/vulnerabilities"
    huge = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "virtual_machine": hypervisor(),
        "smt": read_text("/sys/devices/system/cpu/smt/control", NOT_VISIBLE),
        "governor": governor(),
        "kernel": platform.release(),
        "mitigations": {f: read_text(os.path.join(vulnerabilities, f)) for f in sorted(os.listdir(vulnerabilities))}
        if os.path.isdir(vulnerabilities) else {},
        "hugepages_2m_total": int(read_text(f"{huge}/nr_hugepages", "0") or 0),
        "hugepages_2m_free": int(read_text(f"{huge}/free_hugepages", "0") or 0),
        "transparent_hugepages": read_text("/sys/kernel/mm/transparent_hugepage/enabled", NOT_VISIBLE),
        "address_randomisation": read_text("/proc/sys/kernel/randomize_va_space", NOT_VISIBLE),
        "tick_hz": tick_hz(),
        "nice": os.nice(0),
        "clocksource": read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource", NOT_VISIBLE),
        "commit": command("git", "rev-parse", "--short=12", "HEAD"),
        "dirty": bool(command("git", "status", "--porcelain")),
        "compiler": command("cc", "--version").split("\n")[0],
        "build_options": build_options(build),
        "dpdk": command("pkg-config", "--modversion", "libdpdk"),
        "user": "root" if os.geteuid() == 0 else "not root",
    }


def steal_ticks(cores):
    """Clock ticks (10 ms each, as the kernel counts for users) that the host took from these cores since boot."""
    total = 0
    for line in read_text("/proc/stat").splitlines():
        fields = line.split()
        if fields[0] in {f"cpu{c}" for c in cores}:
            total += int(fields[8])
    return total


STEAL_SHARE = 0.01
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def stolen(ticks, seconds, cores):
    """The discard rule, fixed beforehand: "" to keep a sample, or why not. More than 1 % of the time of the cores used."""
    share = ticks / (seconds * TICKS_PER_SECOND * len(set(cores)))
    return f"steal: {ticks} ticks in {seconds:.2f} s on {len(set(cores))} cores" if share > STEAL_SHARE else ""


def cpu_ns(pid):
    """CPU time of all threads of a process, nanoseconds (schedstat: exact, no ticks)."""
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            total += int(read_text(f"/proc/{pid}/task/{task}/schedstat", "0").split()[0])
    except OSError:
        pass
    return total
