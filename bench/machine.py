# SPDX-License-Identifier: BSD-3-Clause
"""A machine of three programs for experiments and system tests: phypd, vios, and guests run against them.

Everything that is started is stopped again, also on an exception or Ctrl-C, and each child dies with its parent.
"""

import ctypes
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

PR_SET_PDEATHSIG = 1


class MachineError(Exception):
    """A program did not start or ended badly; the text carries what it said."""


class WrongResult(Exception):
    """A program ran and its answer is wrong: bytes that differ, failed requests, another arm in force. Never tried again."""


def die_with_parent():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@functools.cache
def knows(program, option):
    """Does a program's --help name this option? One of an older commit may not (bench/ab/builds.py)."""
    return option in subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout


class Program:
    """A child with its standard error in a file, so that its messages can be shown and tested."""

    def __init__(self, name, argv, logdir, env=None):
        self.name, self.argv = name, argv
        self.log_path = os.path.join(logdir, f"{name}-{time.monotonic_ns()}.log")
        self._log = open(self.log_path, "wb")
        ready_r, ready_w = os.pipe()
        self._ready = ready_r
        argv = [str(ready_w) if a == "@READY" else a for a in argv]
        try:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                                         pass_fds=(ready_w,), preexec_fn=die_with_parent, env=env)
        finally:
            os.close(ready_w)

    def wait_ready(self, timeout=60):
        """Block until the program writes to its --ready-fd; raise when it ends, at once, or stays silent."""
        import select
        ok, _, _ = select.select([self._ready], [], [], timeout)
        if ok and os.read(self._ready, 1):
            return
        self.kill()
        raise MachineError(f"{self.name} did not start ({' '.join(self.argv)}):\n{self.log()}")

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def alive(self):
        return self.proc.poll() is None

    def signal(self, sig):
        if self.alive():
            self.proc.send_signal(sig)

    def stop(self, timeout=5):
        """SIGTERM, then SIGKILL. Returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        return self._close()

    def kill(self):
        self.signal(signal.SIGKILL)
        self.proc.wait()
        return self._close()

    def _close(self):
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1
        self._log.close()
        return self.proc.returncode

    def memory(self):
        """Resident and hugepage bytes of the process."""
        out = {}
        with open(f"/proc/{self.proc.pid}/status") as f:
            for line in f:
                key, _, rest = line.partition(":")
                if key in ("VmRSS", "HugetlbPages", "RssAnon", "RssShmem"):
                    out[key.lower() + "_bytes"] = int(rest.split()[0]) * 1024
        return out


class Machine:
    """with Machine(build, vios_args=[...]) as m: m.guest([...])"""

    def __init__(self, build, guest_core=None, server_core=None, phypd_args=(), vios_args=(), keep=False, env=None,
                 program="guest/vio-blk"):
        self.build = os.path.abspath(build)
        self.program = program  # of the guest
        self.env = env  # of all programs; None: inherited
        self.guest_core, self.server_core = guest_core, server_core
        self.phypd_args, self.vios_args = list(phypd_args), list(vios_args)
        self.keep = keep
        self.phypd = self.vios = None
        self.dir = None

    def path(self, *parts):
        return os.path.join(self.build, *parts)

    @property
    def socket(self):
        return os.path.join(self.dir, "phyp.sock")

    def __enter__(self):
        try:
            self.begin()
            self.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def begin(self):
        """The first half of entering: the server is on its way. Several machines start faster so; wait() is the second half."""
        self.dir = tempfile.mkdtemp(prefix="vio-")
        self.start_phypd()
        self.launch_vios()

    def launch_vios(self):
        self.began = time.monotonic()
        self.vios = Program("vios", self.vios_argv(), self.dir, self.env)

    def wait(self):
        self.vios.wait_ready()
        self.vios_seconds = time.monotonic() - self.began

    def __exit__(self, *exc):
        for p in (self.vios, self.phypd):
            if p:
                p.stop()
        if self.dir and not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def start_phypd(self):
        t0, phypd = time.monotonic(), self.path("phyp/phypd")
        statistics = ["--all-statistics"] if knows(phypd, "--all-statistics") else []  # before that option all were told
        self.phypd = Program("phypd", [phypd, "--socket", self.socket, "--ready-fd", "@READY", *statistics, *self.phypd_args],
                             self.dir, self.env)
        self.phypd.wait_ready()
        self.phypd_seconds = time.monotonic() - t0

    def vios_argv(self):
        argv = [self.path("server/vios"), "--phyp", self.socket, "--ready-fd", "@READY", "--file-prefix",
                os.path.basename(self.dir)]
        if self.server_core is not None:
            argv += ["--lcores", str(self.server_core)]
        return argv + self.vios_args

    def start_vios(self):
        self.launch_vios()
        self.wait()

    def guest_argv(self, args):
        argv = [self.path(self.program), "--phyp", self.socket]
        if self.guest_core is not None and "--core" not in args:
            argv += ["--core", str(self.guest_core)]
        return argv + list(args)

    def start_guest(self, args):
        return Program(os.path.basename(self.program), self.guest_argv(args), self.dir, self.env)

    def guest(self, args, timeout=120, on_stage=None):
        """Run the guest's program to its end; returns its JSON. MachineError with what it said when it fails.

        on_stage(letter, pid) is called when the measurement begins ("M") and ends ("E").
        """
        out = os.path.join(self.dir, "guest.json")
        if os.path.exists(out):
            os.unlink(out)
        argv = self.guest_argv([*args, "--json", out])
        with tempfile.TemporaryFile("w+") as said:
            if on_stage:
                rc = self._staged(argv, said, timeout, on_stage)
            else:
                rc = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=timeout,
                                    preexec_fn=die_with_parent, env=self.env, check=False).returncode
            said.seek(0)
            text = said.read()
        if rc:
            self._wrong(out, args)
            raise MachineError(f"{os.path.basename(self.program)} {' '.join(args)}: exit {rc}\n{text}"
                               f"--- vios:\n{self.vios.log()[-2000:]}")
        with open(out) as f:
            return json.load(f)

    def _wrong(self, out, args):
        """WrongResult when the program failed because data was wrong: then it has written its JSON."""
        if not os.path.exists(out):
            return
        with open(out) as f:
            run = json.load(f).get("run", {})
        if run.get("mismatches") or run.get("errors"):
            raise WrongResult(f"{os.path.basename(self.program)} {' '.join(args)}: {run.get('mismatches', 0)} wrong words, "
                              f"{run.get('errors', 0)} errors: {run.get('first_mismatch', '')}")

    def _staged(self, argv, said, timeout, on_stage):
        """Exit code; calls on_stage for each letter that the program writes to its --stage-fd."""
        r, w = os.pipe()
        with os.fdopen(r, "rb", buffering=0) as stages:
            p = subprocess.Popen([*argv, "--stage-fd", str(w)], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                 pass_fds=(w,), preexec_fn=die_with_parent, env=self.env)
            os.close(w)
            try:
                while letter := stages.read(1):
                    on_stage(letter.decode(), p.pid)
                return p.wait(timeout)
            finally:
                if p.poll() is None:
                    p.kill()
                    p.wait()
