#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Spin finds no order of steps that breaks a rule of a window's life, or of a duet's hand-over, and finds one for each rule that is
left out."""

import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# All of a model's states with each of these is a matter of seconds; those of `--long` are 20 million and a minute.
WINDOWS = ("windows.pml", [[], ["-DDEATHS=2"]],
           [["-DREQUESTS=2", "-DDEATHS=0"], ["-DREQUESTS=2", "-DDEATHS=2", "-DRESTARTS=2"], ["-DROUNDS=3", "-DDEATHS=2"]])
DUET = ("duet.pml", [[]], [["-DDANCES=6"]])


class Model:
    def __init__(self, directory, name):
        self.dir, self.path = directory, os.path.join(ROOT, "proto", "model", name)
        with open(self.path, encoding="utf-8") as f:
            self.text = f.read()

    def search(self, *macros):
        """(errors, states) of a search that came to its end, or to an error."""
        for command in (["spin", *macros, "-a", self.path], ["gcc", "-w", "-O0" if any("BREAK" in m for m in macros) else "-O1", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"]):
            subprocess.run(command, cwd=self.dir, check=True, capture_output=True, text=True, timeout=120)
        out = subprocess.run(["./pan", "-m1000000"], cwd=self.dir, capture_output=True, text=True, timeout=500, check=False).stdout
        errors, states = re.search(r"errors: (\d+)", out), re.search(r"(\d+) states, stored", out)
        if not errors or not states or "max search depth too small" in out:
            raise RuntimeError(f"spin gave no answer with {' '.join(macros) or 'no macro'}:\n{out}")
        if errors[1] == "0" and "Search not completed" in out:
            raise RuntimeError(f"the search with {' '.join(macros) or 'no macro'} was not completed:\n{out}")
        return int(errors[1]), int(states[1])


def lost_names(text):
    """Functions that the model's comments name and the tree does not define any more."""
    own = set(re.findall(r"^inline (\w+)", text, re.M)) | {"finish"}
    named = {n for c in re.findall(r"/\*.*?\*/", text, re.S) for n in re.findall(r"\b([a-z]\w+)\(\)", c)} - own
    tree = subprocess.run(["git", "grep", "-hoE", r"^[a-z].*\b\w+\(", "--", "*.c", "*.h"], cwd=ROOT, capture_output=True, text=True, check=False)
    code = tree.stdout or "".join(open(os.path.join(d, f), encoding="utf-8").read() for top in ("proto", "server", "phyp", "guest", "duet")
                                  for d, _, files in os.walk(os.path.join(ROOT, top)) for f in files if f.endswith(".c"))
    return sorted(n for n in named if not re.search(rf"\b{n}\(", code) and not n.startswith("rte_"))


def check(model, sizes):
    """How many rules or sizes failed."""
    failed = 0
    for macros in sizes:
        errors, states = model.search(*macros)
        failed += errors != 0
        print(f"{'FAILED' if errors else 'ok'}: {states} states with {' '.join(macros) or 'the smallest numbers'}: {errors} error(s)")
    for rule in sorted(set(re.findall(r"\bBREAK_[A-Z]+\b", model.text)) - {"BREAK_"}):
        errors, states = model.search("-D" + rule)
        failed += errors == 0
        print(f"{'ok' if errors else 'FAILED'}: without {rule[6:].lower()} an error is found, after {states} states")
    lost = lost_names(model.text)
    print(f"{'FAILED' if lost else 'ok'}: each function that the model names is in the tree {' '.join(lost)}")
    return failed + bool(lost)


def main():
    failed = 0
    for name, sizes, more in (WINDOWS, DUET):
        with tempfile.TemporaryDirectory(prefix="vio-model-") as d:
            print(f"{name}:")
            failed += check(Model(d, name), sizes + (more if "--long" in sys.argv else []))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
