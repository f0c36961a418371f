#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Door of the A/B instrument for ./run: ab, builds, compare, paper."""

import importlib
import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMMANDS = {"ab": "ab.instrument.cli", "builds": "ab.builds", "compare": "ab.report.compare", "paper": "ab.papers.paper_run"}


def main(argv):
    if not argv or argv[0] not in COMMANDS:
        print(f"usage: ab/main.py {'|'.join(COMMANDS)} ...", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[argv[0]]).main(argv[1:])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
