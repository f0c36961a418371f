# SPDX-License-Identifier: BSD-3-Clause
"""The section of what bench/ab/neighbours.py left: an honest guest's share of the server beside each kind of neighbour."""

import json
import os
import statistics

from ab.instrument.model import Section, Table

FILE = "neighbours.json"
HEAD = ["arm", "beside", "requests/s (median)", "least of the rounds", "most", "share of the fair rate"]
NOTE = ("4 KiB reads, 32 at a time, from a disk in the server's memory. The fair rate is half of what it gets beside as many programs that use the guests' "
        "processor and ask the server for nothing: half of the server. Rounds of fresh processes in an order of their own, no interval: it is asked whether a guest is starved, not by how much two differ.")


def rows(result):
    return [[r["arm"], r["beside"], f"{statistics.median(r['rates']):,.0f}", f"{min(r['rates']):,.0f}", f"{max(r['rates']):,.0f}", f"{r['share']:.2f}"]
            for r in result["rows"]]


def section(out):
    """Section of the shares in a report's folder; None when there are none."""
    path = os.path.join(out, FILE)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as f:
        result = json.load(f)
    least = min(r["share"] for r in result["rows"])
    return Section(
        id="neighbours", title="Beside a neighbour that asks for much",
        lead=f"One lcore serves an honest guest and a neighbour. The honest guest keeps at least {least:.2f} of its fair rate; {result['least']} is asked for.",
        tables=[Table("An honest guest's share", HEAD, rows(result), NOTE, id="neighbours")],
        text=[f"Made by bench/ab/neighbours.py at commit {result.get('commit') or 'unknown'}."])
