# SPDX-License-Identifier: BSD-3-Clause
"""./run ppc64le: everything but the DPDK program, built for POWER by Debian's cross compiler, its unit tests under qemu-user.

Libraries come from the same private apt root as a guest's programs.
"""

import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.dirname(HERE))
from vm import packages  # noqa: E402

ARCH = "ppc64le"
# Headers, and the links that the linker follows; what they need at run time is found from these.
LIBRARIES = ["libjansson-dev", "libjansson4", "libnuma-dev", "libnuma1", "libcmocka-dev", "libcmocka0", "liburing-dev", "liburing2",
             "libnbd-dev", "libnbd0", "libhwloc-dev", "libhwloc15", "libseccomp-dev", "libseccomp2",
             "libpcap0.8-dev", "libpcap0.8", "libdbus-1-dev"]
# Patterns of tests' names that this emulation can't run, and why.
NOT_EMULATED = {
    "phyp robust": "needs robust mutexes, and qemu-user has no set_robust_list",
    "common/sandbox": "is about filters on system calls, and those of qemu-user are the host's",
    "phypd.*|bench-.*|ab_.*|papers": "starts programs of this build by execve, and the kernel runs none of another architecture",
}
HUGE = "phyp rdma(_death)?|server/(ring_in_order|squeue)"
# What a guest on POWER has of ours: without the server, which is most of what there is to compile.
QUICK = (r"common/.*|phyp (calls|crq|grant|irq|rdma|rdma_death|tce)|proto_.*|notify|measure|"
         r"guest/(dma.*|ioba_alloc|mem|payload|vring.*|transport)")


def sysroot(say):
    """The tree with the libraries in it. packages.Missing when that or a tool can't be had."""
    packages.need_program("powerpc64le-linux-gnu-gcc", "gcc-powerpc64le-linux-gnu")
    if not os.path.exists("/usr/powerpc64le-linux-gnu/lib/crti.o"):
        raise packages.Missing("libc6-dev-ppc64el-cross is not installed: apt-get install it, or ./run setup")
    packages.need_program("qemu-ppc64le", "qemu-user")
    root = packages.Root(ARCH, say)
    root.get(*LIBRARIES)
    libs = root.path("usr", "lib", root.triplet)
    root.closure([os.path.realpath(os.path.join(libs, n)) for n in os.listdir(libs)
                  if any(n.startswith(p) for p in ("libjansson.so.", "libnuma.so.", "libcmocka.so.", "liburing.so.", "libnbd.so.", "libhwloc.so.",
                                                    "libseccomp.so.", "libpcap.so."))])
    return root.tree


def setup(build, say, *options):
    tree = sysroot(say)
    os.makedirs(build, exist_ok=True)
    where = os.path.join(build, "sysroot.ini")
    if not os.path.exists(where):  # a new one would have meson configure anew
        with open(where, "w", encoding="utf-8") as f:
            f.write(f"[constants]\nsysroot = '{tree}'\n")
    if os.path.exists(os.path.join(build, "build.ninja")):
        return
    argv = ["meson", "setup", build, TOP, "--cross-file", where, "--cross-file", os.path.join(HERE, "ppc64le.ini"), "-Ddpdk=disabled",
            "-Dnbdkit=disabled", *options]
    r = subprocess.run(argv, capture_output=True, text=True, check=False)
    if r.returncode:
        raise packages.Broken(f"meson does not configure for {ARCH}:\n{(r.stdout + r.stderr)[-3000:]}")


def compile_(build, *targets):
    """ninja, silent unless it fails."""
    r = subprocess.run(["ninja", "-C", build, "--quiet", *targets], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if r.returncode:
        raise packages.Broken(f"{build} does not build:\n{r.stdout[-3000:]}")


def plan(build, quick):
    """(names of the tests to run, the programs to build, why others are left out: reason -> names)."""
    said = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True, text=True, check=True).stdout
    names, targets, out = [], [], {}
    for t in json.loads(said):
        name, program = t["name"], next((c for c in t["cmd"] if c.startswith(build)), None)
        why = None if program else "is no program of ours"
        why = why or next((reason for pattern, reason in NOT_EMULATED.items() if re.fullmatch(pattern, name)), None)
        if not why and free_huge_pages() and re.fullmatch(HUGE, name):
            why = "uses the 2 MiB pages that are free here, which qemu-user maps at addresses that are no multiple of them"
        if not why and quick and not re.fullmatch(QUICK, name):
            why = "is not of the quick part"
        if why:
            out.setdefault(why, []).append(name)
        else:
            names.append(name)
            targets.append(os.path.relpath(program, build))
    return names, targets, out


def free_huge_pages():
    try:
        with open("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", encoding="ascii") as f:
            return int(f.read())
    except OSError:
        return 0


def results(build):
    """(passed, names of those that failed) of meson's last run."""
    with open(os.path.join(build, "meson-logs", "testlog.json"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    bad = [r["name"] for r in rows if r["result"] not in ("OK", "EXPECTEDFAIL")]
    return len(rows) - len(bad), bad


def run(build, quick):
    setup(build, lambda text: print(f"ppc64le: {text}", flush=True))
    names, targets, out = plan(build, quick)
    compile_(build, *(targets if quick else []))
    # Emulated: several times slower, and more than that beside others.
    subprocess.run(["meson", "test", "-C", build, "--no-rebuild", "--quiet", "--print-errorlogs", "--timeout-multiplier", "10",
                    "--num-processes", "2", *names], check=False)
    passed, bad = results(build)
    for why, those in out.items():
        print(f"ppc64le: not run, because it {why}: {', '.join(those)}")
    print(f"ppc64le: {passed} passed, {len(bad)} failed" + "".join(f"\n   FAILED: {n}" for n in bad))
    return 1 if bad or passed != len(names) else 0


def main(argv):
    quick = "quick" in argv
    rest = [x for x in argv if x != "quick"]
    try:
        return run(os.path.abspath(rest[0] if rest else os.path.join(TOP, "build-ppc64le")), quick)
    except packages.Missing as e:
        print(f"SKIPPED: nothing is built for {ARCH}: {e}", flush=True)
        return 77
    except packages.Broken as e:
        print(f"ppc64le: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
