# SPDX-License-Identifier: BSD-3-Clause
"""What the system tests share: the build under test, machines, and small checks. Real processes, no mocks."""

import os
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
from machine import Machine, MachineError, Program  # noqa: E402,F401

BUILD = os.environ.get("VIO_BUILD", os.path.join(ROOT, "build"))
ARMS = ["copy", "copy-tuned", "premapped", "zero-copy"]
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


def main():
    """unittest, closing with the plain line that counts passed and failed."""
    result = unittest.main(exit=False, verbosity=2).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed, {len(result.skipped)} skipped")
    sys.exit(1 if bad or not result.testsRun else 0)
