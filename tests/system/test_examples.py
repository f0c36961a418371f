#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The example that docs/architecture.md reads along works, and its counts are the two designs'."""

import os
import re
import subprocess
import sys

PROGRAM = os.path.join(os.environ["VIO_BUILD"], "examples", "one-process")


def calls(*arms):
    """arm -> hypercalls a read, as the example prints them."""
    out = subprocess.run([PROGRAM, *arms], capture_output=True, text=True, timeout=300, check=True).stdout
    return {a: int(n) / int(reads) for a, reads, n in re.findall(r"^(\S+) +(\d+) reads of \d+ bytes: (\d+) hypercalls", out, re.M)}


def main():
    got = calls() | calls("premapped")
    wrong = subprocess.run([PROGRAM, "nonsense"], capture_output=True, text=True, timeout=60, check=False)
    # copy: map, kick, unmap for each read. In place, with both ends looking: none.
    checks = {"copy": got.get("copy") == 3, "zero-copy": got.get("zero-copy") == 0, "premapped": got.get("premapped") == 0,
              "a wrong arm is refused": wrong.returncode == 1 and "nonsense" in wrong.stderr}
    for what, ok in checks.items():
        print(f"{'ok' if ok else 'FAILED'}: {what}")
    bad = list(checks.values()).count(False)
    print(got)
    print(f"{len(checks) - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
