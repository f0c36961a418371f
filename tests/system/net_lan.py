# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces joined by guests and the VIO server's switch, for system tests. Needs root."""

import json
import os
import shutil
import subprocess
import time
import unittest

from common import BUILD, MachineError, NetMachine, Program, until

TOOLS = {"ip": "iproute2", "ping": "iputils-ping", "iperf3": "iperf3", "tcpdump": "tcpdump", "tshark": "tshark",
         "ethtool": "ethtool"}


def sh(*argv, check=True, timeout=60):
    """Run to its end; its output. MachineError with what it said when it fails."""
    r = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    if check and r.returncode:
        raise MachineError(f"{' '.join(argv)}: exit {r.returncode}\n{r.stderr}{r.stdout}")
    return r.stdout + r.stderr


def why_not(*tools):
    """Why namespaces or tools can't be had here; None when they can."""
    missing = [t for t in ("ip", "ping", *tools) if not shutil.which(t)]
    if missing:
        return f"missing: {', '.join(missing)} (Debian packages {', '.join(TOOLS[t] for t in missing)})"
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun"
    name = f"vio{os.getpid()}probe"
    r = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if r.returncode:
        return f"network namespaces can't be made: {r.stderr.strip()}"
    sh("ip", "netns", "del", name)
    return None


class Lan:
    """with Lan(["copy", "zero-copy"], nets=["", "vlan=10"]) as lan: lan.ping(0, 1)

    arms: of each guest. nets: each guest's --net. Namespace i has address 10.9.0.(i+1)/24 on vio0.
    """

    def __init__(self, arms, nets=None, tap_args=(), vios_args=(), spaces=None):
        self.arms = arms
        self.nets = nets or [""] * len(arms)
        self.tap_args = list(tap_args)
        self.vios_args = [f"--net={n}" for n in self.nets] + list(vios_args)
        self.names = [f"vio{os.getpid()}n{i}" for i in range(spaces or len(arms))]
        self.taps = []
        self.m = None

    def __enter__(self):
        try:
            for n in self.names:
                sh("ip", "netns", "add", n)
                sh("ip", "-n", n, "link", "set", "lo", "up")
            self.before_machine()
            self.m = NetMachine(BUILD, phypd_args=["--guests", str(len(self.arms)), "--server-memory", "128"],
                                vios_args=self.vios_args)
            self.m.__enter__()
            for i, arm in enumerate(self.arms):
                self.taps.append(self.start_tap(i, arm))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def before_machine(self):
        """For those that need more."""

    def __exit__(self, *exc):
        for t in self.taps:
            if t.alive():
                t.stop()
        if self.m:
            self.m.__exit__(*exc)
        for n in self.names:
            sh("ip", "netns", "del", n, check=False)

    def start_tap(self, i, arm):
        t = Program(f"vio-tap{i}", [os.path.join(BUILD, "guest", "vio-tap"), "--phyp", self.m.socket, "--partition",
                                    f"guest{i}", "--arm", arm, "--netns", self.names[i], "--tap", "vio0", "--ready-fd",
                                    "@READY", *self.tap_args], self.m.dir)
        t.wait_ready(30)
        sh("ip", "-n", self.names[i], "addr", "add", self.address(i) + "/24", "dev", "vio0")
        return t

    @staticmethod
    def address(i):
        return f"10.9.0.{i + 1}"

    def run(self, i, *argv, **kw):
        return sh("ip", "netns", "exec", self.names[i], *argv, **kw)

    def spawn(self, i, *argv):
        return subprocess.Popen(["ip", "netns", "exec", self.names[i], *argv], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ping(self, i, to, count=5, size=56, address=None):
        """How many of `count` came back. Waits long: the machine may be busy."""
        out = self.run(i, "ping", "-n", "-c", str(count), "-i", "0.1", "-W", "5", "-s", str(size),
                       address or self.address(to), check=False)
        for word, before in zip(out.split()[1:], out.split()):
            if word.startswith("received"):
                return int(before)
        raise MachineError(out)

    def reach(self, i, to, **kw):
        """Ping until all come back: a first one may be lost to a queue that overflowed on a busy machine."""
        for _ in range(4):
            if self.ping(i, to, **kw) == kw.get("count", 5):
                return True
        return False

    def iperf(self, i, to, seconds=1, *args):
        """Bytes that TCP moved from i to `to` (with -R: the other way). seconds None: args say how much."""
        server = self.spawn(to, "iperf3", "-s", "-1")
        try:
            until(lambda: ":5201 " in self.run(to, "ss", "-ltn", check=False), "iperf3's server")
            out = self.run(i, "iperf3", "-J", "-c", self.address(to), *(["-t", str(seconds)] if seconds else []), *args)
            server.wait(20)
        finally:
            if server.poll() is None:
                server.kill()
            server.communicate()
        return json.loads(out[out.index("{"):])["end"]["sum_received"]["bytes"]

    def stop_taps(self, test):
        """End all; the server has nothing of them any more, and exit code 0 means that each has all its buffers."""
        self.m.nothing_kept()
        for t in self.taps:
            t0 = time.monotonic()
            test.assertEqual(t.stop(20), 0, t.log())
            test.assertLess(time.monotonic() - t0, 20)


class NetTest(unittest.TestCase):
    """Skipped, with the reason, where namespaces or `tools` are not to be had."""
    tools = ()

    @classmethod
    def setUpClass(cls):
        reason = why_not(*cls.tools)
        if reason:
            raise unittest.SkipTest(reason)
