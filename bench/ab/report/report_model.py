# SPDX-License-Identifier: BSD-3-Clause
"""A report as data: what report_html and report_md write. No I/O here."""

import math
import re
from dataclasses import dataclass, field

from ab.report.plots import fixed_colours, ns_text

# Answers of verdicts and targets, by what they mean to a reader: the mark and the class of their badge.
GOOD, BAD, OPEN = ("✓", "good"), ("✗", "bad"), ("–", "open")
ANSWERS = {"faster": GOOD, "met": GOOD, "same shape": GOOD, "better": GOOD, "less": GOOD, "slower": BAD, "not met": BAD,
           "contradicts": BAD, "worse": BAD, "more": BAD}


@dataclass
class Big:
    """One of the three or four numbers of the first screen. All are text, ready to show."""

    value: str  # "1.50×"
    claim: str  # what it is: "a 4 KiB read, one at a time: zero-copy against copy"
    interval: str = ""  # "99 % interval 1.48 to 1.53, 12 pairs of process starts"
    absolute: str = ""  # the absolute values next to a ratio: "2,523 ns copy, 1,681 ns zero-copy"
    answer: str = ""
    plateau: str = ""  # of R that it holds for
    second: str = ""  # the same against the tuned copy arm: "1.31× copy-tuned"


@dataclass
class Report:
    """Everything that the report shows."""

    title: str
    when: str
    headline: str  # one sentence: the answer
    headline_numbers: list = field(default_factory=list)  # of Big or Verdict, three or four
    picture: object = None  # model.Figure of the first screen
    points: list = field(default_factory=list)  # of str: what else belongs to the answer
    sections: list = field(default_factory=list)  # of model.Section
    targets: list = field(default_factory=list)  # of dict: name, wanted, measured, interval, answer, absolute (text all)
    limits_lines: list = field(default_factory=list)  # of str: what this machine can do at best
    environment: dict = field(default_factory=dict)  # environment.describe() and what else belongs to it
    machine: str = ""  # one line: CPU, cores, kernel; "": made from the environment
    method: list = field(default_factory=list)  # of paragraphs
    discarded: object = None  # model.Table
    experiments: list = field(default_factory=list)  # of dict: EXPERIMENT_COLUMNS
    how_to_repeat: list = field(default_factory=list)  # of (command, what it does)
    paths: dict = field(default_factory=dict)  # datapath.measure(); {}: no picture
    command: str = "./run ab"  # that made this report


EXPERIMENT_COLUMNS = [("name", "experiment"), ("title", "question"), ("blocks", "blocks"), ("wanted", "precision wanted"),
                      ("reached", "reached"), ("seconds", "seconds"), ("seed", "seed"), ("kept", "samples kept"),
                      ("discarded", "discarded")]

GLOSSARY = [
    ("arm", "One design to compare: a choice of one level for each of the four factors."),
    ("factor", "One of the four things in which the designs differ: mapping lifetime, payload, ring access, notification."),
    ("slot", "A place in a block: an arm, or its identical twin, written “(again)”."),
    ("A/A control", "The same arm measured twice as if it were two. Whatever difference shows there is noise, and no smaller "
                    "difference between real arms is believed."),
    ("window", "About half a millisecond in which one arm has both cores; its part after the warm-up is counted."),
    ("dance", "Windows of all arms in turn, round after round, at one point."),
    ("gap", "A time in which a processor was taken away: a turn of a loop that took far longer than its turns do. Windows with one "
            "are set aside in comparisons."),
    ("plateau", "R stands at one of a few values for seconds, as the host moves the two processors; each number holds for one."),
    ("undisturbed, as experienced", "Rates in the windows without a gap, which comparisons use; in all windows."),
    ("point", "One setting of everything but the arm: backend, operation, size, depth and so on."),
    ("block", "A set of trials that runs every slot once, in random order. Ratios compare arms within a block."),
    ("trial", "One slot in one block: its programs started afresh. Process starts are the unit that is counted in n."),
    ("sample", "One point measured once in a trial."),
    ("interval", "The range that holds the true value with the stated confidence, by bootstrap over blocks."),
    ("ratio", "Of one arm's median to another's, the blocks compared one by one. Of times, more than 1 is slower; of requests "
              "per second, more than 1 is faster."),
    ("depth", "Requests that are under way at a time."),
    ("closed loop", "A new request starts when one completes. Open loop: requests start at fixed times, and latency counts from "
                    "the time at which the request should have started."),
    ("TCE", "Translation control entry: an entry of the IOMMU's table. It lets the server reach one page of the guest's memory."),
    ("hypercall", "A call from a partition into the hypervisor; here it runs in the caller's process."),
    ("CRQ", "Command/response queue: the 16-byte messages between guest and server."),
    ("kick", "The guest tells the server that there are requests: a hypercall and an interrupt."),
    ("RDMA", "Here: the hypervisor's call that copies between two partitions' memories."),
    ("window", "Guest memory that is mapped for the server once, at start-up, and stays mapped."),
    ("in place", "The server reads and writes the guest's memory itself, through a window."),
    ("bounce", "The guest's CPU copies the payload between its buffer and a mapped pool."),
    ("R", "Round trip of one cache line between the two cores: a request and its answer can't be faster."),
    ("injected cost", "Time spun on purpose for a hypercall, a TCE update or an RDMA set-up, because the model's own is cheaper "
                      "than a real machine's. “free” means that nothing is injected."),
    ("reach", "Bytes of guest memory that the server could touch, averaged over time; need: bytes of requests under way."),
]


def mark(answer):
    """(mark, class) of an answer's badge."""
    return ANSWERS.get(answer, OPEN)


def number(v, digits=3):
    """A number for a reader: 3 significant digits, thousands separated."""
    if v != v:
        return "not known"
    return f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.{digits}g}"


def value_text(v, unit="×"):
    """A value of a verdict with its unit: 1.50×, 3.4 µs (unit ns), 12.3, 1,024 pages."""
    if v != v:
        return "not known"
    if unit == "×":
        return f"{v:.2f}×" if 0.095 <= abs(v) < 99.95 else f"{number(v)}×"
    if unit == "ns":
        return ns_text(v)
    return f"{number(v)} {unit}".rstrip()


def interval_text(iv, unit="×"):
    """The interval of an estimate in words, with level and n."""
    if not math.isfinite(iv.low) or not math.isfinite(iv.high):
        return f"too few for an interval, n = {iv.n}"
    low, high = value_text(iv.low, unit), value_text(iv.high, unit)
    if low == low.split(" ")[0] + high[len(high.split(" ")[0]):]:  # the same unit: said once
        low = low.split(" ")[0]
    return f"{iv.level * 100:g} % interval {low.rstrip('×')} to {high.rstrip('×')}, n = {iv.n}"


def big(v):
    """A number of the first screen from a Big or a Verdict."""
    if isinstance(v, Big):
        return v
    if v.interval is None:
        return Big(value=v.answer, claim=v.claim, absolute=v.absolute)
    return Big(value=value_text(v.interval.estimate, v.unit), claim=v.claim, interval=interval_text(v.interval, v.unit),
               absolute=v.absolute, answer=v.answer, plateau=v.plateau)


def machine_line(report):
    """CPU, cores, kernel, compiler, commit in one line."""
    if report.machine:
        return report.machine
    e = report.environment
    cores = e.get("cores") or {}
    parts = [str(e.get("cpu", "")), "virtual machine" if e.get("virtual_machine") else "",
             f"guest on core {cores['guest_core']}, server on core {cores['server_core']}" if "guest_core" in cores else "",
             f"kernel {e['kernel']}" if e.get("kernel") else "",
             f"commit {e['commit']}{' with local changes' if e.get('dirty') else ''}" if e.get("commit") else ""]
    return ", ".join(p for p in parts if p)


def _said(v):
    if isinstance(v, bool):
        return "yes" if v else "no"
    if isinstance(v, dict):
        return _grouped(v)
    if isinstance(v, (list, tuple)):
        return ", ".join(map(_said, v)) or "none"
    return "not known" if v is None or v == "" else str(v)


def _grouped(d):
    """A dict in one line; names with the same value together when that is shorter ("Not affected: l1tf, mds")."""
    by_value = {}
    for k, v in d.items():
        by_value.setdefault(_said(v), []).append(str(k).replace("_", " "))
    if len(by_value) * 2 <= len(d):
        return "; ".join(f"{v}: {', '.join(k)}" for v, k in by_value.items())
    return "; ".join(f"{str(k).replace('_', ' ')}: {_said(v)}" for k, v in d.items()) or "none"


def flat(environment):
    """[(name, text)] of the environment, one entry for each of its keys."""
    return [(str(k).replace("_", " "), _said(v)) for k, v in environment.items()]


def limits_text(text):
    """A limits line without the word that the page puts before it."""
    return re.sub(r"^limits?( of this machine)?\s*:\s*", "", text.strip(), flags=re.I) or "none given"


def problems(report):
    """What a sceptical reader would miss, as a list of messages: nothing when the report keeps its own rules."""
    out, ids = [], []
    first = report.picture
    if first is not None:
        ids += [first.id, *re.findall(r'\sid="([^"]+)"', first.svg)]
        out += [f"figure {first.id}: colour {c} does not follow the theme" for c in fixed_colours(first.svg)]
    for s in report.sections:
        ids.append(s.id)
        for f in s.figures:
            ids.append(f.id)
            out += [f"figure {f.id}: no {what}" for what, v in (("limits line", f.limits), ("command", f.command),
                                                               ("caption", f.caption)) if not v.strip()]
            out += [f"figure {f.id}: colour {c} does not follow the theme" for c in fixed_colours(f.svg)]
            ids += re.findall(r'\sid="([^"]+)"', f.svg)
        ids += [t.id for o in [s, *s.others] for t in o.tables if t.id]
        out += [f"section {s.id}: “{v.claim}” does not say its plateau" for o in [s, *s.others] for v in o.verdicts
                if o.plateau and v.plateau != o.plateau]
        out += [f"section {s.id}: the interval of “{v.claim}” has no absolute values beside it"
                for v in s.verdicts if v.interval is not None and v.unit == "×" and not v.absolute.strip()]
        out += [f"section {s.id}: no lead"] if not s.lead.strip() else []
        out += [f"table {t.title}: a row has {len(r)} cells, its head {len(t.head)}"
                for t in s.tables for r in t.rows if len(r) != len(t.head)]
    out += [f"headline: “{b.claim}” is a ratio without absolute values"
            for b in map(big, report.headline_numbers) if "×" in b.value and not b.absolute.strip()]
    out += [f"id {i} is used {ids.count(i)} times" for i in sorted(set(ids)) if ids.count(i) > 1]
    return out
