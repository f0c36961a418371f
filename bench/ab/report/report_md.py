# SPDX-License-Identifier: BSD-3-Clause
"""report/report.md: what index.html says, as Markdown; figures are links to their place in index.html."""

from ab.report import datapath, plots
from ab.instrument.model import Table
from ab.report.report_html import experiments_table, panel_limits, repeat_list, targets_lead
from ab.report.report_model import GLOSSARY, big, flat, interval_text, limits_text, machine_line, value_text

PAGE = "index.html"


def cell(text):
    """Text of one cell: no line breaks, no bar, no HTML."""
    return plain(text).replace("|", "\\|").replace("\n", " ")


def plain(text):
    """Text that Markdown must not take for HTML."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def table(t):
    """Lines of a model.Table."""
    out = [f"**{plain(t.title)}**", ""] if t.title else []
    out += ["| " + " | ".join(map(cell, t.head)) + " |", "|" + " --- |" * len(t.head)]
    out += ["| " + " | ".join(map(cell, r)) + " |" for r in t.rows]
    return [*out, "", *([plain(t.note), ""] if t.note else [])]


def verdict(v):
    """One line: answer, claim, ratio or value with its interval, absolute values."""
    parts = []
    if v.interval is not None:
        parts.append(f"{value_text(v.interval.estimate, v.unit)} ({interval_text(v.interval, v.unit)})")
    parts += [x for x in (v.absolute, v.plateau) if x]
    return f"- **{plain(v.answer)}**: {plain(v.claim)}" + (f": {plain('; '.join(parts))}" if parts else "")


def figure(f):
    return [f"**Figure: [{plain(f.title)}]({PAGE}#{f.id})**", "", plain(f.caption), "",
            f"Limits: {plain(limits_text(f.limits))}", "", f"Repeat: `{f.command}`", ""]


def section(s):
    out = [f"## {plain(s.title)}", "", plain(s.lead), ""]
    out += [f"Holds for {s.plateau}.", ""] if s.plateau else []
    out += [*map(verdict, s.verdicts), ""] if s.verdicts else []
    for f in s.figures:
        out += figure(f)
    for t in s.tables:
        out += table(t)
    for p in s.text:
        out += [plain(p), ""]
    for o in s.others:
        out += [f"### The same while {o.plateau}", "", plain(o.lead), ""]
        out += [*map(verdict, o.verdicts), ""] if o.verdicts else []
        for t in o.tables:
            out += table(t)
    return out


def paths(data):
    """The two data paths as two tables of steps."""
    out = ["## The two data paths", ""]
    for arm in datapath.ARMS:
        ns = data["arms"][arm]["ns"]
        rows = []
        for i, s in enumerate(datapath.steps(arm, data["bs"], data["queue_size"]), 1):
            rows.append([str(i), s["who"], s["what"], datapath.cost_text(s), datapath.step_time(s, arm, data) or "-"])
        out += table(Table(f"{arm}: {plots.ns_text(ns['estimate'])} a request ({ns['level'] * 100:g} % interval "
                           f"{plots.ns_text(ns['low'])} to {plots.ns_text(ns['high'])}, n = {ns['n']})",
                           ["step", "who", "what", "takes", "time"], rows))
    return [*out, plain(datapath.caption(data)), "", f"Limits: {panel_limits(data)}", "", f"Repeat: `{data['command']}`", ""]


def targets(report):
    rows = [[t["name"], t["wanted"], t["measured"], t.get("interval", ""), t.get("absolute", ""), t.get("plateau", ""), t["answer"]]
            for t in report.targets]
    head = ["target", "wanted", "measured", "interval", "absolute", "plateau", "answer"]
    keep = [i for i in range(len(head)) if any(r[i] for r in rows)]
    return ["## Targets", "", targets_lead(report.targets), "",
            *table(Table("", [head[i] for i in keep], [[r[i] for i in keep] for r in rows]))]


def first_page(report):
    out = [f"# {plain(report.title)}", "", plain(report.headline), ""]
    for b in map(big, report.headline_numbers):
        rest = "; ".join(x for x in (b.absolute, b.interval, b.plateau, b.second) if x)
        out.append(f"- **{plain(b.value)}** {plain(b.claim)}" + (f" ({plain(rest)})" if rest else ""))
    out += ["", *figure(report.picture)] if report.picture else []
    out += ["", *(f"- {plain(p)}" for p in report.points)]
    return [*out, "", f"{plain(report.when)}. Measured on: {plain(machine_line(report))}. The figures are in [{PAGE}]({PAGE}).",
            ""]


def render(report):
    """The report as Markdown text."""
    out = first_page(report)
    out += paths(report.paths) if report.paths else []
    out += targets(report) if report.targets else []
    for s in report.sections:
        out += section(s)
    out += ["## What this machine can do at best", "", *(f"- {plain(line)}" for line in report.limits_lines), ""]
    out += ["## Method", "", *(x for p in report.method for x in (plain(p), ""))]
    experiments = experiments_table(report)
    out += table(experiments) if experiments else []
    out += ["## What was discarded", ""]
    out += table(report.discarded) if report.discarded and report.discarded.rows else ["No sample was discarded.", ""]
    out += ["## How to repeat", "", *(f"- `{c}` {plain(what)}".rstrip() for c, what in repeat_list(report)), ""]
    out += ["## Environment", "", *table(Table("", ["what", "value"], flat(report.environment)))]
    out += ["## Words", "", *(f"- **{w}**: {plain(m)}" for w, m in GLOSSARY)]
    return "\n".join(out) + "\n"


def write_md(report, path):
    """Writes a report_model.Report as Markdown."""
    text = render(report)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
