#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""./run assurance: attacks, kills and soaks, each as long as it is told to; what they printed is kept and becomes docs/assurance.md.

  race [REQUESTS]  a guest that changes every field while the server reads it (100 million requests over all arms)
  kills [N]        kill -9 of each program under a verifying load (500)
  soak [MINUTES]   each arm in turn under a verifying load, with memory, descriptors and threads watched (30 each)
  fuzz [MINUTES]   libFuzzer on every target (4 minutes in all)
  cost [SECONDS]   what snapshots cost: vios beside one built with -Dsnapshots=false, in turn (60)
  models [1]       the Spin models with larger numbers; 1: without those that take minutes
  table            docs/assurance.md from the results, without running anything
"""

import argparse
import json
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests/system"), os.path.join(ROOT, "tests/assurance")]
RESULTS = os.path.join(ROOT, "docs/assurance")


def say(text):
    print(text, flush=True)


def keep(name, command, result, into):
    os.makedirs(into, exist_ok=True)
    with open(os.path.join(into, name + ".json"), "w", encoding="utf-8") as f:
        json.dump({"command": command, **result}, f, indent=1, sort_keys=True)
        f.write("\n")


def do_race(a):
    import race
    return race.run(int(a.amount or 100_000_000), say=say)


def do_kills(a):
    import kills
    return kills.run(int(a.amount or 500), seed=a.seed, say=say)


def do_soak(a):
    import soak
    return soak.run(a.amount or 30, say=say)


def do_fuzz(a):
    import others
    return others.fuzz(a.amount or 4, say=say)


def do_cost(a):
    import cost
    return cost.run(a.amount or 60, say=say)


def do_models(a):
    import others
    return others.models(a.amount != 1, say=say)


WHAT = {"race": do_race, "kills": do_kills, "soak": do_soak, "fuzz": do_fuzz, "cost": do_cost, "models": do_models}


def main():
    p = argparse.ArgumentParser(prog="./run assurance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=[*WHAT, "table"])
    p.add_argument("amount", nargs="?", type=float, help="requests, kills, minutes or seconds")
    p.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000, help="of the kills' pattern")
    p.add_argument("--results", default=RESULTS, help="folder of what is kept (docs/assurance)")
    a = p.parse_args()
    if a.amount is not None and a.amount <= 0:
        p.error("the amount must be more than 0")
    result = {"losses": 0}
    if a.what != "table":
        result = WHAT[a.what](a)
        amount = "" if a.amount is None else f" {a.amount:g}"
        keep(a.what, f"./run assurance {a.what}{amount}", result, a.results)
        say(json.dumps(result))
    import table
    table.write(a.results, os.path.join(ROOT, "docs/assurance.md") if a.results == RESULTS else os.path.join(a.results, "assurance.md"))
    return 1 if result["losses"] else 0


if __name__ == "__main__":
    sys.exit(main())
