# SPDX-License-Identifier: BSD-3-Clause
"""report/index.html: one file, no network, no script. The page's template and style sheet are in assets/."""

import os
import re

import jinja2
from markupsafe import Markup

from ab.report import datapath, plots
from ab.instrument.model import Table
from ab.report.report_model import (EXPERIMENT_COLUMNS, GLOSSARY, big, flat, interval_text, limits_text, machine_line, mark,
                                value_text)

ASSETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "assets")
NUMBER = re.compile(r"^[-+<>≈≥≤±~ ]*[\d.,]+(?:e[-+]?\d+)?\s*(?:[×x%]|[kMG]?|n|[nµm]?s|[KMG]?i?B|R)?(?:/s)?"
                    r"(?:\s*[\[(].*[\])])?(?:\s*/.*)?$")
LONG_TABLE, LONG_LIST = 16, 8  # rows, verdicts: what is longer is folded on the screen, and open on paper
EMPTY = ("", "-", "–", "—", "not measured", "n/a")
UNIT = re.compile(r"(?<=\d) (?=(?:[KMG]?i?B(?:/s)?|[nµm]?s|R|%|k|M)(?![\w]))")
TAIL = [("about-limits", "what this machine can do at best"), ("about-method", "method"),
        ("about-discarded", "what was discarded"), ("about-repeat", "how to repeat"), ("about-environment", "environment"),
        ("about-glossary", "words used here")]


def numeric_columns(table):
    """Which columns hold numbers only, and so are set flush right."""
    out = []
    for i in range(len(table.head)):
        cells = [str(r[i]).strip() for r in table.rows if i < len(r)]
        said = [c for c in cells if c not in EMPTY]
        out.append(i > 0 and bool(said) and all(NUMBER.match(c) for c in said))
    return out


def _groups(rows):
    """For each row: over how many rows its first cell stands, 0 where the row above says it already."""
    out, first = [], 0
    for i, r in enumerate(rows):
        if i and r and r[0] == rows[first][0]:
            out[first] += 1
            out.append(0)
        else:
            first = i
            out.append(1)
    return out


def wide_columns(table):
    """Which columns hold sentences, and so keep some width where a table scrolls."""
    return [max([len(str(r[i])) for r in table.rows if i < len(r)] + [0]) > 28 for i in range(len(table.head))]


def _table(t):
    looks = ["num" if n else "words" if w else "" for n, w in zip(numeric_columns(t), wide_columns(t))]
    return {"title": t.title, "head": t.head, "rows": t.rows, "note": t.note, "id": t.id, "looks": looks,
            "span": _groups(t.rows), "folded": len(t.rows) > LONG_TABLE}


def _verdict(v):
    return {"claim": v.claim, "answer": v.answer, "absolute": v.absolute, "plateau": v.plateau,
            "numbers": value_text(v.interval.estimate, v.unit) if v.interval is not None else "",
            "interval": interval_text(v.interval, v.unit) if v.interval is not None else ""}


def named_svg(f):
    """The figure's SVG with its title and caption as the names that a screen reader says, unless it has its own."""
    if "<title" in f.svg.split("<g", 1)[0]:
        return Markup(f.svg)
    opening, rest = f.svg.split(">", 1)
    words = [("title", f"{f.id}-name", f.title), ("desc", f"{f.id}-text", f.caption)]
    inner = "".join(f'<{tag} id="{i}">{Markup.escape(text)}</{tag}>' for tag, i, text in words)
    label = f' aria-labelledby="{words[0][1]} {words[1][1]}"'
    return Markup(f"{opening}{label}>{inner}{rest}")


def _tail(report):
    """Links to the last sections, those that are there."""
    empty = {"about-limits": not report.limits_lines, "about-environment": not report.environment}
    return [(i, name) for i, name in TAIL if not empty.get(i)]


def _figure(f):
    return {"id": f.id, "title": f.title, "caption": f.caption, "limits": limits_text(f.limits), "command": f.command,
            "svg": named_svg(f)}


def _section(s):
    return {"plateau": s.plateau, "others": [_section(o) for o in s.others], "id": s.id, "title": s.title, "lead": s.lead, "text": s.text,
            "verdicts": [_verdict(v) for v in s.verdicts],
            "shown": LONG_LIST if len(s.verdicts) > LONG_LIST + 2 else None,
            "tables": [_table(t) for t in s.tables],
            "figures": [_figure(f) for f in s.figures]}


def experiments_table(report):
    """Table of what was run, or None."""
    if not report.experiments:
        return None
    used = [(k, name) for k, name in EXPERIMENT_COLUMNS if any(k in e for e in report.experiments)]
    return Table("Experiments of this report", [name for _, name in used],
                 [[str(e.get(k, "-")) for k, _ in used] for e in report.experiments])


def targets_lead(targets):
    """How many were met, in words."""
    met = sum(t["answer"] == "met" for t in targets)
    missed = sum(t["answer"] == "not met" for t in targets)
    rest = sum(t["answer"] == "undecided" for t in targets)
    asked = sum(t["answer"] != "reported" for t in targets)
    return f"{met} of {asked} met, {missed} not met" + (f", {rest} undecided" if rest else "") + "."


def repeat_list(report):
    return [(c, "") if isinstance(c, str) else c for c in report.how_to_repeat]


def panel_limits(paths):
    return (f"R = {plots.ns_text(paths['r_ns'])}; a depth of 1 leaves nothing to overlap; calls, TCE updates and RDMA "
            "set-up cost less in this model than on the real machine.")


def together(value):
    """Text whose numbers are not parted from their units at the end of a line; what is already markup stays."""
    return UNIT.sub("\u00a0", value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(report):
    """The page as text."""
    env = jinja2.Environment(loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined,
                             finalize=together)
    with open(os.path.join(ASSETS, "report.css"), encoding="utf-8") as f:
        css = plots.css_variables() + f.read()
    paths, experiments = report.paths, experiments_table(report)
    return env.get_template("report.html.j2").render(
        r=report, css=Markup(css), mark=mark, machine=machine_line(report), bigs=[big(v) for v in report.headline_numbers],
        picture=_figure(report.picture) if report.picture else None,
        panels=[{"title": t, "svg": Markup(svg)} for _, t, svg in datapath.panels(paths)] if paths else [],
        panel_caption=datapath.caption(paths) if paths else "", panel_limits=panel_limits(paths) if paths else "",
        panel_command=paths.get("command", report.command) if paths else "",
        targets=[{"interval": "", "absolute": "", "plateau": "", **t} for t in report.targets], targets_lead=targets_lead(report.targets),
        sections=[_section(s) for s in report.sections], tail=_tail(report), repeat=repeat_list(report),
        experiments=_table(experiments) if experiments else None,
        discarded={**_table(report.discarded), "id": ""} if report.discarded and report.discarded.rows else None,
        environment=flat(report.environment), glossary=GLOSSARY)


def write_html(report, path):
    """Writes a report_model.Report as one self-contained file."""
    text = render(report)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
