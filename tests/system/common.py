# SPDX-License-Identifier: BSD-3-Clause
"""What the system tests share: the build under test, machines, and small checks. Real processes, no mocks."""

import os
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
from machine import Machine, MachineError, Program  # noqa: E402,F401
from ab.instrument.telemetry import ask_within  # noqa: E402

BUILD = os.environ.get("VIO_BUILD", os.path.join(ROOT, "build"))
ARMS = ["copy", "copy-tuned", "premapped", "zero-copy"]
LAYOUTS = ["packed", "split-in-order", "packed-in-order"]  # but the named arms' own
# Sanitizers make everything about ten times slower: fewer requests, the same checks.
SLOW = any(s in BUILD for s in ("asan", "tsan"))


def count(n):
    return str(max(64, n // 10) if SLOW else n)


def until(condition, what, seconds=20):
    """Poll until condition() is true; the test fails, naming what was waited for, when it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def telemetry(m, *commands):
    """The server's answers, in order; None where it has none."""
    # Longer than a measurement waits: sanitizers, and a machine that others use too.
    return ask_within(30, os.path.basename(m.dir), commands)


def while_there(m, command):
    """Answers to command,0 command,1 ... up to the first that there is none for."""
    for i in range(64):
        a = telemetry(m, f"{command},{i}")[0]
        if a is None:
            return
        yield i, a


class NetMachine(Machine):
    """A machine with a network: when it ends, no port has a frame of a guest in place and no queue one in flight."""

    def kept(self):
        """What is still somewhere, in words; "" when nothing is."""
        found = [f"port {i} ({p['name']}) has {p['lent']} frame(s) in place"
                 for i, p in while_there(self, "/vio/port") if p["lent"]]
        for a in telemetry(self, "/vio/list")[0] or {}:
            found += [f"adapter {a}: queue {q['index']} has {q['in_flight']} in flight"
                      for _, q in while_there(self, f"/vio/queue,{a}") if q["in_flight"]]
        return "; ".join(found)

    def nothing_kept(self):
        """Fails when something stays, also after a while."""
        try:
            until(lambda: not self.kept(), "the server to have nothing of guests any more")
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.kept()}\n{self.vios.log()}") from None

    def __exit__(self, *exc):
        try:
            if not any(exc) and self.vios and self.vios.alive():
                self.nothing_kept()
        finally:
            super().__exit__(*exc)


def main():
    """unittest, closing with the plain line that counts passed and failed."""
    result = unittest.main(exit=False, verbosity=2).result
    # A test with several wrong sub-tests is one that failed.
    bad = len({getattr(t, "test_case", t) for t, _ in result.failures + result.errors})
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed, {len(result.skipped)} skipped")
    sys.exit(1 if bad or not result.testsRun else 0)
